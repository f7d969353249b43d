//! The fuzz targets' inputs, replayed with a stable compiler: seeds of our own, and what the fuzzer has found.

#![allow(clippy::unwrap_used)]

use raven_decode::winevent;
use raven_model::units::UnixNanos;
use std::path::Path;

/// The inputs of a target; at least 20, so that an empty folder does not pass.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let inputs: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(inputs.len() >= 20, "{} inputs", inputs.len());
    inputs
}

#[test]
fn every_fuzz_input_is_read() {
    for raw in inputs("syslog") {
        let reading = raven_decode::syslog(&raw, UnixNanos(1_795_301_060_000_000_000));
        assert!(reading.syslog.rfc.is_some() || reading.reject.is_some());
    }
}

#[test]
fn every_fuzz_input_is_split_and_decoded() {
    for body in inputs("winevent") {
        let events = winevent::split(&body).map_or_else(|_| Vec::new(), |split| split.events);
        for raw in events.into_iter().map(|range| &body[range]).chain([&*body]) {
            let winevent::Reading { event, reject } = winevent::decode(raw);
            let is_event = event.provider.is_some() || event.event_id.is_some() || event.channel.is_some();
            assert!(is_event || reject.is_some(), "{}", String::from_utf8_lossy(raw));
        }
    }
}
