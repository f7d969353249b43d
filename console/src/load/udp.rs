//! Sends datagrams: one by one as devices do, or many in one system call.

use super::args::Plan;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use std::io::{self, IoSlice};
use std::net::UdpSocket;

/// Datagrams in one system call when as many as possible are asked for; at a rate each is sent by itself.
const BATCH: usize = 64;

/// Most segments of one `UDP_SEGMENT` send (the kernel's `UDP_MAX_SEGMENTS` of old).
const SEGMENTS: usize = 64;

/// Most bytes of one `UDP_SEGMENT` send.
const GSO_BYTES: usize = 65_000;

/// Longest datagram that is segmented: with headers it fits a frame.
pub const GSO_SIZE_MAX: usize = 1400;

/// A connected UDP socket.
pub struct Udp {
    socket: UdpSocket,
    /// With `UDP_SEGMENT`: the size that is set.
    segment: Option<usize>,
    batch: usize,
    /// Sends that the kernel refused because nobody listened; they were repeated.
    pub refused: u64,
}

impl Udp {
    /// Connects. `gso`: hand the kernel many datagrams at once.
    pub fn open(plan: &Plan, sender: u32, gso: bool) -> io::Result<Self> {
        let socket = UdpSocket::bind(plan.from(sender))?;
        socket.connect(plan.to)?;
        let batch = if gso || plan.pace.rate == 0 { BATCH } else { 1 };
        Ok(Self { socket, segment: gso.then_some(0), batch, refused: 0 })
    }

    /// Datagrams that one [`Udp::send`] should be given at most.
    pub const fn batch(&self) -> usize {
        self.batch
    }

    /// The socket itself, for answers.
    pub const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sends the datagrams that `buffer` holds one behind the other, each to its end in `ends`.
    pub fn send(&mut self, buffer: &[u8], ends: &[usize]) -> io::Result<()> {
        match self.segment {
            Some(segment) => self.send_segmented(buffer, ends, segment),
            None if ends.len() == 1 => persist(&mut self.refused, || self.socket.send(buffer)).map(drop),
            None => self.send_many(buffer, ends),
        }
    }

    fn send_many(&mut self, buffer: &[u8], ends: &[usize]) -> io::Result<()> {
        let mut start = 0;
        let mut one = |end: &usize| {
            let datagram = &buffer[start..*end];
            start = *end;
            [IoSlice::new(datagram)]
        };
        let slices: Vec<[IoSlice<'_>; 1]> = ends.iter().map(&mut one).collect();
        let mut rest = &slices[..];
        while !rest.is_empty() {
            let sent = persist(&mut self.refused, || send_some(&self.socket, rest))?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// Runs of datagrams of one size go together; a shorter one may close a run.
    fn send_segmented(&mut self, buffer: &[u8], ends: &[usize], mut segment: usize) -> io::Result<()> {
        let (mut start, mut at) = (0, 0);
        while at < ends.len() {
            let size = ends[at] - start;
            let mut end = at + 1;
            while end < ends.len()
                && ends[end - 1] - start == size * (end - at)
                && ends[end] - ends[end - 1] <= size
                && end - at < SEGMENTS
                && ends[end] - start <= GSO_BYTES
            {
                end += 1;
            }
            if size != segment {
                segment = size;
                setsockopt(&self.socket, UdpGsoSegment, &i32::try_from(size).unwrap_or(i32::MAX))?;
                self.segment = Some(size);
            }
            persist(&mut self.refused, || self.socket.send(&buffer[start..ends[end - 1]]))?;
            start = ends[end - 1];
            at = end;
        }
        Ok(())
    }
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
