//! What a venue's guests do in the network, as flows.

use super::mark::{Endpoints, FlowMark};
use crate::load::random::Random;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Destination port, protocol, and how large such a flow is (a power of two of packets).
const SERVICES: [(u16, u8, u32); 16] = [
    (443, TCP, 6),
    (443, TCP, 9),
    (443, TCP, 4),
    (443, UDP, 8),
    (443, UDP, 6),
    (443, UDP, 11),
    (53, UDP, 1),
    (53, UDP, 1),
    (80, TCP, 5),
    (123, UDP, 1),
    (5223, TCP, 4),
    (993, TCP, 6),
    (3478, UDP, 10),
    (8801, UDP, 12),
    (1935, TCP, 12),
    (22, TCP, 7),
];

/// A flow.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Its mark.
    pub ends: Endpoints,
    /// Its number, once more.
    pub n: u64,
    /// Destination port.
    pub port: u16,
    /// TCP or UDP.
    pub proto: u8,
    /// All flags seen.
    pub tcp_flags: u8,
    /// Type of service.
    pub tos: u8,
    /// Packets.
    pub packets: u32,
    /// Bytes.
    pub bytes: u64,
    /// How long ago the first packet came, ms.
    pub began: u32,
    /// How long ago the last packet came, ms.
    pub ended: u32,
    /// Interfaces.
    pub input: u16,
    /// Interfaces.
    pub output: u16,
}

/// Makes flows.
#[derive(Debug, Clone)]
pub struct Venue {
    random: Random,
}

impl Venue {
    /// Another one for each `seed`, the same in every run.
    pub const fn new(seed: u64) -> Self {
        Self { random: Random::new(seed) }
    }

    /// The flow with this mark.
    pub fn flow(&mut self, mark: FlowMark) -> Flow {
        let (port, proto, size) = self.random.one_of(&SERVICES);
        let bits = self.random.next();
        let packets = 1 + (bits as u32 & ((1 << size) - 1));
        let bytes_each = 60 + u64::from((bits >> 12) as u16) % if size > 3 { 1380 } else { 120 };
        let ended = (bits >> 20) as u32 % 15_000;
        Flow {
            ends: mark.endpoints(),
            n: mark.n,
            port,
            proto,
            tcp_flags: if proto == TCP { [0x1b, 0x1f, 0x13, 0x02][(bits >> 34) as usize & 3] } else { 0 },
            tos: [0, 0, 0, 0xb8, 0x88, 0, 0, 0][(bits >> 36) as usize & 7],
            packets,
            bytes: u64::from(packets) * bytes_each,
            began: ended + if packets > 1 { (bits >> 28) as u32 % 45_000 } else { 0 },
            ended,
            input: 1 + (bits >> 40) as u16 % 48,
            output: 513 + (bits >> 46) as u16 % 2,
        }
    }
}
