//! Informs are acknowledged when their record is on disk, reports go out at once; and who gets neither.

use super::{Bench, config, seed};
use raven_decode::snmp::{Message, PduKind};

fn is_response(raw: &[u8]) -> bool {
    matches!(Message::read(raw), Ok(Message::Community(message)) if message.pdu.kind() == PduKind::Response)
}

#[test]
fn an_inform_is_answered_when_its_record_is_durable_and_not_before() {
    let mut bench = Bench::new(config());
    bench.send(&[seed!("inform-v2c")]);
    assert!(bench.round() && bench.round(), "it waits");
    assert_eq!(bench.answer(), None);
    bench.commit();
    assert!(!bench.round());
    assert!(is_response(&bench.answer().unwrap()));
    assert_eq!((bench.answer(), bench.report().answers["responses"]), (None, 1));
    assert_eq!(bench.kept, [(seed!("inform-v2c").to_vec(), false)]);
}

#[test]
fn a_trap_is_answered_by_nothing() {
    let mut bench = Bench::ready();
    bench.send(&[seed!("trap-v1-generic"), seed!("trap-v2c"), seed!("trap-v3-aes"), seed!("trap-v3-none")]);
    assert!(!bench.round());
    bench.commit();
    assert!(!bench.round());
    assert_eq!((bench.answer(), bench.kept.len(), bench.report().refused.len()), (None, 4, 0));
}

#[test]
fn an_inform_that_waits_for_room_in_the_ring_is_answered_after_its_own_batch() {
    let mut bench = Bench::new(config());
    let long = vec![b'x'; 60_000];
    let mut sent = 0;
    while bench.collector.pending() == 0 {
        sent += 1;
        let messages: Vec<&[u8]> = [seed!("inform-v2c")].into_iter().chain([&long[..]; 20]).collect();
        bench.send(&messages);
        bench.round();
    }
    assert_eq!(bench.answer(), None);
    bench.commit();
    let before = bench.taken;
    // All but the newest are on disk now, and that one is not even published.
    bench.desk.answer(&mut bench.collector, &|_, _, _| true);
    let answered = bench.report().answers["responses"];
    assert!(answered < sent, "{answered} of {sent}");
    bench.round();
    assert_eq!((bench.report().answers["responses"], bench.collector.published()), (answered, before + 1));
    bench.commit();
    assert!(!bench.round());
    assert_eq!(bench.report().answers["responses"], sent);
}

#[test]
fn an_inform_that_a_dead_collector_had_received_is_answered_by_the_next() {
    let mut bench = Bench::new(config());
    let long = vec![b'x'; 60_000];
    while bench.collector.pending() == 0 {
        let messages: Vec<&[u8]> = [seed!("inform-v2c")].into_iter().chain([&long[..]; 20]).collect();
        bench.send(&messages);
    }
    bench.restart();
    for _ in 0..2 {
        bench.commit();
        bench.round();
    }
    assert_eq!(bench.report().answers["responses"], 1);
    assert!(is_response(&bench.answer().unwrap()));
}

#[test]
fn nobody_is_answered_who_may_not_send() {
    let mut bench = Bench::ready();
    bench.configure(|config| config.sources = vec!["192.0.2.0/24".to_owned()]);
    bench.send(&[seed!("inform-v2c"), seed!("bad-v3-discovery"), seed!("bad-v3-user")]);
    assert_eq!((bench.verdicts(), bench.round(), bench.answer()), (vec![true, true, true], false, None));
    assert_eq!(bench.report().refused["source_not_allowed"], 3);
    assert_eq!(bench.item("source_not_allowed").remedy, "add 127.0.0.1 to collect.trap.sources");
}

#[test]
fn reports_to_one_sender_are_few() {
    let mut bench = Bench::ready();
    for _ in 0..5 {
        bench.send(&[seed!("bad-v3-discovery"); 20]);
        bench.round();
    }
    let got = std::iter::from_fn(|| bench.answer()).count();
    let report = bench.report();
    assert_eq!((got, report.answers["reports"], report.answers["limited"]), (50, 50, 50));
    assert_eq!((report.dropped["discovery"], report.inbox.len()), (100, 0), "counted, and nothing is wrong");
    bench.pass(1);
    bench.send(&[seed!("bad-v3-discovery")]);
    bench.round();
    assert!(bench.answer().is_some());
}
