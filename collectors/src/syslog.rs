//! The syslog collector: UDP datagrams (RFC 5426) and TCP streams (RFC 6587) into the receive memory.
//!
//! One thread, one epoll. After a short batch it naps 2 ms instead of waking for each datagram: at 100,000 a second
//! that halves the CPU, and the socket buffer holds a hundred times as much.

use crate::CollectorError;
use crate::framing::SyslogFraming;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::receive::{Blind, CONNECTIONS, CollectorMemory, Taken, ends_socket};
use raven_model::control::{Connection, Fd, FromWorker, Listener, ListenerId, PACKET_MAX, Proto, Start, ToWorker};
use raven_model::report::CollectorReport;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(1);
const NAP_UDP: Duration = Duration::from_millis(2);
const NAP_TCP: Duration = Duration::from_millis(5);
/// How often a full ring is looked at again.
const FULL: Duration = Duration::from_millis(1);
/// Calm after which the ring's growth is given back.
const CALM: Duration = Duration::from_mins(1);
/// How often a socket that reports errors is looked at again.
const FAILED: Duration = Duration::from_millis(5);
/// Longest that a socket that is let go is read on while senders go on sending. Time that the ring is full does not
/// count.
const DRAIN: Duration = Duration::from_secs(2);
/// Longest that a graceful stop waits for room in the ring; `ravend` waits a little longer for the collector.
const STOP: Duration = Duration::from_secs(12);

const CONTROL: u64 = u64::MAX;
const TCP: u64 = 1 << 32;

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
struct Tcp {
    connection: Connection,
    socket: OwnedFd,
    /// The ring was full when it was last looked at: look again without waiting for bytes.
    waiting: bool,
}

/// The collector's state.
pub struct Syslog {
    channel: Channel,
    memory: CollectorMemory,
    wake: OwnedFd,
    epoll: Epoll,
    framing: SyslogFraming,
    udp: HashMap<ListenerId, Udp>,
    listeners: BTreeMap<ListenerId, Listener>,
    tcp: HashMap<u16, Tcp>,
    grown: Instant,
    next_heartbeat: Instant,
    stopping: bool,
    packet: Vec<u8>,
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

impl Syslog {
    /// Takes over the receive memory that `start` names; `fds` are the descriptors beside it.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel, epoch: u64) -> Result<Self, CollectorError> {
        let (mut memory, mut words, mut wake) = (None, None, None);
        for (name, fd) in start.fds.iter().zip(fds) {
            match name {
                Fd::Ring { .. } => memory = Some(fd),
                Fd::Words { .. } => words = Some(fd),
                Fd::Wake { .. } => wake = Some(fd),
                Fd::Tail { .. } | Fd::ConfigText { .. } => {}
            }
        }
        let missing = || CollectorError::Setup("ravend passed no receive memory".to_owned());
        let (memory, words, wake) =
            (memory.ok_or_else(missing)?, words.ok_or_else(missing)?, wake.ok_or_else(missing)?);
        let limit = start.config.as_ref().map_or(1 << 16, |config| config.collect.syslog.message_limit.0 as usize);
        let io = |what| move |error| CollectorError::Io(what, error);
        let (memory, _) = CollectorMemory::open(&memory, &words, epoch, &mut Blind).map_err(io("receive memory"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| CollectorError::Io("epoll", e.into()))?;
        let this = Self {
            channel,
            memory,
            wake,
            epoll,
            framing: SyslogFraming { limit },
            udp: HashMap::new(),
            listeners: BTreeMap::new(),
            tcp: HashMap::new(),
            grown: Instant::now(),
            next_heartbeat: Instant::now(),
            stopping: false,
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
            self.shrink_when_calm(round);
            nap(round);
        }
        self.drain()
    }

    fn wait(&self, events: &mut [EpollEvent], last: Round) -> Result<usize, CollectorError> {
        let until_heartbeat = self.next_heartbeat.saturating_duration_since(Instant::now());
        // What found no room is tried again whether or not anything new comes; the nap was the wait.
        let timeout = if last.full { Duration::ZERO } else { until_heartbeat + Duration::from_millis(1) };
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
                token if token & TCP != 0 => self.read(token as u16, &mut round)?,
                token => {
                    self.receive(token as ListenerId, &mut round)?;
                }
            }
        }
        let waiting: Vec<u16> = self.tcp.iter().filter(|(_, tcp)| tcp.waiting).map(|(&slot, _)| slot).collect();
        for slot in waiting {
            self.read(slot, &mut round)?;
        }
        Ok(round)
    }

    fn receive(&mut self, id: ListenerId, round: &mut Round) -> Result<Taken, CollectorError> {
        let Some(udp) = self.udp.get_mut(&id) else { return Ok(Taken::Nothing) };
        match self.memory.receive(udp.socket.as_fd(), id, &mut Blind) {
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
                udp.note(&error);
                Ok(Taken::Some(0))
            }
        }
    }

    fn read(&mut self, slot: u16, round: &mut Round) -> Result<(), CollectorError> {
        let Some(tcp) = self.tcp.get_mut(&slot) else { return Ok(()) };
        let Connection { id, listener, peer, .. } = tcp.connection;
        let taken = self.memory.read(slot, tcp.socket.as_fd(), listener, peer, &self.framing, &mut Blind);
        tcp.waiting = false;
        match taken {
            Ok(Taken::Some(n)) => {
                round.bytes += n;
                round.more |= n >= 128 * 1024;
            }
            Ok(Taken::Nothing) => {}
            Ok(Taken::Full) => {
                tcp.waiting = true;
                round.full = true;
            }
            // Ended or reset: what it said is kept either way.
            Ok(Taken::End) | Err(_) => self.close(slot, id)?,
        }
        Ok(())
    }

    fn close(&mut self, slot: u16, id: u32) -> Result<(), CollectorError> {
        // What it said is handed over before ravend gives its place away. Datagrams may still wait for room.
        self.memory.hand_over();
        if let Some(tcp) = self.tcp.remove(&slot) {
            // A closed descriptor leaves epoll only when ravend's duplicate is closed too.
            let _ = self.epoll.delete(tcp.socket.as_fd());
        }
        Ok(self.channel.send_json(&FromWorker::Closed { connection: id }, &[])?)
    }

    /// Publishes what was read and wakes the store if it asked for that.
    fn hand_over(&mut self, round: &mut Round) {
        round.full |= !self.memory.hand_over();
        if self.memory.wants_waking() {
            // The only way this can fail is a counter at its limit, and then the store is awake.
            let _ = nix::unistd::write(&self.wake, &1_u64.to_ne_bytes());
        }
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
        let mut connections = BTreeMap::new();
        for tcp in self.tcp.values() {
            if let Some(listener) = self.listeners.get(&tcp.connection.listener) {
                *connections.entry(listener.name()).or_insert(0) += 1;
            }
        }
        let report = CollectorReport {
            published: self.memory.published(),
            stalls: self.memory.stalls(),
            connections,
            recovered: self.memory.recovered(),
            unparsed: self.memory.unparsed(),
        };
        let report = serde_json::value::to_raw_value(&report).map_err(|e| CollectorError::Setup(e.to_string()))?;
        Ok(self.channel.send_json(&FromWorker::Heartbeat { report }, &[])?)
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
                self.framing.limit = config.collect.syslog.message_limit.0 as usize;
                Ok(())
            }
            ToWorker::Stop => {
                self.stopping = true;
                Ok(())
            }
            ToWorker::Start(_) | ToWorker::Client | ToWorker::Listeners(_) => {
                Err(CollectorError::Setup("a message that a collector does not take".to_owned()))
            }
        }
    }

    fn listen(&mut self, listener: Listener, socket: Option<OwnedFd>) -> Result<(), CollectorError> {
        self.listeners.insert(listener.id, listener.clone());
        if let (Proto::Udp, Some(socket)) = (listener.proto, socket) {
            self.watch(&socket, u64::from(listener.id))?;
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
        self.memory.adopt(slot, connection.id);
        self.watch(&socket, TCP | u64::from(slot))?;
        self.tcp.insert(slot, Tcp { connection, socket, waiting: false });
        // A predecessor may have left bytes that no new byte will announce.
        self.read(slot, round)
    }

    fn watch(&self, socket: &OwnedFd, token: u64) -> Result<(), CollectorError> {
        self.epoll
            .add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token))
            .map_err(|e| CollectorError::Io("epoll", e.into()))
    }

    /// Reads what the sockets hold at this moment and publishes it.
    fn drain(mut self) -> Result<(), CollectorError> {
        let end = Instant::now() + STOP;
        let mut reading = Duration::ZERO;
        while reading < DRAIN && Instant::now() < end {
            let begun = Instant::now();
            let round = self.look_at_all()?;
            if round.brought_nothing() {
                self.finish_connections();
                return Ok(());
            }
            if !round.full {
                reading += begun.elapsed();
            }
            self.heartbeat()?;
            nap(Round { datagrams: 0, bytes: 0, ..round });
        }
        self.finish_connections();
        eprintln!(
            "raven-worker syslog: stopped while more was coming or the store took nothing: what is still in the sockets and {} datagrams in hand are left there",
            self.memory.pending()
        );
        Ok(())
    }

    /// Messages that were begun are kept as far as they came.
    fn finish_connections(&mut self) {
        for tcp in self.tcp.values() {
            let Connection { slot, listener, peer, .. } = tcp.connection;
            if !self.memory.finish(slot, listener, peer, &self.framing, &mut Blind) {
                eprintln!("raven-worker syslog: stopped with a message of {peer} that the store had no room for");
            }
        }
        self.hand_over(&mut Round::default());
    }

    fn look_at_all(&mut self) -> Result<Round, CollectorError> {
        let mut round = Round::default();
        for id in self.udp.keys().copied().collect::<Vec<_>>() {
            self.receive(id, &mut round)?;
        }
        for slot in self.tcp.keys().copied().collect::<Vec<_>>() {
            self.read(slot, &mut round)?;
        }
        self.hand_over(&mut round);
        Ok(round)
    }
}

impl Udp {
    /// Says what the socket reported: the 1st, 2nd, 4th, 8th time, so that an error that stays fills no log.
    fn note(&mut self, error: &io::Error) {
        self.errors += 1;
        if self.errors.is_power_of_two() {
            eprintln!("raven-worker syslog: {}: {error} (time {})", self.listener.name(), self.errors);
        }
    }
}

/// Waits for more to come together. A full ring leaves sockets readable: waiting for events would spin.
fn nap(round: Round) {
    let nap = match round {
        Round { full: true, .. } => FULL,
        Round { failed: true, .. } => FAILED,
        Round { more: true, .. } => return,
        Round { datagrams: 1.., .. } => NAP_UDP,
        Round { bytes: 1.., .. } => NAP_TCP,
        _ => return,
    };
    std::thread::sleep(nap);
}
