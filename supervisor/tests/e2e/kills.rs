//! Processes die under load; nothing that was received is lost or doubled.

use crate::appliance::{Appliance, Plan, number, send_signal};
use crate::marks::{Audit, EXACT, Marks};
use crate::sender::{Sender, one_datagram};
use crate::systemd::Systemd;
use crate::{count, eventually, pause, root_only};
use rustix::process::Signal;

/// Messages per second while processes are killed.
const RATE: u64 = 50_000;

/// Kills `role` so often, at changing moments.
fn kill_again_and_again(raven: &Appliance, role: &str, times: u32) {
    for n in 0..times {
        raven.kill(role, Signal::KILL);
        pause(u64::from(17 + n * 31 % 90));
    }
}

/// Sends by UDP while `role` is killed; the audit of the ring, and what was counted as dropped.
fn audit_of_udp_while_killing(role: &str, times: u32) -> (Audit, u64) {
    let raven = Appliance::start();
    let sender = Sender::udp(raven.udp(), "kill", 0, RATE);
    kill_again_and_again(&raven, role, times);
    let sent = sender.stop();
    raven.settle(sent);
    let audit = Marks::of_ring(&raven, "kill").audit(0, sent);
    assert!(raven.verify().0, "{}", raven.verify().1);
    (audit, raven.dropped())
}

/// Three connections send while `role` is killed; all live on, each message is there once.
fn tcp_connections_live_on_while_killing(role: &str, times: u32) {
    let raven = Appliance::start();
    let senders: Vec<_> = (0..3).map(|id| Sender::tcp(raven.udp(), "kill", id, 5_000)).collect();
    kill_again_and_again(&raven, role, times);
    let sent: Vec<u64> = senders.into_iter().map(Sender::stop).collect();
    raven.settle(sent.iter().sum());
    let marks = Marks::of_ring(&raven, "kill");
    for (sender, sent) in (0..).zip(sent) {
        assert_eq!(marks.audit(sender, sent), EXACT, "connection {sender}");
    }
    assert!(raven.verify().0, "{}", raven.verify().1);
}

// Without root the kernel's limit keeps the socket buffer small, and a burst may overflow it: counted, not silent.

#[test]
fn a_killed_collector_loses_and_doubles_no_datagram() {
    root_only!();
    assert_eq!(audit_of_udp_while_killing("syslog", count(300, 25)), (EXACT, 0));
}

#[test]
fn a_killed_store_loses_and_doubles_no_datagram() {
    root_only!();
    assert_eq!(audit_of_udp_while_killing("store", count(100, 15)), (EXACT, 0));
}

#[test]
fn a_killed_collector_loses_nothing_of_a_tcp_stream() {
    tcp_connections_live_on_while_killing("syslog", count(100, 20));
}

#[test]
fn a_killed_store_loses_nothing_of_a_tcp_stream() {
    tcp_connections_live_on_while_killing("store", count(100, 10));
}

#[test]
fn a_reader_and_a_deliverer_that_die_come_back_and_harm_nobody() {
    let raven = Appliance::start();
    let sender = Sender::udp(raven.udp(), "side", 0, 5_000);
    for role in ["decode", "uplink", "decode", "uplink"] {
        raven.kill(role, Signal::KILL);
    }
    let sent = sender.stop();
    raven.settle(sent);
    assert_eq!(Marks::of_ring(&raven, "side").audit(0, sent), EXACT);
    assert_eq!(number(&raven.process("syslog")["restarts"]), 0);
    assert_eq!(number(&raven.process("store")["restarts"]), 0);
    assert_eq!(raven.process("decode")["last_end"], "SIGKILL");
}

#[test]
fn a_collector_that_hangs_is_killed_and_replaced() {
    let raven = Appliance::start();
    let before = raven.process("syslog");
    let pid = number(&before["pid"]) as u32;
    send_signal(pid, Signal::STOP);
    for n in 0..100 {
        one_datagram(raven.udp(), format!("<13>while it hangs {n}").as_bytes());
    }
    raven.restarted("syslog", &before);
    raven.settle(100);
    assert_eq!(raven.stored(), 100);
    assert!(raven.running.log().contains("syslog"), "the log names the role:\n{}", raven.running.log());
}

#[test]
fn a_killed_ravend_takes_its_workers_with_it() {
    let mut raven = Appliance::start();
    let pids: Vec<u64> = raven.status()["processes"].as_array().unwrap().iter().map(|p| number(&p["pid"])).collect();
    raven.running.signal(Signal::KILL);
    raven.running.wait();
    eventually("no worker is left", || pids.iter().all(|pid| !is_alive(*pid)));
}

fn is_alive(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_ravend_killed_under_systemd_misses_nothing_that_was_stored() {
    let plan = Plan::new();
    plan.prepare();
    let mut systemd = Systemd::start(plan);
    let sender = Sender::udp(systemd.raven().udp(), "boot", 0, 10_000);
    let mut stored = 0;
    for n in 0..count(50, 8) {
        eventually("more is stored", || systemd.raven().stored() > stored);
        stored = systemd.raven().stored();
        pause(u64::from(n * 53 % 200));
        systemd.kill_and_restart();
        assert!(
            systemd.raven().stored() >= stored,
            "{} of {stored} records are there after kill {n}",
            systemd.raven().stored()
        );
    }
    let sent = sender.stop();
    let raven = systemd.raven();
    raven.settle(sent);
    let audit = Marks::of_ring(raven, "boot").audit(0, sent);
    assert_eq!(audit.doubled, 0);
    assert!(audit.missing <= raven.dropped(), "{audit:?}, but only {} are counted as dropped", raven.dropped());
    assert!(raven.verify().0, "{}", raven.verify().1);
    assert!(systemd.kept().iter().any(|name| name.contains("udp")), "systemd keeps {:?}", systemd.kept());
}
