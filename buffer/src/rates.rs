//! Rates over a sliding window, from totals sampled about once a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Longest window asked for.
const KEEP: Duration = Duration::from_mins(1);

/// Samples closer than this replace each other, so that frequent callers cost no memory.
const STEP: Duration = Duration::from_millis(500);

/// A growing total, sampled.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    pub fn sample(&mut self, now: Instant, total: u64) {
        if self.samples.len() > 1 && self.samples.back().is_some_and(|(at, _)| now.duration_since(*at) < STEP) {
            return;
        }
        self.samples.push_back((now, total));
        // One sample older than the window stays, so that the window is always covered.
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) > KEEP) {
            self.samples.pop_front();
        }
    }

    /// Growth per second over the last `window`; 0 before there are two samples.
    pub fn per_second(&self, window: Duration) -> f64 {
        let Some((now, total)) = self.samples.back() else { return 0.0 };
        let start = self.samples.iter().find(|(at, _)| now.duration_since(*at) <= window + STEP);
        let Some((then, before)) = start.filter(|(at, _)| at < now) else { return 0.0 };
        total.saturating_sub(*before) as f64 / now.duration_since(*then).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_growth_over_the_window() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        for second in 0..100 {
            rate.sample(
                start + Duration::from_secs(second),
                if second < 90 { second * 10 } else { 900 + (second - 90) * 500 },
            );
        }
        assert!((rate.per_second(Duration::from_secs(5)) - 500.0).abs() < 1.0);
        assert!(rate.per_second(Duration::from_mins(1)) < 120.0);
        assert!(rate.samples.len() < 70);
    }
}
