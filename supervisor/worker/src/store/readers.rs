//! Readers of the open segment: their questions, and the blocks that answer them.

use super::{Store, WAITING_MAX};
use raven_buffer::tail::{Reply, Request, TailError};
use raven_model::units::Seq;

impl Store {
    pub(super) fn answer_waiting(&mut self) {
        for n in 0..self.readers.len() {
            if self.readers[n].waiting.iter().any(|(_, from)| *from < self.writer.next_seq()) {
                for (id, from) in std::mem::take(&mut self.readers[n].waiting) {
                    self.answer(n, id, from, true);
                }
            }
        }
    }

    pub(super) fn answer(&mut self, n: usize, id: u64, from: Seq, wait: bool) {
        let reader = &mut self.readers[n];
        let mut damaged = false;
        let sent = if from < self.writer.open_first() {
            reader.server.reply(&Reply::Sealed { id })
        } else {
            match self.writer.block_at(from) {
                Ok(Some((first, value))) => {
                    damaged = first > from;
                    reader.server.block(id, first, &value)
                }
                Ok(None) if wait => {
                    if reader.waiting.len() >= WAITING_MAX {
                        reader.waiting.pop_front();
                    }
                    reader.waiting.push_back((id, from));
                    Ok(())
                }
                Ok(None) => reader.server.reply(&Reply::Next { id, next_seq: self.writer.next_seq() }),
                Err(error) => {
                    eprintln!("raven-worker store: {error}");
                    Ok(())
                }
            }
        };
        if let Err(error) = sent {
            eprintln!("raven-worker store: cannot answer the {}: {error}", reader.role);
        }
        if damaged {
            // Looked at again and counted once, however often a reader asks.
            self.note_damage(from);
        }
    }

    pub(super) fn note_damage(&mut self, seq: Seq) {
        match self.writer.note_damage(seq) {
            Ok(0) => {}
            Ok(lost) => eprintln!("raven-worker store: {lost} records at {seq} are damaged on disk"),
            Err(error) => eprintln!("raven-worker store: {error}"),
        }
    }

    pub(super) fn hear_reader(&mut self, n: usize) {
        // Bounded, so that a reader that asks without end does not stop the writing.
        for _ in 0..32 {
            match self.readers[n].server.receive() {
                Ok(Some(request)) => self.obey_reader(n, request),
                Ok(None) => return,
                Err(TailError::Packet(error)) => eprintln!("raven-worker store: {}: {error}", self.readers[n].role),
                Err(error) => {
                    eprintln!("raven-worker store: {}: {error}", self.readers[n].role);
                    return;
                }
            }
        }
    }

    pub(super) fn obey_reader(&mut self, n: usize, request: Request) {
        match request {
            Request::Block { id, stream, from } if stream == self.stream => self.answer(n, id, from, false),
            Request::Wait { id, stream, from } if stream == self.stream => self.answer(n, id, from, true),
            Request::Cursors(lows) => {
                let ours = lows.into_iter().filter(|low| low.stream == self.stream);
                self.low = ours.map(|low| (low.destination, low.low)).collect();
            }
            Request::FenceDone { token, unforwarded, .. } => {
                if let Some(fenced) = self.fenced.as_ref().filter(|fenced| fenced.token == token) {
                    let eviction = fenced.eviction;
                    self.evict(eviction, Some(unforwarded));
                }
            }
            Request::Damage { stream, seq } if stream == self.stream => self.note_damage(seq),
            Request::Block { .. } | Request::Wait { .. } | Request::Damage { .. } => {}
        }
    }
}
