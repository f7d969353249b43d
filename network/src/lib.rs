//! The role `net`: watches links, addresses, default routes and neighbours as the kernel tells of them, and says of each
//! link what it is in and why. It changes nothing; systemd-networkd does, by the units that `ravend` writes.
//!
//! [`kernel`] is one look at everything, `lldp` who is at the other ends of the cables, [`state`] what it means. A look
//! follows each message of the kernel, a few times a second at most: the kernel is not polled, and a message that was lost
//! costs nothing. networkd is asked about neighbours every few seconds, since it tells nobody of them by itself.

pub mod kernel;
mod lldp;
pub mod state;

use futures_util::{FutureExt, Stream, StreamExt};
use kernel::Link;
use lldp::Neighbours;
use raven_jail::channel::{Channel, ChannelError};
use raven_model::config::Network;
use raven_model::control::{FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::neighbour::Neighbour;
use raven_model::report::NetReport;
use rtnetlink::Handle;
use serde_json::value::to_raw_value;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// How often it says that it lives, with what it knows.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Rest between two looks.
const REST: Duration = Duration::from_millis(200);

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
    events: Pin<Box<dyn Stream<Item = ()>>>,
}

/// What is known.
struct Watch {
    handle: Handle,
    network: Network,
    links: BTreeMap<u32, Link>,
    /// Since when there is a cable.
    cables: BTreeMap<u32, Instant>,
    /// As networkd told last.
    neighbours: Neighbours,
    /// Why it did not tell, as it was logged last.
    logged: Option<String>,
}

impl Watch {
    async fn look(&mut self) -> Result<(), NetError> {
        self.links = kernel::look(&self.handle).await?;
        let now = Instant::now();
        let links = &self.links;
        self.cables.retain(|index, _| links.get(index).is_some_and(|link| link.has_carrier));
        for (index, _) in links.iter().filter(|(_, link)| link.has_carrier) {
            self.cables.entry(*index).or_insert(now);
        }
        Ok(())
    }

    fn report(&self) -> NetReport {
        let cable = |index: &u32| self.cables.get(index).map_or(Duration::ZERO, Instant::elapsed);
        let neighbour = |index: &u32| self.neighbours.get(index).cloned().unwrap_or_default();
        let mut links: Vec<_> = self
            .links
            .iter()
            .map(|(index, link)| state::of(link, &self.network, cable(index), neighbour(index)))
            .collect();
        links.sort_by(|a, b| a.name.cmp(&b.name));
        NetReport { links }
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
    }
}

impl Net {
    /// Opens the connection to the kernel; comes before the jail.
    pub fn new(start: &Start, channel: Channel) -> Result<Self, NetError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| NetError::Io("event loop", error))?;
        let entered = runtime.enter();
        let (connection, handle, messages) =
            rtnetlink::new_multicast_connection(&kernel::GROUPS).map_err(|error| NetError::Io("rtnetlink", error))?;
        runtime.spawn(connection);
        let io = |error| NetError::Io("control channel", error);
        let told = std::os::unix::net::UnixStream::from(channel.as_fd().try_clone_to_owned().map_err(io)?);
        told.set_nonblocking(true).map_err(io)?;
        let told = UnixStream::from_std(told).map_err(io)?;
        drop(entered);
        let network = start.config.as_deref().map(|config| config.network.clone()).unwrap_or_default();
        let watch = Watch {
            handle,
            network,
            links: BTreeMap::new(),
            cables: BTreeMap::new(),
            neighbours: Neighbours::new(),
            logged: None,
        };
        Ok(Self { channel, runtime, watch, told, events: Box::pin(messages.map(drop)) })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, NetError> {
        self.channel.send_json(&FromWorker::Ready { missing }, &[])?;
        Ok(self)
    }

    /// Watches until `ravend` says stop or is gone.
    pub fn run(self) -> Result<(), NetError> {
        let Self { channel, runtime, mut watch, told, mut events } = self;
        runtime.block_on(async {
            let mut beat = tokio::time::interval(HEARTBEAT);
            let mut asked: Option<Pin<Box<dyn Future<Output = Neighbours>>>> = None;
            watch.look().await?;
            loop {
                tokio::select! {
                    told = hear(&channel, &told) => match told? {
                        Some((ToWorker::Configure(config), _)) => watch.network = config.network,
                        // One conversation at a time: networkd may be slow.
                        Some((ToWorker::Networkd(Ok(())), mut fds)) if asked.is_none() => {
                            let connection = fds.pop();
                            asked = connection.map(|connection| Box::pin(lldp::ask(connection, watch.with_cable())) as _);
                        }
                        Some((ToWorker::Networkd(Err(why)), _)) => {
                            let unknown = |link| (link, Neighbour::Unknown(why.clone()));
                            watch.take(watch.with_cable().into_iter().map(unknown).collect());
                        }
                        Some((ToWorker::Stop, _)) | None => return Ok(()),
                        Some(_) => {}
                    },
                    event = events.next() => {
                        event.ok_or(NetError::Deaf)?;
                        tokio::time::sleep(REST).await;
                        while events.next().now_or_never().flatten().is_some() {}
                        watch.look().await?;
                    }
                    neighbours = async { asked.as_mut().expect("only polled while it is there").await }, if asked.is_some() => {
                        asked = None;
                        watch.take(neighbours);
                    }
                    _ = beat.tick() => {
                        let report = to_raw_value(&watch.report()).map_err(|error| NetError::Io("report", error.into()))?;
                        channel.send_json(&FromWorker::Heartbeat { report }, &[])?;
                    }
                }
            }
        })
    }
}

/// The next message of `ravend`; `None` when it is gone.
async fn hear(channel: &Channel, told: &UnixStream) -> Result<Option<(ToWorker, Vec<OwnedFd>)>, NetError> {
    let mut packet = vec![0; PACKET_MAX];
    loop {
        told.readable().await.map_err(|error| NetError::Io("control channel", error))?;
        let heard = told.try_io(Interest::READABLE, || match channel.try_recv_json::<ToWorker>(&mut packet) {
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
