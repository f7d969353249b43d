//! `cargo +nightly fuzz run flow` from the folder above: datagrams of one exporter, each behind its length in two bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raven_decode::flow::sampling::Sampling;
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::show::{View, to_json};
use raven_decode::flow::templates::{Exporter, Scope, Templates};
use std::time::Duration;

fuzz_target!(|input: &[u8]| {
    let exporter = Exporter::new([192, 0, 2, 1].into());
    let (mut templates, mut sampling) = (Templates::default(), Sampling::default());
    let mut rest = input;
    while let Some(([high, low], behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (raw, after) = behind.split_at(length);
        rest = after;
        let mut json = String::new();
        let view = View { exporter: Some(exporter), sampling: Some(&sampling), configured: None };
        let _ = to_json(raw, &view, &templates.of(exporter), &mut json);
        assert!(json.len() <= 2_000 + raw.len() * 400);
        let Ok(found) = scan(raw) else { continue };
        sampling.learn(exporter, &found, &templates.of(exporter));
        if let Scan::Sets(message) = found {
            let scope = Scope { exporter, family: message.family, domain: message.domain };
            for set in message.sets().flatten() {
                let _ = templates.learn(scope, &set, Duration::ZERO, |_| {});
            }
        }
    }
});
