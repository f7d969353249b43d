//! One stream: batches out of its receive memory, into its part of the ring.

use super::world::World;
use super::{COMMIT_BYTES, Fenced, RETRY};
use anyhow::Context;
use raven_buffer::{BatchMark, RingWriter, WriterOptions};
use raven_jail::receive::{SNAPSHOT_MAX, StoreMemory, Waiting};
use raven_model::control::ListenerId;
use raven_model::stream::Stream;
use raven_model::units::Seq;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Shortest time between commits that senders wait for: smaller blocks pack badly.
const AWAITED: Duration = Duration::from_millis(10);

/// What `ravend` passed for a stream.
pub(super) struct Input {
    pub stream: Stream,
    pub memory: OwnedFd,
    pub words: OwnedFd,
    pub wake: OwnedFd,
}

/// A stream that is kept.
pub(super) struct Kept {
    pub world: Rc<dyn World>,
    pub stream: Stream,
    pub wake: File,
    pub memory: StoreMemory,
    pub writer: RingWriter,
    /// How far each destination has acknowledged.
    pub low: BTreeMap<String, Seq>,
    pub fenced: Option<Fenced>,
    /// What is on disk has changed: perhaps something has to go.
    pub look_for_room: bool,
    /// Newest batch that was appended.
    taken: u64,
    /// Batches that the next commit may hold.
    batch_limit: u64,
    /// Appended and uncommitted.
    pending_batches: u64,
    /// Pieces of other boxes that are to be answered (reader, id) once they are on disk.
    pub importing: Vec<(usize, u64)>,
    /// When to commit, or after a commit when to look whether more came; `None` when nothing comes.
    next_commit: Option<Instant>,
    retry_at: Option<Instant>,
    committed_at: Instant,
    /// Version of the contexts that the collector was given.
    snapshot: Option<u64>,
    /// Batches that were none.
    complaints: u64,
    /// Segments that went before every destination had them.
    pub went_early: u64,
    pub clock_offset: i128,
}

impl Kept {
    /// Opens a stream's part of the ring and goes on behind the last batch that is on disk.
    pub fn open(
        world: &Rc<dyn World>,
        input: Input,
        ring: &Path,
        options: WriterOptions,
        listeners: BTreeMap<ListenerId, String>,
    ) -> anyhow::Result<Self> {
        let memory = StoreMemory::open(&input.memory, &input.words).context("receive memory")?;
        let (mut writer, recovery) = RingWriter::open(ring, input.stream.name(), options)?;
        for note in &recovery.notes {
            eprintln!("raven-worker store: {}: {note}", input.stream);
        }
        writer.set_listeners(listeners);
        let mut this = Self {
            world: Rc::clone(world),
            stream: input.stream,
            wake: File::from(input.wake),
            memory,
            writer,
            low: BTreeMap::new(),
            fenced: None,
            look_for_room: true,
            taken: 0,
            batch_limit: 1,
            pending_batches: 0,
            importing: Vec::new(),
            next_commit: None,
            retry_at: None,
            committed_at: world.now(),
            snapshot: None,
            complaints: 0,
            went_early: 0,
            clock_offset: world.wall_offset(),
        };
        this.resume();
        this.tell_contexts();
        Ok(this)
    }

    /// Goes on behind the last batch on disk.
    fn resume(&mut self) {
        let epoch = self.memory.epoch();
        let on_disk = self.writer.mark().filter(|mark| mark.epoch == epoch).map_or(0, |mark| mark.batch);
        // A ring that was exchanged under us knows nothing of batches whose space was given back long ago.
        self.taken = on_disk.max(self.memory.durable());
        self.memory.set_durable(self.taken);
        self.memory.taken_all();
    }

    /// Appends what was published, as much as one commit may hold; it is to be committed within `sync`. `look` sees the
    /// frames of each batch that is taken.
    pub fn take(&mut self, buffer: &mut Vec<u8>, sync: Duration, mut look: impl FnMut(Stream, &[u8])) {
        if self.retry_at.is_some() && self.writer.uncommitted_bytes() >= COMMIT_BYTES {
            return;
        }
        if self.taken == 0 && self.memory.epoch() == 0 {
            return;
        }
        let published = self.memory.published();
        while self.taken < published
            && self.pending_batches < self.batch_limit
            && self.writer.uncommitted_bytes() < COMMIT_BYTES
        {
            if self.append(self.taken + 1, buffer) {
                look(self.stream, buffer);
            }
            self.taken += 1;
            self.pending_batches += 1;
            self.next_commit.get_or_insert_with(|| self.world.now() + sync);
        }
    }

    /// A batch that is not one costs itself only, and is counted: then false.
    fn append(&mut self, number: u64, buffer: &mut Vec<u8>) -> bool {
        match self.memory.take(number, buffer) {
            Ok(batch) => {
                let appended = self.writer.append(buffer, batch.count, batch.mono_offset_ns);
                if let Err(refused) = &appended {
                    self.complain(&format!("batch {number} refused: {refused}"));
                }
                self.memory.taken(batch.len);
                appended.is_ok()
            }
            Err(error) => {
                self.complain(&error.to_string());
                false
            }
        }
    }

    /// Says what a collector did wrong, at the 1st, 2nd, 4th, 8th … time: a lying one must not fill the log.
    fn complain(&mut self, what: &str) {
        self.complaints += 1;
        if self.complaints.is_power_of_two() {
            eprintln!("raven-worker store: {}: {what} ({} such so far)", self.stream, self.complaints);
        }
    }

    /// Commits when it is time; true when it did.
    pub fn commit_when_due(&mut self, sync: Duration) -> bool {
        let now = self.world.now();
        if self.due(now, sync).is_none_or(|due| due > now) {
            return false;
        }
        self.next_commit = None;
        let committed = (self.pending_batches > 0 || self.writer.is_importing()) && self.commit();
        if committed {
            // While records come, one look each `sync` is enough: the collector need not wake us for the first.
            self.next_commit = Some(self.committed_at + sync);
        }
        committed
    }

    /// When the next commit is due; `None` when there is nothing to commit and nothing comes.
    pub fn due(&self, now: Instant, sync: Duration) -> Option<Instant> {
        if self.retry_at.is_some() {
            return self.retry_at;
        }
        if self.writer.uncommitted_bytes() >= COMMIT_BYTES || self.pending_batches >= self.batch_limit {
            return Some(now);
        }
        let next = self.next_commit?;
        Some(if self.memory.is_awaited() { next.min(self.committed_at + AWAITED) } else { next }.min(now + sync))
    }

    /// True when the disk takes less than there is.
    pub fn is_behind(&self) -> bool {
        self.retry_at.is_some() || self.writer.uncommitted_bytes() >= COMMIT_BYTES
    }

    /// Somebody waits for what was appended.
    pub fn commit_soon(&mut self) {
        let soon = self.world.now().max(self.committed_at + AWAITED);
        self.next_commit = Some(self.next_commit.map_or(soon, |next| next.min(soon)));
    }

    /// Who is to be told that what he brought is on disk.
    pub fn imported(&mut self) -> Vec<(usize, u64)> {
        if self.writer.is_importing() { Vec::new() } else { std::mem::take(&mut self.importing) }
    }

    /// Makes durable what was taken; true when that worked.
    fn commit(&mut self) -> bool {
        self.look_for_room = true;
        let mark = BatchMark { epoch: self.memory.epoch(), batch: self.taken, pos: 0 };
        match self.writer.commit(mark) {
            Ok(_) => {
                self.memory.set_durable(self.taken);
                (self.retry_at, self.pending_batches) = (None, 0);
                self.batch_limit = self.batch_limit.saturating_mul(4);
                self.committed_at = self.world.now();
                true
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    eprintln!(
                        "raven-worker store: {}: {error}; what is received waits in memory, tried again",
                        self.stream
                    );
                }
                self.retry_at = Some(self.world.now() + RETRY);
                false
            }
        }
    }

    /// Saves new contexts, at most once a second, and gives them to the next collector.
    pub fn save_contexts(&mut self, now: Instant) {
        match self.writer.save_contexts(now) {
            Ok(false) => {}
            Ok(true) => self.tell_contexts(),
            Err(error) => self.complain(&error.to_string()),
        }
    }

    /// Takes over what the collector has dropped so far.
    pub fn count_drops(&mut self) {
        let epoch = self.memory.epoch();
        if epoch == 0 {
            return;
        }
        for (n, reason) in self.stream.drop_reasons().iter().enumerate() {
            self.writer.note_drops("", reason, epoch, self.memory.dropped(n));
        }
    }

    /// Saves the counts that no segment has, when it is time or `at_once`.
    pub fn save_counts(&mut self, now: Instant, at_once: bool) {
        if let Err(error) = self.writer.save_counts(now, at_once) {
            self.complain(&error.to_string());
        }
    }

    /// Only what is on disk is told: a collector may rely on it.
    fn tell_contexts(&mut self) {
        let version = self.writer.contexts().version();
        if self.snapshot != Some(version) {
            self.snapshot = Some(version);
            self.memory.set_snapshot(&self.writer.contexts().snapshot(SNAPSHOT_MAX));
        }
    }

    /// Tells the collector when to wake us; true when there is more already.
    pub fn wait(&self) -> bool {
        let waiting =
            if self.next_commit.is_some() || self.retry_at.is_some() { Waiting::Filling } else { Waiting::Idle };
        let published = self.memory.wait(waiting);
        // Filling: what came meanwhile is taken at the next commit, or when the collector says that it is much.
        let blocked = self.retry_at.is_some() || self.pending_batches >= self.batch_limit;
        waiting == Waiting::Idle && self.memory.epoch() != 0 && published > self.taken && !blocked
    }

    /// Makes everything durable that the collector handed over. False when the disk did not take it.
    pub fn finish(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.batch_limit = u64::MAX;
        loop {
            self.take(buffer, Duration::ZERO, |_, _| {});
            if self.pending_batches == 0 {
                // For the next start only: blocks carry what their records need.
                let _ = self.writer.save_contexts_now();
                return true;
            }
            if !self.commit() {
                return false;
            }
        }
    }
}
