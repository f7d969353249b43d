//! What a server gave the tunnel: addresses, routes, name servers, as openvpn tells by variables (openvpn(8),
//! "Environmental Variables"). All of it is a wish; the `net` role decides what of it comes into force.

use raven_model::config::Address;
use raven_model::prefix::{Prefix, cut, netmask_len};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most variables that are kept; openvpn itself sends some thirty beside those for routes, which take four each.
const VARIABLES: usize = 4096;
/// Most name servers.
const DNS: usize = 8;

/// What a server gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Our addresses, one of each family at most.
    pub addresses: Vec<Address>,
    /// The other end of a tunnel between two addresses (topology `p2p`, `net30`).
    pub peer: Option<IpAddr>,
    /// The far end, which routes lead to.
    pub gateway: Option<IpAddr>,
    /// Longest packet, bytes.
    pub mtu: Option<u32>,
    /// Networks behind it.
    pub routes: Vec<Prefix>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// The server's address outside.
    pub server: Option<IpAddr>,
    /// Variables that were too many or could not be read.
    pub unread: u32,
}

/// The variables of one message, as they come.
#[derive(Debug, Default)]
pub struct Variables {
    all: BTreeMap<String, String>,
    lost: u32,
}

impl Variables {
    /// One more.
    pub fn push(&mut self, name: String, value: String) {
        if self.all.len() < VARIABLES || self.all.contains_key(&name) {
            self.all.insert(name, value);
        } else {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// What they say.
    pub fn read(&self) -> Pushed {
        let mut pushed = Pushed { unread: self.lost, ..Pushed::default() };
        pushed.addresses.extend(self.address_v4());
        pushed.addresses.extend(self.address_v6());
        pushed.peer = self.value("ifconfig_remote").filter(|peer: &IpAddr| !peer.is_unspecified());
        pushed.gateway = self.value("route_vpn_gateway").or_else(|| self.value("ifconfig_ipv6_remote"));
        // Told only where routes were pushed too.
        pushed.gateway = pushed.gateway.or(pushed.peer).or_else(|| first(pushed.addresses.first()?));
        pushed.mtu = self.value("tun_mtu").filter(|mtu| (576..=9000).contains(mtu));
        pushed.server = self.value("trusted_ip").or_else(|| self.value("trusted_ip6"));
        for (name, value) in &self.all {
            match self.numbered(name, value) {
                Some(Ok(Numbered::Route(route))) if !pushed.routes.contains(&route) => pushed.routes.push(route),
                Some(Ok(Numbered::Dns(server))) if pushed.dns.len() < DNS => pushed.dns.push(server),
                Some(Err(())) => pushed.unread += 1,
                _ => {}
            }
        }
        pushed
    }

    fn value<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.all.get(name)?.parse().ok()
    }

    /// With topology `subnet` the netmask of the tunnel; else there is a peer, and the address is alone.
    fn address_v4(&self) -> Option<Address> {
        let addr: Ipv4Addr = self.value("ifconfig_local")?;
        let len = self.value("ifconfig_netmask").and_then(netmask_len).unwrap_or(32);
        address(addr.into(), len)
    }

    fn address_v6(&self) -> Option<Address> {
        address(self.value("ifconfig_ipv6_local")?, self.value("ifconfig_ipv6_netbits").unwrap_or(128))
    }

    /// A variable that ends with a number, as far as it is one of those that matter.
    fn numbered(&self, name: &str, value: &str) -> Option<Result<Numbered, ()>> {
        if let Some(n) = number(name, "route_network_") {
            let mask = self.value(&format!("route_netmask_{n}")).and_then(netmask_len);
            let route = value.parse().ok().and_then(|network| Prefix::new(network, mask?));
            return Some(route.map(Numbered::Route).ok_or(()));
        }
        if number(name, "route_ipv6_network_").is_some() {
            return Some(value.parse().map(Numbered::Route).map_err(|_| ()));
        }
        number(name, "foreign_option_")?;
        let mut words = value.split_ascii_whitespace();
        let is_dns = words.next() == Some("dhcp-option") && matches!(words.next(), Some("DNS" | "DNS6"));
        is_dns.then(|| words.next().and_then(|word| word.parse().ok()).map(Numbered::Dns).ok_or(()))
    }
}

enum Numbered {
    Route(Prefix),
    Dns(IpAddr),
}

fn number(name: &str, before: &str) -> Option<u32> {
    name.strip_prefix(before)?.parse().ok()
}

fn address(addr: IpAddr, len: u8) -> Option<Address> {
    format!("{addr}/{len}").parse().ok()
}

/// The first address of the network that an address is in: where servers are by custom, and where one that answers no
/// pings does no harm.
fn first(of: &Address) -> Option<IpAddr> {
    match cut(of.addr, of.len) {
        IpAddr::V4(net) if of.len < 31 => Some(Ipv4Addr::from_bits(net.to_bits() + 1).into()),
        IpAddr::V6(net) if of.len < 127 => Some(Ipv6Addr::from_bits(net.to_bits() + 1).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Pushed {
        let mut all = Variables::default();
        for (name, value) in variables {
            all.push((*name).to_owned(), (*value).to_owned());
        }
        all.read()
    }

    #[test]
    fn addresses_routes_and_name_servers_are_read_as_openvpn_2_6_tells_them() {
        let pushed = read(&[
            ("ifconfig_local", "10.8.77.2"),
            ("ifconfig_netmask", "255.255.255.0"),
            ("ifconfig_ipv6_local", "fd00:8::1000"),
            ("ifconfig_ipv6_netbits", "64"),
            ("ifconfig_ipv6_remote", "fd00:8::1"),
            ("route_vpn_gateway", "10.8.77.1"),
            ("route_network_1", "10.20.0.0"),
            ("route_netmask_1", "255.255.0.0"),
            ("route_gateway_1", "10.8.77.1"),
            ("route_network_2", "10.30.0.7"),
            ("route_netmask_2", "255.255.255.255"),
            ("route_ipv6_network_1", "2001:db8:20::/48"),
            ("foreign_option_1", "dhcp-option DNS 10.20.0.53"),
            ("foreign_option_2", "dhcp-option DOMAIN noc.example"),
            ("tun_mtu", "1500"),
            ("trusted_ip", "192.0.2.1"),
            ("script_type", "up"),
        ]);
        let addresses: Vec<String> = pushed.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.8.77.2/24", "fd00:8::1000/64"]);
        let routes: Vec<String> = pushed.routes.iter().map(ToString::to_string).collect();
        assert_eq!(routes, ["2001:db8:20::/48", "10.20.0.0/16", "10.30.0.7"]);
        assert_eq!(pushed.dns, ["10.20.0.53".parse::<IpAddr>().unwrap()]);
        assert_eq!((pushed.gateway, pushed.server), ("10.8.77.1".parse().ok(), "192.0.2.1".parse().ok()));
        assert_eq!((pushed.mtu, pushed.unread, pushed.peer), (Some(1500), 0, None));
    }

    #[test]
    fn a_tunnel_between_two_addresses_has_a_peer() {
        let pushed =
            read(&[("ifconfig_local", "10.8.0.6"), ("ifconfig_remote", "10.8.0.5"), ("route_vpn_gateway", "10.8.0.5")]);
        assert_eq!(pushed.addresses[0].to_string(), "10.8.0.6/32");
        assert_eq!(pushed.peer, "10.8.0.5".parse().ok());
    }

    #[test]
    fn without_routes_the_first_address_of_the_network_stands_for_the_gateway() {
        let pushed = read(&[("ifconfig_local", "10.8.77.9"), ("ifconfig_netmask", "255.255.255.0")]);
        assert_eq!(pushed.gateway, "10.8.77.1".parse().ok());
        let pushed = read(&[("ifconfig_ipv6_local", "fd00:8::1000"), ("ifconfig_ipv6_netbits", "64")]);
        assert_eq!(pushed.gateway, "fd00:8::1".parse().ok());
        assert_eq!(read(&[("ifconfig_local", "10.8.77.9")]).gateway, None);
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_nothing_else_suffers() {
        let pushed = read(&[
            ("ifconfig_local", "10.8.0.2"),
            ("ifconfig_netmask", "255.0.255.0"),
            ("route_network_1", "here"),
            ("route_netmask_1", "255.255.0.0"),
            ("route_network_2", "10.20.0.0"),
            ("route_ipv6_network_9", "::/999"),
            ("foreign_option_1", "dhcp-option DNS somewhere"),
            ("tun_mtu", "70000"),
            ("route_network_x", "10.1.0.0"),
        ]);
        assert_eq!(pushed.addresses[0].to_string(), "10.8.0.2/32");
        assert_eq!((pushed.routes.len(), pushed.dns.len(), pushed.unread, pushed.mtu), (0, 0, 4, None));
    }

    #[test]
    fn an_endless_list_ends() {
        let mut all = Variables::default();
        for n in 0..10_000 {
            all.push(format!("foreign_option_{n}"), format!("dhcp-option DNS 10.0.{}.{}", n / 256 % 256, n % 256));
        }
        let pushed = all.read();
        assert_eq!((pushed.dns.len(), pushed.unread), (DNS, 10_000 - VARIABLES as u32));
    }
}
