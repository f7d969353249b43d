//! Whether a port can be connected to: each address of a name, one after the other, and how each attempt ends.

use crate::failure::{Failure, within};
use crate::probe::{local_words, said};
use crate::rtt::micros;
use crate::session::Session;
use crate::targets::resolve_all;
use nix::poll::PollFlags;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use raven_model::diag::services::{Connection, Outcome, TcpResult, TcpTest};
use raven_model::diag::{Event, Family, Way};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Makes the test and tells what came of it.
pub fn run(test: &TcpTest, session: &mut Session) -> Result<(), Failure> {
    within("the time to wait in milliseconds", test.timeout_ms.into(), 10, 60_000)?;
    let found = look_up(&test.target, test.port, &test.way)?;
    let mut connections = Vec::new();
    for address in found.addresses {
        let (connection, _) = connect(session, address, &test.way, Duration::from_millis(test.timeout_ms.into()))?;
        session.say(&Event::Connection(connection.clone()))?;
        connections.push(connection);
    }
    let result = TcpResult { target: test.target.clone(), port: test.port, resolve_us: found.took_us, connections };
    Ok(session.say(&Event::Tcp(result))?)
}

/// What a target stands for.
#[derive(Debug)]
pub struct Found {
    /// With the port.
    pub addresses: Vec<SocketAddr>,
    /// How long the lookup took, microseconds.
    pub took_us: u32,
}

/// Addresses of a target. The lookup is the system's: it leaves as routes say, whatever the way.
pub fn look_up(target: &str, port: u16, way: &Way) -> Result<Found, Failure> {
    within("the port", port.into(), 1, 65_535)?;
    let began = Instant::now();
    let mut addresses =
        resolve_all(target, way).map_err(|why| Failure::Refused(format!("{}: {why}", target.escape_debug())))?;
    let took_us = micros(began.elapsed());
    for address in &mut addresses {
        address.set_port(port);
    }
    Ok(Found { addresses, took_us })
}

/// One address after the other until one is connected.
pub fn connect_first(
    session: &mut Session,
    addresses: &[SocketAddr],
    way: &Way,
    timeout: Duration,
) -> Result<(Vec<Connection>, Option<TcpStream>), Failure> {
    let mut connections = Vec::new();
    for address in addresses {
        let (connection, stream) = connect(session, *address, way, timeout)?;
        session.say(&Event::Connection(connection.clone()))?;
        connections.push(connection);
        if stream.is_some() {
            return Ok((connections, stream));
        }
    }
    Ok((connections, None))
}

/// Connects, and says how that ended; the stream does not block.
///
/// # Errors
/// Of the way: there is no such interface, or no such address of the box.
pub fn connect(
    session: &mut Session,
    address: SocketAddr,
    way: &Way,
    timeout: Duration,
) -> Result<(Connection, Option<TcpStream>), Failure> {
    let socket = open(address, way).map_err(|error| Failure::socket(&error, way))?;
    let began = Instant::now();
    let until = began + timeout;
    let connection =
        |outcome| Connection { address, outcome, time_us: micros(began.elapsed()), source: None, why: None, by: None };
    let mut error = match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Some(error),
        _ => None,
    };
    while error.is_none() && socket.peer_addr().is_err() {
        if Instant::now() >= until {
            let why = Some("no answer".to_owned());
            return Ok((Connection { why, ..connection(Outcome::Timeout) }, None));
        }
        session.wait_for(socket.as_fd(), PollFlags::POLLOUT, until)?;
        error = socket.take_error().unwrap_or_else(Some);
    }
    if let Some(error) = error {
        let (outcome, why, by) = judge(&error, &socket, address);
        return Ok((Connection { why: Some(why), by, ..connection(outcome) }, None));
    }
    let source = socket.local_addr().ok().and_then(|own| own.as_socket());
    // A connection that is there survives what routers say in passing.
    let _ = hear_errors(&socket, address, false);
    let _ = socket.set_tcp_nodelay(true);
    Ok((Connection { source, ..connection(Outcome::Connected) }, Some(socket.into())))
}

fn open(address: SocketAddr, way: &Way) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = &way.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(source) = way.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    hear_errors(&socket, address, true)?;
    Ok(socket)
}

/// Whether what routers say is kept on the error queue (`IP_RECVERR`).
fn hear_errors(socket: &Socket, address: SocketAddr, on: bool) -> io::Result<()> {
    let set = match Family::of(address.ip()) {
        Family::Ipv4 => setsockopt(socket, Ipv4RecvErr, &on),
        Family::Ipv6 => setsockopt(socket, Ipv6RecvErr, &on),
    };
    set.map_err(io::Error::from)
}

/// How it ended, why, and who says so.
fn judge(error: &io::Error, socket: &Socket, address: SocketAddr) -> (Outcome, String, Option<IpAddr>) {
    let family = Family::of(address.ip());
    let own = socket.local_addr().ok().and_then(|own| own.as_socket()).map(|own| own.ip());
    let local = local_words(error.raw_os_error().unwrap_or_default());
    match error.kind() {
        ErrorKind::ConnectionRefused => match said(socket.as_fd(), family) {
            // A firewall may refuse by ICMP, in its own name or the target's.
            Some((by, what)) => {
                let words = what.words(family).unwrap_or(local);
                (Outcome::Refused, words, by.filter(|by| *by != address.ip()))
            }
            None => (Outcome::Refused, "nobody listens there".to_owned(), None),
        },
        ErrorKind::TimedOut => (Outcome::Timeout, "no answer".to_owned(), None),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => match said(socket.as_fd(), family) {
            // What the box tells itself when nobody answers ARP comes as ICMP from its own address.
            Some((by, what)) if by.is_some() && by != own => {
                (Outcome::Unreachable, what.words(family).unwrap_or(local), by)
            }
            _ => (Outcome::Unreachable, local, None),
        },
        _ => match said(socket.as_fd(), family) {
            Some((by, what)) if by.is_some() => (Outcome::Unreachable, what.words(family).unwrap_or(local), by),
            _ => (Outcome::Failed, local, None),
        },
    }
}
