//! `[network]`: addresses of the box. Only the image puts them into force; on another machine they are checked and
//! shown.

use super::error::Flaw;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// `[network]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Name servers, beside those that links bring.
    pub dns: Vec<IpAddr>,
    /// Links by name. One that is not named here asks for an address by DHCP.
    pub link: BTreeMap<String, Link>,
}

/// `[network.link.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// The link that has this hardware address, whatever the kernel calls it; without it the one of this name.
    pub mac: Option<Mac>,
    /// For a VLAN (IEEE 802.1Q): its number, 1 to 4094.
    pub vlan: Option<u32>,
    /// For a VLAN: the link on which it is.
    pub parent: Option<String>,
    /// Which addresses are asked for; without it both where `addresses` is empty, and none else.
    pub dhcp: Option<Dhcp>,
    /// Addresses with the length of their network's prefix.
    pub addresses: Vec<Address>,
    /// Default routes: at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Longest packet, 1280 to 9216 bytes.
    pub mtu: Option<u32>,
}

impl Link {
    /// Which addresses are asked for.
    pub fn dhcp(&self) -> Dhcp {
        self.dhcp.unwrap_or(if self.addresses.is_empty() { Dhcp::Both } else { Dhcp::None })
    }
}

/// Which addresses a link asks for: DHCP (RFC 2131), DHCPv6 and router advertisements (RFC 8415, 4861).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dhcp {
    /// IPv4 and IPv6.
    Both,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// None.
    None,
}

/// An address with the length of its network's prefix: `192.0.2.7/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub addr: IpAddr,
    /// Bits of the prefix.
    pub len: u8,
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(addr, len)| Some((addr.parse().ok()?, len.parse().ok()?)));
        parsed
            .map(|(addr, len)| Self { addr, len })
            .filter(|a| (1..=if a.addr.is_ipv4() { 32 } else { 128 }).contains(&a.len))
            .filter(|a| !a.addr.is_unspecified() && !a.addr.is_multicast() && !a.addr.is_loopback())
            .ok_or_else(|| format!("`{}` is no address of a link", text.escape_debug()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// A hardware address: `02:00:5e:10:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let byte = |part: &str| Some(part).filter(is_byte).and_then(|part| u8::from_str_radix(part, 16).ok());
        let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| format!("`{}` is no hardware address", text.escape_debug()))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

/// Types that are written as texts.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
as_text!(Address, Mac);

impl Network {
    /// What the types cannot say.
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        self.link.iter().flat_map(|(name, link)| self.of_link(name, link)).collect()
    }

    fn of_link(&self, name: &str, link: &Link) -> Vec<Flaw> {
        let at =
            |key: &str, message: String, expected: &str| Flaw::new(&["network", "link", name, key], message, expected);
        let mut flaws = Vec::new();
        if !is_link_name(name) {
            let message = format!("`{}` is no name of a link", name.escape_debug());
            let expected = "1 to 15 letters, digits, `-`, `_` or `.`, such as `eth0`";
            flaws.push(Flaw::new(&["network", "link", name], message, expected));
        }
        match (link.vlan, &link.parent) {
            (Some(id), Some(_)) if !(1..=4094).contains(&id) => {
                flaws.push(at("vlan", format!("`vlan` is {id}"), "a number from 1 to 4094"));
            }
            (Some(_), Some(parent)) if parent == name || !is_link_name(parent) || self.is_vlan(parent) => {
                flaws.push(at(
                    "parent",
                    format!("`{}` carries no VLAN", parent.escape_debug()),
                    "the name of a link such as `\"eth0\"`",
                ));
            }
            (Some(_), Some(_)) if link.mac.is_some() => {
                flaws.push(at(
                    "mac",
                    "a VLAN has the hardware address of its link".to_owned(),
                    "no `mac` beside `vlan`",
                ));
            }
            (Some(_), None) => flaws.push(at(
                "vlan",
                "`vlan` is set and `parent` is not".to_owned(),
                "the link of the VLAN too, such as `parent = \"eth0\"`",
            )),
            (None, Some(_)) => flaws.push(at(
                "parent",
                "`parent` is set and `vlan` is not".to_owned(),
                "the number of the VLAN too, such as `vlan = 20`",
            )),
            _ => {}
        }
        for v4 in [true, false] {
            let family = if v4 { "IPv4" } else { "IPv6" };
            let mut gateways = link.gateways.iter().enumerate().filter(|(_, gateway)| gateway.is_ipv4() == v4);
            let (first, second) = (gateways.next(), gateways.next());
            let path = |index: usize| ["network", "link", name, "gateways", &index.to_string()].map(str::to_owned);
            let mut flaw = |index, message| {
                let path = path(index);
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                flaws.push(Flaw::new(&path, message, "one gateway of each family, in a network of `addresses`"));
            };
            if let Some((index, _)) = second {
                flaw(index, format!("a second {family} gateway"));
            }
            if let Some((index, gateway)) = first.filter(|(_, gateway)| !link.reaches(**gateway)) {
                flaw(index, format!("{gateway} is in none of the link's networks"));
            }
        }
        flaws.extend(
            link.mtu
                .filter(|mtu| !(1280..=9216).contains(mtu))
                .map(|mtu| at("mtu", format!("`mtu` is {mtu}"), "1280 to 9216")),
        );
        flaws
    }

    fn is_vlan(&self, name: &str) -> bool {
        self.link.get(name).is_some_and(|link| link.vlan.is_some())
    }
}

impl Link {
    /// Whether a gateway is on the link. An IPv6 router often has a link-local address only.
    fn reaches(&self, gateway: IpAddr) -> bool {
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let holds = |a: &Address| crate::prefix::Prefix::new(a.addr, a.len).is_some_and(|net| net.holds(gateway));
        link_local || self.addresses.iter().any(holds)
    }
}

/// As the kernel takes it, without what could mean something else in a unit of systemd, and none of a tunnel's device.
pub(super) fn is_link_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !name.starts_with(['.', '-'])
        && !["lo", "all", "default"].contains(&name)
        && !name.starts_with(crate::tunnel::DEVICE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_and_hardware_addresses_read_back() {
        for text in ["192.0.2.7/24", "2001:db8::7/64"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for wrong in [
            "192.0.2.7",
            "192.0.2.7/33",
            "192.0.2.7/0",
            "0.0.0.0/8",
            "224.0.0.1/24",
            "127.0.0.1/8",
            "x/24",
            "::1/128",
            "",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
        assert_eq!("02-00-5E-10-00-01".parse::<Mac>().unwrap().to_string(), "02:00:5e:10:00:01");
        for wrong in ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "2:0:5e:10:0:1", "+2:00:5e:10:00:01"] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_link_with_addresses_asks_for_none() {
        let mut link = Link::default();
        assert_eq!(link.dhcp(), Dhcp::Both);
        link.addresses.push("192.0.2.7/24".parse().unwrap());
        assert_eq!(link.dhcp(), Dhcp::None);
    }
}
