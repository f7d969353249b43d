//! Logs and metrics of OpenTelemetry: what is sent is read by `protoc`, which shares no code with us.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_uplink::sim::SimRing;
use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use support::receiver::{Answer, raw_http};
use support::{MemoryCursors, SimFleet, fleet, run, status, until, until_acked, uplinks};

fn installed() -> bool {
    let there = Path::new("/usr/bin/protoc").exists();
    if !there {
        println!("SKIPPED: this test needs protoc (Debian: apt install protobuf-compiler)");
        eprintln!("SKIPPED: this test needs protoc (Debian: apt install protobuf-compiler)");
    }
    there
}

/// The request as text, one field a line.
fn decoded(request: &[u8]) -> String {
    decoded_as("check.ExportLogsServiceRequest", "tests/data/otlp.proto", request)
}

fn decoded_as(message: &str, file: &str, request: &[u8]) -> String {
    let mut protoc = Command::new("/usr/bin/protoc")
        .args([&format!("--decode={message}"), "-Itests/data", file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    protoc.stdin.take().unwrap().write_all(request).unwrap();
    let output = protoc.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn one(dir: &Path, ring: &Rc<SimRing>, noc: &str) -> SimFleet {
    let mut fleet = fleet(ring, &MemoryCursors::default(), dir);
    fleet.configure("arena", &uplinks(noc));
    fleet
}

/// The seqs of a request that was decoded.
fn seqs(text: &str) -> Vec<u64> {
    let after = text.split("key: \"seq\"").skip(1);
    after
        .map(|rest| rest.split("int_value: ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_decoder_that_is_not_ours_reads_every_field() {
    if !installed() {
        return;
    }
    for compression in ["none", "gzip", "zstd"] {
        let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
        ring.store(
            "syslog",
            &[b"<34>su: failed", b"\xff\0\x01 not text", b"", "gr\u{fc}n \"quoted\"\nline".as_bytes(), b"<192>x"],
        );
        run(async {
            let bodies = Rc::new(RefCell::new(Vec::new()));
            let seen = Rc::clone(&bodies);
            let url = raw_http(move |head, body| {
                assert_eq!(head["content-type"], "application/x-protobuf");
                seen.borrow_mut().push(match head.get("content-encoding").map(|coding| coding.to_str().unwrap()) {
                    Some("zstd") => zstd::decode_all(body).unwrap(),
                    Some("gzip") => {
                        let mut plain = Vec::new();
                        flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap();
                        plain
                    }
                    _ => body.to_vec(),
                });
                Answer::new(200, b"")
            })
            .await;
            let mut fleet = one(dir.path(), &ring, &format!("noc kind=otlp compression={compression} to={url}"));
            until_acked(&mut fleet, "noc", 5).await;
            fleet.stop().await;
            let text = decoded(&bodies.borrow()[0]);
            assert_eq!(seqs(&text), [1, 2, 3, 4, 5]);
            // protoc writes bytes that it does not know as bare numbers: there are none.
            assert!(!text.lines().any(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())), "{text}");
            let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in [
                r#"resource { attributes { key: "service.name" value { string_value: "raven" } } attributes { key: "dev" value { string_value: "arena" } } attributes { key: "stream" value { string_value: "syslog" } } }"#,
                r#"scope { name: "raven""#,
                r#"log_records { severity_number: 18 severity_text: "crit" body { string_value: "<34>su: failed" } attributes { key: "seq" value { int_value: 1 } } attributes { key: "src" value { string_value: "192.0.2.7" } } attributes { key: "port" value { int_value: 40000 } } attributes { key: "listener" value { string_value: "udp:[::]:514" } } observed_time_unix_nano: 1795307753000000000 }"#,
                r#"log_records { body { bytes_value: "\377\000\001 not text" }"#,
                r#"log_records { body { string_value: "" }"#,
                r#"log_records { body { string_value: "gr\303\274n \"quoted\"\nline" }"#,
                r#"log_records { body { string_value: "<192>x" }"#,
            ] {
                assert!(squeezed.contains(part), "{part} is not in {squeezed}");
            }
        });
    }
}

#[test]
fn records_that_a_partial_success_refuses_become_dead_letters_and_the_rest_arrives() {
    if !installed() {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let texts: Vec<String> = (1..=40).map(|n| format!("<34>record {n}")).collect();
    ring.store("syslog", &texts.iter().map(String::as_bytes).collect::<Vec<_>>());
    run(async {
        let taken = Rc::new(RefCell::new(std::collections::BTreeSet::new()));
        let seen = Rc::clone(&taken);
        let url = raw_http(move |_, body| {
            let seqs = seqs(&decoded(body));
            let bad = seqs.iter().filter(|seq| **seq == 17).count();
            seen.borrow_mut().extend(seqs.into_iter().filter(|seq| *seq != 17));
            if bad == 0 { Answer::new(200, b"") } else { Answer::new(200, b"\x0a\x0b\x08\x01\x12\x07too old") }
        })
        .await;
        let mut fleet = one(dir.path(), &ring, &format!("noc kind=otlp compression=none to={url}"));
        until_acked(&mut fleet, "noc", 40).await;
        let words = status(&mut fleet, "noc").last_error.unwrap();
        assert!(words.contains("1 records it refuses are in its dead letters"), "{words}");
        fleet.stop().await;
        assert_eq!(taken.borrow().len(), 39);
    });
    let dead = std::fs::read_to_string(dir.path().join("dead-letters/noc.syslog.ndjson")).unwrap();
    assert!(dead.lines().count() == 1 && dead.contains("record 17") && dead.contains("too old"), "{dead}");
}

#[test]
fn a_receiver_that_is_busy_is_tried_again_and_one_that_is_none_is_a_configuration_error() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    ring.store("syslog", &[b"<34>x"]);
    run(async {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let times = Rc::clone(&asked);
        let url = raw_http(move |_, _| {
            times.borrow_mut().push(std::time::Instant::now());
            match times.borrow().len() {
                1 => Answer { retry_after: Some("1"), ..Answer::new(429, b"") },
                2 => Answer::new(200, b"<html>welcome</html>"),
                _ => Answer::new(200, b""),
            }
        })
        .await;
        let mut fleet = one(dir.path(), &ring, &format!("noc kind=otlp to={url}"));
        until("it is no receiver of OTLP", || status(&mut fleet, "noc").state == "config_error").await;
        assert!(status(&mut fleet, "noc").last_error.unwrap().contains("without a body of OTLP"));
        until_acked(&mut fleet, "noc", 1).await;
        fleet.stop().await;
        let asked = asked.borrow();
        assert!((asked[1] - asked[0]).as_millis() >= 1000, "not before Retry-After");
    });
}

#[test]
fn a_decoder_that_is_not_ours_reads_every_number_of_the_host() {
    if !installed() {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let sample = include_bytes!("../../collectors/decode/tests/host/sample.json").trim_ascii();
    ring.store("host", &[sample, br#"{"t":7,"event":"oom_kill","count":2}"#, b"\xff", sample]);
    let bodies = Rc::new(RefCell::new(Vec::new()));
    run(async {
        let seen = Rc::clone(&bodies);
        let url = raw_http(move |head, body| {
            assert_eq!(head["content-type"], "application/x-protobuf");
            seen.borrow_mut().push(body.to_vec());
            Answer::new(200, b"")
        })
        .await;
        let line = format!(r#"noc kind=otlp_metrics compression=none streams=["host"] to={url}"#);
        let mut fleet = one(dir.path(), &ring, &line);
        until_acked(&mut fleet, "noc", 4).await;
        assert_eq!(status(&mut fleet, "noc").dead.held, 1, "the one that is no sample");
        fleet.stop().await;
    });
    let read = |body: &Vec<u8>| decoded_as("check.ExportMetricsServiceRequest", "tests/data/otlp.proto", body);
    let text: String = bodies.borrow().iter().map(read).collect();
    let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let no_unknown = !text.lines().any(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    assert!(no_unknown, "fields that the protocol does not have: {text}");
    let json: serde_json::Value = serde_json::from_slice(sample).unwrap();
    let (at, free, softirq) = (&json["t"], &json["memory"]["free_bytes"], &json["cpu"]["softirq_s"]);
    for part in [
        "key: \"dev\" value { string_value: \"arena\" }".to_owned(),
        format!(
            "metrics {{ name: \"raven_host_memory_free_bytes\" unit: \"By\" gauge {{ data_points {{ time_unix_nano: {at} \
             as_double: {free} }} }} }}"
        ),
        format!(
            "data_points {{ time_unix_nano: {at} as_double: {softirq} attributes {{ key: \"mode\" value {{ string_value: \
             \"softirq\" }} }} }}"
        ),
        "aggregation_temporality: AGGREGATION_TEMPORALITY_CUMULATIVE is_monotonic: true".to_owned(),
    ] {
        assert!(squeezed.contains(&part), "{part} is not there");
    }
    assert_eq!(squeezed.matches("name: \"raven_host_load1\"").count(), 2);
}
