//! A small operations centre: receivers that take what Raven delivers and acknowledge it.
//!
//! For `cargo xtask up` it keeps what it gets in files and acknowledges only after a sync, so what it acknowledged is
//! there after a power cut. For measurements it only counts.

mod http;
mod latency;
mod relp;

use anyhow::{Context, Result};
use latency::Latency;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a receiver speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// RELP: each message answered by `200 OK`.
    Relp,
    /// HTTP: NDJSON by POST, each body answered by 204.
    Http,
}

/// What was received, shared by all connections of a receiver.
#[derive(Debug, Default)]
pub struct Taken {
    records: AtomicU64,
    file: Option<Mutex<File>>,
    latency: Latency,
}

impl Taken {
    /// Whether it keeps what it gets, and not only counts.
    fn keeps(&self) -> bool {
        self.file.is_some()
    }

    /// Keeps `lines` (`records` of them, each with its LF); on return they are on disk.
    fn keep(&self, lines: &[u8], records: u64) -> std::io::Result<()> {
        if let Some(file) = &self.file {
            let mut file = file.lock().expect("no holder of this lock panics");
            let before = file.metadata()?.len();
            if let Err(error) = file.write_all(lines).and_then(|()| file.sync_data()) {
                // A part of a line would spoil the next one.
                file.set_len(before)?;
                return Err(error);
            }
        }
        self.records.fetch_add(records, Ordering::Relaxed);
        Ok(())
    }
}

/// A running receiver; stops when dropped.
#[derive(Debug)]
pub struct Receiver {
    taken: Arc<Taken>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Listens on `addr`; keeps what it gets in `file`, or only counts.
    pub fn start(speaks: Speaks, addr: &str, file: Option<&Path>) -> Result<Self> {
        let listener = TcpListener::bind(addr)
            .with_context(|| format!("the receiver cannot listen on {addr}; does another one run?"))?;
        listener.set_nonblocking(true)?;
        let file = file.map(|path| open(path).map(Mutex::new)).transpose()?;
        let taken = Arc::new(Taken { file, ..Taken::default() });
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (taken, stop) = (Arc::clone(&taken), Arc::clone(&stop));
            move || accept(&listener, speaks, &taken, &stop)
        });
        Ok(Self { taken, stop, thread: Some(thread) })
    }

    /// Records taken and acknowledged.
    pub fn records(&self) -> u64 {
        self.taken.records.load(Ordering::Relaxed)
    }

    /// Waits for the first record, so long at most; whether it came.
    pub fn has_begun(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.records() == 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.records() > 0
    }

    /// Measures, from now on, how long what Raven receives from now on takes to come here (RELP only).
    pub fn watch(&self) {
        self.taken.latency.watch();
    }

    /// The slowest in a hundred of those; `None` when there was none.
    pub fn p99(&self) -> Option<Duration> {
        self.taken.latency.quantile(0.99)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// How often a waiting thread looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(200);

fn accept(listener: &TcpListener, speaks: Speaks, taken: &Arc<Taken>, stop: &Arc<AtomicBool>) {
    let mut connections = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, peer)) => {
                let (taken, stop) = (Arc::clone(taken), Arc::clone(stop));
                connections.push(std::thread::spawn(move || serve(speaks, stream, peer, &taken, &stop)));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    for connection in connections {
        drop(connection.join());
    }
}

fn serve(speaks: Speaks, stream: TcpStream, peer: SocketAddr, taken: &Taken, stop: &AtomicBool) {
    let socket = Socket { stream, stop };
    let set_up = socket.stream.set_nonblocking(false).and_then(|()| socket.stream.set_read_timeout(Some(LOOK)));
    let ended = set_up.and_then(|()| match speaks {
        Speaks::Relp => relp::serve(socket, taken),
        Speaks::Http => http::serve(socket, taken),
    });
    if let Err(error) = ended {
        eprintln!("noc: {peer}: {error}");
    }
}

/// A connection that reads as ended once the receiver stops.
struct Socket<'a> {
    stream: TcpStream,
    stop: &'a AtomicBool,
}

impl std::io::Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while !self.stop.load(Ordering::Relaxed) {
            match self.stream.read(into) {
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                other => return other,
            }
        }
        Ok(0)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.stream.write(from)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}
