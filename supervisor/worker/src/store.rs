//! The `store` role: takes batches out of the receive memories, writes them to the ring, and answers readers of the
//! open segments.
//!
//! A commit comes every `buffer.sync` or 24 MiB, whichever is first, sooner where a sender waits for it, and holds whole
//! batches of one stream only. Only after it the receive memory is told, and only then the collector uses that space
//! again: whatever happens to this process, the next one goes on behind the last batch that is on disk.
//!
//! After a start the first commits are small and grow: a batch that kills the store takes no others with it.
//!
//! A stream is opened when the configuration collects it, or when there is something of it on disk.

mod import;
mod kept;
mod readers;
mod room;
mod senders;
mod sizes;
#[cfg(test)]
mod soak;
mod world;

use anyhow::{Context, bail};
use kept::{Input, Kept};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_buffer::tail::{Pieces, TailServer};
use raven_buffer::{Eviction, WriterOptions, shares};
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::receive::Waiting;
use raven_model::config::{Config, Silence};
use raven_model::control::{Fd, FromWorker, ListenerId, PACKET_MAX, Start, ToWorker};
use raven_model::report::StoreReport;
use raven_model::stream::Stream;
use raven_model::table::Role;
use raven_model::units::Seq;
use senders::Senders;
use sizes::Sizes;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use world::{Machine, World};

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
const WAITING_MAX: usize = 64;
/// How long a graceful stop tries to make everything durable.
const STOP: Duration = Duration::from_secs(5);
/// The clock is trusted for removal by age as long as it was not stepped by more.
const STEP: i128 = 60_000_000_000;

/// A reader of the open segments.
struct Reader {
    role: Role,
    server: TailServer,
    /// Questions that wait for the next record of a stream; the oldest is dropped when there are too many (it is asked
    /// again).
    waiting: VecDeque<(u64, Stream, Seq)>,
    /// What it brings.
    pieces: Pieces,
}

/// An eviction that waits for the uplink's word.
struct Fenced {
    eviction: Eviction,
    token: u64,
    until: Instant,
}

/// The store's state.
pub struct Store {
    world: Rc<dyn World>,
    channel: Channel,
    kept: Vec<Kept>,
    sizes: Sizes,
    /// Streams that are not opened.
    idle: Vec<Input>,
    ring: PathBuf,
    boot_id: [u8; 16],
    config: Box<Config>,
    /// Who sends, and when senders count as silent; none when nobody watches that.
    senders: Senders,
    silence: Option<Silence>,
    listeners: BTreeMap<ListenerId, String>,
    readers: Vec<Reader>,
    last_token: u64,
    next_heartbeat: Instant,
    /// There were commits since the last heartbeat, and before it.
    commits: bool,
    told_of_commits: bool,
    buffer: Vec<u8>,
    packet: Vec<u8>,
    stopping: bool,
}

impl Store {
    /// Opens the ring and the receive memories. Called inside the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> anyhow::Result<Self> {
        Self::within(Rc::new(Machine), start, fds, channel)
    }

    fn within(world: Rc<dyn World>, start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> anyhow::Result<Self> {
        let (idle, readers) = passed(start, fds)?;
        let ring = start.data.join("ring");
        let mut this = Self {
            next_heartbeat: world.now(),
            world,
            channel,
            kept: Vec::new(),
            sizes: Sizes::default(),
            idle,
            senders: Senders::open(&ring),
            silence: start.config.as_deref().and_then(|config| config.alert.silence()),
            ring,
            boot_id: u128::from_str_radix(&start.boot_id, 16).unwrap_or(0).to_be_bytes(),
            config: start.config.clone().context("ravend passed no configuration")?,
            listeners: start.listeners.clone(),
            readers,
            last_token: 0,
            commits: false,
            told_of_commits: false,
            buffer: Vec::new(),
            packet: vec![0; PACKET_MAX],
            stopping: false,
        };
        this.open_streams()?;
        Ok(this)
    }

    /// Opens what is collected or on disk, and gives each its part of the disk.
    fn open_streams(&mut self) -> anyhow::Result<()> {
        self.open_streams_and(None)
    }

    /// The same, and one more.
    fn open_streams_and(&mut self, more: Option<Stream>) -> anyhow::Result<()> {
        let config = &self.config;
        let wanted =
            |stream: Stream| config.collects(stream) || more == Some(stream) || self.ring.join(stream.name()).is_dir();
        let (open, idle): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.idle).into_iter().partition(|input| wanted(input.stream));
        self.idle = idle;
        let granted = sizes::granted(self.world.space(&self.ring)?.size, self.config.buffer.disk);
        let parts = self.parts(granted, &open.iter().map(|input| input.stream).collect::<Vec<_>>());
        for input in open {
            let quota_bytes = parts[&input.stream];
            let segment_bytes = shares::segment(quota_bytes, self.config.buffer.segment.map(|bytes| bytes.0));
            let keep = self.config.buffer.keep(input.stream);
            let options =
                WriterOptions { quota_bytes, segment_bytes: Some(segment_bytes), keep, boot_id: self.boot_id };
            self.kept.push(Kept::open(&self.world, input, &self.ring, options, self.listeners.clone())?);
        }
        self.measure();
        Ok(())
    }

    /// Stores until `ravend` says stop or is gone.
    pub fn run(mut self, missing: Vec<String>) -> anyhow::Result<()> {
        // The report first: whoever waits for `ready` finds the streams.
        self.heartbeat()?;
        self.channel.send_json(&FromWorker::Ready { missing }, &[])?;
        while !self.stopping {
            self.round()?;
            self.wait()?;
        }
        self.finish()
    }

    /// Does what is due.
    fn round(&mut self) -> anyhow::Result<()> {
        for n in 0..self.kept.len() {
            self.keep(n);
        }
        self.answer_waiting();
        self.heartbeat()
    }

    /// A round of one stream.
    fn keep(&mut self, n: usize) {
        let (kept, now) = (&mut self.kept[n], self.world.now());
        let sync = self.config.buffer.sync.0;
        let (senders, silence) = (&mut self.senders, self.silence.as_ref());
        kept.take(&mut self.buffer, sync, |stream, frames| {
            if let Some(silence) = silence {
                senders.note(stream, frames, silence, now);
            }
        });
        if kept.commit_when_due(sync) {
            if !self.told_of_commits {
                // What is stored after a pause is shown soon.
                self.next_heartbeat = self.next_heartbeat.min(now + FRESH);
            }
            self.commits = true;
        }
        kept.save_contexts(self.world.now());
        let stored = kept.imported();
        self.tell_imported(stored);
        self.make_room(n);
    }

    // ---- waiting ----

    fn wait(&mut self) -> anyhow::Result<()> {
        // All are told, also when one of them has more already.
        let more = self.kept.iter().filter(|kept| kept.wait()).count() > 0;
        let timeout = if more { Duration::ZERO } else { self.timeout() };
        let ready = self.poll(timeout)?;
        for (n, kept) in self.kept.iter_mut().enumerate() {
            kept.memory.wait(Waiting::Busy);
            if ready.woken[n] {
                let mut count = [0; 8];
                let _ = kept.wake.read(&mut count);
            }
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

    fn timeout(&self) -> Duration {
        let now = self.world.now();
        let sync = self.config.buffer.sync.0;
        let dues = self.kept.iter().filter_map(|kept| kept.due(now, sync));
        let fences = self.kept.iter().filter_map(|kept| Some(kept.fenced.as_ref()?.until));
        dues.chain(fences).chain([self.next_heartbeat]).min().map_or(HEARTBEAT, |at| at.saturating_duration_since(now))
    }

    fn poll(&self, timeout: Duration) -> anyhow::Result<Ready> {
        let mut fds = vec![PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.kept.iter().map(|kept| PollFd::new(kept.wake.as_fd(), PollFlags::POLLIN)));
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
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let (wakes, readers) = ready[1..].split_at(self.kept.len());
        let readers = readers.iter().enumerate().filter(|(_, ready)| **ready).map(|(n, _)| n).collect();
        Ok(Ready { control: ready[0], woken: wakes.to_vec(), readers })
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
            ToWorker::Listeners(names) => {
                for kept in &mut self.kept {
                    kept.writer.set_listeners(names.clone());
                }
                self.listeners = names;
            }
            ToWorker::Configure(config) => {
                self.silence = config.alert.silence();
                self.config = config;
                self.open_streams()?;
            }
            ToWorker::Dropped(drops) => {
                for drop in drops {
                    if let Some(kept) = self.kept.iter_mut().find(|kept| kept.stream == drop.stream) {
                        kept.writer.note_drops(&drop.listener, &drop.reason, drop.source, drop.count);
                    }
                }
            }
            ToWorker::Stop => self.stopping = true,
            _ => bail!("a message that the store does not take"),
        }
        Ok(())
    }

    fn heartbeat(&mut self) -> anyhow::Result<()> {
        let now = self.world.now();
        if now < self.next_heartbeat {
            return Ok(());
        }
        self.next_heartbeat = now + HEARTBEAT;
        self.told_of_commits = std::mem::take(&mut self.commits);
        self.measure();
        let report = self.report(now);
        let report = serde_json::value::to_raw_value(&report)?;
        self.channel.send_json(&FromWorker::Heartbeat { report }, &[])?;
        Ok(())
    }

    fn report(&mut self, now: Instant) -> StoreReport {
        let mut report = StoreReport::default();
        let parts = self.parts(self.sizes.total(), &[]);
        for n in 0..self.kept.len() {
            let acknowledged = self.acknowledged(n);
            let kept = &mut self.kept[n];
            kept.look_for_room = true;
            kept.count_drops();
            kept.save_counts(now, false);
            let mut status = kept.writer.status(now);
            status.share = parts[&kept.stream];
            status.next_to_go = kept.writer.oldest().map_or_else(BTreeMap::new, |oldest| oldest.missing(&acknowledged));
            report.streams.push(status);
            report.listeners.extend(kept.writer.listener_counts());
        }
        report.ring = self.ring_status(&report.streams);
        report.silence = self.silence.as_ref().map(|silence| self.senders.report(silence, now));
        self.senders.save(now, false);
        report
    }

    /// Makes everything durable that the collectors handed over.
    fn finish(mut self) -> anyhow::Result<()> {
        let until = self.world.now() + STOP;
        self.senders.save(self.world.now(), true);
        loop {
            let mut left = 0;
            for n in 0..self.kept.len() {
                if !self.kept[n].finish(&mut self.buffer) {
                    left += self.kept[n].writer.uncommitted_bytes();
                    self.make_room(n);
                }
            }
            if left == 0 {
                for kept in &mut self.kept {
                    kept.count_drops();
                    kept.save_counts(self.world.now(), true);
                }
                return Ok(());
            }
            if self.world.now() > until {
                bail!("stopped with {left} bytes that could not be stored");
            }
            std::thread::sleep(RETRY);
            (0..self.kept.len()).for_each(|n| self.make_room(n));
        }
    }
}

/// What a poll found.
struct Ready {
    control: bool,
    /// For each stream that is kept.
    woken: Vec<bool>,
    readers: Vec<usize>,
}

/// Sorts what `ravend` passed.
fn passed(start: &Start, fds: Vec<OwnedFd>) -> anyhow::Result<(Vec<Input>, Vec<Reader>)> {
    let mut parts: BTreeMap<Stream, [Option<OwnedFd>; 3]> = BTreeMap::new();
    let mut readers = Vec::new();
    for (name, fd) in start.fds.iter().zip(fds) {
        match name {
            Fd::Ring { stream } => parts.entry(*stream).or_default()[0] = Some(fd),
            Fd::Words { stream } => parts.entry(*stream).or_default()[1] = Some(fd),
            Fd::Wake { stream } => parts.entry(*stream).or_default()[2] = Some(fd),
            Fd::Tail { peer } => {
                let (server, waiting, pieces) = (TailServer::new(fd), VecDeque::new(), Pieces::default());
                readers.push(Reader { role: *peer, server, waiting, pieces });
            }
            // Of other roles.
            Fd::ConfigText { .. }
            | Fd::DeviceKey
            | Fd::Digest
            | Fd::Password
            | Fd::Hash
            | Fd::UpdateKeys
            | Fd::BandwidthDay
            | Fd::Tunnels
            | Fd::Orders { .. }
            | Fd::Profile { .. } => {}
        }
    }
    let mut inputs = Vec::new();
    for (stream, part) in parts {
        let [Some(memory), Some(words), Some(wake)] = part else {
            bail!("ravend passed no receive memory of {stream}")
        };
        inputs.push(Input { stream, memory, words, wake });
    }
    Ok((inputs, readers))
}
