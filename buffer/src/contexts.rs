//! The history of a stream's contexts: what each key stood for, and when. A block has the contexts that its records
//! need; this table has those that a starting collector needs, and those of records that came before their template.
//!
//! It is a memory, not a record: bounded, and what was not seen for the longest time is forgotten first.
//!
//! Saved as `DIR/ring/<stream>/contexts`, replaced whole:
//!
//! ```text
//!  0      4   5    8     12     16
//!  ┌──────┬───┬────┬─────┬──────┬────────────┐
//!  │"RvnC"│ver│ 0  │count│crc of│ versions … │   little-endian
//!  │      │u8 │3 B │u32  │rest  │            │
//!  └──────┴───┴────┴─────┴──────┴────────────┘
//! ```
//!
//! The crc32c is of the 12 bytes before and the versions behind it. A version is { first_seen u64, last_seen u64,
//! key_len u16, value_len u32, key, value }; the least recently seen stands first.

use crate::error::RingError;
use crate::files::{self, Paths};
use raven_model::record::{CONTEXT_KEY_MAX, Context, RAW_MAX};
use raven_model::units::UnixNanos;
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

const MAGIC: [u8; 4] = *b"RvnC";
const VERSION: u8 = 1;
const HEAD: usize = 16;
const CRC_AT: usize = 12;
/// Bytes of a version before its key.
const FIXED: usize = 22;

/// Largest file that is looked at: more than any table of the usual bounds.
const FILE_MAX: u64 = 64 << 20;

/// What a table may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextLimits {
    /// Versions, of all keys.
    pub entries: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
    /// Versions of one key.
    pub versions: usize,
}

impl Default for ContextLimits {
    fn default() -> Self {
        Self { entries: 65_536, bytes: 16 << 20, versions: 8 }
    }
}

/// A value that a key had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextVersion<'a> {
    /// Whose.
    pub key: &'a [u8],
    /// What; empty when it was withdrawn.
    pub value: &'a [u8],
    /// When it was learned.
    pub first_seen: UnixNanos,
    /// When it was last brought.
    pub last_seen: UnixNanos,
}

#[derive(Debug)]
struct Version {
    value: Box<[u8]>,
    first_seen: UnixNanos,
    last_seen: UnixNanos,
    /// Which call of `note` saw it last: the order of forgetting, which no step of the clock disturbs.
    turn: u64,
}

/// The contexts of a stream, in force and past.
#[derive(Debug, Default)]
pub struct ContextTable {
    limits: ContextLimits,
    /// The versions of each key in the order they were learned; the last one is in force. Never empty.
    keys: HashMap<Box<[u8]>, Vec<Version>>,
    entries: usize,
    bytes: usize,
    turn: u64,
    version: u64,
    forgotten: u64,
}

impl ContextTable {
    /// An empty one with the usual bounds.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one.
    pub fn with_limits(limits: ContextLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The table of a stream as it was last saved, for a process that is not its writer; empty where there is none.
    pub fn load(ring: &Path, stream: &str) -> Result<Self, RingError> {
        Self::read(&Paths::new(ring, stream)).map(Option::unwrap_or_default)
    }

    /// `None` when there is no file.
    pub(crate) fn read(paths: &Paths) -> Result<Option<Self>, RingError> {
        let path = paths.contexts();
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| RingError::io("read", &path, e))?,
        };
        let damaged = |what: &'static str| RingError::Damaged { path: path.clone(), what: what.to_owned() };
        Self::decode(&bytes, ContextLimits::default()).map(Some).map_err(damaged)
    }

    /// Writes it whole and durably.
    pub(crate) fn save(&self, paths: &Paths) -> Result<(), RingError> {
        files::replace_durably(&paths.contexts(), &self.encode())
    }

    /// Notes that `key` stands for `value` at `wall`; an empty value withdraws it. Cheap when that is known. What is
    /// longer than a frame of context may have is not noted.
    pub fn note(&mut self, key: &[u8], value: &[u8], wall: UnixNanos) {
        if key.len() > CONTEXT_KEY_MAX || value.len() > RAW_MAX {
            return;
        }
        self.turn += 1;
        let turn = self.turn;
        match self.keys.get_mut(key).and_then(|versions| versions.last_mut()) {
            Some(newest) if *newest.value == *value => {
                newest.last_seen = newest.last_seen.max(wall);
                newest.turn = turn;
            }
            None if value.is_empty() => {}
            _ => {
                self.add(key, Version { value: value.into(), first_seen: wall, last_seen: wall, turn });
                self.forget();
            }
        }
    }

    fn add(&mut self, key: &[u8], version: Version) {
        self.version += 1;
        self.entries += 1;
        self.bytes += key.len() + version.value.len();
        let Some(versions) = self.keys.get_mut(key) else {
            self.keys.insert(key.into(), vec![version]);
            return;
        };
        versions.push(version);
        if versions.len() > self.limits.versions.max(1) {
            let gone = versions.remove(0);
            self.entries -= 1;
            self.bytes -= key.len() + gone.value.len();
            self.forgotten += 1;
        }
    }

    /// Keeps the bounds. Forgets a sixteenth more than it must, so that a flood of keys costs little each.
    fn forget(&mut self) {
        let ContextLimits { entries, bytes, .. } = self.limits;
        if self.entries <= entries && self.bytes <= bytes {
            return;
        }
        let (most_entries, most_bytes) = (entries - entries / 16, bytes - bytes / 16);
        let mut turns = Vec::with_capacity(self.entries);
        for (key, versions) in &self.keys {
            turns.extend(versions.iter().map(|version| (version.turn, key.len() + version.value.len())));
        }
        turns.sort_unstable();
        let mut oldest_kept = 0;
        for (turn, size) in turns {
            if self.entries <= most_entries && self.bytes <= most_bytes {
                break;
            }
            oldest_kept = turn + 1;
            self.entries -= 1;
            self.bytes -= size;
            self.forgotten += 1;
        }
        self.keys.retain(|_, versions| {
            versions.retain(|version| version.turn >= oldest_kept);
            !versions.is_empty()
        });
        self.version += 1;
    }

    /// What `key` stands for now.
    pub fn in_force(&self, key: &[u8]) -> Option<&[u8]> {
        let newest = self.keys.get(key)?.last()?;
        Some(&*newest.value).filter(|value| !value.is_empty())
    }

    /// What `key` stood for at `wall`: the version learned last before that, `None` when that withdraws it. A record
    /// may come before its template: where nothing was known yet it is what was learned first.
    pub fn at(&self, key: &[u8], wall: UnixNanos) -> Option<&[u8]> {
        let versions = self.keys.get(key)?;
        let known = versions.iter().filter(|version| version.first_seen <= wall).max_by_key(|v| v.first_seen);
        let later = || versions.iter().filter(|version| !version.value.is_empty()).min_by_key(|v| v.first_seen);
        known.or_else(later).map(|version| &*version.value).filter(|value| !value.is_empty())
    }

    /// All versions that are remembered, the oldest of a key first; keys in no order.
    pub fn iter(&self) -> impl Iterator<Item = ContextVersion<'_>> {
        self.keys.iter().flat_map(|(key, versions)| versions.iter().map(move |version| version.with(key)))
    }

    /// Keys in force, for a collector that starts: the most recently seen first, as many as `max_bytes` hold. Read it
    /// with [`raven_model::record::Contexts`].
    pub fn snapshot(&self, max_bytes: usize) -> Vec<u8> {
        let mut in_force: Vec<_> =
            self.keys.iter().filter_map(|(key, versions)| Some((key, versions.last()?))).collect();
        in_force.retain(|(_, version)| !version.value.is_empty());
        in_force.sort_unstable_by_key(|(_, version)| std::cmp::Reverse(version.turn));
        let mut run = Vec::new();
        for (key, version) in in_force {
            let context = Context { key, value: &version.value };
            if run.len() + context.run_len() > max_bytes {
                break;
            }
            context.write_run(&mut run);
        }
        run
    }

    /// Rises whenever a version comes or goes; counted anew when the table is opened.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Rises whenever anything is noted.
    pub(crate) const fn turn(&self) -> u64 {
        self.turn
    }

    /// Versions that are remembered.
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// True when nothing is remembered.
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of keys and values that are remembered.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Versions that were forgotten to keep the bounds, since the table was opened.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn encode(&self) -> Vec<u8> {
        let mut versions: Vec<_> =
            self.keys.iter().flat_map(|(key, versions)| versions.iter().map(move |version| (key, version))).collect();
        versions.sort_unstable_by_key(|(_, version)| version.turn);
        let mut out = Vec::with_capacity(HEAD + versions.len() * FIXED + self.bytes);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        out.extend_from_slice(&(versions.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for (key, version) in versions {
            out.extend_from_slice(&version.first_seen.0.to_le_bytes());
            out.extend_from_slice(&version.last_seen.0.to_le_bytes());
            out.extend_from_slice(&(key.len() as u16).to_le_bytes());
            out.extend_from_slice(&(version.value.len() as u32).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(&version.value);
        }
        let crc = checksum(&out);
        out[CRC_AT..HEAD].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8], limits: ContextLimits) -> Result<Self, &'static str> {
        let (head, mut rest) = bytes.split_first_chunk::<HEAD>().ok_or("it is cut short")?;
        if head[..4] != MAGIC {
            return Err("it is no table of contexts");
        }
        if checksum(bytes) != u32::from_le_bytes([head[12], head[13], head[14], head[15]]) {
            return Err("its checksum is wrong");
        }
        if head[4] != VERSION {
            return Err("a newer Raven wrote it");
        }
        let mut table = Self::with_limits(limits);
        for _ in 0..u32::from_le_bytes([head[8], head[9], head[10], head[11]]) {
            rest = table.take(rest).ok_or("a version in it does not close")?;
        }
        table.forget();
        if rest.is_empty() { Ok(table) } else { Err("it goes on behind its end") }
    }

    /// Adds the version at the start of `bytes`; returns what is behind it.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (first_seen, rest) = bytes.split_first_chunk()?;
        let (last_seen, rest) = rest.split_first_chunk()?;
        let (key_len, rest) = rest.split_first_chunk()?;
        let (value_len, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*key_len).into())?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
        if key.len() > CONTEXT_KEY_MAX || value.len() > RAW_MAX {
            return None;
        }
        self.turn += 1;
        let (first_seen, last_seen) =
            (UnixNanos(u64::from_le_bytes(*first_seen)), UnixNanos(u64::from_le_bytes(*last_seen)));
        self.add(key, Version { value: value.into(), first_seen, last_seen, turn: self.turn });
        Some(rest)
    }
}

impl Version {
    fn with<'a>(&'a self, key: &'a [u8]) -> ContextVersion<'a> {
        ContextVersion { key, value: &self.value, first_seen: self.first_seen, last_seen: self.last_seen }
    }
}

/// Of all but itself.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[HEAD..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use raven_model::record::Contexts;

    const fn wall(n: u64) -> UnixNanos {
        UnixNanos(n)
    }

    fn small(entries: usize, bytes: usize, versions: usize) -> ContextTable {
        ContextTable::with_limits(ContextLimits { entries, bytes, versions })
    }

    /// All that is remembered, in an order.
    fn told(table: &ContextTable) -> Vec<(Vec<u8>, Vec<u8>, u64, u64)> {
        let mut all: Vec<_> =
            table.iter().map(|v| (v.key.to_vec(), v.value.to_vec(), v.first_seen.0, v.last_seen.0)).collect();
        all.sort();
        all
    }

    #[test]
    fn a_record_is_read_with_what_was_in_force_when_it_came() {
        let mut table = ContextTable::new();
        for (value, at) in [(&b"one"[..], 10), (b"one", 15), (b"two", 20), (b"", 30), (b"one", 40)] {
            table.note(b"k", value, wall(at));
        }
        let at = |n| table.at(b"k", wall(n)).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(at(9).as_deref(), Some("one"), "a record that came before its template");
        assert_eq!(at(10).as_deref(), Some("one"));
        assert_eq!(at(19).as_deref(), Some("one"));
        assert_eq!(at(20).as_deref(), Some("two"));
        assert_eq!(at(30), None, "withdrawn");
        assert_eq!(at(u64::MAX).as_deref(), Some("one"));
        assert_eq!((table.in_force(b"k"), table.in_force(b"other")), (Some(&b"one"[..]), None));
        assert_eq!((table.at(b"other", wall(10)), table.len()), (None, 4));
    }

    #[test]
    fn what_is_withdrawn_is_in_force_no_more_and_its_past_stays() {
        let mut table = ContextTable::new();
        table.note(b"never there", b"", wall(1));
        assert!(table.is_empty());
        table.note(b"k", b"one", wall(10));
        table.note(b"k", b"", wall(20));
        assert_eq!((table.in_force(b"k"), table.at(b"k", wall(15))), (None, Some(&b"one"[..])));
        assert_eq!(table.snapshot(1000), b"");
    }

    #[test]
    fn what_is_known_is_only_seen_again() {
        let mut table = ContextTable::new();
        table.note(b"k", b"one", wall(10));
        let version = table.version();
        table.note(b"k", b"one", wall(30));
        table.note(b"k", b"one", wall(20));
        assert_eq!(table.version(), version);
        assert_eq!(told(&table), [(b"k".to_vec(), b"one".to_vec(), 10, 30)]);
        table.note(b"k", b"two", wall(40));
        assert!(table.version() > version);
    }

    #[test]
    fn the_least_recently_seen_is_forgotten_first_and_counted() {
        let mut table = small(4, 1000, 8);
        for key in [b"a", b"b", b"c", b"d", b"a", b"e"] {
            table.note(key, b"v", wall(1));
        }
        assert_eq!((table.len(), table.bytes(), table.forgotten()), (4, 8, 1));
        assert_eq!((table.in_force(b"a"), table.in_force(b"b")), (Some(&b"v"[..]), None));
        // A step of the clock backwards changes nothing about that.
        table.note(b"c", b"v", wall(0));
        table.note(b"f", b"v", wall(0));
        assert_eq!((table.in_force(b"c"), table.in_force(b"d")), (Some(&b"v"[..]), None));
        let mut table = small(100, 1000, 8);
        for n in 0..100_u8 {
            table.note(&[n], &[n; 99], wall(1));
        }
        assert!(table.bytes() <= 1000 && table.len() >= 9, "{}", table.bytes());
        assert_eq!(table.len() as u64 + table.forgotten(), 100);
        assert!(table.in_force(&[99]).is_some());
        table.note(b"k", &[0; 5000], wall(1));
        assert!(table.is_empty(), "larger than the whole table");
    }

    #[test]
    fn a_key_keeps_so_many_versions() {
        let mut table = small(100, 1000, 3);
        for n in 1..=5 {
            table.note(b"k", &[n], wall(n.into()));
        }
        assert_eq!((table.len(), table.bytes(), table.forgotten()), (3, 6, 2));
        assert_eq!(table.at(b"k", wall(1)), Some(&[3_u8][..]), "the earliest that is left");
    }

    #[test]
    fn a_snapshot_holds_the_most_recently_seen_that_fit() {
        let mut table = ContextTable::new();
        for key in [b"a", b"b", b"c", b"a"] {
            table.note(key, b"value", wall(1));
        }
        let keys = |max| Contexts::new(&table.snapshot(max)).map(|context| context.key[0]).collect::<Vec<_>>();
        assert_eq!(keys(1000), b"acb");
        assert_eq!((keys(35), keys(24), keys(11), keys(0)), (b"ac".to_vec(), b"ac".to_vec(), vec![], vec![]));
    }

    #[test]
    fn what_no_frame_can_bring_is_not_noted() {
        let mut table = ContextTable::new();
        table.note(&[0; 257], b"v", wall(1));
        table.note(b"k", &vec![0; RAW_MAX + 1], wall(1));
        assert!(table.is_empty());
        table.note(&[0; 256], &vec![0; RAW_MAX], wall(1));
        assert_eq!(ContextTable::decode(&table.encode(), ContextLimits::default()).unwrap().len(), 1);
    }

    #[test]
    fn a_flood_of_keys_costs_little_each() {
        let mut table = ContextTable::new();
        for n in 0..300_000_u32 {
            table.note(&n.to_le_bytes(), b"value", wall(n.into()));
        }
        assert!(table.len() <= 65_536 && table.len() as u64 + table.forgotten() == 300_000);
    }

    /// A call of `note`.
    fn notes() -> impl Strategy<Value = Vec<(u8, u8, u64)>> {
        prop::collection::vec((0..6_u8, 0..4_u8, 0..50_u64), 0..80)
    }

    fn noted(notes: &[(u8, u8, u64)], mut table: ContextTable) -> ContextTable {
        for (key, value, at) in notes {
            table.note(&[*key], &vec![*value; usize::from(*value) * 7], wall(*at));
        }
        table
    }

    proptest! {
        #[test]
        fn bounds_hold_and_sums_agree(notes in notes(), entries in 0..12_usize, bytes in 0..150_usize, versions in 0..4) {
            let table = noted(&notes, small(entries, bytes, versions as usize));
            let all = told(&table);
            prop_assert!(table.len() <= entries && table.bytes() <= bytes);
            prop_assert_eq!(all.len(), table.len());
            prop_assert_eq!(all.iter().map(|v| v.0.len() + v.1.len()).sum::<usize>(), table.bytes());
            for key in 0..6_u8 {
                prop_assert!(all.iter().filter(|v| v.0 == [key]).count() <= (versions as usize).max(1));
            }
        }

        /// Against a plain list of all that was noted.
        #[test]
        fn each_time_has_the_version_that_was_learned_last_before_it(notes in notes(), key in 0..6_u8, at in 0..60_u64) {
            let table = noted(&notes, small(1000, 1 << 20, 1000));
            let mut learned: Vec<(u64, u8)> = Vec::new();
            for (_, value, first) in notes.iter().filter(|note| note.0 == key) {
                let newest = learned.last().map(|version| version.1);
                if newest != Some(*value) && (newest.is_some() || *value != 0) {
                    learned.push((*first, *value));
                }
            }
            let mut want = None;
            for (first, value) in learned.iter().filter(|version| version.0 <= at) {
                want = want.filter(|(other, _)| other > first).or(Some((*first, *value)));
            }
            if want.is_none() {
                let earliest = learned.iter().filter(|version| version.1 != 0).map(|version| version.0).min();
                want = learned.iter().find(|version| Some(version.0) == earliest && version.1 != 0).copied();
            }
            let want = want.filter(|(_, value)| *value != 0).map(|(_, value)| vec![value; usize::from(value) * 7]);
            prop_assert_eq!(table.at(&[key], wall(at)).map(<[u8]>::to_vec), want);
            let newest = learned.last().filter(|version| version.1 != 0).map(|version| version.1);
            prop_assert_eq!(table.in_force(&[key]).map(|value| value[0]), newest);
        }

        #[test]
        fn what_was_saved_reads_back_in_the_same_order(notes in notes(), more in notes()) {
            let table = noted(&notes, ContextTable::new());
            let read = ContextTable::decode(&table.encode(), ContextLimits::default()).unwrap();
            prop_assert_eq!(told(&read), told(&table));
            prop_assert_eq!(read.snapshot(usize::MAX), table.snapshot(usize::MAX));
            prop_assert_eq!(told(&noted(&more, read)), told(&noted(&more, table)));
        }

        #[test]
        fn every_changed_bit_of_a_table_is_noticed(notes in notes(), at: prop::sample::Index, bit in 0..8, cut: bool) {
            let mut bytes = noted(&notes, ContextTable::new()).encode();
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1_u8 << bit;
            }
            prop_assert!(ContextTable::decode(&bytes, ContextLimits::default()).is_err());
        }

        #[test]
        fn any_bytes_are_no_harm(mut bytes in prop::collection::vec(0_u8..4, 0..200), count in 0..5_u8) {
            let _ = ContextTable::decode(&bytes, ContextLimits::default());
            if bytes.len() >= HEAD {
                bytes[..HEAD].copy_from_slice(b"RvnC\x01\0\0\0\0\0\0\0\0\0\0\0");
                bytes[8] = count;
                let crc = checksum(&bytes);
                bytes[CRC_AT..HEAD].copy_from_slice(&crc.to_le_bytes());
                if let Ok(table) = ContextTable::decode(&bytes, ContextLimits::default()) {
                    prop_assert!(table.len() <= count.into());
                }
            }
        }
    }
}
