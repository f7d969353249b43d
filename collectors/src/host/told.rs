//! What the roles `net` and `vpn` tell, by reports that `ravend` passes on as they came, and what it tells of operators itself: what happened becomes records, each
//! once, and tunnels a part of the sample.
//!
//! What of their news was taken lies as context in the batch of the record that it became: both are on disk or neither, so
//! that the next process goes on where this one stopped. It tells nothing before all that its predecessor handed over is
//! durable and the store has told of it.

use crate::speaker::Speaker;
use raven_jail::receive::{Arrived, Contexts, Inspect, Verdict};
use raven_model::host::{Change, HostEvent, Tunnel};
use raven_model::news::{Marks, News};
use raven_model::record;
use raven_model::report::{NetReport, VpnReport, VpnTunnel};
use raven_model::table::Role;
use raven_model::units::UnixNanos;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// When the store has made durable what a predecessor wrote it tells of it within a second: so long nothing is told.
const SETTLE: Duration = Duration::from_secs(2);
/// A report is passed on each second; one that is older says nothing of now.
const FRESH: Duration = Duration::from_secs(5);
/// The context's key. Its value: [`Marks`] as JSON.
const KEY: &[u8] = b"news";
/// Who tells of operators.
const RAVEND: &str = "ravend";

/// Takes what a predecessor knew from the store.
#[derive(Debug, Default)]
pub struct Keeper(Marks);

impl Inspect for Keeper {
    fn recall(&mut self, snapshot: &[u8]) {
        let ours = record::Contexts::new(snapshot).filter(|context| context.key == KEY);
        let known = ours.filter_map(|context| serde_json::from_slice::<Marks>(context.value).ok());
        let newest = known.max_by_key(|marks| marks.written);
        if let Some(newest) = newest.filter(|newest| newest.written >= self.0.written) {
            self.0 = newest;
        }
    }

    fn begin(&mut self) {}

    fn inspect(&mut self, _: &Arrived<'_>, _: &mut Contexts) -> Verdict {
        Verdict::Keep
    }
}

/// What was told, and what became of it.
#[derive(Debug, Default)]
pub struct Told {
    known: Keeper,
    /// Since when all is durable that a predecessor handed over.
    drained: Option<Instant>,
    settled: bool,
    news: BTreeMap<&'static str, News>,
    tunnels: Option<(Instant, Vec<VpnTunnel>)>,
    /// When `net` was heard, and which life of it.
    net: Option<(Instant, u64)>,
    /// Which life of `net` was heard at the last sample.
    sampled: Option<u64>,
    /// Which one a predecessor of this process had heard.
    inherited: Option<u64>,
}

impl Told {
    /// What a predecessor knew.
    pub fn of(known: Keeper) -> Self {
        Self { known, ..Self::default() }
    }

    /// Takes a report. One that cannot be read leaves the last one in force.
    pub fn hear(&mut self, role: Role, report: &RawValue) {
        let taken = match role {
            Role::Net => serde_json::from_str(report.get()).map(|report: NetReport| self.hear_net(report)),
            Role::Vpn => serde_json::from_str(report.get()).map(|report: VpnReport| self.hear_vpn(report)),
            _ => Ok(()),
        };
        if let Err(error) = taken {
            eprintln!("raven-worker host: the report of {role} cannot be read: {error}");
        }
    }

    fn hear_net(&mut self, report: NetReport) {
        self.net = Some((Instant::now(), report.news.life));
        self.news.insert(Role::Net.name(), report.news);
    }

    fn hear_vpn(&mut self, report: VpnReport) {
        self.tunnels = Some((Instant::now(), report.tunnels));
        self.news.insert(Role::Vpn.name(), report.news);
    }

    /// Takes what `ravend` tells of operators.
    pub fn hear_audit(&mut self, news: News) {
        self.news.insert(RAVEND, news);
    }

    /// Makes records of what is new; without a clock, nothing is collected and it is passed over.
    pub fn step(&mut self, speaker: &mut Speaker, clock: Option<&dyn Fn() -> UnixNanos>) {
        if !self.is_settled(speaker) {
            return;
        }
        for (role, news) in std::mem::take(&mut self.news) {
            let mark = self.known.0.marks.entry(role.to_owned()).or_default();
            let (told, missed) = mark.take(&news);
            let Some(wall) = clock else { continue };
            let missed = (missed > 0)
                .then(|| HostEvent { t: wall(), what: Change::EventsMissed { role: role.to_owned(), count: missed } });
            let events: Vec<HostEvent> = missed.into_iter().chain(told.cloned()).collect();
            self.keep(speaker, &events, wall);
        }
    }

    /// Each has the time at which it happened, and is received now.
    fn keep(&mut self, speaker: &mut Speaker, events: &[HostEvent], wall: &dyn Fn() -> UnixNanos) {
        let Some((last, others)) = events.split_last() else { return };
        let (now, text) = (wall(), |event: &HostEvent| serde_json::to_vec(event).unwrap_or_default());
        for event in others {
            speaker.keep(now, text(event), None);
        }
        self.known.0.written += 1;
        let marks = serde_json::to_vec(&self.known.0).unwrap_or_default();
        speaker.keep(now, text(last), Some((KEY, marks)));
    }

    fn is_settled(&mut self, speaker: &mut Speaker) -> bool {
        if self.settled {
            return true;
        }
        speaker.memory.recall(&mut self.known);
        self.inherited = self.known.0.marks.get(Role::Net.name()).map(|mark| mark.life);
        if self.drained.is_none() && speaker.memory.is_drained() {
            self.drained = Some(Instant::now());
        }
        self.settled = self.drained.is_some_and(|since| since.elapsed() >= SETTLE);
        self.settled
    }

    /// Tunnels as they were reported lately.
    pub fn tunnels(&self) -> Vec<Tunnel> {
        let fresh = self.tunnels.iter().filter(|(heard, _)| heard.elapsed() < FRESH);
        fresh.flat_map(|(_, tunnels)| tunnels).map(tunnel).collect()
    }

    /// At a sample: whether `net` told, since the last one and without a break, of each carrier that went or came.
    pub fn knows_carriers(&mut self) -> bool {
        let now = self.net.filter(|(heard, _)| heard.elapsed() < FRESH).map(|(_, life)| life);
        let before = std::mem::replace(&mut self.sampled, now);
        now.is_some() && (now == before || now == self.inherited)
    }
}

fn tunnel(told: &VpnTunnel) -> Tunnel {
    Tunnel {
        name: told.name.to_string(),
        state: told.state.clone(),
        state_s: told.since_s,
        changes: told.changes,
        carries: told.carries,
        loss: told.loss.map(|percent| f64::from(percent) / 100.0),
        rtt_s: told.rtt_ms.map(|ms| ms / 1000.0),
        rx_bytes: told.received,
        tx_bytes: told.sent,
        certificate_s: told.expires_s,
    }
}
