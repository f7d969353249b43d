//! The audit of decoded exports: flows, traps and Windows events with planted gaps and doubles.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{code, raven, stderr, stdout};
use raven_console::load::FlowMark;
use serde_json::{Value, json};
use std::fs;
use std::net::IpAddr;

/// Audits these lines for a run of this kind with two senders of 40 records; exit code and report.
fn audit(kind: &str, lines: &[String]) -> (i32, Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let summary = json!({
        "mark": "r1", "kind": kind, "to": "x", "proto": "udp", "sent": 80, "bytes": 1, "seconds": 1.0, "rate": 1.0,
        "cpu_s": 0.1, "senders": [{"sender": 0, "count": 40}, {"sender": 1, "count": 40}],
    });
    fs::write(path("sent.json"), summary.to_string()).unwrap();
    fs::write(path("out.ndjson"), lines.join("\n")).unwrap();
    let output = raven(&["audit", "--json", &path("out.ndjson"), "--marks", &path("sent.json")]);
    (code(&output), serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output))))
}

/// A line as `raven export --decoded` writes it.
fn line(seq: usize, stream: &str, decoded: &Value) -> String {
    let record = json!({
        "seq": seq, "received_ns": 1, "source": {"addr": "127.0.0.1", "port": 4000}, "listener": "udp:[::]:2055",
        "stream": stream, "raw_b64": "AAA=", "decoded": decoded,
    });
    record.to_string()
}

fn flow(run: &str, sender: u32, n: u64) -> Value {
    let ends = FlowMark { tag: FlowMark::tag_of(run), sender, n }.endpoints();
    // Every other flow over IPv6, every third with a flowId.
    let (source, destination) = if n.is_multiple_of(2) {
        let (source, destination) = ends.v4();
        (IpAddr::from(source), IpAddr::from(destination))
    } else {
        let (source, destination) = ends.v6();
        (IpAddr::from(source), IpAddr::from(destination))
    };
    let fields = if n.is_multiple_of(3) { json!({"flowId": n}) } else { json!({}) };
    json!({
        "src_addr": source, "dst_addr": destination, "src_port": ends.port, "dst_port": 443, "proto": 6, "bytes": 900,
        "packets": 3, "fields": fields,
    })
}

/// Numbers that arrive: 17 is lost, 5 is doubled.
fn arrived() -> impl Iterator<Item = u64> {
    (0..40).filter(|n| *n != 17).chain([5])
}

fn assert_planted(code: i32, report: &Value) {
    assert_eq!(code, 1, "{report}");
    for sender in 0..2 {
        let marks = &report["marks"][sender];
        assert_eq!((&marks["seen"], &marks["missing_ranges"]), (&39.into(), &json!([[17, 17]])), "{report}");
        assert_eq!((&marks["duplicates"], &marks["duplicate_ranges"]), (&1.into(), &json!([[5, 5]])));
    }
}

#[test]
fn flows_lost_and_doubled_are_found_in_decoded_lines() {
    for kind in ["netflow", "ipfix", "sflow"] {
        let both: Vec<(u32, u64)> = (0..2).flat_map(|sender| arrived().map(move |n| (sender, n))).collect();
        let datagram = |(seq, flows): (usize, &[(u32, u64)])| {
            let flows: Vec<Value> = flows.iter().map(|(sender, n)| flow("r1", *sender, *n)).collect();
            line(seq, "flow", &json!({"version": 9, "flows": flows}))
        };
        let lines: Vec<String> = both.chunks(7).enumerate().map(datagram).collect();
        let (code, report) = audit(kind, &lines);
        assert_planted(code, &report);
        assert_eq!(report["streams"][0]["records"], lines.len());
    }
}

#[test]
fn flows_of_other_runs_and_wrongly_decoded_ones_do_not_count() {
    let mut all: Vec<Value> = (0..2).flat_map(|sender| (0..40).map(move |n| flow("r1", sender, n))).collect();
    all.push(flow("other", 0, 3));
    all.push(flow("r1", 0, 40));
    all[9]["fields"] = json!({"flowId": 8});
    let (code, report) = audit("ipfix", &[line(1, "flow", &json!({"flows": all}))]);
    assert_eq!((code, &report["marks_of_other_runs"]), (1, &1.into()), "{report}");
    assert_eq!(report["marks"][0]["missing_ranges"], json!([[9, 9]]));
    assert_eq!((&report["marks"][0]["beyond"], &report["marks"][1]["missing"]), (&1.into(), &0.into()));
}

#[test]
fn traps_lost_and_doubled_are_found_in_decoded_lines() {
    let trap = |sender: u32, n: u64| {
        json!({"version": "2c", "varbinds": [
            {"oid": "1.3.6.1.2.1.1.3.0", "type": "TimeTicks", "value": 5},
            {"oid": "1.3.6.1.4.1.32473.1.1.0", "type": "OctetString", "value": format!("raven-mark=r1/{sender}/{n:012}")},
        ]})
    };
    let all = (0..2).flat_map(|sender| arrived().map(move |n| (sender, n)));
    let lines: Vec<String> = all.enumerate().map(|(seq, (sender, n))| line(seq, "trap", &trap(sender, n))).collect();
    let (code, report) = audit("trap", &lines);
    assert_planted(code, &report);
}

#[test]
fn windows_events_lost_and_doubled_are_found_in_decoded_lines() {
    let event = |sender: u32, n: u64| json!({"event_id": 4624, "data": {"IpPort": "50000", "RavenMark": format!("raven-mark=r1/{sender}/{n:012}")}});
    let all = (0..2).flat_map(|sender| arrived().map(move |n| (sender, n)));
    let lines: Vec<String> =
        all.enumerate().map(|(seq, (sender, n))| line(seq, "winevent", &event(sender, n))).collect();
    let (code, report) = audit("winevent", &lines);
    assert_planted(code, &report);
}

#[test]
fn two_runs_of_flows_that_look_alike_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let summary = json!({
        "mark": "r1", "kind": "sflow", "to": "x", "proto": "udp", "sent": 0, "bytes": 0, "seconds": 1.0, "rate": 0.0,
        "cpu_s": 0.1, "senders": [],
    });
    fs::write(path("sent.json"), summary.to_string()).unwrap();
    fs::write(path("out.ndjson"), "").unwrap();
    let output = raven(&["audit", &path("out.ndjson"), "--marks", &path("sent.json"), "--marks", &path("sent.json")]);
    assert!(code(&output) == 2 && stderr(&output).contains("cannot be told apart"), "{}", stderr(&output));
}
