//! Reading sealed segments, in another process than the writer's.
//!
//! A reader holds no lock and nothing that the writer waits for. It never opens the newest segment: that one is asked
//! from the store ([`crate::tail`]). It may die by SIGBUS or SIGSEGV over a damaged file (LMDB trusts what it maps),
//! which harms nobody else; who reads a ring must be prepared to be started again behind the damage.

use crate::block::{Block, BlockHead};
use crate::error::RingError;
use crate::files::{self, Paths};
use crate::ledger::Ledger;
use crate::segment::{Segment, Summary};
use raven_model::units::Seq;
use std::collections::HashMap;
use std::io::ErrorKind;
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
}

impl RingReader {
    /// Reads what segments there are; opens none. A stream without a folder has none.
    pub fn open(ring: &Path, stream: &str) -> Result<Self, RingError> {
        let mut reader = Self { paths: Paths::new(ring, stream), firsts: Vec::new(), current: None };
        reader.refresh()?;
        Ok(reader)
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
        // Once more after a look, when the list is older than the ring.
        for _ in 0..8 {
            match self.place(seq) {
                Place::Open => {
                    let newest = self.open_first();
                    self.refresh()?;
                    if self.open_first() == newest {
                        return Ok(Found::Open);
                    }
                }
                Place::Before(first) => {
                    self.refresh()?;
                    if self.first() == Some(first) {
                        return Ok(Found::Before { first });
                    }
                }
                Place::Sealed { first, behind } => {
                    if let Some(found) = self.find_in(first, behind, seq)? {
                        return Ok(found);
                    }
                    self.refresh()?;
                }
            }
        }
        Ok(Found::Open)
    }

    fn place(&self, seq: Seq) -> Place {
        let behind = self.firsts.partition_point(|first| *first <= seq);
        match (self.firsts.get(behind.wrapping_sub(1)), self.firsts.get(behind)) {
            (Some(first), Some(behind)) => Place::Sealed { first: *first, behind: *behind },
            (None, Some(first)) => Place::Before(*first),
            (_, None) => Place::Open,
        }
    }

    /// `None` when the segment is gone.
    fn find_in(&mut self, first: Seq, behind: Seq, seq: Seq) -> Result<Option<Found>, RingError> {
        let segment = match self.segment(first) {
            Ok(segment) => segment,
            Err(RingError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error @ (RingError::Damaged { .. } | RingError::Database { .. })) => {
                return Ok(Some(Found::Gap { next: behind, why: error.to_string() }));
            }
            Err(error) => return Err(error),
        };
        let found = segment.with_block_at(seq, |key, value| (key, Block::decode(key, value)))?;
        let name = || format!("{:016x}.mdb", first.0);
        Ok(Some(match found {
            Some((_, Ok(block))) if block.first <= seq && seq < block.next() => Found::Block(block),
            Some((key, _)) if key > seq => Found::Gap { next: key.min(behind), why: format!("records are missing in {}", name()) },
            Some((key, Ok(block))) => {
                let next = segment.key_after(key)?.unwrap_or(behind).min(behind).max(seq.plus(1));
                Found::Gap { next, why: format!("records are missing in {} behind {}", name(), block.next().0 - 1) }
            }
            Some((key, Err(error))) => {
                let next = segment.key_after(key)?.unwrap_or(behind).min(behind);
                Found::Gap { next, why: format!("the block at {key} in {} is damaged: {error}", name()) }
            }
            None => Found::Gap { next: behind, why: format!("records are missing at the end of {}", name()) },
        }))
    }

    fn segment(&mut self, first: Seq) -> Result<&Segment, RingError> {
        if self.current.as_ref().is_none_or(|(open, _)| *open != first) {
            self.current = None;
            let shared = Shared::open(&self.paths.segment(first))?;
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
        self.segment(first)?.each_block(|_, value| {
            heads.extend(BlockHead::read(value));
            true
        })?;
        Ok(heads)
    }

    /// Hands each block of a sealed segment to `read`, oldest first, as it lies there, until it returns false.
    pub(crate) fn each_block(&mut self, first: Seq, read: impl FnMut(Seq, &[u8]) -> bool) -> Result<(), RingError> {
        self.segment(first)?.each_block(read)
    }

    /// The copy of the loss ledger that the store last wrote; empty when there is none.
    pub fn ledger(&self) -> Ledger {
        let text = std::fs::read(self.paths.ledger()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

enum Place {
    Before(Seq),
    Sealed { first: Seq, behind: Seq },
    Open,
}

/// Sealed segments open in this process. LMDB must not open a file twice in a process, and readers are many (each
/// lane of each destination has one).
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Segment>>>> = LazyLock::new(Mutex::default);

/// A share of an open segment.
struct Shared(Option<Arc<Segment>>);

impl Shared {
    fn open(path: &Path) -> Result<Self, RingError> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = open.get(path).and_then(Weak::upgrade) {
            return Ok(Self(Some(segment)));
        }
        let segment = Arc::new(Segment::open_sealed(path)?);
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
