//! Real messages of real devices: what comes in is in the ring, byte for byte.

use crate::appliance::Appliance;
use crate::sender::one_datagram;
use serde_json::Value;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// The test corpus, if it is there: `RAVEN_CORPUS`, or beside the source tree.
fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let folder = std::env::var_os("RAVEN_CORPUS").map_or(beside, PathBuf::from).join("syslog");
    if !folder.is_dir() {
        eprintln!("not run: no corpus at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// All files below `folder`, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The messages of `*.msgs.jsonl`, one JSON object with `text` a line.
fn listed(folder: &Path) -> Vec<Vec<u8>> {
    let lists = files(folder).into_iter().filter(|path| path.to_string_lossy().ends_with(".msgs.jsonl"));
    let text = lists.map(|path| std::fs::read_to_string(path).unwrap()).collect::<String>();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().into()).collect()
}

/// UDP payloads of a capture: classic pcap, little-endian, Ethernet or raw IP, IPv4 without options or fragments.
fn captured(pcap: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(word(0), 0xa1b2_c3d4, "a classic pcap");
    let link = if word(20) == 1 { 14 } else { 0 };
    let (mut at, mut payloads) = (24, Vec::new());
    while at < pcap.len() {
        let ip = &pcap[at + 16 + link..at + 16 + word(at + 8)];
        if ip[9] == 17 {
            let udp = &ip[20..];
            payloads.push(udp[8..usize::from(u16::from_be_bytes([udp[4], udp[5]]))].to_vec());
        }
        at += 16 + word(at + 8);
    }
    payloads
}

#[test]
fn every_datagram_of_the_corpus_is_in_the_ring_byte_for_byte() {
    let Some(corpus) = corpus() else { return };
    let mut sent = listed(&corpus);
    let captures = files(&corpus.join("pcap")).into_iter().flat_map(|path| captured(&std::fs::read(path).unwrap()));
    sent.extend(captures);
    assert!(sent.len() > 500, "only {} messages", sent.len());
    let raven = Appliance::start();
    for message in &sent {
        one_datagram(raven.udp(), message);
    }
    raven.settle(sent.len() as u64);
    let stored: Vec<_> = raven.records().iter().map(|record| record.raw_bytes().unwrap()).collect();
    assert_eq!(stored.len(), sent.len());
    for (n, (stored, sent)) in stored.iter().zip(&sent).enumerate() {
        assert_eq!(String::from_utf8_lossy(stored), String::from_utf8_lossy(sent), "message {n}");
        assert_eq!(stored, sent, "message {n}");
    }
}

/// What a stream holds: counted frames as long as they follow each other, else lines.
fn framed(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(blank) = stream.iter().position(|&b| b == b' ').filter(|&at| at > 0) {
        let Some(len) = std::str::from_utf8(&stream[..blank]).ok().and_then(|digits| digits.parse::<usize>().ok())
        else {
            break;
        };
        let end = (blank + 1 + len).min(stream.len());
        messages.push(stream[blank + 1..end].to_vec());
        stream = &stream[end..];
    }
    messages.extend(stream.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
    messages
}

#[test]
fn every_stream_of_the_corpus_is_taken_apart_at_its_frames() {
    let Some(corpus) = corpus() else { return };
    let raven = Appliance::start();
    let mut next = 0;
    for path in files(&corpus.join("framing")) {
        if !matches!(path.extension().and_then(|e| e.to_str()), Some("txt" | "testdata")) {
            continue;
        }
        let stream = std::fs::read(&path).unwrap();
        let expected = framed(&stream);
        TcpStream::connect(raven.udp()).unwrap().write_all(&stream).unwrap();
        raven.settle((next + expected.len()) as u64);
        let stored: Vec<_> = raven.records().iter().skip(next).map(|record| record.raw_bytes().unwrap()).collect();
        next += stored.len();
        let text =
            |messages: &[Vec<u8>]| messages.iter().map(|m| String::from_utf8_lossy(m).into_owned()).collect::<Vec<_>>();
        assert_eq!(text(&stored), text(&expected), "{}", path.display());
    }
    assert!(next > 40, "only {next} messages");
}
