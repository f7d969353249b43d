//! Both sides of a collector: the jailed process, and what `ravend` and the store do for it.

use raven_collectors::receiver::Receiver;
use raven_collectors::syslog::Syslog;
use raven_jail::channel::Channel;
use raven_jail::memory::memfd_of;
use raven_jail::receive::{StoreMemory, create};
use raven_jail::{sandbox, socket};
use raven_model::config::Config;
use raven_model::control::{Connection, Fd, FromWorker, Listener, PACKET_MAX, Proto, Start, ToWorker};
use raven_model::record::Frames;
use raven_model::report::CollectorReport;
use raven_model::stream::Stream;
use raven_model::table::{Base, Role, table};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The jailed process: its control channel is descriptor 0.
pub fn run() {
    let channel = Channel::inherited(0).unwrap();
    let (start, fds) = match channel.recv_json(&mut vec![0; PACKET_MAX]).unwrap().unwrap() {
        (ToWorker::Start(start), fds) => (*start, fds),
        (other, _) => panic!("{other:?}"),
    };
    let receiver = Receiver::new(&start, fds, channel, 7, Syslog::new(&start)).unwrap();
    receiver.ready(jail(Role::Syslog)).unwrap().run().unwrap();
}

/// A jailed process that makes keys and writes the certificate to its standard output.
pub fn run_keygen() {
    use std::io::Write as _;
    jail(Role::Keygen);
    let (certificate, key) = raven_collectors::keygen::keys("raven").unwrap();
    std::io::stdout().write_all(format!("{certificate}{key}").as_bytes()).unwrap();
}

fn jail(role: Role) -> Vec<String> {
    let mut base = Base { syscalls: table().base.syscalls.clone() };
    if cfg!(debug_assertions) {
        // The standard library then asks whether a descriptor is open before it closes it.
        base.syscalls.push("fcntl".to_owned());
    }
    sandbox::enter(table().spec(role), &base, "/".as_ref()).unwrap()
}

/// The listeners of all tests, by id.
pub const PROTOS: [Proto; 3] = [Proto::Tcp, Proto::Tls, Proto::Relp];

/// What arrived, and what was reported last.
#[derive(Default)]
pub struct Seen {
    pub raw: Vec<Vec<u8>>,
    pub report: CollectorReport,
    pub closed: usize,
}

/// A running collector, with a `ravend` that accepts for it and a store that keeps what it takes.
pub struct Running {
    pub addr: BTreeMap<Proto, SocketAddr>,
    pub seen: Arc<Mutex<Seen>>,
    child: Child,
    channel: Arc<Channel>,
    memory: OwnedFd,
    words: OwnedFd,
    wake: OwnedFd,
    listeners: Vec<(Listener, OwnedFd)>,
    secrets: Vec<(String, String)>,
    /// Commits take so long.
    pub keep: bool,
    store: StoreMemory,
    taken: u64,
    buffer: Vec<u8>,
    next_connection: u32,
}

impl Running {
    /// With these secrets, by the last part of their names.
    pub fn start(secrets: &[(&str, &str)]) -> Self {
        let (memory, words) = create("syslog").unwrap();
        let store = StoreMemory::open(&memory, &words).unwrap();
        let wake: OwnedFd =
            nix::sys::eventfd::EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_NONBLOCK).unwrap().into();
        let listeners: Vec<_> = (1..)
            .zip(PROTOS)
            .map(|(id, proto)| {
                let socket = socket::tcp_listen("127.0.0.1:0".parse().unwrap(), 64).unwrap();
                let addr = socket::local_addr(socket.as_fd()).unwrap();
                (Listener { id, stream: Stream::Syslog, proto, addr }, socket)
            })
            .collect();
        let addr = listeners.iter().map(|(listener, _)| (listener.proto, listener.addr)).collect();
        let secrets =
            secrets.iter().map(|(name, text)| (format!("collect.syslog.{name}"), (*text).to_owned())).collect();
        let (ours, theirs) = Channel::pair().unwrap();
        let mut this = Self {
            addr,
            seen: Arc::default(),
            child: spawn(theirs),
            channel: Arc::new(ours),
            memory,
            words,
            wake,
            listeners,
            secrets,
            keep: true,
            store,
            taken: 0,
            buffer: Vec::new(),
            next_connection: 0,
        };
        this.greet();
        this
    }

    /// Kills the collector and starts the next one.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        self.child = spawn(theirs);
        self.channel = Arc::new(ours);
        self.greet();
    }

    fn greet(&mut self) {
        let stream = Stream::Syslog;
        let start = Start {
            role: Role::Syslog,
            device: "raven".to_owned(),
            boot_id: "0".repeat(32),
            data: "/".into(),
            config: Some(Box::new(Config::default())),
            listeners: BTreeMap::new(),
            environment: BTreeMap::new(),
            fds: vec![Fd::Ring { stream }, Fd::Words { stream }, Fd::Wake { stream }],
        };
        let fds = [self.memory.as_fd(), self.words.as_fd(), self.wake.as_fd()];
        self.channel.send_json(&ToWorker::Start(Box::new(start)), &fds).unwrap();
        for (listener, _) in &self.listeners {
            self.channel.send_json(&ToWorker::Listen(listener.clone()), &[]).unwrap();
        }
        let secrets = self.secrets.clone();
        self.renew(&secrets);
    }

    /// Passes other secrets.
    pub fn renew(&mut self, secrets: &[(String, String)]) {
        self.secrets = secrets.to_vec();
        let fds: Vec<OwnedFd> = secrets.iter().map(|(_, text)| memfd_of("secret", text.as_bytes()).unwrap()).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let names = secrets.iter().map(|(name, _)| name.clone()).collect();
        self.channel.send_json(&ToWorker::Secrets(names), &fds).unwrap();
    }

    /// Accepts, listens to the collector, takes and commits, until `done` or for so long.
    pub fn until(&mut self, what: &str, seconds: u64, done: impl Fn(&Seen) -> bool) {
        let end = Instant::now() + Duration::from_secs(seconds);
        while !done(&self.seen.lock().unwrap()) {
            let report = |seen: &Seen| format!("{} records, {:?}", seen.raw.len(), seen.report);
            assert!(Instant::now() < end, "{what}: {}", report(&self.seen.lock().unwrap()));
            assert!(self.child.try_wait().unwrap().is_none(), "{what}: the collector has ended");
            self.step();
        }
    }

    /// One round; a commit takes 2 ms.
    pub fn step(&mut self) {
        for (listener, socket) in &self.listeners {
            if let Ok((connected, peer)) = socket::accept(socket.as_fd()) {
                let id = self.next_connection;
                self.next_connection += 1;
                let connection = Connection { id, slot: (id % 1024) as u16, listener: listener.id, peer };
                let _ = self.channel.send_json(&ToWorker::Connection(connection), &[connected.as_fd()]);
            }
        }
        let mut seen = self.seen.lock().unwrap();
        let mut packet = vec![0; PACKET_MAX];
        while let Ok(Some((message, _))) = self.channel.try_recv_json::<FromWorker>(&mut packet) {
            match message {
                FromWorker::Heartbeat { report } => seen.report = serde_json::from_str(report.get()).unwrap(),
                FromWorker::Closed { .. } => seen.closed += 1,
                _ => {}
            }
        }
        while self.taken < self.store.published() {
            let batch = self.store.take(self.taken + 1, &mut self.buffer).unwrap();
            if self.keep {
                seen.raw.extend(Frames::new(&self.buffer).map(|record| record.unwrap().raw.to_vec()));
            }
            self.store.taken(batch.len);
            self.taken += 1;
        }
        drop(seen);
        sleep(Duration::from_millis(2));
        self.store.set_durable(self.taken);
    }

    /// Has the collector end by itself.
    pub fn stop(&mut self) {
        self.channel.send_json(&ToWorker::Stop, &[]).unwrap();
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return assert!(status.success(), "the collector ended with {status}"),
                None => assert!(Instant::now() < end, "the collector does not end"),
            }
            self.step();
        }
    }

    pub fn port(&self, proto: Proto) -> u16 {
        self.addr[&proto].port()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(channel: Channel) -> Child {
    let channel: OwnedFd = channel.into();
    Command::new(std::env::current_exe().unwrap()).arg("--collector").stdin(Stdio::from(channel)).spawn().unwrap()
}

impl Seen {
    pub fn texts(&self) -> Vec<String> {
        self.raw.iter().map(|raw| String::from_utf8_lossy(raw).into_owned()).collect()
    }

    /// Whether an inbox item of that reason was reported.
    pub fn noted(&self, reason: &str) -> bool {
        self.report.inbox.iter().any(|item| item.reason == reason && !item.remedy.is_empty())
    }
}
