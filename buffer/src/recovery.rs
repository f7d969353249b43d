//! Opening a ring, whatever state it is in. Nothing that lies in it can make this fail: what cannot be read is set
//! aside, counted and told. Only the disk itself can (full, read-only, not ours).

use crate::block::{Block, BlockHead, Entry};
use crate::catalogue::{Catalogue, Change, Known};
use crate::contexts::ContextTable;
use crate::counts::Counts;
use crate::env::{Guard, READ_DEATHS, WRITE_DEATHS};
use crate::error::RingError;
use crate::files::{self, Paths};
use crate::ledger::{Ledger, Loss, Why};
use crate::segment::{self, Inspected, Segment, State, Summary};
use raven_model::units::Seq;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::Path;

/// How much of the newest segment is read in full when the ring is opened.
const SCAN: u64 = 64 << 20;

/// How far ahead of what is stored seq numbers are given out at a time. When the newest segment is lost, numbering goes
/// on behind these, so that no number is ever given twice.
pub(crate) const RESERVE: u64 = 1 << 20;

/// The same when the catalogue that knew them is lost too.
const FAR: u64 = 1 << 32;

/// How many of the newest blocks are read for the contexts in them, when the table of contexts is lost.
const CONTEXT_BLOCKS: usize = 256;

/// `EPERM`, `ENFILE`, `EMFILE`: beside `EACCES` the errors at opening a segment that say nothing about its content.
const NOT_CONTENT: [i32; 3] = [1, 23, 24];

/// What was found when the ring was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// What was wrong and what was done, a line each; empty after a clean stop, a kill or a power cut.
    pub notes: Vec<String>,
    /// Records found to be lost.
    pub damaged: u64,
    /// Segments set aside.
    pub quarantined: u32,
}

/// The parts of a writer.
pub(crate) struct Opened {
    pub lock: File,
    pub catalogue: Catalogue,
    pub ledger: Ledger,
    pub sealed: VecDeque<Summary>,
    pub open: Segment,
    pub held: Summary,
    pub state: Option<State>,
    pub reserved: Seq,
    pub counts: Counts,
    pub first_commit: Option<Guard>,
    pub contexts: ContextTable,
    /// The table of contexts was read from its file.
    pub contexts_saved: bool,
    pub recovery: Recovery,
}

pub(crate) fn open(paths: &Paths, segment_bytes: u64) -> Result<Opened, RingError> {
    files::make_dir(&paths.dir())?;
    let lock = files::try_lock(&paths.lock())?.ok_or_else(|| RingError::Locked { path: paths.lock() })?;
    let mut recovery = Recovery::default();
    let (catalogue, known) = Catalogue::open(paths, &mut recovery.notes)?;
    if known.damaged > 0 {
        recovery.notes.push(format!("{} entries of the catalogue were damaged and are rebuilt", known.damaged));
    }
    finish_evictions(paths, &catalogue, &known)?;
    tidy(paths)?;
    let mut found = Found {
        paths,
        known: &known,
        sealed: VecDeque::new(),
        newest: None,
        losses: Vec::new(),
        ledgers: Vec::new(),
        recovery,
    };
    found.take_segments()?;
    found.note_missing();
    let (ledger, next) = found.settle();
    let (open, held, first_commit) = found.open_newest(next, segment_bytes)?;
    let state = found.last_state();
    let Found { sealed, mut recovery, .. } = found;
    let reserved = known.reserved.unwrap_or_default().max(held.next);
    let mut changes: Vec<Change<'_>> =
        sealed.iter().filter(|held| known.sealed.get(&held.first) != Some(held)).map(Change::Sealed).collect();
    changes.extend(
        known
            .sealed
            .keys()
            .filter(|first| !sealed.iter().any(|held| held.first == **first))
            .map(|first| Change::Gone(*first)),
    );
    if known.ledger.as_ref() != Some(&ledger) {
        changes.push(Change::Ledger(&ledger));
    }
    if !changes.is_empty() {
        catalogue.save(&changes)?;
    }
    let (contexts, contexts_saved) = open_contexts(paths, &open, sealed.back(), &mut recovery.notes);
    Ok(Opened {
        lock,
        catalogue,
        ledger,
        sealed,
        open,
        held,
        state,
        reserved,
        counts: known.counts.clone().unwrap_or_default(),
        first_commit,
        contexts,
        contexts_saved,
        recovery,
    })
}

/// The table of contexts, and whether its file could be read. Else it is what the newest blocks carry.
fn open_contexts(
    paths: &Paths,
    open: &Segment,
    sealed: Option<&Summary>,
    notes: &mut Vec<String>,
) -> (ContextTable, bool) {
    let damage = match ContextTable::read(paths) {
        Ok(Some(table)) => return (table, true),
        Ok(None) => None,
        Err(error) => Some(error.to_string()),
    };
    let mut table = ContextTable::new();
    let newest = newest_blocks(open, CONTEXT_BLOCKS);
    if let Some(held) = sealed.filter(|_| newest.len() < CONTEXT_BLOCKS) {
        let path = paths.segment(held.first);
        let guard = Guard::enter(paths.guard(), &path, READ_DEATHS);
        if let (Ok(_guard), Ok(segment)) = (guard, Segment::open_sealed(&path)) {
            let before = newest_blocks(&segment, CONTEXT_BLOCKS - newest.len());
            read_contexts(&segment, &before, &mut table);
        }
    }
    read_contexts(open, &newest, &mut table);
    // A ring that never had any, made before there were such tables, is not told of.
    if damage.is_some() || !table.is_empty() {
        let what = damage.unwrap_or_else(|| format!("{} is gone", paths.contexts().display()));
        notes.push(format!("{what}; {} contexts are read back from the newest blocks", table.len()));
    }
    (table, false)
}

/// First seqs of the newest blocks, the newest first.
fn newest_blocks(segment: &Segment, most: usize) -> Vec<Seq> {
    let mut firsts = Vec::new();
    // Of a tree that cannot be read, what could be.
    let _ = segment.each_block_back(|first, _| {
        firsts.push(first);
        firsts.len() < most
    });
    firsts
}

fn read_contexts(segment: &Segment, newest_first: &[Seq], table: &mut ContextTable) {
    for first in newest_first.iter().rev() {
        let _ = segment.with_block_at(*first, |first, value| {
            // What another box learned is in force there, not here.
            if BlockHead::read(value).is_ok_and(|head| head.imported) {
                return;
            }
            let Ok(block) = Block::decode(first, value) else { return };
            for entry in block.entries() {
                if let Entry::Context(wall, context) = entry {
                    table.note(context.key, context.value, wall);
                }
            }
        });
    }
}

/// An eviction is decided durably before its file goes: what a crash left half done is done now.
fn finish_evictions(paths: &Paths, catalogue: &Catalogue, known: &Known) -> Result<(), RingError> {
    for first in &known.evicting {
        remove_segment(paths, *first)?;
        catalogue.save(&[Change::Gone(*first)])?;
    }
    Ok(())
}

/// Removes the file of a segment and what another program may have left beside it.
pub(crate) fn remove_segment(paths: &Paths, first: Seq) -> Result<(), RingError> {
    let path = paths.segment(first);
    files::remove(&files::lmdb_lock(&path))?;
    files::remove(&path)
}

/// A segment that was prepared and not used holds nothing.
fn tidy(paths: &Paths) -> Result<(), RingError> {
    files::remove(&paths.prepared())
}

struct Found<'a> {
    paths: &'a Paths,
    known: &'a Known,
    sealed: VecDeque<Summary>,
    newest: Option<(Summary, Option<State>)>,
    losses: Vec<Loss>,
    ledgers: Vec<Ledger>,
    recovery: Recovery,
}

impl Found<'_> {
    fn take_segments(&mut self) -> Result<(), RingError> {
        let firsts = files::list_segments(&self.paths.dir())?;
        for (i, first) in firsts.iter().enumerate() {
            let path = self.paths.segment(*first);
            let behind = firsts.get(i + 1).copied();
            match (self.vouched(*first, &path), behind) {
                (Some(held), Some(_)) => self.sealed.push_back(held),
                _ => self.look_into(*first, behind, &path)?,
            }
        }
        Ok(())
    }

    /// The catalogue's word for a sealed segment, where the file still has its length.
    fn vouched(&self, first: Seq, path: &Path) -> Option<Summary> {
        let held = self.known.sealed.get(&first)?;
        (held.file_bytes > 0 && files::sizes(path).0 >= held.file_bytes).then_some(*held)
    }

    fn look_into(&mut self, first: Seq, behind: Option<Seq>, path: &Path) -> Result<(), RingError> {
        match segment::inspect(self.paths.guard(), path, first, SCAN) {
            Ok(found) => self.take(found, behind, path),
            Err(error) if !is_content(&error) => Err(error),
            Err(error) => self.quarantine(first, behind, path, &error.to_string()),
        }
    }

    fn take(&mut self, found: Inspected, behind: Option<Seq>, path: &Path) -> Result<(), RingError> {
        let Inspected { mut held, state, ledger, bad } = found;
        self.ledgers.extend(ledger);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (first, next, what) in bad {
            self.lose(first, next, Why::Damaged, format!("{name}: {what}"));
        }
        let Some(behind) = behind else {
            self.newest = Some((held, state));
            return Ok(());
        };
        held.next = held.next.min(behind);
        files::trim(path, 0)?;
        held.file_bytes = files::sizes(path).0;
        self.sealed.push_back(held);
        Ok(())
    }

    fn quarantine(&mut self, first: Seq, behind: Option<Seq>, path: &Path, what: &str) -> Result<(), RingError> {
        let aside = files::set_aside(path, &self.paths.quarantine(), &self.paths.stream)?;
        let known = self.known.sealed.get(&first).map(|held| held.next);
        let numbered = self.known.reserved.unwrap_or(first.plus(FAR)).max(first);
        let next = behind.or(known).unwrap_or(numbered);
        let at_most = behind.or(known).is_none();
        let note = format!("{what}; kept as {}", aside.display());
        self.recovery.notes.push(format!("segment set aside: {note}"));
        self.recovery.quarantined += 1;
        self.losses.push(Loss { at_most, ..loss(first, next, Why::Quarantined, note) });
        Ok(())
    }

    fn lose(&mut self, first: Seq, next: Seq, why: Why, note: String) {
        self.losses.push(loss(first, next, why, note));
    }

    /// Segments that the catalogue knows and the disk does not have: somebody removed them.
    fn note_missing(&mut self) {
        for held in self.known.sealed.values() {
            let there = self.sealed.iter().any(|s| s.first == held.first)
                || self.newest.as_ref().is_some_and(|n| n.0.first == held.first);
            if !there && !self.known.evicting.contains(&held.first) {
                let note = format!("{:016x}.mdb is gone", held.first.0);
                let gone = loss(held.first, held.next, Why::Missing, note);
                self.losses.push(Loss { first_wall: held.first_wall, last_wall: held.last_wall, ..gone });
            }
        }
    }

    /// Enters what is newly lost into the newest copy of the ledger; returns it and the seq that comes next.
    fn settle(&mut self) -> (Ledger, Seq) {
        self.ledgers.extend(files::published_ledger(self.paths));
        let copies = || self.known.ledger.iter().chain(&self.ledgers);
        let mut ledger = copies().max_by_key(|ledger| ledger.version).cloned().unwrap_or_default();
        copies().for_each(|copy| ledger.take_imports(copy));
        for loss in std::mem::take(&mut self.losses) {
            self.enter(&mut ledger, &loss);
        }
        let mut at = Seq(1);
        for held in self.sealed.iter().copied().chain(self.newest.as_ref().map(|n| n.0)).collect::<Vec<_>>() {
            self.enter(&mut ledger, &loss(at, held.first, Why::Missing, "no trace of these records".to_owned()));
            at = at.max(held.next);
        }
        let known = self.known.sealed.values().map(|held| held.next).max();
        let lost = ledger.losses.iter().map(|loss| loss.next).max();
        let next = at.max(known.unwrap_or_default()).max(lost.unwrap_or_default()).max(ledger.folded);
        (ledger, next)
    }

    /// Enters the parts of a loss that are not known yet.
    fn enter(&mut self, ledger: &mut Ledger, loss: &Loss) {
        if loss.first >= loss.next {
            return;
        }
        for (first, next) in ledger.uncovered(loss.first, loss.next) {
            let records = next.0 - first.0;
            self.recovery.damaged += records;
            self.recovery.notes.push(format!("records {first} to {} are lost: {}", next.0 - 1, loss.note));
            ledger.add(Loss { first, next, records, ..loss.clone() });
        }
    }

    fn open_newest(&mut self, next: Seq, segment_bytes: u64) -> Result<(Segment, Summary, Option<Guard>), RingError> {
        let newest = self.newest.as_ref().map(|(held, _)| *held);
        // Numbers that are lost behind the newest segment must not be given again: it is sealed where it ends.
        if let Some(held) = newest.filter(|held| held.next == next) {
            let path = self.paths.segment(held.first);
            match Guard::enter(self.paths.write_guard(), &path, WRITE_DEATHS) {
                Ok(guard) => {
                    let segment = Segment::open_writable(&path, segment_bytes)?;
                    guard.pause();
                    return Ok((segment, held, Some(guard)));
                }
                Err(what) if held.is_empty() => self.quarantine(held.first, None, &path, &what)?,
                Err(what) => self.recovery.notes.push(format!("{} is not written to any more: {what}", path.display())),
            }
        }
        if let Some(mut held) = newest.filter(|held| !held.is_empty()) {
            held.file_bytes = files::sizes(&self.paths.segment(held.first)).0;
            self.sealed.push_back(held);
        }
        create_segment(self.paths, next, segment_bytes).map(|open| (open, Summary::empty(next), None))
    }

    /// The newest state there is: where the collectors' batches go on, and the totals.
    fn last_state(&self) -> Option<State> {
        let newest = self.newest.as_ref().and_then(|(_, state)| state.clone());
        newest.or_else(|| self.sealed.iter().rev().find_map(|held| state_of(self.paths, held.first)))
    }
}

fn state_of(paths: &Paths, first: Seq) -> Option<State> {
    let path = paths.segment(first);
    let _guard = Guard::enter(paths.guard(), &path, READ_DEATHS).ok()?;
    Segment::open_sealed(&path).ok()?.state().ok()?
}

fn loss(first: Seq, next: Seq, why: Why, note: String) -> Loss {
    Loss {
        first,
        next,
        records: next.0.saturating_sub(first.0),
        at_most: false,
        first_wall: None,
        last_wall: None,
        why,
        unforwarded: BTreeMap::new(),
        note,
    }
}

/// True when the error says that the file is not what was written, rather than that we may not read it just now.
fn is_content(error: &RingError) -> bool {
    match error {
        unread if unread.is_content() => true,
        RingError::Io { source, .. } => {
            source.kind() != io::ErrorKind::PermissionDenied
                && !source.raw_os_error().is_some_and(|code| NOT_CONTENT.contains(&code))
        }
        _ => false,
    }
}

/// Makes the segment that begins at `first`, using the prepared one where there is one. May be repeated after an
/// error.
pub(crate) fn create_segment(paths: &Paths, first: Seq, bytes: u64) -> Result<Segment, RingError> {
    let path = paths.segment(first);
    if !path.exists() {
        if !paths.prepared().exists() {
            segment::prepare(&paths.prepared(), bytes)?;
        }
        std::fs::rename(paths.prepared(), &path).map_err(|e| RingError::io("name", &path, e))?;
    }
    files::sync_dir(&paths.dir())?;
    Segment::open_writable(&path, bytes)
}
