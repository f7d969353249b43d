//! One worker: its process, its control channel, and the restart law.
//!
//! A worker that dies is started again at once if it ran longer than [`MIN_RUN`], else when that time is over. Only
//! deaths of its own making count towards holding it back, a hold is never longer than [`HOLD_MAX`] (the receive
//! buffer of a listener covers a second at 100,000 messages a second), and it is never given up.

use raven_jail::channel::{Channel, ChannelError};
use raven_jail::signals;
use raven_jail::spawn::{Child, End, SpawnSpec, spawn};
use raven_model::control::{FromWorker, PACKET_MAX, ToWorker};
use raven_model::report::Process;
use raven_model::table::{Role, RoleSpec, table};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A worker that ran shorter than this is not started again before it is over.
pub const MIN_RUN: Duration = Duration::from_millis(50);
/// Longest hold.
pub const HOLD_MAX: Duration = Duration::from_secs(1);
/// Deaths of its own making within [`HOLD_WINDOW`] before a worker is held back.
const HOLD_AFTER: usize = 5;
const HOLD_WINDOW: Duration = Duration::from_secs(10);

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The configuration has no use for it.
    Unwanted,
    /// Not running; to be started at this time.
    Waiting(Instant),
    /// Started, not yet jailed.
    Starting,
    /// At work.
    Running,
    /// Told to finish.
    Stopping,
    /// Finished, and not to be started again.
    Stopped,
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// What it does.
    pub role: Role,
    /// What it may do.
    pub spec: &'static RoleSpec,
    /// Where it is in its life.
    pub state: State,
    /// Newest report, as it came.
    pub report: Option<Box<RawValue>>,
    /// What its jail lacks.
    pub missing: Vec<String>,
    child: Option<Child>,
    channel: Option<Channel>,
    outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    starts: u64,
    started: Instant,
    last_heartbeat: Instant,
    last_end: Option<End>,
    own_deaths: VecDeque<Instant>,
}

/// When a worker that ended may be started again.
///
/// `ran` is how long it lived; `own_deaths` are the times of deaths of its own making, the newest last.
pub fn restart_delay(ran: Duration, own_deaths: &VecDeque<Instant>, now: Instant) -> Duration {
    let recent = own_deaths.iter().filter(|&&at| now.duration_since(at) < HOLD_WINDOW).count();
    let hold = match recent.checked_sub(HOLD_AFTER) {
        Some(over) => (MIN_RUN * 2_u32.pow(over.min(8) as u32)).min(HOLD_MAX),
        None => Duration::ZERO,
    };
    hold.max(MIN_RUN.saturating_sub(ran))
}

/// A death that the worker brought about itself: it crashed, was caught by its jail, or gave up.
fn own_making(end: End) -> bool {
    match end {
        End::Exit(_) => true,
        End::Signal(signal) => [signals::SIGSEGV, signals::SIGABRT, signals::SIGSYS, libc_bus()].contains(&signal),
    }
}

const fn libc_bus() -> i32 {
    nix::libc::SIGBUS
}

impl Worker {
    /// A worker that is to be started now.
    pub fn new(role: Role, now: Instant) -> Self {
        Self {
            role,
            spec: table().spec(role),
            state: State::Waiting(now),
            report: None,
            missing: Vec::new(),
            child: None,
            channel: None,
            outbox: VecDeque::new(),
            starts: 0,
            started: now,
            last_heartbeat: now,
            last_end: None,
            own_deaths: VecDeque::new(),
        }
    }

    /// Starts the process and hands it its first message.
    pub fn start(&mut self, program: BorrowedFd<'_>, data: &Path) -> io::Result<()> {
        let (ours, theirs) = Channel::pair()?;
        ours.set_send_buffer(1 << 20)?;
        theirs.set_send_buffer(1 << 20)?;
        let child = spawn(&SpawnSpec { role: self.spec, program, control: theirs.as_fd(), data })?;
        self.missing.clone_from(&child.missing);
        (self.started, self.last_heartbeat) = (Instant::now(), Instant::now());
        self.starts += 1;
        self.state = State::Starting;
        (self.child, self.channel) = (Some(child), Some(ours));
        self.outbox.clear();
        Ok(())
    }

    /// The data directory as the running process sees it.
    pub fn data_view(&self) -> Option<&Path> {
        self.child.as_ref().map(|child| child.data.as_path())
    }

    /// Descriptors to poll: the channel, and the process's end.
    pub fn fds(&self) -> Option<(BorrowedFd<'_>, BorrowedFd<'_>)> {
        Some((self.channel.as_ref()?.as_fd(), self.child.as_ref()?.as_fd()))
    }

    /// Sends a message now, or when the worker has room for it.
    pub fn send(&mut self, message: &ToWorker, fds: Vec<OwnedFd>) {
        if self.channel.is_none() {
            return;
        }
        match serde_json::to_vec(message) {
            Ok(packet) => self.outbox.push_back((packet, fds)),
            Err(error) => tracing::error!(role = %self.role, "a message could not be written: {error}"),
        }
        self.flush();
    }

    /// Sends what waits; true when all is sent.
    pub fn flush(&mut self) -> bool {
        let Some(channel) = &self.channel else { return true };
        while let Some((packet, fds)) = self.outbox.front() {
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match channel.try_send(packet, &borrowed) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // It is dying: its end is seen by the pidfd.
                Err(_) => self.outbox.clear(),
            }
        }
        true
    }

    /// The next message and its descriptors, if one is there.
    pub fn receive(&mut self, packet: &mut Vec<u8>) -> Option<(FromWorker, Vec<OwnedFd>)> {
        packet.resize(PACKET_MAX, 0);
        let channel = self.channel.as_ref()?;
        match channel.try_recv_json(packet) {
            Ok(Some(told)) => Some(told),
            Ok(None) | Err(ChannelError::Io(_)) => None,
            Err(error) => {
                tracing::error!(role = %self.role, "the worker does not speak our language and is killed: {error}");
                self.kill();
                None
            }
        }
    }

    /// Notes a sign of life.
    pub fn alive(&mut self, report: Box<RawValue>) {
        self.last_heartbeat = Instant::now();
        self.report = Some(report);
    }

    /// Notes that it is jailed and at work.
    pub fn ready(&mut self, missing: Vec<String>) {
        self.missing.extend(missing);
        self.last_heartbeat = Instant::now();
        if self.state == State::Starting {
            self.state = State::Running;
        }
    }

    /// True until it was reaped.
    pub const fn is_alive(&self) -> bool {
        self.child.is_some()
    }

    /// True while its heartbeat is fresh.
    pub fn is_fresh(&self) -> bool {
        self.last_heartbeat.elapsed() < self.spec.heartbeat.0
    }

    /// Kills the process if it has been silent for too long.
    pub fn kill_if_hung(&mut self) {
        if self.child.is_some() && !self.is_fresh() {
            tracing::error!(role = %self.role, silent_s = self.last_heartbeat.elapsed().as_secs(), "no heartbeat: killed");
            self.last_heartbeat = Instant::now();
            self.kill();
        }
    }

    /// SIGKILL.
    pub fn kill(&self) {
        if let Some(error) = self.child.as_ref().and_then(|child| child.kill(signals::SIGKILL).err()) {
            tracing::error!(role = %self.role, "cannot kill the worker: {error}");
        }
    }

    /// Reaps the process if it has ended, and decides when it is started again.
    pub fn reap(&mut self) -> io::Result<Option<End>> {
        let Some(child) = &self.child else { return Ok(None) };
        let Some(end) = child.try_wait()? else { return Ok(None) };
        let now = Instant::now();
        let ran = now.duration_since(self.started);
        (self.child, self.channel, self.last_end) = (None, None, Some(end));
        self.outbox.clear();
        if self.state == State::Stopping {
            self.state = State::Stopped;
            return Ok(Some(end));
        }
        if own_making(end) {
            self.own_deaths.push_back(now);
            while self.own_deaths.len() > 64 {
                self.own_deaths.pop_front();
            }
        }
        let delay = restart_delay(ran, &self.own_deaths, now);
        if self.role.answers_once() {
            self.state = State::Stopped;
            return Ok(Some(end));
        }
        if self.role.is_on_demand() {
            // Its next start is no restart.
            (self.state, self.starts) = (State::Unwanted, 0);
            if end != End::Exit(0) {
                tracing::warn!(role = %self.role, ran_ms = ran.as_millis() as u64, "worker ended: {end}");
            }
            return Ok(Some(end));
        }
        tracing::warn!(role = %self.role, ran_ms = ran.as_millis() as u64, delay_ms = delay.as_millis() as u64, "worker ended: {end}");
        self.state = State::Waiting(now + delay);
        Ok(Some(end))
    }

    /// Tells it to finish.
    pub fn stop(&mut self) {
        if self.child.is_some() {
            self.send(&ToWorker::Stop, Vec::new());
            self.state = State::Stopping;
        } else {
            self.state = State::Stopped;
        }
    }

    /// For operators.
    pub fn process(&self, own_uid: u32) -> Process {
        Process {
            role: self.role.name().to_owned(),
            pid: self.child.as_ref().map_or(0, |child| child.pid),
            uid: self.child.as_ref().map_or(own_uid, |child| child.uid),
            restarts: self.starts.saturating_sub(1),
            uptime_s: self.child.as_ref().map_or(0, |_| self.started.elapsed().as_secs()),
            capabilities: self.child.as_ref().map_or_else(Vec::new, |child| child.capabilities.clone()),
            heartbeat_ms: self.last_heartbeat.elapsed().as_millis() as u64,
            state: self.state_name().to_owned(),
            last_end: self.last_end.map(|end| end.to_string()),
        }
    }

    fn state_name(&self) -> &'static str {
        match self.state {
            State::Unwanted => "unwanted",
            State::Waiting(_) => "held",
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_ran_is_started_at_once() {
        assert_eq!(restart_delay(Duration::from_secs(1), &VecDeque::new(), Instant::now()), Duration::ZERO);
    }

    #[test]
    fn a_worker_that_dies_at_its_start_waits_the_minimum_run_time_out() {
        assert_eq!(
            restart_delay(Duration::from_millis(20), &VecDeque::new(), Instant::now()),
            Duration::from_millis(30)
        );
    }

    #[test]
    fn only_repeated_deaths_of_its_own_making_hold_it_and_never_for_long() {
        let now = Instant::now();
        let deaths = |n: usize| std::iter::repeat_n(now, n).collect::<VecDeque<_>>();
        let ran = Duration::from_secs(1);
        assert_eq!(restart_delay(ran, &deaths(4), now), Duration::ZERO);
        assert_eq!(restart_delay(ran, &deaths(6), now), Duration::from_millis(100));
        assert_eq!(restart_delay(ran, &deaths(64), now), HOLD_MAX);
        assert!(!own_making(End::Signal(signals::SIGKILL)));
        assert!(own_making(End::Signal(signals::SIGSYS)) && own_making(End::Exit(1)));
    }

    #[test]
    fn old_deaths_are_forgiven() {
        let Some(long_ago) = Instant::now().checked_sub(HOLD_WINDOW * 2) else { return };
        let deaths: VecDeque<_> = std::iter::repeat_n(long_ago, 20).collect();
        assert_eq!(restart_delay(Duration::from_secs(1), &deaths, Instant::now()), Duration::ZERO);
    }
}
