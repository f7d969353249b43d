//! How fast the backfill lane goes: in bursts, each acknowledged before the next begins, with a rest in between. Pure.
//!
//! A burst is made as large as is acknowledged in [`BURST_SHORT`] to [`BURST_LONG`], so that on a slow link little lies
//! in the queues before the live lane's records. A share of 80 % rests a quarter of the time that the burst took: it
//! needs no measurement of the link, which would measure its own effect. A rate rests until the burst is paid for.

use raven_model::config::{Backfill, Rate};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of the first burst.
const BURST_FIRST: u64 = 64 * 1024;
const BURST_MIN: u64 = 16 * 1024;
const BURST_MAX: u64 = 32 << 20;
/// A burst that took less makes the next twice as large, one that took more half as large.
const BURST_SHORT: Duration = Duration::from_millis(200);
const BURST_LONG: Duration = Duration::from_millis(400);
/// With a rate, a burst is what it allows in this time.
const BURST_OF_RATE: Duration = Duration::from_millis(250);
/// The next burst begins even when the last is not acknowledged after so long: there may be records that never are.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Whether records may be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// So many at most.
    Open {
        /// Bytes.
        bytes: u64,
        /// Records.
        records: u64,
    },
    /// Not before.
    Shut(Instant),
}

/// Paces one backfill lane.
#[derive(Debug)]
pub struct Pacer {
    cap: Backfill,
    burst: u64,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Rest { until: Option<Instant> },
    Burst { since: Instant, last: Instant, bytes: u64, records: u64 },
    Drain { since: Instant, bytes: u64, records: u64, by: Instant },
}

impl Pacer {
    /// With nothing handed out.
    pub const fn new(cap: Backfill) -> Self {
        Self { cap, burst: BURST_FIRST, state: State::Rest { until: None } }
    }

    /// Whether records may be handed out; `under_way` of those handed out are not acknowledged.
    pub fn gate(&mut self, now: Instant, under_way: impl FnOnce() -> u64) -> Gate {
        if let State::Drain { since, bytes, records, by } = self.state {
            if now < by && under_way() > 0 {
                return Gate::Shut(by);
            }
            // An outage that comes between is not time that the link took.
            let end = now.min(by);
            self.adapt(end - since);
            self.state = State::Rest { until: Some(self.rest_until(end, since, bytes, records)) };
        }
        match self.state {
            State::Rest { until: Some(until) } if until > now => Gate::Shut(until),
            State::Burst { last, bytes, records, .. } if now < last + DRAIN_MAX => self.left(bytes, records),
            _ => self.left(0, 0),
        }
    }

    /// So much was handed out.
    pub fn handed(&mut self, now: Instant, bytes: u64, records: u64) {
        let (since, bytes, records) = match self.state {
            // One that broke off, for want of records or of a connection, is over.
            State::Burst { since, last, bytes: b, records: r } if now < last + DRAIN_MAX => {
                (since, b + bytes, r + records)
            }
            _ => (now, bytes, records),
        };
        let is_full = matches!(self.left(bytes, records), Gate::Open { bytes: 0, .. } | Gate::Open { records: 0, .. });
        self.state = if is_full {
            State::Drain { since, bytes, records, by: now + DRAIN_MAX }
        } else {
            State::Burst { since, last: now, bytes, records }
        };
    }

    fn left(&self, bytes: u64, records: u64) -> Gate {
        let of_rate = |rate: u64| ((rate as f64 * BURST_OF_RATE.as_secs_f64()) as u64).max(1);
        let (most_bytes, most_records) = match self.cap {
            Backfill::Share(_) => (self.burst, u64::MAX),
            Backfill::Rate(Rate::Bytes(rate)) => (self.burst.min(of_rate(rate.0)), u64::MAX),
            Backfill::Rate(Rate::Records(rate)) => (self.burst, of_rate(u64::from(rate))),
        };
        Gate::Open { bytes: most_bytes.saturating_sub(bytes), records: most_records.saturating_sub(records) }
    }

    fn adapt(&mut self, took: Duration) {
        if took < BURST_SHORT {
            self.burst = (self.burst * 2).min(BURST_MAX);
        } else if took > BURST_LONG {
            self.burst = (self.burst / 2).max(BURST_MIN);
        }
    }

    fn rest_until(&self, now: Instant, since: Instant, bytes: u64, records: u64) -> Instant {
        let paid = |amount: u64, rate: u64| since + Duration::from_secs_f64(amount as f64 / rate.max(1) as f64);
        match self.cap {
            Backfill::Share(percent) => {
                let share = f64::from(percent.clamp(1, 100)) / 100.0;
                now + (now - since).mul_f64((1.0 - share) / share)
            }
            Backfill::Rate(Rate::Bytes(rate)) => paid(bytes, rate.0),
            Backfill::Rate(Rate::Records(rate)) => paid(records, u64::from(rate)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::units::ByteCount;

    /// Bytes handed out in 20 s over a link that takes `link` bytes a second, records of 100 bytes.
    fn sent(cap: Backfill, link: f64) -> u64 {
        let begun = Instant::now();
        let (mut pacer, mut now, mut sent, mut busy_until) = (Pacer::new(cap), begun, 0, begun);
        while now < begun + Duration::from_secs(20) {
            match pacer.gate(now, || u64::from(busy_until > now)) {
                Gate::Open { bytes, records } => {
                    let chunk = bytes.min(records.saturating_mul(100)).min(20_000);
                    pacer.handed(now, chunk, chunk.div_ceil(100));
                    sent += chunk;
                    busy_until = busy_until.max(now) + Duration::from_secs_f64(chunk as f64 / link);
                    // One window: the socket takes no more than a little ahead.
                    now = now.max(busy_until - Duration::from_millis(20).min(busy_until - begun));
                }
                Gate::Shut(until) => {
                    now = if busy_until > now { busy_until.min(until) } else { until };
                }
            }
        }
        sent
    }

    #[test]
    fn a_share_leaves_the_rest_of_the_link_alone() {
        for link in [125_000.0, 10e6] {
            let all = sent(Backfill::Share(100), link) as f64;
            let half = sent(Backfill::Share(50), link) as f64;
            assert!(all > 0.85 * link * 20.0, "{all} of {}", link * 20.0);
            assert!((0.4..0.6).contains(&(half / all)), "{half} of {all}");
        }
    }

    #[test]
    fn a_rate_is_kept_whatever_the_link_takes() {
        let bytes = sent(Backfill::Rate(Rate::Bytes(ByteCount(100_000))), 50e6);
        assert!((1_800_000..=2_100_000).contains(&bytes), "{bytes}");
        let bytes = sent(Backfill::Rate(Rate::Records(500)), 50e6);
        assert!((900_000..=1_050_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn after_three_days_without_a_link_or_without_a_backlog_it_goes_on_at_once() {
        let days = Duration::from_hours(3 * 24);
        for first_burst in [BURST_FIRST / 2, BURST_FIRST] {
            let mut pacer = Pacer::new(Backfill::Share(80));
            let begun = Instant::now();
            pacer.handed(begun, first_burst, 1);
            let mut now = begun + days;
            for _ in 0..3 {
                let Gate::Open { bytes, .. } = pacer.gate(now, || 0) else { panic!("it rests at {:?}", now - begun) };
                pacer.handed(now, bytes, 1);
                now += Duration::from_millis(100);
                pacer.gate(now, || 0);
                now += Duration::from_millis(25);
            }
        }
    }

    #[test]
    fn on_a_slow_link_a_burst_lies_in_its_queues_for_less_than_half_a_second() {
        let mut pacer = Pacer::new(Backfill::Share(100));
        let mut now = Instant::now();
        for _ in 0..20 {
            let Gate::Open { bytes, .. } = pacer.gate(now, || 0) else { panic!("open at {now:?}") };
            pacer.handed(now, bytes, 1);
            now += Duration::from_secs_f64(bytes as f64 / 125_000.0);
            assert_eq!(pacer.gate(now, || 0), Gate::Open { bytes: pacer.burst, records: u64::MAX });
        }
        assert!((25_000..=50_000).contains(&pacer.burst), "{}", pacer.burst);
    }
}
