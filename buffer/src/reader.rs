//! Reading sealed segments, in another process than the writer's.
//!
//! A reader holds no lock and nothing that the writer waits for. It never opens the newest segment: that one is asked
//! from the store ([`crate::tail`]). It may die by SIGBUS or SIGSEGV over a damaged file (LMDB trusts what it maps),
//! which harms nobody else; who reads a ring must be prepared to be started again behind the damage.

use crate::block::{Block, BlockHead};
use crate::env::{Mode, READ_DEATHS};
use crate::error::RingError;
use crate::files::{self, Paths};
use crate::ledger::Ledger;
use crate::segment::{Segment, Summary};
use raven_model::units::Seq;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// What there is at a seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The block that holds it.
    Block(Block),
    /// It is lost; reading goes on at `next`.
    Gap {
        /// The next seq that may be there.
        next: Seq,
        /// Why, in words.
        why: String,
    },
    /// In the open segment or above: ask the store.
    Open,
    /// Removed; the oldest segment begins at `first`.
    Before {
        /// Where it begins.
        first: Seq,
    },
}

/// Reads one stream.
pub struct RingReader {
    paths: Paths,
    /// First seqs of the segments, the last one being the open one.
    firsts: Vec<Seq>,
    current: Option<(Seq, Shared)>,
    guard: Option<ReadGuard>,
    mode: Mode,
}

/// By its head and all of its bytes, whether a block is wanted.
pub type Wanted<'a> = &'a mut dyn FnMut(&BlockHead, &[u8]) -> bool;

impl RingReader {
    /// Reads what segments there are; opens none. A stream without a folder has none.
    pub fn open(ring: &Path, stream: &str) -> Result<Self, RingError> {
        let mut reader = Self {
            paths: Paths::new(ring, stream),
            firsts: Vec::new(),
            current: None,
            guard: None,
            mode: Mode::Sealed,
        };
        reader.refresh()?;
        Ok(reader)
    }

    /// Notes in the file `note` (one for each reader) which seq is being looked for. A process that comes back several
    /// times to look for the same one was ended by damage in that segment, and passes over the rest of it.
    pub fn guarded(mut self, note: &Path) -> Result<Self, RingError> {
        self.guard = Some(ReadGuard::open(note)?);
        Ok(self)
    }

    /// For who reads little of most blocks ([`RingReader::find_wanted`]): nothing is read ahead.
    #[must_use]
    pub const fn sparse(mut self) -> Self {
        self.mode = Mode::Sparse;
        self
    }

    /// Looks again which segments there are.
    pub fn refresh(&mut self) -> Result<(), RingError> {
        self.firsts = match files::list_segments(&self.paths.dir()) {
            Err(RingError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        Ok(())
    }

    /// First seq of the oldest segment, when there is one.
    pub fn first(&self) -> Option<Seq> {
        self.firsts.first().copied()
    }

    /// First seqs of the sealed segments, oldest first, as of the last look.
    pub fn sealed(&self) -> &[Seq] {
        self.firsts.split_last().map_or(&[], |(_, sealed)| sealed)
    }

    /// First seq of the open segment, as of the last look.
    pub fn open_first(&self) -> Option<Seq> {
        self.firsts.last().copied()
    }

    /// The block that holds `seq`, or why there is none.
    pub fn find(&mut self, seq: Seq) -> Result<Found, RingError> {
        // Every block is wanted.
        self.find_wanted(seq, &mut |_, _| true).map(|found| found.unwrap_or(Found::Open))
    }

    /// The same, `None` for a block that is not wanted. It is not unpacked: of it only the head, and what `wanted` looks
    /// at, is read and checked.
    pub fn find_wanted(&mut self, seq: Seq, wanted: Wanted<'_>) -> Result<Option<Found>, RingError> {
        // Once more after a look, when the list is older than the ring.
        for _ in 0..8 {
            match self.place(seq) {
                Place::Open => {
                    // Mapped pages count as memory of this process as long as the segment is open.
                    self.current = None;
                    let newest = self.open_first();
                    self.refresh()?;
                    if self.open_first() == newest {
                        return Ok(Some(Found::Open));
                    }
                }
                Place::Before(first) => {
                    self.refresh()?;
                    if self.first() == Some(first) {
                        return Ok(Some(Found::Before { first }));
                    }
                }
                Place::Sealed { first, behind } => {
                    if let Some(why) = self.guard.as_mut().and_then(|guard| guard.enter(seq)) {
                        return Ok(Some(Found::Gap { next: behind, why }));
                    }
                    let found = self.find_in(first, behind, seq, wanted);
                    if let Some(guard) = &mut self.guard {
                        guard.leave();
                    }
                    match found? {
                        Sought::Found(found) => return Ok(Some(found)),
                        Sought::Unwanted => return Ok(None),
                        Sought::Gone => self.refresh()?,
                    }
                }
            }
        }
        Ok(Some(Found::Open))
    }

    fn place(&self, seq: Seq) -> Place {
        let behind = self.firsts.partition_point(|first| *first <= seq);
        match (self.firsts.get(behind.wrapping_sub(1)), self.firsts.get(behind)) {
            (Some(first), Some(behind)) => Place::Sealed { first: *first, behind: *behind },
            (None, Some(first)) => Place::Before(*first),
            (_, None) => Place::Open,
        }
    }

    fn find_in(&mut self, first: Seq, behind: Seq, seq: Seq, wanted: Wanted<'_>) -> Result<Sought, RingError> {
        let segment = match self.segment(first) {
            Ok(segment) => segment,
            Err(RingError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(Sought::Gone);
            }
            Err(error) if error.is_content() => {
                return Ok(Sought::Found(Found::Gap { next: behind, why: error.to_string() }));
            }
            Err(error) => return Err(error),
        };
        let looked = segment.with_block_at(seq, |key, value| {
            let head = BlockHead::read(value).ok().filter(|head| head.first == key && head.holds(seq));
            let read = head.is_none_or(|head| wanted(&head, value));
            read.then(|| (key, Block::decode(key, value)))
        });
        let found = match looked {
            Ok(Some(None)) => return Ok(Sought::Unwanted),
            Err(error @ RingError::Database { .. }) => {
                let next = segment.readable_behind(seq, behind).unwrap_or(behind);
                return Ok(Sought::Found(Found::Gap { next, why: error.to_string() }));
            }
            other => other?.flatten(),
        };
        let name = || format!("{:016x}.mdb", first.0);
        Ok(Sought::Found(match found {
            Some((_, Ok(block))) if block.first <= seq && seq < block.next() => Found::Block(block),
            Some((key, _)) if key > seq => {
                Found::Gap { next: key.min(behind), why: format!("records are missing in {}", name()) }
            }
            Some((key, Ok(block))) => {
                let next = segment.end_of(key, behind).max(seq.plus(1));
                Found::Gap { next, why: format!("records are missing in {} behind {}", name(), block.next().0 - 1) }
            }
            Some((key, Err(error))) => {
                let next = segment.end_of(key, behind);
                Found::Gap { next, why: format!("the block at {key} in {} is damaged: {error}", name()) }
            }
            None => Found::Gap { next: behind, why: format!("records are missing at the end of {}", name()) },
        }))
    }

    fn segment(&mut self, first: Seq) -> Result<&Segment, RingError> {
        if self.current.as_ref().is_none_or(|(open, _)| *open != first) {
            self.current = None;
            let shared = Shared::open(&self.paths.segment(first), self.mode)?;
            self.current = Some((first, shared));
        }
        Ok(self.current.as_ref().expect("just put there").1.segment())
    }

    /// Closes what is open below `below`, so that its room can be given back. To be called when the store asks
    /// ([`crate::tail::Reply::Fence`]), by every reader of the process.
    pub fn fence(&mut self, below: Seq) {
        self.current.take_if(|(first, _)| *first < below);
        self.firsts.retain(|first| *first >= below);
    }

    /// What a sealed segment holds, by its own word; `None` when that is damaged.
    pub fn summary(&mut self, first: Seq) -> Result<Option<Summary>, RingError> {
        Ok(self.segment(first)?.state()?.map(|state| state.held))
    }

    /// The heads of a sealed segment's blocks, oldest first, without unpacking; damaged ones are left out.
    pub fn heads(&mut self, first: Seq) -> Result<Vec<BlockHead>, RingError> {
        let mut heads = Vec::new();
        self.each_block(first, first, |_, value| {
            heads.extend(BlockHead::read(value));
            true
        })?;
        Ok(heads)
    }

    /// Hands each block of the segment `first` from `from` on to `read`, oldest first, as it lies there, until it
    /// returns false. What LMDB cannot read is passed over. Returns where to go on, `None` at the end of the segment.
    pub(crate) fn each_block(
        &mut self,
        first: Seq,
        from: Seq,
        read: impl FnMut(Seq, &[u8]) -> bool,
    ) -> Result<Option<Seq>, RingError> {
        let behind = self.firsts.iter().copied().find(|other| *other > first).unwrap_or(Seq(u64::MAX));
        Ok(self.segment(first)?.each_block(from, behind, read))
    }

    /// The copy of the loss ledger that the store last wrote; empty when there is none.
    pub fn ledger(&self) -> Ledger {
        files::published_ledger(&self.paths).unwrap_or_default()
    }
}

/// What came of looking into a segment.
enum Sought {
    Found(Found),
    Unwanted,
    /// The segment is gone.
    Gone,
}

enum Place {
    Before(Seq),
    Sealed { first: Seq, behind: Seq },
    Open,
}

/// Which seq is being looked for, on disk: two small writes for each block.
struct ReadGuard {
    note: File,
    /// What the predecessor was at when it ended, and how many did.
    before: (Seq, u64),
}

impl ReadGuard {
    fn open(path: &Path) -> Result<Self, RingError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path);
        let note = file.map_err(|e| RingError::io("open", path, e))?;
        let mut bytes = [0; 16];
        let before = match note.read_exact_at(&mut bytes, 0) {
            Ok(()) => u128::from_le_bytes(bytes),
            Err(_) => 0,
        };
        Ok(Self { note, before: (Seq(before as u64), (before >> 64) as u64) })
    }

    /// Why `seq` must not be looked for; else notes it.
    fn enter(&mut self, seq: Seq) -> Option<String> {
        let deaths = if self.before.0 == seq { self.before.1 } else { 0 };
        if deaths >= u64::from(READ_DEATHS) {
            return Some(format!("looking for record {seq} ended this process {deaths} times"));
        }
        self.write(u128::from(seq.0) | u128::from(deaths + 1) << 64);
        None
    }

    fn leave(&mut self) {
        self.before = (Seq(0), 0);
        self.write(0);
    }

    /// A note that cannot be written (full disk) must not keep us from reading.
    fn write(&self, value: u128) {
        let _ = self.note.write_all_at(&value.to_le_bytes(), 0);
    }
}

/// Sealed segments open in this process. LMDB must not open a file twice in a process, and readers are many (each
/// lane of each destination has one).
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Segment>>>> = LazyLock::new(Mutex::default);

/// A share of an open segment.
struct Shared(Option<Arc<Segment>>);

impl Shared {
    /// When it is open already, it stays as it was opened.
    fn open(path: &Path, mode: Mode) -> Result<Self, RingError> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = open.get(path).and_then(Weak::upgrade) {
            return Ok(Self(Some(segment)));
        }
        let segment = Arc::new(Segment::open_to_read(path, mode)?);
        open.insert(path.to_owned(), Arc::downgrade(&segment));
        Ok(Self(Some(segment)))
    }

    fn segment(&self) -> &Segment {
        self.0.as_deref().expect("taken only when dropped")
    }
}

impl Drop for Shared {
    /// Under the lock, so that nobody opens the file while it is being closed.
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.segment().path.clone();
        self.0 = None;
        if open.get(&path).is_some_and(|weak| weak.strong_count() == 0) {
            open.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_dies_several_times_over_one_record_passes_it_over() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("note");
        for _ in 0..READ_DEATHS {
            assert_eq!(ReadGuard::open(&note).unwrap().enter(Seq(7)), None);
        }
        let mut guard = ReadGuard::open(&note).unwrap();
        assert!(guard.enter(Seq(7)).unwrap().contains("record 7"));
        assert_eq!(guard.enter(Seq(8)), None);
        guard.leave();
        assert_eq!(ReadGuard::open(&note).unwrap().enter(Seq(7)), None);
    }
}
