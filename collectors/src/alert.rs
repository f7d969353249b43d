//! The collector of alerts: it hears what the other roles report, and writes a record when something begins to be wrong
//! and when it is over.
//!
//! It listens to nobody on the network and opens nothing: `ravend` passes the reports on as they came. Its records go
//! the way of all others, so that whatever delivers records delivers alerts, and holds them while the way is down. What
//! it must remember lies as context in the batch of the records that changed it, and the store gives it to the next
//! process. Start with [`engine`] (when something is told), then [`look`] (what is not well).

mod ages;
pub mod engine;
pub mod look;
#[cfg(test)]
mod role_tests;
#[cfg(test)]
mod tests;

use crate::session::now as wall_now;
use crate::{CollectorError, Passed};
use engine::{Engine, Now};
use look::{Lookout, Reports};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::receive::{Arrived, CollectorMemory, Contexts, Inspect, Verdict};
use raven_model::alert::{AlertReport, Memory};
use raven_model::config::Alert as Rules;
use raven_model::control::{FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::record::{self, Context};
use raven_model::report::CollectorReport;
use raven_model::table::Role;
use raven_model::units::UnixNanos;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// When the store has made durable what a predecessor wrote it tells of it within a second: so long nothing is said.
const SETTLE: Duration = Duration::from_secs(2);
/// Records that wait for room in the ring; the oldest makes room for the next.
const WAITING_MAX: usize = 256;
/// The drop reason of those that found none.
const RING_FULL: u8 = 0;
/// The context's key. Its value: [`Memory`] as JSON.
const KEY: &[u8] = b"memory";
/// Who sends.
const SELF: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The role's state.
pub struct Alert {
    channel: Channel,
    memory: CollectorMemory,
    wake: OwnedFd,
    keeper: Keeper,
    /// None until what a predecessor knew is known.
    engine: Option<Engine>,
    lookout: Lookout,
    reports: Reports,
    rules: Rules,
    /// Since when all that was handed over is durable.
    drained_since: Option<Instant>,
    next_heartbeat: Instant,
    waiting: VecDeque<Line>,
    stopping: bool,
}

/// A record on its way; the last of a look brings the memory.
struct Line {
    t: UnixNanos,
    text: Vec<u8>,
    memory: Option<Vec<u8>>,
}

/// Takes the memory from the store, and puts it before the record that changed it.
#[derive(Default)]
struct Keeper {
    /// The newest that the store has told.
    stored: Memory,
    /// To be written before the next record.
    next: Option<Vec<u8>>,
}

impl Inspect for Keeper {
    fn recall(&mut self, snapshot: &[u8]) {
        let ours = record::Contexts::new(snapshot).filter(|context| context.key == KEY);
        let memories = ours.filter_map(|context| serde_json::from_slice::<Memory>(context.value).ok());
        let newest = memories.max_by_key(|memory| memory.written);
        if let Some(newest) = newest.filter(|newest| newest.written >= self.stored.written) {
            self.stored = newest;
        }
    }

    fn begin(&mut self) {}

    fn inspect(&mut self, arrived: &Arrived<'_>, contexts: &mut Contexts) -> Verdict {
        if let Some(value) = &self.next {
            contexts.add(&Context { key: KEY, value }, arrived.wall);
        }
        Verdict::Keep
    }
}

impl Alert {
    /// Takes over the receive memory that `start` names; `fds` are the descriptors beside it.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel, epoch: u64) -> Result<Self, CollectorError> {
        let Passed { memory, words, wake } = Passed::of(start, fds)?;
        let mut keeper = Keeper::default();
        let (memory, _) = CollectorMemory::open_small(&memory, &words, epoch, &mut keeper)
            .map_err(|error| CollectorError::Io("receive memory", error))?;
        let now = Instant::now();
        Ok(Self {
            channel,
            memory,
            wake,
            keeper,
            engine: None,
            lookout: Lookout::default(),
            reports: Reports::default(),
            rules: start.config.as_deref().map_or_else(Rules::default, |config| config.alert.clone()),
            drained_since: None,
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

    /// Looks each second until `ravend` says stop or is gone.
    pub fn run(mut self) -> Result<(), CollectorError> {
        while !self.stopping {
            if self.next_heartbeat <= Instant::now() {
                self.next_heartbeat = Instant::now() + HEARTBEAT;
                self.look();
                self.heartbeat()?;
            }
            self.hand_over();
            if self.wait()? {
                self.control()?;
            }
        }
        self.hand_over();
        if !self.waiting.is_empty() {
            eprintln!("raven-worker alert: stopped with {} records that the store had no room for", self.waiting.len());
        }
        Ok(())
    }

    /// True when `ravend` has said something.
    fn wait(&self) -> Result<bool, CollectorError> {
        let wait = self.next_heartbeat.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000) as u16;
        let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(wait)) {
            Ok(_) => Ok(fds[0].any().unwrap_or(false)),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(CollectorError::Io("poll", error.into())),
        }
    }

    fn look(&mut self) {
        let Some(engine) = &mut self.engine else {
            self.memory.recall(&mut self.keeper);
            let since = self.memory.is_drained().then(|| self.drained_since.unwrap_or_else(Instant::now));
            self.drained_since = since;
            if since.is_some_and(|since| since.elapsed() >= SETTLE) {
                self.engine = Some(Engine::new(std::mem::take(&mut self.keeper.stored)));
            }
            return;
        };
        let now = Now { steady: steady_now(), wall: wall_now() };
        let look = self.lookout.look(&self.reports, &self.rules, |rule, subject| engine.is_firing(rule, subject), now);
        let records = engine.step(&self.rules, look, now);
        let unsaved = engine.take_unsaved();
        if records.is_empty() && !unsaved {
            return;
        }
        let memory = serde_json::to_vec(engine.memory()).unwrap_or_default();
        if records.is_empty() {
            // A counter began anew: without room now it is noted with the next record.
            let _ = self.memory.append_context(&Context { key: KEY, value: &memory }, now.wall);
            return;
        }
        for record in &records {
            let text = serde_json::to_vec(record).unwrap_or_default();
            self.keep(Line { t: now.wall, text, memory: None });
        }
        if let Some(last) = self.waiting.back_mut() {
            last.memory = Some(memory);
        }
    }

    fn keep(&mut self, line: Line) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
            self.memory.count_drop(RING_FULL);
        }
        self.waiting.push_back(line);
    }

    /// Gives what waits to the store, as far as there is room, and wakes it if it asked for that.
    fn hand_over(&mut self) {
        // Memory that is not given back is no reason to stop.
        let _ = self.memory.rewind();
        while let Some(line) = self.waiting.front_mut() {
            self.keeper.next = line.memory.take();
            let arrived = Arrived { source: SELF, listener: 0, wall: line.t, raw: &line.text };
            if self.memory.append(&arrived, &mut self.keeper).is_none() {
                line.memory = self.keeper.next.take();
                break;
            }
            self.waiting.pop_front();
        }
        self.keeper.next = None;
        self.memory.hand_over();
        if self.memory.wants_waking() {
            // The only way this can fail is a counter at its limit, and then the store is awake.
            let _ = nix::unistd::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    fn heartbeat(&self) -> Result<(), CollectorError> {
        let mut collector = CollectorReport {
            published: self.memory.published(),
            stalls: self.memory.stalls(),
            ..CollectorReport::default()
        };
        let dropped = self.memory.dropped(RING_FULL);
        if dropped > 0 {
            collector.dropped.insert("ring_full".to_owned(), dropped);
        }
        let mut report = AlertReport { collector, ..AlertReport::default() };
        // Before it looks itself it says what it knows of its predecessor.
        let memory = self.engine.as_ref().map_or(&self.keeper.stored, Engine::memory);
        report.firing.clone_from(&memory.firing);
        report.firing.sort_by_key(|firing| (firing.severity, firing.since_ns));
        report.withheld = self.engine.as_ref().map_or(0, Engine::withheld);
        let report = serde_json::value::to_raw_value(&report).map_err(|e| CollectorError::Setup(e.to_string()))?;
        Ok(self.channel.send_json(&FromWorker::Heartbeat { report }, &[])?)
    }

    /// Takes in what `ravend` says. The packet's memory is kept only as long as it is needed.
    fn control(&mut self) -> Result<(), CollectorError> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            match self.channel.try_recv_json::<ToWorker>(&mut packet) {
                Ok(Some((message, _))) => self.obey(message),
                Ok(None) => {
                    self.stopping = true;
                    return Ok(());
                }
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn obey(&mut self, message: ToWorker) {
        match message {
            ToWorker::Own(own) => self.reports.own = Some(*own),
            ToWorker::Report { role: Role::Store, report } => {
                take(Role::Store, serde_json::from_str(report.get()), &mut self.reports.store);
            }
            ToWorker::Report { role: Role::Uplink, report } => {
                take(Role::Uplink, serde_json::from_str(report.get()), &mut self.reports.uplink);
            }
            ToWorker::Configure(config) => self.rules = config.alert,
            ToWorker::Stop => self.stopping = true,
            _ => {}
        }
    }
}

/// A report that cannot be read leaves the last one in force.
fn take<T>(role: Role, report: serde_json::Result<T>, into: &mut Option<T>) {
    match report {
        Ok(report) => *into = Some(report),
        Err(error) => eprintln!("raven-worker alert: the report of {role} cannot be read: {error}"),
    }
}

fn steady_now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
