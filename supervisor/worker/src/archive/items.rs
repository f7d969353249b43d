//! The items of an archive: written one behind the other, and found again whatever lies between.
//!
//! ```text
//!  0      4      5   8      12    16       20       24
//!  ┌──────┬──────┬───┬──────┬─────┬────────┬────────┬─────────┐
//!  │"RvnI"│ kind │ 0 │ mark │ len │ crc of │ crc of │ content │   little-endian
//!  │      │  u8  │3 B│ u32  │ u32 │content │ 0..20  │         │
//!  └──────┴──────┴───┴──────┴─────┴────────┴────────┴─────────┘
//! ```
//!
//! Both checksums are crc32c. Where no item begins, the next place is looked for at which one does. The mark is random
//! and the same in all items of an archive: whoever sends us what looks like an item does not know it.

use crc32c::crc32c;

/// Bytes before the content.
pub const ITEM_HEAD: usize = 24;

/// Most bytes of content: a block, the context that was put before it, and some words.
pub const CONTENT_MAX: usize = raven_buffer::block::VALUE_LIMIT + raven_buffer::block::BLOCK_CONTEXT + 1024;

const MAGIC: [u8; 4] = *b"RvnI";

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`super::Head`].
    Head,
    /// [`super::BlockItem`].
    Block,
    /// [`super::Gap`].
    Gap,
    /// [`super::End`].
    End,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Head, Self::Block, Self::Gap, Self::End];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// As bytes.
///
/// # Panics
/// When the content is longer than [`CONTENT_MAX`].
pub fn item(mark: u32, kind: Kind, content: &[u8]) -> Vec<u8> {
    assert!(content.len() <= CONTENT_MAX, "an item of {} bytes", content.len());
    let mut out = Vec::with_capacity(ITEM_HEAD + content.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    out.extend_from_slice(&mark.to_le_bytes());
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c(content).to_le_bytes());
    out.extend_from_slice(&crc32c(&out).to_le_bytes());
    out.extend_from_slice(content);
    out
}

/// What lies in an archive.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// An item: where it begins, what it is, all of its bytes (the content from [`ITEM_HEAD`] on).
    Item(u64, Kind, Vec<u8>),
    /// These bytes are none: first, and one after the last.
    Damage(u64, u64),
}

/// Finds items in bytes that come piece by piece. Never holds much more than one.
#[derive(Debug, Default)]
pub struct Items {
    bytes: Vec<u8>,
    /// Of `bytes`, those that are done with.
    done: usize,
    /// Where in the archive `bytes` begins.
    offset: u64,
    damage: Option<u64>,
    /// That of the first item.
    mark: Option<u32>,
}

impl Items {
    /// More of it.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.done);
        self.offset += self.done as u64;
        self.done = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next item or damage; `None` when more bytes are needed.
    pub fn next(&mut self) -> Option<Found> {
        loop {
            let rest = &self.bytes[self.done..];
            let head = rest.first_chunk::<ITEM_HEAD>()?;
            match read_head(head).filter(|head| self.mark.is_none_or(|mark| mark == head.mark)) {
                Some(ItemHead { kind, mark, len, crc }) => {
                    let whole = rest.get(..ITEM_HEAD + len)?;
                    let len = whole.len();
                    if crc32c(&whole[ITEM_HEAD..]) != crc {
                        // The head can be trusted: what follows it is not looked at as if it could be an item.
                        self.lose(len);
                    } else if self.damage.is_some() {
                        // What was lost before it first.
                        return self.end_damage();
                    } else {
                        let found = Found::Item(self.at(), kind, whole.to_vec());
                        (self.mark, self.done) = (Some(mark), self.done + len);
                        return Some(found);
                    }
                }
                None => self.lose(skip(rest)),
            }
        }
    }

    /// After the last byte: what is no whole item.
    pub fn end(&mut self) -> Option<Found> {
        let left = self.bytes.len() - self.done;
        if left > 0 {
            self.lose(left);
        }
        self.end_damage()
    }

    /// Where the next item is looked for.
    pub fn at(&self) -> u64 {
        self.offset + self.done as u64
    }

    fn lose(&mut self, bytes: usize) {
        self.damage.get_or_insert(self.offset + self.done as u64);
        self.done += bytes;
    }

    fn end_damage(&mut self) -> Option<Found> {
        self.damage.take().map(|from| Found::Damage(from, self.at()))
    }
}

struct ItemHead {
    kind: Kind,
    mark: u32,
    len: usize,
    crc: u32,
}

fn read_head(head: &[u8; ITEM_HEAD]) -> Option<ItemHead> {
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let len = word(12) as usize;
    let sound = head[..4] == MAGIC && word(20) == crc32c(&head[..20]) && len <= CONTENT_MAX;
    Kind::of(head[4]).filter(|_| sound).map(|kind| ItemHead { kind, mark: word(8), len, crc: word(16) })
}

/// Bytes up to the next place where an item may begin.
fn skip(rest: &[u8]) -> usize {
    let more = memchr::memchr(MAGIC[0], &rest[1..]);
    more.map_or(rest.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn archive() -> (Vec<u8>, Vec<(Kind, Vec<u8>)>) {
        let items: Vec<(Kind, Vec<u8>)> = vec![
            (Kind::Head, b"who".to_vec()),
            (Kind::Block, (0..400_u32).flat_map(u32::to_le_bytes).collect()),
            (Kind::Gap, Vec::new()),
            (Kind::Block, b"RvnI within".to_vec()),
            (Kind::End, b"sums".to_vec()),
        ];
        (items.iter().flat_map(|(kind, content)| item(7, *kind, content)).collect(), items)
    }

    /// All that is found, fed `step` bytes at a time.
    fn read(bytes: &[u8], step: usize) -> Vec<Found> {
        let (mut items, mut found) = (Items::default(), Vec::new());
        for part in bytes.chunks(step) {
            items.push(part);
            found.extend(std::iter::from_fn(|| items.next()));
        }
        found.extend(items.end());
        found
    }

    fn contents(found: &[Found]) -> Vec<(Kind, Vec<u8>)> {
        let item = |found: &Found| match found {
            Found::Item(_, kind, whole) => Some((*kind, whole[ITEM_HEAD..].to_vec())),
            Found::Damage(..) => None,
        };
        found.iter().filter_map(item).collect()
    }

    #[test]
    fn an_archive_reads_back_in_whatever_pieces_it_comes() {
        let (bytes, items) = archive();
        for step in [1, 7, 100, bytes.len()] {
            let found = read(&bytes, step);
            assert_eq!((contents(&found), found.len()), (items.clone(), items.len()), "by {step}");
        }
    }

    #[test]
    fn one_that_was_cut_is_good_up_to_its_last_whole_item() {
        let (bytes, items) = archive();
        let mut end = 0;
        let ends: Vec<usize> = items
            .iter()
            .map(|(_, content)| {
                end += ITEM_HEAD + content.len();
                end
            })
            .collect();
        for cut in 0..bytes.len() {
            let found = read(&bytes[..cut], 64);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(contents(&found), items[..whole], "cut at {cut}");
            let lost = whole.checked_sub(1).map_or(0, |last| ends[last]);
            let damage = found.iter().find(|found| matches!(found, Found::Damage(..)));
            let named = (lost < cut).then_some(Found::Damage(lost as u64, cut as u64));
            assert_eq!(damage, named.as_ref(), "cut at {cut}");
        }
    }

    #[test]
    fn what_a_stranger_sent_is_not_taken_for_an_item_where_one_is_damaged() {
        let message = item(8, Kind::Block, b"forged");
        let mut bytes = [item(7, Kind::Head, b"who"), item(7, Kind::Block, &message), item(7, Kind::End, b"")].concat();
        bytes[ITEM_HEAD + 3 + 12] ^= 1;
        let left = [(Kind::Head, b"who".to_vec()), (Kind::End, Vec::new())];
        assert_eq!(contents(&read(&bytes, 50)), left);
    }

    proptest! {
        #[test]
        fn a_changed_bit_costs_one_item_and_is_named(at: prop::sample::Index, bit in 0..8, step in 1_usize..200) {
            let (mut bytes, items) = archive();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let found = read(&bytes, step);
            let damage: Vec<_> = found.iter().filter_map(|found| match found {
                Found::Damage(from, to) => Some(*from..*to),
                Found::Item(..) => None,
            }).collect();
            prop_assert!(damage.len() == 1 && damage[0].contains(&(at as u64)), "{damage:?}");
            let left = contents(&found);
            prop_assert_eq!(left.len(), items.len() - 1);
            prop_assert!(left.iter().all(|item| items.contains(item)));
        }

        #[test]
        fn any_bytes_are_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..500), step in 1_usize..50) {
            read(&bytes, step);
        }
    }
}
