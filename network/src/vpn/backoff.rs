//! Pauses between attempts: short ones first, then each twice as long as the one before, up to a longest one, and different
//! by a fifth from box to box: when a server comes back, not all of its clients come at once.

use std::time::Duration;

/// So many attempts that fail for want of an answer come at the first pause: most outages are over by then.
pub const HASTY: u32 = 60;
/// Hasty attempts that each second of a tunnel that works gives back.
const GIVEN_BACK: u32 = 6;

/// What counts of earlier failures once a tunnel has held for so long: nothing after 10 s, and never so much that the next
/// outage begins with a long pause.
pub fn remembered(failures: u32, held: Duration) -> u32 {
    let given_back = u32::try_from(held.as_secs()).unwrap_or(u32::MAX).saturating_mul(GIVEN_BACK);
    failures.min(HASTY.saturating_sub(given_back))
}

/// Of one tunnel.
#[derive(Debug)]
pub struct Backoff(u64);

impl Backoff {
    /// With a seed of this tunnel's own.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The pause after so many attempts that failed for want of an answer: [`HASTY`] of them are followed by the first.
    pub fn hasty(&mut self, bounds: (Duration, Duration), failures: u32) -> Duration {
        self.pause(bounds, failures.saturating_sub(HASTY))
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
    fn a_tunnel_that_holds_makes_its_failures_forgotten() {
        let seconds = [0, 1, 3, 10, 100].map(|held| remembered(1000, Duration::from_secs(held)));
        assert_eq!(seconds, [HASTY, HASTY - 6, HASTY - 18, 0, 0]);
        assert_eq!(remembered(2, Duration::from_secs(1)), 2);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_not_the_same_twice() {
        let (bounds, mut backoff) = ((Duration::from_secs(1), Duration::from_secs(30)), Backoff::new(7));
        let pauses: Vec<Duration> = (0..40).map(|failures| backoff.pause(bounds, failures)).collect();
        for (pause, plain) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30].into_iter().map(Duration::from_secs)) {
            assert!(*pause >= plain * 4 / 5 && *pause <= plain * 6 / 5, "{pause:?} for {plain:?}");
        }
        assert!(pauses.iter().skip(5).all(|pause| *pause <= Duration::from_secs(36)));
        assert!((0..=HASTY).all(|failures| backoff.hasty(bounds, failures) <= bounds.0 * 6 / 5));
        assert!(backoff.hasty(bounds, HASTY + 5) >= bounds.1 * 4 / 5);
        assert!(pauses.windows(2).skip(5).any(|pair| pair[0] != pair[1]), "{pauses:?}");
    }
}
