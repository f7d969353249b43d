//! Datagrams to collectors of old: nfcapd, snmptrapd, rsyslog's imudp.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_decode::flow::sets::Family;
use raven_decode::flow::templates::{Exporter, Scope, TemplateKey};
use raven_model::record::{Context, Received, frame_len, write_frame};
use raven_model::units::UnixNanos;
use raven_uplink::sim::SimRing;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;
use support::legacy::{Collector, has, traps};
use support::rsyslog::{ACCEPTED, Rsyslog};
use support::{MemoryCursors, SimFleet, fleet, free_port, run, status, until, until_acked, uplinks};

fn one(dir: &std::path::Path, ring: &Rc<SimRing>, line: &str) -> SimFleet {
    let mut fleet = fleet(ring, &MemoryCursors::default(), dir);
    fleet.configure("arena", &uplinks(line));
    fleet
}

/// Frames of a block.
#[derive(Default)]
struct Frames(Vec<u8>, u64);

impl Frames {
    fn frame(&mut self, received: &Received, raw: &[u8]) {
        let at = self.0.len();
        self.0.resize(at + frame_len(received.source.ip(), raw.len()), 0);
        write_frame(&mut self.0[at..], received, raw).unwrap();
    }

    fn record(&mut self, source: SocketAddr, raw: &[u8]) {
        self.frame(&Received::new(source, 0, UnixNanos(1_795_307_753_000_000_000)), raw);
        self.1 += 1;
    }

    /// As the flow collector writes what a block's records need.
    fn template(&mut self, exporter: &Exporters, definition: &[u8]) {
        let scope = Scope { exporter: Exporter::new(exporter.source.ip()), family: exporter.family, domain: 0 };
        let key = [&b"t"[..], &TemplateKey { scope, id: 256 }.to_bytes()].concat();
        let mut raw = Vec::new();
        Context { key: &key, value: definition }.write(&mut raw);
        self.frame(&Received::context(UnixNanos(1_795_307_753_000_000_000)), &raw);
    }

    fn store(self, ring: &SimRing) -> u64 {
        ring.append("flow", &Rc::new(self.0), self.1);
        self.1
    }
}

/// Exporters that all use domain 0 and template 256, each for fields in another order.
struct Exporters {
    source: SocketAddr,
    family: Family,
    /// Element and length.
    fields: &'static [(u16, u16)],
    sent: u32,
}

const PLAIN: &[(u16, u16)] = &[(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 4), (2, 4), (22, 4), (21, 4)];
const TURNED: &[(u16, u16)] = &[(2, 4), (1, 4), (12, 4), (8, 4), (22, 4), (21, 4), (4, 1), (11, 2), (7, 2)];
/// Of one datagram.
const FLOWS: u32 = 7;

impl Exporters {
    fn definition(&self) -> Vec<u8> {
        let set: u16 = if self.family == Family::V9 { 0 } else { 2 };
        let record = [256, self.fields.len() as u16].into_iter().chain(self.fields.iter().flat_map(|(e, l)| [*e, *l]));
        let numbers = [set, 8 + 4 * self.fields.len() as u16].into_iter().chain(record);
        numbers.flat_map(u16::to_be_bytes).collect()
    }

    /// Flows of 3 packets and 1,500 bytes each.
    fn datagram(&mut self) -> Vec<u8> {
        let value = |element: u16| match element {
            8 | 12 => 0x0a00_0001,
            7 | 11 => 443,
            4 => 6,
            1 => 1500,
            2 => 3,
            _ => 1000_u32,
        };
        let field = |(element, len): &(u16, u16)| value(*element).to_be_bytes()[4 - usize::from(*len)..].to_vec();
        let flow: Vec<u8> = self.fields.iter().flat_map(field).collect();
        let mut set = [&[1, 0, 0, 0][..], &flow.repeat(FLOWS as usize)].concat();
        set.resize(set.len().next_multiple_of(4), 0);
        let len = (set.len() as u16).to_be_bytes();
        set[2..4].copy_from_slice(&len);
        self.sent += 1;
        let seconds = 1_795_307_753_u32.to_be_bytes();
        let head = if self.family == Family::V9 {
            let counts = [0, 9, 0, FLOWS as u8];
            [&counts[..], &100_000_u32.to_be_bytes(), &seconds, &self.sent.to_be_bytes(), &[0; 4]].concat()
        } else {
            let len = (16 + set.len() as u16).to_be_bytes();
            let sequence = ((self.sent - 1) * FLOWS).to_be_bytes();
            [&[0, 10][..], &len, &seconds, &sequence, &[0; 4]].concat()
        };
        [head, set].concat()
    }
}

fn exporters() -> [Exporters; 4] {
    let one = |address: &str, family, fields| Exporters { source: address.parse().unwrap(), family, fields, sent: 0 };
    [
        one("192.0.2.1:2055", Family::V9, PLAIN),
        one("192.0.2.2:2055", Family::V9, TURNED),
        one("192.0.2.3:4739", Family::Ipfix, PLAIN),
        one("[2001:db8::3]:4739", Family::Ipfix, TURNED),
    ]
}

#[test]
fn nfcapd_reads_every_flow_though_no_template_was_stored_as_a_record() {
    if !has("nfcapd") || !has("nfdump") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let nfcapd = Collector::nfcapd(dir.path());
    let (mut exporters, mut count) = (exporters(), 0);
    for _ in 0..20 {
        let mut block = Frames::default();
        for exporter in &exporters {
            block.template(exporter, &exporter.definition());
        }
        for round in 0..25 {
            // In runs of three, and all four mixed.
            let exporter = &mut exporters[if round < 12 { round / 3 } else { round % 4 }];
            let datagram = exporter.datagram();
            block.record(exporter.source, &datagram);
        }
        count += block.store(&ring);
    }
    run(async {
        let line = format!(r#"old kind=udp to=127.0.0.1:{} streams=["flow"] pace=2000records/s"#, nfcapd.port);
        let mut fleet = one(dir.path(), &ring, &line);
        until_acked(&mut fleet, "old", count).await;
        assert_eq!(status(&mut fleet, "old").ack_class, "none");
        fleet.stop().await;
    });
    let flows = count * u64::from(FLOWS);
    assert_eq!(nfcapd.flows(flows), [flows, flows * 3, flows * 1500]);
}

#[test]
fn what_nobody_listens_for_is_sent_again_when_somebody_does() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let (port, messages) = (free_port(), (1..=40).map(|n| format!("<13>message {n}")).collect::<Vec<_>>());
    ring.store("syslog", &messages.iter().map(String::as_bytes).collect::<Vec<_>>());
    run(async {
        let mut fleet = one(dir.path(), &ring, &format!("old kind=udp to=127.0.0.1:{port} backfill=2000records/s"));
        until("it is told", || status(&mut fleet, "old").state == "retrying").await;
        let told = status(&mut fleet, "old");
        assert!(told.last_error.unwrap().contains("nobody listens there"));
        assert_eq!(told.acknowledged, 0);
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        until_acked(&mut fleet, "old", 40).await;
        fleet.stop().await;
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut came = std::collections::BTreeSet::new();
        let mut buf = [0; 100];
        while let Ok(len) = socket.recv(&mut buf) {
            came.insert(String::from_utf8(buf[..len].to_vec()).unwrap());
        }
        assert_eq!(came, messages.into_iter().collect());
    });
}

#[test]
fn rsyslog_gets_messages_as_they_came_and_in_an_envelope_where_that_is_wanted() {
    if !support::rsyslog::installed() {
        return;
    }
    for (format, ending) in [("raw", ""), ("rfc5424", "\"] ")] {
        let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
        let (ready, port) = (free_port(), free_port());
        let modules = "module(load=\"imudp\")\nmodule(load=\"imrelp\")";
        let inputs = format!(
            "input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"noc\")\n\
             input(type=\"imrelp\" address=\"127.0.0.1\" port=\"{ready}\" ruleset=\"noc\")"
        );
        let mut rsyslog = Rsyslog::with(dir.path(), ready, "", modules, &inputs, ACCEPTED);
        rsyslog.start();
        let messages: Vec<String> = (1..=500).map(|n| format!("<34>Nov 22 00:35:53 gate su: failed {n}")).collect();
        ring.store("syslog", &messages.iter().map(String::as_bytes).collect::<Vec<_>>());
        run(async {
            let line = format!("old kind=udp to=127.0.0.1:{port} format={format} pace=2000records/s");
            let mut fleet = one(dir.path(), &ring, &line);
            until_acked(&mut fleet, "old", 500).await;
            until("rsyslog wrote them", || rsyslog.lines() == 500).await;
            fleet.stop().await;
        });
        for (line, message) in rsyslog.received().iter().zip(&messages) {
            let line = String::from_utf8(line.clone()).unwrap();
            assert!(line.ends_with(&format!("{ending}{message}")), "{line}");
            assert_eq!(line.starts_with("<34>1 2026-") && line.contains("src=\"192.0.2.7\""), format == "rfc5424");
            assert_eq!(line == *message, format == "raw");
        }
    }
}

#[test]
fn snmptrapd_reads_traps_of_all_three_versions() {
    if !has("snmptrapd") || !has("snmptrap") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let user = "createUser -e 0x8000000001020304 raven SHA authauthauth AES privprivpriv";
    let snmptrapd = Collector::snmptrapd(dir.path(), user);
    let traps = traps("raven-mark");
    ring.store("trap", &traps.iter().map(Vec::as_slice).collect::<Vec<_>>());
    run(async {
        let line = format!(r#"old kind=udp to=127.0.0.1:{} streams=["trap"]"#, snmptrapd.port);
        let mut fleet = one(dir.path(), &ring, &line);
        until_acked(&mut fleet, "old", 3).await;
        until("snmptrapd logged them", || snmptrapd.log().matches("raven-mark").count() == 3).await;
        fleet.stop().await;
    });
    assert!(snmptrapd.log().contains("192.0.2.99"), "the agent of version 1: {}", snmptrapd.log());
}

#[test]
fn what_is_longer_than_a_datagram_becomes_a_dead_letter() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    ring.store("syslog", &[&vec![b'x'; 65_507], &vec![b'y'; 65_508], b"<13>next"]);
    run(async {
        let line = format!("old kind=udp to={}", socket.local_addr().unwrap());
        let mut fleet = one(dir.path(), &ring, &line);
        until_acked(&mut fleet, "old", 3).await;
        assert_eq!(status(&mut fleet, "old").dead.held, 1);
        fleet.stop().await;
    });
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buf = vec![0; 70_000];
    assert_eq!(socket.recv(&mut buf).unwrap(), 65_507);
    assert_eq!(socket.recv(&mut buf).unwrap(), 8);
    let dead = std::fs::read_to_string(dir.path().join("dead-letters/old.syslog.ndjson")).unwrap();
    assert!(dead.contains("65508 bytes, and a datagram has 65507 at most"), "{}", &dead[dead.len() - 300..]);
}
