//! Where one destination stands with one stream: shared by the task that delivers, the cursors that are saved, and
//! the status that is shown.

use crate::attempt::{Attempts, Event, Failure, Pace, State};
use crate::dead::{DeadLetters, Retries};
use crate::fleet::Saved;
use crate::lanes::{BEHIND, Board, LIVE_LAG, Lane, Lanes, YIELD};
use crate::pacer::{Gate, Pacer};
use crate::progress::Progress;
use raven_model::config::{Backfill, Destination};
use raven_model::report::{BackfillStatus, DeadStatus, DestinationStatus};
use raven_model::units::{Seq, UnixNanos};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Shared within the one thread of the uplink.
pub type Shared = Rc<RefCell<Standing>>;

/// Over how long rates are taken.
const RATE_SPAN: Duration = Duration::from_secs(10);

/// One destination and stream.
#[derive(Debug)]
pub struct Standing {
    /// What is acknowledged.
    pub progress: Progress,
    /// No cursor was there: what the ring has lost before its first record was never this destination's.
    pub fresh: bool,
    /// Changed since the cursor was saved.
    pub unsaved: bool,
    /// Low-water mark as last saved.
    pub durable_low: Seq,
    /// Attempts and failures of the live lane and of backfill.
    pub attempts: [Attempts; 2],
    /// Who sends what.
    pub lanes: Lanes,
    /// How fast backfill goes.
    pub pacer: Pacer,
    /// Held by an operator.
    pub paused: Paused,
    /// Tells the backfill lane of new gaps, of claims given back, and of an operator's word.
    pub changed: Rc<Notify>,
    /// What became of records that were not acknowledged in the ordinary way, since the cursor was made.
    pub counts: Counts,
    /// Records sent more than once since start.
    pub resent: u64,
    /// Dead letters that go out again.
    pub retries: Retries,
    way: Way,
    acked: u64,
    backfilled: u64,
    last_ack: Option<Instant>,
    acked_rate: Rate,
    backfilled_rate: Rate,
    stored_rate: Rate,
    /// What backfill handed out since start, records and bytes.
    handed: (u64, u64),
    /// Receive times of what backfill reads now and of what the live lane left behind last.
    left_behind: (Option<UnixNanos>, Option<UnixNanos>),
}

/// What all streams of a destination share.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// By what they wait for each other.
    pub board: Rc<RefCell<Board>>,
    /// Place of this stream among them.
    pub class: usize,
    /// How fast backfill goes.
    pub cap: Backfill,
    /// The destination refuses what is older than what it has: the live lane leaves nothing behind.
    pub ordered: bool,
    /// Nobody acknowledges: time stands in for it, so what is out is not waited for.
    pub unacknowledged: bool,
}

/// Held by an operator until resumed, also over restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paused {
    /// The live lane.
    pub live: bool,
    /// The backfill lane.
    pub backfill: bool,
}

/// Records that were not acknowledged in the ordinary way. All kept with the cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Never this destination's: the ring had lost them before the cursor was made.
    pub start: u64,
    /// Evicted or damaged before they were acknowledged.
    pub missed: u64,
    /// Refused, and written to the dead letters.
    pub dead: u64,
    /// Of those, sent again and acknowledged.
    pub revived: u64,
    /// Of those, dropped by an operator.
    pub dropped: u64,
    /// Of those, given up because there were too many.
    pub overflowed: u64,
}

/// Where a lane may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From `next` on, as far as `end` (not in it), so many at most.
    At {
        /// Begin.
        next: Seq,
        /// End; none: no end.
        end: Option<Seq>,
        /// Bytes.
        bytes: u64,
        /// Records.
        records: u64,
    },
    /// Nowhere, until then or until something changes.
    Wait(Option<Instant>),
}

impl Standing {
    /// At a saved cursor, or at the beginning where there is none.
    pub fn new(saved: Option<Saved>, way: Way) -> Self {
        let fresh = saved.is_none();
        let Saved { progress, counts } = saved.unwrap_or_default();
        Self {
            durable_low: progress.low(),
            lanes: Lanes::new(&progress),
            pacer: Pacer::new(way.cap),
            progress,
            fresh,
            unsaved: false,
            attempts: <[Attempts; 2]>::default(),
            paused: Paused::default(),
            changed: Rc::new(Notify::new()),
            counts,
            resent: 0,
            retries: Retries::default(),
            way,
            acked: 0,
            backfilled: 0,
            last_ack: None,
            acked_rate: Rate::default(),
            backfilled_rate: Rate::default(),
            stored_rate: Rate::default(),
            handed: (0, 0),
            left_behind: (None, None),
        }
    }

    /// Takes over what the file of dead letters says, before anything is sent. A letter is written before the cursor
    /// says so, and removed before that is counted: after a kill between the two the file knows better. A record whose
    /// letter lies there is not sent again. A letter that is gone and not counted counts as dropped, and one that is
    /// counted as gone and lies there as held: no more is said to be delivered than is known to be.
    pub fn reconcile(&mut self, letters: &BTreeSet<Seq>) {
        let before = self.saved();
        self.counts.dead += letters.iter().map(|seq| u64::from(self.progress.ack(*seq))).sum::<u64>();
        let (held, there) = (self.dead_status().held, letters.len() as u64);
        self.counts.dropped += held.saturating_sub(there);
        let mut back = there.saturating_sub(held);
        for count in [&mut self.counts.revived, &mut self.counts.dropped, &mut self.counts.overflowed] {
            let taken = back.min(*count);
            (*count, back) = (*count - taken, back - taken);
        }
        self.unsaved |= self.saved() != before;
        self.lanes = Lanes::new(&self.progress);
    }

    /// Where a lane that is at `at` may read now; the stream's head is at `head`.
    pub fn place(&mut self, lane: Lane, at: Seq, head: Seq, now: Instant) -> Place {
        let open = |next, end, bytes, records| Place::At { next, end, bytes, records };
        self.lanes.note_head(now, head);
        if self.fresh {
            let begin = open(at.max(self.progress.low().plus(1)), None, u64::MAX, u64::MAX);
            return if lane == Lane::Live { begin } else { Place::Wait(None) };
        }
        let Paused { live, backfill } = self.paused;
        if if lane == Lane::Live { live } else { backfill } {
            return Place::Wait(None);
        }
        let held = self.way.board.borrow().held(lane, self.way.class, now);
        if held.is_some() {
            return Place::Wait(held);
        }
        match lane {
            Lane::Live => open(self.live_next(at, now), None, u64::MAX, u64::MAX),
            Lane::Backfill => {
                let Some((next, end)) = self.lanes.backfill_next(&self.progress, at) else { return Place::Wait(None) };
                let (waits, lanes, progress) = (!self.way.unacknowledged, &self.lanes, &self.progress);
                match self.pacer.gate(now, || if waits { lanes.under_way(lane, progress) } else { 0 }) {
                    Gate::Open { bytes, records } => open(next, Some(end), bytes, records),
                    Gate::Shut(until) => Place::Wait(Some(until)),
                }
            }
        }
    }

    fn live_next(&mut self, at: Seq, now: Instant) -> Seq {
        if self.way.ordered {
            return self.lanes.in_order(&self.progress, at);
        }
        let before = self.lanes.jumps;
        let next = self.lanes.live_next(&mut self.progress, at, now);
        if self.lanes.jumps != before {
            self.left_behind.1 = unix_now();
            self.unsaved = true;
            self.changed.notify_waiters();
        }
        next
    }

    /// A lane handed out `records` of `first` to `last`; the newest was received at `received`.
    pub fn handed(
        &mut self,
        lane: Lane,
        (first, last): (Seq, Seq),
        (records, bytes): (u64, u64),
        received: UnixNanos,
        now: Instant,
    ) {
        self.lanes.claim(lane, &self.progress, first, last);
        let mut board = self.way.board.borrow_mut();
        match lane {
            Lane::Live => {
                if self.lanes.is_behind(last, now, BEHIND) {
                    board.hold(lane, self.way.class, now + BEHIND);
                }
                if self.lanes.is_behind(last, now, YIELD) {
                    board.hold_backfill(now + YIELD);
                }
            }
            Lane::Backfill => {
                board.hold(lane, self.way.class, now + LIVE_LAG);
                self.pacer.handed(now, bytes, records);
                self.handed = (self.handed.0 + records, self.handed.1 + bytes);
                self.left_behind.0 = Some(received);
            }
        }
    }

    /// Whether a dead letter waits to be sent again.
    pub fn has_retry(&self) -> bool {
        self.retries.is_waiting() && !self.paused.backfill
    }

    /// Whether the backfill lane has anything to send or under way.
    pub fn has_backfill(&self) -> bool {
        self.lanes.backlog(&self.progress) > 0 || !self.retries.is_empty()
    }

    /// Removes letters that were acknowledged from the file; takes note of those that it gave up.
    pub fn clear_letters(&mut self, dead: &DeadLetters) {
        let overflowed = dead.take_overflowed();
        self.counts.overflowed += overflowed;
        self.unsaved |= overflowed > 0;
        let done = self.retries.take_done();
        if done.is_empty() {
            return;
        }
        if let Err(error) = dead.remove(|seq| done.contains(&seq)) {
            eprintln!("{}: {error}", dead.path().display());
            self.retries.put_back_done(done);
        }
    }

    /// The configuration changed.
    pub fn change_way(&mut self, way: Way) {
        self.pacer = Pacer::new(way.cap);
        self.way = way;
    }

    /// An operator holds or resumes it.
    pub fn pause(&mut self, paused: Paused) {
        self.paused = paused;
        self.changed.notify_waiters();
    }

    /// A lane begins anew: what it has under way is sent again.
    pub fn give_back(&mut self, lane: Lane) {
        let again = self.lanes.unclaim(lane, &self.progress);
        self.resent += again;
        if lane == Lane::Backfill {
            self.retries.give_back();
        }
        if again > 0 {
            self.changed.notify_waiters();
        }
    }

    /// As it is saved.
    pub fn saved(&self) -> Saved {
        Saved { progress: self.progress.clone(), counts: self.counts }
    }

    /// `saved` is durable.
    pub fn note_saved(&mut self, saved: &Saved) {
        self.unsaved = false;
        self.durable_low = saved.progress.low();
    }

    /// Takes acknowledgements of single records.
    #[inline]
    pub fn acked(&mut self, seqs: impl IntoIterator<Item = Seq>) {
        let split = self.lanes.split();
        let (mut news, mut old) = (0, 0);
        for seq in seqs {
            let is_new = self.progress.ack(seq);
            news += u64::from(is_new);
            old += u64::from(is_new && seq < split);
            if !is_new && self.retries.acked(seq) {
                self.counts.revived += 1;
            }
        }
        self.backfilled += old;
        self.note_acked(news);
    }

    /// Takes the acknowledgement of whole ranges, inclusive.
    pub fn acked_ranges(&mut self, ranges: &[(Seq, Seq)]) {
        let mut news = 0;
        for (first, last) in ranges {
            let new = self.progress.cover(*first, *last);
            news += new;
            self.backfilled += if *last < self.lanes.split() { new } else { 0 };
            if !self.retries.is_empty() {
                self.counts.revived += (first.0..=last.0).filter(|seq| self.retries.acked(Seq(*seq))).count() as u64;
            }
        }
        self.note_acked(news);
    }

    fn note_acked(&mut self, news: u64) {
        self.acked += news;
        self.unsaved |= news > 0;
        self.fresh = false;
        self.last_ack = Some(Instant::now());
        for attempts in &mut self.attempts {
            attempts.step(Event::Acked, &Pace::default(), 0.0);
        }
    }

    /// When the far end acknowledged something last; never, where it acknowledges nothing at all.
    pub fn last_ack(&self) -> Option<Instant> {
        self.last_ack.filter(|_| !self.way.unacknowledged)
    }

    /// Records acknowledged since start.
    pub const fn acked_count(&self) -> u64 {
        self.acked
    }

    /// A record went to the dead letters.
    pub fn buried(&mut self, seq: Seq) {
        self.counts.dead += u64::from(self.progress.ack(seq));
        self.retries.refused(seq);
        self.unsaved = true;
    }

    /// The first record that a new destination gets is known.
    pub fn started(&mut self) {
        self.unsaved |= self.fresh;
        self.fresh = false;
    }

    /// Everything below `below` is gone from the ring; returns how many of them had not been acknowledged.
    pub fn gone_below(&mut self, below: Seq) -> u64 {
        let from = self.progress.low().plus(1);
        if from < below { self.gone_between(from, below) } else { 0 }
    }

    /// Everything from `from` up to `next` is gone from the ring; returns how many of them had not been acknowledged.
    pub fn gone_between(&mut self, from: Seq, next: Seq) -> u64 {
        if self.fresh && self.progress.low().plus(1) == from {
            self.counts.start += self.progress.skip_to(next);
            self.lanes = Lanes::new(&self.progress);
            self.started();
            return 0;
        }
        let gone = self.progress.cover(from, Seq(next.0.saturating_sub(1)));
        self.unsaved |= gone > 0;
        self.counts.missed += gone;
        gone
    }

    /// Takes an event; returns the pause before the next attempt where one is due.
    pub fn event(&mut self, lane: Lane, event: Event, pace: &Pace) -> Option<Duration> {
        self.attempts[lane as usize].step(event, pace, dice())
    }

    /// Says why the ring could not be read; the next attempt follows as after any failure.
    pub fn failed(&mut self, lane: Lane, failure: Failure, pace: &Pace) -> Duration {
        self.event(lane, Event::Failed(failure), pace).unwrap_or_default()
    }

    /// Records stored and not yet acknowledged.
    pub fn lag(&self, next_seq: Seq) -> u64 {
        next_seq.0.saturating_sub(1).saturating_sub(self.progress.low().0).saturating_sub(self.progress.above())
    }

    /// What an operator sees. Call once per second: rates are taken between calls.
    pub fn status(&mut self, name: &str, stream: &str, to: &Destination, next_seq: Seq) -> DestinationStatus {
        let now = Instant::now();
        let rate = self.acked_rate.sample(now, self.acked);
        let arriving = self.stored_rate.sample(now, next_seq.0);
        let lag = self.lag(next_seq);
        let shrinking = rate - arriving;
        let caught_up = lag == 0;
        let eta_s = if caught_up { Some(0) } else { (shrinking > 0.0).then(|| (lag as f64 / shrinking).ceil() as u64) };
        DestinationStatus {
            name: name.to_owned(),
            stream: stream.to_owned(),
            kind: to.kind.name().to_owned(),
            to: to.to.clone(),
            ack_class: to.ack_class().to_owned(),
            acked_seq: self.progress.low(),
            acked_above: self.progress.above(),
            acknowledged: self.acknowledged(),
            lag,
            live_lag: lag - self.lanes.backlog(&self.progress).min(lag),
            rate,
            eta_s,
            state: self.state(Lane::Live),
            resent: self.resent,
            missed: self.counts.missed,
            dead: self.dead_status(),
            backfill: self.backfill_status(now),
            last_error: self.last_error(),
            last_ack_s: self.last_ack.map(|at| now.duration_since(at).as_secs()),
        }
    }

    /// Records acknowledged since the cursor was made.
    fn acknowledged(&self) -> u64 {
        let Counts { start, missed, dead, revived, .. } = self.counts;
        (self.progress.low().0 + self.progress.above() + revived).saturating_sub(start + missed + dead)
    }

    fn dead_status(&self) -> DeadStatus {
        let Counts { dead, revived, dropped, overflowed, .. } = self.counts;
        let held = dead.saturating_sub(revived + dropped + overflowed);
        DeadStatus { lettered: dead, held, delivered: revived, dropped, overflowed }
    }

    fn backfill_status(&mut self, now: Instant) -> BackfillStatus {
        let records = self.lanes.backlog(&self.progress);
        let rate = self.backfilled_rate.sample(now, self.backfilled);
        let eta_s = (rate > 0.0).then(|| (records as f64 / rate).ceil() as u64);
        let (sent, bytes) = self.handed;
        let first = self.lanes.backfill_next(&self.progress, Seq(0)).map(|_| self.progress.low().plus(1));
        let (oldest_ns, newest_ns) = if records > 0 { self.left_behind } else { (None, None) };
        BackfillStatus {
            records,
            gaps: self.lanes.gaps(&self.progress) as u64,
            bytes: (records > 0 && sent > 0).then(|| (bytes as f64 / sent as f64 * records as f64) as u64),
            first_seq: (records > 0).then(|| first.unwrap_or(self.progress.low().plus(1))),
            end_seq: (records > 0).then(|| self.lanes.split()),
            oldest_ns,
            newest_ns,
            rate,
            eta_s: if records == 0 { Some(0) } else { eta_s },
            state: if records == 0 { "none".to_owned() } else { self.state(Lane::Backfill) },
            pace: self.way.cap.to_string(),
        }
    }

    fn state(&self, lane: Lane) -> String {
        let Paused { live, backfill } = self.paused;
        let is_paused = if lane == Lane::Live { live } else { backfill };
        let attempts = &self.attempts[lane as usize];
        if is_paused && attempts.state != State::Stopped { "paused" } else { attempts.state.name() }.to_owned()
    }

    fn last_error(&self) -> Option<String> {
        let held = self.dead_status().held;
        let dead = (held > 0).then(|| format!("{held} records it refuses are in its dead letters"));
        let newest = self.attempts.iter().find_map(|attempts| attempts.last_error.clone());
        let parts: Vec<String> = newest.into_iter().chain(dead).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

fn unix_now() -> Option<UnixNanos> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(UnixNanos(since.as_nanos() as u64))
}

/// 0.0 to 1.0, different in every process: jitter, no secret.
fn dice() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// A counter's rate over the last 10 s.
#[derive(Debug, Default)]
struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    fn sample(&mut self, now: Instant, count: u64) -> f64 {
        self.samples.push_back((now, count));
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= RATE_SPAN) {
            self.samples.pop_front();
        }
        let (since, before) = self.samples[0];
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds > 0.0 { count.saturating_sub(before) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(seqs: &[u64]) -> BTreeSet<Seq> {
        seqs.iter().copied().map(Seq).collect()
    }

    fn standing(counts: Counts) -> Standing {
        let progress = Progress::from_parts(Seq(10), [(Seq(12), Seq(15))]);
        Standing::new(Some(Saved { progress, counts }), Way::default())
    }

    fn dead(standing: &Standing) -> (u64, u64, u64, u64) {
        let DeadStatus { lettered, held, delivered, dropped, .. } = standing.dead_status();
        (lettered, held, delivered, dropped)
    }

    #[test]
    fn a_letter_that_was_written_before_a_kill_is_dead_and_not_sent_again() {
        let mut standing = standing(Counts { dead: 1, ..Counts::default() });
        standing.reconcile(&letters(&[7, 11, 20]));
        assert_eq!(dead(&standing), (3, 3, 0, 0));
        assert!(standing.progress.covers(Seq(20)) && standing.unsaved);
        assert_eq!((standing.progress.low(), standing.lanes.split()), (Seq(15), Seq(21)));
    }

    #[test]
    fn what_was_left_behind_waits_while_the_present_is_late() {
        let (mut standing, begun) = (standing(Counts::default()), Instant::now());
        let after = |ms| begun + Duration::from_millis(ms);
        let left = Place::At { next: Seq(11), end: Some(Seq(12)), bytes: 64 * 1024, records: u64::MAX };
        let backfill = |standing: &mut Standing, now| standing.place(Lane::Backfill, Seq(0), Seq(400), now);
        standing.place(Lane::Live, Seq(16), Seq(20), begun);
        assert_eq!(backfill(&mut standing, after(300)), left);
        standing.handed(Lane::Live, (Seq(16), Seq(17)), (2, 200), UnixNanos(0), after(300));
        assert_eq!(backfill(&mut standing, after(300)), Place::Wait(Some(after(550))));
        standing.handed(Lane::Live, (Seq(18), Seq(399)), (382, 40_000), UnixNanos(0), after(310));
        assert_eq!(backfill(&mut standing, after(549)), Place::Wait(Some(after(550))));
        assert_eq!(backfill(&mut standing, after(550)), left);
    }

    #[test]
    fn letters_that_a_kill_left_uncounted_are_held_when_they_lie_there_and_else_dropped() {
        let counts = Counts { dead: 5, revived: 2, ..Counts::default() };
        let mut gone = standing(counts);
        gone.reconcile(&letters(&[7]));
        assert_eq!(dead(&gone), (5, 1, 2, 2));
        let mut back = standing(counts);
        back.reconcile(&letters(&[5, 6, 7, 8]));
        assert_eq!(dead(&back), (5, 4, 1, 0), "it may go out again: never more is delivered than is known");
        let mut same = standing(counts);
        same.reconcile(&letters(&[5, 6, 7]));
        assert!(!same.unsaved && dead(&same) == (5, 3, 2, 0));
    }
}
