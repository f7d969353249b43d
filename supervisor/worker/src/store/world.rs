//! What the store asks of the world around it: what time it is, and how large the disk is. Everything else that it does
//! follows from that and from what it is sent, so that fourteen days can be gone through in a second ([`super::soak`]).

use anyhow::Context;
use nix::sys::statvfs::statvfs;
use nix::time::{ClockId, clock_gettime};
use raven_buffer::shares::Space;
use raven_model::units::UnixNanos;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The real one is [`Machine`].
pub(super) trait World {
    /// The clock that is never stepped.
    fn now(&self) -> Instant;
    /// The wall clock, which may be.
    fn wall(&self) -> UnixNanos;
    /// Wall clock minus the clock that is never stepped, nanoseconds.
    fn wall_offset(&self) -> i128;
    /// The file system of the ring; what the ring has of it is not filled in.
    fn space(&self, ring: &Path) -> anyhow::Result<Space>;
}

/// This machine.
pub(super) struct Machine;

impl World for Machine {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> UnixNanos {
        UnixNanos(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
    }

    fn wall_offset(&self) -> i128 {
        let steady = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map_or(0, |t| i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec()));
        i128::from(self.wall().0) - steady
    }

    fn space(&self, ring: &Path) -> anyhow::Result<Space> {
        let fs =
            statvfs(ring).with_context(|| format!("cannot ask the size of the file system of {}", ring.display()))?;
        let unit = fs.fragment_size();
        // Blocks that are root's alone are not ours to take.
        Ok(Space { size: fs.blocks() * unit, free: fs.blocks_available() * unit, ours: 0 })
    }
}
