//! A flow collector, its receive memory and a store that keeps everything in memory.

#![allow(dead_code)] // each test file uses its own part

pub mod wire;

use raven_collectors::flow::context::Known;
use raven_collectors::flow::inspect::FlowInspect;
use raven_decode::flow::decode::TemplateSource;
use raven_decode::flow::sampling::Sampling;
use raven_decode::flow::sets::Family;
use raven_decode::flow::show::{Shown, View, to_json};
use raven_decode::flow::template::Template;
use raven_decode::flow::templates::{Exporter, Scope, TemplateKey};
use raven_jail::receive::{Arrived, CollectorMemory, StoreMemory, create};
use raven_model::config::CollectFlow;
use raven_model::record::{Context, Frames};
use raven_model::report::CollectorReport;
use raven_model::units::UnixNanos;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A frame as the store got it: a record, or a context's key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    Record { raw: Vec<u8>, source: SocketAddr },
    Context { key: Vec<u8>, value: Vec<u8> },
}

/// All of it.
pub struct Rig {
    fds: (OwnedFd, OwnedFd),
    pub memory: CollectorMemory,
    pub inspect: FlowInspect,
    store: StoreMemory,
    taken: u64,
    config: CollectFlow,
    now: Duration,
    wall: u64,
    /// What the store knows of each key.
    pub table: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Batch by batch.
    pub batches: Vec<Vec<Kept>>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(CollectFlow::default())
    }

    pub fn with(config: CollectFlow) -> Self {
        let fds = create("flow-test").unwrap();
        let mut inspect = FlowInspect::new(&config);
        inspect.set_time(Duration::ZERO);
        let (memory, _) = CollectorMemory::open(&fds.0, &fds.1, 7, &mut inspect).unwrap();
        let store = StoreMemory::open(&fds.0, &fds.1).unwrap();
        let (now, wall) = (Duration::ZERO, 1_700_000_000_000_000_000);
        let (table, batches) = (BTreeMap::new(), Vec::new());
        Self { fds, memory, inspect, store, taken: 0, config, now, wall, table, batches }
    }

    /// A datagram; it waits for [`Rig::batch`].
    pub fn send(&mut self, source: &str, raw: &[u8]) {
        self.send_from(source.parse().unwrap(), raw);
    }

    pub fn send_from(&mut self, source: SocketAddr, raw: &[u8]) {
        self.wall += 1_000_000;
        let arrived = Arrived { source, listener: 1, wall: UnixNanos(self.wall), raw };
        if self.memory.append(&arrived, &mut self.inspect).is_none() {
            self.batch();
            self.memory.append(&arrived, &mut self.inspect).expect("an empty ring has room");
        }
    }

    /// Ends the batch; the store takes and keeps it.
    pub fn batch(&mut self) {
        self.memory.hand_over();
        let mut buffer = Vec::new();
        while self.taken < self.store.published() {
            let batch = self.store.take(self.taken + 1, &mut buffer).unwrap();
            let frames: Vec<Kept> = Frames::new(&buffer).map(|record| kept(&record.unwrap())).collect();
            assert_eq!(frames.len(), batch.count as usize);
            for frame in &frames {
                if let Kept::Context { key, value } = frame {
                    self.table.insert(key.clone(), value.clone());
                }
            }
            self.batches.push(frames);
            self.store.taken(batch.len);
            self.taken += 1;
        }
        self.store.set_durable(self.taken);
    }

    /// The store tells what it knows, and the collector listens.
    pub fn tell(&mut self) {
        let mut run = Vec::new();
        for (key, value) in self.table.iter().filter(|(_, value)| !value.is_empty()) {
            Context { key, value }.write_run(&mut run);
        }
        self.store.set_snapshot(&run);
        self.memory.recall(&mut self.inspect);
    }

    /// Another collector takes over.
    pub fn restart(&mut self) {
        self.inspect = FlowInspect::new(&self.config);
        self.inspect.set_time(self.now);
        let opened = CollectorMemory::open(&self.fds.0, &self.fds.1, 7, &mut self.inspect).unwrap();
        self.memory = opened.0;
        self.batch();
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.inspect.set_time(self.now);
    }

    pub fn configure(&mut self, config: CollectFlow) {
        self.inspect.configure(&config);
        self.config = config;
    }

    pub fn report(&mut self) -> CollectorReport {
        let mut report = CollectorReport::default();
        self.inspect.report(&mut report, &BTreeMap::new());
        report
    }

    /// The newest batch in short: `t256` for a template, `-256` for its end, `s1000` for a rate, `#` for a record.
    pub fn newest(&self) -> String {
        let words = self.batches.last().into_iter().flatten().map(|kept| match kept {
            Kept::Record { .. } => "#".to_owned(),
            Kept::Context { key, value } => match Known::read(key, value).unwrap() {
                Known::Template(key, []) => format!("-{}", key.id),
                Known::Template(key, _) => format!("t{}", key.id),
                Known::Rate(_, rate) => format!("s{rate}"),
            },
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

fn kept(record: &raven_model::record::Record<'_>) -> Kept {
    if record.received.is_record() {
        return Kept::Record { raw: record.raw.to_vec(), source: record.received.source };
    }
    let context = Context::read(record.raw).unwrap();
    Kept::Context { key: context.key.to_vec(), value: context.value.to_vec() }
}

/// What a reader knows: of one batch, or from the beginning.
#[derive(Default)]
pub struct Reader {
    templates: HashMap<TemplateKey, Template>,
    sampling: Sampling,
}

/// Its templates of one exporter.
pub struct Of<'r>(pub &'r Reader, pub Exporter);

impl TemplateSource for Of<'_> {
    fn template(&self, family: Family, domain: u32, id: u16) -> Option<&Template> {
        self.0.templates.get(&TemplateKey { scope: Scope { exporter: self.1, family, domain }, id })
    }
}

impl Reader {
    pub fn note(&mut self, key: &[u8], value: &[u8]) {
        match Known::read(key, value).unwrap() {
            Known::Template(key, []) => drop(self.templates.remove(&key)),
            Known::Template(key, definition) => {
                self.templates.insert(key, Template::compile(definition).unwrap());
            }
            Known::Rate(key, rate) => drop(self.sampling.restore(key, rate)),
        }
    }

    /// Reads a record.
    pub fn show(&self, exporter: Exporter, raw: &[u8]) -> (String, Option<Shown>) {
        let view = View { exporter: Some(exporter), sampling: Some(&self.sampling), configured: None };
        let mut out = String::new();
        let shown = to_json(raw, &view, &Of(self, exporter), &mut out).ok();
        (out, shown)
    }
}

/// Reads all batches, each by itself; gives every record's JSON.
pub fn read_batches(batches: &[Vec<Kept>]) -> Vec<(String, Option<Shown>)> {
    let mut out = Vec::new();
    for batch in batches {
        let mut reader = Reader::default();
        for kept in batch {
            match kept {
                Kept::Context { key, value } => reader.note(key, value),
                Kept::Record { raw, source } => out.push(reader.show(Exporter::new(source.ip()), raw)),
            }
        }
    }
    out
}

/// Numbers that look random and are the same in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}
