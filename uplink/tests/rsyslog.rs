//! Delivery to a real rsyslog by RELP: byte for byte, and across its death.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_uplink::sim::SimRing;
use std::collections::BTreeMap;
use support::rsyslog::{ACCEPTED, DURABLE, Rsyslog, UNESCAPED, installed};
use support::{MemoryCursors, envelope, fleet, free_port, run, status, store_numbered, until, until_acked, uplinks};

/// Every kind of message that a syslog receiver is known to alter.
fn awkward_messages() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        &b"<34>plain"[..],
        b"",
        b" ",
        b"  leading spaces",
        b"trailing spaces  ",
        "gr\u{fc}n \u{1f426}".as_bytes(),
        b"\xff\xfe\x80 not UTF-8",
        b"\xef\xbb\xbfwith a byte order mark",
        b"tab\there",
        b"nul\0here",
        b"nul at the end\0",
        b"two\nlines",
        b"LF at the end\n",
        b"CR LF at the end\r\n",
        b"\n",
        b"\0",
        b"DEL \x7f",
        b"\x1b[31mred\x1b[0m",
        b"C1 control \xc2\x85",
        b"quotes \" backslash \\ bracket ]",
        b"#011 is no tab",
        b"%d %s %msg%",
        b"[raven@32473 seq=\"9\"] forged",
        b"@cee: {\"a\": 1}",
        b"z\x9c\x03",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    all.push(vec![b'A'; 60 * 1024]);
    all.push(vec![b'B'; 64 * 1024]);
    all.push((0..64 * 1024).map(|n| n as u8).collect());
    all.extend((0..=255).map(|byte| vec![b'x', byte, b'y']));
    all
}

fn comes_back_byte_for_byte(global: &str, omfile: &str) {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut rsyslog = Rsyslog::new(dir.path(), port, global, omfile);
    rsyslog.start();
    let messages = awkward_messages();
    let ring = SimRing::new();
    ring.store("syslog", &messages.iter().map(Vec::as_slice).collect::<Vec<_>>());
    run(async {
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        fleet.configure("arena", &uplinks(&format!("noc kind=relp to=127.0.0.1:{port}")));
        until_acked(&mut fleet, "noc", messages.len() as u64).await;
        fleet.stop().await;
    });
    rsyslog.stop("TERM");
    let received: BTreeMap<u64, Vec<u8>> =
        rsyslog.received().iter().map(|line| envelope::open(line)).map(|opened| (opened.seq(), opened.raw)).collect();
    assert_eq!(received.len(), messages.len());
    for (seq, message) in (1..).zip(&messages) {
        assert!(
            received[&seq] == *message,
            "{:?} came back as {:?}",
            String::from_utf8_lossy(message),
            String::from_utf8_lossy(&received[&seq])
        );
    }
}

#[test]
fn every_message_comes_back_byte_for_byte_with_rsyslogs_default_escaping() {
    comes_back_byte_for_byte("", ACCEPTED);
}

#[test]
fn every_message_comes_back_byte_for_byte_with_the_documented_settings() {
    comes_back_byte_for_byte(UNESCAPED, DURABLE);
}

/// Delivers 20,000 records while rsyslog is ended twice by `signal` in the middle; nothing is missing afterwards.
fn survives(signal: &str) {
    const COUNT: u64 = 20_000;
    const WINDOW: u64 = 512;
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut rsyslog = Rsyslog::new(dir.path(), port, "", ACCEPTED);
    rsyslog.start();
    let ring = SimRing::new();
    store_numbered(&ring, COUNT);
    run(async {
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        fleet.configure("arena", &uplinks(&format!("noc kind=relp window={WINDOW} to=127.0.0.1:{port}")));
        for part in [3_000, 9_000] {
            until("some of it has arrived", || rsyslog.lines() >= part).await;
            let acked = status(&mut fleet, "noc").acked_seq.0;
            rsyslog.stop(signal);
            assert!(acked < COUNT, "rsyslog was too fast to be ended in the middle");
            until("the failure shows", || status(&mut fleet, "noc").state == "retrying").await;
            rsyslog.start();
        }
        until_acked(&mut fleet, "noc", COUNT).await;
        let resent = status(&mut fleet, "noc").resent;
        assert!(resent <= 2 * WINDOW, "{resent} sent again, a window of {WINDOW} was under way at each of two ends");
        fleet.stop().await;
    });
    rsyslog.stop("TERM");
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    rsyslog.received().iter().for_each(|line| *seen.entry(envelope::open(line).seq()).or_default() += 1);
    let missing = (1..=COUNT).filter(|seq| !seen.contains_key(seq)).count();
    let doubled: u64 = seen.values().map(|times| times - 1).sum();
    assert_eq!(missing, 0);
    assert!(doubled <= 2 * WINDOW, "{doubled} doubled, a window of {WINDOW} was under way at each of two ends");
}

#[test]
fn nothing_is_missing_after_rsyslog_was_stopped_and_started_again() {
    survives("TERM");
}

#[test]
fn nothing_is_missing_after_rsyslog_was_killed_and_started_again() {
    survives("KILL");
}
