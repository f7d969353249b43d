//! What roles share that listen to nobody ([`crate::host`], [`crate::alert`], `schedule`): they speak of the appliance. Their records
//! wait for room in the receive memory, as sent by 127.0.0.1:0, and `ravend` is heard between two of them.

use crate::{CollectorError, Passed};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::receive::{Arrived, CollectorMemory, Contexts, Inspect, Verdict};
use raven_model::control::{FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::record::Context;
use raven_model::report::CollectorReport;
use raven_model::units::UnixNanos;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often a role says that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Records that wait for room; the oldest makes room for the next.
const WAITING_MAX: usize = 256;
/// The drop reason of those that found none.
const RING_FULL: u8 = 0;
/// Who sends.
const SELF: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A record on its way.
struct Line {
    wall: UnixNanos,
    text: Vec<u8>,
    /// What is written before it, under this key.
    context: Option<(&'static [u8], Vec<u8>)>,
}

/// The ends of a role's channel and receive memory.
pub struct Speaker {
    channel: Channel,
    /// What it writes into.
    pub memory: CollectorMemory,
    wake: OwnedFd,
    waiting: VecDeque<Line>,
    /// Told to stop, or `ravend` is gone.
    pub stopping: bool,
}

impl Speaker {
    /// Takes over the receive memory that `start` names; `recall` is given what the store kept for this role.
    pub fn of(
        start: &Start,
        fds: Vec<OwnedFd>,
        channel: Channel,
        epoch: u64,
        recall: &mut impl Inspect,
    ) -> Result<Self, CollectorError> {
        let Passed { memory, words, wake } = Passed::of(start, fds)?;
        let (memory, _) = CollectorMemory::open_small(&memory, &words, epoch, recall)
            .map_err(|error| CollectorError::Io("receive memory", error))?;
        Ok(Self { channel, memory, wake, waiting: VecDeque::new(), stopping: false })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(&self, missing: Vec<String>) -> Result<(), CollectorError> {
        Ok(self.channel.send_json(&FromWorker::Ready { missing }, &[])?)
    }

    /// A record, and the context that goes before it.
    pub fn keep(&mut self, wall: UnixNanos, text: Vec<u8>, context: Option<(&'static [u8], Vec<u8>)>) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
            self.memory.count_drop(RING_FULL);
        }
        self.waiting.push_back(Line { wall, text, context });
    }

    /// Records that wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Gives what waits to the store, as far as there is room, and wakes it if it asked for that.
    pub fn hand_over(&mut self) {
        // Memory that is not given back is no reason to stop.
        let _ = self.memory.rewind();
        while let Some(line) = self.waiting.front() {
            let arrived = Arrived { source: SELF, listener: 0, wall: line.wall, raw: &line.text };
            if self.memory.append(&arrived, &mut Before(line)).is_none() {
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

    /// The last of it, and what is left behind.
    pub fn finish(mut self, role: &str) {
        self.hand_over();
        if !self.waiting.is_empty() {
            eprintln!(
                "raven-worker {role}: stopped with {} records that the store had no room for",
                self.waiting.len()
            );
        }
    }

    /// Waits until then, or until `ravend` has said something; true when it has.
    pub fn wait(&self, until: Instant) -> Result<bool, CollectorError> {
        self.wait_also(until, None)
    }

    /// Also until this can be read.
    pub fn wait_also(&self, until: Instant, bell: Option<BorrowedFd<'_>>) -> Result<bool, CollectorError> {
        // Rounded up: a wait cut to whole milliseconds would spin at the end.
        let wait = until.saturating_duration_since(Instant::now()).min(HEARTBEAT).as_micros().div_ceil(1000) as u16;
        let watched = [Some(self.channel.as_fd()), bell].into_iter().flatten();
        let mut fds: Vec<PollFd<'_>> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::from(wait)) {
            Ok(_) => Ok(fds[0].any().unwrap_or(false)),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(CollectorError::Io("poll", error.into())),
        }
    }

    /// What `ravend` says. The packet's memory is kept only as long as it is needed.
    pub fn hear(&mut self) -> Result<Vec<ToWorker>, CollectorError> {
        Ok(self.hear_all()?.into_iter().map(|(message, _)| message).collect())
    }

    /// The same, with the descriptors beside each.
    pub fn hear_all(&mut self) -> Result<Vec<(ToWorker, Vec<OwnedFd>)>, CollectorError> {
        let (mut packet, mut heard) = (vec![0; PACKET_MAX], Vec::new());
        loop {
            match self.channel.try_recv_json::<ToWorker>(&mut packet) {
                Ok(Some((ToWorker::Stop, _))) => self.stopping = true,
                Ok(Some(heard_now)) => heard.push(heard_now),
                Ok(None) => {
                    self.stopping = true;
                    return Ok(heard);
                }
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(heard),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What every collector reports.
    pub fn report(&self) -> CollectorReport {
        let mut report = CollectorReport {
            published: self.memory.published(),
            stalls: self.memory.stalls(),
            ..CollectorReport::default()
        };
        let dropped = self.memory.dropped(RING_FULL);
        if dropped > 0 {
            report.dropped.insert("ring_full".to_owned(), dropped);
        }
        report
    }

    /// Says that it lives, with its report in JSON.
    pub fn heartbeat(&self, report: serde_json::Result<Box<RawValue>>) -> Result<(), CollectorError> {
        let report = report.map_err(|e| CollectorError::Setup(e.to_string()))?;
        Ok(self.channel.send_json(&FromWorker::Heartbeat { report }, &[])?)
    }
}

/// Puts a line's context before it.
struct Before<'a>(&'a Line);

impl Inspect for Before<'_> {
    fn looks(&self) -> bool {
        self.0.context.is_some()
    }

    fn recall(&mut self, _: &[u8]) {}

    fn begin(&mut self) {}

    fn inspect(&mut self, arrived: &Arrived<'_>, contexts: &mut Contexts) -> Verdict {
        if let Some((key, value)) = &self.0.context {
            contexts.add(&Context { key, value }, arrived.wall);
        }
        Verdict::Keep
    }
}
