//! Checking every block of a stream: checksum, content, order, and that the ledger explains every gap.

use crate::block::Block;
use crate::error::RingError;
use crate::files::{self, Paths};
use crate::ledger::Ledger;
use crate::reader::RingReader;
use raven_model::query::VerifyView;
use raven_model::units::Seq;
use std::fs::File;
use std::path::Path;

/// Problems told one by one; of more only the number is told.
const PROBLEMS_MAX: usize = 1000;

/// Gives the encoded block of the open segment at a seq, or the first behind it: asks the store.
pub type AskStore<'a> = &'a mut dyn FnMut(Seq) -> Option<(Seq, Vec<u8>)>;

/// Checks a stream. The open segment is asked from the store by `open`; without it no store may run, and the open
/// segment is read as the others are. `progress` is called after each segment.
pub fn verify(
    ring: &Path,
    stream: &str,
    open: Option<AskStore<'_>>,
    mut progress: impl FnMut(&VerifyView),
) -> Result<VerifyView, RingError> {
    let mut reader = RingReader::open(ring, stream)?;
    // Held to the end, so that no store starts meanwhile and changes the open segment.
    let _lock = if open.is_none() { Some(lock_out_writer(&Paths::new(ring, stream))?) } else { None };
    let mut check = Check::new(stream, &reader);
    let mut firsts = reader.sealed().to_vec();
    firsts.extend(reader.open_first().filter(|_| open.is_none()));
    let last = reader.open_first();
    for (i, first) in firsts.iter().enumerate() {
        check.segment(&mut reader, *first, firsts.get(i + 1).copied().or(last));
        progress(&check.view);
    }
    if let Some(open) = open {
        check.open_segment(last, open);
    }
    Ok(check.finish(&reader.ledger()))
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

    fn segment(&mut self, reader: &mut RingReader, first: Seq, behind: Option<Seq>) {
        self.view.segments += 1;
        let name = format!("{:016x}.mdb", first.0);
        let read = reader.each_block(first, |key, value| {
            self.block(&name, key, value);
            true
        });
        match read {
            Err(RingError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => self.evicted(behind),
            Err(error) => self.problem(error.to_string()),
            Ok(()) => {}
        }
        if let Some(behind) = behind.filter(|behind| *behind > self.next) {
            self.skip_to(behind, &name, "records are missing at its end");
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
            Err(error) => self.gaps.push((key, key, format!("{name}: the block at {key} is damaged: {error}"))),
        }
        self.view.next_seq = self.next;
    }

    fn skip_to(&mut self, seq: Seq, name: &str, what: &str) {
        let reason =
            self.gaps.last().filter(|(first, next, _)| *first == self.next && first == next).map(|gap| gap.2.clone());
        if reason.is_some() {
            self.gaps.pop();
        }
        self.gaps.push((self.next, seq, reason.unwrap_or_else(|| format!("{name}: {what}"))));
        self.next = seq;
    }

    fn open_segment(&mut self, first: Option<Seq>, open: AskStore<'_>) {
        let Some(first) = first else { return };
        let name = format!("{:016x}.mdb", first.0);
        let mut at = self.next.max(first);
        while let Some((key, value)) = open(at).filter(|(key, _)| *key >= at) {
            self.block(&name, key, &value);
            at = self.next.max(key.plus(1));
        }
        self.view.segments += 1;
    }

    /// A gap that the ledger knows is told as such; one that it does not know is what must not be.
    fn finish(mut self, ledger: &Ledger) -> VerifyView {
        for (first, next, what) in std::mem::take(&mut self.gaps) {
            let next = next.max(first.plus(1));
            let known = ledger.uncovered(first, next).is_empty();
            let told = if known { "counted in the loss ledger" } else { "NOT in the loss ledger" };
            self.problem(format!("{what} (records {first} to {}, {told})", next.0 - 1));
        }
        if self.view.first_seq > Seq(1) {
            for (first, next) in ledger.uncovered(Seq(1), self.view.first_seq) {
                self.problem(format!("records {first} to {} are gone and NOT in the loss ledger", next.0 - 1));
            }
        }
        if self.more_problems > 0 {
            self.view.problems.push(format!("and {} more problems", self.more_problems));
        }
        self.view.next_seq = self.next;
        self.view.done = true;
        self.view
    }
}

/// Bytes on disk that were set aside, and how many files.
pub fn quarantined(ring: &Path) -> (u64, u64) {
    let aside = files::by_age(&ring.join("quarantine"));
    (aside.iter().map(|(_, room)| room).sum(), aside.len() as u64)
}
