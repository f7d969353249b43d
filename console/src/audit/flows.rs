//! The marks of flows in a decoded line: `decoded.flows[]` of `raven export --stream flow --decoded`.

use crate::load::FlowMark;
use serde::Deserialize;
use std::net::IpAddr;

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    decoded: Option<Decoded>,
}

#[derive(Deserialize)]
struct Decoded {
    #[serde(default)]
    flows: Vec<Flow>,
}

#[derive(Deserialize)]
struct Flow {
    src_addr: Option<IpAddr>,
    dst_addr: Option<IpAddr>,
    src_port: Option<u16>,
    #[serde(default)]
    fields: Fields,
}

#[derive(Default, Deserialize)]
struct Fields {
    #[serde(default, rename = "flowId")]
    flow_id: Option<Number>,
}

/// Programs that fear for numbers above 2^53 write them as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<u64> {
        match self {
            Self::Plain(value) => Some(*value),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// Every mark in a line. A flow whose `flowId` says another number than its addresses was decoded wrongly and has none.
pub fn marks(line: &[u8]) -> Vec<FlowMark> {
    let flows = serde_json::from_slice::<Line>(line).ok().and_then(|line| line.decoded).map(|decoded| decoded.flows);
    flows.unwrap_or_default().iter().filter_map(mark).collect()
}

fn mark(flow: &Flow) -> Option<FlowMark> {
    let mark = FlowMark::read(flow.src_addr?, flow.src_port?, flow.dst_addr?)?;
    let agrees = flow.fields.flow_id.as_ref().is_none_or(|id| id.value() == Some(mark.n));
    agrees.then_some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: FlowMark = FlowMark { tag: 0x123, sender: 4, n: 77 };

    fn flow(more: &str) -> String {
        let ends = MARK.endpoints();
        let (source, destination) = ends.v4();
        let (source, destination) = (IpAddr::from(source), IpAddr::from(destination));
        format!(r#"{{"src_addr":"{source}","dst_addr":"{destination}","src_port":{},"proto":6{more}}}"#, ends.port)
    }

    fn found(flows: &str) -> Vec<FlowMark> {
        marks(format!(r#"{{"seq":1,"raw_b64":"AAA=","decoded":{{"version":9,"flows":[{flows}]}}}}"#).as_bytes())
    }

    #[test]
    fn every_flow_of_a_line_counts() {
        let other = r#"{"src_addr":"192.0.2.1","dst_addr":"192.0.2.2","src_port":80}"#;
        assert_eq!(found(&[&flow(""), other, r#"{"fields":{"samplerId":1}}"#, &flow("")].join(",")), [MARK, MARK]);
    }

    #[test]
    fn a_flow_id_that_disagrees_is_no_mark() {
        assert_eq!(found(&flow(r#","fields":{"flowId":77}"#)), [MARK]);
        assert_eq!(found(&flow(r#","fields":{"flowId":"77"}"#)), [MARK]);
        assert_eq!(found(&flow(r#","fields":{"flowId":78}"#)), []);
    }

    #[test]
    fn other_lines_hold_none() {
        for line in ["", "{", "<13>hello", r#"{"decoded":null}"#, r#"{"decoded":{"message":"x"}}"#, r#"{"reject":"x"}"#]
        {
            assert_eq!(marks(line.as_bytes()), [], "{line}");
        }
    }
}
