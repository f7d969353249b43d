//! Delivery by HTTP to receivers that answer well, badly, late or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_model::units::Seq;
use raven_uplink::sim::SimRing;
use std::rc::Rc;
use support::receiver::{http, misbehaving};
use support::{MemoryCursors, SimFleet, fleet, run, status, store_numbered, until, until_acked, uplinks};

struct Bench {
    ring: Rc<SimRing>,
    cursors: MemoryCursors,
    dir: tempfile::TempDir,
}

impl Bench {
    fn with(records: u64) -> Self {
        let ring = SimRing::new();
        store_numbered(&ring, records);
        Self { ring, cursors: MemoryCursors::default(), dir: tempfile::tempdir().unwrap() }
    }

    fn fleet(&self, uplink: &str) -> SimFleet {
        let mut fleet = fleet(&self.ring, &self.cursors, self.dir.path());
        fleet.configure("arena", &uplinks(uplink));
        fleet
    }

    fn dead_letters(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.dir.path().join("dead-letters/noc.syslog.ndjson")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap())
            .collect()
    }
}

#[test]
fn bodies_arrive_once_and_whole_in_every_compression() {
    for compression in ["none", "gzip", "zstd"] {
        let bench = Bench::with(10_000);
        bench.ring.store("syslog", &[b"\xff\0not text", b"", b"line\nfeed \"quoted\""]);
        run(async {
            let (url, seen) = http(|_, _| (204, None)).await;
            let mut fleet = bench.fleet(&format!("noc kind=http compression={compression} to={url}"));
            until_acked(&mut fleet, "noc", 10_003).await;
            let seen = seen.borrow();
            assert_eq!(seen.encoding.as_deref(), (compression != "none").then_some(compression));
            assert!(seen.taken.len() == 10_003 && seen.taken.values().all(|times| *times == 1));
            assert_eq!(seen.raw[&10_001], b"\xff\0not text");
            assert_eq!(seen.raw[&10_003], b"line\nfeed \"quoted\"");
            assert_eq!(seen.raw[&77], support::numbered(77).as_bytes());
            assert!(seen.bodies.len() < 20, "{} bodies", seen.bodies.len());
        });
    }
}

#[test]
fn a_receiver_that_is_busy_is_tried_again_not_before_it_said() {
    let bench = Bench::with(100);
    run(async {
        let (url, seen) = http(|_, body| if body == 1 { (503, Some("1")) } else { (200, None) }).await;
        let mut fleet = bench.fleet(&format!("noc kind=http to={url}"));
        until("it is refused", || status(&mut fleet, "noc").state == "retrying").await;
        assert!(status(&mut fleet, "noc").last_error.unwrap().contains("503 Service Unavailable (said the receiver)"));
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(seen.borrow().bodies.len(), 1, "half a second after a Retry-After of one second");
        until_acked(&mut fleet, "noc", 100).await;
        assert_eq!(status(&mut fleet, "noc").resent, 100);
    });
}

#[test]
fn a_body_that_is_too_large_is_halved_until_it_fits() {
    let bench = Bench::with(1000);
    run(async {
        let (url, seen) = http(|seqs, _| if seqs.len() > 100 { (413, None) } else { (200, None) }).await;
        let mut fleet = bench.fleet(&format!("noc kind=http to={url}"));
        until_acked(&mut fleet, "noc", 1000).await;
        assert!(seen.borrow().taken.values().all(|times| *times == 1));
        assert_eq!(bench.dead_letters(), [0_u64; 0]);
    });
}

#[test]
fn a_record_that_is_refused_by_itself_becomes_a_dead_letter_and_the_others_arrive() {
    let bench = Bench::with(1000);
    run(async {
        let (url, seen) =
            http(
                |seqs, _| if seqs.iter().any(|seq| [333, 334, 1000].contains(seq)) { (422, None) } else { (200, None) },
            )
            .await;
        let mut fleet = bench.fleet(&format!("noc kind=http to={url}"));
        until("all but the last are settled", || status(&mut fleet, "noc").acked_seq >= Seq(999)).await;
        store_numbered(&bench.ring, 1);
        until_acked(&mut fleet, "noc", 1001).await;
        assert_eq!(seen.borrow().taken.len(), 998);
        assert_eq!(bench.dead_letters(), [333, 334, 1000]);
        assert!(status(&mut fleet, "noc").last_error.unwrap().contains("3 records it refuses are in its dead letters"));
    });
}

#[test]
fn a_receiver_that_refuses_everything_is_a_configuration_error_and_buries_nothing() {
    let bench = Bench::with(1000);
    run(async {
        let (url, seen) = http(|_, body| if body < 200 { (400, None) } else { (200, None) }).await;
        let mut fleet = bench.fleet(&format!("noc kind=http to={url}"));
        until("it is told", || status(&mut fleet, "noc").state == "config_error").await;
        assert!(status(&mut fleet, "noc").last_error.unwrap().contains("for every record tried"));
        until_acked(&mut fleet, "noc", 1000).await;
        assert_eq!(
            (seen.borrow().taken.len(), bench.dead_letters().len()),
            (1000, 0),
            "it recovers once it is put right"
        );
    });
}

#[test]
fn a_wrong_path_is_a_configuration_error_that_recovers_when_put_right() {
    let bench = Bench::with(10);
    run(async {
        let (url, _) = http(|_, body| if body < 3 { (404, None) } else { (200, None) }).await;
        let mut fleet = bench.fleet(&format!("noc kind=http to={url}"));
        until("it is told", || status(&mut fleet, "noc").state == "config_error").await;
        assert!(status(&mut fleet, "noc").last_error.unwrap().contains("404 Not Found"));
        until_acked(&mut fleet, "noc", 10).await;
    });
}

#[test]
fn hostile_receivers_are_told_apart_and_hurt_no_other() {
    let bench = Bench::with(2000);
    let endless_header = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    run(async {
        let (slow, _) =
            misbehaving(b"HTTP/1.1 200 OK\r\nX-Slow: one byte at a time, for ever and ever\r\n".to_vec(), true, false)
                .await;
        let (silent, _) = misbehaving(Vec::new(), false, false).await;
        let (garbage, _) = misbehaving(b"220 mail.example ESMTP\r\n".to_vec(), false, false).await;
        let (endless, _) = misbehaving(endless_header, false, false).await;
        let (reset, _) = misbehaving(Vec::new(), false, true).await;
        let (good, seen) = http(|_, _| (200, None)).await;
        let names = [("slow", slow), ("silent", silent), ("garbage", garbage), ("endless", endless), ("reset", reset)];
        let table = names
            .iter()
            .map(|(name, addr)| format!("{name} kind=http timeout=1s to=http://{addr}/"))
            .collect::<Vec<_>>()
            .join("\n");
        let mut fleet =
            bench.fleet(&format!("{table}\ngone kind=http to=http://127.0.0.1:1/\ngood kind=http to={good}"));
        until_acked(&mut fleet, "good", 2000).await;
        for name in ["slow", "silent", "garbage", "endless", "reset", "gone"] {
            until(&format!("{name} has failed"), || status(&mut fleet, name).last_error.is_some()).await;
            let status = status(&mut fleet, name);
            assert_eq!((status.acked_seq, status.lag), (Seq(0), 2000), "{name}");
            println!("{name}: {}", status.last_error.unwrap());
        }
        store_numbered(&bench.ring, 2000);
        until_acked(&mut fleet, "good", 4000).await;
        assert!(seen.borrow().taken.values().all(|times| *times == 1));
    });
}

#[test]
fn an_answer_without_an_end_still_acknowledges() {
    let bench = Bench::with(10);
    run(async {
        let (addr, _) =
            misbehaving(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_vec(), false, false).await;
        let mut fleet = bench.fleet(&format!("noc kind=http to=http://{addr}/"));
        until_acked(&mut fleet, "noc", 10).await;
    });
}

#[test]
fn a_dead_letter_that_is_sent_again_and_taken_is_gone() {
    let bench = Bench::with(1000);
    let is_mended = Rc::new(std::cell::Cell::new(false));
    let mended = Rc::clone(&is_mended);
    run(async {
        let (url, seen) = http(move |seqs, _| {
            let refuses = seqs.iter().any(|seq| *seq == 500 || *seq == 334 && !mended.get());
            (if refuses { 422 } else { 200 }, None)
        })
        .await;
        let mut fleet = bench.fleet(&format!("noc kind=http to={url}"));
        until_acked(&mut fleet, "noc", 1000).await;
        assert_eq!(bench.dead_letters(), [334, 500]);
        let dead = status(&mut fleet, "noc").dead;
        assert_eq!((dead.lettered, dead.held, status(&mut fleet, "noc").acknowledged), (2, 2, 998));
        is_mended.set(true);
        let queued = fleet.retry(&raven_model::delivery::Which::default()).unwrap();
        assert_eq!((queued[0].letters, queued[0].left), (2, 0));
        until("one is taken, and removed", || {
            fleet.save();
            bench.dead_letters() == [500]
        })
        .await;
        assert_eq!(seen.borrow().taken[&334], 1);
        assert_eq!(seen.borrow().raw[&334], support::numbered(334).as_bytes());
        let dead = status(&mut fleet, "noc").dead;
        assert_eq!((dead.held, dead.delivered, status(&mut fleet, "noc").acknowledged), (1, 1, 999));
        let which = raven_model::delivery::Which { seqs: vec![Seq(500)], ..Default::default() };
        assert_eq!(fleet.drop_letters(&which).unwrap()[0].letters, 1);
        assert_eq!((bench.dead_letters().len(), status(&mut fleet, "noc").dead.dropped), (0, 1));
        assert_eq!(bench.cursors.0.borrow().values().next().unwrap().counts.dropped, 1, "it is saved");
        // The live lane goes on.
        store_numbered(&bench.ring, 10);
        until_acked(&mut fleet, "noc", 1010).await;
    });
}

#[test]
fn a_destination_that_refuses_what_is_old_gets_the_present_and_the_old_becomes_dead_letters() {
    let bench = Bench::with(400);
    let is_up = Rc::new(std::cell::Cell::new(false));
    let up = Rc::clone(&is_up);
    run(async {
        let (url, seen) = http(move |seqs, _| {
            let is_old = seqs.iter().any(|seq| *seq <= 400);
            (
                if !up.get() {
                    503
                } else if is_old {
                    400
                } else {
                    200
                },
                None,
            )
        })
        .await;
        let mut fleet = bench.fleet(&format!("noc kind=http to={url}"));
        let since = std::time::Instant::now();
        until("the records are old", || {
            fleet.save();
            since.elapsed() > std::time::Duration::from_secs(3)
        })
        .await;
        is_up.set(true);
        until("the old are settled while new ones are taken", || {
            store_numbered(&bench.ring, 1);
            fleet.save();
            status(&mut fleet, "noc").acked_seq >= Seq(400)
        })
        .await;
        let status = status(&mut fleet, "noc");
        assert_eq!((bench.dead_letters().len(), status.dead.held), (400, 400), "{status:?}");
        assert!(seen.borrow().taken.keys().all(|seq| *seq > 400));
    });
}

#[test]
fn what_an_operator_holds_is_held_over_a_restart() {
    let bench = Bench::with(100);
    run(async {
        let (url, seen) = http(|_, _| (200, None)).await;
        let hold = raven_model::delivery::Hold { destination: "noc".to_owned(), backfill_only: false };
        let mut fleet = bench.fleet(&format!("noc kind=http to={url}"));
        until_acked(&mut fleet, "noc", 100).await;
        assert_eq!(fleet.hold(&hold, true).unwrap()[0].live, "paused");
        fleet.stop().await;
        store_numbered(&bench.ring, 100);
        let mut fleet = bench.fleet(&format!("noc kind=http to={url}"));
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert_eq!((status(&mut fleet, "noc").state.as_str(), seen.borrow().taken.len()), ("paused", 100));
        fleet.hold(&hold, false).unwrap();
        until_acked(&mut fleet, "noc", 200).await;
        let nobody = raven_model::delivery::Hold { destination: "lab".to_owned(), ..hold };
        assert!(fleet.hold(&nobody, true).unwrap_err().contains("there are: noc"));
    });
}
