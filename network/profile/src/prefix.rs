//! A network: an address and how many of its bits count.

use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// A network, its host bits zero. Written `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The network of `address`; `None` when it has fewer bits than `length`.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if length <= 32 => IpAddr::V4((u32::from(v4) & mask(length, 32) as u32).into()),
            IpAddr::V6(v6) if length <= 128 => IpAddr::V6((u128::from(v6) & mask(length, 128)).into()),
            _ => return None,
        };
        Some(Self { address, length })
    }

    /// The network's first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits that count, 0 to 32 or 128.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether one of the two holds the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        let shorter = self.length.min(other.length);
        let cut = |prefix: &Self| Self::new(prefix.address, shorter);
        self.address.is_ipv4() == other.address.is_ipv4() && cut(self) == cut(other)
    }
}

/// `width` bits of which the first `length` are set.
fn mask(length: u8, width: u32) -> u128 {
    let all = u128::MAX >> (128 - width);
    all ^ all.checked_shr(u32::from(length)).unwrap_or(0)
}

/// Length of a netmask such as 255.255.255.0; `None` when its bits have gaps.
pub(crate) fn length_of(netmask: std::net::Ipv4Addr) -> Option<u8> {
    let bits = u32::from(netmask);
    let length = bits.leading_ones();
    (bits.count_ones() == length).then_some(length as u8)
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn prefix(address: &str, length: u8) -> Prefix {
        Prefix::new(address.parse().unwrap(), length).unwrap()
    }

    #[test]
    fn host_bits_are_cut_off() {
        assert_eq!(prefix("10.1.2.3", 8).to_string(), "10.0.0.0/8");
        assert_eq!(prefix("10.1.2.3", 0).to_string(), "0.0.0.0/0");
        assert_eq!(prefix("10.1.2.3", 32).to_string(), "10.1.2.3/32");
        assert_eq!(prefix("2001:db8:1::1", 32).to_string(), "2001:db8::/32");
        assert_eq!(prefix("::1", 128).to_string(), "::1/128");
        assert_eq!(Prefix::new("10.0.0.0".parse().unwrap(), 33), None);
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        assert!(prefix("10.0.0.0", 8).overlaps(&prefix("10.20.0.0", 16)));
        assert!(prefix("10.20.0.0", 16).overlaps(&prefix("10.0.0.0", 8)));
        assert!(!prefix("10.0.0.0", 9).overlaps(&prefix("10.128.0.0", 9)));
        assert!(!prefix("0.0.0.0", 0).overlaps(&prefix("::", 0)));
    }

    #[test]
    fn a_netmask_has_no_gaps() {
        assert_eq!(length_of([255, 255, 240, 0].into()), Some(20));
        assert_eq!(length_of([0, 0, 0, 0].into()), Some(0));
        assert_eq!(length_of([255, 0, 255, 0].into()), None);
    }
}
