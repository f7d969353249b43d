//! The role `net`: watches links, addresses, default routes and neighbours as the kernel tells of them, and says of each
//! link what it is in and why. Of links it changes nothing; systemd-networkd does, by the units that `ravend` writes.
//!
//! It alone of the workers holds a capability, CAP_NET_ADMIN: it makes the devices of tunnels, and sees to it that
//! `vpn.networks` goes through the one that is preferred and nothing else does. The `vpn` role, which parses what comes from
//! the far end, asks for that by typed orders ([`orders`]). [`policy`] is what is taken of them, [`ways`] which rules and
//! routes follow, [`tunnels`] what is wanted, [`change`] how the kernel comes to be so, [`wireguard`] keys and far ends of WireGuard.
//!
//! [`kernel`] is one look at everything, `lldp` who is at the other ends of the cables, [`state`] what it means. A look
//! follows each message of the kernel, a few times a second at most: the kernel is not polled but for what went through
//! links, and a message that was lost costs nothing. networkd is asked about neighbours every few seconds, since it tells
//! nobody of them by itself. [`events`] is what changed between two reports.

pub mod change;
pub mod events;
pub mod kernel;
mod lldp;
pub mod orders;
pub mod policy;
pub mod state;
pub mod tunnels;
pub mod vpn;
pub mod ways;
pub mod wireguard;

use futures_util::{FutureExt, Stream, StreamExt};
use genetlink::GenetlinkHandle;
use kernel::Link;
use lldp::Neighbours;
use orders::{Heard, Orders};
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::{caps, tun};
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::neighbour::Neighbour;
use raven_model::news::News;
use raven_model::report::NetReport;
use raven_model::tunnel::{Carried, FromNet, ToNet, TunnelAnswer, TunnelOrder};
use rtnetlink::Handle;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tunnels::{Outcome, Tunnels};

/// How often it says that it lives, with what it knows.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often it is asked what went through links, heartbeats: a question costs more than all else of one.
const COUNTS: u32 = 5;
/// Longest report, bytes: it has to fit into a packet with what stands around it.
const REPORT_MAX: usize = PACKET_MAX - 4096;
/// Events that stay in a report which is too long.
const EVENTS_LEFT: usize = 8;
/// Rest between two looks.
const REST: Duration = Duration::from_millis(200);
/// `ravend` hands out a descriptor for a device within this time, or none is made.
const PATIENCE: Duration = Duration::from_secs(5);
/// Without it nothing can be done about tunnels.
const CAPABILITY: &str = "CAP_NET_ADMIN";

/// The role cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// With `ravend`.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// What could not be made.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
    /// The kernel refuses.
    #[error("rtnetlink: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// The connection to the kernel is over.
    #[error("the kernel tells nothing any more")]
    Deaf,
}

/// The role.
pub struct Net {
    channel: Channel,
    runtime: Runtime,
    watch: Watch,
    told: UnixStream,
    events: Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>>>>,
    orders: Option<Orders>,
}

/// What is known.
struct Watch {
    handle: Handle,
    /// To the kernel's WireGuard.
    wireguard: GenetlinkHandle,
    config: Box<Config>,
    /// None where nothing is done about them.
    tunnels: Option<Tunnels>,
    seen: kernel::Seen,
    /// Since when there is a cable.
    cables: BTreeMap<u32, Instant>,
    /// As networkd told last.
    neighbours: Neighbours,
    /// Why it did not tell, as it was logged last.
    logged: Option<String>,
    /// As it was when changes were looked for last; none before the first look.
    noted: Option<NetReport>,
    news: News,
    /// A way was opened, and nobody was told.
    returned: bool,
    /// Heartbeats until links are counted again.
    uncounted: u32,
}

/// An order that waits for a descriptor.
struct Making {
    asked: ToNet,
    device: String,
    owner: u32,
    until: tokio::time::Instant,
}

impl Watch {
    /// Looks, and makes what is about tunnels as it is to be. Returns what was changed.
    async fn look(&mut self) -> Result<Vec<String>, NetError> {
        let mut done = Vec::new();
        (self.seen, done) = match &mut self.tunnels {
            Some(tunnels) => tunnels.settle(&self.handle, &self.config).await?,
            None => (kernel::look(&self.handle).await?, done),
        };
        let now = Instant::now();
        let links = &self.seen.links;
        self.cables.retain(|index, _| links.get(index).is_some_and(|link| link.has_carrier));
        let with_cable: Vec<u32> = self.links().filter(|(_, link)| link.has_carrier).map(|(index, _)| *index).collect();
        for index in with_cable {
            let is_new = self.cables.insert(index, self.cables.get(&index).copied().unwrap_or(now)).is_none();
            // It needs the capability that tunnels need.
            if is_new && self.tunnels.is_some() {
                kernel::forget_sought(&self.handle, index).await?;
            }
        }
        self.note();
        Ok(done)
    }

    /// Notes what changed since it did so last.
    fn note(&mut self) {
        let now = self.state();
        let changes = self.noted.as_ref().map(|then| events::between(then, &now)).unwrap_or_default();
        for change in changes {
            self.returned |= events::opens_a_way(&change);
            self.news.add(vpn::hall::now_ns(), change);
        }
        self.noted = Some(now);
    }

    /// Those that are no tunnels' devices.
    fn links(&self) -> impl Iterator<Item = (&u32, &Link)> {
        let is_tunnel = |link: &Link| self.tunnels.as_ref().is_some_and(|tunnels| tunnels.is_tunnel(link));
        self.seen.links.iter().filter(move |(_, link)| !is_tunnel(link))
    }

    /// What went through links is not told by the kernel, but when it is asked.
    async fn count(&mut self) {
        self.uncounted = self.uncounted.saturating_sub(1);
        if self.uncounted > 0 {
            return;
        }
        self.uncounted = COUNTS;
        for (index, traffic) in kernel::traffic(&self.handle).await {
            if let Some(link) = self.seen.links.get_mut(&index) {
                link.traffic = traffic;
            }
        }
    }

    /// How it is now, without what changed.
    fn state(&self) -> NetReport {
        let cable = |index: &u32| self.cables.get(index).map_or(Duration::ZERO, Instant::elapsed);
        let neighbour = |index: &u32| self.neighbours.get(index).cloned().unwrap_or_default();
        let of = |(index, link): (&u32, &Link)| state::of(link, &self.config.network, cable(index), neighbour(index));
        let mut links: Vec<_> = self.links().map(of).collect();
        links.sort_by(|a, b| a.name.cmp(&b.name));
        let tunnels = self.tunnels.as_ref().map(|tunnels| tunnels.report(&self.seen.links));
        let (tunnels, ways) = tunnels.unwrap_or_default();
        NetReport { links, tunnels, ways, news: News::default() }
    }

    /// For `ravend`, which passes it on unread.
    fn report(&mut self) -> Result<Box<RawValue>, NetError> {
        self.note();
        let mut report = self.noted.clone().unwrap_or_default();
        report.news = self.news.clone();
        fitting(report).map_err(|error| NetError::Io("report", error.into()))
    }

    /// The first look: what is there of tunnels is taken over.
    async fn begin(&mut self) -> Result<(), NetError> {
        if let Some(tunnels) = &mut self.tunnels {
            *tunnels = Tunnels::adopt(&kernel::look(&self.handle).await?);
        }
        self.look().await.map(drop)
    }

    /// Carries out an order; one that takes a descriptor comes back.
    async fn obey(&mut self, asked: ToNet) -> Result<Result<FromNet, Making>, NetError> {
        let Some(tunnels) = &mut self.tunnels else {
            let why =
                format!("nothing can be done about tunnels without {CAPABILITY}: ravend has to be started as root");
            return Ok(Ok(answer(asked.id, Err(why))));
        };
        // Of a moment ago at most, but for what the kernel told since: enough to ask a device that is there.
        if !matches!(asked.order, TunnelOrder::Look { .. }) {
            self.seen = kernel::look(&self.handle).await?;
        }
        match tunnels.take(&asked.order, &self.seen) {
            Err(why) => Ok(Ok(answer(asked.id, Err(why)))),
            Ok(Outcome::Make { device, by }) => self.make_first(asked, device, &by).await,
            Ok(Outcome::Wireguard(index)) => Ok(Ok(answer(asked.id, self.wireguard(index, &asked.order).await))),
            Ok(Outcome::Remove(index)) => {
                let gone = self.handle.link().del(index).execute().await;
                if let (Ok(()), TunnelOrder::Close { tunnel }) = (&gone, &asked.order) {
                    tunnels.forget(tunnel);
                }
                let done = gone.map_err(|error| format!("its device cannot be removed: {error}"));
                Ok(Ok(self.settled(&asked, done.map(|()| vec!["device removed".to_owned()])).await?))
            }
            Ok(Outcome::Wanted) => Ok(Ok(self.settled(&asked, Ok(Vec::new())).await?)),
        }
    }

    /// Makes the device of an order that waited for `descriptor`.
    async fn make(&mut self, making: Making, descriptor: Result<OwnedFd, String>) -> Result<FromNet, NetError> {
        let Making { asked, device, owner, .. } = making;
        let made = descriptor.and_then(|descriptor| {
            tun::make(descriptor, &device, owner).map_err(|error| match error.kind() {
                io::ErrorKind::ResourceBusy => tunnels::taken(&device),
                _ => format!("device {device} cannot be made: {error}"),
            })
        });
        self.made(&asked, &device, Carried::Program(owner), made).await
    }

    /// Makes a device of the first of these kinds that can be; one that takes a descriptor waits for that.
    async fn make_first(
        &mut self,
        asked: ToNet,
        device: String,
        by: &[Carried],
    ) -> Result<Result<FromNet, Making>, NetError> {
        for by in by {
            let made = match by {
                Carried::Program(owner) => {
                    let until = tokio::time::Instant::now() + PATIENCE;
                    return Ok(Err(Making { asked, device, owner: *owner, until }));
                }
                Carried::Wireguard => change::make_wireguard(&self.handle, &device).await,
            };
            if made != Ok(false) {
                return Ok(Ok(self.made(&asked, &device, *by, made.map(drop)).await?));
            }
        }
        Ok(Ok(answer(asked.id, Err("this kernel has no WireGuard, and nothing else may carry it".to_owned()))))
    }

    /// The device of an order was made, or could not be.
    async fn made(
        &mut self,
        asked: &ToNet,
        device: &str,
        by: Carried,
        made: Result<(), String>,
    ) -> Result<FromNet, NetError> {
        if let Err(why) = made {
            return Ok(answer(asked.id, Err(why)));
        }
        let quiet = change::quiet(&self.handle, device).await;
        let quiet = quiet.map_err(|error| format!("{device} would give itself addresses: {error}"));
        if let (TunnelOrder::Open { tunnel, endpoints, .. }, Some(tunnels)) = (&asked.order, &mut self.tunnels) {
            tunnels.open(tunnel, by, endpoints);
        }
        self.settled(asked, quiet.map(|()| vec![format!("device {device} made")])).await
    }

    /// Gives a device of WireGuard its keys, or looks how its far ends are.
    async fn wireguard(&mut self, index: u32, order: &TunnelOrder) -> Result<TunnelAnswer, String> {
        if let TunnelOrder::Peers { private_key, port, peers, .. } = order {
            let refused = wireguard::set(&mut self.wireguard, index, private_key, *port, peers).await?;
            return Ok(TunnelAnswer { refused, ..TunnelAnswer::default() });
        }
        let peers = wireguard::look(&mut self.wireguard, index).await?;
        Ok(TunnelAnswer { peers, ..TunnelAnswer::default() })
    }

    async fn settled(&mut self, asked: &ToNet, done: Result<Vec<String>, String>) -> Result<FromNet, NetError> {
        let more = self.look().await?;
        let tunnels = self.tunnels.as_ref();
        let answered = done.and_then(|mut done| {
            done.extend(more);
            tunnels.map_or(Ok(TunnelAnswer::default()), |tunnels| tunnels.answer(&asked.order, done))
        });
        Ok(answer(asked.id, answered))
    }

    /// The links that have a cable, by their numbers.
    fn with_cable(&self) -> Vec<u32> {
        self.cables.keys().copied().collect()
    }

    /// What cannot be known is logged once, not at each question.
    fn take(&mut self, neighbours: Neighbours) {
        let why = neighbours.values().find_map(|neighbour| match neighbour {
            Neighbour::Unknown(why) => Some(why.clone()),
            Neighbour::Nobody | Neighbour::Heard(_) => None,
        });
        if let Some(why) = why.as_ref().filter(|why| self.logged.as_ref() != Some(why)) {
            eprintln!("raven-worker net: who is at the other ends of the cables is not known: {why}");
        }
        self.logged = why;
        self.neighbours = neighbours;
        self.note();
    }
}

impl Net {
    /// Opens the connection to the kernel; comes before the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> Result<Self, NetError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| NetError::Io("event loop", error))?;
        let entered = runtime.enter();
        let (connection, handle, messages) =
            rtnetlink::new_multicast_connection(&kernel::GROUPS).map_err(|error| NetError::Io("rtnetlink", error))?;
        runtime.spawn(connection);
        let (connection, wireguard, _) =
            genetlink::new_connection().map_err(|error| NetError::Io("generic netlink", error))?;
        runtime.spawn(connection);
        let told = listening(&channel)?;
        let pair = start.fds.iter().zip(fds).find(|(name, _)| **name == Fd::Tunnels);
        let orders = pair.map(|(_, fd)| Orders::new(fd)).transpose()?;
        drop(entered);
        let held = caps::effective().is_ok_and(|held| held.iter().any(|name| name == CAPABILITY));
        let watch = Watch {
            handle,
            wireguard,
            config: start.config.clone().unwrap_or_default(),
            tunnels: (held && orders.is_some()).then(Tunnels::default),
            seen: kernel::Seen::default(),
            cables: BTreeMap::new(),
            neighbours: Neighbours::new(),
            logged: None,
            noted: None,
            news: News::new(RandomState::new().hash_one(0)),
            returned: false,
            uncounted: 0,
        };
        Ok(Self { channel, runtime, watch, told, events: Box::pin(messages.map(|(message, _)| message)), orders })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, NetError> {
        self.channel.send_json(&FromWorker::Ready { missing }, &[])?;
        Ok(self)
    }

    /// Watches until `ravend` says stop or is gone.
    pub fn run(self) -> Result<(), NetError> {
        let Self { channel, runtime, mut watch, told, mut events, mut orders } = self;
        runtime.block_on(async {
            let mut beat = tokio::time::interval(HEARTBEAT);
            let mut asked: Option<Pin<Box<dyn Future<Output = Neighbours>>>> = None;
            let mut making: Option<Making> = None;
            // When the next look is due: not at each message of many.
            let mut due: Option<tokio::time::Instant> = None;
            watch.begin().await?;
            if let Some(orders) = &mut orders {
                orders.say(&FromNet::Began);
            }
            loop {
                tokio::select! {
                    told = hear(&channel, &told) => match told? {
                        Some((ToWorker::Configure(config), _)) => {
                            watch.config = config;
                            watch.look().await?;
                        }
                        // One conversation at a time: networkd may be slow.
                        Some((ToWorker::Networkd(Ok(())), mut fds)) if asked.is_none() => {
                            let connection = fds.pop();
                            asked = connection.map(|connection| Box::pin(lldp::ask(connection, watch.with_cable())) as _);
                        }
                        Some((ToWorker::Networkd(Err(why)), _)) => {
                            let unknown = |link| (link, Neighbour::Unknown(why.clone()));
                            watch.take(watch.with_cable().into_iter().map(unknown).collect());
                        }
                        Some((ToWorker::Tun(opened), mut fds)) => {
                            let descriptor = opened.and_then(|()| fds.pop().ok_or_else(|| "no descriptor came".to_owned()));
                            if let (Some(making), Some(orders)) = (making.take(), &mut orders) {
                                orders.say(&watch.make(making, descriptor).await?);
                            }
                        }
                        Some((ToWorker::Stop, _)) | None => return Ok(()),
                        Some(_) => {}
                    },
                    event = events.next() => {
                        let mut matters = kernel::matters(&event.ok_or(NetError::Deaf)?, &watch.seen);
                        while let Some(event) = events.next().now_or_never().flatten() {
                            matters |= kernel::matters(&event, &watch.seen);
                        }
                        if matters {
                            due.get_or_insert_with(|| tokio::time::Instant::now() + REST);
                        }
                    }
                    () = at(due) => {
                        due = None;
                        watch.look().await?;
                        if std::mem::take(&mut watch.returned) && let Some(orders) = &mut orders {
                            orders.hint(&FromNet::Returned);
                        }
                    }
                    heard = next(&mut orders), if making.is_none() => {
                        let answered = match heard {
                            Heard::Order(asked) => watch.obey(asked).await?,
                            Heard::Nonsense(id, why) => Ok(FromNet::Answer { id, answer: Err(why) }),
                        };
                        match (answered, &mut orders) {
                            (Ok(answered), Some(orders)) => orders.say(&answered),
                            (Err(waits), _) => {
                                channel.send_json(&FromWorker::Tun, &[])?;
                                making = Some(waits);
                            }
                            (Ok(_), None) => {}
                        }
                    }
                    () = at(making.as_ref().map(|making| making.until)) => {
                        if let (Some(making), Some(orders)) = (making.take(), &mut orders) {
                            let why = format!("ravend opened no {} within {} s", tun::PLACE, PATIENCE.as_secs());
                            orders.say(&answer(making.asked.id, Err(why)));
                        }
                    }
                    neighbours = async { asked.as_mut().expect("only polled while it is there").await }, if asked.is_some() => {
                        asked = None;
                        watch.take(neighbours);
                    }
                    _ = beat.tick() => {
                        watch.count().await;
                        let report = watch.report()?;
                        channel.send_json(&FromWorker::Heartbeat { report }, &[])?;
                    }
                }
            }
        })
    }
}

/// As JSON. Of one that would not fit into a packet the ways are left out first, then what changed but for the newest.
fn fitting(mut report: NetReport) -> serde_json::Result<Box<RawValue>> {
    let whole = to_raw_value(&report)?;
    if whole.get().len() <= REPORT_MAX {
        return Ok(whole);
    }
    (report.ways.held_rules, report.ways.held_routes) = Default::default();
    let old = report.news.events.len().saturating_sub(EVENTS_LEFT);
    report.news.events.drain(..old);
    to_raw_value(&report)
}

/// At that time; never, without one.
async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The next order; never, where none are given.
async fn next(orders: &mut Option<Orders>) -> Heard {
    match orders {
        Some(orders) => orders.next().await,
        None => std::future::pending().await,
    }
}

const fn answer(id: u64, answer: Result<TunnelAnswer, String>) -> FromNet {
    FromNet::Answer { id: Some(id), answer }
}

/// What becomes readable with a channel; within the event loop.
fn listening(channel: &Channel) -> Result<UnixStream, NetError> {
    let io = |error| NetError::Io("control channel", error);
    let told = std::os::unix::net::UnixStream::from(channel.as_fd().try_clone_to_owned().map_err(io)?);
    told.set_nonblocking(true).map_err(io)?;
    UnixStream::from_std(told).map_err(io)
}

/// The next message of whoever is at the other end; `None` when nobody is.
async fn hear<T: DeserializeOwned>(
    channel: &Channel,
    told: &UnixStream,
) -> Result<Option<(T, Vec<OwnedFd>)>, NetError> {
    let mut packet = vec![0; PACKET_MAX];
    loop {
        told.readable().await.map_err(|error| NetError::Io("control channel", error))?;
        let heard = told.try_io(Interest::READABLE, || match channel.try_recv_json::<T>(&mut packet) {
            Err(ChannelError::Io(error)) => Err(error),
            heard => Ok(heard),
        });
        match heard {
            Ok(heard) => return Ok(heard?),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(ChannelError::from(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::host::Change;
    use raven_model::report::WaysStatus;
    use raven_model::tunnel::{HeldRule, Why};
    use raven_model::units::UnixNanos;

    #[test]
    fn a_report_that_would_not_fit_leaves_out_what_can_be_missed() {
        let rule = HeldRule { priority: 7700, packets: "x".repeat(2000), table: 7700, why: Why::Networks };
        let mut news = News::new(7);
        (1..=20).for_each(|t| news.add(UnixNanos(t), Change::OomKill { count: t }));
        let report = |rules: usize| {
            let ways = WaysStatus { held_rules: vec![rule.clone(); rules], ..WaysStatus::default() };
            let fitted = fitting(NetReport { ways, news: news.clone(), ..NetReport::default() }).unwrap();
            assert!(fitted.get().len() <= REPORT_MAX);
            serde_json::from_str::<NetReport>(fitted.get()).unwrap()
        };
        let (short, long) = (report(2), report(128));
        assert_eq!((short.ways.held_rules.len(), short.news.events.len()), (2, 20));
        assert_eq!((long.ways.held_rules.len(), long.news.events.len(), long.news.count), (0, EVENTS_LEFT, 20));
    }
}
