//! The collectors' side: a receive memory for each stream, and what a collector does not hand over.

use raven_jail::memory::memfd;
use raven_jail::receive::{self, Arrived, CollectorMemory, Contexts, Inspect, StoreMemory, Verdict};
use raven_model::stream::Stream;
use std::os::fd::OwnedFd;

/// The collector's number for a full ring, and the one for what it does not like.
pub const RING_FULL: u8 = 8;
const DISLIKED: u8 = 2;
/// What the collector does not like begins with this.
pub const DISLIKE: &[u8] = b"disliked";

/// A collector and its memory.
pub struct Input {
    pub fds: [OwnedFd; 3],
    pub collector: CollectorMemory,
    pub seen: StoreMemory,
}

/// Drops what is disliked.
pub struct Picky;

impl Inspect for Picky {
    fn recall(&mut self, _: &[u8]) {}
    fn begin(&mut self) {}
    fn inspect(&mut self, arrived: &Arrived<'_>, _: &mut Contexts) -> Verdict {
        if arrived.raw.starts_with(DISLIKE) { Verdict::Drop(DISLIKED) } else { Verdict::Keep }
    }
}

impl Input {
    pub fn new(stream: Stream, epoch: u64) -> Self {
        let (memory, words) = receive::create(stream.name()).expect("memory");
        let (collector, _) = CollectorMemory::open_small(&memory, &words, epoch, &mut Picky).expect("collector");
        let seen = StoreMemory::open(&memory, &words).expect("memory");
        Self { fds: [memory, words, memfd("wake", 0).expect("memory")], collector, seen }
    }
}
