//! Results held against thresholds, with hysteresis: `for` results in a row beyond one are told, and `clear` in a row within it
//! end that. What a result does not measure counts neither way.

use raven_model::config::Thresholds;
use raven_model::diag::schedule::{Figures, Outcome, Threshold, ThresholdState, ThresholdStatus};
use std::collections::BTreeMap;

/// Of one schedule.
#[derive(Debug, Clone)]
pub struct Judge {
    limits: Thresholds,
    tallies: BTreeMap<Threshold, Tally>,
    paths: Paths,
}

/// Where a threshold stands.
#[derive(Debug, Clone, Default)]
struct Tally {
    state: ThresholdState,
    /// Results in a row.
    beyond: u32,
    within: u32,
    value: String,
    number: u64,
}

/// Which path is the usual one.
#[derive(Debug, Clone, Default)]
struct Paths {
    usual: Option<String>,
    last: Option<String>,
    /// Times in a row that the last was seen.
    same: u32,
}

/// A value, and whether it is beyond.
struct Seen {
    beyond: bool,
    value: String,
    number: u64,
}

impl Judge {
    /// Nothing seen yet.
    pub fn new(limits: Thresholds) -> Self {
        let tallies = Threshold::ALL.into_iter().filter(|threshold| limits.has(*threshold));
        Self {
            tallies: tallies.map(|threshold| (threshold, Tally::default())).collect(),
            limits,
            paths: Paths::default(),
        }
    }

    /// Takes in a result that was not skipped; the thresholds that it alone is beyond.
    pub fn take(&mut self, outcome: Outcome, figures: &Figures) -> Vec<Threshold> {
        if outcome == Outcome::Skipped {
            return Vec::new();
        }
        let other_path = figures.path.as_ref().map(|path| self.paths.is_other(path, &self.limits));
        let (limits, mut beyond) = (&self.limits, Vec::new());
        for (threshold, tally) in &mut self.tallies {
            let Some(seen) = see(*threshold, limits, outcome, figures, other_path) else { continue };
            if seen.beyond {
                beyond.push(*threshold);
            }
            tally.take(seen, limits);
        }
        beyond
    }

    /// Where each threshold stands.
    pub fn status(&self) -> Vec<ThresholdStatus> {
        let one = |(threshold, tally): (&Threshold, &Tally)| ThresholdStatus {
            threshold: *threshold,
            limit: limit(*threshold, &self.limits),
            state: tally.state,
            value: tally.value.clone(),
            number: tally.number,
        };
        self.tallies.iter().map(one).collect()
    }
}

impl Tally {
    fn take(&mut self, seen: Seen, limits: &Thresholds) {
        (self.value, self.number) = (seen.value, seen.number);
        if seen.beyond {
            (self.beyond, self.within) = (self.beyond.saturating_add(1), 0);
        } else {
            (self.beyond, self.within) = (0, self.within.saturating_add(1));
        }
        if self.beyond >= limits.results {
            self.state = ThresholdState::Beyond;
        } else if self.within >= limits.clear {
            self.state = ThresholdState::Well;
        }
    }
}

impl Paths {
    /// Whether it is another one than usual. One that stays becomes the usual one: after `for` and `clear` results.
    fn is_other(&mut self, path: &str, limits: &Thresholds) -> bool {
        self.same = if self.last.as_deref() == Some(path) { self.same.saturating_add(1) } else { 1 };
        self.last = Some(path.to_owned());
        let usual = self.usual.get_or_insert_with(|| path.to_owned());
        if usual != path && self.same > limits.results {
            path.clone_into(usual);
        }
        *usual != path
    }
}

fn see(
    threshold: Threshold,
    limits: &Thresholds,
    outcome: Outcome,
    figures: &Figures,
    other_path: Option<bool>,
) -> Option<Seen> {
    let seen = |beyond, value, number: f64| Some(Seen { beyond, value, number: number.max(0.0).round() as u64 });
    let ms = |us: f64| format!("{:.1} ms", us / 1e3);
    let span_us = |span: raven_model::units::Span| span.0.as_micros() as f64;
    match threshold {
        Threshold::Failed => {
            let beyond = outcome != Outcome::Well;
            seen(beyond, outcome.name().to_owned(), f64::from(u8::from(beyond)))
        }
        Threshold::PathChanged => {
            let path = figures.path.clone()?;
            seen(other_path?, path, f64::from(u8::from(other_path?)))
        }
        Threshold::Loss => {
            let loss = figures.loss?;
            seen(loss > limits.loss?, format!("{loss:.1} %"), loss)
        }
        Threshold::P95 => {
            let us = f64::from(figures.rtt?.p95_us);
            seen(us > span_us(limits.p95?), ms(us), us / 1e3)
        }
        Threshold::Time => {
            let us = f64::from(figures.time_us?);
            seen(us > span_us(limits.time?), ms(us), us / 1e3)
        }
        Threshold::MinRate => {
            let rate = figures.rate?;
            seen(rate < limits.min_rate?.0 as f64, format!("{:.2} Mbit/s", rate / 1e6), rate / 1e3)
        }
        Threshold::MinMtu => {
            let mtu = figures.mtu?;
            seen(mtu < limits.min_mtu?, format!("{mtu} bytes"), mtu.into())
        }
        Threshold::Offset => {
            let us = figures.offset_us?.unsigned_abs() as f64;
            seen(us > span_us(limits.offset?), ms(us), us / 1e3)
        }
        Threshold::DaysLeft => {
            let days = figures.days_left?;
            seen(days < i64::from(limits.days_left?), format!("{days} days"), days as f64)
        }
    }
}

fn limit(threshold: Threshold, limits: &Thresholds) -> String {
    let above = |span: Option<raven_model::units::Span>| format!("above {}", span.unwrap_or_default());
    match threshold {
        Threshold::Failed => "not well".to_owned(),
        Threshold::PathChanged => "another path".to_owned(),
        Threshold::Loss => format!("above {} %", limits.loss.unwrap_or_default()),
        Threshold::P95 => above(limits.p95),
        Threshold::Time => above(limits.time),
        Threshold::Offset => above(limits.offset),
        Threshold::MinRate => {
            format!("below {}bit/s", limits.min_rate.map(|rate| rate.to_string()).unwrap_or_default())
        }
        Threshold::MinMtu => format!("below {} bytes", limits.min_mtu.unwrap_or_default()),
        Threshold::DaysLeft => format!("below {} days", limits.days_left.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn judge(results: u32, clear: u32) -> Judge {
        Judge::new(Thresholds { results, clear, loss: Some(20.0), path_changed: true, ..Thresholds::default() })
    }

    fn loss(loss: f64) -> Figures {
        Figures { loss: Some(loss), ..Figures::default() }
    }

    fn state(judge: &Judge, threshold: Threshold) -> ThresholdState {
        judge.status().into_iter().find(|status| status.threshold == threshold).unwrap().state
    }

    #[test]
    fn a_threshold_takes_results_in_a_row_to_fire_and_to_clear() {
        let mut judge = judge(3, 2);
        for (value, expected) in [
            (0.0, ThresholdState::Unknown),
            (0.0, ThresholdState::Well),
            (50.0, ThresholdState::Well),
            (50.0, ThresholdState::Well),
            (20.0, ThresholdState::Well),
            (21.0, ThresholdState::Well),
            (21.0, ThresholdState::Well),
            (21.0, ThresholdState::Beyond),
            (0.0, ThresholdState::Beyond),
            (50.0, ThresholdState::Beyond),
            (0.0, ThresholdState::Beyond),
            (0.0, ThresholdState::Well),
        ] {
            let beyond = judge.take(Outcome::Well, &loss(value));
            assert_eq!(beyond, if value > 20.0 { vec![Threshold::Loss] } else { Vec::new() });
            assert_eq!(state(&judge, Threshold::Loss), expected, "after {value}");
        }
    }

    #[test]
    fn what_was_skipped_or_not_measured_counts_neither_way() {
        let mut judge = judge(2, 2);
        judge.take(Outcome::Well, &loss(50.0));
        judge.take(Outcome::Skipped, &Figures::default());
        judge.take(Outcome::Failed, &Figures::default());
        judge.take(Outcome::Well, &loss(50.0));
        assert_eq!(state(&judge, Threshold::Loss), ThresholdState::Beyond);
        assert_eq!(state(&judge, Threshold::Failed), ThresholdState::Unknown);
    }

    #[test]
    fn a_path_that_stays_becomes_the_usual_one() {
        let mut judge = judge(2, 2);
        let path = |path: &str| Figures { path: Some(path.to_owned()), ..Figures::default() };
        for (seen, expected) in [
            ("a", ThresholdState::Unknown),
            ("a", ThresholdState::Well),
            ("b", ThresholdState::Well),
            ("a", ThresholdState::Well),
            ("b", ThresholdState::Well),
            ("b", ThresholdState::Beyond),
            ("b", ThresholdState::Beyond),
            ("b", ThresholdState::Well),
        ] {
            judge.take(Outcome::Well, &path(seen));
            assert_eq!(state(&judge, Threshold::PathChanged), expected, "{seen}");
        }
    }

    proptest! {
        /// It fires no sooner and no later than after so many in a row, whatever went before.
        #[test]
        fn hysteresis_is_what_it_says(results in 1_u32..5, clear in 1_u32..5, all in prop::collection::vec(any::<bool>(), 0..60)) {
            let mut judge = judge(results, clear);
            let mut expected = ThresholdState::Unknown;
            for (n, beyond) in all.iter().enumerate() {
                judge.take(Outcome::Well, &loss(if *beyond { 30.0 } else { 1.0 }));
                let run = all[..=n].iter().rev().take_while(|other| *other == beyond).count() as u32;
                if *beyond && run >= results {
                    expected = ThresholdState::Beyond;
                } else if !beyond && run >= clear {
                    expected = ThresholdState::Well;
                }
                prop_assert_eq!(state(&judge, Threshold::Loss), expected);
            }
        }
    }
}
