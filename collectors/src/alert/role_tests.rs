//! The role from one life to the next: the receive memory, a store that keeps what it takes, and reports as `ravend`
//! passes them on.

#![allow(clippy::unwrap_used)]

use super::{Alert, KEY};
use crate::CollectorError;
use nix::unistd::dup;
use raven_jail::channel::Channel;
use raven_jail::receive::{StoreMemory, create};
use raven_model::alert::{AlertRecord, AlertReport, AlertState, Memory};
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::record::{Context, Frames};
use raven_model::report::{StoreReport, StreamStatus};
use raven_model::stream::Stream;
use raven_model::table::Role;
use serde_json::value::to_raw_value;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

/// What outlives the role.
struct Held {
    memory: OwnedFd,
    words: OwnedFd,
    store: StoreMemory,
    taken: u64,
    /// Newest context that came, and its place among the records.
    context: Option<(Vec<u8>, usize)>,
    records: Vec<AlertRecord>,
}

/// A role that runs in a thread.
struct Life {
    ravend: Channel,
    role: JoinHandle<Result<(), CollectorError>>,
    packet: Vec<u8>,
}

impl Held {
    fn new() -> Self {
        let (memory, words) = create("alert").unwrap();
        let store = StoreMemory::open(&memory, &words).unwrap();
        Self { memory, words, store, taken: 0, context: None, records: Vec::new() }
    }

    fn start(&self, epoch: u64) -> Life {
        let stream = Stream::Alert;
        let start = Start {
            role: Role::Alert,
            device: "test".to_owned(),
            boot_id: "0".repeat(32),
            data: "/".into(),
            config: Some(Box::new(Config::from_toml("schema = 1\n[alert.drops]\nclear = '1s'", "test").unwrap())),
            listeners: BTreeMap::new(),
            environment: BTreeMap::new(),
            fds: vec![Fd::Ring { stream }, Fd::Words { stream }, Fd::Wake { stream }],
        };
        // A pipe instead of the eventfd: nobody waits for it here.
        let (_, wake) = std::io::pipe().unwrap();
        let fds = vec![dup(&self.memory).unwrap(), dup(&self.words).unwrap(), OwnedFd::from(wake)];
        let (ravend, channel) = Channel::pair().unwrap();
        let role = std::thread::spawn(move || Alert::new(&start, fds, channel, epoch)?.ready(Vec::new())?.run());
        Life { ravend, role, packet: vec![0; PACKET_MAX] }
    }

    /// Stores what has come.
    fn take(&mut self) {
        let mut buffer = Vec::new();
        while self.taken < self.store.published() {
            self.taken += 1;
            let batch = self.store.take(self.taken, &mut buffer).unwrap();
            for frame in Frames::new(&buffer).map(Result::unwrap) {
                if frame.received.is_record() {
                    self.records.push(AlertRecord::read(frame.raw).unwrap());
                } else {
                    self.context = Some((frame.raw.to_vec(), self.records.len()));
                }
            }
            self.store.taken(batch.len);
        }
        self.store.set_durable(self.taken);
    }

    /// Tells the next life what is kept.
    fn tell_context(&self) {
        let Some((raw, _)) = &self.context else { return };
        let mut run = Vec::new();
        Context::read(raw).unwrap().write_run(&mut run);
        self.store.set_snapshot(&run);
    }
}

impl Life {
    /// The next heartbeat; what `ravend` passes on goes before it.
    fn beat(&mut self, dropped: u64) -> AlertReport {
        let dropped_ever = BTreeMap::from([("socket_buffer".to_owned(), dropped)]);
        let stream = StreamStatus { name: "syslog".to_owned(), dropped_ever, ..StreamStatus::default() };
        let report = to_raw_value(&StoreReport { streams: vec![stream], ..StoreReport::default() }).unwrap();
        self.ravend.send_json(&ToWorker::Report { role: Role::Store, report }, &[]).unwrap();
        loop {
            let said = self.ravend.recv_json(&mut self.packet).unwrap().unwrap().0;
            if let FromWorker::Heartbeat { report } = said {
                return serde_json::from_str(report.get()).unwrap();
            }
        }
    }

    fn end(self) {
        drop(self.ravend);
        let _ = self.role.join().unwrap();
    }
}

#[test]
fn a_successor_knows_what_was_told_and_tells_its_end() {
    let mut kept = Held::new();
    let mut life = kept.start(1);
    while kept.records.is_empty() {
        life.beat(3);
        kept.take();
    }
    assert_eq!((kept.records[0].value, kept.records[0].state), (3, AlertState::Firing));
    let (context, place) = kept.context.clone().unwrap();
    assert_eq!(place, 0, "the memory lies before the record that changed it");
    let context = Context::read(&context).unwrap();
    let memory: Memory = serde_json::from_slice(context.value).unwrap();
    assert_eq!((context.key, memory.written, memory.firing.len()), (KEY, 1, 1));
    life.end();
    kept.tell_context();
    let mut life = kept.start(2);
    while kept.records.len() < 2 {
        life.beat(3);
        kept.take();
    }
    life.end();
    let resolved = &kept.records[1];
    assert_eq!(
        (resolved.state, resolved.value, resolved.since_ns),
        (AlertState::Resolved, 3, kept.records[0].since_ns)
    );
}

#[test]
fn it_says_nothing_before_all_that_was_handed_over_is_durable() {
    let mut kept = Held::new();
    let mut life = kept.start(1);
    while kept.store.published() == 0 {
        life.beat(3);
    }
    life.end();
    // The store has not taken it: the successor does not know yet what was told.
    let mut life = kept.start(2);
    for _ in 0..5 {
        assert!(life.beat(3).firing.is_empty());
    }
    assert_eq!(kept.store.published(), 1);
    kept.take();
    kept.tell_context();
    while life.beat(3).firing.is_empty() {}
    assert_eq!(kept.records.len(), 1);
    life.end();
}
