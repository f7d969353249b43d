//! What a tunnel gets of what it asks for. Pure; all that comes in here may have been written by whoever is at its far end.

use crate::kernel::Link;
use raven_model::config::{Address, Config};
use raven_model::prefix::Prefix;
use raven_model::record::plain_address;
use raven_model::tunnel::{ADDRESSES_MAX, ENDPOINTS_MAX, ROUTES_MAX, Refusal};
use std::net::IpAddr;

/// Refusals that are told one by one.
const TOLD_MAX: usize = 64;

/// Overlaps of venue and tunnel that are told.
const OVERLAPS_MAX: usize = 32;

/// Longest packet where nothing else is said, bytes: as the kernel makes TUN devices.
const MTU: u32 = 1500;

/// Networks of no link and of no tunnel: this machine, one cable, groups, what is reserved.
const NOBODYS: [&str; 7] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/16", "fe80::/10", "ff00::/8"];

/// Where the box is, as far as tunnels must keep out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Venue {
    /// Networks of its own links, with the links' names.
    pub links: Vec<(String, Prefix)>,
    /// `vpn.never`.
    pub never: Vec<Prefix>,
    /// Name servers and gateways.
    pub needed: Vec<IpAddr>,
}

impl Venue {
    /// That of these links, which are not tunnels' devices.
    pub fn of<'a>(links: impl Iterator<Item = &'a Link> + Clone, config: &Config) -> Self {
        let nets = links.clone().flat_map(|link| {
            let of_it = link.addresses.iter().filter_map(|address| Prefix::new(address.addr, address.len));
            of_it.map(|net| (link.name.clone(), net))
        });
        let gateways = links.flat_map(|link| link.gateways.iter().map(|gateway| gateway.addr));
        let network = &config.network;
        let servers = network.dns.iter().chain(network.link.values().flat_map(|link| &link.dns)).copied();
        Self { links: nets.collect(), never: config.vpn.never.clone(), needed: gateways.chain(servers).collect() }
    }

    /// Networks of the links.
    pub fn nets(&self) -> Vec<Prefix> {
        self.links.iter().map(|(_, net)| *net).collect()
    }

    /// Parts of `networks` that are the venue's, for people.
    pub fn overlaps(&self, networks: &[Prefix]) -> Vec<String> {
        let part = |net: &Prefix| {
            let inside = self.links.iter().filter(|(_, link)| net.holds(link.addr()) && link.len() >= net.len());
            inside
                .map(|(name, link)| format!("{net}: {name} is in {link}, which is reached over it"))
                .collect::<Vec<_>>()
        };
        networks.iter().flat_map(part).take(OVERLAPS_MAX).collect()
    }

    /// Why nothing of `net` can be a tunnel's.
    fn claims(&self, net: &Prefix) -> Option<String> {
        if let Some((name, link)) = self.links.iter().find(|(_, link)| link.overlaps(net)) {
            return Some(format!("{name} is in {link}"));
        }
        if let Some(never) = self.never.iter().find(|never| never.overlaps(net)) {
            return Some(format!("vpn.never names {never}"));
        }
        let nobodys = NOBODYS.iter().filter_map(|text| text.parse::<Prefix>().ok());
        nobodys.filter(|nobodys| nobodys.overlaps(net)).map(|net| format!("nothing leads to {net}")).next()
    }
}

/// What is taken of a list, and what is not.
#[derive(Debug)]
struct Sorted<T> {
    taken: Vec<T>,
    refused: Vec<Refusal>,
    /// Refused and not told one by one.
    more: usize,
}

impl<T> Sorted<T> {
    const fn new() -> Self {
        Self { taken: Vec::new(), refused: Vec::new(), more: 0 }
    }

    fn refuse(&mut self, what: String, why: String) {
        if self.refused.len() < TOLD_MAX { self.refused.push(Refusal { what, why }) } else { self.more += 1 }
    }

    /// `over` are those beyond `most`.
    fn end(mut self, kind: &str, over: usize, most: usize) -> (Vec<T>, Vec<Refusal>) {
        if over > 0 {
            let what = format!("{over} more {kind}");
            self.refused.push(Refusal { what, why: format!("a tunnel has {most} at most") });
        }
        if self.more > 0 {
            let what = format!("{} other {kind}", self.more);
            self.refused.push(Refusal { what, why: "for such reasons too".to_owned() });
        }
        (self.taken, self.refused)
    }
}

/// Routes. `endpoints`: where the tunnel's own packets go.
pub fn routes(asked: &[Prefix], endpoints: &[IpAddr], venue: &Venue) -> (Vec<Prefix>, Vec<Refusal>) {
    let (mut sorted, mut over) = (Sorted::new(), 0);
    for net in asked {
        if sorted.taken.contains(net) {
            continue;
        }
        let far = endpoints.iter().find(|far| net.holds(**far));
        let why = if is_all(net) {
            Some("it asks for all traffic: only networks named in vpn.networks go through it".to_owned())
        } else {
            venue.claims(net).or_else(|| far.map(|far| format!("the far end itself is at {far}")))
        };
        match why {
            Some(why) => sorted.refuse(format!("route {net}"), why),
            None if sorted.taken.len() == ROUTES_MAX => over += 1,
            None => sorted.taken.push(*net),
        }
    }
    sorted.end("routes", over, ROUTES_MAX)
}

/// A default route, or one of those into which it is cut so that it beats another (OpenVPN's `redirect-gateway`).
fn is_all(net: &Prefix) -> bool {
    net.len() <= if net.addr().is_ipv4() { 1 } else { 4 }
}

/// Addresses of its device.
pub fn addresses(asked: &[Address], endpoints: &[IpAddr], venue: &Venue) -> (Vec<IpAddr>, Vec<Refusal>) {
    let (mut sorted, mut over) = (Sorted::new(), 0);
    for address in asked {
        let addr = plain_address(address.addr);
        if sorted.taken.contains(&addr) {
            continue;
        }
        match why_not(addr, endpoints, venue) {
            Some(why) => sorted.refuse(format!("address {address}"), why),
            None if sorted.taken.len() == ADDRESSES_MAX => over += 1,
            None => sorted.taken.push(addr),
        }
    }
    sorted.end("addresses", over, ADDRESSES_MAX)
}

/// Why `addr` cannot be an address of the box: packets to there would come back to it.
fn why_not(addr: IpAddr, endpoints: &[IpAddr], venue: &Venue) -> Option<String> {
    let claimed = venue.claims(&addr.into());
    let far = || endpoints.contains(&addr).then(|| "the far end itself is there".to_owned());
    let needed = || venue.needed.contains(&addr).then(|| "it is that of a name server or a gateway".to_owned());
    claimed.or_else(far).or_else(needed)
}

/// The address of the far end in the tunnel, for the device's first address of that family.
pub fn peer(asked: Option<IpAddr>, venue: &Venue) -> (Option<IpAddr>, Option<Refusal>) {
    let Some(addr) = asked.map(plain_address) else { return (None, None) };
    match venue.claims(&addr.into()) {
        Some(why) => (None, Some(Refusal { what: format!("peer {addr}"), why })),
        None => (Some(addr), None),
    }
}

/// Addresses of its far end.
pub fn endpoints(asked: &[IpAddr]) -> (Vec<IpAddr>, Vec<Refusal>) {
    let (mut sorted, mut over) = (Sorted::new(), 0);
    for addr in asked.iter().map(|addr| plain_address(*addr)) {
        if sorted.taken.contains(&addr) {
            continue;
        }
        match Venue::default().claims(&addr.into()) {
            Some(why) => sorted.refuse(format!("far end {addr}"), why),
            None if sorted.taken.len() == ENDPOINTS_MAX => over += 1,
            None => sorted.taken.push(addr),
        }
    }
    sorted.end("far ends", over, ENDPOINTS_MAX)
}

/// Longest packet, bytes.
pub fn mtu(asked: Option<u32>) -> (u32, Option<Refusal>) {
    match asked {
        None => (MTU, None),
        Some(mtu) if (576..=9216).contains(&mtu) => (mtu, None),
        Some(mtu) => (
            MTU,
            Some(Refusal { what: format!("MTU {mtu}"), why: format!("576 to 9216 bytes are taken; it stays {MTU}") }),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nets(text: &str) -> Vec<Prefix> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    fn venue() -> Venue {
        Venue {
            links: vec![
                ("eth0".to_owned(), "192.0.2.0/24".parse().unwrap()),
                ("eth1".to_owned(), "2001:db8:1::/64".parse().unwrap()),
            ],
            never: nets("10.99.0.0/16"),
            needed: vec![ip("198.51.100.53")],
        }
    }

    #[test]
    fn a_route_is_taken_unless_it_takes_something_from_the_venue() {
        for (route, why) in [
            ("10.20.0.0/16", ""),
            ("2001:db8:2::/48", ""),
            ("198.51.100.0/24", ""),
            ("0.0.0.0/0", "it asks for all traffic: only networks named in vpn.networks go through it"),
            ("::/0", "it asks for all traffic: only networks named in vpn.networks go through it"),
            ("128.0.0.0/1", "it asks for all traffic: only networks named in vpn.networks go through it"),
            ("2000::/4", "it asks for all traffic: only networks named in vpn.networks go through it"),
            ("192.0.2.128/25", "eth0 is in 192.0.2.0/24"),
            ("192.0.0.0/16", "eth0 is in 192.0.2.0/24"),
            ("192.0.2.7", "eth0 is in 192.0.2.0/24"),
            ("2001:db8::/32", "eth1 is in 2001:db8:1::/64"),
            ("10.99.7.0/24", "vpn.never names 10.99.0.0/16"),
            ("10.0.0.0/8", "vpn.never names 10.99.0.0/16"),
            ("203.0.113.0/24", "the far end itself is at 203.0.113.9"),
            ("127.0.0.0/8", "nothing leads to 127.0.0.0/8"),
            ("169.254.169.254", "nothing leads to 169.254.0.0/16"),
            ("fe80::/64", "nothing leads to fe80::/10"),
            ("239.0.0.0/8", "nothing leads to 224.0.0.0/3"),
        ] {
            let (taken, refused) = routes(&nets(route), &[ip("203.0.113.9")], &venue());
            let said: Vec<_> = refused.iter().map(|refusal| (refusal.what.as_str(), refusal.why.as_str())).collect();
            if why.is_empty() {
                assert_eq!((taken, said), (nets(route), vec![]), "{route}");
            } else {
                assert_eq!((taken, said), (vec![], vec![(format!("route {route}").as_str(), why)]), "{route}");
            }
        }
    }

    #[test]
    fn of_too_many_routes_the_rest_is_counted_once() {
        let many: Vec<Prefix> =
            (0..700_u16).map(|n| format!("10.{}.{}.0/24", n >> 8, n & 255).parse().unwrap()).collect();
        let (taken, refused) = routes(&many, &[], &venue());
        assert_eq!((taken.len(), refused.len()), (ROUTES_MAX, 1));
        assert_eq!(refused[0], Refusal { what: "444 more routes".into(), why: "a tunnel has 256 at most".into() });
        // The same one again is no second one.
        let (taken, refused) = routes(&[many[0], many[0]], &[], &venue());
        assert_eq!((taken.len(), refused.len()), (1, 0));
        let bad = vec!["192.0.2.0/25".parse().unwrap(); 1000];
        let (taken, refused) = routes(&bad, &[], &venue());
        assert_eq!((taken.len(), refused.len()), (0, 65));
        assert_eq!(refused[64].what, "936 other routes");
    }

    #[test]
    fn an_address_is_taken_unless_somebody_else_is_there() {
        for (address, why) in [
            ("10.8.0.2/24", ""),
            ("2001:db8:8::2/64", ""),
            ("192.0.2.9/32", "eth0 is in 192.0.2.0/24"),
            ("10.99.0.1/16", "vpn.never names 10.99.0.0/16"),
            ("203.0.113.9/24", "the far end itself is there"),
            ("198.51.100.53/24", "it is that of a name server or a gateway"),
            ("::ffff:192.0.2.9/128", "eth0 is in 192.0.2.0/24"),
            ("fe80::7/64", "nothing leads to fe80::/10"),
            ("255.255.255.255/32", "nothing leads to 224.0.0.0/3"),
        ] {
            let (taken, refused) = addresses(&[address.parse().unwrap()], &[ip("203.0.113.9")], &venue());
            assert_eq!(taken.len(), usize::from(why.is_empty()), "{address}");
            assert_eq!(refused.first().map_or("", |refusal| refusal.why.as_str()), why, "{address}");
        }
    }

    #[test]
    fn lengths_of_packets_and_far_ends_are_held_within_bounds() {
        assert_eq!([None, Some(576), Some(1400), Some(9216)].map(|asked| mtu(asked).0), [1500, 576, 1400, 9216]);
        for wrong in [0, 575, 9217, u32::MAX] {
            assert!(mtu(Some(wrong)).1.is_some_and(|refusal| refusal.what == format!("MTU {wrong}")));
        }
        let (taken, refused) =
            endpoints(&[ip("203.0.113.9"), ip("::ffff:203.0.113.9"), ip("127.0.0.1"), ip("fe80::1")]);
        assert_eq!((taken, refused.len()), (vec![ip("203.0.113.9")], 2));
        let many: Vec<IpAddr> = (0..200_u8).map(|n| IpAddr::from([203, 0, 113, n])).collect();
        let (taken, refused) = endpoints(&many);
        assert_eq!((taken.len(), refused[0].what.as_str()), (ENDPOINTS_MAX, "136 more far ends"));
        assert_eq!(peer(Some(ip("192.0.2.1")), &venue()).0, None);
        assert_eq!(peer(Some(ip("10.8.0.1")), &venue()), (Some(ip("10.8.0.1")), None));
    }

    #[test]
    fn an_overlap_of_venue_and_tunnel_is_said() {
        let said = venue().overlaps(&nets("192.0.0.0/16 10.20.0.0/16 192.0.2.0/25"));
        assert_eq!(said, ["192.0.0.0/16: eth0 is in 192.0.2.0/24, which is reached over it"]);
    }
}
