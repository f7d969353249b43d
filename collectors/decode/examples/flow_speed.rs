//! How fast typed values of NetFlow v9 records are read, beside the crate netflow_parser, on the same datagrams.
//!
//! `cargo run --release -p raven-decode --example flow_speed`. Templates are known to both beforehand; each reads every
//! field of every record and looks at its value. Rounds take turns, the best of each counts.

#![allow(clippy::unwrap_used)]

use netflow_parser::variable_versions::v9::FlowSetBody;
use netflow_parser::{NetflowPacket, NetflowParser};
use raven_decode::flow::decode::{Item, NoTemplates, TemplateSource, walk};
use raven_decode::flow::fields::Flow;
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::show::{View, to_json};
use raven_decode::flow::templates::{Exporter, Scope, Templates};
use raven_decode::flow::value::Value;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What a Cisco router sends by default: addresses, next hop, interfaces, counters, times, ports, AS, masks.
const FIELDS: &[(u16, u16)] = &[
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (61, 1),
    (60, 1),
];
const RECORDS: u16 = 24;
const ROUNDS: usize = 15;
const DATAGRAMS: usize = 4_000;

fn header() -> Vec<u8> {
    [&[0, 9, 0, 1][..], &[0, 1, 0, 0], &[0x65, 0, 0, 0], &[0, 0, 0, 1], &[0, 0, 0, 7]].concat()
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat()
}

fn template() -> Vec<u8> {
    let head = [256, FIELDS.len() as u16].map(u16::to_be_bytes).concat();
    let fields = FIELDS.iter().flat_map(|(id, length)| [*id, *length].map(u16::to_be_bytes).concat());
    [header(), set(0, &head.into_iter().chain(fields).collect::<Vec<u8>>())].concat()
}

fn data() -> Vec<u8> {
    let length: u16 = FIELDS.iter().map(|(_, length)| length).sum();
    let bytes: Vec<u8> = (0..u32::from(length) * u32::from(RECORDS)).map(|n| (n * 31 % 251) as u8).collect();
    [header(), set(256, &bytes)].concat()
}

/// One exporter's templates, learned from its datagram.
fn learned(raw: &[u8], exporter: Exporter) -> Templates {
    let mut templates = Templates::default();
    if let Ok(Scan::Sets(message)) = scan(raw) {
        let scope = Scope { exporter, family: message.family, domain: message.domain };
        for set in message.sets().flatten() {
            templates.learn(scope, &set, Duration::ZERO, |_| {}).unwrap();
        }
    }
    templates
}

/// Every value of every record; the sum of the numbers shows that they were read.
fn values(raw: &[u8], templates: &dyn TemplateSource) -> (usize, u64) {
    let (mut records, mut sum) = (0, 0_u64);
    walk(&scan(raw).unwrap(), templates, &mut |item| {
        if let Item::Set { template, body, .. } = item {
            for record in template.records(body) {
                records += 1;
                for field in record.fields() {
                    match black_box(field.value()) {
                        Value::Unsigned(n) => sum = sum.wrapping_add(n),
                        other => drop(black_box(other)),
                    }
                }
            }
        }
    });
    (records, sum)
}

fn theirs(raw: &[u8], parser: &mut NetflowParser) -> usize {
    let mut records = 0;
    for packet in parser.parse_bytes(raw).packets {
        let NetflowPacket::V9(v9) = packet else { continue };
        for set in &v9.flowsets {
            let FlowSetBody::Data(data) = &set.body else { continue };
            for record in &data.fields {
                records += 1;
                for (field, value) in record {
                    black_box((field, value));
                }
            }
        }
    }
    records
}

/// Nanoseconds per record.
fn time(best: &mut f64, mut read: impl FnMut() -> usize) {
    let start = Instant::now();
    let records: usize = (0..DATAGRAMS).map(|_| read()).sum();
    assert_eq!(records, DATAGRAMS * usize::from(RECORDS), "every record was read");
    *best = best.min(start.elapsed().as_nanos() as f64 / records as f64);
}

fn main() {
    let exporter = Exporter::new(IpAddr::from([192, 0, 2, 1]));
    let (template, data) = (template(), data());
    let templates = learned(&template, exporter);
    let mut parser = NetflowParser::builder().build().unwrap();
    let _ = parser.parse_bytes(&template);
    let (ours, source) = (values, templates.of(exporter));
    assert_eq!(values(&data, &NoTemplates).0, 0);
    let view = View { exporter: Some(exporter), ..View::default() };
    let mut json = String::new();
    let [mut walk_ns, mut flow_ns, mut json_ns, mut their_ns] = [f64::INFINITY; 4];
    for _ in 0..ROUNDS {
        time(&mut walk_ns, || black_box(ours(black_box(&data), &source)).0);
        time(&mut their_ns, || theirs(black_box(&data), &mut parser));
        time(&mut flow_ns, || flows(black_box(&data), &source));
        time(&mut json_ns, || {
            json.clear();
            to_json(black_box(&data), &view, &source, &mut json).unwrap().flows as usize
        });
    }
    println!("records of {} fields, {} in a datagram of {} bytes", FIELDS.len(), RECORDS, data.len());
    println!("all typed values   {walk_ns:8.1} ns/record  {:6.2} M records/s", 1_000.0 / walk_ns);
    println!("Flow::read         {flow_ns:8.1} ns/record  {:6.2} M records/s", 1_000.0 / flow_ns);
    println!("to_json            {json_ns:8.1} ns/record  {:6.2} M records/s", 1_000.0 / json_ns);
    println!("netflow_parser     {their_ns:8.1} ns/record  {:6.2} M records/s", 1_000.0 / their_ns);
    println!("ratio, netflow_parser to all typed values: {:.1}", their_ns / walk_ns);
}

fn flows(raw: &[u8], templates: &dyn TemplateSource) -> usize {
    let found = scan(raw).unwrap();
    let mut records = 0;
    walk(&found, templates, &mut |item| {
        if let Item::Set { template, body, .. } = item {
            for record in template.records(body) {
                black_box(Flow::read(&record, found.header()));
                records += 1;
            }
        }
    });
    records
}
