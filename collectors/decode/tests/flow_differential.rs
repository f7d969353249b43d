//! Against the crate netflow_parser: where it agrees with the corpus on how many flows a case has, so must we, and
//! each flow has as many fields.

#![allow(clippy::unwrap_used)]

mod support;

use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{NetflowPacket, NetflowParser};
use raven_decode::flow::decode::{Item, walk};
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::template::TemplateKind;
use raven_decode::flow::templates::{Exporter, Scope, Templates};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use support::flow::{Case, cases};

/// Flows, and fields of all of them; the fields of version 9 only.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Sum {
    flows: usize,
    fields: usize,
}

fn theirs(case: &Case) -> Sum {
    let mut parsers: HashMap<IpAddr, NetflowParser> = HashMap::new();
    let mut sum = Sum::default();
    for datagram in &case.datagrams {
        let parser = parsers.entry(datagram.from).or_insert_with(|| NetflowParser::builder().build().unwrap());
        // Its first packet only: what lies behind an IPFIX message is not looked at by us.
        match parser.parse_bytes(&datagram.raw).packets.into_iter().next() {
            Some(NetflowPacket::V5(packet)) => sum.flows += packet.flowsets.len(),
            Some(NetflowPacket::V7(packet)) => sum.flows += packet.flowsets.len(),
            Some(NetflowPacket::V9(packet)) => {
                for set in packet.flowsets {
                    if let v9::FlowSetBody::Data(data) = set.body {
                        sum.flows += data.fields.len();
                        sum.fields += data.fields.iter().map(Vec::len).sum::<usize>();
                    }
                }
            }
            Some(NetflowPacket::IPFix(packet)) => {
                for set in packet.flowsets {
                    if let ipfix::FlowSetBody::Data(data) = set.body {
                        sum.flows += data.fields.len();
                    }
                }
            }
            _ => {}
        }
    }
    sum
}

fn ours(case: &Case) -> Sum {
    let mut templates = Templates::default();
    let mut sum = Sum::default();
    for datagram in &case.datagrams {
        let exporter = Exporter::new(datagram.from);
        let Ok(found) = scan(&datagram.raw) else { continue };
        walk(&found, &templates.of(exporter), &mut |item| {
            if let Item::Set { set, template, body, .. } = item
                && template.kind() == TemplateKind::Data
            {
                let records = template.count(body);
                sum.flows += records;
                if set.is_some() && matches!(&found, Scan::Sets(message) if message.header.uptime_ms.is_some()) {
                    sum.fields += records * template.fields().len();
                }
            }
        });
        if let Scan::Sets(message) = found {
            let scope = Scope { exporter, family: message.family, domain: message.domain };
            for set in message.sets().flatten() {
                let _ = templates.learn(scope, &set, Duration::ZERO, |_| {});
            }
        }
    }
    sum
}

#[test]
fn flows_are_as_many_as_netflow_parser_reads() {
    let cases = cases();
    let mut compared = 0;
    for case in &cases {
        let theirs = theirs(case);
        let agrees = case.summary["flow_records"].as_u64() == Some(theirs.flows as u64);
        let is_sflow = case.summary["protocol"] == "sflow5";
        if !agrees || theirs.flows == 0 || is_sflow || case.summary["count_confidence"] == "differ" {
            continue;
        }
        let ours = ours(case);
        assert_eq!(ours.flows, theirs.flows, "{}", case.name);
        if theirs.fields > 0 {
            assert_eq!(ours.fields, theirs.fields, "{}: fields", case.name);
        }
        compared += 1;
    }
    assert!(cases.is_empty() || compared >= 30, "{compared} cases compared");
}
