//! Making room: whole oldest segments go, after the uplink was told to stay off and has said what it misses.

use super::kept::Kept;
use super::{FENCE, Fenced, STEP, Store, clock_offset};
use raven_buffer::tail::Reply;
use raven_model::table::Role;
use raven_model::units::UnixNanos;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

impl Store {
    /// Whole oldest segments go when the quota or the age says so, after the uplink was told to stay off.
    pub(super) fn make_room(&mut self, n: usize) {
        match &self.kept[n].fenced {
            Some(fenced) if Instant::now() < fenced.until => return,
            Some(_) => self.evict(n, None),
            None => {}
        }
        let kept = &mut self.kept[n];
        if !std::mem::take(&mut kept.look_for_room) {
            return;
        }
        let Some(eviction) = kept.writer.evictable(kept.trusted_now(), &kept.low) else { return };
        self.last_token += 1;
        let fence =
            Reply::Fence { token: self.last_token, stream: kept.stream.name().to_owned(), below: eviction.next };
        let uplink = self.readers.iter_mut().find(|reader| reader.role == Role::Uplink);
        if let Some(uplink) = uplink {
            // An uplink that cannot be told is not reading either: what it had acknowledged last counts.
            let _ = uplink.server.reply(&fence);
        }
        kept.fenced = Some(Fenced { eviction, token: self.last_token, until: Instant::now() + FENCE });
    }

    pub(super) fn evict(&mut self, n: usize, unforwarded: Option<Vec<(String, u64)>>) {
        let kept = &mut self.kept[n];
        let Some(Fenced { eviction, .. }) = kept.fenced.take() else { return };
        // More may have to go; also what could not be removed now.
        kept.look_for_room = true;
        let unforwarded = unforwarded.map_or_else(
            || kept.low.iter().map(|(name, &low)| (name.clone(), eviction.unforwarded(low))).collect(),
            |told| told.into_iter().collect(),
        );
        if let Err(error) = kept.writer.evict(&eviction, unforwarded) {
            eprintln!("raven-worker store: {error}");
        }
    }
}

impl Kept {
    /// The wall clock, unless it was stepped since this process began.
    fn trusted_now(&self) -> Option<UnixNanos> {
        let stepped = (clock_offset() - self.clock_offset).abs();
        (stepped < STEP)
            .then(|| UnixNanos(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)))
    }
}
