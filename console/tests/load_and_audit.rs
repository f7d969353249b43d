//! The load generator against real sockets, and the audit against files with planted gaps and doubles.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{code, raven, stderr, stdout};
use raven_console::load::{Mark, Summary};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::Duration;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

fn audit(args: &[&str]) -> (i32, Value) {
    let output = raven(&[&["audit", "--json"], args].concat());
    (code(&output), serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output))))
}

fn line(seq: u64) -> String {
    format!(
        "<13>1 - arena raven - - [raven@32473 dev=\"arena\" stream=\"syslog\" seq=\"{seq}\" rx=\"x\" src=\"192.0.2.7\" port=\"514\"] <13>hello\n"
    )
}

fn lines(seqs: impl Iterator<Item = u64>) -> String {
    seqs.map(line).collect()
}

#[test]
fn a_whole_file_passes_in_any_order() {
    let folder = Folder::new();
    let path = folder.file("out.log", lines((1..=500).rev()));
    let (code, report) = audit(&[path.to_str().unwrap(), "--expect-first", "1", "--expect-next", "501"]);
    assert_eq!((code, &report["streams"][0]["records"]), (0, &500.into()));
}

#[test]
fn planted_gaps_and_doubles_are_found_exactly() {
    let folder = Folder::new();
    let seqs = (1..=100).filter(|n| ![17, 40, 41].contains(n)).chain([5, 5, 100]);
    let path = folder.file("out.log", lines(seqs));
    let (code, report) = audit(&[path.to_str().unwrap(), "--expect-next", "103"]);
    let stream = &report["streams"][0];
    assert_eq!(code, 1);
    assert_eq!(stream["missing_ranges"], serde_json::json!([[17, 17], [40, 41], [101, 102]]));
    assert_eq!((&stream["missing"], &stream["duplicates"]), (&5.into(), &3.into()));
    assert_eq!(stream["duplicate_ranges"], serde_json::json!([[5, 5], [100, 100]]));
    let words = stdout(&raven(&["audit", path.to_str().unwrap()]));
    assert!(words.contains("missing: 17, 40-41") && words.contains("MISSING: 3"), "{words}");
}

#[test]
fn doubles_alone_are_no_error() {
    let folder = Folder::new();
    let path = folder.file("out.log", lines((1..=10).chain(3..=4)));
    let (code, report) = audit(&[path.to_str().unwrap()]);
    assert_eq!((code, &report["streams"][0]["duplicates"]), (0, &2.into()));
}

#[test]
fn several_files_packed_or_not_count_as_one() {
    let folder = Folder::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines(1..11).as_bytes()).unwrap();
    let a = folder.file("out.log.2.gz", gzip.finish().unwrap());
    let b = folder.file("out.log.1.zst", zstd::bulk::compress(lines(11..21).as_bytes(), 1).unwrap());
    let mut json = String::new();
    for seq in 21..31 {
        writeln!(
            json,
            r#"{{"dev":"arena","stream":"syslog","seq":{seq},"received_ns":1,"listener":"udp:[::]:514","raw":"x"}}"#
        )
        .unwrap();
    }
    let c = folder.file("out.ndjson", json);
    let (code, report) = audit(&[a.to_str().unwrap(), b.to_str().unwrap(), c.to_str().unwrap()]);
    assert_eq!((code, &report["streams"][0]["first"], &report["streams"][0]["last"]), (0, &1.into(), &30.into()));
}

#[test]
fn an_empty_file_proves_nothing() {
    let folder = Folder::new();
    let path = folder.file("out.log", "hello\nworld\n");
    let (code, report) = audit(&[path.to_str().unwrap()]);
    assert_eq!((code, &report["lines_without_envelope"]), (1, &2.into()));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = raven(&["audit", "/nonexistent/out.log"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("/nonexistent/out.log"), "{}", stderr(&output));
}

fn summary(output: &Output) -> Summary {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|_| panic!("{}", stderr(output)))
}

fn assert_all_marks(messages: &[Vec<u8>], summary: &Summary) {
    let mut seen = BTreeSet::new();
    for message in messages {
        let mark = Mark::find(message).expect("every message has a mark");
        assert_eq!(mark.run, summary.mark.as_bytes());
        assert!(seen.insert((mark.sender, mark.n)), "doubled");
    }
    let sent: BTreeSet<(u32, u64)> =
        summary.senders.iter().flat_map(|s| (0..s.count).map(move |n| (s.sender, n))).collect();
    assert_eq!(seen, sent);
}

fn udp_run(extra: &[&str]) -> (Vec<Vec<u8>>, Summary) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    common::wire::widen(&socket);
    let to = socket.local_addr().unwrap().to_string();
    let receiver = thread::spawn(move || {
        let (mut messages, mut buffer) = (Vec::new(), vec![0; 65_536]);
        while messages.len() < 600 {
            let Ok(len) = socket.recv(&mut buffer) else { break };
            messages.push(buffer[..len].to_vec());
        }
        messages
    });
    let output =
        raven(&[&["gen", "syslog", "--to", &to, "--count", "600", "--rate", "20000", "--mark", "t1"], extra].concat());
    (receiver.join().unwrap(), summary(&output))
}

#[test]
fn every_datagram_arrives_with_its_mark() {
    for extra in [
        &["--senders", "3"][..],
        &["--gso", "--senders", "2"],
        &["--format", "5424", "--own-addresses", "--senders", "4", "--size", "333"],
    ] {
        let (messages, summary) = udp_run(extra);
        assert_eq!((messages.len() as u64, summary.sent), (600, 600));
        assert_all_marks(&messages, &summary);
        assert!(messages.iter().all(|message| message.len() as u64 == summary.bytes / summary.sent));
    }
}

fn tcp_run(framing: &str) -> (Vec<Vec<u8>>, Summary) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let receiver = thread::spawn(move || {
        let readers: Vec<_> = (0..2)
            .map(|_| listener.accept().unwrap().0)
            .map(|stream| thread::spawn(move || read_all(stream)))
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
    });
    let output = raven(&[
        "gen",
        "syslog",
        "--proto",
        "tcp",
        "--to",
        &to,
        "--count",
        "5000",
        "--rate",
        "0",
        "--senders",
        "2",
        "--framing",
        framing,
    ]);
    let split = if framing == "lf" { lf } else { octets };
    (receiver.join().unwrap().iter().flat_map(|bytes| split(bytes)).collect(), summary(&output))
}

fn read_all(mut stream: std::net::TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn lf(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|b| *b == b'\n').map(|line| line[..line.len() - 1].to_vec()).collect()
}

fn octets(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(space) = bytes.iter().position(|b| *b == b' ') {
        let len: usize = str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        messages.push(bytes[space + 1..space + 1 + len].to_vec());
        bytes = &bytes[space + 1 + len..];
    }
    messages
}

#[test]
fn both_framings_of_tcp_come_apart_again() {
    for framing in ["octet", "lf"] {
        let (messages, summary) = tcp_run(framing);
        assert_eq!(messages.len(), 5000, "{framing}");
        assert_all_marks(&messages, &summary);
    }
}

#[test]
fn lost_marks_are_found_by_sender() {
    let (messages, summary) = udp_run(&["--senders", "2"]);
    let folder = Folder::new();
    let kept: Vec<Vec<u8>> = messages
        .into_iter()
        .filter(|message| !Mark::find(message).is_some_and(|mark| mark.sender == 1 && mark.n == 7))
        .collect();
    let doubled = [kept.join(&b'\n'), kept[0].clone(), Vec::new()].join(&b'\n');
    let out = folder.file("out.log", doubled);
    let sum = folder.file("summary.json", serde_json::to_vec(&summary).unwrap());
    let (code, report) = audit(&[out.to_str().unwrap(), "--marks", sum.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert_eq!(report["marks"][1]["missing_ranges"], serde_json::json!([[7, 7]]));
    assert_eq!((&report["marks"][0]["missing"], &report["marks"][0]["duplicates"]), (&0.into(), &1.into()));
}

#[test]
fn a_target_that_is_not_this_machine_is_refused() {
    let output = raven(&["gen", "syslog", "--to", "192.0.2.1:514", "--count", "1"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--i-mean-it"), "{}", stderr(&output));
}

#[test]
fn a_run_without_an_end_is_refused() {
    assert_eq!(code(&raven(&["gen", "syslog", "--rate", "10"])), 2);
}
