//! Records as logs of OpenTelemetry (OTLP 1, `ExportLogsServiceRequest`), in protobuf; [`metrics`] are beside them.
//! `docs/formats.md` is the specification of what stands in which attribute.

pub mod metrics;

use crate::envelope::{alert_priority, priority};
use crate::proto::{Field, enclose, field, field_bytes, field_fixed, field_number, open, varint_len};
use crate::text;
use raven_model::record::Record;
use raven_model::stream::Stream;
use raven_model::units::Seq;

/// `SeverityNumber` for the severities of syslog, emergency to debug (OpenTelemetry's mapping of RFC 5424).
const SEVERITIES: [u64; 8] = [21, 19, 18, 17, 13, 10, 9, 5];
const SEVERITY_TEXTS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Writes the records of one device and stream.
pub struct Otlp {
    origin: Origin,
    syslog: bool,
    of_alerts: bool,
    record: Vec<u8>,
    part: Vec<u8>,
}

/// Whose they are: what stands once in a request.
struct Origin {
    /// The `Resource` with its key, and the `InstrumentationScope` with its.
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Origin {
    fn new(device: &str, stream: &str) -> Self {
        let (mut inner, mut part) = (Vec::new(), Vec::new());
        for (key, value) in [("service.name", "raven"), ("dev", device), ("stream", stream)] {
            attribute(&mut inner, &mut part, 1, key, &Value::Text(value));
        }
        let (mut resource, mut scope) = (Vec::new(), Vec::new());
        field_bytes(&mut resource, 1, &inner);
        inner.clear();
        field_bytes(&mut inner, 1, b"raven");
        field_bytes(&mut inner, 2, env!("CARGO_PKG_VERSION").as_bytes());
        field_bytes(&mut scope, 1, &inner);
        Self { resource, scope }
    }

    /// Puts the fields of a `ScopeLogs` or `ScopeMetrics` into their request.
    fn close(&self, fields: &mut Vec<u8>) {
        enclose(fields, 0, 2, &self.scope);
        // The scope's message is the resource's second field, behind the resource.
        enclose(fields, 0, 1, &self.resource);
    }
}

impl Otlp {
    /// For the records of `stream`, received by `device`.
    pub fn new(device: &str, stream: &str) -> Self {
        let syslog = stream == Stream::Syslog.name();
        let of_alerts = stream == Stream::Alert.name();
        Self { origin: Origin::new(device, stream), syslog, of_alerts, record: Vec::new(), part: Vec::new() }
    }

    /// Appends a record, as an element of `ScopeLogs.log_records`.
    pub fn record(&mut self, out: &mut Vec<u8>, seq: Seq, record: &Record<'_>, listener: &str) {
        let received = &record.received;
        let (log, part) = (&mut self.record, &mut self.part);
        log.clear();
        if self.syslog {
            severity(log, record.raw);
        } else if let Some(priority) = alert_priority(self.of_alerts, record.raw) {
            severity_number(log, usize::from(priority % 8));
        }
        let body = std::str::from_utf8(record.raw).map_or(Value::Bytes(record.raw), Value::Text);
        value(part, &body);
        field_bytes(log, 5, part);
        let mut address = Vec::with_capacity(40);
        text::address(&mut address, received.source.ip());
        let src = Value::Text(std::str::from_utf8(&address).unwrap_or_default());
        let always = [
            ("seq", Value::Number(seq.0)),
            ("src", src),
            ("port", Value::Number(u64::from(received.source.port()))),
            ("listener", Value::Text(listener)),
        ];
        let flags = [("piece", received.piece), ("unparsed", received.is_unparsed())];
        let flags = flags.into_iter().filter(|(_, set)| *set).map(|(key, _)| (key, Value::True));
        for (key, value) in always.into_iter().chain(flags) {
            attribute(log, part, 6, key, &value);
        }
        field_fixed(log, 11, received.wall.0);
        field_bytes(out, 2, log);
    }

    /// Puts the records of a body into their request.
    pub fn close(&self, records: &mut Vec<u8>) {
        self.origin.close(records);
    }
}

/// A value of an attribute or body (`AnyValue`).
enum Value<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Number(u64),
    True,
}

fn value(out: &mut Vec<u8>, value: &Value<'_>) {
    out.clear();
    match value {
        Value::Text(text) => field_bytes(out, 1, text.as_bytes()),
        Value::Bytes(bytes) => field_bytes(out, 7, bytes),
        Value::Number(number) => field_number(out, 3, *number),
        Value::True => field_number(out, 2, 1),
    }
}

/// Appends a `KeyValue`. All names are shorter than 128 bytes.
fn attribute(out: &mut Vec<u8>, part: &mut Vec<u8>, field: u8, name: &str, content: &Value<'_>) {
    value(part, content);
    open(out, field, 2 + name.len() + 1 + varint_len(part.len() as u64) + part.len());
    field_bytes(out, 1, name.as_bytes());
    field_bytes(out, 2, part);
}

fn severity(log: &mut Vec<u8>, raw: &[u8]) {
    // Without a priority of its own a message has no severity, not even a default one.
    if raw.first() != Some(&b'<') {
        return;
    }
    let digits = priority(raw);
    let number = digits.iter().fold(0_usize, |n, digit| n * 10 + usize::from(digit - b'0'));
    if raw.get(1..=digits.len()) == Some(digits) && raw.get(digits.len() + 1) == Some(&b'>') {
        severity_number(log, number % 8);
    }
}

/// That of syslog, below 8.
fn severity_number(log: &mut Vec<u8>, number: usize) {
    field_number(log, 2, SEVERITIES[number]);
    field_bytes(log, 3, SEVERITY_TEXTS[number].as_bytes());
}

/// What an `ExportLogsServiceResponse`, or one of metrics, says of refused records: how many, and why. `None` when it is none.
pub fn rejected(mut answer: &[u8]) -> Option<(u64, &[u8])> {
    let mut found = (0, &b""[..]);
    while !answer.is_empty() {
        if let (1, Field::Bytes(mut partial)) = field(&mut answer)? {
            while !partial.is_empty() {
                match field(&mut partial)? {
                    (1, Field::Number(count)) => found.0 = count,
                    (2, Field::Bytes(why)) => found.1 = why,
                    _ => {}
                }
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refused_records_are_read_from_the_answer() {
        assert_eq!(rejected(b""), Some((0, &b""[..])));
        assert_eq!(rejected(b"\x0a\x00"), Some((0, &b""[..])));
        assert_eq!(rejected(b"\x0a\x09\x08\xac\x02\x12\x04full"), Some((300, &b"full"[..])));
        assert_eq!(rejected(b"\x0a\x06\x12\x04warn"), Some((0, &b"warn"[..])));
        for bad in [
            &b"\x0a\x09\x08"[..],
            b"{\"partialSuccess\":{}}",
            b"<html>",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(rejected(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(answer in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = rejected(&answer);
        }

    }
}
