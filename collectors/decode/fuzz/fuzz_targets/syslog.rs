//! `cargo +nightly fuzz run syslog` from the folder above: any bytes, any time of receipt.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raven_model::units::UnixNanos;

fuzz_target!(|raw: &[u8]| {
    // Some of the input also chooses when it was received, so that the search for the year is covered.
    let received = raw.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    for received in [UnixNanos(1_795_301_060_000_000_000), UnixNanos(received)] {
        let reading = raven_decode::syslog(raw, received);
        assert!(reading.syslog.rfc.is_some() || reading.reject.is_some());
        let message = reading.syslog.message.map_or(0, |message| message.len());
        assert!(message <= raw.len() * 3);
    }
});
