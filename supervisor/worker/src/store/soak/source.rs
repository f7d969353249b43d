//! The uplink's way to the ring: sealed segments from disk, the newest blocks from the store by its own protocol, in
//! one thread and without waiting.

use super::super::Store;
use raven_buffer::tail::{Answer, Reply, Request, TailClient};
use raven_buffer::{Block, Found, RingReader};
use raven_model::units::Seq;
use raven_uplink::ring::StoredRun;
use raven_uplink::source::{Piece, Source, SourceError};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use tokio::sync::Notify;

/// The store, while it lives.
pub type Shared = Rc<RefCell<Option<Store>>>;

/// What an uplink sees of the ring; one for each life of it.
pub struct Way {
    ring: PathBuf,
    store: Shared,
    client: RefCell<TailClient>,
    readers: RefCell<BTreeMap<String, RingReader>>,
    heads: RefCell<BTreeMap<String, Seq>>,
    changed: Notify,
}

impl Way {
    pub fn new(ring: PathBuf, store: Shared, tail: OwnedFd) -> Self {
        let client = RefCell::new(TailClient::new(tail));
        Self { ring, store, client, readers: RefCell::default(), heads: RefCell::default(), changed: Notify::new() }
    }

    /// Sends a request; the store looks at it at once, when it lives.
    pub fn tell(&self, request: &Request) {
        // A dead store leaves them in the socket until it is full, as in a real one.
        let _ = self.client.borrow_mut().send(request);
        if let Some(store) = self.store.borrow_mut().as_mut() {
            store.hear_reader(0);
        }
    }

    fn ask(&self, request: impl FnOnce(u64) -> Request) -> Option<Answer> {
        let id = self.client.borrow_mut().new_id();
        self.tell(&request(id));
        let mut client = self.client.borrow_mut();
        // A long block comes in more pieces than the socket takes at once.
        for _ in 0..64 {
            while let Ok(Some((answered, answer))) = client.receive() {
                if answered == id {
                    return Some(answer);
                }
            }
            if let Some(store) = self.store.borrow_mut().as_mut() {
                let _ = store.readers[0].server.flush();
            }
        }
        None
    }

    /// Fences that the store has set: stream, token, and what goes. Nothing below is read any more.
    pub fn fences(&self) -> Vec<(String, u64, [Seq; 2])> {
        let mut client = self.client.borrow_mut();
        while let Ok(Some(_)) = client.receive() {}
        let mut fences = Vec::new();
        while let Some(Reply::Fence { token, stream, first, below }) = client.fence() {
            if let Some(reader) = self.readers.borrow_mut().get_mut(&stream) {
                reader.fence(below);
            }
            fences.push((stream, token, [first, below]));
        }
        fences
    }

    /// Learns how much is stored.
    pub fn find_head(&self, stream: &str) {
        let far = |id| Request::Block { id, stream: stream.to_owned(), from: Seq(u64::MAX) };
        if let Some(Answer::Next(next)) = self.ask(far) {
            let mut heads = self.heads.borrow_mut();
            let head = heads.entry(stream.to_owned()).or_default();
            *head = next.max(*head);
        }
        self.changed.notify_waiters();
    }

    /// Lets go of what is open: the store, which lives in this same process, may have to look into it.
    pub fn close(&self) {
        self.readers.borrow_mut().clear();
    }

    fn look(&self, stream: &str, from: Seq) -> Result<Option<Piece<StoredRun>>, SourceError> {
        if from >= self.next_seq(stream) {
            return Ok(None);
        }
        let found = self.find(stream, from).map_err(|error| SourceError(error.to_string()))?;
        Ok(match found {
            Found::Block(block) => Some(Piece::Run(StoredRun(Rc::new(block)))),
            Found::Gap { next, why } => {
                self.close();
                self.tell(&Request::Damage { stream: stream.to_owned(), seq: from });
                Some(Piece::Gap { next, why })
            }
            Found::Before { first } => Some(Piece::Gap { next: first, why: "evicted".to_owned() }),
            Found::Open => self.stored_at(stream, from),
        })
    }

    fn find(&self, stream: &str, from: Seq) -> Result<Found, raven_buffer::RingError> {
        let mut readers = self.readers.borrow_mut();
        if !readers.contains_key(stream) {
            readers.insert(stream.to_owned(), RingReader::open(&self.ring, stream)?);
        }
        readers.get_mut(stream).expect("just put there").find(from)
    }

    fn stored_at(&self, stream: &str, from: Seq) -> Option<Piece<StoredRun>> {
        match self.ask(|id| Request::Block { id, stream: stream.to_owned(), from })? {
            Answer::Block { first, .. } if first > from => {
                Some(Piece::Gap { next: first, why: "records are missing in the newest segment".to_owned() })
            }
            Answer::Block { first, value } => {
                Block::decode(first, &value).ok().map(|block| Piece::Run(StoredRun(Rc::new(block))))
            }
            Answer::Next(_) | Answer::Sealed => None,
        }
    }
}

impl Source for Way {
    type Run = StoredRun;

    async fn piece(&self, stream: &str, from: Seq) -> Result<Piece<StoredRun>, SourceError> {
        loop {
            let changed = self.changed.notified();
            if let Some(piece) = self.look(stream, from)? {
                return Ok(piece);
            }
            changed.await;
        }
    }

    fn next_seq(&self, stream: &str) -> Seq {
        self.heads.borrow().get(stream).copied().unwrap_or(Seq(1))
    }
}
