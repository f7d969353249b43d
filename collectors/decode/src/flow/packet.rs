//! The first bytes of a sampled packet, as sFlow and element 315 carry them: Ethernet, VLAN tags, MPLS, IP, ports.
//!
//! As far as the bytes go, fields are read; where they end, that is it. Nothing here loops over more than they are.

use super::fields::Flow;
use super::wire::Wire;
use std::net::IpAddr;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad and what came before it.
const TAGS: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
const MPLS: [u16; 2] = [0x8847, 0x8848];
const PPPOE: u16 = 0x8864;

/// An Ethernet frame.
pub(super) fn ethernet(bytes: &[u8], flow: &mut Flow) {
    let mut wire = Wire::new(bytes);
    let _ = read_ethernet(&mut wire, flow);
}

/// An IP packet of either version.
pub(super) fn ip(bytes: &[u8], flow: &mut Flow) {
    let mut wire = Wire::new(bytes);
    let _ = read_ip(&mut wire, flow);
}

/// A stack of MPLS labels and what is under it.
pub(super) fn mpls(bytes: &[u8], flow: &mut Flow) {
    let mut wire = Wire::new(bytes);
    let _ = read_mpls(&mut wire, flow);
}

fn read_ethernet(wire: &mut Wire<'_>, flow: &mut Flow) -> Option<()> {
    flow.dst_mac = Some(wire.array()?);
    flow.src_mac = Some(wire.array()?);
    let mut ether_type = wire.u16()?;
    while TAGS.contains(&ether_type) {
        let tag = wire.u16()?;
        flow.vlan.get_or_insert(tag & 0xfff);
        ether_type = wire.u16()?;
    }
    if ether_type == PPPOE {
        wire.take(6)?;
        ether_type = match wire.u16()? {
            0x0021 => IPV4,
            0x0057 => IPV6,
            _ => return None,
        };
    }
    match ether_type {
        IPV4 | IPV6 => read_ip(wire, flow),
        _ if MPLS.contains(&ether_type) => read_mpls(wire, flow),
        _ => None,
    }
}

/// What is under the labels is not said; an IP packet shows by its first half byte (RFC 3032, RFC 4928).
fn read_mpls(wire: &mut Wire<'_>, flow: &mut Flow) -> Option<()> {
    loop {
        let entry = wire.u32()?;
        flow.mpls.push(entry >> 12);
        if entry & 0x100 != 0 {
            return read_ip(wire, flow);
        }
    }
}

fn read_ip(wire: &mut Wire<'_>, flow: &mut Flow) -> Option<()> {
    match wire.rest().first()? >> 4 {
        4 => read_v4(wire, flow),
        6 => read_v6(wire, flow),
        _ => None,
    }
}

fn read_v4(wire: &mut Wire<'_>, flow: &mut Flow) -> Option<()> {
    let head: [u8; 20] = wire.array()?;
    let [first, tos, _, _, _, _, fragment @ .., _, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = head;
    flow.tos = Some(tos);
    flow.proto = Some(proto);
    flow.src_addr = Some(IpAddr::from([s0, s1, s2, s3]));
    flow.dst_addr = Some(IpAddr::from([d0, d1, d2, d3]));
    wire.take((usize::from(first & 15) * 4).checked_sub(head.len())?)?;
    // The offset is the lower 13 bits.
    let is_first = u16::from_be_bytes(fragment) << 3 == 0;
    if is_first { read_transport(wire, proto, flow) } else { None }
}

fn read_v6(wire: &mut Wire<'_>, flow: &mut Flow) -> Option<()> {
    let first = wire.u32()?;
    let _payload_length = wire.u16()?;
    let [next, _hop_limit] = wire.array()?;
    flow.tos = Some((first >> 20) as u8);
    flow.src_addr = Some(IpAddr::from(wire.array::<16>()?));
    flow.dst_addr = Some(IpAddr::from(wire.array::<16>()?));
    // While the headers go on, the last known one is the protocol.
    flow.proto = Some(next);
    let (proto, is_first) = skip_extensions(wire, next)?;
    flow.proto = Some(proto);
    if is_first { read_transport(wire, proto, flow) } else { None }
}

/// Hop-by-hop, routing, fragment, authentication, destination options, mobility (RFC 8200, section 4).
fn skip_extensions(wire: &mut Wire<'_>, mut next: u8) -> Option<(u8, bool)> {
    let mut is_first = true;
    while let 0 | 43 | 44 | 51 | 60 | 135 = next {
        let [after, length] = wire.array()?;
        let rest = match next {
            44 => {
                is_first &= { *wire }.u16()? & 0xfff8 == 0;
                6
            }
            51 => (usize::from(length) + 2) * 4 - 2,
            _ => usize::from(length) * 8 + 6,
        };
        next = after;
        wire.take(rest)?;
    }
    Some((next, is_first))
}

fn read_transport(wire: &mut Wire<'_>, proto: u8, flow: &mut Flow) -> Option<()> {
    match proto {
        1 | 58 => {
            flow.icmp_type = Some(wire.u8()?);
            flow.icmp_code = Some(wire.u8()?);
        }
        // TCP, UDP, DCCP, SCTP, UDP-Lite begin with their ports.
        6 | 17 | 33 | 132 | 136 => {
            flow.src_port = Some(wire.u16()?);
            flow.dst_port = Some(wire.u16()?);
            if proto == 6 {
                wire.take(8)?;
                flow.tcp_flags = Some(wire.u16()? & 0xfff);
            }
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &[u8] = &[
        0x45, 0xb8, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x50, 0x12,
    ];

    fn frame(between: &[u8], packet: &[u8]) -> Flow {
        let mut flow = Flow::default();
        ethernet(&[&[1; 6], &[2; 6], between, packet].concat(), &mut flow);
        flow
    }

    #[test]
    fn tags_and_labels_stand_before_the_packet() {
        for (between, vlan, labels) in [
            (&[8, 0][..], None, &[][..]),
            (&[0x81, 0, 0x20, 7, 8, 0], Some(7), &[]),
            (&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7, 8, 0], Some(9), &[]),
            (&[0x88, 0x47, 0, 1, 0, 64, 0, 2, 0x11, 64], None, &[16, 33]),
        ] {
            let flow = frame(between, V4);
            assert_eq!((flow.vlan, flow.mpls.as_slice()), (vlan, labels));
            assert_eq!((flow.src_port, flow.dst_port, flow.tcp_flags), (Some(80), Some(1024), Some(0x12)));
            assert_eq!((flow.proto, flow.tos, flow.dst_mac), (Some(6), Some(0xb8), Some([1; 6])));
        }
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut packet = V4.to_vec();
        packet[7] = 1;
        let flow = frame(&[8, 0], &packet);
        assert_eq!((flow.proto, flow.src_port), (Some(6), None));
    }

    #[test]
    fn extension_headers_stand_before_the_protocol() {
        let head = |next| [&[0x6b, 0x80, 0, 0, 0, 16, next, 1][..], &[1; 16], &[2; 16]].concat();
        let hop_by_hop = [&head(0)[..], &[58, 0, 5, 2, 0, 0, 1, 0], &[143, 0]].concat();
        let flow = frame(&[0x86, 0xdd], &hop_by_hop);
        assert_eq!((flow.proto, flow.icmp_type, flow.tos), (Some(58), Some(143), Some(0xb8)));
        let fragment = [&head(44)[..], &[17, 0, 0, 8, 0, 0, 0, 1], &[0; 8]].concat();
        let flow = frame(&[0x86, 0xdd], &fragment);
        assert_eq!((flow.proto, flow.src_port), (Some(17), None));
    }

    #[test]
    fn bytes_that_end_early_give_what_they_have() {
        let whole = [&[1; 12], &[8, 0][..], V4].concat();
        for end in 0..whole.len() {
            let mut flow = Flow::default();
            ethernet(&whole[..end], &mut flow);
            assert_eq!(flow.src_addr.is_some(), end >= 34);
        }
    }
}
