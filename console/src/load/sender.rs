//! One socket of the load generator.

use super::{Framing, Proto, SyslogArgs, Writer};
use crate::failure::Failure;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use std::io::{self, IoSlice, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};

/// Datagrams in one system call when as many as possible are asked for; at a rate each is sent by itself, as devices do.
const BATCH: usize = 64;

/// Messages in one write over TCP.
const TCP_BATCH: usize = 256;

/// Most segments of one `UDP_SEGMENT` send (the kernel's `UDP_MAX_SEGMENTS` of old).
const SEGMENTS: usize = 64;

/// Most bytes of one `UDP_SEGMENT` send.
const GSO_BYTES: usize = 65_000;

/// A socket and its count.
pub struct Sender {
    /// Number in the marks.
    pub id: u32,
    /// Messages sent: marks 0 to this, exclusive.
    pub sent: u64,
    /// Sends that the kernel refused because nobody listened; they were repeated.
    pub refused: u64,
    socket: Socket,
    to: SocketAddr,
    buffer: Vec<u8>,
}

enum Socket {
    Udp { socket: UdpSocket, batch: usize },
    Gso { socket: UdpSocket, size: usize },
    Tcp { stream: TcpStream, framing: Framing },
}

impl Sender {
    /// Connects.
    pub fn open(id: u32, to: SocketAddr, args: &SyslogArgs) -> Result<Self, Failure> {
        let socket = match args.proto {
            Proto::Udp => udp(id, to, args),
            Proto::Tcp => tcp(id, to, args),
        };
        let socket = socket.map_err(|source| Failure::Send { to: to.to_string(), proto: args.proto.name(), source })?;
        Ok(Self { id, sent: 0, refused: 0, socket, to, buffer: Vec::new() })
    }

    /// Most messages that one [`Sender::send`] takes.
    pub fn batch_max(&self) -> usize {
        match self.socket {
            Socket::Udp { batch, .. } => batch,
            Socket::Gso { size, .. } => SEGMENTS.min(GSO_BYTES / size),
            Socket::Tcp { .. } => TCP_BATCH,
        }
    }

    /// Writes and sends `count` messages, all of them.
    pub fn send(&mut self, count: usize, writer: &mut Writer) -> Result<(), Failure> {
        self.buffer.clear();
        for n in self.sent..self.sent + count as u64 {
            if let Socket::Tcp { framing: Framing::Octet, .. } = self.socket {
                let _ = write!(self.buffer, "{} ", writer.size());
            }
            writer.write(self.id, n, &mut self.buffer);
            if let Socket::Tcp { framing: Framing::Lf, .. } = self.socket {
                self.buffer.push(b'\n');
            }
        }
        let (proto, result) = match &self.socket {
            Socket::Udp { socket, .. } => {
                ("udp", send_datagrams(socket, &self.buffer, writer.size(), &mut self.refused))
            }
            Socket::Gso { socket, .. } => ("udp", persist(&mut self.refused, || socket.send(&self.buffer)).map(drop)),
            Socket::Tcp { stream, .. } => ("tcp", (&*stream).write_all(&self.buffer)),
        };
        self.sent += count as u64;
        result.map_err(|source| Failure::Send { to: self.to.to_string(), proto, source })
    }

    /// Tells a TCP receiver that no more comes.
    pub fn finish(&mut self) -> Result<(), Failure> {
        match &self.socket {
            Socket::Tcp { stream, .. } => {
                let failed = |source| Failure::Send { to: self.to.to_string(), proto: "tcp", source };
                stream.shutdown(Shutdown::Write).map_err(failed)
            }
            _ => Ok(()),
        }
    }
}

/// 127.1.x.y of this sender.
fn own_address(id: u32) -> SocketAddr {
    let n = id + 1;
    SocketAddr::from((Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250 + 1) as u8), 0))
}

fn udp(id: u32, to: SocketAddr, args: &SyslogArgs) -> io::Result<Socket> {
    let any = if to.is_ipv4() { SocketAddr::from(([0, 0, 0, 0], 0)) } else { SocketAddr::from(([0_u16; 8], 0)) };
    let socket = UdpSocket::bind(if args.own_addresses { own_address(id) } else { any })?;
    socket.connect(to)?;
    if !args.gso {
        return Ok(Socket::Udp { socket, batch: if args.rate == 0 { BATCH } else { 1 } });
    }
    setsockopt(&socket, UdpGsoSegment, &i32::try_from(args.size).unwrap_or(i32::MAX))?;
    Ok(Socket::Gso { socket, size: args.size })
}

fn tcp(id: u32, to: SocketAddr, args: &SyslogArgs) -> io::Result<Socket> {
    let stream = if args.own_addresses { connect_from(own_address(id), to)? } else { TcpStream::connect(to)? };
    stream.set_nodelay(true)?;
    Ok(Socket::Tcp { stream, framing: args.framing })
}

fn connect_from(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &from)?;
    connect(&fd, &to)?;
    Ok(TcpStream::from(fd))
}

/// Sends `buffer`, cut into messages of `size`.
fn send_datagrams(socket: &UdpSocket, buffer: &[u8], size: usize, refused: &mut u64) -> io::Result<()> {
    let slices: Vec<[IoSlice<'_>; 1]> = buffer.chunks(size).map(|message| [IoSlice::new(message)]).collect();
    let mut rest = &slices[..];
    while !rest.is_empty() {
        let sent = persist(refused, || send_some(socket, rest))?;
        rest = &rest[sent..];
    }
    Ok(())
}

fn send_some(socket: &UdpSocket, messages: &[[IoSlice<'_>; 1]]) -> io::Result<usize> {
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        messages.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut headers: Vec<MMsgHdr<'_>> =
        messages.iter().zip(&mut controls).map(|(message, control)| MMsgHdr::new(message, control)).collect();
    Ok(sendmmsg(socket, &mut headers, SendFlags::empty())?)
}

/// Sends again while the kernel only passes on that an earlier datagram found nobody, or has no memory just now.
fn persist(refused: &mut u64, mut send: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => *refused += 1,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                std::thread::yield_now();
            }
            other => return other,
        }
    }
}
