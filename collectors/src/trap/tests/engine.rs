//! Our own engine over restarts, and the clocks of others.

use super::{Bench, config, seed};
use crate::trap::clocks;
use crate::trap::own::Identity;
use raven_decode::snmp::{EngineId, Learned, Message, V3};

fn v3(raw: &[u8]) -> V3<'_> {
    match Message::read(raw) {
        Ok(Message::V3(v3)) => v3,
        other => panic!("{other:?}"),
    }
}

/// What somebody is told who asks for our engine.
fn discover(bench: &mut Bench) -> Option<(EngineId, i32)> {
    bench.send(&[seed!("bad-v3-discovery")]);
    bench.round();
    let answer = bench.answer()?;
    let report = v3(&answer);
    Some((EngineId::new(report.engine_id).unwrap(), report.boots))
}

/// Has the appliance be the one that the seeds' informs are for.
fn known_as_fuzz(bench: &mut Bench, boots: u64) {
    let me = Identity { id: EngineId::ours(b"fuzz"), boots };
    bench.table.insert(b"own".to_vec(), me.write());
}

#[test]
fn nobody_is_told_of_our_engine_before_it_is_on_disk() {
    let mut bench = Bench::new(config());
    assert_eq!(discover(&mut bench), None, "the store has said nothing");
    bench.tell();
    assert_eq!(discover(&mut bench), None, "written");
    bench.tell();
    assert_eq!(discover(&mut bench), None, "not yet told to be on disk");
    bench.commit();
    bench.tell();
    let (id, boots) = discover(&mut bench).unwrap();
    assert_eq!((boots, id.as_bytes().len()), (1, 21));
    assert_eq!(bench.report().answers["held_back"], 3);
}

#[test]
fn boots_rise_over_restarts_and_are_never_used_twice() {
    let mut bench = Bench::ready();
    let (first, mut newest) = discover(&mut bench).unwrap();
    // A collector may die at any point of the number's way to the disk.
    for died in [0, 1, 2, 3, 0, 3, 1, 2, 3, 3] {
        bench.restart();
        let steps: [fn(&mut Bench); 3] = [Bench::write, Bench::commit, Bench::tell];
        let mut told = steps.iter().take(died).filter_map(|step| {
            step(&mut bench);
            discover(&mut bench)
        });
        if let Some((id, boots)) = told.next() {
            assert_eq!((id, died), (first, 3));
            assert!(boots > newest, "{boots} after {newest}");
            newest = boots;
        }
        // What a dead one left in the ring reaches the store all the same.
        bench.commit();
    }
    assert!(newest >= 5);
    bench.restart();
    bench.settle();
    assert!(discover(&mut bench).unwrap().1 > newest);
}

#[test]
fn an_inform_of_version_3_is_answered_once_we_are_on_disk() {
    let mut bench = Bench::new(config());
    known_as_fuzz(&mut bench, 7);
    bench.tell();
    let inform = seed!("inform-v3-none");
    bench.send(&[inform]);
    assert!(!bench.round(), "nothing is queued: the sender will repeat it");
    bench.commit();
    bench.round();
    assert_eq!((bench.answer(), bench.kept.len()), (None, 1));
    bench.tell();
    bench.send(&[inform]);
    assert!(bench.round());
    bench.commit();
    bench.round();
    let answer = bench.answer().unwrap();
    let response = v3(&answer);
    assert_eq!((response.boots, response.user, response.id), (8, v3(inform).user, v3(inform).id));
    assert_eq!(bench.verdicts(), [false, false]);
}

#[test]
fn an_inform_for_another_engine_is_told_ours() {
    let mut bench = Bench::ready();
    bench.send(&[seed!("inform-v3-none")]);
    bench.round();
    let answer = bench.answer().unwrap();
    assert_ne!(v3(&answer).engine_id, EngineId::ours(b"fuzz").as_bytes());
    assert_eq!(bench.verdicts(), [true]);
    bench.item("inform_for_another_engine");
}

#[test]
fn a_clock_that_was_learned_is_kept_over_restarts() {
    let mut bench = Bench::ready();
    let trap = seed!("trap-v3-aes");
    let (engine, boots, time) = (EngineId::new(v3(trap).engine_id).unwrap(), v3(trap).boots, v3(trap).time);
    let contexts = bench.contexts;
    bench.send(&[trap, trap, trap]);
    assert_eq!(bench.verdicts(), [false; 3]);
    assert_eq!(bench.contexts, contexts + 1, "written once, not with each trap");
    let learned = clocks::read(&clocks::key(&engine), &bench.table[&clocks::key(&engine)]).unwrap();
    assert_eq!(learned, Learned { engine, boots, time });
    let shown = bench.report().engines;
    assert_eq!((shown.len(), shown[0].engine_id.clone()), (1, engine.to_string()));
    assert_eq!((shown[0].user.as_str(), shown[0].accepted, shown[0].boots), ("aes", 3, boots as u32));

    bench.pass(151);
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [true], "recorded and sent again");
    bench.tell();
    bench.restart();
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [false], "within the window of what is remembered");
    bench.table.insert(clocks::key(&engine), clocks::value(&Learned { engine, boots, time: time + 151 }).to_vec());
    bench.tell();
    bench.restart();
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [true]);
    assert_eq!(bench.report().refused["not_in_time_window"], 1);
}

#[test]
fn what_came_before_the_store_spoke_is_let_in_and_learned() {
    let mut bench = Bench::new(config());
    let trap = seed!("trap-v3-aes");
    bench.send(&[trap, seed!("trap-v2c"), seed!("trap-v1-generic"), seed!("inform-v2c")]);
    assert_eq!(bench.verdicts(), [false; 4]);
    assert_eq!(bench.table.len(), 1);
}
