//! The sole writer of one stream.
//!
//! Batches are packed into blocks in memory ([`RingWriter::append`]); a commit puts the blocks, the number of the last
//! batch and the sums into the open segment in one synchronous transaction. Whatever goes wrong, the blocks stay in
//! memory until they are on disk, so that a failed commit may be repeated.

use crate::block::BlockHead;
use crate::catalogue::{Catalogue, Change};
use crate::contexts::ContextTable;
use crate::counts::{Counts, Saving};
use crate::env::{Guard, READ_DEATHS};
use crate::error::RingError;
use crate::evict::Eviction;
use crate::files::{self, Paths};
use crate::identity::{self, Holding};
use crate::import::Import;
use crate::ledger::{Ledger, Loss, Why};
use crate::packer::{Packer, Refused};
use crate::rates::Rate;
use crate::recovery::{self, RESERVE, Recovery};
use crate::segment::{self, NotWritten, Segment, State, Summary, Total};
use crate::shares;
use raven_model::record::Frames;
use raven_model::report::{Forecast, Gap, ListenerCount, StreamStatus};
use raven_model::units::{Seq, UnixNanos};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Of records whose listener is not known.
const UNKNOWN: &str = "unknown";

/// Window of the shown rates.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Window of the rate that forecasts are made from.
const FORECAST_WINDOW: Duration = Duration::from_mins(1);

/// Least time between two savings of the contexts, and what each MiB of them adds.
const CONTEXTS_PAUSE: Duration = Duration::from_secs(1);

/// The last batch of the receive memory that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchMark {
    /// Which receive memory.
    pub epoch: u64,
    /// Its last batch that is on disk; the next one wanted is one higher.
    pub batch: u64,
    /// Where in the byte ring that batch ends.
    pub pos: u64,
}

/// How a stream is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterOptions {
    /// Most bytes on disk, quarantine not counted.
    pub quota_bytes: u64,
    /// Size of a segment; without it what [`shares::segment`] makes of the quota.
    pub segment_bytes: Option<u64>,
    /// Age at which acknowledged records may go.
    pub keep: Duration,
    /// This boot, as `/proc/sys/kernel/random/boot_id` says.
    pub boot_id: [u8; 16],
}

impl WriterOptions {
    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_bytes.unwrap_or_else(|| shares::segment(self.quota_bytes, None)).next_multiple_of(files::PAGE)
    }
}

/// Writes one stream. There is one at a time, in one process, kept to by a lock file.
pub struct RingWriter {
    pub(crate) paths: Paths,
    pub(crate) options: WriterOptions,
    pub(crate) catalogue: Catalogue,
    pub(crate) ledger: Ledger,
    /// Version of the ledger copy in the open segment.
    ledger_copied: Option<u64>,
    /// Oldest first.
    pub(crate) sealed: VecDeque<Summary>,
    /// Absent after a failed commit: what LMDB has in memory is not trusted, it is opened anew.
    open: Option<Segment>,
    pub(crate) held: Summary,
    pub(crate) packer: Packer,
    /// Records of other boxes that wait for their commit.
    pub(crate) importing: Vec<Import>,
    mark: Option<BatchMark>,
    totals: BTreeMap<String, Total>,
    /// Records in the batches that were handed over, by what the batches say.
    received: u64,
    /// The same of what waits for its commit.
    pub(crate) taken: u64,
    counts: Counts,
    saving: Saving,
    sampled: Option<(Instant, u64)>,
    reserved: Seq,
    prepared: bool,
    /// The disk was full when the next segment was to be prepared, or at the last commit.
    pub(crate) disk_full: bool,
    error: Option<String>,
    rates: Rates,
    contexts: ContextTable,
    saved: Saved,
    /// Until the first commit: a damaged tree may kill us only when it is written to.
    first_commit: Option<Guard>,
    _lock: File,
}

/// What of the contexts is in their file.
#[derive(Debug, Default)]
struct Saved {
    /// Version and turn of the table that is there; none when there is no good file.
    what: Option<(u64, u64)>,
    /// When it was last tried.
    at: Option<Instant>,
}

#[derive(Default)]
struct Rates {
    records: Rate,
    stored: Rate,
    stored_total: u64,
    listeners: BTreeMap<String, Rate>,
}

impl RingWriter {
    /// Opens the ring of a stream, making it where there is none, and tells what was wrong with it.
    pub fn open(ring: &Path, stream: &str, options: WriterOptions) -> Result<(Self, Recovery), RingError> {
        let paths = Paths::new(ring, stream);
        let opened = recovery::open(&paths, options.segment_size())?;
        let known_to = opened.state.as_ref().map_or(Seq(1), |state| state.held.next);
        let (mark, mut totals, mut received) =
            opened.state.map_or((None, BTreeMap::new(), 0), |state| (state.mark, state.totals, state.received));
        // Numbers whose counts went with the newest segment: they are in the ledger as lost, and nobody knows whose they
        // were.
        let uncounted = opened.held.next.0.saturating_sub(known_to.0);
        if uncounted > 0 {
            totals.entry(UNKNOWN.to_owned()).or_default().records += uncounted;
            received += uncounted;
        }
        let what = opened.contexts_saved.then(|| (opened.contexts.version(), opened.contexts.turn()));
        let mut writer = Self {
            packer: Packer::new(opened.held.next, options.boot_id),
            importing: Vec::new(),
            paths,
            options,
            catalogue: opened.catalogue,
            ledger: opened.ledger,
            ledger_copied: None,
            sealed: opened.sealed,
            open: Some(opened.open),
            held: opened.held,
            mark,
            totals,
            received,
            taken: 0,
            counts: opened.counts,
            saving: Saving::default(),
            sampled: None,
            reserved: opened.reserved,
            prepared: false,
            disk_full: false,
            error: None,
            rates: Rates::default(),
            contexts: opened.contexts,
            saved: Saved { what, at: None },
            first_commit: opened.first_commit,
            _lock: opened.lock,
        };
        writer.publish_ledger();
        writer.trim_quarantine();
        if !opened.contexts_saved {
            // Also an empty one, so that a lost one is noticed. Should it fail, the next saving tells why.
            let _ = writer.save_contexts_now();
        }
        Ok((writer, opened.recovery))
    }

    /// Seq that the next record on disk will get; everything below is on disk.
    pub const fn next_seq(&self) -> Seq {
        self.held.next
    }

    /// Oldest record held; equal to [`RingWriter::next_seq`] when there is none.
    pub fn first_seq(&self) -> Seq {
        self.sealed.front().map_or(self.held.first, |held| held.first)
    }

    /// First seq of the open segment. Readers find everything below in sealed segments.
    pub const fn open_first(&self) -> Seq {
        self.held.first
    }

    /// The last batch on disk.
    pub const fn mark(&self) -> Option<BatchMark> {
        self.mark
    }

    /// Names for the listener ids of batches appended from now on.
    pub fn set_listeners(&mut self, listeners: BTreeMap<u8, String>) {
        self.packer.set_listeners(listeners);
    }

    /// A new quota, and age.
    pub const fn set_quota(&mut self, quota_bytes: u64, keep: Duration) {
        self.options.quota_bytes = quota_bytes;
        self.options.keep = keep;
    }

    /// A new size of segments, from the next one on.
    pub const fn set_segment(&mut self, segment_bytes: u64) {
        self.options.segment_bytes = Some(segment_bytes);
    }

    /// Bytes that it takes to go on without removing anything: what is on disk, and the next segment.
    pub fn need(&self) -> u64 {
        let ahead = if self.paths.prepared().exists() { 0 } else { self.options.segment_size() };
        self.disk_bytes() + ahead
    }

    /// True when the disk had no room at the last commit, or for the next segment.
    pub const fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    /// Somebody made room: the disk is tried again before anything more is removed.
    pub const fn room_was_made(&mut self) {
        self.disk_full = false;
    }

    /// The oldest segment that could go, whatever the quota says.
    pub fn oldest(&self) -> Option<Eviction> {
        self.sealed.front().map(|oldest| self.eviction_of(oldest, Why::Space))
    }

    /// Drops before the ring as their source counts them: a listener's socket, or (with `by` empty) the collector.
    /// `source` tells one life of it from the next.
    pub fn note_drops(&mut self, by: &str, reason: &str, source: u64, count: u64) {
        self.saving.drops |= self.counts.note_drops(by, reason, source, count);
    }

    /// Saves the counts of drops and the history for the next start, when it is time or `at_once`.
    pub fn save_counts(&mut self, now: Instant, at_once: bool) -> Result<(), RingError> {
        if !at_once && !self.saving.is_due(now) {
            return Ok(());
        }
        self.saving.tried(now);
        self.catalogue.save(&[Change::Counts(&self.counts)])?;
        self.saving.saved();
        Ok(())
    }

    /// What is lost, and why.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes a batch of `count` frames into memory. A refused one leaves nothing but a count.
    pub fn append(&mut self, batch: &[u8], count: u32, mono_offset_ns: i64) -> Result<(), Refused> {
        self.packer.append(batch, count, mono_offset_ns).inspect_err(|_| self.count_refused(batch, count))?;
        let mut contexts = 0;
        for (wall, context) in self.packer.contexts(batch) {
            self.contexts.note(context.key, context.value, wall);
            contexts += 1;
        }
        self.taken += u64::from(count).saturating_sub(contexts);
        Ok(())
    }

    /// Under the listener of its first record: the records that read, or as many as were announced beside the context.
    fn count_refused(&mut self, batch: &[u8], announced: u32) {
        let (mut contexts, mut records, mut listener) = (0_u64, 0_u64, None);
        for frame in Frames::new(batch).map_while(Result::ok) {
            if frame.received.is_record() {
                records += 1;
                listener.get_or_insert(frame.received.listener);
            } else {
                contexts += 1;
            }
        }
        let name = listener.map_or("unknown", |id| self.packer.listener(id)).to_owned();
        let refused = u64::from(announced).saturating_sub(contexts).max(records);
        self.totals.entry(name).or_default().refused += refused;
        self.received += refused;
    }

    /// What the contexts of the batches taken so far stood for, and when.
    pub const fn contexts(&self) -> &ContextTable {
        &self.contexts
    }

    /// Saves the contexts for readers and the next start, when one came or went since, and not more often than once a
    /// second (and a second more for each MiB). Returns whether it wrote. Losing a second of them costs no record:
    /// blocks carry what their records need, and a collector brings its contexts with each batch.
    pub fn save_contexts(&mut self, now: Instant) -> Result<bool, RingError> {
        let pause = CONTEXTS_PAUSE * (1 + (self.contexts.bytes() as u64 / MIB) as u32);
        let early = self.saved.at.is_some_and(|at| now.duration_since(at) < pause);
        if early || self.saved.what.is_some_and(|(version, _)| version == self.contexts.version()) {
            return Ok(false);
        }
        self.saved.at = Some(now);
        self.save_contexts_now()
    }

    /// The same at once, also when only the times changed at which contexts were last seen: for the end.
    pub fn save_contexts_now(&mut self) -> Result<bool, RingError> {
        let what = Some((self.contexts.version(), self.contexts.turn()));
        if self.saved.what == what {
            return Ok(false);
        }
        self.contexts.save(&self.paths)?;
        self.saved.what = what;
        Ok(true)
    }

    /// Bytes of frames appended and not yet on disk.
    pub const fn uncommitted_bytes(&self) -> usize {
        self.packer.uncommitted()
    }

    /// Makes durable what was appended, with the number of the last batch. Returns the next seq. After an error
    /// nothing is lost: call it again, with the same mark or a later one.
    pub fn commit(&mut self, mark: BatchMark) -> Result<Seq, RingError> {
        self.packer.cut();
        if self.packer.waiting().records > 0 || self.mark != Some(mark) {
            let stored = self.store(mark);
            self.note(&stored);
            stored?;
        }
        if self.open.as_ref().is_some_and(|open| open.used() > self.options.segment_size() / 4 * 3) {
            self.prepare();
        }
        Ok(self.held.next)
    }

    fn note<T>(&mut self, result: &Result<T, RingError>) {
        self.error = result.as_ref().err().map(ToString::to_string);
        self.disk_full = result.as_ref().is_err_and(RingError::is_no_space);
    }

    fn store(&mut self, mark: BatchMark) -> Result<(), RingError> {
        self.reserve()?;
        self.reopen()?;
        match self.write(mark) {
            Ok(()) => return Ok(()),
            Err(NotWritten::Failed(error @ RingError::Database { .. })) => self.leave_damaged(error)?,
            Err(NotWritten::Failed(error)) => return Err(self.poison(error)),
            Err(NotWritten::Full) => self.roll()?,
        }
        self.write(mark).map_err(|failed| match failed {
            NotWritten::Failed(error) => self.poison(error),
            NotWritten::Full => {
                let what = "a new segment has no room for what is to be stored".to_owned();
                RingError::Database { doing: "write to", path: self.paths.segment(self.held.first), what }
            }
        })
    }

    /// LMDB says that the open segment's tree is damaged: it is sealed as it is, or set aside when it holds nothing.
    fn leave_damaged(&mut self, error: RingError) -> Result<(), RingError> {
        let error = self.poison(error);
        if self.held.is_empty() {
            files::set_aside(&self.paths.segment(self.held.first), &self.paths.quarantine(), &self.paths.stream)?;
            self.open = Some(recovery::create_segment(&self.paths, self.held.first, self.map_size())?);
            return Ok(());
        }
        self.roll().map_err(|_| error)
    }

    /// What LMDB holds in memory after a failed write need not be what is on disk.
    fn poison(&mut self, error: RingError) -> RingError {
        self.open = None;
        error
    }

    fn write(&mut self, mark: BatchMark) -> Result<(), NotWritten> {
        let state = self.next_state(mark);
        let with_imports = self.with_imports(|_| true);
        let ledger = with_imports.as_ref().unwrap_or(&self.ledger);
        let ledger = (self.ledger_copied != Some(ledger.version)).then_some(ledger);
        let path = self.paths.segment(self.held.first);
        let closed = || NotWritten::Failed(RingError::Damaged { path, what: "it is not open".to_owned() });
        let open = self.open.as_ref().ok_or_else(closed)?;
        self.first_commit.as_ref().inspect(|guard| guard.resume());
        open.write(self.packer.blocks(), &state, ledger).inspect_err(|_| {
            self.first_commit.as_ref().inspect(|guard| guard.pause());
        })?;
        if let Some(ledger) = with_imports {
            self.ledger = ledger;
            self.importing.clear();
            self.publish_ledger();
        }
        self.ledger_copied = Some(self.ledger.version);
        self.accept(state);
        Ok(())
    }

    /// The ledger with what is imported by this commit, or with those of it that are `meant`.
    fn with_imports(&self, meant: impl Fn(&Import) -> bool) -> Option<Ledger> {
        let mut imports = self.importing.iter().filter(|import| meant(import)).peekable();
        imports.peek()?;
        let mut ledger = self.ledger.clone();
        imports.for_each(|import| ledger.import(import));
        Some(ledger)
    }

    fn accept(&mut self, state: State) {
        self.rates.stored_total += self.packer.waiting().stored_bytes;
        self.mark = state.mark;
        self.held = state.held;
        self.totals = state.totals;
        (self.received, self.taken) = (state.received, 0);
        self.first_commit = None;
        self.packer.clear();
    }

    fn next_state(&self, mark: BatchMark) -> State {
        let (waiting, mut held, mut totals) = (self.packer.waiting(), self.held, self.totals.clone());
        held.next = self.packer.next();
        held.raw_bytes += waiting.bytes;
        held.stored_bytes += waiting.stored_bytes;
        if waiting.records > 0 {
            let (first, last) = (UnixNanos(waiting.first_wall), UnixNanos(waiting.last_wall));
            held.first_wall = Some(held.first_wall.map_or(first, |wall| wall.min(first)));
            held.last_wall = Some(held.last_wall.map_or(last, |wall| wall.max(last)));
        }
        for (name, count) in self.packer.counts() {
            let total = totals.entry(name.to_owned()).or_default();
            total.records += count.records;
            total.bytes += count.bytes;
        }
        State { mark: Some(mark), held, totals, received: self.received + self.taken }
    }

    /// Numbers are reserved durably before they are used.
    fn reserve(&mut self) -> Result<(), RingError> {
        if self.packer.next() > self.reserved {
            let reserved = self.packer.next().plus(RESERVE);
            self.catalogue.save(&[Change::Reserved(reserved)])?;
            self.reserved = reserved;
        }
        Ok(())
    }

    /// Opens the segment anew after a failed commit, which may have reached the disk all the same.
    fn reopen(&mut self) -> Result<(), RingError> {
        if self.open.is_some() {
            return Ok(());
        }
        let path = self.paths.segment(self.held.first);
        let segment = Segment::open_writable(&path, self.map_size())?;
        self.ledger_copied = None;
        if let Some(state) = segment.state()?.filter(|state| state.held.next > self.held.next) {
            self.take_over(&path, &state)?;
        }
        self.open = Some(segment);
        Ok(())
    }

    /// Goes on behind a commit that was reported as failed and is there. The totals stay as they are: the counts that
    /// wait are added to them whole by the next commit.
    fn take_over(&mut self, path: &Path, state: &State) -> Result<(), RingError> {
        File::open(path).and_then(|file| file.sync_all()).map_err(|e| RingError::io("make durable", path, e))?;
        if !self.packer.forget_below(state.held.next) {
            let what = format!("it ends at {}, which is not where a commit ended", state.held.next);
            return Err(RingError::Damaged { path: path.to_owned(), what });
        }
        let is_there = |import: &Import| import.into_next <= state.held.next;
        if let Some(ledger) = self.with_imports(is_there) {
            self.ledger = ledger;
            self.importing.retain(|import| !is_there(import));
        }
        (self.held, self.mark) = (state.held, state.mark);
        Ok(())
    }

    /// Room that the open segment needs at least: one commit is never spread over two.
    fn map_size(&self) -> u64 {
        let blocks = self.packer.waiting().stored_bytes + MIB / 2;
        let pages = self.packer.blocks().count() as u64 * files::PAGE;
        self.options.segment_size().max((blocks + pages) * 5 / 4)
    }

    /// Seals the open segment and goes on in the next one. An empty one is made larger instead.
    fn roll(&mut self) -> Result<(), RingError> {
        let map = self.map_size();
        if self.held.is_empty() {
            self.open = None;
            self.open = Some(Segment::open_writable(&self.paths.segment(self.held.first), map)?);
            return Ok(());
        }
        let next = recovery::create_segment(&self.paths, self.held.next, self.options.segment_size())?;
        self.prepared = false;
        self.seal();
        self.held = Summary::empty(self.held.next);
        self.ledger_copied = None;
        self.open = Some(next);
        if map > self.options.segment_size() {
            self.open = None;
            self.open = Some(Segment::open_writable(&self.paths.segment(self.held.first), map)?);
        }
        Ok(())
    }

    fn seal(&mut self) {
        let path = self.paths.segment(self.held.first);
        let used = self.open.take().map_or(0, |open| open.used());
        // Neither is needed for what comes next: room that stays taken is counted, and an entry that is missing in the
        // catalogue is found anew in the segment.
        let _ = files::trim(&path, used);
        self.held.file_bytes = files::sizes(&path).0;
        // The ledger with it: what was imported is noted nowhere else, and a sealed segment is not looked into any more.
        let _ = self.catalogue.save(&[Change::Sealed(&self.held), Change::Ledger(&self.ledger)]);
        self.sealed.push_back(self.held);
    }

    /// Prepares the next segment, so that the change to it takes little time. Called by a commit when the open one is
    /// three quarters full; may be called when there is nothing to do.
    pub fn prepare(&mut self) {
        if self.prepared {
            return;
        }
        let result = segment::prepare(&self.paths.prepared(), self.options.segment_size());
        self.prepared = result.is_ok();
        self.note(&result);
    }

    /// The encoded block of the open segment that holds `seq`, or else the first one behind it; `None` when nothing at
    /// or behind `seq` is on disk. Damaged ones are passed over: when what comes begins behind `seq`, tell
    /// [`RingWriter::note_damage`].
    pub fn block_at(&self, seq: Seq) -> Result<Option<(Seq, Vec<u8>)>, RingError> {
        let Some(open) = self.open.as_ref().filter(|_| seq < self.held.next) else { return Ok(None) };
        let mut at = Some(seq);
        while let Some(seq) = at {
            let found = open.with_block_at(seq, |first, value| {
                (first, BlockHead::of_whole(first, value).is_ok().then(|| value.to_vec()))
            })?;
            match found {
                Some((first, Some(value))) => return Ok(Some((first, value))),
                Some((first, None)) => {
                    at = Some(open.end_of(first, self.held.next)).filter(|next| *next < self.held.next);
                }
                None => at = None,
            }
        }
        Ok(None)
    }

    /// Enters damage that a reader has met, after looking at the block again. Returns the records newly counted. A
    /// segment that a newer Raven wrote is set aside as it is.
    pub fn note_damage(&mut self, seq: Seq) -> Result<u64, RingError> {
        let damage = match self.damage_at(seq) {
            Err(error) if error.is_content() => return self.set_aside_unreadable(seq)?.ok_or(error),
            other => other?,
        };
        let Some((first, next, note)) = damage else { return Ok(0) };
        let mut lost = 0;
        for (first, next) in self.ledger.uncovered(first, next) {
            let records = next.0 - first.0;
            let (first_wall, last_wall, unforwarded) = (None, None, BTreeMap::new());
            let note = note.clone();
            self.ledger.add(Loss {
                first,
                next,
                records,
                at_most: false,
                first_wall,
                last_wall,
                why: Why::Damaged,
                unforwarded,
                note,
            });
            lost += records;
        }
        if lost > 0 {
            self.catalogue.save(&[Change::Ledger(&self.ledger)])?;
            self.publish_ledger();
        }
        Ok(lost)
    }

    fn damage_at(&self, seq: Seq) -> Result<Option<(Seq, Seq, String)>, RingError> {
        let place = self.sealed.iter().position(|held| held.first <= seq && seq < held.next);
        let held = place.map_or(&self.held, |i| &self.sealed[i]);
        if seq < held.first || seq >= held.next {
            return Ok(None);
        }
        let path = self.paths.segment(held.first);
        let guard = Guard::enter(self.paths.guard(), &path, READ_DEATHS);
        let Ok(_guard) = guard else { return Ok(Some((held.first, held.next, "it cannot be read".to_owned()))) };
        match (&self.open, place) {
            (Some(open), None) => segment::damage_in(open, held, seq),
            _ => segment::damage_in(&Segment::open_sealed(&path)?, held, seq),
        }
    }

    /// For quiet times: gives back memory. Pages of the open segment that readers asked for stay mapped otherwise.
    pub fn rest(&mut self) {
        if self.open.take().is_some() {
            // Should this fail, the next commit tries again and tells why.
            self.open = Segment::open_writable(&self.paths.segment(self.held.first), self.map_size()).ok();
        }
    }

    /// Writes the copy of the ledger that readers see. Only a copy: it is written anew at the next start.
    pub(crate) fn publish_ledger(&self) {
        if let Ok(json) = serde_json::to_vec(&self.ledger) {
            let _ = files::replace(&self.paths.ledger(), &json);
        }
    }

    /// Bytes on disk: segments, and the one prepared or to be prepared.
    pub fn disk_bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|held| held.file_bytes).sum();
        let (_, open) = files::sizes(&self.paths.segment(self.held.first));
        let (_, prepared) = files::sizes(&self.paths.prepared());
        sealed + open + prepared
    }

    /// How the stream stands. Rates are those between calls, which should come about once a second.
    pub fn status(&mut self, now: Instant) -> StreamStatus {
        self.sample(now);
        let quota = self.options.quota_bytes;
        let (bytes_disk, bytes_allocated) = (self.filled(), self.disk_bytes());
        let growth = self.rates.stored.per_second(FORECAST_WINDOW);
        let seconds = |bytes: u64| (growth > 0.0).then(|| (bytes as f64 / growth) as u64);
        let full = self.over_quota();
        let holding = self.holding();
        StreamStatus {
            name: self.paths.stream.clone(),
            first_seq: self.first_seq(),
            next_seq: self.held.next,
            received: self.received,
            refused: self.totals.values().map(|total| total.refused).sum(),
            counted: self.totals.values().map(|total| total.records).sum(),
            stored: self.held.next.0 - 1,
            held: holding.records,
            evicted: self.ledger.evicted,
            evicted_unforwarded: self.ledger.evicted_unforwarded,
            imported: self.ledger.imported,
            damaged: self.ledger.damaged,
            bytes_raw: self.sealed.iter().map(|held| held.raw_bytes).sum::<u64>() + self.held.raw_bytes,
            bytes_disk,
            bytes_allocated,
            quota,
            oldest_ns: self.sealed.iter().find_map(|held| held.first_wall).or(self.held.first_wall),
            time_to_full_s: if full { Some(0) } else { seconds(quota.saturating_sub(self.filled())) },
            holds_s: seconds(quota),
            dropped: BTreeMap::new(),
            dropped_ever: self.counts.dropped(),
            forecast: self.forecast(),
            gaps: holding.gaps.iter().map(|(first, next)| Gap { first: *first, last: Seq(next.0 - 1) }).collect(),
            next_to_go: BTreeMap::new(),
            share: 0,
            rate: self.rates.records.per_second(RATE_WINDOW),
            error: self.error.clone(),
        }
    }

    /// What the segments hold.
    fn holding(&self) -> Holding {
        identity::holding(&self.ledger, self.sealed.iter().chain([&self.held]))
    }

    /// How long the quota lasts, by the last hour, day and week.
    fn forecast(&self) -> Vec<Forecast> {
        let (quota, filled) = (self.options.quota_bytes, self.filled());
        let rates = self.counts.history.rates();
        rates.map(|(window, rate, covered)| Forecast::of(window, rate, covered, quota, filled)).collect()
    }

    /// Bytes that are taken for good: the room ahead is not.
    fn filled(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|held| held.file_bytes).sum();
        sealed + self.open.as_ref().map_or(0, Segment::used)
    }

    fn sample(&mut self, now: Instant) {
        self.rates.records.sample(now, self.held.next.0 - 1);
        self.rates.stored.sample(now, self.rates.stored_total);
        let (at, before) = self.sampled.unwrap_or((now, self.rates.stored_total));
        self.counts.history.add(now.saturating_duration_since(at), self.rates.stored_total - before);
        self.saving.stored |= self.rates.stored_total > before;
        self.sampled = Some((now, self.rates.stored_total));
        for (name, total) in &self.totals {
            self.rates.listeners.entry(name.clone()).or_default().sample(now, total.records);
        }
    }

    /// Records stored from each listener since the ring was made; rates as of the last [`RingWriter::status`].
    pub fn listener_counts(&self) -> BTreeMap<String, ListenerCount> {
        let count = |(name, total): (&String, &Total)| {
            let rate = self.rates.listeners.get(name).map_or(0.0, |rate| rate.per_second(RATE_WINDOW));
            let dropped_ever = self.counts.dropped_by(name);
            (
                name.clone(),
                ListenerCount {
                    records: total.records,
                    bytes: total.bytes,
                    rate,
                    refused: total.refused,
                    dropped_ever,
                },
            )
        };
        self.totals.iter().map(count).collect()
    }

    /// The head of the newest block on disk.
    pub fn newest_head(&self) -> Option<BlockHead> {
        let open = self.open.as_ref()?;
        let mut newest = None;
        let _ = open.each_block_back(|_, value| {
            newest = BlockHead::read(value).ok();
            false
        });
        newest
    }
}
