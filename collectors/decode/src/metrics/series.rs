//! Prometheus remote write 1.0: `prometheus.WriteRequest`.

use super::wire::{Fault, Field, Fields, zigzag};
use super::{Buckets, Exemplar, Histogram, Metadata, Metric, Reading, Reject, Sample, Series, number, text};
use std::collections::BTreeMap;

/// Field of a `WriteRequest`: `TimeSeries`.
pub const SERIES: u32 = 1;
/// As above: `MetricMetadata`.
pub const METADATA: u32 = 3;

/// `MetricMetadata.MetricType`.
const TYPES: [&str; 8] = ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];
/// `Histogram.ResetHint`.
const RESETS: [&str; 4] = ["unknown", "yes", "no", "gauge"];

/// The mark of a series that ended; NaNs of other bits are values.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Reads one field of a `WriteRequest`.
pub fn read(raw: &[u8]) -> Reading {
    let mut reject = None;
    let mut fields = Fields::of(raw);
    let field = fields.next();
    note(&fields, &mut reject);
    let metric = match field.map(|field| (field.number, field.bytes())) {
        Some((SERIES, Some(message))) => Some(Metric::Series(series(message, &mut reject))),
        Some((METADATA, Some(message))) => Some(Metric::Metadata(metadata(message, &mut reject))),
        Some((number, _)) => {
            reject.get_or_insert(Reject::Field(number));
            None
        }
        None => None,
    };
    if metric.is_none() {
        reject.get_or_insert(Reject::Protobuf(Fault::Short));
    }
    Reading { metric, reject }
}

/// Whether the messages of a time series close, as far down as labels, samples, exemplars and histograms.
pub fn check(series: &[u8]) -> Result<(), Fault> {
    let closes = |message| {
        let mut fields = Fields::of(message);
        fields.by_ref().for_each(drop);
        fields.fault().map_or(Ok(()), Err)
    };
    let mut fields = Fields::of(series);
    for field in fields.by_ref().filter(|field| (1..=4).contains(&field.number)) {
        closes(field.bytes().ok_or(Fault::Kind)?)?;
    }
    fields.fault().map_or(Ok(()), Err)
}

/// Notes what ended a message early.
pub fn note(fields: &Fields<'_>, reject: &mut Option<Reject>) {
    if let Some(fault) = fields.fault() {
        reject.get_or_insert(Reject::Protobuf(fault));
    }
}

/// Gives each field of a message; a fault is noted.
fn each(message: &[u8], reject: &mut Option<Reject>, mut take: impl FnMut(Field<'_>, &mut Option<Reject>)) {
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next() {
        // Before what is wrong further down: the whole is what is cut.
        note(&fields, reject);
        take(field, reject);
    }
    note(&fields, reject);
}

fn series(message: &[u8], reject: &mut Option<Reject>) -> Series {
    let mut series = Series::default();
    each(message, reject, |field, reject| {
        let Some(bytes) = field.bytes() else { return };
        match field.number {
            1 => {
                let (name, value) = pair(bytes, reject);
                let is_name = name == "__name__";
                let before = if is_name { series.name.replace(value) } else { series.labels.insert(name, value) };
                if before.is_some() {
                    reject.get_or_insert(Reject::LabelTwice);
                }
            }
            2 => series.samples.push(sample(bytes, reject)),
            3 => series.exemplars.push(exemplar(bytes, reject)),
            4 => series.histograms.push(histogram(bytes, reject)),
            _ => {}
        }
    });
    series
}

/// A label; Loki's structured metadata has the same form.
pub fn pair(message: &[u8], reject: &mut Option<Reject>) -> (String, String) {
    let (mut name, mut value) = (String::new(), String::new());
    each(message, reject, |field, reject| {
        let Some(bytes) = field.bytes() else { return };
        match field.number {
            1 => name = text(bytes, reject),
            2 => value = text(bytes, reject),
            _ => {}
        }
    });
    (name, value)
}

fn sample(message: &[u8], reject: &mut Option<Reject>) -> Sample {
    let (mut value, mut time_ms) = (0.0_f64, 0);
    each(message, reject, |field, _| match field.number {
        1 => value = field.double(),
        2 => time_ms = field.number().cast_signed(),
        _ => {}
    });
    Sample { time_ms, value: number(value), stale: value.to_bits() == STALE }
}

fn exemplar(message: &[u8], reject: &mut Option<Reject>) -> Exemplar {
    let (mut labels, mut value, mut time_ms) = (BTreeMap::new(), 0.0_f64, 0);
    each(message, reject, |field, reject| match field.number {
        1 => labels.extend(field.bytes().map(|bytes| pair(bytes, reject))),
        2 => value = field.double(),
        3 => time_ms = field.number().cast_signed(),
        _ => {}
    });
    Exemplar { labels, time_ms, value: number(value) }
}

fn metadata(message: &[u8], reject: &mut Option<Reject>) -> Metadata {
    let mut metadata = Metadata { r#type: name(0, &TYPES), ..Metadata::default() };
    each(message, reject, |field, reject| {
        let mut told = || text(field.bytes().unwrap_or_default(), reject);
        match field.number {
            1 => metadata.r#type = name(field.number(), &TYPES),
            2 => metadata.name = told(),
            4 => metadata.help = told(),
            5 => metadata.unit = told(),
            _ => {}
        }
    });
    metadata
}

/// The name of a value of an enum, or the number for one that is not known.
fn name(number: u64, names: &[&str]) -> String {
    let known = usize::try_from(number).ok().and_then(|number| names.get(number));
    known.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

fn histogram(message: &[u8], reject: &mut Option<Reject>) -> Histogram {
    let zero = || "0".to_owned();
    let mut histogram = Histogram {
        count: zero(),
        sum: zero(),
        zero_threshold: zero(),
        zero_count: zero(),
        reset: name(0, &RESETS),
        ..Histogram::default()
    };
    each(message, reject, |field, reject| match field.number {
        1 => histogram.count = field.number().to_string(),
        2 => histogram.count = number(field.double()),
        3 => histogram.sum = number(field.double()),
        4 => histogram.schema = zigzag(field.number()) as i32,
        5 => histogram.zero_threshold = number(field.double()),
        6 => histogram.zero_count = field.number().to_string(),
        7 => histogram.zero_count = number(field.double()),
        8..=10 => buckets(&mut histogram.negative, field.number - 8, field, reject),
        11..=13 => buckets(&mut histogram.positive, field.number - 11, field, reject),
        14 => histogram.reset = name(field.number(), &RESETS),
        15 => histogram.time_ms = field.number().cast_signed(),
        16 => doubles(field, &mut histogram.custom),
        _ => {}
    });
    histogram
}

/// Spans, deltas and counts, in this order.
fn buckets(buckets: &mut Buckets, which: u32, field: Field<'_>, reject: &mut Option<Reject>) {
    match (which, field.bytes()) {
        (0, Some(span)) => {
            let (mut gap, mut length) = (0, 0);
            each(span, reject, |field, _| match field.number {
                1 => gap = zigzag(field.number()),
                2 => length = field.number(),
                _ => {}
            });
            buckets.spans.push((gap, length));
        }
        (1, Some(mut packed)) => {
            while !packed.is_empty() {
                match super::wire::varint(packed) {
                    Ok((value, rest)) => {
                        buckets.deltas.push(zigzag(value));
                        packed = rest;
                    }
                    Err(fault) => {
                        reject.get_or_insert(Reject::Protobuf(fault));
                        return;
                    }
                }
            }
        }
        (1, None) => buckets.deltas.push(zigzag(field.number())),
        (2, _) => doubles(field, &mut buckets.counts),
        _ => {}
    }
}

/// Packed or one by one.
fn doubles(field: Field<'_>, into: &mut Vec<String>) {
    match field.bytes() {
        Some(packed) => {
            let (each, _) = packed.as_chunks::<8>();
            into.extend(each.iter().map(|bytes| number(f64::from_le_bytes(*bytes))));
        }
        None => into.push(number(field.double())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::wire::write_bytes;
    use super::*;

    fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
        fields.iter().fold(Vec::new(), |mut out, (number, bytes)| {
            write_bytes(&mut out, *number, bytes);
            out
        })
    }

    fn label(name: &str, value: &str) -> Vec<u8> {
        message(&[(1, name.as_bytes()), (2, value.as_bytes())])
    }

    fn sample(value: f64, time: u8) -> Vec<u8> {
        [&[0x09][..], &value.to_le_bytes(), &[0x10, time]].concat()
    }

    fn read_series(fields: &[(u32, &[u8])]) -> (Series, Option<Reject>) {
        let reading = read(&message(&[(SERIES, &message(fields))]));
        let Some(Metric::Series(series)) = reading.metric else { panic!("{reading:?}") };
        (series, reading.reject)
    }

    #[test]
    fn a_series_is_read_with_values_that_no_json_number_could_hold() {
        let values = [1.5, 1e21, 1e-7, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::from_bits(STALE)];
        let samples = values.map(|value| sample(value, 7));
        let (name, job) = (label("__name__", "up"), label("job", "raven"));
        let fields: Vec<(u32, &[u8])> =
            [(1, &name[..]), (1, &job)].into_iter().chain(samples.iter().map(|bytes| (2, &bytes[..]))).collect();
        let (series, reject) = read_series(&fields);
        assert_eq!((series.name.as_deref(), &series.labels["job"], reject), (Some("up"), &"raven".to_owned(), None));
        let shown: Vec<_> = series.samples.iter().map(|sample| (sample.value.as_str(), sample.stale)).collect();
        assert_eq!(
            shown,
            [
                ("1.5", false),
                ("1000000000000000000000", false),
                ("0.0000001", false),
                ("-0", false),
                ("+Inf", false),
                ("-Inf", false),
                ("NaN", false),
                ("NaN", true),
            ]
        );
        assert!(series.samples.iter().all(|sample| sample.time_ms == 7));
    }

    #[test]
    fn exemplars_and_native_histograms_are_shown_as_sent() {
        let trace = label("trace_id", "abc");
        let exemplar = [message(&[(1, &trace)]), vec![0x11], 2.0_f64.to_le_bytes().to_vec(), vec![0x18, 9]].concat();
        // count 12, sum 18.4, schema 3, threshold 0.001, zero 2, one span of 2 from 1, deltas 3 and -1, reset no, at 5.
        let mut histogram = vec![0x08, 12, 0x19];
        histogram.extend(18.4_f64.to_le_bytes());
        histogram.extend([0x20, 6, 0x29]);
        histogram.extend(0.001_f64.to_le_bytes());
        histogram.extend([0x30, 2, 0x5a, 4, 0x08, 2, 0x10, 2, 0x62, 2, 6, 1, 0x70, 2, 0x78, 5]);
        let (series, reject) = read_series(&[(3, &exemplar), (4, &histogram)]);
        assert_eq!(reject, None);
        assert_eq!((series.exemplars[0].labels["trace_id"].as_str(), series.exemplars[0].time_ms), ("abc", 9));
        let expected = Histogram {
            time_ms: 5,
            count: "12".into(),
            sum: "18.4".into(),
            schema: 3,
            zero_threshold: "0.001".into(),
            zero_count: "2".into(),
            reset: "no".into(),
            positive: Buckets { spans: vec![(1, 2)], deltas: vec![3, -1], counts: vec![] },
            ..Histogram::default()
        };
        assert_eq!(series.histograms, [expected]);
    }

    #[test]
    fn metadata_tells_type_help_and_unit() {
        let body = [vec![0x08, 1], message(&[(2, b"up"), (4, b"Is it?"), (5, b"bytes")])].concat();
        let reading = read(&message(&[(METADATA, &body)]));
        let [name, kind, help, unit] = ["up", "counter", "Is it?", "bytes"].map(str::to_owned);
        assert_eq!(reading.metric, Some(Metric::Metadata(Metadata { name, r#type: kind, help, unit })));
    }

    #[test]
    fn what_is_wrong_is_said_and_the_rest_is_read() {
        let twice = label("a", "x");
        let (series, reject) = read_series(&[(1, &twice), (1, &label("b", "\u{e9}")[..6]), (1, &twice)]);
        assert_eq!((series.labels.len(), reject), (2, Some(Reject::Protobuf(Fault::Short))));
        assert_eq!(read_series(&[(1, &twice), (1, &twice)]).1, Some(Reject::LabelTwice));
        assert_eq!(read_series(&[(1, &message(&[(1, b"a"), (2, b"\xff")]))]).1, Some(Reject::NotUtf8));
        assert_eq!(read(&[0x10, 1]).reject, Some(Reject::Field(2)));
        assert_eq!(read(&[]).reject, Some(Reject::Protobuf(Fault::Short)));
    }
}
