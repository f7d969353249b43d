//! `raven status`: what ravend knows and what the roles reported, put together.

mod collected;
pub mod screen;

use crate::client::{Client, unexpected};
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::reports::name;
use clap::Args;
use raven_model::alert::AlertReport;
use raven_model::control::{RawStatus, Request, Response};
use raven_model::host::{Complaint, DiskHealth, MissingFirmware};
use raven_model::report::{
    CollectorReport, DestinationStatus, HostReport, LinkState, LinkStatus, ListenerCount, ListenerStatus, NetReport,
    RingStatus, Status, StoreReport, StreamStatus, UplinkReport, VpnReport,
};
use raven_model::stream::Stream;
use raven_model::table::Role;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

/// `raven status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Show it again every 2 s, until Ctrl-C
    #[arg(long, short)]
    pub watch: bool,
}

/// Two a second would keep a 115200 baud console busy; one in two seconds leaves room to type.
const EVERY: Duration = Duration::from_secs(2);

/// Runs it.
pub fn run(args: &StatusArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    if !args.watch {
        show(&fetch(client)?, output)?;
        return Ok(OK);
    }
    loop {
        if output.terminal && !output.json {
            // Home and clear, nothing else: works on every serial terminal.
            output.bytes(b"\x1b[H\x1b[2J")?;
        }
        match fetch(client) {
            Ok(status) => show(&status, output)?,
            Err(failure) if output.json => return Err(failure),
            Err(failure) => output.complain(&failure),
        }
        output.flush()?;
        thread::sleep(EVERY);
    }
}

fn show(status: &Status, output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return output.value(status);
    }
    screen::whole(status).iter().try_for_each(|line| output.line(line))
}

/// Asks `ravend` and merges.
pub fn fetch(client: &Client) -> Result<Status, Failure> {
    client.status().map(|raw| merge(&raw))
}

/// The same, with the store's counts by listener.
pub fn fetch_with_counts(client: &Client) -> Result<(Status, BTreeMap<String, ListenerCount>), Failure> {
    match client.ask(&Request::Status)? {
        Response::Status(raw) => {
            let store = raw.reports.get(&Role::Store).and_then(|report| serde_json::from_str(report.get()).ok());
            Ok((merge(&raw), store.map_or_else(BTreeMap::new, |store: StoreReport| store.listeners)))
        }
        other => Err(unexpected(&other)),
    }
}

/// One status of ravend's own and the roles' reports. What a role did not report is missing, and an alert says so.
pub fn merge(raw: &RawStatus) -> Status {
    let mut status = raw.own.clone();
    let (mut missing, mut seen) = (Vec::new(), Vec::new());
    if let Some(store) = report::<StoreReport>(raw, Role::Store, "what is kept is not known", &mut missing) {
        merge_store(&mut status, store);
    }
    for stream in Stream::ALL {
        let role = stream.collector();
        // Without a listener it is not running.
        if !status.processes.iter().any(|process| process.role == role.name()) {
            continue;
        }
        let so = "live connections and drops are not known";
        if let Some(collector) = report::<CollectorReport>(raw, role, so, &mut missing) {
            seen.extend(collected::alerts(stream, &collector));
            merge_collector(&mut status, stream, collector);
        }
    }
    if let Some(uplink) = report::<UplinkReport>(raw, Role::Uplink, "what is delivered is not known", &mut missing) {
        status.destinations = uplink.destinations;
    }
    if let Some(Ok(net)) = raw.reports.get(&Role::Net).map(|report| serde_json::from_str::<NetReport>(report.get())) {
        // A socket that nobody plugged anything in is nothing to act on.
        let troubled = net.links.iter().filter(|link| link.state == LinkState::Trouble);
        status.alerts.extend(troubled.map(|link| format!("{}: {}", link.name, link.cause)));
        (status.links, status.tunnels, status.ways) = (net.links, net.tunnels, net.ways);
    }
    if let Some(Ok(vpn)) = raw.reports.get(&Role::Vpn).map(|report| serde_json::from_str::<VpnReport>(report.get())) {
        let failed =
            vpn.tunnels.iter().filter(|tunnel| ["down", "half-open", "degraded"].contains(&tunnel.state.as_str()));
        status.alerts.extend(failed.map(|tunnel| format!("vpn {}: {}: {}", tunnel.name, tunnel.state, tunnel.cause)));
        status.vpn = vpn.tunnels;
    }
    if let Some(Ok(told)) =
        raw.reports.get(&Role::Alert).map(|report| serde_json::from_str::<AlertReport>(report.get()))
    {
        status.firing = told.firing;
        if told.withheld > 0 {
            status.alerts.push(format!("{} more alerts wait until some are over: see `raven alerts`", told.withheld));
        }
    }
    if let Some(Ok(host)) = raw.reports.get(&Role::Host).map(|report| serde_json::from_str::<HostReport>(report.get()))
    {
        (status.disks, status.started_by) = (host.disks, host.started_by);
        status.links.iter_mut().for_each(|link| lacking(link, &host.firmware));
    }
    let derived = alerts(&status);
    // What ravend says of a part comes first and is not repeated.
    let known = status.alerts.join("\n");
    let is_new = |alert: &Alert| !known.contains(alert.subject.as_str());
    status.alerts.extend(derived.into_iter().filter(is_new).map(|alert| alert.text));
    status.alerts.extend(seen);
    status.alerts.extend(missing.into_iter().filter(is_new).map(|alert| alert.text));
    status
}

fn merge_collector(status: &mut Status, stream: Stream, collector: CollectorReport) {
    for listener in status.listeners.iter_mut().filter(|listener| listener.stream == stream.name()) {
        listener.connections = collector.connections.get(&name(listener)).copied().unwrap_or(listener.connections);
    }
    if let Some(kept) = status.streams.iter_mut().find(|kept| kept.name == stream.name()) {
        kept.dropped = collector.dropped;
    }
}

fn report<T: DeserializeOwned>(raw: &RawStatus, role: Role, so: &str, missing: &mut Vec<Alert>) -> Option<T> {
    let subject = role.name().to_owned();
    let text = match raw.reports.get(&role).map(|report| serde_json::from_str(report.get())) {
        Some(Ok(report)) => return Some(report),
        Some(Err(error)) => format!("the report of {role} cannot be read, so {so}: {error}"),
        None => format!("no report from {role} yet, so {so}"),
    };
    missing.push(Alert { subject, text });
    None
}

fn merge_store(status: &mut Status, store: StoreReport) {
    status.streams = store.streams;
    status.ring = Some(store.ring);
    for listener in &mut status.listeners {
        if let Some(count) = store.listeners.get(&name(listener)) {
            (listener.received, listener.bytes, listener.rate) = (count.records, count.bytes, count.rate);
            if count.refused > 0 {
                listener.dropped.insert("refused_batch".to_owned(), count.refused);
            }
        }
    }
}

/// Something to act on, and the word by which one sees whether ravend has said it already.
struct Alert {
    subject: String,
    text: String,
}

/// Most urgent first: nothing can be stored, data was lost, data is not delivered.
fn alerts(status: &Status) -> Vec<Alert> {
    let not_stored = status.streams.iter().filter_map(storing);
    let dropped = status.listeners.iter().filter_map(dropping);
    let lost = status.streams.iter().flat_map(losses);
    let filling = status.ring.iter().flat_map(|ring| filling(ring, &status.streams));
    let undelivered = status.destinations.iter().filter_map(delivering);
    let failing = status.disks.iter().flat_map(ailing);
    not_stored.chain(dropped).chain(lost).chain(failing).chain(filling).chain(undelivered).collect()
}

fn storing(stream: &StreamStatus) -> Option<Alert> {
    let error = stream.error.as_ref()?;
    Some(Alert { subject: error.clone(), text: format!("{} is not being stored: {error}", stream.name) })
}

fn dropping(listener: &ListenerStatus) -> Option<Alert> {
    let reasons: Vec<String> = listener
        .dropped
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{count} ({reason})"))
        .collect();
    let name = name(listener);
    (!reasons.is_empty()).then(|| Alert { text: format!("{name} dropped {}", reasons.join(", ")), subject: name })
}

fn losses(stream: &StreamStatus) -> Vec<Alert> {
    let said = [
        (stream.evicted_unforwarded, "records were evicted before every destination had them"),
        (stream.damaged, "records were lost to damage on disk: see `raven ring verify`"),
    ];
    let alert = |(count, text): (u64, &str)| Alert {
        subject: text.to_owned(),
        text: format!("{}: {count} {text}", stream.name),
    };
    said.into_iter().filter(|(count, _)| *count > 0).map(alert).collect()
}

/// Beside what is wrong with a link anyway: firmware that its driver asked for.
fn lacking(link: &mut LinkStatus, missing: &[MissingFirmware]) {
    let ours = missing.iter().filter(|lack| lack.interface == link.name);
    let told = ours.map(|lack| format!("firmware {} is not in the image", lack.file));
    let known = Some(link.cause.clone()).filter(|cause| !cause.is_empty());
    link.cause = known.into_iter().chain(told).collect::<Vec<_>>().join("; ");
}

/// What a disk says of itself.
fn ailing(disk: &DiskHealth) -> Vec<Alert> {
    let text = |complaint: Complaint| format!("disk {} {}: {}", disk.called(), complaint.what, complaint.remedy);
    disk.complaints().into_iter().map(text).map(|text| Alert { subject: text.clone(), text }).collect()
}

/// The disk: what will go before every destination has it, how full it is, and who else takes it.
fn filling(ring: &RingStatus, streams: &[StreamStatus]) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut alert = |text: String| alerts.push(Alert { subject: text.clone(), text });
    let is_full = ring.watermark >= NEARLY_FULL;
    for stream in streams.iter().filter(|stream| is_full && !stream.next_to_go.is_empty()) {
        let who: Vec<String> = stream.next_to_go.iter().map(|(name, records)| format!("{name} {records}")).collect();
        let goes = if stream.evicted > 0 { "the next to go" } else { "the first to go" };
        alert(format!("{}: the disk is nearly full, and {goes} are not acknowledged: {}", stream.name, who.join(", ")));
    }
    // A ring that has turned over is always full: that is no news while all that goes is delivered.
    let has_turned = streams.iter().any(|stream| stream.evicted > 0);
    let is_safe = streams.iter().all(|stream| stream.next_to_go.is_empty());
    if ring.watermark > 0 && !(has_turned && is_safe) {
        alert(format!("the ring is {:.0} % full (above {} %)", ring.fill, ring.watermark));
    }
    if ring.quota < ring.granted / 2 {
        let (quota, granted) = (screen::size(ring.quota), screen::size(ring.granted));
        alert(format!("the disk is full of others' files: the ring may take {quota} of the {granted} it is granted"));
    }
    alerts
}

/// Above this watermark what goes next is named.
const NEARLY_FULL: u8 = 95;

fn delivering(destination: &DestinationStatus) -> Option<Alert> {
    if destination.state == "paused" || destination.backfill.state == "paused" {
        let what = if destination.state == "paused" { "is held" } else { "has its backfill held" };
        let (name, stream, lag) = (&destination.name, &destination.stream, destination.lag);
        let text = format!("{name} {what} by an operator, {lag} {stream} records behind: see `raven uplink resume`");
        return Some(Alert { subject: text.clone(), text });
    }
    if !["retrying", "config_error", "stopped"].contains(&destination.state.as_str()) {
        return None;
    }
    let why = destination.last_error.as_deref().unwrap_or("no reason given");
    let text = format!(
        "{} ({}) is {}, {} records behind: {why}",
        destination.name,
        destination.to,
        destination.state.replace('_', " "),
        destination.lag
    );
    Some(Alert { subject: destination.name.clone(), text })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::alert::{Firing, Rule, Severity};
    use raven_model::host::StartedBy;
    use raven_model::report::KernelUdp;
    use serde_json::value::to_raw_value;

    fn own() -> Status {
        let listener = |proto: &str, addr: &str| ListenerStatus {
            stream: "syslog".into(),
            proto: proto.into(),
            addr: addr.into(),
            ..ListenerStatus::default()
        };
        Status {
            device: "arena".into(),
            processes: vec![raven_model::report::Process {
                role: "syslog".into(),
                ..raven_model::report::Process::default()
            }],
            listeners: vec![listener("udp", "[::]:514"), listener("tcp", "[::]:601")],
            kernel: KernelUdp::default(),
            ..Status::default()
        }
    }

    fn store() -> StoreReport {
        let count = ListenerCount { records: 5, bytes: 500, rate: 2.5, refused: 1, ..ListenerCount::default() };
        StoreReport {
            streams: vec![StreamStatus { name: "syslog".into(), ..StreamStatus::default() }],
            listeners: BTreeMap::from([("udp:[::]:514".to_owned(), count)]),
            ..StoreReport::default()
        }
    }

    fn raw(own: Status, store: Option<StoreReport>, destination: Option<DestinationStatus>) -> RawStatus {
        let mut reports = BTreeMap::new();
        if let Some(store) = store {
            reports.insert(Role::Store, to_raw_value(&store).unwrap());
        }
        let connections = BTreeMap::from([("tcp:[::]:601".to_owned(), 3)]);
        reports.insert(
            Role::Syslog,
            to_raw_value(&CollectorReport { connections, ..CollectorReport::default() }).unwrap(),
        );
        if let Some(destination) = destination {
            reports.insert(Role::Uplink, to_raw_value(&UplinkReport { destinations: vec![destination] }).unwrap());
        }
        RawStatus { own, reports }
    }

    #[test]
    fn counts_go_to_the_listener_of_that_name() {
        let status = merge(&raw(own(), Some(store()), Some(DestinationStatus::default())));
        let udp = &status.listeners[0];
        assert_eq!((udp.received, udp.bytes, udp.rate, udp.dropped["refused_batch"]), (5, 500, 2.5, 1));
        assert_eq!((status.listeners[1].connections, status.listeners[1].received), (3, 0));
        assert_eq!((status.streams.len(), status.destinations.len()), (1, 1));
        assert_eq!(status.alerts, ["udp:[::]:514 dropped 1 (refused_batch)"]);
    }

    #[test]
    fn a_missing_report_is_said_and_the_rest_is_shown() {
        let status = merge(&raw(own(), None, None));
        assert_eq!(status.listeners[1].connections, 3);
        assert_eq!(
            status.alerts,
            [
                "no report from store yet, so what is kept is not known",
                "no report from uplink yet, so what is delivered is not known"
            ]
        );
    }

    #[test]
    fn an_unreadable_report_is_said_and_the_rest_is_shown() {
        let mut raw = raw(own(), Some(store()), None);
        raw.reports.insert(Role::Uplink, to_raw_value(&7).unwrap());
        let status = merge(&raw);
        assert_eq!(status.streams.len(), 1);
        assert!(
            status.alerts.iter().any(|alert| alert.starts_with("the report of uplink cannot be read")),
            "{:?}",
            status.alerts
        );
    }

    #[test]
    fn what_cannot_be_stored_comes_before_what_cannot_be_delivered() {
        let mut store = store();
        store.streams[0].error = Some("no space left on /data".into());
        let noc = DestinationStatus {
            name: "noc".into(),
            to: "noc:2514".into(),
            state: "retrying".into(),
            lag: 9,
            last_error: Some("connection refused".into()),
            ..DestinationStatus::default()
        };
        let status = merge(&raw(own(), Some(store), Some(noc)));
        assert_eq!(status.alerts[0], "syslog is not being stored: no space left on /data");
        assert_eq!(status.alerts.last().unwrap(), "noc (noc:2514) is retrying, 9 records behind: connection refused");
    }

    #[test]
    fn what_the_host_role_says_of_disks_is_shown_and_acted_on() {
        let sda = DiskHealth { name: "sda".into(), pending_sectors: Some(8), ..DiskHealth::default() };
        let started_by = Some(StartedBy::UefiSecureBootOn);
        let host = HostReport { disks: vec![sda.clone()], started_by, ..HostReport::default() };
        let mut raw = raw(own(), None, None);
        raw.reports.insert(Role::Host, to_raw_value(&host).unwrap());
        let status = merge(&raw);
        assert_eq!((status.disks, status.started_by), (vec![sda], started_by));
        let told = "disk sda has sectors that cannot be read: 8: look what is lost with `raven ring verify`, and replace the disk soon";
        assert_eq!(status.alerts[0], told);
        raw.reports.insert(Role::Host, to_raw_value(&7).unwrap());
        assert!(merge(&raw).disks.is_empty(), "what cannot be read is not known");
    }

    #[test]
    fn firmware_that_is_missing_stands_beside_the_link_and_is_no_alert() {
        let link = |name: &str, cause: &str| LinkStatus { cause: cause.into(), ..LinkStatus::new(name, LinkState::Up) };
        let net = NetReport {
            links: vec![link("eth0", ""), link("eth1", "no reply"), link("eth2", "")],
            ..NetReport::default()
        };
        let lack = |interface: &str, file: &str| MissingFirmware { interface: interface.into(), file: file.into() };
        let firmware = vec![lack("eth0", "rtl_nic/a.fw"), lack("eth1", "ice.pkg")];
        let mut raw = raw(own(), None, None);
        raw.reports.insert(Role::Net, to_raw_value(&net).unwrap());
        raw.reports.insert(Role::Host, to_raw_value(&HostReport { firmware, ..HostReport::default() }).unwrap());
        let status = merge(&raw);
        let causes: Vec<&str> = status.links.iter().map(|link| link.cause.as_str()).collect();
        let expected =
            ["firmware rtl_nic/a.fw is not in the image", "no reply; firmware ice.pkg is not in the image", ""];
        assert_eq!(causes, expected);
        assert!(!status.alerts.iter().any(|alert| alert.contains("firmware")), "{:?}", status.alerts);
    }

    #[test]
    fn a_filling_disk_is_said_until_all_that_goes_is_delivered() {
        let mut store = store();
        store.listeners.clear();
        store.ring = RingStatus { watermark: 85, fill: 86.4, granted: 1000, quota: 1000, ..RingStatus::default() };
        let alerts = |store: &StoreReport| {
            merge(&raw(own(), Some(store.clone()), Some(DestinationStatus::default()))).alerts.join("\n")
        };
        assert_eq!(alerts(&store), "the ring is 86 % full (above 85 %)");
        store.ring.watermark = 95;
        store.streams[0].next_to_go = BTreeMap::from([("noc".to_owned(), 500)]);
        assert!(
            alerts(&store)
                .starts_with("syslog: the disk is nearly full, and the first to go are not acknowledged: noc 500")
        );
        store.streams[0].next_to_go.clear();
        store.streams[0].evicted = 7;
        assert_eq!(alerts(&store), "", "a ring that turns over is full and well");
        store.ring.quota = 400;
        assert!(alerts(&store).contains("others' files"));
    }

    #[test]
    fn what_collectors_dropped_and_did_not_understand_is_said_behind_what_is_lost() {
        let mut raw = raw(own(), Some(store()), Some(DestinationStatus::default()));
        let item = raven_model::report::InboxItem {
            source: "192.0.2.1".into(),
            reason: "tls_hello".into(),
            ..raven_model::report::InboxItem::default()
        };
        let dropped = BTreeMap::from([("connection_unserved".to_owned(), 2)]);
        let report = CollectorReport { inbox: vec![item], dropped, ..CollectorReport::default() };
        raw.reports.insert(Role::Syslog, to_raw_value(&report).unwrap());
        let status = merge(&raw);
        assert_eq!(status.streams[0].dropped["connection_unserved"], 2);
        assert_eq!(
            status.alerts,
            [
                "udp:[::]:514 dropped 1 (refused_batch)",
                "syslog: the collector dropped 2 (connection_unserved)",
                "syslog: in the inbox tls_hello of 192.0.2.1: see `raven inbox`",
            ]
        );
    }

    #[test]
    fn what_the_alert_role_raised_is_counted_by_severity() {
        let mut raw = raw(own(), Some(store()), Some(DestinationStatus::default()));
        let firing = |severity| Firing {
            alert: Rule::Lag,
            subject: "noc".into(),
            severity,
            since_ns: raven_model::units::UnixNanos(1),
            text: "behind".into(),
        };
        let firing = vec![firing(Severity::Critical), firing(Severity::Warning), firing(Severity::Warning)];
        let report = AlertReport { firing: firing.clone(), ..AlertReport::default() };
        raw.reports.insert(Role::Alert, to_raw_value(&report).unwrap());
        let status = merge(&raw);
        assert_eq!(status.firing, firing);
        let screen = screen::whole(&status).join("\n");
        assert!(screen.contains("raised and not over: 1 critical, 2 warning: see `raven alerts`"), "{screen}");
    }

    #[test]
    fn what_ravend_said_itself_is_not_repeated() {
        let mut own = own();
        own.alerts = vec!["udp:[::]:514 loses datagrams".into()];
        assert_eq!(
            merge(&raw(own, Some(store()), Some(DestinationStatus::default()))).alerts,
            ["udp:[::]:514 loses datagrams"]
        );
    }

    #[test]
    fn the_json_has_every_field_that_checks_rely_on() {
        let mut status = merge(&raw(own(), Some(store()), Some(DestinationStatus::default())));
        status.processes.push(raven_model::report::Process::default());
        let value = serde_json::to_value(status).unwrap();
        let has = |part: &str, fields: &[&str]| {
            for field in fields {
                assert!(value[part][0].get(field).is_some(), "{part}.{field}");
            }
        };
        has("processes", &["role", "pid", "uid", "restarts", "uptime_s", "capabilities"]);
        has("listeners", &["stream", "proto", "addr", "received", "bytes", "dropped"]);
        has(
            "streams",
            &[
                "name",
                "first_seq",
                "next_seq",
                "stored",
                "evicted",
                "bytes_raw",
                "bytes_disk",
                "oldest_ns",
                "time_to_full_s",
            ],
        );
        has("destinations", &["name", "stream", "ack_class", "acked_seq", "lag", "rate", "state", "last_error"]);
    }
}
