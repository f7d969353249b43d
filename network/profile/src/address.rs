//! Hosts and ports that a tunnel goes to.

use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// Bytes of the longest name: with port and protocol it must fit into a line of OpenVPN.
const NAME_MAX: usize = 220;

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name: letters, digits, `-`, `_` and `.`.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Host {
    /// Reads one; the error says what is wrong, without the text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return if bare.is_some() && matches!(address, IpAddr::V4(_)) {
                Err("only IPv6 addresses stand in brackets")
            } else {
                Ok(Self::Address(address))
            };
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !text.is_ascii() {
            Err("a host has ASCII letters only; a name with others is written in its form with xn--")
        } else if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(allowed) {
            Err("expected a host name or an address")
        } else if text.starts_with(['-', '.']) || text.contains("..") {
            Err("a host name has no empty part and does not begin with a hyphen")
        } else if text.split('.').rfind(|part| !part.is_empty()).is_some_and(|last| number::<u64>(last).is_some()) {
            Err("looks like an IPv4 address and is none")
        } else {
            Ok(Self::Name(text.to_owned()))
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A host and a port, written `host:1` or `[2001:db8::1]:1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub host: Host,
    /// Not 0.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A port as a number from 1 to 65535.
pub(crate) fn port(text: &str) -> Result<u16, &'static str> {
    match number::<u16>(text) {
        Some(port) if port > 0 => Ok(port),
        _ if text.chars().any(|c| c.is_ascii_alphabetic()) => Err("a port is a number here, not a service's name"),
        _ => Err("a port is a number from 1 to 65535"),
    }
}

/// A number in decimal digits and nothing else: no sign, no 0x.
pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    (text.bytes().all(|b| b.is_ascii_digit()) && text.len() <= 20).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        for good in
            ["vpn.example.com", "192.0.2.1", "2001:db8::1", "[2001:db8::1]", "a_b", "xn--bcher-kva.example", "x."]
        {
            assert!(Host::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "-o",
            "a..b",
            "1.2.3",
            "1.2.3.04",
            "[192.0.2.1]",
            "vpn.exаmple.com",
            "a;b",
            "a/b",
            "fe80::1%eth0",
        ] {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_numbers() {
        assert_eq!(port("1194"), Ok(1194));
        for bad in ["0", "65536", "99999", "-1", "+1", "0x10", "", "https", "1194 "] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }
}
