//! A set of numbers kept as ranges: small while the numbers are mostly dense.

use std::collections::BTreeMap;

/// A half-open range.
pub type Range = (u64, u64);

/// The set. Memory grows with the number of gaps, not with the number of members.
#[derive(Debug, Clone, Default)]
pub struct RangeSet {
    /// The range that was touched last, kept out of the map: in order, every insert ends here.
    hot: Option<Range>,
    /// All other ranges, start to end; none touches another or the hot one.
    cold: BTreeMap<u64, u64>,
    len: u64,
}

impl RangeSet {
    /// Adds `n`; false when it was there already, or is `u64::MAX`, which no range can end after.
    pub fn insert(&mut self, n: u64) -> bool {
        if n == u64::MAX || self.contains(n) {
            return false;
        }
        self.len += 1;
        let (start, end) = match self.hot {
            Some((start, end)) if end == n => (start, n + 1),
            Some((start, end)) if n + 1 == start => (n, end),
            hot => {
                if let Some((start, end)) = hot {
                    self.cold.insert(start, end);
                }
                (n, n + 1)
            }
        };
        self.hot = Some(self.joined(start, end));
        true
    }

    /// Takes the cold neighbours that `start..end` touches.
    fn joined(&mut self, mut start: u64, mut end: u64) -> Range {
        if let Some(after) = self.cold.remove(&end) {
            end = after;
        }
        if let Some((&before, _)) = self.cold.range(..start).next_back().filter(|(_, before_end)| **before_end == start)
        {
            self.cold.remove(&before);
            start = before;
        }
        (start, end)
    }

    /// Whether `n` is in it.
    pub fn contains(&self, n: u64) -> bool {
        let hot = self.hot.is_some_and(|(start, end)| (start..end).contains(&n));
        hot || self.cold.range(..=n).next_back().is_some_and(|(_, end)| n < *end)
    }

    /// How many numbers are in it.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True when nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its ranges in order.
    pub fn ranges(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = self.cold.iter().map(|(start, end)| (*start, *end)).chain(self.hot).collect();
        ranges.sort_unstable();
        ranges
    }

    /// The lowest, and one after the highest.
    pub fn bounds(&self) -> Option<Range> {
        let ranges = self.ranges();
        Some((ranges.first()?.0, ranges.last()?.1))
    }

    /// What of `first..next` is not in it.
    pub fn missing(&self, first: u64, next: u64) -> Vec<Range> {
        let mut at = first;
        let mut missing = Vec::new();
        for (start, end) in self.ranges() {
            if start > at && at < next {
                missing.push((at, start.min(next)));
            }
            at = at.max(end);
        }
        if at < next {
            missing.push((at, next));
        }
        missing
    }
}

/// How many numbers these ranges hold.
pub fn total(ranges: &[Range]) -> u64 {
    ranges.iter().map(|(start, end)| end - start).sum()
}

/// As operators read them: both ends belong to it.
pub fn inclusive(ranges: &[Range]) -> Vec<Range> {
    ranges.iter().map(|(start, end)| (*start, end - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_dense_is_one_range() {
        let mut set = RangeSet::default();
        for n in (10..20).chain((0..10).rev()) {
            assert!(set.insert(n));
        }
        assert!(!set.insert(5));
        assert_eq!(set.ranges(), [(0, 20)]);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(numbers in prop::collection::vec(0_u64..60, 0..200), first in 0_u64..70, len in 0_u64..70) {
            let (mut set, mut plain) = (RangeSet::default(), BTreeSet::new());
            for n in numbers {
                prop_assert_eq!(set.insert(n), plain.insert(n));
            }
            prop_assert_eq!(set.len(), plain.len() as u64);
            let ranges = set.ranges();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let missing: Vec<u64> = set.missing(first, first + len).into_iter().flat_map(|(start, end)| start..end).collect();
            let expected: Vec<u64> = (first..first + len).filter(|n| !plain.contains(n)).collect();
            prop_assert_eq!(missing, expected);
        }
    }
}
