//! Loki's push: `logproto.PushRequest`, and the same as JSON.

use super::series::{note, pair};
use super::wire::Fields;
use super::{Log, Metric, Reading, Reject, labels, text};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Field of a `PushRequest`: a stream.
pub const STREAM: u32 = 1;
/// Field of a stream: its labels.
pub const LABELS: u32 = 1;
/// Field of a stream: an entry.
pub const ENTRY: u32 = 2;

/// Reads a push of one entry.
pub fn read_protobuf(raw: &[u8]) -> Reading {
    let (mut log, mut reject, mut entries) = (Log::default(), None, 0);
    let mut streams = Fields::of(raw);
    if let Some(stream) = streams.find(|field| field.number == STREAM).and_then(|field| field.bytes()) {
        let mut fields = Fields::of(stream);
        for field in fields.by_ref() {
            let Some(bytes) = field.bytes() else { continue };
            match field.number {
                LABELS => match labels::read(bytes, &mut reject) {
                    Some(labels) => log.labels = labels,
                    None => drop(reject.get_or_insert(Reject::Labels)),
                },
                ENTRY if entries == 0 => {
                    entries = 1;
                    entry(bytes, &mut log, &mut reject);
                }
                _ => {}
            }
        }
        note(&fields, &mut reject);
    }
    note(&streams, &mut reject);
    reading(log, entries, reject)
}

fn reading(log: Log, entries: usize, mut reject: Option<Reject>) -> Reading {
    if entries == 0 {
        reject.get_or_insert(Reject::NoEntry);
    }
    Reading { metric: (entries > 0).then_some(Metric::Log(log)), reject }
}

fn entry(message: &[u8], log: &mut Log, reject: &mut Option<Reject>) {
    log.time_ns = Some(0);
    let mut fields = Fields::of(message);
    for field in fields.by_ref() {
        let Some(bytes) = field.bytes() else { continue };
        match field.number {
            1 => log.time_ns = time(bytes, reject),
            2 => log.line = text(bytes, reject),
            3 => log.metadata.extend([pair(bytes, reject)]),
            _ => {}
        }
    }
    note(&fields, reject);
}

/// `google.protobuf.Timestamp`.
fn time(message: &[u8], reject: &mut Option<Reject>) -> Option<i64> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut fields = Fields::of(message);
    for field in fields.by_ref() {
        match field.number {
            1 => seconds = field.number().cast_signed(),
            2 => nanos = field.number().cast_signed(),
            _ => {}
        }
    }
    note(&fields, reject);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Whether an entry closes.
pub fn check(entry: &[u8]) -> Result<(), Reject> {
    let (mut log, mut reject) = (Log::default(), None);
    let mut fields = Fields::of(entry);
    for field in fields.by_ref() {
        match (field.number, field.bytes()) {
            (1, Some(bytes)) => log.time_ns = time(bytes, &mut reject),
            (3, Some(bytes)) => drop(pair(bytes, &mut reject)),
            _ => {}
        }
    }
    note(&fields, &mut reject);
    // Texts that are not UTF-8 are kept as they came.
    reject.filter(|reject| matches!(reject, Reject::Protobuf(_))).map_or(Ok(()), Err)
}

/// A push of which the streams are not read yet.
#[derive(Deserialize)]
pub struct Push<'a> {
    /// Its streams.
    #[serde(borrow)]
    pub streams: Vec<PushedStream<'a>>,
}

/// A stream of it.
#[derive(Deserialize)]
pub struct PushedStream<'a> {
    /// Its labels.
    #[serde(borrow)]
    pub stream: &'a RawValue,
    /// Its entries.
    #[serde(borrow)]
    pub values: &'a RawValue,
}

/// Labels, or structured metadata.
pub type Pairs = BTreeMap<String, String>;

/// An entry: nanoseconds as text, line, structured metadata.
#[derive(Deserialize)]
pub struct Pushed(pub String, pub String, #[serde(default)] pub Pairs);

impl Pushed {
    /// Nanoseconds since 1970.
    pub fn time(&self) -> Option<i64> {
        self.0.parse().ok()
    }
}

#[derive(Deserialize)]
struct One {
    stream: Pairs,
    values: Vec<Pushed>,
}

/// Reads a stream of one value.
pub fn read_json(raw: &[u8]) -> Reading {
    let one: One = match serde_json::from_slice(raw) {
        Ok(one) => one,
        Err(error) => return Reading { metric: None, reject: Some(Reject::Json(error.to_string())) },
    };
    let Some(value) = one.values.into_iter().next() else { return reading(Log::default(), 0, None) };
    let time_ns = value.time();
    let log = Log { labels: one.stream, time_ns, line: value.1, metadata: value.2 };
    reading(log, 1, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::wire::write_bytes;
    use super::*;

    fn log(reading: Reading) -> (Log, Option<Reject>) {
        let Some(Metric::Log(log)) = reading.metric else { panic!("{reading:?}") };
        (log, reading.reject)
    }

    #[test]
    fn an_entry_is_read_with_labels_and_metadata() {
        let (mut entry, mut pair, mut stream, mut push) = (vec![0x0a, 4, 0x08, 2, 0x10, 3], vec![], vec![], vec![]);
        write_bytes(&mut pair, 1, b"pod");
        write_bytes(&mut pair, 2, b"leaf-1");
        write_bytes(&mut entry, 2, b"BGP down");
        write_bytes(&mut entry, 3, &pair);
        write_bytes(&mut stream, LABELS, br#"{job="sonic"}"#);
        write_bytes(&mut stream, ENTRY, &entry);
        write_bytes(&mut push, STREAM, &stream);
        let (whole, reject) = log(read_protobuf(&push));
        assert_eq!(
            (whole.labels["job"].as_str(), whole.time_ns, whole.line.as_str()),
            ("sonic", Some(2_000_000_003), "BGP down")
        );
        assert_eq!((whole.metadata["pod"].as_str(), reject), ("leaf-1", None));
        let (cut, reject) = log(read_protobuf(&push[..push.len() - 3]));
        assert_eq!((cut.line.as_str(), reject.is_some()), ("BGP down", true));
    }

    #[test]
    fn json_says_the_same() {
        let (log, reject) =
            log(read_json(br#"{"stream":{"job":"sonic"},"values":[["1700000000000000001","a\tb",{"pod":"x"}]]}"#));
        assert_eq!(
            (log.labels["job"].as_str(), log.time_ns, log.line.as_str()),
            ("sonic", Some(1_700_000_000_000_000_001), "a\tb")
        );
        assert_eq!((log.metadata["pod"].as_str(), reject), ("x", None));
        assert_eq!(read_json(br#"{"stream":{},"values":[]}"#).reject, Some(Reject::NoEntry));
        assert!(matches!(read_json(b"{").reject, Some(Reject::Json(_))));
    }

    #[test]
    fn a_time_that_no_number_holds_is_none() {
        let entry = [0x0a, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x10, 1];
        let mut log = Log::default();
        super::entry(&entry, &mut log, &mut None);
        assert_eq!(log.time_ns, None);
    }
}
