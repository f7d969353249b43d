//! From what the roles report to what is not well. What a report does not say itself (how old a record is, how often a
//! process was started lately, whether the clock was set) is remembered from one look to the next.

use super::ages::Ages;
use super::disks;
use super::engine::{Count, Finding, Look, Now};
use super::schedules;
use super::tunnels;
use raven_model::alert::{Rule, Severity};
use raven_model::calendar::{format, span};
use raven_model::config::Alert;
use raven_model::diag::schedule::ScheduleReport;
use raven_model::report::{
    DestinationStatus, HostReport, Process, SilenceReport, Status, StoreReport, StreamStatus, UplinkReport, VpnReport,
};
use raven_model::units::UnixNanos;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Subject of the alert for many silent senders.
pub const EVERYBODY: &str = "many senders";

/// Reasons for which a collector drops what is no loss: the sender was told and repeats it, or no event was in it. They
/// are in `raven inbox`.
const NO_LOSS: [&str; 10] = [
    "discovery",
    "not_ready",
    "method",
    "http_malformed",
    "tls_handshake",
    "no_certificate",
    "credentials",
    "cut_off",
    "slow",
    "connection_unserved",
];

/// A forecast from less than this says little.
const FORECAST_FROM: u64 = 600;

/// A clock that was set by more is told of.
const STEP_S: u64 = 5;

/// No clock of a running appliance is before 2025-01-01.
const TOO_OLD: UnixNanos = UnixNanos(1_735_689_600_000_000_000);

/// What is known at a look.
#[derive(Debug, Default)]
pub struct Reports {
    /// Of `ravend`.
    pub own: Option<Status>,
    /// Of the store.
    pub store: Option<StoreReport>,
    /// Of the uplink.
    pub uplink: Option<UplinkReport>,
    /// Of the host role.
    pub host: Option<HostReport>,
    /// Of the vpn role.
    pub vpn: Option<VpnReport>,
    /// Of the schedule role.
    pub schedule: Option<ScheduleReport>,
}

/// What is remembered between looks.
#[derive(Debug, Default)]
pub struct Lookout {
    ages: Ages,
    /// By role: starts so far, and when the newest of them were seen.
    starts: BTreeMap<String, (u64, VecDeque<Duration>)>,
    /// Wall clock minus steady clock, seconds.
    offset: Option<i64>,
    /// Clock steps so far, and the newest, seconds.
    steps: (u64, i64),
}

impl Lookout {
    /// Looks at everything.
    pub fn look(
        &mut self,
        reports: &Reports,
        config: &Alert,
        is_firing: impl Fn(Rule, &str) -> bool,
        now: Now,
    ) -> Look {
        let mut look = Look::default();
        self.clock(&mut look, now);
        match &reports.own {
            Some(own) => self.processes(&mut look, &own.processes, config, now),
            None => look.unknown.extend([Rule::RoleRestarting]),
        }
        match &reports.store {
            Some(store) => {
                streams(&mut look, store, reports.own.as_ref());
                ring(&mut look, store, config);
                match &store.silence {
                    Some(silence) => silent(&mut look, silence, config, is_firing),
                    None => look.unknown.extend([Rule::SourceSilent]),
                }
            }
            None => look.unknown.extend([
                Rule::Storing,
                Rule::Damaged,
                Rule::EvictingUnforwarded,
                Rule::Drops,
                Rule::RingFilling,
                Rule::TimeToFull,
                Rule::SourceSilent,
            ]),
        }
        match (&reports.uplink, &reports.store) {
            (Some(uplink), Some(store)) => self.destinations(&mut look, uplink, store, config, now),
            _ => look.unknown.extend([Rule::DestinationRefused, Rule::DestinationDown, Rule::Lag, Rule::DeadLetters]),
        }
        match &reports.host {
            Some(host) => disks::look_at(&mut look, &host.disks),
            None => look.unknown.extend([Rule::DiskHealth]),
        }
        // The vpn role runs where there are tunnels.
        let runs = reports.own.as_ref().map(|own| own.processes.iter().any(|process| process.role == "vpn"));
        match (&reports.vpn, runs) {
            (_, Some(false)) => {}
            (Some(vpn), _) => tunnels::look_at(&mut look, &vpn.tunnels, config),
            (None, _) => look.unknown.extend([Rule::TunnelDown, Rule::CertificateExpiring]),
        }
        // The same of tests.
        let runs = reports.own.as_ref().map(|own| own.processes.iter().any(|process| process.role == "schedule"));
        match (&reports.schedule, runs) {
            (_, Some(false)) => {}
            (Some(report), _) => schedules::look_at(&mut look, report),
            (None, _) => look.unknown.extend([Rule::Diag]),
        }
        look
    }

    /// Steps of the wall clock are counted by holding it against the other.
    fn clock(&mut self, look: &mut Look, now: Now) {
        let offset = (now.wall.0 / 1_000_000_000).cast_signed() - now.steady.as_secs().cast_signed();
        let step = self.offset.map_or(0, |before| offset - before);
        self.offset = Some(offset);
        let stepped = step.unsigned_abs() >= STEP_S;
        if stepped {
            self.steps = (self.steps.0 + 1, step);
        }
        let what = if now.wall < TOO_OLD {
            "the clock is not set".to_owned()
        } else if stepped {
            format!("the clock was set by {step} s")
        } else {
            return;
        };
        look.findings.push(Finding {
            rule: Rule::Clock,
            subject: "clock".to_owned(),
            bad: true,
            severity: None,
            since: None,
            value: step.unsigned_abs(),
            what,
            remedy: "look whether its time server answers; times of records before and after differ by that much",
        });
    }

    fn processes(&mut self, look: &mut Look, processes: &[Process], config: &Alert, now: Now) {
        let (count, within) = config.restarts();
        for process in processes {
            let (known, times) =
                self.starts.entry(process.role.clone()).or_insert_with(|| (process.restarts, VecDeque::new()));
            // No more than are counted: the rest says nothing new.
            let more = process.restarts.saturating_sub(*known).min(u64::from(count));
            times.extend((0..more).map(|_| now.steady));
            *known = process.restarts;
            while times.front().is_some_and(|at| now.steady.saturating_sub(*at) > within)
                || times.len() > count as usize
            {
                times.pop_front();
            }
            if times.is_empty() {
                continue;
            }
            let end = process.last_end.as_deref().unwrap_or("unknown");
            let (role, times) = (&process.role, times.len());
            look.findings.push(Finding {
                rule: Rule::RoleRestarting,
                subject: role.clone(),
                bad: times >= count as usize,
                severity: None,
                since: None,
                value: process.restarts,
                what: format!("{role} was started {times} times within {} (last end: {end})", span(within.as_secs())),
                remedy: "look at the log of ravend; nothing that was received is lost by it",
            });
        }
    }

    fn destinations(&mut self, look: &mut Look, uplink: &UplinkReport, store: &StoreReport, config: &Alert, now: Now) {
        for stream in &store.streams {
            self.ages.note(&stream.name, stream.next_seq, now.steady);
        }
        let mut by_name: BTreeMap<&str, Vec<&DestinationStatus>> = BTreeMap::new();
        for status in &uplink.destinations {
            by_name.entry(&status.name).or_default().push(status);
        }
        for (name, all) in by_name {
            look.findings.extend(refusing(name, &all));
            look.findings.extend(down(name, &all));
            look.findings.extend(self.lagging(name, &all, config, now));
            look.counts.push(Count {
                rule: Rule::DeadLetters,
                subject: name.to_owned(),
                total: all.iter().map(|status| status.dead.lettered).sum(),
                words: (format!("{name} refused"), "records, kept as dead letters".to_owned()),
                remedy: "see why with `raven dead list`, put it right, then `raven dead retry`",
            });
        }
    }

    /// The oldest record of any stream that the destination has not acknowledged.
    fn lagging(&self, name: &str, all: &[&DestinationStatus], config: &Alert, now: Now) -> Option<Finding> {
        let behind = all.iter().filter(|status| status.lag > 0);
        let ages = behind.map(|status| (self.age(status, now), *status));
        let ((age, exact), worst) = ages.max_by_key(|((age, _), _)| *age)?;
        let above = config.lag_above();
        // An age that is known only from below is no reason to say that it is over.
        if exact && age < above / 2 {
            return None;
        }
        let lag: u64 = all.iter().map(|status| status.lag).sum();
        let (stream, old) = (&worst.stream, span(age.as_secs()));
        Some(Finding {
            rule: Rule::Lag,
            subject: name.to_owned(),
            bad: age >= above,
            severity: None,
            since: Some(UnixNanos(now.wall.0.saturating_sub(age.as_nanos() as u64))),
            value: age.as_secs(),
            what: format!("{name} is {lag} records behind, the oldest ({stream}) is {old} old"),
            remedy: "see `raven status` for its rate and when it will have caught up; raise `backfill` if it is slow",
        })
    }

    fn age(&self, status: &DestinationStatus, now: Now) -> (Duration, bool) {
        let (age, exact) = self.ages.of(&status.stream, status.acked_seq, now.steady);
        // What backfill sends was received no later than the oldest that is missing was.
        let oldest = status.backfill.oldest_ns.filter(|_| status.backfill.records > 0);
        let told = oldest.map_or(Duration::ZERO, |at| Duration::from_nanos(now.wall.0.saturating_sub(at.0)));
        (if exact { age } else { age.max(told) }, exact)
    }
}

/// A destination in one of the states of `bad`; between, while it tries again.
fn in_state(all: &[&DestinationStatus], bad: &[&str]) -> Option<(bool, String)> {
    let is = |status: &&&DestinationStatus, words: &[&str]| {
        words.contains(&status.state.as_str()) || words.contains(&status.backfill.state.as_str())
    };
    let worst = all.iter().find(|status| is(status, bad));
    let trying = || all.iter().find(|status| is(status, &["connecting"]));
    let (is_bad, status) = worst.map(|status| (true, status)).or_else(|| trying().map(|status| (false, status)))?;
    let why = status.last_error.clone().unwrap_or_else(|| "no reason known".to_owned());
    Some((is_bad, why.chars().take(300).collect()))
}

fn refusing(name: &str, all: &[&DestinationStatus]) -> Option<Finding> {
    let (bad, why) = in_state(all, &["config_error"])?;
    Some(Finding {
        rule: Rule::DestinationRefused,
        subject: name.to_owned(),
        bad,
        severity: None,
        since: None,
        value: all.iter().map(|status| status.lag).sum(),
        what: format!("{name} refuses what it is sent ({why})"),
        remedy: "put its settings, secrets or receiver right; all is kept until then",
    })
}

fn down(name: &str, all: &[&DestinationStatus]) -> Option<Finding> {
    let (bad, why) = in_state(all, &["retrying", "stopped"])?;
    let lag: u64 = all.iter().map(|status| status.lag).sum();
    Some(Finding {
        rule: Rule::DestinationDown,
        subject: name.to_owned(),
        bad,
        severity: None,
        since: None,
        value: lag,
        what: format!("{name} cannot be reached, {lag} records wait ({why})"),
        remedy: "look at the receiver and the way to it; all is kept and sent when it is back",
    })
}

fn streams(look: &mut Look, store: &StoreReport, own: Option<&Status>) {
    for stream in &store.streams {
        let name = &stream.name;
        look.findings.extend(stream.error.as_ref().map(|error| Finding {
            rule: Rule::Storing,
            subject: name.clone(),
            bad: true,
            severity: None,
            since: None,
            value: 1,
            what: format!("{name} is not being stored: {error}"),
            remedy: "make room or look at the disk; what comes meanwhile waits in memory, and is lost when that is full",
        }));
        let count = |rule, subject: String, total, words: (String, &str), remedy| Count {
            rule,
            subject,
            total,
            words: (words.0, words.1.to_owned()),
            remedy,
        };
        let lost = stream.dropped_ever.iter().map(|(reason, total)| (reason.as_str(), *total));
        let lost = lost.filter(|(reason, _)| !NO_LOSS.contains(reason)).chain([("refused_batch", stream.refused)]);
        look.counts.extend(lost.map(|(reason, total)| {
            let words = (format!("{name} lost{}", at(own, name, reason)), dropped(reason));
            count(Rule::Drops, format!("{name} {reason}"), total, (words.0, words.1), advice(reason))
        }));
        look.counts.push(count(
            Rule::EvictingUnforwarded,
            name.clone(),
            stream.evicted_unforwarded,
            (format!("{name}:"), "records went for room before every destination had them"),
            "bring the destination back or give the ring more disk",
        ));
        look.counts.push(count(
            Rule::Damaged,
            name.clone(),
            stream.damaged,
            (format!("{name}:"), "records were lost to damage on disk"),
            "see `raven ring verify`, and look at the disk",
        ));
    }
}

/// The listeners of a stream that dropped for that reason.
fn at(own: Option<&Status>, stream: &str, reason: &str) -> String {
    let listeners = own.map_or(&[][..], |own| &own.listeners);
    let dropped = listeners.iter().filter(|l| l.stream == stream && l.dropped.get(reason).is_some_and(|n| *n > 0));
    let who: Vec<String> = dropped.map(|l| format!("{}:{}", l.proto, l.addr)).take(3).collect();
    if who.is_empty() { String::new() } else { format!(" (at {})", who.join(", ")) }
}

fn dropped(reason: &str) -> &'static str {
    match reason {
        "socket_buffer" => "messages: more came at once than the socket's buffer holds",
        "over_limit" => "connections: there were too many",
        "storm" => "messages: their sender went over its limit",
        "ring_full" => "messages: the store did not keep up",
        "refused_batch" => "records in batches that failed the store's check",
        _ => "messages that could not be taken",
    }
}

fn advice(reason: &str) -> &'static str {
    match reason {
        "socket_buffer" => "raise `receive_buffer`, or look what else keeps the machine busy",
        "over_limit" => "raise `connections`, or look who opens so many",
        "storm" => "look at the sender with `raven traps`, or raise `storm`",
        "ring_full" => "look at the disk: `raven status`",
        _ => "see `raven status` and `raven inbox`",
    }
}

fn ring(look: &mut Look, store: &StoreReport, config: &Alert) {
    let ring = &store.ring;
    let has_turned = store.streams.iter().any(|stream| stream.evicted > 0);
    let waits: Vec<&StreamStatus> = store.streams.iter().filter(|stream| !stream.next_to_go.is_empty()).collect();
    // A ring that has turned over is always full: no news while all that goes is delivered.
    let is_well = has_turned && waits.is_empty();
    for (mark, severity) in [(70, Severity::Notice), (85, Severity::Warning), (95, Severity::Critical)] {
        if ring.watermark >= mark && !is_well {
            look.findings.push(Finding {
                rule: Rule::RingFilling,
                subject: format!("{mark} %"),
                bad: true,
                severity: Some(severity),
                since: None,
                value: ring.fill as u64,
                what: format!("the ring is {:.0} % full, above {mark} %", ring.fill),
                remedy: "see `raven ring status` for what fills it; the oldest records go when it is full",
            });
        }
    }
    for stream in waits.iter().filter(|_| ring.watermark >= 95) {
        let who: Vec<String> = stream.next_to_go.iter().map(|(name, records)| format!("{name} {records}")).collect();
        look.findings.push(Finding {
            rule: Rule::EvictingUnforwarded,
            subject: format!("{}, next", stream.name),
            bad: true,
            severity: None,
            since: None,
            value: stream.next_to_go.values().copied().max().unwrap_or(0),
            what: format!("{}: the next records to go are not acknowledged: {}", stream.name, who.join(", ")),
            remedy: "bring the destination back or give the ring more disk",
        });
    }
    look.findings.extend(
        time_to_full(store, config).filter(|_| !has_turned).map(|finding| Finding {
            severity: if waits.is_empty() { Some(Severity::Notice) } else { None },
            ..finding
        }),
    );
}

fn time_to_full(store: &StoreReport, config: &Alert) -> Option<Finding> {
    let hour = store.ring.forecast.iter().find(|forecast| forecast.window == "hour")?;
    let left = hour.time_to_full_s?;
    let below = config.full_below().as_secs();
    // A quarter more before it counts as over.
    (hour.covered_s >= FORECAST_FROM && left < below + below / 4).then(|| Finding {
        rule: Rule::TimeToFull,
        subject: "ring".to_owned(),
        bad: left < below,
        severity: None,
        since: None,
        value: left,
        what: format!("the ring is full in {} at the rate of the last hour", span(left)),
        remedy: "see that every destination is up, `raven status`: then nothing is lost when the oldest records go",
    })
}

/// One alert for each silent sender, or one for all when there are too many.
fn silent(look: &mut Look, silence: &SilenceReport, config: &Alert, is_firing: impl Fn(Rule, &str) -> bool) {
    let storm = config.silence().map_or(0, |silence| u64::from(silence.storm));
    let is_storm = silence.silent > storm;
    let was_storm = is_firing(Rule::SourceSilent, EVERYBODY) && silence.silent > storm / 2;
    let finding = |subject: String, bad, since, value, what, remedy| Finding {
        rule: Rule::SourceSilent,
        subject,
        bad,
        severity: None,
        since,
        value,
        what,
        remedy,
    };
    if is_storm || was_storm {
        let (silent, regular) = (silence.silent, silence.regular);
        let oldest = silence.longest.first().map(|source| source.last_ns);
        look.findings.push(finding(
            EVERYBODY.to_owned(),
            is_storm,
            oldest,
            silent,
            format!("{silent} of {regular} senders that sent regularly are silent"),
            "look at the network in front of Raven and at its own interfaces; `raven sources` has who sent last and when",
        ));
    }
    for source in &silence.longest {
        let (stream, addr, last) = (&source.stream, source.source, format(source.last_ns, 0));
        look.findings.push(finding(
            format!("{stream} {addr}"),
            !is_storm && !was_storm,
            Some(source.last_ns),
            source.silent_s,
            format!("{addr} ({stream}) sent regularly and is silent for {}, last {last}", span(source.silent_s)),
            "look at the device and the way from it; `[alert.source_silent]` has `ignore` and `sources`",
        ));
    }
}
