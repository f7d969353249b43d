//! What TCP senders may do to a listener, and what they may not.

use crate::appliance::{Appliance, Plan, find, number};
use crate::sender::one_datagram;
use crate::{eventually, pause};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// What is sent, and the messages that are in it.
type Case<'a> = (&'a str, &'a [u8], &'a [&'a [u8]]);

/// Sends `bytes` on a connection of their own and ends it.
fn send(raven: &Appliance, bytes: &[u8]) {
    let mut stream = TcpStream::connect(raven.udp()).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // The far end closes when it has read everything.
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(stream.read(&mut [0; 16]).ok(), Some(0), "the connection is closed after its end");
}

/// The records that a connection with `bytes` makes.
fn messages_of(raven: &Appliance, bytes: &[u8], expected: usize) -> Vec<Vec<u8>> {
    let before = raven.stored();
    send(raven, bytes);
    raven.settle(before + expected as u64);
    raven.records().iter().skip(before as usize).map(|record| record.raw_bytes().unwrap()).collect()
}

#[test]
fn each_framing_is_found_by_itself() {
    let raven = Appliance::start();
    let cases: [Case<'_>; 7] = [
        ("LF", b"<1>a\n<2>b\n", &[b"<1>a", b"<2>b"]),
        ("CRLF", b"<1>a\r\n<2>b\r\n", &[b"<1>a", b"<2>b"]),
        ("NUL", b"<1>a\0<2>b\nc\0", &[b"<1>a", b"<2>b\nc"]),
        ("octet counting", b"7 <1>a\nb\n4 <2>c", &[b"<1>a\nb\n", b"<2>c"]),
        ("both", b"4 <1>a<2>b\n4 <3>c", &[b"<1>a", b"<2>b", b"<3>c"]),
        ("no end", b"<1>a\n<2>cut off", &[b"<1>a", b"<2>cut off"]),
        ("bytes that are no text", b"\xff\xfe\x80\n<1>\xc3\x28\n", &[b"\xff\xfe\x80", b"<1>\xc3\x28"]),
    ];
    for (name, bytes, expected) in cases {
        let expected: Vec<Vec<u8>> = expected.iter().map(|m| m.to_vec()).collect();
        assert_eq!(messages_of(&raven, bytes, expected.len()), expected, "{name}");
    }
}

#[test]
fn a_message_that_had_begun_is_kept_at_a_graceful_stop() {
    let raven = Appliance::start();
    let mut stream = TcpStream::connect(raven.udp()).unwrap();
    stream.write_all(b"<1>whole\n<2>begun").unwrap();
    raven.settle(1);
    let raven = raven.restart();
    raven.settle(2);
    let raws: Vec<_> = raven.records().iter().map(|record| record.raw_bytes().unwrap()).collect();
    assert_eq!(raws, [b"<1>whole".to_vec(), b"<2>begun".to_vec()]);
}

#[test]
fn a_message_over_the_limit_is_kept_in_pieces_without_a_byte_missing() {
    let raven = Appliance::start();
    let long: Vec<u8> = (0..200_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let pieces = messages_of(&raven, &[format!("{} <1>", long.len() + 3).as_bytes(), &long].concat(), 4);
    assert_eq!(pieces.concat(), [b"<1>", &long[..]].concat());
    let pieces = messages_of(&raven, &[b"<1>", &long[..], b"\n<2>next\n"].concat(), 5);
    assert_eq!(pieces.concat(), [b"<1>", &long[..], b"<2>next"].concat());
    assert_eq!(pieces.last().map(Vec::as_slice), Some(&b"<2>next"[..]));
    assert_eq!(raven.records().iter().filter(|record| record.piece).count(), 6);
}

#[test]
fn a_slow_sender_holds_up_nobody() {
    let raven = Appliance::start();
    let mut slow = TcpStream::connect(raven.udp()).unwrap();
    for byte in b"<13>a byte at a time" {
        slow.write_all(&[*byte]).unwrap();
        pause(20);
    }
    send(&raven, b"<13>quick\n");
    raven.record_with("quick");
    slow.write_all(b"\n").unwrap();
    assert_eq!(raven.record_with("a byte at a time").raw.unwrap(), "<13>a byte at a time");
}

#[test]
fn a_flood_of_connections_is_refused_and_counted_and_stops_nobody() {
    let mut plan = Plan::new();
    plan.syslog = "connections_per_source = 8".to_owned();
    let raven = plan.start();
    let flood: Vec<TcpStream> = (0..64).filter_map(|_| TcpStream::connect(raven.udp()).ok()).collect();
    eventually("the connections over the limit are counted", || {
        let listener = find(&raven.status()["listeners"], "proto", "tcp");
        number(&listener["connections"]) == 8 && number(&listener["dropped"]["over_limit"]) == flood.len() as u64 - 8
    });
    one_datagram(raven.udp(), b"<13>by datagram");
    raven.record_with("by datagram");
    // From another address there is room.
    let mut other = TcpStream::connect(raven.udp6()).unwrap();
    other.write_all(b"<13>from elsewhere\n").unwrap();
    raven.record_with("from elsewhere");
    drop(flood);
    eventually("the places are free again", || {
        number(&find(&raven.status()["listeners"], "proto", "tcp")["connections"]) <= 1
    });
    send(&raven, b"<13>after the flood\n");
    raven.record_with("after the flood");
}
