//! Which contexts the block being filled holds, and which the batch being looked at brought: what is known already is
//! not written again, and a block that begins in the middle of a batch is given what its records need.
//!
//! A context is written before the first record that it applies to. One that no record of its batch follows applies to
//! none, and is in no block: who needs it later brings it again.

use crate::block::BLOCK_CONTEXT;
use raven_model::record::Context;
use std::collections::HashMap;

/// Keys remembered between batches. More are forgotten, which costs repeats.
const KEYS_KEPT: usize = 4096;

/// Where a context's frame lies in a run of them. The value is its end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub start: usize,
    value: usize,
    pub end: usize,
}

impl Place {
    const fn len(self) -> usize {
        self.end - self.start
    }

    /// The same frame, copied to `start`.
    const fn moved_to(self, start: usize) -> Self {
        Self { start, value: self.value - self.start + start, end: self.end - self.start + start }
    }

    fn value(self, run: &[u8]) -> &[u8] {
        &run[self.value..self.end]
    }
}

/// What is known of a key. The parts of another block or batch than the present one mean nothing, so that a batch can
/// be refused, and a block ended, without going through all keys.
#[derive(Debug, Default)]
struct Slot {
    /// The block that has it at `stored`.
    block: u64,
    stored: Place,
    /// The batch that brought it last at `latest`.
    batch: u64,
    latest: Place,
    /// What of that batch is to be written, and into which block: the one being filled is 0.
    planned: Option<(usize, Place)>,
    /// Brought since the last record.
    pending: bool,
}

/// A context to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carried {
    slot: u32,
    pub place: Place,
}

#[derive(Debug, Default)]
pub(super) struct Carry {
    index: HashMap<Box<[u8]>, u32>,
    slots: Vec<Slot>,
    /// Numbers of the block being filled and of the batch being looked at; the first is 1.
    block: u64,
    batch: u64,
    /// Slots that the batch brought, and bytes of their latest frames.
    brought: Vec<u32>,
    brought_bytes: usize,
    /// The same since the last record.
    pending: Vec<u32>,
    pending_bytes: usize,
    /// Every context of the batch, repeats too.
    frames: Vec<Place>,
}

impl Carry {
    pub fn new() -> Self {
        Self { block: 1, ..Self::default() }
    }

    pub fn begin_batch(&mut self) {
        self.batch += 1;
        self.brought.clear();
        self.brought_bytes = 0;
        self.pending.clear();
        self.pending_bytes = 0;
        self.frames.clear();
        self.frames.shrink_to(KEYS_KEPT);
    }

    pub fn end_batch(&mut self) {
        if self.slots.len() > KEYS_KEPT {
            let (block, batch, frames) = (self.block, self.batch, std::mem::take(&mut self.frames));
            *self = Self { block, batch, frames, ..Self::default() };
        }
    }

    pub const fn end_block(&mut self) {
        self.block += 1;
    }

    /// Every context of the batch.
    pub fn frames(&self) -> &[Place] {
        &self.frames
    }

    /// Notes the context whose frame lies at `start..end` of the batch.
    pub fn learn(&mut self, context: &Context<'_>, start: usize, end: usize) {
        let place = Place { start, value: end - context.value.len(), end };
        self.frames.push(place);
        let id = self.slot_of(context.key);
        let slot = &mut self.slots[id as usize];
        if slot.batch == self.batch {
            self.brought_bytes -= slot.latest.len();
        } else {
            (slot.batch, slot.planned, slot.pending) = (self.batch, None, false);
            self.brought.push(id);
        }
        if std::mem::replace(&mut slot.pending, true) {
            self.pending_bytes -= slot.latest.len();
        } else {
            self.pending.push(id);
        }
        slot.latest = place;
        self.brought_bytes += place.len();
        self.pending_bytes += place.len();
    }

    fn slot_of(&mut self, key: &[u8]) -> u32 {
        if let Some(id) = self.index.get(key) {
            return *id;
        }
        let id = self.slots.len() as u32;
        self.slots.push(Slot::default());
        self.index.insert(key.into(), id);
        id
    }

    /// Bytes of the contexts that have come since the last record; of each key the last.
    pub const fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Forgets of what is pending that which is in force already, `cuts` blocks behind the one being filled, whose
    /// bytes are `raw`. Returns the bytes of what is left, which is to be written then.
    pub fn settle(&mut self, batch: &[u8], raw: &[u8], cuts: usize) -> usize {
        let (slots, block, mut bytes) = (&mut self.slots, self.block, 0);
        self.pending_bytes = 0;
        self.pending.retain(|id| {
            let slot = &mut slots[*id as usize];
            let in_force = match slot.planned {
                Some((of, place)) if of == cuts => Some(place.value(batch)),
                _ if cuts == 0 && slot.block == block => Some(slot.stored.value(raw)),
                _ => None,
            };
            let is_new = in_force != Some(slot.latest.value(batch));
            slot.pending = is_new;
            bytes += if is_new { slot.latest.len() } else { 0 };
            is_new
        });
        bytes
    }

    /// Hands out what is pending, to be written into the block `cuts` behind the one being filled.
    pub fn write_pending(&mut self, cuts: usize, mut write: impl FnMut(Carried)) {
        for slot in self.pending.drain(..) {
            let Slot { latest: place, planned, pending, .. } = &mut self.slots[slot as usize];
            (*planned, *pending) = (Some((cuts, *place)), false);
            write(Carried { slot, place: *place });
        }
    }

    /// Hands out what the batch brought so far, to be written at the beginning of that block; returns the bytes. What
    /// a block cannot hold stays out, oldest first.
    pub fn write_brought(&mut self, cuts: usize, mut write: impl FnMut(Carried)) -> usize {
        for slot in self.pending.drain(..) {
            self.slots[slot as usize].pending = false;
        }
        let slots = &mut self.slots;
        if self.brought_bytes > BLOCK_CONTEXT {
            self.brought.sort_unstable_by_key(|slot| std::cmp::Reverse(slots[*slot as usize].latest.start));
        }
        let mut bytes = 0;
        for slot in &self.brought {
            let Slot { latest: place, planned, .. } = &mut slots[*slot as usize];
            bytes += place.len();
            if bytes > BLOCK_CONTEXT {
                return bytes - place.len();
            }
            *planned = Some((cuts, *place));
            write(Carried { slot: *slot, place: *place });
        }
        bytes
    }

    /// Notes that it was written to `start` of the block being filled.
    pub fn stored(&mut self, carried: Carried, start: usize) {
        let slot = &mut self.slots[carried.slot as usize];
        (slot.block, slot.stored) = (self.block, carried.place.moved_to(start));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Packer, Refused};
    use super::*;
    use crate::block::{BLOCK_RAW, Block, BlockError, BlockHead, Entry};
    use proptest::prelude::*;
    use raven_model::record::{FRAME_MAX, Received, frame_len, write_frame};
    use raven_model::units::{Seq, UnixNanos};
    use std::collections::BTreeMap;

    /// A frame of a batch: a context of a key's number, or a record.
    #[derive(Debug, Clone)]
    enum Item {
        Context(u8, Vec<u8>),
        Record(Vec<u8>),
    }
    use Item::{Context as C, Record as R};

    #[derive(Default)]
    struct Batch {
        bytes: Vec<u8>,
        count: u32,
    }

    impl Batch {
        fn of(items: &[Item]) -> Self {
            let mut batch = Self::default();
            for item in items {
                match item {
                    C(key, value) => {
                        let mut raw = Vec::new();
                        Context { key: &[*key], value }.write(&mut raw);
                        batch.add(&Received::context(UnixNanos(5)), &raw);
                    }
                    R(raw) => {
                        batch.add(&Received::new("192.0.2.7:514".parse().unwrap(), 1, UnixNanos(1000)), raw);
                    }
                }
            }
            batch
        }

        fn add(&mut self, received: &Received, raw: &[u8]) {
            let start = self.bytes.len();
            self.bytes.resize(start + FRAME_MAX, 0);
            let len = write_frame(&mut self.bytes[start..], received, raw).unwrap();
            self.bytes.truncate(start + len);
            self.count += 1;
        }
    }

    fn packer(batches: &[&[Item]]) -> Packer {
        let mut packer = Packer::new(Seq(1), [9; 16]);
        for items in batches {
            let batch = Batch::of(items);
            packer.append(&batch.bytes, batch.count, 0).unwrap();
        }
        packer.cut();
        packer
    }

    fn blocks(packer: &Packer) -> Vec<Block> {
        packer.blocks().map(|(first, value)| Block::decode(first, value).unwrap()).collect()
    }

    /// What a block holds, shortened: `1=x` for a context, `#5` for a record.
    fn told(block: &Block) -> String {
        let tell = |entry| match entry {
            Entry::Context(_, Context { key, value }) => {
                format!("{}={}", key[0], String::from_utf8_lossy(&value[..value.len().min(1)]))
            }
            Entry::Record(seq, _) => format!("#{seq}"),
        };
        block.entries().map(tell).collect::<Vec<_>>().join(" ")
    }

    fn value(text: u8, len: usize) -> Vec<u8> {
        vec![text; len]
    }

    #[test]
    fn what_is_in_force_already_is_not_written_again() {
        let (a, b, r) = (C(1, value(b'a', 9)), C(1, value(b'b', 9)), R(b"x".to_vec()));
        let one = [a.clone(), r.clone(), a.clone(), r.clone(), b, r.clone()];
        let two = [C(1, vec![]), C(2, value(b'c', 9)), r.clone(), a, C(1, vec![]), r];
        let packer = packer(&[&one, &two]);
        assert_eq!(told(&blocks(&packer)[0]), "1=a #1 #2 1=b #3 1= 2=c #4 #5");
        let sum: Vec<_> = packer.counts().map(|(_, count)| (count.records, count.bytes)).collect();
        assert_eq!((sum, packer.waiting().records, packer.waiting().first_wall), (vec![(5, 5)], 5, 1000));
    }

    #[test]
    fn a_block_that_begins_within_a_batch_is_given_what_the_batch_brought() {
        let (big, r) = (R(vec![0; 60_000]), R(b"x".to_vec()));
        let other = [C(9, value(b'z', 9)), r];
        let mut batch = vec![C(1, value(b'a', 9)), C(2, value(b'b', 9))];
        batch.extend(vec![big.clone(); 4]);
        batch.extend([C(1, value(b'c', 9)), big.clone(), big]);
        let told: Vec<_> = blocks(&packer(&[&other, &batch])).iter().map(told).collect();
        assert_eq!(told, ["9=z #1 1=a 2=b #2 #3 #4 #5", "1=c 2=b #6 #7"]);
    }

    #[test]
    fn context_alone_makes_no_block() {
        let (a, r) = (C(1, value(b'a', 9)), R(b"x".to_vec()));
        let mut packer = packer(&[std::slice::from_ref(&a)]);
        assert_eq!((packer.blocks().count(), packer.next(), packer.counts().count()), (0, Seq(1), 0));
        let batch = Batch::of(std::slice::from_ref(&a));
        assert_eq!(packer.contexts(&batch.bytes).count(), 1);
        for items in [vec![r.clone(), a.clone()], vec![a], vec![r]] {
            let batch = Batch::of(&items);
            packer.append(&batch.bytes, batch.count, 0).unwrap();
        }
        packer.cut();
        assert_eq!(told(&blocks(&packer)[0]), "#1 #2", "no record of their batches needs them");
    }

    #[test]
    fn context_is_bounded_and_ends_blocks() {
        let r = R(b"x".to_vec());
        let items: Vec<_> = (0..20).flat_map(|i| [C(1, value(b'a' + i, 50_000)), r.clone()]).collect();
        let told: Vec<_> = blocks(&packer(&[&items])).iter().map(told).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[1], "1=f #6 1=g #7 1=h #8 1=i #9 1=j #10");
        // More keys than a block holds: it is given those that were brought last.
        let mut items: Vec<_> = (0..8).flat_map(|i| [C(i, value(b'a' + i, 50_000)), r.clone()]).collect();
        items.extend(vec![R(vec![0; 60_000]); 4]);
        let told: Vec<_> = blocks(&packer(&[&items])).iter().map(self::told).collect();
        assert_eq!(told[1], "5=f 4=e 3=d 2=c 1=b #6");
    }

    #[test]
    fn more_context_before_a_record_than_a_block_holds_is_refused() {
        let mut items: Vec<_> = (0..6).map(|i| C(i, value(b'a', 50_000))).collect();
        let mut packer = packer(&[&items]);
        items.push(R(vec![]));
        let batch = Batch::of(&items);
        let at = batch.bytes.len() - 20;
        let refused = packer.append(&batch.bytes, batch.count, 0).unwrap_err();
        assert_eq!(refused, Refused::Contexts { at, bytes: at });
        // Of a key the last value counts.
        for item in &mut items[..6] {
            *item = C(1, value(b'a', 50_000));
        }
        let batch = Batch::of(&items);
        packer.append(&batch.bytes, batch.count, 0).unwrap();
        packer.cut();
        assert_eq!(told(&blocks(&packer)[0]), "1=a #1");
    }

    #[test]
    fn context_that_does_not_read_is_refused() {
        let mut batch = Batch::of(&[R(vec![1])]);
        let at = batch.bytes.len();
        batch.add(&Received::context(UnixNanos(1)), &[9, 0, 1]);
        let mut packer = packer(&[]);
        assert_eq!(packer.append(&batch.bytes, 2, 0), Err(Refused::Context { at }));
        // And is no block, should it lie on a disk.
        packer.append(&Batch::of(&[C(1, value(b'a', 2)), R(vec![1])]).bytes, 2, 0).unwrap();
        packer.cut();
        let (first, mut value) = packer.blocks().map(|(first, value)| (first, value.to_vec())).next().unwrap();
        assert_eq!(value[5], 0, "too small to compress");
        let at = BlockHead::read(&value).unwrap().payload_at();
        value[at + 20] = 200;
        let crc = crc32c::crc32c(&value[at..]);
        value[8..12].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&value[..76]);
        value[76..80].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Block::decode(first, &value), Err(BlockError::Content("a context in it does not read")));
    }

    #[test]
    fn keys_without_number_cost_no_memory_for_ever() {
        let mut packer = packer(&[]);
        for n in 0..20_u32 {
            let mut batch = Batch::default();
            for i in 0..1000 {
                let mut raw = Vec::new();
                Context { key: &(n * 1000 + i).to_le_bytes(), value: b"v" }.write(&mut raw);
                batch.add(&Received::context(UnixNanos(1)), &raw);
            }
            packer.append(&batch.bytes, batch.count, 0).unwrap();
        }
        assert!(packer.carry.slots.len() <= KEYS_KEPT);
    }

    type Known = BTreeMap<Vec<u8>, Vec<u8>>;

    /// Holds blocks against what was appended: `expected` has each record with all that its batch brought before it.
    fn compare(packer: &Packer, expected: &[(Vec<u8>, Known)]) -> Result<(), TestCaseError> {
        let mut expected = expected.iter();
        let mut next = Seq(1);
        for (first, value) in packer.blocks() {
            let block = Block::decode(first, value).unwrap();
            let (mut in_force, mut known) = (Known::new(), Known::new());
            let (mut context_bytes, mut record_bytes, mut records) = (0, 0, 0);
            for entry in block.entries() {
                match entry {
                    Entry::Context(wall, context) => {
                        prop_assert_eq!(wall, UnixNanos(5));
                        let (key, value) = (context.key.to_vec(), context.value.to_vec());
                        context_bytes += 20 + 2 + key.len() + value.len();
                        prop_assert_ne!(in_force.insert(key, value.clone()), Some(value), "written twice");
                    }
                    Entry::Record(seq, record) => {
                        let (raw, brought) = expected.next().unwrap();
                        known.extend(brought.clone());
                        prop_assert_eq!((seq, record.raw), (next, &raw[..]));
                        prop_assert_eq!(&in_force, &known, "at {}", seq);
                        next = next.plus(1);
                        records += 1;
                        record_bytes += frame_len(record.received.source.ip(), record.raw.len());
                    }
                }
            }
            prop_assert!(context_bytes <= BLOCK_CONTEXT && record_bytes <= BLOCK_RAW);
            prop_assert_eq!((records, block.records().count()), (block.count, block.count as usize));
            prop_assert_eq!(BlockHead::read(value).unwrap().first_wall, UnixNanos(1000));
        }
        prop_assert!(expected.next().is_none());
        Ok(())
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let context = (0..5_u8, 0..4_usize).prop_map(|(key, v)| C(key, value(v as u8, [0, 10, 1000, 40_000][v])));
        let small = prop::collection::vec(any::<u8>(), 0..50).prop_map(R);
        let large = (20_000..60_000_usize).prop_map(|len| R(vec![7; len]));
        prop::collection::vec(prop_oneof![3 => context, 4 => small, 1 => large], 0..40)
    }

    /// What happens to a batch.
    fn fates() -> impl Strategy<Value = u8> {
        prop_oneof![6 => Just(0_u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn each_record_finds_in_its_block_what_its_batch_brought_before_it(
            batches in prop::collection::vec((items(), fates()), 1..12)
        ) {
            let mut packer = Packer::new(Seq(1), [9; 16]);
            let mut expected = Vec::new();
            for (items, fate) in &batches {
                let mut batch = Batch::of(items);
                match fate {
                    1 => batch.bytes.extend_from_slice(b"not a frame"),
                    2 => batch.count += 1,
                    _ => {}
                }
                let taken = packer.append(&batch.bytes, batch.count, 0);
                prop_assert_eq!(taken.is_ok(), !matches!(fate, 1 | 2), "{:?}", taken);
                if taken.is_err() {
                    continue;
                }
                let (mut brought, mut contexts) = (Known::new(), Vec::new());
                for item in items {
                    match item {
                        C(key, value) => {
                            brought.insert(vec![*key], value.clone());
                            contexts.push((vec![*key], value.clone()));
                        }
                        R(raw) => expected.push((raw.clone(), brought.clone())),
                    }
                }
                let got = packer.contexts(&batch.bytes).map(|(_, context)| (context.key.to_vec(), context.value.to_vec()));
                prop_assert_eq!(got.collect::<Vec<_>>(), contexts);
                if *fate == 3 {
                    packer.cut();
                }
            }
            packer.cut();
            compare(&packer, &expected)?;
        }
    }
}
