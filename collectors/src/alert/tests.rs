//! The engine by itself and with the role around it: nothing flaps, nothing is told twice, nothing is left untold.

#![allow(clippy::unwrap_used)]

use super::engine::{Count, Engine, FIRING_MAX, Finding, Look, Now};
use super::look::{EVERYBODY, Lookout, Reports};
use proptest::prelude::*;
use raven_model::alert::{AlertRecord, AlertState, Memory, Rule, Severity};
use raven_model::config::{Alert, Config};
use raven_model::host::DiskHealth;
use raven_model::report::{
    DestinationStatus, Forecast, HostReport, Process, RingStatus, SilenceReport, SilentSource, Status, StoreReport,
    StreamStatus, UplinkReport, VpnReport, VpnTunnel,
};
use raven_model::units::{Seq, UnixNanos};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const BEGAN: u64 = 1_800_000_000;

const fn at(second: u64) -> Now {
    Now { steady: Duration::from_secs(second), wall: UnixNanos((BEGAN + second) * 1_000_000_000) }
}

fn config(text: &str) -> Alert {
    Config::from_toml(&format!("schema = 1\n{text}"), "test.toml").unwrap().alert
}

fn finding(rule: Rule, subject: &str, bad: bool) -> Finding {
    Finding {
        rule,
        subject: subject.to_owned(),
        bad,
        severity: None,
        since: None,
        value: 7,
        what: format!("{subject} is bad, 7"),
        remedy: "do something",
    }
}

fn bad(rule: Rule, subject: &str) -> Look {
    Look { findings: vec![finding(rule, subject, true)], ..Look::default() }
}

fn count(total: u64) -> Look {
    let words = ("syslog lost".to_owned(), "messages".to_owned());
    let count =
        Count { rule: Rule::Drops, subject: "syslog socket_buffer".to_owned(), total, words, remedy: "raise it" };
    Look { counts: vec![count], ..Look::default() }
}

/// `firing lag`, `resolved lag`, …
fn said(records: &[AlertRecord]) -> Vec<String> {
    let state = |record: &AlertRecord| if record.state == AlertState::Firing { "firing" } else { "resolved" };
    records.iter().map(|record| format!("{} {}", state(record), record.alert)).collect()
}

#[test]
fn it_is_told_after_it_was_so_for_long_and_once_more_when_it_is_over_for_long() {
    let config = config("[alert.lag]\nafter = '10s'\nclear = '20s'");
    let mut engine = Engine::default();
    let mut told = Vec::new();
    for second in 0..100 {
        let look = if (5..50).contains(&second) { bad(Rule::Lag, "noc") } else { Look::default() };
        told.extend(engine.step(&config, look, at(second)).iter().map(|record| (second, record.clone())));
    }
    let times: Vec<_> = told.iter().map(|(second, record)| (*second, record.state)).collect();
    assert_eq!(times, [(15, AlertState::Firing), (70, AlertState::Resolved)]);
    let (firing, resolved) = (&told[0].1, &told[1].1);
    assert_eq!(firing.text, "noc is bad, 7, since 2027-01-15T08:00:05Z: do something");
    assert_eq!(resolved.text, "over after 1m 5s: lag of noc, since 2027-01-15T08:00:05Z");
    assert_eq!((firing.since_ns, &firing.subject), (resolved.since_ns, &resolved.subject), "one alert, two records");
}

#[test]
fn between_the_thresholds_nothing_begins_and_nothing_ends() {
    let config = config("[alert.lag]\nafter = '0s'\nclear = '0s'");
    let between = || Look { findings: vec![finding(Rule::Lag, "noc", false)], ..Look::default() };
    let mut engine = Engine::default();
    assert_eq!(said(&engine.step(&config, between(), at(0))), [""; 0]);
    assert_eq!(said(&engine.step(&config, bad(Rule::Lag, "noc"), at(1))), ["firing lag"]);
    for second in 2..1000 {
        assert_eq!(said(&engine.step(&config, between(), at(second))), [""; 0]);
    }
    assert_eq!(said(&engine.step(&config, Look::default(), at(1000))), ["resolved lag"]);
}

#[test]
fn what_is_not_known_changes_nothing() {
    let config = config("[alert.lag]\nafter = '0s'\nclear = '5s'");
    let unknown = || Look { unknown: BTreeSet::from([Rule::Lag]), ..Look::default() };
    let mut engine = Engine::default();
    engine.step(&config, bad(Rule::Lag, "noc"), at(0));
    for second in 1..60 {
        assert_eq!(said(&engine.step(&config, unknown(), at(second))), [""; 0]);
    }
    assert_eq!(said(&engine.step(&config, Look::default(), at(60))), [""; 0], "the wait begins now");
    assert_eq!(said(&engine.step(&config, Look::default(), at(65))), ["resolved lag"]);
}

#[test]
fn drops_are_told_once_with_what_was_lost_and_in_the_end_with_all_of_it() {
    let config = config("[alert.drops]\nclear = '10s'");
    let mut engine = Engine::default();
    assert_eq!(said(&engine.step(&config, count(0), at(0))), [""; 0]);
    let fired = engine.step(&config, count(17), at(1));
    assert_eq!(fired[0].text, "syslog lost 17 messages, since 2027-01-15T08:00:01Z: raise it");
    assert_eq!(said(&engine.step(&config, count(30), at(9))), [""; 0]);
    assert_eq!(said(&engine.step(&config, count(30), at(15))), [""; 0]);
    let over = engine.step(&config, count(30), at(25));
    assert_eq!((over[0].value, over[0].state), (30, AlertState::Resolved));
    assert!(over[0].text.ends_with(", 30 in all"), "{}", over[0].text);
    assert_eq!(said(&engine.step(&config, count(30), at(26))), [""; 0]);
    assert_eq!(engine.step(&config, count(31), at(27))[0].value, 1, "only what is new");
}

#[test]
fn drops_while_nobody_looked_are_found_and_those_told_of_are_not_told_again() {
    let config = config("[alert.drops]\nclear = '10s'");
    let mut engine = Engine::default();
    engine.step(&config, count(5), at(0));
    let text = serde_json::to_string(engine.memory()).unwrap();
    let mut engine = Engine::new(serde_json::from_str(&text).unwrap());
    assert_eq!(said(&engine.step(&config, count(5), at(1))), [""; 0], "it was told");
    assert_eq!(said(&engine.step(&config, count(5), at(2))), [""; 0]);
    assert_eq!(said(&engine.step(&config, count(5), at(12))), ["resolved drops"], "and its end is not lost");
    let mut engine = Engine::new(engine.memory().clone());
    assert_eq!(said(&engine.step(&config, count(9), at(13))), ["firing drops"]);
}

#[test]
fn a_counter_that_begins_anew_is_followed() {
    let config = config("");
    let memory =
        Memory { counters: BTreeMap::from([("drops syslog socket_buffer".to_owned(), 100)]), ..Memory::default() };
    let mut engine = Engine::new(memory);
    assert_eq!(said(&engine.step(&config, count(3), at(0))), [""; 0]);
    assert!(engine.take_unsaved() && !engine.take_unsaved());
    assert_eq!(engine.step(&config, count(5), at(1))[0].value, 2);
}

#[test]
fn a_rule_that_is_switched_off_says_nothing_and_ends_what_it_had_told() {
    let mut engine = Engine::default();
    let off = config("[alert.lag]\nenabled = false");
    assert_eq!(said(&engine.step(&off, bad(Rule::Lag, "noc"), at(0))), [""; 0]);
    engine.step(&config("[alert.lag]\nafter = '0s'"), bad(Rule::Lag, "noc"), at(1));
    let over = engine.step(&off, bad(Rule::Lag, "noc"), at(2));
    assert_eq!(said(&over), ["resolved lag"]);
    assert!(over[0].text.starts_with("no longer watched"), "{}", over[0].text);
}

#[test]
fn more_than_fit_wait_until_there_is_room_and_the_memory_fits_its_context() {
    let config = config("[alert.lag]\nafter = '0s'\nclear = '0s'");
    let look = |n: usize| Look {
        findings: (0..n).map(|n| finding(Rule::Lag, &format!("{n:03}{}", "x".repeat(200)), true)).collect(),
        ..Look::default()
    };
    let mut engine = Engine::default();
    assert_eq!(engine.step(&config, look(FIRING_MAX + 5), at(0)).len(), FIRING_MAX);
    assert_eq!(engine.withheld(), 5);
    assert!(serde_json::to_vec(engine.memory()).unwrap().len() < raven_model::record::RAW_MAX);
    assert_eq!(engine.step(&config, look(FIRING_MAX), at(1)).len(), 0);
    assert_eq!(engine.withheld(), 0);
}

proptest! {
    /// Any course of events, with restarts: of each alert one begin and one end in turn, both with the same `since`, and
    /// between them the times that were asked for.
    #[test]
    fn no_course_of_events_makes_it_flap(
        course in prop::collection::vec((0_u8..4, any::<bool>()), 1..300),
        after in 0_u64..5,
        clear in 0_u64..5,
    ) {
        let config = config(&format!("[alert.lag]\nafter = '{after}s'\nclear = '{clear}s'"));
        let mut engine = Engine::default();
        let (mut open, mut last_bad, mut bad_since) = (None::<UnixNanos>, 0, None);
        for (second, (kind, restart)) in (0_u64..).zip(course) {
            if restart && kind == 3 {
                engine = Engine::new(engine.memory().clone());
                bad_since = None;
            }
            let look = match kind {
                0 => Look::default(),
                1 => Look { findings: vec![finding(Rule::Lag, "noc", false)], ..Look::default() },
                _ => bad(Rule::Lag, "noc"),
            };
            match kind {
                0 => bad_since = None,
                1 => last_bad = second,
                _ => {
                    last_bad = second;
                    bad_since = bad_since.or(Some(second));
                }
            }
            for record in engine.step(&config, look, at(second)) {
                match record.state {
                    AlertState::Firing => {
                        prop_assert_eq!(open, None);
                        prop_assert!(second - bad_since.unwrap() >= after);
                        open = Some(record.since_ns);
                    }
                    AlertState::Resolved => {
                        prop_assert_eq!(open, Some(record.since_ns));
                        prop_assert!(second > last_bad && second - last_bad > clear.saturating_sub(1));
                        open = None;
                    }
                }
            }
            prop_assert_eq!(open.is_some(), engine.memory().firing.len() == 1);
        }
    }
}

// ---- what is found in reports ----

fn store(stream: StreamStatus) -> StoreReport {
    StoreReport { streams: vec![StreamStatus { name: "syslog".to_owned(), ..stream }], ..StoreReport::default() }
}

fn destination(state: &str) -> UplinkReport {
    let noc = DestinationStatus {
        name: "noc".to_owned(),
        stream: "syslog".to_owned(),
        to: "noc:2514".to_owned(),
        state: state.to_owned(),
        last_error: Some("401 Unauthorized".to_owned()),
        ..DestinationStatus::default()
    };
    UplinkReport { destinations: vec![noc] }
}

/// `rule subject` of all that is bad.
fn found(look: &Look) -> Vec<String> {
    let bad = look.findings.iter().filter(|finding| finding.bad);
    bad.map(|finding| format!("{} {}", finding.rule, finding.subject)).collect()
}

fn look(reports: &Reports) -> Look {
    Lookout::default().look(reports, &config(""), |_, _| false, at(0))
}

#[test]
fn without_reports_nothing_is_known_and_nothing_is_found() {
    let look = look(&Reports::default());
    assert_eq!(found(&look), [""; 0]);
    assert_eq!(look.unknown.len(), Rule::ALL.len() - 1, "the clock is always seen");
}

#[test]
fn a_disk_that_fails_is_told_until_it_is_replaced_and_stays_told_while_it_says_nothing() {
    let sda = DiskHealth {
        name: "sda".to_owned(),
        model: "Example".to_owned(),
        passed: Some(false),
        pending_sectors: Some(8),
        ..DiskHealth::default()
    };
    let with = |disk: &DiskHealth| {
        let host = HostReport { disks: vec![disk.clone()], ..HostReport::default() };
        look(&Reports { host: Some(host), ..Reports::default() })
    };
    let config = config("[alert.disk_health]\nclear = '5s'");
    let mut engine = Engine::default();
    let fired = engine.step(&config, with(&sda), at(0));
    assert_eq!(said(&fired), ["firing disk_health", "firing disk_health"]);
    let told: Vec<_> = fired.iter().map(|record| (record.subject.as_str(), record.severity, record.value)).collect();
    assert_eq!(told, [("sda failing", Severity::Critical, 1), ("sda pending sectors", Severity::Warning, 8)]);
    assert!(fired[1].text.starts_with("sda Example has sectors that cannot be read: 8, since "), "{}", fired[1].text);
    let silent = DiskHealth { name: "sda".to_owned(), ..DiskHealth::default() };
    for second in 1..60 {
        assert_eq!(said(&engine.step(&config, with(&silent), at(second))), [""; 0]);
    }
    let new = DiskHealth { passed: Some(true), pending_sectors: Some(0), ..sda };
    assert_eq!(said(&engine.step(&config, with(&new), at(60))), [""; 0]);
    assert_eq!(said(&engine.step(&config, with(&new), at(65))), ["resolved disk_health", "resolved disk_health"]);
}

#[test]
fn a_tunnel_that_is_down_is_told_with_its_cause_and_what_carries_instead() {
    let tunnel = |name: &str, state: &str, cause: &str| -> VpnTunnel {
        serde_json::from_value(serde_json::json!({
            "name": name, "state": state, "cause": cause, "since_s": 40, "carries": state == "up", "addresses": [],
            "server": null, "probe": null, "loss": null, "rtt_ms": null, "received": 0, "sent": 0, "dns": [], "refused": [],
            "expires_s": if name == "noc" { 86_400 * 3 } else { 86_400 * 300 },
        }))
        .unwrap()
    };
    let with = |tunnels: Vec<VpnTunnel>| {
        look(&Reports { vpn: Some(VpnReport { tunnels, ..VpnReport::default() }), ..Reports::default() })
    };
    let config = config("[alert.tunnel_down]\nafter = '5s'\nclear = '5s'");
    let mut engine = Engine::default();
    let ill = || vec![tunnel("noc", "down", "auth refused; next attempt in 40 s"), tunnel("backup", "up", "")];
    assert_eq!(said(&engine.step(&config, with(ill()), at(0))), ["firing certificate_expiring"]);
    let fired = engine.step(&config, with(ill()), at(5));
    assert_eq!(said(&fired), ["firing tunnel_down"]);
    assert!(
        fired[0].text.starts_with("the tunnel noc is down (auth refused); backup carries, since "),
        "{}",
        fired[0].text
    );
    let well = || vec![tunnel("noc", "up", ""), tunnel("backup", "off", "")];
    assert_eq!(said(&engine.step(&config, with(well()), at(6))), [""; 0]);
    assert_eq!(said(&engine.step(&config, with(well()), at(11))), ["resolved tunnel_down"]);
    // Without a tunnel the role does not run, and nothing of it is bad.
    let own = Some(Status::default());
    let gone = look(&Reports { own, ..Reports::default() });
    assert!(!gone.unknown.contains(&Rule::TunnelDown));
    assert_eq!(said(&engine.step(&config, gone, at(200))), [""; 0]);
    let gone = look(&Reports { own: Some(Status::default()), ..Reports::default() });
    assert_eq!(said(&engine.step(&config, gone, at(260))), ["resolved certificate_expiring"]);
}

#[test]
fn losses_are_counted_by_stream_and_reason_and_what_is_no_loss_is_not() {
    let dropped_ever = BTreeMap::from([("socket_buffer".to_owned(), 4), ("discovery".to_owned(), 9)]);
    let stream =
        StreamStatus { dropped_ever, evicted_unforwarded: 3, damaged: 2, refused: 1, ..StreamStatus::default() };
    let look = look(&Reports { store: Some(store(stream)), ..Reports::default() });
    let counts: Vec<_> = look.counts.iter().map(|count| (count.rule, count.subject.as_str(), count.total)).collect();
    assert_eq!(
        counts,
        [
            (Rule::Drops, "syslog socket_buffer", 4),
            (Rule::Drops, "syslog refused_batch", 1),
            (Rule::EvictingUnforwarded, "syslog", 3),
            (Rule::Damaged, "syslog", 2),
        ]
    );
}

#[test]
fn the_watermarks_are_told_each_with_its_severity_unless_all_that_goes_is_delivered() {
    let mut report = store(StreamStatus::default());
    report.ring = RingStatus { watermark: 85, fill: 86.2, ..RingStatus::default() };
    let reports = |report: &StoreReport| Reports { store: Some(report.clone()), ..Reports::default() };
    let look_at = look(&reports(&report));
    assert_eq!(found(&look_at), ["ring_filling 70 %", "ring_filling 85 %"]);
    assert_eq!(look_at.findings[1].severity, Some(Severity::Warning));
    report.ring.watermark = 95;
    report.streams[0].evicted = 1;
    assert_eq!(found(&look(&reports(&report))), [""; 0], "a ring that turns over is full and well");
    report.streams[0].next_to_go = BTreeMap::from([("noc".to_owned(), 500)]);
    let look = look(&reports(&report));
    assert!(found(&look).contains(&"evicting_unforwarded syslog, next".to_owned()), "{:?}", found(&look));
    assert!(look.findings.iter().any(|finding| finding.what.ends_with("noc 500")));
}

#[test]
fn a_ring_that_will_be_full_soon_is_told_once_enough_is_known() {
    let mut report = store(StreamStatus::default());
    let forecast = |covered, left| Forecast {
        window: "hour".to_owned(),
        covered_s: covered,
        time_to_full_s: Some(left),
        ..Forecast::default()
    };
    let mut found_with = |forecast| {
        report.ring.forecast = vec![forecast];
        let look = look(&Reports { store: Some(report.clone()), ..Reports::default() });
        look.findings.first().map(|finding| (finding.bad, finding.value, finding.severity))
    };
    assert_eq!(found_with(forecast(60, 100)), None);
    assert_eq!(found_with(forecast(600, 3600)), Some((true, 3600, Some(Severity::Notice))));
    assert_eq!(found_with(forecast(600, 25 * 3600)), Some((false, 90_000, Some(Severity::Notice))), "between");
    assert_eq!(found_with(forecast(600, 31 * 3600)), None);
}

#[test]
fn a_destination_is_refused_or_down_or_well() {
    let with = |state| {
        let uplink = Some(destination(state));
        look(&Reports { uplink, store: Some(store(StreamStatus::default())), ..Reports::default() })
    };
    assert_eq!(found(&with("config_error")), ["destination_refused noc"]);
    assert!(with("config_error").findings[0].what.contains("(401 Unauthorized)"));
    assert_eq!(found(&with("retrying")), ["destination_down noc"]);
    assert_eq!(with("connecting").findings.iter().filter(|finding| !finding.bad).count(), 2, "neither yet");
    assert_eq!(with("idle").findings, []);
}

#[test]
fn lag_is_the_age_of_the_oldest_record_that_is_not_acknowledged() {
    let (mut lookout, config) = (Lookout::default(), config("[alert.lag]\nabove = '1m'"));
    let mut at_second = |second: u64, next: u64, acked: u64| {
        let mut uplink = destination("sending");
        uplink.destinations[0].acked_seq = Seq(acked);
        uplink.destinations[0].lag = (next - 1).saturating_sub(acked);
        let store = Some(store(StreamStatus { next_seq: Seq(next), ..StreamStatus::default() }));
        let reports = Reports { uplink: Some(uplink), store, ..Reports::default() };
        let look = lookout.look(&reports, &config, |_, _| false, at(second));
        look.findings.first().map(|finding| (finding.bad, finding.value))
    };
    assert_eq!(at_second(0, 1, 0), None);
    assert_eq!(at_second(10, 11, 0), None);
    assert_eq!(at_second(50, 21, 0), Some((false, 40)), "above the half: no reason to end it");
    assert_eq!(at_second(70, 31, 0), Some((true, 60)));
    assert_eq!(at_second(71, 31, 10), None, "the oldest is of second 50 now");
    assert_eq!(at_second(200, 31, 30), None);
}

#[test]
fn a_process_that_dies_again_and_again_is_told_until_it_holds() {
    let (mut lookout, config) = (Lookout::default(), config("[alert.role_restarting]\ncount = 3\nwithin = '1m'"));
    let mut at_second = |second, restarts| {
        let process =
            Process { role: "store".to_owned(), restarts, last_end: Some("SIGSEGV".to_owned()), ..Process::default() };
        let own = Some(Status { processes: vec![process], ..Status::default() });
        let look = lookout.look(&Reports { own, ..Reports::default() }, &config, |_, _| false, at(second));
        look.findings.first().map(|finding| finding.bad)
    };
    assert_eq!(at_second(0, 40), None, "what was before is no news");
    assert_eq!(at_second(1, 41), Some(false));
    assert_eq!(at_second(20, 43), Some(true));
    assert_eq!(at_second(62, 43), Some(false), "the first is long ago");
    assert_eq!(at_second(81, 43), None);
    assert_eq!(at_second(82, 0), None, "ravend began anew");
}

#[test]
fn a_clock_that_is_set_is_noticed() {
    let (mut lookout, config) = (Lookout::default(), config(""));
    let mut with = |steady: u64, wall: u64| {
        let now = Now { steady: Duration::from_secs(steady), wall: UnixNanos(wall * 1_000_000_000) };
        let look = lookout.look(&Reports::default(), &config, |_, _| false, now);
        look.findings.first().map(|finding| finding.what.clone())
    };
    assert_eq!(with(1, BEGAN), None);
    assert_eq!(with(2, BEGAN + 3), None, "slewed");
    assert_eq!(with(3, BEGAN - 3600).as_deref(), Some("the clock was set by -3604 s"));
    assert_eq!(with(4, BEGAN - 3599), None);
    assert!(with(5, 100).unwrap().starts_with("the clock is not set"));
}

#[test]
fn a_storm_of_silence_is_one_alert_and_those_told_before_stay() {
    let silence = |n: u8| SilenceReport {
        known: 500,
        regular: 400,
        silent: u64::from(n),
        longest: (0..n.min(64))
            .map(|n| SilentSource {
                stream: "syslog".to_owned(),
                source: [10, 0, 0, n].into(),
                last_ns: UnixNanos(7),
                silent_s: 900,
            })
            .collect(),
    };
    let (mut engine, config) = (Engine::default(), config("[alert.source_silent]\nstorm = 3"));
    let mut step = |second, n| {
        let report = StoreReport { silence: Some(silence(n)), ..StoreReport::default() };
        let reports = Reports { store: Some(report), ..Reports::default() };
        let look =
            Lookout::default().look(&reports, &config, |rule, subject| engine.is_firing(rule, subject), at(second));
        let told = engine.step(&config, look, at(second));
        told.into_iter().map(|record| (record.state, record.subject)).collect::<Vec<_>>()
    };
    let (firing, resolved) = (AlertState::Firing, AlertState::Resolved);
    assert_eq!(step(0, 1), [(firing, "syslog 10.0.0.0".to_owned())]);
    assert_eq!(step(1, 200), [(firing, EVERYBODY.to_owned())]);
    assert_eq!(step(2, 3), [], "still above the half");
    let calm = step(3, 1);
    assert_eq!(calm, [(resolved, EVERYBODY.to_owned())], "the first one is still told");
    assert_eq!(step(4, 0), [(resolved, "syslog 10.0.0.0".to_owned())]);
}
