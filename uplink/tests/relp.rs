//! RELP against receivers that refuse, lie, fall silent and leave; and what a fleet does about it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_model::units::Seq;
use raven_uplink::sim::SimRing;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use support::receiver::{misbehaving, relp, rsp};
use support::{MemoryCursors, envelope, fleet, run, status, store_numbered, until, until_acked, uplinks};

type Taken = Rc<RefCell<BTreeMap<u64, u32>>>;

/// A receiver that takes everything, and what it took.
async fn good() -> (String, Taken) {
    let taken = Taken::default();
    let shared = Rc::clone(&taken);
    let addr = relp(move |_, txnr, message| {
        *shared.borrow_mut().entry(envelope::open(message).seq()).or_default() += 1;
        rsp(txnr, "200 OK")
    });
    (addr.await, taken)
}

#[test]
fn hostile_receivers_are_told_apart_and_hurt_no_other() {
    let ring = SimRing::new();
    store_numbered(&ring, 5000);
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let open = rsp(1, "200 OK\nrelp_version=0\ncommands=syslog");
        let (silent, _) = misbehaving(Vec::new(), false, false).await;
        let (garbage, _) = misbehaving(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false, false).await;
        let (huge, _) = misbehaving(b"1 rsp 999999999 ".to_vec(), false, false).await;
        let (endless, _) = misbehaving(vec![b'1'; 1 << 20], false, false).await;
        let (slow, _) = misbehaving(b"1 rsp 40 200 OK".to_vec(), true, false).await;
        let (closing, _) = misbehaving([open.clone(), b"0 serverclose 0\n".to_vec()].concat(), false, true).await;
        let (half_open, _) = misbehaving(open.clone(), false, false).await;
        let (liar, _) = misbehaving([open, rsp(999, "200 OK")].concat(), false, false).await;
        let (refuses, _) = misbehaving(rsp(1, "500 no"), false, false).await;
        let (other, _) = misbehaving(rsp(1, "200 OK\nrelp_version=0\ncommands=eventlog"), false, false).await;
        let (addr, taken) = good().await;
        let expected = [
            ("silent", silent, "no answer to RELP's open in 1 s"),
            ("garbage", garbage, "does not speak RELP"),
            ("huge", huge, "does not speak RELP: an answer of 999999999 bytes"),
            ("endless", endless, "does not speak RELP"),
            ("slow", slow, "no answer to RELP's open in 1 s"),
            ("closing", closing, "ended the session"),
            ("half_open", half_open, "acknowledged nothing for 1 s"),
            ("liar", liar, "answered transaction 999, which is not under way"),
            ("refuses", refuses, "refused RELP's open: 500 no"),
            ("other", other, "does not take syslog"),
            ("gone", "127.0.0.1:1".to_owned(), "connect to 127.0.0.1:1: 127.0.0.1:1: Connection refused"),
            ("nameless", "no-such-host.invalid:514".to_owned(), "look up no-such-host.invalid:514"),
        ];
        let table = expected
            .iter()
            .map(|(name, to, _)| format!("{name} kind=relp timeout=1s to={to}"))
            .collect::<Vec<_>>()
            .join("\n");
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        fleet.configure("arena", &uplinks(&format!("{table}\ngood kind=relp to={addr}")));
        until_acked(&mut fleet, "good", 5000).await;
        for (name, _, words) in expected {
            until(&format!("{name} has failed"), || status(&mut fleet, name).last_error.is_some()).await;
            let status = status(&mut fleet, name);
            let error = status.last_error.unwrap();
            assert!(error.contains(words), "{name}: {error}");
            assert_eq!((status.acked_seq, status.lag), (Seq(0), 5000), "{name}");
        }
        store_numbered(&ring, 5000);
        until_acked(&mut fleet, "good", 10_000).await;
        assert!(taken.borrow().len() == 10_000 && taken.borrow().values().all(|times| *times == 1));
    });
}

#[test]
fn a_session_that_the_receiver_ends_is_taken_up_again_where_it_was() {
    let ring = SimRing::new();
    store_numbered(&ring, 3000);
    let dir = tempfile::tempdir().unwrap();
    let taken = Taken::default();
    let shared = Rc::clone(&taken);
    run(async {
        let addr = relp(move |connection, txnr, message| match (connection, txnr) {
            (1, 1000) => b"0 serverclose 0\n".to_vec(),
            (2, 500) => Vec::new(),
            _ => {
                *shared.borrow_mut().entry(envelope::open(message).seq()).or_default() += 1;
                rsp(txnr, "200 OK")
            }
        })
        .await;
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        fleet.configure("arena", &uplinks(&format!("noc kind=relp window=100 to={addr}")));
        until_acked(&mut fleet, "noc", 3000).await;
        assert_eq!(taken.borrow().len(), 3000);
        assert!(status(&mut fleet, "noc").resent <= 200);
    });
}

#[test]
fn a_record_that_is_refused_again_and_again_becomes_a_dead_letter() {
    let ring = SimRing::new();
    store_numbered(&ring, 300);
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let addr = relp(|_, txnr, message| {
            let refused = envelope::open(message).seq() == 123;
            rsp(txnr, if refused { "500 error processing" } else { "200 OK" })
        });
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        fleet.configure("arena", &uplinks(&format!("noc kind=relp window=50 to={}", addr.await)));
        until_acked(&mut fleet, "noc", 300).await;
        let letters = std::fs::read_to_string(dir.path().join("dead-letters/noc.syslog.ndjson")).unwrap();
        assert!(letters.lines().count() == 1 && letters.contains("\"seq\":123,"), "{letters}");
    });
}

#[test]
fn a_restart_goes_on_behind_what_was_saved_and_leaves_out_what_is_acknowledged_above() {
    let ring = SimRing::new();
    store_numbered(&ring, 1000);
    let (dir, cursors) = (tempfile::tempdir().unwrap(), MemoryCursors::default());
    run(async {
        let acked: Vec<(Seq, Seq)> = (1..=300).map(|n| (Seq(n * 3), Seq(n * 3))).collect();
        let progress = raven_uplink::progress::Progress::from_parts(Seq(0), acked);
        let route = ("noc".to_owned(), "syslog".to_owned());
        cursors.0.borrow_mut().insert(route.clone(), raven_uplink::fleet::Saved { progress, ..Default::default() });
        let (addr, taken) = good().await;
        let mut fleet = fleet(&ring, &cursors, dir.path());
        fleet.configure("arena", &uplinks(&format!("noc kind=relp to={addr}")));
        assert_eq!(status(&mut fleet, "noc").lag, 700);
        until_acked(&mut fleet, "noc", 1000).await;
        assert_eq!(taken.borrow().len(), 700);
        fleet.stop().await;
        assert_eq!(cursors.0.borrow()[&route].progress.low(), Seq(1000));
    });
}

#[test]
fn what_is_evicted_before_it_is_delivered_is_missed_and_counted_exactly() {
    let ring = SimRing::new();
    store_numbered(&ring, 3000);
    let (dir, cursors) = (tempfile::tempdir().unwrap(), MemoryCursors::default());
    run(async {
        let mut fleet = fleet(&ring, &cursors, dir.path());
        // The receiver is not there yet, so nothing is delivered before the store evicts.
        let port = support::free_port();
        let table = uplinks(&format!("noc kind=relp to=127.0.0.1:{port}"));
        fleet.configure("arena", &table);
        until("it has failed", || status(&mut fleet, "noc").last_error.is_some()).await;
        // What went before the uplink was asked is missed, and is not said to be of this eviction.
        ring.evict("syslog", Seq(401));
        assert_eq!(fleet.fence("syslog", Seq(401), Seq(1001)), BTreeMap::from([("noc".to_owned(), 600)]));
        ring.evict("syslog", Seq(1001));
        let (addr, taken) = good().await;
        fleet.configure("arena", &uplinks(&format!("noc kind=relp to={addr}")));
        until_acked(&mut fleet, "noc", 3000).await;
        let status = status(&mut fleet, "noc");
        assert_eq!((status.missed, status.lag, taken.borrow().len()), (1000, 0, 2000));
        assert_eq!(taken.borrow().keys().next(), Some(&1001));
    });
}

#[test]
fn a_new_destination_starts_at_the_oldest_record_and_has_missed_nothing() {
    let ring = SimRing::new();
    store_numbered(&ring, 2000);
    ring.evict("syslog", Seq(1501));
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let (addr, taken) = good().await;
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        fleet.configure("arena", &uplinks(&format!("noc kind=relp to={addr}")));
        until_acked(&mut fleet, "noc", 2000).await;
        assert_eq!((status(&mut fleet, "noc").missed, taken.borrow().len()), (0, 500));
    });
}

#[test]
fn destinations_come_and_go_without_disturbing_the_others() {
    let ring = SimRing::new();
    store_numbered(&ring, 1000);
    let (dir, cursors) = (tempfile::tempdir().unwrap(), MemoryCursors::default());
    run(async {
        let ((a, taken_a), (b, taken_b)) = (good().await, good().await);
        let mut fleet = fleet(&ring, &cursors, dir.path());
        fleet.configure("arena", &uplinks(&format!("a kind=relp to={a}")));
        until_acked(&mut fleet, "a", 1000).await;
        fleet.configure("arena", &uplinks(&format!("a kind=relp to={a}\nb kind=relp to={b}")));
        until_acked(&mut fleet, "b", 1000).await;
        // Changed: same name, other window. It goes on where it was.
        fleet.configure("arena", &uplinks(&format!("a kind=relp to={a}\nb kind=relp window=10 to={b}")));
        store_numbered(&ring, 1000);
        until_acked(&mut fleet, "b", 2000).await;
        // Removed and back again.
        fleet.configure("arena", &uplinks(&format!("a kind=relp to={a}")));
        assert_eq!(fleet.report().destinations.len(), 1);
        store_numbered(&ring, 1000);
        until_acked(&mut fleet, "a", 3000).await;
        fleet.configure("arena", &uplinks(&format!("a kind=relp to={a}\nb kind=relp to={b}")));
        until_acked(&mut fleet, "b", 3000).await;
        for taken in [taken_a, taken_b] {
            assert!(taken.borrow().len() == 3000 && taken.borrow().values().all(|times| *times == 1));
        }
    });
}
