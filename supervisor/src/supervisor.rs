//! The event loop: one thread that waits for signals, workers, connections and operators, and never for any one of
//! them alone.

mod accept;
mod finish;
mod operators;
mod programs;
mod reload;
mod restore;
mod sealed;
mod slots;
mod stick;
mod workers;

use crate::appliance::Appliance;
use crate::connections::Connections;
use crate::dirs::Dirs;
use crate::fdstore;
use crate::history::History;
use crate::installer::Installer;
use crate::journal::Journal;
use crate::listeners::Listeners;
use crate::logins::Logins;
use crate::operator::{self, Client};
use crate::programs::Programs;
use crate::secrets::Secrets;
use crate::slots::SlotKeeper;
use crate::stick::Stick;
use crate::worker::{State, Worker};
use crate::{Args, configure, status};
use anyhow::Context;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::unistd::Uid;
use raven_jail::channel::Channel;
use raven_jail::signals::{self, Signals};
use raven_jail::{caps, spawn};
use raven_model::config::Config;
use raven_model::control::{ListenerId, PACKET_MAX, ToWorker};
use raven_model::news::News;
use raven_model::stream::Stream;
use raven_model::table::{Role, table};
use raven_model::tunnel::Carrier;
use sd_notify::NotifyState;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Roles with a way to the store: they read its open segment, or bring what another box received.
const READERS: [Role; 3] = [Role::Decode, Role::Uplink, Role::Import];
/// Longest wait for an event: heartbeats are looked at so often.
const TICK: Duration = Duration::from_millis(500);
/// The same while `raven-slot` runs.
const SLOT_TICK: Duration = Duration::from_millis(20);
/// How often the store is told of drops.
const DROPS: Duration = Duration::from_secs(1);
/// How often it is asked who is at the other ends of the cables. LLDP speaks each 30 s, and at once to who is new.
const NEIGHBOURS: Duration = Duration::from_secs(5);
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
    Program(u32),
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
            Self::Program(n) => (6, u64::from(n)),
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
            5 => Self::Client(n),
            _ => Self::Program(n),
        }
    }
}

/// What a stream's collector and the store share.
struct HeldStream {
    memory: OwnedFd,
    words: OwnedFd,
    wake: EventFd,
}

/// Descriptors that outlive workers.
struct Held {
    streams: BTreeMap<Stream, HeldStream>,
    /// Per reader: the store's end and the reader's.
    tails: Vec<(Role, Channel, Channel)>,
    /// Orders of the `vpn` role to the `net` role: the end of either.
    tunnels: (Channel, Channel),
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
    /// Clients that wait for what `raven-slot` says.
    asked_slots: Vec<u32>,
    /// The client that waits for a factory reset to be noted.
    asked_reset: Option<u32>,
    last_client: u32,
    connections: BTreeMap<Stream, Connections>,
    /// In force.
    pub secrets: Secrets,
    /// The machine, where it is the image's.
    appliance: Option<Appliance>,
    /// What of the machine could not be put into force.
    pub box_alerts: Vec<String>,
    /// What was in force.
    history: History,
    /// From the medium.
    installer: Installer,
    /// What a USB stick brought, on a box.
    pub stick: Option<Stick>,
    /// Being read for a support bundle.
    journal: Journal,
    /// One for each tunnel by OpenVPN.
    programs: Programs,
    /// Which tunnel carries, as the vpn role told last.
    carrier: Carrier,
    /// Who is logged in.
    logins: Logins,
    /// What operators did from afar: becomes records of stream `host`.
    audit: News,
    /// Comes back unless it is confirmed.
    pub unconfirmed: Option<reload::Unconfirmed>,
    stopping: bool,
    announced: bool,
    next_watchdog: Instant,
    next_drops: Instant,
    next_neighbours: Instant,
    /// Since when it runs.
    pub started: Instant,
    /// In force.
    pub config: Box<Config>,
    /// What it kept of root's capabilities.
    pub capabilities: Vec<String>,
    /// Slots of an installed box.
    pub slots: SlotKeeper,
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

/// The configuration that a start puts into force.
struct Begun {
    text: Vec<u8>,
    config: Box<Config>,
    /// It is not that of the file, and why.
    damaged: Option<String>,
}

/// Reads the configuration. A box whose file is damaged goes on receiving, with the newest version of its history that can be
/// read, else as the factory made it: who may come by SSH is who might before, or nobody.
fn begin(program: &OwnedFd, args: &Args, history: &History) -> anyhow::Result<Begun> {
    // That nobody could be asked says nothing of the text.
    let parse = |text: Vec<u8>| {
        let config = configure::parse(program, &args.data, &args.config, &text)?;
        Ok::<_, anyhow::Error>(config.map(|config| (text, config)).map_err(|errors| errors.join("\n")))
    };
    let error = match configure::text(&args.config) {
        Err(error) => error,
        Ok(text) => match parse(text)? {
            Ok((text, config)) => return Ok(Begun { text, config, damaged: None }),
            Err(errors) => anyhow::anyhow!(errors),
        },
    };
    let error = error.context("the configuration is not valid");
    let Some(run) = args.box_run.as_deref() else { return Err(error) };
    tracing::error!("{error:#}");
    let versions = history.versions().unwrap_or_default().into_iter();
    let before =
        versions.map(|version| (format!("version {} of the history", version.number), history.text(version.number)));
    let factory = args.factory.iter().map(|file| ("that of the factory".to_owned(), configure::text(file)));
    let mut others = before.chain(factory).filter_map(|(name, text)| Some((name, parse(text.ok()?).ok()?.ok()?)));
    let Some((name, (text, config))) = others.next() else {
        // Who may come is not known: nobody.
        return Err(Appliance::new(run).let_nobody_in().err().unwrap_or(error));
    };
    let damaged = format!(
        "the configuration file {} is damaged: {name} is in force; `raven config put` writes it anew",
        args.config.display()
    );
    tracing::warn!("{damaged}");
    Ok(Begun { text, config, damaged: Some(damaged) })
}

impl Supervisor {
    fn start(args: Args) -> anyhow::Result<Self> {
        let signals = Signals::new(&[signals::SIGTERM, signals::SIGINT, signals::SIGHUP])?;
        let stored = fdstore::restore();
        let program = open_worker()?;
        let dirs = Dirs::prepare(&args.data)?;
        let capabilities = keep_capabilities()?;
        let history = History::open(&args.data);
        history.take_back(&args.config)?;
        if let Some(factory) = &args.factory {
            configure::begin_with(factory, &args.config)?;
        }
        let Begun { text, config, damaged } = begin(&program, &args, &history)?;
        let (held, listeners, connections) = restore::restore(stored)?;
        let control = operator::listen_at(&dirs.control(), 0o666)
            .with_context(|| format!("cannot listen on {}", dirs.control().display()))?;
        if let Err(error) = history.keep(&text, "start") {
            tracing::warn!("no history of the configuration is kept: {error:#}");
        }
        let logins = Logins::open(&args.data);
        let appliance = args.box_run.as_deref().map(Appliance::new);
        let stick = args.box_run.as_deref().map(Stick::new);
        let now = Instant::now();
        let workers = Role::ALL.into_iter().filter(|role| role.is_kept()).map(|role| {
            let mut worker = Worker::new(role, now);
            if !workers::is_wanted(role, &config) {
                worker.state = State::Unwanted;
            }
            worker
        });
        let workers = workers.collect();
        let slots = SlotKeeper::new(&args.slots, &args.update_keys);
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
            asked_slots: Vec::new(),
            asked_reset: None,
            slots,
            last_client: 0,
            connections,
            appliance,
            box_alerts: Vec::new(),
            history,
            installer: Installer::default(),
            journal: Journal::default(),
            programs: Programs::default(),
            carrier: Carrier::default(),
            stick,
            logins,
            audit: News::new(RandomState::new().hash_one(0)),
            unconfirmed: None,
            stopping: false,
            announced: false,
            next_watchdog: now,
            next_drops: now,
            next_neighbours: now,
            started: now,
            config,
            capabilities,
            listeners,
            workers,
            secrets: Secrets::default(),
        };
        this.epoll.add(&this.signals, event(Token::Signals))?;
        this.epoll.add(&this.control, event(Token::Control))?;
        let restored: Vec<ListenerId> = this.listeners.iter().map(|bound| bound.listener.id).collect();
        this.watch_listeners(&restored)?;
        let config = this.config.clone();
        // Bound before all that takes time: from here on the kernel receives. The firewall lets in just this.
        this.rebind(&config)?;
        this.box_alerts = this.appliance.as_ref().map_or_else(Vec::new, |appliance| appliance.put(&config));
        this.box_alerts.extend(damaged);
        this.secrets = Secrets::read_or_tell(&this.program, &this.args, &config);
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

    /// Whether the machine is Raven's own.
    pub const fn is_box(&self) -> bool {
        self.appliance.is_some()
    }

    fn timeout(&self) -> EpollTimeout {
        let now = Instant::now();
        let starts = self.workers.iter().filter_map(|worker| match worker.state {
            State::Waiting(at) => Some(at.saturating_duration_since(now) + Duration::from_millis(1)),
            _ => None,
        });
        let tick = if self.slots.is_busy() { SLOT_TICK } else { TICK };
        EpollTimeout::try_from(starts.min().unwrap_or(tick).min(tick)).unwrap_or(EpollTimeout::ZERO)
    }

    fn handle(&mut self, token: Token) -> anyhow::Result<()> {
        match token {
            Token::Signals => self.signal()?,
            Token::Control => self.accept_client(),
            Token::Worker(n) => self.hear(n),
            Token::Process(n) => self.reap(n)?,
            Token::Listener(id) => self.accept_connections(id),
            Token::Client(n) => self.serve_client(n),
            Token::Program(n) => self.reap_program(n),
        }
        Ok(())
    }

    fn signal(&mut self) -> anyhow::Result<()> {
        while let Some(signal) = self.signals.next()? {
            if signal == signals::SIGHUP {
                match self.apply("SIGHUP", None) {
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
        self.revert_in_time();
        self.workers.iter_mut().for_each(Worker::kill_if_hung);
        self.tend_slots();
        self.tend_journal();
        self.tend_stick();
        self.programs.tend();
        let (slots, others) = (&self.asked_slots, [self.asked_reset, self.journal.client()]);
        let waits = |n: &u32| slots.contains(n) || others.contains(&Some(*n));
        self.clients.retain(|n, client| client.is_answering() || waits(n) || client.since.elapsed() < SILENT_CLIENT);
        let now = Instant::now();
        if now >= self.next_drops {
            self.next_drops = now + DROPS;
            self.tell_drops();
            self.tell_reports();
        }
        if now >= self.next_neighbours {
            self.next_neighbours = now + NEIGHBOURS;
            self.tell_networkd();
        }
        if now >= self.next_watchdog {
            let critical_alive =
                self.workers.iter().all(|w| !w.spec.critical || w.state == State::Unwanted || w.is_fresh());
            if critical_alive {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
            self.next_watchdog = now + sd_notify::watchdog_enabled().map_or(TICK * 20, |period| period / 3);
        }
    }

    /// Tells the store what the sockets have dropped: it remembers that when they are gone.
    fn tell_drops(&mut self) {
        let drops = self.listeners.drops();
        if !drops.is_empty() {
            self.tell(Role::Store, &ToWorker::Dropped(drops), Vec::new());
        }
    }

    /// Has the net role ask systemd-networkd, to which it cannot connect itself.
    fn tell_networkd(&mut self) {
        let Some(n) = self.worker(Role::Net) else { return };
        let is_free = self.workers[n].state == State::Running && self.workers[n].flush();
        let Some(appliance) = self.appliance.as_ref().filter(|_| is_free) else { return };
        let (message, connection) = match appliance.networkd() {
            Ok(connection) => (Ok(()), vec![connection]),
            Err(why) => (Err(why), Vec::new()),
        };
        self.tell(Role::Net, &ToWorker::Networkd(message), connection);
    }

    /// Passes on, unread, what roles have reported: to the alert role, with what is known here, what it watches; to the host
    /// role what becomes records and numbers of its stream.
    fn tell_reports(&mut self) {
        let (alert, host) = (self.is_free(Role::Alert), self.is_free(Role::Host));
        let schedule = self.is_free(Role::Schedule);
        if alert {
            let own = Box::new(status::status(self).own);
            self.tell(Role::Alert, &ToWorker::Own(own), Vec::new());
            self.pass_reports(&[Role::Store, Role::Uplink, Role::Host, Role::Vpn, Role::Schedule], Role::Alert);
        }
        if host {
            self.pass_reports(&[Role::Net, Role::Vpn], Role::Host);
            if self.audit.count > 0 {
                let news = Box::new(self.audit.clone());
                self.tell(Role::Host, &ToWorker::Audit(news), Vec::new());
            }
        }
        if schedule {
            // No bandwidth is measured while a destination gets what it missed.
            self.pass_reports(&[Role::Uplink], Role::Schedule);
        }
    }

    /// Whether a role runs and has taken all that it was sent: what it has not taken yet is enough for one that is slow.
    fn is_free(&mut self, role: Role) -> bool {
        let worker = self.worker(role).map(|n| &mut self.workers[n]);
        worker.is_some_and(|worker| worker.state == State::Running && worker.flush())
    }

    fn pass_reports(&mut self, of: &[Role], to: Role) {
        for &role in of {
            let report = self.worker(role).and_then(|n| self.workers[n].report.clone());
            // A report came in a packet, and the words around it are a few more here.
            match report {
                Some(report) if report.get().len() > PACKET_MAX - 256 => {
                    tracing::warn!(%role, %to, "the report is too long to be passed on");
                }
                Some(report) => self.tell(to, &ToWorker::Report { role, report }, Vec::new()),
                None => {}
            }
        }
    }

    /// `ready`, once, when every worker is jailed.
    fn announce(&mut self) {
        if self.announced || !self.workers.iter().all(|w| matches!(w.state, State::Running | State::Unwanted)) {
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
}

fn event(token: Token) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, token.pack())
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
