//! Every message of the corpus against what other decoders read from it, field by field.
//!
//! Three decoders: rsyslog 8.2302, the expectations in go-syslog's own tests, and those in napalm-logs's. Where Raven
//! reads something else, `disagreements.tsv` says so with the reason; a disagreement that is not listed fails the test,
//! and so does a listed one that is gone. What is compared:
//!
//! - facility and severity: always; null where the message has no PRI.
//! - timestamp and hostname: where rsyslog took them from the message. Its `+00:00` and our `Z` count as the same.
//! - tag, process id and message of RFC 3164: where rsyslog took the timestamp from the message, which shows that it
//!   found the header. Spaces before the message do not count: rsyslog keeps them, Raven does not.
//! - app name, process id, message id, structured data and message of RFC 5424: where rsyslog took the header for one
//!   of RFC 5424 too, that is VERSION 1 and a timestamp that it likes. Exactly; nil and empty count as null.
//! - go-syslog: what its tests hold valid. napalm-logs: hostname, day and time of day (its years are made up).
//!
//! `RAVEN_DISAGREEMENTS=<file>` writes the list as it is now, with the reasons that are known.

#![allow(clippy::unwrap_used)]

mod support;

use raven_model::query::Syslog;
use raven_model::units::UnixNanos;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The middle of the year in which rsyslog received the corpus, 2026-07-02T12:00:00Z. It puts a stamp without a year
/// into the year that its clock shows; seen from here, that is the nearest one too. (Received on 21 November, as it
/// was, Raven would take a stamp of January to May for one of 2027.)
const RECEIVED: UnixNanos = UnixNanos(1_782_993_600_000_000_000);

type Elements = BTreeMap<String, BTreeMap<String, String>>;

/// File, index, field, decoder, ours, theirs.
type Row = [String; 6];

struct Compare {
    file: String,
    index: usize,
    rows: Vec<Row>,
}

impl Compare {
    fn field(&mut self, field: &str, oracle: &str, ours: &Value, theirs: &Value) {
        if ours != theirs {
            let at = [&self.file, &self.index.to_string(), field, oracle].map(str::to_owned);
            let [file, index, field, oracle] = at;
            self.rows.push([file, index, field, oracle, short(ours), short(theirs)]);
        }
    }
}

/// Enough of a value to tell it from another.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(48) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Nil, empty and absent are one.
fn or_null(value: &Value) -> Value {
    if value == "-" || value == "" { Value::Null } else { value.clone() }
}

fn utc(value: &Value) -> Value {
    value.as_str().map_or(Value::Null, |text| text.replace("+00:00", "Z").into())
}

fn against_rsyslog(compare: &mut Compare, ours: &Syslog, expected: &Value) {
    let theirs = &expected["rsyslog"];
    let number = |field: &str| match &expected["pri"] {
        Value::Null => Value::Null,
        _ => theirs[field].as_str().unwrap().parse::<u8>().unwrap().into(),
    };
    compare.field("facility", "rsyslog", &ours.facility.into(), &number("facility"));
    compare.field("severity", "rsyslog", &ours.severity.into(), &number("severity"));
    if expected["timestamp_from_message"] == true {
        compare.field("timestamp", "rsyslog", &utc(&ours.timestamp.clone().into()), &utc(&theirs["timestamp"]));
    }
    if expected["hostname_from_message"] == true {
        compare.field("hostname", "rsyslog", &ours.hostname.clone().into(), &or_null(&theirs["hostname"]));
    }
    // Where it gives up a header of RFC 5424, rsyslog says VERSION 1 and an APP-NAME that is empty, not nil.
    let is_5424 = theirs["version"] == "1" && theirs["appname"] != "";
    let is_3164 = theirs["version"] == "0" && expected["timestamp_from_message"] == true;
    if !is_5424 && !is_3164 {
        return;
    }
    compare.field("app_name", "rsyslog", &ours.app_name.clone().into(), &or_null(&theirs["appname"]));
    compare.field("procid", "rsyslog", &ours.procid.clone().into(), &or_null(&theirs["procid"]));
    compare.field("msgid", "rsyslog", &ours.msgid.clone().into(), &or_null(&theirs["msgid"]));
    let data = theirs["sd"].as_str().and_then(elements);
    let unread = data.is_none() && theirs["sd"] != "-";
    let theirs_data = if unread { theirs["sd"].clone() } else { serde_json::to_value(data).unwrap() };
    compare.field("structured_data", "rsyslog", &serde_json::to_value(&ours.structured_data).unwrap(), &theirs_data);
    let message = Value::from(ours.message.clone());
    let theirs = theirs["msg"].as_str().unwrap();
    let theirs = if is_3164 { theirs.trim_start_matches(' ') } else { theirs };
    compare.field("message", "rsyslog", &message, &Some(theirs).filter(|text| !text.is_empty()).into());
}

fn against_go_syslog(compare: &mut Compare, ours: &Syslog, theirs: &Value) {
    if theirs["valid"] != true {
        return;
    }
    let pri = ours.facility.zip(ours.severity).map(|(facility, severity)| facility * 8 + severity);
    compare.field("facility", "go-syslog", &pri.into(), &theirs["priority"]);
    compare.field("hostname", "go-syslog", &ours.hostname.clone().into(), &theirs["hostname"]);
    compare.field("app_name", "go-syslog", &ours.app_name.clone().into(), &theirs["appname"]);
    compare.field("procid", "go-syslog", &ours.procid.clone().into(), &theirs["procid"]);
    if compare.file.contains("rfc5424") {
        compare.field("rfc", "go-syslog", &ours.rfc.clone().into(), &"5424".into());
        compare.field("msgid", "go-syslog", &ours.msgid.clone().into(), &theirs["msgid"]);
        compare.field("timestamp", "go-syslog", &utc(&ours.timestamp.clone().into()), &utc(&theirs["timestamp"]));
    }
}

fn against_napalm(compare: &mut Compare, ours: &Syslog, theirs: &Value) {
    compare.field("hostname", "napalm-logs", &ours.hostname.clone().into(), &theirs["host"]);
    let details = &theirs["message_details"];
    let date = details["date"].as_str().unwrap();
    let day: u8 = date.rsplit(['-', ' ']).next().unwrap().parse().unwrap();
    let expected = format!("{day:02}T{}", &details["time"].as_str().unwrap()[..8]);
    let found = ours.timestamp.as_deref().and_then(|stamp| stamp.get(8..19));
    compare.field("timestamp", "napalm-logs", &found.into(), &expected.into());
}

/// Structured data as rsyslog prints it, read a character at a time; `None` for what is no list of elements.
fn elements(text: &str) -> Option<Elements> {
    let mut elements = Elements::new();
    let mut chars = text.chars().peekable();
    while chars.next_if_eq(&'[').is_some() {
        let mut id = String::new();
        while let Some(c) = chars.next_if(|c| !matches!(c, ' ' | ']')) {
            id.push(c);
        }
        let params = elements.entry(id.clone()).or_default();
        while chars.next_if_eq(&' ').is_some() {
            let name: String = std::iter::from_fn(|| chars.next_if(|c| !matches!(c, '=' | ']' | '"'))).collect();
            chars.next_if_eq(&'=')?;
            chars.next_if_eq(&'"')?;
            let mut value = String::new();
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => value.push(chars.next_if(|c| matches!(c, '"' | '\\' | ']')).unwrap_or('\\')),
                    c => value.push(c),
                }
            }
            params.insert(name, value);
        }
        chars.next_if_eq(&']').filter(|_| !id.is_empty())?;
    }
    (chars.next().is_none() && !elements.is_empty()).then_some(elements)
}

fn found(syslog: &Path) -> Vec<Row> {
    let mut expectations: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut rows = Vec::new();
    let messages = support::messages(syslog);
    for message in &messages {
        let path = syslog.join("expected").join(format!("{}.jsonl", message.file));
        let expected =
            &expectations.entry(message.file.clone()).or_insert_with(|| support::json_lines(&path))[message.index];
        let ours = raven_decode::syslog(&message.raw, RECEIVED).syslog;
        let mut compare = Compare { file: message.file.clone(), index: message.index, rows: Vec::new() };
        if !expected["rsyslog"].is_null() {
            against_rsyslog(&mut compare, &ours, expected);
        }
        against_go_syslog(&mut compare, &ours, &expected["go_syslog"]);
        if !expected["napalm_golden"].is_null() {
            against_napalm(&mut compare, &ours, &expected["napalm_golden"]);
        }
        rows.append(&mut compare.rows);
    }
    eprintln!("{} messages compared, {} disagreements", messages.len(), rows.len());
    rows
}

/// The rows of `disagreements.tsv` and their reasons.
fn listed() -> BTreeMap<Row, String> {
    let text = include_str!("disagreements.tsv");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
            let (reason, row) = cells.split_last().unwrap();
            let row: Row = row.to_vec().try_into().unwrap_or_else(|_| panic!("seven columns expected: {line}"));
            (row, reason.clone())
        })
        .collect()
}

fn write_list(path: &Path, rows: &[Row], reasons: &BTreeMap<Row, String>) {
    let head = include_str!("disagreements.tsv").lines().filter(|line| line.starts_with('#'));
    let lines = rows.iter().map(|row| format!("{}\t{}", row.join("\t"), reasons.get(row).map_or("", String::as_str)));
    let text: Vec<String> = head.map(str::to_owned).chain(lines).collect();
    std::fs::write(path, text.join("\n") + "\n").unwrap();
}

#[test]
fn disagreements_with_other_decoders_are_the_listed_ones() {
    let Some(syslog) = support::corpus() else { return };
    let (found, listed) = (found(&syslog), listed());
    if let Some(path) = std::env::var_os("RAVEN_DISAGREEMENTS") {
        write_list(Path::new(&path), &found, &listed);
    }
    for (row, reason) in &listed {
        assert!(reason.len() > 3, "no reason given: {}", row.join("\t"));
    }
    let found: BTreeSet<Row> = found.into_iter().collect();
    let new: Vec<String> = found.iter().filter(|row| !listed.contains_key(*row)).map(|row| row.join("\t")).collect();
    let gone: Vec<String> = listed.keys().filter(|row| !found.contains(*row)).map(|row| row.join("\t")).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "not listed:\n{}\n\nlisted but gone:\n{}",
        new.join("\n"),
        gone.join("\n")
    );
}

/// UDP payloads of a capture with Ethernet and IPv4, in order.
fn udp_payloads(capture: &[u8]) -> Vec<&[u8]> {
    let mut rest = &capture[24..];
    let mut payloads = Vec::new();
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let frame = &rest[16..16 + length];
        rest = &rest[16 + length..];
        let udp = 14 + usize::from(frame[14] & 15) * 4;
        if frame[23] == 17 {
            payloads.push(&frame[udp + 8..]);
        }
    }
    payloads
}

#[test]
fn captured_datagrams_read_as_the_analyser_reads_them() {
    let Some(syslog) = support::corpus() else { return };
    for expected in support::json_lines(&syslog.join("expected/pcap_tshark.jsonl")) {
        let capture = std::fs::read(syslog.join("pcap").join(expected["file"].as_str().unwrap())).unwrap();
        let payload = udp_payloads(&capture)[expected["n"].as_u64().unwrap() as usize];
        let ours = raven_decode::syslog(payload, RECEIVED).syslog;
        // Where there is no PRI, the analyser puts the text into the facility.
        let number = |field: &str| expected[field].as_str().unwrap().parse::<u8>().ok();
        assert_eq!((ours.facility, ours.severity), (number("facility"), number("severity")), "{expected}");
        let text = expected["msg"].as_str().unwrap();
        assert!(text.ends_with(ours.message.as_deref().unwrap()) || number("facility").is_none(), "{expected}");
    }
}
