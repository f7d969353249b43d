//! What exporters' own counts say is lost, per version; and what the report says besides.

#![allow(clippy::unwrap_used)]

mod support;

use raven_model::config::CollectFlow;
use raven_model::report::Exporter;
use std::time::Duration;
use support::Rig;
use support::wire::{ipfix, set, sflow, template, v5, v9};

const A: &str = "192.0.2.1:2000";

/// The only exporter after these datagrams.
fn told(datagrams: &[Vec<u8>]) -> Exporter {
    let mut rig = Rig::new();
    for raw in datagrams {
        rig.send(A, raw);
    }
    rig.batch();
    assert_eq!(
        rig.batches.iter().flatten().filter(|kept| matches!(kept, support::Kept::Record { .. })).count(),
        datagrams.len()
    );
    let report = rig.report();
    assert_eq!(report.exporters.len(), 1);
    report.exporters.into_iter().next().unwrap()
}

fn story(datagrams: &[Vec<u8>]) -> (u64, u64, u64) {
    let exporter = told(datagrams);
    (exporter.lost, exporter.reordered, exporter.resets)
}

#[test]
fn version_5_counts_records() {
    let exporter = told(&[v5(0, 30, 1000, 0), v5(30, 10, 1000, 0), v5(100, 30, 2000, 0)]);
    assert_eq!((exporter.lost, exporter.lost_unit.as_str()), (60, "records"));
    assert_eq!((exporter.version.as_str(), exporter.records, exporter.datagrams), ("netflow5", 70, 3));
    assert_eq!(story(&[v5(0, 30, 0, 0), v5(60, 30, 0, 0), v5(30, 30, 0, 0), v5(90, 30, 0, 0)]), (0, 1, 0));
    assert_eq!(story(&[v5(0, 30, 0, 0), v5(0, 30, 0, 0), v5(30, 30, 0, 0)]), (0, 0, 0));
    assert_eq!(story(&[v5(u32::MAX - 9, 30, 0, 0), v5(20, 30, 0, 0)]), (0, 0, 0));
    assert_eq!(story(&[v5(5000, 30, 900_000, 0), v5(0, 30, 10, 0), v5(30, 30, 20, 0)]), (0, 0, 1));
    assert_eq!(story(&[v5(40, 30, 900_000, 0), v5(0, 30, 10, 0), v5(30, 30, 20, 0)]), (0, 0, 1), "by its uptime");
}

#[test]
fn version_9_counts_datagrams_per_source_id() {
    let exporter = told(&[v9(1, 0, 0, &[]), v9(1, 1, 0, &[]), v9(1, 5, 0, &[])]);
    assert_eq!((exporter.lost, exporter.lost_unit.as_str()), (3, "packets"));
    let mut rig = Rig::new();
    for (domain, sequence) in [(1, 0), (2, 500), (1, 1), (2, 501)] {
        rig.send(A, &v9(domain, sequence, 0, &[]));
    }
    let report = rig.report();
    assert_eq!(report.exporters.len(), 2);
    assert!(report.exporters.iter().all(|exporter| exporter.lost + exporter.resets == 0));
    assert_eq!(story(&[v9(1, 900, 900_000, &[]), v9(1, 0, 10, &[]), v9(1, 1, 20, &[])]), (0, 0, 1));
}

#[test]
fn ipfix_counts_data_records_once_their_template_is_known() {
    let (taught, data) = (set(2, &template(256, &[(8, 4)])), set(256, &[1; 12]));
    let data = || data.clone();
    let exporter = told(&[ipfix(1, 0, &[taught.clone(), data()]), ipfix(1, 3, &[data()]), ipfix(1, 10, &[data()])]);
    assert_eq!((exporter.lost, exporter.lost_unit.as_str(), exporter.records), (4, "records", 9));
    // Without the template it is not known how many records there were.
    let unknown = told(&[ipfix(1, 0, &[data()]), ipfix(1, 100, &[data()]), ipfix(1, 7, &[taught, data()])]);
    assert_eq!((unknown.lost, unknown.resets, unknown.undescribed), (0, 0, 2));
}

#[test]
fn sflow_counts_datagrams_and_the_samples_of_each_interface() {
    let exporter = told(&[
        sflow(1, 0, &[(3, 10), (4, 77)]),
        sflow(2, 0, &[(3, 11)]),
        sflow(4, 0, &[(3, 14), (4, 78)]),
        sflow(3, 0, &[(3, 12)]),
    ]);
    assert_eq!((exporter.lost, exporter.lost_unit.as_str()), (1, "samples"));
    assert_eq!((exporter.reordered, exporter.records), (1, 6));
    assert_eq!((exporter.sampling, exporter.sampling_source.as_str()), (Some(512), "header"));
    let again = told(&[sflow(900, 900_000, &[(3, 5000)]), sflow(1, 10, &[(3, 1)]), sflow(2, 20, &[(3, 2)])]);
    assert_eq!((again.lost, again.resets), (0, 1));
}

#[test]
fn the_report_tells_of_templates_sampling_and_clocks() {
    let mut rig = Rig::with(CollectFlow {
        sampling: [("192.0.2.1".to_owned(), 100)].into_iter().collect(),
        ..CollectFlow::default()
    });
    let taught = set(0, &template(256, &[(8, 4)]));
    rig.send(A, &v9(1, 0, 0, std::slice::from_ref(&taught)));
    rig.wait(Duration::from_secs(30));
    rig.batch();
    rig.send(A, &v9(1, 1, 0, &[taught]));
    rig.wait(Duration::from_secs(5));
    rig.batch();
    let exporter = rig.report().exporters.remove(0);
    assert_eq!((exporter.templates, exporter.template_age_s, exporter.template_refresh_s), (1, Some(5), Some(30)));
    assert_eq!((exporter.sampling, exporter.sampling_source.as_str()), (Some(100), "configured"));
    assert_eq!(exporter.clock_skew_ms, Some(-2), "sent at 1,700,000,000 s, received 2 ms later");
    rig.configure(CollectFlow::default());
    assert_eq!(rig.report().exporters[0].sampling_source, "unknown");
    rig.send(A, &v5(0, 1, 0, 1 << 14 | 64));
    assert_eq!(rig.report().exporters[0].sampling, Some(64), "the busiest stands first");
}

#[test]
fn what_cannot_be_read_is_kept_and_stands_in_the_inbox() {
    let mut rig = Rig::new();
    rig.send(A, b"<13>switch: up");
    rig.send(A, &[0, 0, 0, 4, 0, 0, 0, 1]);
    rig.send(A, &v5(0, 2, 0, 0)[..90]);
    rig.send(A, &ipfix(1, 0, &[vec![1, 0, 0, 200]]));
    rig.send(A, &v9(1, 0, 0, &[set(256, &[0; 8])]));
    rig.wait(Duration::from_secs(90));
    rig.batch();
    rig.send(A, &v9(1, 1, 0, &[set(256, &[0; 8])]));
    rig.batch();
    assert_eq!(rig.batches.iter().flatten().count(), 6);
    let report = rig.report();
    let reasons: Vec<&str> = report.inbox.iter().map(|item| item.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["syslog text", "sFlow of another version", "count of records", "length of a set", "template has not come"]
    );
    assert!(report.inbox[4].remedy.contains("for 90 s"), "{}", report.inbox[4].remedy);
    assert_eq!(report.inbox[0].first_bytes, "3c31333e7377697463683a207570");
    let ipfix = report.exporters.iter().find(|exporter| exporter.version == "ipfix").unwrap();
    assert_eq!(ipfix.malformed["length of a set"], 1);
}

#[test]
fn a_heartbeat_stays_below_a_packet() {
    let mut rig = Rig::new();
    for n in 0..6000_u32 {
        let source = std::net::SocketAddr::new(std::net::Ipv6Addr::from_bits(u128::MAX - u128::from(n)).into(), 9);
        rig.send_from(source, &v5(n, 1, 0, 0));
        rig.send_from(source, &[0xff; 40]);
    }
    let report = rig.report();
    assert_eq!((report.exporters.len(), report.inbox.len()), (64, 64));
    assert_eq!(report.exporters_evicted, 6000 - 4096);
    let size = serde_json::to_vec(&report).unwrap().len();
    assert!(size < raven_model::control::PACKET_MAX / 2, "{size} bytes");
}
