//! Making room: whole oldest segments go, after the uplink was told to stay off and has said what it misses.

use super::kept::Kept;
use super::{FENCE, Fenced, STEP, Store};
use raven_buffer::tail::Reply;
use raven_buffer::{Eviction, Why};
use raven_model::table::Role;
use raven_model::units::UnixNanos;
use std::collections::BTreeMap;

impl Store {
    /// Whole oldest segments go when the quota or the age says so, after the uplink was told to stay off.
    pub(super) fn make_room(&mut self, n: usize) {
        match &self.kept[n].fenced {
            Some(fenced) if self.world.now() < fenced.until => return,
            Some(_) => self.evict(n, None),
            None => {}
        }
        if !std::mem::take(&mut self.kept[n].look_for_room) {
            return;
        }
        // Limits are as old as the last look: what others left meanwhile may be enough.
        if self.kept[n].writer.is_disk_full() {
            self.measure();
            if !self.kept[n].writer.over_quota() && self.another_is_over(n) {
                return;
            }
        } else if self.kept[n].writer.over_quota() {
            self.divide();
        }
        let acknowledged = self.acknowledged(n);
        let kept = &mut self.kept[n];
        let Some(eviction) = kept.writer.evictable(kept.trusted_now(), &acknowledged) else { return };
        kept.warn(&eviction, &eviction.missing(&acknowledged));
        self.last_token += 1;
        let fence = Reply::Fence {
            token: self.last_token,
            stream: kept.stream.name().to_owned(),
            first: eviction.first,
            below: eviction.next,
        };
        let uplink = self.readers.iter_mut().find(|reader| reader.role == Role::Uplink);
        if let Some(uplink) = uplink {
            // An uplink that cannot be told is not reading either: what it had acknowledged last counts.
            let _ = uplink.server.reply(&fence);
        }
        kept.fenced = Some(Fenced { eviction, token: self.last_token, until: self.world.now() + FENCE });
    }

    /// A borrower has more than its limit, and a segment that can go: it makes room first.
    fn another_is_over(&self, n: usize) -> bool {
        let over = |other: &Kept| other.writer.over_quota() && other.writer.oldest().is_some();
        self.kept.iter().enumerate().any(|(other, kept)| other != n && over(kept))
    }

    pub(super) fn evict(&mut self, n: usize, unforwarded: Option<Vec<(String, u64)>>) {
        let acknowledged = self.acknowledged(n);
        let Some(Fenced { eviction, .. }) = self.kept[n].fenced.take() else { return };
        // More may have to go; also what could not be removed now.
        self.kept[n].look_for_room = true;
        let told = |told: Vec<(String, u64)>| {
            // Of what is damaged in it, the uplink may not know yet: that is counted already.
            told.into_iter().map(|(name, records)| (name, records.min(eviction.records))).collect()
        };
        let unforwarded = unforwarded.map_or_else(|| eviction.missing(&acknowledged), told);
        match self.kept[n].writer.evict(&eviction, unforwarded) {
            Ok(()) => self.kept.iter_mut().for_each(|kept| kept.writer.room_was_made()),
            Err(error) => eprintln!("raven-worker store: {error}"),
        }
    }
}

impl Kept {
    /// Says before it goes what a destination will miss: the 1st, 2nd, 4th, 8th … segment.
    fn warn(&mut self, eviction: &Eviction, missing: &BTreeMap<String, u64>) {
        if missing.is_empty() || eviction.why != Why::Space {
            return;
        }
        self.went_early += 1;
        if self.went_early.is_power_of_two() {
            let who: Vec<String> = missing.iter().map(|(name, records)| format!("{name} {records}")).collect();
            eprintln!(
                "raven-worker store: {}: records {} to {} go for room before every destination has them; not \
                 acknowledged: {} ({} such segments so far)",
                self.stream,
                eviction.first,
                eviction.next.0 - 1,
                who.join(", "),
                self.went_early
            );
        }
    }

    /// The wall clock, unless it was stepped since this process began.
    fn trusted_now(&self) -> Option<UnixNanos> {
        let stepped = (self.world.wall_offset() - self.clock_offset).abs();
        (stepped < STEP).then(|| self.world.wall())
    }
}
