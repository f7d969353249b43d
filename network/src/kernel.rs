//! What the kernel knows of links, addresses, default routes and neighbours: one look at all of it.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is listened for.
pub const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Neigh,
];

/// The routing table of all that is not told otherwise.
const MAIN: u32 = 254;

/// A link as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Hardware address.
    pub mac: Vec<u8>,
    /// It was turned on.
    pub is_on: bool,
    /// Something is at the other end of its cable.
    pub has_carrier: bool,
    /// Bytes.
    pub mtu: u32,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Default routes.
    pub gateways: Vec<Gateway>,
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub addr: IpAddr,
    /// Bits of its network's prefix.
    pub len: u8,
    /// It was given for a time only.
    pub is_lent: bool,
    /// Another machine has it (RFC 4862, 5.4).
    pub is_duplicate: bool,
}

impl Address {
    /// Of the cable alone.
    pub const fn is_link_local(&self) -> bool {
        match self.addr {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
    }
}

/// Where a default route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// Its address.
    pub addr: IpAddr,
    /// It was asked for its hardware address and did not answer.
    pub is_silent: bool,
}

/// Looks at everything. Links by their numbers, without the loopback.
pub async fn look(handle: &Handle) -> Result<BTreeMap<u32, Link>, rtnetlink::Error> {
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    let mut links: BTreeMap<u32, Link> = links.iter().filter_map(link).collect();
    let addresses: Vec<AddressMessage> = handle.address().get().execute().try_collect().await?;
    for message in &addresses {
        if let (Some(link), Some(address)) = (links.get_mut(&message.header.index), address(message)) {
            link.addresses.push(address);
        }
    }
    let neighbours: Vec<NeighbourMessage> = handle.neighbours().get().execute().try_collect().await?;
    let silent: BTreeSet<(u32, IpAddr)> = neighbours.iter().filter_map(silent).collect();
    for families in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
        let routes: Vec<RouteMessage> = handle.route().get(families).execute().try_collect().await?;
        for (index, addr) in routes.iter().filter_map(gateway) {
            let gateway = Gateway { addr, is_silent: silent.contains(&(index, addr)) };
            if let Some(link) = links.get_mut(&index).filter(|link| !link.gateways.contains(&gateway)) {
                link.gateways.push(gateway);
            }
        }
    }
    Ok(links)
}

fn link(message: &LinkMessage) -> Option<(u32, Link)> {
    let flags = message.header.flags;
    if flags.contains(LinkFlags::Loopback) {
        return None;
    }
    let has_carrier = flags.contains(LinkFlags::LowerUp);
    let mut link = Link { is_on: flags.contains(LinkFlags::Up), has_carrier, ..Link::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    Some((message.header.index, link))
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut addr, mut local, mut flags) =
        (None, None, AddressFlags::from_bits_retain(message.header.flags.bits().into()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => addr = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    Some(Address {
        addr: local.or(addr)?,
        len: message.header.prefix_len,
        is_lent: !flags.contains(AddressFlags::Permanent),
        is_duplicate: flags.contains(AddressFlags::Dadfailed),
    })
}

fn silent(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    if !matches!(message.header.state, NeighbourState::Failed | NeighbourState::Incomplete) {
        return None;
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((message.header.ifindex, (*v4).into())),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((message.header.ifindex, (*v6).into())),
        _ => None,
    })
}

/// Of a default route: its link and where it leads.
fn gateway(message: &RouteMessage) -> Option<(u32, IpAddr)> {
    let (mut index, mut addr, mut table) = (None, None, u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => addr = Some(IpAddr::from(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => addr = Some(IpAddr::from(*v6)),
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let is_ip = matches!(message.header.address_family, AddressFamily::Inet | AddressFamily::Inet6);
    let is_default = is_ip && message.header.destination_prefix_length == 0 && table == MAIN;
    is_default.then_some((index?, addr?))
}
