//! Pings in a tunnel: ICMP echo by a datagram socket, which needs no capability where net.ipv4.ping_group_range lets the
//! role (icmp(7)), bound to the tunnel's device, so that none goes any other way.

use raven_model::diag::Family;
use raven_model::icmp;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::UdpSocket;

/// A socket that pings one address.
#[derive(Debug)]
pub struct Pinger {
    /// For tokio every socket of datagrams is one of UDP.
    socket: UdpSocket,
    target: IpAddr,
    /// Of this socket alone: an answer to somebody else's ping does not have it.
    cookie: [u8; 8],
}

impl Pinger {
    /// For `target`, through `device`.
    ///
    /// # Errors
    /// `PermissionDenied`: the group may not ping. `NoSuchDevice`-like ones: the device is gone.
    pub fn new(device: &str, target: IpAddr, cookie: u64) -> io::Result<Self> {
        let (domain, protocol) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(device.as_bytes()))?;
        socket.connect(&SocketAddr::new(target, 0).into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, target, cookie: cookie.to_be_bytes() })
    }

    /// Whom.
    pub const fn target(&self) -> IpAddr {
        self.target
    }

    /// Sends one. What cannot be sent is lost like one that was.
    pub fn send(&self, number: u16) {
        let packet = [icmp::request(Family::of(self.target), number).as_slice(), &self.cookie].concat();
        let _ = self.socket.try_send(&packet);
    }

    /// The number of the next answer.
    pub async fn answer(&self) -> u16 {
        loop {
            let mut packet = [0; 256];
            // Errors tell of single packets, such as "no route to host": the path shows by what is missing.
            let len = self.socket.recv(&mut packet).await.unwrap_or(0);
            if let Some(number) = self.read(packet.get(..len).unwrap_or_default()) {
                return number;
            }
        }
    }

    fn read(&self, packet: &[u8]) -> Option<u16> {
        let (number, data) = icmp::reply(Family::of(self.target), packet)?;
        (data == self.cookie).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The loopback answers pings, IPv4 and IPv6, where this group may send some.
    #[tokio::test]
    async fn the_loopback_answers() {
        for target in ["127.0.0.1", "::1"] {
            let pinger = match Pinger::new("lo", target.parse().unwrap(), 7) {
                Ok(pinger) => pinger,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    eprintln!("skipped: net.ipv4.ping_group_range does not let this group ping");
                    return;
                }
                Err(error) => panic!("{target}: {error}"),
            };
            for number in [0, 1, 65_535] {
                pinger.send(number);
                assert_eq!(pinger.answer().await, number, "{target}");
            }
            let strange = Pinger { cookie: [0; 8], ..pinger };
            assert_eq!(strange.read(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]), None);
            assert_eq!(strange.read(&[0, 0, 0]), None);
        }
    }
}
