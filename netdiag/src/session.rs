//! Who asked for a test: what is told goes there, and when the connection is gone the test ends.

use crate::schedule::quiet::Heard;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use raven_model::query::Reply;
use serde::Serialize;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Who takes nothing for so long is gone.
const STUCK: Duration = Duration::from_secs(10);
/// The order must be there by then.
const ORDER: Duration = Duration::from_secs(5);
/// Longest order.
const ORDER_MAX: usize = 1 << 20;
/// Bytes that are told at once.
const CHUNK: usize = 32 * 1024;

/// The operator went away.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

/// One operator's connection.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    out: Vec<u8>,
    lines: u64,
    /// The answer has begun: until then it can be refused.
    is_begun: bool,
    /// Nobody reads along: this is what is kept of it.
    heard: Option<Heard>,
}

impl Session {
    /// On this connection.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(STUCK))?;
        Ok(Self { stream, out: Vec::new(), lines: 0, is_begun: false, heard: None })
    }

    /// Of a test that nobody asked for: what is said is not sent but kept in short. The test ends when the other end of
    /// this connection is closed.
    pub fn quiet(lifeline: UnixStream) -> Self {
        Self { stream: lifeline, out: Vec::new(), lines: 0, is_begun: true, heard: Some(Heard::default()) }
    }

    /// What is kept of a [`quiet`](Self::quiet) one.
    pub fn heard(self) -> Heard {
        self.heard.unwrap_or_default()
    }

    /// The order: a line.
    pub fn order(&mut self) -> Result<Vec<u8>, Gone> {
        let (mut line, until, mut chunk) = (Vec::new(), Instant::now() + ORDER, [0; 4096]);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || line.len() > ORDER_MAX {
                return Err(Gone);
            }
            self.stream.set_read_timeout(Some(left)).map_err(|_| Gone)?;
            let n = self.stream.read(&mut chunk).map_err(|_| Gone)?;
            let part = chunk.get(..n).filter(|part| !part.is_empty()).ok_or(Gone)?;
            if let Some(end) = part.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(&part[..end]);
                return Ok(line);
            }
            line.extend_from_slice(part);
        }
    }

    /// Nothing (more) comes, and why.
    pub fn refuse(&mut self, why: String) -> Result<(), Gone> {
        self.write(&Reply::Error(why))?;
        self.flush()
    }

    /// The answer is whole.
    pub fn done(&mut self) -> Result<(), Gone> {
        self.begin()?;
        self.write(&Reply::Done(self.lines))?;
        self.flush()
    }

    fn begin(&mut self) -> Result<(), Gone> {
        if std::mem::replace(&mut self.is_begun, true) { Ok(()) } else { self.write(&Reply::Ok) }
    }

    /// A line of the answer; it leaves with the next [`flush`](Self::flush).
    pub fn say(&mut self, line: &impl Serialize) -> Result<(), Gone> {
        if let Some(heard) = &mut self.heard {
            heard.hear(&serde_json::to_vec(line).map_err(|_| Gone)?);
            return Ok(());
        }
        self.begin()?;
        self.lines += 1;
        self.write(line)?;
        if self.out.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), Gone> {
        serde_json::to_writer(&mut self.out, line).map_err(|_| Gone)?;
        self.out.push(b'\n');
        Ok(())
    }

    /// Sends what was said.
    pub fn flush(&mut self) -> Result<(), Gone> {
        let sent = self.stream.write_all(&self.out);
        self.out.clear();
        sent.map_err(|_| Gone)
    }

    /// Sends what was said, then waits until one of these can be read, or then.
    pub fn wait(&mut self, sockets: &[BorrowedFd<'_>], until: Instant) -> Result<(), Gone> {
        self.flush()?;
        let mut fds: Vec<PollFd<'_>> = sockets.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        fds.push(PollFd::new(self.stream.as_fd(), PollFlags::empty()));
        ready(&mut fds, until)
    }

    /// Sends what was said, then waits until one of `read` can be read, one of `write` written or has failed, or then.
    pub fn wait_both<'a>(
        &mut self,
        read: impl Iterator<Item = BorrowedFd<'a>>,
        write: impl Iterator<Item = BorrowedFd<'a>>,
        until: Instant,
    ) -> Result<(), Gone> {
        self.flush()?;
        let read = read.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mut fds: Vec<PollFd<'_>> = read.chain(write.map(|fd| PollFd::new(fd, PollFlags::POLLOUT))).collect();
        fds.push(PollFd::new(self.stream.as_fd(), PollFlags::empty()));
        ready(&mut fds, until)
    }

    /// Sends what was said, then waits until this socket can be read, or written where that is wanted, or then.
    pub fn wait_for(&mut self, socket: BorrowedFd<'_>, events: PollFlags, until: Instant) -> Result<(), Gone> {
        self.flush()?;
        let mut fds = [PollFd::new(socket, events), PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        ready(&mut fds, until)
    }

    /// Whether somebody is there still.
    pub fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// Waits for one of these, the client's the last, or until then.
fn ready(fds: &mut [PollFd<'_>], until: Instant) -> Result<(), Gone> {
    let left = until.saturating_duration_since(Instant::now());
    match ppoll(fds, Some(left.into()), None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(_) => return Err(Gone),
    }
    let client = fds.last().and_then(PollFd::revents).unwrap_or(PollFlags::empty());
    if client.is_empty() { Ok(()) } else { Err(Gone) }
}
