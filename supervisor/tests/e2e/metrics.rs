//! Metrics and log lines pushed in, with the real Prometheus and with curl as senders.

use crate::appliance::{Appliance, Plan, find, free_port, number, said, sections};
use crate::{eventually, pause};
use raven_model::query::{Json, RecordView};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn raven_at(port: u16) -> Appliance {
    Plan { others: sections(&[("metrics", format!("http = [\"127.0.0.1:{port}\"]"))]), ..Plan::new() }.start()
}

/// The records of the stream, decoded.
fn decoded(raven: &Appliance) -> Vec<(RecordView, Option<Value>)> {
    let output = raven.raven(&["export", "metrics", "--decoded"]);
    assert!(output.status.success(), "{}", said(&output));
    let read = |line: &[u8]| -> Option<(RecordView, Option<Value>)> {
        let view: RecordView = serde_json::from_slice(line).ok()?;
        let fields = view.decoded.as_ref().and_then(Json::read::<Value>);
        Some((view, fields))
    };
    output.stdout.split(|&b| b == b'\n').filter_map(read).collect()
}

fn stored(raven: &Appliance) -> u64 {
    number(&find(&raven.status()["streams"], "name", "metrics")["stored"])
}

/// Prometheus, which scrapes itself and writes to us.
struct Prometheus {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(raven: u16) -> Option<Self> {
        let program = Path::new("/usr/bin/prometheus");
        if !program.exists() {
            println!("NOT RUN: {} is missing", program.display());
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs: [{{job_name: itself, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n\
             remote_write: [{{url: 'http://127.0.0.1:{raven}/api/v1/write', metadata_config: {{send_interval: 2s}}}}]\n"
        );
        let path = dir.path().join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--enable-feature=exemplar-storage,native-histograms", "--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, port, _dir: dir })
    }

    /// Every sample it has: series as JSON text and milliseconds, to the bits of the value.
    fn samples(&self) -> BTreeMap<(String, i64), u64> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let query = r#"query={__name__=~".+"}[1h]"#;
        let output = Command::new("curl").args(["-s", "-G", &url, "--data-urlencode", query]).output().unwrap();
        let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout) else { return BTreeMap::new() };
        let mut samples = BTreeMap::new();
        for series in answer["data"]["result"].as_array().unwrap_or(&Vec::new()) {
            for value in series["values"].as_array().unwrap_or(&Vec::new()) {
                let time = (value[0].as_f64().unwrap() * 1000.0).round() as i64;
                let bits = value[1].as_str().unwrap().parse::<f64>().unwrap().to_bits();
                samples.insert((series["metric"].to_string(), time), bits);
            }
        }
        samples
    }
}

/// Every sample of the ring, as [`Prometheus::samples`] has them; the marks of series that ended are left out.
fn ours(records: &[(RecordView, Option<Value>)]) -> BTreeMap<(String, i64), u64> {
    let mut samples = BTreeMap::new();
    for (view, fields) in records {
        assert!(view.reject.is_none() && !view.refused, "{view:?}");
        let fields = fields.as_ref().unwrap();
        if fields["kind"] != "series" {
            continue;
        }
        let mut labels = fields["labels"].clone();
        labels["__name__"] = fields["name"].clone();
        for sample in fields["samples"].as_array().unwrap_or(&Vec::new()) {
            if sample["stale"] == true {
                continue;
            }
            let bits = sample["value"].as_str().unwrap().parse::<f64>().unwrap().to_bits();
            samples.insert((labels.to_string(), sample["time_ms"].as_i64().unwrap()), bits);
        }
    }
    samples
}

#[test]
fn what_prometheus_wrote_is_what_prometheus_shows_though_collector_and_store_are_killed() {
    let port = free_port();
    let raven = raven_at(port);
    let Some(prometheus) = Prometheus::start(port) else { return };
    eventually("the first samples are stored", || stored(&raven) > 500);
    for role in ["metrics", "store", "metrics"] {
        pause(1500);
        raven.kill(role, Signal::KILL);
    }
    pause(1500);
    let theirs = prometheus.samples();
    assert!(theirs.len() > 2000, "{} samples", theirs.len());
    let mut missing = Vec::new();
    let mut records = Vec::new();
    eventually("each of its samples is in the ring", || {
        records = decoded(&raven);
        let ours = ours(&records);
        missing =
            theirs.iter().filter(|(key, value)| ours.get(key) != Some(value)).map(|(key, _)| key.clone()).collect();
        missing.is_empty()
    });
    // And nothing that it does not have: what came after it was asked is newer.
    let asked = theirs.keys().map(|(_, time)| *time).max().unwrap();
    let more: Vec<_> =
        ours(&records).into_keys().filter(|key| key.1 < asked - 1000 && !theirs.contains_key(key)).collect();
    assert!(more.is_empty(), "{more:?}");
    let kinds = |kind: &str| records.iter().filter(|(_, fields)| fields.as_ref().unwrap()["kind"] == kind).count();
    println!("{} samples compared, {} records, {} of metadata", theirs.len(), records.len(), kinds("metadata"));
    assert!(kinds("metadata") > 50);
    // The views.
    let tail = said(&raven.raven(&["tail", "metrics", "--grep", "prometheus_build_info", "--last", "20"]));
    // What is known of the metric goes by its name too.
    let sample = |line: &str| line.contains("prometheus_build_info{") && line.contains("version=\"2.");
    assert!(tail.lines().any(sample), "{tail}");
    let sources = said(&raven.raven(&["sources", "metrics"]));
    assert!(sources.contains("127.0.0.1"), "{sources}");
    assert!(raven.verify().0);
}

/// The status that curl was answered with.
fn push(port: u16, path: &str, arguments: &[&str]) -> String {
    let url = format!("http://127.0.0.1:{port}{path}");
    let curl = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &url])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(curl.stdout).unwrap()
}

/// Protobuf and snappy by the letter of their specifications, with nothing but Python: a body of literals.
const PUSH_PROTOBUF: &str = r#"
import sys
varint = lambda n: bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)
field = lambda number, data: varint(number << 3 | 2) + varint(len(data)) + data
entry = lambda line: field(2, field(1, b"\x08" + varint(1700000000) + b"\x10" + varint(7)) + field(2, line))
stream = field(1, b'{job="leaf", host="leaf-1"}') + entry(b"BGP down") + entry(b"BGP up")
body = field(1, stream)
parts = [body[at:at + 60] for at in range(0, len(body), 60)]
sys.stdout.buffer.write(varint(len(body)) + b"".join(bytes([len(part) - 1 << 2]) + part for part in parts))
"#;

#[test]
fn log_lines_pushed_by_curl_are_stored_shown_and_found() {
    let port = free_port();
    let raven = raven_at(port);
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("python3").args(["-c", PUSH_PROTOBUF]).output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let file = dir.path().join("push");
    std::fs::write(&file, &made.stdout).unwrap();
    let data = format!("@{}", file.display());
    let path = "/loki/api/v1/push";
    assert_eq!(push(port, path, &["-H", "Content-Type: application/x-protobuf", "--data-binary", &data]), "204");
    let json = r#"{"streams":[{"stream":{"job":"spine"},"values":[["1700000000000000009","link flap",{"port":"Ethernet4"}]]}]}"#;
    assert_eq!(push(port, path, &["-H", "Content-Type: application/json", "--data-binary", json]), "204");
    assert_eq!(push(port, path, &["-H", "Content-Type: application/json", "--data-binary", "{}"]), "400");
    let records = decoded(&raven);
    let lines: Vec<_> = records
        .iter()
        .filter_map(|(_, fields)| fields.as_ref())
        .map(|log| (log["line"].as_str().unwrap(), log["time_ns"].as_i64().unwrap()))
        .collect();
    let start = 1_700_000_000_000_000_000;
    assert_eq!(lines, [("BGP down", start + 7), ("BGP up", start + 7), ("link flap", start + 9)]);
    assert!(records[3].0.refused && records[3].0.reject.is_some(), "{:?}", records[3].0);
    let found = said(&raven.raven(&["search", "BGP up", "--stream", "metrics"]));
    assert!(found.contains("{host=\"leaf-1\",job=\"leaf\"} BGP up"), "{found}");
    eventually("the inbox shows what was refused", || said(&raven.raven(&["inbox"])).contains("not_events"));
}
