//! The RFC 5424 message that carries a record to a syslog receiver. `docs/formats.md` is its specification.
//!
//! A record travels as it was received, behind the header. Only bytes that rsyslog would alter (control characters:
//! it escapes or cuts them) make the whole record travel in base64, marked `enc="b64"`.

use crate::text::{self, Stamp};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use raven_model::alert::AlertRecord;
use raven_model::record::Record;
use raven_model::stream::Stream;
use raven_model::units::Seq;

/// Priority of a message that brings none: user.notice (RFC 5424, 6.2.1; the default of RFC 3164, 4.3.3).
const DEFAULT_PRI: &[u8] = b"13";

/// Writes envelopes of one device and stream.
#[derive(Debug)]
pub struct Envelope {
    /// ` raven - - [raven@32473 dev="…" stream="…" seq="`.
    opening: Vec<u8>,
    /// Alerts bring their severity in their text.
    of_alerts: bool,
    stamp: Stamp,
    head: Vec<u8>,
}

/// An envelope's header, to be followed by [`Sealed::body_len`] bytes of body.
#[derive(Debug)]
pub struct Sealed<'a> {
    head: &'a [u8],
    raw: &'a [u8],
    base64: bool,
}

impl Envelope {
    /// For the records of `stream`, received by `device`.
    pub fn new(device: &str, stream: &str) -> Self {
        let mut opening = b" raven - - [raven@32473 dev=\"".to_vec();
        value(&mut opening, device);
        opening.extend_from_slice(b"\" stream=\"");
        value(&mut opening, stream);
        opening.extend_from_slice(b"\" seq=\"");
        Self {
            opening,
            of_alerts: stream == Stream::Alert.name(),
            stamp: Stamp::default(),
            head: Vec::with_capacity(512),
        }
    }

    /// Puts a record into its envelope.
    #[inline]
    pub fn seal<'a>(&'a mut self, seq: Seq, record: &Record<'a>, listener: &str) -> Sealed<'a> {
        let received = &record.received;
        let base64 = would_be_altered(record.raw);
        let head = &mut self.head;
        head.clear();
        head.push(b'<');
        match alert_priority(self.of_alerts, record.raw) {
            Some(priority) => text::decimal(head, u64::from(priority)),
            None => head.extend_from_slice(priority(record.raw)),
        }
        head.extend_from_slice(b">1 ");
        self.stamp.write(head, received.wall);
        head.push(b' ');
        let source = head.len();
        text::address(head, received.source.ip());
        let source = source..head.len();
        head.extend_from_slice(&self.opening);
        text::decimal(head, seq.0);
        head.extend_from_slice(b"\" rx=\"");
        text::decimal(head, received.wall.0);
        head.extend_from_slice(b"\" src=\"");
        head.extend_from_within(source);
        head.extend_from_slice(b"\" port=\"");
        text::decimal(head, u64::from(received.source.port()));
        head.extend_from_slice(b"\" listener=\"");
        value(head, listener);
        for (on, flag) in [
            (base64, &b"\" enc=\"b64"[..]),
            (received.piece, b"\" piece=\"1"),
            (received.is_unparsed(), b"\" unparsed=\"1"),
        ] {
            if on {
                head.extend_from_slice(flag);
            }
        }
        head.extend_from_slice(b"\"] ");
        Sealed { head, raw: record.raw, base64 }
    }
}

impl Sealed<'_> {
    /// Bytes of the whole message.
    pub const fn len(&self) -> usize {
        self.head.len() + self.body_len()
    }

    /// Never: a message has a header.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of the body as it travels.
    pub const fn body_len(&self) -> usize {
        if self.base64 { self.raw.len().div_ceil(3) * 4 } else { self.raw.len() }
    }

    /// Appends the whole message.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head);
        if self.base64 {
            append_base64(out, self.raw);
        } else {
            out.extend_from_slice(self.raw);
        }
    }
}

/// Appends RFC 4648 base64 with padding.
pub(crate) fn append_base64(out: &mut Vec<u8>, raw: &[u8]) {
    let start = out.len();
    out.resize(start + raw.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(raw, &mut out[start..]).expect("the room was made for it");
    debug_assert_eq!(written, out.len() - start);
}

/// Appends a parameter value; `"`, `\` and `]` are escaped (RFC 5424, 6.3.3).
fn value(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\' | b']') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// The priority of an alert, where it is one.
pub(crate) fn alert_priority(of_alerts: bool, raw: &[u8]) -> Option<u8> {
    of_alerts.then(|| AlertRecord::read(raw).ok()).flatten().map(|alert| alert.priority())
}

/// The digits of a leading `<0>` to `<191>`. Looks at five bytes at most.
#[inline]
pub(crate) fn priority(raw: &[u8]) -> &[u8] {
    let digits =
        raw.strip_prefix(b"<").map_or(0, |rest| rest.iter().take(3).take_while(|b| b.is_ascii_digit()).count());
    let number = raw.get(1..=digits).unwrap_or_default();
    let closed = raw.get(digits + 1) == Some(&b'>');
    let value = number.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
    let canonical = digits == 1 || number.first() != Some(&b'0');
    if digits > 0 && closed && value <= 191 && canonical { number } else { DEFAULT_PRI }
}

/// Control characters and DEL. Folds whole chunks, which the compiler does sixteen bytes at a time.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "`|` and `&` leave no branch, so that sixteen bytes are looked at at a time"
)]
#[inline]
fn would_be_altered(raw: &[u8]) -> bool {
    raw.chunks(64).any(|chunk| chunk.iter().fold(false, |found, &byte| found | (byte < 0x20) | (byte == 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::record::{FrameKind, Received};
    use raven_model::units::UnixNanos;

    fn received() -> Received {
        Received::new("192.0.2.7:40000".parse().expect("valid"), 1, UnixNanos(1_795_307_753_123_456_789))
    }

    fn sealed(received: Received, raw: &[u8]) -> String {
        let mut envelope = Envelope::new("arena-north", "syslog");
        let record = Record { received, raw };
        let message = envelope.seal(Seq(42), &record, "udp:[::]:514");
        let mut out = Vec::new();
        message.write(&mut out);
        assert_eq!(out.len(), message.len());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_plain_message_travels_as_it_is_behind_its_origin() {
        assert_eq!(
            sealed(received(), b"<34>su: failed"),
            "<34>1 2026-11-22T00:35:53.123456Z 192.0.2.7 raven - - [raven@32473 dev=\"arena-north\" stream=\"syslog\" seq=\"42\" \
             rx=\"1795307753123456789\" src=\"192.0.2.7\" port=\"40000\" listener=\"udp:[::\\]:514\"] <34>su: failed"
        );
    }

    #[test]
    fn a_message_that_the_receiver_would_alter_travels_in_base64() {
        for raw in [&b"a\nb"[..], b"end\n", b"nul\0", b"tab\t", b"\x1b[0m", b"del\x7f"] {
            assert!(sealed(received(), raw).ends_with(&format!(" enc=\"b64\"] {}", STANDARD.encode(raw))), "{raw:?}");
        }
        for raw in [&b""[..], b" ", "grün".as_bytes(), b"a ]\\\" b"] {
            assert!(!sealed(received(), raw).contains("enc="), "{raw:?}");
        }
    }

    #[test]
    fn an_alert_has_the_priority_of_its_severity_and_a_senders_text_has_not() {
        let raw = br#"{"t":9,"alert":"lag","subject":"noc","state":"firing","severity":"critical","since_ns":7,"value":3,"text":"x"}"#;
        let sealed = |stream: &str| {
            let mut envelope = Envelope::new("arena", stream);
            let mut out = Vec::new();
            envelope.seal(Seq(1), &Record { received: received(), raw }, "").write(&mut out);
            String::from_utf8(out).expect("text")
        };
        assert!(sealed("alert").starts_with("<26>1 ") && sealed("syslog").starts_with("<13>1 "));
    }

    #[test]
    fn a_piece_and_an_unparsed_record_say_so() {
        let text = sealed(Received { piece: true, kind: FrameKind::Unparsed, ..received() }, b"x");
        assert!(text.ends_with("listener=\"udp:[::\\]:514\" piece=\"1\" unparsed=\"1\"] x"), "{text}");
    }

    #[test]
    fn the_priority_is_the_messages_own_or_user_notice() {
        for (raw, pri) in [
            ("<0>x", "0"),
            ("<191>x", "191"),
            ("<192>x", "13"),
            ("<013>x", "13"),
            ("<00>x", "13"),
            ("<>x", "13"),
            ("<34", "13"),
            ("<1234>x", "13"),
            ("x<34>", "13"),
            ("", "13"),
            ("<", "13"),
            ("<-1>", "13"),
        ] {
            assert_eq!(priority(raw.as_bytes()), pri.as_bytes(), "{raw}");
        }
    }
}
