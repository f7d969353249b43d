//! Whether anything gets through a tunnel: pings of our own in it, one a second, and faster ones once one was missed.
//!
//! A tunnel that works one way only looks alive from inside openvpn and WireGuard for many seconds. An answer to our own
//! ping went both ways; nothing else proves that.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Between two pings while all is well.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Between two pings while one is missed: at 12 % loss eight in a row are lost once in ten years of outages.
pub const HURRY: Duration = Duration::from_millis(250);
/// An answer that took longer counts as missed for the moment; when it comes it counts as come.
const LATE: Duration = Duration::from_millis(500);
/// Without an answer for so long nothing gets through.
pub const SILENCE: Duration = Duration::from_millis(2500);
/// Pings over which loss is counted.
const WINDOW: usize = 100;
/// Loss from which the tunnel counts as degraded, percent.
const DEGRADED: u32 = 5;
/// Pings before loss says anything.
const ENOUGH: usize = 20;

/// What gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Nothing is known yet.
    Unknown,
    /// Answers come.
    Both,
    /// Answers come, and many do not.
    Lossy {
        /// Percent, rounded.
        loss: u32,
    },
    /// Pings are sent and nothing comes back.
    Nothing {
        /// For how long.
        since: Duration,
    },
    /// Nobody ever answered a ping here: nothing can be said by it.
    Unanswered,
}

/// The state of a tunnel as operators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It is not wanted.
    Off,
    /// It is on its way.
    Connecting,
    /// Everything gets through, as far as can be said.
    Up,
    /// Much is lost.
    Degraded,
    /// What is sent is not answered.
    HalfOpen,
    /// It cannot be brought up.
    Down,
}

impl Word {
    /// As shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::HalfOpen => "half-open",
            Self::Down => "down",
        }
    }

    /// True when records can be sent through it.
    pub const fn carries(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One ping.
#[derive(Debug, Clone, Copy)]
struct Ping {
    sequence: u16,
    sent: Instant,
    answered: Option<Duration>,
}

/// The pings of one tunnel.
#[derive(Debug)]
pub struct Pings {
    began: Instant,
    sent: VecDeque<Ping>,
    next: u16,
    last_answer: Option<Instant>,
    /// When records were acknowledged through the tunnel last.
    acknowledged: Option<Instant>,
}

impl Pings {
    /// For a tunnel that is up since now. Where somebody is known to answer, silence from the beginning means something.
    pub fn new(now: Instant, is_known: bool) -> Self {
        Self {
            began: now,
            sent: VecDeque::with_capacity(WINDOW),
            next: 0,
            last_answer: is_known.then_some(now),
            acknowledged: None,
        }
    }

    /// When the next one is due.
    pub fn due(&self, now: Instant) -> Instant {
        let Some(last) = self.sent.back() else { return now };
        let is_missed = |ping: &Ping| ping.answered.is_none() && now.duration_since(ping.sent) >= LATE;
        // The one before counts too: an answer to it went both ways before this one was sent.
        let hurry = self.sent.iter().rev().take(2).any(is_missed) && self.last_answer.is_none_or(|at| at < last.sent);
        if hurry && self.through(now) != Through::Unanswered { last.sent + HURRY } else { last.sent + INTERVAL }
    }

    /// When to look again although no ping is due: the newest may be missed by then.
    pub fn look(&self, now: Instant) -> Instant {
        let missed = self.sent.back().filter(|ping| ping.answered.is_none()).map(|ping| ping.sent + LATE);
        missed.filter(|at| *at > now).map_or_else(|| self.due(now), |at| at.min(self.due(now)))
    }

    /// One is sent now; its number.
    pub fn send(&mut self, now: Instant) -> u16 {
        if self.sent.len() == WINDOW {
            self.sent.pop_front();
        }
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        self.sent.push_back(Ping { sequence, sent: now, answered: None });
        sequence
    }

    /// An answer came; false when it answers nothing, or not for the first time.
    pub fn answer(&mut self, sequence: u16, now: Instant) -> bool {
        let ping = self.sent.iter_mut().rev().find(|ping| ping.sequence == sequence && ping.answered.is_none());
        let Some(ping) = ping else { return false };
        ping.answered = Some(now.duration_since(ping.sent));
        self.last_answer = Some(now);
        true
    }

    /// What was sent so far could not get through yet, and is no loss.
    pub fn forget_unanswered(&mut self) {
        self.sent.retain(|ping| ping.answered.is_some());
    }

    /// Records were acknowledged through the tunnel at `at`: so both ways lived. True when pings that went before were not
    /// answered all the same: whoever answered them is not there any more, and nothing can be said by pings until somebody is.
    pub fn acknowledged(&mut self, at: Instant) -> bool {
        let before = self.sent.iter().rev().filter(|ping| ping.sent + LATE <= at);
        let is_over = before.clone().count() >= 2 && before.take(2).all(|ping| ping.answered.is_none());
        self.acknowledged = Some(at);
        if is_over {
            self.last_answer = None;
        }
        is_over
    }

    /// What gets through.
    pub fn through(&self, now: Instant) -> Through {
        let Some(answered) = self.last_answer.max(self.acknowledged.filter(|_| self.last_answer.is_some())) else {
            let tried = self.sent.front().map(|ping| now.duration_since(ping.sent));
            return match tried {
                Some(tried) if tried >= 4 * SILENCE => Through::Unanswered,
                _ => Through::Unknown,
            };
        };
        // Of pings after the newest answer, the oldest: before that one nothing can be missing.
        let waiting = self.sent.iter().find(|ping| ping.answered.is_none() && ping.sent >= answered);
        if waiting.is_some_and(|_| now.duration_since(answered) >= SILENCE) {
            return Through::Nothing { since: now.duration_since(answered) };
        }
        match self.loss(now) {
            Some(loss) if loss >= DEGRADED => Through::Lossy { loss },
            _ => Through::Both,
        }
    }

    /// What that is for a tunnel that is up otherwise, and why.
    pub fn word(&self, now: Instant) -> (Word, String) {
        match self.through(now) {
            Through::Nothing { since } => (Word::HalfOpen, format!("sent, nothing back for {} s", since.as_secs())),
            Through::Lossy { loss } => (Word::Degraded, format!("{loss} % loss")),
            Through::Unanswered => (Word::Up, "nobody answers pings in it".to_owned()),
            Through::Both | Through::Unknown => (Word::Up, String::new()),
        }
    }

    /// Percent of those that could have been answered by now.
    pub fn loss(&self, now: Instant) -> Option<u32> {
        let old = self.sent.iter().filter(|ping| ping.answered.is_some() || now.duration_since(ping.sent) >= LATE);
        let (all, lost) = old.fold((0, 0), |(all, lost), ping| (all + 1, lost + usize::from(ping.answered.is_none())));
        (all >= ENOUGH).then(|| ((lost * 100 + all / 2) / all) as u32)
    }

    /// Median of the answers' times.
    pub fn median(&self) -> Option<Duration> {
        let mut times: Vec<Duration> = self.sent.iter().filter_map(|ping| ping.answered).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// For how long the tunnel has been watched.
    pub fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.began)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs pings for `span`; `answers` says after how long a ping sent at that moment is answered.
    fn run(
        pings: &mut Pings,
        start: Instant,
        span: Duration,
        answers: impl Fn(Duration) -> Option<Duration>,
    ) -> (Vec<Duration>, Option<Duration>) {
        let (mut sent, mut under_way, mut dead) = (Vec::new(), Vec::new(), None);
        let mut at = Duration::ZERO;
        while at < span {
            let now = start + at;
            under_way.retain(|(n, when)| *when > at || !pings.answer(*n, now));
            if pings.due(now) <= now {
                let n = pings.send(now);
                sent.push(at);
                under_way.extend(answers(at).map(|after| (n, at + after)));
            }
            if dead.is_none() && matches!(pings.through(now), Through::Nothing { .. }) {
                dead = Some(at);
            }
            at += MS;
        }
        (sent, dead)
    }

    #[test]
    fn while_all_is_well_one_ping_a_second_is_sent() {
        let start = Instant::now();
        let mut pings = Pings::new(start, false);
        let (sent, dead) = run(&mut pings, start, 60 * INTERVAL, |_| Some(30 * MS));
        assert_eq!((sent.len(), dead), (60, None));
        assert_eq!((pings.through(start + 60 * INTERVAL), pings.median()), (Through::Both, Some(30 * MS)));
    }

    #[test]
    fn a_path_that_dies_is_noticed_within_three_seconds_wherever_between_two_pings_it_dies() {
        for at in (10_000..11_000).step_by(37).map(Duration::from_millis) {
            let start = Instant::now();
            let mut pings = Pings::new(start, false);
            let (_, dead) = run(&mut pings, start, 20 * INTERVAL, |when| (when < at).then_some(20 * MS));
            let after = dead.unwrap().saturating_sub(at);
            assert!((1500 * MS..=2600 * MS).contains(&after), "died at {at:?}, seen after {after:?}");
        }
    }

    #[test]
    fn one_lost_in_eight_is_a_degraded_tunnel_and_not_a_dead_one() {
        let start = Instant::now();
        let mut pings = Pings::new(start, false);
        // A generator of fixed numbers: 12 % of an hour's pings.
        let lost = |when: Duration| (when.as_millis() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0xff < 31;
        let (_, dead) = run(&mut pings, start, 3600 * INTERVAL, |when| (!lost(when)).then_some(40 * MS));
        assert_eq!(dead, None);
        assert!(matches!(pings.through(start + 3600 * INTERVAL), Through::Lossy { loss: 5..=25 }));
    }

    #[test]
    fn a_slow_path_is_alive() {
        let start = Instant::now();
        let mut pings = Pings::new(start, false);
        let (_, dead) = run(&mut pings, start, 120 * INTERVAL, |_| Some(1400 * MS));
        assert_eq!((dead, pings.through(start + 120 * INTERVAL)), (None, Through::Both));
    }

    #[test]
    fn where_nobody_ever_answers_nothing_is_said_to_be_dead() {
        let start = Instant::now();
        let mut pings = Pings::new(start, false);
        let (sent, dead) = run(&mut pings, start, 60 * INTERVAL, |_| None);
        assert_eq!((dead, pings.through(start + 60 * INTERVAL)), (None, Through::Unanswered));
        assert_eq!(sent.iter().filter(|at| **at >= 20 * INTERVAL).count(), 40, "nor hurried after");
    }

    #[test]
    fn where_somebody_answered_before_silence_from_the_beginning_is_noticed() {
        let start = Instant::now();
        let mut pings = Pings::new(start, true);
        let (_, dead) = run(&mut pings, start, 5 * INTERVAL, |_| None);
        assert!(dead.is_some_and(|dead| dead <= 3 * INTERVAL), "{dead:?}");
    }

    #[test]
    fn records_that_are_acknowledged_count_for_more_than_pings_that_are_not() {
        let start = Instant::now();
        let mut pings = Pings::new(start, false);
        run(&mut pings, start, 10 * INTERVAL, |_| Some(20 * MS));
        assert!(!pings.acknowledged(start + 10 * INTERVAL), "pings are answered");
        // Whoever answered goes away. What was acknowledged before that says nothing of it.
        let gone = start + 10 * INTERVAL;
        run(&mut pings, gone, 2 * INTERVAL, |_| None);
        assert!(!pings.acknowledged(gone + 500 * MS));
        // Which is told a moment later, and keeps the tunnel until the next word of it.
        let (silent, later) = (gone + 2600 * MS, gone + 2900 * MS);
        assert_eq!((pings.through(silent), pings.through(later)), (Through::Both, Through::Both));
        assert!(matches!(pings.through(gone + 3100 * MS), Through::Nothing { .. }));
        assert!(pings.acknowledged(gone + 2 * INTERVAL));
        run(&mut pings, gone + 2 * INTERVAL, 20 * INTERVAL, |_| None);
        assert_eq!(pings.through(gone + 22 * INTERVAL), Through::Unanswered);
        run(&mut pings, gone + 22 * INTERVAL, 2 * INTERVAL, |_| Some(20 * MS));
        assert!(matches!(pings.through(gone + 24 * INTERVAL), Through::Both | Through::Lossy { .. }));
    }

    #[test]
    fn an_answer_counts_once_and_a_strange_one_never() {
        let start = Instant::now();
        let mut pings = Pings::new(start, false);
        let n = pings.send(start);
        assert!(!pings.answer(n.wrapping_add(7), start));
        assert!(pings.answer(n, start + MS) && !pings.answer(n, start + MS));
    }
}
