//! One sender over UDP, TCP or TLS: nobody answers.

use super::tls::{TlsClient, TlsStream};
use super::{Framing, Proto, SyslogArgs, Writer};
use crate::load::args::Plan;
use crate::load::drive::{Sender, Tally};
use crate::load::udp::Udp;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};

/// Messages in one write over TCP.
const TCP_BATCH: u64 = 256;

/// A socket and its count.
pub struct StreamSender {
    id: u32,
    sent: u64,
    size: usize,
    framing: Option<Framing>,
    socket: Socket,
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

enum Socket {
    Udp(Udp),
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
}

impl StreamSender {
    /// Connects.
    pub fn open(id: u32, plan: &Plan, args: &SyslogArgs, tls: Option<&TlsClient>) -> io::Result<Self> {
        let socket = match (args.proto, tls) {
            (Proto::Udp, _) => Socket::Udp(Udp::open(plan, id, args.gso)?),
            (_, Some(client)) => Socket::Tls(Box::new(client.open(plan.connect(id)?)?)),
            (_, None) => Socket::Tcp(plan.connect(id)?),
        };
        let framing = match args.proto {
            Proto::Udp => None,
            Proto::Tcp => Some(args.framing),
            _ => Some(Framing::Octet),
        };
        Ok(Self { id, sent: 0, size: args.size, framing, socket, buffer: Vec::new(), ends: Vec::new() })
    }
}

impl Sender for StreamSender {
    type Shared = Writer;

    fn most(&self) -> u64 {
        match &self.socket {
            Socket::Udp(udp) => udp.batch() as u64,
            Socket::Tcp(_) | Socket::Tls(_) => TCP_BATCH,
        }
    }

    fn send(&mut self, count: u64, writer: &mut Writer) -> io::Result<()> {
        writer.set_time(crate::time::now());
        self.buffer.clear();
        self.ends.clear();
        for n in self.sent..self.sent + count {
            if self.framing == Some(Framing::Octet) {
                write!(self.buffer, "{} ", writer.size())?;
            }
            writer.write(self.id, n, &mut self.buffer);
            if self.framing == Some(Framing::Lf) {
                self.buffer.push(b'\n');
            }
            self.ends.push(self.buffer.len());
        }
        self.sent += count;
        match &mut self.socket {
            Socket::Udp(udp) => udp.send(&self.buffer, &self.ends),
            Socket::Tcp(stream) => stream.write_all(&self.buffer),
            Socket::Tls(stream) => stream.write_all(&self.buffer),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match &mut self.socket {
            Socket::Udp(_) => Ok(()),
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Tls(stream) => stream.finish(),
        }
    }

    fn tally(&self) -> Tally {
        let refused = if let Socket::Udp(udp) = &self.socket { udp.refused } else { 0 };
        Tally { sent: self.sent, bytes: self.sent * self.size as u64, refused, answers: None }
    }
}
