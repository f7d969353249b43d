//! A connection on which each record is acknowledged by itself: the loop that RELP and NATS share.
//!
//! A window of records is under way. Everything from the far end is bounded: the bytes read ahead to [`IN_MAX`], the
//! bytes not yet written to [`OUT_MAX`]; how long one thing may be is the [`Protocol`]'s to say.

mod inbox;
mod memory;
pub mod window;

pub use inbox::Inbox;
pub use memory::Memory;

use crate::attempt::{Event, Failure};
use crate::feed::{Ended, Feed, told};
use crate::link::{Dial, Link, Outbox};
use crate::reader::More;
use crate::source::{Source, SourceError};
use crate::tls;
use raven_model::record::Record;
use raven_model::units::Seq;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use window::Window;

/// Bytes encoded and not yet taken by the socket at which no more are encoded. One message can go over it.
const OUT_MAX: usize = 256 * 1024;

/// Bytes read ahead; more than the longest thing that a far end may say.
pub const IN_MAX: usize = 64 * 1024;

/// What a far end says of what was sent to it.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// It has this record.
    Taken(u32),
    /// Not this one.
    Refused(u32, String),
    /// Whatever the record: not now.
    NotNow(u32, String),
    /// It wants these bytes back.
    Reply(&'static [u8]),
    /// Nothing of concern.
    Nothing,
}

/// One protocol, once the far end has let us in.
pub trait Protocol {
    /// Number of the first record, in the order of sending.
    const FIRST: u32;
    /// Whether an answer to what is not under way breaks the protocol.
    const STRICT: bool;

    /// Why this record can never be sent, where that is so. Asked right before [`write`](Self::write).
    fn unfit(&mut self, _seq: Seq, _record: &Record<'_>, _listener: &str) -> Option<String> {
        None
    }

    /// Appends a record, under `number`.
    fn write(&mut self, out: &mut Vec<u8>, number: u32, seq: Seq, record: &Record<'_>, listener: &str);

    /// The first thing in `bytes` and its length, once all of it is there.
    fn parse(&self, bytes: &[u8]) -> Result<Option<(Said, usize)>, Failure>;

    /// Appends a good-bye.
    fn close(&self, _out: &mut Vec<u8>, _number: u32) {}
}

/// One attempt: connect, have `open` agree on the protocol, deliver until it fails or shall stop. `what` is what is
/// waited for after connecting, in words.
pub async fn attempt<S: Source, P: Protocol>(
    feed: &mut Feed<S>,
    memory: &mut Memory,
    dial: Dial,
    what: &'static str,
    open: impl AsyncFnOnce(&mut Link, &mut Inbox) -> Result<P, Failure>,
) -> Ended {
    let within = feed.timeout();
    let opened = feed
        .or_stop(async move {
            let mut link = dial.open().await?;
            let mut inbox = Inbox::with(&std::mem::take(&mut link.greeting));
            let late = format!("{}: no answer to {what} in {} s", link.peer, within.as_secs());
            let opening = timeout(within, open(&mut link, &mut inbox)).await;
            let protocol = opening.map_err(|_| Failure::retry(late))??;
            Ok::<_, Failure>((link, inbox, protocol))
        })
        .await;
    match opened {
        None => Ended::Stopped,
        Some(Err(failure)) => failure.into(),
        Some(Ok((link, inbox, protocol))) => {
            feed.event(Event::Connected);
            Session::new(feed, memory, link, inbox, protocol).run().await
        }
    }
}

/// An open connection.
struct Session<'a, S: Source, P> {
    feed: &'a mut Feed<S>,
    memory: &'a mut Memory,
    link: Link,
    inbox: Inbox,
    out: Outbox,
    window: Window,
    protocol: P,
    /// Answers just read; kept here for their room.
    acked: Vec<Seq>,
    refused: Vec<(Seq, String)>,
    /// When the far end last took an answer forward, or had nothing to answer.
    alive: Instant,
    ending: Option<Ending>,
}

/// No more is sent; what is under way may still be answered.
struct Ending {
    by: Instant,
    /// Why, unless it was told to stop.
    failure: Option<Failure>,
}

/// What a session waits for.
enum Woken {
    Talked(io::Result<Option<usize>>),
    Loaded(Result<(), SourceError>),
    Late,
    Stop(Duration),
}

impl<'a, S: Source, P: Protocol> Session<'a, S, P> {
    fn new(feed: &'a mut Feed<S>, memory: &'a mut Memory, link: Link, inbox: Inbox, protocol: P) -> Self {
        Self {
            window: Window::new(P::FIRST, feed.to.window as usize),
            out: Outbox::with_capacity(OUT_MAX + 4096),
            acked: Vec::new(),
            refused: Vec::new(),
            alive: Instant::now(),
            ending: None,
            feed,
            memory,
            link,
            inbox,
            protocol,
        }
    }

    async fn run(mut self) -> Ended {
        loop {
            match self.turn().await {
                Ok(false) => {}
                Ok(true) => return self.close(),
                Err(failure) => return failure.into(),
            }
        }
    }

    /// Encodes, then waits for one thing to happen. True when it shall end and nothing is under way.
    async fn turn(&mut self) -> Result<bool, Failure> {
        self.answers()?;
        self.fill()?;
        self.out.send_now(&mut self.link).map_err(|error| self.broken(&error))?;
        let ending = self.ending.as_ref().map(|ending| ending.by);
        if ending.is_none() && self.out.is_empty() && self.window.has_much_room() && self.feed.reader.has_run() {
            // The socket took everything: encode more at once, but let other destinations have their turn.
            tokio::task::consume_budget().await;
            return Ok(false);
        }
        if ending.is_some_and(|by| self.window.is_empty() || by <= Instant::now()) {
            return Ok(true);
        }
        let wants = ending.is_none() && self.window.has_room() && !self.feed.reader.has_run();
        if self.window.is_empty() && wants {
            self.feed.event(Event::CaughtUp);
        }
        let deadline = self.deadline();
        let told_already = self.ending.as_ref().is_some_and(|ending| ending.failure.is_none());
        let Feed { reader, stop, .. } = &mut *self.feed;
        let woken = tokio::select! {
            talked = self.link.talk(&mut self.out, self.inbox.room()) => Woken::Talked(talked),
            loaded = reader.load(), if wants => Woken::Loaded(loaded),
            () = sleep_until(deadline) => Woken::Late,
            grace = told(stop), if !told_already => Woken::Stop(grace),
        };
        self.woken(woken).map(|()| false)
    }

    fn woken(&mut self, woken: Woken) -> Result<(), Failure> {
        match woken {
            Woken::Talked(Ok(Some(0))) => {
                // What came before the end still counts.
                self.answers()?;
                Err(Failure::retry(format!("{} closed the connection{}", self.link.peer, self.under_way())))
            }
            Woken::Talked(Ok(read)) => {
                self.inbox.came(read.unwrap_or_default());
                Ok(())
            }
            Woken::Talked(Err(error)) => Err(self.broken(&error)),
            Woken::Loaded(loaded) => loaded.map_err(|error| Failure::retry(error.0)),
            Woken::Late => self.check_alive(),
            Woken::Stop(grace) => {
                self.ending = Some(Ending { by: Instant::now() + grace, failure: None });
                Ok(())
            }
        }
    }

    /// Encodes records while there is room.
    fn fill(&mut self) -> Result<(), Failure> {
        if self.ending.is_some() || !self.out.is_empty() || !self.window.has_much_room() {
            return Ok(());
        }
        if self.window.is_empty() {
            self.alive = Instant::now();
        }
        let Self { feed, memory, out, window, protocol, .. } = self;
        let out = &mut out.bytes;
        let mut unwritable = None;
        let standing = feed.standing.clone();
        let dead = &feed.dead;
        feed.reader.take(|seq, record, listener| {
            let poison = protocol.unfit(seq, record, listener);
            let poison = poison.or_else(|| memory.poison(seq, || standing.borrow().acked_count()));
            if let Some(reason) = poison {
                unwritable = dead.bury(&standing, seq, record, listener, &reason).err();
                if unwritable.is_some() {
                    return More::Undo;
                }
                memory.forget(seq);
                return More::Yes;
            }
            protocol.write(out, window.send(seq), seq, record, listener);
            if window.has_room() && out.len() < OUT_MAX { More::Yes } else { More::No }
        });
        if !self.out.is_empty() {
            self.feed.event(Event::Sent);
        }
        unwritable.map_or(Ok(()), Err)
    }

    /// Takes the answers that have come.
    fn answers(&mut self) -> Result<(), Failure> {
        let mut trouble = None;
        while trouble.is_none() {
            let said = match self.inbox.next(|bytes| self.protocol.parse(bytes)) {
                Ok(None) => break,
                Ok(Some(said)) => said,
                Err(failure) => {
                    trouble = Some(failure);
                    break;
                }
            };
            trouble = self.heard(said);
        }
        self.settle();
        trouble.map_or(Ok(()), |failure| {
            Err(Failure { words: format!("{}{}", failure.words, self.under_way()), ..failure })
        })
    }

    /// Returns what ends the session.
    #[inline]
    fn heard(&mut self, said: Said) -> Option<Failure> {
        let number = match said {
            Said::Taken(number) | Said::Refused(number, _) | Said::NotNow(number, _) => number,
            Said::Reply(bytes) => {
                self.out.bytes.extend_from_slice(bytes);
                return None;
            }
            Said::Nothing => return None,
        };
        let peer = self.link.peer;
        let Some(seq) = self.window.answered(number) else {
            let words = || format!("{peer} answered transaction {number}, which is not under way");
            return P::STRICT.then(|| Failure::retry(words()));
        };
        match said {
            Said::Refused(_, why) => self.refused.push((seq, why)),
            Said::NotNow(_, why) => {
                return Some(Failure::retry(format!("{peer} could not store record {seq}: {why}")));
            }
            _ => self.acked.push(seq),
        }
        None
    }

    fn settle(&mut self) {
        let mut standing = self.feed.standing.borrow_mut();
        if !self.acked.is_empty() {
            self.alive = Instant::now();
            standing.acked(self.acked.drain(..));
        }
        for (seq, why) in self.refused.drain(..) {
            self.memory.refused(seq, standing.acked_count());
            // The answers to the others tell whether it is this record or the receiver that is wrong.
            let failure = Some(Failure::retry(format!("{} refused record {seq}: {why}", self.link.peer)));
            self.ending.get_or_insert_with(|| Ending { by: Instant::now() + self.feed.ack_timeout(), failure });
        }
    }

    /// A socket can be open at this end only: what tells is whether answers come.
    fn check_alive(&self) -> Result<(), Failure> {
        if self.ending.is_none() && !self.window.is_empty() && self.alive.elapsed() >= self.feed.ack_timeout() {
            let seconds = self.feed.ack_timeout().as_secs();
            let words = format!("{} acknowledged nothing for {seconds} s{}", self.link.peer, self.under_way());
            return Err(Failure::retry(words));
        }
        Ok(())
    }

    fn deadline(&self) -> Instant {
        let silent = if self.window.is_empty() { Instant::now() } else { self.alive } + self.feed.ack_timeout();
        self.ending.as_ref().map_or(silent, |ending| ending.by.min(silent))
    }

    fn under_way(&self) -> String {
        match self.window.len() {
            0 => String::new(),
            n => format!(", {n} records under way"),
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        tls::broken(self.link.peer, error, &self.under_way())
    }

    /// Says good-bye; whether it is heard does not matter.
    fn close(&mut self) -> Ended {
        if self.out.is_empty() {
            self.protocol.close(&mut self.out.bytes, self.window.next());
            let _ = self.out.send_now(&mut self.link);
        }
        self.ending.take().and_then(|ending| ending.failure).map_or(Ended::Stopped, Ended::Failed)
    }
}

/// What a far end says, fit for a log: 200 characters, none of them control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
