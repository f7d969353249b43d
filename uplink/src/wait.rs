//! Waiting for descriptors that were inherited, without `unsafe`: tokio's `AsyncFd` cannot be made without it, its
//! sockets can. Only readiness is asked of the socket; bytes are read by whoever owns the descriptor.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Readiness of a Unix socket of any type (here SOCK_SEQPACKET).
#[derive(Debug)]
pub(crate) struct Readable(UnixDatagram);

impl Readable {
    /// Of a duplicate of `fd`, which becomes non-blocking: the flag belongs to both. Must be called within the runtime.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = net::UnixDatagram::from(fd.try_clone_to_owned()?);
        socket.set_nonblocking(true)?;
        UnixDatagram::from_std(socket).map(Self)
    }

    /// Waits until there may be something to read.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// There was nothing more to read: [`wait`](Self::wait) waits for the next time.
    pub(crate) fn drained(&self) {
        let _ = self.0.try_io::<()>(Interest::READABLE, || Err(io::ErrorKind::WouldBlock.into()));
    }
}
