//! The store's side: takes published batches out of the receive memory, copies only.

use super::layout::{
    BATCH_MAX, DESCRIPTOR, DESCRIPTORS, MAGIC, MEMORY_SIZE, RING, RING_AT, SNAPSHOT_AT, SNAPSHOT_MAX, WORDS_SIZE,
    descriptor_at, drop_word, expect_len, head, word, words,
};
use crate::memory::Mapping;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

/// A copy's memory beyond this is given back after a long batch.
const KEPT: usize = 2 << 20;

/// When the collector wakes the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The store is at work and looks by itself.
    Busy = 0,
    /// Everything is durable: wake on any batch.
    Idle = 1,
    /// A commit is due soon anyway: wake only when 256 KiB are unread.
    Filling = 2,
}

/// What a batch says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Its number, dense within the epoch.
    pub number: u64,
    /// Records in it, as the collector counted them.
    pub count: u32,
    /// Wall clock minus monotonic clock at the time, nanoseconds.
    pub mono_offset_ns: i64,
    /// Bytes of frames.
    pub len: usize,
}

/// A batch that is not what a collector writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The descriptor has been used for another batch.
    #[error("descriptor of batch {expected} names batch {found}")]
    Number {
        /// Asked for.
        expected: u64,
        /// There.
        found: u64,
    },
    /// Outside the ring, or longer than 256 full slots.
    #[error("batch {number} says bytes {at}+{len}, outside the ring or more than a batch can be")]
    Bounds {
        /// Its number.
        number: u64,
        /// Ring offset.
        at: u32,
        /// Length.
        len: u32,
    },
}

/// The receive memory of one stream, as the store sees it.
#[derive(Debug)]
pub struct StoreMemory {
    map: Mapping,
    words: Mapping,
}

impl StoreMemory {
    /// Maps the receive memory for reading and the words for writing.
    pub fn open(memory: &OwnedFd, words: &OwnedFd) -> io::Result<Self> {
        expect_len(memory, MEMORY_SIZE)?;
        expect_len(words, WORDS_SIZE)?;
        Ok(Self { map: Mapping::read_only(memory, MEMORY_SIZE)?, words: Mapping::shared(words, WORDS_SIZE)? })
    }

    /// Random number of this life of the memory; 0 while no collector has begun.
    pub fn epoch(&self) -> u64 {
        if word(&self.map, head::MAGIC).load(Acquire) == MAGIC { word(&self.map, head::EPOCH).load(Relaxed) } else { 0 }
    }

    /// Number of the newest batch. No more than there are descriptors behind what is durable, whatever the collector
    /// says.
    pub fn published(&self) -> u64 {
        word(&self.map, head::PUBLISHED).load(Acquire).min(self.durable().saturating_add(DESCRIPTORS - 1))
    }

    /// Number of the newest batch that was made durable.
    pub fn durable(&self) -> u64 {
        word(&self.words, words::DURABLE).load(Acquire)
    }

    /// Copies batch `number`, which must have been published, into `out` (cleared first).
    #[allow(unsafe_code)]
    pub fn take(&self, number: u64, out: &mut Vec<u8>) -> Result<Batch, BatchError> {
        out.clear();
        let descriptor = self.descriptor(number);
        let field = |at: usize| {
            u32::from_le_bytes([descriptor[at], descriptor[at + 1], descriptor[at + 2], descriptor[at + 3]])
        };
        let wide = |at: usize| u64::from(field(at)) | u64::from(field(at + 4)) << 32;
        let (found, at, len) = (wide(0), field(8), field(12));
        if found != number {
            return Err(BatchError::Number { expected: number, found });
        }
        let end = at as usize + len as usize;
        if len as usize > BATCH_MAX || end > RING {
            return Err(BatchError::Bounds { number, at, len });
        }
        let len = len as usize;
        if out.capacity() > KEPT && len <= KEPT {
            *out = Vec::with_capacity(KEPT);
        }
        out.reserve(len);
        // SAFETY: the range was just checked to lie in the ring; `out` has room for it; the bytes may change under us
        // if the collector lies, so they are copied as raw memory and only the copy is looked at.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.base().as_ptr().add(RING_AT + at as usize), out.as_mut_ptr(), len);
            out.set_len(len);
        }
        Ok(Batch { number, count: field(16), mono_offset_ns: wide(24).cast_signed(), len })
    }

    #[allow(unsafe_code)]
    fn descriptor(&self, number: u64) -> [u8; DESCRIPTOR] {
        // SAFETY: in bounds by the modulus; read as raw bytes, once.
        unsafe { std::ptr::read_volatile(self.map.base().as_ptr().add(descriptor_at(number)).cast()) }
    }

    /// Says that `bytes` more were taken, so that the collector knows how far behind the store is.
    pub fn taken(&self, bytes: usize) {
        let word = word(&self.words, words::TAKEN);
        word.store(word.load(Relaxed).wrapping_add(bytes as u64), Release);
    }

    /// Starts the count of taken bytes behind the newest durable batch.
    pub fn taken_all(&self) {
        let durable = self.durable();
        let at = descriptor_at(durable);
        let found = word(&self.map, at).load(Relaxed) == durable;
        let bytes = if found { word(&self.map, at + 16).load(Relaxed) >> 32 } else { 0 };
        word(&self.words, words::TAKEN).store(bytes, Release);
    }

    /// Gives the ring space of all batches up to `batch` back. Call only after the commit that holds them.
    pub fn set_durable(&self, batch: u64) {
        word(&self.words, words::DURABLE).store(batch, Release);
    }

    /// Messages that the collector dropped for the reason of this number, since the epoch began.
    pub fn dropped(&self, reason: usize) -> u64 {
        word(&self.map, drop_word(reason)).load(Relaxed)
    }

    /// True when a sender waits for a batch that is not durable.
    pub fn is_awaited(&self) -> bool {
        let awaited = word(&self.map, head::AWAITED).load(Acquire).min(self.published());
        awaited > self.durable()
    }

    /// Gives the collector what is known of context; at most [`SNAPSHOT_MAX`] bytes.
    pub fn set_snapshot(&self, snapshot: &[u8]) {
        let snapshot = &snapshot[..snapshot.len().min(SNAPSHOT_MAX)];
        let version = word(&self.words, words::SNAPSHOT);
        let begun = version.load(Relaxed) | 1;
        version.store(begun, SeqCst);
        fence(SeqCst);
        self.words.slice_mut(SNAPSHOT_AT..SNAPSHOT_AT + snapshot.len()).copy_from_slice(snapshot);
        word(&self.words, words::SNAPSHOT_LEN).store(snapshot.len() as u64, Relaxed);
        fence(SeqCst);
        version.store(begun.wrapping_add(1).max(2), Release);
    }

    /// Tells the collector when to wake the store. Returns the newest batch as seen after that: one published since
    /// the last look would otherwise be slept over.
    pub fn wait(&self, waiting: Waiting) -> u64 {
        word(&self.words, words::WAITING).store(waiting as u64, SeqCst);
        fence(SeqCst);
        self.published()
    }
}

const _: () = assert!(descriptor_at(1).is_multiple_of(8) && RING_AT.is_multiple_of(4096));
