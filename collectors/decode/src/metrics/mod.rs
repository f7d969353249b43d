//! What Prometheus, Grafana Alloy and the like push: series by remote write 1.0, log lines by Loki's push.
//!
//! [`split`](fn@split) looks at a whole body and gives the records of it, one per series, one per line. [`decode`] reads
//! a record, anew at each view. Both take any bytes, and neither panics, recurses without bound or takes memory that
//! the input's size does not bound.
//!
//! # A record
//!
//! A line that says what it is, then bytes as they came:
//!
//! | line | then |
//! |---|---|
//! | `remote-write` | one field of the `WriteRequest`, with its tag: a time series, metadata of a family, or whatever else stands there. Those of a request, put together, are its body |
//! | `loki-protobuf` | a `PushRequest` of one stream with one entry: what is not an entry of the stream as it came, then the entry as it came |
//! | `loki-json` | `{"stream":…,"values":[…]}` with one value; both as they came |
//! | `refused KIND` | a body of that kind that was refused, unpacked; in pieces if it is long |
//! | `refused packed KIND` | one that could not be unpacked, as it came |
//!
//! # What a reader can rely on
//!
//! - Values are texts, the shortest decimal that reads back as the same (`1.5`, `NaN`, `+Inf`): JSON has no number for
//!   some. The mark of a series that ended is `"stale": true`.
//! - Times are as sent: milliseconds since 1970 of samples, nanoseconds of lines.
//! - Bytes that are not UTF-8 become U+FFFD; the record then has a [`Reject`].

mod labels;
mod logs;
mod series;
mod split;
mod wire;

pub use split::{HEAD_MAX, Records, Refusal, UNFOLDED_MAX, split};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use wire::Fault;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `prometheus.WriteRequest`, protobuf.
    RemoteWrite,
    /// `logproto.PushRequest`, protobuf.
    LokiProtobuf,
    /// The same as JSON.
    LokiJson,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RemoteWrite, Self::LokiProtobuf, Self::LokiJson];

    /// As in the first line of a record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RemoteWrite => "remote-write",
            Self::LokiProtobuf => "loki-protobuf",
            Self::LokiJson => "loki-json",
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }
}

/// The first line of a body that is refused; `packed` when it could not be unpacked.
pub fn refused_line(kind: Kind, packed: bool) -> String {
    format!("refused {}{}\n", if packed { "packed " } else { "" }, kind.name())
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Metric {
    /// A time series with what is new of it.
    Series(Series),
    /// What a family of metrics is.
    Metadata(Metadata),
    /// A line of a log.
    Log(Log),
}

impl Metric {
    /// What it is about, by the labels that tell it: the target of a series, the host of a line.
    pub fn origin(self) -> Option<String> {
        let (mut labels, names): (_, &[&str]) = match self {
            Self::Series(series) => (series.labels, &["hostname", "instance", "job"]),
            Self::Log(log) => (log.labels, &["hostname", "host", "instance", "job"]),
            Self::Metadata(_) => return None,
        };
        names.iter().find_map(|name| labels.remove(*name))
    }
}

/// A time series with what is new of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// `__name__`.
    pub name: Option<String>,
    /// The other labels.
    pub labels: BTreeMap<String, String>,
    /// Its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// Examples of what was counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exemplars: Vec<Exemplar>,
    /// Native histograms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub histograms: Vec<Histogram>,
}

/// A value at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// The shortest decimal that reads back as the same, `NaN`, `+Inf` or `-Inf`.
    pub value: String,
    /// The series ended here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// One of what was counted, mostly with the id of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemplar {
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// The shortest decimal that reads back as the same, `NaN`, `+Inf` or `-Inf`.
    pub value: String,
}

/// A native histogram at a time, as it was sent: buckets are not worked out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// Observations; a fraction when counts were averaged.
    pub count: String,
    /// Their sum.
    pub sum: String,
    /// How fine the buckets are: 2^2^-n is their ratio; -53 for buckets of one's own.
    pub schema: i32,
    /// Up to here, both ways, all counts as zero.
    pub zero_threshold: String,
    /// How many were there.
    pub zero_count: String,
    /// `unknown`, `yes`, `no`, `gauge`: whether it began anew.
    pub reset: String,
    /// Buckets above zero.
    pub positive: Buckets,
    /// Buckets below zero.
    pub negative: Buckets,
    /// Upper ends of buckets of one's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<String>,
}

/// Buckets of a native histogram.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    /// Runs of buckets that are there: the gap before each, and its length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<(i64, u64)>,
    /// Counts, each as its difference from the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<i64>,
    /// Counts that are fractions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<String>,
}

/// What a family of metrics is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge`, `histogram`, … or `unknown`.
    pub r#type: String,
    /// In words.
    pub help: String,
    /// `seconds`, `bytes`, or nothing.
    pub unit: String,
}

/// A line of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Labels of its stream.
    pub labels: BTreeMap<String, String>,
    /// Nanoseconds since 1970, when they fit in 64 bits.
    pub time_ns: Option<i64>,
    /// The line.
    pub line: String,
    /// Structured metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// What was read from a record, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// As much as could be read.
    pub metric: Option<Metric>,
    /// Why that is not all.
    pub reject: Option<Reject>,
}

/// Why a record was not read in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reject {
    /// The first line is none that there is.
    Mark,
    /// A body that was refused when it came.
    Body(Kind, Option<Refusal>),
    /// Protobuf with a fault.
    Protobuf(Fault),
    /// A text that is not UTF-8.
    NotUtf8,
    /// A label that is there twice.
    LabelTwice,
    /// A field that is neither a series nor metadata.
    Field(u32),
    /// Labels that are not `{name="value", …}`.
    Labels,
    /// Nothing that is an entry.
    NoEntry,
    /// Not the JSON of a push.
    Json(String),
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark => f.write_str("no record of metrics: its first line is none that there is"),
            Self::Body(kind, Some(refusal)) => write!(f, "body of {} that was refused: {refusal}", kind.name()),
            Self::Body(kind, None) => write!(f, "part of a body of {} that was refused", kind.name()),
            Self::Protobuf(fault) => fault.fmt(f),
            Self::NotUtf8 => f.write_str("a text that is not UTF-8"),
            Self::LabelTwice => f.write_str("a label that is there twice"),
            Self::Field(number) => write!(f, "field {number} of a write request is neither a series nor metadata"),
            Self::Labels => f.write_str("labels that are not {name=\"value\", …}"),
            Self::NoEntry => f.write_str("a push without an entry"),
            Self::Json(why) => write!(f, "no push of log lines: {why}"),
        }
    }
}

/// Reads one record.
pub fn decode(raw: &[u8]) -> Reading {
    let unread = |reject| Reading { metric: None, reject: Some(reject) };
    // The longest line is shorter than that.
    let Some(end) = memchr::memchr(b'\n', &raw[..raw.len().min(64)]) else { return unread(Reject::Mark) };
    let (line, rest) = (&raw[..end], &raw[end + 1..]);
    if let Some(body) = line.strip_prefix(b"refused ") {
        let (name, packed) = body.strip_prefix(b"packed ").map_or((body, false), |name| (name, true));
        let Some(kind) = Kind::named(name) else { return unread(Reject::Mark) };
        let refusal = if packed { Some(Refusal::Packed) } else { split(kind, rest).err() };
        return unread(Reject::Body(kind, refusal));
    }
    match Kind::named(line) {
        Some(Kind::RemoteWrite) => series::read(rest),
        Some(Kind::LokiProtobuf) => logs::read_protobuf(rest),
        Some(Kind::LokiJson) => logs::read_json(rest),
        None => unread(Reject::Mark),
    }
}

/// A text; what is not UTF-8 is noted.
fn text(bytes: &[u8], reject: &mut Option<Reject>) -> String {
    let text = String::from_utf8_lossy(bytes);
    if matches!(text, std::borrow::Cow::Owned(_)) {
        reject.get_or_insert(Reject::NotUtf8);
    }
    text.into_owned()
}

/// The shortest that reads back as the same, without an exponent.
fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}
