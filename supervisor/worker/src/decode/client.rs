//! One operator's connection: takes the question, works on it a block at a time, sends the answer as it is taken.

use super::archive::Export;
use super::check::Check;
use super::{Line, Lines, Step};
use crate::decode::ring::Ring;
use crate::decoder::Knowledge;
use crate::select::Records;
use crate::sources::Sources;
use crate::top::Top;
use anyhow::{Context, bail};
use nix::poll::PollFlags;
use raven_buffer::RingReader;
use raven_jail::channel::recv;
use raven_model::query::{Query, Reply};
use raven_model::stream::Stream;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a client may take to ask.
const ASK: Duration = Duration::from_secs(30);
/// A client that takes nothing of its answer for so long makes room for others when there are too many. An operator
/// who reads a page is not bothered otherwise.
const STUCK: Duration = Duration::from_secs(20);
/// Longest question.
const QUERY_MAX: usize = 64 * 1024;
/// The stream of flows.
const FLOW: &str = Stream::Flow.name();
/// Nothing to do before the next event: looked after all the same, for the times above.
const IDLE: Duration = Duration::from_secs(1);

/// Work for one client.
enum Job {
    /// The question is not whole yet.
    Asking(Vec<u8>),
    Records(Box<Records>, String, RingReader),
    Sources(Box<Sources>, String, RingReader),
    Top(Box<Top>, RingReader),
    Verify(Box<Check>),
    Archive(Box<Export>),
    Losses(RingReader),
    Finished,
}

/// A connected client.
pub struct Client {
    socket: File,
    job: Job,
    lines: Lines,
    not_before: Instant,
    /// When it last took something, or came.
    moved: Instant,
}

impl Client {
    /// One that has not asked yet.
    pub fn new(socket: OwnedFd) -> Self {
        let now = Instant::now();
        let job = Job::Asking(Vec::new());
        Self { socket: File::from(socket), job, lines: Lines::default(), not_before: now, moved: now }
    }

    /// Tells a client why it is not served.
    pub fn refuse(socket: OwnedFd, why: &str) {
        let mut client = Self::new(socket);
        client.lines.reply(&Reply::Error(why.to_owned()));
        let _ = client.send();
    }

    /// True when it can be let go.
    pub const fn is_done(&self) -> bool {
        matches!(self.job, Job::Finished) && self.lines.is_sent()
    }

    /// How long it has taken nothing of what waits for it, when that is long.
    pub fn stuck(&self, now: Instant) -> Option<Duration> {
        let still = now.saturating_duration_since(self.moved);
        (!self.lines.is_sent() && still > STUCK).then_some(still)
    }

    /// To wait for it.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What to poll for, and when to look again without an event.
    pub fn interest(&self, now: Instant) -> (PollFlags, Duration) {
        if !self.lines.is_sent() {
            return (PollFlags::POLLOUT, IDLE);
        }
        // A client that has hung up is seen as readable.
        match self.job {
            Job::Asking(_) | Job::Finished => (PollFlags::POLLIN, IDLE),
            _ => (PollFlags::POLLIN, self.not_before.saturating_duration_since(now)),
        }
    }

    /// Goes on with its question, at most one block. What goes wrong here is told to this client and ends it alone.
    pub fn serve(&mut self, ready: bool, knowledge: &Rc<Knowledge>, ring: &mut Ring) {
        let Err(error) = self.try_serve(ready, knowledge, ring) else { return };
        if matches!(self.job, Job::Finished) || error.downcast_ref::<HungUp>().is_some() {
            self.lines = Lines::default();
        } else {
            self.lines.reply(&Reply::Error(format!("{error:#}")));
        }
        self.job = Job::Finished;
        if self.send().is_err() {
            self.lines = Lines::default();
        }
    }

    fn try_serve(&mut self, ready: bool, knowledge: &Rc<Knowledge>, ring: &mut Ring) -> anyhow::Result<()> {
        self.send()?;
        if !self.lines.is_sent() {
            return Ok(());
        }
        if ready {
            self.read(knowledge, ring)?;
        }
        if Instant::now() < self.not_before {
            return Ok(());
        }
        match self.step(ring)? {
            Step::Again => {}
            Step::Later(wait) => self.not_before = Instant::now() + wait,
            Step::Done => {
                self.lines.done();
                self.job = Job::Finished;
            }
        }
        self.send()
    }

    fn step(&mut self, ring: &mut Ring) -> anyhow::Result<Step> {
        match &mut self.job {
            Job::Records(records, stream, reader) => records.step(&mut ring.stream(stream, reader), &mut self.lines),
            Job::Sources(sources, stream, reader) => sources.step(&mut ring.stream(stream, reader), &mut self.lines),
            Job::Top(top, reader) => top.step(&mut ring.stream(FLOW, reader), &mut self.lines),
            Job::Verify(check) => check.step(ring, &mut self.lines),
            Job::Archive(export) => export.step(ring, &mut self.lines),
            Job::Losses(reader) => {
                for loss in reader.ledger().losses {
                    self.lines.line(&Line::Loss(&loss.view()));
                }
                Ok(Step::Done)
            }
            Job::Asking(_) if self.moved.elapsed() > ASK => bail!("no question came within {} s", ASK.as_secs()),
            Job::Asking(_) | Job::Finished => Ok(Step::Again),
        }
    }

    /// Takes in the question, or the end of the client.
    fn read(&mut self, knowledge: &Rc<Knowledge>, ring: &mut Ring) -> anyhow::Result<()> {
        let mut chunk = [0; 4096];
        let n = match recv(self.socket.as_fd(), &mut chunk, &mut Vec::new(), nix::libc::MSG_DONTWAIT) {
            Ok(0) => return Err(HungUp.into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(hung_up(error)),
        };
        let Job::Asking(text) = &mut self.job else { return Ok(()) };
        text.extend_from_slice(&chunk[..n]);
        if text.len() > QUERY_MAX {
            bail!("the question is longer than {QUERY_MAX} bytes");
        }
        let Some(end) = text.iter().position(|&b| b == b'\n') else { return Ok(()) };
        let query: Query = serde_json::from_slice(&text[..end]).context("not a question that this raven knows")?;
        self.job = job(query, knowledge, ring)?;
        self.lines.reply(&Reply::Ok);
        if let Job::Archive(export) = &mut self.job {
            export.begin(&mut self.lines)?;
        }
        Ok(())
    }

    fn send(&mut self) -> anyhow::Result<()> {
        if self.lines.is_sent() {
            return Ok(());
        }
        if self.lines.send(self.socket.as_fd()).map_err(hung_up)? > 0 {
            self.moved = Instant::now();
        }
        Ok(())
    }
}

fn job(query: Query, knowledge: &Rc<Knowledge>, ring: &Ring) -> anyhow::Result<Job> {
    Ok(match query {
        Query::Records(select) => {
            let (stream, reader) = (select.stream.clone(), ring.reader(&select.stream)?);
            // Of most blocks only the head is read.
            let reader = if select.source.is_some() { reader.sparse() } else { reader };
            Job::Records(Box::new(Records::new(select, knowledge)), stream, reader)
        }
        Query::Sources { stream, since, until } => {
            let reader = ring.reader(&stream)?;
            Job::Sources(Box::new(Sources::new(&stream, since, until)), stream, reader)
        }
        Query::FlowsTop(question) => {
            let reader = ring.reader(FLOW)?;
            Job::Top(Box::new(Top::new(question, knowledge)), reader)
        }
        Query::Losses { stream } => Job::Losses(ring.reader(&stream)?),
        Query::Archive(select) => {
            let export = Export::new(select, &ring.device, crate::sources::now(), ring)?;
            Job::Archive(Box::new(export))
        }
        Query::Verify { stream, repair } => {
            ring.reader(&stream)?;
            Job::Verify(Box::new(Check::new(stream, repair)))
        }
    })
}

/// The client is gone: nobody is left to be told.
#[derive(Debug)]
struct HungUp;

impl fmt::Display for HungUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client hung up")
    }
}

impl std::error::Error for HungUp {}

fn hung_up(_: io::Error) -> anyhow::Error {
    HungUp.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_buffer::tail::TailClient;
    use raven_jail::channel::stream_pair;
    use std::io::{Read, Write};

    struct Bench {
        ring: Ring,
        client: Client,
        operator: File,
        /// Kept open.
        _store: OwnedFd,
    }

    fn bench() -> Bench {
        let (ours, theirs) = stream_pair().unwrap();
        let (tail, store) = stream_pair().unwrap();
        Bench {
            ring: Ring::new("/nonexistent".into(), TailClient::new(tail)),
            client: Client::new(theirs),
            operator: File::from(ours),
            _store: store,
        }
    }

    impl Bench {
        fn serve(&mut self, ready: bool) {
            let knowledge = Knowledge::new("/nonexistent".into());
            self.client.serve(ready, &knowledge, &mut self.ring);
        }

        fn answer(mut self) -> String {
            let mut text = String::new();
            drop(self.client);
            self.operator.read_to_string(&mut text).unwrap();
            text
        }
    }

    #[test]
    fn a_question_that_makes_no_sense_is_refused_in_words() {
        let mut bench = bench();
        bench.operator.write_all(b"{\"records\":{\"colour\":1}}\n").unwrap();
        bench.serve(true);
        assert!(bench.client.is_done());
        assert!(bench.answer().starts_with("{\"error\":\"not a question that this raven knows: unknown field"));
    }

    #[test]
    fn a_question_without_end_is_refused() {
        let mut bench = bench();
        while !bench.client.is_done() {
            bench.operator.write_all(&[b'x'; 4096]).unwrap();
            bench.serve(true);
        }
        assert!(bench.answer().contains("longer than 65536 bytes"));
    }

    #[test]
    fn a_client_that_says_nothing_is_let_go() {
        let mut bench = bench();
        bench.serve(false);
        assert!(!bench.client.is_done());
        bench.client.moved = Instant::now().checked_sub(ASK + IDLE).unwrap();
        bench.serve(false);
        assert!(bench.client.is_done());
        assert_eq!(bench.answer(), "{\"error\":\"no question came within 30 s\"}\n");
    }

    #[test]
    fn a_client_that_hangs_up_is_let_go_at_once() {
        let mut bench = bench();
        bench.operator = File::open("/dev/null").unwrap();
        bench.serve(true);
        assert!(bench.client.is_done());
    }

    #[test]
    fn only_a_client_that_takes_nothing_for_long_is_stuck() {
        let mut bench = bench();
        bench.client.moved = Instant::now().checked_sub(STUCK + IDLE).unwrap();
        assert_eq!(bench.client.stuck(Instant::now()), None, "it was sent nothing yet");
        bench.client.lines.note("x".repeat(8 << 20));
        bench.serve(false);
        assert!(!bench.client.lines.is_sent() && bench.client.stuck(Instant::now()).is_none());
        assert!(bench.client.stuck(Instant::now() + STUCK + IDLE).is_some());
    }
}
