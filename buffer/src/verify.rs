//! Checking every block of a stream: checksum, content, order, that the ledger explains every gap, and its sums.

use crate::block::Block;
use crate::error::RingError;
use crate::files::{self, Paths};
use crate::ledger::Ledger;
use crate::reader::RingReader;
use raven_model::query::VerifyView;
use raven_model::units::Seq;
use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;

/// Problems told one by one; of more only the number is told.
const PROBLEMS_MAX: usize = 1000;

/// Gaps that are kept until they can be held against the ledger; of more only the number is told.
const GAPS_MAX: usize = 100_000;

/// Bytes of encoded blocks that a step reads: some milliseconds.
const SLICE: usize = 1 << 20;

/// What the store says of a seq of the open segment.
pub enum Asked {
    /// The encoded block that holds it, or the first behind it.
    Block(Seq, Vec<u8>),
    /// It is in a sealed segment now.
    Sealed,
    /// Nothing is there yet.
    End,
    /// It does not answer just now.
    Busy,
}

/// Asks the store.
pub type AskStore<'a> = &'a mut dyn FnMut(Seq) -> Asked;

/// What a step of a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// There is more.
    Again,
    /// The store does not answer: later.
    Later,
    /// All is read.
    All,
}

/// A check under way, in steps of some milliseconds.
pub struct Verify {
    reader: RingReader,
    check: Check,
    /// Segments that are still to be read, and where in the first of them.
    left: VecDeque<Seq>,
    from: Option<Seq>,
    /// The open segment is asked from the store up to here; without it that segment is read as the others are.
    open_until: Option<Seq>,
    /// Held to the end, so that no store starts meanwhile and changes the open segment.
    _lock: Option<File>,
}

impl Verify {
    /// Beside a running store, whose open segment is asked from it and checked up to `until`.
    pub fn beside_store(ring: &Path, stream: &str, until: Seq) -> Result<Self, RingError> {
        let reader = RingReader::open(ring, stream)?;
        let left = reader.sealed().iter().copied().collect();
        Ok(Self::new(reader, stream, left, Some(until), None))
    }

    /// Where no store runs, and none can start until this ends.
    pub fn alone(ring: &Path, stream: &str) -> Result<Self, RingError> {
        let lock = lock_out_writer(&Paths::new(ring, stream))?;
        let reader = RingReader::open(ring, stream)?;
        let left = reader.sealed().iter().copied().chain(reader.open_first()).collect();
        Ok(Self::new(reader, stream, left, None, Some(lock)))
    }

    fn new(reader: RingReader, stream: &str, left: VecDeque<Seq>, open_until: Option<Seq>, lock: Option<File>) -> Self {
        let mut check = Check::new(stream, &reader);
        check.view.records_total = open_until.map_or(0, |until| until.0.saturating_sub(check.next.0));
        Self { reader, check, left, from: None, open_until, _lock: lock }
    }

    /// How far it is.
    pub const fn view(&self) -> &VerifyView {
        &self.check.view
    }

    /// Reads on, about a megabyte.
    pub fn step(&mut self, store: AskStore<'_>) -> Result<Checked, RingError> {
        match (self.left.front().copied(), self.open_until) {
            (Some(first), _) => self.segment(first),
            (None, Some(until)) => return self.open_segment(until, store),
            (None, None) => return Ok(Checked::All),
        }
        Ok(Checked::Again)
    }

    fn segment(&mut self, first: Seq) {
        let behind = self.left.get(1).copied().or_else(|| self.reader.open_first().filter(|open| *open > first));
        let name = format!("{:016x}.mdb", first.0);
        let (check, mut budget) = (&mut self.check, SLICE);
        let read = self.reader.each_block(first, self.from.unwrap_or(first), |key, value| {
            check.block(&name, key, value);
            budget = budget.saturating_sub(value.len());
            budget > 0
        });
        self.from = match read {
            Ok(next) => next,
            Err(RingError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                self.check.evicted(behind);
                None
            }
            Err(error) => {
                let end = behind.unwrap_or(self.check.next);
                self.check.unreadable(&error, end);
                None
            }
        };
        if self.from.is_none() {
            self.left.pop_front();
            self.check.end_segment(&name, behind);
        }
    }

    fn open_segment(&mut self, until: Seq, store: AskStore<'_>) -> Result<Checked, RingError> {
        let first = self.reader.open_first().unwrap_or(self.check.next);
        let name = format!("{:016x}.mdb", first.0);
        let (mut at, mut budget) = (self.from.unwrap_or(self.check.next).max(first), SLICE);
        while at < until && budget > 0 {
            match store(at) {
                Asked::Block(key, value) if key >= at => {
                    self.check.block(&name, key, &value);
                    at = self.check.next.max(key.plus(1));
                    budget = budget.saturating_sub(value.len());
                }
                Asked::Block(..) | Asked::End => at = until,
                Asked::Busy => {
                    self.from = Some(at);
                    return Ok(Checked::Later);
                }
                Asked::Sealed => return self.sealed_meanwhile(first),
            }
        }
        self.from = Some(at);
        if at < until {
            return Ok(Checked::Again);
        }
        self.check.end_segment(&name, None);
        Ok(Checked::All)
    }

    /// The open segment was sealed: it is read as the others are, from where we were.
    fn sealed_meanwhile(&mut self, first: Seq) -> Result<Checked, RingError> {
        self.reader.refresh()?;
        self.left = self.reader.sealed().iter().copied().filter(|sealed| *sealed >= first).collect();
        self.check.view.segments_total += self.left.len() as u64;
        self.from = Some(self.check.next.max(first)).filter(|_| !self.left.is_empty());
        // Without one on our list it is not the file that the store means: look again.
        Ok(if self.left.is_empty() { Checked::Later } else { Checked::Again })
    }

    /// What is wrong, held against the loss ledger.
    pub fn finish(mut self) -> Found {
        // The list may be older than the ledger.
        let (first, refreshed) = (self.reader.first(), self.reader.refresh());
        let still = refreshed.is_ok() && self.reader.first() == first;
        let ledger = self.reader.ledger();
        self.check.finish(&ledger, still)
    }
}

/// What a check found.
pub struct Found {
    /// In words.
    pub view: VerifyView,
    /// What is gone and not in the ledger.
    pub uncounted: Vec<(Seq, Seq)>,
}

/// Checks a stream to the end where no store runs. `progress` is called after each step.
pub fn verify(ring: &Path, stream: &str, mut progress: impl FnMut(&VerifyView)) -> Result<VerifyView, RingError> {
    let mut verify = Verify::alone(ring, stream)?;
    while verify.step(&mut |_| Asked::End)? != Checked::All {
        progress(verify.view());
    }
    Ok(verify.finish().view)
}

fn lock_out_writer(paths: &Paths) -> Result<File, RingError> {
    let path = paths.lock();
    let file = File::open(&path).map_err(|e| RingError::io("open", &path, e))?;
    match file.try_lock_shared() {
        Ok(()) => Ok(file),
        Err(_) => Err(RingError::Locked { path }),
    }
}

struct Check {
    view: VerifyView,
    /// Seq that should come next.
    next: Seq,
    /// Ranges that are not there, with the reason where one was seen.
    gaps: Vec<(Seq, Seq, String)>,
    more_problems: u64,
}

impl Check {
    fn new(stream: &str, reader: &RingReader) -> Self {
        let first = reader.first().unwrap_or(Seq(1));
        let segments_total = reader.sealed().len() as u64 + u64::from(reader.open_first().is_some());
        let view = VerifyView {
            stream: stream.to_owned(),
            segments_total,
            first_seq: first,
            next_seq: first,
            ..VerifyView::default()
        };
        Self { view, next: first, gaps: Vec::new(), more_problems: 0 }
    }

    fn problem(&mut self, problem: String) {
        if self.view.problems.len() < PROBLEMS_MAX {
            self.view.problems.push(problem);
        } else {
            self.more_problems += 1;
        }
    }

    fn end_segment(&mut self, name: &str, behind: Option<Seq>) {
        self.view.segments += 1;
        if let Some(behind) = behind.filter(|behind| *behind > self.next) {
            self.skip_to(behind, name, "records are missing at its end");
        }
    }

    /// Nothing of a segment can be read: all up to `end` is a gap, or (the last one) only told.
    fn unreadable(&mut self, error: &RingError, end: Seq) {
        if end > self.next {
            let next = self.next;
            self.gap(next, end, error.to_string());
            self.next = end;
        } else {
            self.problem(error.to_string());
        }
    }

    fn gap(&mut self, first: Seq, next: Seq, why: String) {
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push((first, next, why));
        } else {
            self.more_problems += 1;
        }
    }

    /// It went while we were reading others: what we have checked so far went before it.
    fn evicted(&mut self, behind: Option<Seq>) {
        let behind = behind.unwrap_or(self.next);
        (self.next, self.view.first_seq) = (behind, behind);
        self.view.records = 0;
    }

    fn block(&mut self, name: &str, key: Seq, value: &[u8]) {
        self.view.blocks += 1;
        if key < self.next {
            let next = self.next;
            return self
                .problem(format!("{name}: the block at {key} overlaps what comes before, which ends at {next}"));
        }
        if key > self.next {
            self.skip_to(key, name, "records are missing");
        }
        match Block::decode(key, value) {
            Ok(block) => {
                self.view.records += u64::from(block.count);
                self.next = block.next();
            }
            // Where it ends is known from what comes next.
            Err(error) => self.gap(key, key, format!("{name}: the block at {key} is damaged: {error}")),
        }
        self.view.next_seq = self.next;
    }

    fn skip_to(&mut self, seq: Seq, name: &str, what: &str) {
        let reason =
            self.gaps.last().filter(|(first, next, _)| *first == self.next && first == next).map(|gap| gap.2.clone());
        if reason.is_some() {
            self.gaps.pop();
        }
        let next = self.next;
        self.gap(next, seq, reason.unwrap_or_else(|| format!("{name}: {what}")));
        self.next = seq;
    }

    /// A gap that the ledger knows is told as such; one that it does not know is what must not be. `still`: nothing was
    /// evicted meanwhile, so that the sums must agree.
    fn finish(mut self, ledger: &Ledger, still: bool) -> Found {
        let mut uncounted = Vec::new();
        for (first, next, what) in std::mem::take(&mut self.gaps) {
            let next = next.max(first.plus(1));
            let missing = ledger.uncovered(first, next);
            let told = if missing.is_empty() { "counted in the loss ledger" } else { "NOT in the loss ledger" };
            self.problem(format!("{what} (records {first} to {}, {told})", next.0 - 1));
            uncounted.extend(missing);
        }
        if self.view.first_seq > Seq(1) {
            for (first, next) in ledger.uncovered(Seq(1), self.view.first_seq) {
                self.problem(format!("records {first} to {} are gone and NOT in the loss ledger", next.0 - 1));
                uncounted.push((first, next));
            }
        }
        // A segment that came back after its eviction is held and counted both: only less is wrong.
        let stored = self.next.0.saturating_sub(1);
        let (held, evicted, damaged) = (self.view.records, ledger.evicted, ledger.damaged);
        if still && self.view.problems.is_empty() && held + evicted + damaged < stored {
            self.problem(format!(
                "the ledger does not account for all: {stored} stored, {held} held, {evicted} evicted, {damaged} damaged"
            ));
        }
        if self.more_problems > 0 {
            self.view.problems.push(format!("and {} more problems", self.more_problems));
        }
        self.view.next_seq = self.next;
        self.view.done = true;
        Found { view: self.view, uncounted }
    }
}

/// Bytes on disk that were set aside, and how many files.
pub fn quarantined(ring: &Path) -> (u64, u64) {
    let aside = files::by_age(&ring.join("quarantine"));
    (aside.iter().map(|(_, room)| room).sum(), aside.len() as u64)
}
