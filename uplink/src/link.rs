//! A connection to a destination, plain or TLS; what is written waits in an [`Outbox`].

use crate::attempt::Failure;
use crate::feed::Feed;
use crate::net;
use crate::proxy::Proxy;
use crate::source::Source;
use crate::tls::{self, Tls};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

/// Longest greeting.
const GREETING_MAX: usize = 32 * 1024;

/// How a connection is to be made.
#[derive(Clone)]
pub struct Dial {
    /// `host:port`, in the order in which they are tried.
    addresses: Vec<String>,
    out: net::Out,
    within: Duration,
    proxy: Option<Proxy>,
    tls: Option<Tls>,
    /// Whether the far end says a line before TLS begins.
    greeting: bool,
}

impl Dial {
    /// To the destination of `feed`.
    pub fn of<S: Source>(feed: &Feed<S>) -> Result<Self, Failure> {
        Self::with(feed.addresses(), feed)
    }

    /// To one address, `host:port`.
    pub fn to<S: Source>(address: &str, feed: &Feed<S>) -> Result<Self, Failure> {
        Self::with(vec![address.to_owned()], feed)
    }

    fn with<S: Source>(addresses: Vec<String>, feed: &Feed<S>) -> Result<Self, Failure> {
        let tls = if feed.to.speaks_tls() { Some(Tls::of(&feed.to, &feed.secrets)?) } else { None };
        Ok(Self {
            addresses,
            out: feed.out.clone(),
            within: feed.timeout(),
            proxy: Proxy::of(feed)?,
            tls,
            greeting: false,
        })
    }

    /// The far end says a line first, without TLS: it is in the link's `greeting`.
    pub const fn after_greeting(mut self) -> Self {
        self.greeting = true;
        self
    }

    /// Connects to the first address that answers.
    pub async fn open(self) -> Result<Link, Failure> {
        let deadline = Instant::now() + self.within;
        let mut failed: Option<Failure> = None;
        for (n, address) in self.addresses.iter().enumerate() {
            let left = (self.addresses.len() - n) as u32;
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            match self.open_one(address, share).await {
                Ok(link) => return Ok(link),
                Err(failure) => {
                    let before = failed.map(|failure| format!("{}; ", failure.words)).unwrap_or_default();
                    failed = Some(Failure { words: format!("{before}{}", failure.words), ..failure });
                }
            }
        }
        Err(failed.unwrap_or_else(|| Failure::config("the destination has no address")))
    }

    async fn open_one(&self, address: &str, within: Duration) -> Result<Link, Failure> {
        let deadline = Instant::now() + within;
        let first = self.proxy.as_ref().map_or(address, |proxy| &proxy.address);
        let (tcp, peer) = net::connect(first, &self.out, within).await?;
        let mut socket = Socket { tcp, written: 0 };
        if let Some(proxy) = &self.proxy {
            let late = |_| Failure::retry(format!("the proxy {} does not answer", proxy.address));
            timeout_at(deadline, proxy.tunnel(&mut socket, address)).await.map_err(late)??;
        }
        let mut greeting = Vec::new();
        if self.greeting {
            let late = |_| Failure::retry(format!("{peer} says nothing"));
            timeout_at(deadline, first_line(&mut socket, &mut greeting, peer)).await.map_err(late)??;
        }
        let Some(tls) = &self.tls else { return Ok(Link { stream: Stream::Plain(socket), peer, greeting }) };
        let name = tls.server_name(address.rsplit_once(':').map_or(address, |(host, _)| host))?;
        match timeout_at(deadline, tls.connector.connect(name, socket)).await {
            Ok(Ok(stream)) => Ok(Link { stream: Stream::Tls(Box::new(stream)), peer, greeting }),
            Ok(Err(error)) => Err(tls::broken(peer, &error, "")),
            Err(_) => Err(Failure::retry(format!("{peer}: no end of the TLS handshake in {} s", within.as_secs()))),
        }
    }
}

/// Reads until a line is whole. What comes behind it comes too: before TLS a server then waits for us.
async fn first_line(socket: &mut Socket, line: &mut Vec<u8>, peer: SocketAddr) -> Result<(), Failure> {
    while !line.contains(&b'\n') {
        let read = socket.read_buf(line).await.map_err(|error| Failure::retry(format!("{peer}: {error}")))?;
        if read == 0 || line.len() > GREETING_MAX {
            return Err(Failure::retry(format!("{peer} does not begin as expected")));
        }
    }
    Ok(())
}

/// An open connection.
pub struct Link {
    stream: Stream,
    /// The far end.
    pub peer: SocketAddr,
    /// What it said before TLS, where it was waited for.
    pub greeting: Vec<u8>,
}

enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// A TCP connection, and how much was written to it.
struct Socket {
    tcp: TcpStream,
    written: u64,
}

impl Link {
    fn socket(&self) -> &Socket {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Bytes that went into the TCP connection.
    pub fn written(&self) -> u64 {
        self.socket().written
    }

    /// Bytes of them that the far end's kernel has acknowledged.
    pub fn delivered(&self) -> io::Result<u64> {
        let waiting = raven_jail::socket::unacknowledged(self.socket().tcp.as_fd())?;
        Ok(self.written().saturating_sub(waiting as u64))
    }

    fn poll_read_some(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(room);
        ready!(Pin::new(self).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Sends what is in `out` and reads into `room`. Some: so much was read, 0 when the far end closed; none: all was
    /// sent. May be dropped and called again.
    pub async fn talk(&mut self, out: &mut Outbox, room: &mut [u8]) -> io::Result<Option<usize>> {
        poll_fn(|cx| {
            let sent = !out.is_empty() && out.poll_send(self, cx)?.is_ready();
            match self.poll_read_some(cx, room) {
                Poll::Ready(read) => Poll::Ready(read.map(Some)),
                Poll::Pending if sent => Poll::Ready(Ok(None)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = ready!(Pin::new(&mut this.tcp).poll_write(cx, bytes))?;
        this.written += n as u64;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

/// Bytes on their way into a [`Link`].
#[derive(Debug, Default)]
pub struct Outbox {
    /// Encoders append here.
    pub bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// With room for so much.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), written: 0 }
    }

    /// Whether all that was put in has gone out.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sends what can be sent without waiting.
    pub fn send_now(&mut self, link: &mut Link) -> io::Result<()> {
        let sent = self.poll_send(link, &mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(sent) = sent { sent } else { Ok(()) }
    }

    /// Ready when all is in the socket.
    fn poll_send(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            self.written += ready!(Pin::new(&mut *link).poll_write(cx, &self.bytes[self.written..]))?;
        }
        ready!(Pin::new(link).poll_flush(cx))?;
        self.bytes.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}
