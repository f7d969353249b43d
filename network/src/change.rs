//! What is changed in the kernel: devices of tunnels, rules and routes. What is so already is left alone.

use crate::kernel::Link;
use crate::tunnels;
use crate::ways::{Route, Rule, Ways};
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkUnspec, LinkWireguard};
use std::io;
use std::net::IpAddr;

/// Changes that are told one by one.
const TOLD_MAX: usize = 64;

/// How the device of a tunnel is to be while the tunnel is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its addresses, and no others.
    pub addresses: Vec<IpAddr>,
    /// The address of the far end, for the first address of its family.
    pub peer: Option<IpAddr>,
    /// Longest packet, bytes.
    pub mtu: u32,
}

/// One change of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Longest packet.
    Mtu(u32),
    /// One address less, as the kernel has it.
    Remove(crate::kernel::Address),
    /// One more, with that of the far end.
    Add(IpAddr, Option<IpAddr>),
    /// On.
    On,
}

/// What makes `link` as it is to be: nothing of the kind is left when the tunnel is down.
pub fn of_device(link: &Link, wanted: Option<&Device>) -> Vec<Step> {
    let mut steps = Vec::new();
    let addresses = wanted.map(with_peers).unwrap_or_default();
    // The length of its network's prefix is of no use: what goes into a tunnel is said by rules.
    let is_wanted =
        |have: &crate::kernel::Address| have.len == bits(have.addr) && addresses.contains(&(have.addr, have.peer));
    steps.extend(wanted.filter(|wanted| wanted.mtu != link.mtu).map(|wanted| Step::Mtu(wanted.mtu)));
    steps.extend(link.addresses.iter().filter(|have| !is_wanted(have)).map(|have| Step::Remove(*have)));
    let has = |new: &(IpAddr, Option<IpAddr>)| {
        link.addresses.iter().any(|have| is_wanted(have) && (have.addr, have.peer) == *new)
    };
    // IPv6 has no addresses on a device that is off, and what it had is gone when it was.
    steps.extend((wanted.is_some() && !link.is_on).then_some(Step::On));
    steps.extend(addresses.iter().filter(|new| !has(new)).map(|(addr, peer)| Step::Add(*addr, *peer)));
    steps
}

/// Each address with that of the far end that it has.
fn with_peers(device: &Device) -> Vec<(IpAddr, Option<IpAddr>)> {
    let first = |addr: &IpAddr| device.addresses.iter().find(|a| a.is_ipv4() == addr.is_ipv4()) == Some(addr);
    let peer =
        |addr: &IpAddr| device.peer.filter(|peer| peer.is_ipv4() == addr.is_ipv4() && first(addr) && peer != addr);
    device.addresses.iter().map(|addr| (*addr, peer(addr))).collect()
}

const fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// Changes a device. What was done is added to `done`, what could not be to `troubles`.
pub async fn device(
    handle: &Handle,
    index: u32,
    name: &str,
    steps: &[Step],
    done: &mut Vec<String>,
    troubles: &mut Vec<String>,
) {
    for step in steps {
        let (what, result) = match step {
            Step::Mtu(mtu) => (format!("MTU {mtu}"), set(handle, LinkUnspec::new_with_index(index).mtu(*mtu)).await),
            Step::On => ("on".to_owned(), set(handle, LinkUnspec::new_with_index(index).up()).await),
            Step::Add(addr, peer) => {
                let mut request = handle.address().add(index, *addr, bits(*addr));
                *request.message_mut() = address(index, *addr, *peer, bits(*addr));
                (format!("address {addr}"), request.execute().await)
            }
            Step::Remove(have) => {
                let message = address(index, have.addr, have.peer, have.len);
                (format!("no address {}", have.addr), handle.address().del(message).execute().await)
            }
        };
        let fine = if matches!(step, Step::Remove(_)) { REMOVED } else { MADE };
        told(result, fine, format!("{name}: {what}"), done, troubles);
    }
}

async fn set(handle: &Handle, message: LinkMessageBuilder<LinkUnspec>) -> Result<(), Error> {
    handle.link().set(message.build()).execute().await
}

/// What devices of WireGuard are called beside their name, so that they are known for ours.
pub const ALIAS: &str = "raven";

/// A new device makes no address by itself: what is not ordered is not there. And it says whose it is.
pub async fn quiet(handle: &Handle, name: &str) -> Result<(), Error> {
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let index = index(handle, name).await?;
    let message = LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![mode]))
        .append_extra_attribute(LinkAttribute::IfAlias(ALIAS.to_owned()));
    set(handle, message).await
}

/// Makes a device of the kernel's WireGuard; false when the kernel has none.
///
/// # Errors
/// As it is said to operators.
pub async fn make_wireguard(handle: &Handle, name: &str) -> Result<bool, String> {
    let Err(error) = handle.link().add(LinkWireguard::new(name).build()).execute().await else { return Ok(true) };
    match errno(&error) {
        Some(EOPNOTSUPP) => Ok(false),
        Some(EEXIST) => Err(tunnels::taken(name)),
        errno => Err(format!("device {name} cannot be made: {}", said(&error, errno))),
    }
}

async fn index(handle: &Handle, name: &str) -> Result<u32, Error> {
    let links: Vec<_> = handle.link().get().match_name(name).execute().try_collect().await?;
    links.first().map(|link| link.header.index).ok_or(Error::RequestFailed)
}

/// Makes no route of its own in the table of the venue.
fn address(index: u32, addr: IpAddr, peer: Option<IpAddr>, len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = len;
    message.header.index = index;
    let unasked = if addr.is_ipv4() { AddressFlags::empty() } else { AddressFlags::Nodad };
    message.attributes = vec![
        AddressAttribute::Local(addr),
        AddressAttribute::Address(peer.unwrap_or(addr)),
        AddressAttribute::Flags(AddressFlags::Noprefixroute | unasked),
    ];
    message
}

/// Makes rules and routes so. What is new comes before what is old goes: no packet finds neither.
pub async fn ways(handle: &Handle, have: &Ways, wanted: &Ways, done: &mut Vec<String>, troubles: &mut Vec<String>) {
    let (new, old) = (wanted.without(have), have.without(wanted));
    for route in &new.routes {
        let message = RouteNetlinkMessage::NewRoute(route.message());
        told(ask(handle, message, NLM_F_CREATE | NLM_F_REPLACE).await, MADE, said_route(route), done, troubles);
    }
    for rule in &new.rules {
        let message = RouteNetlinkMessage::NewRule(rule.message());
        told(ask(handle, message, NLM_F_CREATE | NLM_F_EXCL).await, MADE, said_rule(rule), done, troubles);
    }
    for rule in &old.rules {
        let message = RouteNetlinkMessage::DelRule(rule.message());
        told(ask(handle, message, 0).await, REMOVED, format!("no {}", said_rule(rule)), done, troubles);
    }
    for route in &old.routes {
        let message = RouteNetlinkMessage::DelRoute(route.removal());
        told(ask(handle, message, 0).await, REMOVED, format!("no {}", said_route(route)), done, troubles);
    }
}

async fn ask(handle: &Handle, message: RouteNetlinkMessage, flags: u16) -> Result<(), Error> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            return error.code.map_or(Ok(()), |_| Err(Error::NetlinkError(error)));
        }
    }
    Ok(())
}

fn said_rule(rule: &Rule) -> String {
    format!("rule {}: {}, table {}", rule.priority, rule.which, rule.table)
}

fn said_route(route: &Route) -> String {
    let device = route.device.map_or_else(|| "nowhere".to_owned(), |index| format!("device {index}"));
    format!("route of table {}: {} to {device}", route.table, route.to)
}

/// Of what was to be made: EEXIST. It is so.
const MADE: &[i32] = &[EEXIST];
const EEXIST: i32 = 17;
const EOPNOTSUPP: i32 = 95;
/// Of what was to be removed: ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL. It is so.
const REMOVED: &[i32] = &[2, 3, 19, 99];

fn told(result: Result<(), Error>, fine: &[i32], what: String, done: &mut Vec<String>, troubles: &mut Vec<String>) {
    match result {
        Ok(()) if done.len() < TOLD_MAX => done.push(what),
        Ok(()) => {}
        Err(error) => match errno(&error) {
            Some(errno) if fine.contains(&errno) => {}
            errno => troubles.push(format!("{what}: {}", said(&error, errno))),
        },
    }
}

fn errno(error: &Error) -> Option<i32> {
    if let Error::NetlinkError(message) = error { message.code.map(|code| -code.get()) } else { None }
}

fn said(error: &Error, errno: Option<i32>) -> String {
    errno.map_or_else(|| error.to_string(), |errno| io::Error::from_raw_os_error(errno).to_string())
}
