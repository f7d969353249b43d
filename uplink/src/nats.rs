//! NATS JetStream: one connection, a window of records under way, each acknowledged once a stream has stored it.
//!
//! Each record is published with a reply subject of its own and `Nats-Msg-Id: DEVICE/STREAM/SEQ`, by which the server
//! removes doubles. Speaks the clients' protocol of nats-server 2.9 with headers.

pub mod wire;

use crate::attempt::{Event, Failure};
use crate::feed::{Ended, Feed, told};
use crate::link::{Dial, Link, Outbox};
use crate::reader::More;
use crate::relp::window::Window;
use crate::relp::{Memory, printable};
use crate::secrets::Scheme;
use crate::source::{Source, SourceError};
use crate::tls;
use raven_model::units::Seq;
use serde_json::{Value, json};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use wire::{Publisher, Said};

/// Bytes encoded and not yet taken by the socket at which no more are encoded. One message can go over it.
const OUT_MAX: usize = 256 * 1024;

/// Bytes read ahead; more than the longest thing that a server may say.
const IN_MAX: usize = 64 * 1024;

/// How long what is under way may take to be acknowledged when told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// One attempt: connect, deliver until it fails or shall stop.
pub async fn attempt<S: Source>(feed: &mut Feed<S>, memory: &mut Memory) -> Ended {
    let inbox = format!("_INBOX.{:016x}{:016x}", dice(), dice());
    let prepared = Dial::of(feed).and_then(|dial| Ok((dial.after_greeting(), hello(feed, &inbox)?)));
    let (dial, hello) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return failure.into(),
    };
    let within = feed.timeout();
    let opened = feed
        .or_stop(async move {
            let link = dial.open().await?;
            let peer = link.peer;
            let late = |_| Failure::retry(format!("{peer}: no answer to CONNECT in {} s", within.as_secs()));
            timeout(within, open(link, &hello)).await.map_err(late)?
        })
        .await;
    match opened {
        None => Ended::Stopped,
        Some(Err(failure)) => failure.into(),
        Some(Ok(opened)) => {
            feed.event(Event::Connected);
            Session::new(feed, memory, opened, &inbox).run().await
        }
    }
}

/// The first words to a server.
fn hello<S: Source>(feed: &Feed<S>, inbox: &str) -> Result<Vec<u8>, Failure> {
    let mut connect = json!({
        "verbose": false, "pedantic": false, "protocol": 1, "headers": true, "no_responders": true, "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"), "name": format!("raven {} {}", feed.device, feed.stream),
        "tls_required": feed.to.speaks_tls(),
    });
    match feed.secrets.credentials(feed.to.credentials.as_ref())? {
        None => {}
        Some((Scheme::Bearer, token)) => connect["auth_token"] = token.into(),
        Some((Scheme::Basic, pair)) => {
            let (user, password) = pair.split_once(':').unwrap_or_default();
            (connect["user"], connect["pass"]) = (user.into(), password.into());
        }
    }
    Ok(format!("CONNECT {connect}\r\nSUB {inbox}.* 1\r\nPING\r\n").into_bytes())
}

/// A connection that was let in.
struct Opened {
    link: Link,
    heard: Heard,
    max_payload: usize,
}

/// The server's `INFO`, our `CONNECT`, its `PONG`.
async fn open(mut link: Link, hello: &[u8]) -> Result<Opened, Failure> {
    let peer = link.peer;
    let mut heard = Heard::with(&std::mem::take(&mut link.greeting));
    let max_payload = match heard.next().map_err(|error| no_nats(peer, error))? {
        Some(Said::Info(info)) => take_info(peer, info)?,
        _ => return Err(Failure::retry(format!("{peer} does not speak NATS: it began without INFO"))),
    };
    let broken = |error: io::Error| tls::broken(peer, &error, "");
    link.write_all(hello).await.map_err(broken)?;
    link.flush().await.map_err(broken)?;
    loop {
        match heard.next().map_err(|error| no_nats(peer, error))? {
            Some(Said::Pong) => return Ok(Opened { link, heard, max_payload }),
            Some(Said::Error(words)) => return Err(complaint(peer, words)),
            Some(_) => {}
            None => {
                let read = link.read(heard.room()).await.map_err(broken)?;
                if read == 0 {
                    return Err(Failure::retry(format!("{peer} closed the connection instead of letting us in")));
                }
                heard.came(read);
            }
        }
    }
}

/// Returns the longest message that it takes.
fn take_info(peer: SocketAddr, info: &[u8]) -> Result<usize, Failure> {
    let info: Value = serde_json::from_slice(info).unwrap_or_default();
    if info["headers"] != true {
        return Err(Failure::config(format!("{peer} takes no headers: NATS 2.2 or later is needed, with JetStream")));
    }
    Ok(info["max_payload"].as_u64().map_or(usize::MAX, |bytes| bytes as usize))
}

fn no_nats(peer: SocketAddr, error: wire::NoNats) -> Failure {
    Failure::retry(format!("{peer} does not speak NATS: {error}"))
}

/// Whether we may do what we do is a question for an operator; the rest passes.
fn complaint(peer: SocketAddr, words: &[u8]) -> Failure {
    let text = printable(&String::from_utf8_lossy(words));
    let lower = text.to_ascii_lowercase();
    let ours = ["authorization", "authentication", "permissions", "secure connection"];
    let words = format!("{peer} says {text}");
    if ours.iter().any(|word| lower.contains(word)) { Failure::config(words) } else { Failure::retry(words) }
}

/// Different for every connection; no secret.
fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Bytes read and not yet taken apart.
struct Heard {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Heard {
    fn with(bytes: &[u8]) -> Self {
        let mut buf = vec![0; IN_MAX.max(bytes.len())];
        buf[..bytes.len()].copy_from_slice(bytes);
        Self { buf, start: 0, end: bytes.len() }
    }

    /// Where the next bytes go. Never empty once all that was said is taken: the buffer is longer than that.
    fn room(&mut self) -> &mut [u8] {
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buf[self.end..]
    }

    const fn came(&mut self, bytes: usize) {
        self.end += bytes;
    }

    fn next(&mut self) -> Result<Option<Said<'_>>, wire::NoNats> {
        Ok(wire::parse(&self.buf[self.start..self.end])?.map(|(said, len)| {
            self.start += len;
            said
        }))
    }
}

struct Session<'a, S: Source> {
    feed: &'a mut Feed<S>,
    memory: &'a mut Memory,
    link: Link,
    heard: Heard,
    out: Outbox,
    window: Window,
    publisher: Publisher,
    subject: String,
    max_payload: usize,
    acked: Vec<Seq>,
    /// When the far end last acknowledged, or had nothing to acknowledge.
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
    Stop,
}

impl<'a, S: Source> Session<'a, S> {
    fn new(feed: &'a mut Feed<S>, memory: &'a mut Memory, opened: Opened, inbox: &str) -> Self {
        Self {
            window: Window::new(1, feed.to.window as usize),
            publisher: Publisher::new(&feed.device, &feed.stream, inbox),
            subject: wire::subject(&feed.device, &feed.stream),
            max_payload: opened.max_payload,
            link: opened.link,
            heard: opened.heard,
            out: Outbox::with_capacity(OUT_MAX + 4096),
            acked: Vec::new(),
            alive: Instant::now(),
            ending: None,
            feed,
            memory,
        }
    }

    async fn run(mut self) -> Ended {
        loop {
            match self.turn().await {
                Ok(false) => {}
                Ok(true) => {
                    let failure = self.ending.take().and_then(|ending| ending.failure);
                    return failure.map_or(Ended::Stopped, Ended::Failed);
                }
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
            talked = self.link.talk(&mut self.out, self.heard.room()) => Woken::Talked(talked),
            loaded = reader.load(), if wants => Woken::Loaded(loaded),
            () = sleep_until(deadline) => Woken::Late,
            () = told(stop), if !told_already => Woken::Stop,
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
                self.heard.came(read.unwrap_or_default());
                Ok(())
            }
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
        let Self { feed, memory, out, window, publisher, max_payload, .. } = self;
        let mut unwritable = None;
        let standing = feed.standing.clone();
        let dead = &feed.dead;
        feed.reader.take(|seq, record, listener| {
            let len = publisher.prepare(seq, record, listener);
            let too_long = || format!("{len} bytes with headers, and the server's max_payload is {max_payload}");
            let poison = (len > *max_payload).then(too_long);
            let poison = poison.or_else(|| memory.poison(seq, || standing.borrow().acked_count()));
            if let Some(reason) = poison {
                match dead.add(seq, record, listener, &reason) {
                    Ok(()) => standing.borrow_mut().buried(seq),
                    Err(error) => unwritable = Some(format!("{}: {error}", dead.path().display())),
                }
                return if unwritable.is_some() { More::Undo } else { More::Yes };
            }
            publisher.write(&mut out.bytes, window.send(seq), record.raw);
            if window.has_room() && out.bytes.len() < OUT_MAX { More::Yes } else { More::No }
        });
        if !self.out.is_empty() {
            self.feed.event(Event::Sent);
        }
        unwritable.map_or(Ok(()), |words| Err(Failure::config(words)))
    }

    /// Takes what has come.
    fn answers(&mut self) -> Result<(), Failure> {
        let peer = self.link.peer;
        let mut trouble = None;
        let mut refused = Vec::new();
        while trouble.is_none() {
            match self.heard.next() {
                Ok(None) => break,
                Ok(Some(Said::Message { status: Some(b"503"), .. })) => trouble = Some(nobody(peer, &self.subject)),
                Ok(Some(Said::Message { subject, payload, .. })) => {
                    let Some(seq) = wire::question(subject).and_then(|number| self.window.answered(number)) else {
                        continue;
                    };
                    match verdict(payload) {
                        Verdict::Stored => self.acked.push(seq),
                        Verdict::Refused(why) => refused.push((seq, why)),
                        Verdict::NotNow(why) => {
                            trouble = Some(Failure::retry(format!("{peer} could not store record {seq}: {why}")));
                        }
                    }
                }
                Ok(Some(Said::Ping)) => self.out.bytes.extend_from_slice(b"PONG\r\n"),
                Ok(Some(Said::Error(words))) => trouble = Some(complaint(peer, words)),
                Ok(Some(Said::Info(_) | Said::Pong | Said::Ok)) => {}
                Err(error) => trouble = Some(no_nats(peer, error)),
            }
        }
        self.settle(refused);
        trouble.map_or(Ok(()), |failure| {
            Err(Failure { words: format!("{}{}", failure.words, self.under_way()), ..failure })
        })
    }

    fn settle(&mut self, refused: Vec<(Seq, String)>) {
        let mut standing = self.feed.standing.borrow_mut();
        if !self.acked.is_empty() {
            self.alive = Instant::now();
            standing.acked(self.acked.drain(..));
        }
        for (seq, why) in refused {
            self.memory.refused(seq, standing.acked_count());
            // The answers to the others tell whether it is this record or the receiver that is wrong.
            let failure = Some(Failure::retry(format!("{} refused record {seq}: {why}", self.link.peer)));
            self.ending.get_or_insert_with(|| Ending { by: Instant::now() + self.feed.ack_timeout(), failure });
        }
    }

    /// A socket can be open at this end only, and a stream without a leader: what tells is whether answers come.
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
}

/// Passes when a stream is made, or has a leader again.
fn nobody(peer: SocketAddr, subject: &str) -> Failure {
    Failure::retry(format!("{peer}: no JetStream stream takes {subject}, or it has no leader now"))
}

/// What JetStream says of a record.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stored,
    /// Not this one.
    Refused(String),
    /// Out of room or without a leader: whatever the record.
    NotNow(String),
}

/// Reads a `PubAck`. A good one is not parsed as JSON: there are as many as records.
fn verdict(payload: &[u8]) -> Verdict {
    let has = |word: &[u8]| payload.windows(word.len()).any(|part| part == word);
    if payload.starts_with(b"{") && has(b"\"seq\":") && !has(b"\"error\"") {
        return Verdict::Stored;
    }
    let answer: Value = serde_json::from_slice(payload).unwrap_or_default();
    let error = &answer["error"];
    let why = printable(error["description"].as_str().unwrap_or("an answer that is none of JetStream's"));
    // 5xx and "maximum messages", "maximum bytes": of the stream, not of the record.
    let of_stream = error["code"].as_u64().is_none_or(|code| code >= 500) || why.starts_with("maximum");
    if of_stream { Verdict::NotNow(why) } else { Verdict::Refused(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_stored_only_without_an_error() {
        assert_eq!(verdict(br#"{"stream":"RAVEN","seq":7}"#), Verdict::Stored);
        assert_eq!(verdict(br#"{"stream":"RAVEN","seq":7,"duplicate": true}"#), Verdict::Stored);
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"R","seq":0}"#;
        assert_eq!(verdict(full), Verdict::NotNow("maximum messages exceeded".to_owned()));
        let long = br#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"R","seq":0}"#;
        assert_eq!(verdict(long), Verdict::Refused("message size exceeds maximum allowed".to_owned()));
        assert!(matches!(verdict(b"+ACK"), Verdict::NotNow(_)));
        assert!(matches!(verdict(b""), Verdict::NotNow(_)));
    }
}
