//! The collector's side: takes over what a predecessor left, and knows how far the store is. Datagrams are in
//! `slots.rs`, streams in `connections.rs`, the hand-over in `ring.rs`.

use super::Waiting;
use super::connections::Building;
use super::inspect::{Contexts, Findings, Inspect};
use super::layout::{
    BUFFERS_AT, CONNECTION, CONNECTIONS, DESCRIPTORS, DROP_REASONS, FAR_AT, MAGIC, MEMORY_SIZE, POPULATE, RING,
    RING_AT, RING_FIRST, RING_SOFT, SLOT, SLOTS, SNAPSHOT_AT, SNAPSHOT_MAX, WORDS_SIZE, drop_word, expect_len, head,
    word, words,
};
use crate::memory::Mapping;
use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, fence};

/// The store is woken while it is filling only when it is so many bytes behind.
const BEHIND: u32 = 256 * 1024;

/// The part of the ring that [`CollectorMemory::rewind`] keeps, whole pages.
const SMALL: usize = 256 << 10;

/// Deaths over the same bytes after which they are kept without being looked at.
pub(super) const POISON: u64 = 2;

/// What a new collector found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// True when the memory was fresh.
    pub fresh: bool,
    /// Datagrams that its predecessor had received and not handed over.
    pub datagrams: usize,
}

/// What one look at a socket brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many datagrams or bytes; more may wait.
    Some(usize),
    /// Nothing was there.
    Nothing,
    /// No room in the ring: try again when the store has gone on.
    Full,
    /// The stream has ended and all of it was framed.
    End,
}

/// The receive memory of one stream, as the collector sees it. One at a time per memory.
#[derive(Debug)]
pub struct CollectorMemory {
    pub(super) map: Mapping,
    words: Mapping,
    /// Newest batch.
    pub(super) published: u64,
    /// Ring offset behind it.
    pub(super) head: usize,
    /// Bytes published in this epoch, modulo 2^32.
    pub(super) bytes: u32,
    /// Datagrams in the slots that are not handed over.
    pub(super) pending: usize,
    /// A collector died over one of them.
    pub(super) suspects: bool,
    /// About the datagrams in the slots.
    pub(super) findings: Findings,
    /// The snapshot that was last recalled.
    recalled: u64,
    /// Frames of the TCP batch being built.
    pub(super) building: Option<Building>,
    /// Of the message being added to that batch.
    pub(super) contexts: Contexts,
    /// Connections that it took bytes from.
    pub(super) intents: Vec<u16>,
    pub(super) stalls: u64,
    /// Most bytes under way at a time since the last calm.
    pub(super) peak: Cell<usize>,
}

impl CollectorMemory {
    /// Maps the memory, prefaults what the hot path touches, and takes over what a predecessor left, which `inspect`
    /// looks at.
    pub fn open(
        memory: &OwnedFd,
        words: &OwnedFd,
        epoch: u64,
        inspect: &mut dyn Inspect,
    ) -> io::Result<(Self, Recovered)> {
        let mut this = Self::map(memory, words)?;
        this.map.populate_write(0..POPULATE)?;
        this.map.populate_write(RING_AT..RING_AT + RING_FIRST)?;
        this.recall(inspect);
        let recovered = this.take_over(epoch, inspect);
        Ok((this, recovered))
    }

    /// As [`Self::open`], for a role that appends a record now and then: pages are taken as they are needed, 0.3 MiB
    /// instead of 2 MiB. Such a role must not receive datagrams: a page fault could come between the kernel's taking of
    /// one and its `msg_len`. Call [`Self::rewind`] before each record, so that it stays so small.
    pub fn open_small(
        memory: &OwnedFd,
        words: &OwnedFd,
        epoch: u64,
        inspect: &mut dyn Inspect,
    ) -> io::Result<(Self, Recovered)> {
        let mut this = Self::map(memory, words)?;
        this.recall(inspect);
        let recovered = this.take_over(epoch, inspect);
        Ok((this, recovered))
    }

    fn map(memory: &OwnedFd, words: &OwnedFd) -> io::Result<Self> {
        expect_len(memory, MEMORY_SIZE)?;
        expect_len(words, WORDS_SIZE)?;
        let map = Mapping::shared(memory, MEMORY_SIZE)?;
        let words = Mapping::read_only(words, WORDS_SIZE)?;
        Ok(Self {
            map,
            words,
            published: 0,
            head: 0,
            bytes: 0,
            pending: 0,
            suspects: false,
            findings: Findings::default(),
            recalled: 0,
            building: None,
            contexts: Contexts::default(),
            intents: Vec::with_capacity(64),
            stalls: 0,
            peak: Cell::new(0),
        })
    }

    /// Tells `inspect` what the store knows of context, when that has changed.
    #[allow(unsafe_code)]
    pub fn recall(&mut self, inspect: &mut dyn Inspect) {
        let begun = word(&self.words, words::SNAPSHOT).load(Acquire);
        if begun == self.recalled || begun % 2 == 1 {
            return;
        }
        let len = (word(&self.words, words::SNAPSHOT_LEN).load(Relaxed) as usize).min(SNAPSHOT_MAX);
        let mut copy = Vec::with_capacity(len);
        // SAFETY: inside the mapping; the store may write at the same time, so that the bytes are copied as raw memory,
        // and the copy is looked at only when it did not.
        unsafe {
            std::ptr::copy_nonoverlapping(self.words.base().as_ptr().add(SNAPSHOT_AT), copy.as_mut_ptr(), len);
            copy.set_len(len);
        }
        fence(SeqCst);
        if word(&self.words, words::SNAPSHOT).load(Acquire) == begun {
            self.recalled = begun;
            inspect.recall(&copy);
        }
    }

    fn take_over(&mut self, epoch: u64, inspect: &mut dyn Inspect) -> Recovered {
        self.point_slots();
        if self.word(head::MAGIC).load(Acquire) != MAGIC {
            self.begin(epoch);
            return Recovered { fresh: true, datagrams: 0 };
        }
        self.published = self.believable_published();
        self.word(head::PUBLISHED).store(self.published, Release);
        self.find_head();
        self.blame();
        for slot in 0..CONNECTIONS as u16 {
            self.settle_connection(slot);
        }
        self.settle_slots();
        self.count(head::RECOVERED, self.pending);
        let datagrams = self.pending;
        self.inspect_slots(inspect);
        self.hand_over();
        Recovered { fresh: false, datagrams }
    }

    /// Numbers go on where the store stands: it may have served a memory of another layout.
    fn begin(&mut self, epoch: u64) {
        self.published = self.durable_word();
        self.word(head::PUBLISHED).store(self.published, Relaxed);
        let drops = (0..DROP_REASONS).map(|reason| head::DROPPED + reason * 8);
        let words = [head::SLOTS_BATCH, head::SLOTS_LISTENER, head::WORKING_ON, head::RECOVERED, head::UNPARSED];
        for at in words.into_iter().chain([head::AWAITED]).chain(drops) {
            self.word(at).store(0, Relaxed);
        }
        self.empty_slots();
        for slot in 0..CONNECTIONS as u16 {
            self.disown(slot);
        }
        self.word(head::EPOCH).store(epoch, Relaxed);
        self.word(head::MAGIC).store(MAGIC, Release);
    }

    /// What a predecessor says it published, as far as that can be: no less than is on disk, no more than there are
    /// descriptors.
    fn believable_published(&self) -> u64 {
        let durable = self.durable_word();
        self.word(head::PUBLISHED).load(Acquire).clamp(durable, durable + DESCRIPTORS - 1)
    }

    /// Notes a death at what the predecessor was framing.
    fn blame(&self) {
        let place = self.word(head::WORKING_ON).load(Acquire);
        let number = (place & 0xffff_ffff) as usize;
        let deaths = match place >> 32 {
            kind if kind == SLOT >> 32 && number < SLOTS => self.slot_deaths(number),
            kind if kind == CONNECTION >> 32 && number < CONNECTIONS => self.connection_deaths(number as u16),
            _ => return,
        };
        deaths.store(deaths.load(Relaxed).saturating_add(1), Relaxed);
        self.word(head::WORKING_ON).store(0, Release);
    }

    /// Publishes what was read from connections, and datagrams that found no room before. False when there is still
    /// none for these: call again when the store has gone on.
    pub fn hand_over(&mut self) -> bool {
        self.publish_connections();
        self.publish_slots()
    }

    /// Batches published in this epoch.
    pub const fn published(&self) -> u64 {
        self.published
    }

    /// Times the ring was found full.
    pub const fn stalls(&self) -> u64 {
        self.stalls
    }

    /// Datagrams taken over from collectors that died, since the memory was made.
    pub fn recovered(&self) -> u64 {
        self.word(head::RECOVERED).load(Relaxed)
    }

    /// Records that were kept without being looked at because collectors had died over them, since the memory was
    /// made. A collector that dies just then may leave some uncounted; the records themselves carry the mark.
    pub fn unparsed(&self) -> u64 {
        self.word(head::UNPARSED).load(Relaxed)
    }

    /// Messages dropped under `reason`, since the memory was made.
    pub fn dropped(&self, reason: u8) -> u64 {
        self.word(drop_word(usize::from(reason))).load(Relaxed)
    }

    /// Counts a message that is dropped before it reaches the ring. A reason that does not exist counts as the last.
    pub fn count_drop(&self, reason: u8) {
        self.count(drop_word(usize::from(reason)), 1);
    }

    /// A sender waits for all that was handed over so far: the store is to commit soon.
    pub fn await_published(&self) {
        self.word(head::AWAITED).store(self.published, Release);
    }

    /// True when all batches up to `batch` are on disk.
    pub fn is_durable(&self, batch: u64) -> bool {
        self.durable() >= batch
    }

    /// Datagrams that were received and wait for room in the ring.
    pub const fn pending(&self) -> usize {
        self.pending
    }

    /// True when the store has made everything durable.
    pub fn is_drained(&self) -> bool {
        self.pending == 0 && self.durable() >= self.published
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable_word().min(self.published)
    }

    /// Halved at most, so that numbers can be added to it.
    fn durable_word(&self) -> u64 {
        word(&self.words, words::DURABLE).load(Acquire).min(u64::MAX >> 1)
    }

    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        word(&self.map, at)
    }

    pub(super) fn count(&self, at: usize, more: usize) {
        let word = self.word(at);
        word.store(word.load(Relaxed).wrapping_add(more as u64), Relaxed);
    }

    /// True when the store asked to be woken and there is reason to.
    pub fn wants_waking(&self) -> bool {
        fence(SeqCst);
        let waiting = word(&self.words, words::WAITING).load(SeqCst);
        if waiting == Waiting::Idle as u64 {
            return self.durable() < self.published;
        }
        let taken = word(&self.words, words::TAKEN).load(Relaxed) as u32;
        let behind = self.bytes.wrapping_sub(taken) >= BEHIND;
        waiting == Waiting::Filling as u64 && (behind || self.word(head::AWAITED).load(Relaxed) > self.durable())
    }

    /// Begins at the front of the ring again when all is durable, and gives back what an outage of the store had made it
    /// grow to: a ring that is walked through takes all its pages.
    pub fn rewind(&mut self) -> io::Result<()> {
        if !self.is_drained() || self.building.is_some() {
            return Ok(());
        }
        let grown = self.head > SMALL;
        self.head = 0;
        self.peak.set(0);
        if grown { self.map.punch(RING_AT + SMALL..RING_AT + RING) } else { Ok(()) }
    }

    /// Gives pages back that the ring, long datagrams and connections took. Call after a calm minute.
    pub fn shrink(&mut self) -> io::Result<()> {
        self.shrink_connections()?;
        if !self.is_drained() || self.building.is_some() {
            return Ok(());
        }
        self.head = 0;
        self.peak.set(0);
        self.map.punch(RING_AT + RING_SOFT..RING_AT + RING)?;
        self.map.punch(FAR_AT..BUFFERS_AT)
    }
}
