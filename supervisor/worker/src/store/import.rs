//! Records of another box, piece by piece from the `import` role. An answer that says that a piece is stored waits for
//! the commit that holds it; whoever is not answered brings the piece again.

use super::Store;
use super::kept::Kept;
use raven_buffer::tail::Reply;
use raven_buffer::{Piece, Took};
use raven_model::stream::Stream;
use raven_model::table::Role;

/// Pieces that wait for a commit, at most: more are not answered, and come again.
const AWAITED_MAX: usize = 64;

impl Store {
    /// A part of a piece has come; only the role for it may bring any.
    pub(super) fn hear_piece(&mut self, n: usize, id: u64, total: u32, at: u32, part: &[u8]) {
        if self.readers[n].role != Role::Import {
            return eprintln!("raven-worker store: the {} brings records", self.readers[n].role);
        }
        let Some(piece) = self.readers[n].pieces.add(id, total, at, part) else { return };
        let took = match Piece::decode(&piece) {
            Ok(piece) => self.take_piece(n, id, &piece),
            Err(error) => Some(Took::Refused(error.to_string())),
        };
        if let Some(took) = took {
            self.reply(n, &Reply::Took { id, took });
        }
    }

    /// `None` when the answer waits for a commit.
    fn take_piece(&mut self, n: usize, id: u64, piece: &Piece) -> Option<Took> {
        let Some(stream) = Stream::named(&piece.stream) else {
            return Some(Took::Refused(format!("there is no stream `{}`", piece.stream)));
        };
        if !self.kept.iter().any(|kept| kept.stream == stream) {
            if piece.frames.is_empty() {
                return Some(Took::New);
            }
            if let Err(error) = self.open_streams_and(Some(stream)) {
                return Some(Took::Refused(format!("{error:#}")));
            }
        }
        let kept = self.kept.iter_mut().find(|kept| kept.stream == stream)?;
        if !piece.frames.is_empty() && kept.is_behind() {
            return Some(Took::Later);
        }
        match kept.writer.import(piece) {
            Ok(Took::Stored) => {
                kept.await_import(n, id, AWAITED_MAX);
                None
            }
            Ok(other) => Some(other),
            Err(refused) => Some(Took::Refused(refused.to_string())),
        }
    }

    /// Tells that what was brought is on disk.
    pub(super) fn tell_imported(&mut self, stored: Vec<(usize, u64)>) {
        for (n, id) in stored {
            self.reply(n, &Reply::Took { id, took: Took::Stored });
        }
    }

    /// What can be stored before the oldest records have to go. The segment that is made ready next is not room.
    pub(super) fn tell_room(&mut self, n: usize, id: u64) {
        self.measure();
        let free = self.sizes.free();
        self.reply(n, &Reply::Room { id, free });
    }

    fn reply(&mut self, n: usize, reply: &Reply) {
        let reader = &mut self.readers[n];
        if let Err(error) = reader.server.reply(reply) {
            eprintln!("raven-worker store: cannot answer the {}: {error}", reader.role);
        }
    }
}

impl Kept {
    /// The answer to this piece waits for the next commit, which comes soon.
    fn await_import(&mut self, reader: usize, id: u64, most: usize) {
        if self.importing.len() < most {
            self.importing.push((reader, id));
        }
        self.commit_soon();
    }
}
