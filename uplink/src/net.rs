//! Connections to destinations. Names are resolved anew at each attempt; an attempt takes `timeout` at most.

use crate::attempt::Failure;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, UdpSocket, lookup_host};
use tokio::time::{Instant, timeout_at};

/// Longest attempt: the kernel repeats a lost SYN after 1, 3, 7 and 15 s, so a longer one finds a path that is back
/// later than a new one does.
const CONNECT_MAX: Duration = Duration::from_secs(4);

/// By which device packets leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Out {
    /// As the routes say.
    #[default]
    Any,
    /// By this one alone, whatever the routes say.
    Device(String),
    /// The device by which alone they may leave is not there.
    Closed,
}

impl Out {
    /// The device, where there is one to keep to.
    fn device(&self) -> Result<Option<&[u8]>, Failure> {
        match self {
            Self::Any => Ok(None),
            Self::Device(name) => Ok(Some(name.as_bytes())),
            Self::Closed => Err(Failure::retry("no tunnel is up: see `raven vpn status`")),
        }
    }
}

/// Connects to `host:port`: to the first of its addresses that answers.
pub async fn connect(to: &str, out: &Out, within: Duration) -> Result<(TcpStream, SocketAddr), Failure> {
    let device = out.device()?;
    let deadline = Instant::now() + within.min(CONNECT_MAX);
    let addrs = resolve(to, deadline).await?;
    let mut last = None;
    for (left, addr) in addrs.iter().enumerate().map(|(n, addr)| (addrs.len() - n, *addr)) {
        let share = deadline.saturating_duration_since(Instant::now()) / left as u32;
        match timeout_at(Instant::now() + share, dial(addr, device)).await {
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

async fn dial(addr: SocketAddr, device: Option<&[u8]>) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind_device(device)?;
    socket.connect(addr).await
}

/// A socket that sends to `host:port`, and hears what comes from there alone.
pub async fn datagrams(to: &str, out: &Out, within: Duration) -> Result<(UdpSocket, SocketAddr), Failure> {
    let device = out.device()?;
    let mut last = "the name has no address".to_owned();
    for addr in resolve(to, Instant::now() + within.min(CONNECT_MAX)).await? {
        let any: SocketAddr =
            if addr.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = async {
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
