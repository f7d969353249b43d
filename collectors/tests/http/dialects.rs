//! What agents send: every shape in every encoding, and what they want to hear.

use crate::support::{Rig, event, eventually, request};
use std::io::Write;

crate::tests!(
    every_shape_comes_in_by_every_encoding,
    records_are_the_bytes_that_were_sent,
    winlogbeat_finds_its_elasticsearch,
    bulk_answers_an_item_per_action,
    half_a_million_items_are_answered_to_a_sender_that_takes_its_time,
    chunks_pipelines_and_expect_work,
    health_checks_and_other_methods,
    a_sender_that_closes_its_half_gets_its_answer,
);

/// A body and how many events are in it.
const SHAPES: [(&str, &str, usize); 8] = [
    ("/", "{\"EventID\":1,\"Channel\":\"Security\"}", 1),
    ("/api/data/windows", "{\"EventID\":1}\n{\"EventID\":2}\n", 2),
    ("/ingest", "{\"EventID\":1}{\"EventID\":2}{\"EventID\":3}", 3),
    ("/ingest?x=1", "[{\"EventID\":1},\r\n {\"EventID\":2}]", 2),
    ("/_bulk", "{\"create\":{\"_index\":\"a\"}}\n{\"EventID\":1}\n{\"index\":{}}\n{\"EventID\":2}\n", 2),
    ("/x", "<Event xmlns='y'><System><EventID>1</EventID></System></Event>", 1),
    ("/x", "<?xml version='1.0'?><Events><Event>1</Event><Event>2</Event></Events>", 2),
    ("/ps", "\u{feff}{\"Id\":4624,\"LogName\":\"Security\"}", 1),
];

pub fn pack(encoding: &str, body: &[u8]) -> Vec<u8> {
    let fast = flate2::Compression::fast();
    match encoding {
        "gzip" | "x-gzip" => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), fast);
            to.write_all(body).unwrap();
            to.finish().unwrap()
        }
        "deflate" => {
            let mut to = flate2::write::ZlibEncoder::new(Vec::new(), fast);
            to.write_all(body).unwrap();
            to.finish().unwrap()
        }
        "Deflate" => {
            let mut to = flate2::write::DeflateEncoder::new(Vec::new(), fast);
            to.write_all(body).unwrap();
            to.finish().unwrap()
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        _ => body.to_vec(),
    }
}

fn every_shape_comes_in_by_every_encoding() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let mut sum = 0;
    for encoding in ["identity", "gzip", "x-gzip", "deflate", "Deflate", "zstd"] {
        for (path, body, events) in SHAPES {
            let header = format!("Content-Encoding: {encoding}\r\nContent-Type: application/json; charset=utf-8\r\n");
            let answer = client.post(path, &header, &pack(encoding, body.as_bytes()));
            assert_eq!(answer.status, 200, "{encoding} {body}: {}", answer.body);
            sum += events;
            assert_eq!(rig.kept().len(), sum, "{encoding} {body}");
            if path != "/_bulk" {
                assert_eq!(answer.body, format!("{{\"events\":{events}}}"));
            }
        }
    }
}

fn records_are_the_bytes_that_were_sent() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let odd = "{ \"EventID\" : 1 ,\t\"Message\":\"\\u0041 \u{e9}\" }";
    assert_eq!(client.post("/", "", format!("[{odd} , {odd}]").as_bytes()).status, 200);
    assert_eq!(rig.texts(), [odd, odd]);
    // Over 64 KiB: in pieces, which together are the event.
    let long = event(2, 200_000);
    assert_eq!(client.post("/", "", long.as_bytes()).status, 200);
    let pieces = rig.kept().split_off(2);
    assert_eq!(pieces.iter().map(|kept| kept.piece).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(pieces.iter().flat_map(|kept| kept.raw.clone()).collect::<Vec<_>>(), long.as_bytes());
}

fn winlogbeat_finds_its_elasticsearch() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: raven\r\nUser-Agent: Elastic-Winlogbeat/8.17.0\r\n\r\n");
    let hello = client.answer();
    assert_eq!((hello.status, hello.header("x-elastic-product")), (200, Some("Elasticsearch")));
    let hello: serde_json::Value = serde_json::from_str(&hello.body).unwrap();
    assert!(hello["version"]["number"].as_str().unwrap().starts_with("8."));
    assert_eq!(hello["version"]["build_flavor"], "default");
    client.send("GET /_license?human=false HTTP/1.1\r\nHost: raven\r\n\r\n");
    let licence: serde_json::Value = serde_json::from_str(&client.answer().body).unwrap();
    assert_eq!((&licence["license"]["status"], &licence["license"]["type"]), (&"active".into(), &"basic".into()));
    client.send("HEAD /_index_template/winlogbeat-8.17.0 HTTP/1.1\r\nHost: raven\r\n\r\n");
    // The answer to HEAD has a length and no body: read on behind its head.
    let mut head = [0; 4096];
    let n = std::io::Read::read(&mut client.socket(), &mut head).unwrap();
    assert!(head[..n].starts_with(b"HTTP/1.1 200"));
    let setup = String::from_utf8(request("/_ilm/policy/winlogbeat", "", b"{\"policy\":{}}")).unwrap();
    client.send(setup.replacen("POST", "PUT", 1));
    assert_eq!(client.answer().body, "{\"acknowledged\":true}");
    assert!(rig.kept().is_empty());
    let report = rig.report(|report| !report.inbox.is_empty());
    assert_eq!(report.inbox[0].reason, "elastic_setup");
}

fn bulk_answers_an_item_per_action() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let body = (0..50).map(|n| ["{\"create\":{\"_index\":\"w\"}}\n", &event(n, 9), "\n"].concat()).collect::<String>();
    let answer = client.post("/_bulk?filter_path=errors,items.*.status", "", body.as_bytes());
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer["errors"], false);
    let items = answer["items"].as_array().unwrap();
    assert!(items.len() == 50 && items.iter().all(|item| item["create"]["status"] == 201));
    assert_eq!(rig.texts(), (0..50).map(|n| event(n, 9)).collect::<Vec<_>>());
    // A body of another shape at the same place.
    let answer = client.post("/winlogbeat/_bulk", "", b"{\"EventID\":1}\n{\"EventID\":2}\n");
    assert_eq!(answer.body.matches("201").count(), 2);
}

fn half_a_million_items_are_answered_to_a_sender_that_takes_its_time() {
    let rig = Rig::new();
    let body = "{\"index\":{}}\n{\"a\":1}\n".repeat(500_000);
    let mut clients: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send(request("/_bulk", "", body.as_bytes()));
    }
    eventually("all of it", || (rig.store.kept.lock().unwrap().len() == 2_000_000).then_some(()));
    // 48 MB of text are not held for them meanwhile.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let data = rig.data_kib();
    assert!(data < 40_000, "{data} KiB");
    for client in &mut clients {
        assert_eq!(client.answer().body.matches("201").count(), 500_000);
    }
}

fn chunks_pipelines_and_expect_work() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in ["{\"Event", "ID\":1}\n{\"E", "ventID\":2}"] {
        client.send(format!("{:x};ext=1\r\n{part}\r\n", part.len()));
    }
    client.send("0\r\nX-Trailer: 1\r\n\r\n");
    assert_eq!(client.answer().body, "{\"events\":2}");

    let three: Vec<u8> = (0..3).flat_map(|n| request("/", "", event(n, 5).as_bytes())).collect();
    client.send(&three);
    for _ in 0..3 {
        assert_eq!(client.answer().body, "{\"events\":1}");
    }
    assert_eq!(rig.texts()[2..], (0..3).map(|n| event(n, 5)).collect::<Vec<_>>());

    let whole = request("/", "Expect: 100-continue\r\n", b"{\"EventID\":9}");
    let (head, body) = whole.split_at(whole.len() - 13);
    client.send(head);
    assert_eq!(client.answer().status, 100);
    client.send(body);
    assert_eq!(client.answer().status, 200);
    // Old senders close after each request.
    let mut old = rig.connect();
    old.send("POST / HTTP/1.0\r\nContent-Length: 13\r\n\r\n{\"EventID\":8}");
    assert_eq!(old.answer().status, 200);
    assert_eq!(old.try_answer(), None);
}

fn health_checks_and_other_methods() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send("GET /health HTTP/1.1\r\nHost: r\r\n\r\n");
    assert_eq!(client.answer().body, "raven\n");
    client.send("DELETE / HTTP/1.1\r\nHost: r\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, PUT, GET, HEAD")));
    rig.dropped("method", 1);
    assert_eq!(client.post("/", "", b"{\"EventID\":1}").status, 200);
}

fn a_sender_that_closes_its_half_gets_its_answer() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(request("/", "", b"{\"EventID\":1}"));
    client.socket().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.try_answer(), None);
}
