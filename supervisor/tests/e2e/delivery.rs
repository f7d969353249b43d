//! What is stored arrives at a destination, whatever happens to the destination.

use crate::appliance::{Appliance, Plan, number, said};
use crate::marks::{EXACT, Marks};
use crate::rsyslog::{Rsyslog, is_installed};
use crate::sender::{Sender, one_datagram};
use crate::{count, eventually, full, pause};
use std::time::{Duration, Instant};

fn raven_with(uplinks: String) -> Appliance {
    let mut plan = Plan::new();
    plan.uplinks = uplinks;
    plan.start()
}

/// Waits until `name` has acknowledged everything; with an end, should it not move for a minute.
fn caught_up(raven: &Appliance, name: &str) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let (destination, next) = (raven.destination(name), number(&raven.stream()["next_seq"]));
        let acked = number(&destination["acked_seq"]);
        if acked + 1 == next {
            return;
        }
        if acked != last {
            (last, since) = (acked, Instant::now());
        }
        assert!(since.elapsed() < Duration::from_mins(1), "{name} stays at {acked} of {}: {destination}", next - 1);
        pause(200);
    }
}

/// Nothing of `run` is missing in what rsyslog wrote, by our count and by `raven audit`.
fn nothing_is_missing(raven: &Appliance, noc: &Rsyslog, run: &str, sent: u64) {
    let audit = Marks::of_text(&noc.received(), run).audit(0, sent);
    assert_eq!(audit.missing, 0, "{audit:?}");
    let output = raven.raven(&["audit", noc.file().to_str().unwrap()]);
    assert!(output.status.success(), "raven audit agrees: {}", said(&output));
}

#[test]
fn rsyslog_gets_each_message_with_its_envelope() {
    if !is_installed() {
        return;
    }
    let mut noc = Rsyslog::durable();
    noc.start();
    let raven = raven_with(noc.uplink("noc"));
    let from = one_datagram(raven.udp(), b"<13>hello, operations centre");
    caught_up_after(&raven, "noc", 1);
    let line = noc.received();
    for part in ["dev=\"test\"", "stream=\"syslog\"", "seq=\"1\"", "src=\"127.0.0.1\"", "hello, operations centre"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(line.contains(&format!("port=\"{}\"", from.port())), "{line}");
    assert_eq!(raven.destination("noc")["ack_class"], "durable");
}

/// [`caught_up`], once so many are stored.
fn caught_up_after(raven: &Appliance, name: &str, stored: u64) {
    raven.settle(stored);
    caught_up(raven, name);
}

#[test]
fn a_destination_that_was_away_under_load_misses_nothing() {
    if !is_installed() {
        return;
    }
    let mut noc = Rsyslog::durable();
    noc.start();
    let raven = raven_with(noc.uplink("noc"));
    let sender = Sender::udp(raven.udp(), "away", 0, 100);
    pause(1_000);
    noc.stop();
    pause(if full() { 600_000 } else { 10_000 });
    eventually("status says why it lags", || {
        let destination = raven.destination("noc");
        number(&destination["lag"]) > 0 && destination["last_error"].is_string()
    });
    noc.start();
    pause(1_000);
    let sent = sender.stop();
    caught_up_after(&raven, "noc", sent);
    nothing_is_missing(&raven, &noc, "away", sent);
}

#[test]
fn after_an_outage_the_present_arrives_within_seconds_and_the_rest_behind_it() {
    if !is_installed() {
        return;
    }
    let mut noc = Rsyslog::new();
    noc.start();
    // Slow enough that the backlog of the outage takes its time.
    let raven = raven_with(noc.uplink("noc") + "backfill = \"2000records/s\"\n");
    let sender = Sender::udp(raven.udp(), "lanes", 0, 3_000);
    pause(2_000);
    for outage in 0..2 {
        noc.stop();
        pause(8_000);
        let stored = number(&raven.stream()["next_seq"]);
        noc.start();
        let healed = Instant::now();
        let is_there = |seq: u64| noc.received().contains(&format!("seq=\"{seq}\""));
        let arrived = |from: u64| (from..from + 20_000).step_by(500).any(is_there);
        eventually("what was stored after the healing arrives", || arrived(stored));
        assert!(healed.elapsed() < Duration::from_secs(5), "after {:?}", healed.elapsed());
        let backfill = raven.destination("noc")["backfill"].clone();
        assert!(number(&backfill["records"]) > 5_000, "outage {outage}: behind it goes on: {backfill}");
        if outage == 0 {
            let held = raven.raven(&["uplink", "pause", "noc", "--backfill"]);
            assert!(said(&held).contains("live running, backfill paused"), "{}", said(&held));
            // Cursors are saved five times a second.
            pause(1_000);
            raven.kill("uplink", rustix::process::Signal::KILL);
            eventually("it is held after a restart", || raven.destination("noc")["backfill"]["state"] == "paused");
            assert!(raven.raven(&["uplink", "resume", "noc"]).status.success());
            // The second outage falls into the backfill of the first.
            pause(1_000);
        }
    }
    let sent = sender.stop();
    caught_up_after(&raven, "noc", sent);
    nothing_is_missing(&raven, &noc, "lanes", sent);
    assert_eq!(said(&raven.raven(&["dead", "list", "--json"])).trim(), "");
}

#[test]
fn a_destination_killed_in_mid_transfer_misses_nothing() {
    if !is_installed() {
        return;
    }
    let mut noc = Rsyslog::durable();
    let raven = raven_with(noc.uplink("noc"));
    let sender = Sender::udp(raven.udp(), "killed", 0, 500);
    for n in 0..count(30, 5) {
        noc.start();
        let before = number(&raven.destination("noc")["acked_seq"]);
        eventually("it takes some", || number(&raven.destination("noc")["acked_seq"]) > before);
        pause(u64::from(n * 37 % 300));
        noc.kill();
    }
    noc.start();
    let sent = sender.stop();
    caught_up_after(&raven, "noc", sent);
    nothing_is_missing(&raven, &noc, "killed", sent);
}

#[test]
fn a_killed_uplink_or_ravend_delivers_everything_after_all() {
    if !is_installed() {
        return;
    }
    let mut noc = Rsyslog::new();
    noc.start();
    let raven = raven_with(noc.uplink("noc"));
    let sender = Sender::udp(raven.udp(), "uplink", 0, 5_000);
    for _ in 0..count(30, 5) {
        raven.kill("uplink", rustix::process::Signal::KILL);
        pause(300);
    }
    let sent = sender.stop();
    raven.settle(sent);
    let raven = raven.restart();
    caught_up(&raven, "noc");
    nothing_is_missing(&raven, &noc, "uplink", sent);
}

#[test]
fn a_dead_destination_holds_up_no_other() {
    if !is_installed() {
        return;
    }
    let (mut noc, dead) = (Rsyslog::new(), Rsyslog::new());
    noc.start();
    let raven = raven_with(noc.uplink("noc") + &dead.uplink("dead"));
    let sender = Sender::udp(raven.udp(), "other", 0, 2_000);
    pause(3_000);
    let sent = sender.stop();
    caught_up_after(&raven, "noc", sent);
    assert_eq!(Marks::of_text(&noc.received(), "other").audit(0, sent), EXACT);
    assert_eq!(number(&raven.destination("dead")["acked_seq"]), 0);
    assert!(
        raven.destination("dead")["last_error"].as_str().unwrap().contains("127.0.0.1"),
        "{}",
        raven.destination("dead")
    );
}
