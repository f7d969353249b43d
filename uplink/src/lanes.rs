//! Two lanes to each destination: live, which stays at the head of the stream, and backfill, which drains what the
//! live lane left behind, oldest first. Pure: no clock, socket or ring.
//!
//! All seqs from `split` on are the live lane's, all below are backfill's. When the live lane would read a record that
//! was stored more than [`LIVE_LAG`] ago, it jumps: `split` becomes the head, and what it leaves behind is a gap for
//! the backfill lane. Each lane claims what it hands out, so that no record is under way in both; a lane that failed
//! gives its claims back.
//!
//! Gaps are the holes of [`Progress`], so they outlive a restart. There are at most [`GAPS_MAX`]: one more, and the
//! smallest acknowledged range between two of them is forgotten, which makes one of the two. What lay in it is sent
//! again; nothing is lost.

use crate::progress::Progress;
use raven_model::units::Seq;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// A live lane never reads what was stored longer ago.
pub const LIVE_LAG: Duration = Duration::from_secs(2);

/// A live lane that is so much behind has the streams below its own wait.
pub const BEHIND: Duration = Duration::from_millis(500);

/// A live lane that is so much behind has the backfill lanes wait.
pub const YIELD: Duration = Duration::from_millis(250);

/// So few records are not worth a jump: they are sent in less time than a second connection takes.
pub const JUMP_MIN: u64 = 256;

/// Gaps left behind by jumps, at most.
pub const GAPS_MAX: usize = 256;

/// Time between two samples of the head.
const SAMPLE: Duration = Duration::from_millis(100);

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What was just stored.
    Live,
    /// What was left behind.
    Backfill,
}

/// Where the lanes of one destination and stream are.
#[derive(Debug, Clone)]
pub struct Lanes {
    split: Seq,
    /// Handed out since the lane's attempt began.
    live: Progress,
    backfill: Progress,
    heads: Heads,
    /// How often the live lane jumped.
    pub jumps: u64,
}

impl Lanes {
    /// As they were when this was saved: what lies between acknowledged ranges was left behind by the live lane.
    pub fn new(progress: &Progress) -> Self {
        Self {
            split: progress.top(),
            live: Progress::default(),
            backfill: Progress::default(),
            heads: Heads::default(),
            jumps: 0,
        }
    }

    /// The stream's head is at `head` now.
    pub fn note_head(&mut self, now: Instant, head: Seq) {
        self.heads.note(now, head);
    }

    /// First seq of the live lane.
    pub const fn split(&self) -> Seq {
        self.split
    }

    /// What the live lane reads next, when it is at `at`. It jumps where it has to.
    pub fn live_next(&mut self, progress: &mut Progress, at: Seq, now: Instant) -> Seq {
        let next = self.in_order(progress, at);
        let head = self.heads.newest();
        let is_old = self.heads.before(now, LIVE_LAG).is_some_and(|old| next < old);
        if !is_old || head.0.saturating_sub(next.0) < JUMP_MIN {
            return next;
        }
        self.split = head;
        self.jumps += 1;
        progress.merge_gaps(GAPS_MAX - 1);
        head
    }

    /// As [`live_next`](Self::live_next), for a lane that never jumps.
    pub fn in_order(&self, progress: &Progress, at: Seq) -> Seq {
        at.max(self.split).max(progress.low().plus(1))
    }

    /// Whether the live lane, at `at`, is so much behind.
    pub fn is_behind(&self, at: Seq, now: Instant, by: Duration) -> bool {
        self.heads.before(now, by).is_some_and(|old| at < old)
    }

    /// What the backfill lane reads next, when it is at `at`: a range, its end not in it. Begins again at the oldest
    /// gap when there is nothing more above.
    pub fn backfill_next(&self, progress: &Progress, at: Seq) -> Option<(Seq, Seq)> {
        let lowest = progress.low().plus(1);
        if lowest >= self.split {
            return None;
        }
        self.open_from(progress, at).or_else(|| if at > lowest { self.open_from(progress, lowest) } else { None })
    }

    fn open_from(&self, progress: &Progress, at: Seq) -> Option<(Seq, Seq)> {
        let (mut first, mut end) = (at, self.split);
        loop {
            let begun = first;
            for taken in [progress, &self.live, &self.backfill] {
                first = taken.gap_at(first).0;
            }
            if first >= self.split {
                return None;
            }
            if first == begun {
                break;
            }
        }
        for taken in [progress, &self.live, &self.backfill] {
            end = taken.gap_at(first).1.map_or(end, |next| end.min(next));
        }
        Some((first, end))
    }

    /// A lane hands out `first` to `last`.
    pub fn claim(&mut self, lane: Lane, progress: &Progress, first: Seq, last: Seq) {
        let claims = self.claims_mut(lane);
        claims.cover(first, last);
        // What is acknowledged needs no claim any more.
        if claims.range_count() > 16 {
            claims.retain(|first, last| progress.missing_in(first, last) > 0);
        }
    }

    /// A lane's attempt is over: what it had handed out and was not acknowledged is free again. Returns how much.
    pub fn unclaim(&mut self, lane: Lane, progress: &Progress) -> u64 {
        let given_back = self.under_way(lane, progress);
        *self.claims_mut(lane) = Progress::default();
        given_back
    }

    /// Records that a lane has handed out and that are not acknowledged.
    pub fn under_way(&self, lane: Lane, progress: &Progress) -> u64 {
        let claims = if lane == Lane::Live { &self.live } else { &self.backfill };
        let low = (claims.low() > Seq(0)).then_some((Seq(1), claims.low()));
        low.into_iter().chain(claims.ranges()).map(|(first, last)| progress.missing_in(first, last)).sum()
    }

    /// Records left behind.
    pub fn backlog(&self, progress: &Progress) -> u64 {
        progress.missing_below(self.split)
    }

    /// Ranges of records left behind.
    pub fn gaps(&self, progress: &Progress) -> usize {
        progress.gaps_below(self.split)
    }

    const fn claims_mut(&mut self, lane: Lane) -> &mut Progress {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backfill => &mut self.backfill,
        }
    }
}

/// Where the head was when, as far back as [`LIVE_LAG`].
#[derive(Debug, Clone, Default)]
struct Heads {
    samples: VecDeque<(Instant, Seq)>,
    newest: Seq,
}

impl Heads {
    fn note(&mut self, now: Instant, head: Seq) {
        self.newest = self.newest.max(head);
        if self.samples.back().is_none_or(|(at, _)| now.duration_since(*at) >= SAMPLE) {
            self.samples.push_back((now, head));
        }
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= LIVE_LAG) {
            self.samples.pop_front();
        }
    }

    /// The newest that is known to have been the head at least `age` ago.
    fn before(&self, now: Instant, age: Duration) -> Option<Seq> {
        let old = self.samples.partition_point(|(at, _)| now.duration_since(*at) >= age);
        old.checked_sub(1).map(|at| self.samples[at].1)
    }

    const fn newest(&self) -> Seq {
        self.newest
    }
}

/// Order of streams on one way: what is small and urgent goes before what floods.
pub fn class(stream: &str) -> usize {
    match stream {
        "alert" => 0,
        "host" | "diag" | "trap" => 1,
        "flow" => 3,
        _ => 2,
    }
}

/// By what the streams of one destination wait for each other. Each hold is short and is renewed only while records are
/// handed out, so one that is stuck holds nobody up.
#[derive(Debug, Default)]
pub struct Board {
    /// Per lane and class, until when the classes below wait.
    classes: [[Option<Instant>; 4]; 2],
    /// Until when all backfill waits.
    backfill: Option<Instant>,
}

impl Board {
    /// The classes below `class` wait until then.
    pub fn hold(&mut self, lane: Lane, class: usize, until: Instant) {
        self.classes[lane as usize][class] = Some(until);
    }

    /// All backfill waits until then: where processor or path cannot carry both lanes, the present goes first. A live
    /// lane that cannot keep up even so jumps, and is not behind then.
    pub const fn hold_backfill(&mut self, until: Instant) {
        self.backfill = Some(until);
    }

    /// Until when `class` has to wait, if it has to.
    pub fn held(&self, lane: Lane, class: usize, now: Instant) -> Option<Instant> {
        let backfill = self.backfill.filter(|_| lane == Lane::Backfill);
        let holds = self.classes[lane as usize][..class].iter().flatten().copied().chain(backfill);
        holds.filter(|until| *until > now).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_live_lane_has_under_way_when_it_jumps_is_left_to_it_until_it_fails() {
        let (mut progress, begun) = (Progress::default(), Instant::now());
        let mut lanes = Lanes::new(&progress);
        lanes.note_head(begun, Seq(1001));
        assert_eq!(lanes.live_next(&mut progress, Seq(1), begun), Seq(1));
        lanes.claim(Lane::Live, &progress, Seq(1), Seq(500));
        lanes.note_head(begun + LIVE_LAG, Seq(2001));
        assert_eq!(lanes.live_next(&mut progress, Seq(501), begun + LIVE_LAG), Seq(2001), "it jumps");
        assert_eq!(lanes.backfill_next(&progress, Seq(0)), Some((Seq(501), Seq(2001))));
        lanes.claim(Lane::Backfill, &progress, Seq(501), Seq(2000));
        assert_eq!(lanes.backfill_next(&progress, Seq(2001)), None);
        (1..=400).for_each(|seq| assert!(progress.ack(Seq(seq))));
        assert_eq!(lanes.unclaim(Lane::Live, &progress), 100);
        assert_eq!(lanes.backfill_next(&progress, Seq(2001)), Some((Seq(401), Seq(501))), "it begins again below");
    }

    #[test]
    fn less_urgent_streams_wait_for_more_urgent_ones_and_only_so_long() {
        let (now, mut board) = (Instant::now(), Board::default());
        board.hold(Lane::Live, class("trap"), now + BEHIND);
        assert_eq!(board.held(Lane::Live, class("flow"), now), Some(now + BEHIND));
        assert_eq!(board.held(Lane::Live, class("host"), now), None, "of the same class");
        assert_eq!(board.held(Lane::Backfill, class("flow"), now), None, "of the other lane");
        assert_eq!(board.held(Lane::Live, class("flow"), now + BEHIND), None);
        board.hold_backfill(now + YIELD);
        assert_eq!(board.held(Lane::Backfill, class("alert"), now), Some(now + YIELD));
        assert_eq!(board.held(Lane::Live, class("alert"), now), None);
    }
}
