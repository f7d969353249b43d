//! From batches of frames to encoded blocks, in memory: no I/O, no allocation per record, none per block once warm.
//!
//! Encoded blocks wait here until they are on disk. A failed commit therefore loses nothing and may be repeated, into
//! another segment if need be.

use crate::block::{self, BLOCK_RAW, Facts};
use raven_model::record::{FrameError, Frames, Record};
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;

/// How far the wall clock may move against the monotonic one within a block. More is a step of the clock.
const CLOCK_STEP_NS: u64 = 10_000_000;

/// Why a batch is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A frame does not read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frames close exactly, but there are more or fewer of them.
    #[error("the batch holds {found} records, {said} were announced")]
    Count {
        /// Announced.
        said: u32,
        /// Found.
        found: u32,
    },
}

/// Records and raw bytes of one listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub records: u64,
    pub bytes: u64,
}

/// Ids of listeners, a bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Ids([u64; 4]);

impl Ids {
    const fn insert(&mut self, id: u8) {
        self.0[id as usize >> 6] |= 1 << (id & 63);
    }

    fn iter(self) -> impl Iterator<Item = u8> {
        (0..=255).filter(move |id: &u8| self.0[*id as usize >> 6] >> (id & 63) & 1 == 1)
    }
}

/// What is known of the block being filled.
#[derive(Debug, Clone, Copy)]
struct Tally {
    count: u32,
    first_wall: u64,
    last_wall: u64,
    listeners: Ids,
}

impl Tally {
    const EMPTY: Self = Self { count: 0, first_wall: u64::MAX, last_wall: 0, listeners: Ids([0; 4]) };

    #[inline]
    fn add(&mut self, record: &Record<'_>) {
        self.count += 1;
        self.first_wall = self.first_wall.min(record.received.wall.0);
        self.last_wall = self.last_wall.max(record.received.wall.0);
        self.listeners.insert(record.received.listener);
    }
}

/// A place in a batch where a block ends.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    tally: Tally,
}

/// An encoded block that waits for the disk.
#[derive(Debug, Clone, Copy)]
struct Packed {
    first: Seq,
    start: usize,
    end: usize,
}

/// What waits for the disk, summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub records: u64,
    /// Bytes of messages.
    pub bytes: u64,
    pub stored_bytes: u64,
    pub first_wall: u64,
    pub last_wall: u64,
}

impl Waiting {
    const NONE: Self = Self { records: 0, bytes: 0, stored_bytes: 0, first_wall: u64::MAX, last_wall: 0 };
}

pub(crate) struct Packer {
    boot_id: [u8; 16],
    listeners: BTreeMap<u8, String>,
    /// Absent only when zstd has no memory: blocks are then stored as they are.
    compressor: Option<zstd::bulk::Compressor<'static>>,
    scratch: Vec<u8>,
    /// Frames of the block being filled.
    raw: Vec<u8>,
    tally: Tally,
    mono_offset_ns: i64,
    /// Seq of the block being filled.
    first: Seq,
    arena: Vec<u8>,
    packed: Vec<Packed>,
    waiting: Waiting,
    cuts: Vec<Cut>,
    /// Of the batch being looked at.
    batch: Box<[Count; 256]>,
    /// Since the last [`Packer::take_counts`].
    counts: Box<[Count; 256]>,
    counted: Ids,
    /// Since the same, of ids that have been given new names.
    renamed: BTreeMap<String, Count>,
    uncommitted: usize,
}

impl Packer {
    pub fn new(next: Seq, boot_id: [u8; 16]) -> Self {
        Self {
            boot_id,
            listeners: BTreeMap::new(),
            // Level 1: level 3 makes such blocks no smaller and takes half as long again.
            compressor: zstd::bulk::Compressor::new(1).ok(),
            scratch: Vec::with_capacity(zstd::zstd_safe::compress_bound(block::RAW_LIMIT)),
            raw: Vec::with_capacity(BLOCK_RAW + 4096),
            tally: Tally::EMPTY,
            mono_offset_ns: 0,
            first: next,
            arena: Vec::new(),
            packed: Vec::new(),
            waiting: Waiting::NONE,
            cuts: Vec::new(),
            batch: Box::new([Count::default(); 256]),
            counts: Box::new([Count::default(); 256]),
            counted: Ids::default(),
            renamed: BTreeMap::new(),
            uncommitted: 0,
        }
    }

    /// Names for the ids of later records. What was taken under the old names keeps them.
    pub fn set_listeners(&mut self, listeners: BTreeMap<u8, String>) {
        self.cut();
        for id in std::mem::take(&mut self.counted).iter() {
            let more = std::mem::take(&mut self.counts[id as usize]);
            let of = self.renamed.entry(self.listener(id).to_owned()).or_default();
            of.records += more.records;
            of.bytes += more.bytes;
        }
        self.listeners = listeners;
    }

    /// Its name, `unknown` for an id that was not announced.
    pub fn listener(&self, id: u8) -> &str {
        self.listeners.get(&id).map_or("unknown", String::as_str)
    }

    /// Seq of the next record.
    pub const fn next(&self) -> Seq {
        self.first.plus(self.tally.count as u64)
    }

    /// Bytes of frames taken since the last [`Packer::clear`].
    pub const fn uncommitted(&self) -> usize {
        self.uncommitted
    }

    /// Takes a batch, or leaves everything as it was.
    pub fn append(&mut self, batch: &[u8], count: u32, mono_offset_ns: i64) -> Result<(), Refused> {
        if self.mono_offset_ns.abs_diff(mono_offset_ns) > CLOCK_STEP_NS {
            self.cut();
        }
        if self.tally.count == 0 {
            self.mono_offset_ns = mono_offset_ns;
        }
        let mut seen = Ids::default();
        let walked = self.walk(batch, count, &mut seen);
        if walked.is_ok() {
            self.add_counts(seen);
        }
        for id in seen.iter() {
            self.batch[id as usize] = Count::default();
        }
        self.take(batch, walked?);
        Ok(())
    }

    /// Reads every frame once; notes where blocks end, and what each listener gave. Returns the tally behind the last
    /// cut.
    fn walk(&mut self, batch: &[u8], count: u32, seen: &mut Ids) -> Result<Tally, Refused> {
        self.cuts.clear();
        let (mut tally, mut block_start, mut found) = (self.tally, 0, 0_u32);
        let mut before = self.raw.len();
        let mut frames = Frames::new(batch);
        loop {
            let at = frames.offset();
            let Some(record) = frames.next() else { break };
            let record = record?;
            if before + (frames.offset() - block_start) > BLOCK_RAW && tally.count > 0 {
                self.cuts.push(Cut { at, tally });
                (tally, block_start, before) = (Tally::EMPTY, at, 0);
            }
            tally.add(&record);
            found += 1;
            seen.insert(record.received.listener);
            let of = &mut self.batch[record.received.listener as usize];
            of.records += 1;
            of.bytes += record.raw.len() as u64;
        }
        if found == count { Ok(tally) } else { Err(Refused::Count { said: count, found }) }
    }

    fn add_counts(&mut self, seen: Ids) {
        for id in seen.iter() {
            let (of, more) = (&mut self.counts[id as usize], self.batch[id as usize]);
            of.records += more.records;
            of.bytes += more.bytes;
            self.waiting.bytes += more.bytes;
            self.counted.insert(id);
        }
    }

    fn take(&mut self, batch: &[u8], last: Tally) {
        let mut start = 0;
        for i in 0..self.cuts.len() {
            let Cut { at, tally } = self.cuts[i];
            self.raw.extend_from_slice(&batch[start..at]);
            self.tally = tally;
            let mono_offset_ns = self.mono_offset_ns;
            self.cut();
            self.mono_offset_ns = mono_offset_ns;
            start = at;
        }
        self.raw.extend_from_slice(&batch[start..]);
        self.tally = last;
        self.uncommitted += batch.len();
    }

    /// Ends the block being filled, if it holds anything.
    pub fn cut(&mut self) {
        if self.tally.count == 0 {
            return;
        }
        let frames = self.raw.len();
        for id in self.tally.listeners.iter() {
            let name = self.listeners.get(&id).map_or("unknown", String::as_str);
            block::write_listener(id, name, &mut self.raw);
        }
        self.pack(self.raw.len() - frames);
        self.first = self.next();
        self.tally = Tally::EMPTY;
        self.raw.clear();
    }

    fn pack(&mut self, table_len: usize) {
        let Tally { count, first_wall, last_wall, .. } = self.tally;
        let facts = Facts {
            first: self.first,
            count,
            first_wall: UnixNanos(first_wall),
            last_wall: UnixNanos(last_wall),
            mono_offset_ns: self.mono_offset_ns,
            boot_id: self.boot_id,
        };
        let start = self.arena.len();
        let done = self.compressor.as_mut().and_then(|c| c.compress_to_buffer(&self.raw, &mut self.scratch).ok());
        let packed = done.map(|len| &self.scratch[..len]).filter(|packed| packed.len() < self.raw.len());
        block::encode(&facts, &self.raw, table_len, packed, &mut self.arena);
        self.packed.push(Packed { first: self.first, start, end: self.arena.len() });
        let waiting = &mut self.waiting;
        waiting.records += u64::from(count);
        waiting.stored_bytes += (self.arena.len() - start) as u64;
        waiting.first_wall = waiting.first_wall.min(first_wall);
        waiting.last_wall = waiting.last_wall.max(last_wall);
    }

    /// Encoded blocks that wait for the disk, in order. Does not hold what was not cut.
    pub fn blocks(&self) -> impl Iterator<Item = (Seq, &[u8])> {
        self.packed.iter().map(|p| (p.first, &self.arena[p.start..p.end]))
    }

    /// Sums over [`Packer::blocks`], when all was cut.
    pub const fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Counts by listener name since the last [`Packer::clear`]. A name may come twice.
    pub fn counts(&self) -> impl Iterator<Item = (&str, Count)> {
        let present = self.counted.iter().map(|id| (self.listener(id), self.counts[id as usize]));
        self.renamed.iter().map(|(name, count)| (name.as_str(), *count)).chain(present)
    }

    /// Forgets the blocks and counts: they are on disk.
    pub fn clear(&mut self) {
        for id in self.counted.iter() {
            self.counts[id as usize] = Count::default();
        }
        self.counted = Ids::default();
        self.renamed.clear();
        self.arena.clear();
        self.packed.clear();
        self.waiting = Waiting::NONE;
        self.uncommitted = 0;
    }
}
