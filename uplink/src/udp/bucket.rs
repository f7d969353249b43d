//! How fast datagrams go out: a token bucket for both lanes of a destination. Pure.

use crate::lanes::Lane;
use raven_model::config::Rate;
use std::time::Duration;
use tokio::time::Instant;

/// Where nothing is configured. A flow datagram holds about 24 records.
pub const PACE: Rate = Rate::Records(10_000);

/// At most so much of the rate goes out at once: collectors have socket buffers for a hundred datagrams or so.
const BURST: Duration = Duration::from_millis(5);

/// Tokens are records or bytes, as the rate says.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Full.
    pub fn new(rate: Rate) -> Self {
        let mut bucket = Self { rate, tokens: 0.0, at: Instant::now() };
        bucket.tokens = bucket.most();
        bucket
    }

    /// Whether a datagram may go out now; if not, when to ask again. Backfill leaves half of the bucket to the present.
    pub fn ready(&mut self, lane: Lane, now: Instant) -> Result<(), Instant> {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * self.each_second();
        self.tokens = (self.tokens + grown).min(self.most());
        self.at = now;
        let needed = if lane == Lane::Live { 0.0 } else { self.most() / 2.0 };
        if self.tokens > needed {
            return Ok(());
        }
        let wait = (needed - self.tokens) / self.each_second() + 0.000_5;
        Err(now + Duration::from_secs_f64(wait))
    }

    /// A datagram of so many bytes went out.
    pub fn spend(&mut self, bytes: usize) {
        self.tokens -= match self.rate {
            Rate::Records(_) => 1.0,
            Rate::Bytes(_) => bytes as f64,
        };
    }

    fn each_second(&self) -> f64 {
        match self.rate {
            Rate::Records(records) => f64::from(records),
            Rate::Bytes(bytes) => bytes.0 as f64,
        }
    }

    fn most(&self) -> f64 {
        (self.each_second() * BURST.as_secs_f64()).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::units::ByteCount;

    /// Datagrams of 1,000 bytes sent in ten seconds by each lane, when each sends all it may.
    fn sent(rate: Rate, lanes: &[Lane]) -> Vec<u64> {
        let begun = Instant::now();
        let (mut bucket, mut now, mut sent) = (Bucket::new(rate), begun, vec![0; lanes.len()]);
        while now < begun + Duration::from_secs(10) {
            for (lane, sent) in lanes.iter().zip(&mut sent) {
                while bucket.ready(*lane, now).is_ok() {
                    bucket.spend(1000);
                    *sent += 1;
                }
            }
            now += Duration::from_millis(1);
        }
        sent
    }

    #[test]
    fn no_more_goes_out_than_the_rate_says() {
        for (rate, most) in
            [(Rate::Records(2000), 20_000), (Rate::Bytes(ByteCount(500_000)), 5_000), (Rate::Records(1), 10)]
        {
            for lane in [Lane::Live, Lane::Backfill] {
                let sent = sent(rate, &[lane])[0];
                assert!((most - most / 20 - 1..=most + most / 100 + 2).contains(&sent), "{rate}: {sent}");
            }
        }
    }

    #[test]
    fn the_present_goes_before_what_was_missed() {
        let sent = sent(Rate::Records(2000), &[Lane::Live, Lane::Backfill]);
        assert!(sent[0] > 19_000 && sent[1] < 100, "{sent:?}");
    }

    #[test]
    fn whoever_asks_again_when_told_may_send() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Rate::Records(100));
        assert_eq!(bucket.ready(Lane::Backfill, now), Ok(()));
        bucket.spend(1);
        let again = bucket.ready(Lane::Live, now).expect_err("empty");
        assert!(again > now && bucket.ready(Lane::Live, again).is_ok());
    }
}
