//! Blocks in memory, for tests: the same bytes as on disk, without a disk.
#![allow(clippy::unwrap_used)]

use super::{Blocks, Clock, Got, Want};
use raven_buffer::{Block, BlockHead};
use raven_model::record::{FRAME_MAX, Received, write_frame};
use raven_model::units::{Seq, UnixNanos};
use std::ops::Range;

/// A message: receive time (ns), sender, bytes.
pub type Message<'a> = (u64, &'a str, &'a [u8]);

/// What a test ring has at some seqs.
pub enum Place {
    /// A block, encoded.
    Block(Vec<u8>),
    /// Damage.
    Gap { first: Seq, next: Seq },
}

impl Place {
    /// As if the clock had been stepped by so many ns.
    pub fn set_offset(&mut self, offset: i64) {
        if let Self::Block(value) = self {
            value[40..48].copy_from_slice(&offset.to_le_bytes());
            seal(value);
        }
    }

    fn range(&self) -> Range<Seq> {
        match self {
            Self::Block(value) => {
                let head = BlockHead::read(value).unwrap();
                head.first..head.next()
            }
            Self::Gap { first, next } => *first..*next,
        }
    }
}

/// A ring in memory.
#[derive(Default)]
pub struct Fake {
    pub places: Vec<Place>,
    /// Damage that was reported.
    pub reported: Vec<Seq>,
    /// Questions so far.
    pub looks: usize,
    /// No block is from the sender that is asked for.
    pub others: bool,
    /// So many questions are not answered.
    pub busy: usize,
    /// Blocks from here to there are another box's.
    pub imports: Vec<Range<Seq>>,
}

impl Fake {
    /// Of these blocks.
    pub fn new(blocks: Vec<Vec<u8>>) -> Self {
        Self { places: blocks.into_iter().map(Place::Block).collect(), ..Self::default() }
    }

    /// `blocks` blocks of `each` records from `first` on, the record n stamped by `stamp(n)`.
    pub fn with_blocks(first: Seq, blocks: u64, each: u64, stamp: impl Fn(u64) -> UnixNanos) -> Self {
        let block = |n: u64| {
            let begin = first.0 + n * each;
            let messages: Vec<Message<'_>> =
                (begin..begin + each).map(|seq| (stamp(seq).0, "192.0.2.1:514", &b"<13>x"[..])).collect();
            encoded(Seq(begin), &messages)
        };
        Self::new((0..blocks).map(block).collect())
    }

    /// The blocks that hold something received since then.
    pub fn blocks_since(&self, since: UnixNanos) -> Vec<(u64, u64)> {
        let newer = |place: &&Place| match place {
            Place::Block(value) => BlockHead::read(value).unwrap().last_wall >= since,
            Place::Gap { .. } => false,
        };
        self.places.iter().filter(newer).map(Place::range).map(|range| (range.start.0, range.end.0)).collect()
    }
}

impl Blocks for Fake {
    fn first(&self) -> Seq {
        self.places.first().map_or(Seq(1), |place| place.range().start)
    }

    fn next_seq(&mut self) -> anyhow::Result<Option<Seq>> {
        Ok(Some(self.places.last().map_or(Seq(1), |place| place.range().end)))
    }

    fn get(&mut self, at: Seq, want: &Want) -> anyhow::Result<Got> {
        self.looks += 1;
        if self.busy > 0 {
            self.busy -= 1;
            return Ok(Got::Busy);
        }
        if at < self.first() {
            return Ok(Got::Before { first: self.first() });
        }
        let behind = self.places.partition_point(|place| place.range().end <= at);
        let Some(place) = self.places.get(behind) else { return Ok(Got::End) };
        Ok(match place {
            Place::Gap { next, .. } => Got::Gap { next: *next, why: "rotten".to_owned() },
            Place::Block(value) => {
                let block = Block::decode(place.range().start, value).unwrap();
                let clock = Clock { boot_id: block.boot_id, offset_ns: block.mono_offset_ns };
                if block.last_wall() < want.since {
                    let imported = self.imports.iter().any(|range| range.contains(&block.first));
                    Got::Older { next: block.next(), clock: (!imported).then_some(clock) }
                } else if self.others && want.source.is_some() {
                    let (first_wall, last_wall) = (block.first_wall(), block.last_wall());
                    Got::Others { next: block.next(), blocks: 1, first_wall, last_wall }
                } else {
                    Got::Block(block)
                }
            }
        })
    }

    fn damaged(&mut self, at: Seq) {
        self.reported.push(at);
    }

    fn imports(&self) -> Vec<Range<Seq>> {
        self.imports.clone()
    }
}

/// A block as the store writes it (buffer/src/block.rs), not compressed.
pub fn encoded(first: Seq, messages: &[Message<'_>]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut frame = vec![0; FRAME_MAX];
    for (wall, source, raw) in messages {
        let wall = UnixNanos(*wall);
        let received = Received::new(source.parse().unwrap(), 1, wall);
        let n = write_frame(&mut frame, &received, raw).unwrap();
        payload.extend_from_slice(&frame[..n]);
    }
    let table = b"\x01\x0cudp:[::]:514";
    payload.extend_from_slice(table);
    let walls = || messages.iter().map(|(wall, ..)| *wall);
    let mut value = b"RvnB\x01\x00\x00\x00".to_vec();
    for n in [crc32c(&payload), messages.len() as u32, payload.len() as u32, table.len() as u32] {
        value.extend_from_slice(&n.to_le_bytes());
    }
    for n in [walls().min().unwrap(), walls().max().unwrap(), 0] {
        value.extend_from_slice(&n.to_le_bytes());
    }
    value.extend_from_slice(&[7; 16]);
    value.extend_from_slice(&first.0.to_le_bytes());
    value.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    value.extend_from_slice(&[0; 4]);
    seal(&mut value);
    value.extend_from_slice(&payload);
    value
}

fn seal(value: &mut [u8]) {
    let crc = crc32c(&value[..76]);
    value[76..80].copy_from_slice(&crc.to_le_bytes());
}

/// Castagnoli, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
