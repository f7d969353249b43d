//! The cable between the venue and the operations centre, with faults: a thread that carries frames from one interface
//! to the other, and loses, delays or refuses them as told.

use super::net::{self, WIRE};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Frames wait at most so long for their turn on a slow wire; then they are lost, as in a router's queue.
const QUEUE: Duration = Duration::from_millis(200);

/// Longest Ethernet frame.
const FRAME: usize = 65_536;

/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;

/// What is wrong with the wire. All zero: nothing.
#[derive(Debug, Default)]
pub struct Faults {
    /// Of 1000 frames from the venue, how many are lost.
    pub lost_out: AtomicU64,
    /// Of 1000 frames to the venue, how many are lost.
    pub lost_in: AtomicU64,
    /// Bits a second, each way.
    pub rate: AtomicU64,
    /// Longer packets vanish without a word.
    pub mtu: AtomicU64,
}

impl Faults {
    /// The wire is as it should be.
    pub fn heal(&self) {
        for fault in [&self.lost_out, &self.lost_in, &self.rate, &self.mtu] {
            fault.store(0, Relaxed);
        }
    }

    /// Nothing passes.
    pub fn cut(&self) {
        self.lost_out.store(1000, Relaxed);
        self.lost_in.store(1000, Relaxed);
    }
}

/// A wire in use; cut when dropped.
pub struct Wire {
    /// What is wrong with it.
    pub faults: Arc<Faults>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Wire {
    /// Joins the two interfaces.
    pub fn start(venue: &'static str, noc: &'static str) -> Self {
        let (faults, stop) = (Arc::<Faults>::default(), Arc::<AtomicBool>::default());
        let (its, stopped) = (Arc::clone(&faults), Arc::clone(&stop));
        let thread = std::thread::spawn(move || carry(venue, noc, &its, &stopped));
        Self { faults, stop, thread: Some(thread) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("wire: {error:#}"),
            Some(Err(_)) => eprintln!("wire: panicked"),
            _ => {}
        }
    }
}

/// One direction.
struct Lane<'a> {
    from: OwnedFd,
    lost: &'a AtomicU64,
    faults: &'a Faults,
    random: u64,
    /// When the wire is free again.
    free: Instant,
    queue: VecDeque<(Instant, Vec<u8>)>,
}

fn carry(venue: &str, noc: &str, faults: &Faults, stop: &AtomicBool) -> Result<()> {
    net::enter(WIRE)?;
    let lane = |name, lost, random| -> Result<Lane<'_>> {
        Ok(Lane { from: open(name)?, lost, faults, random, free: Instant::now(), queue: VecDeque::new() })
    };
    let mut lanes = [lane(venue, &faults.lost_out, 1)?, lane(noc, &faults.lost_in, 2)?];
    let mut frame = vec![0; FRAME];
    while !stop.load(Relaxed) {
        let mut ready = [
            PollFd::new(lanes[0].from.as_fd(), PollFlags::POLLIN),
            PollFd::new(lanes[1].from.as_fd(), PollFlags::POLLIN),
        ];
        let wait = if lanes.iter().all(|lane| lane.queue.is_empty()) { 50_u16 } else { 1 };
        match poll(&mut ready, PollTimeout::from(wait)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        for from in 0..2 {
            let (left, right) = lanes.split_at_mut(1);
            let (lane, to) = if from == 0 { (&mut left[0], &right[0].from) } else { (&mut right[0], &left[0].from) };
            lane.take(&mut frame);
            lane.give(to);
        }
    }
    Ok(())
}

/// Both ends of frames of an interface; `EthAll` stays the protocol as the address of `getifaddrs` has none.
fn open(name: &str) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll)?;
    let found = getifaddrs()?
        .filter(|entry| entry.interface_name == name)
        .find_map(|entry| entry.address.and_then(|address| address.as_link_addr().copied()))
        .with_context(|| format!("no interface {name}"))?;
    bind(socket.as_raw_fd(), &found)?;
    Ok(socket)
}

impl Lane<'_> {
    /// Takes what came; a bounded number, so that the other direction gets its turn.
    fn take(&mut self, frame: &mut [u8]) {
        for _ in 0..64 {
            let Ok(len) = recv(self.from.as_raw_fd(), frame, MsgFlags::empty()) else { return };
            if self.passes(len as u64) {
                let due = self.due(len as u64);
                if due.saturating_duration_since(Instant::now()) <= QUEUE {
                    self.queue.push_back((due, frame[..len].to_vec()));
                }
            }
        }
    }

    fn passes(&mut self, len: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let mtu = self.faults.mtu.load(Relaxed);
        self.random % 1000 >= self.lost.load(Relaxed) && (mtu == 0 || len <= mtu + ETHERNET)
    }

    /// When a frame is through.
    fn due(&mut self, len: u64) -> Instant {
        let now = Instant::now();
        let rate = self.faults.rate.load(Relaxed);
        if rate == 0 {
            return now;
        }
        let due = self.free.max(now) + Duration::from_nanos(len * 8 * 1_000_000_000 / rate);
        if due.saturating_duration_since(now) <= QUEUE {
            self.free = due;
        }
        due
    }

    fn give(&mut self, to: &OwnedFd) {
        let now = Instant::now();
        while let Some((_, frame)) = self.queue.pop_front_if(|(due, _)| *due <= now) {
            // A frame that does not go out is lost, as on any wire.
            let _ = send(to.as_raw_fd(), &frame, MsgFlags::empty());
        }
    }
}
