//! The real ring: sealed segments are read from disk, the newest blocks come from the store.
//!
//! One pair of sockets leads to the store, for all destinations. It outlives the store, so there is no end of file: a
//! question that stays unanswered is asked again. One watcher per stream waits for what is new; its block serves every
//! destination that is at the head.

use crate::source::{Piece, Run, Source, SourceError};
use crate::wait::Readable;
use raven_buffer::tail::{Answer, Low, Reply, Request, TailClient, TailError};
use raven_buffer::{Block, BlockHead, Entry, Found, RingReader};
use raven_model::units::Seq;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// A question is asked again after so long: the store was restarted, or had too many.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// A question for what is not there yet is asked again after so long.
const NEWS_WAIT: Duration = Duration::from_secs(10);

/// Shortest time between two questions for news: the store commits ten times a second.
const NEWS_PAUSE: Duration = Duration::from_millis(20);

/// Pause after an answer that leads nowhere, such as between the sealing of a segment and the sight of it.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Readers of one stream at different places, at most; each may hold one segment mapped.
const READERS_MAX: usize = 16;

/// Fences that wait to be answered, at most; the store sets one per stream at a time.
const FENCES_MAX: usize = 64;

/// The store is about to remove what lies below.
#[derive(Debug)]
pub struct Fence {
    /// Names the answer.
    pub token: u64,
    /// Stream name.
    pub stream: String,
    /// First seq that goes now; what lies below went before.
    pub first: Seq,
    /// First seq that stays.
    pub below: Seq,
}

/// The ring on disk and the store behind its newest blocks.
pub struct Ring {
    dir: PathBuf,
    client: RefCell<TailClient>,
    /// When the client has something to read.
    ready: Readable,
    questions: RefCell<BTreeMap<u64, oneshot::Sender<Answer>>>,
    streams: RefCell<BTreeMap<String, Stream>>,
    changed: Notify,
    fences: mpsc::Sender<Fence>,
}

/// What is known of one stream.
struct Stream {
    /// As far as known.
    next: Seq,
    /// The newest block, for all who are at the head.
    newest: Option<Rc<Block>>,
    readers: Vec<Place>,
}

/// A reader and the seq that it will be asked for next.
struct Place {
    next: Seq,
    reader: RingReader,
}

impl Ring {
    /// The ring in `dir`, and `tail`, the SOCK_SEQPACKET pair to the store. Fences come out of the receiver. Must be
    /// called within the runtime.
    pub fn open(dir: PathBuf, tail: OwnedFd) -> io::Result<(Rc<Self>, mpsc::Receiver<Fence>)> {
        let ready = Readable::of(tail.as_fd())?;
        let (fences, fenced) = mpsc::channel(FENCES_MAX);
        let ring = Self {
            dir,
            client: RefCell::new(TailClient::new(tail)),
            ready,
            questions: RefCell::default(),
            streams: RefCell::default(),
            changed: Notify::new(),
            fences,
        };
        Ok((Rc::new(ring), fenced))
    }

    /// Takes what the store says, for ever.
    pub async fn listen(self: Rc<Self>) {
        loop {
            if let Err(error) = self.ready.wait().await {
                eprintln!("uplink: cannot listen to the store: {error}");
                return;
            }
            if let Err(error) = self.receive() {
                eprintln!("uplink: {error}");
                sleep(RETRY_PAUSE).await;
            } else {
                self.ready.drained();
            }
        }
    }

    fn receive(&self) -> Result<(), TailError> {
        let mut client = self.client.borrow_mut();
        let received = loop {
            match client.receive() {
                Ok(Some((id, answer))) => self.answered(id, answer),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        while let Some(reply) = client.fence() {
            if let Reply::Fence { token, stream, first, below } = reply {
                self.close_below(&stream, below);
                let _ = self.fences.try_send(Fence { token, stream, first, below });
            }
        }
        received
    }

    fn answered(&self, id: u64, answer: Answer) {
        if let Some(question) = self.questions.borrow_mut().remove(&id) {
            let _ = question.send(answer);
        }
    }

    fn close_below(&self, stream: &str, below: Seq) {
        if let Some(stream) = self.streams.borrow_mut().get_mut(stream) {
            stream.readers.iter_mut().for_each(|place| place.reader.fence(below));
            stream.newest.take_if(|block| block.first < below);
        }
    }

    /// Answers a fence: nothing below is read any more. The store waits for it, so it is sent until it is taken.
    pub fn fence_done(self: &Rc<Self>, fence: Fence, unforwarded: BTreeMap<String, u64>) {
        let request = Request::FenceDone {
            token: fence.token,
            stream: fence.stream,
            unforwarded: unforwarded.into_iter().collect(),
        };
        let ring = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while !ring.tell(&request) {
                sleep(RETRY_PAUSE).await;
            }
        });
    }

    /// Tells the store how far destinations have acknowledged.
    pub fn tell_cursors(&self, lows: Vec<Low>) {
        if !lows.is_empty() {
            self.tell(&Request::Cursors(lows));
        }
    }

    /// False when the store has too much waiting to take it.
    fn tell(&self, request: &Request) -> bool {
        match self.client.borrow_mut().send(request) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                eprintln!("uplink: cannot talk to the store: {error}");
                true
            }
            Ok(()) => true,
        }
    }

    /// Asks the store; `None` when it did not answer in time.
    async fn ask(&self, wait: Duration, request: impl FnOnce(u64) -> Request) -> Option<Answer> {
        let (question, answer) = oneshot::channel();
        let id = self.client.borrow_mut().new_id();
        self.questions.borrow_mut().insert(id, question);
        let asked = Question { ring: self, id };
        let sent = self.client.borrow_mut().send(&request(id));
        if sent.is_err() {
            sleep(RETRY_PAUSE).await;
            return None;
        }
        let answer = timeout(wait, answer).await.ok()?.ok();
        drop(asked);
        answer
    }

    /// Asks for the block that holds `from`.
    async fn ask_block(&self, stream: &str, from: Seq) -> Option<Answer> {
        self.ask(ANSWER_WAIT, |id| Request::Block { id, stream: stream.to_owned(), from }).await
    }

    /// Keeps `next_seq` and the newest block of a stream fresh, for ever.
    pub async fn watch(self: Rc<Self>, stream: String) {
        loop {
            let known = self.next_seq(&stream);
            match self.ask(NEWS_WAIT, |id| Request::Wait { id, stream: stream.clone(), from: known }).await {
                Some(Answer::Block { first, value }) => self.news(&stream, first, &value),
                Some(Answer::Next(next)) => self.stored_up_to(&stream, next),
                Some(Answer::Sealed) => self.find_head(&stream).await,
                None => {}
            }
            sleep(NEWS_PAUSE).await;
        }
    }

    /// Learns how much is stored, for ever: while blocks come faster than they are watched, `next_seq` lags.
    pub async fn measure(self: Rc<Self>, stream: String) {
        loop {
            self.find_head(&stream).await;
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn find_head(&self, stream: &str) {
        if let Some(Answer::Next(next)) = self.ask_block(stream, Seq(u64::MAX)).await {
            self.stored_up_to(stream, next);
        }
    }

    fn news(&self, stream: &str, first: Seq, value: &[u8]) {
        match Block::decode(first, value) {
            Ok(block) => {
                let next = block.next();
                self.with_stream(stream, |known| known.newest = Some(Rc::new(block)));
                self.stored_up_to(stream, next);
            }
            // What the header says suffices to go on; the reader that comes here counts it.
            Err(error) => {
                eprintln!("uplink: the newest block of stream {stream}, at seq {first}, is damaged: {error}");
                if let Ok(head) = BlockHead::read(value) {
                    self.stored_up_to(stream, head.next());
                }
            }
        }
    }

    fn stored_up_to(&self, stream: &str, next: Seq) {
        self.with_stream(stream, |known| known.next = known.next.max(next));
        self.changed.notify_waiters();
    }

    fn with_stream<T>(&self, stream: &str, with: impl FnOnce(&mut Stream) -> T) -> T {
        let mut streams = self.streams.borrow_mut();
        with(streams.entry(stream.to_owned()).or_insert_with(|| Stream {
            next: Seq(1),
            newest: None,
            readers: Vec::new(),
        }))
    }

    fn find(&self, stream: &str, from: Seq) -> Result<Found, SourceError> {
        let dir = &self.dir;
        self.with_stream(stream, |known| known.find(dir, stream, from)).map_err(|error| SourceError(error.to_string()))
    }

    /// What the store has at `from`; `None` to look again.
    async fn stored_at(&self, stream: &str, from: Seq) -> Option<Piece<StoredRun>> {
        match self.ask_block(stream, from).await? {
            Answer::Block { first, value } => match Block::decode(first, &value) {
                Ok(block) if block.first > from => Some(gap(block.first, "records are missing in the newest segment")),
                Ok(block) => (block.next() > from).then(|| Piece::Run(StoredRun(Rc::new(block)))),
                Err(error) => BlockHead::read(&value)
                    .ok()
                    .map(|head| gap(head.next(), &format!("a block of the newest segment is damaged: {error}"))),
            },
            Answer::Next(next) => {
                // Known to be stored, and not there: the ring was replaced, or the store sees less after damage.
                self.stored_up_to(stream, next);
                None
            }
            Answer::Sealed => None,
        }
    }
}

fn gap(next: Seq, why: &str) -> Piece<StoredRun> {
    Piece::Gap { next, why: why.to_owned() }
}

impl Stream {
    fn find(&mut self, dir: &std::path::Path, stream: &str, from: Seq) -> Result<Found, raven_buffer::RingError> {
        let at = self.readers.iter().position(|place| place.next == from);
        let mut place = match at {
            Some(at) => self.readers.remove(at),
            None => Place { next: from, reader: RingReader::open(dir, stream)? },
        };
        let found = place.reader.find(from)?;
        if let Found::Block(block) = &found {
            place.next = block.next();
        }
        // Most recently used last.
        self.readers.push(place);
        if self.readers.len() > READERS_MAX {
            self.readers.remove(0);
        }
        Ok(found)
    }
}

/// Forgets a question whose answer nobody waits for any more.
struct Question<'a> {
    ring: &'a Ring,
    id: u64,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.ring.questions.borrow_mut().remove(&self.id);
    }
}

/// A block, shared by the destinations that are at the same place.
#[derive(Debug, Clone)]
pub struct StoredRun(pub Rc<Block>);

impl Run for StoredRun {
    fn first(&self) -> Seq {
        self.0.first
    }

    fn next(&self) -> Seq {
        self.0.next()
    }

    fn entries_from(&self, from: Seq) -> impl Iterator<Item = Entry<'_>> {
        self.0.entries().filter(move |entry| !matches!(entry, Entry::Record(seq, _) if *seq < from))
    }

    fn listener_name(&self, id: u8) -> &str {
        self.0.listener_name(id)
    }
}

impl Source for Ring {
    type Run = StoredRun;

    async fn piece(&self, stream: &str, from: Seq) -> Result<Piece<StoredRun>, SourceError> {
        loop {
            let changed = self.changed.notified();
            let (next, newest) = self.with_stream(stream, |known| (known.next, known.newest.clone()));
            if let Some(block) = newest.filter(|block| block.first <= from && from < block.next()) {
                return Ok(Piece::Run(StoredRun(block)));
            }
            match self.find(stream, from)? {
                Found::Block(block) => return Ok(Piece::Run(StoredRun(Rc::new(block)))),
                Found::Gap { next, why } => {
                    self.tell(&Request::Damage { stream: stream.to_owned(), seq: from });
                    return Ok(Piece::Gap { next, why });
                }
                Found::Before { first } => return Ok(gap(first, "evicted before it was acknowledged")),
                Found::Open if from >= next => changed.await,
                Found::Open => match self.stored_at(stream, from).await {
                    Some(piece) => return Ok(piece),
                    None => sleep(RETRY_PAUSE).await,
                },
            }
        }
    }

    fn next_seq(&self, stream: &str) -> Seq {
        self.with_stream(stream, |known| known.next)
    }
}
