//! Tunnels: what was ordered of them, and how the kernel comes to be so.
//!
//! Orders change what is wanted; [`Tunnels::settle`] then looks at the kernel and changes what differs. The same follows
//! whenever the kernel tells of a change, or the configuration changes: nobody has to order anything for that. What is wanted
//! is not kept anywhere else: after a restart it is read out of the kernel, so that nothing changes by it.

use crate::kernel::{Link, Seen, Tun};
use crate::policy::{self, Venue};
use crate::ways::{self, Route, Rule, TABLES};
use crate::{change, kernel};
use raven_model::config::{Address, Config};
use raven_model::prefix::Prefix;
use raven_model::report::WaysStatus;
use raven_model::tunnel::{
    Carried, DEVICE, HeldRoute, Refusal, SHOWN_REFUSALS, SHOWN_ROUTES, SHOWN_WAYS, TunnelAnswer, TunnelName,
    TunnelOrder, TunnelState, TunnelStatus,
};
use rtnetlink::Handle;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Troubles that are told.
const TROUBLES_MAX: usize = 8;

/// What is wanted.
#[derive(Debug, Default)]
pub struct Tunnels {
    open: BTreeMap<TunnelName, Tunnel>,
    preferred: Option<TunnelName>,
    /// As it was looked up last.
    status: WaysStatus,
    /// What the kernel would not change: of a tunnel, or of rules and routes.
    troubles: Vec<(Option<TunnelName>, String)>,
}

/// One that was opened.
#[derive(Debug, Clone)]
struct Tunnel {
    /// Its own table.
    table: u32,
    /// What carries its packets.
    by: Carried,
    endpoints: Vec<IpAddr>,
    up: Option<Up>,
    /// The number of its device, when that is there and is ours.
    index: Option<u32>,
    taken: Taken,
    /// Of `endpoints`.
    refused: Vec<Refusal>,
}

/// As asked for.
#[derive(Debug, Clone)]
struct Up {
    addresses: Vec<Address>,
    peer: Option<IpAddr>,
    mtu: Option<u32>,
    routes: Vec<Prefix>,
}

/// What came of it at the newest look.
#[derive(Debug, Clone, Default)]
struct Taken {
    addresses: Vec<IpAddr>,
    routes: Vec<Prefix>,
    refused: Vec<Refusal>,
}

/// An order was carried out, or has to wait.
pub enum Outcome {
    /// What is wanted has changed.
    Wanted,
    /// A device must be made first, and told with [`Tunnels::open`].
    Make {
        /// Of this name.
        device: String,
        /// Of the first of these kinds that can be.
        by: Vec<Carried>,
    },
    /// The device of WireGuard of that number is to be given its keys, or asked how its far ends are.
    Wireguard(u32),
    /// It is to be removed first.
    Remove(u32),
}

impl Tunnels {
    /// Those that the kernel knows, from before this process began.
    pub fn adopt(seen: &Seen) -> Self {
        let mut tunnels = Self::default();
        for (device, table) in seen.ways.tables() {
            let Some(Ok(name)) = device.strip_prefix(DEVICE).map(str::parse::<TunnelName>) else { continue };
            let found = seen.links.iter().find(|(_, link)| link.name == device);
            let owner = found.and_then(|(_, link)| link.tun).and_then(|tun| tun.owner).unwrap_or_default();
            let is_wireguard = found.is_some_and(|(_, link)| link.is_wireguard);
            let by = if is_wireguard { Carried::Wireguard } else { Carried::Program(owner) };
            let routes = seen.ways.routes_of(table);
            let up = found.zip(routes).map(|((_, link), routes)| Up::of(link, routes));
            if found.map(|(index, _)| *index).is_some_and(|index| seen.ways.carrier() == Some(index)) {
                tunnels.preferred = Some(name.clone());
            }
            let endpoints = seen.ways.endpoints(table);
            tunnels.open.insert(name, Tunnel { endpoints, up, ..Tunnel::new(table, by) });
        }
        tunnels
    }

    /// Takes an order, as far as that needs nothing of the kernel.
    ///
    /// # Errors
    /// It cannot be: nothing has changed.
    pub fn take(&mut self, order: &TunnelOrder, seen: &Seen) -> Result<Outcome, String> {
        match order {
            TunnelOrder::Open { tunnel, by, endpoints } => self.take_open(tunnel, by, endpoints, seen),
            TunnelOrder::Peers { tunnel, .. } | TunnelOrder::Look { tunnel } => {
                let wanted = self.known(tunnel)?;
                let (index, link) = there(tunnel, seen)?;
                if wanted.by != Carried::Wireguard {
                    return Err(format!("{} is not one of WireGuard", tunnel.device()));
                }
                ours(tunnel, wanted.by, link)?;
                Ok(Outcome::Wireguard(index))
            }
            TunnelOrder::Up { tunnel, addresses, peer, mtu, routes, endpoints } => {
                let up = Up { addresses: addresses.clone(), peer: *peer, mtu: *mtu, routes: routes.clone() };
                let wanted = self.known(tunnel)?;
                let (_, link) = there(tunnel, seen)?;
                ours(tunnel, wanted.by, link)?;
                (wanted.endpoints, wanted.refused) = policy::endpoints(endpoints);
                wanted.up = Some(up);
                Ok(Outcome::Wanted)
            }
            TunnelOrder::Down { tunnel } => {
                self.known(tunnel)?.up = None;
                Ok(Outcome::Wanted)
            }
            TunnelOrder::Close { tunnel } => {
                let Some(wanted) = self.open.get(tunnel) else { return Ok(Outcome::Wanted) };
                let device = link_of(tunnel, seen).filter(|(_, link)| ours(tunnel, wanted.by, link).is_ok());
                let Some((index, _)) = device else {
                    self.forget(tunnel);
                    return Ok(Outcome::Wanted);
                };
                Ok(Outcome::Remove(index))
            }
            TunnelOrder::Prefer { tunnel } => {
                if let Some(tunnel) = tunnel {
                    self.known(tunnel)?;
                }
                self.preferred.clone_from(tunnel);
                Ok(Outcome::Wanted)
            }
        }
    }

    fn take_open(
        &mut self,
        tunnel: &TunnelName,
        by: &[Carried],
        endpoints: &[IpAddr],
        seen: &Seen,
    ) -> Result<Outcome, String> {
        if by.contains(&Carried::Program(0)) {
            return Err("a tunnel's device is for a user of its own, not for root".to_owned());
        }
        if !self.open.contains_key(tunnel) && self.free_table().is_none() {
            return Err(format!("{} tunnels are open, and no more can be: close one", self.open.len()));
        }
        let Some((_, link)) = link_of(tunnel, seen) else {
            return Ok(Outcome::Make { device: tunnel.device(), by: by.to_vec() });
        };
        let it_is = by.iter().find(|by| ours(tunnel, **by, link).is_ok());
        self.open(tunnel, *it_is.ok_or_else(|| taken(&tunnel.device()))?, endpoints);
        Ok(Outcome::Wanted)
    }

    /// Its device is there.
    pub fn open(&mut self, tunnel: &TunnelName, by: Carried, endpoints: &[IpAddr]) {
        let table = self.open.get(tunnel).map(|tunnel| tunnel.table).or_else(|| self.free_table());
        let Some(table) = table else { return };
        let wanted = self.open.entry(tunnel.clone()).or_insert_with(|| Tunnel::new(table, by));
        (wanted.table, wanted.by) = (table, by);
        if !endpoints.is_empty() {
            (wanted.endpoints, wanted.refused) = policy::endpoints(endpoints);
        }
    }

    /// Its device is not there any more.
    pub fn forget(&mut self, tunnel: &TunnelName) {
        self.open.remove(tunnel);
        self.preferred.take_if(|preferred| preferred == tunnel);
    }

    fn free_table(&self) -> Option<u32> {
        TABLES.into_iter().find(|table| self.open.values().all(|tunnel| tunnel.table != *table))
    }

    fn known(&mut self, tunnel: &TunnelName) -> Result<&mut Tunnel, String> {
        self.open.get_mut(tunnel).ok_or_else(|| format!("{} is not open", tunnel.device()))
    }

    /// The devices of tunnels, which are no links of the venue.
    pub fn is_tunnel(&self, link: &Link) -> bool {
        self.open.iter().any(|(name, tunnel)| link.name == name.device() && ours(name, tunnel.by, link).is_ok())
    }

    /// Makes the kernel as is wanted. Returns what was seen at the end, and what was changed.
    ///
    /// # Errors
    /// The kernel does not tell how it is. What it would not change is told in the answer and in the report.
    pub async fn settle(&mut self, handle: &Handle, config: &Config) -> Result<(Seen, Vec<String>), rtnetlink::Error> {
        let mut seen = kernel::look(handle).await?;
        let mut done = Vec::new();
        self.troubles.clear();
        let venue = Venue::of(seen.links.values().filter(|link| !self.is_tunnel(link)), config);
        for (name, tunnel) in &mut self.open {
            let mut troubles = Vec::new();
            tunnel.find(name, &seen, &mut troubles);
            let wishes = tunnel.wishes(&venue);
            if let Some((index, link)) = tunnel.index.and_then(|index| Some((index, seen.links.get(&index)?))) {
                let steps = change::of_device(link, wishes.as_ref());
                change::device(handle, index, &name.device(), &steps, &mut done, &mut troubles).await;
            }
            self.troubles.extend(troubles.into_iter().map(|trouble| (Some(name.clone()), trouble)));
        }
        if !done.is_empty() {
            // Routes lead into devices that are on.
            seen = kernel::look(handle).await?;
        }
        let wanted = ways::wanted(&self.ways(&seen), &config.vpn.networks, &config.vpn.never, &venue.nets());
        let mut troubles = Vec::new();
        change::ways(handle, &seen.ways, &wanted, &mut done, &mut troubles).await;
        self.troubles.extend(troubles.into_iter().map(|trouble| (None, trouble)));
        self.status = WaysStatus {
            rules: wanted.rules.len() as u32,
            routes: wanted.routes.len() as u32,
            overlaps: venue.overlaps(&config.vpn.networks),
            trouble: said(self.troubles.iter()),
            held_rules: wanted.rules.iter().take(SHOWN_WAYS).map(Rule::held).collect(),
            held_routes: wanted.routes.iter().take(SHOWN_WAYS).map(|route| held(route, &seen)).collect(),
        };
        Ok((seen, done))
    }

    fn ways(&self, seen: &Seen) -> Vec<ways::Tunnel> {
        let way = |(name, tunnel): (&TunnelName, &Tunnel)| {
            let link = tunnel.index.and_then(|index| seen.links.get(&index));
            let is_on = tunnel.up.is_some() && link.is_some_and(|link| link.is_on);
            ways::Tunnel {
                device: name.device(),
                table: tunnel.table,
                endpoints: tunnel.endpoints.clone(),
                index: tunnel.index.filter(|_| is_on),
                addresses: tunnel.taken.addresses.clone(),
                routes: tunnel.taken.routes.clone(),
                is_preferred: self.preferred.as_ref() == Some(name),
                is_held: link.is_some_and(|link| link.has_carrier),
            }
        };
        self.open.iter().map(way).collect()
    }

    /// What is told of an order that was carried out: the trouble that another tunnel has is not its own.
    pub fn answer(&self, order: &TunnelOrder, applied: Vec<String>) -> Result<TunnelAnswer, String> {
        let of_it = |(tunnel, _): &&(Option<TunnelName>, String)| tunnel.is_none() || tunnel.as_ref() == about(order);
        let trouble = said(self.troubles.iter().filter(of_it));
        if !trouble.is_empty() {
            return Err(trouble);
        }
        let (refused, by) = match order {
            TunnelOrder::Open { tunnel, .. } | TunnelOrder::Up { tunnel, .. } => {
                let tunnel = self.open.get(tunnel);
                (tunnel.map(Tunnel::refusals).unwrap_or_default(), tunnel.map(|tunnel| tunnel.by))
            }
            _ => Default::default(),
        };
        Ok(TunnelAnswer { applied, refused, by, peers: Vec::new() })
    }

    /// For the report.
    pub fn report(&self, links: &BTreeMap<u32, Link>) -> (Vec<TunnelStatus>, WaysStatus) {
        let status = |(name, tunnel): (&TunnelName, &Tunnel)| {
            let link = tunnel.index.and_then(|index| links.get(&index));
            let is_held = link.is_some_and(|link| link.has_carrier);
            let state = match (link, &tunnel.up) {
                (None, _) => TunnelState::Gone,
                (Some(_), None) => TunnelState::Down,
                (Some(_), Some(_)) if is_held => TunnelState::Up,
                (Some(_), Some(_)) => TunnelState::Waiting,
            };
            TunnelStatus {
                name: name.clone(),
                device: name.device(),
                state,
                carries: state == TunnelState::Up && self.preferred.as_ref() == Some(name),
                addresses: link.map(|link| link.addresses.iter().map(|a| a.addr).collect()).unwrap_or_default(),
                mtu: link.map_or(0, |link| link.mtu),
                table: tunnel.table,
                routes: tunnel.taken.routes.iter().take(SHOWN_ROUTES).copied().collect(),
                routes_taken: tunnel.taken.routes.len() as u32,
                refused: tunnel.refusals().into_iter().take(SHOWN_REFUSALS).collect(),
                traffic: link.map(|link| link.traffic).unwrap_or_default(),
            }
        };
        (self.open.iter().map(status).collect(), self.status.clone())
    }
}

impl Tunnel {
    fn new(table: u32, by: Carried) -> Self {
        let taken = Taken::default();
        Self { table, by, endpoints: Vec::new(), up: None, index: None, taken, refused: Vec::new() }
    }

    /// Its device, when it is there and is ours.
    fn find(&mut self, name: &TunnelName, seen: &Seen, troubles: &mut Vec<String>) {
        self.index = None;
        match link_of(name, seen).map(|(index, link)| (index, ours(name, self.by, link))) {
            Some((index, Ok(()))) => self.index = Some(index),
            Some((_, Err(why))) => troubles.push(why),
            None => {}
        }
    }

    /// How its device is to be, by what is asked for and by where the venue is now; nothing while it is down.
    fn wishes(&mut self, venue: &Venue) -> Option<change::Device> {
        self.taken = Taken::default();
        let up = self.up.as_ref()?;
        let (addresses, mut refused) = policy::addresses(&up.addresses, &self.endpoints, venue);
        let (routes, more) = policy::routes(&up.routes, &self.endpoints, venue);
        let (peer, no_peer) = policy::peer(up.peer, venue);
        let (mtu, no_mtu) = policy::mtu(up.mtu);
        refused.extend(more.into_iter().chain(no_peer).chain(no_mtu));
        self.taken = Taken { addresses: addresses.clone(), routes, refused };
        Some(change::Device { addresses, peer, mtu })
    }

    fn refusals(&self) -> Vec<Refusal> {
        self.refused.iter().chain(&self.taken.refused).cloned().collect()
    }
}

impl Up {
    /// As the kernel has it.
    fn of(link: &Link, routes: Vec<Prefix>) -> Self {
        let address = |addr: IpAddr| Address { addr, len: if addr.is_ipv4() { 32 } else { 128 } };
        Self {
            addresses: link.addresses.iter().map(|a| address(a.addr)).collect(),
            peer: link.addresses.iter().find_map(|a| a.peer),
            mtu: Some(link.mtu),
            routes,
        }
    }
}

/// The tunnel of an order.
const fn about(order: &TunnelOrder) -> Option<&TunnelName> {
    match order {
        TunnelOrder::Open { tunnel, .. }
        | TunnelOrder::Up { tunnel, .. }
        | TunnelOrder::Down { tunnel }
        | TunnelOrder::Peers { tunnel, .. }
        | TunnelOrder::Look { tunnel }
        | TunnelOrder::Close { tunnel } => Some(tunnel),
        TunnelOrder::Prefer { tunnel } => tunnel.as_ref(),
    }
}

/// As much of it as helps.
fn said<'a>(troubles: impl Iterator<Item = &'a (Option<TunnelName>, String)>) -> String {
    troubles.take(TROUBLES_MAX).map(|(_, trouble)| trouble.as_str()).collect::<Vec<_>>().join("; ")
}

fn held(route: &Route, seen: &Seen) -> HeldRoute {
    route.held(route.device.and_then(|index| Some(seen.links.get(&index)?.name.clone())))
}

/// The device of this name, and its number.
fn link_of<'a>(tunnel: &TunnelName, seen: &'a Seen) -> Option<(u32, &'a Link)> {
    let device = tunnel.device();
    seen.links.iter().find(|(_, link)| link.name == device).map(|(index, link)| (*index, link))
}

fn there<'a>(tunnel: &TunnelName, seen: &'a Seen) -> Result<(u32, &'a Link), String> {
    link_of(tunnel, seen).ok_or_else(|| format!("{} is not there: open it again", tunnel.device()))
}

/// Whether the device of this name is one that we made so.
fn ours(tunnel: &TunnelName, by: Carried, link: &Link) -> Result<(), String> {
    let is_ours = match by {
        Carried::Program(owner) => link.tun == Some(Tun { owner: Some(owner), stays: true, is_tap: false }),
        Carried::Wireguard => link.is_wireguard && link.alias == change::ALIAS,
    };
    if is_ours { Ok(()) } else { Err(taken(&tunnel.device())) }
}

/// What is said of a device that is not ours.
pub fn taken(device: &str) -> String {
    format!("device {device} is taken by somebody else: remove it, or give the profile another name")
}
