#![allow(clippy::unwrap_used)]
use super::*;
use crate::decode::fake::{Fake, Message, encoded};
use raven_model::query::{Reply, TopBy};
use raven_model::units::UnixNanos;

const SECOND: u64 = 1_000_000_000;

/// NetFlow 5 with flows of (source, source port, destination port, bytes); sampled 1 in `rate`.
fn v5(rate: u16, flows: &[(u8, u16, u16, u32)]) -> Vec<u8> {
    let mut raw = [0, 5, 0, flows.len() as u8].to_vec();
    raw.resize(22, 0);
    raw.extend_from_slice(&rate.to_be_bytes());
    for (source, src_port, dst_port, bytes) in flows {
        let mut record = vec![0; 48];
        record[..4].copy_from_slice(&[10, 0, 0, *source]);
        record[4..8].copy_from_slice(&[192, 0, 2, 80]);
        record[16..20].copy_from_slice(&2_u32.to_be_bytes());
        record[20..24].copy_from_slice(&bytes.to_be_bytes());
        record[32..34].copy_from_slice(&src_port.to_be_bytes());
        record[34..36].copy_from_slice(&dst_port.to_be_bytes());
        record[38] = 6;
        raw.extend_from_slice(&record);
    }
    raw
}

/// IPFIX of domain 1: a template with applicationId (4) and octets (4), one that names applications, and records.
fn applications(flows: &[(u32, u32)], names: &[(u32, &str)]) -> Vec<u8> {
    let set = |id: u16, body: &[u8]| [&id.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat();
    let data: Vec<u8> = flows.iter().flat_map(|(id, bytes)| [id.to_be_bytes(), bytes.to_be_bytes()].concat()).collect();
    let table: Vec<u8> = names
        .iter()
        .flat_map(|(id, name)| [&id.to_be_bytes()[..], &[name.len() as u8], name.as_bytes()].concat())
        .collect();
    let sets = [
        set(2, &[1, 0, 0, 2, 0, 95, 0, 4, 0, 1, 0, 4]),
        set(3, &[1, 1, 0, 2, 0, 1, 0, 95, 0, 4, 0, 96, 255, 255]),
        set(256, &data),
        set(257, &table),
    ]
    .concat();
    let head = [10, sets.len() as u16 + 16].map(u16::to_be_bytes).concat();
    [&head[..], &[0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0, 1], &sets].concat()
}

fn question(by: TopBy) -> FlowsTop {
    FlowsTop { by, since: None, until: None, n: 20, source: None }
}

fn answer(question: FlowsTop, messages: &[Message<'_>]) -> (Vec<TopView>, Vec<String>) {
    let mut fake = Fake::new(vec![encoded(Seq(1), messages)]);
    let knowledge = Knowledge::new("/nonexistent".into());
    let (mut top, mut lines) = (Top::new(question, &knowledge), Lines::default());
    while top.step(&mut fake, &mut lines).unwrap() != Step::Done {}
    let (mut views, mut notes) = (Vec::new(), Vec::new());
    for line in lines.text().lines() {
        match Reply::on_line(line.as_bytes()) {
            Some(Reply::Note(note)) => notes.push(note),
            _ => views.push(serde_json::from_str(line).unwrap()),
        }
    }
    (views, notes)
}

/// Key, name, bytes, bytes estimated.
type Told<'a> = (Option<&'a str>, Option<&'a str>, u64, Option<u64>);

fn told(views: &[TopView]) -> Vec<Told<'_>> {
    views.iter().map(|view| (view.key.as_deref(), view.name.as_deref(), view.bytes, view.bytes_estimated)).collect()
}

#[test]
fn flows_are_summed_as_sent_and_the_estimate_stands_beside() {
    let sampled = v5(100, &[(1, 40_000, 443, 500), (2, 443, 40_000, 30), (1, 40_001, 53, 7)]);
    let (views, notes) = answer(question(TopBy::Src), &[(SECOND, "192.0.2.1:9", &sampled)]);
    assert_eq!(
        told(&views),
        [
            (Some("10.0.0.1"), None, 507, Some(50_700)),
            (Some("10.0.0.2"), None, 30, Some(3000)),
            (None, None, 537, Some(53_700))
        ]
    );
    assert_eq!((views[0].flows, views[0].packets, views[0].packets_estimated), (2, 4, Some(400)));
    let total = views[2].total.as_ref().unwrap();
    assert_eq!((total.datagrams, total.keys, total.missing_bytes_max), (1, 2, 0));
    assert_eq!(notes, [""; 0]);
}

#[test]
fn without_a_rate_there_is_no_estimate() {
    let (known, unknown) = (v5(10, &[(1, 1, 2, 5)]), v5(0, &[(1, 1, 2, 6), (2, 1, 2, 1)]));
    let messages: [Message<'_>; 2] = [(SECOND, "192.0.2.1:9", &known), (SECOND, "192.0.2.1:9", &unknown)];
    let (views, _) = answer(question(TopBy::Src), &messages);
    assert_eq!(told(&views)[0], (Some("10.0.0.1"), None, 11, None));
    assert_eq!((views[0].flows_without_rate, views[1].flows_without_rate), (1, 1));
}

#[test]
fn every_key_is_told_in_its_own_words() {
    let raw = v5(1, &[(1, 443, 40_000, 500), (1, 40_000, 443, 30)]);
    let messages: [Message<'_>; 1] = [(SECOND, "192.0.2.1:9", &raw)];
    let first = |by| {
        let (views, _) = answer(question(by), &messages);
        let view = &views[0];
        (view.key.clone().unwrap(), view.name.clone().unwrap_or_default(), view.flows)
    };
    let is = |key: &str, name: &str, flows| (key.to_owned(), name.to_owned(), flows);
    assert_eq!(first(TopBy::Dst), is("192.0.2.80", "", 2));
    assert_eq!(first(TopBy::App), is("tcp/443", "https", 2));
    assert_eq!(first(TopBy::Port), is("tcp/40000", "", 1));
    assert_eq!(first(TopBy::Pair), is("10.0.0.1 > 192.0.2.80", "", 2));
    assert_eq!(first(TopBy::Exporter), is("192.0.2.1", "", 2));
}

#[test]
fn an_application_is_called_as_its_exporter_calls_it() {
    let raw = applications(&[(0x0d00_01c5, 9), (0x0d00_0001, 5), (0, 1)], &[(0x0d00_01c5, "youtube")]);
    let (views, _) = answer(question(TopBy::App), &[(SECOND, "192.0.2.1:9", &raw)]);
    assert_eq!(
        told(&views),
        [
            (Some("13:453"), Some("youtube"), 9, None),
            (Some("13:1"), None, 5, None),
            (None, None, 1, None),
            (None, None, 15, None)
        ]
    );
}

#[test]
fn only_the_time_and_the_exporter_asked_for_count_and_what_is_missing_is_said() {
    let raw = v5(1, &[(1, 1, 2, 5)]);
    // A data set of version 9 without its template.
    let blind = [0, 9, 0, 1, 0, 0, 0, 9, 0x5f, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 1, 0, 0, 8, 1, 2, 3, 4];
    let messages: [Message<'_>; 6] = [
        (9 * SECOND, "192.0.2.1:9", &raw),
        (10 * SECOND, "192.0.2.1:9", &raw),
        (11 * SECOND, "192.0.2.2:9", &raw),
        (12 * SECOND, "192.0.2.1:9", &blind),
        (13 * SECOND, "192.0.2.1:9", b"nonsense"),
        (14 * SECOND, "192.0.2.1:9", &raw),
    ];
    let only = FlowsTop {
        since: Some(UnixNanos(10 * SECOND)),
        until: Some(UnixNanos(14 * SECOND)),
        source: Some("::ffff:192.0.2.1".parse().unwrap()),
        ..question(TopBy::Src)
    };
    let (views, _) = answer(only, &messages);
    let last = views.last().unwrap();
    let total = last.total.as_ref().unwrap();
    assert_eq!((last.bytes, total.datagrams, total.undescribed, total.unread), (5, 3, 1, 1));
    assert_eq!((total.first_ns, total.last_ns), (Some(UnixNanos(10 * SECOND)), Some(UnixNanos(13 * SECOND))));
}

#[test]
fn no_flows_are_an_answer_too() {
    let (views, _) = answer(FlowsTop { n: 0, ..question(TopBy::Src) }, &[(SECOND, "192.0.2.1:9", b"x")]);
    assert_eq!((views.len(), views[0].bytes_estimated), (1, None));
}
