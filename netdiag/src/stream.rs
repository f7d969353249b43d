//! A connection to a service, plain or TLS, that waits for the network no longer than it may and notices when its operator goes.

use crate::failure::Failure;
use crate::session::{Gone, Session};
use nix::poll::PollFlags;
use rustls::ClientConnection;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::Instant;

/// Why it does not go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The operator went away.
    Gone,
    /// The connection is of no use any more: why.
    Broken(String),
}

impl From<Gone> for Trouble {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Trouble {
    /// Of an operator that is there, in words.
    pub fn words(self) -> Result<String, Failure> {
        match self {
            Self::Gone => Err(Failure::Gone),
            Self::Broken(why) => Ok(why),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Stream {
    /// Of a socket that does not block.
    pub const fn plain(socket: TcpStream) -> Self {
        Self { socket, tls: None }
    }

    /// The same, with TLS that has not begun.
    pub fn tls(socket: TcpStream, tls: ClientConnection) -> Self {
        Self { socket, tls: Some(Box::new(tls)) }
    }

    /// What TLS knows, where it is used.
    pub fn session(&self) -> Option<&ClientConnection> {
        self.tls.as_deref()
    }

    /// Until the handshake is done. Of an error of TLS the alert has left.
    pub fn handshake(&mut self, session: &mut Session, until: Instant) -> Result<(), Trouble> {
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            self.push(session, until)?;
            if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                self.pull(session, until)?;
            }
        }
        self.push(session, until)
    }

    /// Sends all of it.
    pub fn write_all(&mut self, session: &mut Session, mut bytes: &[u8], until: Instant) -> Result<(), Trouble> {
        if let Some(tls) = &mut self.tls {
            // Requests are shorter than what rustls keeps (64 KiB).
            tls.writer().write_all(bytes).map_err(|error| broken(&error))?;
            return self.push(session, until);
        }
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(error) if is_early(&error) => wait(&self.socket, session, PollFlags::POLLOUT, until)?,
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    /// What comes next; 0: the other end has ended it in order.
    pub fn read(&mut self, session: &mut Session, buffer: &mut [u8], until: Instant) -> Result<usize, Trouble> {
        loop {
            // Who sends without a pause never makes us wait.
            if session.is_gone() {
                return Err(Trouble::Gone);
            }
            if Instant::now() >= until {
                return Err(late());
            }
            let read = match &mut self.tls {
                Some(tls) => tls.reader().read(buffer),
                None => self.socket.read(buffer),
            };
            match read {
                Ok(n) => return Ok(n),
                Err(error) if is_early(&error) && self.tls.is_some() => self.pull(session, until)?,
                Err(error) if is_early(&error) => wait(&self.socket, session, PollFlags::POLLIN, until)?,
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    /// Sends what TLS wants to send.
    fn push(&mut self, session: &mut Session, until: Instant) -> Result<(), Trouble> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if is_early(&error) => wait(&self.socket, session, PollFlags::POLLOUT, until)?,
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    /// Waits for something of TLS and takes it.
    fn pull(&mut self, session: &mut Session, until: Instant) -> Result<(), Trouble> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        if Instant::now() >= until {
            return Err(late());
        }
        match tls.read_tls(&mut self.socket) {
            Ok(0) if tls.is_handshaking() => {
                Err(Trouble::Broken("it closed the connection during the handshake".to_owned()))
            }
            Ok(_) => match tls.process_new_packets() {
                Ok(_) => self.push(session, until),
                Err(error) => {
                    let _ = tls.write_tls(&mut self.socket);
                    Err(Trouble::Broken(crate::tls::words(&error)))
                }
            },
            Err(error) if is_early(&error) => wait(&self.socket, session, PollFlags::POLLIN, until),
            Err(error) => Err(broken(&error)),
        }
    }
}

fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn late() -> Trouble {
    Trouble::Broken("no answer in time".to_owned())
}

fn broken(error: &io::Error) -> Trouble {
    Trouble::Broken(match error.kind() {
        ErrorKind::ConnectionReset => "it reset the connection".to_owned(),
        ErrorKind::BrokenPipe => "it closed the connection".to_owned(),
        ErrorKind::UnexpectedEof => "it closed the connection without an end of TLS (close_notify)".to_owned(),
        _ => error.to_string(),
    })
}

fn wait(socket: &TcpStream, session: &mut Session, events: PollFlags, until: Instant) -> Result<(), Trouble> {
    if Instant::now() >= until {
        return Err(late());
    }
    Ok(session.wait_for(socket.as_fd(), events, until)?)
}
