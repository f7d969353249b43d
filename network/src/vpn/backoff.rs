//! Pauses between attempts: each twice as long as the one before, up to a longest one, and different by a fifth from box to
//! box: when a server comes back, not all of its clients come at once.

use std::time::Duration;

/// Of one tunnel.
#[derive(Debug)]
pub struct Backoff(u64);

impl Backoff {
    /// With a seed of this tunnel's own.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The pause after so many attempts that failed: the first, and the longest there is.
    pub fn pause(&mut self, (first, longest): (Duration, Duration), failures: u32) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let jitter = ((self.0 >> 33) % 400) as u32;
        first.saturating_mul(1 << failures.min(16)).min(longest) * (800 + jitter) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_not_the_same_twice() {
        let (bounds, mut backoff) = ((Duration::from_secs(1), Duration::from_secs(30)), Backoff::new(7));
        let pauses: Vec<Duration> = (0..40).map(|failures| backoff.pause(bounds, failures)).collect();
        for (pause, plain) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30].into_iter().map(Duration::from_secs)) {
            assert!(*pause >= plain * 4 / 5 && *pause <= plain * 6 / 5, "{pause:?} for {plain:?}");
        }
        assert!(pauses.iter().skip(5).all(|pause| *pause <= Duration::from_secs(36)));
        assert!(pauses.windows(2).skip(5).any(|pair| pair[0] != pair[1]), "{pauses:?}");
    }
}
