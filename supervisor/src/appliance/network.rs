//! Units of systemd-networkd from `[network]`.

use raven_model::config::{Dhcp, Link, Network};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Our files begin with this; those of the image come after them.
pub const PREFIX: &str = "10-raven-";

const DEVICE: &str = ".netdev";

/// The virtual device that a unit of ours made.
pub fn device(file: &str) -> Option<&str> {
    file.strip_prefix(PREFIX)?.strip_suffix(DEVICE)
}

/// Files by name.
pub fn units(network: &Network) -> BTreeMap<String, String> {
    let mut links = network.link.clone();
    // Who carries a VLAN must say so; it asks for addresses as if it were not named.
    for parent in network.link.values().filter_map(|link| link.parent.as_ref()) {
        links.entry(parent.clone()).or_default();
    }
    let mut units = BTreeMap::new();
    for (name, link) in &links {
        let carried = network.link.iter().filter(|(_, vlan)| vlan.parent.as_ref() == Some(name)).map(|(vlan, _)| vlan);
        let vlans: Vec<&str> = carried.map(String::as_str).collect();
        units.insert(format!("{PREFIX}{name}.network"), link_unit(name, link, &vlans));
        if let Some(id) = link.vlan {
            let unit = format!("[NetDev]\nName={name}\nKind=vlan\n\n[VLAN]\nId={id}\n");
            units.insert(format!("{PREFIX}{name}{DEVICE}"), unit);
        }
    }
    units
}

fn link_unit(name: &str, link: &Link, vlans: &[&str]) -> String {
    let mut unit = match link.mac {
        // A VLAN has the hardware address of its link.
        Some(mac) => format!("[Match]\nMACAddress={mac}\nKind=!*\n"),
        None => format!("[Match]\nName={name}\n"),
    };
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(unit, "{key}={value}");
    };
    if let Some(mtu) = link.mtu {
        line("\n[Link]\nMTUBytes", &mtu);
    }
    let (dhcp, advertised) = match link.dhcp() {
        Dhcp::Both => ("yes", "yes"),
        Dhcp::Ipv4 => ("ipv4", "no"),
        Dhcp::Ipv6 => ("ipv6", "yes"),
        Dhcp::None => ("no", "no"),
    };
    line("\n[Network]\nDHCP", &dhcp);
    line("IPv6AcceptRA", &advertised);
    link.addresses.iter().for_each(|address| line("Address", address));
    link.gateways.iter().for_each(|gateway| line("Gateway", gateway));
    link.dns.iter().for_each(|server| line("DNS", server));
    for vlan in vlans {
        line("VLAN", vlan);
    }
    // Neighbours are heard, and nothing is said to them. An address stays when the cable is out: it may come back.
    unit.push_str("LLDP=yes\nEmitLLDP=no\nLLMNR=no\nMulticastDNS=no\nConfigureWithoutCarrier=no\n");
    unit.push_str("\n[DHCPv4]\nClientIdentifier=mac\nUseDomains=yes\n");
    unit
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::config::Config;

    fn of(text: &str) -> BTreeMap<String, String> {
        units(&Config::from_toml(&format!("schema = 1\n{text}"), "test.toml").unwrap().network)
    }

    #[test]
    fn a_static_link_asks_nobody() {
        let units = of(
            "[network.link.eth0]\naddresses = ['192.0.2.7/24', '2001:db8::7/64']\ngateways = ['192.0.2.1', 'fe80::1']\ndns = ['192.0.2.53']",
        );
        let expected = "[Match]\nName=eth0\n\n[Network]\nDHCP=no\nIPv6AcceptRA=no\nAddress=192.0.2.7/24\nAddress=2001:db8::7/64\nGateway=192.0.2.1\nGateway=fe80::1\nDNS=192.0.2.53\nLLDP=yes\n";
        assert!(units["10-raven-eth0.network"].starts_with(expected), "{units:?}");
        assert_eq!(units.len(), 1);
    }

    #[test]
    fn a_vlan_is_made_and_its_link_carries_it() {
        let units = of("[network.link.venue]\nvlan = 20\nparent = 'eth1'\naddresses = ['10.20.0.2/16']");
        assert_eq!(
            units.keys().collect::<Vec<_>>(),
            ["10-raven-eth1.network", "10-raven-venue.netdev", "10-raven-venue.network"]
        );
        assert_eq!(units["10-raven-venue.netdev"], "[NetDev]\nName=venue\nKind=vlan\n\n[VLAN]\nId=20\n");
        assert!(units["10-raven-eth1.network"].contains("DHCP=yes\nIPv6AcceptRA=yes\nVLAN=venue\n"), "{units:?}");
        let devices: Vec<&str> = units.keys().filter_map(|file| device(file)).collect();
        assert_eq!(devices, ["venue"]);
    }

    #[test]
    fn a_link_can_be_known_by_its_hardware_address() {
        let units = of("[network.link.wan]\nmac = '02:00:5e:10:00:01'\ndhcp = 'ipv4'\nmtu = 9000");
        let expected =
            "[Match]\nMACAddress=02:00:5e:10:00:01\nKind=!*\n\n[Link]\nMTUBytes=9000\n\n[Network]\nDHCP=ipv4\n";
        assert!(units["10-raven-wan.network"].starts_with(expected), "{units:?}");
    }
}
