//! Making room: whole oldest segments go.
//!
//! First it is written durably what will go and what each destination loses by it; then the file is removed. A crash
//! between the two is finished at the next start, so nothing is removed uncounted, or counted twice.

use crate::catalogue::Change;
use crate::error::RingError;
use crate::files;
use crate::ledger::{Loss, Why};
use crate::recovery::remove_segment;
use crate::segment::Summary;
use crate::writer::RingWriter;
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;

/// A segment that may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// First seq of the segment.
    pub first: Seq,
    /// One after its last.
    pub next: Seq,
    /// Records in it that are not already counted as damaged.
    pub records: u64,
    /// Earliest receive time in it.
    pub first_wall: Option<UnixNanos>,
    /// Latest receive time in it.
    pub last_wall: Option<UnixNanos>,
    /// [`Why::Space`] or [`Why::Age`].
    pub why: Why,
}

impl Eviction {
    /// Records that a destination misses by this which had acknowledged everything up to and including `low`.
    pub fn unforwarded(&self, low: Seq) -> u64 {
        let (from, next) = (self.first.0.max(low.0 + 1), self.next.0);
        next.saturating_sub(from).min(self.records)
    }

    /// The same for each of these destinations; those that miss nothing are left out.
    pub fn missing(&self, low: &BTreeMap<String, Seq>) -> BTreeMap<String, u64> {
        let missing = low.iter().map(|(name, &low)| (name.clone(), self.unforwarded(low)));
        missing.filter(|(_, records)| *records > 0).collect()
    }
}

impl RingWriter {
    /// The oldest sealed segment, when it may go: for space, or by age when it is older than `buffer.keep` by a
    /// trusted clock (`now`; `None` when the clock is not) and every destination has acknowledged it (`low`: by
    /// destination the seq up to and including which it has).
    pub fn evictable(&self, now: Option<UnixNanos>, low: &BTreeMap<String, Seq>) -> Option<Eviction> {
        let oldest = self.sealed.front()?;
        let why = if self.over_quota() || self.disk_full {
            Why::Space
        } else if self.oldest_is_old(now) && low.values().all(|low| low.plus(1) >= oldest.next) {
            Why::Age
        } else {
            return None;
        };
        Some(self.eviction_of(oldest, why))
    }

    pub(crate) fn eviction_of(&self, oldest: &Summary, why: Why) -> Eviction {
        let (first, next) = (oldest.first, oldest.next);
        let records = oldest.span() - self.ledger.lost_within(first, next);
        Eviction { first, next, records, first_wall: oldest.first_wall, last_wall: oldest.last_wall, why }
    }

    /// True when the segments and the one that comes next take more than the quota.
    pub fn over_quota(&self) -> bool {
        self.need() > self.options.quota_bytes
    }

    /// By its latest receive time or, where that is not known, or yet to come since a clock was ahead, by that of the
    /// first segment behind it of which that can be said: what was stored before is no younger.
    fn oldest_is_old(&self, now: Option<UnixNanos>) -> bool {
        let Some(now) = now else { return false };
        let last = self.sealed.iter().filter_map(|segment| segment.last_wall).find(|last| *last <= now);
        last.is_some_and(|last| u128::from(now.0 - last.0) > self.options.keep.as_nanos())
    }

    /// Removes a segment, with the records that each destination had not acknowledged. One that is no longer the
    /// oldest was removed before: nothing happens. May be repeated after an error.
    pub fn evict(&mut self, eviction: &Eviction, unforwarded: BTreeMap<String, u64>) -> Result<(), RingError> {
        if self.sealed.front().is_none_or(|oldest| oldest.first != eviction.first) {
            return Ok(());
        }
        self.write_off(eviction, unforwarded)?;
        remove_segment(&self.paths, eviction.first)?;
        self.sealed.pop_front();
        self.disk_full = false;
        self.publish_ledger();
        // Should this fail, the removal is repeated at the next start, and finds nothing to do.
        self.catalogue.save(&[Change::Gone(eviction.first)])?;
        self.trim_quarantine();
        Ok(())
    }

    /// Enters the loss into the ledger durably. Nothing is done when that was achieved before and only the removal
    /// failed.
    fn write_off(&mut self, eviction: &Eviction, unforwarded: BTreeMap<String, u64>) -> Result<(), RingError> {
        if self.ledger.uncovered(eviction.first, eviction.next).is_empty() {
            return Ok(());
        }
        let mut ledger = self.ledger.clone();
        ledger.add(Loss {
            first: eviction.first,
            next: eviction.next,
            records: eviction.records,
            at_most: false,
            first_wall: eviction.first_wall,
            last_wall: eviction.last_wall,
            why: eviction.why,
            unforwarded: unforwarded.into_iter().filter(|(_, records)| *records > 0).collect(),
            note: String::new(),
        });
        ledger.fold(eviction.next);
        self.catalogue.save(&[Change::Ledger(&ledger), Change::Evict(eviction.first)])?;
        self.ledger = ledger;
        Ok(())
    }

    /// What was set aside may take a sixteenth of the quota, at least one segment; the oldest goes first.
    pub(crate) fn trim_quarantine(&self) {
        let cap = (self.options.quota_bytes / 16).max(self.options.segment_size());
        let mut aside = files::by_age(&self.paths.quarantine());
        let mut total: u64 = aside.iter().map(|(_, room)| room).sum();
        aside.reverse();
        while let Some((path, room)) = aside.pop().filter(|_| total > cap) {
            total -= room;
            let _ = files::remove(&path);
        }
    }
}
