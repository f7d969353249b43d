//! The receive loop that all collectors of datagrams and plain streams share: sockets and control messages in, batches
//! out.
//!
//! One thread, one epoll. After a short batch it naps 2 to 32 ms instead of waking for each datagram: at 100,000 a second
//! that halves the CPU, and the socket buffer holds a hundred times as much.
//!
//! What is particular to a stream is its [`Kind`]: how a byte stream is framed, how a message is looked at, what is
//! answered. Connections that end with their collector (TLS, RELP) are [`Session`]s: they read and answer by
//! themselves.

use crate::{CollectorError, Passed};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::receive::{CONNECTIONS, CollectorMemory, Framing, Inspect, Taken, ends_socket};
use raven_model::config::Config;
use raven_model::control::{Connection, FromWorker, Listener, ListenerId, PACKET_MAX, Proto, Start, ToWorker};
use raven_model::report::CollectorReport;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(1);
const NAP_UDP: Duration = Duration::from_millis(2);
/// Longest nap between datagrams: the socket buffer of 64 MiB holds 100,000, and an operator sees no delay.
const NAP_UDP_LONGEST: Duration = Duration::from_millis(32);
/// Fewer than this in a batch are few: the next nap is longer. With as many as the other it is shorter.
const FEW: usize = 64;
const MANY: usize = 128;
const NAP_TCP: Duration = Duration::from_millis(5);
/// How often a full ring is looked at again.
const FULL: Duration = Duration::from_millis(1);
/// How often it is looked whether what senders wait for is durable.
const AWAITED: Duration = Duration::from_millis(2);
/// Calm after which the ring's growth is given back.
const CALM: Duration = Duration::from_mins(1);
/// How often a socket that reports errors is looked at again.
const FAILED: Duration = Duration::from_millis(5);
/// Longest that a socket that is let go is read on while senders go on sending. Time that the ring is full does not
/// count.
const DRAIN: Duration = Duration::from_secs(2);
/// Longest that a graceful stop waits for room in the ring, and for answers to senders that wait; `ravend` waits a
/// little longer for the collector.
const STOP: Duration = Duration::from_secs(12);

const CONTROL: u64 = u64::MAX;
const CONNECTED: u64 = 1 << 32;

/// What is particular to a stream.
pub trait Kind {
    /// How messages are told apart on a plain TCP connection, and what looks at each message.
    fn parts(&mut self) -> (&dyn Framing, &mut dyn Inspect);

    /// Makes a session of a connection that is not plain TCP.
    ///
    /// # Errors
    /// Why this connection is not served; it is closed and counted.
    fn session(
        &mut self,
        listener: &Listener,
        connection: &Connection,
        socket: OwnedFd,
    ) -> Result<Box<dyn Session>, String> {
        let _ = (connection, socket);
        Err(format!("{} is not served here", listener.name()))
    }

    /// The configuration has changed.
    fn configure(&mut self, config: &Config) {
        let _ = config;
    }

    /// Called in every round, after what was received is handed over: answers what has become durable, and appends what
    /// the collector itself has to keep ([`CollectorMemory::append_context`]). Returns true while something waits to
    /// become durable.
    fn answer(&mut self, sockets: &Sockets<'_>, memory: &mut CollectorMemory) -> bool {
        let _ = (sockets, memory);
        false
    }

    /// Adds what it knows to the report of the heartbeat.
    fn report(
        &mut self,
        report: &mut CollectorReport,
        memory: &CollectorMemory,
        listeners: &BTreeMap<ListenerId, Listener>,
    ) {
        let _ = (report, memory, listeners);
    }

    /// Secrets have come, at the start and whenever they are read anew: by the key of the configuration that names each.
    fn secrets(&mut self, secrets: BTreeMap<String, OwnedFd>) {
        let _ = secrets;
    }
}

/// The UDP sockets, for those who answer.
pub struct Sockets<'a> {
    udp: &'a HashMap<ListenerId, Udp>,
}

impl Sockets<'_> {
    /// The socket of a listener.
    pub fn get(&self, listener: ListenerId) -> Option<BorrowedFd<'_>> {
        self.udp.get(&listener).map(|udp| udp.socket.as_fd())
    }
}

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Goes on when the socket can be read, or written where [`Session::wants_write`] says so.
    Open,
    /// The ring had no room: to be served again soon without an event.
    Full,
    /// It is over: close it.
    Closed,
}

/// A connection that reads, frames and answers by itself.
pub trait Session {
    /// Reads what is there without blocking, appends messages to `memory` ([`CollectorMemory::append`]), and writes what
    /// is to be answered at once.
    fn serve(&mut self, memory: &mut CollectorMemory, inspect: &mut dyn Inspect) -> Standing;

    /// Answers what has become durable; called in every round while [`Session::awaits`]. `Full` when that made room for
    /// what it had read before.
    fn answer(&mut self, memory: &CollectorMemory) -> Standing;

    /// True while the sender waits for something to become durable.
    fn awaits(&self) -> bool;

    /// True while something is to be written and the socket took no more.
    fn wants_write(&self) -> bool;

    /// The socket.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Bytes that [`Session::serve`] last took from the socket; 0 only when the socket was empty.
    fn taken(&self) -> usize {
        1
    }

    /// True when it took too long, such as over a handshake: it is closed. Asked about once a second.
    fn overdue(&mut self, now: Instant) -> bool {
        let _ = now;
        false
    }

    /// True when its sender repeats nothing: at a graceful stop it is read until nothing more is there.
    fn drains(&self) -> bool {
        false
    }

    /// The collector stops: keeps a message that was begun and says goodbye. False when the ring has no room.
    fn finish(&mut self, memory: &mut CollectorMemory, inspect: &mut dyn Inspect) -> bool {
        let _ = (memory, inspect);
        true
    }
}

/// A bound UDP socket.
struct Udp {
    listener: Listener,
    socket: OwnedFd,
    /// No longer listened on: let go when it is empty, or when it was read for so long.
    leaving: Option<Duration>,
    /// What it reported, other than datagrams.
    errors: u64,
}

/// An accepted connection.
struct Connected {
    connection: Connection,
    link: Link,
    /// The ring was full when it was last looked at: look again without waiting for bytes.
    waiting: bool,
    /// Watched for room to write.
    writing: bool,
}

enum Link {
    /// Goes on in the next collector.
    Plain(OwnedFd),
    Session(Box<dyn Session>),
}

/// The loop's state.
pub struct Receiver<K> {
    role: &'static str,
    channel: Channel,
    memory: CollectorMemory,
    wake: OwnedFd,
    epoll: Epoll,
    kind: K,
    udp: HashMap<ListenerId, Udp>,
    listeners: BTreeMap<ListenerId, Listener>,
    connected: HashMap<u16, Connected>,
    /// Connections that could not be served.
    unserved: u64,
    /// A sender waits for something to become durable.
    awaited: bool,
    grown: Instant,
    next_heartbeat: Instant,
    stopping: bool,
    naps: Naps,
    packet: Vec<u8>,
}

/// How long the loop waits after datagrams.
struct Naps {
    udp: Duration,
}

/// What a round brought.
#[derive(Default, Clone, Copy)]
struct Round {
    datagrams: usize,
    bytes: usize,
    full: bool,
    /// A socket had more than one batch.
    more: bool,
    /// A socket reported an error.
    failed: bool,
}

impl Round {
    const fn brought_nothing(self) -> bool {
        self.datagrams + self.bytes == 0 && !self.full && !self.failed
    }
}

impl<K: Kind> Receiver<K> {
    /// Takes over the receive memory that `start` names; `fds` are the descriptors beside it.
    pub fn new(
        start: &Start,
        fds: Vec<OwnedFd>,
        channel: Channel,
        epoch: u64,
        mut kind: K,
    ) -> Result<Self, CollectorError> {
        let Passed { memory, words, wake } = Passed::of(start, fds)?;
        let io = |what| move |error| CollectorError::Io(what, error);
        let (memory, _) =
            CollectorMemory::open(&memory, &words, epoch, kind.parts().1).map_err(io("receive memory"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| CollectorError::Io("epoll", e.into()))?;
        let this = Self {
            role: start.role.name(),
            channel,
            memory,
            wake,
            epoll,
            kind,
            udp: HashMap::new(),
            listeners: BTreeMap::new(),
            connected: HashMap::new(),
            unserved: 0,
            awaited: false,
            grown: Instant::now(),
            next_heartbeat: Instant::now(),
            stopping: false,
            naps: Naps { udp: NAP_UDP },
            packet: vec![0; PACKET_MAX],
        };
        this.epoll
            .add(this.channel.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, CONTROL))
            .map_err(|e| CollectorError::Io("epoll", e.into()))?;
        Ok(this)
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, CollectorError> {
        self.channel.send_json(&FromWorker::Ready { missing }, &[])?;
        Ok(self)
    }

    /// Receives until `ravend` says stop or is gone.
    pub fn run(mut self) -> Result<(), CollectorError> {
        let mut events = [EpollEvent::empty(); 128];
        let mut round = Round::default();
        while !self.stopping {
            self.heartbeat()?;
            let n = self.wait(&mut events, round)?;
            round = self.look(&events[..n])?;
            self.let_go(&mut round)?;
            self.hand_over(&mut round);
            self.answer()?;
            self.shrink_when_calm(round);
            self.naps.take(round, self.awaited);
        }
        self.drain()
    }

    fn wait(&self, events: &mut [EpollEvent], last: Round) -> Result<usize, CollectorError> {
        let until_heartbeat = self.next_heartbeat.saturating_duration_since(Instant::now());
        // What found no room is tried again whether or not anything new comes; the nap was the wait.
        let timeout = match (last.full, self.awaited) {
            (true, _) => Duration::ZERO,
            (_, true) => AWAITED,
            _ => until_heartbeat + Duration::from_millis(1),
        };
        let timeout = EpollTimeout::try_from(timeout.min(HEARTBEAT)).unwrap_or(EpollTimeout::ZERO);
        match self.epoll.wait(events, timeout) {
            Ok(n) => Ok(n),
            Err(nix::errno::Errno::EINTR) => Ok(0),
            Err(error) => Err(CollectorError::Io("epoll", error.into())),
        }
    }

    /// One look at each socket that has something.
    fn look(&mut self, events: &[EpollEvent]) -> Result<Round, CollectorError> {
        let mut round = Round::default();
        for event in events {
            match event.data() {
                CONTROL => self.control(&mut round)?,
                token if token & CONNECTED != 0 => self.read(token as u16, &mut round)?,
                token => {
                    self.receive(token as ListenerId, &mut round)?;
                }
            }
        }
        let waiting: Vec<u16> = self.connected.iter().filter(|(_, c)| c.waiting).map(|(&slot, _)| slot).collect();
        for slot in waiting {
            self.read(slot, &mut round)?;
        }
        Ok(round)
    }

    fn receive(&mut self, id: ListenerId, round: &mut Round) -> Result<Taken, CollectorError> {
        let Some(udp) = self.udp.get_mut(&id) else { return Ok(Taken::Nothing) };
        match self.memory.receive(udp.socket.as_fd(), id, self.kind.parts().1) {
            Ok(taken) => {
                if let Taken::Some(n) = taken {
                    round.datagrams += n;
                    round.more |= n >= 256;
                }
                round.full |= taken == Taken::Full;
                Ok(taken)
            }
            Err(error) if ends_socket(&error) => Err(CollectorError::Io("recvmmsg", error)),
            Err(error) => {
                round.failed = true;
                udp.note(self.role, &error);
                Ok(Taken::Some(0))
            }
        }
    }

    fn read(&mut self, slot: u16, round: &mut Round) -> Result<(), CollectorError> {
        let Some(connected) = self.connected.get_mut(&slot) else { return Ok(()) };
        let Connection { id, listener, peer, .. } = connected.connection;
        connected.waiting = false;
        let standing = match &mut connected.link {
            Link::Session(session) => {
                let standing = session.serve(&mut self.memory, self.kind.parts().1);
                let n = session.taken();
                round.bytes += n;
                round.more |= n >= 128 * 1024;
                standing
            }
            Link::Plain(socket) => {
                let (framing, inspect) = self.kind.parts();
                match self.memory.read(slot, socket.as_fd(), listener, peer, framing, inspect) {
                    Ok(Taken::Some(n)) => {
                        round.bytes += n;
                        round.more |= n >= 128 * 1024;
                        Standing::Open
                    }
                    Ok(Taken::Nothing) => Standing::Open,
                    Ok(Taken::Full) => Standing::Full,
                    // Ended or reset: what it said is kept either way.
                    Ok(Taken::End) | Err(_) => Standing::Closed,
                }
            }
        };
        self.settle(slot, id, standing, round)
    }

    /// Does what a connection's standing asks for.
    fn settle(&mut self, slot: u16, id: u32, standing: Standing, round: &mut Round) -> Result<(), CollectorError> {
        match standing {
            Standing::Open => self.watch_writing(slot),
            Standing::Full => {
                if let Some(connected) = self.connected.get_mut(&slot) {
                    connected.waiting = true;
                }
                round.full = true;
                Ok(())
            }
            Standing::Closed => self.close(slot, id),
        }
    }

    /// Has epoll tell when a session can write, as long as it wants to.
    fn watch_writing(&mut self, slot: u16) -> Result<(), CollectorError> {
        let Some(connected) = self.connected.get_mut(&slot) else { return Ok(()) };
        let Link::Session(session) = &connected.link else { return Ok(()) };
        let wants = session.wants_write();
        if wants != connected.writing {
            connected.writing = wants;
            let flags = if wants { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            let mut event = EpollEvent::new(flags, CONNECTED | u64::from(slot));
            self.epoll.modify(session.as_fd(), &mut event).map_err(|e| CollectorError::Io("epoll", e.into()))?;
        }
        Ok(())
    }

    fn close(&mut self, slot: u16, id: u32) -> Result<(), CollectorError> {
        // What it said is handed over before ravend gives its place away. Datagrams may still wait for room.
        self.memory.hand_over();
        if let Some(connected) = self.connected.remove(&slot) {
            // A closed descriptor leaves epoll only when ravend's duplicate is closed too.
            let _ = self.epoll.delete(connected.as_fd());
        }
        Ok(self.channel.send_json(&FromWorker::Closed { connection: id }, &[])?)
    }

    /// Publishes what was read and wakes the store if it asked for that.
    fn hand_over(&mut self, round: &mut Round) {
        round.full |= !self.memory.hand_over();
        if self.awaited {
            self.memory.await_published();
        }
        self.wake_store();
    }

    fn wake_store(&self) {
        if self.memory.wants_waking() {
            // The only way this can fail is a counter at its limit, and then the store is awake.
            let _ = nix::unistd::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Answers those who wait for what has become durable.
    fn answer(&mut self) -> Result<(), CollectorError> {
        let (was, published) = (self.awaited, self.memory.published());
        self.awaited = self.kind.answer(&Sockets { udp: &self.udp }, &mut self.memory);
        let mut over = Vec::new();
        for (&slot, connected) in &mut self.connected {
            let Link::Session(session) = &mut connected.link else { continue };
            if session.awaits() {
                match session.answer(&self.memory) {
                    Standing::Closed => {
                        over.push((slot, connected.connection.id));
                        continue;
                    }
                    Standing::Full => connected.waiting = true,
                    Standing::Open => {}
                }
                // What waits in the session is not announced by the socket.
                self.awaited |= session.awaits() || connected.waiting;
            }
        }
        for (slot, id) in over {
            self.close(slot, id)?;
        }
        if self.awaited && !was {
            self.memory.await_published();
        }
        if (self.awaited && !was) || self.memory.published() > published {
            self.wake_store();
        }
        let writers: Vec<u16> = self.connected.iter().filter(|(_, c)| c.wants_watching()).map(|(&s, _)| s).collect();
        writers.into_iter().try_for_each(|slot| self.watch_writing(slot))
    }

    fn shrink_when_calm(&mut self, round: Round) {
        if !round.brought_nothing() {
            self.grown = Instant::now();
        } else if self.grown.elapsed() > CALM {
            // Memory that is not given back is no reason to stop receiving.
            let _ = self.memory.shrink();
            self.grown = Instant::now();
        }
    }

    fn heartbeat(&mut self) -> Result<(), CollectorError> {
        let now = Instant::now();
        if now < self.next_heartbeat {
            return Ok(());
        }
        self.next_heartbeat = now + HEARTBEAT;
        self.close_overdue(now)?;
        self.memory.recall(self.kind.parts().1);
        let mut connections = BTreeMap::new();
        for connected in self.connected.values() {
            if let Some(listener) = self.listeners.get(&connected.connection.listener) {
                *connections.entry(listener.name()).or_insert(0) += 1;
            }
        }
        let mut report = CollectorReport {
            published: self.memory.published(),
            stalls: self.memory.stalls(),
            connections,
            recovered: self.memory.recovered(),
            unparsed: self.memory.unparsed(),
            ..CollectorReport::default()
        };
        if self.unserved > 0 {
            report.dropped.insert("connection_unserved".to_owned(), self.unserved);
        }
        self.kind.report(&mut report, &self.memory, &self.listeners);
        let report = serde_json::value::to_raw_value(&report).map_err(|e| CollectorError::Setup(e.to_string()))?;
        Ok(self.channel.send_json(&FromWorker::Heartbeat { report }, &[])?)
    }

    fn close_overdue(&mut self, now: Instant) -> Result<(), CollectorError> {
        let overdue = self.connected.iter_mut().filter_map(|(&slot, connected)| match &mut connected.link {
            Link::Session(session) => session.overdue(now).then_some((slot, connected.connection.id)),
            Link::Plain(_) => None,
        });
        let overdue: Vec<_> = overdue.collect();
        overdue.into_iter().try_for_each(|(slot, id)| self.close(slot, id))
    }

    /// Takes in what `ravend` says.
    fn control(&mut self, round: &mut Round) -> Result<(), CollectorError> {
        loop {
            let mut packet = std::mem::take(&mut self.packet);
            let message = self.channel.try_recv_json::<ToWorker>(&mut packet);
            self.packet = packet;
            match message {
                Ok(Some((message, fds))) => self.obey(message, fds, round)?,
                Ok(None) => {
                    self.stopping = true;
                    return Ok(());
                }
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn obey(&mut self, message: ToWorker, fds: Vec<OwnedFd>, round: &mut Round) -> Result<(), CollectorError> {
        match message {
            ToWorker::Listen(listener) => self.listen(listener, fds.into_iter().next()),
            ToWorker::Unlisten(id) => {
                self.unlisten(id);
                Ok(())
            }
            ToWorker::Connection(connection) => match fds.into_iter().next() {
                Some(socket) => self.connect(connection, socket, round),
                None => Err(CollectorError::Setup("a connection without a descriptor".to_owned())),
            },
            ToWorker::Configure(config) => {
                self.kind.configure(&config);
                Ok(())
            }
            ToWorker::Secrets(names) => {
                self.kind.secrets(names.into_iter().zip(fds).collect());
                Ok(())
            }
            ToWorker::Stop => {
                self.stopping = true;
                Ok(())
            }
            ToWorker::Start(_)
            | ToWorker::Client
            | ToWorker::Listeners(_)
            | ToWorker::Mibs
            | ToWorker::Dropped(_)
            | ToWorker::Own(_)
            | ToWorker::Report { .. }
            | ToWorker::Bundle { .. }
            | ToWorker::Slot(_)
            | ToWorker::Staged(_)
            | ToWorker::Networkd(_)
            | ToWorker::Audit(_)
            | ToWorker::Tun(_)
            | ToWorker::VpnClient { .. }
            | ToWorker::Tapped { .. }
            | ToWorker::ScheduleClient { .. }
            | ToWorker::ProgramStarted { .. }
            | ToWorker::ProgramEnded { .. }
            | ToWorker::Carrier(_)
            | ToWorker::Acknowledged { .. } => {
                Err(CollectorError::Setup("a message that a collector does not take".to_owned()))
            }
        }
    }

    fn listen(&mut self, listener: Listener, socket: Option<OwnedFd>) -> Result<(), CollectorError> {
        self.listeners.insert(listener.id, listener.clone());
        if let (Proto::Udp, Some(socket)) = (listener.proto, socket) {
            self.watch(socket.as_fd(), u64::from(listener.id))?;
            self.udp.insert(listener.id, Udp { listener, socket, leaving: None, errors: 0 });
        }
        Ok(())
    }

    /// What the socket still holds is read in the rounds to come.
    fn unlisten(&mut self, id: ListenerId) {
        match self.udp.get_mut(&id) {
            Some(udp) => udp.leaving = Some(DRAIN),
            None => drop(self.listeners.remove(&id)),
        }
    }

    /// Closes sockets that are no longer listened on once they are empty.
    fn let_go(&mut self, round: &mut Round) -> Result<(), CollectorError> {
        let leaving = self.udp.iter().filter_map(|(&id, udp)| Some((id, udp.leaving?)));
        for (id, left) in leaving.collect::<Vec<_>>() {
            let taken = self.receive(id, round)?;
            match (taken, self.udp.get_mut(&id)) {
                (Taken::Full, _) => {}
                (Taken::Some(_), Some(udp)) if !left.is_zero() => udp.leaving = Some(left.saturating_sub(NAP_UDP)),
                _ => self.forget(id),
            }
        }
        // Until they are empty no time is lost.
        round.more |= self.udp.values().any(|udp| udp.leaving.is_some());
        Ok(())
    }

    fn forget(&mut self, id: ListenerId) {
        if let Some(udp) = self.udp.remove(&id) {
            // A closed descriptor leaves epoll only when every duplicate is closed too.
            let _ = self.epoll.delete(udp.socket.as_fd());
        }
        self.listeners.remove(&id);
    }

    fn connect(&mut self, connection: Connection, socket: OwnedFd, round: &mut Round) -> Result<(), CollectorError> {
        let slot = connection.slot;
        if usize::from(slot) >= CONNECTIONS {
            return Err(CollectorError::Setup(format!("connection slot {slot} does not exist")));
        }
        let listener = self.listeners.get(&connection.listener);
        let link = match listener {
            Some(listener) if !listener.proto.outlives_collector() => {
                match self.kind.session(listener, &connection, socket) {
                    Ok(session) => Link::Session(session),
                    Err(why) => return self.turn_away(&connection, &why),
                }
            }
            _ => {
                self.memory.adopt(slot, connection.id);
                Link::Plain(socket)
            }
        };
        let connected = Connected { connection, link, waiting: false, writing: false };
        self.watch(connected.as_fd(), CONNECTED | u64::from(slot))?;
        self.connected.insert(slot, connected);
        // A predecessor may have left bytes that no new byte will announce.
        self.read(slot, round)
    }

    fn turn_away(&mut self, connection: &Connection, why: &str) -> Result<(), CollectorError> {
        self.unserved += 1;
        if self.unserved.is_power_of_two() {
            eprintln!("raven-worker {}: {} is not served: {why} ({} such)", self.role, connection.peer, self.unserved);
        }
        Ok(self.channel.send_json(&FromWorker::Closed { connection: connection.id }, &[])?)
    }

    fn watch(&self, socket: BorrowedFd<'_>, token: u64) -> Result<(), CollectorError> {
        self.epoll
            .add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token))
            .map_err(|e| CollectorError::Io("epoll", e.into()))
    }

    /// Reads what the sockets hold at this moment and publishes it; answers those who wait.
    fn drain(mut self) -> Result<(), CollectorError> {
        let end = Instant::now() + STOP;
        let mut reading = Duration::ZERO;
        while reading < DRAIN && Instant::now() < end {
            let begun = Instant::now();
            let round = self.look_at_all()?;
            self.answer()?;
            if round.brought_nothing() && !self.awaited {
                self.finish_connections();
                return Ok(());
            }
            if !round.full {
                reading += begun.elapsed();
            }
            self.heartbeat()?;
            self.naps.take(Round { datagrams: 0, bytes: usize::from(self.awaited), ..round }, self.awaited);
        }
        self.finish_connections();
        eprintln!(
            "raven-worker {}: stopped while more was coming or the store took nothing: what is still in the sockets and {} datagrams in hand are left there",
            self.role,
            self.memory.pending()
        );
        Ok(())
    }

    /// Messages that were begun are kept as far as they came.
    fn finish_connections(&mut self) {
        for connected in self.connected.values_mut() {
            let Connection { slot, listener, peer, .. } = connected.connection;
            let (framing, inspect) = self.kind.parts();
            let finished = match &mut connected.link {
                Link::Plain(_) => self.memory.finish(slot, listener, peer, framing, inspect),
                Link::Session(session) => session.finish(&mut self.memory, inspect),
            };
            if !finished {
                eprintln!(
                    "raven-worker {}: stopped with a message of {peer} that the store had no room for",
                    self.role
                );
            }
        }
        self.hand_over(&mut Round::default());
    }

    fn look_at_all(&mut self) -> Result<Round, CollectorError> {
        let mut round = Round::default();
        for id in self.udp.keys().copied().collect::<Vec<_>>() {
            self.receive(id, &mut round)?;
        }
        let drains = |(&slot, connected): (&u16, &Connected)| connected.drains().then_some(slot);
        for slot in self.connected.iter().filter_map(drains).collect::<Vec<_>>() {
            self.read(slot, &mut round)?;
        }
        self.hand_over(&mut round);
        Ok(round)
    }
}

impl Connected {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.link {
            Link::Plain(socket) => socket.as_fd(),
            Link::Session(session) => session.as_fd(),
        }
    }

    fn drains(&self) -> bool {
        match &self.link {
            Link::Plain(_) => true,
            Link::Session(session) => session.drains(),
        }
    }

    fn wants_watching(&self) -> bool {
        matches!(&self.link, Link::Session(session) if session.wants_write() != self.writing)
    }
}

impl Udp {
    /// Says what the socket reported: the 1st, 2nd, 4th, 8th time, so that an error that stays fills no log.
    fn note(&mut self, role: &str, error: &io::Error) {
        self.errors += 1;
        if self.errors.is_power_of_two() {
            eprintln!("raven-worker {role}: {}: {error} (time {})", self.listener.name(), self.errors);
        }
    }
}

impl Naps {
    /// Waits for more to come together. A full ring leaves sockets readable: waiting for events would spin.
    fn take(&mut self, round: Round, awaited: bool) {
        let nap = match round {
            Round { full: true, .. } => FULL,
            Round { failed: true, .. } => FAILED,
            Round { more: true, .. } => return,
            Round { datagrams: n @ 1.., .. } => self.between_datagrams(n),
            Round { bytes: 1.., .. } => NAP_TCP,
            _ => return,
        };
        std::thread::sleep(if awaited { nap.min(NAP_UDP) } else { nap });
    }

    /// Longer while few come together: each waking costs as much as some dozen datagrams.
    fn between_datagrams(&mut self, came: usize) -> Duration {
        self.udp = match came {
            0..FEW => (self.udp * 2).min(NAP_UDP_LONGEST),
            FEW..MANY => self.udp,
            _ => (self.udp / 2).max(NAP_UDP),
        };
        self.udp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_are_longer_while_few_datagrams_come_together() {
        let mut naps = Naps { udp: NAP_UDP };
        let at = |naps: &mut Naps, came| (0..10).map(|_| naps.between_datagrams(came)).last();
        assert_eq!(at(&mut naps, 4), Some(NAP_UDP_LONGEST));
        assert_eq!(at(&mut naps, 60), Some(NAP_UDP_LONGEST), "enough: it stays");
        assert_eq!(at(&mut naps, 200), Some(NAP_UDP));
    }
}
