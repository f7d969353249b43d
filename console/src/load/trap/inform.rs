//! One sender of informs: each is repeated until it is answered, a window of them at a time.

use super::TrapArgs;
use super::ber::{self, INTEGER, RESPONSE, SEQUENCE};
use super::notification::Notifications;
use crate::load::answers::Answers;
use crate::load::args::Plan;
use crate::load::drive::{Talker, Tally};
use crate::load::meter::{Due, Meter};
use crate::load::udp::Udp;
use crate::load::wait;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// A socket and its count.
pub struct InformSender {
    udp: Udp,
    notifications: Notifications,
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
    /// Connects.
    pub fn open(id: u32, plan: &Plan, args: &TrapArgs, notifications: Notifications) -> io::Result<Self> {
        let udp = Udp::open(plan, id, false)?;
        udp.socket().set_nonblocking(true)?;
        Ok(Self {
            udp,
            notifications,
            window: args.window,
            timeout: args.timeout.0,
            retries: args.retries,
            sent: 0,
            bytes: 0,
            answers: Answers::default(),
            open: VecDeque::with_capacity(args.window),
            buffer: Vec::new(),
        })
    }

    fn send(&mut self, n: u64) -> io::Result<()> {
        self.buffer.clear();
        self.notifications.write(n, &mut self.buffer);
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
        let mut answer = [0; 2048];
        loop {
            match self.udp.socket().recv(&mut answer) {
                Ok(len) => self.note(&answer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.udp.refused += 1,
                Err(error) => return Err(error),
            }
        }
        self.forget_done();
        Ok(())
    }

    fn note(&mut self, answer: &[u8]) {
        let Some((request, error)) = response(answer) else { return };
        let at = request.wrapping_sub(Notifications::request(self.first())) & 0x3fff_ffff;
        let Some(open) = self.open.get_mut(at as usize).filter(|open| !open.done) else { return };
        open.done = true;
        self.answers.took(open.first.elapsed());
        if error == 0 {
            self.answers.acknowledged += 1;
        } else {
            self.answers.rejected += 1;
        }
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

/// Request and error status of a response of version 2c.
fn response(message: &[u8]) -> Option<(u32, u32)> {
    let expect =
        |tag: u8, input| ber::take(input).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest));
    let (message, _) = expect(SEQUENCE, message)?;
    let (_, rest) = expect(INTEGER, message)?;
    let (_, rest) = expect(ber::OCTETS, rest)?;
    let (pdu, _) = expect(RESPONSE, rest)?;
    let (request, rest) = expect(INTEGER, pdu)?;
    let (error, _) = expect(INTEGER, rest)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
    Some((number(request), number(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_names_its_request() {
        let message = [0x30, 22, 2, 1, 1, 4, 1, b'p', 0xa2, 14, 2, 4, 0x40, 0, 0, 9, 2, 1, 0, 2, 1, 0, 0x30, 0];
        assert_eq!(response(&message), Some((0x4000_0009, 0)));
        assert!((0..message.len()).all(|end| response(&message[..end]).is_none()));
    }
}
