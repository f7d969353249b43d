//! Readers of the open segments: their questions, and the blocks that answer them.

use super::{Store, WAITING_MAX};
use raven_buffer::tail::{Repaired, Reply, Request, TailError};
use raven_model::stream::Stream;
use raven_model::units::Seq;

impl Store {
    pub(super) fn answer_waiting(&mut self) {
        for n in 0..self.readers.len() {
            let stored = |(_, stream, from): &(u64, Stream, Seq)| {
                self.kept.iter().any(|kept| kept.stream == *stream && *from < kept.writer.next_seq())
            };
            if self.readers[n].waiting.iter().any(stored) {
                for (id, stream, from) in std::mem::take(&mut self.readers[n].waiting) {
                    self.answer(n, stream, id, from, true);
                }
            }
        }
    }

    fn answer(&mut self, n: usize, stream: Stream, id: u64, from: Seq, wait: bool) {
        let reader = &mut self.readers[n];
        let mut damaged = false;
        let Some(kept) = self.kept.iter_mut().find(|kept| kept.stream == stream) else {
            // Nothing was ever stored of it: there may be, once it is collected.
            if wait {
                reader.waiting.push_back((id, stream, from));
                reader.waiting.truncate(WAITING_MAX);
            } else {
                let _ = reader.server.reply(&Reply::Next { id, next_seq: Seq(1) });
            }
            return;
        };
        let sent = if from < kept.writer.open_first() {
            reader.server.reply(&Reply::Sealed { id })
        } else {
            match kept.writer.block_at(from) {
                Ok(Some((first, value))) => {
                    damaged = first > from;
                    reader.server.block(id, first, &value)
                }
                Ok(None) if wait => {
                    if reader.waiting.len() >= WAITING_MAX {
                        reader.waiting.pop_front();
                    }
                    reader.waiting.push_back((id, stream, from));
                    Ok(())
                }
                Ok(None) => reader.server.reply(&Reply::Next { id, next_seq: kept.writer.next_seq() }),
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
            self.note_damage(stream, from);
        }
    }

    fn note_damage(&mut self, stream: Stream, seq: Seq) {
        let Some(kept) = self.kept.iter_mut().find(|kept| kept.stream == stream) else { return };
        match kept.writer.note_damage(seq) {
            Ok(0) => {}
            Ok(lost) => eprintln!("raven-worker store: {lost} records of {stream} at {seq} are damaged on disk"),
            Err(error) => eprintln!("raven-worker store: {error}"),
        }
    }

    fn repair(&mut self, n: usize, id: u64, stream: &str, seq: Seq) {
        let kept = Stream::named(stream).and_then(|stream| self.kept.iter_mut().find(|kept| kept.stream == stream));
        let done = match kept.map(|kept| kept.writer.repair(seq)) {
            Some(Ok(done)) => done,
            Some(Err(error)) => Repaired { lost: 0, what: format!("nothing was done: {error}") },
            None => Repaired { lost: 0, what: "nothing is kept of that stream".to_owned() },
        };
        let Repaired { lost, what } = done;
        eprintln!("raven-worker store: repair of {stream} at {seq}: {what} ({lost} records)");
        if let Err(error) = self.readers[n].server.reply(&Reply::Repaired { id, lost, what }) {
            eprintln!("raven-worker store: cannot answer the {}: {error}", self.readers[n].role);
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

    fn obey_reader(&mut self, n: usize, request: Request) {
        match request {
            Request::Block { id, stream, from } => {
                if let Some(stream) = Stream::named(&stream) {
                    self.answer(n, stream, id, from, false);
                }
            }
            Request::Wait { id, stream, from } => {
                if let Some(stream) = Stream::named(&stream) {
                    self.answer(n, stream, id, from, true);
                }
            }
            Request::Cursors(lows) => {
                for kept in &mut self.kept {
                    let ours = lows.iter().filter(|low| low.stream == kept.stream.name());
                    kept.low = ours.map(|low| (low.destination.clone(), low.low)).collect();
                }
            }
            Request::FenceDone { token, unforwarded, .. } => {
                let fenced = |fenced: &super::Fenced| fenced.token == token;
                if let Some(n) = self.kept.iter().position(|kept| kept.fenced.as_ref().is_some_and(fenced)) {
                    self.evict(n, Some(unforwarded));
                }
            }
            Request::Repair { id, stream, seq } => self.repair(n, id, &stream, seq),
            Request::Piece { id, total, at, bytes } => self.hear_piece(n, id, total, at, &bytes),
            Request::Room { id } => self.tell_room(n, id),
            Request::Damage { stream, seq } => {
                if let Some(stream) = Stream::named(&stream) {
                    self.note_damage(stream, seq);
                }
            }
        }
    }
}
