//! How fast the backfill lane goes: in bursts, each acknowledged before the next begins, with a rest in between. Pure.
//!
//! A burst is made as large as is acknowledged in [`BURST_SHORT`] to [`BURST_LONG`], so that on a slow link little lies
//! in the queues before the live lane's records. A share of 80 % rests a quarter of the time that the burst took: it
//! needs no measurement of the link, which would measure its own effect. A rate rests until the burst is paid for.

use raven_model::config::Backfill;
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
    Burst { since: Instant, bytes: u64, records: u64 },
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
            self.adapt(now - since);
            self.state = State::Rest { until: Some(self.rest_until(now, since, bytes, records)) };
        }
        match self.state {
            State::Rest { until: Some(until) } if until > now => Gate::Shut(until),
            State::Burst { bytes, records, .. } => self.left(bytes, records),
            _ => self.left(0, 0),
        }
    }

    /// So much was handed out.
    pub fn handed(&mut self, now: Instant, bytes: u64, records: u64) {
        let (since, bytes, records) = match self.state {
            State::Burst { since, bytes: b, records: r } => (since, b + bytes, r + records),
            _ => (now, bytes, records),
        };
        let is_full = matches!(self.left(bytes, records), Gate::Open { bytes: 0, .. } | Gate::Open { records: 0, .. });
        self.state = if is_full {
            State::Drain { since, bytes, records, by: now + DRAIN_MAX }
        } else {
            State::Burst { since, bytes, records }
        };
    }

    fn left(&self, bytes: u64, records: u64) -> Gate {
        let of_rate = |rate: u64| ((rate as f64 * BURST_OF_RATE.as_secs_f64()) as u64).max(1);
        let (most_bytes, most_records) = match self.cap {
            Backfill::Share(_) => (self.burst, u64::MAX),
            Backfill::Bytes(rate) => (self.burst.min(of_rate(rate.0)), u64::MAX),
            Backfill::Records(rate) => (self.burst, of_rate(u64::from(rate))),
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
            Backfill::Bytes(rate) => paid(bytes, rate.0),
            Backfill::Records(rate) => paid(records, u64::from(rate)),
        }
    }
}
