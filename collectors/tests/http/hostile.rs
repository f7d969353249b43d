//! Senders that mean no good.

use crate::support::{Rig, event, request};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

crate::tests!(
    heads_without_end_are_refused,
    what_is_not_http_is_refused,
    smuggled_requests_are_not_served,
    any_bytes_do_no_harm,
    many_connections_are_served_at_a_time,
    connections_that_end_anywhere_leave_nothing_behind,
);

fn heads_without_end_are_refused() {
    let rig = Rig::new();
    for head in [
        format!("POST /{} HTTP/1.1\r\nHost: r\r\n\r\n", "x".repeat(200_000)),
        format!("POST / HTTP/1.1\r\nHost: r\r\nX: {}\r\n\r\n", "x".repeat(200_000)),
        format!("POST / HTTP/1.1\r\nHost: r\r\n{}\r\n", "A: b\r\n".repeat(500)),
    ] {
        let mut client = rig.connect();
        let _ = client.write(head.as_bytes());
        let answer = client.answer();
        assert!(matches!(answer.status, 414 | 431), "{}", answer.head);
    }
    assert_eq!(rig.dropped("http_malformed", 3).inbox.len(), 1);
}

fn what_is_not_http_is_refused() {
    let rig = Rig::new();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"<13>Oct 11 22:14:15 host app: a syslog line\n\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost r\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    ] {
        let mut client = rig.connect();
        client.send(bytes);
        let answer = client.try_answer();
        assert!(answer.is_none_or(|answer| answer.status >= 400), "{}", String::from_utf8_lossy(bytes));
    }
    rig.dropped("http_malformed", 8);
    assert!(rig.kept().is_empty());
}

fn smuggled_requests_are_not_served() {
    let rig = Rig::new();
    let inner = "POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 13\r\n\r\n{\"EventID\":6}";
    let both = format!(
        "POST / HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        inner.len() + 5
    );
    let mut client = rig.connect();
    client.send(both);
    while let Some(answer) = client.try_answer() {
        assert_ne!(answer.status, 200, "{}", answer.head);
        if answer.header("connection") == Some("close") {
            break;
        }
    }
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 13\r\nContent-Length: 14\r\n\r\n{\"EventID\":6} ");
    assert_eq!(client.answer().status, 400);
}

fn any_bytes_do_no_harm() {
    let rig = Rig::new();
    let mut seed = 7_u64;
    let mut below = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    let whole = request("/_bulk", "Content-Encoding: gzip\r\n", &crate::dialects::pack("gzip", &[b'x'; 300]));
    for _ in 0..300 {
        let mut bytes = whole.repeat(2);
        for _ in 0..=below(4) {
            let at = below(bytes.len());
            bytes[at] = below(256) as u8;
        }
        bytes.truncate(below(bytes.len()) + 1);
        let mut stream = TcpStream::connect(rig.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(rig.connect().post("/", "", b"{\"EventID\":1}").status, 200);
}

fn many_connections_are_served_at_a_time() {
    let rig = Rig::new();
    let mut clients: Vec<_> = (0..400).map(|_| rig.connect()).collect();
    for round in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(request("/", "", event(n + round * 1000, 100).as_bytes()));
        }
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
    }
    assert_eq!(rig.kept().len(), 1200);
    rig.report(|report| report.connections.values().sum::<u32>() == 400);
    drop(clients);
    rig.report(|report| report.connections.is_empty());
}

fn connections_that_end_anywhere_leave_nothing_behind() {
    let rig = Rig::new();
    let whole = request("/", "", event(1, 2000).as_bytes());
    for len in (1..whole.len()).step_by(53) {
        let mut client = rig.connect();
        client.send(&whole[..len]);
    }
    let report = rig.report(|report| report.connections.is_empty());
    assert!(rig.kept().is_empty());
    assert!(report.dropped.contains_key("cut_off"), "{report:?}");
}
