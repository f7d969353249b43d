//! Which ports answer at all, in whatever way: all 65,535 of TCP or UDP at one address.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// So many sockets are open at once.
const AT_ONCE: usize = 8192;

/// How fast the other side is asked.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After each [`BURST`] ports.
    pub rest: Duration,
    /// For the answers of some thousand ports.
    pub wait: Duration,
}

/// What each queue on the way holds.
const BURST: usize = 32;

/// This process may have so many.
fn room() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// The TCP ports that take a connection or refuse one.
pub fn tcp(to: IpAddr, pace: Pace) -> io::Result<BTreeSet<u16>> {
    room()?;
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut answered = BTreeSet::new();
    for ports in (1..=u16::MAX).collect::<Vec<_>>().chunks(AT_ONCE) {
        let mut sockets = Vec::with_capacity(ports.len());
        for port in ports {
            let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
            let _ = connect(&socket, &SocketAddr::new(to, *port));
            sockets.push((*port, socket));
            if sockets.len().is_multiple_of(BURST) {
                std::thread::sleep(pace.rest);
            }
        }
        std::thread::sleep(pace.wait);
        for (port, socket) in &sockets {
            let mut fds = [PollFd::new(socket, PollFlags::OUT)];
            if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0 {
                answered.insert(*port);
            }
        }
    }
    Ok(answered)
}

/// The UDP ports from which an answer comes, or word that nobody is there.
pub fn udp(to: IpAddr, pace: Pace) -> io::Result<BTreeSet<u16>> {
    room()?;
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut answered = BTreeSet::new();
    for ports in (1..=u16::MAX).collect::<Vec<_>>().chunks(AT_ONCE) {
        let mut sockets = Vec::with_capacity(ports.len());
        for port in ports {
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            socket.connect((to, *port))?;
            socket.send(b"?")?;
            sockets.push((*port, socket));
            if sockets.len().is_multiple_of(BURST) {
                std::thread::sleep(pace.rest);
            }
        }
        std::thread::sleep(pace.wait);
        for (port, socket) in &sockets {
            match socket.recv(&mut [0; 64]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => drop(answered.insert(*port)),
            }
        }
    }
    Ok(answered)
}
