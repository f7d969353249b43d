//! Informs that were accepted and wait until their record is on disk: only then their sender may stop to repeat them.
//!
//! Which batch an inform goes into is not known when it is looked at: datagrams of one `recvmmsg` are published
//! together, and wait in their slots when the ring has no room. But nothing more is received before they are out, so
//! that the newest batch holds, or comes after, all that was looked at once no datagram waits.

use raven_jail::receive::CollectorMemory;
use raven_model::control::ListenerId;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Informs that may wait, and their bytes. The oldest are forgotten first; their senders repeat them.
const MOST: usize = 8192;
const MOST_BYTES: usize = 4 << 20;

/// An inform that waits.
#[derive(Debug)]
pub struct Waiting {
    /// The newest batch that it can be in; `None` while it may be in the slots.
    batch: Option<u64>,
    /// Whose socket it came in on.
    pub listener: ListenerId,
    /// Its sender.
    pub peer: SocketAddr,
    /// As it came.
    pub raw: Box<[u8]>,
}

/// All that wait, the oldest first.
#[derive(Debug, Default)]
pub struct Informs {
    waiting: VecDeque<Waiting>,
    /// Of those, in front, that have a batch.
    placed: usize,
    bytes: usize,
    forgotten: u64,
}

impl Informs {
    /// Remembers one that was just looked at.
    pub fn add(&mut self, listener: ListenerId, peer: SocketAddr, raw: &[u8]) {
        self.bytes += raw.len();
        self.waiting.push_back(Waiting { batch: None, listener, peer, raw: raw.into() });
        while self.waiting.len() > MOST || self.bytes > MOST_BYTES {
            self.pop();
            self.forgotten += 1;
        }
    }

    /// Notes how far the hand-over is.
    pub fn place(&mut self, memory: &CollectorMemory) {
        if memory.pending() > 0 {
            return;
        }
        for waiting in self.waiting.iter_mut().skip(self.placed) {
            waiting.batch = Some(memory.published());
        }
        self.placed = self.waiting.len();
    }

    /// The next one whose record is on disk.
    pub fn take_durable(&mut self, memory: &CollectorMemory) -> Option<Waiting> {
        let batch = self.waiting.front()?.batch?;
        if memory.is_durable(batch) { self.pop() } else { None }
    }

    /// True when none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Those that were forgotten since the start.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn pop(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.placed = self.placed.saturating_sub(1);
        self.bytes -= first.raw.len();
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_counted() {
        let peer = "192.0.2.1:1".parse().unwrap();
        let mut informs = Informs::default();
        for _ in 0..MOST + 5 {
            informs.add(1, peer, b"x");
        }
        assert_eq!((informs.waiting.len(), informs.forgotten(), informs.bytes), (MOST, 5, MOST));
        for _ in 0..100 {
            informs.add(1, peer, &vec![0; 65_507]);
        }
        assert!(informs.bytes <= MOST_BYTES);
        while informs.pop().is_some() {}
        assert_eq!((informs.bytes, informs.is_empty()), (0, true));
    }
}
