//! A block: up to 256 KiB of record frames and the context that they need, compressed, with a checked header. It can
//! be read by itself.
//!
//! ```text
//!  0      4   5   6    8        12      16      20        24         32        40          48       64     72      76
//!  ┌──────┬───┬───┬────┬────────┬───────┬───────┬─────────┬──────────┬─────────┬───────────┬────────┬──────┬───────┬───────┐
//!  │"RvnB"│ver│cod│flt │crc of  │ count │raw_len│table_len│first_wall│last_wall│mono_offset│boot_id │first │payload│crc of │
//!  │      │u8 │u8 │u16 │payload │ u32   │ u32   │ u32     │ u64      │ u64     │ i64       │16 B    │u64   │u32 len│ 0..76 │
//!  └──────┴───┴───┴────┴────────┴───────┴───────┴─────────┴──────────┴─────────┴───────────┴────────┴──────┴───────┴───────┘
//!  80 … filter, flt bytes … payload (codec 0: as is, 1: zstd, 2: columns in zstd), which unpacks to raw_len bytes:
//!  frames, then table_len bytes of listener table: { id u8, name_len u8, name } …                  little-endian
//! ```
//!
//! The highest bit of the codec says that the records were imported: another box received them, its boot id and clocks
//! are the block's.
//!
//! What columns are is told in `columns.rs`; the writer takes whichever of the two is smaller. `filter.rs` has the
//! filter: header and filter lie in the first page of a block, so that who looks for a sender reads one page of most.
//! Version 1 is the same without filters. Later versions keep magic, version and the checksum of the first 80 bytes, so
//! that they are known for what they are.
//!
//! The seq of the first record is the key of the block and stands in the header too, so that a block under a wrong
//! key is noticed. Both checksums are crc32c.
//!
//! Frames of context lie among those of records, each before the first record that it applies to; it holds until the
//! end of the block or the next frame with its key. They take no seq: `count`, the walls and the listener table are of
//! records only. There are at most 256 KiB of them beside the 256 KiB of records.

use crate::columns::{columns_limit, join};
use crate::filter::{self, FILTER_MAX, Filter};
use raven_model::prefix::Prefix;
use raven_model::record::{Context, Frames, Record};
use raven_model::units::{Seq, UnixNanos};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Most bytes of records' frames in a block. A record is never split.
pub const BLOCK_RAW: usize = 256 * 1024;

/// Most bytes of contexts' frames in a block.
pub const BLOCK_CONTEXT: usize = 256 * 1024;

/// Bytes of the header.
pub const HEAD: usize = 80;

/// Most bytes of listener table: 256 ids with the longest names.
const TABLE_MAX: usize = 256 * 257;

/// Most bytes that a payload may unpack to: what a hostile or damaged header can make us allocate.
pub(crate) const RAW_LIMIT: usize = BLOCK_RAW + BLOCK_CONTEXT + TABLE_MAX;

/// Most bytes of an encoded block.
pub const VALUE_LIMIT: usize = HEAD + FILTER_MAX + RAW_LIMIT;

const MAGIC: [u8; 4] = *b"RvnB";
const VERSION: u8 = 2;
/// An update asks whether the new system reads it.
const _: () = assert!(VERSION as u32 == raven_model::update::FORMATS.ring);
const CODEC_RAW: u8 = 0;
pub(crate) const CODEC_ZSTD: u8 = 1;
pub(crate) const CODEC_COLUMNS: u8 = 2;
/// Beside the codec.
const IMPORTED: u8 = 0x80;
const CRC_AT: usize = 76;

/// Why bytes are not a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Fewer or more bytes than the header says.
    #[error("{have} bytes instead of {want}")]
    Length {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        want: usize,
    },
    /// Not the beginning of a block.
    #[error("no block begins here")]
    Magic,
    /// Written by a newer Raven.
    #[error("version {0} of the block format, this Raven reads up to {VERSION}")]
    Version(u8),
    /// None that this Raven knows.
    #[error("unknown codec {0}")]
    Codec(u8),
    /// Bits have changed since it was written.
    #[error("the checksum of its {0} is wrong")]
    Checksum(&'static str),
    /// It lies under another key than it was written for.
    #[error("it begins at seq {says}, not {key}")]
    Key {
        /// What the header says.
        says: Seq,
        /// Where it lay.
        key: Seq,
    },
    /// The parts do not make a whole.
    #[error("{0}")]
    Content(&'static str),
}

/// What the header alone tells: enough to find a time without unpacking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHead {
    /// Seq of the first record.
    pub first: Seq,
    /// Records; at least 1.
    pub count: u32,
    /// Bytes when unpacked.
    pub raw_len: u32,
    /// Bytes of the payload as stored.
    pub payload_len: u32,
    /// Earliest receive time in it.
    pub first_wall: UnixNanos,
    /// Latest receive time in it.
    pub last_wall: UnixNanos,
    /// Wall clock minus monotonic clock when it was received, ns.
    pub mono_offset_ns: i64,
    /// The boot during which it was received.
    pub boot_id: [u8; 16],
    /// Another box received it.
    pub imported: bool,
    table_len: u32,
    payload_crc: u32,
    filter_len: u16,
    codec: u8,
}

impl BlockHead {
    /// Reads and checks a header; `value` may be longer.
    pub fn read(value: &[u8]) -> Result<Self, BlockError> {
        let head = value.first_chunk::<HEAD>().ok_or(BlockError::Length { have: value.len(), want: HEAD })?;
        if head[..4] != MAGIC {
            return Err(BlockError::Magic);
        }
        if crc32c::crc32c(&head[..CRC_AT]) != u32_at(head, CRC_AT) {
            return Err(BlockError::Checksum("header"));
        }
        if head[4] == 0 || head[4] > VERSION {
            return Err(BlockError::Version(head[4]));
        }
        let read = Self::fields(head);
        read.check()?;
        Ok(read)
    }

    /// Checks all that can be checked of what lies under the key `first` without unpacking it: header and checksums.
    pub fn of_whole(first: Seq, value: &[u8]) -> Result<Self, BlockError> {
        let head = Self::read(value)?;
        if head.first != first {
            return Err(BlockError::Key { says: head.first, key: first });
        }
        if value.len() != head.value_len() {
            return Err(BlockError::Length { have: value.len(), want: head.value_len() });
        }
        let (filter, payload) = value[HEAD..].split_at(head.filter_len.into());
        if !filter::is_sound(filter) {
            return Err(BlockError::Checksum("filter"));
        }
        if crc32c::crc32c(payload) != head.payload_crc {
            return Err(BlockError::Checksum("content"));
        }
        Ok(head)
    }

    fn fields(head: &[u8; HEAD]) -> Self {
        let mut boot_id = [0; 16];
        boot_id.copy_from_slice(&head[48..64]);
        Self {
            codec: head[5] & !IMPORTED,
            imported: head[5] & IMPORTED != 0,
            filter_len: u16::from_le_bytes([head[6], head[7]]),
            payload_crc: u32_at(head, 8),
            count: u32_at(head, 12),
            raw_len: u32_at(head, 16),
            table_len: u32_at(head, 20),
            first_wall: UnixNanos(u64_at(head, 24)),
            last_wall: UnixNanos(u64_at(head, 32)),
            mono_offset_ns: u64_at(head, 40).cast_signed(),
            boot_id,
            first: Seq(u64_at(head, 64)),
            payload_len: u32_at(head, 72),
        }
    }

    fn check(&self) -> Result<(), BlockError> {
        if self.codec > CODEC_COLUMNS {
            return Err(BlockError::Codec(self.codec));
        }
        if self.raw_len as usize > RAW_LIMIT || self.table_len > self.raw_len {
            return Err(BlockError::Content("it says it unpacks to more than a block may hold"));
        }
        if self.count == 0 || self.first.0.checked_add(u64::from(self.count)).is_none() {
            return Err(BlockError::Content("its count of records is impossible"));
        }
        Ok(())
    }

    /// One after its last record.
    pub const fn next(&self) -> Seq {
        self.first.plus(self.count as u64)
    }

    /// True when `seq` is one of its records.
    pub fn holds(&self, seq: Seq) -> bool {
        self.first <= seq && seq < self.next()
    }

    /// Bytes of the whole block.
    pub const fn value_len(&self) -> usize {
        self.payload_at() + self.payload_len as usize
    }

    /// Where its payload begins.
    pub(crate) const fn payload_at(&self) -> usize {
        HEAD + self.filter_len as usize
    }

    /// False when none of the records came from there, by the filter of the block `value`.
    pub fn may_hold(&self, value: &[u8], wanted: &Prefix) -> bool {
        value.get(HEAD..self.payload_at()).is_none_or(|filter| filter::may_hold(filter, wanted))
    }

    fn write(&self, out: &mut [u8; HEAD]) {
        out[..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[5] = self.codec | if self.imported { IMPORTED } else { 0 };
        out[6..8].copy_from_slice(&self.filter_len.to_le_bytes());
        out[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..20].copy_from_slice(&self.raw_len.to_le_bytes());
        out[20..24].copy_from_slice(&self.table_len.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_wall.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.last_wall.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.mono_offset_ns.to_le_bytes());
        out[48..64].copy_from_slice(&self.boot_id);
        out[64..72].copy_from_slice(&self.first.0.to_le_bytes());
        out[72..76].copy_from_slice(&self.payload_len.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// What the writer knows of a block besides its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub first: Seq,
    pub count: u32,
    pub first_wall: UnixNanos,
    pub last_wall: UnixNanos,
    pub mono_offset_ns: i64,
    pub boot_id: [u8; 16],
    pub imported: bool,
}

/// Appends the encoded block to `out`: `raw` is frames then `table_len` bytes of listener table, `packed` the same
/// through a codec, or `None` where that made it no smaller. `filter` appends what it knows of the frames.
pub(crate) fn encode(
    facts: &Facts,
    raw: &[u8],
    table_len: usize,
    packed: Option<(u8, &[u8])>,
    filter: &mut Filter,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.resize(start + HEAD, 0);
    let filter_len = filter.write(&raw[..raw.len() - table_len], out);
    let (codec, payload) = packed.unwrap_or((CODEC_RAW, raw));
    let head = BlockHead {
        first: facts.first,
        count: facts.count,
        raw_len: raw.len() as u32,
        payload_len: payload.len() as u32,
        first_wall: facts.first_wall,
        last_wall: facts.last_wall,
        mono_offset_ns: facts.mono_offset_ns,
        boot_id: facts.boot_id,
        imported: facts.imported,
        table_len: table_len as u32,
        payload_crc: crc32c::crc32c(payload),
        filter_len: filter_len as u16,
        codec,
    };
    let mut bytes = [0; HEAD];
    head.write(&mut bytes);
    out[start..start + HEAD].copy_from_slice(&bytes);
    out.extend_from_slice(payload);
}

/// Appends one listener to a block's table; a name longer than 255 bytes is cut at a character.
pub(crate) fn write_listener(id: u8, name: &str, out: &mut Vec<u8>) {
    let name = &name[..name.floor_char_boundary(255)];
    out.push(id);
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

/// What lies in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Learned at that time; in force from here on.
    Context(UnixNanos, Context<'a>),
    /// A record.
    Record(Seq, Record<'a>),
}

/// A block, checked and unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Seq of the first record.
    pub first: Seq,
    /// Records.
    pub count: u32,
    /// Names of the listeners that took its records.
    pub listeners: BTreeMap<u8, String>,
    /// The boot during which it was received.
    pub boot_id: [u8; 16],
    /// Wall clock minus monotonic clock when it was received, ns.
    pub mono_offset_ns: i64,
    first_wall: UnixNanos,
    last_wall: UnixNanos,
    /// Frames, each already read once without error.
    frames: Vec<u8>,
}

impl Block {
    /// Checks and unpacks what lay under the key `first`. Safe on any bytes: never panics, allocates at most three
    /// times what it holds, 2 MiB.
    pub fn decode(first: Seq, value: &[u8]) -> Result<Self, BlockError> {
        let head = BlockHead::of_whole(first, value)?;
        Self::unpack(&head, &value[head.payload_at()..])
    }

    fn unpack(head: &BlockHead, payload: &[u8]) -> Result<Self, BlockError> {
        let mut frames = match head.codec {
            CODEC_RAW => payload.to_vec(),
            CODEC_ZSTD => decompress(payload, head.raw_len as usize)?,
            _ => join_columns(payload, head.raw_len as usize)?,
        };
        if frames.len() != head.raw_len as usize {
            return Err(BlockError::Content("it unpacks to another length than its header says"));
        }
        let listeners = read_table(&frames[frames.len() - head.table_len as usize..])?;
        frames.truncate(frames.len() - head.table_len as usize);
        count_frames(&frames, head.count)?;
        Ok(Self {
            first: head.first,
            count: head.count,
            listeners,
            boot_id: head.boot_id,
            mono_offset_ns: head.mono_offset_ns,
            first_wall: head.first_wall,
            last_wall: head.last_wall,
            frames,
        })
    }

    /// Its records, in order.
    pub fn records(&self) -> impl Iterator<Item = (Seq, Record<'_>)> {
        let records = Frames::new(&self.frames).map_while(Result::ok).filter(|frame| frame.received.is_record());
        (self.first.0..).map(Seq).zip(records)
    }

    /// Its records with the context that they need, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut seq = self.first;
        Frames::new(&self.frames).map_while(Result::ok).filter_map(move |frame| {
            if !frame.received.is_record() {
                return Context::read(frame.raw).map(|context| Entry::Context(frame.received.wall, context));
            }
            let at = seq;
            seq = seq.plus(1);
            Some(Entry::Record(at, frame))
        })
    }

    /// Its records and context as they lie there, headers and all: what stands in no message of it does not stand here.
    pub fn bytes(&self) -> &[u8] {
        &self.frames
    }

    /// One after its last record.
    pub const fn next(&self) -> Seq {
        self.first.plus(self.count as u64)
    }

    /// Name of a listener, `unknown` when the store was not told.
    pub fn listener_name(&self, id: u8) -> &str {
        self.listeners.get(&id).map_or("unknown", String::as_str)
    }

    /// Earliest receive time in it.
    pub const fn first_wall(&self) -> UnixNanos {
        self.first_wall
    }

    /// Latest receive time in it.
    pub const fn last_wall(&self) -> UnixNanos {
        self.last_wall
    }
}

fn join_columns(payload: &[u8], raw_len: usize) -> Result<Vec<u8>, BlockError> {
    let columns = decompress(payload, columns_limit(raw_len))?;
    let mut frames = Vec::new();
    join(&columns, raw_len, &mut frames).ok_or(BlockError::Content("its columns do not make records"))?;
    Ok(frames)
}

/// At most `limit` bytes.
fn decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, BlockError> {
    // A context takes about 100 KiB: made once per thread, not once per block.
    thread_local! {
        static UNPACK: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    const FAILED: BlockError = BlockError::Content("its content does not unpack");
    UNPACK.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Decompressor::new().ok();
        }
        let unpack = slot.as_mut().ok_or(FAILED)?;
        unpack.decompress(payload, limit).map_err(|_| FAILED)
    })
}

fn read_table(mut table: &[u8]) -> Result<BTreeMap<u8, String>, BlockError> {
    const BAD: BlockError = BlockError::Content("its listener table is cut short");
    let mut listeners = BTreeMap::new();
    while let [id, len, rest @ ..] = table {
        let (name, rest) = rest.split_at_checked(*len as usize).ok_or(BAD)?;
        listeners.insert(*id, String::from_utf8_lossy(name).into_owned());
        table = rest;
    }
    if table.is_empty() { Ok(listeners) } else { Err(BAD) }
}

fn count_frames(frames: &[u8], count: u32) -> Result<(), BlockError> {
    let mut seen = 0;
    for frame in Frames::new(frames) {
        let frame = frame.map_err(|_| BlockError::Content("a record in it does not close"))?;
        if frame.received.is_record() {
            seen += 1;
        } else if Context::read(frame.raw).is_none() {
            return Err(BlockError::Content("a context in it does not read"));
        }
    }
    if seen == count {
        Ok(())
    } else {
        Err(BlockError::Content("it holds another number of records than its header says"))
    }
}

fn u32_at(bytes: &[u8; HEAD], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEAD], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
