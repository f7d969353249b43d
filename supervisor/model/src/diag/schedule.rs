//! Tests that are made by themselves: the records of stream `diag`, what the role `schedule` reports, and what an operator asks
//! of it. When which test is made is in [`crate::config`], `[diag.schedule.NAME]`.

use super::{Event, Rtt};
use crate::alert::Severity;
use crate::record::RAW_MAX;
use crate::report::CollectorReport;
use crate::units::UnixNanos;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestKind {
    /// [`super::Test::Ping`].
    Ping,
    /// [`super::Test::Trace`].
    Trace,
    /// [`super::Test::Mtu`].
    Mtu,
    /// [`super::Test::Bandwidth`].
    Bandwidth,
    /// [`super::Test::Dns`].
    Dns,
    /// [`super::Test::Tcp`].
    Tcp,
    /// [`super::Test::Tls`].
    Tls,
    /// [`super::Test::Http`].
    Http,
    /// [`super::Test::Ntp`].
    Ntp,
}

impl TestKind {
    /// All of them.
    pub const ALL: [Self; 9] =
        [Self::Ping, Self::Trace, Self::Mtu, Self::Bandwidth, Self::Dns, Self::Tcp, Self::Tls, Self::Http, Self::Ntp];

    /// As in the configuration and in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Trace => "trace",
            Self::Mtu => "mtu",
            Self::Bandwidth => "bandwidth",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Ntp => "ntp",
        }
    }
}

impl fmt::Display for TestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a test that was due ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// What was tested is as it should be: exit code 0 of the same test by hand.
    Well,
    /// It is not: exit code 1.
    Bad,
    /// The test could not be made.
    Failed,
    /// It was not made: something stood against it.
    Skipped,
}

impl Outcome {
    /// As in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Bad => "bad",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// The outcome of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Well, Self::Bad, Self::Failed, Self::Skipped].into_iter().find(|outcome| outcome.name() == name)
    }
}

/// Why it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its time had come.
    #[default]
    Time,
    /// An operator asked for it.
    Operator,
}

/// What a test came to in numbers. Of several targets or servers the worst; what a test does not measure is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Percent of pings, of UDP datagrams or of queries that were lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Round-trip times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt: Option<Rtt>,
    /// All of it, microseconds: an answer of a name server, a connection, a handshake, a response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_us: Option<u32>,
    /// What got through, bits a second, as the receiver counted; of two directions the slower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Longest packet that gets there, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Of the clock that is furthest off, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_us: Option<i64>,
    /// Until the certificate ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_left: Option<i64>,
    /// As in [`super::TraceResult::path_hash`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Hops to the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hops: Option<u8>,
}

/// What a result is held against: the keys of `[diag.schedule.NAME.alert]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// The outcome is `bad` or `failed`.
    Failed,
    /// More is lost.
    Loss,
    /// The 95th percentile of round-trip times is longer.
    P95,
    /// It takes longer.
    Time,
    /// Less gets through.
    MinRate,
    /// Packets must be shorter.
    MinMtu,
    /// The clock is further off.
    Offset,
    /// The certificate ends sooner.
    DaysLeft,
    /// The path is another than it was.
    PathChanged,
}

impl Threshold {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Failed,
        Self::Loss,
        Self::P95,
        Self::Time,
        Self::MinRate,
        Self::MinMtu,
        Self::Offset,
        Self::DaysLeft,
        Self::PathChanged,
    ];

    /// As in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Loss => "loss",
            Self::P95 => "p95",
            Self::Time => "time",
            Self::MinRate => "min_rate",
            Self::MinMtu => "min_mtu",
            Self::Offset => "offset",
            Self::DaysLeft => "days_left",
            Self::PathChanged => "path_changed",
        }
    }

    /// The tests that it can be held against.
    pub fn is_of(self, test: TestKind) -> bool {
        use TestKind::{Bandwidth, Dns, Http, Mtu, Ntp, Ping, Tcp, Tls, Trace};
        match self {
            Self::Failed => true,
            Self::Loss => matches!(test, Ping | Bandwidth | Ntp),
            Self::P95 => test == Ping,
            Self::Time => matches!(test, Dns | Tcp | Tls | Http),
            Self::MinRate => test == Bandwidth,
            Self::MinMtu => test == Mtu,
            Self::Offset => test == Ntp,
            Self::DaysLeft => matches!(test, Tls | Http),
            Self::PathChanged => test == Trace,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Upper ends of a [`Histogram`]'s buckets, microseconds; what is longer stands behind the last.
pub const BUCKETS_US: [u32; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Times of a schedule since its role was started: how many fell into each of [`BUCKETS_US`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// One for each bucket, and one for what is longer.
    pub counts: [u64; BUCKETS_US.len() + 1],
    /// All times together, microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Takes in a time.
    pub fn add(&mut self, time_us: u32) {
        let bucket = BUCKETS_US.partition_point(|end| *end < time_us);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.sum_us = self.sum_us.saturating_add(time_us.into());
    }

    /// Times taken in.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// A record of the stream: a test that was due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiagRecord {
    /// When it ended.
    pub t: UnixNanos,
    /// `[diag.schedule.NAME]`.
    pub schedule: String,
    /// Which test.
    pub test: TestKind,
    /// How it ended.
    pub outcome: Outcome,
    /// In words, where it is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Why it was made.
    #[serde(default)]
    pub trigger: Trigger,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Runs that were due before it and for which it was too late, since the role was held up.
    #[serde(default, skip_serializing_if = "is_none")]
    pub missed: u64,
    /// In numbers.
    #[serde(default)]
    pub figures: Figures,
    /// Thresholds that this result is beyond.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<Threshold>,
    /// Times of this schedule so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Histogram>,
    /// All of it, as the same test by hand gives it; none where it was not made, or is longer than a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Event>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_none(n: &u64) -> bool {
    *n == 0
}

impl DiagRecord {
    /// Reads a record back.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(raw: &[u8]) -> Result<Self, String> {
        if raw.len() > RAW_MAX {
            return Err(format!("{} bytes, more than the {RAW_MAX} of a record", raw.len()));
        }
        serde_json::from_slice(raw).map_err(|error| format!("not a test's record: {error}"))
    }

    /// As a line; without its result where that makes it too long.
    pub fn line(&self) -> Vec<u8> {
        let whole = serde_json::to_vec(self).unwrap_or_default();
        if whole.len() <= RAW_MAX {
            return whole;
        }
        serde_json::to_vec(&Self { result: None, ..self.clone() }).unwrap_or_default()
    }
}

/// The `schedule` role's heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleReport {
    /// As every collector says.
    #[serde(flatten)]
    pub collector: CollectorReport,
    /// By name.
    pub schedules: Vec<ScheduleStatus>,
    /// What is kept of results.
    pub history: HistoryStatus,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleStatus {
    /// `[diag.schedule.NAME]`.
    pub name: String,
    /// Which test.
    pub test: TestKind,
    /// `every 1m`, `at */5 * * * *`.
    pub when: String,
    /// Seconds until it is due.
    pub next_s: Option<u64>,
    /// It is being made.
    pub running: bool,
    /// It is due and waits for others to end.
    pub waiting: bool,
    /// Results since the role was started, by outcome: well, bad, failed, skipped.
    pub outcomes: [u64; 4],
    /// The newest.
    pub last: Option<HistoryRow>,
    /// How bad it is when a threshold is passed.
    pub severity: Severity,
    /// What results are held against.
    pub thresholds: Vec<ThresholdStatus>,
}

/// A threshold of a schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdStatus {
    /// Which.
    pub threshold: Threshold,
    /// What it is, in words: `above 20 %`.
    pub limit: String,
    /// Where it stands.
    pub state: ThresholdState,
    /// The newest value, in words.
    pub value: String,
    /// The same as a whole number: percent, milliseconds, kbit/s, days, bytes; 1 where there is none.
    pub number: u64,
}

/// Where a threshold stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdState {
    /// Too few results since the role was started.
    #[default]
    Unknown,
    /// Not beyond it.
    Well,
    /// `for` results in a row were beyond it, and not yet `clear` of them within.
    Beyond,
}

impl ThresholdState {
    /// As shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Well => "well",
            Self::Beyond => "beyond",
        }
    }
}

/// What is kept of results.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryStatus {
    /// Results kept.
    pub rows: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Results that went because they were too old or too many, since the role was started.
    pub removed: u64,
    /// Results that could not be kept, since the role was started.
    pub lost: u64,
    /// Times a damaged file was set aside, since the role was started.
    pub set_aside: u64,
    /// The last failure, in words.
    pub error: Option<String>,
}

/// A result as the history has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// When it ended.
    pub t: UnixNanos,
    /// `[diag.schedule.NAME]`.
    pub schedule: String,
    /// Which test.
    pub test: TestKind,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// In words, where it is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// In numbers.
    #[serde(default)]
    pub figures: Figures,
}

impl HistoryRow {
    /// Of a record.
    pub fn of(record: &DiagRecord) -> Self {
        Self {
            t: record.t,
            schedule: record.schedule.clone(),
            test: record.test,
            outcome: record.outcome,
            took_ms: record.took_ms,
            why: record.why.clone(),
            figures: record.figures.clone(),
        }
    }
}

/// What an operator's program says to the role, as a line of JSON; the answer has the form of [`crate::query`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleOrder {
    /// All schedules: a [`ScheduleReport`].
    List,
    /// Results of one: a [`HistoryRow`] each, the oldest first.
    History {
        /// `[diag.schedule.NAME]`, also one that is there no more.
        schedule: String,
        /// Not before this.
        since: UnixNanos,
        /// The newest of them, at most so many: 1 to [`ScheduleOrder::ROWS`].
        rows: u32,
    },
    /// Make a test now: its [`DiagRecord`] when it has ended.
    Run {
        /// `[diag.schedule.NAME]`.
        schedule: String,
    },
}

impl ScheduleOrder {
    /// Most rows of an answer.
    pub const ROWS: u32 = 100_000;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record() -> DiagRecord {
        let figures = Figures { loss: Some(20.0), ..Figures::default() };
        DiagRecord {
            t: UnixNanos(9),
            schedule: "gateway".to_owned(),
            test: TestKind::Ping,
            outcome: Outcome::Bad,
            why: Some("no answer".to_owned()),
            trigger: Trigger::Time,
            took_ms: 7,
            missed: 0,
            figures,
            beyond: vec![Threshold::Loss],
            times: None,
            result: Some(Event::Ping(Vec::new())),
        }
    }

    #[test]
    fn a_record_is_one_line_and_reads_back() {
        let line = record().line();
        assert_eq!(
            String::from_utf8(line.clone()).unwrap(),
            r#"{"t":9,"schedule":"gateway","test":"ping","outcome":"bad","why":"no answer","trigger":"time","took_ms":7,"figures":{"loss":20.0},"beyond":["loss"],"result":{"ping":[]}}"#
        );
        assert_eq!(DiagRecord::read(&line), Ok(record()));
        for end in 0..line.len() {
            assert!(DiagRecord::read(&line[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_result_that_is_too_long_is_left_out_and_the_rest_stays() {
        let long = super::super::PingResult { target: "x".repeat(RAW_MAX), ..Default::default() };
        let long = DiagRecord { result: Some(Event::Ping(vec![long])), ..record() };
        assert_eq!(DiagRecord::read(&long.line()), Ok(DiagRecord { result: None, ..record() }));
    }

    #[test]
    fn names_are_those_of_their_json() {
        for test in TestKind::ALL {
            assert_eq!(serde_json::to_value(test).unwrap(), test.name());
        }
        for threshold in Threshold::ALL {
            assert_eq!(serde_json::to_value(threshold).unwrap(), threshold.name());
        }
        for outcome in [Outcome::Well, Outcome::Bad, Outcome::Failed, Outcome::Skipped] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
            assert_eq!(Outcome::named(outcome.name()), Some(outcome));
        }
    }

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for time in [0, 500, 501, 10_000_000, 10_000_001, u32::MAX] {
            histogram.add(time);
        }
        assert_eq!(
            (histogram.counts[0], histogram.counts[1], histogram.counts[13], histogram.counts[14]),
            (2, 1, 1, 2)
        );
        assert_eq!(histogram.count(), 6);
    }
}
