//! The program against a stand-in for ravend: what it asks, what it shows, how it exits.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{FakeRavend, code, raven, stderr, stdout};
use raven_model::config::{Config, Listen};
use raven_model::control::{RawStatus, Request, Response};
use raven_model::query::{Query, Reply, Select};
use raven_model::report::{ListenerCount, ListenerStatus, Process, Status, StoreReport, StreamStatus};
use raven_model::table::Role;
use serde_json::Value;
use serde_json::value::to_raw_value;
use std::collections::BTreeMap;

const RECORD: &str = r#"{"seq":1,"received_ns":1763771400123456789,"source":{"addr":"192.0.2.7","port":40000},"listener":"udp:[::]:514","raw":"<13>hello \u001b[2J"}"#;

fn status() -> Response {
    let listener = ListenerStatus {
        stream: "syslog".into(),
        proto: "udp".into(),
        addr: "[::]:514".into(),
        ..ListenerStatus::default()
    };
    let process = Process {
        role: "ravend".into(),
        pid: 7,
        state: "running".into(),
        capabilities: vec!["CAP_KILL".into()],
        ..Process::default()
    };
    let own =
        Status { device: "arena".into(), processes: vec![process], listeners: vec![listener], ..Status::default() };
    let count = ListenerCount { records: 42, bytes: 4200, rate: 1.0, refused: 0, ..ListenerCount::default() };
    let stream = StreamStatus { name: "syslog".into(), stored: 42, ..StreamStatus::default() };
    let store = StoreReport {
        streams: vec![stream],
        listeners: BTreeMap::from([("udp:[::]:514".to_owned(), count)]),
        ..StoreReport::default()
    };
    Response::Status(Box::new(RawStatus {
        own,
        reports: BTreeMap::from([(Role::Store, to_raw_value(&store).unwrap())]),
    }))
}

fn ravend(respond: impl Fn(&Request) -> Response + Send + 'static) -> FakeRavend {
    FakeRavend::start(respond, |_| (Reply::Ok, Vec::new(), Some(Reply::Done(0))))
}

#[test]
fn status_merges_the_reports_and_exits_0() {
    let output = ravend(|_| status()).raven(&["status", "--json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!((&value["listeners"][0]["received"], &value["streams"][0]["stored"]), (&42.into(), &42.into()));
    assert_eq!(value["processes"][0]["capabilities"][0], "CAP_KILL");
}

#[test]
fn status_for_a_person_is_one_screen() {
    let output = ravend(|_| status()).raven(&["status"]);
    let screen = stdout(&output);
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert!(screen.contains("udp:[::]:514") && screen.contains("no report from uplink yet"), "{screen}");
}

#[test]
fn without_ravend_the_exit_code_is_3_and_the_socket_is_named() {
    for command in [vec!["status"], vec!["tail"], vec!["sources"], vec!["config", "show"], vec!["ring", "verify"]] {
        let output = raven(&[vec!["--data", "/nonexistent"], command].concat());
        assert_eq!(code(&output), 3);
        assert!(stderr(&output).contains("/nonexistent/run/control"), "{}", stderr(&output));
    }
}

#[test]
fn a_senseless_command_line_exits_2() {
    assert_eq!(code(&raven(&["tail", "--since", "yesteryear"])), 2);
    assert_eq!(code(&raven(&["export", "--format", "raw", "--decoded"])), 2);
    assert_eq!(code(&raven(&["frobnicate"])), 2);
}

#[test]
fn tail_in_json_gives_the_lines_as_they_came() {
    let fake = FakeRavend::with_lines(&format!("{RECORD}\n{RECORD}\n"));
    let output = fake.raven(&["tail", "syslog", "--json", "--source", "::ffff:192.0.2.7", "--grep", "hello"]);
    assert_eq!(stdout(&output), format!("{RECORD}\n{RECORD}\n"));
    let expected = Select {
        stream: "syslog".into(),
        last: Some(20),
        source: Some("192.0.2.7".parse().unwrap()),
        grep: vec!["hello".into()],
        ..Select::default()
    };
    assert_eq!(fake.queries(), [Query::Records(expected)]);
}

#[test]
fn tail_for_a_person_asks_for_decoded_fields_and_escapes_them() {
    let fake = FakeRavend::with_lines(&format!("{RECORD}\n"));
    let output = fake.raven(&["tail", "--since", "2025-11-22T00:00:00Z"]);
    assert_eq!(stdout(&output), "2025-11-22T00:30:00.123Z 192.0.2.7 - <13>hello \\x1b[2J\n");
    let queries = fake.queries();
    let Query::Records(select) = &queries[0] else { panic!("{queries:?}") };
    assert!(select.decoded && select.last.is_none() && select.since.is_some());
}

#[test]
fn tail_knows_the_streams_and_shows_each_for_people() {
    let output = raven(&["tail", "netflow"]);
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("the streams are syslog, flow, trap, winevent, metrics, host"),
        "{}",
        stderr(&output)
    );
    let datagram = r#""decoded":{"version":"netflow5","domain":0,"flows":[{"src_addr":"10.0.0.1","src_port":1,"dst_addr":"10.0.0.2","dst_port":2,"proto":17,"bytes":9,"packets":1},{"src_addr":"10.0.0.3"}]}"#;
    let line = RECORD.replace(r#""raw":"<13>hello \u001b[2J""#, &format!(r#""raw":"x",{datagram}"#));
    let fake = FakeRavend::with_lines(&format!("{line}\n"));
    let begin = "2025-11-22T00:30:00.123Z 192.0.2.7 ";
    assert_eq!(
        stdout(&fake.raven(&["tail", "flow"])),
        format!(
            "{begin}10.0.0.1:1 > 10.0.0.2:2 udp 9 B 1 pkt netflow5/0\n{begin}10.0.0.3 > - - - B - pkt netflow5/0\n"
        )
    );
    assert_eq!(stdout(&fake.raven(&["tail", "flow", "--json", "--decoded"])), format!("{line}\n"));
}

#[test]
fn an_answer_that_breaks_off_is_an_error_however_much_came() {
    let lines = format!("{RECORD}\n{RECORD}\n");
    for command in
        [&["tail", "--json"][..], &["tail", "--follow", "--json"], &["export"], &["sources", "syslog", "--json"]]
    {
        let output = FakeRavend::breaking_off_after(&lines).raven(command);
        assert_eq!((code(&output), stdout(&output)), (3, lines.clone()), "{command:?}");
        assert!(stderr(&output).contains("the answer broke off after 2 lines"), "{}", stderr(&output));
    }
}

#[test]
fn a_line_that_is_cut_in_the_middle_is_not_passed_on() {
    let lines = format!("{RECORD}\n{}", &RECORD[..RECORD.len() - 4]);
    let output = FakeRavend::breaking_off_after(&lines).raven(&["export"]);
    assert_eq!((code(&output), stdout(&output)), (3, format!("{RECORD}\n")));
}

#[test]
fn an_answer_that_fails_on_the_way_says_why_and_one_that_is_short_is_noticed() {
    let lines = format!("{RECORD}\n");
    let failed = FakeRavend::ending_with(&lines, Some(Reply::Error("cannot read 0001.mdb".into()))).raven(&["export"]);
    assert_eq!(code(&failed), 3);
    assert!(
        stderr(&failed).contains("after 1 lines, more may be missing: cannot read 0001.mdb"),
        "{}",
        stderr(&failed)
    );
    let short = FakeRavend::ending_with(&lines, Some(Reply::Done(2))).raven(&["export"]);
    assert!(code(&short) == 3 && stderr(&short).contains("it should have had 2"), "{}", stderr(&short));
}

#[test]
fn an_export_that_breaks_off_leaves_what_came_and_says_that_it_is_incomplete() {
    for (format, kept) in [("ndjson", format!("{RECORD}\n")), ("raw", "<13>hello \u{1b}[2J\n".to_owned())] {
        let fake = FakeRavend::breaking_off_after(&format!("{RECORD}\n"));
        let path = fake.data().join("out");
        let output = fake.raven(&["export", "--format", format, "--out", path.to_str().unwrap()]);
        assert_eq!((code(&output), std::fs::read_to_string(&path).unwrap()), (3, kept));
        assert!(stderr(&output).contains("out is incomplete"), "{}", stderr(&output));
    }
}

#[test]
fn notes_go_to_standard_error_and_are_no_lines() {
    let note = serde_json::to_string(&Reply::Note("records 120 to 340 are damaged \u{1b}[2J".into())).unwrap();
    let lines = format!("{RECORD}\n{note}\n{RECORD}\n");
    let fake = || FakeRavend::ending_with(&lines, Some(Reply::Done(2)));
    let output = fake().raven(&["export"]);
    assert_eq!((code(&output), stdout(&output)), (0, format!("{RECORD}\n{RECORD}\n")));
    assert_eq!(stderr(&output), "raven: note: records 120 to 340 are damaged \\x1b[2J\n");
    let output = fake().raven(&["tail", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&stderr(&output)).unwrap()["note"],
        "records 120 to 340 are damaged \u{1b}[2J"
    );
}

#[test]
fn a_refused_query_exits_1_with_the_reason() {
    let fake = FakeRavend::start(
        |_| Response::Query,
        |_| (Reply::Error("there is no stream `flow`".into()), Vec::new(), None),
    );
    let output = fake.raven(&["tail", "flow"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (1, "raven: there is no stream `flow`\n"));
}

#[test]
fn export_writes_every_byte_to_the_file() {
    // "a", 0xff, NUL, "b", LF, in base64; then text.
    let bytes = RECORD.replace(r#""raw":"<13>hello \u001b[2J""#, r#""raw_b64":"Yf8AYgo=""#);
    assert_ne!(bytes, RECORD);
    let fake = FakeRavend::with_lines(&format!("{bytes}\n{RECORD}\n"));
    let path = fake.data().join("out.raw");
    let output = fake.raven(&["export", "syslog", "--format", "raw", "--out", path.to_str().unwrap()]);
    let expected = b"a\xff\x00b\n\n<13>hello \x1b[2J\n";
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(std::fs::read(&path).unwrap(), expected);
    assert_eq!(fake.queries(), [Query::Records(Select { stream: "syslog".into(), ..Select::default() })]);
    assert_eq!(fake.raven(&["export", "--format", "raw"]).stdout, expected);
}

#[test]
fn a_long_answer_arrives_whole() {
    let lines = format!("{RECORD}\n").repeat(20_000);
    let output = FakeRavend::with_lines(&lines).raven(&["export", "--format", "ndjson"]);
    assert_eq!(output.stdout.len(), lines.len());
}

#[test]
fn verify_exits_1_on_problems_and_tells_each_once() {
    let lines = r#"{"stream":"syslog","done":false,"segments":1,"segments_total":2,"blocks":3,"records":9,"first_seq":1,"next_seq":10,"problems":["0001.mdb: bad checksum"]}
{"stream":"syslog","done":true,"segments":2,"segments_total":2,"blocks":6,"records":18,"first_seq":1,"next_seq":19,"problems":["0001.mdb: bad checksum"]}
"#;
    let output = FakeRavend::with_lines(lines).raven(&["ring", "verify"]);
    assert_eq!(code(&output), 1);
    assert_eq!(stdout(&output), "problem: 0001.mdb: bad checksum\nsyslog: 1 problems; 18 records, seq 1 to 18\n");
    let good = lines.replace("\"0001.mdb: bad checksum\"", "");
    assert_eq!(code(&FakeRavend::with_lines(&good).raven(&["ring", "verify"])), 0);
}

#[test]
fn a_repair_asks_for_one_and_tells_what_was_done() {
    let line = r#"{"stream":"syslog","done":true,"segments":2,"segments_total":2,"blocks":6,"records":18,"first_seq":1,"next_seq":19,"problems":[],"repairs":["it is \u001b[1mdone"]}"#;
    let fake = FakeRavend::with_lines(&format!("{line}\n"));
    let output = fake.raven(&["ring", "repair"]);
    assert_eq!(stdout(&output), "done: it is \\x1b[1mdone\nsyslog: sound; 18 records, seq 1 to 18\n");
    assert_eq!(fake.queries(), [Query::Verify { stream: "syslog".into(), repair: true }]);
}

#[test]
fn search_asks_for_all_that_it_was_told_and_says_how_far_it_is() {
    let progress = r#"{"progress":{"at_ns":0,"blocks":1,"bytes":262144,"done":5,"passed":9,"total":5}}"#;
    let lines = format!("{RECORD}\n{progress}\n");
    let fake = FakeRavend::ending_with(&lines, Some(Reply::Done(1)));
    let args = ["search", "Deny", "tcp", "--stream", "trap", "--from", "10.20.1.1/16", "-iw", "--count", "3"];
    let output = fake.raven(&[&args[..], &["--json"]].concat());
    assert_eq!((code(&output), stdout(&output)), (0, format!("{RECORD}\n")));
    assert_eq!(stderr(&output), format!("{progress}\n"));
    let expected = Select {
        stream: "trap".into(),
        last: Some(3),
        source: Some("10.20.0.0/16".parse().unwrap()),
        grep: vec!["Deny".into(), "tcp".into()],
        ignore_case: true,
        words: true,
        progress: true,
        ..Select::default()
    };
    assert_eq!(fake.queries(), [Query::Records(expected)]);
    let people = fake.raven(&["search", "Deny"]);
    assert!(stderr(&people).contains("1 found; 1 blocks (256KiB) looked into, 9 passed over"), "{}", stderr(&people));
    assert_eq!(code(&raven(&["search"])), 2, "nothing to look for");
    assert_eq!(code(&raven(&["search", "x", "--source", "10.0.0.0/99"])), 2);
}

#[test]
fn a_check_that_broke_off_is_no_success() {
    let line = r#"{"stream":"syslog","done":false,"segments":1,"segments_total":2,"blocks":3,"records":9,"first_seq":1,"next_seq":10,"problems":[]}"#;
    assert_eq!(code(&FakeRavend::with_lines(&format!("{line}\n")).raven(&["ring", "verify"])), 3);
}

#[test]
fn sources_are_a_table() {
    let line = r#"{"addr":"192.0.2.7","records":3,"bytes":300,"rate":0.5,"last_seen_ns":1763771400123456789,"not_understood":1,"hostname":"fw1","sample":"\u001b[2J"}"#;
    let output = FakeRavend::with_lines(&format!("{line}\n")).raven(&["sources", "syslog"]);
    let text = stdout(&output);
    assert!(
        text.contains("192.0.2.7") && text.contains("fw1") && text.contains("\\x1b[2J") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn config_show_writes_a_file_that_reads_back() {
    let output = ravend(|_| Response::Config(Box::default())).raven(&["config", "show"]);
    assert_eq!(Config::from_toml(&stdout(&output), "shown"), Ok(Config::default()));
}

#[test]
fn config_diff_and_check_compare_with_the_file() {
    let respond = |_: &Request| {
        let mut file = Config::default();
        file.collect.syslog.udp.push(Listen::port(1514));
        Response::Diff { running: Box::default(), file: Box::new(file) }
    };
    assert_eq!(stdout(&ravend(respond).raven(&["config", "diff"])), "collect.syslog.udp: 514 → 514, 1514\n");
    assert_eq!(
        stdout(&ravend(respond).raven(&["config", "check"])),
        "good; 1 changes to apply: see `raven config diff`\n"
    );
}

#[test]
fn config_apply_says_what_changed_or_why_not() {
    let output = ravend(|_| Response::Applied(vec!["a: 1 → 2".into()])).raven(&["config", "apply"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "a: 1 → 2\n"));
    let output =
        ravend(|_| Response::Refused(vec!["raven.toml:3:1: unknown key `x`".into()])).raven(&["config", "apply"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (1, "raven: raven.toml:3:1: unknown key `x`\n"));
}

#[test]
fn config_check_of_a_file_needs_no_ravend() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.toml");
    std::fs::write(&path, "schema = 1\n[buffer]\nkeeep = '1d'\n").unwrap();
    let name = path.to_str().unwrap();
    let output = raven(&["config", "check", name]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        stdout(&output),
        format!(
            "{name}:3:1: unknown key `buffer.keeep`; nearest valid key `keep`; expected one of `keep`, `disk`, `sync`, `segment`, `streams`\n"
        )
    );
    let value: Value = serde_json::from_str(&stdout(&raven(&["config", "check", name, "--json"]))).unwrap();
    assert_eq!((&value["errors"][0]["line"], &value["errors"][0]["nearest"]), (&3.into(), &"keep".into()));
    std::fs::write(&path, "schema = 1\n").unwrap();
    assert_eq!(code(&raven(&["config", "check", name])), 0);
}
