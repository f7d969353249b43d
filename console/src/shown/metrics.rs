//! A series with its new values, metadata, or a log line.

use super::{cut, plain};
use crate::time;
use raven_model::units::UnixNanos;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is shown of a record.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metric {
    kind: String,
    name: Option<String>,
    labels: BTreeMap<String, String>,
    samples: Vec<Sample>,
    histograms: Vec<Histogram>,
    exemplars: Vec<serde::de::IgnoredAny>,
    r#type: String,
    help: String,
    time_ns: Option<i64>,
    line: String,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sample {
    time_ms: i64,
    value: String,
    stale: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Histogram {
    time_ms: i64,
    count: String,
    sum: String,
}

/// `name{labels} value @time, …`; `# name type: help`; `time {labels} line [metadata]`.
pub fn line(metric: &Metric) -> Option<String> {
    match metric.kind.as_str() {
        "series" => Some(series(metric)),
        "metadata" => {
            let name = plain(metric.name.as_deref().unwrap_or_default());
            Some(format!("# {name} {}: {}", plain(&metric.r#type), plain(&metric.help)))
        }
        "log" => {
            let more =
                if metric.metadata.is_empty() { String::new() } else { format!(" [{}]", pairs(&metric.metadata)) };
            let time = metric.time_ns.map_or_else(|| "-".to_owned(), at);
            Some(format!("{time} {{{}}} {}{more}", pairs(&metric.labels), plain(&metric.line)))
        }
        _ => None,
    }
}

fn series(metric: &Metric) -> String {
    let at_ms = |time_ms: i64| at(time_ms.saturating_mul(1_000_000));
    let sample = |sample: &Sample| {
        let value = if sample.stale { "stale".to_owned() } else { plain(&sample.value) };
        format!("{value} @{}", at_ms(sample.time_ms))
    };
    let histogram =
        |of: &Histogram| format!("histogram count {} sum {} @{}", plain(&of.count), plain(&of.sum), at_ms(of.time_ms));
    let mut values: Vec<String> = metric.samples.iter().map(sample).collect();
    values.extend(metric.histograms.iter().map(histogram));
    if !metric.exemplars.is_empty() {
        values.push(format!("{} exemplars", metric.exemplars.len()));
    }
    let name = plain(metric.name.as_deref().unwrap_or_default());
    format!("{name}{{{}}} {}", pairs(&metric.labels), cut(&values.join(", ")))
}

fn pairs(labels: &BTreeMap<String, String>) -> String {
    let pair = |(name, value): (&String, &String)| format!("{}=\"{}\"", plain(name), plain(value));
    cut(&labels.iter().map(pair).collect::<Vec<_>>().join(","))
}

/// Nanoseconds since 1970 as people read them; what is before that as it is.
fn at(time_ns: i64) -> String {
    u64::try_from(time_ns).map_or_else(|_| time_ns.to_string(), |ns| time::format(UnixNanos(ns), 3))
}
