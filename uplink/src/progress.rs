//! How far a destination has acknowledged a stream: a low-water mark and the acknowledged ranges above it.
//!
//! Acknowledgements may come in any order (two lanes, two connections), so a single number is not enough: what is
//! acknowledged above a hole must not be sent again after a restart, and the hole must.

use raven_model::units::Seq;
use std::collections::BTreeMap;

/// Ranges above the low-water mark that are remembered, at most. Beyond it the smallest is forgotten: the two gaps
/// beside it become one, and what was acknowledged between them is sent again.
pub const RANGES_MAX: usize = 4096;

/// Acknowledged records of one destination and stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    low: u64,
    /// First → last of each acknowledged range above `low + 1`; disjoint, never touching.
    above: BTreeMap<u64, u64>,
    above_count: u64,
}

impl Progress {
    /// Everything up to and including `low` is done with, nothing above it.
    pub const fn at(low: Seq) -> Self {
        Self { low: low.0, above: BTreeMap::new(), above_count: 0 }
    }

    /// From a low-water mark and inclusive ranges, in any order and possibly overlapping.
    pub fn from_parts(low: Seq, ranges: impl IntoIterator<Item = (Seq, Seq)>) -> Self {
        let mut progress = Self::at(low);
        for (first, last) in ranges {
            progress.cover(first, last);
        }
        progress
    }

    /// Everything up to and including this is acknowledged or accounted for.
    pub const fn low(&self) -> Seq {
        Seq(self.low)
    }

    /// Acknowledged ranges above the low-water mark, inclusive, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (Seq, Seq)> {
        self.above.iter().map(|(first, last)| (Seq(*first), Seq(*last)))
    }

    /// Records acknowledged above the low-water mark.
    pub const fn above(&self) -> u64 {
        self.above_count
    }

    /// Whether `seq` needs no more sending.
    #[inline]
    pub fn covers(&self, seq: Seq) -> bool {
        seq.0 <= self.low || (self.above_count > 0 && self.in_range(seq.0))
    }

    fn in_range(&self, seq: u64) -> bool {
        self.above.range(..=seq).next_back().is_some_and(|(_, last)| *last >= seq)
    }

    /// Takes the acknowledgement of one record; false when it was covered already.
    #[inline]
    pub fn ack(&mut self, seq: Seq) -> bool {
        if seq.0 == self.low + 1 && self.above_count == 0 {
            self.low = seq.0;
            return true;
        }
        self.cover(seq, seq) == 1
    }

    /// Covers all of `first` to `last`; returns how many of them were not covered before.
    pub fn cover(&mut self, first: Seq, last: Seq) -> u64 {
        let first = first.0.max(self.low + 1);
        if last.0 < first {
            return 0;
        }
        let before = self.low + self.above_count;
        self.merge(first, last.0);
        self.absorb();
        self.merge_gaps(RANGES_MAX);
        (self.low + self.above_count).saturating_sub(before)
    }

    /// Covers everything below `below` that is not: returns how many records that were.
    pub fn skip_to(&mut self, below: Seq) -> u64 {
        self.cover(Seq(1), Seq(below.0.saturating_sub(1)))
    }

    /// Records below `below` that are not acknowledged.
    pub fn missing_below(&self, below: Seq) -> u64 {
        self.missing_in(Seq(1), Seq(below.0.saturating_sub(1)))
    }

    /// Records from `first` to `last` that are not acknowledged.
    pub fn missing_in(&self, first: Seq, last: Seq) -> u64 {
        let first = first.0.max(self.low + 1);
        if last.0 < first {
            return 0;
        }
        let before = self.above.range(..first).next_back();
        let ranges = before.into_iter().chain(self.above.range(first..=last.0));
        let covered: u64 = ranges.map(|(f, l)| (*l.min(&last.0) + 1).saturating_sub(*f.max(&first))).sum();
        last.0 - first + 1 - covered
    }

    /// The first seq at or above `at` that is not covered, and the next one above it that is.
    pub fn gap_at(&self, at: Seq) -> (Seq, Option<Seq>) {
        let mut first = at.0.max(self.low + 1);
        if let Some((_, last)) = self.above.range(..=first).next_back().filter(|(_, last)| **last >= first) {
            first = last + 1;
        }
        (Seq(first), self.above.range(first..).next().map(|(f, _)| Seq(*f)))
    }

    /// One above the highest that is covered.
    pub fn top(&self) -> Seq {
        Seq(self.above.last_key_value().map_or(self.low, |(_, last)| *last) + 1)
    }

    /// How many gaps lie below `below`.
    pub fn gaps_below(&self, below: Seq) -> usize {
        let before = self.above.range(..below.0);
        let open_end = self.above.range(..below.0).next_back().map_or(self.low, |(_, last)| *last) + 1 < below.0;
        before.count() + usize::from(open_end)
    }

    /// Forgets the smallest ranges until at most `most` are left: never a loss, only repeats.
    pub fn merge_gaps(&mut self, most: usize) {
        while self.above.len() > most {
            let smallest = self.above.iter().min_by_key(|(first, last)| **last - **first).map(|(first, _)| *first);
            if let Some((first, last)) = smallest.and_then(|first| self.above.remove_entry(&first)) {
                self.above_count -= last - first + 1;
            }
        }
    }

    /// Forgets ranges for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(Seq, Seq) -> bool) {
        self.above.retain(|first, last| keep(Seq(*first), Seq(*last)));
        self.above_count = self.above.iter().map(|(first, last)| last - first + 1).sum();
    }

    /// How many ranges lie above the low-water mark.
    pub fn range_count(&self) -> usize {
        self.above.len()
    }

    fn merge(&mut self, mut first: u64, mut last: u64) {
        let touching: Vec<(u64, u64)> = self
            .above
            .range(..=last.saturating_add(1))
            .rev()
            .take_while(|(_, l)| l.saturating_add(1) >= first)
            .map(|(f, l)| (*f, *l))
            .collect();
        for (f, l) in touching {
            self.above.remove(&f);
            self.above_count -= l - f + 1;
            first = first.min(f);
            last = last.max(l);
        }
        self.above.insert(first, last);
        self.above_count += last - first + 1;
    }

    /// The low-water mark rises over a range that begins right above it.
    fn absorb(&mut self) {
        if let Some(entry) = self.above.first_entry().filter(|entry| *entry.key() == self.low + 1) {
            let (first, last) = entry.remove_entry();
            self.above_count -= last - first + 1;
            self.low = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn acknowledgements_in_order_raise_the_mark() {
        let mut progress = Progress::at(Seq(0));
        assert!((1..=5).all(|n| progress.ack(Seq(n))));
        assert_eq!((progress.low(), progress.above()), (Seq(5), 0));
    }

    #[test]
    fn a_hole_holds_the_mark_until_it_is_filled() {
        let mut progress = Progress::at(Seq(10));
        for n in [12, 13, 15] {
            assert!(progress.ack(Seq(n)));
        }
        assert!(!progress.ack(Seq(13)), "a second acknowledgement is none");
        assert_eq!((progress.low(), progress.above()), (Seq(10), 3));
        assert!(progress.ack(Seq(11)));
        assert_eq!((progress.low(), progress.above()), (Seq(13), 1));
        assert!(progress.covers(Seq(15)) && !progress.covers(Seq(14)));
    }

    #[test]
    fn a_jump_over_evicted_records_counts_exactly_those_not_acknowledged() {
        let mut progress = Progress::at(Seq(10));
        for n in [12, 13, 30] {
            progress.ack(Seq(n));
        }
        assert_eq!(progress.missing_below(Seq(21)), 8);
        assert_eq!(progress.skip_to(Seq(21)), 8);
        assert_eq!((progress.low(), progress.above()), (Seq(20), 1));
        assert_eq!(progress.skip_to(Seq(15)), 0, "the mark never falls");
    }

    proptest! {
        #[test]
        fn it_equals_a_plain_set(start in 0_u64..20, acks in prop::collection::vec((1_u64..120, 0_u64..6), 0..80)) {
            let mut progress = Progress::at(Seq(start));
            let mut set: BTreeSet<u64> = (1..=start).collect();
            for (first, more) in acks {
                let news = (first..=first + more).filter(|n| set.insert(*n)).count() as u64;
                prop_assert_eq!(progress.cover(Seq(first), Seq(first + more)), news);
            }
            for n in 1..130 {
                prop_assert_eq!(progress.covers(Seq(n)), set.contains(&n), "{}", n);
            }
            let low = (1..130).take_while(|n| set.contains(n)).count() as u64;
            prop_assert_eq!(progress.low(), Seq(low));
            prop_assert_eq!(progress.above(), set.len() as u64 - low);
            prop_assert_eq!(&Progress::from_parts(progress.low(), progress.ranges()), &progress);
            let top = set.last().map_or(1, |last| last + 1);
            prop_assert_eq!(progress.top(), Seq(top));
            for at in 1..130 {
                let (gap, end) = progress.gap_at(Seq(at));
                prop_assert_eq!(gap, Seq((at..200).find(|n| !set.contains(n)).unwrap_or(top)));
                prop_assert_eq!(end, (gap.0..130).find(|n| set.contains(n)).map(Seq));
                let missing = |from: u64, to: u64| (from..=to).filter(|n| !set.contains(n)).count() as u64;
                prop_assert_eq!(progress.missing_in(Seq(at), Seq(at + 9)), missing(at, at + 9));
                let gaps = (1..at).filter(|n| !set.contains(n) && (n + 1 == at || set.contains(&(n + 1)))).count();
                prop_assert_eq!(progress.gaps_below(Seq(at)), gaps);
            }
            progress.merge_gaps(1);
            prop_assert!(progress.range_count() <= 1 && (1..130).all(|n| !progress.covers(Seq(n)) || set.contains(&n)));
        }
    }
}
