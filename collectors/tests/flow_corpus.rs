//! Real captures through the collector: every datagram is kept as it came, and what stands in its batch lets it be
//! read as by a reader that has seen everything before.

#![allow(clippy::unwrap_used)]

#[path = "../decode/tests/support/mod.rs"]
mod corpus;
mod support;

use raven_decode::flow::sampling::Sampling;
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::show::{Shown, View, to_json};
use raven_decode::flow::templates::{Exporter, Scope, Templates};
use std::time::Duration;
use support::{Kept, Rig, read_batches};

/// Learns everything, in order; reads each datagram with what is known when it comes.
#[derive(Default)]
struct Direct {
    templates: Templates,
    sampling: Sampling,
}

impl Direct {
    fn show(&mut self, exporter: Exporter, raw: &[u8]) -> (String, Option<Shown>) {
        let scanned = scan(raw);
        if let Ok(scan) = &scanned {
            self.sampling.learn(exporter, scan, &self.templates.of(exporter));
        }
        let view = View { exporter: Some(exporter), sampling: Some(&self.sampling), configured: None };
        let mut out = String::new();
        let shown = to_json(raw, &view, &self.templates.of(exporter), &mut out).ok();
        if let Ok(Scan::Sets(message)) = scanned {
            let scope = Scope { exporter, family: message.family, domain: message.domain };
            for set in message.sets().flatten() {
                let _ = self.templates.learn(scope, &set, Duration::ZERO, |_| {});
            }
        }
        (out, shown)
    }
}

#[test]
fn captures_are_kept_and_read_by_what_stands_in_their_batch() {
    let (mut datagrams, mut flows) = (0, 0);
    for case in corpus::flow::cases() {
        for batch in [1, 5, usize::MAX] {
            let (mut rig, mut direct, mut expected) = (Rig::new(), Direct::default(), Vec::new());
            for (n, datagram) in case.datagrams.iter().enumerate() {
                rig.send_from((datagram.from, 2055).into(), &datagram.raw);
                expected.push(direct.show(Exporter::new(datagram.from), &datagram.raw));
                if (n + 1) % batch == 0 {
                    rig.batch();
                }
            }
            rig.batch();
            let kept = rig.batches.iter().flatten().filter_map(|kept| match kept {
                Kept::Record { raw, source } => Some((source.ip(), raw)),
                Kept::Context { .. } => None,
            });
            let sent: Vec<_> = case.datagrams.iter().map(|datagram| (datagram.from, &datagram.raw)).collect();
            assert_eq!(kept.collect::<Vec<_>>(), sent, "{}", case.name);
            let read = read_batches(&rig.batches);
            for (n, (read, expected)) in read.iter().zip(&expected).enumerate() {
                assert_eq!(read, expected, "{}: datagram {n} in batches of {batch}", case.name);
            }
            datagrams += read.len();
            flows += read.iter().filter_map(|(_, shown)| *shown).map(|shown| u64::from(shown.flows)).sum::<u64>();
            rig.report();
        }
    }
    println!("{datagrams} datagrams, {flows} flows");
}

#[test]
fn a_collector_that_is_replaced_at_any_datagram_loses_no_template() {
    for case in corpus::flow::cases().iter().filter(|case| case.datagrams.len() < 60) {
        let mut direct = Direct::default();
        let expected: Vec<_> = case.datagrams.iter().map(|d| direct.show(Exporter::new(d.from), &d.raw)).collect();
        for told in [true, false] {
            let mut rig = Rig::new();
            for datagram in &case.datagrams {
                rig.send_from((datagram.from, 2055).into(), &datagram.raw);
                rig.batch();
                if told {
                    rig.tell();
                }
                rig.restart();
            }
            // With the store's word each batch can be read by itself. Without it templates are in those before it;
            // what options of an unknown template say of sampling is not learned.
            let batches = if told { rig.batches.clone() } else { vec![rig.batches.concat()] };
            for (n, (read, expected)) in read_batches(&batches).iter().zip(&expected).enumerate() {
                assert_eq!(read.1, expected.1, "{}: datagram {n}, told: {told}", case.name);
                assert!(!told || read == expected, "{}: datagram {n}", case.name);
            }
        }
    }
}
