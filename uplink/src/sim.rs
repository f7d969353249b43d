//! A ring in memory, for scenarios and measurements: what the store does to a stream, without a disk.

use crate::source::{Piece, Run, Source, SourceError};
use raven_buffer::Entry;
use raven_model::record::{Context, Frames, Received, frame_len, write_frame};
use raven_model::units::{Seq, UnixNanos};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::sync::Notify;

/// Frames of a block, shared by all blocks that hold the same.
pub type SharedFrames = Rc<Vec<u8>>;

/// Streams in memory.
#[derive(Debug, Default)]
pub struct SimRing {
    streams: RefCell<BTreeMap<String, Stream>>,
    changed: Notify,
}

#[derive(Debug)]
struct Stream {
    runs: BTreeMap<u64, SimRun>,
    next: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self { runs: BTreeMap::new(), next: 1 }
    }
}

/// Records in memory.
#[derive(Debug, Clone)]
pub struct SimRun {
    first: Seq,
    count: u64,
    frames: SharedFrames,
}

/// Frames of `messages`, all from one sender, received one microsecond apart.
pub fn frames<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> SharedFrames {
    let source = "192.0.2.7:40000".parse().expect("an address");
    let mut frames = Vec::new();
    for (n, raw) in (0..).zip(messages) {
        let wall = UnixNanos(1_795_307_753_000_000_000 + n * 1000);
        let at = frames.len();
        frames.resize(at + frame_len(std::net::SocketAddr::ip(&source), raw.len()), 0);
        let received = Received::new(source, 0, wall);
        write_frame(&mut frames[at..], &received, raw).expect("it was made to fit");
    }
    Rc::new(frames)
}

impl SimRing {
    /// Empty.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Stores a block of `count` records.
    pub fn append(&self, stream: &str, frames: &SharedFrames, count: u64) {
        let mut streams = self.streams.borrow_mut();
        let stream = streams.entry(stream.to_owned()).or_default();
        let run = SimRun { first: Seq(stream.next), count, frames: Rc::clone(frames) };
        stream.runs.insert(stream.next, run);
        stream.next += count;
        drop(streams);
        self.changed.notify_waiters();
    }

    /// Stores messages as one block.
    pub fn store(&self, stream: &str, messages: &[&[u8]]) {
        self.append(stream, &frames(messages.iter().copied()), messages.len() as u64);
    }

    /// Drops the blocks that begin below `below`.
    pub fn evict(&self, stream: &str, below: Seq) {
        if let Some(stream) = self.streams.borrow_mut().get_mut(stream) {
            stream.runs = stream.runs.split_off(&below.0);
        }
    }

    fn look(&self, stream: &str, from: Seq) -> Option<Piece<SimRun>> {
        let streams = self.streams.borrow();
        let stream = streams.get(stream)?;
        let holding = stream.runs.range(..=from.0).next_back().filter(|(_, run)| run.next() > from);
        if let Some((_, run)) = holding {
            return Some(Piece::Run(run.clone()));
        }
        let next = stream.runs.range(from.0..).next().map_or(stream.next, |(first, _)| *first);
        (next > from.0).then(|| Piece::Gap { next: Seq(next), why: "evicted".to_owned() })
    }
}

impl Source for SimRing {
    type Run = SimRun;

    async fn piece(&self, stream: &str, from: Seq) -> Result<Piece<SimRun>, SourceError> {
        loop {
            let changed = self.changed.notified();
            if let Some(piece) = self.look(stream, from) {
                return Ok(piece);
            }
            changed.await;
        }
    }

    fn next_seq(&self, stream: &str) -> Seq {
        Seq(self.streams.borrow().get(stream).map_or(1, |stream| stream.next))
    }
}

impl Run for SimRun {
    fn first(&self) -> Seq {
        self.first
    }

    fn next(&self) -> Seq {
        self.first.plus(self.count)
    }

    fn entries_from(&self, from: Seq) -> impl Iterator<Item = Entry<'_>> {
        let mut seq = self.first;
        Frames::new(&self.frames).map_while(Result::ok).filter_map(move |frame| {
            if !frame.received.is_record() {
                return Context::read(frame.raw).map(|context| Entry::Context(frame.received.wall, context));
            }
            let at = seq;
            seq = seq.plus(1);
            (at >= from).then_some(Entry::Record(at, frame))
        })
    }

    fn listener_name(&self, _: u8) -> &'static str {
        "udp:[::]:514"
    }
}
