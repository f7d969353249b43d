//! The event loop: one thread that waits for signals, workers, connections and operators, and never for any one of
//! them alone.

use crate::connections::{Connections, Limits};
use crate::dirs::Dirs;
use crate::fdstore::{self, Stored};
use crate::listeners::{Bound, Listeners};
use crate::operator::{self, CLIENTS_MAX, Client};
use crate::worker::{State, Worker};
use crate::{Args, configure, status};
use anyhow::{Context, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::unistd::{Uid, dup};
use raven_jail::channel::{Channel, stream_pair};
use raven_jail::memory::reopen_read_only as read_only;
use raven_jail::signals::{self, Signals};
use raven_jail::{caps, receive, socket, spawn};
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, Listener, ListenerId, Proto, Request, Response, Start, ToWorker};
use raven_model::table::{Role, table};
use sd_notify::NotifyState;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The stream of this collector.
const STREAM: &str = "syslog";
/// Roles that read the open segment from the store.
const READERS: [Role; 2] = [Role::Decode, Role::Uplink];
/// Longest wait for an event: heartbeats are looked at so often.
const TICK: Duration = Duration::from_millis(500);
/// A client that has said nothing for so long is let go.
const SILENT_CLIENT: Duration = Duration::from_secs(10);
/// Longest that a worker may take to finish.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Signals,
    Control,
    Worker(usize),
    Process(usize),
    Listener(ListenerId),
    Client(u32),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, n) = match self {
            Self::Signals => (0, 0),
            Self::Control => (1, 0),
            Self::Worker(n) => (2, n as u64),
            Self::Process(n) => (3, n as u64),
            Self::Listener(id) => (4, u64::from(id)),
            Self::Client(n) => (5, u64::from(n)),
        };
        kind << 32 | n
    }

    fn unpack(data: u64) -> Self {
        let n = data as u32;
        match data >> 32 {
            0 => Self::Signals,
            1 => Self::Control,
            2 => Self::Worker(n as usize),
            3 => Self::Process(n as usize),
            4 => Self::Listener(n as ListenerId),
            _ => Self::Client(n),
        }
    }
}

/// Descriptors that outlive workers.
struct Held {
    memory: OwnedFd,
    words: OwnedFd,
    wake: EventFd,
    /// Per reader: the store's end and the reader's.
    tails: Vec<(Role, Channel, Channel)>,
}

/// Everything `ravend` holds.
pub struct Supervisor {
    args: Args,
    dirs: Dirs,
    program: OwnedFd,
    epoll: Epoll,
    signals: Signals,
    control: OwnedFd,
    held: Held,
    boot_id: String,
    clients: HashMap<u32, Client>,
    last_client: u32,
    connections: Connections,
    stopping: bool,
    announced: bool,
    next_watchdog: Instant,
    /// Since when it runs.
    pub started: Instant,
    /// In force.
    pub config: Box<Config>,
    /// What it kept of root's capabilities.
    pub capabilities: Vec<String>,
    /// Bound sockets.
    pub listeners: Listeners,
    /// One per role but `config`.
    pub workers: Vec<Worker>,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut supervisor = Supervisor::start(args)?;
    supervisor.serve()?;
    supervisor.finish()
}

impl Supervisor {
    fn start(args: Args) -> anyhow::Result<Self> {
        let signals = Signals::new(&[signals::SIGTERM, signals::SIGINT, signals::SIGHUP])?;
        let stored = fdstore::restore();
        let program = open_worker()?;
        let dirs = Dirs::prepare(&args.data)?;
        let capabilities = keep_capabilities()?;
        let config = configure::read(&program, &args.data, &args.config)?
            .map_err(|errors| anyhow::anyhow!("the configuration is not valid\n{}", errors.join("\n")))?;
        let (held, listeners, connections) = restore(stored)?;
        let control = operator::listen_at(&dirs.control())
            .with_context(|| format!("cannot listen on {}", dirs.control().display()))?;
        let now = Instant::now();
        let workers = Role::ALL.into_iter().filter(|role| *role != Role::Config).map(|role| Worker::new(role, now));
        let mut this = Self {
            args,
            dirs,
            program,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            signals,
            control,
            held,
            boot_id: boot_id(),
            clients: HashMap::new(),
            last_client: 0,
            connections,
            stopping: false,
            announced: false,
            next_watchdog: now,
            started: now,
            config,
            capabilities,
            listeners,
            workers: workers.collect(),
        };
        this.epoll.add(&this.signals, event(Token::Signals))?;
        this.epoll.add(&this.control, event(Token::Control))?;
        let restored: Vec<ListenerId> = this.listeners.iter().map(|bound| bound.listener.id).collect();
        this.watch_listeners(&restored)?;
        let config = this.config.clone();
        this.rebind(&config)?;
        Ok(this)
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        while !self.stopping {
            self.start_workers();
            self.announce();
            let n = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..n] {
                self.handle(Token::unpack(event.data()))?;
            }
            self.tend();
        }
        Ok(())
    }

    fn timeout(&self) -> EpollTimeout {
        let now = Instant::now();
        let starts = self.workers.iter().filter_map(|worker| match worker.state {
            State::Waiting(at) => Some(at.saturating_duration_since(now) + Duration::from_millis(1)),
            _ => None,
        });
        EpollTimeout::try_from(starts.min().unwrap_or(TICK).min(TICK)).unwrap_or(EpollTimeout::ZERO)
    }

    fn handle(&mut self, token: Token) -> anyhow::Result<()> {
        match token {
            Token::Signals => self.signal()?,
            Token::Control => self.accept_client(),
            Token::Worker(n) => self.hear(n),
            Token::Process(n) => self.reap(n)?,
            Token::Listener(id) => self.accept_connections(id),
            Token::Client(n) => self.serve_client(n),
        }
        Ok(())
    }

    fn signal(&mut self) -> anyhow::Result<()> {
        while let Some(signal) = self.signals.next()? {
            if signal == signals::SIGHUP {
                match self.apply() {
                    Ok(changes) => tracing::info!("configuration applied: {}", changes.join("; ")),
                    Err(errors) => tracing::error!("the configuration was not applied: {}", errors.join("; ")),
                }
            } else {
                tracing::info!("{}: stopping", signals::name(signal));
                self.stopping = true;
            }
        }
        Ok(())
    }

    /// What is done however busy the loop is.
    fn tend(&mut self) {
        self.workers.iter_mut().for_each(Worker::kill_if_hung);
        self.clients.retain(|_, client| client.is_answering() || client.since.elapsed() < SILENT_CLIENT);
        let now = Instant::now();
        if now >= self.next_watchdog {
            let critical_alive = self.workers.iter().all(|w| !w.spec.critical || w.is_fresh());
            if critical_alive {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
            self.next_watchdog = now + sd_notify::watchdog_enabled().map_or(TICK * 20, |period| period / 3);
        }
    }

    /// `ready`, once, when every worker is jailed.
    fn announce(&mut self) {
        if self.announced || !self.workers.iter().all(|w| w.state == State::Running) {
            return;
        }
        self.announced = true;
        let _ = writeln!(io::stdout(), "ready").and_then(|()| io::stdout().flush());
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        for lack in status::status(self).own.jail_missing {
            tracing::warn!("the jail is not complete: {lack}");
        }
        tracing::info!(after_ms = self.started.elapsed().as_millis() as u64, "ready");
    }

    // ---- workers ----

    fn start_workers(&mut self) {
        for n in 0..self.workers.len() {
            if matches!(self.workers[n].state, State::Waiting(at) if at <= Instant::now()) {
                if let Err(error) = self.start_worker(n) {
                    tracing::error!(role = %self.workers[n].role, "cannot start the worker: {error:#}");
                    self.workers[n].state = State::Waiting(Instant::now() + crate::worker::HOLD_MAX);
                }
            }
        }
    }

    fn start_worker(&mut self, n: usize) -> anyhow::Result<()> {
        let role = self.workers[n].role;
        let (names, fds) = self.start_fds(role)?;
        let worker = &mut self.workers[n];
        worker.start(self.program.as_fd(), &self.dirs.data)?;
        let start = Start {
            role,
            device: self.config.site.name.clone(),
            boot_id: self.boot_id.clone(),
            data: worker.data_view().map_or_else(PathBuf::new, PathBuf::from),
            config: Some(self.config.clone()),
            listeners: self.listeners.names(),
            environment: BTreeMap::new(),
            fds: names,
        };
        worker.send(&ToWorker::Start(Box::new(start)), fds);
        let (channel, process) = worker.fds().context("a started worker has descriptors")?;
        self.epoll.add(channel, event(Token::Worker(n)))?;
        self.epoll.add(process, event(Token::Process(n)))?;
        if role == Role::Syslog {
            self.equip_collector(n)?;
        }
        self.want_write(n);
        Ok(())
    }

    fn start_fds(&self, role: Role) -> anyhow::Result<(Vec<Fd>, Vec<OwnedFd>)> {
        let stream = || STREAM.to_owned();
        let (names, mut fds) = match role {
            Role::Syslog => (
                vec![Fd::Ring { stream: stream() }, Fd::Words { stream: stream() }, Fd::Wake { stream: stream() }],
                vec![dup(&self.held.memory)?, read_only(self.held.words.as_fd())?, dup(&self.held.wake)?],
            ),
            Role::Store => (
                vec![Fd::Ring { stream: stream() }, Fd::Words { stream: stream() }, Fd::Wake { stream: stream() }],
                vec![read_only(self.held.memory.as_fd())?, dup(&self.held.words)?, dup(&self.held.wake)?],
            ),
            _ => (Vec::new(), Vec::new()),
        };
        let mut names = names;
        for (reader, store_end, reader_end) in &self.held.tails {
            if role == Role::Store {
                names.push(Fd::Tail { peer: *reader });
                fds.push(dup(store_end)?);
            } else if role == *reader {
                names.push(Fd::Tail { peer: Role::Store });
                fds.push(dup(reader_end)?);
            }
        }
        Ok((names, fds))
    }

    /// Passes all listeners and live connections to a new collector.
    fn equip_collector(&mut self, n: usize) -> anyhow::Result<()> {
        for bound in self.listeners.iter() {
            self.workers[n].send(&ToWorker::Listen(bound.listener.clone()), listener_fds(bound)?);
        }
        for held in self.connections.iter() {
            self.workers[n].send(&ToWorker::Connection(held.connection.clone()), vec![held.duplicate()?]);
        }
        Ok(())
    }

    /// Has the loop tell when a worker can take more, or when it says something.
    fn want_write(&mut self, n: usize) {
        let flushed = self.workers[n].flush();
        let flags = if flushed { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT };
        if let Some((channel, _)) = self.workers[n].fds() {
            let _ = self.epoll.modify(channel, &mut EpollEvent::new(flags, Token::Worker(n).pack()));
        }
    }

    fn hear(&mut self, n: usize) {
        let mut packet = Vec::new();
        while let Some(message) = self.workers[n].receive(&mut packet) {
            match message {
                FromWorker::Ready { missing } => self.workers[n].ready(missing),
                FromWorker::Heartbeat { report } => self.workers[n].alive(report),
                FromWorker::Closed { connection } => self.forget_connection(connection),
                FromWorker::Config(_) => {}
            }
        }
        self.want_write(n);
    }

    fn reap(&mut self, n: usize) -> anyhow::Result<()> {
        self.hear(n);
        self.workers[n].reap()?;
        Ok(())
    }

    fn worker(&mut self, role: Role) -> Option<usize> {
        self.workers.iter().position(|worker| worker.role == role)
    }

    fn tell(&mut self, role: Role, message: &ToWorker, fds: Vec<OwnedFd>) {
        if let Some(n) = self.worker(role) {
            self.workers[n].send(message, fds);
            self.want_write(n);
        }
    }

    // ---- TCP ----

    fn accept_connections(&mut self, id: ListenerId) {
        let syslog = &self.config.collect.syslog;
        let limits = Limits { total: syslog.connections, per_source: syslog.connections_per_source };
        // Bounded, so that a flood of connections starves nobody else in the loop.
        for _ in 0..64 {
            let Some(bound) = self.listeners.get_mut(id) else { return };
            match socket::accept(bound.socket.as_fd()) {
                Ok((socket, peer)) => self.keep_connection(id, peer, socket, limits),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    bound.refused += 1;
                    tracing::warn!(listener = bound.listener.name(), "a connection was not accepted: {error}");
                    return;
                }
            }
        }
    }

    fn keep_connection(&mut self, id: ListenerId, peer: std::net::SocketAddr, socket: OwnedFd, limits: Limits) {
        let Some(held) = self.connections.add(id, peer, socket, limits) else {
            if let Some(bound) = self.listeners.get_mut(id) {
                bound.refused += 1;
            }
            return;
        };
        fdstore::keep(&Stored::of(&held.connection), held.socket.as_fd());
        let (message, fd) = (ToWorker::Connection(held.connection.clone()), held.duplicate());
        match fd {
            Ok(fd) => self.tell(Role::Syslog, &message, vec![fd]),
            Err(error) => tracing::error!("no descriptor left for a connection: {error}"),
        }
    }

    fn forget_connection(&mut self, id: u32) {
        let Some((connection, bytes)) = self.connections.remove(id) else { return };
        fdstore::forget(&Stored::of(&connection));
        let length = (bytes.end - bytes.start).cast_signed();
        let flags = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // Only memory is at stake.
        let _ = nix::fcntl::fallocate(&self.held.memory, flags, bytes.start.cast_signed(), length);
    }

    // ---- configuration ----

    fn apply(&mut self) -> Result<Vec<String>, Vec<String>> {
        let config = self.read_config()?;
        let changes = self.config.diff(&config);
        self.rebind(&config).map_err(|error| vec![format!("{error:#}"), "nothing was changed".to_owned()])?;
        self.config = config;
        let message = ToWorker::Configure(self.config.clone());
        for role in [Role::Store, Role::Syslog, Role::Uplink, Role::Decode] {
            self.tell(role, &message, Vec::new());
        }
        Ok(if changes.is_empty() { vec!["nothing has changed".to_owned()] } else { changes })
    }

    fn read_config(&self) -> Result<Box<Config>, Vec<String>> {
        configure::read(&self.program, &self.args.data, &self.args.config)
            .unwrap_or_else(|error| Err(vec![format!("{error:#}")]))
    }

    /// Binds what is new and lets go of what is not wanted; on an error nothing has changed.
    fn rebind(&mut self, config: &Config) -> anyhow::Result<()> {
        let change = self.listeners.prepare(&config.collect.syslog)?;
        let (added, removed) = self.listeners.accept(change);
        self.watch_listeners(&added)?;
        for bound in self.listeners.iter().filter(|b| added.contains(&b.listener.id)) {
            fdstore::keep(&Stored::Listener(bound.listener.proto, bound.listener.id), bound.socket.as_fd());
        }
        // The store must know the names before records come from them.
        let names = self.listeners.names();
        self.tell(Role::Store, &ToWorker::Listeners(names), Vec::new());
        let new: Vec<(Listener, Vec<OwnedFd>)> = self
            .listeners
            .iter()
            .filter(|b| added.contains(&b.listener.id))
            .map(|b| Ok((b.listener.clone(), listener_fds(b)?)))
            .collect::<io::Result<_>>()?;
        for (listener, fds) in new {
            tracing::info!("listening on {}", listener.name());
            self.tell(Role::Syslog, &ToWorker::Listen(listener), fds);
        }
        for bound in removed {
            tracing::info!("no longer listening on {}", bound.listener.name());
            fdstore::forget(&Stored::Listener(bound.listener.proto, bound.listener.id));
            self.tell(Role::Syslog, &ToWorker::Unlisten(bound.listener.id), Vec::new());
        }
        Ok(())
    }

    /// TCP listeners are accepted from here; UDP sockets are never read by `ravend`.
    fn watch_listeners(&self, ids: &[ListenerId]) -> anyhow::Result<()> {
        for bound in self.listeners.iter().filter(|b| ids.contains(&b.listener.id) && b.listener.proto == Proto::Tcp) {
            self.epoll.add(&bound.socket, event(Token::Listener(bound.listener.id)))?;
        }
        Ok(())
    }

    // ---- operators ----

    fn accept_client(&mut self) {
        if self.clients.len() >= CLIENTS_MAX {
            return;
        }
        let Ok(client) = Client::accept(self.control.as_fd()) else { return };
        self.last_client = self.last_client.wrapping_add(1);
        if self.epoll.add(client.fd(), event(Token::Client(self.last_client))).is_ok() {
            self.clients.insert(self.last_client, client);
        }
    }

    fn serve_client(&mut self, n: u32) {
        let Some(mut client) = self.clients.remove(&n) else { return };
        if !client.is_answering() {
            let (response, pass) = match client.read() {
                Ok(Some(Ok(request))) => self.respond(&request),
                Ok(Some(Err(refusal))) => (Response::Refused(vec![refusal]), None),
                Ok(None) => {
                    self.clients.insert(n, client);
                    return;
                }
                Err(_) => return,
            };
            client.answer(&response, pass);
        }
        if let Ok(false) = client.write() {
            let flags = EpollFlags::EPOLLOUT;
            let _ = self.epoll.modify(client.fd(), &mut EpollEvent::new(flags, Token::Client(n).pack()));
            self.clients.insert(n, client);
        }
    }

    fn respond(&mut self, request: &Request) -> (Response, Option<OwnedFd>) {
        let response = match request {
            Request::Status => Response::Status(Box::new(status::status(self))),
            Request::Show => Response::Config(self.config.clone()),
            Request::Apply => match self.apply() {
                Ok(changes) => Response::Applied(changes),
                Err(errors) => Response::Refused(errors),
            },
            Request::Diff => match self.read_config() {
                Ok(file) => Response::Diff { running: self.config.clone(), file },
                Err(errors) => Response::Refused(errors),
            },
            Request::Query => match stream_pair() {
                Ok((ours, theirs)) => {
                    self.tell(Role::Decode, &ToWorker::Client, vec![ours]);
                    return (Response::Query, Some(theirs));
                }
                Err(error) => Response::Refused(vec![format!("no descriptor left for a query: {error}")]),
            },
        };
        (response, None)
    }

    // ---- the end ----

    /// Collectors first, then the store with all that they handed over, then the readers.
    fn finish(&mut self) -> anyhow::Result<()> {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        for role in [Role::Syslog, Role::Store, Role::Uplink, Role::Decode] {
            self.stop_worker(role)?;
        }
        let _ = fs::remove_file(self.dirs.control());
        tracing::info!("stopped");
        Ok(())
    }

    fn stop_worker(&mut self, role: Role) -> anyhow::Result<()> {
        let Some(n) = self.worker(role) else { return Ok(()) };
        self.workers[n].stop();
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut events = [EpollEvent::empty(); 64];
        while self.workers[n].state != State::Stopped {
            if Instant::now() > deadline {
                tracing::error!(%role, "the worker did not finish in {} s: killed", STOP_PATIENCE.as_secs());
                self.workers[n].kill();
                std::thread::sleep(Duration::from_millis(20));
                self.workers[n].reap()?;
                break;
            }
            let count = self.epoll.wait(&mut events, EpollTimeout::from(50_u16)).unwrap_or(0);
            for event in &events[..count] {
                match Token::unpack(event.data()) {
                    Token::Worker(n) => self.hear(n),
                    Token::Process(n) => self.reap(n)?,
                    _ => {}
                }
            }
            // A store or reader that dies now is needed once more.
            self.restart_unfinished(role)?;
        }
        Ok(())
    }

    /// While a collector finishes, the store must run to give its ring space back.
    fn restart_unfinished(&mut self, stopping: Role) -> anyhow::Result<()> {
        if stopping == Role::Syslog {
            let Some(n) = self.worker(Role::Store) else { return Ok(()) };
            if matches!(self.workers[n].state, State::Waiting(at) if at <= Instant::now()) {
                self.start_worker(n)?;
            }
        }
        Ok(())
    }
}

fn event(token: Token) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, token.pack())
}

fn listener_fds(bound: &Bound) -> io::Result<Vec<OwnedFd>> {
    match bound.listener.proto {
        Proto::Udp => Ok(vec![bound.duplicate()?]),
        Proto::Tcp => Ok(Vec::new()),
    }
}

fn open_worker() -> anyhow::Result<OwnedFd> {
    let own = std::env::current_exe().context("cannot find the path of ravend itself")?;
    let path = own.with_file_name("raven-worker");
    spawn::open_program(&path).with_context(|| format!("cannot open {}, which belongs beside ravend", path.display()))
}

fn keep_capabilities() -> anyhow::Result<Vec<String>> {
    if !Uid::effective().is_root() {
        return Ok(Vec::new());
    }
    caps::keep_only(&table().ravend.capabilities).context("cannot drop capabilities")
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().replace('-', "")
}

/// What systemd kept of an earlier life, or all new.
fn restore(stored: Vec<(Stored, OwnedFd)>) -> anyhow::Result<(Held, Listeners, Connections)> {
    let (mut memory, mut words) = (None, None);
    let (mut listeners, mut connections) = (Listeners::default(), Connections::default());
    for (what, fd) in stored {
        match what {
            Stored::Memory => memory = Some(fd),
            Stored::Words => words = Some(fd),
            Stored::Listener(proto, id) => listeners.restore(id, proto, fd)?,
            Stored::Connection(id, slot, listener) => match socket::peer_addr(fd.as_fd()) {
                Ok(peer) => connections.restore(raven_model::control::Connection { id, slot, listener, peer }, fd),
                // The peer is gone; what it had sent is in the receive memory or was never read.
                Err(_) => fdstore::forget(&Stored::Connection(id, slot, listener)),
            },
        }
    }
    let (memory, words) = match (memory, words) {
        (Some(memory), Some(words)) => (memory, words),
        _ => {
            let (memory, words) = receive::create(STREAM).context("cannot make the receive memory")?;
            fdstore::keep(&Stored::Memory, memory.as_fd());
            fdstore::keep(&Stored::Words, words.as_fd());
            (memory, words)
        }
    };
    let mut tails = Vec::new();
    for reader in READERS {
        let (store_end, reader_end) = Channel::pair()?;
        store_end.set_send_buffer(1 << 20)?;
        for end in [&store_end, &reader_end] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        }
        tails.push((reader, store_end, reader_end));
    }
    if listeners.iter().count() > 200 {
        bail!("the service manager kept more listeners than a configuration can have");
    }
    Ok((
        Held {
            memory,
            words,
            wake: EventFd::from_value_and_flags(
                0,
                nix::sys::eventfd::EfdFlags::EFD_CLOEXEC | nix::sys::eventfd::EfdFlags::EFD_NONBLOCK,
            )?,
            tails,
        },
        listeners,
        connections,
    ))
}
