//! Generators that wait for answers, against receivers that answer well, badly, late or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::wire::{datagrams, generate};
use common::{code, raven, stderr};
use raven_console::load::{Mark, Summary};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// How often each mark, of sender and number, was there.
type Counts = BTreeMap<(u32, u64), u32>;

fn count<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Counts {
    let mut counts = BTreeMap::new();
    for text in texts {
        let mark = Mark::find(text).unwrap_or_else(|| panic!("no mark: {}", String::from_utf8_lossy(text)));
        *counts.entry((mark.sender, mark.n)).or_default() += 1;
    }
    counts
}

fn assert_all(counts: &Counts, summary: &Summary) {
    let sent: Vec<(u32, u64)> = summary.senders.iter().flat_map(|s| (0..s.count).map(move |n| (s.sender, n))).collect();
    assert!(counts.keys().copied().eq(sent), "{} of {}", counts.len(), summary.sent);
}

/// Takes the next request; its head and its body, unpacked.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut body = vec![0; field("Content-Length:").unwrap().parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    let body = match field("Content-Encoding:") {
        Some("gzip") => {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
            plain
        }
        Some("zstd") => zstd::decode_all(&body[..]).unwrap(),
        _ => body,
    };
    Some((head, body))
}

/// An HTTP receiver: what `answer` says to the nth request of all; none ends the connection without a word.
fn http(answer: impl Fn(usize) -> Option<&'static str> + Send + 'static) -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut nth = 0;
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            while let Some(request) = request(&mut reader) {
                if sender.send(request).is_err() {
                    return;
                }
                nth += 1;
                let Some(text) = answer(nth - 1) else { break };
                reader.get_mut().write_all(text.as_bytes()).unwrap();
            }
        }
    });
    (to, receiver)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

const REFUSED: &str = "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n";

/// The events of a body, each of which is what it says it is.
fn events(shape: &str, body: &[u8]) -> Vec<Vec<u8>> {
    let json = |value: &Value| {
        assert_eq!(value["EventRecordID"].as_u64().unwrap() - 10_000_000_000, Mark::find(text(value)).unwrap().n);
        assert_eq!(value["TimeCreated"].as_str().map(str::len), Some(24));
        text(value).to_vec()
    };
    match shape {
        "ndjson" => {
            let lines = body.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n');
            lines.map(|line| json(&serde_json::from_slice(line).unwrap())).collect()
        }
        "array" => serde_json::from_slice::<Vec<Value>>(body).unwrap().iter().map(json).collect(),
        "object" => vec![json(&serde_json::from_slice(body).unwrap())],
        _ => {
            let inside = str::from_utf8(body).unwrap().strip_prefix("<Events>").unwrap().strip_suffix("</Events>");
            let parts = inside.unwrap().split_inclusive("</Event>");
            parts
                .inspect(|part| assert!(part.starts_with("<Event xmlns=")))
                .map(|part| part.as_bytes().to_vec())
                .collect()
        }
    }
}

fn text(event: &Value) -> &[u8] {
    event["EventData"]["RavenMark"].as_str().unwrap().as_bytes()
}

#[test]
fn events_arrive_in_every_shape_and_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    for (shape, encoding) in
        [("ndjson", "identity"), ("ndjson", "gzip"), ("array", "zstd"), ("object", "identity"), ("xml", "gzip")]
    {
        let (to, requests) = http(|_| Some(OK));
        let extra = ["--count", "333", "--rate", "0", "--batch", "50", "--shape", shape, "--encoding", encoding];
        let summary = generate(&["winevent", "--token", token.to_str().unwrap()], &to, &extra);
        let requests: Vec<_> = requests.try_iter().collect();
        assert!(requests.iter().all(|(head, _)| head.contains("\r\nAuthorization: Bearer s3cret\r\n")));
        let events: Vec<Vec<u8>> = requests.iter().flat_map(|(_, body)| events(shape, body)).collect();
        assert_all(&count(events.iter().map(Vec::as_slice)), &summary);
        let answers = summary.answers.unwrap();
        assert_eq!((answers.acknowledged, answers.repeated, events.len()), (333, 0, 333));
        assert!((500..1000).contains(&(summary.bytes / summary.sent)), "{shape}: {}", summary.bytes / summary.sent);
    }
}

#[test]
fn a_busy_receiver_and_a_lost_connection_get_the_same_body_again() {
    let (to, requests) = http(|nth| match nth {
        1 => Some("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"),
        3 => None,
        5 => Some("HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n"),
        _ => Some(OK),
    });
    let summary = generate(&["winevent"], &to, &["--count", "40", "--rate", "0", "--batch", "10"]);
    let bodies: Vec<Vec<u8>> = requests.try_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies.len(), 7);
    assert!(bodies[1] == bodies[2] && bodies[3] == bodies[4] && bodies[5] == bodies[6] && bodies[0] != bodies[1]);
    let answers = summary.answers.unwrap();
    assert_eq!((answers.acknowledged, answers.repeated, answers.reconnects), (40, 30, 1));
    assert_eq!(answers.codes, BTreeMap::from([(200, 4), (429, 1), (503, 1)]));
    assert!(summary.seconds >= 1.0, "Retry-After was not kept: {}", summary.seconds);
}

#[test]
fn a_refusal_is_final_and_silence_is_given_up() {
    let (to, requests) = http(|_| Some(REFUSED));
    let summary = generate(&["winevent"], &to, &["--count", "20", "--rate", "0", "--batch", "10"]);
    assert_eq!(requests.try_iter().count(), 2);
    assert_eq!(summary.answers.map(|a| (a.acknowledged, a.rejected)), Some((0, 20)));
    let (to, _requests) = http(|_| Some(REFUSED));
    let output = raven(&["gen", "winevent", "--to", &to, "--count", "1"]);
    assert_eq!(code(&output), 1);
    let (to, _requests) = http(|_| None);
    let summary =
        generate(&["winevent"], &to, &["--count", "10", "--batch", "10", "--rate", "0", "--patience", "300ms"]);
    assert_eq!(summary.answers.map(|a| (a.acknowledged, a.unanswered)), Some((0, 10)));
}

#[test]
fn a_receiver_that_was_never_there_is_an_error() {
    for verb in ["winevent", "syslog --proto relp"] {
        let line: Vec<&str> =
            ["gen"].into_iter().chain(verb.split(' ')).chain(["--to", "127.0.0.1:1", "--count", "1"]).collect();
        let output = raven(&line);
        assert!(code(&output) == 1 && stderr(&output).contains("127.0.0.1:1"), "{verb}: {}", stderr(&output));
    }
}

/// A RELP receiver: messages, each acknowledged; after `die_after` of them the first connection ends without a word.
fn relp(die_after: usize) -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for (nth, stream) in listener.incoming().enumerate() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut expected = 1;
            while let Some((number, command, data)) = frame(&mut reader) {
                assert_eq!(number, expected);
                expected += 1;
                if command == "syslog" {
                    sender.send(data).unwrap();
                }
                if nth == 0 && number > die_after {
                    break;
                }
                if writeln!(reader.get_mut(), "{number} rsp 6 200 OK").is_err() {
                    break;
                }
            }
        }
    });
    (to, receiver)
}

fn frame(reader: &mut BufReader<TcpStream>) -> Option<(usize, String, Vec<u8>)> {
    let mut word = || {
        let mut text = Vec::new();
        let mut byte = [0];
        loop {
            reader.read_exact(&mut byte).ok()?;
            if matches!(byte[0], b' ' | b'\n') {
                return Some((String::from_utf8(text).unwrap(), byte[0]));
            }
            text.push(byte[0]);
        }
    };
    let (number, command, (len, end)) = (word()?.0, word()?.0, word()?);
    let mut data = vec![0; len.parse().unwrap()];
    reader.read_exact(&mut data).ok()?;
    if end == b' ' {
        let mut lf = [0];
        reader.read_exact(&mut lf).ok()?;
        assert_eq!(lf, [b'\n']);
    }
    Some((number.parse().unwrap(), command, data))
}

#[test]
fn relp_repeats_what_was_not_acknowledged() {
    let (to, messages) = relp(700);
    let extra = ["--proto", "relp", "--count", "2000", "--rate", "0", "--window", "50"];
    let summary = generate(&["syslog"], &to, &extra);
    let messages: Vec<_> = messages.try_iter().collect();
    let counts = count(messages.iter().map(Vec::as_slice));
    assert_all(&counts, &summary);
    let answers = summary.answers.unwrap();
    assert_eq!((answers.acknowledged, answers.reconnects, answers.codes[&200]), (2000, 1, 2000));
    assert!((1..=50).contains(&answers.repeated));
    assert!(counts.values().all(|times| *times <= 2));
}

/// A TLS receiver that takes one connection and reads it to its end.
fn tls(folder: &Path, want_client: bool) -> (String, thread::JoinHandle<Vec<u8>>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = if want_client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = Arc::new(builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let receiver = thread::spawn(move || {
        let connection = rustls::ServerConnection::new(config).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, listener.accept().unwrap().0);
        let mut bytes = Vec::new();
        // Without a goodbye this is an error.
        if stream.read_to_end(&mut bytes).is_err() {
            bytes.clear();
        }
        bytes
    });
    (to, receiver)
}

fn octets(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some(space) = bytes.iter().position(|b| *b == b' ') {
        let len: usize = str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        messages.push(&bytes[space + 1..space + 1 + len]);
        bytes = &bytes[space + 1 + len..];
    }
    messages
}

#[test]
fn messages_arrive_over_tls_with_and_without_a_client_certificate() {
    for want_client in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (to, receiver) = tls(folder.path(), want_client);
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (cert, key) = (file("cert.pem"), file("key.pem"));
        let own = if want_client { vec!["--ca", &cert, "--cert", &cert, "--key", &key] } else { vec!["--insecure"] };
        let summary =
            generate(&["syslog", "--proto", "tls"], &to, &[&["--count", "3000", "--rate", "0"], &own[..]].concat());
        let bytes = receiver.join().unwrap();
        assert_all(&count(octets(&bytes).into_iter()), &summary);
    }
}

#[test]
fn a_certificate_that_nobody_signed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (to, receiver) = tls(folder.path(), false);
    let other = tempfile::tempdir().unwrap();
    let _ = tls(other.path(), false);
    let ca = other.path().join("cert.pem");
    let output = raven(&["gen", "syslog", "--proto", "tls", "--to", &to, "--ca", ca.to_str().unwrap(), "--count", "1"]);
    assert!(code(&output) == 1 && stderr(&output).contains("certificate"), "{}", stderr(&output));
    assert!(receiver.join().unwrap().is_empty());
    assert_eq!(code(&raven(&["gen", "syslog", "--proto", "tls", "--to", &to, "--count", "1"])), 2);
}

/// Answers each inform but those that `silent` names, by how often it has come.
fn manager(silent: fn(u64, u32) -> bool) -> (String, thread::JoinHandle<Counts>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let to = socket.local_addr().unwrap().to_string();
    let receiver = thread::spawn(move || {
        let (mut counts, mut buffer) = (BTreeMap::new(), [0; 2048]);
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let mark = Mark::find(&buffer[..len]).unwrap();
            let times = counts.entry((mark.sender, mark.n)).or_insert(0);
            *times += 1;
            if !silent(mark.n, *times) {
                // A response is the request under another tag.
                let tag = buffer.iter().position(|byte| *byte == 0xa6).unwrap();
                buffer[tag] = 0xa2;
                socket.send_to(&buffer[..len], from).unwrap();
            }
        }
        counts
    });
    (to, receiver)
}

#[test]
fn informs_are_repeated_until_they_are_answered() {
    let (to, receiver) = manager(|n, times| (n % 50 == 7 && times < 3) || n == 100);
    let extra = ["--count", "500", "--rate", "0", "--timeout", "100ms", "--retries", "3", "--senders", "2"];
    let summary = generate(&["trap", "--inform"], &to, &extra);
    let counts = receiver.join().unwrap();
    assert_all(&counts, &summary);
    let silent: u64 = summary.senders.iter().map(|s| u64::from(s.count > 100)).sum();
    let late = counts.keys().filter(|(_, n)| n % 50 == 7).count() as u64;
    let answers = summary.answers.unwrap();
    assert_eq!((answers.acknowledged, answers.unanswered), (500 - silent, silent));
    assert_eq!(answers.repeated, 2 * late + 3 * silent);
    assert!(answers.p50_ms < 100.0 && answers.max_ms >= 200.0, "{answers:?}");
}

#[test]
fn traps_of_every_kind_have_one_length_and_every_mark() {
    for extra in [&["--senders", "3"][..], &["--gso"], &["--version", "3", "--user", "anna"]] {
        let (all, summary) = datagrams(&["trap", "--count", "500", "--rate", "20000"], extra);
        assert_all(&count(all.iter().map(Vec::as_slice)), &summary);
        assert!(all.iter().all(|trap| trap.len() as u64 == summary.bytes / 500 && trap[0] == 0x30));
    }
}
