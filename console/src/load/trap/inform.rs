//! One sender of informs: each is repeated until it is answered, a window of them at a time.
//!
//! Of version 3 the receiver's engine and its clock are asked for first.

use super::TrapArgs;
use super::notification::Notifications;
use crate::load::answers::Answers;
use crate::load::args::Plan;
use crate::load::drive::{Talker, Tally};
use crate::load::meter::{Due, Meter};
use crate::load::udp::Udp;
use crate::load::wait;
use raven_decode::snmp::{Heard, Manager, Report, Seconds, User};
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// Two are needed, and a look whether there is one more.
const QUESTIONS: i32 = 3;

/// A socket and its count.
pub struct InformSender {
    udp: Udp,
    varbinds: Notifications,
    manager: Manager,
    began: Instant,
    window: usize,
    timeout: Duration,
    retries: u32,
    sent: u64,
    bytes: u64,
    answers: Answers,
    /// Without an answer, oldest first; the last one has number `sent - 1`.
    open: VecDeque<Open>,
    buffer: Vec<u8>,
}

struct Open {
    first: Instant,
    last: Instant,
    repeats: u32,
    done: bool,
}

impl InformSender {
    /// Connects; by version 3 where there is a user.
    pub fn open(id: u32, plan: &Plan, args: &TrapArgs, user: Option<User>) -> io::Result<Self> {
        let udp = Udp::open(plan, id, false)?;
        udp.socket().set_nonblocking(true)?;
        let manager = match user {
            Some(user) => Manager::by_user(user, crate::time::now().0).map_err(io::Error::other)?,
            None => Manager::by_community(args.community.as_bytes()),
        };
        let mut sender = Self {
            udp,
            varbinds: Notifications::varbinds(&plan.run, id),
            manager,
            began: Instant::now(),
            window: args.window,
            timeout: args.timeout.0,
            retries: args.retries,
            sent: 0,
            bytes: 0,
            answers: Answers::default(),
            open: VecDeque::with_capacity(args.window),
            buffer: Vec::new(),
        };
        sender.introduce()?;
        Ok(sender)
    }

    /// Asks for what has to be known of the receiver's engine.
    fn introduce(&mut self) -> io::Result<()> {
        let tries = i32::try_from(self.retries).unwrap_or(i32::MAX).saturating_add(QUESTIONS);
        for number in 1..=tries {
            let Some(question) = self.manager.question(number, self.now()) else { return Ok(()) };
            self.udp.send(&question, &[question.len()])?;
            if !wait::readable(self.udp.socket(), self.timeout)? {
                continue;
            }
            while let Some(heard) = self.hear(|asked| asked == number)? {
                match heard {
                    Heard::Report { what: Some(Report::UnknownEngine | Report::NotInTimeWindow), .. } => {}
                    other => return Err(io::Error::other(refusal(other))),
                }
            }
        }
        Err(io::Error::other("it does not say its SNMP engine"))
    }

    /// The next answer to a number that `waits`, if one is there.
    fn hear(&mut self, waits: impl Fn(i32) -> bool) -> io::Result<Option<Heard>> {
        let mut answer = [0; 2048];
        loop {
            match self.udp.socket().recv(&mut answer) {
                Ok(len) => {
                    if let Ok(Some(heard)) = self.manager.hear(&answer[..len], &waits, self.now()) {
                        return Ok(Some(heard));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.udp.refused += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn now(&self) -> Seconds {
        Seconds(self.began.elapsed().as_secs())
    }

    fn send(&mut self, n: u64) -> io::Result<()> {
        self.buffer.clear();
        self.varbinds.write(n, &mut self.buffer);
        self.buffer = self.manager.inform(Notifications::request(n).cast_signed(), &self.buffer, self.now());
        self.udp.send(&self.buffer, &[self.buffer.len()])
    }

    fn send_new(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            let now = Instant::now();
            self.send(self.sent)?;
            self.sent += 1;
            self.bytes += self.buffer.len() as u64;
            self.open.push_back(Open { first: now, last: now, repeats: 0, done: false });
        }
        Ok(())
    }

    /// Number of the oldest that is open.
    fn first(&self) -> u64 {
        self.sent - self.open.len() as u64
    }

    fn repeat_late(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for (at, n) in (self.first()..self.sent).enumerate() {
            let Some(open) = self.open.get_mut(at).filter(|open| !open.done && now - open.last >= self.timeout) else {
                continue;
            };
            if open.repeats == self.retries {
                open.done = true;
                self.answers.unanswered += 1;
                continue;
            }
            open.repeats += 1;
            open.last = now;
            self.answers.repeated += 1;
            self.send(n)?;
        }
        self.forget_done();
        Ok(())
    }

    fn forget_done(&mut self) {
        while self.open.pop_front_if(|open| open.done).is_some() {}
    }

    /// Waits at most `time` for answers, and takes all that are there.
    fn take_answers(&mut self, time: Duration) -> io::Result<()> {
        if !wait::readable(self.udp.socket(), time)? {
            return Ok(());
        }
        let (first, open) = (self.first(), self.open.len() as u32);
        while let Some(heard) = self.hear(|number| place(number, first) < open)? {
            self.note(heard, first);
        }
        self.forget_done();
        Ok(())
    }

    fn note(&mut self, heard: Heard, first: u64) {
        let at = place(heard.id(), first) as usize;
        let Some(open) = self.open.get_mut(at).filter(|open| !open.done) else { return };
        match heard {
            // Repeated by the clock that it said.
            Heard::Report { what: Some(Report::NotInTimeWindow), .. } => return,
            Heard::Response { error: 0, .. } => self.answers.acknowledged += 1,
            Heard::Response { .. } | Heard::Report { .. } => self.answers.rejected += 1,
        }
        open.done = true;
        self.answers.took(open.first.elapsed());
    }
}

/// Where the inform with this number stands behind the one with number `first`.
fn place(number: i32, first: u64) -> u32 {
    number.cast_unsigned().wrapping_sub(Notifications::request(first)) & 0x3fff_ffff
}

/// Why it cannot be told anything.
fn refusal(heard: Heard) -> String {
    match heard {
        Heard::Report { what: Some(what), .. } => format!("it does not let the user in: {what}"),
        _ => "it answers a question for its SNMP engine with something else".to_owned(),
    }
}

impl Talker for InformSender {
    fn run(&mut self, meter: &Meter) -> io::Result<()> {
        let mut checked = Instant::now();
        loop {
            let room = self.window - self.open.len();
            // Late ones are looked for some times in a timeout.
            let due = if room > 0 { meter.ask(1, room as u64) } else { Due::Later(self.timeout / 8) };
            match due {
                Due::Now(count) => {
                    self.send_new(count)?;
                    self.take_answers(Duration::ZERO)?;
                }
                Due::Later(time) => self.take_answers(time)?,
                Due::Done if self.open.is_empty() => return Ok(()),
                Due::Done => self.take_answers(self.timeout / 8)?,
            }
            if checked.elapsed() >= self.timeout / 8 {
                checked = Instant::now();
                self.repeat_late()?;
            }
        }
    }

    fn tally(&self) -> Tally {
        let (refused, answers) = (self.udp.refused, Some(self.answers.clone()));
        Tally { sent: self.sent, bytes: self.bytes, refused, answers }
    }
}
