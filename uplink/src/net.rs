//! Connections to destinations. Names are resolved anew at each attempt; an attempt takes `timeout` at most.

use crate::attempt::Failure;
use raven_model::prefix::Prefix;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, UdpSocket, lookup_host};
use tokio::time::{Instant, timeout_at};

/// Longest attempt: the kernel repeats a lost SYN after 1, 3, 7 and 15 s, so a longer one finds a path that is back
/// later than a new one does.
const CONNECT_MAX: Duration = Duration::from_secs(4);

/// By which way packets leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// As the routes say; to networks of tunnels (`vpn.networks`) by the tunnel alone, also in the moment in which no route
    /// says so yet.
    Routes {
        /// Those networks.
        tunnelled: Vec<Prefix>,
        /// The device of the tunnel that carries.
        device: Option<String>,
    },
    /// By the device of the tunnel that carries alone, whatever the routes say.
    Tunnel(Option<String>),
}

impl Default for Out {
    fn default() -> Self {
        Self::Routes { tunnelled: Vec::new(), device: None }
    }
}

impl Out {
    /// Nothing needs to be looked up where nothing can be sent.
    fn check(&self) -> Result<(), Failure> {
        if *self == Self::Tunnel(None) { Err(Failure::retry(NO_TUNNEL)) } else { Ok(()) }
    }

    /// The device to keep to on the way to `addr`.
    fn device(&self, addr: IpAddr) -> io::Result<Option<&[u8]>> {
        let device = match self {
            Self::Routes { tunnelled, .. } if tunnelled.iter().all(|net| !net.holds(addr)) => return Ok(None),
            Self::Routes { device, .. } | Self::Tunnel(device) => device,
        };
        device.as_ref().map(|name| Some(name.as_bytes())).ok_or_else(|| io::Error::other(NO_TUNNEL))
    }
}

const NO_TUNNEL: &str = "no tunnel is up: see `raven vpn status`";

/// Connects to `host:port`: to the first of its addresses that answers.
pub async fn connect(to: &str, out: &Out, within: Duration) -> Result<(TcpStream, SocketAddr), Failure> {
    out.check()?;
    let deadline = Instant::now() + within.min(CONNECT_MAX);
    let addrs = resolve(to, deadline).await?;
    let mut last = None;
    for (left, addr) in addrs.iter().enumerate().map(|(n, addr)| (addrs.len() - n, *addr)) {
        let share = deadline.saturating_duration_since(Instant::now()) / left as u32;
        match timeout_at(Instant::now() + share, dial(addr, out)).await {
            Ok(Ok(stream)) => {
                // Acknowledgement latency counts, and all writes are large.
                let _ = stream.set_nodelay(true);
                return Ok((stream, addr));
            }
            Ok(Err(error)) => last = Some(format!("{addr}: {error}")),
            Err(_) => last = Some(format!("{addr}: no answer in {} s", share.as_secs())),
        }
    }
    Err(Failure::retry(format!("connect to {to}: {}", last.unwrap_or_else(|| "the name has no address".to_owned()))))
}

async fn dial(addr: SocketAddr, out: &Out) -> io::Result<TcpStream> {
    let device = out.device(addr.ip())?;
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind_device(device)?;
    socket.connect(addr).await
}

/// A socket that sends to `host:port`, and hears what comes from there alone.
pub async fn datagrams(to: &str, out: &Out, within: Duration) -> Result<(UdpSocket, SocketAddr), Failure> {
    out.check()?;
    let mut last = "the name has no address".to_owned();
    for addr in resolve(to, Instant::now() + within.min(CONNECT_MAX)).await? {
        let any: SocketAddr =
            if addr.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = async {
            let device = out.device(addr.ip())?;
            let socket = UdpSocket::bind(any).await?;
            socket.bind_device(device)?;
            socket.connect(addr).await?;
            Ok::<_, io::Error>(socket)
        };
        match socket.await {
            Ok(socket) => return Ok((socket, addr)),
            Err(error) => last = format!("{addr}: {error}"),
        }
    }
    Err(Failure::retry(format!("send to {to}: {last}")))
}

async fn resolve(to: &str, deadline: Instant) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(addr) = to.parse() {
        return Ok(vec![addr]);
    }
    match timeout_at(deadline, lookup_host(to)).await {
        Ok(Ok(addrs)) => Ok(addrs.collect()),
        Ok(Err(error)) => Err(Failure::retry(format!("look up {to}: {error}"))),
        Err(_) => Err(Failure::retry(format!("look up {to}: no answer from DNS in time"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn to_networks_of_tunnels_nothing_leaves_while_there_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let out = |net: &str, device: Option<&str>| Out::Routes {
            tunnelled: vec![net.parse().unwrap()],
            device: device.map(str::to_owned),
        };
        for closed in [out("127.0.0.0/8", None), Out::Tunnel(None)] {
            let error = connect(&to, &closed, SOON).await.unwrap_err();
            assert!(format!("{error:?}").contains(NO_TUNNEL), "{error:?}");
            assert!(datagrams(&to, &closed, SOON).await.is_err());
        }
        let accepted = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(accepted.is_err(), "a connection was made outside of the tunnel");
        // Other networks are nobody's business, and a tunnel that is there is taken.
        for open in [out("10.20.0.0/16", None), out("127.0.0.0/8", Some("lo")), Out::Tunnel(Some("lo".to_owned()))] {
            connect(&to, &open, SOON).await.unwrap();
            datagrams(&to, &open, SOON).await.unwrap();
        }
    }
}
