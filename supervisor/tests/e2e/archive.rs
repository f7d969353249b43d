//! The uplink of a venue is gone for good: its ring goes on a stick to another Raven, which stores, decodes and forwards
//! it as if it had come there.

use crate::appliance::{Appliance, Plan, find, free_port, number, raven, said, sections, send_signal};
use crate::damage::SmallDisk;
use crate::flow::{BYTES_FIRST, PACKETS_FIRST, v9};
use crate::marks::{EXACT, Marks};
use crate::rsyslog::{Rsyslog, is_installed};
use crate::sender::{Sender, one_datagram};
use crate::systemd::Systemd;
use crate::{eventually, pause, root_only};
use rustix::process::Signal;
use serde_json::Value;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Output;

fn stored(raven: &Appliance, stream: &str) -> u64 {
    let streams = raven.status()["streams"].clone();
    let found = streams.as_array().unwrap().iter().find(|entry| entry["name"] == stream).cloned();
    found.map_or(0, |stream| number(&stream["stored"]))
}

/// Every record of a stream from `since` on, decoded; without the number that it has here.
fn decoded(raven: &Appliance, stream: &str, since: &str) -> Vec<Value> {
    let output = raven.raven(&["export", stream, "--decoded", "--since", since]);
    assert!(output.status.success(), "{}", said(&output));
    let lines = output.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let without_seq = |line: &[u8]| {
        let mut record: Value = serde_json::from_slice(line).unwrap();
        record.as_object_mut().unwrap().remove("seq").unwrap();
        record
    };
    lines.map(without_seq).collect()
}

fn now() -> String {
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn export(raven: &Appliance, to: &Path, more: &[&str]) -> Output {
    raven.raven(&[&["ring", "export", to.to_str().unwrap()], more].concat())
}

fn import(raven: &Appliance, archive: &Path, more: &[&str]) -> Output {
    raven.raven(&[&["ring", "import", archive.to_str().unwrap()], more].concat())
}

/// The account adds up, and every block is sound.
fn is_sound(raven: &Appliance) {
    // A report is up to a second old.
    eventually("the account adds up", || raven.raven(&["audit", "report"]).status.success());
    for stream in raven.status()["streams"].as_array().unwrap() {
        let verified = raven.raven(&["ring", "verify", stream["name"].as_str().unwrap()]);
        assert!(verified.status.success(), "{}", said(&verified));
    }
}

#[test]
fn what_was_carried_from_one_box_to_another_is_as_it_was_and_goes_on_its_way() {
    if !is_installed() {
        return;
    }
    let (flow, trap) = (free_port(), free_port());
    let others = sections(&[
        ("flow", format!("udp = [{flow}]\ntcp = []")),
        ("trap", format!("udp = [{trap}]\ncommunities = [\"public\"]")),
    ]);
    let venue = Plan { name: "arena-north", others, ..Plan::new() }.start();
    let (early, late) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.2:0").unwrap());
    let send = |socket: &UdpSocket, sequence, template| {
        socket.send_to(&v9(sequence, template), ("127.0.0.1", flow)).unwrap();
    };
    // One exporter says what its records mean long before the range, the other after its first records in it.
    send(&early, 1, Some(BYTES_FIRST));
    one_datagram(venue.udp(), b"<13>not asked for");
    eventually("it is stored", || stored(&venue, "flow") == 1 && venue.stored() == 1);
    pause(1500);
    let since = now();
    pause(200);
    for sequence in 2..500 {
        send(&early, sequence, None);
        send(&late, sequence, (sequence == 250).then_some(PACKETS_FIRST));
        // What is no plain text travels as base64 behind the office.
        let odd = if sequence % 5 == 0 { "\x07\u{fffd}" } else { "" };
        one_datagram(venue.udp(), format!("<13>su: failed {sequence}{odd}").as_bytes());
        if sequence % 50 == 0 {
            pause(30);
        }
    }
    one_datagram(venue.udp6(), b"\xff\xfe no text");
    let to = format!("127.0.0.1:{trap}");
    let sent = venue.raven(&["gen", "trap", "--to", &to, "--count", "200", "--rate", "2000", "--json"]);
    assert!(sent.status.success(), "{}", said(&sent));
    venue.settle(500);
    eventually("all is stored", || stored(&venue, "flow") == 997 && stored(&venue, "trap") == 200);
    // So that the late template is in the history as well.
    pause(1500);
    let stick = venue.plan.dir.path().join("stick");
    std::fs::create_dir(&stick).unwrap();
    let exported = export(&venue, &stick, &["--since", &since]);
    assert!(exported.status.success(), "{}", said(&exported));
    let archive = std::fs::read_dir(&stick).unwrap().next().unwrap().unwrap().path();
    assert!(archive.file_name().unwrap().to_str().unwrap().starts_with("raven-arena-north-"), "{archive:?}");
    let streams = ["syslog", "flow", "trap"];
    let theirs = streams.map(|stream| decoded(&venue, stream, &since));
    assert_eq!(theirs.each_ref().map(Vec::len), [499, 996, 200]);
    let text = |records: &[Value]| serde_json::to_string(records).unwrap();
    assert!(!text(&theirs[1]).contains("no template"), "the venue itself reads them");

    let mut noc = Rsyslog::new();
    noc.start();
    let office = Plan { name: "office", uplinks: noc.uplink("noc"), ..Plan::new() }.start();
    one_datagram(office.udp(), b"<13>of the office itself");
    office.settle(1);
    let looked = import(&office, &archive, &["--dry-run"]);
    assert!(looked.status.success() && said(&looked).contains("archive of arena-north"), "{}", said(&looked));
    assert!(said(&looked).contains("1695 of its 1695 records are new here"), "{}", said(&looked));
    pause(1200);
    assert_eq!((office.stored(), stored(&office, "flow")), (1, 0), "a look stores nothing");
    let imported = import(&office, &archive, &[]);
    assert!(imported.status.success(), "{}", said(&imported));
    assert!(said(&imported).contains("1695 records imported, 0 were here already"), "{}", said(&imported));
    for (stream, theirs) in streams.iter().zip(&theirs) {
        let mut ours = decoded(&office, stream, &since);
        ours.retain(|record| record["raw"] != "<13>of the office itself");
        assert_eq!(ours.len(), theirs.len(), "{stream}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(ours, theirs, "{stream}");
        }
    }
    // And it goes on its way.
    eventually("all of it is at the receiver", || {
        let of = |stream: &str| {
            let status = office.status();
            let list = status["destinations"].as_array().unwrap();
            let found = list.iter().find(|to| to["stream"] == stream).cloned();
            found.map_or(0, |found| found["acked_seq"].as_u64().unwrap_or(0))
        };
        streams.map(of) == [500, 996, 200]
    });
    let received = noc.received();
    let plain = (2..500).filter(|n| n % 5 != 0);
    assert!(plain.clone().count() > 300 && plain.clone().all(|n| received.contains(&format!("su: failed {n}\n"))));
    // Once more: nothing.
    let again = import(&office, &archive, &[]);
    assert!(again.status.success() && said(&again).contains("nothing to do"), "{}", said(&again));
    assert_eq!(streams.map(|stream| stored(&office, stream)), [500, 996, 200]);
    is_sound(&office);
    let report: Value = serde_json::from_slice(&office.raven(&["audit", "report", "--json"]).stdout).unwrap();
    assert_eq!(number(&find(&report["streams"], "name", "flow")["imported"]), 996, "{report}");
    // It outlives a restart, with the role gone that nobody needs.
    eventually("the role ends", || {
        !office.status()["processes"].as_array().unwrap().iter().any(|process| process["role"] == "import")
    });
    let office = office.restart();
    let again = import(&office, &archive, &["--json"]);
    let view: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(again.status.success() && number(&view["streams"][0]["here"]) == 499, "{}", said(&again));
    // At home it is told that these may be its own.
    let own = import(&venue, &archive, &[]);
    assert!(!own.status.success() && said(&own).contains("--same-name"), "{}", said(&own));
}

/// A box with numbered messages, and its archive.
fn venue_with(messages: u64) -> (Appliance, std::path::PathBuf) {
    let venue = Plan { name: "venue", ..Plan::new() }.start();
    let sender = Sender::tcp(venue.udp(), "venue", 0, 200_000);
    eventually("there are enough", || venue.stored() >= messages);
    let sent = sender.stop();
    venue.settle(sent);
    let archive = venue.plan.dir.path().join("venue.rvna");
    let exported = export(&venue, &archive, &[]);
    assert!(exported.status.success(), "{}", said(&exported));
    (venue, archive)
}

#[test]
fn whatever_is_killed_meanwhile_each_record_is_imported_once() {
    let (venue, archive) = venue_with(crate::count(1_500_000, 400_000).into());
    let sent = venue.stored();
    let plan = Plan { name: "office", ..Plan::new() };
    plan.prepare();
    let mut systemd = Systemd::start(plan);
    let live = Sender::udp(systemd.raven().udp(), "live", 0, 2_000);
    let mut cut_short = 0;
    for round in 0..crate::count(60, 12) {
        let (programs, data) = (systemd.raven().programs.clone(), systemd.raven().plan.data());
        let file = archive.to_str().unwrap().to_owned();
        let running = std::thread::spawn(move || raven(&programs, &data, &["ring", "import", &file]));
        pause(u64::from(50 + round * 131 % 900));
        match round % 3 {
            0 => systemd.raven().kill("store", Signal::KILL),
            1 => {
                let status = systemd.raven().status();
                let import = status["processes"].as_array().unwrap().iter().find(|p| p["role"] == "import").cloned();
                if let Some(pid) = import.map(|import| number(&import["pid"])).filter(|pid| *pid > 1) {
                    send_signal(pid as u32, Signal::KILL);
                }
            }
            _ => systemd.kill_and_restart(),
        }
        cut_short += u32::from(!running.join().unwrap().status.success());
    }
    let raven = systemd.raven();
    let last = import(raven, &archive, &[]);
    assert!(last.status.success(), "{}", said(&last));
    assert!(cut_short > 0, "no import was cut short: nothing was tried");
    let live_sent = live.stop();
    raven.settle(sent + live_sent);
    assert_eq!(Marks::of_ring(raven, "venue").audit(0, sent), EXACT);
    assert_eq!(Marks::of_ring(raven, "live").audit(0, live_sent), EXACT);
    is_sound(raven);
}

#[test]
fn a_stick_that_was_pulled_out_or_is_damaged_gives_what_it_has_and_says_what_is_missing() {
    let (venue, archive) = venue_with(60_000);
    let sent = venue.stored();
    let bytes = std::fs::read(&archive).unwrap();
    let part = archive.with_file_name("part.rvna");
    std::fs::write(&part, &bytes[..bytes.len() / 2]).unwrap();
    let office = Plan { name: "office", ..Plan::new() }.start();
    let cut = import(&office, &part, &[]);
    assert_eq!(cut.status.code(), Some(1), "{}", said(&cut));
    assert!(said(&cut).contains("breaks off"), "{}", said(&cut));
    eventually("half of it is stored", || office.stored() > 0);
    pause(1200);
    let half = office.stored();
    assert!(half < sent, "{half} of {sent}");
    // One bit of a block.
    let mut flipped = bytes.clone();
    flipped[bytes.len() * 3 / 4] ^= 4;
    std::fs::write(&part, &flipped).unwrap();
    let damaged = import(&office, &part, &[]);
    assert_eq!(damaged.status.code(), Some(1), "{}", said(&damaged));
    assert!(said(&damaged).contains("do not read") && said(&damaged).contains("are lost"), "{}", said(&damaged));
    eventually("more is stored", || office.stored() > half);
    pause(1200);
    let most = office.stored();
    assert!(most < sent, "{most} of {sent}");
    // The whole one brings what was missing, and nothing twice.
    let whole = import(&office, &archive, &[]);
    assert!(whole.status.success(), "{}", said(&whole));
    office.settle(sent);
    assert_eq!(Marks::of_ring(&office, "venue").audit(0, sent), EXACT);
    is_sound(&office);
    std::fs::write(&part, b"PK\x03\x04 something else").unwrap();
    let other = import(&office, &part, &[]);
    assert!(!other.status.success() && said(&other).contains("no archive"), "{}", said(&other));
    let viewer = export(&venue, &archive, &[]);
    assert!(!viewer.status.success() && said(&viewer).contains("exists"), "nothing is overwritten: {}", said(&viewer));
}

#[test]
fn an_import_that_does_not_fit_says_so_before_anything_goes() {
    let (venue, archive) = venue_with(300_000);
    let sent = venue.stored();
    let office = Plan { name: "office", disk: "8MiB", segment: "1MiB", ..Plan::new() }.start();
    one_datagram(office.udp(), b"<13>of the office itself");
    office.settle(1);
    let refused = import(&office, &archive, &[]);
    assert!(!refused.status.success() && said(&refused).contains("--make-room"), "{}", said(&refused));
    pause(1200);
    assert_eq!((office.stored(), number(&office.stream()["evicted"])), (1, 0));
    let made = import(&office, &archive, &["--make-room"]);
    assert!(made.status.success(), "{}", said(&made));
    office.settle(sent + 1);
    let stream = office.stream();
    assert_eq!(number(&stream["stored"]), sent + 1);
    assert!(number(&stream["evicted"]) > 0, "{stream}");
    is_sound(&office);
}

#[test]
fn a_full_stick_is_told_and_good_for_what_is_on_it() {
    root_only!();
    let (venue, archive) = venue_with(60_000);
    let stick = venue.plan.dir.path().join("stick");
    std::fs::create_dir(&stick).unwrap();
    let size = std::fs::metadata(&archive).unwrap().len() / 2;
    let disk = SmallDisk::mount(&stick, &size.to_string());
    let full = export(&venue, &stick, &[]);
    assert_eq!(full.status.code(), Some(1), "{}", said(&full));
    assert!(said(&full).contains("the disk is full") && said(&full).contains("is incomplete"), "{}", said(&full));
    let part = std::fs::read_dir(&stick).unwrap().next().unwrap().unwrap().path();
    let office = Plan { name: "office", ..Plan::new() }.start();
    let imported = import(&office, &part, &[]);
    assert_eq!(imported.status.code(), Some(1), "{}", said(&imported));
    assert!(said(&imported).contains("breaks off"), "{}", said(&imported));
    eventually("what is on it is stored", || office.stored() > 0);
    drop(disk);
}
