//! How old a record is, by its number: when each stream was how long. Bounded: what is old is known less exactly.

use raven_model::units::Seq;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Moments that are remembered of a stream: enough for a year at this exactness.
const MOMENTS: usize = 2048;
/// When some are forgotten, those that are left lie as far apart as this part of their age, or up to three times that.
const EXACT: u32 = 96;

/// When each stream was how long.
#[derive(Debug, Default)]
pub struct Ages(BTreeMap<String, VecDeque<(Duration, Seq)>>);

impl Ages {
    /// The next record of a stream will have this number.
    pub fn note(&mut self, stream: &str, next: Seq, now: Duration) {
        if !self.0.contains_key(stream) {
            self.0.insert(stream.to_owned(), VecDeque::new());
        }
        let Some(moments) = self.0.get_mut(stream) else { return };
        if moments.back().is_some_and(|(_, last)| *last >= next) {
            return;
        }
        moments.push_back((now, next));
        if moments.len() > MOMENTS {
            thin(moments, now);
        }
    }

    /// Age of the first record behind `acked`, and whether that is all of it: a record from before the first look is at
    /// least as old as that.
    pub fn of(&self, stream: &str, acked: Seq, now: Duration) -> (Duration, bool) {
        let Some(moments) = self.0.get(stream) else { return (Duration::ZERO, false) };
        let at = moments.partition_point(|(_, next)| *next <= acked.plus(1));
        match moments.get(at) {
            Some((since, _)) => (now.saturating_sub(*since), at > 0),
            None => (Duration::ZERO, true),
        }
    }
}

/// Forgets moments that lie close together for their age. The first stays: what came before it is known to be older.
fn thin(moments: &mut VecDeque<(Duration, Seq)>, now: Duration) {
    let mut kept = VecDeque::new();
    while let Some((at, next)) = moments.pop_back() {
        let apart = |(later, _): &(Duration, Seq)| later.saturating_sub(at) >= now.saturating_sub(at) / EXACT;
        if moments.is_empty() || kept.front().is_none_or(apart) {
            kept.push_front((at, next));
        }
    }
    *moments = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_record_is_as_old_as_the_look_that_first_saw_it() {
        let mut ages = Ages::default();
        ages.note("syslog", Seq(10), at(100));
        ages.note("syslog", Seq(10), at(110));
        ages.note("syslog", Seq(20), at(120));
        assert_eq!(ages.of("syslog", Seq(12), at(150)), (at(30), true));
        assert_eq!(ages.of("syslog", Seq(19), at(150)), (at(0), true), "nothing is behind it");
        assert_eq!(ages.of("syslog", Seq(3), at(150)), (at(50), false), "older than the first look");
        assert_eq!(ages.of("flow", Seq(3), at(150)), (at(0), false));
    }

    #[test]
    fn a_long_outage_is_remembered_in_little_room() {
        let mut ages = Ages::default();
        for second in 0..100_000 {
            ages.note("syslog", Seq(second + 1), at(second));
        }
        assert!(ages.0["syslog"].len() <= MOMENTS);
        let (age, exact) = ages.of("syslog", Seq(50_000), at(100_000));
        assert!(exact && (48_000..=50_000).contains(&age.as_secs()), "{age:?}");
        let (age, exact) = ages.of("syslog", Seq(0), at(100_000));
        assert!(exact && (97_000..=100_000).contains(&age.as_secs()), "{age:?}");
    }
}
