//! What the sessions of the syslog collector share: a place to read into, the message limit in force, and the inbox.
//! One thread, so nothing is locked.

use crate::inbox::{From, Inbox, Trouble};
use raven_model::record::RAW_MAX;
use raven_model::units::UnixNanos;
use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes per read. A session keeps what is left of one read and no more.
pub const READ: usize = 64 * 1024;

/// Reads of one look at a socket, so that a busy sender does not hold up the others.
pub const READS: usize = 4;

/// Time to finish the handshake of a session.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// Shared by the sessions of one collector.
#[derive(Debug)]
pub struct Shared {
    limit: Cell<usize>,
    scratch: RefCell<Box<[u8]>>,
    inbox: RefCell<Inbox>,
}

impl Shared {
    /// With the longest message, bytes.
    pub fn new(limit: usize) -> Self {
        let this = Self {
            limit: Cell::new(0),
            scratch: RefCell::new(vec![0; READ].into()),
            inbox: RefCell::new(Inbox::default()),
        };
        this.set_limit(limit);
        this
    }

    /// Longest message, bytes.
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Changes it, for connections that are open too.
    pub fn set_limit(&self, limit: usize) {
        self.limit.set(limit.clamp(1, RAW_MAX));
    }

    /// The inbox.
    pub fn inbox(&self) -> RefMut<'_, Inbox> {
        self.inbox.borrow_mut()
    }

    /// Notes a connection that is closed over `trouble`.
    pub fn refuse(&self, from: From, trouble: Trouble, bytes: &[u8]) {
        self.inbox().refuse(from, trouble, bytes, now());
    }

    /// A place to read into, for the time of a look at a socket.
    pub fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }
}

/// Reads once from a non-blocking socket; `None` when nothing was there, 0 at the end.
pub fn read(socket: &OwnedFd, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match nix::unistd::read(socket, into) {
            Ok(n) => return Ok(Some(n)),
            Err(nix::errno::Errno::EAGAIN) => return Ok(None),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives back what a buffer took for a read and needs no more: a thousand connections in the middle of a message hold
/// their messages alone.
pub fn slim(buffer: &mut Vec<u8>) {
    if buffer.len() < buffer.capacity() / 4 {
        buffer.shrink_to_fit();
    }
}

/// A socket as `std::io` wants it: `write` by itself, since a collector may not call `send`.
#[derive(Debug, Clone, Copy)]
pub struct Socket<'a>(pub &'a OwnedFd);

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(self.0.as_fd(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first bytes of a connection, for the inbox.
#[derive(Debug, Default)]
pub struct Opening(Vec<u8>);

impl Opening {
    /// Adds what came as long as it is among the first.
    pub fn add(&mut self, bytes: &[u8]) {
        let room = crate::inbox::SHOWN.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// They.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when they look like syslog without anything around it: `<PRI>`, or a length before it.
    pub fn is_syslog(&self) -> bool {
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        match self.0.get(digits..) {
            Some([b'<', second, ..]) if digits == 0 => second.is_ascii_digit(),
            Some([b' ', b'<', ..]) => digits > 0,
            _ => false,
        }
    }

    /// True when they are a TLS hello.
    pub fn is_tls(&self) -> bool {
        is_tls_hello(&self.0)
    }
}

/// True when `bytes` begin as a TLS client does (RFC 8446, 5.1 and 4): a handshake record that holds a hello.
pub fn is_tls_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 3, 0..=4, _, _, 1, ..])
}

/// The wall clock.
pub fn now() -> UnixNanos {
    UnixNanos(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_tells_syslog_from_tls() {
        let opening = |bytes: &[u8]| {
            let mut opening = Opening::default();
            opening.add(bytes);
            (opening.is_syslog(), opening.is_tls())
        };
        assert_eq!(opening(b"<34>su: failed"), (true, false));
        assert_eq!(opening(b"12 <34>su: fail"), (true, false));
        assert_eq!(opening(b"\x16\x03\x01\x02\x00\x01\x00"), (false, true));
        for other in [&b""[..], b"<html>", b"GET / HTTP/1.1", b"1 open 0", b"\x16\x03", b"12"] {
            assert_eq!(opening(other), (false, false), "{}", String::from_utf8_lossy(other));
        }
    }
}
