//! The collector of the appliance's own telemetry: a sample of this machine at each interval, and a record for what
//! changed between two of them.
//!
//! It listens to nobody: it reads `/proc` and `/sys` ([`source`]), and its records go the way of all others, through
//! the receive memory to the store, as sent by 127.0.0.1:0. Names that others chose (interfaces, mounts, processes) are
//! bounded text in it. Start with [`sample`] (one look), then [`step`] (what changed); the texts are taken apart by pure
//! functions in [`processor`], [`disk`], [`network`], [`process`] and [`sensor`].

mod disk;
mod network;
mod process;
mod processor;
mod sample;
mod sensor;
mod source;
mod step;
#[cfg(test)]
mod tests;
mod text;

use crate::{CollectorError, Passed};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::memory::page_size;
use raven_jail::receive::{Arrived, Blind, CollectorMemory};
use raven_model::config::Config;
use raven_model::control::{FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::host::HostEvent;
use raven_model::report::CollectorReport;
use raven_model::units::UnixNanos;
use sample::Fixed;
use source::{Machine, Source};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use step::{Before, step};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// Shortest and longest interval.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));
/// Records that wait for room in the ring; the oldest makes room for the next.
const WAITING_MAX: usize = 64;
/// The drop reason of those that found none.
const RING_FULL: u8 = 0;
/// Who sends.
const SELF: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The role's state.
pub struct Host<S = Machine> {
    channel: Channel,
    memory: CollectorMemory,
    wake: OwnedFd,
    source: S,
    fixed: Fixed,
    before: Option<Before>,
    /// None while it is not enabled.
    interval: Option<Duration>,
    next_sample: Instant,
    next_heartbeat: Instant,
    waiting: VecDeque<(UnixNanos, Vec<u8>)>,
    stopping: bool,
}

impl Host {
    /// Takes over the receive memory that `start` names; `fds` are the descriptors beside it.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel, epoch: u64) -> Result<Self, CollectorError> {
        Self::of(Machine, start, fds, channel, epoch)
    }
}

impl<S: Source> Host<S> {
    fn of(source: S, start: &Start, fds: Vec<OwnedFd>, channel: Channel, epoch: u64) -> Result<Self, CollectorError> {
        let Passed { memory, words, wake } = Passed::of(start, fds)?;
        let (memory, _) = CollectorMemory::open_small(&memory, &words, epoch, &mut Blind)
            .map_err(|error| CollectorError::Io("receive memory", error))?;
        let data = start.data.to_string_lossy().into_owned();
        let fixed = Fixed { boot_id: start.boot_id.clone(), data, page: page_size() as u64 };
        let now = Instant::now();
        let interval = start.config.as_deref().map_or(Some(Duration::from_secs(10)), interval);
        Ok(Self {
            channel,
            memory,
            wake,
            source,
            fixed,
            before: None,
            interval,
            next_sample: now,
            next_heartbeat: now,
            waiting: VecDeque::new(),
            stopping: false,
        })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, CollectorError> {
        self.channel.send_json(&FromWorker::Ready { missing }, &[])?;
        Ok(self)
    }

    /// Samples until `ravend` says stop or is gone.
    pub fn run(mut self) -> Result<(), CollectorError> {
        while !self.stopping {
            self.round()?;
        }
        self.hand_over();
        if !self.waiting.is_empty() {
            eprintln!("raven-worker host: stopped with {} records that the store had no room for", self.waiting.len());
        }
        Ok(())
    }

    fn round(&mut self) -> Result<(), CollectorError> {
        self.heartbeat()?;
        self.sample_when_due();
        self.hand_over();
        if self.wait()? {
            self.control()?;
        }
        Ok(())
    }

    /// True when `ravend` has said something.
    fn wait(&self) -> Result<bool, CollectorError> {
        let next =
            if self.interval.is_some() { self.next_sample.min(self.next_heartbeat) } else { self.next_heartbeat };
        // Rounded up: a wait cut to whole milliseconds would spin at the end.
        let wait = next.saturating_duration_since(Instant::now()).min(HEARTBEAT).as_micros().div_ceil(1000) as u16;
        let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(wait)) {
            Ok(_) => Ok(fds[0].any().unwrap_or(false)),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(CollectorError::Io("poll", error.into())),
        }
    }

    fn sample_when_due(&mut self) {
        let (Some(interval), now) = (self.interval, Instant::now()) else { return };
        if now < self.next_sample {
            return;
        }
        // In step with the first one, and without catching up when the machine slept.
        self.next_sample += interval;
        if self.next_sample <= now {
            self.next_sample = now + interval;
        }
        let sample = sample::sample(&self.source, &self.fixed);
        let (before, events) = step(self.before.take(), sample);
        for event in &events {
            self.keep(event.t, event_line(event));
        }
        self.keep(before.sample().t, sample::line(before.sample()));
        self.before = Some(before);
    }

    fn keep(&mut self, t: UnixNanos, line: Vec<u8>) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
            self.memory.count_drop(RING_FULL);
        }
        self.waiting.push_back((t, line));
    }

    /// Gives what waits to the store, as far as there is room, and wakes it if it asked for that.
    fn hand_over(&mut self) {
        // Memory that is not given back is no reason to stop.
        let _ = self.memory.rewind();
        while let Some((wall, line)) = self.waiting.front() {
            let arrived = Arrived { source: SELF, listener: 0, wall: *wall, raw: line };
            if self.memory.append(&arrived, &mut Blind).is_none() {
                break;
            }
            self.waiting.pop_front();
        }
        self.memory.hand_over();
        if self.memory.wants_waking() {
            // The only way this can fail is a counter at its limit, and then the store is awake.
            let _ = nix::unistd::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    fn heartbeat(&mut self) -> Result<(), CollectorError> {
        let now = Instant::now();
        if now < self.next_heartbeat {
            return Ok(());
        }
        self.next_heartbeat = now + HEARTBEAT;
        let mut report = CollectorReport {
            published: self.memory.published(),
            stalls: self.memory.stalls(),
            ..CollectorReport::default()
        };
        let dropped = self.memory.dropped(RING_FULL);
        if dropped > 0 {
            report.dropped.insert("ring_full".to_owned(), dropped);
        }
        let report = serde_json::value::to_raw_value(&report).map_err(|e| CollectorError::Setup(e.to_string()))?;
        Ok(self.channel.send_json(&FromWorker::Heartbeat { report }, &[])?)
    }

    /// Takes in what `ravend` says. The packet's memory is kept only as long as it is needed.
    fn control(&mut self) -> Result<(), CollectorError> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            match self.channel.try_recv_json::<ToWorker>(&mut packet) {
                Ok(Some((message, _))) => self.obey(&message),
                Ok(None) => {
                    self.stopping = true;
                    return Ok(());
                }
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Listeners, connections and secrets are nothing to this role.
    fn obey(&mut self, message: &ToWorker) {
        match message {
            ToWorker::Configure(config) => {
                let interval = interval(config);
                if interval != self.interval {
                    self.interval = interval;
                    self.next_sample = Instant::now();
                }
                if interval.is_none() {
                    self.before = None;
                }
            }
            ToWorker::Stop => self.stopping = true,
            _ => {}
        }
    }
}

fn interval(config: &Config) -> Option<Duration> {
    let host = &config.collect.host;
    host.enabled.then(|| host.interval.0.clamp(INTERVAL.0, INTERVAL.1))
}

fn event_line(event: &HostEvent) -> Vec<u8> {
    serde_json::to_vec(event).unwrap_or_default()
}
