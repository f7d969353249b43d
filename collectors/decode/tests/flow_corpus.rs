//! Every case of the flow corpus against what other decoders read from it: tshark 4.0 for NetFlow and IPFIX, sflowtool
//! for sFlow.
//!
//! Numbers of flows, options, counters, drops and undescribed sets are equal, and the first records have the same
//! fields with the same values, but for the two tables below. Fields that only Raven reads are listed too.

#![allow(clippy::unwrap_used)]

mod support;

use raven_decode::flow::sampling::Sampling;
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::show::{Shown, View, to_json};
use raven_decode::flow::templates::{Exporter, Scope, Templates};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use support::flow::{Case, cases};

/// Case, flows, options, undescribed sets that we read, why.
const DISPUTED: &[(&str, [u32; 3], &str)] = &[
    (
        "bk_v9_mixed",
        [8, 0, 0],
        "data before its template in one datagram: read once the template is known, as PyPI netflow does",
    ),
    ("bk_v9_zeros", [0, 0, 5], "no template in the capture"),
    (
        "gl_v9_1",
        [2, 0, 1],
        "the header's count covers the templates only: not used, as nfdump does; the last set has no template and is cut off",
    ),
    (
        "gl_v9_pcap",
        [21, 1, 0],
        "the header's count is too small: not used, as nfdump does; the options record is behind it too",
    ),
    ("nd_netflowv9", [0, 0, 23], "no template in the capture"),
    ("td_sflow_counters30", [7, 0, 0], "five datagrams of the capture are NetFlow 5, which sflowtool does not read"),
    ("vf_ipfix_hammer", [0, 0, 4], "the samples' templates are of other domains than their data"),
];

/// Case, field, why ours is another.
const OTHER_VALUES: &[(&str, &str, &str)] = &[
    ("gf_sflow_drop_acl", "elements", "sflowtool 6 has no number for extended_acl"),
    ("gf_sflow_drop_egressq", "elements", "sflowtool 6 has no number for extended_egress_queue"),
    ("tg_sflow_issue_15375", "elements", "sflowtool 6 has no number for extended_egress_queue"),
    ("gf_sflow_drop_func", "agent", "left out in the expectations, it is in the datagram"),
    ("gf_sflow_drop_func", "sub_agent", "left out in the expectations, it is in the datagram"),
    ("ls_ipfix_softflowd", "start_ms", "flowStartSysUpTime 0 is uptime 0, not the year 1970"),
    ("ls_ipfix_softflowd", "start_uptime_ms", "flowStartSysUpTime 0 is uptime 0, not the year 1970"),
    ("ls_v9_multi_exporters", "start_ms", "FIRST_SWITCHED 0 is uptime 0, not the year 1970"),
    ("ls_v9_multi_exporters", "start_uptime_ms", "FIRST_SWITCHED 0 is uptime 0, not the year 1970"),
    ("ls_v9_h3c", "exporter", "the expectations are of another tool, with fewer fields"),
    ("ls_v9_h3c", "domain", "the expectations are of another tool, with fewer fields"),
    ("ls_v9_h3c", "set", "the expectations are of another tool, with fewer fields"),
    ("ls_v9_h3c", "direction", "the expectations are of another tool, with fewer fields"),
    ("ls_v9_h3c", "start_ms", "the expectations are of another tool, with fewer fields"),
    ("ls_v9_h3c", "end_ms", "the expectations are of another tool, with fewer fields"),
];

/// Fields that the expectations have for some versions only, or not at all; where they have them, they count. Sampling:
/// from options records. Hardware addresses, VLAN, ICMP: from their elements and from packet sections.
const ONLY_OURS: &[&str] = &[
    "fields",
    "records",
    "sampling_source",
    "sampling",
    "sampler_id",
    "src_mac",
    "dst_mac",
    "vlan",
    "icmp_type",
    "icmp_code",
];

struct Run {
    shown: [u32; 6],
    records: Vec<Value>,
    /// Why something could not be read.
    faults: Vec<String>,
}

fn run(case: &Case) -> Run {
    let (mut templates, mut sampling) = (Templates::default(), Sampling::default());
    let mut out = Run { shown: [0; 6], records: Vec::new(), faults: Vec::new() };
    for datagram in &case.datagrams {
        let exporter = Exporter::new(datagram.from);
        let view = View { exporter: Some(exporter), sampling: Some(&sampling), configured: None };
        let mut json = String::new();
        match to_json(&datagram.raw, &view, &templates.of(exporter), &mut json) {
            Ok(shown) => add(&mut out.shown, shown),
            Err(reject) => out.faults.push(reject.to_string()),
        }
        if !json.is_empty() {
            let value: Value = serde_json::from_str(&json).unwrap();
            for list in ["flows", "options", "counters", "drops"] {
                out.records.extend(value[list].as_array().unwrap().iter().cloned());
            }
            out.faults
                .extend(value["faults"].as_array().unwrap().iter().map(|fault| fault.as_str().unwrap().to_owned()));
        }
        let Ok(found) = scan(&datagram.raw) else { continue };
        sampling.learn(exporter, &found, &templates.of(exporter));
        if let Scan::Sets(message) = found {
            let scope = Scope { exporter, family: message.family, domain: message.domain };
            for set in message.sets().flatten() {
                let _ = templates.learn(scope, &set, Duration::ZERO, |_| {});
            }
        }
    }
    out
}

fn add(sum: &mut [u32; 6], shown: Shown) {
    let Shown { flows, options, counters, drops, undescribed, faults } = shown;
    for (sum, n) in sum.iter_mut().zip([flows, options, counters, drops, undescribed, faults]) {
        *sum += n;
    }
}

#[test]
fn counts_are_those_of_other_decoders() {
    let mut wrong = Vec::new();
    for case in cases() {
        let [flows, options, counters, drops, undescribed, faults] = run(&case).shown;
        let said = |key: &str| case.summary[key].as_u64().unwrap() as u32;
        let theirs = [said("flow_records"), said("option_records"), said("data_sets_without_template")];
        let disputed = DISPUTED.iter().find(|(name, ..)| *name == case.name);
        let expected = disputed.map_or(theirs, |(_, ours, _)| *ours);
        if [flows, options, undescribed] != expected
            || [counters, drops] != [said("counter_samples"), said("drop_samples")]
        {
            wrong.push(format!(
                "{}: ours {flows} {options} {undescribed} | {counters} {drops} faults {faults}, theirs {theirs:?}",
                case.name
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn records_are_those_of_other_decoders() {
    let mut wrong = BTreeSet::new();
    for case in cases() {
        if DISPUTED.iter().any(|(name, ..)| *name == case.name) {
            continue;
        }
        let records = run(&case).records;
        // Theirs are in the order of the wire, ours by kind within a datagram.
        for kind in ["flow", "option", "counter", "drop"] {
            let of_kind = |record: &&Value| record["kind"] == kind;
            let ours = records.iter().filter(of_kind);
            for (theirs, ours) in case.expected.iter().filter(of_kind).zip(ours) {
                compare(&case, theirs, ours, &mut wrong);
            }
        }
    }
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{} kinds of difference\n{}", wrong.len(), wrong.join("\n"));
}

fn compare(case: &Case, theirs: &Value, ours: &Value, wrong: &mut BTreeSet<String>) {
    let (theirs, ours) = (theirs.as_object().unwrap(), ours.as_object().unwrap());
    let known = |field: &str| OTHER_VALUES.iter().any(|(name, other, _)| *name == case.name && *other == field);
    for (field, value) in theirs {
        // Place, the other decoder's own words; null where there is none.
        if matches!(field.as_str(), "pkt" | "raw") || value.is_null() || known(field) {
            continue;
        }
        if ours.get(field) != Some(value) {
            wrong.insert(format!("{}: {field}: theirs {value}, ours {:?}", case.name, ours.get(field)));
        }
    }
    for field in ours.keys() {
        if !theirs.contains_key(field) && !ONLY_OURS.contains(&field.as_str()) && !known(field) {
            wrong.insert(format!("{}: {field}: only ours {}", case.name, theirs["kind"]));
        }
    }
}

#[test]
fn every_exception_is_of_a_case() {
    let names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
    let excepted = DISPUTED.iter().map(|(name, ..)| *name).chain(OTHER_VALUES.iter().map(|(name, ..)| *name));
    for name in excepted {
        assert!(names.is_empty() || names.iter().any(|known| known == name), "no case {name}");
    }
}

/// What options say about sampling reaches the flows, and nobody multiplies.
#[test]
fn sampling_is_learned_from_options() {
    for case in cases().iter().filter(|case| case.name == "pm_104_00") {
        let flows: Vec<_> = run(case).records.into_iter().filter(|record| record["kind"] == "flow").collect();
        assert!(!flows.is_empty());
        for flow in flows {
            assert_eq!((&flow["sampling"], &flow["sampling_source"]), (&256.into(), &"options".into()));
            assert_eq!(flow["bytes"], flow["fields"]["octetDeltaCount"]);
        }
    }
}

/// What could not be read, case by case. Anything else would be a loss that nobody sees.
const FAULTS: &[(&str, usize, &str)] = &[
    ("ca_ipfix_all", 1, "three messages behind the first in one datagram"),
    ("gl_v9_1", 1, "the datagram ends within a set"),
    ("ls_ipfix_softflowd", 1, "304 bytes behind the message"),
    ("ls_v5_invalid01", 1, "counts 55582 records"),
    ("ls_v5_softflowd", 1, "counts 2 records of 35"),
    ("td_sflow_segv", 1, "the header is cut off"),
];

#[test]
fn faults_are_those_that_are_known() {
    let mut wrong = Vec::new();
    for case in cases() {
        let faults = run(&case).faults;
        let known = FAULTS.iter().find(|(name, ..)| *name == case.name).map_or(0, |(_, faults, _)| *faults);
        if faults.len() != known {
            wrong.push(format!("{}: {known} are known, not {faults:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
