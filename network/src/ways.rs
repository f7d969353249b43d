//! Which way packets take: the rules and routes that are to be, those that are, and the difference. Pure.
//!
//! All of ours carry a protocol number of our own ([`PROTOCOL`]); what does not is never touched. By priority, the lowest
//! first; where nothing is found the next rule is asked:
//!
//! | priority | packets | are looked up in |
//! |---|---|---|
//! | 7400 | of a socket that is bound to the device of a tunnel | that tunnel's own table |
//! | 7501… | to the far end of a tunnel; 7500 and the place of its table | main |
//! | 7580 | to a network of a link that lies in one of `vpn.networks` of 7590 | main |
//! | 7590 | to one of `vpn.networks` that lies in a wider network of a link | 7700 |
//! | 7600 | to a network of a link, to `vpn.never` | main |
//! | 7650 | from an address of a tunnel | that tunnel's own table |
//! | 7700 | to `vpn.networks` | 7700 |
//!
//! Table 7700 leads into the preferred tunnel while it is up, and always to nowhere after that, so that nothing goes another
//! way. Tables from 7701 on are tunnels' own; which is whose is kept by the kernel, in the rules of 7400. The two rules of
//! 7580 and 7590 are there because a DHCP server could take all traffic out of the tunnel by a mask that is too wide.

use crate::kernel::MAIN;
use raven_model::prefix::Prefix;
use raven_model::tunnel::{HeldRoute, HeldRule, TUNNELS_MAX, Why};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// By which ours are known (RTPROT, FRA_PROTOCOL). Not among those of /etc/iproute2/rt_protos.
pub const PROTOCOL: u8 = 77;
/// The table of `vpn.networks`.
pub const NETWORKS: u32 = 7700;
/// Tables of tunnels.
pub const TABLES: std::ops::RangeInclusive<u32> = NETWORKS + 1..=NETWORKS + TUNNELS_MAX as u32;

const BOUND: u32 = 7400;
const ENDPOINTS: u32 = 7500;
const WITHIN: u32 = 7580;
const NARROW: u32 = 7590;
const VENUE: u32 = 7600;
const OWN: u32 = 7650;

/// Metrics: into a tunnel, and to nowhere. A smaller one goes first.
const INTO: u32 = 100;
const NOWHERE: u32 = 2_000_000_000;

/// Rules and routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    /// Rules.
    pub rules: BTreeSet<Rule>,
    /// Routes.
    pub routes: BTreeSet<Route>,
}

/// A rule of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The lowest is asked first.
    pub priority: u32,
    /// Which packets.
    pub which: Which,
    /// The table in which their way is looked up.
    pub table: u32,
}

/// Which packets a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Of sockets that are bound to this device.
    Bound {
        /// Its name.
        device: String,
        /// Those of IPv6, else of IPv4.
        is_v6: bool,
    },
    /// To there.
    To(Prefix),
    /// From this address.
    From(IpAddr),
}

/// A route of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where it stands.
    pub table: u32,
    /// To where.
    pub to: Prefix,
    /// The number of the device into which it leads; without one it leads nowhere, and who sends is told so.
    pub device: Option<u32>,
}

/// A tunnel, as far as ways are concerned.
#[derive(Debug, Clone, Default)]
pub struct Tunnel {
    /// Name of its device.
    pub device: String,
    /// Its own table.
    pub table: u32,
    /// Addresses of its far end.
    pub endpoints: Vec<IpAddr>,
    /// The number of its device while that is on and has its addresses.
    pub index: Option<u32>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// What its far end says that it leads to.
    pub routes: Vec<Prefix>,
    /// `vpn.networks` is to be led into it.
    pub is_preferred: bool,
    /// Somebody holds its other end.
    pub is_held: bool,
}

/// The ways that are to be. `venue`: networks of the box's own links.
pub fn wanted(tunnels: &[Tunnel], networks: &[Prefix], never: &[Prefix], venue: &[Prefix]) -> Ways {
    let mut ways = Ways::default();
    let venue: Vec<Prefix> = venue.iter().copied().filter(|net| !net.is_empty() && !is_of_a_cable(net)).collect();
    for tunnel in tunnels {
        ways.add_tunnel(tunnel);
    }
    // Where nothing could be taken from the venue there is nothing to keep for it.
    let kept = venue.iter().chain(never).filter(|_| !tunnels.is_empty() || !networks.is_empty());
    for net in kept {
        ways.rule(VENUE, Which::To(*net), MAIN);
    }
    let preferred = tunnels.iter().find(|tunnel| tunnel.is_preferred && tunnel.is_held);
    for net in networks {
        ways.rule(NETWORKS, Which::To(*net), NETWORKS);
        ways.routes.insert(Route { table: NETWORKS, to: *net, device: None });
        if let Some(device) = preferred.and_then(|tunnel| tunnel.leads_to(net)) {
            ways.routes.insert(Route { table: NETWORKS, to: *net, device: Some(device) });
        }
        if venue.iter().any(|wide| is_within(net, wide)) {
            ways.rule(NARROW, Which::To(*net), NETWORKS);
            for link in venue.iter().filter(|link| is_within(link, net) || **link == *net) {
                ways.rule(WITHIN, Which::To(*link), MAIN);
            }
        }
    }
    ways
}

impl Tunnel {
    /// Its device, if packets to `net` have an address there to come from: else they would have that of a link.
    fn leads_to(&self, net: &Prefix) -> Option<u32> {
        let has_address = self.addresses.iter().any(|addr| addr.is_ipv4() == net.addr().is_ipv4());
        self.index.filter(|_| has_address)
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound { device, is_v6 } => write!(f, "bound to {device} (IPv{})", if *is_v6 { 6 } else { 4 }),
            Self::To(net) => write!(f, "to {net}"),
            Self::From(addr) => write!(f, "from {addr}"),
        }
    }
}

impl Rule {
    /// For the report.
    pub fn held(&self) -> HeldRule {
        let why = match self.priority {
            BOUND => Why::Bound,
            WITHIN => Why::Inside,
            NARROW => Why::Wider,
            VENUE => Why::Venue,
            OWN => Why::Own,
            NETWORKS => Why::Networks,
            // A priority for each tunnel.
            _ => Why::FarEnd,
        };
        HeldRule { priority: self.priority, packets: self.which.to_string(), table: self.table, why }
    }
}

impl Route {
    /// For the report; `device` is the name of the one into which it leads.
    pub fn held(&self, device: Option<String>) -> HeldRoute {
        let why = match (self.table == NETWORKS, self.device) {
            (true, Some(_)) => Why::Carried,
            (true, None) => Why::Nowhere,
            (false, _) if all().contains(&self.to) => Why::All,
            (false, _) => Why::Pushed,
        };
        HeldRoute { table: self.table, to: self.to, device, why }
    }
}

impl Ways {
    fn rule(&mut self, priority: u32, which: Which, table: u32) {
        self.rules.insert(Rule { priority, which, table });
    }

    fn add_tunnel(&mut self, tunnel: &Tunnel) {
        let table = tunnel.table;
        for is_v6 in [false, true] {
            self.rule(BOUND, Which::Bound { device: tunnel.device.clone(), is_v6 }, table);
        }
        for endpoint in &tunnel.endpoints {
            self.rule(ENDPOINTS + table - NETWORKS, Which::To((*endpoint).into()), MAIN);
        }
        let Some(device) = tunnel.index else { return };
        for address in &tunnel.addresses {
            self.rule(OWN, Which::From(*address), table);
        }
        for to in all().into_iter().chain(tunnel.routes.iter().copied()) {
            self.routes.insert(Route { table, to, device: Some(device) });
        }
    }

    /// What there is of `self` and not of `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self {
            rules: self.rules.difference(&other.rules).cloned().collect(),
            routes: self.routes.difference(&other.routes).copied().collect(),
        }
    }

    /// The tunnels' tables, by the names of their devices.
    pub fn tables(&self) -> impl Iterator<Item = (&str, u32)> {
        self.rules.iter().filter_map(|rule| match &rule.which {
            Which::Bound { device, .. } if TABLES.contains(&rule.table) => Some((device.as_str(), rule.table)),
            _ => None,
        })
    }

    /// Addresses of the far end of the tunnel that has this table.
    pub fn endpoints(&self, table: u32) -> Vec<IpAddr> {
        let of_it = self.rules.iter().filter(|rule| rule.priority == ENDPOINTS + table - NETWORKS);
        of_it.filter_map(|rule| if let Which::To(net) = &rule.which { Some(net.addr()) } else { None }).collect()
    }

    /// What the far end of the tunnel that has this table said that it leads to; none while it is not up.
    pub fn routes_of(&self, table: u32) -> Option<Vec<Prefix>> {
        let all = all();
        let of_it: Vec<Prefix> =
            self.routes.iter().filter(|route| route.table == table).map(|route| route.to).collect();
        of_it.iter().any(|to| all.contains(to)).then(|| of_it.into_iter().filter(|to| !all.contains(to)).collect())
    }

    /// The number of the device into which `vpn.networks` is led.
    pub fn carrier(&self) -> Option<u32> {
        self.routes.iter().filter(|route| route.table == NETWORKS).find_map(|route| route.device)
    }
}

/// Everything, IPv4 and IPv6.
fn all() -> [Prefix; 2] {
    [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        .map(|addr: IpAddr| Prefix::new(addr, 0).expect("each address has no bits at least"))
}

/// `inner` is a part of `outer`, not all of it.
pub fn is_within(inner: &Prefix, outer: &Prefix) -> bool {
    inner.len() > outer.len() && outer.holds(inner.addr())
}

/// Link-local: the same on each link, and looked up by the link that is named with it.
fn is_of_a_cable(net: &Prefix) -> bool {
    match net.addr() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

impl Rule {
    /// That of a message, if it is ours.
    pub fn read(message: &RuleMessage) -> Option<Self> {
        let (mut table, mut priority, mut which, mut is_ours) = (u32::from(message.header.table), 0, None, false);
        let is_v6 = message.header.family == AddressFamily::Inet6;
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Table(number) => table = *number,
                RuleAttribute::Priority(number) => priority = *number,
                RuleAttribute::Protocol(protocol) => is_ours = u8::from(*protocol) == PROTOCOL,
                RuleAttribute::Oifname(device) => which = Some(Which::Bound { device: device.clone(), is_v6 }),
                RuleAttribute::Destination(addr) => which = Prefix::new(*addr, message.header.dst_len).map(Which::To),
                RuleAttribute::Source(addr) => which = Some(Which::From(*addr)),
                _ => {}
            }
        }
        // A rule for all packets has no address.
        let [v4, v6] = all();
        is_ours.then(|| Self { priority, which: which.unwrap_or(Which::To(if is_v6 { v6 } else { v4 })), table })
    }

    /// For adding and for removing it.
    pub fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.action = RuleAction::ToTable;
        message.header.table = small(self.table);
        message.attributes = vec![
            RuleAttribute::Table(self.table),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
        ];
        let (is_v6, attribute) = match &self.which {
            Which::Bound { device, is_v6 } => (*is_v6, RuleAttribute::Oifname(device.clone())),
            Which::To(net) => {
                // The kernel takes no notice of the address of a network that holds all.
                message.header.dst_len = net.len();
                (net.addr().is_ipv6(), RuleAttribute::Destination(net.addr()))
            }
            Which::From(addr) => {
                message.header.src_len = Prefix::from(*addr).len();
                (addr.is_ipv6(), RuleAttribute::Source(*addr))
            }
        };
        message.header.family = family(is_v6);
        message.attributes.push(attribute);
        message
    }
}

impl Route {
    /// That of a message, if it is ours.
    pub fn read(message: &RouteMessage) -> Option<Self> {
        if u8::from(message.header.protocol) != PROTOCOL {
            return None;
        }
        let is_v6 = message.header.address_family == AddressFamily::Inet6;
        let [v4, v6] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let (mut table, mut addr, mut device) = (u32::from(message.header.table), if is_v6 { v6 } else { v4 }, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Oif(index) => device = Some(*index),
                RouteAttribute::Destination(RouteAddress::Inet(v4)) => addr = (*v4).into(),
                RouteAttribute::Destination(RouteAddress::Inet6(v6)) => addr = (*v6).into(),
                _ => {}
            }
        }
        // Of IPv6 that leads nowhere, the kernel says that it leads to the loopback.
        let device = device.filter(|_| message.header.kind == RouteType::Unicast);
        let is_known = device.is_some() || message.header.kind == RouteType::Unreachable;
        let to = Prefix::new(addr, message.header.destination_prefix_length)?;
        is_known.then_some(Self { table, to, device })
    }

    /// For removing it, whatever its metric.
    pub fn removal(&self) -> RouteMessage {
        let mut message = self.message();
        message.header.scope = RouteScope::NoWhere;
        message.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Priority(_)));
        message
    }

    /// For adding it.
    pub fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let to = self.to.addr();
        message.header.address_family = family(to.is_ipv6());
        message.header.destination_prefix_length = self.to.len();
        message.header.table = small(self.table);
        message.header.protocol = RouteProtocol::from(PROTOCOL);
        message.header.scope = if self.device.is_some() { RouteScope::Link } else { RouteScope::Universe };
        message.header.kind = if self.device.is_some() { RouteType::Unicast } else { RouteType::Unreachable };
        message.attributes = vec![
            RouteAttribute::Table(self.table),
            RouteAttribute::Priority(if self.device.is_some() { INTO } else { NOWHERE }),
            RouteAttribute::Destination(match to {
                IpAddr::V4(v4) => RouteAddress::Inet(v4),
                IpAddr::V6(v6) => RouteAddress::Inet6(v6),
            }),
        ];
        message.attributes.extend(self.device.map(RouteAttribute::Oif));
        message
    }
}

const fn family(is_v6: bool) -> AddressFamily {
    if is_v6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

/// The number of a table as headers of messages have it; larger ones stand in an attribute.
fn small(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nets(text: &str) -> Vec<Prefix> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    fn tunnel(name: &str, table: u32, index: Option<u32>) -> Tunnel {
        Tunnel {
            device: format!("vpn-{name}"),
            table,
            endpoints: vec!["203.0.113.9".parse().unwrap()],
            index,
            addresses: vec!["10.8.0.2".parse().unwrap()],
            routes: nets("10.30.0.0/16"),
            is_preferred: true,
            is_held: index.is_some(),
        }
    }

    /// As a person reads them.
    fn said(ways: &Ways) -> Vec<String> {
        let which = |which: &Which| match which {
            Which::Bound { device, is_v6 } => format!("oif {device} v{}", if *is_v6 { 6 } else { 4 }),
            Which::To(net) => format!("to {net}"),
            Which::From(addr) => format!("from {addr}"),
        };
        let rules = ways.rules.iter().map(|rule| format!("{} {} {}", rule.priority, which(&rule.which), rule.table));
        let device = |device: Option<u32>| device.map_or("nowhere".to_owned(), |index| index.to_string());
        let routes = ways.routes.iter().map(|route| format!("{}: {} {}", route.table, route.to, device(route.device)));
        rules.chain(routes).collect()
    }

    #[test]
    fn while_no_tunnel_is_up_its_networks_lead_nowhere() {
        let ways = wanted(&[tunnel("noc", 7701, None)], &nets("10.20.0.0/16 2001:db8::/48"), &[], &[]);
        assert_eq!(
            said(&ways),
            [
                "7400 oif vpn-noc v4 7701",
                "7400 oif vpn-noc v6 7701",
                "7501 to 203.0.113.9 254",
                "7700 to 10.20.0.0/16 7700",
                "7700 to 2001:db8::/48 7700",
                "7700: 10.20.0.0/16 nowhere",
                "7700: 2001:db8::/48 nowhere",
            ]
        );
        // One that is not preferred, or that nobody holds, or that has no address, changes nothing of that.
        for change in [
            |t: &mut Tunnel| t.is_preferred = false,
            |t: &mut Tunnel| t.is_held = false,
            |t: &mut Tunnel| t.addresses = vec!["2001:db8::1".parse().unwrap()],
        ] {
            let mut other = tunnel("noc", 7701, Some(5));
            change(&mut other);
            let ways = wanted(&[other], &nets("10.20.0.0/16"), &[], &[]);
            assert_eq!(ways.carrier(), None);
            assert!(said(&ways).contains(&"7700: 10.20.0.0/16 nowhere".to_owned()));
        }
    }

    #[test]
    fn a_tunnel_that_is_up_takes_what_is_named_and_nothing_of_the_venue() {
        let venue = nets("192.0.2.0/24 169.254.0.0/16 fe80::/64");
        let ways = wanted(&[tunnel("noc", 7701, Some(5))], &nets("10.20.0.0/16"), &nets("10.99.0.0/16"), &venue);
        assert_eq!(
            said(&ways),
            [
                "7400 oif vpn-noc v4 7701",
                "7400 oif vpn-noc v6 7701",
                "7501 to 203.0.113.9 254",
                "7600 to 10.99.0.0/16 254",
                "7600 to 192.0.2.0/24 254",
                "7650 from 10.8.0.2 7701",
                "7700 to 10.20.0.0/16 7700",
                "7700: 10.20.0.0/16 nowhere",
                "7700: 10.20.0.0/16 5",
                "7701: 0.0.0.0/0 5",
                "7701: 10.30.0.0/16 5",
                "7701: ::/0 5",
            ]
        );
        assert_eq!(ways.tables().collect::<BTreeSet<_>>(), BTreeSet::from([("vpn-noc", 7701)]));
        assert_eq!(ways.endpoints(7701), ["203.0.113.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(ways.routes_of(7701), Some(nets("10.30.0.0/16")));
        assert_eq!((ways.routes_of(7702), ways.carrier()), (None, Some(5)));
    }

    #[test]
    fn each_rule_and_route_has_its_reason() {
        let networks = nets("10.20.0.0/16 10.30.0.0/16");
        let ways = wanted(&[tunnel("noc", 7701, Some(5))], &networks, &[], &nets("10.0.0.0/8 10.20.3.0/24"));
        let mut rules: Vec<_> = ways.rules.iter().map(|rule| (rule.priority, rule.held().why)).collect();
        rules.dedup();
        assert_eq!(
            rules,
            [
                (7400, Why::Bound),
                (7501, Why::FarEnd),
                (7580, Why::Inside),
                (7590, Why::Wider),
                (7600, Why::Venue),
                (7650, Why::Own),
                (7700, Why::Networks),
            ]
        );
        let routes = ways.routes.iter().map(|route| {
            let held = route.held(route.device.map(|_| "vpn-noc".to_owned()));
            format!("{}: {} {:?}", held.table, held.to, held.why)
        });
        assert_eq!(
            routes.collect::<Vec<_>>(),
            [
                "7700: 10.20.0.0/16 Nowhere",
                "7700: 10.20.0.0/16 Carried",
                "7700: 10.30.0.0/16 Nowhere",
                "7700: 10.30.0.0/16 Carried",
                "7701: 0.0.0.0/0 All",
                "7701: 10.30.0.0/16 Pushed",
                "7701: ::/0 All",
            ]
        );
    }

    #[test]
    fn without_tunnels_the_box_is_as_any_other() {
        assert_eq!(wanted(&[], &[], &nets("10.99.0.0/16"), &nets("192.0.2.0/24")), Ways::default());
    }

    #[test]
    fn a_mask_that_is_too_wide_takes_nothing_out_of_the_tunnel() {
        // Where the venue is in a part of a network, that part is the venue's.
        let part = said(&wanted(&[], &nets("10.0.0.0/8"), &[], &nets("10.1.2.0/24")));
        assert_eq!(part[..2], ["7600 to 10.1.2.0/24 254", "7700 to 10.0.0.0/8 7700"]);
        // Where it claims more than a network, the network stays.
        let wide = said(&wanted(&[], &nets("10.20.0.0/16"), &[], &nets("10.0.0.0/8 10.20.3.0/24 0.0.0.0/0")));
        assert_eq!(
            wide[..4],
            [
                "7580 to 10.20.3.0/24 254",
                "7590 to 10.20.0.0/16 7700",
                "7600 to 10.0.0.0/8 254",
                "7600 to 10.20.3.0/24 254",
            ]
        );
    }

    #[test]
    fn what_was_written_is_read_back() {
        let ways =
            wanted(&[tunnel("noc", 7701, Some(5))], &nets("10.20.0.0/16 2001:db8::/48"), &[], &nets("192.0.2.0/24"));
        for rule in &ways.rules {
            assert_eq!(Rule::read(&rule.message()).as_ref(), Some(rule));
        }
        let all = Rule { priority: 7700, which: Which::To("0.0.0.0/0".parse().unwrap()), table: NETWORKS };
        let mut message = all.message();
        message.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Destination(_)));
        assert_eq!(Rule::read(&message), Some(all));
        for route in &ways.routes {
            assert_eq!(Route::read(&route.message()).as_ref(), Some(route));
        }
        // Those of others are not seen at all.
        let mut rule = ways.rules.first().unwrap().message();
        rule.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Protocol(_)));
        let mut route = ways.routes.first().unwrap().message();
        route.header.protocol = RouteProtocol::Static;
        assert_eq!((Rule::read(&rule), Route::read(&route)), (None, None));
    }
}
