//! The collector of alerts: it hears what the other roles report, and writes a record when something begins to be wrong
//! and when it is over.
//!
//! It listens to nobody on the network and opens nothing: `ravend` passes the reports on as they came. Its records go
//! the way of all others, so that whatever delivers records delivers alerts, and holds them while the way is down. What
//! it must remember lies as context in the batch of the records that changed it, and the store gives it to the next
//! process. Start with [`engine`] (when something is told), then [`look`] (what is not well).

mod ages;
mod disks;
pub mod engine;
pub mod look;
#[cfg(test)]
mod role_tests;
mod schedules;
#[cfg(test)]
mod tests;
mod tunnels;

use crate::CollectorError;
use crate::session::now as wall_now;
use crate::speaker::{HEARTBEAT, Speaker};
use engine::{Engine, Now};
use look::{Lookout, Reports};
use nix::time::{ClockId, clock_gettime};
use raven_jail::channel::Channel;
use raven_jail::receive::{Arrived, Contexts, Inspect, Verdict};
use raven_model::alert::{AlertReport, Memory};
use raven_model::config::Alert as Rules;
use raven_model::control::{Start, ToWorker};
use raven_model::record::{self, Context};
use raven_model::table::Role;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// When the store has made durable what a predecessor wrote it tells of it within a second: so long nothing is said.
const SETTLE: Duration = Duration::from_secs(2);
/// The context's key. Its value: [`Memory`] as JSON.
const KEY: &[u8] = b"memory";
/// The role's state.
pub struct Alert {
    speaker: Speaker,
    keeper: Keeper,
    /// None until what a predecessor knew is known.
    engine: Option<Engine>,
    lookout: Lookout,
    reports: Reports,
    rules: Rules,
    /// Since when all that was handed over is durable.
    drained_since: Option<Instant>,
    next_heartbeat: Instant,
}

/// Takes the newest memory from the store.
#[derive(Default)]
struct Keeper(Memory);

impl Inspect for Keeper {
    fn recall(&mut self, snapshot: &[u8]) {
        let ours = record::Contexts::new(snapshot).filter(|context| context.key == KEY);
        let memories = ours.filter_map(|context| serde_json::from_slice::<Memory>(context.value).ok());
        let newest = memories.max_by_key(|memory| memory.written);
        if let Some(newest) = newest.filter(|newest| newest.written >= self.0.written) {
            self.0 = newest;
        }
    }

    fn begin(&mut self) {}

    fn inspect(&mut self, _: &Arrived<'_>, _: &mut Contexts) -> Verdict {
        Verdict::Keep
    }
}

impl Alert {
    /// Takes over the receive memory that `start` names; `fds` are the descriptors beside it.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel, epoch: u64) -> Result<Self, CollectorError> {
        let mut keeper = Keeper::default();
        Ok(Self {
            speaker: Speaker::of(start, fds, channel, epoch, &mut keeper)?,
            keeper,
            engine: None,
            lookout: Lookout::default(),
            reports: Reports::default(),
            rules: start.config.as_deref().map_or_else(Rules::default, |config| config.alert.clone()),
            drained_since: None,
            next_heartbeat: Instant::now(),
        })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, CollectorError> {
        self.speaker.ready(missing)?;
        Ok(self)
    }

    /// Looks each second until `ravend` says stop or is gone.
    pub fn run(mut self) -> Result<(), CollectorError> {
        while !self.speaker.stopping {
            if self.next_heartbeat <= Instant::now() {
                self.next_heartbeat = Instant::now() + HEARTBEAT;
                self.look();
                self.heartbeat()?;
            }
            self.speaker.hand_over();
            if self.speaker.wait(self.next_heartbeat)? {
                self.speaker.hear()?.into_iter().for_each(|message| self.obey(message));
            }
        }
        self.speaker.finish("alert");
        Ok(())
    }

    fn look(&mut self) {
        let Some(engine) = &mut self.engine else {
            self.speaker.memory.recall(&mut self.keeper);
            let since = self.speaker.memory.is_drained().then(|| self.drained_since.unwrap_or_else(Instant::now));
            self.drained_since = since;
            if since.is_some_and(|since| since.elapsed() >= SETTLE) {
                self.engine = Some(Engine::new(std::mem::take(&mut self.keeper.0)));
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
            let _ = self.speaker.memory.append_context(&Context { key: KEY, value: &memory }, now.wall);
            return;
        }
        let mut memory = Some(memory);
        for (n, record) in records.iter().enumerate() {
            let text = serde_json::to_vec(record).unwrap_or_default();
            let is_last = n + 1 == records.len();
            self.speaker.keep(now.wall, text, memory.take_if(|_| is_last).map(|memory| (KEY, memory)));
        }
    }

    fn heartbeat(&self) -> Result<(), CollectorError> {
        let mut report = AlertReport { collector: self.speaker.report(), ..AlertReport::default() };
        // Before it looks itself it says what it knows of its predecessor.
        let memory = self.engine.as_ref().map_or(&self.keeper.0, Engine::memory);
        report.firing.clone_from(&memory.firing);
        report.firing.sort_by_key(|firing| (firing.severity, firing.since_ns));
        report.withheld = self.engine.as_ref().map_or(0, Engine::withheld);
        self.speaker.heartbeat(serde_json::value::to_raw_value(&report))
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
            ToWorker::Report { role: Role::Host, report } => {
                take(Role::Host, serde_json::from_str(report.get()), &mut self.reports.host);
            }
            ToWorker::Report { role: Role::Vpn, report } => {
                take(Role::Vpn, serde_json::from_str(report.get()), &mut self.reports.vpn);
            }
            ToWorker::Report { role: Role::Schedule, report } => {
                take(Role::Schedule, serde_json::from_str(report.get()), &mut self.reports.schedule);
            }
            ToWorker::Configure(config) => self.rules = config.alert,
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
