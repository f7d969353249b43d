//! The collector of Windows events: HTTP/1.1 and HTTPS, as agents send them.
//!
//! One thread. hyper finds the requests, `raven_decode` the events in a body; each is appended to the receive memory
//! as it came. A request is answered with 2xx only when the store has made its last event durable; what is not
//! answered, the sender repeats. What is refused is counted by reason (`reason.rs`) and shown in the inbox.
//!
//! `request.rs` has the way of a request, `shared.rs` the receive memory and those who wait for it, `connection.rs`
//! the way of a connection. No socket is made here and no file opened: `ravend` passes accepted connections.

mod answer;
mod body;
mod connection;
mod credentials;
mod elastic;
mod https;
mod inbox;
mod outbox;
mod reason;
mod request;
mod secrets;
mod shared;
mod stream;
mod unpack;

use crate::CollectorError;
use outbox::Outbox;
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::receive::{Blind, CollectorMemory};
use raven_model::control::{Connection, Fd, FromWorker, Listener, ListenerId, PACKET_MAX, Proto, Start, ToWorker};
use raven_model::report::CollectorReport;
use reason::Reason;
use secrets::Secrets;
use shared::{Limits, Peer, Shared};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};
use stream::{Phase, Pulse, Socket};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{AbortHandle, LocalSet};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// Calm after which the ring's growth is given back.
const CALM: Duration = Duration::from_mins(1);
/// Longest that a graceful stop waits for requests under way; `ravend` waits a little longer for the collector.
const STOP: Duration = Duration::from_secs(10);

/// The collector.
pub struct Winevent {
    runtime: Runtime,
    channel: Rc<Channel>,
    outbox: Rc<Outbox>,
    /// The same socket, to wait for.
    told: UnixStream,
    shared: Rc<Shared>,
    secrets: Secrets,
    connected: Connected,
    listeners: BTreeMap<ListenerId, Rc<Listener>>,
    stop: watch::Sender<bool>,
}

/// Connections by their id.
type Connected = Rc<RefCell<HashMap<u32, Task>>>;

/// A connection being served.
struct Task {
    peer: Rc<Peer>,
    abort: AbortHandle,
}

/// Tells `ravend` when a connection is over, however it ended. Dropped behind the socket.
struct Held {
    id: u32,
    connected: Connected,
    outbox: Rc<Outbox>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connected.borrow_mut().remove(&self.id);
        self.outbox.say(FromWorker::Closed { connection: self.id });
    }
}

impl Winevent {
    /// Takes over the receive memory that `start` names; `fds` are the descriptors beside it. Makes the event loop's
    /// own descriptors, so that it comes before the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel, epoch: u64) -> Result<Self, CollectorError> {
        let (mut memory, mut words, mut wake) = (None, None, None);
        for (name, fd) in start.fds.iter().zip(fds) {
            match name {
                Fd::Ring { .. } => memory = Some(fd),
                Fd::Words { .. } => words = Some(fd),
                Fd::Wake { .. } => wake = Some(fd),
                _ => {}
            }
        }
        let missing = |what: &str| CollectorError::Setup(format!("ravend passed no {what}"));
        let memory = memory.ok_or_else(|| missing("receive memory"))?;
        let words = words.ok_or_else(|| missing("words"))?;
        let wake = wake.ok_or_else(|| missing("eventfd"))?;
        let config = start.config.as_deref().ok_or_else(|| missing("configuration"))?;
        let io = |what| move |error| CollectorError::Io(what, error);
        let (memory, _) = CollectorMemory::open(&memory, &words, epoch, &mut Blind).map_err(io("receive memory"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io("event loop"))?;
        let told = {
            let _entered = runtime.enter();
            let duplicate = channel.as_fd().try_clone_to_owned().map_err(io("control channel"))?;
            let duplicate = std::os::unix::net::UnixStream::from(duplicate);
            duplicate.set_nonblocking(true).map_err(io("control channel"))?;
            UnixStream::from_std(duplicate).map_err(io("epoll"))?
        };
        let channel = Rc::new(channel);
        let outbox = Rc::new(Outbox::new(Rc::clone(&channel)));
        let secrets = Secrets::new(config);
        let shared = Rc::new(Shared::new(memory, wake, Limits::of(config), secrets.door()));
        let (stop, _) = watch::channel(false);
        let (connected, listeners) = (Connected::default(), BTreeMap::new());
        Ok(Self { runtime, channel, outbox, told, shared, secrets, connected, listeners, stop })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, CollectorError> {
        self.channel.send_json(&FromWorker::Ready { missing }, &[])?;
        Ok(self)
    }

    /// Serves until `ravend` says stop or is gone, then finishes what is under way.
    pub fn run(self) -> Result<(), CollectorError> {
        let Self { runtime, channel, outbox, told, shared, secrets, connected, listeners, stop } = self;
        let tasks = LocalSet::new();
        let publishing = Rc::clone(&shared);
        tasks.spawn_local(async move { publishing.publish().await });
        tasks.spawn_local(beat(Rc::clone(&shared), Rc::clone(&connected), Rc::clone(&outbox)));
        let mut control = Control { channel, outbox, told, shared, secrets, connected, listeners, stop };
        let ended = tasks.block_on(&runtime, async {
            control.obey_all().await?;
            control.finish().await;
            Ok(())
        });
        // Connections say that they ended while the channel is there.
        drop(tasks);
        ended
    }
}

/// What obeys `ravend`.
struct Control {
    channel: Rc<Channel>,
    outbox: Rc<Outbox>,
    /// The same socket, to wait for.
    told: UnixStream,
    shared: Rc<Shared>,
    secrets: Secrets,
    connected: Connected,
    listeners: BTreeMap<ListenerId, Rc<Listener>>,
    stop: watch::Sender<bool>,
}

impl Control {
    /// Until `ravend` says stop or is gone.
    async fn obey_all(&mut self) -> Result<(), CollectorError> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            let received =
                self.told.try_io(Interest::READABLE, || match self.channel.try_recv_json::<ToWorker>(&mut packet) {
                    Err(ChannelError::Io(error)) => Err(error),
                    received => Ok(received),
                });
            let message = match received {
                Ok(received) => received?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.told.readable().await.map_err(|error| CollectorError::Io("epoll", error))?;
                    continue;
                }
                Err(error) => return Err(ChannelError::from(error).into()),
            };
            let Some((message, fds)) = message else { return Ok(()) };
            if matches!(message, ToWorker::Stop) {
                return Ok(());
            }
            self.obey(message, fds)?;
        }
    }

    fn obey(&mut self, message: ToWorker, fds: Vec<OwnedFd>) -> Result<(), CollectorError> {
        match message {
            ToWorker::Listen(listener) => drop(self.listeners.insert(listener.id, Rc::new(listener))),
            ToWorker::Unlisten(id) => drop(self.listeners.remove(&id)),
            ToWorker::Connection(connection) => {
                let none = || CollectorError::Setup("a connection without a descriptor".to_owned());
                self.connect(&connection, fds.into_iter().next().ok_or_else(none)?)?;
            }
            ToWorker::Configure(config) => {
                self.secrets.configure(&config);
                self.shared.limits.set(Limits::of(&config));
                *self.shared.door.borrow_mut() = self.secrets.door();
            }
            ToWorker::Secrets(names) => {
                self.secrets.take(names.into_iter().zip(fds));
                *self.shared.door.borrow_mut() = self.secrets.door();
            }
            ToWorker::Stop => {}
            ToWorker::Start(_) | ToWorker::Client | ToWorker::Listeners(_) | ToWorker::Mibs => {
                return Err(CollectorError::Setup("a message that a collector does not take".to_owned()));
            }
        }
        Ok(())
    }

    fn connect(&self, connection: &Connection, socket: OwnedFd) -> Result<(), CollectorError> {
        let id = connection.id;
        let held = Held { id, connected: Rc::clone(&self.connected), outbox: Rc::clone(&self.outbox) };
        let Some(listener) = self.listeners.get(&connection.listener).map(Rc::clone) else {
            self.shared.memory.borrow().count_drop(Reason::Unserved as u8);
            return Ok(());
        };
        let secure = listener.proto == Proto::Https;
        let pulse = Rc::new(Pulse::new(if secure { Phase::Handshake } else { Phase::Idle }));
        let peer = Rc::new(Peer { source: connection.peer, listener, pulse });
        let tls = if secure { self.secrets.tls() } else { None };
        if secure && tls.is_none() {
            self.shared.refuse(Reason::NoCertificate, &peer, &[]);
            return Ok(());
        }
        let socket = Rc::new(Socket::new(socket).map_err(|error| CollectorError::Io("epoll", error))?);
        let serve = connection::serve(Rc::clone(&self.shared), Rc::clone(&peer), socket, tls, self.stop.subscribe());
        let task = tokio::task::spawn_local(async move {
            let _held = held;
            serve.await;
        });
        self.connected.borrow_mut().insert(id, Task { peer, abort: task.abort_handle() });
        Ok(())
    }

    /// Takes no more requests, and waits for those under way to become durable and be answered.
    async fn finish(&self) {
        let _ = self.stop.send(true);
        let end = Instant::now() + STOP;
        while !self.connected.borrow().values().all(|task| task.peer.pulse.phase() == Phase::Closing) {
            if Instant::now() >= end {
                let left = self.connected.borrow().len();
                eprintln!(
                    "raven-worker winevent: stopped with {left} connections in the middle: their senders repeat what was not answered"
                );
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.shared.hand_over();
    }
}

/// Once a second: says that it is alive, ends what takes too long, gives back what a calm minute does not need.
async fn beat(shared: Rc<Shared>, connected: Connected, outbox: Rc<Outbox>) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut published, mut grown) = (0, Instant::now());
    loop {
        tick.tick().await;
        end_slow(&shared, &connected);
        {
            let mut memory = shared.memory.borrow_mut();
            memory.recall(&mut Blind);
            if memory.published() != published {
                (published, grown) = (memory.published(), Instant::now());
            } else if grown.elapsed() > CALM {
                // Memory that is not given back is no reason to stop receiving.
                let _ = memory.shrink();
                grown = Instant::now();
            }
        }
        let report = report(&shared, &connected);
        let Ok(report) = serde_json::value::to_raw_value(&report) else { continue };
        outbox.say(FromWorker::Heartbeat { report });
    }
}

fn end_slow(shared: &Shared, connected: &Connected) {
    let now = Instant::now();
    for task in connected.borrow().values().filter(|task| task.peer.pulse.is_over(now)) {
        if task.peer.pulse.phase() != Phase::Idle {
            shared.refuse(Reason::Slow, &task.peer, &[]);
        }
        task.abort.abort();
    }
}

fn report(shared: &Shared, connected: &Connected) -> CollectorReport {
    let memory = shared.memory.borrow();
    let mut connections = BTreeMap::new();
    for task in connected.borrow().values() {
        *connections.entry(task.peer.listener.name()).or_insert(0) += 1;
    }
    let dropped = Reason::ALL.into_iter().map(|reason| (reason.name().to_owned(), memory.dropped(reason as u8)));
    CollectorReport {
        published: memory.published(),
        stalls: memory.stalls(),
        connections,
        recovered: memory.recovered(),
        unparsed: memory.unparsed(),
        dropped: dropped.filter(|(_, count)| *count > 0).collect(),
        inbox: shared.inbox.borrow().items(),
        ..CollectorReport::default()
    }
}
