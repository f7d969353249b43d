//! How a datagram looks as JSON, by the seeds of the fuzz target.

#![allow(clippy::unwrap_used)]

use raven_decode::flow::decode::NoTemplates;
use raven_decode::flow::show::{View, to_json};
use raven_decode::flow::templates::Exporter;
use serde_json::{Value, json};
use std::path::Path;

/// The last datagram of a seed.
fn shown(seed: &str, configured: Option<u64>) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/flow").join(seed);
    let bytes = std::fs::read(path).unwrap();
    let raw = &bytes[2..];
    let exporter = Some(Exporter::new([192, 0, 2, 1].into()));
    let mut out = String::new();
    to_json(raw, &View { exporter, sampling: None, configured }, &NoTemplates, &mut out).unwrap();
    serde_json::from_str(&out).unwrap()
}

#[test]
fn version_5_has_the_names_of_version_9() {
    let v5 = shown("v5", None);
    assert_eq!(v5["export_time"], 1_700_000_000_500_u64);
    let flow = &v5["flows"][0];
    assert_eq!(
        (&flow["src_addr"], &flow["dst_port"], &flow["tcp_flags"]),
        (&json!("10.0.0.1"), &json!(443), &json!(0x1b))
    );
    assert_eq!((&flow["start_ms"], &flow["src_as"]), (&json!(1_699_999_990_500_u64), &json!(65_001)));
    assert_eq!((&flow["sampling"], &flow["sampling_source"]), (&json!(100), &json!("header")));
    assert_eq!((&flow["bytes"], &flow["fields"]["octetDeltaCount"]), (&json!(840), &json!(840)));
    assert_eq!(flow["set"], Value::Null);
}

#[test]
fn the_operator_knows_what_nobody_says() {
    assert_eq!(shown("v9", None)["flows"][0]["sampling_source"], "unknown");
    let flow = &shown("v9", Some(500))["flows"][0];
    assert_eq!(
        (&flow["sampling"], &flow["sampling_source"], &flow["bytes"]),
        (&json!(500), &json!("configured"), &json!(100))
    );
}

#[test]
fn the_other_direction_has_a_name_of_its_own() {
    let flow = &shown("ipfix-variable", None)["flows"][0];
    assert_eq!(
        flow["fields"],
        json!({"sourceIPv4Address": "10.0.0.1", "interfaceName": "eth0", "reverseOctetDeltaCount": 99})
    );
    assert_eq!(flow["bytes"], Value::Null, "octets of the other direction are not this one's");
}

#[test]
fn lists_hold_values_and_records() {
    let fields = &shown("ipfix-lists", None)["flows"][0]["fields"];
    assert_eq!(fields["basicList"], json!({"semantic": "allOf", "element": "ingressInterface", "values": [1, 2]}));
    assert_eq!(
        fields["subTemplateList"],
        json!({"semantic": "ordered", "records": [
            {"template": 257, "fields": {"ingressInterface": 5}},
            {"template": 257, "fields": {"ingressInterface": 6}},
        ]})
    );
    assert_eq!(
        fields["subTemplateMultiList"],
        json!({"semantic": "exactlyOneOf", "records": [
            {"template": 257, "fields": {"ingressInterface": 7}},
            {"template": 257, "fields": {"ingressInterface": 8}},
            {"template": 999, "undescribed": "78"},
        ]})
    );
}

#[test]
fn lists_in_lists_end_as_bytes() {
    let mut list = &shown("ipfix-nested", None)["flows"][0]["fields"]["subTemplateList"];
    let mut depth = 0;
    while list.is_object() {
        list = &list["records"][0]["fields"]["subTemplateList"];
        depth += 1;
    }
    assert_eq!((depth, list.is_string()), (4, true));
}

#[test]
fn a_frame_within_a_record_is_looked_into() {
    let flow = &shown("ipfix-frame", None)["flows"][0];
    let expected =
        json!({"src_addr": "10.0.0.1", "dst_port": 1024, "vlan": 7, "tcp_flags": 18, "src_mac": "040404040404"});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&flow[field], value, "{field}");
    }
}

#[test]
fn a_sample_has_what_its_records_say() {
    let sflow = shown("sflow-flow", None);
    assert_eq!((&sflow["agent"], &sflow["domain"], &sflow["sequence"]), (&json!("10.0.0.1"), &json!(0), &json!(9)));
    let flow = &sflow["flows"][0];
    let expected = json!({
        "src_addr": "10.0.0.1", "dst_port": 1024, "vlan": 7, "in_vlan": 7, "out_vlan": 8, "sampling": 100, "in_if": 1,
        "sampling_source": "header", "packets": 1, "out_if": "multiple 5", "src_as": 65_001, "dst_as": 65_005,
        "elements": ["0:1", "0:1001", "0:1003"],
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&flow[field], value, "{field}");
    }
    let gateway = &flow["records"][2];
    assert_eq!(gateway["record"], "extended_gateway");
    assert_eq!((&gateway["dst_as_path"], &gateway["communities"]), (&json!([65_003, 65_004, [65_005]]), &json!([100])));
    assert_eq!(gateway["local_pref"], 200);
}

#[test]
fn counters_and_drops_have_names() {
    let counters = &shown("sflow-counters", None)["counters"][0];
    assert_eq!(
        (&counters["if_index"], &counters["if_in_octets"], &counters["if_out_octets"]),
        (&json!(3), &json!(5), &json!(6))
    );
    assert_eq!(
        (&counters["records"][1]["record"], &counters["records"][1]["load_one"]),
        (&json!("host_cpu"), &json!(0.0))
    );
    let drop = &shown("sflow-drop", None)["drops"][0];
    assert_eq!((&drop["reason_name"], &drop["records"][0]["name"]), (&json!("acl"), &json!("foo!")));
    let unknown = shown("sflow-unknown", None);
    assert_eq!(unknown["undescribed"], json!([{"sample_type": "4413:1", "length": 4}]));
}
