//! Samples of sFlow: the fields that all versions share, and `records` with what each record holds.

use super::{Lists, number, plain, show_flow};
use crate::flow::fields::Flow;
use crate::flow::json::Json;
use crate::flow::packet;
use crate::flow::sampling::SamplingSource;
use crate::flow::scan::Header;
use crate::flow::sflow::layout::{Kind, Layout, of_counters, of_flow};
use crate::flow::sflow::{Format, Interface, Sample, SampleKind, address, reasons};
use crate::flow::wire::Wire;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Lists {
    pub(super) fn sample(&mut self, sample: &Sample<'_>, header: &Header) {
        let records = sample.records();
        // A sample of which nothing can be read is only a fault.
        if records.clone().next().is_some_and(|record| record.is_err()) {
            records.filter_map(Result::err).for_each(|fault| self.fault(fault));
            return;
        }
        let (list, count) = match sample.kind {
            SampleKind::Flow { .. } => (&mut self.flows, &mut self.shown.flows),
            SampleKind::Counters => (&mut self.counters, &mut self.shown.counters),
            SampleKind::Drop { .. } => (&mut self.drops, &mut self.shown.drops),
        };
        *count += 1;
        Json::new(list).object(|json| show_sample(json, sample, header));
        records.filter_map(Result::err).for_each(|fault| self.fault(fault));
    }
}

fn show_sample(json: &mut Json<'_>, sample: &Sample<'_>, header: &Header) {
    json.name("version").plain(header.version);
    let kind = match sample.kind {
        SampleKind::Flow { .. } => "flow",
        SampleKind::Counters => "counter",
        SampleKind::Drop { .. } => "drop",
    };
    json.name("kind").plain(kind);
    plain(json, "agent", header.agent);
    number(json, "sub_agent", header.domain);
    json.name("sample_type").plain(sample.format);
    json.name("seq").number(sample.sequence.into());
    json.name("source_id").plain(sample.source);
    match sample.kind {
        SampleKind::Flow { sampling, pool, drops, input, output } => {
            json.name("sample_pool").number(pool.into());
            json.name("drops").number(drops.into());
            interface(json, "in_if", input);
            interface(json, "out_if", output);
            let flow = Flow { sampling: Some(sampling.into()), packets: Some(1), ..flow_of(sample) };
            show_flow(json, &flow);
            let source = if sampling > 0 { SamplingSource::Header } else { SamplingSource::Unknown };
            json.name("sampling_source").plain(source);
        }
        SampleKind::Counters => if_counters(json, sample),
        SampleKind::Drop { drops, input, output, reason } => {
            json.name("drops").number(drops.into());
            json.name("in_if").number(input.into());
            json.name("out_if").number(output.into());
            json.name("reason").number(reason.into());
            plain(json, "reason_name", reasons::name(reason));
            show_flow(json, &flow_of(sample));
        }
    }
    json.name("elements").array(|json| sample.records().flatten().for_each(|(format, _)| json.plain(format)));
    let is_counters = sample.kind == SampleKind::Counters;
    json.name("records").array(|json| {
        for (format, body) in sample.records().flatten() {
            json.object(|json| show_record(json, format, body, is_counters));
        }
    });
}

fn interface(json: &mut Json<'_>, name: &'static str, interface: Interface) {
    match interface {
        Interface::Index(index) => json.name(name).number(index.into()),
        other => json.name(name).plain(other),
    }
}

/// What the records of a sample say in the words of all versions. The packet's own bytes count before what the device
/// says about it.
pub(in crate::flow) fn flow_of(sample: &Sample<'_>) -> Flow {
    let mut flow = Flow::default();
    let sampled = |wanted: fn(u32) -> bool| {
        sample.records().flatten().filter(move |(format, _)| format.enterprise == 0 && wanted(format.format))
    };
    for (_, body) in sampled(|format| format == 1) {
        let _ = sampled_header(Wire::new(body), &mut flow);
    }
    for (format, body) in sampled(|format| format != 1) {
        let _ = told(format.format, Wire::new(body), &mut flow);
    }
    flow
}

fn sampled_header(mut wire: Wire<'_>, flow: &mut Flow) -> Option<()> {
    let [protocol, frame_length, _stripped, length] = [wire.u32()?, wire.u32()?, wire.u32()?, wire.u32()?];
    let rest = wire.rest();
    let header = rest.get(..length as usize).unwrap_or(rest);
    flow.bytes = Some(frame_length.into());
    match protocol {
        1 => packet::ethernet(header, flow),
        11 | 12 => packet::ip(header, flow),
        13 => packet::mpls(header, flow),
        _ => {}
    }
    Some(())
}

fn told(format: u32, mut wire: Wire<'_>, flow: &mut Flow) -> Option<()> {
    match format {
        2 => {
            let length = wire.u32()?;
            flow.bytes.get_or_insert(length.into());
            flow.src_mac = flow.src_mac.or(Some(mac(&mut wire)?));
            flow.dst_mac = flow.dst_mac.or(Some(mac(&mut wire)?));
        }
        3 | 4 => {
            let (length, proto) = (wire.u32()?, wire.u32()?);
            let mut addr =
                || Some(if format == 3 { IpAddr::from(wire.array::<4>()?) } else { IpAddr::from(wire.array::<16>()?) });
            let (src, dst) = (addr()?, addr()?);
            let [src_port, dst_port, flags, tos] = [wire.u32()?, wire.u32()?, wire.u32()?, wire.u32()?];
            if flow.src_addr.is_none() {
                flow.bytes.get_or_insert(length.into());
                flow.proto = u8::try_from(proto).ok();
                (flow.src_addr, flow.dst_addr) = (Some(src), Some(dst));
                (flow.src_port, flow.dst_port) = (u16::try_from(src_port).ok(), u16::try_from(dst_port).ok());
                (flow.tcp_flags, flow.tos) = (u16::try_from(flags).ok(), u8::try_from(tos).ok());
            }
        }
        1_001 => {
            let [src_vlan, _, dst_vlan, _] = [wire.u32()?, wire.u32()?, wire.u32()?, wire.u32()?];
            (flow.in_vlan, flow.out_vlan) = (Some(src_vlan), Some(dst_vlan));
        }
        1_002 => {
            flow.next_hop = address(&mut wire)?;
            flow.src_mask = u8::try_from(wire.u32()?).ok();
            flow.dst_mask = u8::try_from(wire.u32()?).ok();
        }
        1_003 => {
            let _next_hop = address(&mut wire)?;
            let [_own, src, _peer, segments] = [wire.u32()?, wire.u32()?, wire.u32()?, wire.u32()?];
            flow.src_as = Some(src.into());
            for _ in 0..segments {
                let (_kind, count) = (wire.u32()?, wire.u32()?);
                for _ in 0..count {
                    flow.dst_as = Some(wire.u32()?.into());
                }
            }
        }
        1_007 => {
            flow.post_nat_src = address(&mut wire)?;
            flow.post_nat_dst = address(&mut wire)?;
        }
        _ => {}
    }
    Some(())
}

fn mac(wire: &mut Wire<'_>) -> Option<[u8; 6]> {
    let mac = wire.array()?;
    wire.take(2)?;
    Some(mac)
}

/// The interface's index, speed and octets stand beside the sample's own fields.
fn if_counters(json: &mut Json<'_>, sample: &Sample<'_>) {
    let mut generic = sample.records().flatten().filter(|(format, _)| *format == Format { enterprise: 0, format: 1 });
    let Some((_, body)) = generic.next() else { return };
    let mut wire = Wire::new(body);
    let mut read = || {
        let (index, _kind) = (wire.u32()?, wire.u32()?);
        let (speed, _direction, _status) = (wire.u64()?, wire.u32()?, wire.u32()?);
        let octets_in = wire.u64()?;
        wire.take(6 * 4)?;
        Some((index, speed, octets_in, wire.u64()?))
    };
    if let Some((index, speed, octets_in, octets_out)) = read() {
        json.name("if_index").number(index.into());
        json.name("if_speed").number(speed);
        json.name("if_in_octets").number(octets_in);
        json.name("if_out_octets").number(octets_out);
    }
}

fn show_record(json: &mut Json<'_>, format: Format, body: &[u8], is_counters: bool) {
    json.name("format").plain(format);
    let layout = match format.enterprise {
        0 if is_counters => of_counters(format.format),
        0 => of_flow(format.format),
        _ => None,
    };
    match layout {
        Some(layout) => {
            json.name("record").plain(layout.name);
            let _ = show_layout(json, layout, Wire::new(body));
        }
        None => json.name("hex").hex(body),
    }
}

/// Fields up to where the record ends.
fn show_layout(json: &mut Json<'_>, layout: &Layout, mut wire: Wire<'_>) -> Option<()> {
    for (name, kind) in layout.fields {
        match kind {
            Kind::U32 => number(json, name, Some(wire.u32()?)),
            Kind::U64 => number(json, name, Some(wire.u64()?)),
            Kind::F32 => {
                let value = f32::from_bits(wire.u32()?);
                json.name(name).float(value.into());
            }
            Kind::Text => {
                let text = opaque(&mut wire)?;
                json.name(name).text(text);
            }
            Kind::Bytes => {
                let bytes = opaque(&mut wire)?;
                json.name(name).hex(bytes);
            }
            Kind::Mac => {
                let mac = mac(&mut wire)?;
                json.name(name).hex(&mac);
            }
            Kind::Uuid => {
                let uuid = wire.take(16)?;
                json.name(name).hex(uuid);
            }
            Kind::V4 => plain(json, name, Some(Ipv4Addr::from(wire.array::<4>()?))),
            Kind::V6 => plain(json, name, Some(Ipv6Addr::from(wire.array::<16>()?))),
            Kind::Addr => plain(json, name, address(&mut wire)?),
            Kind::List => {
                let list = list(&mut wire)?;
                json.name(name).array(|json| words(json, list));
            }
            Kind::AsPath => as_path(json, name, &mut wire)?,
        }
    }
    Some(())
}

fn as_path(json: &mut Json<'_>, name: &'static str, wire: &mut Wire<'_>) -> Option<()> {
    let segments = wire.u32()?;
    let mut whole = Some(());
    json.name(name).array(|json| {
        for _ in 0..segments {
            let Some((kind, list)) = wire.u32().zip(list(wire)) else {
                whole = None;
                return;
            };
            // A set has no order: it stands in an array of its own. A sequence's numbers follow each other.
            if kind == 1 {
                json.array(|json| words(json, list));
            } else {
                words(json, list);
            }
        }
    });
    whole
}

fn words(json: &mut Json<'_>, list: &[u8]) {
    for word in list.chunks_exact(4) {
        json.number(crate::flow::wire::unsigned(word));
    }
}

fn list<'a>(wire: &mut Wire<'a>) -> Option<&'a [u8]> {
    let count = wire.u32()? as usize;
    wire.take(count.checked_mul(4)?)
}

/// XDR's opaque and string: length, bytes, filled up to four (RFC 4506, section 4.10). The last may lack its filling.
fn opaque<'a>(wire: &mut Wire<'a>) -> Option<&'a [u8]> {
    let length = wire.u32()? as usize;
    let bytes = wire.take(length)?;
    let _ = wire.take(length.wrapping_neg() & 3);
    Some(bytes)
}
