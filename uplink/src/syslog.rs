//! RFC 5424 messages over TCP (RFC 6587, octet counting) or TLS (RFC 5425): nothing acknowledges them.
//!
//! What stands in for it: the far end's kernel says what of the connection it has (`SIOCOUTQ`), and what it has said so
//! for less than [`OVERLAP`] is sent again after a broken connection. A receiver that dies with more than that unread
//! loses it; no sender of this protocol can know.

use crate::attempt::{Event, Failure};
use crate::envelope::Envelope;
use crate::feed::{Ended, Feed, told};
use crate::link::{Dial, Link, Outbox};
use crate::reader::More;
use crate::source::{Source, SourceError};
use crate::{text, tls};
use raven_model::units::Seq;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep_until, timeout};

/// The cursor stays so far behind what the far end's kernel has.
pub const OVERLAP: Duration = Duration::from_secs(2);

/// How often the kernel is asked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Bytes encoded at a time.
const OUT_MAX: usize = 256 * 1024;

/// Parts under way, at most. Of 64 KiB and more while there is enough to send.
const PARTS_MAX: usize = 64 * 1024;

/// One attempt: connect, deliver until it fails or shall stop.
pub async fn attempt<S: Source>(feed: &mut Feed<S>) -> Ended {
    let dial = match Dial::of(feed) {
        Ok(dial) => dial,
        Err(failure) => return failure.into(),
    };
    match feed.or_stop(dial.open()).await {
        None => Ended::Stopped,
        Some(Err(failure)) => failure.into(),
        Some(Ok(link)) => {
            feed.event(Event::Connected);
            Session::new(feed, link).run().await
        }
    }
}

/// Messages that went into the connection together.
struct Part {
    /// Bytes of the connection up to its end.
    end: u64,
    ranges: Vec<(Seq, Seq)>,
    /// Since when the far end's kernel has it.
    delivered: Option<Instant>,
}

struct Session<'a, S: Source> {
    feed: &'a mut Feed<S>,
    link: Link,
    envelope: Envelope,
    out: Outbox,
    /// Records in `out`.
    ranges: Vec<(Seq, Seq)>,
    parts: VecDeque<Part>,
    /// Bytes that the far end's kernel had at the last look.
    delivered: u64,
    /// When that last grew, or nothing was under way.
    alive: Instant,
    look: Instant,
    ending: Option<Instant>,
}

/// What a session waits for.
enum Woken {
    Talked(io::Result<Option<usize>>),
    Loaded(Result<(), SourceError>),
    Look,
    Stop(Duration),
}

impl<'a, S: Source> Session<'a, S> {
    fn new(feed: &'a mut Feed<S>, link: Link) -> Self {
        let now = Instant::now();
        Self {
            envelope: Envelope::new(&feed.device, &feed.stream),
            feed,
            link,
            out: Outbox::with_capacity(OUT_MAX + 4096),
            ranges: Vec::new(),
            parts: VecDeque::new(),
            delivered: 0,
            alive: now,
            look: now + LOOK_EVERY,
            ending: None,
        }
    }

    async fn run(mut self) -> Ended {
        loop {
            match self.turn().await {
                Ok(false) => {}
                Ok(true) => {
                    // Whether the far end hears of it does not matter.
                    let _ = timeout(LOOK_EVERY, self.link.shutdown()).await;
                    return Ended::Stopped;
                }
                Err(failure) => return failure.into(),
            }
        }
    }

    /// Encodes, then waits for one thing to happen. True when it shall end and has done what it could.
    async fn turn(&mut self) -> Result<bool, Failure> {
        self.fill();
        self.out.send_now(&mut self.link).map_err(|error| self.broken(&error))?;
        self.note_sent();
        if Instant::now() >= self.look {
            self.settle()?;
        }
        if self.ending.is_some_and(|by| by <= Instant::now() || (self.parts.is_empty() && self.out.is_empty())) {
            return Ok(true);
        }
        let more = self.ending.is_none() && self.out.is_empty() && self.parts.len() < PARTS_MAX;
        if more && self.feed.reader.has_run() {
            // The socket took everything: encode more at once, but let other destinations have their turn.
            tokio::task::consume_budget().await;
            return Ok(false);
        }
        if more && self.parts.is_empty() {
            self.feed.event(Event::CaughtUp);
        }
        let idle = self.parts.is_empty() && self.out.is_empty();
        // Nobody says anything on this connection: what comes is looked at for its end alone.
        let mut ignored = [0; 512];
        let Feed { reader, stop, .. } = &mut *self.feed;
        let woken = tokio::select! {
            talked = self.link.talk(&mut self.out, &mut ignored) => Woken::Talked(talked),
            loaded = reader.load(), if more => Woken::Loaded(loaded),
            () = sleep_until(self.look), if !idle => Woken::Look,
            grace = told(stop), if self.ending.is_none() => Woken::Stop(grace),
        };
        self.woken(woken).map(|()| false)
    }

    fn woken(&mut self, woken: Woken) -> Result<(), Failure> {
        match woken {
            Woken::Talked(Ok(Some(0))) => {
                // What its kernel has said to have longer ago than the overlap still counts.
                let _ = self.settle();
                Err(Failure::retry(format!("{} closed the connection{}", self.link.peer, self.under_way())))
            }
            Woken::Talked(Ok(_)) | Woken::Look => Ok(()),
            Woken::Talked(Err(error)) => Err(self.broken(&error)),
            Woken::Loaded(loaded) => loaded.map_err(|error| Failure::retry(error.0)),
            Woken::Stop(grace) => {
                self.ending = Some(Instant::now() + grace);
                self.look = Instant::now();
                Ok(())
            }
        }
    }

    /// Encodes records while there is room.
    fn fill(&mut self) {
        if self.ending.is_some() || !self.out.is_empty() || self.parts.len() >= PARTS_MAX {
            return;
        }
        let Self { feed, out, envelope, ranges, .. } = self;
        feed.reader.take(|seq, record, listener| {
            let message = envelope.seal(seq, record, listener);
            text::decimal(&mut out.bytes, message.len() as u64);
            out.bytes.push(b' ');
            message.write(&mut out.bytes);
            match ranges.last_mut().filter(|(_, last)| last.plus(1) == seq) {
                Some((_, last)) => *last = seq,
                None => ranges.push((seq, seq)),
            }
            if out.bytes.len() < OUT_MAX { More::Yes } else { More::No }
        });
        if !self.out.is_empty() {
            self.feed.event(Event::Sent);
        }
    }

    /// All that was encoded is in the socket.
    fn note_sent(&mut self) {
        if self.out.is_empty() && !self.ranges.is_empty() {
            if self.parts.is_empty() {
                self.alive = Instant::now();
                self.look = self.alive + LOOK_EVERY;
            }
            let ranges = std::mem::take(&mut self.ranges);
            self.parts.push_back(Part { end: self.link.written(), ranges, delivered: None });
        }
    }

    /// Asks the kernel, and moves the cursor over what it has had for long enough.
    fn settle(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        self.look = now + LOOK_EVERY;
        let delivered = self.link.delivered().map_err(|error| self.broken(&error))?;
        if delivered > self.delivered || (self.parts.iter().all(|part| part.delivered.is_some()) && self.out.is_empty())
        {
            self.alive = now;
        }
        self.delivered = delivered;
        let news = self.parts.iter_mut().filter(|part| part.delivered.is_none());
        news.take_while(|part| part.end <= delivered).for_each(|part| part.delivered = Some(now));
        // An orderly end needs no overlap.
        let overlap = if self.ending.is_some() { Duration::ZERO } else { OVERLAP };
        while let Some(part) = self.parts.pop_front_if(|part| part.delivered.is_some_and(|at| now - at >= overlap)) {
            self.feed.standing.borrow_mut().acked_ranges(&part.ranges);
        }
        if self.alive.elapsed() >= self.feed.ack_timeout() {
            let seconds = self.feed.ack_timeout().as_secs();
            let words = format!("{} took nothing for {seconds} s{}", self.link.peer, self.under_way());
            return Err(Failure::retry(words));
        }
        Ok(())
    }

    fn under_way(&self) -> String {
        let all = self.parts.iter().map(|part| &part.ranges).chain([&self.ranges]).flatten();
        match all.map(|(first, last)| last.0 - first.0 + 1).sum() {
            0_u64 => String::new(),
            n => format!(", the last {n} records are sent again"),
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        tls::broken(self.link.peer, error, &self.under_way())
    }
}
