//! One forwarder: a connection that is kept, a body that is repeated until it is answered.

use super::WineventArgs;
use super::body::Body;
use super::http::{self, Answer};
use crate::load::answers::Answers;
use crate::load::args::Plan;
use crate::load::drive::{Talker, Tally};
use crate::load::meter::Meter;
use crate::load::wait;
use std::io::{self, IoSlice, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longest wait that a receiver can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// A forwarder.
pub struct Forwarder {
    id: u32,
    plan: Plan,
    patience: Duration,
    head: String,
    body: Body,
    connection: Option<TcpStream>,
    connected: bool,
    sent: u64,
    bytes: u64,
    answers: Answers,
    request: Vec<u8>,
    input: Vec<u8>,
}

impl Forwarder {
    /// Connects when it runs. `head`: [`http::head`].
    pub fn new(id: u32, plan: &Plan, args: &WineventArgs, head: &str) -> Self {
        Self {
            id,
            plan: plan.clone(),
            patience: args.patience.0,
            head: head.to_owned(),
            body: Body::new(args, &plan.run, id),
            connection: None,
            connected: false,
            sent: 0,
            bytes: 0,
            answers: Answers::default(),
            request: Vec::new(),
            input: Vec::new(),
        }
    }

    /// Sends a body until it is answered for good, or patience is spent.
    fn deliver(&mut self, events: u64) -> io::Result<()> {
        let began = Instant::now();
        let mut tries = 0_u64;
        loop {
            tries += 1;
            if tries > 1 {
                self.answers.repeated += events;
            }
            let asked = Instant::now();
            let nap = match self.exchange(began + self.patience) {
                Ok(answer) => {
                    self.answers.took(asked.elapsed());
                    *self.answers.codes.entry(answer.status).or_default() += 1;
                    match answer.status {
                        200..300 => {
                            self.answers.acknowledged += events;
                            return Ok(());
                        }
                        429 | 503 => answer.retry_after.unwrap_or(wait::RETRY).min(RETRY_AFTER_MAX),
                        _ => {
                            self.answers.rejected += events;
                            return Ok(());
                        }
                    }
                }
                // Nobody was ever there: a wrong address, not an outage.
                Err(error) if !self.connected => return Err(error),
                Err(_) => {
                    self.connection = None;
                    // A kept connection that ended while it was idle says nothing about the receiver.
                    if tries == 1 { Duration::ZERO } else { wait::RETRY }
                }
            };
            if began.elapsed() + nap >= self.patience {
                self.answers.unanswered += events;
                return Ok(());
            }
            std::thread::sleep(nap);
        }
    }

    fn exchange(&mut self, deadline: Instant) -> io::Result<Answer> {
        if self.connection.is_none() {
            self.connection = Some(self.plan.connect(self.id)?);
            self.answers.reconnects += u64::from(self.connected);
            self.connected = true;
        }
        let stream = self.connection.as_mut().expect("just made");
        stream.set_write_timeout(Some(deadline.saturating_duration_since(Instant::now()).max(wait::RETRY)))?;
        write_both(stream, &self.request, self.body.bytes())?;
        let answer = http::read_answer(stream, &mut self.input, deadline)?;
        if answer.close {
            self.connection = None;
        }
        Ok(answer)
    }
}

impl Talker for Forwarder {
    fn run(&mut self, meter: &Meter) -> io::Result<()> {
        let batch = self.body.batch();
        while let Some(events) = meter.wait(batch, batch) {
            let stamp = crate::time::format(crate::time::now(), 3);
            self.bytes += self.body.fill(self.sent, events, &stamp)? as u64;
            self.request.clear();
            write!(self.request, "{}{}\r\n\r\n", self.head, self.body.bytes().len())?;
            self.sent += events;
            self.deliver(events)?;
        }
        Ok(())
    }

    fn tally(&self) -> Tally {
        Tally { sent: self.sent, bytes: self.bytes, refused: 0, answers: Some(self.answers.clone()) }
    }
}

/// Head and body, as far as possible in one system call.
fn write_both(stream: &mut TcpStream, head: &[u8], body: &[u8]) -> io::Result<()> {
    let wrote = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])?;
    if wrote < head.len() {
        stream.write_all(&head[wrote..])?;
    }
    stream.write_all(&body[wrote.saturating_sub(head.len())..])
}
