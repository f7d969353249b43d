//! Neighbour discovery (RFC 4861): the question that a machine asks before it takes an address (RFC 4862, 5.4.2). It has no sender, so
//! that no table changes by it, and whoever has the address says so to all.

use raven_model::diag::wire::Mac;
use std::net::Ipv6Addr;

const TYPE: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Nothing that a router forwarded (RFC 4861, 7.1).
const HOPS: u8 = 255;
/// Option: hardware address of the target.
const TARGET_MAC: u8 = 2;
const IP: usize = 14;
const ICMP: usize = IP + 40;
/// Options of a message that are looked at.
const OPTIONS: usize = 16;

/// Somebody says that an address is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// By which hardware address it can be reached.
    pub mac: Mac,
    /// The address.
    pub target: Ipv6Addr,
}

/// The question whether anybody has this address.
pub fn solicit(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = address.octets();
    // RFC 4291, 2.7.1; RFC 2464, 7.
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &address.octets()].concat();
    let sum = checksum(&Ipv6Addr::UNSPECIFIED, &group, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let ip = [0x60, 0, 0, 0, 0, message.len() as u8, ICMPV6, HOPS];
    [&[0x33, 0x33, 0xff, a, b, c][..], &mac.0, &TYPE, &ip, &[0; 16], &group.octets(), &message].concat()
}

/// Reads a frame without a VLAN; none: no advertisement, or one that does not count (RFC 4861, 7.1.2).
pub fn read(frame: &[u8]) -> Option<Advertisement> {
    if frame.get(12..14)? != TYPE || frame.get(IP)? >> 4 != 6 || frame.get(IP + 6..IP + 8)? != [ICMPV6, HOPS] {
        return None;
    }
    let len = usize::from(u16::from_be_bytes(frame.get(IP + 4..IP + 6)?.try_into().ok()?));
    let message = frame.get(ICMP..ICMP + len)?;
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    let (source, to) = (address(IP + 8)?, address(IP + 24)?);
    if message.get(..2)? != [ADVERTISEMENT, 0] || checksum(&source, &to, message) != 0 {
        return None;
    }
    let target = address(ICMP + 8)?;
    let sender = Mac(frame.get(6..12)?.try_into().ok()?);
    Some(Advertisement { mac: told(message.get(24..)?).unwrap_or(sender), target })
}

/// The hardware address among the options: `{ kind, length in units of 8 bytes, … }` (RFC 4861, 4.6).
fn told(mut options: &[u8]) -> Option<Mac> {
    for _ in 0..OPTIONS {
        let (kind, len) = (*options.first()?, usize::from(*options.get(1)?) * 8);
        let option = options.get(..len).filter(|option| !option.is_empty())?;
        if kind == TARGET_MAC {
            return Some(Mac(option.get(2..8)?.try_into().ok()?));
        }
        options = &options[len..];
    }
    None
}

/// RFC 4443, 2.3; 0 where the message has the right one.
fn checksum(source: &Ipv6Addr, to: &Ipv6Addr, message: &[u8]) -> u16 {
    let len = (message.len() as u32).to_be_bytes();
    let all = [&source.octets()[..], &to.octets(), &len, &[0, 0, 0, ICMPV6], message].concat();
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = all.chunks(2).map(pair).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEM: Mac = Mac([2, 0, 0, 0, 0, 9]);

    /// As a machine answers that has it.
    pub fn advertisement(target: Ipv6Addr, with_option: bool) -> Vec<u8> {
        let all = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let mut message = [&[ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets()].concat();
        if with_option {
            message.extend([TARGET_MAC, 1]);
            message.extend(THEM.0);
        }
        let sum = checksum(&target, &all, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let ip = [0x60, 0, 0, 0, 0, message.len() as u8, ICMPV6, HOPS];
        [&[0x33, 0x33, 0, 0, 0, 1][..], &THEM.0, &TYPE, &ip, &target.octets(), &all.octets(), &message].concat()
    }

    #[test]
    fn who_says_that_it_has_an_address_is_known_with_or_without_the_option() {
        let target: Ipv6Addr = "fe80::1".parse().unwrap();
        for with_option in [true, false] {
            assert_eq!(read(&advertisement(target, with_option)), Some(Advertisement { mac: THEM, target }));
        }
        let question = solicit(US, target);
        assert_eq!((read(&question), &question[..6]), (None, &[0x33, 0x33, 0xff, 0, 0, 1][..]));
        let message = &question[ICMP..];
        assert_eq!(checksum(&Ipv6Addr::UNSPECIFIED, &"ff02::1:ff00:1".parse().unwrap(), message), 0);
    }

    #[test]
    fn what_was_forwarded_or_changed_does_not_count() {
        let whole = advertisement("fe80::1".parse().unwrap(), true);
        let mut forwarded = whole.clone();
        forwarded[IP + 7] = 254;
        assert_eq!(read(&forwarded), None);
        for at in ICMP..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(read(&changed), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_end_it(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = (read(&bytes), told(&bytes));
        }

        #[test]
        fn no_change_of_an_advertisement_ends_it(at in 0_usize..86, byte in any::<u8>(), end in 0_usize..=86) {
            let mut frame = advertisement("fe80::1".parse().unwrap(), true);
            frame[at] = byte;
            let _ = read(&frame[..end]);
        }
    }
}
