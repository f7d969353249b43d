//! What the kernel knows of links, addresses, default routes and neighbours, and of the rules and routes that are ours: one
//! look at all of it.

use crate::ways::{Route, Rule, Ways};
use futures_util::TryStreamExt;
use raven_model::tunnel::Traffic;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload, Nla};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoTun, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, IpVersion, MulticastGroup, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is listened for.
pub const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Neigh,
];

/// The routing table of all that is not told otherwise.
pub const MAIN: u32 = 254;

/// All that a look saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Links by their numbers, without the loopback.
    pub links: BTreeMap<u32, Link>,
    /// Rules and routes of ours.
    pub ways: Ways,
}

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
    /// Times that this went or came.
    pub carrier_changes: u32,
    /// Bytes.
    pub mtu: u32,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Default routes.
    pub gateways: Vec<Gateway>,
    /// It is a TUN device, made so.
    pub tun: Option<Tun>,
    /// It is one of the kernel's WireGuard.
    pub is_wireguard: bool,
    /// What it is called beside its name.
    pub alias: String,
    /// What went through it.
    pub traffic: Traffic,
}

/// How a TUN device was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tun {
    /// The user that may attach to it.
    pub owner: Option<u32>,
    /// It stays when nobody is attached.
    pub stays: bool,
    /// It carries frames (TAP), not packets.
    pub is_tap: bool,
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub addr: IpAddr,
    /// That of the far end, where there is but one.
    pub peer: Option<IpAddr>,
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

/// Looks at everything.
pub async fn look(handle: &Handle) -> Result<Seen, rtnetlink::Error> {
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
    let mut ways = Ways::default();
    for families in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
        let routes: Vec<RouteMessage> = handle.route().get(families).execute().try_collect().await?;
        ways.routes.extend(routes.iter().filter_map(Route::read));
        for (index, addr) in routes.iter().filter_map(gateway) {
            let gateway = Gateway { addr, is_silent: silent.contains(&(index, addr)) };
            if let Some(link) = links.get_mut(&index).filter(|link| !link.gateways.contains(&gateway)) {
                link.gateways.push(gateway);
            }
        }
    }
    for family in [IpVersion::V4, IpVersion::V6] {
        match handle.rule().get(family).execute().try_collect::<Vec<RuleMessage>>().await {
            Ok(rules) => ways.rules.extend(rules.iter().filter_map(Rule::read)),
            // A kernel without IPv6, or without rules, has none.
            Err(rtnetlink::Error::NetlinkError(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Seen { links, ways })
}

/// What went through links up to now, by their numbers. Where the kernel does not say, nothing.
pub async fn traffic(handle: &Handle) -> BTreeMap<u32, Traffic> {
    let messages: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.unwrap_or_default();
    messages.iter().filter_map(link).map(|(index, link)| (index, link.traffic)).collect()
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
            LinkAttribute::CarrierChanges(times) => link.carrier_changes = *times,
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            LinkAttribute::LinkInfo(info) => {
                link.tun = tun(info);
                link.is_wireguard = info.contains(&LinkInfo::Kind(InfoKind::Wireguard));
            }
            LinkAttribute::Stats64(sums) => {
                link.traffic = Traffic {
                    rx_bytes: sums.rx_bytes,
                    rx_packets: sums.rx_packets,
                    tx_bytes: sums.tx_bytes,
                    tx_packets: sums.tx_packets,
                    rx_errors: sums.rx_errors,
                    rx_dropped: sums.rx_dropped,
                    tx_errors: sums.tx_errors,
                    tx_dropped: sums.tx_dropped,
                }
            }
            _ => {}
        }
    }
    Some((message.header.index, link))
}

/// Attributes of a TUN device, and what kind of one it is (linux/if_link.h, linux/if_tun.h).
const OWNER: u16 = 1;
const TYPE: u16 = 3;
const PERSIST: u16 = 6;
const TAP: u8 = 2;

fn tun(info: &[LinkInfo]) -> Option<Tun> {
    info.iter().find(|part| matches!(part, LinkInfo::Kind(InfoKind::Tun)))?;
    let mut tun = Tun::default();
    let parts =
        info.iter().filter_map(|part| if let LinkInfo::Data(InfoData::Tun(parts)) = part { Some(parts) } else { None });
    for part in parts.flatten() {
        let InfoTun::Other(attribute) = part else { continue };
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        match (attribute.kind(), value.as_slice()) {
            (OWNER, bytes) => tun.owner = bytes.try_into().ok().map(u32::from_ne_bytes),
            (TYPE, [kind]) => tun.is_tap = *kind == TAP,
            (PERSIST, [stays]) => tun.stays = *stays != 0,
            _ => {}
        }
    }
    Some(tun)
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
        peer: addr.filter(|_| local.is_some() && addr != local),
        len: message.header.prefix_len,
        is_lent: !flags.contains(AddressFlags::Permanent),
        is_duplicate: flags.contains(AddressFlags::Dadfailed),
    })
}

/// Makes the kernel forget whom it sought on a link in vain. Without a cable it asks each second, up to three times; what
/// came to be sent then waits for the next time, and is stale.
pub async fn forget_sought(handle: &Handle, link: u32) -> Result<(), rtnetlink::Error> {
    let neighbours: Vec<NeighbourMessage> = handle.neighbours().get().execute().try_collect().await?;
    for sought in neighbours.into_iter().filter(|message| silent(message).is_some_and(|(of, _)| of == link)) {
        match handle.neighbours().del(sought).execute().await {
            // It is gone, or was found meanwhile.
            Ok(()) | Err(rtnetlink::Error::NetlinkError(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether what the kernel tells may change what is seen. Of neighbours only gateways do: a venue's network has thousands of
/// machines that come and go, and a look at each of them would cost more than all else.
pub fn matters(told: &NetlinkMessage<RouteNetlinkMessage>, seen: &Seen) -> bool {
    let NetlinkPayload::InnerMessage(
        RouteNetlinkMessage::NewNeighbour(neighbour) | RouteNetlinkMessage::DelNeighbour(neighbour),
    ) = &told.payload
    else {
        return true;
    };
    let is_gateway = |(index, addr): (u32, IpAddr)| {
        seen.links.get(&index).is_some_and(|link| link.gateways.iter().any(|gateway| gateway.addr == addr))
    };
    address_of(neighbour).is_some_and(is_gateway)
}

fn silent(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    let is_silent = matches!(message.header.state, NeighbourState::Failed | NeighbourState::Incomplete);
    address_of(message).filter(|_| is_silent)
}

/// Of a neighbour: its link and its address.
fn address_of(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn neighbour(index: u32, addr: [u8; 4]) -> NetlinkMessage<RouteNetlinkMessage> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = index;
        message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(addr.into()))];
        NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message))
    }

    #[test]
    fn of_neighbours_only_gateways_are_looked_after() {
        let gateway = Gateway { addr: "192.0.2.1".parse().unwrap(), is_silent: false };
        let link = Link { gateways: vec![gateway], ..Link::default() };
        let seen = Seen { links: BTreeMap::from([(2, link)]), ways: Ways::default() };
        assert!(matters(&neighbour(2, [192, 0, 2, 1]), &seen));
        assert!(!matters(&neighbour(3, [192, 0, 2, 1]), &seen), "another link");
        assert!(!matters(&neighbour(2, [192, 0, 2, 9]), &seen), "one machine of many");
        let other = RouteNetlinkMessage::NewLink(LinkMessage::default());
        assert!(matters(&NetlinkMessage::from(other), &seen));
    }
}
