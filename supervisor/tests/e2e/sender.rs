//! Senders of numbered messages, each `raven-mark=RUN/SENDER/N`, so that what is missing or doubled can be told.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two bursts of a steady sender.
const TICK: Duration = Duration::from_millis(2);

/// One numbered message, about 200 bytes.
pub fn message(run: &str, sender: u32, n: u64) -> String {
    format!(
        "<{pri}>1 2026-06-05T20:15:{s:02}.{ms:03}Z gate-{g} turnstile {pid} ID47 - raven-mark={run}/{sender}/{n} ticket {t:08x} admitted at lane {lane}, battery {b} percent, link {l} dBm, next check in {c} s",
        pri = 128 + n % 8,
        s = n / 1000 % 60,
        ms = n % 1000,
        g = n % 12,
        pid = 300 + n % 40,
        t = n.wrapping_mul(2_654_435_761) & 0xffff_ffff,
        lane = n % 17,
        b = 40 + n % 60,
        l = 30 + n % 50,
        c = n % 90
    )
}

/// A sender at work in its own thread.
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<u64>>,
}

impl Sender {
    /// One datagram a message, each by its own call.
    pub fn udp(to: SocketAddr, run: &'static str, sender: u32, rate: u64) -> Self {
        let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
        socket.connect(to).unwrap();
        Self::paced(rate, move |n| socket.send(message(run, sender, n).as_bytes()).map(drop))
    }

    /// Octet counting on one connection that is never made again.
    pub fn tcp(to: SocketAddr, run: &'static str, sender: u32, rate: u64) -> Self {
        let mut stream = TcpStream::connect(to).unwrap();
        Self::paced(rate, move |n| {
            let message = message(run, sender, n);
            stream.write_all(format!("{} {message}", message.len()).as_bytes())
        })
    }

    /// Calls `send` with 0, 1, 2 … `rate` times a second.
    fn paced(rate: u64, mut send: impl FnMut(u64) -> std::io::Result<()> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (started, mut sent) = (Instant::now(), 0);
            while !stopped.load(Ordering::Relaxed) {
                let due = (started.elapsed().as_micros() as u64 * rate) / 1_000_000;
                while sent < due {
                    send(sent)?;
                    sent += 1;
                }
                std::thread::sleep(TICK);
            }
            Ok(sent)
        });
        Self { stop, thread }
    }

    /// Stops it; how many it sent. Fails when its connection did.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().expect("the sender could send to the end")
    }
}

/// Sends one message from a fresh socket; the address it came from.
pub fn one_datagram(to: SocketAddr, message: &[u8]) -> SocketAddr {
    let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    socket.send_to(message, to).unwrap();
    socket.local_addr().unwrap()
}
