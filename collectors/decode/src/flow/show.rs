//! A datagram as one JSON object.
//!
//! ```json
//! {"version":"netflow9","exporter":"192.0.2.1","domain":1,"sequence":7,"export_time":1,"flows":[],"options":[],
//!  "counters":[],"drops":[],"undescribed":[],"faults":[]}
//! ```
//!
//! - A flow has the fields of [`Flow`] that its record gives, and `fields`: every element under its own name. One that
//!   a record has several times is an array.
//! - Times are integers since 1970, in the unit of their element; `…_ms` and `export_time` are milliseconds. Hardware addresses and
//!   bytes are hex digits.
//! - `sampling` is packets per sampled packet, `sampling_source` says who says so. Counters stay as they were sent.
//! - `undescribed` are data sets without a template, and samples of unknown formats; `faults` is what could not be read.
//!
//! The output is no more than a few hundred bytes for each byte of input, because each record, field and entry of a
//! list has at least one byte.

mod lists;
pub(super) mod samples;

use super::Reject;
use super::decode::{Item, Known, TemplateSource, walk};
use super::elements::Type;
use super::fields::Flow;
use super::json::Json;
use super::sampling::{Rate, Said, Sampling, of_flow};
use super::scan::{Header, scan};
use super::template::{Record, TemplateKind};
use super::templates::Exporter;
use super::value::Value;
use std::net::IpAddr;

/// What is known besides the datagram.
#[derive(Debug, Clone, Copy, Default)]
pub struct View<'v> {
    /// Who sent it.
    pub exporter: Option<Exporter>,
    /// What exporters said about their sampling.
    pub sampling: Option<&'v Sampling>,
    /// Packets per sampled packet, as the operator says.
    pub configured: Option<u64>,
}

/// How much was shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown {
    /// Flow records and flow samples.
    pub flows: u32,
    /// Options records.
    pub options: u32,
    /// Counter samples.
    pub counters: u32,
    /// Drop samples.
    pub drops: u32,
    /// Data sets without a template and samples of unknown formats.
    pub undescribed: u32,
    /// What could not be read.
    pub faults: u32,
}

/// The lists of a datagram, each as it grows.
#[derive(Debug, Default)]
struct Lists {
    flows: String,
    options: String,
    counters: String,
    drops: String,
    undescribed: String,
    faults: String,
    shown: Shown,
}

/// Appends a datagram to `out` as JSON. On an error nothing is appended.
///
/// ```
/// # use raven_decode::flow::{decode::NoTemplates, show::{View, to_json}};
/// let header = [0, 9, 0, 0, 0, 0, 0, 9, 0x5f, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1];
/// let mut out = String::new();
/// to_json(&header, &View::default(), &NoTemplates, &mut out).expect("a header of version 9");
/// assert!(out.starts_with(r#"{"version":"netflow9","domain":1,"sequence":7,"#));
/// ```
pub fn to_json(raw: &[u8], view: &View<'_>, templates: &dyn TemplateSource, out: &mut String) -> Result<Shown, Reject> {
    let scan = scan(raw)?;
    let header = *scan.header();
    let mut lists = Lists::default();
    walk(&scan, templates, &mut |item| lists.add(&item, &header, view));
    let Lists { flows, options, counters, drops, undescribed, faults, shown } = lists;
    Json::new(out).object(|json| {
        head(json, &header, view);
        let lists = [
            ("flows", flows),
            ("options", options),
            ("counters", counters),
            ("drops", drops),
            ("undescribed", undescribed),
            ("faults", faults),
        ];
        for (name, list) in lists {
            json.name(name).array(|json| json.raw(&list));
        }
    });
    Ok(shown)
}

fn head(json: &mut Json<'_>, header: &Header, view: &View<'_>) {
    json.name("version").word(header.version.name());
    if let Some(exporter) = view.exporter {
        json.name("exporter").addr(exporter.addr);
    }
    if let Some(agent) = header.agent {
        json.name("agent").plain(agent);
    }
    number(json, "domain", header.domain);
    number(json, "sequence", header.sequence);
    number(json, "export_time", header.export_ms);
    number(json, "uptime_ms", header.uptime_ms);
    number(json, "count", header.count);
}

impl Lists {
    fn add(&mut self, item: &Item<'_, '_>, header: &Header, view: &View<'_>) {
        match *item {
            Item::Set { set, template, body, known } => {
                let mut records = template.records(body);
                for record in records.by_ref() {
                    let (list, count) = match template.kind() {
                        TemplateKind::Data => (&mut self.flows, &mut self.shown.flows),
                        TemplateKind::Options => (&mut self.options, &mut self.shown.options),
                    };
                    *count += 1;
                    Json::new(list).object(|json| show_record(json, set, &record, known, header, view));
                }
                // Padding is up to three bytes of whatever, or zeros.
                let left = records.left();
                if left.len() > 3 && left.iter().any(|byte| *byte != 0) {
                    self.fault(Reject::Leftover { set: template.id(), bytes: left.len() as u32 });
                }
            }
            Item::Sample(ref sample) => self.sample(sample, header),
            Item::Undescribed(set) => {
                self.shown.undescribed += 1;
                Json::new(&mut self.undescribed).object(|json| {
                    number(json, "domain", header.domain);
                    json.name("set").number(set.id.into());
                    json.name("length").number(set.body.len() as u64);
                });
            }
            Item::UnknownSample(format, body) => {
                self.shown.undescribed += 1;
                Json::new(&mut self.undescribed).object(|json| {
                    json.name("sample_type").plain(format);
                    json.name("length").number(body.len() as u64);
                });
            }
            Item::Fault(reject) => self.fault(reject),
        }
    }

    fn fault(&mut self, reject: Reject) {
        self.shown.faults += 1;
        Json::new(&mut self.faults).plain(reject);
    }
}

fn show_record(
    json: &mut Json<'_>,
    set: Option<u16>,
    record: &Record<'_, '_>,
    known: &Known<'_>,
    header: &Header,
    view: &View<'_>,
) {
    if let Some(exporter) = view.exporter {
        json.name("exporter").addr(exporter.addr);
    }
    json.name("version").word(header.version.name());
    number(json, "domain", header.domain);
    number(json, "set", set);
    let mut flow = Flow::read(record, header);
    match record.template.kind() {
        TemplateKind::Data => {
            json.name("kind").word("flow");
            let rate = rate(&flow, header, view);
            flow.sampling = rate.rate;
            show_flow(json, &flow);
            json.name("sampling_source").word(rate.source.name());
        }
        TemplateKind::Options => {
            json.name("kind").word("option");
            flow.sampling = Said::of(record).rate().or(flow.sampling);
            show_flow(json, &flow);
        }
    }
    json.name("fields").object(|json| show_fields(json, record, known, 0));
}

pub(super) fn rate(flow: &Flow, header: &Header, view: &View<'_>) -> Rate {
    let learned = view.sampling.zip(view.exporter).zip(header.domain);
    let options = learned.and_then(|((sampling, exporter), domain)| sampling.rate(exporter, domain, flow.sampler_id));
    of_flow(flow.sampling, options, header, view.configured)
}

fn number(json: &mut Json<'_>, name: &'static str, value: Option<impl Into<u64>>) {
    if let Some(value) = value {
        json.name(name).number(value.into());
    }
}

fn addr(json: &mut Json<'_>, name: &'static str, value: Option<IpAddr>) {
    if let Some(value) = value {
        json.name(name).addr(value);
    }
}

fn plain(json: &mut Json<'_>, name: &'static str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        json.name(name).plain(value);
    }
}

/// The fields that all versions share.
fn show_flow(json: &mut Json<'_>, flow: &Flow) {
    addr(json, "src_addr", flow.src_addr);
    addr(json, "dst_addr", flow.dst_addr);
    number(json, "src_port", flow.src_port);
    number(json, "dst_port", flow.dst_port);
    number(json, "proto", flow.proto);
    number(json, "in_if", flow.in_if);
    number(json, "out_if", flow.out_if);
    number(json, "bytes", flow.bytes);
    number(json, "packets", flow.packets);
    number(json, "tos", flow.tos);
    number(json, "tcp_flags", flow.tcp_flags);
    number(json, "start_ms", flow.start_ms);
    number(json, "end_ms", flow.end_ms);
    number(json, "start_uptime_ms", flow.start_uptime_ms);
    number(json, "end_uptime_ms", flow.end_uptime_ms);
    number(json, "src_as", flow.src_as);
    number(json, "dst_as", flow.dst_as);
    number(json, "src_mask", flow.src_mask);
    number(json, "dst_mask", flow.dst_mask);
    addr(json, "next_hop", flow.next_hop);
    number(json, "direction", flow.direction);
    number(json, "sampling", flow.sampling);
    number(json, "sampler_id", flow.sampler_id);
    number(json, "vlan", flow.vlan);
    number(json, "in_vlan", flow.in_vlan);
    number(json, "out_vlan", flow.out_vlan);
    for (name, mac) in [("src_mac", flow.src_mac), ("dst_mac", flow.dst_mac)] {
        if let Some(mac) = mac {
            json.name(name).hex(&mac);
        }
    }
    if !flow.mpls.as_slice().is_empty() {
        json.name("mpls").array(|json| flow.mpls.as_slice().iter().for_each(|label| json.number((*label).into())));
    }
    addr(json, "post_nat_src", flow.post_nat_src);
    addr(json, "post_nat_dst", flow.post_nat_dst);
    number(json, "icmp_type", flow.icmp_type);
    number(json, "icmp_code", flow.icmp_code);
}

/// Every element under its name. `depth` is how many lists are around it.
fn show_fields(json: &mut Json<'_>, record: &Record<'_, '_>, known: &Known<'_>, depth: usize) {
    let specs = record.template.fields();
    let repeats = specs.iter().any(|spec| !spec.first);
    let bytes: Vec<&[u8]> = if repeats { record.fields().map(|field| field.bytes).collect() } else { Vec::new() };
    for field in record.fields() {
        let spec = field.spec;
        if !spec.first || spec.kind == Type::Padding {
            continue;
        }
        json.key(spec.name);
        if spec.next.is_none() {
            show_value(json, field.value(), known, depth);
            continue;
        }
        json.array(|json| {
            show_value(json, field.value(), known, depth);
            let mut next = spec.next;
            while let Some(place) = next.map(usize::from) {
                let Some((spec, bytes)) = specs.get(place).zip(bytes.get(place)) else { break };
                show_value(json, Value::read(spec.kind, bytes), known, depth);
                next = spec.next;
            }
        });
    }
}

fn show_value(json: &mut Json<'_>, value: Value<'_>, known: &Known<'_>, depth: usize) {
    match value {
        Value::Unsigned(n) | Value::Seconds(n) | Value::Millis(n) | Value::Micros(n) | Value::Nanos(n) => {
            json.number(n);
        }
        Value::Signed(n) => json.signed(n),
        Value::Float(n) => json.float(n),
        Value::Bool(value) => json.boolean(value),
        Value::Mac(bytes) => json.hex(&bytes),
        Value::V4(addr) => json.v4(addr),
        Value::V6(addr) => json.plain(addr),
        Value::Text(bytes) => json.text(bytes),
        Value::Octets(bytes) => json.hex(bytes),
        Value::List(list) => lists::show(json, list, known, depth),
    }
}
