//! `cargo +nightly fuzz run metrics` from the folder above: any bytes as a body of each kind, and as a record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raven_decode::metrics::{Kind, decode, split};

fuzz_target!(|input: &[u8]| {
    for kind in Kind::ALL {
        if let Ok(mut records) = split(kind, input) {
            let (mut raw, mut count, mut put_together) = (Vec::new(), 0, Vec::new());
            while records.next(&mut raw) {
                count += 1;
                put_together.extend_from_slice(&raw[kind.name().len() + 1..]);
                decode(&raw);
            }
            assert_eq!(count, records.count());
            assert!(kind != Kind::RemoteWrite || put_together == input);
        }
    }
    let reading = decode(input);
    assert!(reading.metric.is_some() || reading.reject.is_some());
});
