//! Informs under way: which number carries which record, when each goes out again, and how many there may be. Pure.
//!
//! How many is found by AIMD: one more for each that is answered while nothing was lost, then one more for each window
//! of them; half as many when one has to be repeated.

use raven_model::record::{Received, Record};
use raven_model::units::Seq;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// When an inform that is not answered goes out again.
pub const REPEAT: Duration = Duration::from_secs(1);

/// Informs under way, at most.
pub const MOST: usize = 256;

/// Informs under way at the beginning.
const FIRST: f64 = 8.0;

/// Bytes kept for what is under way. One can go over it.
const BYTES_MAX: usize = 4 << 20;

/// One inform.
#[derive(Debug)]
pub struct Inform {
    /// The record that it tells of.
    pub seq: Seq,
    /// What it says, as [`raven_decode::snmp::Manager::inform`] takes it.
    pub varbinds: Vec<u8>,
    /// When it went out first, or was last found to be refused.
    pub since: Instant,
    /// Acknowledgements counted then.
    pub acked_before: u64,
    /// How often it went out since then.
    pub sent: u32,
    /// When it goes out again.
    pub due: Instant,
    received: Received,
    listener: String,
    raw: Vec<u8>,
}

impl Inform {
    /// One that goes out now.
    pub fn new(seq: Seq, record: &Record<'_>, listener: &str, varbinds: Vec<u8>, acked_before: u64) -> Self {
        let now = Instant::now();
        Self {
            seq,
            varbinds,
            since: now,
            acked_before,
            sent: 1,
            due: now + REPEAT,
            received: record.received,
            listener: listener.to_owned(),
            raw: record.raw.to_vec(),
        }
    }

    /// The record, and the name of the listener that took it.
    pub fn record(&self) -> (Record<'_>, &str) {
        (Record { received: self.received, raw: &self.raw }, &self.listener)
    }

    /// Begins anew, to go out at `due`.
    pub const fn again(&mut self, acked_before: u64, now: Instant, due: Instant) {
        (self.since, self.acked_before, self.sent, self.due) = (now, acked_before, 0, due);
    }

    fn bytes(&self) -> usize {
        self.raw.len() + self.varbinds.len()
    }
}

/// Informs under way on one socket.
#[derive(Debug)]
pub struct Window {
    under_way: BTreeMap<i32, Inform>,
    bytes: usize,
    next: i32,
    /// How many may be under way.
    size: f64,
    /// Up to which the size grows fast.
    fast_to: f64,
    most: f64,
    /// When it was halved last.
    halved: Option<Instant>,
}

impl Window {
    /// None yet; the first inform gets the number `first`, at least 1. At most `most` are under way, and [`MOST`].
    pub fn new(first: i32, most: usize) -> Self {
        let most = most.clamp(1, MOST) as f64;
        Self {
            under_way: BTreeMap::new(),
            bytes: 0,
            next: first.max(1),
            size: FIRST.min(most),
            fast_to: most,
            most,
            halved: None,
        }
    }

    /// Whether another may be sent.
    pub fn has_room(&self) -> bool {
        self.under_way.len() < self.size as usize && self.bytes < BYTES_MAX
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether all are answered.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Number of the next one: 1 to 2^31 - 1.
    pub const fn next(&self) -> i32 {
        self.next
    }

    /// The next one went out.
    pub fn send(&mut self, inform: Inform) {
        self.bytes += inform.bytes();
        self.under_way.insert(self.next, inform);
        self.next = self.next.checked_add(1).unwrap_or(1);
    }

    /// Whether one of this number is under way.
    pub fn holds(&self, number: i32) -> bool {
        self.under_way.contains_key(&number)
    }

    /// The one that went out first.
    pub fn oldest(&self) -> Option<&Inform> {
        self.under_way.values().min_by_key(|inform| inform.seq)
    }

    /// One of those under way.
    pub fn get_mut(&mut self, number: i32) -> Option<&mut Inform> {
        self.under_way.get_mut(&number)
    }

    /// It was answered. `None` where it was already.
    pub fn answered(&mut self, number: i32) -> Option<Seq> {
        let seq = self.forget(number)?.seq;
        let more = if self.size < self.fast_to { 1.0 } else { 1.0 / self.size };
        self.size = (self.size + more).min(self.most);
        Some(seq)
    }

    /// It is no longer under way, whatever became of it.
    pub fn forget(&mut self, number: i32) -> Option<Inform> {
        let inform = self.under_way.remove(&number)?;
        self.bytes -= inform.bytes();
        Some(inform)
    }

    /// One of them, or its answer, was lost: half as many from now on. What is lost within [`REPEAT`] is lost together.
    pub fn lost(&mut self, now: Instant) {
        if self.halved.is_none_or(|halved| now.duration_since(halved) >= REPEAT) {
            self.halved = Some(now);
            self.size = (self.size / 2.0).max(1.0);
            self.fast_to = self.size;
        }
    }

    /// Numbers of those that are due, in the order in which they went out.
    pub fn due(&self, now: Instant) -> Vec<i32> {
        self.under_way.iter().filter(|(_, inform)| inform.due <= now).map(|(number, _)| *number).collect()
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.under_way.values().map(|inform| inform.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::units::UnixNanos;

    fn inform(seq: u64, len: usize) -> Inform {
        let source = "192.0.2.7:162".parse().expect("an address");
        let received = Received::new(source, 0, UnixNanos(1));
        Inform::new(Seq(seq), &Record { received, raw: &vec![0; len] }, "udp:[::]:162", Vec::new(), 0)
    }

    /// Sends while there is room; returns how many are under way then.
    fn fill(window: &mut Window) -> usize {
        while window.has_room() {
            window.send(inform(1, 10));
        }
        window.len()
    }

    fn answer_all(window: &mut Window) {
        let open: Vec<i32> = window.under_way.keys().copied().collect();
        assert!(open.into_iter().all(|number| window.answered(number).is_some()));
    }

    #[test]
    fn it_grows_by_answers_up_to_its_most_and_a_loss_halves_it() {
        let mut window = Window::new(7, 10_000);
        let mut sizes = Vec::new();
        for _ in 0..7 {
            sizes.push(fill(&mut window));
            answer_all(&mut window);
        }
        assert_eq!(sizes, [8, 16, 32, 64, 128, 256, 256]);
        let now = Instant::now();
        window.lost(now);
        window.lost(now + REPEAT / 2);
        assert_eq!(fill(&mut window), 128, "lost together");
        answer_all(&mut window);
        assert_eq!(fill(&mut window), 128);
        answer_all(&mut window);
        assert_eq!(fill(&mut window), 129, "slowly from there on");
        for n in 1..20 {
            window.lost(now + n * REPEAT);
        }
        for number in window.due(now + 2 * REPEAT) {
            window.forget(number);
        }
        assert_eq!(fill(&mut window), 1, "never none");
    }

    #[test]
    fn large_ones_are_fewer() {
        let mut window = Window::new(1, 256);
        for _ in 0..6 {
            fill(&mut window);
            answer_all(&mut window);
        }
        let mut sent = 0;
        while window.has_room() {
            window.send(inform(1, 60_000));
            sent += 1;
        }
        assert_eq!(sent, BYTES_MAX / 60_000 + 1);
        answer_all(&mut window);
        assert_eq!(window.bytes, 0);
    }

    #[test]
    fn an_answer_counts_once_and_numbers_begin_again_at_one() {
        let mut window = Window::new(i32::MAX, 256);
        window.send(inform(1, 1));
        window.send(inform(2, 1));
        assert_eq!((window.answered(1), window.answered(1)), (Some(Seq(2)), None));
        assert_eq!((window.answered(i32::MAX), window.is_empty()), (Some(Seq(1)), true));
    }

    #[test]
    fn what_is_not_answered_is_due_after_a_second() {
        let mut window = Window::new(1, 256);
        window.send(inform(1, 1));
        window.send(inform(2, 1));
        let due = window.next_due().expect("two are under way");
        assert!(window.due(due - REPEAT).is_empty());
        assert_eq!(window.due(due + REPEAT), [1, 2]);
        window.answered(1);
        assert_eq!(window.due(due + REPEAT), [2]);
    }
}
