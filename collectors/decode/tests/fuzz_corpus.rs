//! The fuzz target's inputs, replayed with a stable compiler: seeds of our own, and what the fuzzer has found.

#![allow(clippy::unwrap_used)]

use raven_decode::flow::sampling::Sampling;
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::show::{Shown, View, to_json};
use raven_decode::flow::templates::{Exporter, Scope, Templates};
use raven_model::units::UnixNanos;
use std::path::Path;
use std::time::Duration;

#[test]
fn every_fuzz_input_is_read() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/syslog");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let raw = std::fs::read(entry.unwrap().path()).unwrap();
        let reading = raven_decode::syslog(&raw, UnixNanos(1_795_301_060_000_000_000));
        assert!(reading.syslog.rfc.is_some() || reading.reject.is_some());
        count += 1;
    }
    assert!(count >= 20, "{count} inputs");
}

/// As the fuzz target does: datagrams of one exporter, each behind its length.
fn flows(input: &[u8]) -> Vec<Shown> {
    let exporter = Exporter::new([192, 0, 2, 1].into());
    let (mut templates, mut sampling) = (Templates::default(), Sampling::default());
    let (mut rest, mut all) = (input, Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (raw, after) = behind.split_at(usize::from(u16::from_be_bytes(*length)).min(behind.len()));
        rest = after;
        let mut json = String::new();
        let view = View { exporter: Some(exporter), sampling: Some(&sampling), configured: None };
        all.push(to_json(raw, &view, &templates.of(exporter), &mut json).unwrap_or_default());
        assert!(json.is_empty() || serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
        let Ok(found) = scan(raw) else { continue };
        sampling.learn(exporter, &found, &templates.of(exporter));
        if let Scan::Sets(message) = found {
            let scope = Scope { exporter, family: message.family, domain: message.domain };
            for set in message.sets().flatten() {
                let _ = templates.learn(scope, &set, Duration::ZERO, |_| {});
            }
        }
    }
    all
}

#[test]
fn every_fuzz_input_of_flows_is_read() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/flow");
    let read = |name: &str| flows(&std::fs::read(dir.join(name)).unwrap());
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        flows(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 20, "{count} inputs");
    let of = |name: &str| {
        read(name).iter().map(|shown| [shown.flows, shown.options, shown.undescribed, shown.faults]).collect::<Vec<_>>()
    };
    assert_eq!(of("v1"), [[1, 0, 0, 0]]);
    assert_eq!(of("v5"), [[2, 0, 0, 0]]);
    assert_eq!(of("v7"), [[1, 0, 0, 0]]);
    assert_eq!(of("v9-late"), [[0, 0, 1, 0], [0; 4], [1, 0, 0, 0]]);
    assert_eq!(of("v9-before"), [[1, 0, 0, 0]]);
    assert_eq!(of("v9-options"), [[0; 4], [0, 1, 0, 0], [1, 0, 0, 0]]);
    assert_eq!(of("ipfix-variable"), [[2, 0, 0, 0]]);
    assert_eq!(of("ipfix-withdraw"), [[0; 4], [0, 0, 1, 0]]);
    assert_eq!(of("ipfix-lists"), [[1, 0, 0, 0]]);
    assert_eq!(of("sflow-flow"), [[1, 0, 0, 0]]);
    assert_eq!(of("sflow-count"), [[1, 0, 0, 1]]);
    assert_eq!(read("sflow-drop")[0].drops, 1);
    assert_eq!(read("sflow-counters")[0].counters, 1);
}
