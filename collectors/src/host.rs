//! The collector of the appliance's own telemetry: a sample of this machine at each interval, and a record for what
//! changed between two of them.
//!
//! It listens to nobody: it reads `/proc` and `/sys` ([`source`]), and its records go the way of all others, through
//! the receive memory to the store, as sent by 127.0.0.1:0. Names that others chose (interfaces, mounts, processes) are
//! bounded text in it. Start with [`sample`] (one look), then [`step`] (what changed); the texts are taken apart by pure
//! functions in [`processor`], [`disk`], [`network`], [`process`] and [`sensor`]. What happened to links and tunnels the
//! roles `net` and `vpn` know at once and better: [`told`].

mod disk;
mod firmware;
mod health;
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
mod told;

use crate::CollectorError;
use crate::speaker::{HEARTBEAT, Speaker};
use health::Health;
use raven_jail::channel::Channel;
use raven_jail::memory::page_size;
use raven_model::config::Config;
use raven_model::control::{Start, ToWorker};
use raven_model::host::{Change, HostEvent, MissingFirmware};
use raven_model::report::HostReport;
use sample::Fixed;
use source::{Machine, Source};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use step::{Before, step};
use told::{Keeper, Told};

/// Shortest and longest interval.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));

/// The role's state.
pub struct Host<S = Machine> {
    speaker: Speaker,
    source: S,
    fixed: Fixed,
    health: Health,
    firmware: Vec<MissingFirmware>,
    before: Option<Before>,
    told: Told,
    /// None while it is not enabled.
    interval: Option<Duration>,
    next_sample: Instant,
    next_heartbeat: Instant,
}

impl Host {
    /// Takes over the receive memory that `start` names; `fds` are the descriptors beside it.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel, epoch: u64) -> Result<Self, CollectorError> {
        Self::of(Machine, start, fds, channel, epoch)
    }
}

impl<S: Source> Host<S> {
    fn of(source: S, start: &Start, fds: Vec<OwnedFd>, channel: Channel, epoch: u64) -> Result<Self, CollectorError> {
        let mut known = Keeper::default();
        let speaker = Speaker::of(start, fds, channel, epoch, &mut known)?;
        let data = start.data.to_string_lossy().into_owned();
        let fixed = Fixed { boot_id: start.boot_id.clone(), data, page: page_size() as u64 };
        let now = Instant::now();
        let interval = start.config.as_deref().map_or(Some(Duration::from_secs(10)), interval);
        Ok(Self {
            speaker,
            source,
            fixed,
            health: Health::default(),
            firmware: Vec::new(),
            before: None,
            told: Told::of(known),
            interval,
            next_sample: now,
            next_heartbeat: now,
        })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, CollectorError> {
        self.speaker.ready(missing)?;
        Ok(self)
    }

    /// Samples until `ravend` says stop or is gone.
    pub fn run(mut self) -> Result<(), CollectorError> {
        while !self.speaker.stopping {
            self.round()?;
        }
        self.speaker.finish("host");
        Ok(())
    }

    fn round(&mut self) -> Result<(), CollectorError> {
        let now = Instant::now();
        if self.next_heartbeat <= now {
            self.next_heartbeat = now + HEARTBEAT;
            self.speaker.heartbeat(serde_json::value::to_raw_value(&self.report()))?;
        }
        let clock = || self.source.clocks().0;
        self.told.step(&mut self.speaker, self.interval.is_some().then_some(&clock));
        self.sample_when_due();
        self.speaker.hand_over();
        let sampled = self.interval.map(|_| self.next_sample);
        if self.speaker.wait(sampled.into_iter().fold(self.next_heartbeat, Instant::min))? {
            self.speaker.hear()?.iter().for_each(|message| self.obey(message));
        }
        Ok(())
    }

    fn report(&self) -> HostReport {
        let sample = self.before.as_ref().map(Before::sample);
        HostReport {
            collector: self.speaker.report(),
            disks: sample.map_or_else(Vec::new, |sample| sample.disk_health.clone()),
            started_by: sample.and_then(|sample| sample.started_by),
            firmware: self.firmware.clone(),
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
        self.firmware = firmware::missing(&self.source);
        let mut sample = sample::sample(&self.source, &self.fixed);
        sample.disk_health = self.health.look(&self.source, sample.data.as_ref(), sample.monotonic_ns);
        sample.tunnels = self.told.tunnels();
        let (before, mut events) = step(self.before.take(), sample);
        if self.told.knows_carriers() {
            events.retain(|event| !is_about_carriers(&event.what));
        }
        for event in &events {
            self.speaker.keep(event.t, event_line(event), None);
        }
        self.speaker.keep(before.sample().t, sample::line(before.sample()), None);
        self.before = Some(before);
    }

    /// Listeners, connections and secrets are nothing to this role.
    fn obey(&mut self, message: &ToWorker) {
        let config = match message {
            ToWorker::Configure(config) => config,
            ToWorker::Report { role, report } => return self.told.hear(*role, report),
            ToWorker::Audit(news) => return self.told.hear_audit((**news).clone()),
            _ => return,
        };
        let interval = interval(config);
        if interval != self.interval {
            self.interval = interval;
            self.next_sample = Instant::now();
        }
        if interval.is_none() {
            self.before = None;
        }
    }
}

fn interval(config: &Config) -> Option<Duration> {
    let host = &config.collect.host;
    host.enabled.then(|| host.interval.0.clamp(INTERVAL.0, INTERVAL.1))
}

const fn is_about_carriers(what: &Change) -> bool {
    matches!(what, Change::CarrierUp { .. } | Change::CarrierDown { .. } | Change::CarrierFlapped { .. })
}

fn event_line(event: &HostEvent) -> Vec<u8> {
    serde_json::to_vec(event).unwrap_or_default()
}
