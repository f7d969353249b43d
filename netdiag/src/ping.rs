//! Pings to many targets, as a plan that owns no socket and no clock: which ping is due, what an answer says of it, and what
//! became of all.
//!
//! Pings are numbered through all targets, and leave in that order, evenly over the interval, so that neither this box nor the
//! path sees a burst. The number travels in the packet, behind a cookie of this test alone: who does not know it cannot
//! answer, and an answer says by itself which ping it is of.

pub mod run;

use crate::rtt::Times;
use raven_model::diag::{PingResult, PingTest};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Bytes of cookie and number.
pub const MARK: usize = 16;
/// Different errors that are told of one target.
const ERRORS: usize = 16;

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It answers a ping for the first time, in time.
    Answer {
        /// Round-trip time.
        rtt: Duration,
        /// The answer to a later ping to this target came before.
        reordered: bool,
    },
    /// It answers one that was answered.
    Duplicate,
    /// It comes after its time.
    Late,
    /// It answers nothing that was sent.
    Strange,
}

/// A ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Through all targets.
    pub number: u64,
    /// Whose.
    pub target: usize,
    /// Which of this target, from 0.
    pub sequence: u32,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    /// It was answered, or somebody said why it is not.
    is_settled: bool,
    is_answered: bool,
}

#[derive(Debug, Default)]
struct Target {
    sent: u32,
    received: u32,
    times: Times,
    newest: Option<u32>,
    duplicates: u32,
    reordered: u32,
    late: u32,
    errors: BTreeMap<String, u32>,
}

/// The pings of one test.
#[derive(Debug)]
pub struct Pings {
    targets: Vec<Target>,
    total: u64,
    interval: Duration,
    timeout: Duration,
    began: Instant,
    next: u64,
    /// Those whose time is not over; the first has the number `first`.
    waiting: VecDeque<Sent>,
    first: u64,
}

impl Pings {
    /// To so many targets.
    pub fn new(test: &PingTest, targets: usize, now: Instant) -> Self {
        Self {
            targets: (0..targets).map(|_| Target::default()).collect(),
            total: u64::from(test.count) * targets as u64,
            interval: Duration::from_millis(test.interval_ms.into()),
            timeout: Duration::from_millis(test.timeout_ms.into()),
            began: now,
            next: 0,
            waiting: VecDeque::new(),
            first: 0,
        }
    }

    /// Between two pings.
    pub fn gap(&self) -> Duration {
        self.interval / (self.targets.len().max(1) as u32)
    }

    /// When the next one is due; nothing when all are sent.
    pub fn due(&self) -> Option<Instant> {
        (self.next < self.total).then(|| {
            let (round, place) = (self.next / self.targets.len() as u64, self.next % self.targets.len() as u64);
            self.began + self.interval * round as u32 + self.gap() * place as u32
        })
    }

    /// When the time of the oldest is over.
    pub fn expires(&self) -> Option<Instant> {
        self.waiting.front().map(|sent| sent.at + self.timeout)
    }

    /// True when all is sent and the time of all is over, or all are answered.
    pub fn is_over(&self) -> bool {
        self.next == self.total && self.waiting.iter().all(|sent| sent.is_settled)
    }

    /// The next one, when it is due.
    pub fn take(&mut self, now: Instant) -> Option<Ping> {
        self.due().filter(|due| *due <= now)?;
        let ping = self.ping(self.next);
        self.next += 1;
        self.targets[ping.target].sent += 1;
        self.waiting.push_back(Sent { at: now, is_settled: false, is_answered: false });
        Some(ping)
    }

    /// The ping of that number, which may have been sent or not.
    pub fn ping(&self, number: u64) -> Ping {
        let targets = self.targets.len().max(1) as u64;
        Ping { number, target: (number % targets) as usize, sequence: (number / targets) as u32 }
    }

    /// An answer to this number came at that time.
    pub fn answer(&mut self, number: u64, at: Instant) -> Seen {
        if number >= self.next {
            return Seen::Strange;
        }
        let ping = self.ping(number);
        let target = &mut self.targets[ping.target];
        let Some(sent) = number.checked_sub(self.first).and_then(|place| self.waiting.get_mut(place as usize)) else {
            target.late += 1;
            return Seen::Late;
        };
        let rtt = at.saturating_duration_since(sent.at);
        if rtt > self.timeout {
            target.late += 1;
            return Seen::Late;
        }
        sent.is_settled = true;
        if std::mem::replace(&mut sent.is_answered, true) {
            target.duplicates += 1;
            return Seen::Duplicate;
        }
        target.received += 1;
        target.times.add(rtt);
        let reordered = target.newest.is_some_and(|newest| newest > ping.sequence);
        target.newest = target.newest.max(Some(ping.sequence));
        target.reordered += u32::from(reordered);
        Seen::Answer { rtt, reordered }
    }

    /// Somebody said of this number that it does not get there. False where that is not of one that waits.
    pub fn fail(&mut self, number: u64, why: &str) -> bool {
        let ping = self.ping(number);
        let place = number.checked_sub(self.first);
        let Some(sent) = place.and_then(|place| self.waiting.get_mut(place as usize)) else { return false };
        if std::mem::replace(&mut sent.is_settled, true) {
            return false;
        }
        let errors = &mut self.targets[ping.target].errors;
        if errors.len() < ERRORS || errors.contains_key(why) {
            *errors.entry(why.to_owned()).or_default() += 1;
        }
        true
    }

    /// The next one whose time is over, where nobody said anything of it.
    pub fn expire(&mut self, now: Instant) -> Option<Ping> {
        while self.expires().is_some_and(|at| at < now) {
            let (sent, number) = (self.waiting.pop_front()?, self.first);
            self.first += 1;
            if !sent.is_settled {
                return Some(self.ping(number));
            }
        }
        None
    }

    /// What became of the pings to one target. Those whose time is not over are not counted as sent.
    pub fn result(&self, target: usize) -> PingResult {
        let of = &self.targets[target];
        let open = self.waiting.iter().zip(self.first..);
        let open = open.filter(|(sent, number)| !sent.is_settled && self.ping(*number).target == target).count();
        let sent = of.sent - if self.is_over() { 0 } else { open as u32 };
        PingResult {
            sent,
            received: of.received,
            loss: if sent == 0 { 0.0 } else { f64::from(sent.saturating_sub(of.received)) * 100.0 / f64::from(sent) },
            rtt: of.times.rtt(),
            duplicates: of.duplicates,
            reordered: of.reordered,
            late: of.late,
            errors: of.errors.clone(),
            ..PingResult::default()
        }
    }
}

/// What a packet carries behind its ICMP header.
pub fn payload(cookie: u64, number: u64, size: usize) -> Vec<u8> {
    let mut bytes = [cookie.to_be_bytes(), number.to_be_bytes()].concat();
    // Not all the same, so that a device that compresses is not faster than one that does not.
    bytes.extend((MARK..size).map(|n| (n as u8).wrapping_mul(197) ^ (cookie as u8)));
    bytes
}

/// The same with another number: nothing else in it changes.
pub fn renumber(payload: &mut [u8], number: u64) {
    if let Some(place) = payload.get_mut(8..MARK) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// The number in it, where it is of this test.
pub fn number(cookie: u64, payload: &[u8]) -> Option<u64> {
    let (ours, rest) = payload.split_first_chunk::<8>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    (u64::from_be_bytes(*ours) == cookie).then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn test(count: u32) -> PingTest {
        PingTest {
            targets: Vec::new(),
            way: raven_model::diag::Way::default(),
            count,
            interval_ms: 1000,
            timeout_ms: 500,
            size: 56,
            dscp: 0,
            dont_fragment: false,
            each: false,
        }
    }

    #[test]
    fn pings_leave_evenly_over_the_interval_and_in_the_order_of_their_targets() {
        let began = Instant::now();
        let mut pings = Pings::new(&test(2), 4, began);
        let mut left = Vec::new();
        while let Some(due) = pings.due() {
            let ping = pings.take(due).unwrap();
            left.push((ping.target, ping.sequence, (due - began).as_millis()));
        }
        assert_eq!(left[..5], [(0, 0, 0), (1, 0, 250), (2, 0, 500), (3, 0, 750), (0, 1, 1000)]);
        assert_eq!((left.len(), pings.take(began + 60_000 * MS)), (8, None));
    }

    #[test]
    fn answers_late_ones_and_duplicates_are_told_apart() {
        let began = Instant::now();
        let mut pings = Pings::new(&test(4), 1, began);
        for n in 0..4 {
            assert_eq!(pings.take(began + 1000 * n * MS).unwrap().sequence, n);
        }
        let reordered = |rtt, reordered| Seen::Answer { rtt, reordered };
        assert_eq!(pings.answer(3, began + 3010 * MS), reordered(10 * MS, false));
        assert_eq!(pings.answer(3, began + 3011 * MS), Seen::Duplicate);
        assert_eq!(pings.answer(2, began + 2400 * MS), reordered(400 * MS, true));
        assert_eq!(pings.answer(1, began + 1501 * MS), Seen::Late);
        assert_eq!(pings.answer(4, began), Seen::Strange);
        assert!(pings.fail(0, "host unreachable") && !pings.fail(0, "host unreachable"));
        assert_eq!(pings.expire(began + 1502 * MS).unwrap().sequence, 1);
        assert_eq!(pings.answer(1, began + 1503 * MS), Seen::Late);
        assert!(pings.is_over());
        let result = pings.result(0);
        assert_eq!((result.sent, result.received, result.duplicates, result.reordered, result.late), (4, 2, 1, 1, 2));
        assert_eq!((result.loss, result.errors["host unreachable"]), (50.0, 1));
    }

    #[test]
    fn what_is_cut_short_counts_only_what_had_its_time() {
        let began = Instant::now();
        let mut pings = Pings::new(&test(100), 1, began);
        pings.take(began);
        pings.answer(0, began + MS);
        pings.take(began + 1000 * MS);
        assert_eq!((pings.result(0).sent, pings.result(0).loss), (1, 0.0));
    }

    proptest! {
        #[test]
        fn only_our_own_payloads_have_a_number(cookie: u64, n: u64, size in MARK..200, strange: Vec<u8>) {
            prop_assert_eq!(number(cookie, &payload(cookie, n, size)), Some(n));
            prop_assert_eq!(payload(cookie, n, size).len(), size);
            prop_assert_eq!(number(cookie, &payload(cookie ^ 1, n, size)), None);
            let _ = number(cookie, &strange);
            let mut other = payload(cookie, 0, size);
            renumber(&mut other, n);
            prop_assert_eq!(other, payload(cookie, n, size));
        }
    }
}
