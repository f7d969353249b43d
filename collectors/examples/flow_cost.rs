//! What the look at flow datagrams costs: `cargo run --release -p raven-collectors --example flow_cost`.
//!
//! NetFlow 9, 24 records of 7 fields in a datagram, batches of 256 datagrams, from 1, 64 and 4,000 exporters in turn;
//! each with a template that was sent once.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use raven_collectors::flow::inspect::FlowInspect;
use raven_jail::receive::{Arrived, Contexts, Inspect};
use raven_model::config::CollectFlow;
use raven_model::units::UnixNanos;
use std::net::SocketAddr;
use std::time::Instant;

const RECORDS: usize = 24;
const BATCH: usize = 256;
const BATCHES: usize = 4_000;

fn datagram(sequence: u32, id: u16, body: &[u8]) -> Vec<u8> {
    let head = [1000, 1_700_000_000, sequence, 7].map(u32::to_be_bytes).concat();
    let set = [id, body.len() as u16 + 4].map(u16::to_be_bytes).concat();
    [&[0, 9, 0, 1][..], &head, &set, body].concat()
}

fn main() {
    let fields: [(u16, u16); 7] = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 4), (2, 4)];
    let size: usize = fields.iter().map(|(_, len)| usize::from(*len)).sum();
    let words = fields.iter().flat_map(|(id, len)| [*id, *len]);
    let template: Vec<u8> = [256, 7].into_iter().chain(words).flat_map(u16::to_be_bytes).collect();
    for exporters in [1, 64, 4_000_usize] {
        let mut inspect = FlowInspect::new(&CollectFlow::default());
        let mut contexts = Contexts::default();
        let source = |n: usize| SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 2055));
        let look = |inspect: &mut FlowInspect, n: usize, raw: &[u8], contexts: &mut Contexts| {
            inspect.inspect(&Arrived { source: source(n), listener: 1, wall: UnixNanos(0), raw }, contexts)
        };
        inspect.begin();
        for n in 0..exporters {
            look(&mut inspect, n, &datagram(0, 0, &template), &mut contexts);
        }
        let mut raw = datagram(1, 256, &vec![7; RECORDS * size]);
        let begun = Instant::now();
        for batch in 0..BATCHES {
            contexts.clear();
            inspect.begin();
            for n in 0..BATCH {
                let n = batch * BATCH + n;
                raw[12..16].copy_from_slice(&(1 + (n / exporters) as u32).to_be_bytes());
                look(&mut inspect, n % exporters, &raw, &mut contexts);
            }
        }
        let each = begun.elapsed().as_nanos() as f64 / (BATCHES * BATCH) as f64;
        println!("{exporters:5} exporters: {each:6.1} ns per datagram, {:5.2} ns per record", each / RECORDS as f64);
    }
}
