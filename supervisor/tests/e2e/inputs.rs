//! Every other input through the whole appliance: Windows events, syslog over TLS and RELP, the host's own telemetry.

use crate::appliance::{Appliance, Plan, find, free_port, number, said, sections};
use crate::eventually;
use raven_model::query::RecordView;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// An appliance with these sections besides syslog's.
fn raven_with(given: &[(&str, String)], syslog: &str) -> Appliance {
    Plan { others: sections(given), syslog: syslog.to_owned(), ..Plan::new() }.start()
}

/// The records of a stream, decoded.
fn decoded(raven: &Appliance, stream: &str) -> Vec<RecordView> {
    let output = raven.raven(&["export", stream, "--decoded"]);
    assert!(output.status.success(), "{}", said(&output));
    output.stdout.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn stored(raven: &Appliance, stream: &str) -> u64 {
    let streams = raven.status()["streams"].clone();
    streams.as_array().unwrap().iter().find(|s| s["name"] == stream).map_or(0, |s| number(&s["stored"]))
}

/// What a generator says of itself.
fn generate(raven: &Appliance, arguments: &[&str]) -> Value {
    let output = raven.raven(&[&["gen"], arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn windows_events_of_every_shape_are_answered_when_they_are_stored() {
    let port = free_port();
    let raven = raven_with(&[("winevent", format!("http = [{port}]"))], "tls = []");
    let to = format!("127.0.0.1:{port}");
    for shape in ["ndjson", "array", "object", "xml"] {
        let (before, count) = (stored(&raven, "winevent"), if shape == "object" { "60" } else { "2000" });
        let said = generate(&raven, &["winevent", "--to", &to, "--shape", shape, "--count", count, "--rate", "0"]);
        assert_eq!(said["answers"]["acknowledged"].to_string(), count, "{shape}: {said}");
        // An answer follows the commit; the status is a moment behind it.
        eventually(shape, || stored(&raven, "winevent") - before == count.parse::<u64>().unwrap());
    }
    let records = decoded(&raven, "winevent");
    let wrong: Vec<_> = records.iter().filter(|record| record.reject.is_some()).take(1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    for field in ["provider", "event_id", "channel", "computer", "record_id", "time", "data"] {
        let has = |record: &RecordView| !record.decoded.as_ref().unwrap().read::<Value>().unwrap()[field].is_null();
        assert!(records.iter().all(has), "{field}");
    }
}

#[test]
fn a_killed_collector_of_windows_events_loses_nothing_that_was_answered() {
    let port = free_port();
    let raven = raven_with(&[("winevent", format!("http = [{port}]"))], "tls = []");
    let to = format!("127.0.0.1:{port}");
    let mut load = Command::new(crate::appliance::programs().join("raven"));
    load.args([
        "gen",
        "winevent",
        "--to",
        &to,
        "--count",
        "20000",
        "--rate",
        "4000",
        "--senders",
        "4",
        "--mark",
        "kill",
    ]);
    let load = load.arg("--json").stdout(Stdio::piped()).spawn().unwrap();
    for _ in 0..4 {
        crate::pause(700);
        raven.kill("winevent", rustix::process::Signal::KILL);
    }
    let output = load.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let marks: BTreeSet<String> = decoded(&raven, "winevent")
        .iter()
        .map(|record| record.decoded.as_ref().unwrap().read::<Value>().unwrap()["data"]["RavenMark"].to_string())
        .collect();
    assert_eq!(marks.len(), 20_000, "each event is there, some twice");
}

#[test]
fn syslog_over_tls_needs_no_set_up_and_is_stored_whole() {
    let port = free_port();
    let raven = raven_with(&[], &format!("tls = [{port}]"));
    let to = format!("127.0.0.1:{port}");
    let said =
        generate(&raven, &["syslog", "--proto", "tls", "--insecure", "--to", &to, "--count", "5000", "--rate", "0"]);
    assert_eq!(number(&said["sent"]), 5000);
    raven.settle(5000);
    let record = raven.records().swap_remove(0);
    assert!(record.listener.starts_with("tls:"), "{}", record.listener);
    // Its own certificate is for root's eyes only.
    let key = raven.plan.data().join("secrets/appliance.key");
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

/// syslog-ng's load generator, unpacked where the test command puts it.
fn loggen(arguments: &[&str], port: u16) -> Option<()> {
    let folder = Path::new("/usr/local/lib/raven-tests/syslog-ng-core/usr");
    let program = folder.join("bin/loggen");
    if !program.exists() {
        println!("NOT RUN: {} is missing", program.display());
        return None;
    }
    let output = Command::new(program)
        .env("SYSLOGNG_PREFIX", folder)
        .env("LD_LIBRARY_PATH", folder.join("lib/syslog-ng"))
        .args(["--rate", "2000", "--number", "2000", "--size", "300", "--quiet"])
        .args(arguments)
        .args(["127.0.0.1", &port.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    Some(())
}

#[test]
fn loggen_sends_over_udp_tcp_and_tls_and_each_message_is_there() {
    let port = free_port();
    let raven = raven_with(&[], &format!("tls = [{port}]"));
    let plain = raven.udp().port();
    let ways: [(&str, &[&str], u16); 4] = [
        ("udp", &["--inet", "--dgram"], plain),
        ("tcp", &["--inet", "--stream"], plain),
        ("tcp", &["--inet", "--stream", "--syslog-proto"], plain),
        ("tls", &["--use-ssl"], port),
    ];
    for (n, (proto, arguments, port)) in (1..).zip(ways) {
        if loggen(arguments, port).is_none() {
            return;
        }
        raven.settle(2000 * n);
        let last: Vec<_> = raven.records().split_off(2000 * (n as usize - 1));
        let number = |record: &RecordView| {
            assert!(record.listener.starts_with(&format!("{proto}:")), "{}", record.listener);
            let text = record.raw.as_ref().unwrap();
            text.split_once("seq: ").unwrap().1[..10].parse::<u32>().unwrap()
        };
        let seen: BTreeSet<u32> = last.iter().map(number).collect();
        assert_eq!(seen.len(), 2000, "{proto} {arguments:?}");
    }
}

#[test]
fn relp_is_answered_when_it_is_stored() {
    let port = free_port();
    let raven = raven_with(&[], &format!("tls = []\nrelp = [{port}]"));
    let to = format!("127.0.0.1:{port}");
    let said = generate(&raven, &["syslog", "--proto", "relp", "--to", &to, "--count", "5000", "--rate", "0"]);
    assert_eq!(number(&said["answers"]["acknowledged"]), 5000, "{said}");
    raven.settle(5000);
}

#[test]
fn a_tls_hello_on_the_plain_port_waits_in_the_inbox_with_its_remedy() {
    let raven = Appliance::start();
    let mut stream = std::net::TcpStream::connect(raven.udp()).unwrap();
    stream.write_all(b"\x16\x03\x01\x00\x2a\x01\x00\x00\x26\x03\x03").unwrap();
    drop(stream);
    let seen = || said(&raven.raven(&["inbox"])).contains("TLS");
    eventually("the inbox shows a TLS hello", seen);
}

#[test]
fn the_appliance_samples_itself() {
    let raven = raven_with(&[("host", "interval = \"1s\"".to_owned())], "tls = []");
    eventually("two samples are stored", || stored(&raven, "host") >= 2);
    let records = decoded(&raven, "host");
    assert!(records.iter().all(|record| record.reject.is_none() && record.decoded.is_some()), "{records:?}");
    let process = find(&raven.status()["processes"], "role", "host");
    assert!(number(&process["pid"]) > 0);
}
