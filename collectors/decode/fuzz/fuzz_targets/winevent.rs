//! `cargo +nightly fuzz run winevent` from the folder above: any bytes as a body, and as an event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raven_decode::winevent;

fuzz_target!(|body: &[u8]| {
    if let Ok(split) = winevent::split(body) {
        let mut behind = 0;
        for range in split {
            assert!(behind <= range.start && range.start < range.end && range.end <= body.len());
            behind = range.end;
            winevent::decode(&body[range]);
        }
    }
    let reading = winevent::decode(body);
    assert!(
        reading.event.provider.is_some()
            || reading.event.event_id.is_some()
            || reading.event.channel.is_some()
            || reading.reject.is_some()
    );
    assert!(reading.event.level.is_none_or(|level| level <= 5));
});
