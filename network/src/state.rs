//! What a link is in, in a word, and why: a pure function of what the kernel has, what is configured, and since when
//! there is a cable.

use crate::kernel::{Address, Gateway, Link};
use raven_model::config::{Dhcp, Mac, Network};
use raven_model::neighbour::Neighbour;
use raven_model::report::{LinkState, LinkStatus, Origin};
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

/// How long an address may take before it is said that none comes.
const PATIENCE: Duration = Duration::from_secs(3);

/// The state of one link; `cable` is since when something is at its other end, `neighbour` who that is.
pub fn of(link: &Link, network: &Network, cable: Duration, neighbour: Neighbour) -> LinkStatus {
    let (state, cause) = word(link, network, cable);
    let mut addresses: Vec<_> = link.addresses.iter().collect();
    addresses.sort_by_key(|address| address.is_link_local());
    LinkStatus {
        name: link.name.clone(),
        mac: mac(&link.mac),
        state,
        cause,
        mtu: link.mtu,
        carrier: link.has_carrier,
        carrier_changes: link.carrier_changes,
        addresses: addresses.iter().map(|a| format!("{}/{}", a.addr, a.len)).collect(),
        origins: addresses.iter().map(|address| origin(address, link, network)).collect(),
        gateways: link.gateways.iter().map(|gateway| gateway.addr).collect(),
        // What was heard before the cable was pulled is not there any more.
        neighbour: if link.has_carrier { neighbour } else { Neighbour::Nobody },
        traffic: link.traffic,
    }
}

/// By what the kernel says of it and what is configured: it keeps no other note of who gave an address.
fn origin(address: &Address, link: &Link, network: &Network) -> Origin {
    let is_configured = |of: &raven_model::config::Link| of.addresses.iter().any(|own| own.addr == address.addr);
    if address.is_link_local() {
        Origin::LinkLocal
    } else if configured(link, network).is_some_and(is_configured) {
        Origin::Configured
    } else if !address.is_lent {
        Origin::Other
    } else if address.addr.is_ipv4() || address.len == 128 {
        // DHCPv6 gives addresses, and routers announce networks.
        Origin::Dhcp
    } else {
        Origin::Router
    }
}

fn word(link: &Link, network: &Network, cable: Duration) -> (LinkState, String) {
    let name = &link.name;
    if !link.is_on {
        return (LinkState::Off, format!("{name} is turned off"));
    }
    if !link.has_carrier {
        return (LinkState::NoLink, format!("no link on {name}: is the cable in, and its other end on?"));
    }
    if let Some(taken) = link.addresses.iter().find(|address| address.is_duplicate) {
        return (LinkState::Trouble, format!("another machine has {} too", taken.addr));
    }
    if !link.addresses.iter().any(|address| !address.is_link_local()) {
        return (LinkState::Waiting, no_address(link, network, cable));
    }
    if let Some(Gateway { addr, .. }) = link.gateways.iter().find(|gateway| gateway.is_silent) {
        let question = if addr.is_ipv4() { "ARP" } else { "neighbour solicitation" };
        return (LinkState::Trouble, format!("gateway {addr} does not answer {question}"));
    }
    let lacks_v4 = wanted(link, network).is_some_and(|dhcp| dhcp == Dhcp::Ipv4 || dhcp == Dhcp::Both)
        && !link.addresses.iter().any(|a| matches!(a.addr, IpAddr::V4(_)) && a.is_lent);
    if lacks_v4 && cable > PATIENCE {
        return (LinkState::Up, no_answer(cable));
    }
    (LinkState::Up, String::new())
}

fn no_address(link: &Link, network: &Network, cable: Duration) -> String {
    match wanted(link, network) {
        Some(Dhcp::None) => format!("{} has no address: its own come in a moment, or none is configured", link.name),
        Some(_) if cable > PATIENCE => no_answer(cable),
        Some(_) => "DHCP: asked".to_owned(),
        None => format!("no address for {} s", cable.as_secs()),
    }
}

fn no_answer(cable: Duration) -> String {
    format!("DHCP: no answer for {} s", cable.as_secs())
}

/// Which addresses the link asks for, as far as that is configured.
fn wanted(link: &Link, network: &Network) -> Option<Dhcp> {
    configured(link, network).map(raven_model::config::Link::dhcp)
}

/// What is configured of the link.
fn configured<'a>(link: &Link, network: &'a Network) -> Option<&'a raven_model::config::Link> {
    let by_mac = |mac: Mac| link.mac == mac.0;
    let named = |(name, of): &(&String, &raven_model::config::Link)| match of.mac {
        Some(mac) => by_mac(mac),
        None => **name == link.name,
    };
    network.link.iter().find(named).map(|(_, configured)| configured)
}

fn mac(bytes: &[u8]) -> Option<String> {
    let (first, rest) = bytes.split_first()?;
    let mut text = format!("{first:02x}");
    for byte in rest {
        let _ = write!(text, ":{byte:02x}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kernel::Address;
    use raven_model::neighbour::Heard;

    fn link() -> Link {
        let address = |addr: &str, is_lent| Address {
            addr: addr.parse().unwrap(),
            peer: None,
            len: 24,
            is_lent,
            is_duplicate: false,
        };
        Link {
            name: "eth1".to_owned(),
            mac: vec![2, 0, 0x5e, 0x10, 0, 1],
            is_on: true,
            has_carrier: true,
            mtu: 1500,
            addresses: vec![address("fe80::1", false), address("192.0.2.7", true)],
            gateways: vec![Gateway { addr: "192.0.2.1".parse().unwrap(), is_silent: false }],
            ..Link::default()
        }
    }

    fn network(text: &str) -> Network {
        raven_model::config::Config::from_toml(&format!("schema = 1\n{text}"), "test.toml").unwrap().network
    }

    fn said(link: &Link, network: &Network, seconds: u64) -> (&'static str, String) {
        let status = of(link, network, Duration::from_secs(seconds), Neighbour::Nobody);
        (status.state.name(), status.cause)
    }

    #[test]
    fn a_link_that_works_has_nothing_to_say() {
        let (link, none) = (link(), Network::default());
        assert_eq!(said(&link, &none, 9), ("up", String::new()));
        let switch = || Neighbour::Heard(Heard { system: Some("sw-1".to_owned()), ..Heard::default() });
        let status = of(&link, &none, Duration::ZERO, switch());
        assert_eq!((status.mac.as_deref(), status.addresses[0].as_str()), (Some("02:00:5e:10:00:01"), "192.0.2.7/24"));
        assert_eq!(status.neighbour, switch());
        let pulled = Link { has_carrier: false, ..link };
        assert_eq!(of(&pulled, &none, Duration::ZERO, switch()).neighbour, Neighbour::Nobody);
    }

    #[test]
    fn each_address_is_from_somewhere() {
        let network = network("[network.link.eth1]\naddresses = ['192.0.2.8/24']");
        let address = |addr: &str, len, is_lent| Address {
            addr: addr.parse().unwrap(),
            peer: None,
            len,
            is_lent,
            is_duplicate: false,
        };
        let addresses = vec![
            address("192.0.2.8", 24, false),
            address("192.0.2.7", 24, true),
            address("192.0.2.9", 24, false),
            address("2001:db8::7", 128, true),
            address("2001:db8::8", 64, true),
            address("fe80::1", 64, false),
        ];
        let status = of(&Link { addresses, ..link() }, &network, Duration::ZERO, Neighbour::Nobody);
        let origins: Vec<_> = status.origins.into_iter().map(Origin::name).collect();
        assert_eq!(origins, ["configured", "DHCP", "by hand", "DHCP", "router", "link-local"]);
    }

    #[test]
    fn each_trouble_has_its_cause() {
        let dhcp = network("[network.link.eth1]\ndhcp = 'ipv4'");
        let with = |change: fn(&mut Link)| {
            let mut link = link();
            change(&mut link);
            link
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(said(&with(|l| l.is_on = false), &dhcp, 0), ("off", text("eth1 is turned off")));
        let out = with(|l| l.has_carrier = false);
        assert_eq!(said(&out, &dhcp, 0), ("no link", text("no link on eth1: is the cable in, and its other end on?")));
        let taken = with(|l| l.addresses[1].is_duplicate = true);
        assert_eq!(said(&taken, &dhcp, 0), ("trouble", text("another machine has 192.0.2.7 too")));
        let silent = with(|l| l.gateways[0].is_silent = true);
        assert_eq!(said(&silent, &dhcp, 0), ("trouble", text("gateway 192.0.2.1 does not answer ARP")));
        let bare = with(|l| l.addresses.truncate(1));
        assert_eq!(said(&bare, &dhcp, 1), ("waiting", text("DHCP: asked")));
        assert_eq!(said(&bare, &dhcp, 12), ("waiting", text("DHCP: no answer for 12 s")));
        assert_eq!(said(&bare, &Network::default(), 12), ("waiting", text("no address for 12 s")));
        // An IPv6 address alone is better than none.
        let v6 = with(|l| l.addresses[1].addr = "2001:db8::7".parse().unwrap());
        assert_eq!(said(&v6, &dhcp, 12), ("up", text("DHCP: no answer for 12 s")));
        let by_mac = network("[network.link.wan]\nmac = '02:00:5e:10:00:01'\ndhcp = 'ipv4'");
        assert_eq!(said(&v6, &by_mac, 12), ("up", text("DHCP: no answer for 12 s")));
    }
}
