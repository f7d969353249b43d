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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_buffer::tail::TailClient;
    use raven_jail::channel::Channel;
    use raven_model::config::Config;
    use raven_model::control::{Fd, Start};
    use raven_model::record::{Received, write_frame};
    use raven_model::units::{Seq, UnixNanos};
    use std::collections::BTreeMap;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;
    use std::time::{Duration, Instant};

    /// A store with the stream syslog, and a way to it for a role.
    fn store(data: &Path, peer: Role) -> (Store, TailClient, Channel) {
        let (ravend, channel) = Channel::pair().unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        for end in [&ours, &theirs] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        }
        let copy = |end: &Channel| end.as_fd().try_clone_to_owned().unwrap();
        let (memory, words) = raven_jail::receive::create("syslog").unwrap();
        let stream = Stream::Syslog;
        let start = Start {
            role: Role::Store,
            device: "office".to_owned(),
            boot_id: String::new(),
            data: data.to_owned(),
            config: Some(Box::new(Config::default())),
            listeners: BTreeMap::new(),
            environment: BTreeMap::new(),
            fds: vec![Fd::Tail { peer }, Fd::Ring { stream }, Fd::Words { stream }, Fd::Wake { stream }],
        };
        std::fs::create_dir_all(data.join("ring")).unwrap();
        let wake: OwnedFd = copy(&ravend);
        let store = Store::new(&start, vec![copy(&ours), memory, words, wake], channel).unwrap();
        (store, TailClient::new(copy(&theirs)), ravend)
    }

    fn piece() -> Vec<u8> {
        let mut frames = vec![0; 100];
        let received = Received::new("192.0.2.1:514".parse().unwrap(), 1, UnixNanos(7));
        let n = write_frame(&mut frames, &received, b"<13>theirs").unwrap();
        frames.truncate(n);
        let (first_wall, last_wall) = (UnixNanos(7), UnixNanos(7));
        let (stream, device) = ("syslog".to_owned(), "venue".to_owned());
        Piece { stream, device, first: Seq(5), count: 1, first_wall, last_wall, frames, ..Piece::default() }.encode()
    }

    fn took(tail: &mut TailClient) -> Option<(u64, Took)> {
        while tail.receive().unwrap().is_some() {}
        tail.took()
    }

    #[test]
    fn what_was_brought_is_said_to_be_stored_once_it_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut tail, _ravend) = store(dir.path(), Role::Import);
        tail.piece(1, &piece(), Duration::from_secs(1)).unwrap();
        store.hear_reader(0);
        tail.piece(2, &piece(), Duration::from_secs(1)).unwrap();
        store.hear_reader(0);
        assert_eq!((took(&mut tail), store.kept[0].writer.next_seq()), (None, Seq(1)), "not yet, nor twice");
        let until = Instant::now() + Duration::from_secs(10);
        while store.kept[0].writer.next_seq() == Seq(1) {
            assert!(took(&mut tail).is_none() && Instant::now() < until);
            store.round().unwrap();
        }
        assert_eq!([took(&mut tail), took(&mut tail)], [Some((1, Took::Stored)), Some((2, Took::Stored))]);
        tail.piece(3, &piece(), Duration::from_secs(1)).unwrap();
        store.hear_reader(0);
        assert_eq!((took(&mut tail), store.kept[0].writer.next_seq()), (Some((3, Took::Here)), Seq(2)));
    }

    #[test]
    fn no_other_role_brings_records() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut tail, _ravend) = store(dir.path(), Role::Decode);
        tail.piece(1, &piece(), Duration::from_secs(1)).unwrap();
        store.hear_reader(0);
        assert!(!store.kept[0].writer.is_importing() && took(&mut tail).is_none());
    }
}
