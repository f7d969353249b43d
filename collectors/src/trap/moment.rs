//! Time as the trap collector needs it: a clock that never goes back and also runs while the machine sleeps, since a
//! sender's clock is held against it.

use nix::time::{ClockId, clock_gettime};
use raven_decode::snmp::Seconds;

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

/// A moment, in nanoseconds since the machine was started (CLOCK_BOOTTIME).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME);
        Self(time.map_or(0, |time| time.tv_sec() as u64 * SECOND + time.tv_nsec() as u64))
    }

    /// As SNMP counts.
    pub const fn seconds(self) -> Seconds {
        Seconds(self.0 / SECOND)
    }

    /// Nanoseconds since an earlier one.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
