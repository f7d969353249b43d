//! Any bytes: no panic, bounded memory, and every datagram is kept. A few in a normal run, a million with
//! `RAVEN_FULL=1`.

#![allow(clippy::unwrap_used)]

mod support;

use raven_collectors::flow::inspect::FlowInspect;
use raven_jail::receive::{Arrived, CONTEXT_MAX, Contexts, Inspect, Verdict};
use raven_model::config::CollectFlow;
use raven_model::report::CollectorReport;
use raven_model::units::UnixNanos;
use std::collections::BTreeMap;
use std::time::Duration;
use support::Dice;
use support::wire::{ipfix, set, sflow, template, v5, v9, v9_sampler, v9_sampler_template};

fn seeds() -> Vec<Vec<u8>> {
    let fields = [(8, 4), (12, 4), (82, 0xffff), (1, 4)];
    vec![
        v9(1, 0, 0, &[set(0, &template(256, &fields[..2])), set(256, &[1; 32])]),
        v9(1, 1, 0, &[set(1, &v9_sampler_template(300)), set(300, &v9_sampler(1, 10)), set(256, &[1; 32])]),
        ipfix(1, 0, &[set(2, &template(256, &fields)), set(256, &[5; 60]), set(2, &[1, 0, 0, 0])]),
        ipfix(1, 3, &[set(256, &[3; 60]), set(2, &template(256, &fields[..1])), set(256, &[3; 60])]),
        v5(0, 4, 0, 3),
        sflow(1, 0, &[(1, 1), (2, 2)]),
        b"<13>text".to_vec(),
    ]
}

#[test]
fn mutated_datagrams_from_many_senders() {
    let count = if std::env::var_os("RAVEN_FULL").is_some() { 1_000_000 } else { 20_000 };
    let config = CollectFlow { templates: 500, templates_per_exporter: 50, ..CollectFlow::default() };
    let (mut inspect, mut contexts, mut dice) = (FlowInspect::new(&config), Contexts::default(), Dice(9));
    let (mut seeds, mut now) = (seeds(), Duration::ZERO);
    let mut snapshot = Vec::new();
    for n in 0..count {
        if n % 256 == 0 {
            contexts.clear();
            inspect.begin();
            now += Duration::from_millis(dice.below(3000));
            inspect.set_time(now);
        }
        let at = dice.below(seeds.len() as u64) as usize;
        let mut raw = seeds[at].clone();
        for _ in 0..dice.below(6) {
            match (dice.below(4), raw.len() as u64) {
                (_, 0) => {}
                (0, len) => raw.truncate(dice.below(len + 1) as usize),
                (1, len) => raw.extend_from_within(dice.below(len) as usize..),
                (_, len) => raw[dice.below(len) as usize] = dice.below(256) as u8,
            }
        }
        raw.truncate(4096);
        let source = ([10, 0, dice.below(20) as u8, dice.below(255) as u8], dice.below(9) as u16).into();
        let arrived = Arrived { source, listener: 1, wall: UnixNanos(n), raw: &raw };
        assert_eq!(inspect.inspect(&arrived, &mut contexts), Verdict::Keep);
        assert!(contexts.frames().len() <= CONTEXT_MAX);
        if n % 1000 == 0 {
            let mut report = CollectorReport::default();
            inspect.report(&mut report, &BTreeMap::new());
            assert!(report.exporters.len() <= 64 && report.inbox.len() <= 64);
            snapshot.extend((0..dice.below(50)).map(|_| dice.below(256) as u8));
            snapshot.truncate(1000);
            inspect.recall(&snapshot);
            inspect.configure(&CollectFlow { exporter_port: n % 3000 == 0, ..config.clone() });
        }
        if dice.below(100) == 0 && seeds.len() < 64 {
            seeds.push(raw);
        }
        assert!(inspect.templates().len() <= 500);
    }
}
