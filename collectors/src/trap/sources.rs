//! Who may send: `collect.trap.sources`.

use raven_model::prefix::Prefix;
use std::net::IpAddr;

/// Addresses and prefixes; none at all lets everybody in.
#[derive(Debug, Default)]
pub struct Sources(Vec<Prefix>);

impl Sources {
    /// As configured. What is neither address nor prefix was refused with the configuration; it lets nobody in.
    pub fn new(configured: &[String]) -> Self {
        let nobody = Prefix::from(IpAddr::from([255, 255, 255, 255]));
        Self(configured.iter().map(|text| text.parse().unwrap_or(nobody)).collect())
    }

    /// True when this one may send.
    pub fn allow(&self, source: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|prefix| prefix.holds(source))
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
