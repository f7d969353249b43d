//! Whatever is pushed: no panic, all of a body or none of it, no more out than went in.
//!
//! `RAVEN_FULL=1` mutates a million bodies in place of 20,000.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use raven_decode::metrics::{Kind, Metric, UNFOLDED_MAX, decode, split};

/// The smallest positive double has 326 digits, a sample with it 11 bytes; a bucket of two bytes comes as `[0,0],`.
const RATIO: usize = 64;

/// A field of bytes, shorter than 16 KiB.
fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let len = bytes.len();
    let len = if len < 0x80 { vec![len as u8] } else { vec![len as u8 | 0x80, (len >> 7) as u8] };
    [&[number << 3 | 2][..], &len, bytes].concat()
}

fn label(name: &str, value: &str) -> Vec<u8> {
    field(1, [field(1, name), field(2, value)].concat())
}

/// A body of each kind with all that may stand in it.
fn samples() -> [(Kind, Vec<u8>); 3] {
    let sample = |value: f64| field(2, [&[0x09][..], &value.to_le_bytes(), &[0x10, 0x90, 0x4e]].concat());
    let exemplar = field(3, [label("trace_id", "x"), vec![0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x18, 7]].concat());
    let histogram = field(
        4,
        [
            &[0x08, 3, 0x20, 6, 0x30, 1, 0x70, 2, 0x78, 9][..],
            &field(11, [0x08, 2, 0x10, 2]),
            &field(12, [6, 1]),
            &field(13, 0.5_f64.to_le_bytes()),
        ]
        .concat(),
    );
    let series = [label("__name__", "up"), label("job", "\u{e9}"), sample(1.5), sample(f64::NAN), exemplar, histogram];
    let metadata = field(3, [&[0x08, 1][..], &field(2, "up"), &field(4, "help"), &field(5, "bytes")].concat());
    let write = [field(1, series.concat()), field(1, label("a", "b")), metadata, vec![0x78, 1]].concat();
    let entry = |line: &str| {
        let pair = field(3, [field(1, "pod"), field(2, "x")].concat());
        field(2, [field(1, [0x08, 2, 0x10, 3]), field(2, line), pair].concat())
    };
    let stream = [field(1, r#"{job="a\"b", path=`c`}"#), entry("one"), vec![0x18, 9], entry("two")].concat();
    let push = [field(1, stream), field(1, field(1, "{}"))].concat();
    let json = r#"{"streams":[{"stream":{"job":"a"},"values":[["17","l\n\ud83d\ude00"],["18","m",{"k":"v"}]]},{"values":[],"stream":{}}]}"#;
    [(Kind::RemoteWrite, write), (Kind::LokiProtobuf, push), (Kind::LokiJson, json.as_bytes().to_vec())]
}

fn check_decode(raw: &[u8]) -> Option<Metric> {
    let reading = decode(raw);
    assert!(reading.metric.is_some() || reading.reject.is_some());
    let json = serde_json::to_vec(&reading.metric).unwrap();
    assert!(json.len() <= raw.len() * RATIO + 512, "{} bytes out of {}", json.len(), raw.len());
    let read: Option<Metric> = serde_json::from_slice(&json).unwrap();
    assert_eq!(read, reading.metric);
    reading.metric
}

/// Splits a body and reads each record of it.
fn check(kind: Kind, body: &[u8]) {
    if let Ok(mut records) = split(kind, body) {
        let (mut raw, mut count, mut bytes) = (Vec::new(), 0, 0);
        let mut put_together = Vec::new();
        while records.next(&mut raw) {
            count += 1;
            bytes += raw.len();
            check_decode(&raw);
            put_together.extend_from_slice(&raw[kind.name().len() + 1..]);
        }
        assert_eq!(count, records.count());
        assert!(bytes <= UNFOLDED_MAX + count * 64);
        assert!(kind != Kind::RemoteWrite || put_together == body);
    }
    for line in [kind.name().to_owned(), format!("refused {}", kind.name())] {
        check_decode(&[line.as_bytes(), b"\n", body].concat());
    }
    check_decode(body);
}

#[test]
fn a_sound_body_gives_records_that_are_read_in_full() {
    for (kind, body) in samples() {
        let mut records = split(kind, &body).unwrap();
        let (mut raw, mut read) = (Vec::new(), 0);
        while records.next(&mut raw) {
            let reading = decode(&raw);
            // The field that nobody knows is kept and says so.
            let known = reading.metric.is_some() && reading.reject.is_none();
            assert!(known || raw.ends_with(&[0x78, 1]), "{reading:?}");
            read += usize::from(known);
        }
        let expected = if kind == Kind::RemoteWrite { 3 } else { 2 };
        assert_eq!(read, expected, "{}", kind.name());
    }
}

#[test]
fn every_sample_can_be_cut_at_every_byte_and_any_bit_can_flip() {
    for (kind, bytes) in samples() {
        for at in 0..=bytes.len() {
            check(kind, &bytes[..at]);
            check(kind, &bytes[at..]);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(kind, &flipped);
        }
    }
}

#[test]
fn labels_that_are_repeated_make_no_more_than_the_limit() {
    let labels = field(1, format!(r#"{{a="{}"}}"#, "x".repeat(8000)));
    let stream = |entries: usize| [labels.clone(), field(2, "").repeat(entries)].concat();
    let body = |stream: Vec<u8>| {
        let mut head = vec![0x0a];
        let mut len = stream.len();
        while len >= 0x80 {
            head.push(len as u8 | 0x80);
            len >>= 7;
        }
        head.push(len as u8);
        [head, stream].concat()
    };
    assert_eq!(split(Kind::LokiProtobuf, &body(stream(1000))).unwrap().count(), 1000);
    assert!(split(Kind::LokiProtobuf, &body(stream(100_000))).is_err());
    let json = |entries: usize| {
        let values = vec![r#"["1",""]"#; entries].join(",");
        format!(r#"{{"streams":[{{"stream":{{"a":"{}"}},"values":[{values}]}}]}}"#, "x".repeat(8000))
    };
    assert_eq!(split(Kind::LokiJson, json(1000).as_bytes()).unwrap().count(), 1000);
    assert!(split(Kind::LokiJson, json(100_000).as_bytes()).is_err());
}

#[test]
fn json_that_nests_deeply_is_refused_and_does_not_recurse() {
    let deep = format!(r#"{{"streams":{}"#, "[".repeat(200_000));
    check(Kind::LokiJson, deep.as_bytes());
    let ignored = format!(r#"{{"x":{}{},"streams":[]}}"#, "[".repeat(200_000), "]".repeat(200_000));
    check(Kind::LokiJson, ignored.as_bytes());
}

#[test]
fn thousands_of_mutated_bodies_are_read() {
    let runs = if std::env::var_os("RAVEN_FULL").is_some() { 1_000_000 } else { 20_000 };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let samples = samples();
    for _ in 0..runs {
        let (kind, body) = &samples[random(3)];
        let mut body = body.clone();
        for _ in 0..=random(6) {
            let at = random(body.len());
            match random(4) {
                0 => body[at] = random(256) as u8,
                1 => drop(body.remove(at)),
                2 => body.insert(at, [0xff, 0x80, 0x0a, 0x12, 0, b'"', b'{', b']'][random(8)]),
                _ => {
                    let end = at + random(body.len() - at);
                    let part = body[at..end].to_vec();
                    body.splice(at..at, part);
                }
            }
            if body.is_empty() {
                break;
            }
        }
        check(*kind, &body);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for kind in Kind::ALL {
            check(kind, &bytes);
        }
    }
}
