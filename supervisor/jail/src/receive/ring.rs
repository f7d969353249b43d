//! The byte ring: where the next batch goes, and the hand-over.
//!
//! ```text
//!  0            tail          head     soft                    RING
//!  │   free      │  not durable │ free  ┊  free, rarely touched  │     head > tail
//!  │ not durable │     free     │ not durable   │    unused      │     head <= tail, the names changed places
//! ```
//!
//! A batch lies in one piece. The ring wraps at the soft limit as long as there is plenty of room in front of the tail,
//! so that an idle box keeps few pages; while the store is behind it grows to its full length first.

use super::collector::CollectorMemory;
use super::crash::point;
use super::layout::{BATCH_MAX, DESCRIPTORS, RING, RING_SOFT, descriptor_at, head, word};
use super::time::Clock;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// Where the ring stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Batches handed over.
    pub published: u64,
    /// Of those, on disk; not more.
    pub durable: u64,
    /// Behind the newest batch.
    pub head: usize,
    /// Start of the oldest batch that is not durable. Without meaning when all are.
    pub tail: usize,
    /// Most bytes that were ever under way at a time: the next commit may take as long as the slowest did.
    pub peak: usize,
}

impl Room {
    /// Offset for `need` bytes in one piece, or `None` when the store is too far behind.
    pub fn place(&self, need: usize) -> Option<usize> {
        if self.published - self.durable >= DESCRIPTORS - 1 || need > BATCH_MAX {
            return None;
        }
        let (head, tail) = (self.head.min(RING), self.tail.min(RING));
        if self.durable == self.published {
            return Some(if head + need <= RING_SOFT { head } else { 0 });
        }
        if head <= tail {
            // Never up to the tail itself: equal means full.
            return (head + need < tail).then_some(head);
        }
        // Once it has wrapped, the ring is no longer than what lies before the tail: wrap only where that is plenty for
        // as much as was ever under way, else grow.
        let plenty = tail >= 2 * self.peak.max(head - tail) + 2 * need;
        if head + need <= RING_SOFT || (!plenty && head + need <= RING) {
            Some(head)
        } else {
            (need < tail).then_some(0)
        }
    }
}

impl CollectorMemory {
    /// Offset for `need` bytes in one piece, or `None` when the store is too far behind.
    pub(super) fn place(&self, need: usize) -> Option<usize> {
        let durable = self.durable();
        let (tail, _) = self.extent(durable + 1);
        if durable < self.published {
            self.peak.set(self.peak.get().max(self.head.saturating_sub(tail)));
        }
        Room { published: self.published, durable, head: self.head, tail, peak: self.peak.get() }.place(need)
    }

    /// Start and end of a batch in the ring.
    fn extent(&self, batch: u64) -> (usize, usize) {
        let extent = word(&self.map, descriptor_at(batch) + 8).load(Relaxed);
        let (start, len) = ((extent & 0xffff_ffff) as usize, (extent >> 32) as usize);
        (start.min(RING), (start + len).min(RING))
    }

    /// Goes on behind the newest batch of a predecessor.
    pub(super) fn find_head(&mut self) {
        let at = descriptor_at(self.published);
        if self.published == 0 || word(&self.map, at).load(Relaxed) != self.published {
            return;
        }
        self.head = self.extent(self.published).1;
        self.bytes = (word(&self.map, at + 16).load(Relaxed) >> 32) as u32;
    }

    /// Hands a batch over.
    pub(super) fn publish(&mut self, offset: usize, used: usize, count: u32, clock: Clock) {
        let number = self.published + 1;
        let bytes = self.bytes.wrapping_add(used as u32);
        let at = descriptor_at(number);
        point("ring: framed", 0);
        word(&self.map, at).store(number, Relaxed);
        word(&self.map, at + 8).store(offset as u64 | (used as u64) << 32, Relaxed);
        point("ring: half a descriptor", 0);
        word(&self.map, at + 16).store(u64::from(count) | u64::from(bytes) << 32, Relaxed);
        word(&self.map, at + 24).store(clock.mono_offset as u64, Relaxed);
        point("ring: descriptor", 0);
        word(&self.map, head::PUBLISHED).store(number, Release);
        point("ring: published", 0);
        (self.published, self.head, self.bytes) = (number, offset + used, bytes);
    }
}
