//! A stream of data: a thread that sends or receives as fast as it may. Its loop blocks in the kernel, takes no memory and tells
//! nobody anything but by counters.

use super::datagram::{Arrivals, HEAD, Head};
use super::meter::{Lane, Tally};
use super::pace::Pace;
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{MsgFlags, recv, send};
use raven_model::diag::bw::{Direction, Ends, TcpState, Transport};
use socket2::{SockAddr, Socket};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread stays in the kernel before it looks whether the test has ended.
const LOOK: Duration = Duration::from_millis(100);
/// TCP is read so much at once. Nothing is written there: the kernel throws away what it has (`MSG_TRUNC`, tcp(7)), so
/// that the box's memory is not what is measured.
const READ: usize = 256 * 1024;
/// Longest datagram.
const DATAGRAM: usize = 65_536;
/// Of a thread that calls nothing deep.
const STACK: usize = 128 * 1024;
/// Where a send fails for a moment (no buffer, nobody listens yet), it is tried again after so long.
const AGAIN: Duration = Duration::from_millis(1);

/// Where all streams of a test are.
#[derive(Debug, Default)]
pub struct Phase(AtomicU8);

/// Bytes are counted.
const RUN: u8 = 0;
/// Senders end; receivers read on, so that the other end is not stuck, and count nothing.
const DRAIN: u8 = 1;
/// All end.
const STOP: u8 = 2;

impl Phase {
    fn is_running(&self) -> bool {
        self.0.load(Relaxed) == RUN
    }

    fn is_over(&self) -> bool {
        self.0.load(Relaxed) == STOP
    }

    /// See [`DRAIN`].
    pub fn drain(&self) {
        self.0.store(DRAIN, Relaxed);
    }

    /// See [`STOP`].
    pub fn stop(&self) {
        self.0.store(STOP, Relaxed);
    }
}

/// Bytes that a test may move yet.
pub type Budget = Arc<AtomicU64>;

/// Written by the stream's thread alone, read by whoever tells of it.
#[derive(Debug, Default)]
struct Counters {
    bytes: AtomicU64,
    packets: AtomicU64,
    lost: AtomicU64,
    out_of_order: AtomicU64,
    /// The bits of an `f64`.
    jitter: AtomicU64,
    user_us: AtomicU64,
    system_us: AtomicU64,
    /// The other end closed it, or it failed.
    broke: AtomicBool,
    /// It reached the end of its budget.
    spent: AtomicBool,
}

impl Counters {
    fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Relaxed) + n, Relaxed);
    }

    fn arrived(&self, arrivals: &Arrivals) {
        self.packets.store(arrivals.highest, Relaxed);
        self.lost.store(arrivals.lost, Relaxed);
        self.out_of_order.store(arrivals.out_of_order, Relaxed);
        self.jitter.store(arrivals.jitter.to_bits(), Relaxed);
    }
}

/// What a stream is to do.
#[derive(Debug, Clone)]
pub struct Work {
    /// What carries the bytes.
    pub transport: Transport,
    /// Bytes that are written at once.
    pub length: usize,
    /// Bits a second, of a sender, or of a receiver that slows its sender (TCP).
    pub rate: Option<u64>,
    /// Datagrams are counted with 64 bits.
    pub wide: bool,
    /// Of all streams of the test together.
    pub budget: Option<Budget>,
}

/// One.
#[derive(Debug)]
pub struct Stream {
    /// Which.
    pub lane: Lane,
    /// As they are while it lives: a socket that was shut may know its peer no longer.
    ends: Option<Ends>,
    socket: Socket,
    counters: Arc<Counters>,
    is_tcp: bool,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Begins to move bytes over a connected socket.
    pub fn start(lane: Lane, socket: Socket, work: &Work, phase: &Arc<Phase>) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_write_timeout(Some(LOOK))?;
        let counters = Arc::<Counters>::default();
        let mover = Mover {
            socket: socket.try_clone()?,
            work: work.clone(),
            phase: Arc::clone(phase),
            counters: Arc::clone(&counters),
            began: Instant::now(),
        };
        let sends = lane.direction == Direction::Up;
        let thread = std::thread::Builder::new().name("stream".to_owned()).stack_size(STACK);
        let thread = Some(thread.spawn(move || mover.run(sends))?);
        let of = |address: io::Result<SockAddr>| address.ok().and_then(|address| address.as_socket()).map(plain);
        let ends = of(socket.local_addr()).zip(of(socket.peer_addr())).map(|(local, remote)| Ends { local, remote });
        Ok(Self { lane, ends, socket, counters, is_tcp: work.transport == Transport::Tcp, thread })
    }

    /// What it has counted.
    pub fn tally(&self) -> Tally {
        let counters = &self.counters;
        let sends = self.lane.direction == Direction::Up;
        let info = (self.is_tcp && sends).then(|| raven_jail::socket::tcp_info(self.socket.as_fd()).ok()).flatten();
        Tally {
            bytes: counters.bytes.load(Relaxed),
            packets: counters.packets.load(Relaxed),
            lost: counters.lost.load(Relaxed),
            out_of_order: counters.out_of_order.load(Relaxed),
            jitter: f64::from_bits(counters.jitter.load(Relaxed)),
            retransmits: info.map(|info| info.retransmits.into()),
            tcp: info.map(|info| TcpState {
                rtt_us: info.rtt_us,
                rtt_var_us: info.rtt_var_us,
                window: info.window,
                path_mtu: info.path_mtu,
            }),
        }
    }

    /// Its ends.
    pub const fn ends(&self) -> Option<Ends> {
        self.ends
    }

    /// Whether it ended before its time.
    pub fn is_broken(&self) -> bool {
        self.counters.broke.load(Relaxed)
    }

    /// Whether the budget is used up.
    pub fn is_spent(&self) -> bool {
        self.counters.spent.load(Relaxed)
    }

    /// Waits for its thread, which was told to end.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Processor time of its thread, once that has ended: in the program, in the kernel.
    pub fn cpu(&self) -> (Duration, Duration) {
        let [user, system] = [&self.counters.user_us, &self.counters.system_us].map(|us| us.load(Relaxed));
        (Duration::from_micros(user), Duration::from_micros(system))
    }

    /// Wakes its thread, wherever that waits.
    pub fn shut(&self) {
        // One that the other end has closed is shut already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Processor time of this thread: in the program, in the kernel.
pub fn thread_cpu() -> (Duration, Duration) {
    let part = |time: nix::sys::time::TimeVal| {
        Duration::new(u64::try_from(time.tv_sec()).unwrap_or(0), 0)
            + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    getrusage(UsageWho::RUSAGE_THREAD)
        .map(|used| (part(used.user_time()), part(used.system_time())))
        .unwrap_or_default()
}

/// What the thread owns.
struct Mover {
    socket: Socket,
    work: Work,
    phase: Arc<Phase>,
    counters: Arc<Counters>,
    began: Instant,
}

impl Mover {
    fn run(self, sends: bool) {
        let outcome = match (self.work.transport, sends) {
            (Transport::Tcp, true) => self.send_tcp(),
            (Transport::Udp, true) => self.send_udp(),
            (Transport::Tcp, false) => self.receive_tcp(),
            (Transport::Udp, false) => {
                self.receive_udp();
                Ok(())
            }
        };
        self.counters.broke.store(outcome.is_err(), Relaxed);
        let (user, system) = thread_cpu();
        self.counters.user_us.store(user.as_micros() as u64, Relaxed);
        self.counters.system_us.store(system.as_micros() as u64, Relaxed);
    }

    /// Waits where `moved` bytes are ahead of the rate. True: look again.
    fn is_early(&self, pace: Option<Pace>, moved: u64) -> bool {
        let pause = pace.and_then(|pace| pace.pause(moved, self.began.elapsed()));
        pause.inspect(|pause| std::thread::sleep(*pause)).is_some()
    }

    /// Takes from the budget. False: there is none left.
    fn may(&self, bytes: usize) -> bool {
        let Some(budget) = &self.work.budget else { return true };
        let left = budget.try_update(Relaxed, Relaxed, |left| left.checked_sub(bytes as u64));
        self.counters.spent.store(left.is_err(), Relaxed);
        left.is_ok()
    }

    fn send_tcp(&self) -> Result<(), Errno> {
        let (block, fd) = (noise(self.work.length), self.socket.as_raw_fd());
        let (pace, mut sent) = (self.work.rate.map(Pace::new), 0_u64);
        while self.phase.is_running() {
            if self.is_early(pace, sent) {
                continue;
            }
            match send(fd, &block, MsgFlags::MSG_NOSIGNAL) {
                Ok(n) => {
                    sent += n as u64;
                    self.counters.bytes.store(sent, Relaxed);
                    if !self.may(n) {
                        return Ok(());
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_udp(&self) -> Result<(), Errno> {
        let (mut datagram, fd) = (noise(self.work.length.max(HEAD)), self.socket.as_raw_fd());
        let (pace, mut sent, mut number) = (self.work.rate.map(Pace::new), 0_u64, 1);
        while self.phase.is_running() {
            if self.is_early(pace, sent) {
                continue;
            }
            Head { at: self.began.elapsed(), number }.write(&mut datagram, self.work.wide);
            match send(fd, &datagram, MsgFlags::MSG_NOSIGNAL) {
                Ok(n) => {
                    sent += n as u64;
                    self.counters.bytes.store(sent, Relaxed);
                    self.counters.packets.store(number, Relaxed);
                    number += 1;
                    if !self.may(n) {
                        return Ok(());
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // A full queue of the interface, or what a router says of a packet before. The control connection knows
                // whether somebody is there.
                Err(Errno::ENOBUFS | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {
                    std::thread::sleep(AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive_tcp(&self) -> Result<(), Errno> {
        let (fd, pace, mut got) = (self.socket.as_raw_fd(), self.work.rate.map(Pace::new), 0_u64);
        // Zeroed memory that nobody writes is not there.
        let mut buffer = vec![0; if pace.is_some() { self.work.length } else { READ }];
        while !self.phase.is_over() {
            if self.is_early(pace, got) {
                continue;
            }
            match recv(fd, &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(0) => return if self.phase.is_running() { Err(Errno::ECONNRESET) } else { Ok(()) },
                Ok(n) => {
                    got += n as u64;
                    if self.phase.is_running() {
                        Counters::add(&self.counters.bytes, n as u64);
                        if !self.may(n) {
                            return Ok(());
                        }
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return if self.phase.is_running() { Err(error) } else { Ok(()) },
            }
        }
        Ok(())
    }

    fn receive_udp(&self) {
        let (mut buffer, fd, mut arrivals) = (vec![0; DATAGRAM], self.socket.as_raw_fd(), Arrivals::default());
        while !self.phase.is_over() {
            match recv(fd, &mut buffer, MsgFlags::empty()) {
                Ok(n) if self.phase.is_running() => {
                    let head = Head::read(buffer.get(..n).unwrap_or_default(), self.work.wide);
                    // What is shorter, or makes no sense, is a first datagram that came twice, or somebody else's.
                    if head.is_some_and(|head| arrivals.came(head, self.began.elapsed())) {
                        Counters::add(&self.counters.bytes, n as u64);
                        self.counters.arrived(&arrivals);
                        if !self.may(n) {
                            return;
                        }
                    }
                }
                // A socket that was shut reads nothing, at once.
                Ok(0) if self.phase.is_over() => return,
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }
}

/// IPv4 as IPv4, also on a socket of both families.
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Bytes that no tunnel can compress.
fn noise(length: usize) -> Vec<u8> {
    let seed = RandomState::new();
    let words = (0..length.div_ceil(8)).flat_map(|n| seed.hash_one(n).to_ne_bytes());
    words.take(length).collect()
}
