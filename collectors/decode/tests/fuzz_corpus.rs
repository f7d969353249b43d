//! The fuzz target's inputs, replayed with a stable compiler: seeds of our own, and what the fuzzer has found.

#![allow(clippy::unwrap_used)]

use raven_model::units::UnixNanos;
use std::path::Path;

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
