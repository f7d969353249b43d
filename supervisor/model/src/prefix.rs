//! Senders that an operator means: one address, or all that begin alike.

use crate::record::plain_address;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// `192.0.2.7`, `10.20.0.0/16`, `2001:db8::/32`. An IPv4-mapped IPv6 address is the IPv4 address that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// The addresses that share the first `len` bits with `addr`; `None` when it has fewer.
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        // Senders come as IPv4 where they are: so does a prefix within `::ffff:0:0/96`.
        let (addr, len) = match plain_address(addr) {
            v4 @ IpAddr::V4(_) if addr.is_ipv6() && (96..=128).contains(&len) => (v4, len - 96),
            _ => (addr, len),
        };
        (len <= bits(addr)).then(|| Self { addr: cut(addr, len), len })
    }

    /// Its first address.
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Bits that count.
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// True when it holds every address of its family.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True when `addr` (plain) is one of its addresses.
    #[inline]
    pub fn holds(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && cut(addr, self.len) == self.addr
    }

    /// True when an address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.holds(other.addr) || other.holds(self.addr)
    }
}

impl From<IpAddr> for Prefix {
    fn from(addr: IpAddr) -> Self {
        let addr = plain_address(addr);
        Self { addr, len: bits(addr) }
    }
}

/// Bits of an address of its family.
const fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// The address with all bits behind the first `len` zero.
pub fn cut(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(len.into())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(len.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// Length of a netmask such as 255.255.255.0; `None` when its bits have gaps.
pub const fn netmask_len(mask: Ipv4Addr) -> Option<u8> {
    let (bits, ones) = (mask.to_bits(), mask.to_bits().leading_ones());
    if bits.count_ones() == ones { Some(ones as u8) } else { None }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither an address nor a prefix such as 10.20.0.0/16");
        let Some((addr, len)) = text.split_once('/') else {
            return text.parse::<IpAddr>().map(Self::from).map_err(|_| wrong());
        };
        let addr = addr.parse().map_err(|_| wrong())?;
        len.parse().ok().and_then(|len| Self::new(addr, len)).ok_or_else(wrong)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == bits(self.addr) { self.addr.fmt(f) } else { write!(f, "{}/{}", self.addr, self.len) }
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_prefix_holds_its_addresses_and_no_others() {
        for (prefix, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("::ffff:192.0.2.7", "192.0.2.7", "::1"),
            ("10.20.30.40/16", "10.20.255.1", "10.21.0.1"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
        ] {
            let read: Prefix = prefix.parse().unwrap();
            assert!(read.holds(inside.parse().unwrap()), "{prefix} {inside}");
            assert!(!read.holds(outside.parse().unwrap()), "{prefix} {outside}");
            assert_eq!(read.to_string().parse::<Prefix>().unwrap(), read);
        }
    }

    #[test]
    fn prefixes_overlap_when_one_holds_the_other() {
        for (a, b, overlap) in [
            ("10.0.0.0/8", "10.20.0.0/16", true),
            ("10.20.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/9", "10.128.0.0/9", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            assert_eq!(a.parse::<Prefix>().unwrap().overlaps(&b.parse().unwrap()), overlap, "{a} {b}");
        }
    }

    #[test]
    fn a_netmask_has_no_gaps() {
        assert_eq!(netmask_len([255, 255, 240, 0].into()), Some(20));
        assert_eq!(netmask_len([0, 0, 0, 0].into()), Some(0));
        assert_eq!(netmask_len([255, 0, 255, 0].into()), None);
    }

    #[test]
    fn what_is_no_prefix_is_refused_in_words() {
        for text in ["10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "host", ""] {
            let error = text.parse::<Prefix>().unwrap_err();
            assert!(error.contains("neither an address nor a prefix"), "{error}");
        }
    }
}
