//! The envelope of one line: which record of which stream of which device it carries.

use super::Shape;
use serde::Deserialize;
use std::borrow::Cow;

/// Longest line that is looked at: 64 KiB of control characters, escaped for JSON, raw and decoded, and then some.
pub const LINE_MAX: usize = 4 << 20;

/// Before the parameters (RFC 5424, 6.3.2; 32473 is the enterprise number for documentation, RFC 5612).
const START: &[u8] = b"[raven@32473 ";

/// Which record a line carries.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Device.
    pub dev: Cow<'a, str>,
    /// Stream.
    pub stream: Cow<'a, str>,
    /// Position in it.
    pub seq: u64,
}

#[derive(Deserialize)]
struct JsonEnvelope<'a> {
    #[serde(borrow, default)]
    dev: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    seq: u64,
}

impl<'a> Envelope<'a> {
    /// The envelope of a line. What a message holds comes after its envelope, so the first one counts.
    pub fn find(line: &'a [u8], shape: Shape) -> Option<Self> {
        let json = shape == Shape::Ndjson || (shape == Shape::Auto && line.first() == Some(&b'{'));
        if json { Self::of_json(line) } else { Self::of_rsyslog(line) }
    }

    fn of_json(line: &'a [u8]) -> Option<Self> {
        let JsonEnvelope { dev, stream, seq } = serde_json::from_slice(line).ok()?;
        Some(Self { dev, stream, seq })
    }

    fn of_rsyslog(line: &'a [u8]) -> Option<Self> {
        let at = memchr::memmem::find(line, START)?;
        let (mut dev, mut stream, mut seq) = (None, None, None);
        let mut rest = &line[at + START.len()..];
        while rest.first() != Some(&b']') {
            let (name, value, after) = parameter(rest)?;
            match name {
                b"dev" => dev = Some(value),
                b"stream" => stream = Some(value),
                b"seq" => seq = value.parse().ok(),
                _ => {}
            }
            rest = after;
        }
        Some(Self { dev: dev?, stream: stream?, seq: seq? })
    }
}

/// `NAME="VALUE"` and what follows it, without the space between parameters.
fn parameter(text: &[u8]) -> Option<(&[u8], Cow<'_, str>, &[u8])> {
    let equals = memchr::memchr(b'=', text)?;
    let (name, rest) = text.split_at(equals);
    let value = rest.strip_prefix(b"=\"")?;
    let (value, rest) = value.split_at(value_end(value)?);
    let rest = rest.strip_prefix(b"\"")?;
    Some((name, plain(value)?, rest.strip_prefix(b" ").unwrap_or(rest)))
}

/// The closing quote: the first that no backslash stands before (RFC 5424, 6.3.3).
fn value_end(value: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match value.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn plain(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = str::from_utf8(value).ok()?;
    if !text.contains('\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        match (c, letters.as_str().chars().next()) {
            ('\\', Some(next @ ('"' | '\\' | ']'))) => {
                out.push(next);
                letters.next();
            }
            _ => out.push(c),
        }
    }
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(line: &str) -> Option<(String, String, u64)> {
        Envelope::find(line.as_bytes(), Shape::Auto).map(|e| (e.dev.into_owned(), e.stream.into_owned(), e.seq))
    }

    #[test]
    fn an_envelope_is_found_in_both_shapes() {
        let expected = Some(("a]\"b".to_owned(), "syslog".to_owned(), 7));
        assert_eq!(
            found(r#"<13>1 - h raven - - [raven@32473 dev="a\]\"b" stream="syslog" seq="7" rx="x"] <13>hello"#),
            expected
        );
        assert_eq!(found(r#"{"raw":"x","dev":"a]\"b","seq":7,"stream":"syslog","received_ns":1}"#), expected);
    }

    #[test]
    fn an_envelope_inside_a_message_does_not_count() {
        let line = r#"[raven@32473 dev="a" stream="s" seq="7"] evil [raven@32473 dev="a" stream="s" seq="8"]"#;
        assert_eq!(found(line), Some(("a".to_owned(), "s".to_owned(), 7)));
    }

    #[test]
    fn half_an_envelope_is_none() {
        for line in [
            "",
            "{",
            "[raven@32473 ",
            r#"[raven@32473 dev="a" stream="s"]"#,
            r#"[raven@32473 dev="a" stream="s" seq="x"]"#,
            r#"[raven@32473 dev="a\"#,
            r#"{"dev":"a","stream":"s"}"#,
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(tail in prop::collection::vec(any::<u8>(), 0..80)) {
            let line = [START, &tail].concat();
            let _ = Envelope::find(&line, Shape::Auto);
            let _ = Envelope::find(&tail, Shape::Auto);
        }
    }
}
