//! What is refused, how the sender hears of it, and that it is counted.

use crate::dialects::pack;
use crate::support::{Client, Mode, Rig, event, eventually, request, secret};
use raven_model::units::ByteCount;
use std::time::{Duration, Instant};

crate::tests!(
    a_body_that_is_too_long_is_answered_413,
    a_bomb_is_answered_413,
    encodings_and_charsets_that_are_not_known_are_answered_415,
    what_holds_no_events_is_answered_400_with_the_place,
    broken_encodings_are_answered_400,
    credentials_open_the_door,
    credentials_that_did_not_come_let_nobody_in,
    a_slow_body_is_answered_408,
    a_slow_head_ends_the_connection,
    a_full_ring_is_answered_503,
    too_much_in_memory_is_answered_429,
    long_and_broken_events_are_kept_and_shown,
);

fn small() -> Rig {
    Rig::with(|config| config.collect.winevent.body_limit = ByteCount::kib(64), &[])
}

fn a_body_that_is_too_long_is_answered_413() {
    let rig = small();
    let mut told = rig.connect();
    // All of it is sent before the answer is read, as most senders do.
    let answer = told.post("/", "", &vec![b'x'; 5 << 20]);
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert!(answer.body.contains("\"type\":\"body_too_long\""), "{}", answer.body);
    let mut expects = rig.connect();
    expects.send("POST / HTTP/1.1\r\nHost: r\r\nExpect: 100-continue\r\nContent-Length: 9999999999\r\n\r\n");
    assert_eq!(expects.answer().status, 413);
    let mut chunks = rig.connect();
    chunks.send("POST / HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat();
    (0..5).for_each(|_| chunks.send(&chunk));
    assert_eq!(chunks.answer().status, 413);
    assert_eq!(rig.dropped("body_too_long", 3).inbox[0].count, 3);
    assert!(rig.kept().is_empty());
}

fn a_bomb_is_answered_413() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let zeroes = vec![b' '; 300 << 20];
    for encoding in ["gzip", "deflate", "Deflate", "zstd"] {
        let (bomb, begun) = (pack(encoding, &zeroes), Instant::now());
        let answer = client.post("/", &format!("Content-Encoding: {encoding}\r\n"), &bomb);
        assert_eq!(answer.status, 413, "{encoding}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{encoding}: {:?}", begun.elapsed());
        client = rig.connect();
    }
}

fn encodings_and_charsets_that_are_not_known_are_answered_415() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let body = b"{\"EventID\":1}";
    for header in [
        "Content-Encoding: br\r\n",
        "Content-Encoding: gzip, gzip\r\n",
        "Content-Encoding: gzip\r\nContent-Encoding: zstd\r\n",
    ] {
        assert_eq!(client.post("/", header, body).status, 415, "{header}");
        client = rig.connect();
    }
    assert_eq!(client.post("/", "Content-Type: application/json; charset=UTF-16\r\n", body).status, 415);
    client = rig.connect();
    let utf16: Vec<u8> = "\u{feff}{\"EventID\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let answer = client.post("/", "", &utf16);
    assert_eq!(answer.status, 415);
    assert!(answer.body.contains("UTF-8"), "{}", answer.body);
    let report = rig.dropped("charset", 2);
    assert_eq!(report.dropped["encoding_unknown"], 3);
    let item = report.inbox.iter().find(|item| item.reason == "charset").unwrap();
    assert!(item.first_bytes.starts_with("fffe7b00") && item.listener == format!("http:{}", rig.http), "{item:?}");
}

fn what_holds_no_events_is_answered_400_with_the_place() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for (body, at) in [("", 0), ("hello", 0), ("[{\"EventID\":1},{\"Ev", 19), ("[1]", 1)] {
        let answer = client.post("/", "", body.as_bytes());
        let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &told["error"]["type"]), (400, &"not_events".into()), "{body}");
        assert!(told["error"]["offset"].as_u64().unwrap() <= at, "{body}: {told}");
        assert!(!told["error"]["reason"].as_str().unwrap().is_empty());
    }
    assert!(rig.kept().is_empty(), "nothing of a refused body is kept");
    assert_eq!(client.post("/", "", b"{\"EventID\":1}").status, 200, "the connection goes on");
    rig.dropped("not_events", 4);
}

fn broken_encodings_are_answered_400() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for encoding in ["gzip", "deflate", "zstd"] {
        let header = format!("Content-Encoding: {encoding}\r\n");
        let packed = pack(encoding, event(1, 500).as_bytes());
        assert_eq!(client.post("/", &header, b"{\"EventID\":1}").status, 400, "{encoding}: not packed");
        assert_eq!(client.post("/", &header, &packed[..packed.len() / 2]).status, 400, "{encoding}: cut");
        assert_eq!(client.post("/", &header, &packed).status, 200, "{encoding}: whole");
    }
    rig.dropped("encoding_broken", 6);
}

fn credentials_open_the_door() {
    let guard =
        |config: &mut raven_model::config::Config| config.collect.winevent.credentials = Some(secret("senders"));
    let rig = Rig::with(guard, &[("credentials", b"bearer t0ken\nbasic beats:pass\n")]);
    let mut client = rig.connect();
    let body = b"{\"EventID\":1}";
    for good in ["Bearer t0ken", "Basic YmVhdHM6cGFzcw=="] {
        assert_eq!(client.post("/", &format!("Authorization: {good}\r\n"), body).status, 200, "{good}");
    }
    for bad in ["", "Authorization: Bearer t0kem\r\n", "Authorization: Basic YmVhdHM6cGFzcx==\r\n"] {
        let answer = client.post("/", bad, body);
        assert_eq!(answer.status, 401, "{bad}");
        assert!(answer.header("www-authenticate").is_some_and(|ask| ask.starts_with("Bearer")));
        client = rig.connect();
    }
    assert_eq!(rig.kept().len(), 2);
    let report = rig.dropped("credentials", 3);
    let [item] = &report.inbox[..] else { panic!("{report:?}") };
    assert_eq!((item.source.as_str(), item.count, item.reason.as_str()), ("127.0.0.1", 3, "credentials"));
    let whole = serde_json::to_string(&report).unwrap();
    assert!(!whole.contains("t0ken") && !whole.contains("t0kem"), "no secret in a report");
    // New ones take the place of the old ones at once.
    rig.secrets(&[("credentials", b"bearer new\n")]);
    eventually("the new token", || {
        (rig.connect().post("/", "Authorization: bearer new\r\n", body).status == 200).then_some(())
    });
    assert_eq!(rig.connect().post("/", "Authorization: Bearer t0ken\r\n", body).status, 401);
}

fn credentials_that_did_not_come_let_nobody_in() {
    let rig = Rig::with(|config| config.collect.winevent.credentials = Some(secret("senders")), &[]);
    let answer = rig.connect().post("/", "Authorization: Bearer x\r\n", b"{\"EventID\":1}");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
    rig.dropped("not_ready", 1);
}

fn a_slow_body_is_answered_408() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let begun = Instant::now();
    client.send("POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 1000\r\n\r\n{");
    // A byte now and then does not help.
    for _ in 0..9 {
        std::thread::sleep(Duration::from_secs(2));
        client.send(" ");
    }
    assert_eq!(client.answer().status, 408);
    assert!(begun.elapsed().as_secs() >= 19, "{:?}", begun.elapsed());
    rig.dropped("slow", 1);
}

fn a_slow_head_ends_the_connection() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let begun = Instant::now();
    client.send("POST / HTTP/1.1\r\nHost: ");
    assert_eq!(client.try_answer(), None);
    assert!(begun.elapsed().as_secs() >= 14, "{:?}", begun.elapsed());
    rig.dropped("slow", 1);
}

fn a_full_ring_is_answered_503() {
    let rig = Rig::new();
    rig.set(Mode::Hold);
    let body: String = (0..220).map(|n| event(n, 60_000)).collect();
    let mut clients: Vec<Client> = (0..6).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send(request("/", "", body.as_bytes()));
    }
    let full = clients.pop().unwrap();
    let mut full = full;
    let answer = full.answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
    rig.set(Mode::Commit);
    let stored = clients.iter_mut().filter_map(Client::try_answer).filter(|answer| answer.status == 200).count();
    assert!(stored >= 4, "{stored}");
    assert_eq!(full.post("/", "", b"{\"EventID\":1}").status, 200, "it goes on with the same connection");
    let report = rig.report(|report| report.dropped.contains_key("ring_full"));
    assert!(report.stalls > 0);
}

fn too_much_in_memory_is_answered_429() {
    let rig = Rig::new();
    let mut clients: Vec<Client> = (0..14).map(|_| rig.connect()).collect();
    let begun = request("/", "", &vec![b' '; 16 << 20]);
    for client in &mut clients {
        let _ = client.write(&begun[..begun.len() - 1]);
    }
    std::thread::sleep(Duration::from_millis(500));
    let mut refused = 0;
    for client in &mut clients {
        if !client.is_silent_for(Duration::from_millis(20)) {
            let answer = client.answer();
            assert_eq!((answer.status, answer.header("retry-after")), (429, Some("2")));
            refused += 1;
        }
    }
    assert!((1..10).contains(&refused), "{refused}");
    drop(clients);
    eventually("room", || (rig.connect().post("/", "", b"{\"EventID\":1}").status == 200).then_some(()));
    rig.dropped("cut_off", 14 - refused);
}

fn long_and_broken_events_are_kept_and_shown() {
    let rig = Rig::with(|config| config.collect.winevent.event_limit = ByteCount::kib(1), &[]);
    let mut client = rig.connect();
    let body = format!("{}\n{}\n{{\"EventID\":3,\"x\":\n{{\"EventID\":4}}\n", event(1, 10), event(2, 2000));
    let answer = client.post("/", "", body.as_bytes());
    assert_eq!(answer.body, "{\"events\":4}");
    let report = rig.report(|report| report.inbox.len() == 2);
    let reasons: Vec<&str> = report.inbox.iter().map(|item| item.reason.as_str()).collect();
    assert_eq!(reasons, ["event_over_limit", "event_broken"]);
    assert!(report.dropped.is_empty());
    assert_eq!(rig.kept().len(), 4);
}
