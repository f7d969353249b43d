//! One segment: an LMDB environment in one file, with a table of blocks and a table of what is known about them.

use crate::block::{Block, BlockError, BlockHead};
use crate::env::{self, Blocks, Env, Guard, Mode, READ_DEATHS, Table};
use crate::error::RingError;
use crate::files;
use crate::ledger::Ledger;
use crate::writer::BatchMark;
use heed::{MdbError, PutFlags};
use raven_model::units::{Seq, UnixNanos};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const STATE: &str = "state";
const LEDGER: &str = "ledger";

/// Distance of the seqs looked at behind a part of the tree that cannot be read, and most of them.
const PROBE: u64 = 256;
const PROBES: usize = 1 << 20;

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Seq of the first record; the name of its file.
    pub first: Seq,
    /// One after the last record.
    pub next: Seq,
    /// Bytes of messages.
    pub raw_bytes: u64,
    /// Bytes of encoded blocks.
    pub stored_bytes: u64,
    /// Length of its file since it was sealed; a shorter one has lost its tail. 0 while it is open.
    pub file_bytes: u64,
    /// Earliest receive time; none when empty.
    pub first_wall: Option<UnixNanos>,
    /// Latest receive time; none when empty.
    pub last_wall: Option<UnixNanos>,
}

impl Summary {
    pub(crate) const fn empty(first: Seq) -> Self {
        Self { first, next: first, raw_bytes: 0, stored_bytes: 0, file_bytes: 0, first_wall: None, last_wall: None }
    }

    /// Records between its ends, damaged ones too.
    pub const fn span(&self) -> u64 {
        self.next.0.saturating_sub(self.first.0)
    }

    /// True when it has no record.
    pub const fn is_empty(&self) -> bool {
        self.span() == 0
    }
}

/// Records from a listener since the ring was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Total {
    pub records: u64,
    pub bytes: u64,
    pub refused: u64,
}

/// Committed together with the blocks it speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub mark: Option<BatchMark>,
    pub held: Summary,
    pub totals: BTreeMap<String, Total>,
    /// Records that the collectors handed over since the ring was made, by their own count.
    #[serde(default)]
    pub received: u64,
}

/// Why a commit did not happen.
pub(crate) enum NotWritten {
    /// The segment has no room: go on in the next one.
    Full,
    /// The disk failed: the environment must be opened anew before it is used again.
    Failed(RingError),
}

/// A segment, open for writing or sealed.
pub(crate) struct Segment {
    pub path: PathBuf,
    env: Env,
    blocks: Blocks,
    meta: Table,
}

impl Segment {
    /// Makes the tables in a new file, so that the roll need not.
    pub fn format(path: &Path, map: u64) -> Result<(), RingError> {
        let env = env::open(path, Mode::Write { map })?;
        env::create_segment_tables(&env, path).map(drop)
    }

    pub fn open_writable(path: &Path, map: u64) -> Result<Self, RingError> {
        let env = env::open(path, Mode::Write { map })?;
        let (blocks, meta) = env::create_segment_tables(&env, path)?;
        Ok(Self { path: path.to_owned(), env, blocks, meta })
    }

    pub fn open_sealed(path: &Path) -> Result<Self, RingError> {
        Self::open_to_read(path, Mode::Sealed)
    }

    pub fn open_to_read(path: &Path, mode: Mode) -> Result<Self, RingError> {
        let env = env::open(path, mode)?;
        let tables = env::open_segment_tables(&env, path)?;
        let what = || RingError::Damaged { path: path.to_owned(), what: "it has no table of blocks".to_owned() };
        let (blocks, meta) = tables.ok_or_else(what)?;
        let segment = Self { path: path.to_owned(), env, blocks, meta };
        segment.refuse_newer()?;
        Ok(segment)
    }

    /// A segment whose newest block a later version of Raven wrote is left alone as a whole: to read what is older in it
    /// would be to count the rest as damaged.
    fn refuse_newer(&self) -> Result<(), RingError> {
        let mut refused = Ok(());
        // What cannot be read here is not newer: whoever reads it counts it.
        let _ = self.each_block_back(|_, value| {
            if let Err(error @ BlockError::Version(_)) = BlockHead::read(value) {
                refused = Err(RingError::Newer { path: self.path.clone(), what: error.to_string() });
            }
            false
        });
        refused
    }

    /// Bytes up to the last page in use.
    pub fn used(&self) -> u64 {
        env::used(&self.env)
    }

    /// Writes blocks, state and (when given) the ledger in one synchronous transaction: all or nothing.
    pub fn write<'a>(
        &self,
        blocks: impl Iterator<Item = (Seq, &'a [u8])>,
        state: &State,
        ledger: Option<&Ledger>,
    ) -> Result<(), NotWritten> {
        self.try_write(blocks, state, ledger).map_err(|error| match error {
            heed::Error::Mdb(MdbError::MapFull) => NotWritten::Full,
            other => NotWritten::Failed(RingError::lmdb("write to", &self.path, other)),
        })
    }

    fn try_write<'a>(
        &self,
        blocks: impl Iterator<Item = (Seq, &'a [u8])>,
        state: &State,
        ledger: Option<&Ledger>,
    ) -> heed::Result<()> {
        let mut txn = self.env.write_txn()?;
        for (first, value) in blocks {
            self.blocks.put_with_flags(&mut txn, PutFlags::APPEND, &first.0, value)?;
        }
        self.meta.put(&mut txn, STATE, &env::seal(state))?;
        if let Some(ledger) = ledger {
            self.meta.put(&mut txn, LEDGER, &env::seal(ledger))?;
        }
        txn.commit()
    }

    /// What was committed last; `None` when nothing was, or when it is damaged.
    pub fn state(&self) -> Result<Option<State>, RingError> {
        self.meta_value(STATE)
    }

    /// The copy of the ledger.
    pub fn ledger(&self) -> Result<Option<Ledger>, RingError> {
        self.meta_value(LEDGER)
    }

    fn meta_value<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, RingError> {
        let txn = self.env.read_txn().map_err(|e| self.unread(e))?;
        let value = self.meta.get(&txn, key).map_err(|e| self.unread(e))?;
        Ok(value.and_then(env::unseal))
    }

    /// Hands the block that holds `seq`, or else the first one after it, to `read`.
    pub fn with_block_at<T>(&self, seq: Seq, read: impl FnOnce(Seq, &[u8]) -> T) -> Result<Option<T>, RingError> {
        let txn = self.env.read_txn().map_err(|e| self.unread(e))?;
        let before = self.blocks.get_lower_than_or_equal_to(&txn, &seq.0).map_err(|e| self.unread(e))?;
        let holds = |value: &[u8]| BlockHead::read(value).map_or(true, |head| seq < head.next());
        let found = match before.filter(|(first, value)| *first == seq.0 || holds(value)) {
            None => self.blocks.get_greater_than(&txn, &seq.0).map_err(|e| self.unread(e))?,
            found => found,
        };
        Ok(found.map(|(first, value)| {
            let read = read(Seq(first), value);
            env::let_go(value);
            read
        }))
    }

    /// First seq of the block behind the one at `first`.
    pub fn key_after(&self, first: Seq) -> Result<Option<Seq>, RingError> {
        let txn = self.env.read_txn().map_err(|e| self.unread(e))?;
        let after = self.blocks.get_greater_than(&txn, &first.0).map_err(|e| self.unread(e))?;
        Ok(after.map(|(first, _)| Seq(first)))
    }

    /// Hands every block from `from` on to `read`, oldest first, until it returns false. Parts of the tree that LMDB
    /// cannot read are passed over; all blocks begin below `behind`. Returns where to go on, `None` at the end.
    pub fn each_block(&self, from: Seq, behind: Seq, mut read: impl FnMut(Seq, &[u8]) -> bool) -> Option<Seq> {
        let (mut at, mut more) = (Some(from), true);
        while let Some(seq) = at.filter(|_| more) {
            at = match self.with_block_at(seq, |key, value| (key, read(key, value))) {
                Ok(Some((key, wanted))) => {
                    more = wanted;
                    self.key_after(key).unwrap_or_else(|_| self.readable_behind(key, behind))
                }
                Ok(None) => None,
                Err(_) => self.readable_behind(seq, behind),
            };
        }
        at
    }

    /// The first block found behind `seq`, below `behind`, where the tree around `seq` cannot be read. Looks at every
    /// 256th seq, always the same ones, so that whoever asks from within a gap is told the same end of it.
    pub fn readable_behind(&self, seq: Seq, behind: Seq) -> Option<Seq> {
        let probes =
            (seq.0 / PROBE + 1..).map(|n| Seq(n.saturating_mul(PROBE))).take(PROBES).take_while(|at| *at < behind);
        probes.into_iter().find_map(|at| self.with_block_at(at, |key, _| key).ok().flatten()).filter(|key| *key > seq)
    }

    /// First seq of what follows the block at `first`; `behind` when nothing does.
    pub fn end_of(&self, first: Seq, behind: Seq) -> Seq {
        let next = self.key_after(first).unwrap_or_else(|_| self.readable_behind(first, behind));
        next.unwrap_or(behind).min(behind)
    }

    /// Hands every block to `read`, newest first, until it returns false.
    pub fn each_block_back(&self, mut read: impl FnMut(Seq, &[u8]) -> bool) -> Result<(), RingError> {
        let txn = self.env.read_txn().map_err(|e| self.unread(e))?;
        for entry in self.blocks.rev_iter(&txn).map_err(|e| self.unread(e))? {
            let (first, value) = entry.map_err(|e| self.unread(e))?;
            if !read(Seq(first), value) {
                break;
            }
        }
        Ok(())
    }

    fn unread(&self, error: heed::Error) -> RingError {
        RingError::lmdb("read", &self.path, error)
    }
}

/// What was found in a segment when the ring was opened.
pub(crate) struct Inspected {
    pub held: Summary,
    pub state: Option<State>,
    pub ledger: Option<Ledger>,
    /// Ranges of blocks that cannot be read, and holes.
    pub bad: Vec<(Seq, Seq, String)>,
}

/// Reads a segment that the catalogue does not vouch for: its state, and its newest blocks in full until `budget`
/// bytes are read.
pub(crate) fn inspect(note: PathBuf, path: &Path, first: Seq, budget: u64) -> Result<Inspected, RingError> {
    let guard =
        Guard::enter(note, path, READ_DEATHS).map_err(|what| RingError::Damaged { path: path.to_owned(), what })?;
    let segment = Segment::open_sealed(path)?;
    let mut found =
        Inspected { held: Summary::empty(first), state: segment.state()?, ledger: segment.ledger()?, bad: Vec::new() };
    if let Some(state) = &found.state {
        found.held = Summary { first, ..state.held };
    }
    found.scan(&segment, budget)?;
    drop(segment);
    drop(guard);
    Ok(found)
}

impl Inspected {
    fn scan(&mut self, segment: &Segment, budget: u64) -> Result<(), RingError> {
        let (mut left, mut oldest) = (budget, None);
        // The state knows where the newest block ends; the others end where the next one begins.
        let mut end = self.state.as_ref().map(|state| state.held.next);
        segment.each_block_back(|key, value| {
            end = Some(self.look_at(key, value, end));
            oldest = end;
            left = left.saturating_sub(value.len() as u64);
            left > 0 || self.state.is_none()
        })?;
        let begin = if left > 0 { oldest.or(end).unwrap_or(self.held.first) } else { self.held.first };
        if begin > self.held.first {
            self.bad.push((self.held.first, begin, "records are missing at its beginning".to_owned()));
        }
        Ok(())
    }

    /// Checks one block that should end at `end`; returns where it begins.
    fn look_at(&mut self, key: Seq, value: &[u8], end: Option<Seq>) -> Seq {
        let says = BlockHead::read(value).map_or(key.plus(1), |head| head.next());
        let end = end.unwrap_or(says).max(key.plus(1));
        match Block::decode(key, value) {
            Ok(block) if block.next() < end => self.bad.push((block.next(), end, "records are missing".to_owned())),
            Ok(_) => {}
            Err(error) => self.bad.push((key, end, error.to_string())),
        }
        self.held.next = self.held.next.max(end);
        if self.state.is_none() {
            widen(&mut self.held, value);
        }
        key
    }
}

/// Sums up what the lost state would have said, as far as heads tell.
fn widen(held: &mut Summary, value: &[u8]) {
    let Ok(head) = BlockHead::read(value) else { return };
    held.raw_bytes += u64::from(head.raw_len);
    held.stored_bytes += value.len() as u64;
    held.first_wall = Some(held.first_wall.map_or(head.first_wall, |wall| wall.min(head.first_wall)));
    held.last_wall = Some(held.last_wall.map_or(head.last_wall, |wall| wall.max(head.last_wall)));
}

/// Makes a file with room for a segment, formatted, under its working name; its real name it gets at the roll.
pub(crate) fn prepare(path: &Path, bytes: u64) -> Result<(), RingError> {
    files::remove(path)?;
    files::create_with_room(path, bytes)?;
    Segment::format(path, bytes).inspect_err(|_| {
        let _ = files::remove(path);
    })
}

/// The range around `seq` that cannot be read, and why; `None` when `seq` can be read.
pub(crate) fn damage_in(segment: &Segment, held: &Summary, seq: Seq) -> Result<Option<(Seq, Seq, String)>, RingError> {
    let read = |first, value: &[u8]| (first, Block::decode(first, value).map(|block| block.next()));
    let found = match segment.with_block_at(seq, read) {
        Err(error @ RingError::Database { .. }) => {
            let next = segment.readable_behind(seq, held.next).unwrap_or(held.next);
            return Ok(Some((seq, next, error.to_string())));
        }
        other => other?,
    };
    Ok(match found {
        Some((first, Ok(next))) if first <= seq && seq < next => None,
        Some((first, Err(error))) if first <= seq => Some((first, segment.end_of(first, held.next), error.to_string())),
        Some((first, _)) => Some((seq, first, "records are missing".to_owned())),
        None => Some((seq, held.next, "records are missing".to_owned())),
    })
}
