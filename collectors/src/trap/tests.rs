//! Tests tell stories over a [`Bench`]: a desk with both sides of a receive memory, a loopback socket and a sender.

#![allow(clippy::unwrap_used)]

mod answers;
mod engine;
mod hostile;
mod refusals;

use super::desk::Desk;
use super::moment::{Moment, SECOND};
use raven_jail::receive::{CollectorMemory, StoreMemory, Taken, create};
use raven_jail::socket;
use raven_model::config::CollectTrap;
use raven_model::record::{Context, Frames};
use raven_model::report::{CollectorReport, InboxItem};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// The seeds of raven-decode's fuzz target: what its receiver, and the users below, understand.
macro_rules! seed {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/decode/fuzz/corpus/snmp/", $name)).as_slice()
    };
}
use seed;

const USERS: &str = r#"
user = [
    { name = "none", engine = "any" },
    { name = "md5", auth = "md5", auth_password = "maplesyrup" },
    { name = "aes", auth = "sha256", auth_password = "maplesyrup", priv = "aes128", priv_password = "pancakes!", engine = "any" },
]
"#;

fn config() -> CollectTrap {
    CollectTrap { users: Some("secret:snmp.toml".parse().unwrap()), ..CollectTrap::default() }
}

/// A desk at work.
struct Bench {
    config: CollectTrap,
    fds: (OwnedFd, OwnedFd),
    desk: Desk,
    collector: CollectorMemory,
    store: StoreMemory,
    taken: u64,
    clock: Rc<Cell<u64>>,
    socket: OwnedFd,
    sender: UdpSocket,
    /// Records as the store got them, and whether they are refused.
    kept: Vec<(Vec<u8>, bool)>,
    /// What the store knows of context, and how often it was told.
    table: BTreeMap<Vec<u8>, Vec<u8>>,
    contexts: usize,
}

impl Bench {
    fn new(config: CollectTrap) -> Self {
        let fds = create("test").unwrap();
        let clock = Rc::new(Cell::new(1000 * SECOND));
        let (desk, collector) = open(&config, &fds, &clock);
        let store = StoreMemory::open(&fds.0, &fds.1).unwrap();
        let (socket, _) = socket::udp("127.0.0.1:0".parse().unwrap(), 8 << 20).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(socket::local_addr(socket.as_fd()).unwrap()).unwrap();
        sender.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (kept, table) = (Vec::new(), BTreeMap::new());
        Self { config, fds, desk, collector, store, taken: 0, clock, socket, sender, kept, table, contexts: 0 }
    }

    /// One whose engine is on disk, so that it answers.
    fn ready() -> Self {
        let mut bench = Self::new(config());
        bench.settle();
        bench
    }

    /// What the store does in a second: all that there is becomes durable and is told.
    fn settle(&mut self) {
        self.tell();
        self.round();
        self.commit();
        self.tell();
        self.round();
    }

    /// The collector dies, and another takes over.
    fn restart(&mut self) {
        (self.desk, self.collector) = open(&self.config, &self.fds, &self.clock);
    }

    fn configure(&mut self, change: impl FnOnce(&mut CollectTrap)) {
        change(&mut self.config);
        self.desk.configure(&self.config);
    }

    fn pass(&self, seconds: u64) {
        self.clock.set(self.clock.get() + seconds * SECOND);
    }

    /// Has datagrams arrive together; the verdicts are in the report, the records in the store.
    fn send(&mut self, messages: &[&[u8]]) {
        for raw in messages {
            self.sender.send(raw).unwrap();
        }
        match self.collector.receive(self.socket.as_fd(), 1, &mut self.desk).unwrap() {
            Taken::Some(n) => assert_eq!(n, messages.len()),
            taken => panic!("{taken:?}"),
        }
    }

    /// As the receive loop does behind what it received. True while an inform waits.
    fn round(&mut self) -> bool {
        self.collector.hand_over();
        let socket = self.socket.as_fd();
        self.desk.answer(&mut self.collector, &|_, bytes, peer| socket::send_to(socket, bytes, peer).is_ok())
    }

    fn write(&mut self) {
        self.round();
    }

    /// The store takes what was published and makes it durable.
    fn commit(&mut self) {
        let mut buffer = Vec::new();
        while self.taken < self.store.published() {
            let batch = self.store.take(self.taken + 1, &mut buffer).unwrap();
            for frame in Frames::new(&buffer) {
                let frame = frame.unwrap();
                if frame.received.is_record() {
                    self.kept.push((frame.raw.to_vec(), frame.received.is_refused()));
                } else {
                    let context = Context::read(frame.raw).unwrap();
                    self.table.insert(context.key.to_vec(), context.value.to_vec());
                    self.contexts += 1;
                }
            }
            self.store.taken(batch.len);
            self.taken += 1;
        }
        self.store.set_durable(self.taken);
    }

    /// The store tells what it has of context.
    fn tell(&mut self) {
        let mut run = Vec::new();
        self.table.iter().for_each(|(key, value)| Context { key, value }.write_run(&mut run));
        self.store.set_snapshot(&run);
        self.collector.recall(&mut self.desk);
    }

    /// What the sender got, if anything.
    fn answer(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        match self.sender.recv(&mut buffer) {
            Ok(n) => Some(buffer[..n].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn report(&self) -> CollectorReport {
        let mut report = CollectorReport::default();
        self.desk.report(&mut report, &self.collector, &BTreeMap::new());
        report
    }

    /// The inbox item of a reason.
    fn item(&self, reason: &str) -> InboxItem {
        let inbox = self.report().inbox;
        inbox.iter().find(|item| item.reason == reason).unwrap_or_else(|| panic!("no {reason} in {inbox:?}")).clone()
    }

    /// The reasons for which the records in the store are marked, and how many are not.
    fn verdicts(&mut self) -> Vec<bool> {
        self.round();
        self.commit();
        self.kept.drain(..).map(|(_, refused)| refused).collect()
    }
}

fn open(config: &CollectTrap, fds: &(OwnedFd, OwnedFd), clock: &Rc<Cell<u64>>) -> (Desk, CollectorMemory) {
    let clock = Rc::clone(clock);
    let mut desk = Desk::with_clock(config, Box::new(move || Moment(clock.get())));
    let (collector, _) = CollectorMemory::open(&fds.0, &fds.1, 7, &mut desk).unwrap();
    desk.read_users(USERS);
    (desk, collector)
}
