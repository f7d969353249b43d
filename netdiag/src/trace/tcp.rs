//! Probes that begin a connection (RFC 9293): a SYN that lives for so many hops. A router's word lies on the error queue of the
//! socket that sent it; the target says SYN and ACK, or RST.
//!
//! All probes of a flow come from one port, so that they go one way. The kernel lets one connection have these addresses and ports
//! at a time, so a socket is closed before the next one of its flow begins; without lingering, which answers SYN and ACK with RST
//! and leaves nothing in TIME-WAIT.

use super::path::flow_port;
use super::run::{Word, says};
use super::{Says, Step};
use crate::probe::{What, any, hear_errors, local_words, said_at, set_hops};
use raven_model::diag::{Family, Way};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// Ports that are tried where others have them.
const PORTS: u16 = 16;
/// From one to the next that is tried.
const STRIDE: u16 = 64;

/// The flows of one trace.
#[derive(Debug)]
pub struct Syns {
    to: SocketAddr,
    way: Way,
    flows: Vec<Flow>,
}

#[derive(Debug)]
struct Flow {
    port: u16,
    open: Option<Open>,
}

/// A connection that has begun.
#[derive(Debug)]
struct Open {
    number: u64,
    socket: Socket,
    /// How it ended, where that was known at once.
    error: Option<io::Error>,
}

impl Syns {
    /// So many to this target.
    pub fn new(to: SocketAddr, way: &Way, flows: u8) -> Self {
        let flow = |n| Flow { port: flow_port(to.ip(), n), open: None };
        Self { to, way: way.clone(), flows: (0..flows).map(flow).collect() }
    }

    /// Sends one, instead of the one before of its flow.
    ///
    /// # Errors
    /// There is no such interface or address, no route, or others have all the ports.
    pub fn send(&mut self, step: Step) -> io::Result<()> {
        let flow = &mut self.flows[usize::from(step.flow)];
        flow.open = None;
        let mut tries = 0;
        loop {
            match begin(self.to, &self.way, flow.port, step.hop) {
                Ok((socket, error)) => {
                    flow.open = Some(Open { number: step.number, socket, error });
                    return Ok(());
                }
                Err(error) if is_taken(&error) && tries < PORTS => {
                    tries += 1;
                    flow.port = flow.port.checked_add(STRIDE).unwrap_or(61_000);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Those of which something may be heard: they can be written then.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.flows.iter().filter_map(|flow| flow.open.as_ref()).map(|open| open.socket.as_fd())
    }

    /// Something is known already, and no socket will tell.
    pub fn is_known(&self) -> bool {
        self.flows.iter().any(|flow| flow.open.as_ref().is_some_and(|open| open.error.is_some()))
    }

    /// What was heard.
    pub fn hear(&mut self, words: &mut Vec<Word>) {
        for (n, flow) in (0..).zip(&mut self.flows) {
            let Some(outcome) = flow.open.as_mut().and_then(|open| outcome(open, self.to)) else { continue };
            let number = flow.open.take().map(|open| open.number);
            if let Some((by, says, at)) = outcome {
                words.push(Word { number, flow: n, by, says, at });
            }
        }
    }
}

/// Somebody else has these addresses and ports.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrInUse) || error.raw_os_error() == Some(nix::libc::EADDRNOTAVAIL)
}

fn begin(to: SocketAddr, way: &Way, port: u16, hops: u8) -> io::Result<(Socket, Option<io::Error>)> {
    let family = Family::of(to.ip());
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_reuse_address(true)?;
    if let Some(interface) = &way.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(&SocketAddr::new(way.source.unwrap_or_else(|| any(family)), port).into())?;
    hear_errors(&socket, family)?;
    set_hops(&socket, family, hops)?;
    match socket.connect(&to.into()) {
        Ok(()) => Ok((socket, None)),
        Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => Ok((socket, None)),
        // It was answered already.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok((socket, Some(error))),
        Err(error) => Err(error),
    }
}

/// Who said what, and when; nothing where nobody has, and nothing inside where it is no word of anybody.
#[expect(clippy::option_option, reason = "no word yet, and a word that says nothing")]
fn outcome(open: &mut Open, to: SocketAddr) -> Option<Option<(IpAddr, Says, Instant)>> {
    let family = Family::of(to.ip());
    let error = open.error.take().or_else(|| open.socket.take_error().ok().flatten());
    let Some(error) = error else {
        return open.socket.peer_addr().is_ok().then(|| Some((to.ip(), Says::Reached, Instant::now())));
    };
    let Some((Some(by), what, at)) = said_at(open.socket.as_fd(), family) else {
        // RST says so itself; everything else is of this box.
        let is_reset = matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset);
        return Some(is_reset.then(|| (to.ip(), Says::Reached, Instant::now())));
    };
    let own = open.socket.local_addr().ok().and_then(|own| own.as_socket()).map(|own| own.ip());
    // What the box tells itself when nobody answers ARP comes as ICMP from its own address.
    if own == Some(by) && matches!(what, What::Icmp { .. }) {
        return Some(Some((by, Says::Unreachable(local_words(nix::libc::EHOSTUNREACH)), at)));
    }
    Some(says(what, family, by == to.ip(), true).map(|says| (by, says, at)))
}
