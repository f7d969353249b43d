//! What the tests share: `ravend` and the store played by threads, the role in a process of its own.

pub use crate::client::{Answer, Client, event, request};
pub use crate::store::{Kept, Mode, Store};
use nix::sys::eventfd::{EfdFlags, EventFd};
use raven_collectors::http::{Http, Intake};
use raven_collectors::metrics::Pushes;
use raven_collectors::winevent::Events;
use raven_jail::channel::{Channel, ChannelError, inherited};
use raven_jail::memory::memfd_of;
use raven_jail::receive::{StoreMemory, create};
use raven_jail::sandbox;
use raven_model::config::{Config, Secret};
use raven_model::control::{Connection, Fd, FromWorker, Listener, PACKET_MAX, Proto, Start, ToWorker};
use raven_model::report::CollectorReport;
use raven_model::stream::Stream;
use raven_model::table::{Role, table};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Argument of the process that is the role.
pub const ROLE: &str = "--role";

/// What [`Rig`] starts.
pub fn role() {
    let limit = 512 << 20;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_DATA, limit, limit).unwrap();
    let channel = Channel::from_fd(inherited(0).unwrap());
    let (first, fds) = channel.recv_json::<ToWorker>(&mut vec![0; PACKET_MAX]).unwrap().unwrap();
    let ToWorker::Start(start) = first else { panic!("the first message is no start") };
    let epoch = u64::from(std::process::id());
    match start.role {
        Role::Metrics => run(Http::<Pushes>::new(&start, fds, channel, epoch).unwrap(), Role::Metrics),
        role => run(Http::<Events>::new(&start, fds, channel, epoch).unwrap(), role),
    }
}

fn run<I: Intake>(collector: Http<I>, role: Role) {
    let missing = sandbox::enter(table().spec(role), &table().base, Path::new("/")).unwrap();
    collector.ready(missing).unwrap().run().unwrap();
}

/// What the role said.
#[derive(Default)]
struct Said {
    report: Option<CollectorReport>,
    closed: Vec<u32>,
    missing: Option<Vec<String>>,
    gone: bool,
}

/// The role and all around it.
pub struct Rig {
    stream: Stream,
    pub channel: Arc<Channel>,
    pub store: Arc<Store>,
    child: Mutex<Child>,
    said: Arc<Mutex<Said>>,
    fds: [OwnedFd; 2],
    wake: Arc<EventFd>,
    config: Config,
    pub http: SocketAddr,
    pub https: SocketAddr,
    storing: Option<std::thread::JoinHandle<()>>,
    sockets: [TcpListener; 2],
    accepting: Vec<std::thread::JoinHandle<()>>,
}

static CONNECTIONS: AtomicU32 = AtomicU32::new(0);

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| {}, &[])
    }

    /// With a configuration and with secrets.
    pub fn with(configure: impl FnOnce(&mut Config), secrets: &[(&str, &[u8])]) -> Self {
        Self::of(Stream::Winevent, configure, secrets)
    }

    /// The collector of a stream.
    pub fn of(stream: Stream, configure: impl FnOnce(&mut Config), secrets: &[(&str, &[u8])]) -> Self {
        let mut config = Config::default();
        configure(&mut config);
        let (memory, words) = create(stream.name()).unwrap();
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap());
        let store = Arc::new(Store { mode: Mutex::new(Mode::Commit), kept: Mutex::default() });
        let fds = [memory, words];
        let sockets = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let [http, https] = [0, 1].map(|n: usize| sockets[n].local_addr().unwrap());
        let (channel, said, child) = Self::start(stream, &config, &fds, &wake, [http, https], secrets);
        let mut rig = Self {
            stream,
            channel,
            store,
            child: Mutex::new(child),
            said,
            fds,
            wake,
            config,
            http,
            https,
            storing: None,
            sockets,
            accepting: Vec::new(),
        };
        rig.storing = Some(rig.store());
        rig.accept();
        rig
    }

    fn store(&self) -> std::thread::JoinHandle<()> {
        let memory = StoreMemory::open(&self.fds[0], &self.fds[1]).unwrap();
        let (store, wake) = (Arc::clone(&self.store), Arc::clone(&self.wake));
        std::thread::spawn(move || store.run(&memory, &wake))
    }

    fn start(
        stream: Stream,
        config: &Config,
        fds: &[OwnedFd; 2],
        wake: &EventFd,
        addrs: [SocketAddr; 2],
        secrets: &[(&str, &[u8])],
    ) -> (Arc<Channel>, Arc<Mutex<Said>>, Child) {
        let (ours, theirs) = Channel::pair().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .arg(ROLE)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Start {
            role: stream.collector(),
            device: "test".to_owned(),
            boot_id: "0".repeat(32),
            data: "/".into(),
            config: Some(Box::new(config.clone())),
            listeners: BTreeMap::new(),
            environment: BTreeMap::new(),
            fds: vec![Fd::Ring { stream }, Fd::Words { stream }, Fd::Wake { stream }],
        };
        let passed = [fds[0].as_fd(), fds[1].as_fd(), wake.as_fd()];
        ours.send_json(&ToWorker::Start(Box::new(start)), &passed).unwrap();
        let (ours, said) = (Arc::new(ours), Arc::new(Mutex::new(Said::default())));
        for (id, proto) in [(1, Proto::Http), (2, Proto::Https)] {
            let addr = addrs[usize::from(id - 1)];
            ours.send_json(&ToWorker::Listen(Listener { id, stream, proto, addr }), &[]).unwrap();
        }
        send_secrets(&ours, stream, secrets);
        let (channel, hears) = (Arc::clone(&ours), Arc::clone(&said));
        std::thread::spawn(move || listen(&channel, &hears));
        (ours, said, child)
    }

    /// As `ravend` does: keeps a duplicate until the role says that the connection is over.
    fn accept(&mut self) {
        for (socket, listener) in self.sockets.iter().zip([1, 2]) {
            let (socket, said) = (socket.try_clone().unwrap(), Arc::clone(&self.said));
            let channel = Arc::downgrade(&self.channel);
            self.accepting.push(std::thread::spawn(move || {
                let mut held = BTreeMap::new();
                socket.set_nonblocking(true).unwrap();
                while let Some(channel) = channel.upgrade() {
                    if said.lock().unwrap().gone {
                        break;
                    }
                    for id in said.lock().unwrap().closed.drain(..) {
                        held.remove(&id);
                    }
                    let Ok((accepted, peer)) = socket.accept() else {
                        drop(channel);
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    };
                    accepted.set_nonblocking(true).unwrap();
                    let id = CONNECTIONS.fetch_add(1, SeqCst) + 1;
                    let connection = Connection { id, slot: (id % 1024) as u16, listener, peer };
                    let _ = channel.send_json(&ToWorker::Connection(connection), &[accepted.as_fd()]);
                    held.insert(id, accepted);
                }
            }));
        }
    }

    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.http).unwrap())
    }

    /// What the store took.
    pub fn kept(&self) -> Vec<Kept> {
        self.store.kept.lock().unwrap().clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.kept().iter().map(|kept| String::from_utf8_lossy(&kept.raw).into_owned()).collect()
    }

    pub fn set(&self, mode: Mode) {
        *self.store.mode.lock().unwrap() = mode;
    }

    pub fn tell(&self, message: &ToWorker) {
        self.channel.send_json(message, &[]).unwrap();
    }

    pub fn secrets(&self, secrets: &[(&str, &[u8])]) {
        send_secrets(&self.channel, self.stream, secrets);
    }

    /// Waits for a report that `fits`.
    pub fn report(&self, fits: impl Fn(&CollectorReport) -> bool) -> CollectorReport {
        eventually("a report that fits", || self.said.lock().unwrap().report.clone().filter(&fits))
    }

    /// Waits until `count` are reported as dropped for `reason`.
    pub fn dropped(&self, reason: &str, count: u64) -> CollectorReport {
        self.report(|report| report.dropped.get(reason) == Some(&count))
    }

    pub fn missing(&self) -> Vec<String> {
        eventually("that the role is ready", || self.said.lock().unwrap().missing.clone())
    }

    /// Ends the role as if by an outside SIGKILL, and starts the next one.
    pub fn kill_and_restart(&mut self, secrets: &[(&str, &[u8])]) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // Who accepted for this one must not take a connection that is meant for the next.
        for thread in self.accepting.drain(..) {
            thread.join().unwrap();
        }
        let addrs = [self.http, self.https];
        let (channel, said, next) = Self::start(self.stream, &self.config, &self.fds, &self.wake, addrs, secrets);
        *child = next;
        drop(child);
        (self.channel, self.said) = (channel, said);
        self.accept();
    }

    /// Private memory of the role.
    pub fn data_kib(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.child.lock().unwrap().id());
        let statm: Vec<u64> =
            std::fs::read_to_string(path).unwrap().split_whitespace().map(|pages| pages.parse().unwrap()).collect();
        // Resident, without what is shared: the receive memory, the program.
        (statm[1] - statm[2]) * 4
    }

    /// Waits for the end.
    pub fn stop_status(&self) -> std::process::ExitStatus {
        eventually("the end of the role", || self.child.lock().unwrap().try_wait().unwrap())
    }

    /// Says stop and waits for the end.
    pub fn stop(&self) -> std::process::ExitStatus {
        self.tell(&ToWorker::Stop);
        self.stop_status()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.set(Mode::End);
        let mut child = self.child.lock().unwrap();
        let ended = child.try_wait().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        let _ = self.storing.take().unwrap().join();
        if !std::thread::panicking() {
            assert!(ended.is_none_or(|status| status.success()), "the role ended by itself: {ended:?}");
        }
    }
}

fn send_secrets(channel: &Channel, stream: Stream, secrets: &[(&str, &[u8])]) {
    let names = secrets.iter().map(|(name, _)| format!("collect.{stream}.{name}")).collect();
    let fds: Vec<OwnedFd> = secrets.iter().map(|(name, content)| memfd_of(name, content).unwrap()).collect();
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    channel.send_json(&ToWorker::Secrets(names), &fds).unwrap();
}

fn listen(channel: &Channel, said: &Mutex<Said>) {
    let mut packet = vec![0; PACKET_MAX];
    loop {
        let heard = match channel.recv_json::<FromWorker>(&mut packet) {
            Ok(Some((heard, _))) => heard,
            Ok(None) | Err(ChannelError::Io(_)) => {
                said.lock().unwrap().gone = true;
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let mut said = said.lock().unwrap();
        match heard {
            FromWorker::Ready { missing } => said.missing = Some(missing),
            FromWorker::Heartbeat { report } => said.report = Some(serde_json::from_str(report.get()).unwrap()),
            FromWorker::Closed { connection } => said.closed.push(connection),
            other => panic!("{other:?}"),
        }
    }
}

pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn secret(name: &str) -> Secret {
    format!("secret:{name}").parse().unwrap()
}
