//! The near end of the pair over which the `vpn` role gives orders. Nothing that comes over it ends this role, and nothing
//! that is not taken at its far end makes it wait.

use crate::NetError;
use raven_jail::channel::Channel;
use raven_model::control::PACKET_MAX;
use raven_model::tunnel::{FromNet, ToNet};
use serde::Deserialize;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Bytes of a complaint.
const COMPLAINT_MAX: usize = 200;

/// The near end.
pub struct Orders {
    channel: Channel,
    ready: UnixStream,
    /// What the far end has no room for yet. Nothing is read until it is sent.
    unsent: Option<Vec<u8>>,
    packet: Vec<u8>,
    is_over: bool,
}

/// What came.
#[derive(Debug)]
pub enum Heard {
    /// To be carried out.
    Order(ToNet),
    /// To be answered with why not.
    Nonsense(Option<u64>, String),
}

/// As much of an order as takes to answer it.
#[derive(Deserialize)]
struct Numbered {
    id: u64,
}

impl Orders {
    /// Comes before the jail, and within the event loop.
    pub fn new(fd: OwnedFd) -> Result<Self, NetError> {
        let io = |error| NetError::Io("the pair to the vpn role", error);
        let ready = std::os::unix::net::UnixStream::from(fd.try_clone().map_err(io)?);
        ready.set_nonblocking(true).map_err(io)?;
        let ready = UnixStream::from_std(ready).map_err(io)?;
        let channel = Channel::from_fd(fd);
        Ok(Self { channel, ready, unsent: None, packet: vec![0; PACKET_MAX], is_over: false })
    }

    /// The next order; never, once the pair is over.
    pub async fn next(&mut self) -> Heard {
        loop {
            if self.is_over {
                std::future::pending::<()>().await;
            }
            match self.step().await {
                Ok(Some(heard)) => return heard,
                Ok(None) => {}
                Err(error) => {
                    eprintln!("raven-worker net: no more orders are taken from the vpn role: {error}");
                    self.is_over = true;
                }
            }
        }
    }

    /// Sends what is unsent, or reads a packet.
    async fn step(&mut self) -> io::Result<Option<Heard>> {
        if let Some(unsent) = &self.unsent {
            self.ready.writable().await?;
            match self.ready.try_io(Interest::WRITABLE, || self.channel.send(unsent, &[])) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => {
                    self.unsent = None;
                    sent?;
                }
            }
            return Ok(None);
        }
        let ready = self.ready.ready(Interest::READABLE).await?;
        // Descriptors that come along are closed.
        let (packet, channel) = (&mut self.packet, &self.channel);
        match self.ready.try_io(Interest::READABLE, || channel.try_recv(packet, &mut Vec::new())) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // Too long: the rest of the packet is gone.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Ok(Some(Heard::Nonsense(None, error.to_string())))
            }
            Err(error) => Err(error),
            // An empty packet looks like the end.
            Ok(0) if ready.is_read_closed() => Err(io::Error::other("its end was closed")),
            Ok(len) => Ok(Some(read(self.packet.get(..len).unwrap_or_default()))),
        }
    }

    /// Says what need not be heard.
    pub fn hint(&mut self, message: &FromNet) {
        if self.unsent.is_none() {
            self.say(message);
        }
    }

    /// Answers, now or when the far end has room.
    pub fn say(&mut self, message: &FromNet) {
        let Ok(packet) = serde_json::to_vec(message) else { return };
        match self.channel.send(&packet, &[]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.unsent = Some(packet),
            // The end of the pair is seen where it is read.
            _ => {}
        }
    }
}

fn read(packet: &[u8]) -> Heard {
    match serde_json::from_slice::<ToNet>(packet) {
        Ok(order) => Heard::Order(order),
        Err(error) => {
            let id = serde_json::from_slice::<Numbered>(packet).ok().map(|numbered| numbered.id);
            let text: String = error.to_string().chars().filter(|c| !c.is_control()).take(COMPLAINT_MAX).collect();
            Heard::Nonsense(id, format!("this is no order about a tunnel: {text}"))
        }
    }
}
