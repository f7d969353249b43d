//! A datagram of flows: a line for each flow record, and a line for each kind of the rest.

use super::plain;
use raven_model::services;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Samples of counters that are told one by one.
const COUNTERS: usize = 4;

/// What is shown of a datagram. `raven tail flow --json --decoded` has all of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Datagram {
    version: String,
    agent: Option<String>,
    domain: Option<u64>,
    flows: Vec<Flow>,
    options: Vec<Flow>,
    counters: Vec<Counter>,
    drops: Vec<Drop>,
    undescribed: Vec<Undescribed>,
    faults: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Flow {
    src_addr: Option<String>,
    dst_addr: Option<String>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
    proto: Option<u8>,
    bytes: Option<u64>,
    packets: Option<u64>,
    /// An index, or words.
    in_if: Option<Value>,
    out_if: Option<Value>,
    sampling: Option<u64>,
    sampling_source: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counter {
    #[serde(rename = "if_index")]
    index: Option<u64>,
    #[serde(rename = "if_in_octets")]
    input: Option<u64>,
    #[serde(rename = "if_out_octets")]
    output: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Drop {
    reason: Option<u64>,
    reason_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Undescribed {
    set: Option<u64>,
    sample_type: Option<String>,
}

/// At least one line.
pub fn lines(datagram: &Datagram) -> Vec<String> {
    let who = exporter(datagram);
    let flows = datagram.flows.iter().map(|flow| self::flow(flow, &who));
    let rest = [options(datagram), counters(datagram), drops(datagram), undescribed(datagram)];
    let rest = rest.into_iter().flatten().map(|line| format!("{line} {who}"));
    let faults = datagram.faults.iter().map(|fault| format!("fault: {} {who}", plain(fault)));
    let lines: Vec<String> = flows.chain(rest).chain(faults).collect();
    if lines.is_empty() { vec![format!("no records, perhaps templates {who}")] } else { lines }
}

/// `netflow9/1`, and the agent's own address of sFlow.
fn exporter(datagram: &Datagram) -> String {
    let domain = datagram.domain.map(|domain| format!("/{domain}")).unwrap_or_default();
    let agent = datagram.agent.as_deref().map(|agent| format!(" agent {}", plain(agent))).unwrap_or_default();
    format!("{}{domain}{agent}", plain(&datagram.version))
}

fn flow(flow: &Flow, who: &str) -> String {
    let [source, target] = [(&flow.src_addr, flow.src_port), (&flow.dst_addr, flow.dst_port)].map(end);
    let proto = match flow.proto {
        Some(number) => services::protocol(number).map_or_else(|| format!("proto {number}"), str::to_owned),
        None => "-".to_owned(),
    };
    let [bytes, packets] = [flow.bytes, flow.packets].map(|n| n.map_or_else(|| "-".to_owned(), |n| n.to_string()));
    let interfaces = match (&flow.in_if, &flow.out_if) {
        (None, None) => String::new(),
        (input, output) => format!(" if {}>{}", interface(input.as_ref()), interface(output.as_ref())),
    };
    let sampling = match (flow.sampling, flow.sampling_source.as_deref()) {
        (Some(rate), Some(source)) if rate > 0 => format!(" 1:{rate} ({})", plain(source)),
        _ => String::new(),
    };
    format!("{source} > {target} {proto} {bytes} B {packets} pkt{interfaces} {who}{sampling}")
}

fn end((addr, port): (&Option<String>, Option<u16>)) -> String {
    let addr = addr.as_deref().map_or_else(|| "-".to_owned(), plain);
    match port {
        Some(port) if addr.contains(':') => format!("[{addr}]:{port}"),
        Some(port) => format!("{addr}:{port}"),
        None => addr,
    }
}

fn interface(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(words)) => plain(words),
        Some(other) => plain(&other.to_string()),
    }
}

fn options(datagram: &Datagram) -> Option<String> {
    let rates: Vec<String> =
        datagram.options.iter().filter_map(|option| option.sampling).map(|rate| format!("1:{rate}")).collect();
    let sampling = if rates.is_empty() { String::new() } else { format!(", sampling {}", few(&rates)) };
    (!datagram.options.is_empty()).then(|| format!("options: {} records{sampling}", datagram.options.len()))
}

fn counters(datagram: &Datagram) -> Option<String> {
    let told: Vec<String> = datagram.counters.iter().filter_map(Counter::told).collect();
    let told = if told.is_empty() { String::new() } else { format!(": {}", few(&told)) };
    (!datagram.counters.is_empty()).then(|| format!("counters: {} samples{told}", datagram.counters.len()))
}

impl Counter {
    fn told(&self) -> Option<String> {
        let (index, input, output) = (self.index?, self.input?, self.output?);
        Some(format!("if {index} in {input} B out {output} B"))
    }
}

fn drops(datagram: &Datagram) -> Option<String> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for drop in &datagram.drops {
        let number = || drop.reason.map_or_else(|| "of no reason".to_owned(), |n| format!("reason {n}"));
        *reasons.entry(drop.reason_name.as_deref().map_or_else(number, plain)).or_insert(0) += 1;
    }
    let told: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    (!told.is_empty()).then(|| format!("drops: {} samples: {}", datagram.drops.len(), few(&told)))
}

fn undescribed(datagram: &Datagram) -> Option<String> {
    let told: Vec<String> = datagram.undescribed.iter().filter_map(Undescribed::told).collect();
    let told = if told.is_empty() { String::new() } else { format!(" ({})", few(&told)) };
    (!datagram.undescribed.is_empty()).then(|| format!("undescribed: {}{told}", datagram.undescribed.len()))
}

impl Undescribed {
    fn told(&self) -> Option<String> {
        let format = self.sample_type.as_deref().map(|format| format!("sample {}", plain(format)));
        self.set.map(|set| format!("set {set}")).or(format)
    }
}

fn few(told: &[String]) -> String {
    let more = told.len().saturating_sub(COUNTERS);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", told[..told.len() - more].join(", "))
}
