//! Messages that are not plain UTF-8 on one line, and stamps that leave something out.

#![allow(clippy::unwrap_used)]

mod support;

use raven_decode::{Reject, syslog};
use raven_model::query::{Assumed, Syslog};
use raven_model::units::UnixNanos;

/// 2026-11-21T22:44:20Z.
const RECEIVED: UnixNanos = UnixNanos(1_795_301_060_000_000_000);

/// Header fields and message.
fn parts(syslog: &Syslog) -> [Option<&str>; 3] {
    [&syslog.hostname, &syslog.app_name, &syslog.message].map(|field| field.as_deref())
}

/// A header of RFC 3164 around bytes.
fn message(bytes: &[u8]) -> Vec<u8> {
    [b"<13>Nov 21 20:15:07 stage su: ", bytes].concat()
}

#[test]
fn text_in_another_encoding_leaves_the_header_readable() {
    for (encoding, bytes, shown) in [
        ("Latin-1", &b"T\xfcr ge\xf6ffnet"[..], "T\u{fffd}r ge\u{fffd}ffnet"),
        ("Windows-1252", b"5 \x80", "5 \u{fffd}"),
        ("GBK", b"\xc4\xe3\xba\xc3 ok", "\u{fffd}\u{fffd}\u{fffd} ok"),
        ("UTF-8, cut", b"ge\xc3", "ge\u{fffd}"),
        ("surrogates", b"\xed\xa0\xbd!", "\u{fffd}\u{fffd}\u{fffd}!"),
        ("overlong", b"\xc0\xaf!", "\u{fffd}\u{fffd}!"),
        ("UTF-16LE", b"o\0k\0", "o\0k"),
        ("UTF-8", "T\u{fc}r \u{4f60}".as_bytes(), "T\u{fc}r \u{4f60}"),
    ] {
        let reading = syslog(&message(bytes), RECEIVED);
        assert_eq!(reading.reject, None, "{encoding}");
        assert_eq!(parts(&reading.syslog), [Some("stage"), Some("su"), Some(shown)], "{encoding}");
        let json = serde_json::to_string(&reading.syslog).unwrap();
        assert!(!json.contains(char::is_control), "control characters are escaped: {encoding}");
    }
}

#[test]
fn a_hostname_or_tag_in_another_encoding_costs_no_other_field() {
    let reading = syslog(b"<13>1 2026-11-21T20:15:07Z stage su - - - \xef\xbb\xbfT\xfcr", RECEIVED);
    assert_eq!(parts(&reading.syslog), [Some("stage"), Some("su"), Some("T\u{fffd}r")]);
    let reading = syslog(b"<13>Nov 21 20:15:07 stage B\xfchne: up", RECEIVED);
    assert_eq!(parts(&reading.syslog), [Some("stage"), Some("B\u{fffd}hne"), Some("up")]);
}

#[test]
fn a_message_in_utf16_is_told_from_syslog() {
    let text: Vec<u8> = "<13>Nov 21 20:15:07 stage su: x".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(syslog(&text, RECEIVED).reject, Some(Reject::Pri));
    let marked = [&b"\xff\xfe"[..], &text].concat();
    assert_eq!(syslog(&marked, RECEIVED).reject, Some(Reject::NoPriNoTimestamp));
}

#[test]
fn a_byte_order_mark_before_the_pri_is_left_out() {
    for text in ["<13>Nov 21 20:15:07 stage su: x", "<13>1 2026-11-21T20:15:07Z stage su - - - x"] {
        let marked = format!("\u{feff}{text}");
        assert_eq!(syslog(marked.as_bytes(), RECEIVED), syslog(text.as_bytes(), RECEIVED));
    }
    assert_eq!(syslog("\u{feff}".as_bytes(), RECEIVED).reject, Some(Reject::Empty));
}

#[test]
fn lines_of_one_message_stay_together() {
    for text in ["first\nsecond", "java.lang.Error\r\n\tat a.B\r\n\tat c.D", "a\n\nb"] {
        let reading = syslog(&message(format!("{text}\r\n").as_bytes()), RECEIVED);
        assert_eq!(parts(&reading.syslog), [Some("stage"), Some("su"), Some(text)]);
        let modern = format!("<13>1 2026-11-21T20:15:07Z stage su - - - {text}\n");
        assert_eq!(parts(&syslog(modern.as_bytes(), RECEIVED).syslog), [Some("stage"), Some("su"), Some(text)]);
    }
}

#[test]
fn what_a_stamp_leaves_out_is_told() {
    use Assumed::{Year, Zone};
    for (text, assumed) in [
        ("<13>Nov 21 20:15:07 stage su: x", &[Year, Zone][..]),
        ("<13>Nov 21 20:15:07 CET stage su: x", &[Year]),
        ("<13>Nov 21 2026 20:15:07 stage su: x", &[Zone]),
        ("<13>Nov 21 20:15:07 2026 stage su: x", &[Zone]),
        ("<13>Nov 21 2026 20:15:07 IST: %SYS-5-CONFIG_I: x", &[Zone]), // a name with several meanings
        ("<13>2026-11-21T20:15:07 stage su: x", &[Zone]),
        ("<13>2026-11-21T20:15:07+01:00 stage su: x", &[]),
        ("<13>1 2026-11-21T20:15:07.5Z stage su - - - x", &[]),
        ("<13>1 - stage su - - - x", &[]),
        ("<134>1 1795292107.123456 mx events type=vpn", &[]),
        ("<13>date=2026-11-21 time=20:15:07 devname=fw a=b", &[Zone]),
        ("<13>date=2026-11-21 time=20:15:07 devname=fw tz=\"-0500\" a=b", &[]),
        ("<189>42: *Nov 21 20:15:07.123: %SYS-5-CONFIG_I: x", &[Year, Zone]),
        ("<13>hello", &[]),
    ] {
        assert_eq!(syslog(text.as_bytes(), RECEIVED).syslog.assumed, assumed, "{text}");
    }
}

#[test]
fn nothing_assumed_is_not_shown() {
    let json = |text: &str| serde_json::to_value(syslog(text.as_bytes(), RECEIVED).syslog).unwrap();
    assert_eq!(json("<13>Nov 21 20:15:07 stage su: x")["assumed"], serde_json::json!(["year", "zone"]));
    assert_eq!(json("<13>1 2026-11-21T20:15:07Z stage su - - - x").get("assumed"), None);
}

#[test]
fn what_is_told_of_the_corpus_is_what_its_stamps_leave_out() {
    let Some(corpus) = support::corpus() else { return };
    let (mut whole, mut year, mut zone) = (0, 0, 0);
    for message in support::messages(&corpus) {
        let syslog = syslog(&message.raw, RECEIVED).syslog;
        let assumed = |part| syslog.assumed.contains(&part);
        whole += usize::from(syslog.timestamp.is_some() && syslog.assumed.is_empty());
        year += usize::from(assumed(Assumed::Year));
        zone += usize::from(assumed(Assumed::Zone));
        if let Some(stamp) = &syslog.timestamp {
            assert!(!assumed(Assumed::Zone) || stamp.ends_with('Z'), "{stamp}");
        }
    }
    eprintln!("{whole} stamps in full, {year} without a year, {zone} without a zone");
    assert!(whole > 0 && year > 0 && zone >= year / 2);
}
