//! When the next record is due.

use std::time::Duration;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Records per second; 0 = as fast as possible.
    pub rate: u64,
    /// Time in which the rate is reached.
    pub ramp: Duration,
    /// Records in all.
    pub count: Option<u64>,
    /// Time in all.
    pub duration: Option<Duration>,
}

impl Pace {
    /// How many records should go out now, when `sent` have gone; `None` when it is done.
    pub fn due(&self, elapsed: Duration, sent: u64) -> Option<u64> {
        let left = self.left(sent);
        if left == 0 || self.duration.is_some_and(|duration| elapsed >= duration) {
            return None;
        }
        let due = if self.rate == 0 { left } else { self.by_now(elapsed).saturating_sub(sent) };
        Some(due.min(left))
    }

    /// How many are left of the count, when `sent` have gone.
    pub fn left(&self, sent: u64) -> u64 {
        self.count.map_or(u64::MAX, |count| count.saturating_sub(sent))
    }

    /// Records that should have gone by now: half the rate, on average, while it rises.
    fn by_now(&self, elapsed: Duration) -> u64 {
        let (t, ramp, rate) = (elapsed.as_secs_f64(), self.ramp.as_secs_f64(), self.rate as f64);
        let full = (t - ramp).max(0.0) * rate;
        let rising = t.min(ramp);
        let risen = if ramp > 0.0 { rate * rising * rising / (2.0 * ramp) } else { 0.0 };
        (full + risen) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Pace = Pace { rate: 1000, ramp: Duration::ZERO, count: Some(1500), duration: None };

    #[test]
    fn what_is_late_is_made_up_and_the_count_is_exact() {
        assert_eq!(PLAIN.due(Duration::from_millis(100), 0), Some(100));
        assert_eq!(PLAIN.due(Duration::from_millis(100), 100), Some(0));
        assert_eq!(PLAIN.due(Duration::from_secs(9), 1400), Some(100));
        assert_eq!(PLAIN.due(Duration::from_secs(9), 1500), None);
    }

    #[test]
    fn a_ramp_sends_half_while_it_rises() {
        let ramp = Pace { ramp: Duration::from_secs(2), count: None, ..PLAIN };
        assert_eq!(ramp.due(Duration::from_secs(1), 0), Some(250));
        assert_eq!(ramp.due(Duration::from_secs(2), 0), Some(1000));
        assert_eq!(ramp.due(Duration::from_secs(3), 0), Some(2000));
    }

    #[test]
    fn flat_out_ends_with_the_time() {
        let flat = Pace { rate: 0, count: None, duration: Some(Duration::from_secs(1)), ..PLAIN };
        assert_eq!(flat.due(Duration::from_millis(999), 5), Some(u64::MAX));
        assert_eq!(flat.due(Duration::from_secs(1), 5), None);
    }
}
