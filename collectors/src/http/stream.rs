//! A connection that `ravend` accepted, as tokio sees it.
//!
//! tokio's stream is used to wait only: it would write with `sendto`, which a collector may not call.

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// TLS is being agreed on.
    Handshake,
    /// Nothing is under way, or an answer is being written.
    Idle,
    /// The head of a request comes in.
    Head,
    /// A request is being served; it has time limits of its own.
    Request,
    /// It is over.
    Closing,
}

impl Phase {
    /// Longest that it may last.
    const fn limit(self) -> Option<Duration> {
        match self {
            Self::Handshake | Self::Head => Some(Duration::from_secs(15)),
            // Agents send at least every few seconds to every minute.
            Self::Idle => Some(Duration::from_mins(3)),
            Self::Request | Self::Closing => None,
        }
    }
}

/// What a connection is doing and since when: looked at once a second.
#[derive(Debug)]
pub struct Pulse {
    phase: Cell<Phase>,
    since: Cell<Instant>,
}

impl Pulse {
    /// Begins with `phase`.
    pub fn new(phase: Phase) -> Self {
        Self { phase: Cell::new(phase), since: Cell::new(Instant::now()) }
    }

    /// Goes over to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    /// As it is now.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// True when it takes too long.
    pub fn is_over(&self, now: Instant) -> bool {
        self.phase.get().limit().is_some_and(|limit| now.saturating_duration_since(self.since.get()) > limit)
    }
}

/// The descriptor with its place in epoll.
#[derive(Debug)]
pub struct Socket(TcpStream);

impl Drop for Socket {
    fn drop(&mut self) {
        // ravend holds a duplicate, so that closing alone would end nothing.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

impl Socket {
    /// `fd` must be non-blocking.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        TcpStream::from_std(fd.into()).map(Self)
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_io(Interest::READABLE, || Ok(unistd::read(&self.0, into)?))
    }

    /// Says that no more is written, and takes in what the sender still says for a while: closed with bytes unread, the
    /// connection would be reset, and the sender might never see its answer.
    pub async fn linger(&self, time: Duration) {
        if shutdown(self.0.as_raw_fd(), Shutdown::Write).is_err() {
            return;
        }
        let mut waste = vec![0; 16 * 1024];
        let drain = async {
            while self.0.readable().await.is_ok() {
                match self.read(&mut waste) {
                    Ok(1..) => tokio::task::yield_now().await,
                    Err(error) if is_passing(&error) => {}
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(time, drain).await;
    }
}

/// The two directions of a [`Socket`].
pub struct Stream {
    socket: Rc<Socket>,
    pulse: Rc<Pulse>,
}

impl Stream {
    /// Notes on `pulse` when bytes come.
    pub fn new(socket: Rc<Socket>, pulse: Rc<Pulse>) -> Self {
        Self { socket, pulse }
    }

    fn write(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        let socket = &self.socket.0;
        loop {
            ready!(socket.poll_write_ready(context))?;
            match socket.try_io(Interest::WRITABLE, || Ok(write(socket)?)) {
                Err(error) if is_passing(&error) => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

/// Not ready after all, or interrupted.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.0.poll_read_ready(context))?;
            match self.socket.read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    if read > 0 && self.pulse.phase() == Phase::Idle {
                        self.pulse.enter(Phase::Head);
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, |fd| unistd::write(fd, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |fd| nix::sys::uio::writev(fd, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.socket.0.as_raw_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}
