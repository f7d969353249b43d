//! The bytes of a block in columns: what makes flow records compress.
//!
//! A datagram of flows is a table: rows of equal length, and in each column (the third byte of the source address, say)
//! values that hardly differ. Row by row zstd sees none of that. Here the rows of all frames of a block that have the
//! same length are written column by column, which takes a third less disk, and less CPU too, as zstd has less to do.
//!
//! What the rows mean is not known here and need not be: their length, the *stride*, is the distance at which a frame
//! is most like itself. A wrong guess costs compression, never a byte.
//!
//! ```text
//!  u8 groups, then each { u16 stride, u32 rows }       frames of one stride are one group; rows of all its frames
//!  u32 frames, then each u8                            0: whole in `rest`, 1…: its last whole rows lie in that group
//!  rest                                                frames without those rows, and what follows the frames
//!  columns of group 1, of group 2 …                    each `stride` columns of `rows` bytes              little-endian
//! ```

use raven_model::record::frame_span;

/// Longest row that is looked for, bytes.
const STRIDE_MAX: usize = 320;

/// Shortest.
const STRIDE_MIN: usize = 8;

/// Bytes of a frame that are compared with those a stride earlier, and fewest that tell anything.
const WINDOW: usize = 256;
const WINDOW_MIN: usize = 64;

/// Groups of a block. Frames of more strides than this stay as they are.
const GROUPS_MAX: usize = 32;

/// Frames of a block whose stride is looked for anew: it takes 10 µs.
const SEARCHES: u32 = 16;

/// Remembered strides, a power of two.
const REMEMBERED: usize = 1024;

/// Most bytes that the columns of `raw_len` bytes take: the tables, and a byte a frame.
pub(crate) const fn columns_limit(raw_len: usize) -> usize {
    raw_len + raw_len / 16 + 5 + 6 * GROUPS_MAX
}

/// Some frames' rows.
#[derive(Debug, Default)]
struct Group {
    stride: usize,
    rows: Vec<u8>,
}

/// Writes frames as columns. Keeps its memory from block to block.
pub(crate) struct Columns {
    /// By sender and length of the frame: those and the stride, 0 where there is none.
    strides: Box<[(u32, u16)]>,
    groups: Vec<Group>,
    /// Of them, those of the block at hand.
    used: usize,
    selectors: Vec<u8>,
    rest: Vec<u8>,
    searches: u32,
}

impl Columns {
    pub fn new() -> Self {
        Self {
            strides: vec![(0, 0); REMEMBERED].into(),
            groups: Vec::new(),
            used: 0,
            selectors: Vec::new(),
            rest: Vec::new(),
            searches: 0,
        }
    }

    /// Looks for all strides anew: a sender may have changed what it sends.
    pub fn forget(&mut self) {
        self.strides.fill((0, 0));
    }

    /// Replaces `out` by `raw`, its first `frames` bytes being frames, in columns. False, and nothing is
    /// replaced, when no frame has rows.
    pub fn split(&mut self, raw: &[u8], frames: usize, out: &mut Vec<u8>) -> bool {
        (self.used, self.searches) = (0, 0);
        self.selectors.clear();
        self.rest.clear();
        let mut at = 0;
        while let Some((start, end)) = frame_span(&raw[at..frames]).filter(|(_, end)| at + end <= frames) {
            let frame = &raw[at..at + end];
            let stride = self.stride(frame, start);
            let group = if stride == 0 { None } else { self.group(stride) };
            let whole = group.map_or(end, |_| start + (end - start) % stride);
            self.rest.extend_from_slice(&frame[..whole]);
            if let Some(group) = group {
                self.groups[group].rows.extend_from_slice(&frame[whole..]);
            }
            self.selectors.push(group.map_or(0, |group| group as u8 + 1));
            at += end;
        }
        self.rest.extend_from_slice(&raw[at..]);
        if self.used > 0 {
            self.write(out);
        }
        self.used > 0
    }

    fn write(&self, out: &mut Vec<u8>) {
        let groups = &self.groups[..self.used];
        let columns: usize = groups.iter().map(|group| group.rows.len()).sum();
        let before = 1 + 6 * groups.len() + 4 + self.selectors.len() + self.rest.len();
        // What is written over needs no zeros: only what is longer than the last block gets them.
        out.resize(before + columns, 0);
        let (before, mut columns) = out.split_at_mut(before);
        for group in groups {
            let (these, behind) = columns.split_at_mut(group.rows.len());
            transpose(&group.rows, group.stride, these);
            columns = behind;
        }
        self.write_tables(before);
    }

    fn write_tables(&self, mut out: &mut [u8]) {
        let groups = &self.groups[..self.used];
        let mut put = |bytes: &[u8]| {
            let (here, behind) = std::mem::take(&mut out).split_at_mut(bytes.len());
            here.copy_from_slice(bytes);
            out = behind;
        };
        put(&[groups.len() as u8]);
        for group in groups {
            put(&(group.stride as u16).to_le_bytes());
            put(&((group.rows.len() / group.stride) as u32).to_le_bytes());
        }
        put(&(self.selectors.len() as u32).to_le_bytes());
        put(&self.selectors);
        put(&self.rest);
    }

    /// The group of `stride`, emptied if this block had none yet.
    fn group(&mut self, stride: usize) -> Option<usize> {
        if let Some(found) = self.groups[..self.used].iter().position(|group| group.stride == stride) {
            return Some(found);
        }
        if self.used == GROUPS_MAX {
            return None;
        }
        if self.used == self.groups.len() {
            self.groups.push(Group::default());
        }
        let group = &mut self.groups[self.used];
        group.stride = stride;
        group.rows.clear();
        self.used += 1;
        Some(self.used - 1)
    }

    /// Length of the rows that a frame's message (from `start`) consists of; 0 for none.
    fn stride(&mut self, frame: &[u8], start: usize) -> usize {
        let (message, sender) = (&frame[start..], &frame[start - 4..start]);
        let key = u32::from_le_bytes([sender[0], sender[1], sender[2], sender[3]])
            .rotate_left(16)
            .wrapping_add(message.len() as u32)
            .wrapping_mul(0x9e37_79b1);
        let slot = key as usize >> 8 & (REMEMBERED - 1);
        let (of, known) = self.strides[slot];
        if of == key && (known == 0 || is_alike(message, known as usize)) {
            return known as usize;
        }
        if self.searches == SEARCHES {
            return 0;
        }
        self.searches += 1;
        let stride = find_stride(message);
        self.strides[slot] = (key, stride as u16);
        stride
    }
}

/// Bytes at the end that equal those `stride` earlier, of how many.
fn alike(message: &[u8], stride: usize) -> (usize, usize) {
    let Some(earlier) = message.len().checked_sub(stride) else { return (0, 0) };
    let window = earlier.min(WINDOW);
    let (now, before) = (&message[message.len() - window..], &message[earlier - window..earlier]);
    (now.iter().zip(before).map(|(a, b)| usize::from(a == b)).sum(), window)
}

/// At least 3 of 10 bytes.
fn is_alike(message: &[u8], stride: usize) -> bool {
    let (equal, of) = alike(message, stride);
    of >= WINDOW_MIN && equal * 10 >= of * 3
}

/// The distance at which the message is most like itself: the shortest of those that are nearly as good, as two rows
/// are as alike as one. 0 when it is not.
fn find_stride(message: &[u8]) -> usize {
    let longest = message.len().saturating_sub(WINDOW_MIN).min(STRIDE_MAX);
    let share = |stride| {
        let (equal, of) = alike(message, stride);
        equal * WINDOW / of.max(1)
    };
    let best = (STRIDE_MIN..=longest).map(share).max().unwrap_or(0);
    if best * 10 < WINDOW * 3 {
        return 0;
    }
    (STRIDE_MIN..=longest).find(|stride| share(*stride) * 10 >= best * 9).unwrap_or(0)
}

/// Rows of `stride` bytes, or columns of as many, to columns or rows: `out[c * count + r] = rows[r * stride + c]`.
fn transpose(rows: &[u8], stride: usize, out: &mut [u8]) {
    let count = rows.len() / stride;
    if count < TILE || stride < TILE {
        for (row, bytes) in rows.chunks_exact(stride).enumerate() {
            for (column, byte) in bytes.iter().enumerate() {
                out[column * count + row] = *byte;
            }
        }
        return;
    }
    for row in tiles(count) {
        for column in tiles(stride) {
            let tile = std::array::from_fn(|i| le_u64(&rows[(row + i) * stride + column..]));
            for (i, piece) in turn(tile).into_iter().enumerate() {
                out[(column + i) * count + row..][..TILE].copy_from_slice(&piece.to_le_bytes());
            }
        }
    }
}

/// Bytes of a side of the squares that are turned at once: those of a `u64`.
const TILE: usize = 8;

/// Where the tiles of a side begin; the last one ends with the side and may lie over the one before.
fn tiles(side: usize) -> impl Iterator<Item = usize> {
    (0..side).step_by(TILE).map(move |at| at.min(side - TILE))
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Byte c of number r becomes byte r of number c: quarters, then pairs, then single bytes change places.
fn turn(mut tile: [u64; TILE]) -> [u64; TILE] {
    for (apart, mask) in [(4, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)] {
        for low in (0..TILE).filter(|i| i & apart == 0) {
            let (high, shift) = (low + apart, 8 * apart);
            let swapped = (tile[low] >> shift ^ tile[high]) & mask;
            tile[high] ^= swapped;
            tile[low] ^= swapped << shift;
        }
    }
    tile
}

/// Undoes [`Columns::split`]: appends the `raw_len` bytes to `out`. `None` for bytes that it cannot have written.
pub(crate) fn join(columns: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Option<()> {
    let (groups, bytes) = columns.split_first()?;
    let (table, bytes) = bytes.split_at_checked(6 * usize::from(*groups))?;
    let (frames, bytes) = bytes.split_first_chunk()?;
    let (selectors, bytes) = bytes.split_at_checked(u32::from_le_bytes(*frames) as usize)?;
    let mut groups = Rows::read(table)?;
    let in_columns = groups.iter().try_fold(0_usize, |sum, group| sum.checked_add(group.bytes.len()))?;
    let (mut rest, mut columns) = bytes.split_at_checked(raw_len.checked_sub(in_columns)?)?;
    for group in &mut groups {
        let (these, behind) = columns.split_at_checked(group.bytes.len())?;
        // Columns are rows of the other table.
        transpose(these, group.bytes.len() / group.stride, &mut group.bytes);
        columns = behind;
    }
    out.reserve(raw_len);
    for selector in selectors {
        let (start, end) = frame_span(rest)?;
        let group = match selector.checked_sub(1) {
            None => None,
            Some(index) => Some(groups.get_mut(usize::from(index))?),
        };
        let whole = group.as_ref().map_or(end, |group| start + (end - start) % group.stride);
        let (frame, behind) = rest.split_at_checked(whole)?;
        out.extend_from_slice(frame);
        if let Some(group) = group {
            out.extend_from_slice(group.take(end - whole)?);
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    (columns.is_empty() && groups.iter().all(|group| group.at == group.bytes.len())).then_some(())
}

/// The rows of a group, given out in order.
struct Rows {
    stride: usize,
    bytes: Vec<u8>,
    at: usize,
}

impl Rows {
    /// All groups of a table, their rows not yet filled in. `None` when they were more than any block holds.
    fn read(table: &[u8]) -> Option<Vec<Self>> {
        let mut room = crate::block::RAW_LIMIT;
        let read = |group: &[u8]| {
            let stride = usize::from(u16::from_le_bytes([group[0], group[1]]));
            let rows = u32::from_le_bytes([group[2], group[3], group[4], group[5]]) as usize;
            let len = stride.checked_mul(rows).filter(|len| (1..=room).contains(len))?;
            room -= len;
            Some(Self { stride, bytes: vec![0; len], at: 0 })
        };
        table.chunks_exact(6).map(read).collect()
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use raven_model::record::{FRAME_MAX, Received, write_frame};
    use raven_model::units::UnixNanos;

    pub fn frames_of(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, raw) in messages.iter().enumerate() {
            let source = if i % 2 == 0 { "192.0.2.7:2055" } else { "[2001:db8::7]:40000" }.parse().unwrap();
            let start = out.len();
            out.resize(start + FRAME_MAX, 0);
            let received = Received::new(source, 0, UnixNanos(i as u64));
            let len = write_frame(&mut out[start..], &received, raw).unwrap();
            out.truncate(start + len);
        }
        out
    }

    /// Datagrams of `rows` rows behind a header of 20 bytes, as exporters send them.
    pub fn flows(datagrams: usize, rows: usize, stride: usize) -> Vec<Vec<u8>> {
        let mut random = 88_172_645_463_325_252_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let datagram = |_| {
            let mut bytes: Vec<u8> = (0..20).map(|_| next() as u8).collect();
            for _ in 0..rows {
                let mut row: Vec<u8> = (0..stride).map(|column| (column * 37 + 11) as u8).collect();
                row[..4].copy_from_slice(&[10, 0, 4, next() as u8]);
                row[4..8].copy_from_slice(&[192, 0, 2, next() as u8 & 31]);
                row[8..10].copy_from_slice(&(next() as u16).to_be_bytes());
                row[13] = next() as u8;
                bytes.extend(row);
            }
            bytes
        };
        (0..datagrams).map(datagram).collect()
    }

    fn round_trip(raw: &[u8], frames: usize) -> bool {
        let (mut columns, mut split, mut joined) = (Columns::new(), Vec::new(), Vec::new());
        let has_rows = columns.split(raw, frames, &mut split);
        assert!(split.len() <= columns_limit(raw.len()), "{} for {}", split.len(), raw.len());
        if has_rows {
            join(&split, raw.len(), &mut joined).unwrap();
            assert!(joined == raw);
        }
        has_rows
    }

    #[test]
    fn the_length_of_a_row_is_found() {
        for stride in [16, 48, 52, 64, 117] {
            assert_eq!(find_stride(&flows(1, 1400 / stride, stride)[0]), stride);
        }
        assert_eq!(find_stride(&flows(1, 1, 48)[0]), 0, "one row is too short to tell");
        let noise: Vec<u8> = flows(70, 0, 48).concat();
        assert_eq!(find_stride(&noise), 0);
    }

    #[test]
    fn rows_turn_to_columns() {
        for (stride, count) in [(1, 1), (3, 20), (20, 3), (8, 8), (9, 17), (48, 27), (313, 40)] {
            let rows: Vec<u8> = (0..stride * count).map(|i| (i % 251) as u8).collect();
            let mut columns = vec![0; rows.len()];
            transpose(&rows, stride, &mut columns);
            let expected: Vec<u8> = (0..stride * count).map(|i| rows[i % count * stride + i / count]).collect();
            assert_eq!(columns, expected, "{stride} by {count}");
        }
    }

    #[test]
    fn a_sender_that_changes_its_rows_is_followed() {
        let (mut columns, mut out) = (Columns::new(), Vec::new());
        // Of one length, of one sender.
        for stride in [48, 64, 28] {
            let mut datagram = flows(1, 0, stride)[0].clone();
            datagram.extend(&flows(1, 1344 / stride, stride)[0][20..]);
            let raw = frames_of(&[datagram]);
            assert!(columns.split(&raw, raw.len(), &mut out));
            assert_eq!(columns.groups[0].stride, stride);
        }
    }

    #[test]
    fn more_kinds_of_rows_than_groups_stay_whole() {
        let mixed: Vec<_> = (0..60).flat_map(|i| flows(1, 12, 40 + i)).collect();
        let (mut columns, mut out, mut used) = (Columns::new(), Vec::new(), 0);
        let raw = frames_of(&mixed);
        // A few are searched for in each block.
        for _ in 0..8 {
            columns.split(&raw, raw.len(), &mut out);
            used = columns.used;
        }
        assert_eq!(used, GROUPS_MAX);
        let mut joined = Vec::new();
        join(&out, raw.len(), &mut joined).unwrap();
        assert!(joined == raw);
    }

    #[test]
    fn tables_that_lie_are_refused() {
        let raw = frames_of(&flows(20, 25, 48));
        let (mut columns, mut split) = (Columns::new(), Vec::new());
        assert!(columns.split(&raw, raw.len(), &mut split));
        for (at, byte) in [(0, 0), (0, 255), (1, 49), (1, 0), (3, 1), (5, 1), (7, 1), (11, 0), (11, 2), (14, 9)] {
            let mut lie = split.clone();
            lie[at] = byte;
            assert!(join(&lie, raw.len(), &mut Vec::new()).is_none(), "{at} {byte}");
        }
        for len in [0, raw.len() - 1, raw.len() + 1] {
            assert!(join(&split, len, &mut Vec::new()).is_none());
        }
        for len in 0..split.len() {
            assert!(join(&split[..len], raw.len(), &mut Vec::new()).is_none());
        }
    }

    proptest! {
        #[test]
        fn what_was_split_joins_again(
            shapes in prop::collection::vec((1_usize..5, 0_usize..40, 1_usize..STRIDE_MAX), 0..12),
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..12),
            table in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let tables = shapes.iter().any(|(_, rows, _)| *rows > 30);
            let mut messages: Vec<_> = shapes.iter().flat_map(|(n, rows, stride)| flows(*n, *rows, *stride.max(&14))).collect();
            messages.extend(texts);
            let mut raw = frames_of(&messages);
            let frames = raw.len();
            raw.extend(table);
            let has_rows = round_trip(&raw, frames);
            prop_assert!(has_rows || !tables);
        }

        #[test]
        fn any_bytes_are_joined_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), raw_len in 0_usize..2000) {
            let mut out = Vec::new();
            if join(&bytes, raw_len, &mut out).is_some() {
                prop_assert_eq!(out.len(), raw_len);
            }
        }

        #[test]
        fn changed_columns_are_joined_without_panic(
            changes in prop::collection::vec((0_usize..200, any::<u8>()), 1..6),
        ) {
            let raw = frames_of(&flows(9, 20, 48));
            let (mut columns, mut split) = (Columns::new(), Vec::new());
            columns.split(&raw, raw.len(), &mut split);
            for (at, byte) in changes {
                split[at] = byte;
            }
            let mut out = Vec::new();
            if join(&split, raw.len(), &mut out).is_some() {
                prop_assert_eq!(out.len(), raw.len());
            }
        }
    }
}
