//! One message, from each transport, to the operator's eye.

use crate::appliance::{Appliance, find, number, said};
use crate::marks::{EXACT, Marks};
use crate::sender::{Sender, one_datagram};
use crate::{eventually, pause};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn a_datagram_is_shown_with_the_address_that_sent_it() {
    let raven = Appliance::start();
    for (to, text) in [(raven.udp(), "hello by IPv4"), (raven.udp6(), "hello by IPv6")] {
        let from = one_datagram(to, format!("<13>{text}").as_bytes());
        let record = raven.record_with(text);
        assert_eq!((record.source.addr, record.source.port), (from.ip(), from.port()), "{text}");
        assert_eq!(record.raw.unwrap(), format!("<13>{text}"));
        assert!(record.listener.starts_with("udp:"), "{}", record.listener);
    }
}

#[test]
fn a_tcp_message_is_shown_with_the_address_that_sent_it() {
    let raven = Appliance::start();
    for (to, text) in [(raven.udp(), "hello by IPv4"), (raven.udp6(), "hello by IPv6")] {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(format!("<13>{text}\n").as_bytes()).unwrap();
        let record = raven.record_with(text);
        let from = stream.local_addr().unwrap();
        assert_eq!((record.source.addr, record.source.port), (from.ip(), from.port()), "{text}");
        assert_eq!(record.raw.unwrap(), format!("<13>{text}"));
        assert!(record.listener.starts_with("tcp:"), "{}", record.listener);
    }
}

#[test]
fn an_empty_datagram_and_bytes_that_are_no_text_are_kept_as_they_are() {
    let raven = Appliance::start();
    let long = vec![0x80; 60_000];
    let bytes: [&[u8]; 4] = [b"", b"\x00\xff\xfe\n\r\n", b"<13>tail\n", &long];
    for message in bytes {
        one_datagram(raven.udp(), message);
    }
    raven.settle(4);
    let raw: Vec<_> = raven.records().iter().map(|record| record.raw_bytes().unwrap()).collect();
    assert_eq!(raw, bytes.map(<[u8]>::to_vec));
}

#[test]
fn tail_prints_what_is_stored_as_json() {
    let raven = Appliance::start();
    one_datagram(raven.udp(), b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick");
    raven.settle(1);
    let output = raven.raven(&["tail", "syslog", "--json", "--decoded"]);
    assert!(output.status.success(), "{}", said(&output));
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&record["seq"]), 1);
    assert_eq!(record["source"]["addr"], "127.0.0.1");
    assert_eq!(record["decoded"]["hostname"], "mymachine");
    assert_eq!(record["decoded"]["severity"], 2);
}

#[test]
fn tail_follows_what_is_stored_later() {
    let raven = Appliance::start();
    let mut tail = Command::new(raven.programs.join("raven"));
    tail.arg("--data").arg(raven.plan.data()).args(["tail", "syslog", "--json", "--follow"]);
    let mut tail = tail.stdout(Stdio::piped()).spawn().unwrap();
    pause(500);
    one_datagram(raven.udp(), b"<13>later");
    let mut line = String::new();
    BufReader::new(tail.stdout.take().unwrap()).read_line(&mut line).unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["raw"], "<13>later");
}

#[test]
fn status_tells_what_checks_from_outside_rely_on() {
    let raven = Appliance::start();
    one_datagram(raven.udp(), b"<13>hello");
    raven.settle(1);
    eventually("the listener counts the record", || {
        let listeners = raven.status()["listeners"].clone();
        number(&find(&listeners, "proto", "udp")["received"]) == 1
    });
    let status = raven.status();
    let promised = [
        ("processes", vec!["role", "pid", "uid", "restarts", "uptime_s", "capabilities"]),
        ("listeners", vec!["stream", "proto", "addr", "received", "bytes", "dropped"]),
        (
            "streams",
            vec![
                "name",
                "first_seq",
                "next_seq",
                "stored",
                "evicted",
                "bytes_raw",
                "bytes_disk",
                "oldest_ns",
                "time_to_full_s",
            ],
        ),
    ];
    for (list, fields) in promised {
        let entries = status[list].as_array().unwrap();
        assert!(!entries.is_empty(), "{list} is empty");
        for field in fields {
            assert!(entries.iter().all(|entry| entry.get(field).is_some()), "{list}[].{field} is missing: {status}");
        }
    }
    assert_eq!(number(&find(&status["listeners"], "proto", "udp")["bytes"]), 9);
}

#[test]
fn a_graceful_stop_keeps_everything_that_was_received() {
    let raven = Appliance::start();
    let sender = Sender::udp(raven.udp(), "stop", 0, 20_000);
    pause(1_000);
    let sent = sender.stop();
    let raven = raven.restart();
    raven.settle(sent);
    assert_eq!(Marks::of_ring(&raven, "stop").audit(0, sent), EXACT);
    assert!(raven.verify().0, "{}", raven.verify().1);
}

#[test]
fn sources_tells_who_is_sending_and_what_was_not_understood() {
    let raven = Appliance::start();
    one_datagram(raven.udp(), b"<13>1 2026-06-05T20:15:00Z gate-7 app - - - fine");
    one_datagram(raven.udp6(), b"\x01\x02 no grammar at all");
    raven.settle(2);
    let output = raven.raven(&["sources", "syslog", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("127.0.0.1") && text.contains("gate-7") && text.contains("::1"), "{text}");
}
