//! Who sent the records of a block, in some bytes before its content: what a search for a sender reads of most blocks.
//!
//! A Bloom filter: it may say of a sender who is not there that he may be, never the other way round.
//!
//! ```text
//!  bits, 8 B to 2 KiB, a power of two │ crc32c of them, u32          nothing at all: everybody may be there
//! ```
//!
//! Each address is entered with its networks ([`LEVELS`]), so that a prefix can be asked for. Text is not entered: to
//! split messages into words would cost a fifth of what storing them costs, and the words of a block of syslog fill more
//! than a tenth of its room on disk.

use raven_model::prefix::{self, Prefix};
use raven_model::record::Frames;
use std::net::IpAddr;

/// Lengths of prefixes that are entered, longest first.
const LEVELS: [&[u8]; 2] = [&[32, 24, 16], &[128, 64, 48]];

/// Most bytes of bits.
const BYTES_MAX: usize = 2048;

/// Least bytes of bits.
const BYTES_MIN: usize = 8;

/// Most bytes of a filter.
pub(crate) const FILTER_MAX: usize = BYTES_MAX + CRC;

const CRC: usize = 4;

/// Bits for each entry at least: with four probes one in a hundred who is not there is taken for present.
const BITS_EACH: usize = 10;

/// Beyond so many entries in the largest filter it tells too little to be kept.
const ENTRIES_MAX: usize = BYTES_MAX * 8 / 4;

/// The filter of the block being packed. It is made in the largest size, where every smaller one lies in it: a probe in
/// half the bits is the same probe without its highest bit.
pub(crate) struct Filter {
    words: Box<[u64; BYTES_MAX / 8]>,
    entries: usize,
}

impl Filter {
    pub fn new() -> Self {
        Self { words: Box::new([0; BYTES_MAX / 8]), entries: 0 }
    }

    /// The filter of these frames, appended to `out`. Returns its length, 0 for none.
    pub fn write(&mut self, frames: &[u8], out: &mut Vec<u8>) -> usize {
        self.words.fill(0);
        self.entries = 0;
        let mut last = None;
        for frame in Frames::new(frames).map_while(Result::ok).filter(|frame| frame.received.is_record()) {
            let addr = frame.received.source.ip();
            if last != Some(addr) {
                last = Some(addr);
                self.enter(addr);
            }
        }
        if self.entries == 0 || self.entries > ENTRIES_MAX {
            return 0;
        }
        let start = out.len();
        let bytes = (self.entries * BITS_EACH / 8).next_power_of_two().clamp(BYTES_MIN, BYTES_MAX);
        for n in 0..bytes / 8 {
            let folded = self.words.iter().skip(n).step_by(bytes / 8).fold(0, |all, word| all | word);
            out.extend_from_slice(&folded.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.len() - start
    }

    fn enter(&mut self, addr: IpAddr) {
        for len in levels(addr) {
            let mut new = false;
            for bit in probes(prefix::cut(addr, *len), *len) {
                let (word, mask) = (&mut self.words[bit as usize / 64 % (BYTES_MAX / 8)], 1_u64 << (bit % 64));
                new |= *word & mask == 0;
                *word |= mask;
            }
            // Who was there before was entered with its networks.
            if !new {
                return;
            }
            self.entries += 1;
        }
    }
}

const fn levels(addr: IpAddr) -> &'static [u8] {
    LEVELS[addr.is_ipv6() as usize]
}

/// Places of an entry among infinitely many bits; a filter of 2^n bits has it at the lowest n bits of each.
fn probes(network: IpAddr, len: u8) -> impl Iterator<Item = u32> {
    let (high, low) = match network {
        IpAddr::V4(v4) => (0, u64::from(v4.to_bits())),
        IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, v6.to_bits() as u64),
    };
    let hash = mix(mix(high ^ u64::from(len)) ^ low);
    let (start, step) = (hash as u32, (hash >> 32) as u32 | 1);
    (0..4_u32).map(move |n| start.wrapping_add(n.wrapping_mul(step)))
}

/// A finalizer with full avalanche (Stafford's variant 13).
const fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// True when the bytes are what was written.
pub(crate) fn is_sound(filter: &[u8]) -> bool {
    filter.is_empty()
        || filter.split_last_chunk::<CRC>().is_some_and(|(bits, crc)| {
            bits.len().is_power_of_two()
                && (BYTES_MIN..=BYTES_MAX).contains(&bits.len())
                && crc32c::crc32c(bits) == u32::from_le_bytes(*crc)
        })
}

/// False when none of the block's records came from there. One that is damaged, or not there, says nothing.
pub(crate) fn may_hold(filter: &[u8], wanted: &Prefix) -> bool {
    let Some(level) = levels(wanted.addr()).iter().find(|level| **level <= wanted.len()) else { return true };
    if filter.is_empty() || !is_sound(filter) {
        return true;
    }
    let bits = &filter[..filter.len() - CRC];
    let mask = bits.len() as u32 * 8 - 1;
    probes(prefix::cut(wanted.addr(), *level), *level).all(|bit| {
        let bit = (bit & mask) as usize;
        bits[bit / 8] >> (bit % 8) & 1 == 1
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::record::{FRAME_MAX, Received, write_frame};
    use raven_model::units::UnixNanos;
    use std::net::Ipv4Addr;

    fn filter(sources: &[IpAddr]) -> Vec<u8> {
        let (mut frames, mut out) = (vec![0; sources.len() * 64 + FRAME_MAX], Vec::new());
        let mut len = 0;
        for source in sources {
            let received = Received::new((*source, 514).into(), 1, UnixNanos(1));
            len += write_frame(&mut frames[len..], &received, b"x").unwrap();
        }
        Filter::new().write(&frames[..len], &mut out);
        out
    }

    fn addresses(first: u32, n: u32) -> Vec<IpAddr> {
        (first..first + n).map(|n| IpAddr::V4(Ipv4Addr::from_bits(n))).collect()
    }

    #[test]
    fn whoever_is_there_is_found_also_by_his_networks() {
        let v6: IpAddr = "2001:db8:1:2::7".parse().unwrap();
        for n in [1, 3, 100, 1500] {
            let sources = [addresses(0x0a14_0000, n), vec![v6]].concat();
            let filter = filter(&sources);
            assert!(is_sound(&filter) && filter.len() <= FILTER_MAX);
            assert!(sources.iter().all(|source| may_hold(&filter, &Prefix::from(*source))), "{n}");
            for prefix in ["10.20.0.0/16", "10.20.0.0/17", "10.0.0.0/8", "2001:db8:1:2::/64", "2001:db8::/32"] {
                assert!(may_hold(&filter, &prefix.parse().unwrap()), "{prefix} of {n}");
            }
        }
    }

    #[test]
    fn hardly_anybody_else_is() {
        for n in [1, 20, 300, 1500] {
            let filter = filter(&addresses(0x0a14_0000, n));
            let others = addresses(0xc000_0000, 10_000);
            let taken = others.iter().filter(|other| may_hold(&filter, &Prefix::from(**other))).count();
            assert!(taken < 300, "{taken} of 10000 beside {n}");
        }
        assert!(!may_hold(&filter(&addresses(7, 9)), &"10.0.0.0/16".parse().unwrap()));
    }

    #[test]
    fn its_size_follows_the_number_of_senders() {
        let len = |n| filter(&addresses(0x0a14_0000, n)).len();
        assert_eq!((len(0), len(1), len(1500), len(20_000)), (0, 12, 2052, 0));
    }

    #[test]
    fn a_damaged_one_hides_nothing() {
        let mut filter = filter(&addresses(7, 9));
        let absent = Prefix::from(IpAddr::from([203, 0, 113, 1]));
        assert!(!may_hold(&filter, &absent));
        filter[0] ^= 1;
        assert!(!is_sound(&filter) && may_hold(&filter, &absent));
        assert!(may_hold(&[], &absent) && may_hold(&[1, 2, 3], &absent));
    }
}
