//! What is known of a test so far, and the rows that show it.

use super::{Room, phases, spark};
use crate::diag::bw::speed;
use crate::diag::shown::{self, Shown, number};
use crate::diag::trace::timed;
use crate::diag::{meaning, services};
use crate::escape;
use crate::status::screen::columns;
use crate::tui::pages::{Row, Tone};
use raven_model::diag::bw::Direction;
use raven_model::diag::{Event, Hop, PingResult, Rtt, Test};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Pings that are looked back at.
const RECENT: usize = 600;
/// Lines that are kept.
const LINES: usize = 200;
/// Columns of a target's name.
const NAME: usize = 26;
/// Rows of bars that are shorter say nothing.
const SPARK_MIN: usize = 8;
/// Columns without which there is no room for the longest time beside the bars.
const WIDE: usize = 66;
/// Of the seconds of a measurement so many are shown while it runs.
const SECONDS: usize = 8;

/// One target of pings.
#[derive(Debug, Default)]
struct Target {
    name: String,
    address: Option<IpAddr>,
    sent: u32,
    received: u32,
    /// Round-trip times, microseconds; none: no answer.
    recent: VecDeque<Option<u32>>,
    errors: BTreeMap<String, u32>,
    result: Option<PingResult>,
}

impl Target {
    fn add(&mut self, rtt: Option<u32>) {
        self.sent += 1;
        self.received += u32::from(rtt.is_some());
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(rtt);
    }

    /// As the role would tell it at the end, by the newest pings; then as it does.
    fn result(&self) -> PingResult {
        if let Some(result) = &self.result {
            return result.clone();
        }
        let lost = f64::from(self.sent - self.received);
        PingResult {
            target: self.name.clone(),
            address: self.address,
            sent: self.sent,
            received: self.received,
            loss: lost * 100.0 / f64::from(self.sent.max(1)),
            rtt: self.rtt(),
            errors: self.errors.clone(),
            ..PingResult::default()
        }
    }

    fn rtt(&self) -> Option<Rtt> {
        let mut all: Vec<u32> = self.recent.iter().flatten().copied().collect();
        all.sort_unstable();
        let (min_us, max_us) = (*all.first()?, *all.last()?);
        let share = |percent: usize| all.get((all.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let mean = all.iter().map(|us| u64::from(*us)).sum::<u64>() / all.len() as u64;
        let of = |percent| share(percent).unwrap_or(max_us);
        let mean_us = u32::try_from(mean).unwrap_or(max_us);
        Some(Rtt { min_us, mean_us, p50_us: of(50), p95_us: of(95), p99_us: of(99), max_us, ..Rtt::default() })
    }

    fn cells(&self) -> Vec<String> {
        let result = self.result();
        let dash = || "-".to_owned();
        let last = self.recent.back().map_or_else(dash, |last| last.map_or_else(|| "lost".to_owned(), number));
        let [avg, p95, max] = result
            .rtt
            .map_or_else(|| std::array::from_fn(|_| dash()), |rtt| [rtt.mean_us, rtt.p95_us, rtt.max_us].map(number));
        let name: String = escape::text(&self.name).chars().take(NAME).collect();
        let loss = if result.sent == 0 { dash() } else { format!("{:.1} %", result.loss) };
        vec![name, last, avg, p95, loss, max]
    }
}

/// See the top.
pub struct Live {
    shown: Shown,
    targets: Vec<Target>,
    hops: BTreeMap<u8, Hop>,
    /// Bits a second, up and down.
    speeds: BTreeMap<Direction, VecDeque<f64>>,
    lines: VecDeque<String>,
    result: Option<Event>,
}

impl Live {
    /// Nothing yet.
    pub fn new(test: &Test) -> Self {
        let names: &[String] = if let Test::Ping(test) = test { &test.targets } else { &[] };
        let target = |name: &String| Target { name: name.clone(), ..Target::default() };
        Self {
            shown: Shown::new(test, false),
            targets: names.iter().map(target).collect(),
            hops: BTreeMap::new(),
            speeds: BTreeMap::new(),
            lines: VecDeque::new(),
            result: None,
        }
    }

    /// Something happened; the lines that it is worth where everything stands in lines.
    pub fn hear(&mut self, event: Event) -> Vec<String> {
        let lines = self.shown.lines(&event);
        match &event {
            Event::Target { target, address } => self.of(target, |it| it.address = Some(*address)),
            Event::Answer(answer) if !answer.duplicate => self.of(&answer.target, |it| it.add(Some(answer.rtt_us))),
            Event::Answer(_) => {}
            Event::Lost { target, .. } => self.of(target, |it| it.add(None)),
            Event::Unreachable { target, why, .. } => self.of(target, |it| {
                it.add(None);
                // Words are those of ICMP, and few.
                if it.errors.len() < 16 || it.errors.contains_key(why) {
                    *it.errors.entry(why.clone()).or_default() += 1;
                }
            }),
            Event::Hop(hop) => _ = self.hops.insert(hop.hop, hop.clone()),
            Event::DnsServer(server) => self.keep(services::dns_server(server)),
            Event::Interval(interval) => {
                for sum in &interval.sums {
                    let speeds = self.speeds.entry(sum.direction).or_default();
                    if speeds.len() >= RECENT {
                        speeds.pop_front();
                    }
                    speeds.push_back(sum.volume.bits_per_second);
                }
                self.keep(lines.clone());
            }
            event if event.is_result() => {}
            _ => self.keep(lines.clone()),
        }
        if event.is_result() {
            self.end(event);
        }
        lines
    }

    fn end(&mut self, event: Event) {
        match &event {
            Event::Ping(results) => {
                for result in results {
                    self.of(&result.target, |it| it.result = Some(result.clone()));
                }
            }
            // It says all of that again.
            Event::Dns(_) => self.lines.clear(),
            Event::Trace(_) => self.hops.clear(),
            _ => {}
        }
        self.result = Some(event);
    }

    /// All targets of that name: whoever gives one twice gets it twice.
    fn of(&mut self, name: &str, change: impl Fn(&mut Target)) {
        self.targets.iter_mut().filter(|target| target.name == name).for_each(change);
    }

    fn keep(&mut self, lines: Vec<String>) {
        self.lines.extend(lines);
        let much = self.lines.len().saturating_sub(LINES);
        self.lines.drain(..much);
    }

    /// What it came to; before its end what can be said so far.
    pub fn meaning(&self) -> Option<meaning::Meaning> {
        match &self.result {
            Some(event) => Some(meaning::of(event)),
            None if self.targets.iter().any(|target| target.sent > 0) => Some(meaning::of(&Event::Ping(self.pings()))),
            None => None,
        }
    }

    /// Those that were pinged.
    fn pings(&self) -> Vec<PingResult> {
        let told = self.targets.iter().filter(|target| target.sent > 0 || target.result.is_some());
        told.map(Target::result).collect()
    }

    /// What is shown of it.
    pub fn rows(&self, room: Room) -> Vec<Row> {
        let mut rows = self.ping_rows(room);
        if !self.hops.is_empty() {
            rows.extend(table(timed(self.hops.values())));
        }
        rows.extend(self.speed_rows(room));
        let is_measured = !self.speeds.is_empty();
        let skip = if is_measured { self.lines.len().saturating_sub(SECONDS) } else { 0 };
        rows.extend(self.lines.iter().skip(skip).map(|line| Row::of(Tone::Plain, line.as_str())));
        rows.extend(self.result_rows(room));
        rows
    }

    fn result_rows(&self, room: Room) -> Vec<Row> {
        match &self.result {
            Some(event) if !matches!(event, Event::Ping(_)) => {
                let mut shown = Shown::again();
                let mut lines = match event {
                    Event::Http(result) => phases::http(result, room),
                    Event::Tls(result) => phases::tls(result, room),
                    _ => Vec::new(),
                };
                lines.extend(shown.lines(event));
                let is_table = matches!(event, Event::Trace(_) | Event::Ntp(_) | Event::Bandwidth(_));
                if is_table { table(lines) } else { lines.into_iter().map(|line| Row::of(Tone::Plain, line)).collect() }
            }
            _ => shown::notes(&self.pings()).into_iter().map(|line| Row::of(Tone::Plain, line)).collect(),
        }
    }

    fn ping_rows(&self, room: Room) -> Vec<Row> {
        if self.targets.is_empty() {
            return Vec::new();
        }
        let heads = ["TARGET", "LAST MS", "AVG", "P95", "LOSS", "MAX"].map(str::to_owned).to_vec();
        let mut cells: Vec<Vec<String>> =
            std::iter::once(heads).chain(self.targets.iter().map(Target::cells)).collect();
        if room.width < WIDE {
            for row in &mut cells {
                row.truncate(5);
            }
        }
        let mut lines = columns(cells);
        let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) + 2;
        let width = room.width.saturating_sub(longest).min(RECENT);
        if width >= SPARK_MIN {
            for (line, target) in lines.iter_mut().skip(1).zip(&self.targets) {
                let bars = spark::times(target.recent.iter().copied(), width, room.bars);
                *line = format!("{line:<longest$}{bars}");
            }
        }
        table(lines)
    }

    fn speed_rows(&self, room: Room) -> Vec<Row> {
        let row = |(direction, speeds): (&Direction, &VecDeque<f64>)| {
            let word = if *direction == Direction::Down { "down" } else { "up" };
            let last = speeds.back().copied().unwrap_or_default();
            let head = format!("{word:<4} {:>12}  ", speed(last));
            let width = room.width.saturating_sub(head.len());
            Row::of(Tone::Plain, format!("{head}{}", spark::rates(speeds.iter().copied(), width, room.bars)))
        };
        self.speeds.iter().map(row).collect()
    }
}

/// Lines whose first is their heading.
fn table(lines: Vec<String>) -> Vec<Row> {
    let tone = |at| if at == 0 { Tone::Head } else { Tone::Plain };
    lines.into_iter().enumerate().map(|(at, line)| Row::of(tone(at), line)).collect()
}
