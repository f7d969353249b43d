//! The identity that the ring keeps: stored = held + evicted + damaged, and a reason for every number that is not held.
//!
//! Its three parts come from three places: what is held from the segments, what is lost from the ledger, what was
//! stored from the newest seq. A mistake in one of them shows.

use crate::ledger::Ledger;
use crate::segment::Summary;
use raven_model::units::Seq;

/// What the segments of a stream hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// Records that can be read, as far as is known.
    pub records: u64,
    /// Ranges that no segment holds and no loss explains: first, and one after the last.
    pub gaps: Vec<(Seq, Seq)>,
}

/// Counts what `segments` (in order, the open one last) hold.
pub fn holding<'a>(ledger: &Ledger, segments: impl Iterator<Item = &'a Summary>) -> Holding {
    let (mut at, mut first) = (Seq(1), None);
    let mut holding = Holding::default();
    let mut between = 0;
    for segment in segments {
        if segment.first > at {
            holding.gaps.extend(ledger.uncovered(at, segment.first));
            if first.is_some() {
                between += ledger.lost_within(at, segment.first);
            }
        }
        first.get_or_insert(segment.first);
        holding.records += segment.span();
        at = at.max(segment.next);
    }
    let lost = first.map_or(0, |first| ledger.lost_within(first, at));
    holding.records = holding.records.saturating_sub(lost.saturating_sub(between));
    holding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Loss, Why};
    use std::collections::BTreeMap;

    fn segment(first: u64, next: u64) -> Summary {
        Summary { next: Seq(next), ..Summary::empty(Seq(first)) }
    }

    fn lose(ledger: &mut Ledger, first: u64, next: u64, why: Why) {
        ledger.add(Loss {
            first: Seq(first),
            next: Seq(next),
            records: next - first,
            at_most: false,
            first_wall: None,
            last_wall: None,
            why,
            unforwarded: BTreeMap::new(),
            note: String::new(),
        });
    }

    #[test]
    fn what_is_stored_is_held_evicted_or_damaged() {
        let mut ledger = Ledger::default();
        lose(&mut ledger, 1, 11, Why::Space);
        lose(&mut ledger, 15, 18, Why::Damaged);
        lose(&mut ledger, 21, 31, Why::Quarantined);
        let segments = [segment(11, 21), segment(31, 41)];
        let holding = holding(&ledger, segments.iter());
        assert_eq!(holding, Holding { records: 17, gaps: vec![] });
        assert_eq!(40, holding.records + ledger.evicted + ledger.damaged);
    }

    #[test]
    fn a_number_without_a_reason_is_named() {
        let mut ledger = Ledger::default();
        lose(&mut ledger, 1, 8, Why::Space);
        lose(&mut ledger, 25, 28, Why::Missing);
        let segments = [segment(11, 21), segment(31, 41)];
        let holding = holding(&ledger, segments.iter());
        let gaps = vec![(Seq(8), Seq(11)), (Seq(21), Seq(25)), (Seq(28), Seq(31))];
        assert_eq!(holding, Holding { records: 20, gaps });
        assert_ne!(40, holding.records + ledger.evicted + ledger.damaged);
    }

    #[test]
    fn an_empty_ring_holds_nothing() {
        assert_eq!(holding(&Ledger::default(), [segment(1, 1)].iter()), Holding::default());
    }
}
