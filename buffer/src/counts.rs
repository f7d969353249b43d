//! Counts that no block carries and that a restart must not forget: what was dropped before it was stored, and how
//! much was stored when. Kept in the catalogue.

use crate::history::History;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How soon new drops are on disk; a power cut forgets no more.
const DROPS_WITHIN: Duration = Duration::from_secs(5);
/// How soon the history of a busy stream is, and that of an idle one.
const BUSY_WITHIN: Duration = Duration::from_mins(1);
const IDLE_WITHIN: Duration = Duration::from_mins(10);

/// A counter that begins again at nought whenever its source is made anew: a socket, a receive memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    /// Which life of the source.
    source: u64,
    /// What it counted when last looked at.
    last: u64,
    /// Over all its lives.
    total: u64,
}

impl Counter {
    /// True when the total rose.
    fn note(&mut self, source: u64, count: u64) -> bool {
        let before = self.total;
        self.total += if source != self.source {
            count
        } else if count >= self.last {
            count - self.last
        } else {
            // The kernel's counter of a socket has 32 bits and wraps.
            (count + (1 << 32)).saturating_sub(self.last)
        };
        (self.source, self.last) = (source, count);
        self.total > before
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub history: History,
    /// By who dropped (a listener's name, or nothing for the collector), then by reason.
    drops: BTreeMap<String, BTreeMap<String, Counter>>,
}

impl Counts {
    /// Takes the count of a source as it stands; true when it rose.
    pub fn note_drops(&mut self, by: &str, reason: &str, source: u64, count: u64) -> bool {
        if count == 0 && !self.drops.get(by).is_some_and(|reasons| reasons.contains_key(reason)) {
            return false;
        }
        self.drops.entry(by.to_owned()).or_default().entry(reason.to_owned()).or_default().note(source, count)
    }

    /// All drops so far, by reason.
    pub fn dropped(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (reason, counter) in self.drops.values().flatten() {
            *sums.entry(reason.clone()).or_default() += counter.total;
        }
        sums
    }

    /// Those of one listener, or of the collector.
    pub fn dropped_by(&self, by: &str) -> BTreeMap<String, u64> {
        let counts = self.drops.get(by).into_iter().flatten();
        counts.map(|(reason, counter)| (reason.clone(), counter.total)).collect()
    }
}

/// When the counts are saved next.
#[derive(Debug, Default)]
pub(crate) struct Saving {
    saved_at: Option<Instant>,
    pub drops: bool,
    pub stored: bool,
}

impl Saving {
    pub fn is_due(&self, now: Instant) -> bool {
        let within = match (self.drops, self.stored) {
            (true, _) => DROPS_WITHIN,
            (false, true) => BUSY_WITHIN,
            (false, false) => IDLE_WITHIN,
        };
        self.saved_at.is_none_or(|at| now.duration_since(at) >= within)
    }

    /// Tried, so that a disk that takes nothing is not asked each second.
    pub const fn tried(&mut self, now: Instant) {
        self.saved_at = Some(now);
    }

    pub const fn saved(&mut self) {
        (self.drops, self.stored) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_over_the_lives_of_their_sources() {
        let mut counts = Counts::default();
        assert!(!counts.note_drops("udp:[::]:514", "socket_buffer", 7, 0), "nothing to keep");
        assert!(counts.note_drops("udp:[::]:514", "socket_buffer", 7, 5));
        assert!(!counts.note_drops("udp:[::]:514", "socket_buffer", 7, 5));
        assert!(counts.note_drops("udp:[::]:514", "socket_buffer", 7, 8));
        // A new socket counts from nought.
        assert!(!counts.note_drops("udp:[::]:514", "socket_buffer", 9, 0));
        assert!(counts.note_drops("udp:[::]:514", "socket_buffer", 9, 10));
        assert!(counts.note_drops("", "storm", 1, 2));
        assert_eq!(counts.dropped(), BTreeMap::from([("socket_buffer".to_owned(), 18), ("storm".to_owned(), 2)]));
        assert_eq!(counts.dropped_by("udp:[::]:514")["socket_buffer"], 18);
        let text = serde_json::to_string(&counts).expect("plain data");
        assert_eq!(serde_json::from_str::<Counts>(&text).expect("the same"), counts);
    }

    #[test]
    fn a_socket_that_counted_to_its_end_begins_anew() {
        let mut counter = Counter::default();
        counter.note(1, (1 << 32) - 2);
        counter.note(1, 3);
        assert_eq!(counter.total, (1 << 32) + 3);
    }
}
