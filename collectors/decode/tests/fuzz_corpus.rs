//! The fuzz targets' inputs, replayed with a stable compiler: seeds of our own, and what the fuzzer has found.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/snmp_receiver.rs"]
mod snmp_receiver;

use raven_decode::winevent;
use raven_model::units::UnixNanos;
use std::path::Path;

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
