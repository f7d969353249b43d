//! What receivers answered, and how long it took.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Steps within each power of two: a time is known to an eighth.
const STEPS: u32 = 8;

/// Answers that one sender got.
#[derive(Debug, Clone)]
pub struct Answers {
    /// Records that the receiver has taken over.
    pub acknowledged: u64,
    /// Records that it refused for good.
    pub rejected: u64,
    /// Records without an answer when all patience was spent.
    pub unanswered: u64,
    /// Records that were sent again.
    pub repeated: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Answers by their code.
    pub codes: BTreeMap<u16, u64>,
    /// Answers by microseconds, in steps that grow.
    latencies: Vec<u64>,
}

/// The same, as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerSummary {
    /// Records that the receiver has taken over.
    pub acknowledged: u64,
    /// Records that it refused for good.
    pub rejected: u64,
    /// Records without an answer when all patience was spent.
    pub unanswered: u64,
    /// Records that were sent again.
    pub repeated: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Answers by their code: of HTTP, of RELP; none for informs.
    pub codes: BTreeMap<u16, u64>,
    /// Half of the answers came within this time.
    pub p50_ms: f64,
    /// Nine tenths.
    pub p90_ms: f64,
    /// All but one in a hundred.
    pub p99_ms: f64,
    /// All.
    pub max_ms: f64,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            acknowledged: 0,
            rejected: 0,
            unanswered: 0,
            repeated: 0,
            reconnects: 0,
            codes: BTreeMap::new(),
            latencies: vec![0; 64 * STEPS as usize],
        }
    }
}

impl Answers {
    /// An answer came after this time.
    pub fn took(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.latencies.get_mut(step(micros)) {
            *count += 1;
        }
    }

    /// Of all senders; none when no sender waits for answers.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Option<Self> {
        all.cloned().reduce(|mut sum, one| {
            sum.acknowledged += one.acknowledged;
            sum.rejected += one.rejected;
            sum.unanswered += one.unanswered;
            sum.repeated += one.repeated;
            sum.reconnects += one.reconnects;
            one.codes.into_iter().for_each(|(code, count)| *sum.codes.entry(code).or_default() += count);
            sum.latencies.iter_mut().zip(&one.latencies).for_each(|(to, from)| *to += from);
            sum
        })
    }

    /// As shown.
    pub fn summary(self) -> AnswerSummary {
        AnswerSummary {
            p50_ms: self.within(0.5),
            p90_ms: self.within(0.9),
            p99_ms: self.within(0.99),
            max_ms: self.within(1.0),
            acknowledged: self.acknowledged,
            rejected: self.rejected,
            unanswered: self.unanswered,
            repeated: self.repeated,
            reconnects: self.reconnects,
            codes: self.codes,
        }
    }

    /// Milliseconds within which this share of the answers came.
    fn within(&self, share: f64) -> f64 {
        let all: u64 = self.latencies.iter().sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        if all == 0 { 0.0 } else { self.latencies.iter().position(reaches).map_or(0.0, |at| upper(at) / 1000.0) }
    }
}

/// The step that a number of microseconds falls into.
const fn step(micros: u64) -> usize {
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let power = micros.ilog2() - STEPS.ilog2();
    (power * STEPS) as usize + (micros >> power) as usize
}

/// One above the highest number of microseconds of a step.
fn upper(step: usize) -> f64 {
    let power = (step / STEPS as usize).saturating_sub(1);
    ((step + 1 - power * STEPS as usize) as f64) * (1_u64 << power) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_known_to_an_eighth() {
        for micros in (0..100_000).step_by(7).chain([1 << 40]) {
            let top = upper(step(micros));
            assert!(top > micros as f64 && top <= (micros as f64 * 1.126) + 1.0, "{micros}: {top}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_noted() {
        let mut answers = Answers::default();
        (1..=1000).for_each(|ms| answers.took(Duration::from_millis(ms)));
        let summary = Answers::sum([&answers, &answers].into_iter()).map(Answers::summary);
        let near = |found: f64, wanted: f64| (wanted..wanted * 1.13).contains(&found);
        assert!(summary.is_some_and(|s| near(s.p50_ms, 500.0) && near(s.p99_ms, 990.0) && near(s.max_ms, 1000.0)));
    }
}
