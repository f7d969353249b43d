//! Batches of realistic frames, and a ring in a folder of its own.
#![allow(dead_code, clippy::unwrap_used, missing_docs)] // each test file uses its own part

pub mod process;
pub mod promise;

use raven_buffer::{BatchMark, Block, Found, Recovery, RingError, RingReader, RingWriter, WriterOptions};
use raven_model::record::{Context, Received, write_frame};
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

pub const MIB: u64 = 1 << 20;
pub const START_NS: u64 = 1_790_000_000_000_000_000;

pub fn options(quota: u64, segment: u64) -> WriterOptions {
    WriterOptions { quota_bytes: quota, segment_bytes: Some(segment), keep: Duration::from_hours(24), boot_id: [7; 16] }
}

pub fn open(ring: &Path, quota: u64, segment: u64) -> RingWriter {
    let (mut writer, _) = reopen(ring, &options(quota, segment)).unwrap();
    writer.set_listeners(BTreeMap::from([(1, "udp:[::]:514".to_owned()), (2, "tcp:[::]:601".to_owned())]));
    writer
}

/// Opens a ring that this process or a child has just let go: while another test starts a process, that one holds
/// copies of our descriptors for a moment, and the lock with them.
pub fn reopen(ring: &Path, options: &WriterOptions) -> Result<(RingWriter, Recovery), RingError> {
    for _ in 0..200 {
        match RingWriter::open(ring, "syslog", options.clone()) {
            Err(RingError::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    RingWriter::open(ring, "syslog", options.clone())
}

/// Numbers that look random, from a seed (xorshift).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.roll() as u8).collect()
    }
}

#[derive(Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub count: u32,
}

impl Batch {
    pub fn add(&mut self, source: &str, listener: u8, wall: u64, raw: &[u8]) {
        let received = Received::new(source.parse().unwrap(), listener, UnixNanos(wall));
        let start = self.bytes.len();
        self.bytes.resize(start + raw.len() + 32, 0);
        let len = write_frame(&mut self.bytes[start..], &received, raw).unwrap();
        self.bytes.truncate(start + len);
        self.count += 1;
    }

    pub fn context(&mut self, wall: u64, key: &[u8], value: &[u8]) {
        let mut raw = Vec::new();
        Context { key, value }.write(&mut raw);
        let start = self.bytes.len();
        self.bytes.resize(start + raw.len() + 32, 0);
        let len = write_frame(&mut self.bytes[start..], &Received::context(UnixNanos(wall)), &raw).unwrap();
        self.bytes.truncate(start + len);
        self.count += 1;
    }

    pub fn extend(&mut self, more: &Self) {
        self.bytes.extend_from_slice(&more.bytes);
        self.count += more.count;
    }

    /// The numbered record.
    pub fn record(&mut self, n: u64) {
        self.add("192.0.2.7:514", 1, START_NS + n * 1_000_000, numbered(n).as_bytes());
    }

    /// `count` records whose text says which they are.
    pub fn numbered(from: u64, count: u32) -> Self {
        let mut batch = Self::default();
        for n in from..from + u64::from(count) {
            batch.record(n);
        }
        batch
    }

    /// The same, with `noise` bytes that do not compress behind.
    pub fn noisy(from: u64, count: u32, noise: usize) -> Self {
        let mut batch = Self::default();
        let mut dice = Dice(from * 2 + 1);
        for n in from..from + u64::from(count) {
            let mut raw = numbered(n).into_bytes();
            raw.extend(dice.bytes(noise));
            batch.add("192.0.2.7:514", 1, START_NS + n * 1_000_000, &raw);
        }
        batch
    }
}

pub fn numbered(n: u64) -> String {
    format!("<134>Nov 22 00:00:00 host-{} app[{}]: record {n} of the test", n % 17, n * 7919 % 32768)
}

/// The number in a record of [`Batch::numbered`].
pub fn number_of(raw: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(raw);
    let rest = text.split("record ").nth(1).unwrap_or_else(|| panic!("not numbered: {text}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

pub fn mark(batch: u64) -> BatchMark {
    BatchMark { epoch: 42, batch, pos: batch * 1000 }
}

/// Appends and commits numbered records so that record n has seq n.
pub fn fill(writer: &mut RingWriter, batches: u64, count: u32, noise: usize) {
    for _ in 0..batches {
        let from = writer.next_seq().0;
        let batch = Batch::noisy(from, count, noise);
        writer.append(&batch.bytes, batch.count, 5).unwrap();
        writer.commit(mark(from)).unwrap();
    }
}

/// Everything held: each record to `each`; gaps are returned.
pub fn read_all(writer: &RingWriter, ring: &Path, mut each: impl FnMut(Seq, &Block, &[u8])) -> Vec<(Seq, Seq)> {
    let mut reader = RingReader::open(ring, "syslog").unwrap();
    let (mut at, mut gaps) = (writer.first_seq(), Vec::new());
    while at < writer.next_seq() {
        let block = match reader.find(at).unwrap() {
            Found::Block(block) => Ok(block),
            Found::Gap { next, .. } => Err(next),
            Found::Before { first } => Err(first),
            Found::Open => match writer.block_at(at).unwrap() {
                Some((first, value)) if first <= at => Block::decode(first, &value).map_err(|_| first.plus(1)),
                Some((first, _)) => Err(first),
                None => Err(writer.next_seq()),
            },
        };
        match block {
            Ok(block) => {
                block.records().filter(|(seq, _)| *seq >= at).for_each(|(seq, record)| each(seq, &block, record.raw));
                at = block.next();
            }
            Err(next) => {
                assert!(next > at, "a gap must lead on");
                gaps.push((at, next));
                at = next;
            }
        }
    }
    gaps
}
