//! Whatever arrives: no panic, nothing made up, no more out than went in.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use raven_decode::{Reading, syslog};
use raven_model::units::UnixNanos;
use std::time::{Duration, Instant};

/// 2026-11-21T22:44:20Z.
const RECEIVED: UnixNanos = UnixNanos(1_795_301_060_000_000_000);

/// A byte that is not UTF-8 becomes three.
const LOSSY: usize = 3;

fn check(raw: &[u8]) -> Reading {
    let reading = syslog(raw, RECEIVED);
    let fields = &reading.syslog;
    let texts = [&fields.hostname, &fields.app_name, &fields.procid, &fields.msgid, &fields.message];
    let data = fields.structured_data.iter().flatten();
    let data: usize =
        data.map(|(id, params)| id.len() + params.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()).sum();
    let size = texts.iter().filter_map(|text| text.as_ref()).map(String::len).sum::<usize>() + data;
    assert!(size <= raw.len() * LOSSY, "{size} bytes read from {}", raw.len());
    assert!(texts.iter().all(|text| text.as_deref() != Some("")), "an empty field is null: {reading:?}");
    assert_eq!(fields.facility.is_some(), fields.severity.is_some());
    assert!(
        fields.facility.is_none_or(|facility| facility <= 23) && fields.severity.is_none_or(|severity| severity <= 7)
    );
    assert!(fields.rfc.is_some() || reading.reject.is_some(), "what matches no grammar says why: {reading:?}");
    if let Some(stamp) = &fields.timestamp {
        assert!(support::is_rfc3339(stamp), "{stamp}");
    }
    assert!(fields.timestamp.is_some() || fields.assumed.is_empty());
    reading
}

#[test]
fn every_message_of_the_corpus_can_be_cut_at_every_byte() {
    let Some(corpus) = support::corpus() else { return };
    for message in support::messages(&corpus) {
        for end in 0..=message.raw.len() {
            check(&message.raw[..end]);
        }
    }
}

#[test]
fn every_message_of_the_corpus_survives_flipped_bits() {
    let Some(corpus) = support::corpus() else { return };
    for mut message in support::messages(&corpus) {
        for at in 0..message.raw.len().min(96) {
            for bit in 0..8 {
                message.raw[at] ^= 1 << bit;
                check(&message.raw);
                message.raw[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn the_largest_messages_take_no_more_than_linear_time() {
    let head = "<13>1 - - - - - ";
    let shapes = [
        ("", "["),
        ("", "<"),
        ("", ":"),
        ("", "1: "),
        ("", "a: "),
        ("", "*"),
        ("", " "),
        ("", "a="),
        ("", "Oct 11 22:14:15 "),
        ("<13>", "a=\"\" "),
        ("<13>Oct 11 22:14:15 h ", "a"),
        ("<13>Oct 11 22:14:15 ", ","),
        ("<13>Oct 11 22:14:15 ", "info "),
        (head, "["),
        (head, "[a"),
        (head, "[a]"),
        (head, "[a b=\"\\"),
        (head, "[a b=\"c\"]"),
    ];
    let start = Instant::now();
    for (head, unit) in shapes {
        check((head.to_owned() + &unit.repeat(65_536 / unit.len())).as_bytes());
    }
    for param in [" a=\"b\"", " a=\"\"", " ip=\"192.0.2.1\" ip=\"192.0.2.2\""] {
        check(format!("{head}[x{}]", param.repeat(65_000 / param.len())).as_bytes());
    }
    // A debug build takes some 100 ms; quadratic work would take minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// Pieces that the grammars are made of, so that random order gets deep into them.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "<34>",
            "<191>",
            "<192>",
            "1 ",
            "-",
            " ",
            "  ",
            ":",
            ": ",
            "[",
            "]",
            "\"",
            "\\",
            "=",
            ",",
            "%",
            "*",
            "\n",
            "\0",
            "2003-10-11T22:14:15.003Z",
            "Oct 11 22:14:15",
            "Feb 29 23:59:60",
            "2018 Apr 20 13:15:07",
            "1795292107.123456 ",
            "2018-7-23 01:00:34.270.1",
            "2018-Nov- 9 15:41:30",
            " CEST",
            " IST",
            "+05:30",
            "host",
            "10.0.0.1",
            "2001:db8::7",
            "sshd[12]",
            "%LINK-5-CHANGED",
            "RP/0/RSP1/CPU0:",
            "node0:",
            "3d05h: ",
            "00:01:01: ",
            "1179: ",
            "*task: ",
            "date=2019-04-09 ",
            "time=04:27:29 ",
            "devname=fw ",
            "tz=\"-0500\" ",
            "[a b=\"c\"]",
            "info ",
            "7f3a,f09fc26f4419,v4.0",
            "\u{feff}",
            "\u{e9}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..4),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read(raw in prop::collection::vec(any::<u8>(), 0..512)) {
        check(&raw);
    }

    #[test]
    fn any_order_of_pieces_is_read(pieces in prop::collection::vec(piece(), 0..24), received: u64) {
        let raw = pieces.concat();
        check(&raw);
        syslog(&raw, UnixNanos(received));
    }

    #[test]
    fn a_5424_message_reads_back_as_written(
        pri in 0_u8..192,
        fields in prop::array::uniform4("[!-,.-9;-~][!-9;-~]{0,20}"),
        value in "[ -~]{0,40}",
        message in "[!-~][ -~]{0,80}",
    ) {
        let [host, app, procid, msgid] = &fields;
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
        let raw = format!("<{pri}>1 2003-10-11T22:14:15.003-07:00 {host} {app} {procid} {msgid} [id@1 k=\"{escaped}\"] {message}");
        let Reading { syslog, reject } = check(raw.as_bytes());
        prop_assert_eq!(reject, None);
        prop_assert_eq!((syslog.facility, syslog.severity), (Some(pri / 8), Some(pri % 8)));
        prop_assert_eq!(syslog.timestamp.as_deref(), Some("2003-10-11T22:14:15.003-07:00"));
        let read = [&syslog.hostname, &syslog.app_name, &syslog.procid, &syslog.msgid].map(|field| field.clone().unwrap());
        prop_assert_eq!(&read, &fields);
        prop_assert_eq!(&syslog.structured_data.unwrap()["id@1"]["k"], &value);
        prop_assert_eq!(syslog.message.as_deref(), Some(&*message));
    }
}
