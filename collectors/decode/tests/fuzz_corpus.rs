//! The fuzz targets' inputs, replayed with a stable compiler: seeds of our own, and what the fuzzer has found.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/snmp_receiver.rs"]
mod snmp_receiver;

use raven_decode::flow::sampling::Sampling;
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::show::{Shown, View, to_json};
use raven_decode::flow::templates::{Exporter, Scope, Templates};
use raven_decode::{metrics, winevent};
use raven_model::units::UnixNanos;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Name and content of each input of a target; at least 20, so that an empty folder does not pass.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let read =
        |entry: std::fs::DirEntry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
    let inputs: Vec<_> = entries.map(read).collect();
    assert!(inputs.len() >= 20, "{} inputs", inputs.len());
    inputs
}

#[test]
fn every_fuzz_input_is_read() {
    for (_, raw) in inputs("syslog") {
        let reading = raven_decode::syslog(&raw, UnixNanos(1_795_301_060_000_000_000));
        assert!(reading.syslog.rfc.is_some() || reading.reject.is_some());
    }
}

#[test]
fn every_fuzz_input_is_split_and_decoded() {
    for (_, body) in inputs("winevent") {
        let events = winevent::split(&body).map_or_else(|_| Vec::new(), |split| split.events);
        for raw in events.into_iter().map(|range| &body[range]).chain([&*body]) {
            let winevent::Reading { event, reject } = winevent::decode(raw);
            let is_event = event.provider.is_some() || event.event_id.is_some() || event.channel.is_some();
            assert!(is_event || reject.is_some(), "{}", String::from_utf8_lossy(raw));
        }
    }
}

/// Each is a body of every kind, and a record; those with the name of a kind are sound bodies of it.
#[test]
fn every_fuzz_input_of_metrics_is_read() {
    for (name, input) in inputs("metrics") {
        for kind in metrics::Kind::ALL {
            let split = metrics::split(kind, &input);
            assert!(!name.starts_with(kind.name()) || split.is_ok(), "{name}: {:?}", split.err());
            let (mut raw, mut records) = (Vec::new(), split.ok());
            while records.as_mut().is_some_and(|records| records.next(&mut raw)) {
                metrics::decode(&raw);
            }
        }
        let reading = metrics::decode(&input);
        assert!(reading.metric.is_some() || reading.reject.is_some());
    }
}

/// Seeds that are called `trap-` or `inform-` are sound: they lead a mutation to where it can do harm.
#[test]
fn every_snmp_fuzz_input_is_looked_at() {
    let mut receiver = snmp_receiver::Receiver::new();
    let (mut sound, mut others) = (0, 0);
    for (name, raw) in inputs("snmp") {
        let is_accepted = receiver.look(&raw);
        if name.starts_with("trap-") || name.starts_with("inform-") {
            assert!(is_accepted, "{name}");
            sound += 1;
        } else if name.starts_with("bad-") {
            assert!(!is_accepted, "{name}");
            others += 1;
        }
    }
    assert!(sound >= 14 && others >= 14, "{sound} {others}");
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
    let all: BTreeMap<_, _> = inputs("flow").into_iter().map(|(name, raw)| (name, flows(&raw))).collect();
    let read = |name: &str| &all[name];
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
