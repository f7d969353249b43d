//! What the tests of the sessions share: a receive memory with a store that keeps what it takes, and two ends of a TCP
//! connection.

use crate::inbox::From;
use raven_jail::receive::{Blind, CollectorMemory, StoreMemory, create};
use raven_model::record::Frames;
use raven_model::report::CollectorReport;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

/// Both sides of a receive memory.
pub struct Memory {
    pub collector: CollectorMemory,
    store: StoreMemory,
    taken: u64,
    buffer: Vec<u8>,
    /// Records as the store got them, and whether each goes on in the next.
    pub kept: Vec<(Vec<u8>, bool)>,
}

impl Memory {
    pub fn new() -> Self {
        let (memory, words) = create("test").unwrap();
        let (collector, _) = CollectorMemory::open(&memory, &words, 7, &mut Blind).unwrap();
        let store = StoreMemory::open(&memory, &words).unwrap();
        Self { collector, store, taken: 0, buffer: Vec::new(), kept: Vec::new() }
    }

    /// Takes what was published.
    pub fn take(&mut self) {
        self.collector.hand_over();
        while self.taken < self.store.published() {
            let batch = self.store.take(self.taken + 1, &mut self.buffer).unwrap();
            for record in Frames::new(&self.buffer) {
                let record = record.unwrap();
                assert_eq!(record.received.source, from().peer);
                assert!(record.received.wall.0 > 1_700_000_000_000_000_000);
                self.kept.push((record.raw.to_vec(), record.received.piece));
            }
            self.store.taken(batch.len);
            self.taken += 1;
        }
    }

    /// Makes all that was taken durable.
    pub fn commit(&mut self) {
        self.take();
        self.store.set_durable(self.taken);
    }

    /// Fills the ring.
    pub fn fill(&mut self) {
        let raw = vec![b'x'; 60_000];
        let arrived =
            raven_jail::receive::Arrived { source: from().peer, listener: 1, wall: crate::session::now(), raw: &raw };
        while self.collector.append(&arrived, &mut Blind).is_some() {}
        self.collector.hand_over();
    }

    pub fn texts(&mut self) -> Vec<String> {
        self.commit();
        self.kept
            .iter()
            .map(|(raw, piece)| format!("{}{}", String::from_utf8_lossy(raw), if *piece { "…" } else { "" }))
            .collect()
    }
}

/// The sender in all tests.
pub fn from() -> From {
    From { peer: "192.0.2.7:40000".parse().unwrap(), listener: 3 }
}

/// A connection: the sender's end, and the collector's, which is non-blocking as `ravend` makes it.
pub fn connection() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    for end in [&sender, &accepted] {
        // Each write arrives at once.
        end.set_nodelay(true).unwrap();
    }
    (sender, accepted.into())
}

/// Reasons for which something was refused or noted.
pub fn reasons(shared: &crate::session::Shared) -> Vec<String> {
    let mut report = CollectorReport::default();
    shared.inbox().report("syslog", &mut report, &BTreeMap::new());
    report.inbox.into_iter().map(|item| item.reason).collect()
}
