//! Round-trip times: counted in steps of 1 %, so that a day of pings takes no more room than a minute of them.

use raven_model::diag::Rtt;
use std::collections::BTreeMap;
use std::time::Duration;

/// Steps to each doubling: a step is 1.1 %.
const STEPS: f64 = 64.0;

/// Times of one target or hop.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// How many were in each step.
    steps: BTreeMap<u16, u32>,
    count: u64,
    sum: u64,
    least: u32,
    most: u32,
    last: Option<u32>,
    /// Mean, and sum of the squares of the distances from it (Welford's).
    spread: (f64, f64),
    /// Of differences of two that follow each other: sum and count.
    differences: (u64, u64),
}

impl Times {
    /// Takes one.
    pub fn add(&mut self, time: Duration) {
        let us = micros(time);
        self.least = if self.count == 0 { us } else { self.least.min(us) };
        self.most = self.most.max(us);
        (self.count, self.sum) = (self.count + 1, self.sum + u64::from(us));
        let off = f64::from(us) - self.spread.0;
        self.spread.0 += off / self.count as f64;
        self.spread.1 += off * (f64::from(us) - self.spread.0);
        if let Some(last) = self.last.replace(us) {
            self.differences = (self.differences.0 + u64::from(last.abs_diff(us)), self.differences.1 + 1);
        }
        *self.steps.entry(step(us)).or_default() += 1;
    }

    /// Summed up; nothing where there are none.
    pub fn rtt(&self) -> Option<Rtt> {
        let mean = self.sum.checked_div(self.count)?;
        let (jitter, of) = self.differences;
        Some(Rtt {
            min_us: self.least,
            mean_us: mean as u32,
            p50_us: self.percentile(50),
            p95_us: self.percentile(95),
            p99_us: self.percentile(99),
            max_us: self.most,
            jitter_us: jitter.checked_div(of).unwrap_or_default() as u32,
            last_us: self.last.unwrap_or_default(),
            stdev_us: (self.spread.1 / self.count as f64).sqrt() as u32,
        })
    }

    /// The time that so many percent do not exceed: nearest rank.
    fn percentile(&self, percent: u64) -> u32 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (step, count) in &self.steps {
            seen += u64::from(*count);
            if seen >= rank {
                return middle(*step).clamp(self.least, self.most);
            }
        }
        self.most
    }
}

/// Microseconds; 71 minutes at most.
pub fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Short ones stand for themselves, so that the first doublings are not divided finer than a microsecond.
fn step(us: u32) -> u16 {
    if us < STEPS as u32 { us as u16 } else { (f64::from(us).log2() * STEPS) as u16 }
}

fn middle(step: u16) -> u32 {
    if f64::from(step) < STEPS { u32::from(step) } else { ((f64::from(step) + 0.5) / STEPS).exp2() as u32 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn percentiles_are_within_one_percent() {
        let mut times = Times::default();
        for n in (1..=10_000_u64).rev() {
            times.add(Duration::from_micros(n * 7));
        }
        let rtt = times.rtt().unwrap();
        assert_eq!((rtt.min_us, rtt.max_us, rtt.mean_us, rtt.jitter_us), (7, 70_000, 35_003, 7));
        assert_eq!((rtt.last_us, rtt.stdev_us), (7, 20_207));
        for (found, exact) in [(rtt.p50_us, 35_000.0), (rtt.p95_us, 66_500.0), (rtt.p99_us, 69_300.0)] {
            assert!((f64::from(found) / exact - 1.0).abs() < 0.01, "{found} for {exact}");
        }
    }

    #[test]
    fn few_and_short_and_endless_ones_are_what_they_are() {
        assert_eq!(Times::default().rtt(), None);
        let mut times = Times::default();
        times.add(Duration::from_micros(3));
        let rtt = times.rtt().unwrap();
        assert_eq!((rtt.p50_us, rtt.p99_us, rtt.jitter_us), (3, 3, 0));
        times.add(Duration::from_hours(3));
        assert_eq!(times.rtt().unwrap().max_us, u32::MAX);
    }
}
