//! A wire between two namespaces that delays, loses, doubles and turns packets around, as netem does where the kernel has it: a
//! third namespace with a device to each side, and threads that carry frames from one to the other.

use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{LinkAddr, MsgFlags, bind, recv, send};
use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// `ETH_P_ALL`.
const ALL: u16 = 3;
/// Longest frame.
const FRAME: usize = 9100;
/// Frames on the way at a time: more are lost.
const ON_THE_WAY: usize = 20_000;
/// How soon it is seen that the test is over.
const IDLE: Duration = Duration::from_millis(20);
/// ARP gets through at once and always: a test is of packets.
const ARP: [u8; 2] = [8, 6];

/// What a wire does to packets in one direction. Shares are percent.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trouble {
    /// Each takes so long, milliseconds,
    pub delay_ms: f64,
    /// or so much more or less, evenly distributed.
    pub jitter_ms: f64,
    /// So many never come.
    pub loss: f64,
    /// So many come twice, the second time half a millisecond later.
    pub duplicate: f64,
    /// So many come at once, before those that left earlier.
    pub reorder: f64,
}

/// Threads that carry frames; they end with it.
pub struct Wire {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Wire {
    /// Between these devices of the namespace that this thread is in: what comes from the first to the second, and back.
    pub fn new((a, b): (&str, &str), there: Trouble, back: Trouble) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (a, b) = (Arc::new(packets(a)), Arc::new(packets(b)));
        let carry = |from: &Arc<Socket>, to: &Arc<Socket>, trouble, seed| {
            let (from, to, stop) = (Arc::clone(from), Arc::clone(to), Arc::clone(&stop));
            std::thread::spawn(move || carry(&from, &to, trouble, seed, &stop))
        };
        let threads = vec![carry(&a, &b, there, 0x1234_5678), carry(&b, &a, back, 0x8765_4321)];
        Self { stop, threads }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// All frames of a device, but for those that this socket sends.
fn packets(device: &str) -> Socket {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL.to_be())))).unwrap();
    let address: LinkAddr = getifaddrs()
        .unwrap()
        .filter(|found| found.interface_name == device)
        .find_map(|found| found.address?.as_link_addr().copied())
        .unwrap();
    bind(socket.as_raw_fd(), &address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _ = socket.set_recv_buffer_size(8 << 20);
    socket
}

/// The same numbers each time.
struct Dice(u64);

impl Dice {
    /// 0 to 1.
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn is(&mut self, percent: f64) -> bool {
        self.roll() * 100.0 < percent
    }
}

fn carry(from: &Socket, to: &Socket, trouble: Trouble, seed: u64, stop: &AtomicBool) {
    let (mut dice, mut frame, mut count) = (Dice(seed), vec![0; FRAME], 0_u64);
    let mut way: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>> = BinaryHeap::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while way.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, frame))) = way.pop() else { break };
            // A device that is gone: the test is over.
            let _ = send(to.as_raw_fd(), &frame, MsgFlags::empty());
        }
        let next = way.peek().map_or(IDLE, |Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
        let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut fds, Some(next.min(IDLE).into()), None);
        let Ok(n) = recv(from.as_raw_fd(), &mut frame, MsgFlags::empty()) else { continue };
        let bytes = &frame[..n.min(FRAME)];
        if bytes.get(12..14) == Some(&ARP) {
            let _ = send(to.as_raw_fd(), bytes, MsgFlags::empty());
            continue;
        }
        if dice.is(trouble.loss) || way.len() >= ON_THE_WAY {
            continue;
        }
        let jitter = trouble.jitter_ms * (2.0 * dice.roll() - 1.0);
        let late = if dice.is(trouble.reorder) { 0.0 } else { (trouble.delay_ms + jitter).max(0.0) };
        let at = Instant::now() + Duration::from_secs_f64(late / 1000.0);
        let copies = [Some(at), dice.is(trouble.duplicate).then(|| at + Duration::from_micros(500))];
        for at in copies.into_iter().flatten() {
            count += 1;
            way.push(Reverse((at, count, bytes.to_vec())));
        }
    }
}
