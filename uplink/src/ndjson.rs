//! Records as lines of JSON, for HTTP receivers and dead letters. `docs/formats.md` is the specification.

use crate::envelope::append_base64;
use crate::text;
use raven_model::alert::AlertRecord;
use raven_model::diag::schedule::DiagRecord;
use raven_model::host::HostRecord;
use raven_model::record::Record;
use raven_model::stream::Stream;
use raven_model::units::Seq;

/// Writes the records of one device and stream.
#[derive(Debug)]
pub struct Ndjson {
    /// `{"dev":"…","stream":"…","seq":`.
    opening: Vec<u8>,
    stream: Option<Stream>,
}

impl Ndjson {
    /// For the records of `stream`, received by `device`.
    pub fn new(device: &str, stream: &str) -> Self {
        let mut opening = b"{\"dev\":\"".to_vec();
        escaped(&mut opening, device.as_bytes());
        opening.extend_from_slice(b"\",\"stream\":\"");
        escaped(&mut opening, stream.as_bytes());
        opening.extend_from_slice(b"\",\"seq\":");
        Self { opening, stream: Stream::named(stream) }
    }

    /// Appends one record and LF.
    #[inline]
    pub fn line(&self, out: &mut Vec<u8>, seq: Seq, record: &Record<'_>, listener: &str) {
        self.object(out, seq, record, listener);
        out.extend_from_slice(b"}\n");
    }

    /// Appends one record as an object of its own, for webhooks. A record of the appliance's own, an alert or what the
    /// host said, is JSON already: its fields are those of the object, beside where it is from.
    pub fn document(&self, out: &mut Vec<u8>, seq: Seq, record: &Record<'_>, listener: &str) {
        if !self.is_own(record.raw) {
            self.object(out, seq, record, listener);
            out.push(b'}');
            return;
        }
        out.extend_from_slice(&self.opening);
        text::decimal(out, seq.0);
        out.extend_from_slice(b",\"received_ns\":");
        text::decimal(out, record.received.wall.0);
        out.push(b',');
        out.extend_from_slice(&record.raw[1..]);
    }

    /// True for what reads as one of the appliance's own records.
    fn is_own(&self, raw: &[u8]) -> bool {
        let reads = match self.stream {
            Some(Stream::Alert) => AlertRecord::read(raw).is_ok(),
            Some(Stream::Host) => HostRecord::read(raw).is_ok(),
            Some(Stream::Diag) => DiagRecord::read(raw).is_ok(),
            _ => false,
        };
        reads && raw.first() == Some(&b'{')
    }

    /// Appends one record without the closing brace, so that more fields can follow.
    #[inline]
    pub(crate) fn object(&self, out: &mut Vec<u8>, seq: Seq, record: &Record<'_>, listener: &str) {
        let received = &record.received;
        out.reserve(256 + record.raw.len());
        out.extend_from_slice(&self.opening);
        text::decimal(out, seq.0);
        out.extend_from_slice(b",\"received_ns\":");
        text::decimal(out, received.wall.0);
        out.extend_from_slice(b",\"source\":{\"addr\":\"");
        text::address(out, received.source.ip());
        out.extend_from_slice(b"\",\"port\":");
        text::decimal(out, u64::from(received.source.port()));
        out.extend_from_slice(b"},\"listener\":\"");
        escaped(out, listener.as_bytes());
        message(out, record.raw);
        if received.piece {
            out.extend_from_slice(b",\"piece\":true");
        }
        if received.is_unparsed() {
            out.extend_from_slice(b",\"unparsed\":true");
        }
    }
}

/// `","raw":"…"` where the message is UTF-8, else `","raw_b64":"…"`.
#[inline]
fn message(out: &mut Vec<u8>, raw: &[u8]) {
    if std::str::from_utf8(raw).is_ok() {
        out.extend_from_slice(b"\",\"raw\":\"");
        escaped(out, raw);
    } else {
        out.extend_from_slice(b"\",\"raw_b64\":\"");
        append_base64(out, raw);
    }
    out.push(b'"');
}

/// Appends the inside of a JSON string (RFC 8259, 7). `text` is UTF-8. A chunk without a byte that needs an escape is
/// copied whole, and found so sixteen bytes at a time.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "`|` and `&` leave no branch, so that sixteen bytes are looked at at a time"
)]
#[inline]
pub(crate) fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.chunks(64) {
        let plain = chunk.iter().fold(true, |plain, &byte| plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\'));
        if plain {
            out.extend_from_slice(chunk);
        } else {
            for &byte in chunk {
                escape_byte(out, byte);
            }
        }
    }
}

fn escape_byte(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0..0x20 => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        _ => out.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use raven_model::query::RecordView;
    use raven_model::record::Received;
    use raven_model::units::UnixNanos;

    fn received() -> Received {
        Received {
            piece: true,
            ..Received::new("[2001:db8::7]:40000".parse().expect("valid"), 1, UnixNanos(1_795_307_753_123_456_789))
        }
    }

    fn line(raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Ndjson::new("arena-north", "syslog").line(
            &mut out,
            Seq(7),
            &Record { received: received(), raw },
            "tcp:[::]:601",
        );
        out
    }

    #[test]
    fn a_line_has_the_documented_fields() {
        let expected = "{\"dev\":\"arena-north\",\"stream\":\"syslog\",\"seq\":7,\"received_ns\":1795307753123456789,\
                        \"source\":{\"addr\":\"2001:db8::7\",\"port\":40000},\"listener\":\"tcp:[::]:601\",\"raw\":\"hi \\\"you\\\"\",\"piece\":true}\n";
        assert_eq!(String::from_utf8(line(b"hi \"you\"")).expect("text"), expected);
    }

    #[test]
    fn a_webhook_gets_an_alert_with_its_own_fields_and_anything_else_as_raw() {
        let document = |stream: &str, raw: &str| {
            let mut out = Vec::new();
            let record = Record { received: received(), raw: raw.as_bytes() };
            Ndjson::new("arena", stream).document(&mut out, Seq(7), &record, "");
            serde_json::from_slice::<serde_json::Value>(&out).expect("one object")
        };
        let alert = r#"{"t":9,"alert":"drops","subject":"s","state":"firing","severity":"warning","since_ns":7,"value":3,"text":"lost"}"#;
        let told = document("alert", alert);
        assert_eq!((&told["text"], &told["dev"], &told["seq"]), (&"lost".into(), &"arena".into(), &7.into()));
        assert_eq!(document("alert", "{\"t\":9}")["raw"], "{\"t\":9}");
        assert_eq!(document("syslog", alert)["raw"], alert, "a sender's text stays text");
    }

    proptest! {
        #[test]
        fn any_message_comes_back_byte_for_byte(raw in prop::collection::vec(any::<u8>(), 0..300)) {
            let view: RecordView = serde_json::from_slice(&line(&raw)).expect("JSON");
            let back = view.raw.map(String::into_bytes).or_else(|| view.raw_b64.map(|b| STANDARD.decode(b).expect("base64")));
            prop_assert_eq!(back, Some(raw));
        }

        #[test]
        fn any_text_comes_back_byte_for_byte(raw in "[\\x00-\\x7fäß€\u{10ffff}]{0,200}") {
            let view: RecordView = serde_json::from_slice(&line(raw.as_bytes())).expect("JSON");
            prop_assert_eq!(view.raw, Some(raw));
        }
    }
}
