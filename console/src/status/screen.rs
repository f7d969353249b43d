//! The status on one screen of 80 columns and 24 lines: plain ASCII, words instead of colours, so that it reads the
//! same on a serial line, over SSH and on paper. What does not fit is counted, never silently left out.

use crate::escape;
use crate::time;
use raven_model::alert::{Firing, Severity};
use raven_model::host::DiskHealth;
use raven_model::report::{
    BackfillStatus, DestinationStatus, Forecast, LinkStatus, ListenerStatus, Process, Status, StreamStatus,
};
use raven_model::units::ByteCount;

/// Columns of the smallest terminal.
pub const WIDTH: usize = 80;
/// Lines of the smallest terminal, less one for the prompt.
pub const HEIGHT: usize = 23;

const ALERTS: &str = "ALERTS";

/// One part of the screen: a heading and rows that may be left out when there are too many.
struct Section {
    head: Vec<String>,
    rows: Vec<String>,
    left_out: usize,
}

impl Section {
    fn of(mut lines: Vec<String>) -> Self {
        let rows = if lines.is_empty() { Vec::new() } else { lines.split_off(1) };
        Self { head: lines, rows, left_out: 0 }
    }

    fn height(&self) -> usize {
        self.head.len() + self.rows.len() + usize::from(self.left_out > 0)
    }

    /// Rows, for choosing which section gives one up: alerts, links and streams hold on to theirs, processes that do well
    /// are of the least interest.
    fn length(&self) -> usize {
        let begins = |word: &str| self.head.first().is_some_and(|head| head.starts_with(word));
        match self.rows.len() {
            rows if begins(ALERTS) => rows,
            rows if begins("STREAM") => rows,
            rows if begins("PROCESS") => rows * 4,
            rows if begins("LINK ") => rows,
            rows => rows * 2,
        }
    }

    fn lines(self) -> Vec<String> {
        let note = (self.left_out > 0).then(|| format!("  ... {} more: raven status --json", self.left_out));
        self.head.into_iter().chain(self.rows).chain(note).collect()
    }
}

/// Which section is about processes.
const PROCESSES: usize = 2;

/// The whole screen.
pub fn whole(status: &Status) -> Vec<String> {
    let mut sections = vec![
        Section { head: vec![headline(status)], rows: Vec::new(), left_out: 0 },
        alerts(status),
        Section::of(processes(status)),
        Section::of(links(status)),
        Section::of(if status.vpn.is_empty() { Vec::new() } else { crate::vpn::lines(&status.vpn) }),
        Section::of(listeners(status)),
        Section::of(streams(status)),
        Section::of(destinations(status)),
        Section { head: vec![kernel(status)], rows: Vec::new(), left_out: 0 },
    ];
    // The disk with the data stays; others, and what started the machine, where there is room.
    let mut machine = disks(status);
    let others = machine.split_off(machine.len().min(1));
    sections.push(Section { head: machine, rows: Vec::new(), left_out: 0 });
    let height = |sections: &[Section]| sections.iter().map(Section::height).sum::<usize>();
    if height(&sections) > HEIGHT
        && let Some(short) = processes_in_short(status)
    {
        sections[PROCESSES] = Section { head: vec![short], rows: Vec::new(), left_out: 0 };
    }
    while height(&sections) > HEIGHT {
        let Some(longest) = sections.iter_mut().filter(|section| section.rows.len() > 1).max_by_key(|s| s.length())
        else {
            break;
        };
        longest.rows.pop();
        longest.left_out += 1;
    }
    let room = HEIGHT.saturating_sub(height(&sections));
    let lines = sections.into_iter().flat_map(Section::lines).chain(others.into_iter().take(room));
    lines.map(|line| cut(&line, WIDTH)).collect()
}

fn headline(status: &Status) -> String {
    let left = format!(
        "raven {}  {}  up {}",
        escape::text(&status.device),
        escape::text(&status.version),
        time::span(status.uptime_s)
    );
    let right = time::format(status.now_ns, 0);
    let left = with_disk(left, status, WIDTH - right.len());
    let room = WIDTH.saturating_sub(left.chars().count() + right.len());
    format!("{left}{}{right}", " ".repeat(room.max(1)))
}

/// How full the ring is, and how long it lasts by the last day, where the line has room for it.
fn with_disk(left: String, status: &Status, room: usize) -> String {
    let Some(ring) = &status.ring else { return left };
    let by_day = ring.forecast.iter().find(|forecast| forecast.window == "day");
    let holds = by_day.and_then(|forecast| forecast.holds_s).map(time::span);
    let holds = holds.map_or_else(String::new, |span| format!(", holds {span}"));
    let whole = format!("{left}  disk {:.0} %{holds}", ring.fill);
    if whole.chars().count() < room { whole } else { left }
}

fn alerts(status: &Status) -> Section {
    let jail = (!status.jail_missing.is_empty())
        .then(|| format!("the jail is not complete: {}", status.jail_missing.join(", ")));
    let raised = raised(&status.firing);
    let given_up = given_up(status);
    let rows: Vec<String> = raised
        .iter()
        .chain(&given_up)
        .chain(&status.alerts)
        .chain(&jail)
        .flat_map(|alert| wrapped(&escape::text(alert)))
        .collect();
    let head = if rows.is_empty() { "ALERTS     none" } else { ALERTS };
    Section { head: vec![head.to_owned()], rows, left_out: 0 }
}

/// Why an update was taken back.
pub fn given_up(status: &Status) -> Option<String> {
    let slots = status.slots.iter().flat_map(|slots| &slots.slots);
    let mut told =
        slots.filter_map(|slot| Some(format!("slot {} was given up: {}", slot.name, slot.given_up.as_ref()?)));
    told.next()
}

/// How many alerts were raised and are not over.
fn raised(firing: &[Firing]) -> Option<String> {
    let count = |severity: Severity| firing.iter().filter(|firing| firing.severity == severity).count();
    let all = [Severity::Critical, Severity::Warning, Severity::Notice].map(|severity| (count(severity), severity));
    let told: Vec<String> = all.iter().filter(|(n, _)| *n > 0).map(|(n, severity)| format!("{n} {severity}")).collect();
    (!told.is_empty()).then(|| format!("raised and not over: {}: see `raven alerts`", told.join(", ")))
}

/// At most two lines: an alert is worth them, a flood of words is not.
fn wrapped(alert: &str) -> Vec<String> {
    let room = WIDTH - 4;
    let letters: Vec<char> = alert.chars().collect();
    if letters.len() <= room {
        return vec![format!("  ! {alert}")];
    }
    let split = letters[..room].iter().rposition(|c| *c == ' ').filter(|at| *at > room / 2).unwrap_or(room);
    let rest: String = letters[split..].iter().collect();
    vec![format!("  ! {}", letters[..split].iter().collect::<String>()), format!("    {}", rest.trim_start())]
}

/// Where each of them runs that should, and the screen is full.
fn processes_in_short(status: &Status) -> Option<String> {
    let count = |state: &str| status.processes.iter().filter(|process| process.state == state).count();
    let (running, unwanted) = (count("running"), count("unwanted"));
    (running + unwanted == status.processes.len()).then(|| format!("PROCESS    {running} run: raven status --json"))
}

/// The part about processes.
pub fn processes(status: &Status) -> Vec<String> {
    let head = ["PROCESS", "PID", "UID", "STATE", "UP", "RESTARTS", "HEARTBEAT", "LAST END"];
    // Those that do not run come first: the last ones are left out when there are too many.
    let mut processes: Vec<&Process> = status.processes.iter().collect();
    processes.sort_by_key(|process| match process.state.as_str() {
        "running" => 1,
        "unwanted" => 2,
        _ => 0,
    });
    table(&head, processes.into_iter().map(process))
}

fn process(process: &Process) -> Vec<String> {
    let ended = process.last_end.as_deref().map_or_else(|| "-".to_owned(), escape::text);
    vec![
        escape::text(&process.role),
        process.pid.to_string(),
        process.uid.to_string(),
        escape::text(&process.state),
        time::span(process.uptime_s),
        process.restarts.to_string(),
        format!("{:.1}s", process.heartbeat_ms as f64 / 1000.0),
        ended,
    ]
}

/// The part about what is received.
pub fn listeners(status: &Status) -> Vec<String> {
    table(
        &["LISTENER", "STREAM", "RATE/s", "RECEIVED", "BYTES", "CONNS", "DROPPED"],
        status.listeners.iter().map(listener),
    )
}

fn listener(listener: &ListenerStatus) -> Vec<String> {
    let drops: Vec<String> = listener
        .dropped
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(reason, n)| format!("{} {}", count(*n), escape::text(reason)))
        .collect();
    let connections = if listener.proto == "udp" { "-".to_owned() } else { listener.connections.to_string() };
    let dropped = if drops.is_empty() { "0".to_owned() } else { drops.join(", ") };
    let name = escape::text(&format!("{}:{}", listener.proto, listener.addr));
    vec![
        name,
        escape::text(&listener.stream),
        rate(listener.rate),
        count(listener.received),
        size(listener.bytes),
        connections,
        dropped,
    ]
}

/// The part about cables: who is at their other ends comes last, since it may be long.
fn links(status: &Status) -> Vec<String> {
    let row = |link: &LinkStatus| {
        let address = link.addresses.iter().find(|address| !address.starts_with("fe80:"));
        let neighbour = link.neighbour.words().map_or_else(|| "-".to_owned(), |who| escape::text(&who));
        vec![
            escape::text(&link.name),
            link.state.name().to_owned(),
            address.map_or("-", String::as_str).to_owned(),
            neighbour,
        ]
    };
    if status.links.is_empty() {
        Vec::new()
    } else {
        table(&["LINK", "STATE", "ADDRESS", "NEIGHBOUR"], status.links.iter().map(row))
    }
}

/// The part about what is kept.
pub fn streams(status: &Status) -> Vec<String> {
    let head = ["STREAM", "RATE/s", "HELD", "LAST SEQ", "DISK", "OF", "OLDEST", "FULL IN", "EVICTED"];
    let lines = table(&head, status.streams.iter().map(|stream| self::stream(stream, status)));
    let dropped = std::iter::once(None).chain(status.streams.iter().map(dropped));
    lines.into_iter().zip(dropped).flat_map(|(line, dropped)| std::iter::once(line).chain(dropped)).collect()
}

/// What its collector dropped before it was stored.
fn dropped(stream: &StreamStatus) -> Option<String> {
    let drops = stream.dropped.iter().filter(|(_, n)| **n > 0);
    let drops: Vec<String> = drops.map(|(reason, n)| format!("{} {}", count(*n), escape::text(reason))).collect();
    (!drops.is_empty()).then(|| format!("  dropped: {}", drops.join(", ")))
}

fn stream(stream: &StreamStatus, status: &Status) -> Vec<String> {
    let held = stream.next_seq.0.saturating_sub(stream.first_seq.0);
    let full = match stream.time_to_full_s {
        None => "-".to_owned(),
        Some(0) => "full".to_owned(),
        Some(seconds) => time::span(seconds),
    };
    let oldest = stream
        .oldest_ns
        .map_or_else(|| "-".to_owned(), |oldest| time::span(status.now_ns.0.saturating_sub(oldest.0) / 1_000_000_000));
    vec![
        escape::text(&stream.name),
        rate(stream.rate),
        count(held),
        stream.next_seq.0.saturating_sub(1).to_string(),
        size(stream.bytes_disk),
        size(stream.quota),
        oldest,
        full,
        count(stream.evicted),
    ]
}

/// How long each stream's part lasts, and when it is full: for `raven ring status`.
pub fn forecasts(status: &Status) -> Vec<String> {
    let seconds = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), time::span);
    let rows = status.streams.iter().flat_map(|stream| {
        stream.forecast.iter().map(|forecast| {
            vec![
                escape::text(&stream.name),
                forecast.window.clone(),
                size(forecast.bytes_per_s as u64),
                seconds(forecast.holds_s),
                seconds(forecast.time_to_full_s),
                size(stream.share),
            ]
        })
    });
    table(&["FORECAST", "BY THE LAST", "STORED/s", "HOLDS", "FULL IN", "SHARE"], rows)
}

/// The whole disk in a line: how full, and how many days it lasts by the last hour, day and week.
pub fn ring(status: &Status) -> Option<String> {
    let ring = status.ring.as_ref()?;
    let holds = |forecast: &Forecast| Some(format!("{} ({})", time::span(forecast.holds_s?), forecast.window));
    let holds: Vec<String> = ring.forecast.iter().filter_map(holds).collect();
    let holds = if holds.is_empty() { String::new() } else { format!("; holds {}", holds.join(", ")) };
    Some(format!("RING       {} of {}, {:.0} %{holds}", size(ring.allocated), size(ring.quota), ring.fill))
}

/// The part about delivery.
pub fn destinations(status: &Status) -> Vec<String> {
    let head = ["DESTINATION", "STREAM", "STATE", "ACK", "ACKED SEQ", "LAG", "RATE/s", "ETA"];
    let lines = table(&head, status.destinations.iter().map(|destination| self::destination(destination, status)));
    let errors = std::iter::once(None).chain(status.destinations.iter().map(|it| present_error(it, &status.alerts)));
    let with_error = |(line, error): (String, Option<&str>)| match error {
        Some(error) => vec![line, format!("  last error: {}", escape::text(error))],
        None => vec![line],
    };
    let backfills = std::iter::once(None).chain(status.destinations.iter().map(|it| backfill(&it.backfill)));
    let rows = lines.into_iter().zip(errors).map(with_error).zip(backfills);
    rows.flat_map(|(mut rows, backfill)| {
        rows.extend(backfill);
        rows
    })
    .collect()
}

/// What an outage left behind, while there is some.
fn backfill(backfill: &BackfillStatus) -> Option<String> {
    let bytes = backfill.bytes.map_or_else(String::new, |bytes| format!(", ~{}", ByteCount(bytes)));
    let since = backfill.oldest_ns.map_or_else(String::new, |at| format!(", from {}", time::format(at, 0)));
    let eta = backfill.eta_s.map_or_else(|| "stalled".to_owned(), |seconds| format!("ETA {}", time::span(seconds)));
    let (records, state, pace) = (count(backfill.records), escape::text(&backfill.state), escape::text(&backfill.pace));
    let line = || format!("  backfill {state} {records}{bytes}{since}, {}/s, {eta} ({pace})", rate(backfill.rate));
    (backfill.records > 0).then(line)
}

/// An error that is over is not shown, only kept in `--json`; dead letters are not over. What an alert says is not said
/// twice.
fn present_error<'a>(destination: &'a DestinationStatus, alerts: &[String]) -> Option<&'a str> {
    let is_well = ["idle", "sending"].contains(&destination.state.as_str());
    let error = destination.last_error.as_deref()?;
    let is_present = !is_well || error.contains("dead letters");
    (is_present && !alerts.iter().any(|alert| alert.contains(error))).then_some(error)
}

fn destination(destination: &DestinationStatus, status: &Status) -> Vec<String> {
    let arriving = status.streams.iter().find(|stream| stream.name == destination.stream).map_or(0.0, |s| s.rate);
    let eta = match destination.eta_s {
        _ if destination.lag == 0 => "-".to_owned(),
        None if arriving > destination.rate => "never".to_owned(),
        None => "stalled".to_owned(),
        Some(seconds) => time::span(seconds),
    };
    vec![
        escape::text(&destination.name),
        escape::text(&destination.stream),
        escape::text(&destination.state),
        escape::text(&destination.ack_class),
        destination.acked_seq.to_string(),
        count(destination.lag),
        rate(destination.rate),
        eta,
    ]
}

/// A line for the disk with the data, one for what started the machine, and one for each other disk.
pub fn disks(status: &Status) -> Vec<String> {
    let mut disks: Vec<&DiskHealth> = status.disks.iter().collect();
    disks.sort_by_key(|disk| !disk.holds_data);
    let mut lines: Vec<String> =
        disks.into_iter().map(|disk| format!("DISK       {}", escape::text(&disk.short()))).collect();
    if let Some(by) = status.started_by {
        lines.insert(lines.len().min(1), format!("STARTED BY {}", by.name()));
    }
    lines
}

/// What the kernel dropped.
pub fn kernel(status: &Status) -> String {
    let udp = &status.kernel;
    format!(
        "KERNEL UDP errors since boot: buffer full {}, memory {}, checksum {}, all {}",
        count(udp.rcvbuf_errors),
        count(udp.mem_errors),
        count(udp.csum_errors),
        count(udp.in_errors)
    )
}

/// A table with its head; of no rows a line that says so.
pub fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return vec![format!("{:<10} none", head[0])];
    }
    columns(std::iter::once(head.iter().map(|word| (*word).to_owned()).collect()).chain(rows).collect())
}

/// Rows as lines with aligned columns.
pub fn columns(rows: Vec<Vec<String>>) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let line = |row: Vec<String>| {
        let cells = row.into_iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.into_iter().map(line).collect()
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width - 3).chain("...".chars()).collect()
}

/// A count in at most six letters: `99999`, `123.4K`, `5.67M`.
pub fn count(n: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "K")];
    if n < 100_000 {
        return n.to_string();
    }
    let (factor, unit) = UNITS.into_iter().find(|(factor, _)| n >= *factor).unwrap_or((1, ""));
    let scaled = n as f64 / factor as f64;
    if scaled < 10.0 { format!("{scaled:.2}{unit}") } else { format!("{scaled:.1}{unit}") }
}

fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 100.0 {
        format!("{per_second:.1}")
    } else {
        count(per_second.round().max(0.0) as u64)
    }
}

/// Bytes in at most eight letters.
pub fn size(bytes: u64) -> String {
    let shown = ByteCount(bytes).to_string();
    // 17.3GiB reads better than an exact 18543411KiB.
    if shown.len() <= 8 { shown } else { format!("{}B", count(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::host::StartedBy;
    use raven_model::neighbour::{Heard, Neighbour};
    use raven_model::report::{KernelUdp, LinkState, RingStatus, WaysStatus};
    use raven_model::units::{Seq, UnixNanos};
    use std::collections::BTreeMap;

    fn ring() -> RingStatus {
        let forecast =
            |window: &str| Forecast { window: window.into(), holds_s: Some(1_209_600 + 3600), ..Forecast::default() };
        RingStatus {
            allocated: 54_321_098_765,
            quota: 900 << 30,
            fill: 5.6,
            forecast: ["hour", "day", "week"].map(forecast).to_vec(),
            ..RingStatus::default()
        }
    }

    #[test]
    fn how_full_the_disk_is_and_how_long_it_lasts_is_said() {
        let screen = whole(&busy(1, 1));
        assert!(screen[0].contains("disk 6 %, holds 14d 1h") && screen[0].len() <= WIDTH, "{}", screen[0]);
        let line = super::ring(&busy(1, 1)).expect("a line");
        assert!(line.contains("6 %; holds 14d 1h (hour), 14d 1h (day), 14d 1h (week)"), "{line}");
    }

    fn disk(name: &str, holds_data: bool) -> DiskHealth {
        DiskHealth {
            name: name.into(),
            model: "Example SSD 870 250GB".into(),
            holds_data,
            passed: Some(true),
            celsius: Some(31),
            life_used: Some(0.04),
            ..DiskHealth::default()
        }
    }

    #[test]
    fn the_disk_with_the_data_comes_first_and_what_started_the_box_is_said() {
        let lines = disks(&busy(1, 1));
        assert_eq!(lines[0], "DISK       sda Example SSD 870 250GB, 31 C, 4 % of its life used, well");
        assert_eq!(lines[1], "STARTED BY UEFI, Secure Boot off");
        assert!(lines[2].starts_with("DISK       vda"));
        assert_eq!(disks(&Status::default()), [""; 0]);
    }

    fn busy(listeners: usize, destinations: usize) -> Status {
        let process = |role: &str| Process {
            role: role.into(),
            pid: 1234,
            uid: 61001,
            state: "running".into(),
            uptime_s: 273_600,
            heartbeat_ms: 812,
            ..Process::default()
        };
        let listener = |n| ListenerStatus {
            stream: "syslog".into(),
            proto: "udp".into(),
            addr: format!("[::]:{n}"),
            received: 1_234_567_890,
            bytes: 250_000_000_000,
            rate: 100_000.4,
            dropped: BTreeMap::from([("socket_buffer".to_owned(), 12)]),
            ..ListenerStatus::default()
        };
        let destination = |n| DestinationStatus {
            name: format!("noc{n}"),
            stream: "syslog".into(),
            ack_class: "durable".into(),
            acked_seq: Seq(1_234_000_000),
            lag: 567_890,
            state: "retrying".into(),
            last_error: Some("connect noc.example:2514: connection refused \u{1b}[31m".into()),
            ..DestinationStatus::default()
        };
        let stream = StreamStatus {
            name: "syslog".into(),
            first_seq: Seq(1),
            next_seq: Seq(1_234_567_891),
            bytes_disk: 54_321_098_765,
            quota: 900 << 30,
            oldest_ns: Some(UnixNanos(1_763_000_000_000_000_000)),
            time_to_full_s: Some(86_400 * 3),
            rate: 100_000.0,
            ..StreamStatus::default()
        };
        Status {
            slots: None,
            is_box: false,
            stick: None,
            disks: vec![disk("vda", false), disk("sda", true)],
            started_by: Some(StartedBy::UefiSecureBootOff),
            tunnels: Vec::new(),
            ways: WaysStatus::default(),
            vpn: Vec::new(),
            links: Vec::new(),
            version: "0.1.0".into(),
            device: "arena-north".into(),
            now_ns: UnixNanos(1_763_771_400_000_000_000),
            uptime_s: 273_600,
            processes: ["ravend", "store", "syslog", "decode", "uplink"].map(process).to_vec(),
            listeners: (0..listeners).map(listener).collect(),
            streams: vec![stream],
            ring: Some(ring()),
            destinations: (0..destinations).map(destination).collect(),
            kernel: KernelUdp { rcvbuf_errors: 12, ..KernelUdp::default() },
            firing: Vec::new(),
            alerts: vec!["noc0 (noc.example:2514) is retrying, 567890 records behind: connect noc.example:2514: connection refused".into()],
            jail_missing: vec!["seccomp".into()],
        }
    }

    #[test]
    fn a_usual_site_fits_one_screen_with_nothing_left_out() {
        let screen = whole(&busy(2, 1));
        assert!(screen.len() <= HEIGHT, "{}", screen.join("\n"));
        assert!(!screen.iter().any(|line| line.contains("more:") || line.ends_with("...")), "{}", screen.join("\n"));
        for part in ["DISK       sda", "STARTED BY UEFI", "DISK       vda"] {
            assert!(screen.iter().any(|line| line.starts_with(part)), "{}", screen.join("\n"));
        }
    }

    #[test]
    fn a_large_site_fits_too_and_says_what_is_left_out() {
        let screen = whole(&busy(30, 20));
        assert!(screen.len() <= HEIGHT, "{}", screen.join("\n"));
        assert!(screen.iter().any(|line| line.contains("more: raven status --json")));
        for part in ["DISK       sda", "PROCESS    5 run"] {
            assert!(screen.iter().any(|line| line.starts_with(part)), "{}", screen.join("\n"));
        }
        let mut one_ended = busy(30, 20);
        one_ended.processes[3].state = "waiting".into();
        assert!(whole(&one_ended).iter().any(|line| line.starts_with("decode ") && line.contains("waiting")));
        assert!(screen.iter().all(|line| line.chars().count() <= WIDTH && line.is_ascii()));
    }

    #[test]
    fn an_empty_status_is_shown_without_fuss() {
        let screen = whole(&Status::default()).join("\n");
        for part in ["ALERTS     none", "LISTENER   none", "STREAM     none", "DESTINATION none"] {
            assert!(screen.contains(part), "{screen}");
        }
    }

    #[test]
    fn a_destination_cannot_write_to_the_terminal() {
        assert!(!whole(&busy(1, 3)).join("").chars().any(char::is_control));
    }

    #[test]
    fn who_is_at_a_cables_other_end_is_shown_and_cannot_write_to_the_terminal() {
        let mut status = busy(2, 1);
        let switch = Heard { system: Some("sw-1\u{1b}[31m".into()), port: Some("Gi1/0/7".into()), ..Heard::default() };
        let link = |name: &str, neighbour| LinkStatus {
            addresses: vec!["192.0.2.7/24".into(), "fe80::1/64".into()],
            neighbour,
            ..LinkStatus::new(name, LinkState::Up)
        };
        let why = Neighbour::Unknown("systemd-networkd does not run".into());
        status.links = vec![link("eth0", Neighbour::Heard(switch)), link("eth1", Neighbour::Nobody), link("eth2", why)];
        let screen = whole(&status);
        let row = |name: &str| screen.iter().find(|line| line.starts_with(name)).map_or("", String::as_str);
        assert_eq!(row("eth0"), "eth0  up     192.0.2.7/24  sw-1\\x1b[31m Gi1/0/7");
        assert_eq!(row("eth1"), "eth1  up     192.0.2.7/24  -");
        assert_eq!(row("eth2"), "eth2  up     192.0.2.7/24  not known: systemd-networkd does not run");
        assert!(screen.len() <= HEIGHT && !screen.join("").chars().any(char::is_control));
    }

    #[test]
    fn never_is_said_only_of_a_lag_that_grows() {
        let mut status = busy(1, 1);
        assert!(whole(&status).iter().any(|line| line.starts_with("noc0") && line.ends_with("never")));
        status.streams[0].rate = 0.0;
        assert!(whole(&status).iter().any(|line| line.starts_with("noc0") && line.ends_with("stalled")));
    }

    #[test]
    fn an_error_that_is_over_is_not_shown() {
        let mut status = busy(1, 1);
        status.alerts.clear();
        assert!(whole(&status).iter().any(|line| line.contains("last error")));
        status.alerts = vec![format!("noc0 is retrying: {}", status.destinations[0].last_error.as_ref().expect("set"))];
        assert!(!whole(&status).iter().any(|line| line.contains("last error")), "an alert says it");
        status.destinations[0].state = "sending".into();
        assert!(!whole(&status).iter().any(|line| line.contains("last error")));
        status.destinations[0].last_error = Some("3 records it refuses are in its dead letters".into());
        assert!(whole(&status).iter().any(|line| line.contains("dead letters")));
    }

    #[test]
    fn what_a_collector_dropped_stands_below_its_stream() {
        let mut status = busy(2, 1);
        status.streams[0].dropped = BTreeMap::from([("storm".to_owned(), 300_000), ("quiet".to_owned(), 0)]);
        let screen = whole(&status);
        let at = screen.iter().position(|line| line == "  dropped: 300.0K storm").expect("a line of drops");
        assert!(screen[at - 1].starts_with("syslog "), "{}", screen.join("\n"));
    }

    #[test]
    fn a_site_with_every_stream_fits_one_screen() {
        let mut status = busy(6, 1);
        status.alerts.push("trap: in the inbox unknown_user of 192.0.2.3: see `raven inbox`".into());
        for (listener, stream) in status.listeners.iter_mut().zip(raven_model::stream::Stream::ALL) {
            listener.stream = stream.name().into();
        }
        status.streams = raven_model::stream::Stream::ALL
            .map(|stream| StreamStatus { name: stream.name().into(), ..status.streams[0].clone() })
            .to_vec();
        let screen = whole(&status);
        assert!(screen.len() <= HEIGHT && screen.iter().all(|line| line.chars().count() <= WIDTH));
        for part in ["flow", "trap", "winevent", "raven inbox"] {
            assert!(screen.iter().any(|line| line.contains(part)), "{part}: {}", screen.join("\n"));
        }
    }

    #[test]
    fn counts_stay_short() {
        assert_eq!(
            [0, 99_999, 123_456, 5_670_000, 12_300_000_000].map(count),
            ["0", "99999", "123.5K", "5.67M", "12.3G"]
        );
    }
}
