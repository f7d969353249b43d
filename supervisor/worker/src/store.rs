//! The `store` role: takes batches out of the receive memory, writes them to the ring, and answers readers of the
//! open segment.
//!
//! A commit comes every `buffer.sync` or 8 MiB, whichever is first, and holds whole batches only. Only after it the
//! receive memory is told, and only then the collector uses that space again: whatever happens to this process, the
//! next one goes on behind the last batch that is on disk.
//!
//! After a start the first commits are small and grow: a batch that kills the store takes no others with it.

mod readers;
mod room;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statvfs::statvfs;
use raven_buffer::tail::TailServer;
use raven_buffer::{BatchMark, Eviction, RingWriter, WriterOptions};
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::receive::{StoreMemory, Waiting};
use raven_model::config::{Buffer, Config, Disk};
use raven_model::control::{Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::report::StoreReport;
use raven_model::table::Role;
use raven_model::units::Seq;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A commit does not grow beyond this much of raw frames: about 5 MiB when packed, and less than half of the receive
/// ring, so that the collector goes on while the disk is flushed.
const COMMIT_BYTES: usize = 24 << 20;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest that the report is behind a commit.
const FRESH: Duration = Duration::from_millis(250);
/// How often a failed commit is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How long the uplink may take to stop reading a segment that is to go.
const FENCE: Duration = Duration::from_millis(250);
/// Questions of one reader that may wait at a time.
const WAITING_MAX: usize = 16;
/// How long a graceful stop tries to make everything durable.
const STOP: Duration = Duration::from_secs(5);
/// The clock is trusted for removal by age as long as it was not stepped by more.
const STEP: i128 = 60_000_000_000;

/// A reader of the open segment.
struct Reader {
    role: Role,
    server: TailServer,
    /// Questions that wait for the next record; the oldest is dropped when there are too many (it is asked again).
    waiting: VecDeque<(u64, Seq)>,
}

/// An eviction that waits for the uplink's word.
struct Fenced {
    eviction: Eviction,
    token: u64,
    until: Instant,
}

/// The store's state.
pub struct Store {
    channel: Channel,
    wake: File,
    memory: StoreMemory,
    writer: RingWriter,
    ring: PathBuf,
    stream: String,
    sync: Duration,
    readers: Vec<Reader>,
    low: BTreeMap<String, Seq>,
    fenced: Option<Fenced>,
    last_token: u64,
    /// Newest batch that was appended.
    taken: u64,
    /// Batches that the next commit may hold.
    batch_limit: u64,
    /// When the oldest appended and uncommitted batch was taken.
    pending_since: Option<Instant>,
    pending_batches: u64,
    retry_at: Option<Instant>,
    next_heartbeat: Instant,
    clock_offset: i128,
    /// Batches that were none.
    complaints: u64,
    buffer: Vec<u8>,
    packet: Vec<u8>,
    stopping: bool,
}

impl Store {
    /// Opens the ring and the receive memory. Called inside the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> anyhow::Result<Self> {
        let (mut memory, mut words, mut wake, mut readers) = (None, None, None, Vec::new());
        let mut stream = String::new();
        for (name, fd) in start.fds.iter().zip(fds) {
            match name {
                Fd::Ring { stream: name } => {
                    stream.clone_from(name);
                    memory = Some(fd);
                }
                Fd::Words { .. } => words = Some(fd),
                Fd::Wake { .. } => wake = Some(File::from(fd)),
                Fd::Tail { peer } => {
                    readers.push(Reader { role: *peer, server: TailServer::new(fd), waiting: VecDeque::new() });
                }
                Fd::ConfigText { .. } => {}
            }
        }
        let (Some(memory), Some(words), Some(wake)) = (memory, words, wake) else {
            bail!("ravend passed no receive memory");
        };
        let config = start.config.as_deref().context("ravend passed no configuration")?;
        let ring = start.data.join("ring");
        let memory = StoreMemory::open(&memory, &words).context("receive memory")?;
        let (mut writer, recovery) = RingWriter::open(&ring, &stream, options(&ring, &config.buffer, &start.boot_id)?)?;
        for note in &recovery.notes {
            eprintln!("raven-worker store: {note}");
        }
        writer.set_listeners(start.listeners.clone());
        let mut this = Self {
            channel,
            wake,
            memory,
            writer,
            ring,
            stream,
            sync: config.buffer.sync.0,
            readers,
            low: BTreeMap::new(),
            fenced: None,
            last_token: 0,
            taken: 0,
            batch_limit: 1,
            pending_since: None,
            pending_batches: 0,
            retry_at: None,
            next_heartbeat: Instant::now(),
            clock_offset: clock_offset(),
            complaints: 0,
            buffer: Vec::new(),
            packet: vec![0; PACKET_MAX],
            stopping: false,
        };
        this.resume();
        Ok(this)
    }

    /// Goes on behind the last batch on disk.
    fn resume(&mut self) {
        let epoch = self.memory.epoch();
        let on_disk = self.writer.mark().filter(|mark| mark.epoch == epoch).map_or(0, |mark| mark.batch);
        // A ring that was exchanged under us knows nothing of batches whose space was given back long ago.
        self.taken = on_disk.max(self.memory.durable());
        self.memory.set_durable(self.taken);
        self.memory.taken_all();
    }

    /// Stores until `ravend` says stop or is gone.
    pub fn run(mut self, missing: Vec<String>) -> anyhow::Result<()> {
        // The report first: whoever waits for `ready` finds the streams.
        self.heartbeat()?;
        self.channel.send_json(&FromWorker::Ready { missing }, &[])?;
        while !self.stopping {
            self.take();
            self.commit_when_due();
            self.make_room();
            self.answer_waiting();
            self.heartbeat()?;
            self.wait()?;
        }
        self.finish()
    }

    // ---- taking and writing ----

    /// Appends what was published, as much as one commit may hold.
    fn take(&mut self) {
        if self.retry_at.is_some() && self.writer.uncommitted_bytes() >= COMMIT_BYTES {
            return;
        }
        if self.taken == 0 && self.memory.epoch() == 0 {
            return;
        }
        let published = self.memory.published();
        while self.taken < published
            && self.pending_batches < self.batch_limit
            && self.writer.uncommitted_bytes() < COMMIT_BYTES
        {
            self.append(self.taken + 1);
            self.taken += 1;
            self.pending_batches += 1;
            self.pending_since.get_or_insert_with(Instant::now);
        }
    }

    /// A batch that is not one costs itself only, and is counted.
    fn append(&mut self, number: u64) {
        match self.memory.take(number, &mut self.buffer) {
            Ok(batch) => {
                if let Err(refused) = self.writer.append(&self.buffer, batch.count, batch.mono_offset_ns) {
                    self.complain(&format!("batch {number} refused: {refused}"));
                }
                self.memory.taken(batch.len);
            }
            Err(error) => self.complain(&error.to_string()),
        }
    }

    /// Says what a collector did wrong, at the 1st, 2nd, 4th, 8th … time: a lying one must not fill the log.
    fn complain(&mut self, what: &str) {
        self.complaints += 1;
        if self.complaints.is_power_of_two() {
            eprintln!("raven-worker store: {what} ({} such so far)", self.complaints);
        }
    }

    fn commit_when_due(&mut self) {
        let Some(since) = self.pending_since else { return };
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let full = self.writer.uncommitted_bytes() >= COMMIT_BYTES || self.pending_batches >= self.batch_limit;
        if full || since.elapsed() >= self.sync {
            self.commit();
        }
    }

    fn commit(&mut self) {
        let mark = BatchMark { epoch: self.memory.epoch(), batch: self.taken, pos: 0 };
        match self.writer.commit(mark) {
            Ok(_) => {
                self.memory.set_durable(self.taken);
                (self.pending_since, self.retry_at, self.pending_batches) = (None, None, 0);
                self.batch_limit = self.batch_limit.saturating_mul(4);
                // What was just stored is shown soon.
                self.next_heartbeat = self.next_heartbeat.min(Instant::now() + FRESH);
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    eprintln!("raven-worker store: {error}; what is received waits in memory, tried again");
                }
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    // ---- waiting ----

    fn wait(&mut self) -> anyhow::Result<()> {
        let waiting = if self.pending_since.is_some() { Waiting::Filling } else { Waiting::Idle };
        let seen = self.memory.wait(waiting);
        // Filling: what came meanwhile is taken at the next commit, or when the collector says that it is much.
        let timeout = if self.has_more(seen, waiting) { Duration::ZERO } else { self.timeout() };
        let ready = self.poll(timeout)?;
        self.memory.wait(Waiting::Busy);
        if ready.wake {
            let mut count = [0; 8];
            let _ = self.wake.read(&mut count);
        }
        for n in ready.readers {
            let _ = self.readers[n].server.flush();
            self.hear_reader(n);
        }
        if ready.control {
            self.control()?;
        }
        Ok(())
    }

    fn has_more(&self, published: u64, waiting: Waiting) -> bool {
        let blocked = self.retry_at.is_some() || self.pending_batches >= self.batch_limit;
        waiting == Waiting::Idle && self.memory.epoch() != 0 && published > self.taken && !blocked
    }

    fn timeout(&self) -> Duration {
        let now = Instant::now();
        let sync = self.pending_since.map(|since| (since + self.sync).saturating_duration_since(now));
        let due = match self.retry_at {
            Some(at) => Some(at.saturating_duration_since(now)),
            None => sync,
        };
        let fence = self.fenced.as_ref().map(|fenced| fenced.until.saturating_duration_since(now));
        let heartbeat = self.next_heartbeat.saturating_duration_since(now);
        [due, fence, Some(heartbeat)].into_iter().flatten().min().unwrap_or(HEARTBEAT)
    }

    fn poll(&self, timeout: Duration) -> anyhow::Result<Ready> {
        let mut fds = vec![
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
        ];
        for reader in &self.readers {
            let writing = if reader.server.outbox.is_waiting() { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(reader.server.as_fd(), PollFlags::POLLIN | writing));
        }
        // Rounded up: a wait cut to whole milliseconds would spin at the end.
        let millis = timeout.as_micros().div_ceil(1000).min(1000) as u16;
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let readers = fds[2..].iter().enumerate().filter(|(_, fd)| ready(fd)).map(|(n, _)| n).collect();
        Ok(Ready { wake: ready(&fds[0]), control: ready(&fds[1]), readers })
    }

    fn control(&mut self) -> anyhow::Result<()> {
        loop {
            match self.channel.try_recv_json::<ToWorker>(&mut self.packet) {
                Ok(Some((message, _))) => self.obey(message)?,
                Ok(None) => {
                    self.stopping = true;
                    return Ok(());
                }
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn obey(&mut self, message: ToWorker) -> anyhow::Result<()> {
        match message {
            ToWorker::Listeners(names) => self.writer.set_listeners(names),
            ToWorker::Configure(config) => self.configure(&config)?,
            ToWorker::Stop => self.stopping = true,
            _ => bail!("a message that the store does not take"),
        }
        Ok(())
    }

    fn configure(&mut self, config: &Config) -> anyhow::Result<()> {
        self.sync = config.buffer.sync.0;
        self.writer.set_quota(quota(&self.ring, config.buffer.disk)?, config.buffer.keep.0);
        Ok(())
    }

    fn heartbeat(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if now < self.next_heartbeat {
            return Ok(());
        }
        self.next_heartbeat = now + HEARTBEAT;
        let streams = vec![self.writer.status(now)];
        let report = StoreReport { streams, listeners: self.writer.listener_counts() };
        let report = serde_json::value::to_raw_value(&report)?;
        self.channel.send_json(&FromWorker::Heartbeat { report }, &[])?;
        Ok(())
    }

    /// Makes everything durable that the collectors handed over.
    fn finish(mut self) -> anyhow::Result<()> {
        let until = Instant::now() + STOP;
        self.batch_limit = u64::MAX;
        loop {
            self.take();
            if self.pending_since.is_none() {
                return Ok(());
            }
            self.commit();
            if self.retry_at.is_some() {
                if Instant::now() > until {
                    bail!("stopped with {} bytes that could not be stored", self.writer.uncommitted_bytes());
                }
                self.make_room();
                std::thread::sleep(RETRY);
                self.make_room();
            }
        }
    }
}

/// What a poll found.
struct Ready {
    wake: bool,
    control: bool,
    readers: Vec<usize>,
}

fn options(ring: &Path, buffer: &Buffer, boot_id: &str) -> anyhow::Result<WriterOptions> {
    let boot_id = u128::from_str_radix(boot_id, 16).unwrap_or(0).to_be_bytes();
    let segment_bytes = buffer.segment.map(|bytes| bytes.0);
    Ok(WriterOptions { quota_bytes: quota(ring, buffer.disk)?, segment_bytes, keep: buffer.keep.0, boot_id })
}

/// Bytes that the ring may take: never more than 95 % of its file system.
fn quota(ring: &Path, disk: Disk) -> anyhow::Result<u64> {
    let fs = statvfs(ring).with_context(|| format!("cannot ask the size of the file system of {}", ring.display()))?;
    let size = fs.blocks() * fs.fragment_size();
    Ok(match disk {
        Disk::Share(percent) => size / 100 * u64::from(percent),
        Disk::Amount(bytes) => bytes.0.min(size / 100 * 95),
    })
}

/// Wall clock minus the clock that is never stepped, nanoseconds.
fn clock_offset() -> i128 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos().cast_signed());
    let steady = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(0, |t| i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec()));
    wall - steady
}
