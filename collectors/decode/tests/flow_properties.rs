//! Whatever arrives: no panic, output within bounds, and what is sound next to it is still read.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use raven_decode::flow::decode::{Item, TemplateSource, walk};
use raven_decode::flow::fields::Flow;
use raven_decode::flow::sampling::Sampling;
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::show::{Shown, View, to_json};
use raven_decode::flow::templates::{Exporter, Scope, Templates};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use support::flow::{Case, Datagram, cases};

/// A record of one byte has some 250 bytes of output.
const GROWTH: usize = 400;
const HEAD: usize = 2_000;

fn exporter(addr: IpAddr) -> Exporter {
    Exporter::new(addr)
}

/// Everything that is done to a datagram.
struct Receiver {
    templates: Templates,
    sampling: Sampling,
    json: String,
}

impl Receiver {
    fn new() -> Self {
        Self { templates: Templates::default(), sampling: Sampling::default(), json: String::new() }
    }

    fn show(&mut self, from: IpAddr, raw: &[u8]) -> Shown {
        let exporter = exporter(from);
        self.json.clear();
        let view = View { exporter: Some(exporter), sampling: Some(&self.sampling), configured: Some(10) };
        let shown = to_json(raw, &view, &self.templates.of(exporter), &mut self.json).unwrap_or_default();
        assert!(self.json.len() <= HEAD + raw.len() * GROWTH, "{} bytes from {}", self.json.len(), raw.len());
        shown
    }

    fn learn(&mut self, from: IpAddr, raw: &[u8]) {
        let exporter = exporter(from);
        let Ok(found) = scan(raw) else { return };
        self.sampling.learn(exporter, &found, &self.templates.of(exporter));
        if let Scan::Sets(message) = found {
            let scope = Scope { exporter, family: message.family, domain: message.domain };
            for set in message.sets().flatten() {
                let _ = self.templates.learn(scope, &set, Duration::ZERO, |_| {});
            }
        }
    }

    fn take(&mut self, datagram: &Datagram) -> Shown {
        let shown = self.show(datagram.from, &datagram.raw);
        self.learn(datagram.from, &datagram.raw);
        shown
    }
}

/// All templates of a case known, so that whatever is left of its datagrams has records.
fn receiver_of(case: &Case) -> Receiver {
    let mut receiver = Receiver::new();
    case.datagrams.iter().for_each(|datagram| receiver.learn(datagram.from, &datagram.raw));
    receiver
}

/// Reads every value, without the cost of showing it.
fn read(raw: &[u8], templates: &dyn TemplateSource) {
    let Ok(found) = scan(raw) else { return };
    let mut records = 0;
    walk(&found, templates, &mut |item| match item {
        Item::Set { template, body, .. } => {
            for record in template.records(body) {
                let _ = Flow::read(&record, found.header());
                records +=
                    record.fields().filter(|field| !matches!(field.value().as_unsigned(), Some(0))).count().max(1);
            }
        }
        Item::Sample(sample) => records += sample.records().count(),
        _ => {}
    });
    assert!(records <= raw.len(), "each record has a byte");
}

/// The first datagrams of each case: later ones are of the same kind.
const FIRST: usize = 6;

#[test]
fn every_datagram_of_the_corpus_can_be_cut_at_every_byte() {
    for case in cases() {
        let mut receiver = receiver_of(&case);
        for datagram in case.datagrams.iter().take(FIRST) {
            for end in 0..=datagram.raw.len() {
                let cut = &datagram.raw[..end];
                read(cut, &receiver.templates.of(exporter(datagram.from)));
                if end % 7 == 0 {
                    receiver.show(datagram.from, cut);
                }
            }
        }
    }
}

#[test]
fn every_datagram_of_the_corpus_survives_flipped_bits() {
    for case in cases() {
        let mut receiver = receiver_of(&case);
        for datagram in case.datagrams.iter().take(FIRST) {
            let mut raw = datagram.raw.clone();
            for at in 0..raw.len().min(160) {
                for bit in 0..8 {
                    raw[at] ^= 1 << bit;
                    read(&raw, &receiver.templates.of(exporter(datagram.from)));
                    if bit == at % 8 {
                        receiver.show(datagram.from, &raw);
                    }
                    raw[at] ^= 1 << bit;
                }
            }
        }
    }
}

/// As `mutate.py` of the corpus does: cut, flipped, fields set to lengths that hurt, spans doubled, removed or zeroed,
/// tails of others, noise, nothing, filled up.
fn mutate(next: &mut impl FnMut(usize) -> usize, raw: &[u8], pool: &[Datagram]) -> Vec<u8> {
    let mut raw = raw.to_vec();
    match next(9) {
        0 => raw.truncate(next(raw.len() + 1)),
        1 if !raw.is_empty() => {
            for _ in 0..=next(4) {
                let at = next(raw.len());
                raw[at] ^= 1 << next(8);
            }
        }
        2 | 3 if raw.len() >= 4 => {
            let at = next(raw.len() - 1) & !1;
            let old = u16::from_be_bytes([raw[at], raw[at + 1]]);
            let hurtful = [0, 1, 0x7fff, 0xffff, old.wrapping_add(1), old.wrapping_sub(1), old ^ 0x8000];
            raw[at..at + 2].copy_from_slice(&hurtful[next(hurtful.len())].to_be_bytes());
        }
        4 if raw.len() > 8 => {
            let at = next(raw.len());
            let end = (at + 1 + next(64)).min(raw.len());
            let span = raw[at..end].to_vec();
            match next(3) {
                0 => drop(raw.splice(at..at, span)),
                1 => drop(raw.drain(at..end)),
                _ => raw[at..end].fill(0),
            }
        }
        5 => {
            raw.truncate(next(raw.len() + 1));
            let other = &pool[next(pool.len())].raw;
            raw.extend_from_slice(other.get(next(16)..).unwrap_or_default());
        }
        6 => raw = (0..=next(1_499)).map(|_| next(256) as u8).collect(),
        7 => raw.truncate(if next(5) == 0 { 0 } else { 16 }),
        8 if next(20) == 0 => raw.resize(65_507, 0),
        _ => {}
    }
    raw.truncate(65_507);
    raw
}

#[test]
fn sound_datagrams_are_read_among_mutated_ones() {
    let count = if std::env::var_os("RAVEN_FULL").is_some() { 1_000_000 } else { 20_000 };
    let cases = cases();
    let pool: Vec<Datagram> = cases.iter().flat_map(|case| case.datagrams.iter().take(40).cloned()).collect();
    if pool.is_empty() {
        return;
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    // Mutants come from an exporter whose templates they spoil; the sound datagrams are of others.
    let hostile = IpAddr::from([198, 51, 100, 66]);
    let mut receiver = Receiver::new();
    let sound: Vec<(&Case, Vec<Shown>)> = cases
        .iter()
        .map(|case| (case, case.datagrams.iter().map(|datagram| receiver.take(datagram)).collect()))
        .collect();
    let mut receiver = Receiver::new();
    for n in 0..count {
        let base = next(pool.len());
        let raw = mutate(&mut next, &pool[base].raw, &pool);
        read(&raw, &receiver.templates.of(exporter(hostile)));
        if n % 8 == 0 {
            receiver.show(hostile, &raw);
        }
        receiver.learn(hostile, &raw);
        if n % 1_000 == 0 {
            let (case, expected) = &sound[next(sound.len())];
            let mut fresh = Receiver { json: String::new(), ..std::mem::replace(&mut receiver, Receiver::new()) };
            for (datagram, expected) in case.datagrams.iter().zip(expected).take(20) {
                assert_eq!(fresh.take(datagram).flows, expected.flows, "{} after {n} mutants", case.name);
            }
            receiver = fresh;
        }
    }
}

/// A message of IPFIX with these sets.
fn message(sets: &[(u16, &[u8])]) -> Vec<u8> {
    let sets: Vec<u8> = sets
        .iter()
        .flat_map(|(id, body)| [&id.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat())
        .collect();
    let head = [10, sets.len() as u16 + 16].map(u16::to_be_bytes).concat();
    [&head[..], &[0; 12], &sets].concat()
}

#[test]
fn hostile_datagrams_take_no_more_than_linear_time_and_room() {
    let fields = |length: u16| -> Vec<u8> {
        let head = [256_u16, 1_000].map(u16::to_be_bytes).concat();
        let fields = (1..=1_000_u16).flat_map(|id| [(id % 500).to_be_bytes(), length.to_be_bytes()].concat());
        head.into_iter().chain(fields).collect()
    };
    let lists = [256_u16, 1, 292, 0xffff].map(u16::to_be_bytes).concat();
    let nested: Vec<u8> = [255, 0xff, 0xff].into_iter().chain([3, 1, 0].repeat(20_000)).collect();
    let one_byte = [256_u16, 1, 342, 1].map(u16::to_be_bytes).concat();
    let many_templates: Vec<u8> =
        (256..7_000_u16).flat_map(|id| [id, 1, 8, 4].map(u16::to_be_bytes).concat()).collect();
    let datagrams = [
        message(&[(2, &fields(0)), (256, &vec![1; 60_000])]),
        message(&[(2, &fields(1)), (256, &vec![1; 60_000])]),
        message(&[(2, &fields(0xffff)), (256, &vec![0; 60_000])]),
        message(&[(2, &lists), (256, &nested)]),
        message(&[(2, &one_byte), (256, &vec![1; 64_000])]),
        message(&[(2, &many_templates), (256, &[1; 4_000])]),
        message(&vec![(300, &[1_u8][..]); 13_000]),
        [&[0, 0, 0, 5, 0, 0, 0, 0][..], &[0; 12], &[0xff; 4], &vec![0; 65_000]].concat(),
        [&[0, 0, 0, 5, 0, 0, 0, 0][..], &[0; 12], &[0xff; 4], &[0, 0, 0, 1, 0, 0, 0, 32].repeat(8_000)].concat(),
    ];
    let start = Instant::now();
    let mut receiver = Receiver::new();
    for raw in datagrams {
        for _ in 0..3 {
            receiver.take(&Datagram { from: support::flow::NOBODY, raw: raw.clone() });
        }
    }
    // A debug build takes some seconds; quadratic work would take minutes.
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read(version in 0_u8..12, raw in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut receiver = Receiver::new();
        receiver.take(&Datagram { from: support::flow::NOBODY, raw: raw.clone() });
        receiver.take(&Datagram { from: support::flow::NOBODY, raw: [&[0, version][..], &raw].concat() });
        receiver.take(&Datagram { from: support::flow::NOBODY, raw: [&[0, 0, 0, 5][..], &raw].concat() });
    }

    #[test]
    fn any_template_describes_any_data(
        fields in prop::collection::vec((prop_oneof![0_u16..530, 0x8000_u16..0x8210], prop_oneof![0_u16..20, Just(0xffff_u16)], any::<u8>()), 1..40),
        data in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut template = [256, fields.len() as u16].map(u16::to_be_bytes).concat();
        for (id, length, enterprise) in fields {
            template.extend([id, length].map(u16::to_be_bytes).concat());
            if id & 0x8000 != 0 {
                let enterprise = [29_305, 6_871, 5_951, 9][usize::from(enterprise % 4)];
                template.extend(u32::to_be_bytes(enterprise));
            }
        }
        let raw = message(&[(2, &template), (256, &data)]);
        let mut receiver = Receiver::new();
        receiver.take(&Datagram { from: support::flow::NOBODY, raw });
        let value: serde_json::Value = serde_json::from_str(&receiver.json).unwrap();
        prop_assert!(value["flows"].is_array());
    }
}
