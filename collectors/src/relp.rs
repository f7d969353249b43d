//! RELP, the server's side, over plain TCP: a [`Session`] that answers each message once it is durable, in order.
//!
//! * An answer means that the record survives a power cut; a client repeats what has none. So a message that breaks off
//!   is not kept, and a connection may end with its collector.
//! * Transaction numbers are echoed, not checked: what they are for is the client's matter.
//! * At most [`WINDOW`] transactions wait for an answer, then nothing is read until some have it. The same holds for a
//!   client that does not read its answers, and while the ring is full.
//! * What is not RELP ends the connection, counted by reason.

mod answers;
mod frame;
#[cfg(test)]
mod tests;

pub use answers::WINDOW;

use crate::inbox::{From, Trouble};
use crate::receiver::{Session, Standing};
use crate::session::{HANDSHAKE, Opening, READS, Shared, Socket, now, read, slim};
use answers::{Answer, Answers};
use frame::{FrameError, Place, Said, Step, step};
use raven_jail::receive::{Arrived, CollectorMemory, Inspect};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

const PLAIN: Trouble = Trouble {
    reason: "relp_plain_text",
    remedy: "plain syslog on the RELP port: use 601, or switch the sender to RELP",
};
const TLS: Trouble = Trouble {
    reason: "relp_tls_hello",
    remedy: "TLS hello on the RELP port: RELP is served without TLS here; switch it off on the sender, or send syslog over TLS to a port in collect.syslog.tls",
};
const NUMBER: Trouble =
    Trouble { reason: "relp_number", remedy: "no RELP came here: look at the first bytes for what the sender speaks" };
const COMMAND: Trouble = Trouble { reason: "relp_command", ..NUMBER };
const LONG: Trouble = Trouble {
    reason: "relp_length",
    remedy: "a frame is longer than RELP allows here: look at the sender's message size",
};
const END: Trouble =
    Trouble { reason: "relp_frame_end", remedy: "a frame is not as long as it says: update the sender's RELP library" };
const UNOPENED: Trouble =
    Trouble { reason: "relp_not_open", remedy: "the sender does not begin with `open`: update its RELP library" };
const OFFERS: Trouble = Trouble {
    reason: "relp_offers",
    remedy: "the sender offers no relp_version 0 or 1, or not the command syslog: look at its settings",
};
const SLOW: Trouble =
    Trouble { reason: "relp_open_time", remedy: "the sender connected and did not begin a RELP session within 10 s" };

/// A connection.
pub struct RelpSession {
    socket: OwnedFd,
    from: From,
    shared: Rc<Shared>,
    place: Place,
    /// Received and not taken yet.
    buffer: Vec<u8>,
    answers: Answers,
    opening: Opening,
    begun: Instant,
    open: bool,
    /// The client says no more: it closed, or its bytes are no RELP.
    ended: bool,
    /// `buffer` may hold whole frames, left there until there is room for their answers.
    left: bool,
    taken: usize,
}

/// Where taking frames stopped.
#[derive(PartialEq, Eq)]
enum Stopped {
    /// More must be received.
    Hungry,
    /// Until some are answered.
    Window,
    RingFull,
    Ended,
}

impl RelpSession {
    /// Waits for `open`.
    pub fn new(socket: OwnedFd, from: From, shared: Rc<Shared>) -> Self {
        Self {
            socket,
            from,
            shared,
            place: Place::Between,
            buffer: Vec::new(),
            answers: Answers::default(),
            opening: Opening::default(),
            begun: Instant::now(),
            open: false,
            ended: false,
            left: false,
            taken: 0,
        }
    }

    /// Takes whole frames out of the buffer.
    fn take_frames(&mut self, memory: &mut CollectorMemory, inspect: &mut dyn Inspect) -> Stopped {
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        let stopped = loop {
            if self.ended {
                break Stopped::Ended;
            }
            if !self.answers.has_room() {
                break Stopped::Window;
            }
            match step(self.place, &buffer[at..], self.shared.limit()) {
                Ok(None) => break Stopped::Hungry,
                Ok(Some(Step { said, used, place })) => {
                    if !self.hear(said, memory, inspect) {
                        break Stopped::RingFull;
                    }
                    at += used;
                    self.place = place;
                }
                Err(error) => self.refuse(self.trouble(error)),
            }
        };
        self.left = stopped == Stopped::Window;
        if at < buffer.len() && stopped != Stopped::Ended {
            self.buffer = buffer;
            self.buffer.drain(..at);
            slim(&mut self.buffer);
        }
        stopped
    }

    /// Does what the client says; false when the ring has no room for its message.
    fn hear(&mut self, said: Said<'_>, memory: &mut CollectorMemory, inspect: &mut dyn Inspect) -> bool {
        match said {
            Said::Open { txnr, offers } => {
                let answer = version(offers).map_or(Answer::NotOpened, Answer::Opened);
                self.answers.owe(txnr, answer, 0);
                self.open |= answer != Answer::NotOpened;
                if answer == Answer::NotOpened {
                    self.refuse(OFFERS);
                }
            }
            _ if !self.open => self.refuse(UNOPENED),
            Said::Message { txnr, raw } => {
                let Some(batch) = self.keep(raw, false, memory, inspect) else { return false };
                self.answers.owe(txnr, Answer::Safe, batch);
            }
            Said::Piece(raw) => return self.keep(raw, true, memory, inspect).is_some(),
            Said::Close { txnr } => {
                self.answers.owe(txnr, Answer::Closed, 0);
                self.ended = true;
            }
            Said::Other { txnr } => self.answers.owe(txnr, Answer::Unknown, 0),
        }
        true
    }

    /// The batch that a message goes out with. One without a byte holds nothing to keep.
    fn keep(&self, raw: &[u8], piece: bool, memory: &mut CollectorMemory, inspect: &mut dyn Inspect) -> Option<u64> {
        if raw.is_empty() {
            return Some(0);
        }
        let From { peer, listener } = self.from;
        memory.append_piece(&Arrived { source: peer, listener, wall: now(), raw }, piece, inspect)
    }

    fn refuse(&mut self, trouble: Trouble) {
        self.shared.refuse(self.from, trouble, self.opening.bytes());
        self.ended = true;
    }

    fn trouble(&self, error: FrameError) -> Trouble {
        match error {
            _ if !self.open && self.opening.is_syslog() => PLAIN,
            _ if !self.open && self.opening.is_tls() => TLS,
            FrameError::Number => NUMBER,
            FrameError::Command => COMMAND,
            FrameError::Long(_) => LONG,
            FrameError::End => END,
        }
    }

    /// Reads once; false when nothing was there.
    fn read(&mut self) -> bool {
        let shared = Rc::clone(&self.shared);
        let mut scratch = shared.scratch();
        match read(&self.socket, &mut scratch) {
            Ok(None) => return false,
            Ok(Some(n)) => {
                self.taken += n;
                self.ended |= n == 0;
                if !self.open {
                    self.opening.add(&scratch[..n]);
                }
                // Doubled instead, a thousand of these would not fit into the memory of the role.
                self.buffer.reserve_exact(n);
                self.buffer.extend_from_slice(&scratch[..n]);
            }
            Err(_) => self.ended = true,
        }
        true
    }

    /// Writes answers whose time has come; how the connection stands then.
    fn speak(&mut self, memory: &CollectorMemory) -> Standing {
        loop {
            self.answers.make_ready(|batch| memory.is_durable(batch));
            if self.answers.ready().is_empty() {
                break;
            }
            match Socket(&self.socket).write(self.answers.ready()) {
                Ok(n) if n > 0 => self.answers.wrote(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => return Standing::Closed,
            }
        }
        let over = self.answers.is_done() && (self.ended || self.answers.is_over());
        if over { Standing::Closed } else { Standing::Open }
    }
}

impl Session for RelpSession {
    fn serve(&mut self, memory: &mut CollectorMemory, inspect: &mut dyn Inspect) -> Standing {
        self.taken = 0;
        for _ in 0..READS {
            if self.speak(memory) == Standing::Closed {
                return Standing::Closed;
            }
            match self.take_frames(memory, inspect) {
                Stopped::RingFull => return Standing::Full,
                Stopped::Window | Stopped::Ended => break,
                Stopped::Hungry if self.read() => {}
                Stopped::Hungry => return self.speak(memory),
            }
        }
        if self.take_frames(memory, inspect) == Stopped::RingFull {
            return Standing::Full;
        }
        self.speak(memory)
    }

    fn answer(&mut self, memory: &CollectorMemory) -> Standing {
        match self.speak(memory) {
            // Frames that waited for this can be taken now.
            Standing::Open if self.left && self.answers.has_room() => Standing::Full,
            standing => standing,
        }
    }

    fn awaits(&self) -> bool {
        self.answers.awaits()
    }

    fn wants_write(&self) -> bool {
        !self.answers.ready().is_empty()
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Not 0 while something may be left in the socket on purpose.
    fn taken(&self) -> usize {
        self.taken.max(1)
    }

    fn overdue(&mut self, now: Instant) -> bool {
        let overdue = !self.open && !self.ended && now.saturating_duration_since(self.begun) > HANDSHAKE;
        if overdue {
            self.refuse(SLOW);
        }
        overdue
    }

    /// What was not answered is repeated by its sender, elsewhere or later.
    fn finish(&mut self, _: &mut CollectorMemory, _: &mut dyn Inspect) -> bool {
        self.answers.goodbye();
        let _ = Socket(&self.socket).write(self.answers.ready());
        true
    }
}

/// The protocol version to answer with: the client's, when it is one of ours and it sends syslog. A client that says
/// nothing of either is taken at its word later.
fn version(offers: &[u8]) -> Option<u8> {
    let mut version = 0;
    for line in offers.split(|&b| b == b'\n') {
        let Some(equals) = line.iter().position(|&b| b == b'=') else { continue };
        let (name, value) = (&line[..equals], line[equals + 1..].trim_ascii());
        match (name, value) {
            (b"relp_version", b"0") => version = 0,
            (b"relp_version", b"1") => version = 1,
            (b"relp_version", _) => return None,
            (b"commands", list) if !list.split(|&b| b == b',').any(|command| command.trim_ascii() == b"syslog") => {
                return None;
            }
            _ => {}
        }
    }
    Some(version)
}
