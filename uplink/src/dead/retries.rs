//! Dead letters on their way out again.

use super::Refusal;
use raven_model::query::RecordView;
use raven_model::record::{FrameKind, Received, Record};
use raven_model::units::{Seq, UnixNanos};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Raw bytes of letters that may be on their way again at a time.
const BYTES_MAX: usize = 4 << 20;

/// A dead letter, as a record.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Position in the stream.
    pub seq: Seq,
    /// Name of the listener that took it.
    pub listener: String,
    /// When it was refused.
    pub dead_ns: UnixNanos,
    /// Why it was refused.
    pub reason: String,
    received: Received,
    raw: Vec<u8>,
}

impl Letter {
    /// From a line of the file.
    pub fn parse(line: &str) -> Option<Self> {
        let view: RecordView = serde_json::from_str(line).ok()?;
        let refusal: Refusal = serde_json::from_str(line).ok()?;
        let raw = view.raw_bytes()?;
        let source = SocketAddr::new(view.source.addr, view.source.port);
        let mut received = Received::new(source, 0, view.received_ns);
        received.piece = view.piece;
        received.kind = if view.unparsed { FrameKind::Unparsed } else { FrameKind::Plain };
        Some(Self {
            seq: view.seq,
            listener: view.listener,
            dead_ns: refusal.dead_ns,
            reason: refusal.reason,
            received,
            raw,
        })
    }

    /// The record.
    pub fn record(&self) -> Record<'_> {
        Record { received: self.received, raw: &self.raw }
    }
}

/// Letters that an operator wants sent again. The backfill lane takes them before anything else.
#[derive(Debug, Default)]
pub struct Retries {
    queue: VecDeque<Letter>,
    under_way: BTreeMap<Seq, Letter>,
    bytes: usize,
    /// Acknowledged, and still in the file.
    done: BTreeSet<Seq>,
}

impl Retries {
    /// Whether none is on its way.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.under_way.is_empty()
    }

    /// Whether one waits to be sent.
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Takes a letter; false when there is no room now.
    pub fn add(&mut self, letter: Letter) -> bool {
        if self.holds(letter.seq) {
            return true;
        }
        if self.bytes > 0 && self.bytes + letter.raw.len() > BYTES_MAX {
            return false;
        }
        self.bytes += letter.raw.len() + 1;
        self.queue.push_back(letter);
        true
    }

    /// Whether it is on its way.
    pub fn holds(&self, seq: Seq) -> bool {
        self.under_way.contains_key(&seq) || self.queue.iter().any(|letter| letter.seq == seq)
    }

    /// The next to send.
    pub fn take_next(&mut self) -> Option<Letter> {
        let letter = self.queue.pop_front()?;
        self.under_way.insert(letter.seq, letter.clone());
        Some(letter)
    }

    /// It was not sent after all.
    pub fn undo(&mut self, seq: Seq) {
        self.queue.extend(self.under_way.remove(&seq));
        self.queue.rotate_right(1);
    }

    /// What is under way is to be sent again.
    pub fn give_back(&mut self) {
        for letter in std::mem::take(&mut self.under_way).into_values().rev() {
            self.queue.push_front(letter);
        }
    }

    /// It was acknowledged; false when it is none of these.
    pub fn acked(&mut self, seq: Seq) -> bool {
        let is_ours = self.forget(seq);
        if is_ours {
            self.done.insert(seq);
        }
        is_ours
    }

    /// It was refused again.
    pub fn refused(&mut self, seq: Seq) {
        self.forget(seq);
    }

    /// None of those that were sent is tried any longer.
    pub fn give_up(&mut self) {
        for seq in self.under_way.keys().copied().collect::<Vec<_>>() {
            self.forget(seq);
        }
    }

    /// Those to remove from the file: when the last is in, since it is written anew for that.
    pub fn take_done(&mut self) -> BTreeSet<Seq> {
        if self.is_empty() { std::mem::take(&mut self.done) } else { BTreeSet::new() }
    }

    /// The file could not be written: later.
    pub fn put_back_done(&mut self, done: BTreeSet<Seq>) {
        self.done.extend(done);
    }

    fn forget(&mut self, seq: Seq) -> bool {
        let in_queue = self.queue.iter().position(|letter| letter.seq == seq).and_then(|at| self.queue.remove(at));
        let letter = self.under_way.remove(&seq).or(in_queue);
        self.bytes -= letter.as_ref().map_or(0, |letter| letter.raw.len() + 1);
        letter.is_some()
    }
}
