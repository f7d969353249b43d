//! What the tests of the receive memory share.

use crate::receive::{Arrived, Blind, CollectorMemory, Contexts, Framing, Inspect, StoreMemory, Verdict, create};
use raven_model::record::{Context, Frames};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Two memfds.
pub struct Memory {
    pub memory: OwnedFd,
    pub words: OwnedFd,
}

impl Memory {
    pub fn new() -> Self {
        let (memory, words) = create("test").unwrap();
        Self { memory, words }
    }

    pub fn collector(&self) -> CollectorMemory {
        CollectorMemory::open(&self.memory, &self.words, 7, &mut Blind).unwrap().0
    }

    pub fn watched(&self, watch: &mut Watch) -> CollectorMemory {
        CollectorMemory::open(&self.memory, &self.words, 7, watch).unwrap().0
    }

    pub fn store(&self) -> Store {
        let memory = StoreMemory::open(&self.memory, &self.words).unwrap();
        let taken = memory.durable();
        Store { memory, taken, kept: Vec::new(), watched: false, buffer: Vec::new() }
    }
}

/// A record as the store got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub raw: Vec<u8>,
    pub source: SocketAddr,
    pub listener: u8,
    pub wall: u64,
    pub piece: bool,
    pub unparsed: bool,
    pub refused: bool,
}

/// Adds context to every batch, and to some messages.
#[derive(Default)]
pub struct Watch {
    begun: bool,
    /// Messages looked at.
    pub looks: usize,
    /// The last snapshot.
    pub recalled: Vec<u8>,
}

impl Watch {
    /// The context that goes before a message, if any.
    fn of(raw: &[u8]) -> Option<&[u8]> {
        raw.len().is_multiple_of(3).then_some(&raw[..raw.len().min(16)])
    }
}

impl Inspect for Watch {
    fn recall(&mut self, snapshot: &[u8]) {
        self.recalled = snapshot.to_vec();
    }

    fn begin(&mut self) {
        self.begun = true;
    }

    /// Refuses what begins with `refuse`, drops what begins with `drop`.
    fn inspect(&mut self, arrived: &Arrived<'_>, contexts: &mut Contexts) -> Verdict {
        self.looks += 1;
        if std::mem::take(&mut self.begun) {
            assert!(contexts.add(&Context { key: b"begun", value: b"" }, arrived.wall));
        }
        if let Some(value) = Self::of(arrived.raw) {
            assert!(contexts.add(&Context { key: b"of", value }, arrived.wall));
        }
        match arrived.raw {
            raw if raw.starts_with(b"refuse") => Verdict::Refuse,
            raw if raw.starts_with(b"drop") => Verdict::Drop(3),
            _ => Verdict::Keep,
        }
    }
}

/// A store that keeps everything in memory.
pub struct Store {
    pub memory: StoreMemory,
    pub taken: u64,
    pub kept: Vec<Kept>,
    /// Batches come from a collector with [`Watch`]: context that is missing is a fault.
    pub watched: bool,
    buffer: Vec<u8>,
}

impl Store {
    /// Takes what was published; each batch must be whole.
    pub fn take(&mut self) {
        while self.taken < self.memory.published() {
            let batch = self.memory.take(self.taken + 1, &mut self.buffer).unwrap();
            let (mut frames, mut of) = (0, Vec::new());
            for record in Frames::new(&self.buffer) {
                let record = record.unwrap();
                frames += 1;
                if !record.received.is_record() {
                    let context = Context::read(record.raw).unwrap();
                    of = if context.key == b"of" { context.value.to_vec() } else { of };
                    assert!(frames > 1 || context.key == b"begun", "a batch begins with its context");
                    continue;
                }
                if let Some(wanted) = Watch::of(record.raw).filter(|_| self.watched && !record.received.is_unparsed()) {
                    assert_eq!(of, wanted, "the context of a message stands before it");
                }
                self.kept.push(Kept {
                    raw: record.raw.to_vec(),
                    source: record.received.source,
                    listener: record.received.listener,
                    wall: record.received.wall.0,
                    piece: record.received.piece,
                    unparsed: record.received.is_unparsed(),
                    refused: record.received.is_refused(),
                });
            }
            assert_eq!(frames, batch.count, "batch {} counts its frames", batch.number);
            self.memory.taken(batch.len);
            self.taken += 1;
        }
    }

    /// Makes all that was taken durable, but for the last `behind` batches.
    pub fn commit(&mut self, behind: u64) {
        let durable = self.taken.saturating_sub(behind).max(self.memory.durable());
        self.memory.set_durable(durable);
    }

    pub fn take_and_commit(&mut self) {
        self.take();
        self.commit(0);
    }

    pub fn texts(&self) -> Vec<String> {
        self.kept.iter().map(|kept| String::from_utf8_lossy(&kept.raw).into_owned()).collect()
    }
}

/// Messages end with LF. `mode` counts them.
pub struct Lines;

impl Framing for Lines {
    fn take(&self, mode: &mut u64, bytes: &[u8], end: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let len = rest.iter().position(|&b| b == b'\n');
            let (len, used) = match len {
                Some(len) => (len, len + 1),
                None if end => (rest.len(), rest.len()),
                None => break,
            };
            if !emit(&rest[..len], false) {
                break;
            }
            *mode += 1;
            at += used;
        }
        at
    }
}

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Finished,
    Died,
    Failed(i32),
}

/// Runs `life` in a process of its own. It must not print.
pub fn in_child(life: impl FnOnce()) -> End {
    wait(start(life))
}

/// Starts a process of its own.
pub fn start(life: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child touches memory of its own, and ends without returning.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: reads no memory. A child that hangs ends by itself.
            unsafe { libc::alarm(60) };
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(if ended.is_ok() { 0 } else { 101 }) }
        }
        pid => pid,
    }
}

/// Waits for its end.
pub fn wait(pid: libc::pid_t) -> End {
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    match status {
        0 => End::Finished,
        _ if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL => End::Died,
        _ => End::Failed(status),
    }
}

/// Dies on the spot, as by an outside SIGKILL.
pub fn die() -> ! {
    // SAFETY: reads no memory.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        libc::_exit(102)
    }
}

/// Numbers that look random and are the same in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A few in a normal run, many with `RAVEN_FULL=1`.
pub fn count(full: u64, short: u64) -> u64 {
    if std::env::var_os("RAVEN_FULL").is_some() { full } else { short }
}
