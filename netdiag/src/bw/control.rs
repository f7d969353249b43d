//! The control connection, of either end.

use super::protocol::{LENGTH, State, framed, length};
use crate::failure::Failure;
use crate::session::Gone;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::Socket;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// What the other end may take for a step.
pub const STEP: Duration = Duration::from_secs(10);
/// A send that does not get on looks at the clock so often.
const LOOK: Duration = Duration::from_millis(100);

/// One.
#[derive(Debug)]
pub struct Control(Socket);

/// Waits until a socket can be read, or then; meanwhile this end does what else it has to do.
pub trait Wait {
    /// Waits.
    fn wait(&mut self, socket: BorrowedFd<'_>, until: Instant) -> Result<(), Gone>;
}

impl Control {
    /// Over a connection.
    pub fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_write_timeout(Some(LOOK))?;
        Ok(Self(socket))
    }

    /// The connection.
    pub const fn socket(&self) -> &Socket {
        &self.0
    }

    /// For polling.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Says these bytes.
    pub fn say(&self, bytes: &[u8]) -> Result<(), Failure> {
        let (until, mut left) = (Instant::now() + STEP, bytes);
        while !left.is_empty() {
            match send(self.0.as_raw_fd(), left, MsgFlags::MSG_NOSIGNAL) {
                Ok(n) => left = left.get(n..).unwrap_or_default(),
                Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < until => {}
                Err(Errno::EAGAIN | Errno::EINTR) => return Err(refused("the other end takes nothing")),
                Err(error) => return Err(refused(&format!("the control connection broke: {}", error.desc()))),
            }
        }
        Ok(())
    }

    /// Says where this end is.
    pub fn state(&self, state: State) -> Result<(), Failure> {
        self.say(&[state.byte()])
    }

    /// Says something in JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_vec(value).map_err(|error| refused(&error.to_string()))?;
        self.say(&framed(&json))
    }

    /// Some of what is there already; nothing where there is none.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn peek(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        match recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) if !buffer.is_empty() => Err(refused("the other end closed the control connection")),
            Ok(n) => Ok(n),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(refused(&format!("the control connection broke: {}", error.desc()))),
        }
    }

    /// So many bytes.
    pub fn read(&self, count: usize, wait: &mut impl Wait) -> Result<Vec<u8>, Failure> {
        let (until, mut all, mut chunk) = (Instant::now() + STEP, Vec::new(), [0; 4096]);
        while all.len() < count {
            if Instant::now() >= until {
                return Err(refused(&format!("the other end says nothing for {} s", STEP.as_secs())));
            }
            let room = chunk.len().min(count - all.len());
            // Memory follows what came, not what was announced.
            match self.peek(&mut chunk[..room])? {
                0 => wait.wait(self.as_fd(), until)?,
                n => all.extend_from_slice(&chunk[..n]),
            }
        }
        Ok(all)
    }

    /// Where the other end is.
    pub fn next(&self, wait: &mut impl Wait) -> Result<State, Failure> {
        let byte = self.read(1, wait)?;
        let byte = byte.first().copied().unwrap_or_default();
        State::of(byte).ok_or_else(|| refused(&format!("the other end says {byte}, which iperf3 does not")))
    }

    /// JSON of `most` bytes.
    pub fn read_json<T: DeserializeOwned>(&self, most: usize, wait: &mut impl Wait) -> Result<T, Failure> {
        let head = self.read(LENGTH, wait)?;
        let head = <[u8; LENGTH]>::try_from(head).map_err(|_| refused("the other end says too little"))?;
        let length = length(head, most).ok_or_else(|| refused("the other end says more than iperf3 does"))?;
        let json = self.read(length, wait)?;
        serde_json::from_slice(&json).map_err(|error| refused(&format!("the other end's JSON makes no sense: {error}")))
    }
}

/// In words.
pub fn refused(words: &str) -> Failure {
    Failure::Refused(words.to_owned())
}
