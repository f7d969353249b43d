//! The mark of a flow: its addresses and its source port.
//!
//! Every decoder of every version gives those back, of sFlow too, where they lie in the sampled packet. Of 62 bits, 39
//! are the number of the record (from 0, dense, per sender), 10 the sender, 12 a check of the run's name:
//!
//! ```text
//! source       10.20.HH.HH       or 2001:db8:a14::HHHH        16 bits of the number, mixed
//! source port  32768 + P                                      15 bits
//! destination  OO.xx.xx.xx       or 2001:db8:d::OOxx:xxxx      6 bits choose OO of 64 first octets,
//!                                                              2 bits, run and sender are xx.xx.xx
//! ```
//!
//! The number is mixed first (a bijection), so that hosts, ports and destinations vary as a venue's do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bits of the number.
const BITS: u32 = 39;
const MASK: u64 = (1 << BITS) - 1;
/// Odd, so that multiplying with it can be undone.
const FACTOR: u64 = 0x5d_1b3a_8e25 & MASK;
const INVERSE: u64 = inverse(FACTOR);
const SHIFT: u32 = 20; // at least half of BITS: then x ^= x >> SHIFT undoes itself

/// First octets of destinations: those of clouds, of content networks and of one big shop.
const OCTETS: [u8; 64] = [
    3, 4, 8, 13, 15, 16, 17, 18, 20, 23, 31, 34, 35, 37, 40, 44, 45, 46, 50, 51, 52, 54, 62, 63, 64, 65, 66, 67, 68,
    69, 70, 72, 74, 76, 77, 78, 80, 81, 82, 84, 85, 87, 88, 89, 91, 93, 94, 95, 99, 104, 108, 109, 129, 142, 151, 157,
    162, 173, 178, 185, 188, 199, 204, 216,
];

/// Which record of which sender of which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowMark {
    /// [`FlowMark::tag_of`] the run.
    pub tag: u16,
    /// Number of the sender.
    pub sender: u32,
    /// Number of the record.
    pub n: u64,
}

/// Addresses and source port of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoints {
    /// Last two octets of the source.
    pub host: u16,
    /// Source port.
    pub port: u16,
    /// Destination.
    pub to: [u8; 4],
}

impl FlowMark {
    /// 12 bits of a hash (FNV-1a) of the run's name.
    pub fn tag_of(run: &str) -> u16 {
        let hash = run.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        ((hash >> 20) ^ (hash & 0xfff)) as u16 & 0xfff
    }

    /// As addresses and port.
    pub fn endpoints(self) -> Endpoints {
        let mixed = mix(self.n);
        let who = (u32::from(self.tag) << 10) | (self.sender & 0x3ff);
        let spread = (mixed >> 31) as u32;
        // The spread also turns the bits of run and sender around, or destinations would differ in their first octet only.
        let low = ((spread & 3) << 22) | (who ^ turn(spread));
        let [_, a, b, c] = low.to_be_bytes();
        let to = [OCTETS[(spread >> 2) as usize], a, b, c];
        Endpoints { host: mixed as u16, port: 0x8000 | (mixed >> 16) as u16, to }
    }

    /// Reads it back; `None` when these are no addresses of ours.
    pub fn read(source: IpAddr, port: u16, destination: IpAddr) -> Option<Self> {
        let ends = Endpoints::read(source, port, destination)?;
        let [first, a, b, c] = ends.to;
        let choice = OCTETS.iter().position(|octet| *octet == first)? as u32;
        let low = u32::from_be_bytes([0, a, b, c]);
        let spread = (choice << 2) | (low >> 22);
        let who = low & 0x3f_ffff ^ turn(spread);
        let mixed = (u64::from(spread) << 31) | (u64::from(ends.port & 0x7fff) << 16) | u64::from(ends.host);
        Some(Self { tag: (who >> 10) as u16, sender: who & 0x3ff, n: unmix(mixed) })
    }
}

impl Endpoints {
    /// Over IPv4.
    pub fn v4(&self) -> ([u8; 4], [u8; 4]) {
        let [a, b] = self.host.to_be_bytes();
        ([10, 20, a, b], self.to)
    }

    /// Over IPv6.
    pub fn v6(&self) -> ([u8; 16], [u8; 16]) {
        let to = u32::from_be_bytes(self.to);
        (
            Ipv6Addr::new(0x2001, 0xdb8, 0xa14, 0, 0, 0, 0, self.host).octets(),
            Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, (to >> 16) as u16, to as u16).octets(),
        )
    }

    fn read(source: IpAddr, port: u16, destination: IpAddr) -> Option<Self> {
        let (host, to) = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => of_v4(source, destination)?,
            (IpAddr::V6(source), IpAddr::V6(destination)) => of_v6(source, destination)?,
            _ => return None,
        };
        (port >= 0x8000).then_some(Self { host, port, to })
    }
}

fn of_v4(source: Ipv4Addr, destination: Ipv4Addr) -> Option<(u16, [u8; 4])> {
    let [10, 20, a, b] = source.octets() else { return None };
    Some((u16::from_be_bytes([a, b]), destination.octets()))
}

fn of_v6(source: Ipv6Addr, destination: Ipv6Addr) -> Option<(u16, [u8; 4])> {
    let [0x2001, 0xdb8, 0xa14, 0, 0, 0, 0, host] = source.segments() else { return None };
    let [0x2001, 0xdb8, 0xd, 0, 0, 0, high, low] = destination.segments() else { return None };
    Some((host, ((u32::from(high) << 16) | u32::from(low)).to_be_bytes()))
}

/// 22 bits that look like nothing, for each spread.
const fn turn(spread: u32) -> u32 {
    spread.wrapping_mul(0x9e37_79b1) >> 10
}

const fn mix(n: u64) -> u64 {
    let x = (n & MASK).wrapping_mul(FACTOR) & MASK;
    x ^ (x >> SHIFT)
}

const fn unmix(mixed: u64) -> u64 {
    (mixed ^ (mixed >> SHIFT)).wrapping_mul(INVERSE) & MASK
}

/// Newton's way: each step doubles the bits that are right.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 6 {
        x = x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn addresses_look_like_a_venue_and_never_repeat() {
        let ends: Vec<_> = (0..100_000).map(|n| FlowMark { tag: 7, sender: 0, n }.endpoints()).collect();
        let different = |f: fn(&Endpoints) -> u64| ends.iter().map(f).collect::<HashSet<_>>().len();
        assert_eq!(ends.iter().map(|e| (e.host, e.port, e.to)).collect::<HashSet<_>>().len(), 100_000);
        assert!(different(|e| u64::from(e.host)) > 40_000 && different(|e| u64::from(e.port)) > 25_000);
        assert_eq!(different(|e| u64::from(u32::from_be_bytes(e.to))), 256);
        assert_eq!(different(|e| u64::from(e.to[0])), 64);
    }

    #[test]
    fn other_addresses_hold_no_mark() {
        let read = |source: &str, port, to: &str| FlowMark::read(source.parse().ok()?, port, to.parse().ok()?);
        assert_eq!(read("10.21.0.1", 40_000, "8.8.8.8"), None);
        assert_eq!(read("10.20.0.1", 53, "8.8.8.8"), None);
        assert_eq!(read("10.20.0.1", 40_000, "192.0.2.1"), None);
        assert_eq!(read("10.20.0.1", 40_000, "2001:db8::1"), None);
    }

    proptest! {
        #[test]
        fn a_mark_comes_back_from_both_families(tag in 0_u16..0x1000, sender in 0_u32..1000, n in 0..=MASK) {
            let mark = FlowMark { tag, sender, n };
            let ends = mark.endpoints();
            let ((a, b), (c, d)) = (ends.v4(), ends.v6());
            prop_assert_eq!(FlowMark::read(a.into(), ends.port, b.into()), Some(mark));
            prop_assert_eq!(FlowMark::read(c.into(), ends.port, d.into()), Some(mark));
        }
    }
}
