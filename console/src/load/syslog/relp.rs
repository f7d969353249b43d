//! Syslog over RELP: the receiver acknowledges each message; what it did not is sent again on a new connection.

use super::{SyslogArgs, Writer};
use crate::load::answers::Answers;
use crate::load::args::Plan;
use crate::load::bytes::decimal;
use crate::load::drive::{Talker, Tally};
use crate::load::meter::{Due, Meter};
use crate::load::wait;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const OPEN: &[u8] = b"relp_version=0\nrelp_software=raven-gen\ncommands=syslog";

/// A transaction number has at most nine digits, then it begins again.
const TRANSACTIONS: u64 = 999_999_999;

/// Longest answer that is waited for.
const ANSWER_MAX: usize = 128 << 10;

/// A connection and its count.
pub struct RelpSender {
    id: u32,
    plan: Plan,
    window: usize,
    patience: Duration,
    writer: Writer,
    sent: u64,
    bytes: u64,
    answers: Answers,
    /// Not acknowledged, oldest first; on the present connection, with consecutive transaction numbers.
    open: VecDeque<Open>,
    /// Buffers of acknowledged messages.
    spare: Vec<Vec<u8>>,
    /// Transaction number of the oldest open message.
    first: u64,
    out: Vec<u8>,
    input: Vec<u8>,
    last_progress: Instant,
}

struct Open {
    message: Vec<u8>,
    since: Instant,
    done: bool,
}

impl RelpSender {
    /// Connects when it runs.
    pub fn new(id: u32, plan: &Plan, args: &SyslogArgs) -> Self {
        Self {
            id,
            plan: plan.clone(),
            window: args.window,
            patience: args.patience.0,
            writer: Writer::new(args.format, args.size, &plan.run),
            sent: 0,
            bytes: 0,
            answers: Answers::default(),
            open: VecDeque::with_capacity(args.window),
            spare: Vec::new(),
            first: 2,
            out: Vec::new(),
            input: Vec::new(),
            last_progress: Instant::now(),
        }
    }

    /// A connection on which `open` was said and everything that is not acknowledged is on its way again.
    fn connect(&mut self) -> io::Result<TcpStream> {
        let mut stream = self.plan.connect(self.id)?;
        self.input.clear();
        self.out.clear();
        frame(&mut self.out, 1, b"open", OPEN);
        stream.write_all(&self.out)?;
        let deadline = Instant::now() + self.patience;
        while self.next_answer()?.is_none() {
            self.read(&mut stream, deadline.saturating_duration_since(Instant::now()))?;
            if Instant::now() >= deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to `open`"));
            }
        }
        self.first = 2;
        self.out.clear();
        for (at, open) in self.open.iter().enumerate() {
            frame(&mut self.out, transaction(self.first, at), b"syslog", &open.message);
        }
        self.answers.repeated += self.open.len() as u64;
        stream.write_all(&self.out)?;
        Ok(stream)
    }

    /// Until the meter has no more and all is answered: `true`; `false` when the connection is lost.
    fn talk(&mut self, stream: &mut TcpStream, meter: &Meter) -> io::Result<()> {
        loop {
            let room = self.window - self.open.len();
            let due = if room > 0 { meter.ask(1, room as u64) } else { Due::Later(self.left()) };
            match due {
                Due::Now(count) => self.send(count, stream)?,
                Due::Done if self.open.is_empty() => return Ok(()),
                Due::Done => self.read(stream, self.left())?,
                Due::Later(time) => self.read(stream, time)?,
            }
            while let Some((number, code)) = self.next_answer()? {
                self.note(number, code);
            }
            if !self.open.is_empty() && self.left().is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
            }
        }
    }

    /// Patience that is left.
    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.last_progress.elapsed())
    }

    fn send(&mut self, count: u64, stream: &mut TcpStream) -> io::Result<()> {
        self.writer.set_time(crate::time::now());
        self.out.clear();
        let since = Instant::now();
        if self.open.is_empty() {
            self.last_progress = since;
        }
        for _ in 0..count {
            let mut message = self.spare.pop().unwrap_or_default();
            message.clear();
            self.writer.write(self.id, self.sent, &mut message);
            frame(&mut self.out, transaction(self.first, self.open.len()), b"syslog", &message);
            self.sent += 1;
            self.bytes += message.len() as u64;
            self.open.push_back(Open { message, since, done: false });
        }
        stream.write_all(&self.out)
    }

    fn read(&mut self, stream: &mut TcpStream, time: Duration) -> io::Result<()> {
        if !wait::readable(stream, time)? {
            return Ok(());
        }
        let mut chunk = [0; 16 << 10];
        match stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if self.input.len() > ANSWER_MAX => Err(io::Error::other("an answer without an end")),
            len => {
                self.input.extend_from_slice(&chunk[..len]);
                Ok(())
            }
        }
    }

    /// Takes an answer out of what was read.
    fn next_answer(&mut self) -> io::Result<Option<(u64, u16)>> {
        let Some((used, answer)) = parse(&self.input)? else { return Ok(None) };
        let found = (answer.number, answer.code);
        self.input.drain(..used);
        Ok(Some(found))
    }

    fn note(&mut self, number: u64, code: u16) {
        let at = (number + TRANSACTIONS - self.first) % TRANSACTIONS;
        let Some(open) = self.open.get_mut(at as usize).filter(|open| !open.done) else { return };
        open.done = true;
        self.answers.took(open.since.elapsed());
        *self.answers.codes.entry(code).or_default() += 1;
        if code == 200 {
            self.answers.acknowledged += 1;
        } else {
            self.answers.rejected += 1;
        }
        self.last_progress = Instant::now();
        while let Some(done) = self.open.pop_front_if(|open| open.done) {
            self.spare.push(done.message);
            self.first = transaction(self.first, 1);
        }
    }
}

impl Talker for RelpSender {
    fn run(&mut self, meter: &Meter) -> io::Result<()> {
        self.last_progress = Instant::now();
        let mut connection = Some(self.connect()?);
        loop {
            let result = match connection.as_mut() {
                Some(stream) => self.talk(stream, meter).map(|()| true),
                None => self.connect().map(|stream| {
                    self.answers.reconnects += 1;
                    connection = Some(stream);
                    false
                }),
            };
            match result {
                Ok(true) => break,
                Ok(false) => {}
                Err(_) => {
                    // An idle connection that ends says nothing about how long the receiver has been away.
                    if connection.take().is_some() && self.open.is_empty() {
                        self.last_progress = Instant::now();
                    }
                    if self.left().is_zero() {
                        break;
                    }
                    std::thread::sleep(wait::RETRY);
                }
            }
        }
        self.answers.unanswered = self.open.iter().filter(|open| !open.done).count() as u64;
        if let Some(mut stream) = connection {
            self.out.clear();
            frame(&mut self.out, transaction(self.first, self.open.len()), b"close", b"");
            let _ = stream.write_all(&self.out); // a courtesy: everything is answered already
            let _ = wait::readable(&stream, wait::RETRY);
        }
        Ok(())
    }

    fn tally(&self) -> Tally {
        Tally { sent: self.sent, bytes: self.bytes, refused: 0, answers: Some(self.answers.clone()) }
    }
}

/// The number `at` places behind `first`.
const fn transaction(first: u64, at: usize) -> u64 {
    (first - 1 + at as u64) % TRANSACTIONS + 1
}

/// `NUMBER COMMAND LENGTH DATA LF`; without data no space behind the length.
fn frame(out: &mut Vec<u8>, number: u64, command: &[u8], data: &[u8]) {
    decimal(out, number);
    out.push(b' ');
    out.extend_from_slice(command);
    out.push(b' ');
    decimal(out, data.len() as u64);
    if !data.is_empty() {
        out.push(b' ');
    }
    out.extend_from_slice(data);
    out.push(b'\n');
}

/// `NUMBER rsp LENGTH CODE TEXT`.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    number: u64,
    code: u16,
}

/// The first whole answer, and how many bytes it takes. `serverclose` is the end of the connection.
fn parse(input: &[u8]) -> io::Result<Option<(usize, Answer)>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not RELP");
    let number = |bytes: &[u8]| str::from_utf8(bytes).ok().and_then(|text| text.parse::<u64>().ok());
    let mut words = input.splitn(3, |b| *b == b' ');
    let (Some(first), Some(command), Some(rest)) = (words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    if command == b"serverclose" {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let Some(len_end) = rest.iter().position(|b| matches!(b, b' ' | b'\n')) else { return Ok(None) };
    let len = number(&rest[..len_end]).filter(|len| *len <= ANSWER_MAX as u64).ok_or_else(wrong)? as usize;
    let data_start = len_end + usize::from(len > 0);
    let Some(data) = rest.get(data_start..data_start + len) else { return Ok(None) };
    if rest.get(data_start + len).is_none() {
        return Ok(None);
    }
    let code = number(data.get(..3).unwrap_or_default()).ok_or_else(wrong)?;
    let used = first.len() + 1 + command.len() + 1 + data_start + len + 1;
    Ok(Some((used, Answer { number: number(first).ok_or_else(wrong)?, code: code as u16 })))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_is_taken_once_it_is_whole() {
        let text = b"12 rsp 6 200 OK\n13 rsp 10 500 broken\n";
        for end in 0..16 {
            assert_eq!(parse(&text[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(parse(text).unwrap(), Some((16, Answer { number: 12, code: 200 })));
        assert_eq!(parse(&text[16..]).unwrap(), Some((21, Answer { number: 13, code: 500 })));
        assert!(parse(b"x rsp y \n").is_err() && parse(b"0 serverclose 0\n").is_err());
    }

    #[test]
    fn transaction_numbers_begin_again_at_one() {
        assert_eq!(
            (transaction(2, 0), transaction(TRANSACTIONS, 1), transaction(TRANSACTIONS, 0)),
            (2, 1, TRANSACTIONS)
        );
    }
}
