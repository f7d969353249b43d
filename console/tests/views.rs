//! What operators see of the streams: sources, inbox, traps and the top of flows, against a stand-in for ravend.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{FakeRavend, code, raven, stderr, stdout};
use raven_model::control::{RawStatus, Request, Response};
use raven_model::query::{Query, Reply, SourceTrouble, SourceView, TopBy, TopTotal, TopView};
use raven_model::report::{CollectorReport, Engine, Exporter, InboxItem, ListenerStatus, Process, Status};
use raven_model::table::Role;
use raven_model::units::UnixNanos;
use serde_json::Value;
use serde_json::value::to_raw_value;
use std::collections::BTreeMap;

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn status() -> Response {
    let listener = ListenerStatus {
        stream: "flow".into(),
        proto: "udp".into(),
        addr: "[::]:2055".into(),
        dropped: BTreeMap::from([("socket_buffer".to_owned(), 3)]),
        ..ListenerStatus::default()
    };
    let process = |role: &str| Process { role: role.into(), state: "running".into(), ..Process::default() };
    let own = Status {
        processes: ["flow", "trap", "winevent"].map(process).to_vec(),
        listeners: vec![listener],
        ..Status::default()
    };
    let exporter = Exporter {
        source: "192.0.2.1".into(),
        version: "netflow9".into(),
        sampling: Some(1000),
        sampling_source: "options".into(),
        lost: 7,
        lost_unit: "packets".into(),
        ..Exporter::default()
    };
    let flow = CollectorReport {
        exporters: vec![exporter],
        dropped: BTreeMap::from([("malformed".to_owned(), 2)]),
        ..CollectorReport::default()
    };
    let item = InboxItem {
        stream: "trap".into(),
        source: "192.0.2.9".into(),
        listener: "udp:[::]:162".into(),
        reason: "unknown_user".into(),
        count: 4,
        last_seen_ns: UnixNanos(2_000_000_000),
        first_bytes: "3082".into(),
        remedy: "add the user to the file of `collect.trap.users`".into(),
        ..InboxItem::default()
    };
    let engine = Engine { engine_id: "80001f88".into(), user: "noc".into(), accepted: 5, ..Engine::default() };
    let trap = CollectorReport { inbox: vec![item], engines: vec![engine], ..CollectorReport::default() };
    let reports = [(Role::Flow, to_raw_value(&flow).unwrap()), (Role::Trap, to_raw_value(&trap).unwrap())];
    Response::Status(Box::new(RawStatus { own, reports: BTreeMap::from(reports) }))
}

fn sender(not_understood: u64) -> SourceView {
    let trouble = SourceTrouble {
        reason: "no priority \u{1b}".into(),
        listener: "udp:[::]:514".into(),
        last_seen_ns: UnixNanos(3_000_000_000),
        first_bytes: "1b5b32".into(),
    };
    SourceView {
        addr: "192.0.2.7".parse().unwrap(),
        records: 9,
        bytes: 90,
        rate: 0.5,
        last_seen_ns: UnixNanos(3_000_000_000),
        not_understood,
        hostname: None,
        sample: None,
        trouble: (not_understood > 0).then_some(trouble),
    }
}

/// Keeps syslog alone, of whose sender so many messages are not understood.
fn fake(respond: impl Fn() -> Response + Send + 'static, not_understood: u64) -> FakeRavend {
    let answer = move |query: &Query| match query {
        Query::Sources { stream, .. } if stream == "syslog" => {
            let mut line = serde_json::to_vec(&sender(not_understood)).unwrap();
            line.push(b'\n');
            (Reply::Ok, line, Some(Reply::Done(1)))
        }
        Query::Sources { stream, .. } => (Reply::Error(format!("there is no stream `{stream}`")), Vec::new(), None),
        _ => (Reply::Error("not asked for".into()), Vec::new(), None),
    };
    let respond = move |request: &Request| match request {
        Request::Status => respond(),
        _ => Response::Query,
    };
    FakeRavend::start(respond, answer)
}

#[test]
fn sources_of_all_streams_are_senders_exporters_and_engines() {
    let fake = fake(status, 0);
    let output = fake.raven(&["sources", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let objects = json(&stdout(&output));
    let told: Vec<String> = objects
        .iter()
        .map(|object| format!("{} {}", object["stream"].as_str().unwrap(), object["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(told, ["syslog sender", "syslog drops", "flow exporter", "flow drops", "trap engine", "trap drops"]);
    assert_eq!((&objects[0]["addr"], &objects[2]["lost"]), (&"192.0.2.7".into(), &7.into()));
    assert_eq!(objects[3]["listeners"]["udp:[::]:2055"]["socket_buffer"], 3);
    assert_eq!((&objects[3]["collector"]["malformed"], &objects[4]["user"]), (&2.into(), &"noc".into()));
    assert!(stderr(&output).contains("no report from winevent yet"), "{}", stderr(&output));
}

#[test]
fn sources_for_a_person_set_what_exporters_lost_beside_what_raven_dropped() {
    let text = stdout(&fake(status, 0).raven(&["sources"]));
    for part in ["SYSLOG (", "FLOW (", "TRAP (", "1:1000 (options)", "7 packets", "80001f88"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("dropped by Raven: 3 socket_buffer at udp:[::]:2055, 2 malformed"), "{text}");
}

#[test]
fn sources_of_one_stream_are_its_senders_as_ever() {
    let output = fake(status, 0).raven(&["sources", "syslog", "--json"]);
    let objects = json(&stdout(&output));
    assert_eq!((objects.len(), objects[0].get("kind")), (1, None));
}

#[test]
fn the_inbox_joins_reports_and_records_and_exits_1_when_there_is_something() {
    let output = fake(status, 2).raven(&["inbox", "--json"]);
    let items = json(&stdout(&output));
    assert_eq!((code(&output), items.len()), (1, 2), "{}", stderr(&output));
    let told = |item: &Value, field: &str| item[field].as_str().unwrap().to_owned();
    assert_eq!((told(&items[0], "stream"), told(&items[0], "seen_by")), ("syslog".into(), "records".into()));
    assert_eq!((told(&items[1], "reason"), told(&items[1], "seen_by")), ("unknown_user".into(), "collector".into()));
    assert_eq!(told(&items[0], "first_text"), "\\x1b[2");
    for field in
        ["stream", "source", "listener", "reason", "count", "first_seen_ns", "last_seen_ns", "first_bytes", "remedy"]
    {
        assert!(items.iter().all(|item| item.get(field).is_some()), "{field}");
    }
    let text = stdout(&fake(status, 2).raven(&["inbox"]));
    assert!(
        text.contains("trap 192.0.2.9 at udp:[::]:162: unknown_user (4 times") && !text.contains('\u{1b}'),
        "{text}"
    );
    assert_eq!(json(&stdout(&fake(status, 2).raven(&["inbox", "trap", "--json"]))).len(), 1);
}

#[test]
fn an_empty_inbox_exits_0() {
    let nothing = || Response::Status(Box::new(RawStatus { own: Status::default(), reports: BTreeMap::new() }));
    let output = fake(nothing, 0).raven(&["inbox"]);
    assert_eq!(
        (code(&output), stdout(&output)),
        (0, "empty: everything that came was understood and allowed\n".into())
    );
    assert_eq!(stdout(&fake(nothing, 0).raven(&["inbox", "--json"])), "");
}

#[test]
fn the_top_of_flows_is_asked_for_and_shown() {
    let key = TopView {
        key: Some("tcp/443".into()),
        name: Some("https".into()),
        flows: 2,
        bytes: 100,
        bytes_estimated: Some(1000),
        packets_estimated: Some(20),
        ..TopView::default()
    };
    let total = TopView { flows: 2, bytes: 100, total: Some(TopTotal::default()), ..TopView::default() };
    let lines = [key, total].map(|view| serde_json::to_string(&view).unwrap()).join("\n") + "\n";
    let fake = FakeRavend::with_lines(&lines);
    let args = ["flows", "top", "--by", "app", "--since", "2025-11-22", "-n", "3", "--source", "::ffff:192.0.2.1"];
    assert!(stdout(&fake.raven(&args)).contains("tcp/443 https"));
    assert_eq!(stdout(&fake.raven(&[&args[..], &["--json"]].concat())), lines);
    let queries = fake.queries();
    let Query::FlowsTop(asked) = &queries[0] else { panic!("{queries:?}") };
    assert_eq!((asked.by, asked.n, asked.source), (TopBy::App, 3, Some([192, 0, 2, 1].into())));
    assert!(asked.since.is_some() && asked.until.is_none());
    assert_eq!(code(&raven(&["flows", "top", "--by", "colour"])), 2);
}

/// A notification of this name.
fn trap(name: &str, n: u64) -> String {
    format!(
        r#"{{"seq":{n},"received_ns":1763771400123456789,"source":{{"addr":"192.0.2.7","port":4}},"listener":"udp:[::]:162","raw":"x","decoded":{{"version":"2c","community":"public","type":"trap","trap_oid":"1.3.6.1.6.3.1.1.5.{n}","trap_name":"{name}","varbinds":[]}}}}"#
    )
}

#[test]
fn traps_are_found_by_name_and_the_newest_of_that_name_are_shown() {
    let lines = [trap("linkDown", 3), trap("linkUp", 4), trap("linkDown", 3), trap("linkUp", 4)].join("\n") + "\n";
    let fake = FakeRavend::with_lines(&lines);
    let shown = |args: &[&str]| stdout(&fake.raven(&[&["traps"], args].concat())).lines().count();
    assert_eq!((shown(&[]), shown(&["--name", "linkdown"]), shown(&["--name", "linkdown", "-n", "1"])), (4, 2, 1));
    assert_eq!(shown(&["--name", "1.3.6.1.6.3.1.1.5.4", "--json"]), 2);
    assert_eq!(
        stdout(&fake.raven(&["traps", "-n", "9"])).lines().next().unwrap(),
        "2025-11-22T00:30:00.123Z 192.0.2.7 linkDown public"
    );
    let queries = fake.queries();
    let select = |n: usize| match &queries[n] {
        Query::Records(select) => select.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((select(0).last, select(0).since, select(0).stream.as_str()), (Some(20), None, "trap"));
    assert!(select(1).last.is_none() && select(1).since.is_some() && select(1).decoded);
    assert_eq!(select(4).last, Some(9));
}
