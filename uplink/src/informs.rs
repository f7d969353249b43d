//! SNMP informs to a network management system: one socket, a window of informs under way, each acknowledged by the
//! manager's Response of the same number.
//!
//! An inform that is not answered goes out again each second, sealed anew: the time that it says is that of then. A
//! manager says nothing of a notification that it does not like, so silence about one record, while others are
//! answered, counts as its refusal; silence about all is the manager's.

mod far;
mod teller;
mod window;

use crate::attempt::{Event, Failure};
use crate::feed::{Ended, Feed, told};
use crate::reader::More;
use crate::session;
use crate::source::{Source, SourceError};
use far::{Came, Far};
use raven_decode::snmp::{Heard, Report};
use raven_model::units::Seq;
use std::io;
use std::time::Duration;
use teller::Teller;
use tokio::time::{Instant, sleep_until};
use window::{Inform, REPEAT, Window};

/// Answers taken at a time, before other destinations have their turn.
const ANSWERS: usize = 256;

/// How often an inform goes out again at once because the manager's clock was not ours.
const RESYNCS: u32 = 3;

/// What is remembered from one attempt to the next.
#[derive(Debug)]
pub struct Memory {
    refusals: session::Memory,
    /// The manager said its clock to our user in the last attempt, and answered no inform.
    deaf: bool,
    /// Of the first attempt.
    started: Instant,
}

impl Default for Memory {
    fn default() -> Self {
        Self { refusals: session::Memory::default(), deaf: false, started: Instant::now() }
    }
}

/// One attempt: ask the manager for its engine, deliver until that fails or shall stop.
pub async fn attempt<S: Source>(feed: &mut Feed<S>, memory: &mut Memory) -> Ended {
    let manager = match far::manager(feed) {
        Ok(manager) => manager,
        Err(failure) => return failure.into(),
    };
    let (to, out) = (feed.addresses().swap_remove(0), feed.out.clone());
    let (within, wait) = (feed.timeout(), feed.ack_timeout());
    let opened = feed.or_stop(async move { Far::open(&to, &out, manager, within, wait).await }).await;
    let far = match opened {
        None => return Ended::Stopped,
        Some(Err(failure)) => return failure.into(),
        Some(Ok(far)) => far,
    };
    feed.event(Event::Connected);
    let mut session = Session {
        teller: Teller::new(&feed.device, &feed.stream, memory.started),
        window: Window::new(far::first_number(), feed.to.window as usize),
        feed,
        memory,
        far,
        alive: Instant::now(),
        is_answered: false,
        ending: None,
    };
    loop {
        match session.turn().await {
            Ok(false) => {}
            Ok(true) => return Ended::Stopped,
            Err(failure) => return failure.into(),
        }
    }
}

struct Session<'a, S: Source> {
    feed: &'a mut Feed<S>,
    memory: &'a mut Memory,
    far: Far,
    teller: Teller,
    window: Window,
    /// When something was acknowledged here last, or nothing was under way.
    alive: Instant,
    /// Whether anything was answered here.
    is_answered: bool,
    /// Told to stop: until when answers are waited for.
    ending: Option<Instant>,
}

/// Why no more was sent.
enum Held {
    /// There is nothing to send, or no room.
    Empty,
    /// Not before then.
    Paced(Instant),
    /// The socket's buffer is full.
    Full,
}

/// What a session waits for.
enum Woken {
    Came(io::Result<()>),
    Loaded(Result<(), SourceError>),
    Writable(io::Result<()>),
    Due,
    Stop(Duration),
}

impl<S: Source> Session<'_, S> {
    /// Takes answers, sends what may be sent, then waits for one thing to happen. True when it has come to its end.
    async fn turn(&mut self) -> Result<bool, Failure> {
        let more_came = self.answers()?;
        self.check_alive()?;
        let mut held = self.repeat()?;
        if matches!(held, Held::Empty) {
            held = self.fill()?;
        }
        if self.ending.is_some_and(|by| self.window.is_empty() || by <= Instant::now()) {
            return Ok(true);
        }
        let open = self.ending.is_none() && matches!(held, Held::Empty) && self.window.has_room();
        let has_run = self.feed.reader.has_run();
        if more_came || open && has_run {
            tokio::task::consume_budget().await;
            return Ok(false);
        }
        if self.window.is_empty() && open {
            self.feed.event(Event::CaughtUp);
        }
        let paced = if let Held::Paced(until) = held { Some(until) } else { self.window.next_due() };
        let silent = (!self.window.is_empty()).then(|| self.alive + self.feed.ack_timeout());
        let due = paced.into_iter().chain(silent).chain(self.ending).min();
        let Feed { reader, stop, .. } = &mut *self.feed;
        let woken = tokio::select! {
            came = self.far.socket.readable() => Woken::Came(came),
            loaded = reader.load(), if open => Woken::Loaded(loaded),
            writable = self.far.socket.writable(), if matches!(held, Held::Full) => Woken::Writable(writable),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Woken::Due,
            grace = told(stop), if self.ending.is_none() => Woken::Stop(grace),
        };
        match woken {
            Woken::Came(Err(error)) | Woken::Writable(Err(error)) => return Err(self.far.broken(&error)),
            Woken::Loaded(Err(error)) => return Err(Failure::retry(error.0)),
            Woken::Stop(grace) => self.ending = Some(Instant::now() + grace),
            Woken::Came(Ok(())) | Woken::Writable(Ok(())) | Woken::Loaded(Ok(())) | Woken::Due => {}
        }
        Ok(false)
    }

    /// Takes the answers that have come; true when there may be more.
    fn answers(&mut self) -> Result<bool, Failure> {
        let mut acked = Vec::new();
        let mut ended = Ok(true);
        for _ in 0..ANSWERS {
            let window = &self.window;
            let judged = match self.far.hear(|number| window.holds(number)) {
                Ok(Came::Nothing) => {
                    ended = Ok(false);
                    break;
                }
                Ok(Came::Other) => Ok(()),
                Ok(Came::Answer(heard)) => self.heard(heard, &mut acked),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = judged {
                ended = Err(failure);
                break;
            }
        }
        // What came before a failure counts.
        if !acked.is_empty() {
            self.alive = Instant::now();
            self.feed.standing.borrow_mut().acked(acked);
        }
        ended
    }

    fn heard(&mut self, heard: Heard, acked: &mut Vec<Seq>) -> Result<(), Failure> {
        if matches!(heard, Heard::Response { .. }) {
            (self.is_answered, self.memory.deaf) = (true, false);
        }
        match heard {
            Heard::Response { id, error: 0 } => {
                acked.extend(self.window.answered(id));
                Ok(())
            }
            Heard::Response { id, error } => self.refused(id, &error_status(error), Instant::now() + REPEAT),
            Heard::Report { id, what } => self.reported(id, what),
        }
    }

    fn reported(&mut self, number: i32, what: Option<Report>) -> Result<(), Failure> {
        let peer = self.far.peer;
        match what {
            Some(Report::NotInTimeWindow) => {
                // Its clock was taken from the Report, if that was signed.
                if let Some(inform) = self.window.get_mut(number).filter(|inform| inform.sent <= RESYNCS) {
                    inform.due = Instant::now();
                }
                Ok(())
            }
            Some(Report::UnknownEngine) => Err(Failure::retry(format!("{peer} is another engine now: asked anew"))),
            Some(what) => self.far.failure(what).map_or(Ok(()), Err),
            None => Err(Failure::retry(format!("{peer} reports what is none of USM's reasons"))),
        }
    }

    /// The manager does not take this one. It becomes a dead letter when it was refused often enough while others were
    /// taken, and otherwise goes out again at `due`.
    fn refused(&mut self, number: i32, why: &str, due: Instant) -> Result<(), Failure> {
        let acked = self.feed.standing.borrow().acked_count();
        // An answer that comes twice counts once.
        let Some(inform) = self.window.get_mut(number).filter(|inform| inform.sent > 0) else { return Ok(()) };
        self.memory.refusals.refused(inform.seq, inform.acked_before);
        let Some(often) = self.memory.refusals.poison(inform.seq, || acked) else {
            inform.again(acked, Instant::now(), due);
            return Ok(());
        };
        let Some(inform) = self.window.forget(number) else { return Ok(()) };
        self.memory.refusals.forget(inform.seq);
        let (record, listener) = inform.record();
        self.feed.dead.bury(&self.feed.standing, inform.seq, &record, listener, &format!("{often}: {why}"))
    }

    /// Whether anything is acknowledged at all.
    fn check_alive(&mut self) -> Result<(), Failure> {
        let wait = self.feed.ack_timeout();
        if self.window.is_empty() {
            self.alive = Instant::now();
        }
        if self.ending.is_some() || self.alive.elapsed() < wait {
            return Ok(());
        }
        // Where the other lane's are answered, the oldest one may be what this one hangs on.
        let acked = self.feed.standing.borrow().acked_count();
        if let Some(oldest) = self.window.oldest().filter(|oldest| oldest.acked_before != acked) {
            self.memory.refusals.refused(oldest.seq, oldest.acked_before);
        }
        let (peer, under_way) = (self.far.peer, self.window.len());
        let words = format!("{peer} acknowledged nothing for {} s, {under_way} informs under way", wait.as_secs());
        let words = format!("{words}{}", self.far.silence());
        // Twice in a row: what let its clock through let the informs through, too.
        let was_deaf = std::mem::replace(&mut self.memory.deaf, self.far.said_its_clock() && !self.is_answered);
        Err(if was_deaf && self.memory.deaf { Failure::config(words) } else { Failure::retry(words) })
    }

    /// Sends those again that are due.
    fn repeat(&mut self) -> Result<Held, Failure> {
        let (now, wait) = (Instant::now(), self.feed.ack_timeout());
        for number in self.window.due(now) {
            let Some(inform) = self.window.get_mut(number) else { continue };
            if inform.sent == 0 {
                inform.since = now;
            }
            if now.duration_since(inform.since) >= wait {
                // Others were acknowledged meanwhile: `check_alive` saw to that.
                let why = format!("no answer in {} s, and others were answered", wait.as_secs());
                self.refused(number, &why, now)?;
                continue;
            }
            if let Err(until) = self.feed.path.borrow_mut().ready(self.feed.lane, now) {
                return Ok(Held::Paced(until));
            }
            let message = match self.far.inform(number, &inform.varbinds) {
                Ok(message) => message,
                Err(why) => {
                    self.unfit(number, &why)?;
                    continue;
                }
            };
            match self.far.socket.try_send(&message) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Held::Full),
                Err(error) => return Err(self.far.broken(&error)),
            }
            self.feed.path.borrow_mut().spend(message.len());
            let is_first = inform.sent == 1;
            inform.sent += 1;
            inform.due = now + REPEAT.min(wait);
            if is_first {
                self.window.lost(now);
            }
        }
        Ok(Held::Empty)
    }

    /// It went out and can no longer: the manager says now that it takes less.
    fn unfit(&mut self, number: i32, why: &str) -> Result<(), Failure> {
        let Some(inform) = self.window.forget(number) else { return Ok(()) };
        let (record, listener) = inform.record();
        self.feed.dead.bury(&self.feed.standing, inform.seq, &record, listener, why)
    }

    /// Sends new ones while it may.
    fn fill(&mut self) -> Result<Held, Failure> {
        if self.ending.is_some() || !self.window.has_room() || !self.feed.reader.has_run() {
            return Ok(Held::Empty);
        }
        let Self { feed, memory, far, teller, window, .. } = self;
        let Feed { reader, standing, dead, lane, path, .. } = &mut **feed;
        let acked = standing.borrow().acked_count();
        let mut path = path.borrow_mut();
        let (mut held, mut failure, mut sent) = (Held::Empty, None, false);
        reader.take(|seq, record, listener| {
            if let Err(until) = path.ready(*lane, Instant::now()) {
                held = Held::Paced(until);
                return More::Undo;
            }
            let varbinds = teller.varbinds(seq, record);
            let poison = memory.refusals.poison(seq, || standing.borrow().acked_count());
            let message = match poison.map_or_else(|| far.inform(window.next(), &varbinds), Err) {
                Ok(message) => message,
                Err(why) => {
                    failure = dead.bury(standing, seq, record, listener, &why).err();
                    if failure.is_some() {
                        return More::Undo;
                    }
                    memory.refusals.forget(seq);
                    return More::Yes;
                }
            };
            match far.socket.try_send(&message) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    held = Held::Full;
                    return More::Undo;
                }
                Err(error) => {
                    failure = Some(far.broken(&error));
                    return More::Undo;
                }
            }
            path.spend(message.len());
            window.send(Inform::new(seq, record, listener, varbinds, acked));
            sent = true;
            if window.has_room() { More::Yes } else { More::No }
        });
        drop(path);
        if sent {
            self.feed.event(Event::Sent);
        }
        failure.map_or(Ok(held), Err)
    }
}

/// error-status (RFC 3416, 3), in words.
fn error_status(status: i32) -> String {
    let name = match status {
        1 => " (tooBig)",
        5 => " (genErr)",
        13 => " (resourceUnavailable)",
        16 => " (authorizationError)",
        _ => "",
    };
    format!("answered with error-status {status}{name}")
}
