//! What the ring once held and holds no more: how much, from when, and why. And what of it other boxes received.
//!
//! The law: every seq below `next_seq` is held, or is covered by a [`Loss`]. Old losses are folded into sums, but
//! those above the first held record are kept one by one, since they explain gaps.

use crate::import::Import;
use raven_model::query::LossView;
use raven_model::units::{Seq, UnixNanos};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Losses below the first held record that are kept one by one.
const KEPT: usize = 128;

/// Why records are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The quota or the disk was full: the oldest segment went.
    Space,
    /// Older than `buffer.keep`, and acknowledged by every destination.
    Age,
    /// A block whose checksum or content is wrong.
    Damaged,
    /// A segment that could not be read was set aside.
    Quarantined,
    /// A segment's file was gone, or records are missing without a trace.
    Missing,
}

impl Why {
    /// True for what Raven chose to remove.
    pub const fn is_eviction(self) -> bool {
        matches!(self, Self::Space | Self::Age)
    }

    /// As operators see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Age => "age",
            Self::Damaged => "damaged",
            Self::Quarantined => "quarantined",
            Self::Missing => "missing",
        }
    }
}

/// Records that are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// First seq of the range.
    pub first: Seq,
    /// One after the last.
    pub next: Seq,
    /// Records lost in the range by this; what else was lost in it has its own entry.
    pub records: u64,
    /// True when the end of the range is an upper bound: the newest segment could not be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_most: bool,
    /// Receive time of the first, where known.
    pub first_wall: Option<UnixNanos>,
    /// Receive time of the last, where known.
    pub last_wall: Option<UnixNanos>,
    /// Why.
    pub why: Why,
    /// Records of it that a destination had not acknowledged, by destination.
    #[serde(default)]
    pub unforwarded: BTreeMap<String, u64>,
    /// The file and what was wrong with it, in words.
    #[serde(default)]
    pub note: String,
}

impl Loss {
    /// As operators see it.
    pub fn view(self) -> LossView {
        LossView {
            first: self.first,
            last: Seq(self.next.0.saturating_sub(1)),
            records: self.records,
            at_most: self.at_most,
            why: self.why.name().to_owned(),
            first_ns: self.first_wall,
            last_ns: self.last_wall,
            unforwarded: self.unforwarded,
            note: self.note,
        }
    }
}

/// The sums, and the losses one by one as far as they are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Counts changes, so that the newer of two copies is known.
    pub version: u64,
    /// Records removed for space or age.
    pub evicted: u64,
    /// Of these, records that some destination had not acknowledged.
    pub evicted_unforwarded: u64,
    /// The same by destination.
    pub unforwarded: BTreeMap<String, u64>,
    /// Records lost to damage.
    pub damaged: u64,
    /// All below is accounted for in the sums; its losses are not listed any more.
    pub folded: Seq,
    /// Ordered by first seq.
    pub losses: Vec<Loss>,
    /// Records that other boxes received, since the ring was made.
    #[serde(default)]
    pub imported: u64,
    /// What of them is remembered, so that nothing comes twice. In the order in which it came.
    #[serde(default)]
    pub imports: Vec<Import>,
}

impl Ledger {
    /// Enters a loss.
    pub fn add(&mut self, loss: Loss) {
        self.version += 1;
        if loss.why.is_eviction() {
            self.evicted += loss.records;
            // Destinations lag over the same records, so the worst one is the number of records not forwarded.
            self.evicted_unforwarded += loss.unforwarded.values().copied().max().unwrap_or(0);
        } else {
            self.damaged += loss.records;
        }
        for (name, records) in &loss.unforwarded {
            *self.unforwarded.entry(name.clone()).or_default() += records;
        }
        let at = self.losses.partition_point(|l| l.first <= loss.first);
        self.losses.insert(at, loss);
    }

    /// Enters records of another box.
    pub(crate) fn import(&mut self, import: &Import) {
        self.version += 1;
        self.imported += import.next.0 - import.first.0;
        match self.imports.iter_mut().rev().find(|before| before.goes_on_in(import)) {
            Some(before) => before.join(import),
            None => self.imports.push(import.clone()),
        }
    }

    /// Takes over what only another copy knows of: each copy was written with the blocks that it speaks of.
    pub(crate) fn take_imports(&mut self, other: &Self) {
        if other.imported > self.imported {
            self.version += 1;
            self.imported = other.imported;
            self.imports.clone_from(&other.imports);
        }
    }

    /// Where records of other boxes lie, with some of our own between: their times say nothing about their neighbours'.
    pub fn imported_ranges(&self) -> Vec<std::ops::Range<Seq>> {
        let mut ranges: Vec<_> = self.imports.iter().map(|import| import.into_first..import.into_next).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    /// Parts of `first..next` that no loss covers.
    pub fn uncovered(&self, first: Seq, next: Seq) -> Vec<(Seq, Seq)> {
        let mut open = Vec::new();
        let mut at = first.max(self.folded);
        for loss in self.losses.iter().filter(|l| l.next > first && l.first < next) {
            if loss.first > at {
                open.push((at, loss.first));
            }
            at = at.max(loss.next);
        }
        if at < next {
            open.push((at, next));
        }
        open
    }

    /// Records in `first..next` that are already counted as lost.
    pub fn lost_within(&self, first: Seq, next: Seq) -> u64 {
        let whole = next.0.saturating_sub(first.0);
        whole - self.uncovered(first, next).iter().map(|(first, next)| next.0 - first.0).sum::<u64>()
    }

    /// Folds old losses below `held_from` into the sums.
    pub fn fold(&mut self, held_from: Seq) {
        let below = self.losses.iter().take_while(|l| l.next <= held_from).count();
        if below > KEPT {
            let folded = self.losses.drain(..below - KEPT);
            self.folded = folded.map(|l| l.next).max().map_or(self.folded, |next| next.max(self.folded));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(first: u64, next: u64, why: Why) -> Loss {
        Loss {
            first: Seq(first),
            next: Seq(next),
            records: next - first,
            at_most: false,
            first_wall: None,
            last_wall: None,
            why,
            unforwarded: BTreeMap::from([("noc".to_owned(), 2)]),
            note: String::new(),
        }
    }

    #[test]
    fn what_no_loss_covers_is_found() {
        let mut ledger = Ledger::default();
        ledger.add(loss(1, 10, Why::Space));
        ledger.add(loss(20, 30, Why::Damaged));
        assert_eq!(ledger.uncovered(Seq(1), Seq(40)), [(Seq(10), Seq(20)), (Seq(30), Seq(40))]);
        assert_eq!(ledger.lost_within(Seq(5), Seq(25)), 10);
        assert_eq!((ledger.evicted, ledger.damaged, ledger.evicted_unforwarded), (9, 10, 2));
    }

    #[test]
    fn folding_keeps_the_sums_and_what_explains_gaps() {
        let mut ledger = Ledger::default();
        for i in 0..1000 {
            ledger.add(loss(i * 10 + 1, i * 10 + 11, Why::Space));
        }
        ledger.add(loss(12_000, 12_010, Why::Damaged));
        ledger.fold(Seq(10_001));
        assert_eq!(ledger.losses.len(), KEPT + 1);
        assert_eq!(ledger.evicted, 10_000);
        assert_eq!(ledger.uncovered(Seq(1), Seq(12_010)), [(Seq(10_001), Seq(12_000))]);
    }
}
