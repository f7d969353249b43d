//! Every Windows event of the corpus against what its own tools read from it, and every file of it split in the shapes
//! that agents send.
//!
//! Expectations are those of the python library `evtx` for XML and its JSON, and the agents' own fields for the flat
//! shapes. Where Raven reads something else, [`DISAGREEMENTS`] says so with the reason; one that is not listed fails
//! the test, and so does a listed one that is gone.

#![allow(clippy::unwrap_used)]

mod support;

use raven_decode::winevent::{self, Reject, Shape, WinEvent};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Part of a file's name or of the event, field, how many events, and why.
const DISAGREEMENTS: [(&str, &str, usize, &str); 14] = [
    ("UserData", "data_fields", 242, "they count the values of EventData only"),
    ("integration_tests.rs", "data_fields", 1, "a text between elements: they count elements"),
    ("evtx_json/Security_with_size_t", "data_fields", 10, "LogonGuid comes twice, and this JSON has it once"),
    ("Application_no_crc32", "data_fields", 2, "Binary with bytes in it is shown, and counted"),
    ("AUDIT_", "level", 102, "the Security log's level is 0; NXLog's severity has no such level"),
    ("LanguagePackSetup", "channel", 2, "an empty channel is null"),
    ("sample-custom-pattern", "event_id", 1, "the parser of this corpus knows Microsoft's providers only"),
    ("vector_xml/tests.rs", "provider", 1, "source code that contains XML; they took it from anywhere in it"),
    ("vector_xml/tests.rs", "event_id", 1, "source code that contains XML; they took it from anywhere in it"),
    ("vector_xml/tests.rs", "level", 1, "source code that contains XML; they took it from anywhere in it"),
    ("vector_xml/tests.rs", "channel", 1, "source code that contains XML; they took it from anywhere in it"),
    ("vector_xml/tests.rs", "computer", 1, "source code that contains XML; they took it from anywhere in it"),
    ("vector_xml/tests.rs", "record_id", 1, "source code that contains XML; they took it from anywhere in it"),
    ("vector_xml/tests.rs", "data_fields", 1, "source code that contains XML; they took it from anywhere in it"),
];

struct File {
    /// `xml/sysmon.evtx.xml.lines`.
    name: String,
    lines: Vec<Vec<u8>>,
    expected: Vec<Value>,
}

fn files(windows: &Path) -> Vec<File> {
    let dirs = entries(windows).into_iter().filter(|dir| dir.is_dir() && !dir.ends_with("expected"));
    dirs.flat_map(|dir| entries(&dir)).map(|path| file(windows, &path)).collect()
}

fn file(windows: &Path, path: &Path) -> File {
    let name = path.strip_prefix(windows).unwrap().to_str().unwrap().to_owned();
    let expected = windows.join("expected").join(format!("{}.jsonl", name.replace('/', "__")));
    let expected = if expected.exists() { support::json_lines(&expected) } else { Vec::new() };
    let raw = std::fs::read(path).unwrap();
    let is_text = name.starts_with("fluentd_text");
    let lines = if is_text { vec![raw] } else { raw.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() };
    File { name, lines: lines.into_iter().filter(|line| !line.is_empty()).collect(), expected }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort_unstable();
    entries
}

/// What is expected, by our names. A field that the expectation does not have is not compared.
fn expectation(expected: &Value) -> BTreeMap<&'static str, Value> {
    const NAMES: [(&str, &[&str]); 8] = [
        ("provider", &["provider", "SourceName"]),
        ("event_id", &["event_id", "EventID"]),
        ("level", &["level", "Level", "Severity"]),
        ("channel", &["channel", "Channel"]),
        ("computer", &["computer", "Hostname"]),
        ("record_id", &["record_id", "RecordNumber"]),
        ("time", &["time", "EventTime", "TimeCreated"]),
        ("data_fields", &["data_fields"]),
    ];
    let found = |names: &[&str]| names.iter().find_map(|name| expected.get(*name)).cloned();
    NAMES.iter().filter_map(|(ours, theirs)| Some((*ours, normal(ours, found(theirs)?)))).collect()
}

/// Numbers as numbers, words of NXLog as levels, times without a zone in UTC.
fn normal(field: &str, value: Value) -> Value {
    let Some(text) = value.as_str() else { return value };
    match field {
        "event_id" | "record_id" => text.parse::<u64>().unwrap().into(),
        "level" => match text {
            "INFO" => 4.into(),
            "WARNING" => 3.into(),
            "ERROR" => 2.into(),
            "CRITICAL" => 1.into(),
            _ => text.parse::<u8>().unwrap().into(),
        },
        "time" if !text.ends_with('Z') => format!("{}Z", text.replace(' ', "T")).into(),
        _ => value,
    }
}

fn field(event: &WinEvent, name: &str) -> Value {
    match name {
        "data_fields" => event.data.len().into(),
        _ => serde_json::to_value(event).unwrap()[name].clone(),
    }
}

#[test]
fn disagreements_with_other_readers_are_the_listed_ones() {
    let Some(windows) = support::windows() else { return };
    let mut found: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    let (mut events, mut compared) = (0, 0);
    for file in files(&windows) {
        assert!(file.expected.is_empty() || file.expected.len() == file.lines.len(), "{}", file.name);
        for (index, (line, expected)) in file.lines.iter().zip(&file.expected).enumerate() {
            let event = winevent::decode(line).event;
            events += 1;
            for (name, theirs) in expectation(expected) {
                let ours = field(&event, name);
                compared += 1;
                if ours != theirs {
                    let row = format!("{} line {index}: {name}: ours {ours}, theirs {theirs}", file.name);
                    let line = String::from_utf8_lossy(line);
                    let listed = DISAGREEMENTS
                        .iter()
                        .find(|(part, field, ..)| *field == name && (file.name.contains(part) || line.contains(part)));
                    let key = listed.map_or("not listed", |(part, ..)| part).to_owned();
                    found.entry((key, name)).or_default().push(row);
                }
            }
        }
    }
    eprintln!(
        "{events} events, {compared} fields compared, {} disagreements",
        found.values().map(Vec::len).sum::<usize>()
    );
    let new: Vec<String> =
        found.iter().filter(|((key, _), _)| key == "not listed").flat_map(|(_, rows)| rows.clone()).collect();
    assert!(new.is_empty(), "{} not listed:\n{}", new.len(), new[..new.len().min(60)].join("\n"));
    let count = |part: &str, name| found.get(&(part.to_owned(), name)).map_or(0, Vec::len);
    let other: Vec<_> = DISAGREEMENTS
        .iter()
        .filter(|(part, name, listed, _)| count(part, name) != *listed)
        .map(|row| (row, count(row.0, row.1), found.get(&(row.0.to_owned(), row.1)).and_then(|rows| rows.first())))
        .collect();
    assert!(other.is_empty(), "listed, but found another number of times: {other:#?}");
}

#[test]
fn an_event_reads_the_same_from_xml_and_from_json() {
    let Some(windows) = support::windows() else { return };
    let files = files(&windows);
    let (mut same, mut other) = (0, Vec::new());
    for json in files.iter().filter(|file| file.name.starts_with("evtx_json/")) {
        let twin = format!("xml/{}.xml.lines", json.name["evtx_json/".len()..].trim_end_matches(".jsonl"));
        let Some(xml) = files.iter().find(|file| file.name == twin) else { continue };
        for (index, (json, xml)) in json.lines.iter().zip(&xml.lines).enumerate() {
            let [json, xml] = [json, xml].map(|raw| {
                // The files of XML were made one line an event by taking the line ends out, and tabs with them in JSON.
                let mut event = winevent::decode(raw).event;
                event.data.values_mut().for_each(|value| value.retain(|c| !c.is_whitespace()));
                event
            });
            if json == xml { same += 1 } else { other.push(format!("{twin} {index}: {json:?}\n{xml:?}")) }
        }
    }
    // CAPI2 has lists in lists, of which this JSON numbers the outer names and Raven the inner ones; of the two
    // LogonGuids of 4648 it has the last one only.
    other.retain(|row: &String| !row.contains("CAPI2") && !row.contains("Some(4648)"));
    assert!(same > 400 && other.is_empty(), "{same} the same, not so: {}", other.join("\n\n"));
}

#[test]
fn every_event_of_the_corpus_is_one() {
    let Some(windows) = support::windows() else { return };
    for file in files(&windows) {
        for (index, line) in file.lines.iter().enumerate() {
            let reject = winevent::decode(line).reject;
            let expected = match (&*file.name, index) {
                ("fluentd_text/eventid_4697", _) => matches!(reject, Some(Reject::TextOnly)),
                // Cut out of source code.
                ("vector_xml/integration_tests.rs.xml.lines", _) | ("vector_xml/xml_parser.rs.xml.lines", 3) => {
                    reject == Some(Reject::NoEvent)
                }
                ("vector_xml/tests.rs.xml.lines", _) => matches!(reject, Some(Reject::Broken(_))),
                _ => reject.is_none(),
            };
            assert!(expected, "{} line {index}: {reject:?}", file.name);
        }
    }
}

#[test]
fn a_text_without_a_header_gives_its_data() {
    let Some(windows) = support::windows() else { return };
    let raw = std::fs::read(windows.join("fluentd_text/eventid_4697")).unwrap();
    let event = winevent::decode(&raw).event;
    assert!(event.message.unwrap().starts_with("A service was installed in the system."));
    assert_eq!(event.data["Subject.Account Name"], "824ZWL3$");
    assert_eq!(event.data["Service Information.Service Type"], "0xE0");
}

/// The events that `body` is cut into, byte for byte.
fn pieces(body: &[u8]) -> Vec<&[u8]> {
    let split = winevent::split(body).unwrap();
    assert_eq!((split.broken, split.first_fault), (0, None));
    split.into_iter().map(|range| &body[range]).collect()
}

fn is_json(file: &File) -> bool {
    file.lines.iter().all(|line| line.starts_with(b"{"))
}

#[test]
fn a_file_gives_the_same_events_in_every_shape_of_json() {
    let Some(windows) = support::windows() else { return };
    for File { name, lines, .. } in files(&windows).into_iter().filter(is_json) {
        let array = [&b"["[..], &lines.join(&b",\n"[..]), b"]\n"].concat();
        for (shape, body) in [
            (Shape::Objects, lines.join(&b"\n"[..])),
            (Shape::Objects, [&b"\xef\xbb\xbf"[..], &lines.join(&b"\r\n\r\n"[..]), b"\r\n"].concat()),
            (Shape::Objects, lines.concat()),
            (Shape::Array, array),
            (
                Shape::Bulk,
                lines
                    .iter()
                    .flat_map(|line| [&b"{\"create\": {\"_index\":\"w\"}}\n"[..], line, b"\n"])
                    .collect::<Vec<_>>()
                    .concat(),
            ),
        ] {
            assert_eq!(winevent::split(&body).unwrap().shape, shape, "{name}");
            assert!(pieces(&body) == lines, "{name}: {shape:?}");
        }
    }
}

#[test]
fn pretty_printed_events_are_cut_where_they_end() {
    let Some(windows) = support::windows() else { return };
    for File { name, lines, .. } in files(&windows).into_iter().filter(is_json) {
        let pretty =
            |line: &Vec<u8>| serde_json::to_vec_pretty(&serde_json::from_slice::<Value>(line).unwrap()).unwrap();
        let lines: Vec<Vec<u8>> = lines.iter().map(pretty).collect();
        for body in [lines.join(&b"\n"[..]), lines.concat(), [&b"[\n"[..], &lines.join(&b",\n"[..]), b"\n]"].concat()] {
            assert!(pieces(&body) == lines, "{name}");
        }
    }
}

#[test]
fn a_file_gives_the_same_events_in_every_shape_of_xml() {
    let Some(windows) = support::windows() else { return };
    for File { name, lines, .. } in files(&windows).into_iter().filter(|file| file.name.starts_with("xml/")) {
        let wrapped =
            [&b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Events>\n"[..], &lines.join(&b"\n"[..]), b"</Events>"];
        let declared = lines.iter().flat_map(|line| [&b"\xef\xbb\xbf<?xml version='1.0'?><!-- x -->\r\n"[..], line]);
        for body in [lines.concat(), lines.join(&b"\r\n"[..]), wrapped.concat(), declared.collect::<Vec<_>>().concat()]
        {
            assert!(pieces(&body) == lines, "{name}");
        }
    }
}
