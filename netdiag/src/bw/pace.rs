//! How long a sender must wait so that it is not faster than asked for.

use std::time::Duration;

/// Shorter pauses cost more than they are worth: the kernel's timers are some 50 µs late, and each wakes a thread.
const SHORTEST: Duration = Duration::from_micros(200);
/// Longer ones would hide that the test has ended.
const LONGEST: Duration = Duration::from_millis(100);

/// So many bits a second, over all of its time: who was late makes up for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(u64);

impl Pace {
    /// Bits a second, at least 1.
    pub fn new(rate: u64) -> Self {
        Self(rate.max(1))
    }

    /// How long to wait until more may follow after `bytes`, `elapsed` after the first; nothing when it may now.
    pub fn pause(self, bytes: u64, elapsed: Duration) -> Option<Duration> {
        let due = u128::from(bytes) * 8_000_000_000 / u128::from(self.0);
        let early = due.saturating_sub(elapsed.as_nanos());
        let early = Duration::from_nanos(u64::try_from(early).unwrap_or(u64::MAX));
        // What is due within the next moment may as well leave: the mean stays.
        (early > SHORTEST / 2).then(|| early.clamp(SHORTEST, LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_thousand_bytes_at_a_megabit_last_eight_milliseconds() {
        let pace = Pace::new(1_000_000);
        assert_eq!(pace.pause(0, Duration::ZERO), None);
        assert_eq!(pace.pause(1000, Duration::from_millis(1)), Some(Duration::from_millis(7)));
        assert_eq!(pace.pause(1000, Duration::from_millis(8)), None);
        assert_eq!(pace.pause(u64::MAX, Duration::ZERO), Some(LONGEST));
        assert_eq!(Pace::new(0).pause(1, Duration::ZERO), Some(LONGEST));
    }

    proptest! {
        #[test]
        fn whoever_waits_as_told_is_as_fast_as_asked_for(rate in 100_000_u64..10_000_000_000, block in 16_u64..150_000) {
            let (pace, mut sent, mut now) = (Pace::new(rate), 0_u64, Duration::ZERO);
            for _ in 0..2000 {
                while let Some(pause) = pace.pause(sent, now) {
                    now += pause;
                }
                sent += block;
            }
            let due = (sent - block) as f64 * 8.0 / rate as f64;
            prop_assert!((now.as_secs_f64() - due).abs() < 0.0003, "{now:?} {due}");
        }
    }
}
