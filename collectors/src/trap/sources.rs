//! Who may send: `collect.trap.sources`.

use raven_model::record::plain_address;
use std::net::IpAddr;

/// Addresses and prefixes; none at all lets everybody in.
#[derive(Debug, Default)]
pub struct Sources(Vec<Prefix>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    address: IpAddr,
    length: u32,
}

impl Sources {
    /// As configured. What is neither address nor prefix was refused with the configuration; it lets nobody in.
    pub fn new(configured: &[String]) -> Self {
        let nobody = Prefix { address: IpAddr::from([255, 255, 255, 255]), length: 32 };
        Self(configured.iter().map(|text| Prefix::read(text).unwrap_or(nobody)).collect())
    }

    /// True when this one may send.
    pub fn allow(&self, source: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|prefix| prefix.holds(source))
    }
}

impl Prefix {
    fn read(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, rest)| (address, Some(rest)));
        let written: IpAddr = address.parse().ok()?;
        let bits = if written.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Some(bits), |length| length.parse().ok().filter(|&length| length <= bits))?;
        // Senders come as IPv4 where they are.
        let address = if length >= 96 || written.is_ipv4() { plain_address(written) } else { written };
        Some(Self { address, length: if address == written { length } else { length - 96 } })
    }

    fn holds(self, source: IpAddr) -> bool {
        match (self.address, source) {
            (IpAddr::V4(net), IpAddr::V4(source)) => {
                (net.to_bits() ^ source.to_bits()).checked_shr(32 - self.length).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(source)) => {
                (net.to_bits() ^ source.to_bits()).checked_shr(128 - self.length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_prefix_holds_its_addresses_and_no_others() {
        for (prefix, inside, outside) in [
            ("10.20.0.0/16", "10.20.255.1", "10.21.0.1"),
            ("10.20.0.1", "10.20.0.1", "10.20.0.2"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.9"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
        ] {
            let sources = Sources::new(&[prefix.to_owned()]);
            assert!(sources.allow(inside.parse().unwrap()), "{prefix} {inside}");
            assert!(!sources.allow(outside.parse().unwrap()), "{prefix} {outside}");
        }
    }

    #[test]
    fn none_lets_everybody_in_and_nonsense_nobody() {
        assert!(Sources::new(&[]).allow("192.0.2.1".parse().unwrap()));
        assert!(!Sources::new(&["192.0.2.0/33".to_owned()]).allow("192.0.2.1".parse().unwrap()));
    }
}
