//! Syslog over TLS (RFC 5425): a [`Session`] that decrypts, finds the framing as on plain TCP, and appends each message
//! to the receive memory.
//!
//! * A full ring stops the reading: what was decrypted and found no room stays here, at most one read and one message.
//! * Without an end by `close_notify` what was begun is kept all the same, as on plain TCP.
//! * A sender that does not take what TLS has to say (an answer of the handshake, a key update) is not read.
//! * A handshake has 10 s and 256 KiB; a connection beyond it may be idle for ever.

mod credentials;
mod server;
#[cfg(test)]
mod tests;
mod trouble;

pub use credentials::Credentials;
pub use server::{CredentialError, Pem, server_config};

use crate::framing::SyslogFraming;
use crate::inbox::{From, Trouble};
use crate::receiver::{Session, Standing};
use crate::session::{HANDSHAKE, Opening, READS, Shared, Socket, now, read, slim};
use raven_jail::receive::{Arrived, CollectorMemory, Framing, Inspect};
use rustls::{ServerConfig, ServerConnection};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Longest handshake, bytes; certificate chains are some KiB.
const HANDSHAKE_MAX: usize = 256 * 1024;

/// Longest TLS record, bytes (RFC 5246, 6.2.3, with its header): so much may wait in the library for its end.
const RECORD_MAX: usize = 5 + (1 << 14) + 2048;

/// A connection.
pub struct TlsSession {
    socket: OwnedFd,
    from: From,
    shared: Rc<Shared>,
    tls: ServerConnection,
    /// Decrypted and not framed yet.
    plain: Vec<u8>,
    /// The framing's memory.
    mode: u64,
    opening: Opening,
    begun: Instant,
    /// Bytes that the handshake took so far.
    handshake: usize,
    /// The sender has said all; what is in `plain` is still to be kept.
    ended: bool,
    /// The sender takes nothing any more; it may have sent something before.
    gone: bool,
    /// Bytes that the last look at the socket brought.
    taken: usize,
}

impl TlsSession {
    /// Begins the handshake when the sender does.
    ///
    /// # Errors
    /// The library's, on a configuration that cannot serve.
    pub fn new(
        socket: OwnedFd,
        from: From,
        config: Arc<ServerConfig>,
        shared: Rc<Shared>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            socket,
            from,
            shared,
            tls: ServerConnection::new(config)?,
            plain: Vec::new(),
            mode: 0,
            opening: Opening::default(),
            begun: Instant::now(),
            handshake: 0,
            ended: false,
            gone: false,
            taken: 0,
        })
    }

    /// Frames what was decrypted; false when the ring had no room.
    fn frame(&mut self, memory: &mut CollectorMemory, inspect: &mut dyn Inspect) -> bool {
        if self.plain.is_empty() {
            slim(&mut self.plain);
            return true;
        }
        let From { peer, listener } = self.from;
        let (wall, mut full) = (now(), false);
        let framing = SyslogFraming { limit: self.shared.limit() };
        let used = framing.take(&mut self.mode, &self.plain, self.ended, &mut |raw, piece| {
            let arrived = Arrived { source: peer, listener, wall, raw };
            full = memory.append_piece(&arrived, piece, inspect).is_none();
            !full
        });
        self.plain.drain(..used);
        slim(&mut self.plain);
        !full
    }

    /// Reads once and decrypts; false when nothing was there. An error of TLS or of the socket is the end.
    fn read(&mut self) -> bool {
        let shared = Rc::clone(&self.shared);
        let mut scratch = shared.scratch();
        match read(&self.socket, &mut scratch) {
            Ok(None) => return false,
            Ok(Some(n)) => {
                if let Err(trouble) = self.take(&scratch[..n]) {
                    shared.refuse(self.from, trouble, self.opening.bytes());
                    self.ended = true;
                }
            }
            // Reset: what it said before is kept.
            Err(_) => self.ended = true,
        }
        true
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Trouble> {
        self.taken += bytes.len();
        if bytes.is_empty() {
            self.ended = true;
            // One that says nothing at all looks whether somebody is there.
            let left = self.tls.is_handshaking() && !self.opening.bytes().is_empty();
            return if left { Err(trouble::LEFT) } else { Ok(()) };
        }
        if self.tls.is_handshaking() {
            self.opening.add(bytes);
            self.handshake += bytes.len();
            if let Some(trouble) = trouble::of_opening(&self.opening) {
                return Err(trouble);
            }
        }
        // Doubled instead, a thousand of these would not fit into the memory of the role.
        self.plain.reserve_exact(bytes.len() + RECORD_MAX);
        while !bytes.is_empty() && !self.ended {
            // It takes some KiB at a time; what it decrypted is fetched at once, so that there is room again.
            let read = self.tls.read_tls(&mut bytes);
            let state = self.tls.process_new_packets().map_err(|error| trouble::of(&error, &self.opening));
            self.fetch();
            let state = state?;
            self.ended = state.peer_has_closed() || !matches!(read, Ok(1..));
        }
        if self.tls.is_handshaking() && self.handshake > HANDSHAKE_MAX { Err(trouble::LONG) } else { Ok(()) }
    }

    /// Moves decrypted bytes to where they are framed.
    fn fetch(&mut self) {
        // Its errors (nothing there, an end without close_notify) say what is known already.
        let _ = io::Read::read_to_end(&mut self.tls.reader(), &mut self.plain);
    }

    /// Writes what TLS has to say; false when the sender takes no more for now.
    fn flush(&mut self) -> bool {
        while self.tls.wants_write() && !self.gone {
            match self.tls.write_tls(&mut Socket(&self.socket)) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // What it sent before it left is still read.
                Ok(0) | Err(_) => self.gone = true,
            }
        }
        true
    }

    fn goodbye(&mut self) -> Standing {
        if !self.tls.is_handshaking() {
            self.tls.send_close_notify();
        }
        self.flush();
        Standing::Closed
    }
}

impl Session for TlsSession {
    fn serve(&mut self, memory: &mut CollectorMemory, inspect: &mut dyn Inspect) -> Standing {
        self.taken = 0;
        for _ in 0..READS {
            if !self.frame(memory, inspect) {
                return Standing::Full;
            }
            if self.ended {
                return self.goodbye();
            }
            if !self.flush() {
                // Its bytes are left where they are, which epoll will go on saying.
                self.taken = self.taken.max(1);
                return Standing::Open;
            }
            if !self.read() {
                return Standing::Open;
            }
        }
        if self.frame(memory, inspect) { Standing::Open } else { Standing::Full }
    }

    fn answer(&mut self, _: &CollectorMemory) -> Standing {
        Standing::Open
    }

    fn awaits(&self) -> bool {
        false
    }

    fn wants_write(&self) -> bool {
        self.tls.wants_write() && !self.gone
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn taken(&self) -> usize {
        self.taken
    }

    fn overdue(&mut self, now: Instant) -> bool {
        let overdue = self.tls.is_handshaking() && now.saturating_duration_since(self.begun) > HANDSHAKE;
        if overdue {
            self.shared.refuse(self.from, trouble::SLOW, self.opening.bytes());
        }
        overdue
    }

    fn drains(&self) -> bool {
        true
    }

    fn finish(&mut self, memory: &mut CollectorMemory, inspect: &mut dyn Inspect) -> bool {
        self.ended = true;
        let kept = self.frame(memory, inspect);
        self.goodbye();
        kept
    }
}
