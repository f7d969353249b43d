//! The `decode` role: reads stored records for operators, decodes them when asked to, and writes what was asked for.
//!
//! Hostile bytes are looked at here and nowhere else with any right: this process reads the ring, and holds the
//! sockets of the operators that ask. One thread serves all of them in turn, a block at a time.

use crate::select::Records;
use crate::sources::Sources;
use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_buffer::tail::{Answer, TailClient, TailError};
use raven_buffer::verify::verify;
use raven_buffer::{Block, Found, RingReader};
use raven_jail::channel::{Channel, ChannelError, recv};
use raven_model::control::{Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::query::{Query, Reply, VerifyView};
use raven_model::units::Seq;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long the store may take to answer.
const STORE: Duration = Duration::from_millis(500);
/// How often a follower looks for new records.
const FOLLOW: Duration = Duration::from_millis(200);
/// Longest question.
const QUERY_MAX: usize = 64 * 1024;
/// Clients at a time.
const CLIENTS_MAX: usize = 64;
/// An operator's program that takes nothing of a verification for so long is let go.
const STUCK: Duration = Duration::from_secs(20);

/// What a step of work came to.
pub enum Step {
    /// More can be done at once.
    Again,
    /// Nothing to do before this much time has passed.
    Later(Duration),
    /// All is written.
    Done,
}

/// What lies at a seq.
pub enum Got {
    /// This block.
    Block(Block),
    /// Nothing below this seq.
    Skip(Seq),
    /// Nothing yet.
    End,
    /// The store is being restarted.
    Busy,
}

/// Where records come from.
pub struct Ring {
    dir: PathBuf,
    tail: TailClient,
}

impl Ring {
    /// A reader of a stream's sealed segments.
    pub fn reader(&self, stream: &str) -> anyhow::Result<RingReader> {
        let reader = RingReader::open(&self.dir, stream)?;
        if reader.open_first().is_none() {
            bail!("there is no stream `{stream}`");
        }
        Ok(reader)
    }

    /// The block that holds `seq`, wherever it is.
    pub fn get(&mut self, reader: &mut RingReader, stream: &str, seq: Seq) -> anyhow::Result<Got> {
        // Again when the open segment was sealed between two looks.
        for _ in 0..4 {
            match reader.find(seq)? {
                Found::Block(block) => return Ok(Got::Block(block)),
                Found::Gap { next, .. } => return Ok(Got::Skip(next.max(seq.plus(1)))),
                Found::Before { first } => return Ok(Got::Skip(first)),
                Found::Open => {}
            }
            match self.tail.block(stream, seq, STORE) {
                Ok(Answer::Block { first, value }) => match Block::decode(first, &value) {
                    Ok(block) if block.next() > seq => return Ok(Got::Block(block)),
                    Ok(block) => return Ok(Got::Skip(block.next().max(seq.plus(1)))),
                    Err(_) => return Ok(Got::Skip(first.max(seq).plus(1))),
                },
                Ok(Answer::Next(_)) => return Ok(Got::End),
                Ok(Answer::Sealed) => reader.refresh()?,
                Err(TailError::Timeout(_)) => return Ok(Got::Busy),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Got::Busy)
    }

    /// Seq that the next record will get; `None` while the store does not answer.
    pub fn next_seq(&mut self, stream: &str) -> anyhow::Result<Option<Seq>> {
        match self.tail.block(stream, Seq(u64::MAX), STORE) {
            Ok(Answer::Next(next)) => Ok(Some(next)),
            Ok(_) | Err(TailError::Timeout(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Work for one client.
enum Job {
    /// The question is not whole yet.
    Asking(Vec<u8>),
    Records(Box<Records>),
    Sources(Box<Sources>),
    Verify(String),
    Finished,
}

struct Client {
    socket: File,
    job: Job,
    out: Vec<u8>,
    sent: usize,
    not_before: Instant,
}

/// The role's state.
pub struct Decode {
    channel: Channel,
    ring: Ring,
    clients: Vec<Client>,
    next_heartbeat: Instant,
    stopping: bool,
    packet: Vec<u8>,
}

impl Decode {
    /// Called inside the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> anyhow::Result<Self> {
        let tail = start.fds.iter().zip(fds).find_map(|(name, fd)| matches!(name, Fd::Tail { .. }).then_some(fd));
        let tail = TailClient::new(tail.context("ravend passed no way to the store")?);
        Ok(Self {
            channel,
            ring: Ring { dir: start.data.join("ring"), tail },
            clients: Vec::new(),
            next_heartbeat: Instant::now(),
            stopping: false,
            packet: vec![0; PACKET_MAX],
        })
    }

    /// Serves operators until `ravend` says stop or is gone.
    pub fn run(mut self) -> anyhow::Result<()> {
        while !self.stopping {
            heartbeat(&self.channel, &mut self.next_heartbeat)?;
            let ready = self.wait()?;
            if ready.first() == Some(&true) {
                self.control()?;
            }
            // Clients that were just taken in have no entry in `ready`.
            for (n, client) in self.clients.iter_mut().enumerate() {
                let readable = ready.get(n + 1).copied().unwrap_or(false);
                client.serve(readable, &mut self.ring, &self.channel, &mut self.next_heartbeat);
            }
            self.clients.retain(|client| !client.is_done());
        }
        Ok(())
    }

    fn wait(&self) -> anyhow::Result<Vec<bool>> {
        let now = Instant::now();
        let mut timeout = self.next_heartbeat.saturating_duration_since(now);
        let mut fds = vec![PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        for client in &self.clients {
            let (flags, when) = client.interest(now);
            timeout = timeout.min(when);
            fds.push(PollFd::new(client.socket.as_fd(), flags));
        }
        let millis = timeout.as_micros().div_ceil(1000).min(1000) as u16;
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        Ok(fds.iter().map(|fd| fd.any().unwrap_or(false)).collect())
    }

    fn control(&mut self) -> anyhow::Result<()> {
        loop {
            match self.channel.try_recv_json::<ToWorker>(&mut self.packet) {
                Ok(Some((ToWorker::Client, fds))) => {
                    if self.clients.len() < CLIENTS_MAX {
                        self.clients.extend(fds.into_iter().next().map(Client::new));
                    }
                }
                Ok(Some((ToWorker::Configure(_), _))) => {}
                Ok(Some((ToWorker::Stop, _)) | None) => {
                    self.stopping = true;
                    return Ok(());
                }
                Ok(Some(_)) => bail!("a message that the decode role does not take"),
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Client {
    fn new(socket: OwnedFd) -> Self {
        let socket = File::from(socket);
        Self { socket, job: Job::Asking(Vec::new()), out: Vec::new(), sent: 0, not_before: Instant::now() }
    }

    fn is_done(&self) -> bool {
        matches!(self.job, Job::Finished) && self.sent >= self.out.len()
    }

    /// What to poll for, and when to look again without an event.
    fn interest(&self, now: Instant) -> (PollFlags, Duration) {
        if self.sent < self.out.len() {
            return (PollFlags::POLLOUT, HEARTBEAT);
        }
        match self.job {
            Job::Asking(_) | Job::Finished => (PollFlags::POLLIN, HEARTBEAT),
            // A client that has hung up is seen as readable.
            _ => (PollFlags::POLLIN, self.not_before.saturating_duration_since(now)),
        }
    }

    fn serve(&mut self, ready: bool, ring: &mut Ring, channel: &Channel, beat: &mut Instant) {
        if let Err(error) = self.try_serve(ready, ring, channel, beat) {
            if self.sent == 0 && self.out.is_empty() {
                self.reply(&Reply::Error(format!("{error:#}")));
                let _ = self.flush();
            }
            self.out.clear();
            self.sent = 0;
            self.job = Job::Finished;
        }
    }

    fn try_serve(&mut self, ready: bool, ring: &mut Ring, channel: &Channel, beat: &mut Instant) -> anyhow::Result<()> {
        if !self.flush()? {
            return Ok(());
        }
        if ready {
            self.read(ring)?;
        }
        if Instant::now() < self.not_before {
            return Ok(());
        }
        let step = match &mut self.job {
            Job::Records(records) => records.step(ring, &mut self.out)?,
            Job::Sources(sources) => sources.step(ring, &mut self.out)?,
            Job::Verify(stream) => {
                let stream = stream.clone();
                self.verify(&stream, ring, channel, beat)?;
                Step::Done
            }
            Job::Asking(_) | Job::Finished => return Ok(()),
        };
        match step {
            Step::Again => {}
            Step::Later(wait) => self.not_before = Instant::now() + wait.min(FOLLOW),
            Step::Done => self.job = Job::Finished,
        }
        self.flush()?;
        Ok(())
    }

    /// Takes in the question, or the end of the client.
    fn read(&mut self, ring: &mut Ring) -> anyhow::Result<()> {
        let mut chunk = [0; 4096];
        let n = match recv(self.socket.as_fd(), &mut chunk, &mut Vec::new(), nix::libc::MSG_DONTWAIT) {
            Ok(0) => return Err(io::Error::from(ErrorKind::BrokenPipe).into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Job::Asking(text) = &mut self.job else { return Ok(()) };
        text.extend_from_slice(&chunk[..n]);
        if text.len() > QUERY_MAX {
            bail!("the question is longer than {QUERY_MAX} bytes");
        }
        let Some(end) = text.iter().position(|&b| b == b'\n') else { return Ok(()) };
        let query: Query = serde_json::from_slice(&text[..end]).context("not a question that this raven knows")?;
        self.job = match query {
            Query::Records(select) => Job::Records(Box::new(Records::new(select, ring)?)),
            Query::Sources { stream, since } => Job::Sources(Box::new(Sources::new(&stream, since, ring)?)),
            Query::Verify { stream } => {
                ring.reader(&stream)?;
                Job::Verify(stream)
            }
        };
        self.reply(&Reply::Ok);
        Ok(())
    }

    fn reply(&mut self, reply: &Reply) {
        // A reply always serialises: it is text.
        let _ = serde_json::to_writer(&mut self.out, reply);
        self.out.push(b'\n');
    }

    /// Checks everything, with a line of progress for each segment and heartbeats between them.
    fn verify(&mut self, stream: &str, ring: &mut Ring, channel: &Channel, beat: &mut Instant) -> anyhow::Result<()> {
        let dir = ring.dir.clone();
        let mut ask = |seq: Seq| match ring.tail.block(stream, seq, STORE) {
            Ok(Answer::Block { first, value }) => Some((first, value)),
            _ => None,
        };
        let mut last = Instant::now();
        let view = verify(&dir, stream, Some(&mut ask), |view| {
            // Without a sign of life ravend would take a long check for a hang.
            let _ = heartbeat(channel, beat);
            if last.elapsed() > FOLLOW {
                last = Instant::now();
                write_line(&mut self.out, view);
                let _ = self.flush();
            }
        })?;
        write_line(&mut self.out, &VerifyView { done: true, ..view });
        let until = Instant::now() + STUCK;
        while !self.flush()? && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Writes on; true when all is written.
    fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.out.len() {
            match raven_jail::channel::try_send(self.socket.as_fd(), &self.out[self.sent..], &[]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(true)
    }
}

fn write_line(out: &mut Vec<u8>, view: &VerifyView) {
    // Counts and text always serialise.
    let _ = serde_json::to_writer(&mut *out, view);
    let _ = out.write_all(b"\n");
}

fn heartbeat(channel: &Channel, next: &mut Instant) -> anyhow::Result<()> {
    let now = Instant::now();
    if now >= *next {
        *next = now + HEARTBEAT;
        channel.send_json(&FromWorker::Heartbeat { report: RawValue::NULL.to_owned() }, &[])?;
    }
    Ok(())
}
