//! The ring is as large as the disk allows: others take room and give it back, streams borrow and give back, and the
//! appliance's own account adds up all the time.

use crate::appliance::{Appliance, Plan, find, free_port, number, said, sections};
use crate::damage::SmallDisk;
use crate::sender::Sender;
use crate::{eventually, pause, root_only};
use rustix::process::Signal;
use serde_json::Value;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;

const MIB: u64 = 1 << 20;

/// `raven audit report --json`: whether it succeeds, and what it says.
fn account(raven: &Appliance) -> (bool, Value) {
    let output = raven.raven(&["audit", "report", "--json"]);
    let account = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    (output.status.success(), account)
}

fn sound(raven: &Appliance) -> Value {
    let (ok, account) = account(raven);
    assert!(ok && account["ok"] == true, "{account}");
    for stream in account["streams"].as_array().unwrap() {
        let n = |field: &str| number(&stream[field]);
        let dropped: u64 = stream["dropped"].as_object().unwrap().values().map(number).sum();
        assert_eq!(n("received"), n("stored") + dropped, "{stream}");
        assert_eq!(n("stored"), n("held") + n("evicted") + n("damaged"), "{stream}");
    }
    account
}

#[test]
fn a_stream_has_the_share_that_the_configuration_gives_it() {
    let mut plan = Plan::new();
    plan.uplinks = "[buffer.streams.trap]\nshare = 86\n".to_owned();
    plan.others = sections(&[("trap", format!("udp = [{}]", free_port()))]);
    let raven = plan.start();
    let share = |name: &str| number(&find(&raven.status()["streams"], "name", name)["share"]);
    eventually("the store reports", || raven.status()["ring"].is_object());
    // Syslog has 43 parts.
    assert_eq!(share("trap") / share("syslog"), 2, "{}", raven.status()["streams"]);
}

/// `raven audit …`, which must succeed.
fn audit(raven: &Appliance, arguments: &[&str]) -> String {
    let output = raven.raven(&[&["audit"], arguments].concat());
    assert!(output.status.success(), "{}", said(&output));
    said(&output).trim().to_owned()
}

#[test]
fn a_signed_report_is_proof_of_this_appliance_and_of_every_byte() {
    let raven = Plan::new().start();
    eventually("the store reports", || raven.status()["ring"].is_object());
    let file = raven.plan.data().join("report");
    let path = file.to_str().unwrap();
    audit(&raven, &["report", "--sign", path]);
    let key = audit(&raven, &["key"]);
    assert!(audit(&raven, &["verify", path, "--key", &key]).contains("unchanged since it was signed"));
    assert!(audit(&raven, &["verify", path]).contains("was not checked"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap()["ok"], true);
    std::fs::write(&file, text.replacen("true", "fals", 1)).unwrap();
    let output = raven.raven(&["audit", "verify", path, "--key", &key]);
    assert!(output.status.code() == Some(1) && said(&output).contains("is not what was signed"), "{}", said(&output));
    let raven = raven.restart();
    assert_eq!(audit(&raven, &["key"]), key, "the key is the appliance's for good");
    let mode = |path: &str| std::fs::metadata(raven.plan.data().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("secrets/device.key"), 0o600);
}

fn ring(raven: &Appliance, field: &str) -> u64 {
    number(&raven.status()["ring"][field])
}

#[test]
fn the_ring_gives_way_to_others_and_takes_the_room_again_when_they_leave() {
    root_only!();
    let mut plan = Plan::new();
    (plan.disk, plan.segment) = ("90%", "4MiB");
    let disk = SmallDisk::mount(&plan.data(), "128m");
    let raven = plan.start();
    let sender = Sender::udp(raven.udp(), "size", 0, 60_000);
    eventually("some segments are full", || number(&raven.stream()["bytes_disk"]) > 24 * MIB);
    let before = ring(&raven, "quota");
    assert!(before > 110 * MIB, "{before}");
    // Others take all the room that is left.
    let ballast = disk.fill();
    eventually("the quota shrinks", || ring(&raven, "quota") < 40 * MIB);
    eventually("the oldest records go", || number(&raven.stream()["evicted"]) > 0);
    let stored = raven.stored();
    eventually("it stores on", || raven.stored() > stored + 60_000);
    let alerts = raven.status()["alerts"].to_string();
    assert!(alerts.contains("others' files"), "{alerts}");
    std::fs::remove_file(ballast).unwrap();
    eventually("the quota grows again", || ring(&raven, "quota") == before);
    let evicted = number(&raven.stream()["evicted"]);
    pause(3_000);
    assert_eq!(number(&raven.stream()["evicted"]), evicted, "there is room again");
    let sent = sender.stop();
    raven.settle(sent);
    sound(&raven);
    assert!(raven.verify().0, "{}", raven.verify().1);
    // A disk that shrinks is no other case.
    assert!(disk.remount("size=48m"));
    eventually("the quota follows", || ring(&raven, "quota") < 48 * MIB);
    assert!(disk.remount("size=256m"));
    eventually("and again", || ring(&raven, "quota") > 220 * MIB);
    sound(&raven);
    drop(raven);
    drop(disk);
}

#[test]
fn a_stream_borrows_what_others_leave_and_gives_it_back_oldest_first() {
    let mut plan = Plan::new();
    let port = free_port();
    plan.others = sections(&[("trap", format!("udp = [{port}]"))]);
    (plan.disk, plan.segment) = ("64MiB", "2MiB");
    let raven = plan.start();
    let stream = |name: &str, field: &str| {
        let streams = raven.status()["streams"].clone();
        number(&find(&streams, "name", name)[field])
    };
    // Random bytes are no notification, and are kept all the same; they do not pack.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut noise = 1_u64;
    let mut trap = || {
        let mut datagram = [0_u8; 1400];
        for word in datagram.chunks_exact_mut(8) {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            word.copy_from_slice(&noise.to_le_bytes());
        }
        socket.send_to(&datagram, ("127.0.0.1", port)).unwrap();
    };
    eventually("traps take more than their share", || {
        (0..2000).for_each(|_| trap());
        pause(50);
        stream("trap", "bytes_disk") > 40 * MIB
    });
    let share = stream("trap", "share");
    assert!(share < 8 * MIB, "traps have 4 parts of 52: {share}");
    assert_eq!(stream("trap", "evicted"), 0);
    let sender = Sender::udp(raven.udp(), "owner", 0, 60_000);
    eventually("syslog takes its room back", || stream("syslog", "bytes_disk") > 40 * MIB);
    let sent = sender.stop();
    raven.settle(sent);
    assert!(stream("trap", "evicted") > 0, "the borrower's oldest go");
    assert_eq!(stream("syslog", "evicted"), 0, "the owner is below its share");
    assert!(stream("trap", "quota") + stream("syslog", "quota") <= 64 * MIB);
    let account = sound(&raven);
    let trap = find(&account["streams"], "name", "trap");
    assert!(trap["losses"].as_array().unwrap().iter().all(|loss| loss["why"] == "space"), "{trap}");
}

#[test]
fn the_account_adds_up_over_kills_restarts_and_drops() {
    let mut plan = Plan::new();
    (plan.disk, plan.segment) = ("24MiB", "1MiB");
    plan.uplinks = "[uplink.noc]\nkind = \"relp\"\nto = \"127.0.0.1:9\"".to_owned();
    plan.others = sections(&[("trap", format!("udp = [{}]\nstorm = 10", free_port()))]);
    let raven = plan.start();
    let trap: std::net::SocketAddr = {
        let listeners = raven.status()["listeners"].clone();
        let port = find(&listeners, "stream", "trap")["addr"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        format!("127.0.0.1:{port}").parse().unwrap()
    };
    let storm = || {
        let output = raven.raven(&["gen", "trap", "--to", &trap.to_string(), "--rate", "5000", "--count", "2000"]);
        assert!(output.status.success(), "{}", said(&output));
    };
    storm();
    let sender = Sender::udp(raven.udp(), "account", 0, 40_000);
    for role in ["store", "uplink", "syslog", "store"] {
        pause(700);
        raven.kill(role, Signal::KILL);
        eventually("all have reported", || {
            let output = raven.raven(&["audit", "report", "--json"]);
            !output.stdout.is_empty()
        });
        sound(&raven);
    }
    eventually("the ring is full", || number(&raven.stream()["evicted"]) > 0);
    let sent = sender.stop();
    raven.settle(sent);
    pause(1_500);
    let status = raven.status();
    let alerts = status["alerts"].to_string();
    assert!(alerts.contains("not acknowledged: noc") && number(&status["ring"]["watermark"]) == 95, "{alerts}");
    assert!(number(&status["ring"]["passed"]["95"]) > 0, "{}", status["ring"]);
    assert!(raven.running.log().contains("go for room before every destination has them"), "{}", raven.running.log());
    let before = sound(&raven);
    let dropped = |account: &Value| number(&find(&account["streams"], "name", "trap")["dropped"]["storm"]);
    assert!(dropped(&before) > 1000, "{before}");
    let syslog = find(&before["streams"], "name", "syslog");
    assert!(number(&syslog["evicted_unforwarded"]) > 0, "{syslog}");
    let noc = find(&before["destinations"], "stream", "syslog");
    assert_eq!(noc["evicted_unforwarded"], syslog["evicted_unforwarded"], "{noc}");
    // A restart forgets nothing: neither what was dropped nor how fast the disk fills.
    let forecast = |raven: &Appliance| number(&raven.status()["ring"]["forecast"][2]["covered_s"]);
    let covered = forecast(&raven);
    let raven = raven.restart();
    eventually("the store reports", || raven.status()["ring"].is_object());
    let after = sound(&raven);
    assert_eq!(dropped(&after), dropped(&before));
    let now = find(&after["streams"], "name", "syslog");
    assert_eq!((&now["stored"], &now["received"]), (&syslog["stored"], &syslog["received"]));
    assert!(forecast(&raven) >= covered, "{} s before, {} s now", covered, forecast(&raven));
}
