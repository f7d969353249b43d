//! One agent: samples in datagrams, and counters between them.

use super::SflowArgs;
use super::packet::{self, SAMPLED};
use crate::load::args::Plan;
use crate::load::bytes::Put as _;
use crate::load::drive::{Sender, Tally};
use crate::load::flow::{Flow, FlowMark, Venue};
use crate::load::udp::Udp;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// Bytes of a header.
const HEADER: usize = 28;
/// Bytes of a flow sample with its two records.
const SAMPLE: usize = 8 + 32 + 8 + 16 + SAMPLED + 8 + 16;
/// Most samples in a datagram of 1400 bytes.
pub const SAMPLES_MAX: u16 = ((1400 - HEADER) / SAMPLE) as u16;
/// Data source of the flow samples: an interface (type 0).
const SOURCE: u32 = 1;
/// Interfaces whose counters go into a datagram.
const INTERFACES: u32 = 8;

/// An agent.
pub struct Agent {
    id: u32,
    tag: u16,
    address: Ipv4Addr,
    per_datagram: u64,
    sampling: u32,
    counters_every: u64,
    udp: Udp,
    started: Instant,
    sent: u64,
    bytes: u64,
    /// Of flow samples.
    datagrams: u64,
    /// Number of the last datagram.
    sequence: u32,
    /// How often counters were sent: their number, too.
    counters: u32,
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl Agent {
    /// Connects.
    pub fn open(id: u32, plan: &Plan, args: &SflowArgs) -> io::Result<Self> {
        let udp = Udp::open(plan, id, args.gso)?;
        let address = match udp.socket().local_addr()?.ip() {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::new(10, 20, 0, 1),
        };
        Ok(Self {
            id,
            tag: FlowMark::tag_of(&plan.run),
            address,
            per_datagram: u64::from(args.samples_per_datagram),
            sampling: args.sampling,
            counters_every: args.counters_every,
            udp,
            started: Instant::now(),
            sent: 0,
            bytes: 0,
            datagrams: 0,
            sequence: 0,
            counters: 0,
            buffer: Vec::new(),
            ends: Vec::new(),
        })
    }

    fn header(&mut self, samples: u32) {
        self.sequence = self.sequence.wrapping_add(1);
        let uptime = 3_600_000 + self.started.elapsed().as_millis() as u32;
        self.buffer.u32(5);
        self.buffer.u32(1); // the agent's address is IPv4
        self.buffer.extend_from_slice(&self.address.octets());
        for word in [self.id, self.sequence, uptime, samples] {
            self.buffer.u32(word);
        }
    }

    fn end(&mut self, start: usize) {
        self.bytes += (self.buffer.len() - start) as u64;
        self.ends.push(self.buffer.len());
    }

    fn write_flows(&mut self, count: u64, venue: &mut Venue) {
        let start = self.buffer.len();
        self.header(count as u32);
        for n in self.sent..self.sent + count {
            let flow = venue.flow(FlowMark { tag: self.tag, sender: self.id, n });
            sample(&mut self.buffer, &flow, self.sampling);
        }
        self.sent += count;
        self.datagrams += 1;
        self.end(start);
    }

    fn write_counters(&mut self) {
        let start = self.buffer.len();
        self.counters = self.counters.wrapping_add(1);
        self.header(INTERFACES);
        for interface in 1..=INTERFACES {
            counters(&mut self.buffer, interface, self.counters);
        }
        self.end(start);
    }
}

impl Sender for Agent {
    type Shared = Venue;

    fn unit(&self) -> u64 {
        self.per_datagram
    }

    fn most(&self) -> u64 {
        self.per_datagram * self.udp.batch() as u64
    }

    fn send(&mut self, count: u64, venue: &mut Venue) -> io::Result<()> {
        self.buffer.clear();
        self.ends.clear();
        let mut left = count;
        while left > 0 {
            let some = left.min(self.per_datagram);
            self.write_flows(some, venue);
            left -= some;
            if self.counters_every > 0 && self.datagrams.is_multiple_of(self.counters_every) {
                self.write_counters();
            }
        }
        self.udp.send(&self.buffer, &self.ends)
    }

    fn tally(&self) -> Tally {
        Tally { sent: self.sent, bytes: self.bytes, refused: self.udp.refused, answers: None }
    }
}

/// A flow sample (enterprise 0, format 1) with the packet and its VLANs.
fn sample(out: &mut Vec<u8>, flow: &Flow, sampling: u32) {
    let number = flow.n as u32 + 1;
    let frame = 82 + (flow.bytes as u32 ^ flow.began) % 1436;
    let pool = number.wrapping_mul(sampling);
    let (input, output) = (u32::from(flow.input), u32::from(flow.output));
    for word in [1, SAMPLE as u32 - 8, number, SOURCE, sampling, pool, 0, input, output, 2] {
        out.u32(word);
    }
    // Record 1: a raw header of Ethernet (1), 4 bytes of checksum stripped.
    for word in [1, 16 + SAMPLED as u32, 1, frame, 4, SAMPLED as u32] {
        out.u32(word);
    }
    packet::write(out, flow, frame);
    // Record 1001: VLAN and priority, before and after.
    for word in [1001, 16, 20, 0, 1, 0] {
        out.u32(word);
    }
}

/// A counter sample (format 2) with the generic counters of an interface (record 1).
fn counters(out: &mut Vec<u8>, interface: u32, number: u32) {
    let busy = number.wrapping_mul(interface).wrapping_mul(977);
    for word in [2, 8 + 4 + 8 + 88, number, interface, 1, 1, 88] {
        out.u32(word);
    }
    for word in [interface, 6] {
        out.u32(word); // index, type: Ethernet
    }
    out.u64(1_000_000_000); // speed
    out.u32(1); // full duplex
    out.u32(3); // up, and meant to be
    out.u64(u64::from(busy) * 700); // bytes in
    for word in [busy, busy / 90, busy / 300, 0, 0, 0] {
        out.u32(word); // packets in: unicast, multicast, broadcast; discarded, broken, unknown
    }
    out.u64(u64::from(busy) * 1100); // bytes out
    for word in [busy, busy / 80, busy / 250, 0, 0, 0] {
        out.u32(word); // packets out: unicast, multicast, broadcast; discarded, broken; promiscuous
    }
}
