//! Numbers of the host and of scheduled tests to a real Prometheus.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_model::diag::schedule::{DiagRecord, Histogram};
use raven_model::host::{HostRecord, HostSample};
use raven_model::units::UnixNanos;
use raven_uplink::sim::SimRing;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::legacy::has;
use support::prometheus::Prometheus;
use support::{MemoryCursors, SimFleet, fleet, free_port, run, status, until, until_acked, uplinks};

/// A real machine's, `ago` seconds ago, with a load that tells which it is.
fn sample(ago: u64, load: f64) -> Vec<u8> {
    let real = include_bytes!("../../collectors/decode/tests/host/sample.json");
    let Ok(HostRecord::Sample(real)) = HostRecord::read(real.trim_ascii()) else { panic!("a sample") };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut sample = HostSample { t: UnixNanos(now - ago * 1_000_000_000), ..*real };
    sample.cpu.load_1 = load;
    serde_json::to_vec(&HostRecord::Sample(Box::new(sample))).unwrap()
}

fn store(ring: &SimRing, records: &[Vec<u8>]) {
    for block in records.chunks(100) {
        ring.store("host", &block.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
}

fn one(dir: &Path, ring: &Rc<SimRing>, url: &str) -> SimFleet {
    let mut fleet = fleet(ring, &MemoryCursors::default(), dir);
    fleet.configure("arena", &uplinks(&format!(r#"prom kind=remote_write to={url} streams=["host"]"#)));
    fleet
}

#[test]
fn prometheus_has_every_sample_and_what_is_none_is_a_dead_letter() {
    if !has("prometheus") || !has("curl") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let mut prometheus = Prometheus::new(dir.path(), free_port());
    prometheus.start();
    let mut records: Vec<Vec<u8>> = (0..30_u32).map(|n| sample(300 - 10 * u64::from(n), f64::from(n))).collect();
    records.insert(7, br#"{"t":7,"event":"oom_kill","count":2}"#.to_vec());
    records.insert(9, b"{}".to_vec());
    store(&ring, &records);
    run(async {
        let mut fleet = one(dir.path(), &ring, &prometheus.url());
        until_acked(&mut fleet, "prom", 32).await;
        let status = status(&mut fleet, "prom");
        assert_eq!((status.ack_class.as_str(), status.dead.held), ("accepted", 1));
        fleet.stop().await;
    });
    assert_eq!(prometheus.value("count_over_time(raven_host_load1[10m])") as u64, 30);
    assert_eq!(prometheus.value("raven_host_load1{dev='arena',instance='arena',job='raven'}") as u64, 29);
    assert_eq!(prometheus.query("raven_host_cpu_seconds_total").unwrap().len(), 8);
    let eth0 = "raven_host_network_receive_bytes_total{interface='eth0'}";
    let real: serde_json::Value = serde_json::from_slice(&records[0]).unwrap();
    let interfaces = real["interfaces"].as_array().unwrap();
    let bytes = interfaces.iter().find(|one| one["name"] == "eth0").unwrap()["rx_bytes"].as_f64().unwrap();
    assert!((prometheus.value(eth0) - bytes).abs() < 1.0);
    let dead = std::fs::read_to_string(dir.path().join("dead-letters/prom.host.ndjson")).unwrap();
    assert!(dead.lines().count() == 1 && dead.contains("not a sample of the host"), "{dead}");
}

#[test]
fn samples_older_than_what_prometheus_has_are_refused_one_by_one_and_hold_nobody_up() {
    if !has("prometheus") || !has("curl") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let mut prometheus = Prometheus::new(dir.path(), free_port());
    prometheus.start();
    store(&ring, &[sample(100, 1.0)]);
    run(async {
        let mut fleet = one(dir.path(), &ring, &prometheus.url());
        until_acked(&mut fleet, "prom", 1).await;
        // 40 are older than the last, 20 are newer; with more than 17 refused in a row a destination would be given up.
        store(&ring, &(0..60).map(|n| sample(500 - 8 * n, 2.0)).collect::<Vec<_>>()[..40]);
        store(&ring, &(0..20).map(|n| sample(90 - n, 3.0)).collect::<Vec<_>>());
        until("the newer ones are taken", || status(&mut fleet, "prom").lag == 0).await;
        let status = status(&mut fleet, "prom");
        assert_eq!((status.acknowledged, status.dead.held), (21, 40), "{status:?}");
        fleet.stop().await;
    });
    assert_eq!(prometheus.value("count_over_time(raven_host_load1[10m])") as u64, 21);
    let dead = std::fs::read_to_string(dir.path().join("dead-letters/prom.host.ndjson")).unwrap();
    assert!(dead.lines().all(|line| line.contains("out of order sample")), "{dead}");
}

#[test]
fn after_an_outage_samples_come_in_their_order_so_that_none_is_refused() {
    if !has("prometheus") || !has("curl") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let mut prometheus = Prometheus::new(dir.path(), free_port());
    store(&ring, &(0..600).map(|n| sample(700 - n, 1.0)).collect::<Vec<_>>());
    run(async {
        let mut fleet = one(dir.path(), &ring, &prometheus.url());
        until("it is away", || status(&mut fleet, "prom").state == "retrying").await;
        // The live lane of another kind would leave them behind now.
        let begun = tokio::time::Instant::now();
        until("they are old", || {
            fleet.save();
            begun.elapsed() > raven_uplink::lanes::LIVE_LAG + Duration::from_millis(500)
        })
        .await;
        store(&ring, &(0..50).map(|n| sample(60 - n, 2.0)).collect::<Vec<_>>());
        prometheus.start();
        until_acked(&mut fleet, "prom", 650).await;
        let status = status(&mut fleet, "prom");
        assert_eq!((status.acknowledged, status.dead.lettered), (650, 0), "{:?}", status.last_error);
        fleet.stop().await;
    });
    assert_eq!(prometheus.value("count_over_time(raven_host_load1[20m])") as u64, 650);
}

/// Each result of a scheduled test, and its times as Prometheus works with histograms.
#[test]
fn prometheus_answers_what_share_of_pings_was_fast_and_when_a_test_was_not_well() {
    if !has("prometheus") || !has("curl") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let mut prometheus = Prometheus::new(dir.path(), free_port());
    prometheus.start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let example = DiagRecord::read(include_bytes!("../src/metrics/example.json").trim_ascii()).unwrap();
    let mut times = Histogram::default();
    let mut records = Vec::new();
    for n in 0..30_u64 {
        // Nine of ten take 2 ms, one 40 ms.
        (0..9).for_each(|_| times.add(2000));
        times.add(40_000);
        let mut record = DiagRecord { t: UnixNanos(now - (300 - 10 * n) * 1_000_000_000), ..example.clone() };
        record.times = Some(times.clone());
        records.push(record.line());
    }
    ring.store("diag", &records.iter().map(Vec::as_slice).collect::<Vec<_>>());
    run(async {
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        let to = format!(r#"prom kind=remote_write to={} streams=["diag"]"#, prometheus.url());
        fleet.configure("arena", &uplinks(&to));
        until_acked(&mut fleet, "prom", 30).await;
        fleet.stop().await;
    });
    let of = "{dev='arena',schedule='gateway',test='ping'}";
    assert_eq!(prometheus.value(&format!("count_over_time(raven_diag_well{of}[10m])")) as u64, 30);
    assert!((prometheus.value(&format!("raven_diag_loss_ratio{of}")) - 0.2).abs() < 1e-9);
    assert!((prometheus.value(&format!("raven_diag_rtt_p95_seconds{of}")) - 0.00053).abs() < 1e-9);
    let quantile = |q: f64| {
        prometheus
            .value(&format!("histogram_quantile({q}, sum by (le) (rate(raven_diag_times_seconds_bucket{of}[5m])))"))
    };
    let (half, most) = (quantile(0.5), quantile(0.99));
    assert!((0.001..=0.0025).contains(&half) && (0.025..=0.05).contains(&most), "{half} {most}");
    let mean = prometheus.value("rate(raven_diag_times_seconds_sum[5m]) / rate(raven_diag_times_seconds_count[5m])");
    assert!((mean - 0.0058).abs() < 1e-6, "{mean}");
}
