//! The fields that all versions share, under one name each.
//!
//! An element fills a slot (`fields/slot.rs`); which one is known when a template is compiled. Where several elements
//! of a record fill the same one (an IPv4 and an IPv6 address, a delta and a total), the first counts that is not zero;
//! of ports, the first.

mod slot;

pub(super) use slot::Slot;

use super::packet;
use super::scan::Header;
use super::template::Record;
use super::wire::unsigned;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// More labels than this has no stack that IPFIX can carry (elements 70 to 79).
pub const MAX_LABELS: usize = 10;

/// A flow in the words of all versions. What its record does not give is `None`. Only times of day are computed,
/// from uptimes; no counter is multiplied by a sampling rate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flow {
    /// Source address.
    pub src_addr: Option<IpAddr>,
    /// Destination address.
    pub dst_addr: Option<IpAddr>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// IP protocol number.
    pub proto: Option<u8>,
    /// ifIndex where it came in.
    pub in_if: Option<u64>,
    /// ifIndex where it went out.
    pub out_if: Option<u64>,
    /// Octets, as counted by the exporter.
    pub bytes: Option<u64>,
    /// Packets, as counted by the exporter.
    pub packets: Option<u64>,
    /// Type of service or traffic class.
    pub tos: Option<u8>,
    /// All TCP flags that were seen.
    pub tcp_flags: Option<u16>,
    /// First packet, milliseconds since 1970.
    pub start_ms: Option<u64>,
    /// Last packet, milliseconds since 1970.
    pub end_ms: Option<u64>,
    /// First packet, milliseconds since the exporter started.
    pub start_uptime_ms: Option<u64>,
    /// Last packet, milliseconds since the exporter started.
    pub end_uptime_ms: Option<u64>,
    /// When the exporter started, milliseconds since 1970.
    pub init_ms: Option<u64>,
    /// Source AS.
    pub src_as: Option<u64>,
    /// Destination AS.
    pub dst_as: Option<u64>,
    /// Prefix length of the source.
    pub src_mask: Option<u8>,
    /// Prefix length of the destination.
    pub dst_mask: Option<u8>,
    /// Next hop of the route.
    pub next_hop: Option<IpAddr>,
    /// 0 in, 1 out.
    pub direction: Option<u8>,
    /// Packets per sampled packet, where the record itself says.
    pub sampling: Option<u64>,
    /// Which sampler of the exporter picked the packets.
    pub sampler_id: Option<u64>,
    /// VLAN of the packet.
    pub vlan: Option<u16>,
    /// VLAN that it came in by.
    pub in_vlan: Option<u32>,
    /// VLAN that it went out by.
    pub out_vlan: Option<u32>,
    /// Source hardware address.
    pub src_mac: Option<[u8; 6]>,
    /// Destination hardware address.
    pub dst_mac: Option<[u8; 6]>,
    /// MPLS labels, top first.
    pub mpls: Labels,
    /// Source address behind NAT.
    pub post_nat_src: Option<IpAddr>,
    /// Destination address behind NAT.
    pub post_nat_dst: Option<IpAddr>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
}

/// A stack of MPLS labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Labels {
    labels: [u32; MAX_LABELS],
    count: usize,
}

impl Labels {
    /// Top first.
    pub fn as_slice(&self) -> &[u32] {
        self.labels.get(..self.count).unwrap_or_default()
    }

    /// Adds one at the bottom. One too many is left out.
    pub fn push(&mut self, label: u32) {
        if let Some(place) = self.labels.get_mut(self.count) {
            *place = label;
            self.count += 1;
        }
    }
}

impl Flow {
    /// Reads what a record gives. `header` dates what is counted from the exporter's start or from the export.
    pub fn read(record: &Record<'_, '_>, header: &Header) -> Self {
        let mut flow = Self::default();
        let mut section = None;
        for field in record.fields() {
            match field.spec.slot {
                Slot::None => {}
                slot @ (Slot::FrameSection | Slot::IpSection) => section = Some((slot, field.bytes)),
                slot => flow.take(slot, field.bytes, header),
            }
        }
        match section {
            Some((Slot::FrameSection, bytes)) => flow.complete(bytes, packet::ethernet),
            Some((_, bytes)) => flow.complete(bytes, packet::ip),
            None => {}
        }
        flow.date(header);
        flow
    }

    fn take(&mut self, slot: Slot, bytes: &[u8], header: &Header) {
        let is_number = !bytes.is_empty() && bytes.len() <= 8;
        let n = if is_number { unsigned(bytes) } else { 0 };
        match slot {
            Slot::None | Slot::FrameSection | Slot::IpSection => {}
            Slot::SrcAddr => fill_addr(&mut self.src_addr, bytes),
            Slot::DstAddr => fill_addr(&mut self.dst_addr, bytes),
            Slot::NextHop => fill_addr(&mut self.next_hop, bytes),
            Slot::PostNatSrc => fill_addr(&mut self.post_nat_src, bytes),
            Slot::PostNatDst => fill_addr(&mut self.post_nat_dst, bytes),
            Slot::SrcMac => self.src_mac = self.src_mac.or(bytes.try_into().ok()),
            Slot::DstMac => self.dst_mac = self.dst_mac.or(bytes.try_into().ok()),
            Slot::StartNtp => refine(&mut self.start_ms, ntp_ms(bytes)),
            Slot::EndNtp => refine(&mut self.end_ms, ntp_ms(bytes)),
            _ if !is_number => {}
            // 0 is a port here: of what has none.
            Slot::SrcPort => self.src_port = self.src_port.or(u16::try_from(n).ok()),
            Slot::DstPort => self.dst_port = self.dst_port.or(u16::try_from(n).ok()),
            Slot::Proto => fill(&mut self.proto, u8::try_from(n).ok()),
            Slot::InIf => fill(&mut self.in_if, Some(n)),
            Slot::OutIf => fill(&mut self.out_if, Some(n)),
            Slot::Bytes => fill(&mut self.bytes, Some(n)),
            Slot::Packets => fill(&mut self.packets, Some(n)),
            Slot::Tos => fill(&mut self.tos, u8::try_from(n).ok()),
            Slot::TcpFlags => fill(&mut self.tcp_flags, u16::try_from(n).ok()),
            Slot::StartSeconds => fill(&mut self.start_ms, n.checked_mul(1_000)),
            Slot::EndSeconds => fill(&mut self.end_ms, n.checked_mul(1_000)),
            Slot::StartMs => refine(&mut self.start_ms, Some(n)),
            Slot::EndMs => refine(&mut self.end_ms, Some(n)),
            Slot::StartDelta => fill(&mut self.start_ms, before_export(header, n)),
            Slot::EndDelta => fill(&mut self.end_ms, before_export(header, n)),
            Slot::StartUptime => fill(&mut self.start_uptime_ms, Some(n)),
            Slot::EndUptime => fill(&mut self.end_uptime_ms, Some(n)),
            Slot::Init => fill(&mut self.init_ms, Some(n)),
            Slot::SrcAs => fill(&mut self.src_as, Some(n)),
            Slot::DstAs => fill(&mut self.dst_as, Some(n)),
            Slot::SrcMask => fill(&mut self.src_mask, u8::try_from(n).ok()),
            Slot::DstMask => fill(&mut self.dst_mask, u8::try_from(n).ok()),
            Slot::Direction => fill(&mut self.direction, u8::try_from(n).ok()),
            Slot::Sampling => fill(&mut self.sampling, Some(n)),
            Slot::SamplerId => fill(&mut self.sampler_id, Some(n)),
            Slot::Vlan => fill(&mut self.vlan, u16::try_from(n).ok()),
            Slot::OutVlan => fill(&mut self.out_vlan, u32::try_from(n).ok()),
            // Label, class and bottom bit in three bytes; some send the time to live as well (RFC 3032).
            Slot::Mpls if bytes.len() == 3 => self.mpls.push((n >> 4) as u32),
            Slot::Mpls if bytes.len() == 4 => self.mpls.push((n >> 12) as u32),
            Slot::Mpls => {}
            Slot::IcmpType => fill(&mut self.icmp_type, u8::try_from(n).ok()),
            Slot::IcmpCode => fill(&mut self.icmp_code, u8::try_from(n).ok()),
            Slot::IcmpTypeCode => {
                fill(&mut self.icmp_type, u8::try_from(n >> 8).ok());
                fill(&mut self.icmp_code, Some(n as u8));
            }
        }
    }

    /// A section of the packet gives what the record's own elements do not.
    fn complete(&mut self, section: &[u8], read: fn(&[u8], &mut Self)) {
        let mut packet = Self::default();
        read(section, &mut packet);
        self.src_addr = self.src_addr.or(packet.src_addr);
        self.dst_addr = self.dst_addr.or(packet.dst_addr);
        self.src_port = self.src_port.or(packet.src_port);
        self.dst_port = self.dst_port.or(packet.dst_port);
        self.proto = self.proto.or(packet.proto);
        self.tos = self.tos.or(packet.tos);
        self.tcp_flags = self.tcp_flags.or(packet.tcp_flags);
        self.vlan = self.vlan.or(packet.vlan);
        self.src_mac = self.src_mac.or(packet.src_mac);
        self.dst_mac = self.dst_mac.or(packet.dst_mac);
        self.icmp_type = self.icmp_type.or(packet.icmp_type);
        self.icmp_code = self.icmp_code.or(packet.icmp_code);
        if self.mpls.as_slice().is_empty() {
            self.mpls = packet.mpls;
        }
    }

    /// Times since the exporter's start become times of day, where the header or the record says when that was.
    fn date(&mut self, header: &Header) {
        let init = match (header.export_ms, header.uptime_ms) {
            (Some(export), Some(uptime)) => Start::Header { export, uptime },
            _ => match self.init_ms {
                Some(init) => Start::Record(init),
                None => return,
            },
        };
        self.start_ms = self.start_ms.or_else(|| self.start_uptime_ms.and_then(|up| init.date(up)));
        self.end_ms = self.end_ms.or_else(|| self.end_uptime_ms.and_then(|up| init.date(up)));
    }
}

/// What is known about the exporter's start.
#[derive(Clone, Copy)]
enum Start {
    /// How long it is up, and what time it is. Uptimes go round every 49.7 days, so the difference counts.
    Header { export: u64, uptime: u32 },
    /// When it was.
    Record(u64),
}

impl Start {
    fn date(self, up: u64) -> Option<u64> {
        match self {
            Self::Header { export, uptime } => {
                let ago = i64::from(uptime.wrapping_sub(u32::try_from(up).ok()?).cast_signed());
                export.checked_add_signed(-ago)
            }
            Self::Record(init) => init.checked_add(up),
        }
    }
}

fn before_export(header: &Header, microseconds: u64) -> Option<u64> {
    header.export_ms?.checked_sub(microseconds / 1_000)
}

fn ntp_ms(bytes: &[u8]) -> Option<u64> {
    let value = super::value::Value::read(super::elements::Type::Micros, bytes);
    value.as_unsigned().map(|micros| micros / 1_000)
}

/// As [`fill`], but a time in milliseconds stands for the same time in seconds.
fn refine(place: &mut Option<u64>, value: Option<u64>) {
    if value.is_some_and(|value| *place == Some(value - value % 1_000)) {
        *place = value;
    }
    fill(place, value);
}

/// The first value that is not zero counts; if all are zero, zero does.
fn fill<T: Copy + Default + PartialEq>(place: &mut Option<T>, value: Option<T>) {
    if place.is_none_or(|old| old == T::default()) && value.is_some() {
        *place = value;
    }
}

fn fill_addr(place: &mut Option<IpAddr>, bytes: &[u8]) {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let sixteen = || <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
    if place.is_none() || place.is_some_and(|old| old.is_unspecified()) && bytes.iter().any(|byte| *byte != 0) {
        *place = four().or_else(sixteen).or(*place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_go_round() {
        let start = Start::Header { export: 1_000_000, uptime: 5 };
        assert_eq!(start.date(2), Some(999_997));
        assert_eq!(start.date(u32::MAX.into()), Some(999_994), "six milliseconds before");
        assert_eq!(start.date(7), Some(1_000_002), "a little after the export, as some clocks have it");
        assert_eq!(Start::Header { export: 3, uptime: 10 }.date(0), None, "before 1970");
    }

    #[test]
    fn the_first_that_is_not_zero_counts() {
        let mut bytes = None;
        for n in [0, 7, 0, 9] {
            fill(&mut bytes, Some(n));
        }
        assert_eq!(bytes, Some(7));
        let mut addr = None;
        for bytes in [&[0; 4][..], &[0; 16], &[1; 16], &[2; 4]] {
            fill_addr(&mut addr, bytes);
        }
        assert_eq!(addr, Some(IpAddr::from([1; 16])));
    }

    #[test]
    fn a_stack_has_a_bottom() {
        let mut labels = Labels::default();
        (0..20).for_each(|label| labels.push(label));
        assert_eq!(labels.as_slice().len(), MAX_LABELS);
    }
}
