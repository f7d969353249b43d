//! `raven export --format pcap`, read by programs that share no code with it: tshark, and nfcapd from a replay.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use base64::Engine as _;
use common::wire::{datagrams, stream};
use common::{FakeRavend, code, raven, stderr};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FLOWS: usize = 480;

/// Records as the decode role gives them.
fn ndjson(raws: &[Vec<u8>], source: &str, listener: &str) -> String {
    let line = |(n, raw): (usize, &Vec<u8>)| {
        let raw = base64::engine::general_purpose::STANDARD.encode(raw);
        format!(
            r#"{{"seq":{n},"received_ns":{},"source":{{"addr":"{source}","port":40000}},"listener":"{listener}","raw_b64":"{raw}"}}{}"#,
            1_763_771_400_000_000_000 + n as u64,
            "\n"
        )
    };
    raws.iter().enumerate().map(line).collect()
}

/// Exports these records; the file, and what was said.
fn exported(lines: &str, dir: &Path) -> (std::path::PathBuf, String) {
    let path = dir.join("out.pcap");
    let output = FakeRavend::with_lines(lines).raven(&["export", "flow", path.to_str().unwrap(), "--format", "pcap"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    (path, stderr(&output))
}

/// False, and loudly so, where a program is not installed.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("NOT TESTED: {program} is not installed");
    }
    found
}

fn tshark(path: &Path, args: &[&str]) -> String {
    let strict = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"];
    let output = Command::new("tshark").arg("-r").arg(path).args(strict).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tshark_reads_every_flow_of_every_version_with_the_true_addresses() {
    if !is_installed("tshark") {
        return;
    }
    let count = FLOWS.to_string();
    let more = ["--count", &count, "--rate", "0", "--senders", "1"];
    let verbs: [(&[&str], &str, &str); 3] = [
        (&["netflow", "--version", "5"], "192.0.2.7", "udp:[::]:2055"),
        (&["netflow", "--version", "9"], "2001:db8::7", "udp:[::]:2055"),
        (&["ipfix"], "192.0.2.7", "udp:198.51.100.1:2055"),
    ];
    for (verb, source, listener) in verbs {
        let dir = tempfile::tempdir().unwrap();
        let (raws, _) = datagrams(verb, &more);
        let (path, _) = exported(&ndjson(&raws, source, listener), dir.path());
        let (addr, target) = match (source, listener) {
            ("192.0.2.7", "udp:[::]:2055") => ("ip", "127.0.0.1"),
            ("192.0.2.7", _) => ("ip", "198.51.100.1"),
            _ => ("ipv6", "::1"),
        };
        let fields = ["-d", "udp.port==2055,cflow", "-T", "fields", "-e", "frame.time_epoch"];
        let ends = [format!("{addr}.src"), format!("{addr}.dst")];
        let fields = [&fields[..], &["-e", &ends[0], "-e", &ends[1]]].concat();
        let more = ["-e", "udp.srcport", "-e", "udp.checksum.status", "-e", "cflow.srcport"];
        let told = tshark(&path, &[&fields[..], &more].concat());
        assert_eq!(told.lines().count(), raws.len(), "{verb:?}");
        let mut flows = 0;
        for (n, line) in told.lines().enumerate() {
            let words: Vec<&str> = line.split('\t').collect();
            assert!(words[0].ends_with(&format!("{n:09}")), "to the nanosecond: {line}");
            assert_eq!(words[1..5], [source, target, "40000", "1"], "{line}");
            flows += words[5..].iter().flat_map(|octets| octets.split(',')).filter(|octets| !octets.is_empty()).count();
        }
        assert_eq!(flows, FLOWS, "{verb:?}");
        if addr == "ip" {
            assert_eq!(tshark(&path, &["-Y", "ip.checksum.status != \"Good\""]), "");
        }
    }
}

#[test]
fn ipfix_that_came_by_tcp_is_written_as_udp_and_that_is_said() {
    let count = FLOWS.to_string();
    let (bytes, _) = stream(&["ipfix", "--proto", "tcp"], &["--count", &count, "--rate", "0", "--senders", "1"]);
    // Messages by their own length (RFC 7011, 3.1), as the collector stores them.
    let (mut raws, mut rest) = (Vec::new(), &bytes[..]);
    while let Some(head) = rest.get(2..4) {
        let (message, behind) = rest.split_at(usize::from(u16::from_be_bytes([head[0], head[1]])));
        raws.push(message.to_vec());
        rest = behind;
    }
    let dir = tempfile::tempdir().unwrap();
    let (path, said) = exported(&ndjson(&raws, "192.0.2.7", "tcp:[::]:4739"), dir.path());
    let note = format!("{} records came by TCP, TLS or HTTP and are written as UDP datagrams", raws.len());
    assert!(said.contains(&note), "{said}");
    if is_installed("tshark") {
        let args = ["-d", "udp.port==4739,cflow", "-T", "fields", "-e", "cflow.srcport"];
        let told = tshark(&path, &args);
        let flows = told.split(['\t', ',', '\n']).filter(|octets| !octets.is_empty()).count();
        assert_eq!(flows, FLOWS);
    }
}

/// The payloads of a file, as any reader of captures finds them.
fn payloads(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (mut rest, mut all) = (&bytes[24..], Vec::new());
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        all.push(rest[16 + 28..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    all
}

#[test]
fn nfcapd_counts_the_same_flows_from_a_replay() {
    if !is_installed("nfcapd") || !is_installed("nfdump") {
        return;
    }
    let count = FLOWS.to_string();
    let (raws, _) = datagrams(&["netflow", "--version", "9"], &["--count", &count, "--rate", "0", "--senders", "1"]);
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = exported(&ndjson(&raws, "192.0.2.7", "udp:[::]:2055"), dir.path());
    assert_eq!(payloads(&path), raws);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let flows = dir.path().join("flows");
    std::fs::create_dir(&flows).unwrap();
    let mut nfcapd = Command::new("nfcapd")
        .args(["-b", "127.0.0.1", "-p", &port.to_string(), "-I", "any", "-t", "2", "-w"])
        .arg(&flows)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for payload in payloads(&path) {
        socket.send_to(&payload, ("127.0.0.1", port)).unwrap();
    }
    // It begins a file every two seconds: the one it ends with may be left without a name (nfcapd 1.7.1).
    let counted = || {
        let output = Command::new("nfdump").arg("-R").arg(&flows).args(["-q", "-o", "fmt:%sa"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.trim().is_empty()).count()
    };
    let until = Instant::now() + Duration::from_secs(20);
    while counted() != FLOWS && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
    }
    let (counted, _) = (counted(), (nfcapd.kill(), nfcapd.wait()));
    assert_eq!(counted, FLOWS);
}

#[test]
fn a_capture_has_no_place_for_fields_and_may_be_piped() {
    assert_eq!(code(&raven(&["export", "flow", "--format", "pcap", "--decoded"])), 2);
    let fake = FakeRavend::with_lines(&ndjson(&[b"abc".to_vec()], "192.0.2.7", "udp:[::]:2055"));
    let output = fake.raven(&["export", "flow", "--format", "pcap"]);
    assert_eq!((&output.stdout[..4], output.stdout.len()), (&0xa1b2_3c4d_u32.to_le_bytes()[..], 24 + 16 + 28 + 3));
    let empty = FakeRavend::with_lines("").raven(&["export", "flow", "--format", "pcap"]);
    assert_eq!(empty.stdout.len(), 24, "a file without packets is one all the same");
}
