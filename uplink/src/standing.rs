//! Where one destination stands with one stream: shared by the task that delivers, the cursors that are saved, and
//! the status that is shown.

use crate::attempt::{Attempts, Event, Failure, Pace};
use crate::fleet::Saved;
use crate::progress::Progress;
use raven_model::config::Destination;
use raven_model::report::DestinationStatus;
use raven_model::units::Seq;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::rc::Rc;
use std::time::Duration;
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
    /// Attempts and failures.
    pub attempts: Attempts,
    /// Records evicted or damaged before they were acknowledged, since the cursor was made.
    pub missed: u64,
    /// Records that the destination refuses and that were written to its dead letters, since start.
    pub dead: u64,
    /// Records sent more than once since start.
    pub resent: u64,
    highest_sent: Seq,
    acked: u64,
    last_ack: Option<Instant>,
    acked_rate: Rate,
    stored_rate: Rate,
}

impl Standing {
    /// At a saved cursor, or at the beginning where there is none.
    pub fn new(cursor: Option<(Progress, u64)>) -> Self {
        let fresh = cursor.is_none();
        let (progress, missed) = cursor.unwrap_or_default();
        Self {
            highest_sent: progress.low(),
            durable_low: progress.low(),
            progress,
            fresh,
            unsaved: false,
            attempts: Attempts::default(),
            missed,
            dead: 0,
            resent: 0,
            acked: 0,
            last_ack: None,
            acked_rate: Rate::default(),
            stored_rate: Rate::default(),
        }
    }

    /// As it is saved.
    pub fn saved(&self) -> Saved {
        Saved { progress: self.progress.clone(), missed: self.missed }
    }

    /// `saved` is durable.
    pub fn note_saved(&mut self, saved: &Saved) {
        self.unsaved = false;
        self.durable_low = saved.progress.low();
    }

    /// Counts a record that goes out.
    #[inline]
    pub fn sent(&mut self, seq: Seq) {
        if seq > self.highest_sent {
            self.highest_sent = seq;
        } else {
            self.resent += 1;
        }
    }

    /// Takes acknowledgements of single records.
    #[inline]
    pub fn acked(&mut self, seqs: impl IntoIterator<Item = Seq>) {
        let news = seqs.into_iter().filter(|seq| self.progress.ack(*seq)).count();
        self.note_acked(news as u64);
    }

    /// Takes the acknowledgement of whole ranges, inclusive.
    pub fn acked_ranges(&mut self, ranges: &[(Seq, Seq)]) {
        let news = ranges.iter().map(|(first, last)| self.progress.cover(*first, *last)).sum();
        self.note_acked(news);
    }

    fn note_acked(&mut self, news: u64) {
        self.acked += news;
        self.unsaved |= news > 0;
        self.fresh = false;
        self.last_ack = Some(Instant::now());
        self.event(Event::Acked, &Pace::default());
    }

    /// Records acknowledged since start.
    pub const fn acked_count(&self) -> u64 {
        self.acked
    }

    /// A record went to the dead letters.
    pub fn buried(&mut self, seq: Seq) {
        self.dead += u64::from(self.progress.ack(seq));
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
            self.progress.skip_to(next);
            self.started();
            return 0;
        }
        let gone = self.progress.cover(from, Seq(next.0.saturating_sub(1)));
        self.unsaved |= gone > 0;
        self.missed += gone;
        gone
    }

    /// Takes an event; returns the pause before the next attempt where one is due.
    pub fn event(&mut self, event: Event, pace: &Pace) -> Option<Duration> {
        self.attempts.step(event, pace, dice())
    }

    /// Says why the ring could not be read; the next attempt follows as after any failure.
    pub fn failed(&mut self, failure: Failure, pace: &Pace) -> Duration {
        self.event(Event::Failed(failure), pace).unwrap_or_default()
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
            lag,
            rate,
            eta_s,
            state: self.attempts.state.name().to_owned(),
            resent: self.resent,
            missed: self.missed,
            last_error: self.last_error(),
            last_ack_s: self.last_ack.map(|at| now.duration_since(at).as_secs()),
        }
    }

    fn last_error(&self) -> Option<String> {
        let dead = (self.dead > 0).then(|| format!("{} records it refuses are in its dead letters", self.dead));
        let parts: Vec<String> = self.attempts.last_error.iter().cloned().chain(dead).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
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
