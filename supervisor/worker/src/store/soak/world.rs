//! Chance, time and the disk of the soak.

use super::super::world::World;
use raven_buffer::shares::Space;
use raven_model::units::UnixNanos;
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// When the simulated box is switched on: 15 November 2026.
const START_NS: i128 = 1_794_700_800_000_000_000;

/// Numbers that look random, from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub const fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    /// True once in `n`.
    pub const fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The simulated clock is tokio's, which stands still but where the soak lets it go.
pub struct Simulated {
    begun: (Instant, tokio::time::Instant),
    /// By how much somebody stepped the wall clock.
    pub stepped_ns: Cell<i128>,
    /// All of the disk, bytes.
    pub size: u64,
    /// What others have taken of it.
    pub others: Cell<u64>,
}

impl Simulated {
    pub fn new(size: u64) -> Self {
        let begun = (Instant::now(), tokio::time::Instant::now());
        Self { begun, stepped_ns: Cell::new(0), size, others: Cell::new(0) }
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.1.elapsed()
    }
}

impl World for Simulated {
    fn now(&self) -> Instant {
        self.begun.0 + self.elapsed()
    }

    fn wall(&self) -> UnixNanos {
        UnixNanos((self.wall_offset() + self.elapsed().as_nanos().cast_signed()) as u64)
    }

    fn wall_offset(&self) -> i128 {
        START_NS + self.stepped_ns.get()
    }

    fn space(&self, ring: &Path) -> anyhow::Result<Space> {
        let used = self.others.get() + room(ring);
        Ok(Space { size: self.size, free: self.size.saturating_sub(used), ours: 0 })
    }
}

/// Bytes that the files below `dir` take.
fn room(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let taken = files.filter_map(|file| Some((file.path(), file.metadata().ok()?)));
    taken.map(|(path, meta)| if meta.is_dir() { room(&path) } else { meta.blocks() * 512 }).sum()
}
