//! From batches of frames to encoded blocks, in memory: no I/O, no allocation per record, none per block once warm.
//!
//! Encoded blocks wait here until they are on disk. A failed commit therefore loses nothing and may be repeated, into
//! another segment if need be.

mod carry;
mod squeeze;

use crate::block::{self, BLOCK_CONTEXT, BLOCK_RAW, Facts};
use crate::filter::Filter;
use crate::import::Piece;
use carry::{Carried, Carry};
use raven_model::record::{Context, FrameError, Frames, Record, read_frame};
use raven_model::units::{Seq, UnixNanos};
use squeeze::Squeeze;
use std::collections::BTreeMap;

/// How far the wall clock may move against the monotonic one within a block. More is a step of the clock.
const CLOCK_STEP_NS: u64 = 10_000_000;

/// Memory kept between commits; a large backlog does not stay in memory for ever.
const ARENA_KEPT: usize = 4 << 20;

/// Why a batch is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A frame does not read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frames close exactly, but there are more or fewer of them.
    #[error("the batch holds {found} frames, {said} were announced")]
    Count {
        /// Announced.
        said: u32,
        /// Found.
        found: u32,
    },
    /// A frame of context does not read as such.
    #[error("the context at byte {at} does not read")]
    Context {
        /// Offset of its frame.
        at: usize,
    },
    /// More context before one record than a block holds.
    #[error("{bytes} bytes of context come with the record at byte {at}, a block holds {BLOCK_CONTEXT}")]
    Contexts {
        /// Offset of the record's frame.
        at: usize,
        /// Bytes of the contexts' frames.
        bytes: usize,
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

/// What becomes of a batch, in order. One without context is taken in as few pieces as blocks need.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// These frames of it, as they lie.
    Frames { start: usize, end: usize },
    /// This one, which the next record needs.
    Context(Carried),
    /// The block ends here.
    Cut(Tally),
}

/// An encoded block that waits for the disk.
#[derive(Debug, Clone, Copy)]
struct Packed {
    first: Seq,
    count: u32,
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
    /// What is packed now was received by another box.
    imported: bool,
    listeners: BTreeMap<u8, String>,
    squeeze: Squeeze,
    filter: Filter,
    /// Frames of the block being filled; empty as long as it has no record.
    raw: Vec<u8>,
    /// Bytes of them that are context.
    context_bytes: usize,
    carry: Carry,
    tally: Tally,
    mono_offset_ns: i64,
    /// Seq of the block being filled.
    first: Seq,
    arena: Vec<u8>,
    packed: Vec<Packed>,
    waiting: Waiting,
    steps: Vec<Step>,
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
            imported: false,
            listeners: BTreeMap::new(),
            squeeze: Squeeze::new(),
            filter: Filter::new(),
            raw: Vec::with_capacity(BLOCK_RAW + 4096),
            context_bytes: 0,
            carry: Carry::new(),
            tally: Tally::EMPTY,
            mono_offset_ns: 0,
            first: next,
            arena: Vec::new(),
            packed: Vec::new(),
            waiting: Waiting::NONE,
            steps: Vec::new(),
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
        self.carry.begin_batch();
        let walked = self.walk(batch, count, &mut seen);
        if walked.is_ok() {
            self.add_counts(seen);
        }
        for id in seen.iter() {
            self.batch[id as usize] = Count::default();
        }
        if let Ok(last) = walked {
            self.take(batch, last);
        }
        self.carry.end_batch();
        walked.map(drop)
    }

    /// Takes a block of another box, of `count` frames, as a block of its own (or two: what fits into one depends on the
    /// context that each has to repeat), or leaves everything as it was.
    pub fn append_imported(&mut self, piece: &Piece, count: u32) -> Result<(), Refused> {
        let ours = (self.boot_id, self.listeners.clone());
        self.set_listeners(piece.listeners.clone());
        (self.boot_id, self.imported) = (piece.boot_id, true);
        let taken = self.append(&piece.frames, count, piece.mono_offset_ns);
        self.set_listeners(ours.1);
        (self.boot_id, self.imported) = (ours.0, false);
        taken
    }

    /// The contexts of the batch that was taken last, repeats too, and when each was learned.
    pub fn contexts<'a>(&self, batch: &'a [u8]) -> impl Iterator<Item = (UnixNanos, Context<'a>)> {
        self.carry.frames().iter().filter_map(|place| {
            let (frame, _) = read_frame(batch.get(place.start..)?, place.start).ok()?;
            Some((frame.received.wall, Context::read(frame.raw)?))
        })
    }

    /// Reads every frame once; notes what goes where, and what each listener gave. Returns the tally behind the last
    /// cut.
    fn walk(&mut self, batch: &[u8], count: u32, seen: &mut Ids) -> Result<Tally, Refused> {
        self.steps.clear();
        let (mut tally, mut cuts, mut found) = (self.tally, 0, 0_u32);
        // Of the records' bytes: those of the block being filled, and where in the batch those behind them would
        // begin, were there no context.
        let (mut before, mut block_start) = (self.raw.len() - self.context_bytes, 0);
        let (mut context_bytes, mut from) = (self.context_bytes, 0);
        let mut frames = Frames::new(batch);
        loop {
            let at = frames.offset();
            let Some(record) = frames.next() else { break };
            let (record, end) = (record?, frames.offset());
            found += 1;
            if !record.received.is_record() {
                let context = Context::read(record.raw).ok_or(Refused::Context { at })?;
                self.carry.learn(&context, at, end);
                self.take_frames(from, at);
                (from, block_start) = (end, block_start + (end - at));
                continue;
            }
            let added = match self.carry.pending_bytes() {
                0 => 0,
                bytes if bytes > BLOCK_CONTEXT => return Err(Refused::Contexts { at, bytes }),
                _ => self.carry.settle(batch, &self.raw, cuts),
            };
            let full = before + (end - block_start) > BLOCK_RAW || context_bytes + added > BLOCK_CONTEXT;
            if full && tally.count > 0 {
                self.take_frames(from, at);
                self.steps.push(Step::Cut(tally));
                (tally, block_start, before, from, cuts) = (Tally::EMPTY, at, 0, at, cuts + 1);
                context_bytes = self.carry.write_brought(cuts, |carried| self.steps.push(Step::Context(carried)));
            } else if added > 0 {
                self.carry.write_pending(cuts, |carried| self.steps.push(Step::Context(carried)));
                context_bytes += added;
            }
            tally.add(&record);
            seen.insert(record.received.listener);
            let of = &mut self.batch[record.received.listener as usize];
            of.records += 1;
            of.bytes += record.raw.len() as u64;
        }
        self.take_frames(from, batch.len());
        if found == count { Ok(tally) } else { Err(Refused::Count { said: count, found }) }
    }

    fn take_frames(&mut self, start: usize, end: usize) {
        if start < end {
            self.steps.push(Step::Frames { start, end });
        }
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
        for i in 0..self.steps.len() {
            match self.steps[i] {
                Step::Frames { start, end } => self.raw.extend_from_slice(&batch[start..end]),
                Step::Context(carried) => {
                    self.carry.stored(carried, self.raw.len());
                    self.raw.extend_from_slice(&batch[carried.place.start..carried.place.end]);
                    self.context_bytes += carried.place.end - carried.place.start;
                }
                Step::Cut(tally) => {
                    self.tally = tally;
                    let mono_offset_ns = self.mono_offset_ns;
                    self.cut();
                    self.mono_offset_ns = mono_offset_ns;
                }
            }
        }
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
        self.context_bytes = 0;
        self.carry.end_block();
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
            imported: self.imported,
        };
        let start = self.arena.len();
        let packed = self.squeeze.squeeze(&self.raw, self.raw.len() - table_len);
        block::encode(&facts, &self.raw, table_len, packed, &mut self.filter, &mut self.arena);
        self.packed.push(Packed { first: self.first, count, start, end: self.arena.len() });
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

    /// Forgets the blocks below `next`, which have turned out to be on disk. False, and nothing is done, when no block
    /// ends there.
    pub fn forget_below(&mut self, next: Seq) -> bool {
        let below = self.packed.partition_point(|packed| packed.first < next);
        if below == 0 || self.packed[below - 1].first.plus(u64::from(self.packed[below - 1].count)) != next {
            return false;
        }
        for packed in self.packed.drain(..below) {
            self.waiting.records -= u64::from(packed.count);
            self.waiting.stored_bytes -= (packed.end - packed.start) as u64;
        }
        true
    }

    /// Forgets the blocks and counts: they are on disk.
    pub fn clear(&mut self) {
        for id in self.counted.iter() {
            self.counts[id as usize] = Count::default();
        }
        self.counted = Ids::default();
        self.renamed.clear();
        self.arena.clear();
        self.arena.shrink_to(ARENA_KEPT);
        self.packed.clear();
        self.waiting = Waiting::NONE;
        self.uncommitted = 0;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::block::{Block, BlockError, BlockHead, HEAD};
    use proptest::prelude::*;
    use raven_model::record::{FRAME_MAX, Received, write_frame};

    pub fn frames(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, raw) in messages.iter().enumerate() {
            let (start, wall) = (out.len(), UnixNanos(1000 + i as u64));
            let source = if i % 2 == 0 { "192.0.2.7:514" } else { "[2001:db8::7]:40000" }.parse().unwrap();
            out.resize(start + FRAME_MAX, 0);
            let received = Received::new(source, (i % 3) as u8, wall);
            let len = write_frame(&mut out[start..], &received, raw).unwrap();
            out.truncate(start + len);
        }
        out
    }

    fn pack(messages: &[Vec<u8>]) -> Vec<(Seq, Vec<u8>)> {
        let mut packer = Packer::new(Seq(1), [9; 16]);
        packer.append(&frames(messages), messages.len() as u32, -5).unwrap();
        packer.cut();
        packer.blocks().map(|(first, value)| (first, value.to_vec())).collect()
    }

    #[test]
    fn blocks_are_cut_between_records_and_keep_to_their_size() {
        let messages: Vec<_> = (0..40).map(|i| vec![i as u8; 60_000]).collect();
        let blocks = pack(&messages);
        assert_eq!(blocks.len(), 10);
        let decoded: Vec<_> = blocks.iter().map(|(first, value)| Block::decode(*first, value).unwrap()).collect();
        let raws: Vec<_> =
            decoded.iter().flat_map(|b| b.records().map(|(_, r)| r.raw.to_vec()).collect::<Vec<_>>()).collect();
        assert_eq!(raws, messages);
        assert!(decoded.windows(2).all(|pair| pair[0].next() == pair[1].first));
    }

    #[test]
    fn blocks_that_are_on_disk_already_are_forgotten_whole() {
        let mut packer = Packer::new(Seq(1), [9; 16]);
        for _ in 0..3 {
            packer.append(&frames(&[b"a".to_vec(), b"b".to_vec()]), 2, 0).unwrap();
            packer.cut();
        }
        assert!(!packer.forget_below(Seq(4)), "in the middle of a block");
        assert!(packer.forget_below(Seq(5)));
        let left: Vec<_> = packer.blocks().map(|(first, _)| first).collect();
        assert_eq!((left, packer.waiting().records, packer.next()), (vec![Seq(5)], 2, Seq(7)));
    }

    #[test]
    fn a_step_of_the_clock_begins_a_new_block() {
        let mut packer = Packer::new(Seq(1), [9; 16]);
        let one = frames(&[b"a".to_vec()]);
        for mono_offset_ns in [0, 1000, 20_000_000, 20_000_001] {
            packer.append(&one, 1, mono_offset_ns).unwrap();
        }
        packer.cut();
        let offsets: Vec<_> =
            packer.blocks().map(|(_, value)| BlockHead::read(value).unwrap().mono_offset_ns).collect();
        assert_eq!(offsets, [0, 20_000_000]);
    }

    #[test]
    fn records_keep_the_listener_name_they_came_under() {
        let mut packer = Packer::new(Seq(1), [9; 16]);
        let one = frames(&[b"a".to_vec()]);
        for name in ["udp:[::]:514", "udp:[::]:1514"] {
            packer.set_listeners(BTreeMap::from([(0, name.to_owned())]));
            packer.append(&one, 1, 0).unwrap();
        }
        packer.cut();
        let names: Vec<_> =
            packer.blocks().map(|(s, v)| Block::decode(s, v).unwrap().listener_name(0).to_owned()).collect();
        assert_eq!(names, ["udp:[::]:514", "udp:[::]:1514"]);
        let counts: Vec<_> = packer.counts().map(|(name, count)| (name.to_owned(), count.records)).collect();
        assert_eq!(counts, [("udp:[::]:514".to_owned(), 1), ("udp:[::]:1514".to_owned(), 1)]);
    }

    #[test]
    fn a_block_under_another_key_is_noticed() {
        let (first, value) = pack(&[b"hello".to_vec()]).remove(0);
        assert!(matches!(Block::decode(first.plus(1), &value), Err(BlockError::Key { .. })));
    }

    #[test]
    fn a_block_of_a_newer_format_is_named_as_such() {
        let (first, mut value) = pack(&[b"hello".to_vec()]).remove(0);
        value[4] = 3;
        let crc = crc32c::crc32c(&value[..76]);
        value[76..80].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Block::decode(first, &value), Err(BlockError::Version(3)));
    }

    /// Makes the checksums right again, so that what is behind them is tested too.
    fn reseal(value: &mut [u8]) {
        if value.len() >= HEAD {
            let at = (HEAD + usize::from(u16::from_le_bytes([value[6], value[7]]))).min(value.len());
            if at >= HEAD + 4 {
                let filter = crc32c::crc32c(&value[HEAD..at - 4]);
                value[at - 4..at].copy_from_slice(&filter.to_le_bytes());
            }
            let payload = crc32c::crc32c(&value[at..]);
            value[8..12].copy_from_slice(&payload.to_le_bytes());
            let len = (value.len() - at) as u32;
            value[72..76].copy_from_slice(&len.to_le_bytes());
            let head = crc32c::crc32c(&value[..76]);
            value[76..80].copy_from_slice(&head.to_le_bytes());
        }
    }

    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..60)
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), seal: bool) {
            prop_assert!(Block::decode(Seq(1), &bytes).is_err());
            if seal && bytes.len() >= HEAD {
                bytes[..6].copy_from_slice(b"RvnB\x01\x01");
                reseal(&mut bytes);
                let _ = Block::decode(BlockHead::read(&bytes).map_or(Seq(1), |head| head.first), &bytes);
            }
        }

        #[test]
        fn what_was_packed_reads_back(messages in messages()) {
            let mut got = Vec::new();
            for (first, value) in pack(&messages) {
                let block = Block::decode(first, &value).unwrap();
                got.extend(block.records().map(|(_, record)| record.raw.to_vec()));
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn every_changed_bit_is_noticed(messages in messages(), at: prop::sample::Index, bit in 0..8) {
            let (first, mut value) = pack(&messages).remove(0);
            let at = at.index(value.len());
            value[at] ^= 1_u8 << bit;
            prop_assert!(Block::decode(first, &value).is_err());
        }

        #[test]
        fn a_liar_with_good_checksums_does_no_harm(
            messages in messages(), table: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index,
        ) {
            let (_, mut value) = pack(&if table { crate::columns::tests::flows(9, 25, 48) } else { messages }).remove(0);
            for (at, byte) in changes {
                let at = at.index(value.len());
                value[at] = byte;
            }
            value.truncate(cut.index(value.len() + 1));
            reseal(&mut value);
            let first = BlockHead::read(&value).map_or(Seq(1), |head| head.first);
            if let Ok(block) = Block::decode(first, &value) {
                prop_assert_eq!(block.records().count(), block.count as usize);
            }
        }
    }
}
