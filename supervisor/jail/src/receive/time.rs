//! The clocks of a batch.

use std::time::{SystemTime, UNIX_EPOCH};

/// Both clocks at one moment, nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Since 1970.
    pub wall: u64,
    /// Wall minus monotonic.
    pub mono_offset: i64,
}

/// Reads both.
pub(super) fn now() -> Clock {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let mono = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64);
    Clock { wall, mono_offset: wall.wrapping_sub(mono).cast_signed() }
}
