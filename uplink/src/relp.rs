//! RELP: one connection, a window of records under way, each acknowledged by itself.
//!
//! Speaks what librelp 1.11 and rsyslog's imrelp speak (relp_version 0, command `syslog`). Everything from the far
//! end is bounded: a frame to 16 KiB, the bytes read ahead to 64 KiB, the bytes not yet written to [`OUT_MAX`].

pub mod frame;
pub mod window;

use crate::attempt::{Event, Failure};
use crate::envelope::Envelope;
use crate::feed::{Ended, Feed, told};
use crate::link::{Dial, Link, Outbox};
use crate::reader::More;
use crate::source::{Source, SourceError};
use crate::tls;
use frame::Frame;
use raven_model::units::Seq;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use window::Window;

/// Bytes encoded and not yet taken by the socket at which no more are encoded. One message can go over it.
const OUT_MAX: usize = 256 * 1024;
const IN_MAX: usize = 64 * 1024;

/// After so many refusals of one record, while others are taken, it goes to the dead letters.
const REFUSALS: u32 = 5;

/// Refused records remembered, at most.
const REFUSED_MAX: usize = 256;

/// How long what is under way may take to be acknowledged when told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

const OFFER: &[u8] =
    concat!("relp_version=0\nrelp_software=raven,", env!("CARGO_PKG_VERSION"), "\ncommands=syslog").as_bytes();

/// What is remembered from one attempt to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// Records that were refused: how often, and the acknowledgements counted at the first time.
    refused: BTreeMap<Seq, (u32, u64)>,
}

/// One attempt: connect, open, deliver until it fails or shall stop.
pub async fn attempt<S: Source>(feed: &mut Feed<S>, memory: &mut Memory) -> Ended {
    let within = feed.timeout();
    let dial = match Dial::of(feed) {
        Ok(dial) => dial,
        Err(failure) => return failure.into(),
    };
    let opened = feed
        .or_stop(async move {
            let mut link = dial.open().await?;
            let peer = link.peer;
            let opening = timeout(within, open(&mut link));
            let rest = opening
                .await
                .map_err(|_| Failure::retry(format!("{peer}: no answer to RELP's open in {} s", within.as_secs())))??;
            Ok::<_, Failure>((link, rest))
        })
        .await;
    match opened {
        None => Ended::Stopped,
        Some(Err(failure)) => failure.into(),
        Some(Ok((link, rest))) => {
            feed.event(Event::Connected);
            Session::new(feed, memory, link, rest).run().await
        }
    }
}

/// Agrees on the protocol; returns the bytes that came behind the answer.
async fn open(link: &mut Link) -> Result<Inbox, Failure> {
    let peer = link.peer;
    let mut out = Vec::new();
    frame::frame(&mut out, 1, b"open", OFFER);
    let broken = |error: io::Error| tls::broken(peer, &error, "");
    link.write_all(&out).await.map_err(broken)?;
    link.flush().await.map_err(broken)?;
    let mut inbox = Inbox::default();
    loop {
        if let Some(answer) = inbox.next().map_err(|error| not_relp(peer, error))? {
            accepted(&answer, peer)?;
            return Ok(inbox);
        }
        let read = link.read(inbox.room()).await.map_err(broken)?;
        if read == 0 {
            return Err(Failure::retry(format!("{peer} closed the connection instead of answering RELP's open")));
        }
        inbox.came(read);
    }
}

fn accepted(answer: &Answer, peer: SocketAddr) -> Result<(), Failure> {
    match answer {
        Answer::Rsp { txnr: 1, code: Some(200), text } if text.contains("commands=") && offers_syslog(text) => Ok(()),
        Answer::Rsp { code: Some(200), .. } => {
            Err(Failure::config(format!("{peer} speaks RELP but does not take syslog")))
        }
        Answer::Rsp { text, .. } => Err(Failure::config(format!("{peer} refused RELP's open: {}", printable(text)))),
        Answer::ServerClose => Err(Failure::retry(format!("{peer} closed the session at once"))),
    }
}

fn offers_syslog(text: &str) -> bool {
    text.lines()
        .filter_map(|line| line.strip_prefix("commands="))
        .any(|commands| commands.split(',').any(|c| c.trim() == "syslog"))
}

fn not_relp(peer: SocketAddr, error: frame::FrameError) -> Failure {
    Failure::retry(format!("{peer} does not speak RELP: {error}"))
}

/// What a far end says, fit for a log: 200 characters, none of them control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// What a receiver can say.
enum Answer {
    Rsp { txnr: u32, code: Option<u16>, text: String },
    ServerClose,
}

/// Bytes read and not yet taken apart.
struct Inbox {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { buf: vec![0; IN_MAX], start: 0, end: 0 }
    }
}

impl Inbox {
    /// Where the next bytes go. Never empty once all frames were taken.
    fn room(&mut self) -> &mut [u8] {
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buf[self.end..]
    }

    /// So many bytes were read into the room.
    const fn came(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// The next frame, borrowed. A frame is far smaller than the buffer, so a full buffer always yields one.
    fn frame(&mut self) -> Result<Option<Frame<'_>>, frame::FrameError> {
        let parsed = frame::parse(&self.buf[self.start..self.end])?;
        Ok(parsed.map(|(frame, len)| {
            self.start += len;
            frame
        }))
    }

    fn next(&mut self) -> Result<Option<Answer>, frame::FrameError> {
        Ok(self.frame()?.map(|frame| match frame.command {
            b"rsp" => Answer::Rsp {
                txnr: frame.txnr,
                code: frame::code(frame.data),
                text: String::from_utf8_lossy(frame.data).into_owned(),
            },
            // librelp sends `serverclose` only; whatever else a receiver says unasked ends the session too.
            _ => Answer::ServerClose,
        }))
    }
}

/// An open connection.
struct Session<'a, S: Source> {
    feed: &'a mut Feed<S>,
    memory: &'a mut Memory,
    link: Link,
    inbox: Inbox,
    out: Outbox,
    window: Window,
    envelope: Envelope,
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

impl<'a, S: Source> Session<'a, S> {
    fn new(feed: &'a mut Feed<S>, memory: &'a mut Memory, link: Link, inbox: Inbox) -> Self {
        Self {
            window: Window::new(2, feed.to.window as usize),
            envelope: Envelope::new(&feed.device, &feed.stream),
            out: Outbox::with_capacity(OUT_MAX + 4096),
            acked: Vec::new(),
            refused: Vec::new(),
            alive: Instant::now(),
            ending: None,
            feed,
            memory,
            link,
            inbox,
        }
    }

    async fn run(&mut self) -> Ended {
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
            () = told(stop), if !told_already => Woken::Stop,
        };
        self.woken(woken).map(|()| false)
    }

    fn woken(&mut self, woken: Woken) -> Result<(), Failure> {
        match woken {
            Woken::Talked(Ok(read)) => self.read(read),
            Woken::Talked(Err(error)) => Err(self.broken(&error)),
            Woken::Loaded(loaded) => loaded.map_err(|error| Failure::retry(error.0)),
            Woken::Late => self.check_alive(),
            Woken::Stop => {
                self.ending = Some(Ending { by: Instant::now() + STOP_GRACE, failure: None });
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
        let Self { feed, memory, out, window, envelope, .. } = self;
        let out = &mut out.bytes;
        let mut unwritable = None;
        let standing = feed.standing.clone();
        let dead = &feed.dead;
        feed.reader.take(|seq, record, listener| {
            let poison = memory.poison(seq, || standing.borrow().acked_count());
            if let Some(reason) = poison {
                match dead.add(seq, record, listener, &reason) {
                    Ok(()) => standing.borrow_mut().buried(seq),
                    Err(error) => unwritable = Some(format!("{}: {error}", dead.path().display())),
                }
                return if unwritable.is_some() { More::Undo } else { More::Yes };
            }
            let message = envelope.seal(seq, record, listener);
            frame::header(out, window.send(seq), b"syslog", message.len());
            message.write(out);
            out.push(b'\n');
            if window.has_room() && out.len() < OUT_MAX { More::Yes } else { More::No }
        });
        if !self.out.is_empty() {
            self.feed.event(Event::Sent);
        }
        unwritable.map_or(Ok(()), |words| Err(Failure::config(words)))
    }

    fn read(&mut self, read: Option<usize>) -> Result<(), Failure> {
        match read {
            Some(0) => {
                // What came before the end still counts.
                self.answers()?;
                Err(Failure::retry(format!("{} closed the connection{}", self.link.peer, self.under_way())))
            }
            Some(bytes) => {
                self.inbox.came(bytes);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes the answers that have come.
    fn answers(&mut self) -> Result<(), Failure> {
        let mut trouble = None;
        while trouble.is_none() {
            match self.inbox.frame() {
                Ok(None) => break,
                Ok(Some(Frame { txnr, command: b"rsp", data })) => {
                    match (self.window.answered(txnr), frame::code(data)) {
                        (Some(seq), Some(200)) => self.acked.push(seq),
                        (Some(seq), _) => self.refused.push((seq, String::from_utf8_lossy(data).into_owned())),
                        (None, _) => trouble = Some(format!("answered transaction {txnr}, which is not under way")),
                    }
                }
                Ok(Some(_)) => trouble = Some("ended the session".to_owned()),
                Err(error) => trouble = Some(format!("does not speak RELP: {error}")),
            }
        }
        self.settle();
        trouble.map_or(Ok(()), |what| Err(Failure::retry(format!("{} {what}{}", self.link.peer, self.under_way()))))
    }

    fn settle(&mut self) {
        let mut standing = self.feed.standing.borrow_mut();
        if !self.acked.is_empty() {
            self.alive = Instant::now();
            standing.acked(self.acked.drain(..));
        }
        for (seq, text) in self.refused.drain(..) {
            self.memory.refused(seq, standing.acked_count());
            // The answers to the others tell whether it is this record or the receiver that is wrong.
            let words = format!("{} refused record {seq}: {}", self.link.peer, printable(&text));
            let failure = Some(Failure::retry(words));
            self.ending.get_or_insert_with(|| Ending { by: Instant::now() + self.feed.ack_timeout(), failure });
        }
    }

    /// A socket can be open at this end only: what tells is whether answers come.
    fn check_alive(&self) -> Result<(), Failure> {
        let silent = self.alive.elapsed() >= self.feed.ack_timeout() && !self.window.is_empty();
        if silent && self.ending.is_none() {
            let words = format!(
                "{} acknowledged nothing for {} s{}",
                self.link.peer,
                self.feed.ack_timeout().as_secs(),
                self.under_way()
            );
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
            frame::frame(&mut self.out.bytes, self.window.next(), b"close", b"");
            let _ = self.out.send_now(&mut self.link);
        }
        self.ending.take().and_then(|ending| ending.failure).map_or(Ended::Stopped, Ended::Failed)
    }
}

/// What a session waits for.
enum Woken {
    Talked(io::Result<Option<usize>>),
    Loaded(Result<(), SourceError>),
    Late,
    Stop,
}

impl Memory {
    pub(crate) fn refused(&mut self, seq: Seq, acked: u64) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_first();
        }
        self.refused.entry(seq).or_insert((0, acked)).0 += 1;
    }

    /// Why `seq` goes to the dead letters: refused often enough while others were taken.
    #[inline]
    pub(crate) fn poison(&self, seq: Seq, acked: impl FnOnce() -> u64) -> Option<String> {
        if self.refused.is_empty() {
            return None;
        }
        let (times, before) = *self.refused.get(&seq)?;
        if times < REFUSALS || acked() == before {
            return None;
        }
        Some(format!("refused {times} times"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_poison_only_when_others_are_taken() {
        let mut memory = Memory::default();
        for _ in 0..REFUSALS {
            assert_eq!(memory.poison(Seq(7), || 10), None);
            memory.refused(Seq(7), 10);
        }
        assert_eq!(memory.poison(Seq(7), || 10), None, "nothing else was taken: the receiver refuses everything");
        assert_eq!(memory.poison(Seq(7), || 11), Some("refused 5 times".to_owned()));
        assert_eq!(memory.poison(Seq(8), || 11), None);
    }

    #[test]
    fn a_receiver_must_take_syslog() {
        assert!(offers_syslog("200 OK\nrelp_version=0\ncommands=syslog\n"));
        assert!(offers_syslog("200 OK\ncommands=eventlog,syslog"));
        assert!(!offers_syslog("200 OK\ncommands=syslogng"));
    }
}
