//! Remote write and Loki's push: what is kept, what is answered, and when.

use crate::support::{Answer, Client, Mode, Rig, eventually, secret};
use raven_decode::metrics::{Metric, decode};
use raven_model::config::Config;
use raven_model::stream::Stream;
use raven_model::units::ByteCount;
use std::time::Duration;

crate::tests!(
    a_write_is_answered_204_once_it_is_durable,
    the_records_of_a_write_put_together_are_its_body,
    log_lines_come_as_protobuf_and_as_json,
    what_can_never_be_understood_is_kept_as_refused_and_answered_400,
    the_second_version_of_remote_write_is_answered_415,
    prometheus_is_asked_to_come_again_when_there_is_no_room,
    credentials_open_the_door_to_metrics,
    a_write_that_is_too_long_is_answered_413,
    a_long_log_line_is_kept_in_pieces_and_noted,
    a_killed_collector_of_metrics_has_answered_nothing_that_is_not_kept,
);

const WRITE: &str = "/api/v1/write";
const PUSH: &str = "/loki/api/v1/push";
const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
    X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

fn rig() -> Rig {
    Rig::of(Stream::Metrics, |_| {}, &[])
}

/// A field of bytes.
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut len) = (vec![number << 3 | 2], bytes.len());
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    [out, bytes.to_vec()].concat()
}

fn series(name: &str, value: f64) -> Vec<u8> {
    let label = [field(1, b"__name__"), field(2, name.as_bytes())].concat();
    let sample = [&[0x09][..], &value.to_le_bytes(), &[0x10, 0x81, 0x01]].concat();
    field(1, &[field(1, &label), field(2, &sample)].concat())
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn write(client: &mut Client, body: &[u8]) -> Answer {
    client.post(WRITE, PROTOBUF, &snappy(body))
}

fn a_write_is_answered_204_once_it_is_durable() {
    let rig = rig();
    rig.set(Mode::Hold);
    let mut client = rig.connect();
    client.send(crate::support::request(WRITE, PROTOBUF, &snappy(&series("up", 1.5))));
    eventually("the record", || (rig.kept().len() == 1).then_some(()));
    assert!(client.is_silent_for(Duration::from_millis(200)));
    rig.set(Mode::Commit);
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let kept = rig.kept().remove(0);
    assert!(!kept.refused && !kept.piece && kept.source == client.socket().local_addr().unwrap());
    let Some(Metric::Series(series)) = decode(&kept.raw).metric else { panic!("{kept:?}") };
    assert_eq!((series.name.as_deref(), series.samples[0].value.as_str()), (Some("up"), "1.5"));
    assert_eq!(series.samples[0].time_ms, 129);
}

fn the_records_of_a_write_put_together_are_its_body() {
    let rig = rig();
    // Series, metadata, and a field that nobody knows.
    let metadata = field(3, &[&[0x08, 1][..], &field(2, b"up")].concat());
    let all: Vec<_> = (0..500).map(|n| series(&format!("m{n}"), f64::from(n))).collect();
    let body = [&all.concat()[..], &metadata, &[0x78, 1]].concat();
    assert_eq!(write(&mut rig.connect(), &body).status, 204);
    let kept = rig.kept();
    assert_eq!(kept.len(), 502);
    let put_together: Vec<u8> =
        kept.iter().flat_map(|kept| kept.raw.strip_prefix(b"remote-write\n").unwrap()).copied().collect();
    assert_eq!(put_together, body);
}

fn log_lines_come_as_protobuf_and_as_json() {
    let rig = rig();
    let mut client = rig.connect();
    let entry = |line: &str| field(2, &[field(1, &[0x08, 5]), field(2, line.as_bytes())].concat());
    let stream = [field(1, br#"{job="sonic"}"#), entry("one"), entry("two")].concat();
    let answer = client.post(PUSH, "Content-Type: application/x-protobuf\r\n", &snappy(&field(1, &stream)));
    assert_eq!(answer.status, 204, "{}", answer.body);
    let json = br#"{"streams":[{"stream":{"job":"sonic"},"values":[["5000000000","three"],["5000000000","four",{"a":"b"}]]}]}"#;
    assert_eq!(client.post(PUSH, JSON, json).status, 204);
    let packed = crate::dialects::pack("gzip", json);
    assert_eq!(client.post(PUSH, &format!("{JSON}Content-Encoding: gzip\r\n"), &packed).status, 204);
    let line = |raw: &[u8]| match decode(raw).metric {
        Some(Metric::Log(log)) => (log.labels["job"].clone(), log.time_ns.unwrap(), log.line),
        other => panic!("{other:?}"),
    };
    let lines: Vec<_> = rig.kept().iter().map(|kept| line(&kept.raw)).collect();
    let expected = ["one", "two", "three", "four", "three", "four"];
    assert_eq!(lines, expected.map(|line| ("sonic".to_owned(), 5_000_000_000, line.to_owned())));
}

fn what_can_never_be_understood_is_kept_as_refused_and_answered_400() {
    let rig = rig();
    let mut client = rig.connect();
    let broken = [series("up", 1.0), vec![0x0a, 0x7f, 1]].concat();
    let answer = write(&mut client, &broken);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("ends inside a field"), "{}", answer.body);
    assert_eq!(client.post(WRITE, PROTOBUF, b"\xff\xff\xffnot snappy").status, 400);
    assert_eq!(client.post(PUSH, JSON, br#"{"streams":[{"stream":{},"values":[["x","y"]]}]}"#).status, 400);
    let long = [vec![0x0a, 0x7f], vec![b'x'; 100_000]].concat();
    assert_eq!(write(&mut client, &long).status, 400);
    let kept = rig.kept();
    assert!(kept.iter().all(|kept| kept.refused && decode(&kept.raw).reject.is_some()));
    assert_eq!(kept[0].raw, [&b"refused remote-write\n"[..], &broken].concat());
    assert_eq!(kept[1].raw, b"refused packed remote-write\n\xff\xff\xffnot snappy");
    assert!(kept[2].raw.starts_with(b"refused loki-json\n{"));
    let pieces: Vec<u8> =
        kept[3..].iter().flat_map(|kept| &kept.raw[b"refused remote-write\n".len()..]).copied().collect();
    assert_eq!((kept.len(), pieces), (5, long));
    // It is no loss, and it is shown.
    let report = rig.report(|report| report.inbox.iter().map(|item| item.count).sum::<u64>() == 4);
    assert!(report.dropped.is_empty(), "{:?}", report.dropped);
    assert!(report.inbox.iter().all(|item| item.stream == "metrics" && !item.remedy.contains("winevent")));
}

fn the_second_version_of_remote_write_is_answered_415() {
    let rig = rig();
    let v2 =
        "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\nContent-Encoding: snappy\r\n";
    let answer = rig.connect().post(WRITE, v2, &snappy(&series("up", 1.0)));
    assert_eq!(answer.status, 415, "{}", answer.body);
    assert_eq!(rig.connect().post("/", PROTOBUF, b"x").status, 404);
    assert_eq!(rig.dropped("path", 1).dropped.get("content_type"), Some(&1));
    assert!(rig.kept().is_empty());
}

fn prometheus_is_asked_to_come_again_when_there_is_no_room() {
    let rig = rig();
    rig.set(Mode::Hold);
    // The store takes nothing back: what is appended stays in the ring until it is full.
    let label = [field(1, b"__name__"), field(2, &vec![b'x'; 60_000])].concat();
    let body: Vec<u8> = (0..60).flat_map(|_| field(1, &field(1, &label))).collect();
    let mut clients: Vec<_> = (0..30).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send(crate::support::request(WRITE, PROTOBUF, &snappy(&body)));
    }
    let full = rig
        .report(|report| report.dropped.contains_key("ring_full") || report.dropped.contains_key("too_many_waiting"));
    rig.set(Mode::Commit);
    let answers: Vec<_> = clients.iter_mut().map(Client::answer).collect();
    assert!(answers.iter().all(|answer| [204, 503].contains(&answer.status)), "{full:?}");
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!refused.is_empty() && refused.iter().all(|answer| answer.header("retry-after") == Some("2")));
}

fn credentials_open_the_door_to_metrics() {
    let guarded = |config: &mut Config| config.collect.metrics.credentials = Some(secret("senders"));
    let rig = Rig::of(Stream::Metrics, guarded, &[("credentials", b"bearer abc\nbasic alloy:pass\n")]);
    let post =
        |header: &str| rig.connect().post(WRITE, &format!("{PROTOBUF}{header}"), &snappy(&series("up", 1.0))).status;
    // `alloy:pass` in base64.
    assert_eq!(post("Authorization: Basic YWxsb3k6cGFzcw==\r\n"), 204);
    assert_eq!(post("Authorization: Bearer abc\r\n"), 204);
    assert_eq!(post("Authorization: Bearer abd\r\n"), 401);
    assert_eq!(post(""), 401);
    let report = rig.dropped("credentials", 2);
    assert!(report.inbox[0].remedy.contains("collect.metrics.credentials"), "{:?}", report.inbox);
}

fn a_write_that_is_too_long_is_answered_413() {
    let rig = Rig::of(Stream::Metrics, |config| config.collect.metrics.body_limit = ByteCount::kib(64), &[]);
    let body: Vec<u8> = (0..2000).flat_map(|n| series(&format!("metric_{n}"), 1.0)).collect();
    assert_eq!(write(&mut rig.connect(), &body).status, 413);
    rig.dropped("body_too_long", 1);
    assert!(rig.kept().is_empty());
}

fn a_long_log_line_is_kept_in_pieces_and_noted() {
    let rig = rig();
    let line = "x".repeat(100_000);
    let json = format!(r#"{{"streams":[{{"stream":{{"a":"b"}},"values":[["1","{line}"]]}}]}}"#);
    assert_eq!(rig.connect().post(PUSH, JSON, json.as_bytes()).status, 204);
    let kept = rig.kept();
    assert_eq!((kept.len(), kept[0].piece, kept[1].piece), (2, true, false));
    rig.report(|report| report.inbox.iter().any(|item| item.reason == "record_over_limit"));
}

fn a_killed_collector_of_metrics_has_answered_nothing_that_is_not_kept() {
    let mut rig = rig();
    let (mut answered, mut sent) = (Vec::new(), 0);
    for _ in 0..4 {
        let mut clients: Vec<_> = (0..4).map(|_| rig.connect()).collect();
        for _ in 0..20 {
            for client in &mut clients {
                sent += 1;
                if write(client, &series(&format!("n{sent}"), 1.0)).status == 204 {
                    answered.push(format!("n{sent}"));
                }
            }
        }
        clients[0].send(crate::support::request(WRITE, PROTOBUF, &snappy(&series("under_way", 1.0))));
        rig.kill_and_restart(&[]);
    }
    assert_eq!(answered.len(), 320);
    let kept: Vec<_> = rig
        .kept()
        .iter()
        .filter_map(|kept| match decode(&kept.raw).metric {
            Some(Metric::Series(series)) => series.name,
            _ => None,
        })
        .collect();
    assert!(answered.iter().all(|name| kept.contains(name)));
}
