//! Headers of a frame, as far as they say who sent what to whom. Pure, and every byte is a stranger's: each is looked at through `get`,
//! and no more than [`TAGS`] VLANs and [`EXTENSIONS`] headers of IPv6 are passed over.
//!
//! ```text
//! target 6 | source 6 | { 8100 or 88a8, VLAN } … | type 2 | IPv4, IPv6 or ARP | UDP or TCP
//! ```

use raven_model::diag::wire::{Link, Mac, Meant, To};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// VLANs inside of each other that are told.
const TAGS: usize = 4;
/// Headers of IPv6 that are passed over.
const EXTENSIONS: usize = 8;
/// From here on ports are given to programs that ask for any (Linux; others begin higher).
const EPHEMERAL: u16 = 32_768;

const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;
const OLD_SERVICE_VLAN: u16 = 0x9100;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const LLDP: u16 = 0x88cc;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What frames of an interface begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Ethernet; also the loopback.
    Ethernet,
    /// The IP header: tunnels.
    Ip,
}

impl Framing {
    /// Of that interface; none: of another kind, which is not understood.
    pub const fn of(link: &Link) -> Option<Self> {
        match link.kind {
            1 | 772 => Some(Self::Ethernet),
            // ARPHRD_NONE, _RAWIP
            65_534 | 519 => Some(Self::Ip),
            _ => None,
        }
    }
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// ICMP of either family.
    Icmp,
    /// The same of IPv6.
    Icmpv6,
    /// ARP.
    Arp,
    /// LLDP.
    Lldp,
    /// Another protocol over IP.
    Ip(u8),
    /// Another protocol over Ethernet; below 0x600 a length (IEEE 802.3).
    Ethernet(u16),
}

impl Protocol {
    /// As [`raven_model::diag::wire::Row::protocol`].
    pub fn name(self) -> String {
        match self {
            Self::Udp => "udp".to_owned(),
            Self::Tcp => "tcp".to_owned(),
            Self::Icmp => "icmp".to_owned(),
            Self::Icmpv6 => "icmpv6".to_owned(),
            Self::Arp => "arp".to_owned(),
            Self::Lldp => "lldp".to_owned(),
            Self::Ip(number) => format!("ip-{number}"),
            Self::Ethernet(kind) if kind < 0x600 => "ethernet-802.3".to_owned(),
            Self::Ethernet(kind) => format!("ethernet-{kind:04x}"),
        }
    }
}

/// What is read of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// VLANs, the outer one first; 0: only a priority (IEEE 802.1Q).
    pub vlans: Vec<u16>,
    /// Who sent it, by hardware.
    pub mac: Option<Mac>,
    /// Who sent it.
    pub source: Option<IpAddr>,
    /// To whom.
    pub target: Option<IpAddr>,
    /// What.
    pub protocol: Protocol,
    /// Ports of its source and its target.
    pub ports: Option<(u16, u16)>,
    /// A fragment that is not the first: it has no ports.
    pub is_fragment: bool,
    /// Of TCP: it begins a connection.
    pub begins: bool,
}

impl Seen {
    fn new(vlans: Vec<u16>, mac: Option<Mac>, protocol: Protocol) -> Self {
        Self { vlans, mac, source: None, target: None, protocol, ports: None, is_fragment: false, begins: false }
    }

    /// The port that says what it is, and whether that is the sender's: it answers.
    pub fn port(&self) -> (Option<u16>, bool) {
        match self.ports {
            Some((from, to)) if to >= EPHEMERAL && from < EPHEMERAL => (Some(from), true),
            Some((_, to)) => (Some(to), false),
            None => (None, false),
        }
    }

    /// Whether it is asked for.
    pub fn is_meant(&self, meant: &Meant) -> bool {
        let has_port = |port: &u16| self.ports.is_some_and(|(from, to)| from == *port || to == *port);
        let is_from = meant.from.is_none_or(|from| self.source.is_some_and(|source| from.holds(source)));
        is_from && (meant.ports.is_empty() || meant.ports.iter().any(has_port))
    }
}

/// To whom the kernel says that a frame is (packet(7)).
pub const fn to(kind: u8) -> To {
    match kind {
        0 => To::Us,
        1 => To::Broadcast,
        2 => To::Multicast,
        4 => To::Outbound,
        _ => To::Others,
    }
}

/// Reads a frame. `vlan` is the tag that the kernel took out of it. None: its headers break off or make no sense.
pub fn decode(framing: Framing, bytes: &[u8], vlan: Option<(u16, u16)>) -> Option<Seen> {
    let mut vlans: Vec<u16> = vlan.map(|(_, tci)| tci & 0xfff).into_iter().collect();
    if framing == Framing::Ip {
        return match bytes.first()? >> 4 {
            4 => ipv4(bytes, vlans, None),
            6 => ipv6(bytes, vlans, None),
            _ => None,
        };
    }
    let mac = Mac(bytes.get(6..12)?.try_into().ok()?);
    let (mut kind, mut at) = (u16_at(bytes, 12)?, 14);
    for _ in 0..TAGS {
        if ![VLAN, SERVICE_VLAN, OLD_SERVICE_VLAN].contains(&kind) {
            break;
        }
        vlans.push(u16_at(bytes, at)? & 0xfff);
        kind = u16_at(bytes, at + 2)?;
        at += 4;
    }
    let rest = bytes.get(at..)?;
    match kind {
        IPV4 => ipv4(rest, vlans, Some(mac)),
        IPV6 => ipv6(rest, vlans, Some(mac)),
        ARP => arp(rest, vlans, mac),
        LLDP => Some(Seen::new(vlans, Some(mac), Protocol::Lldp)),
        kind => Some(Seen::new(vlans, Some(mac), Protocol::Ethernet(kind))),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn v4_at(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(four.into())
}

fn v6_at(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let sixteen: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(sixteen.into())
}

/// RFC 791, 3.1.
fn ipv4(bytes: &[u8], vlans: Vec<u16>, mac: Option<Mac>) -> Option<Seen> {
    let first = *bytes.first()?;
    let header = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header < 20 {
        return None;
    }
    let is_fragment = u16_at(bytes, 6)? & 0x1fff != 0;
    let number = *bytes.get(9)?;
    let mut seen = Seen::new(vlans, mac, protocol(number, Protocol::Icmp));
    (seen.source, seen.target) = (Some(v4_at(bytes, 12)?.into()), Some(v4_at(bytes, 16)?.into()));
    carried(seen, bytes.get(header..), is_fragment)
}

/// RFC 8200, 3 and 4.
fn ipv6(bytes: &[u8], vlans: Vec<u16>, mac: Option<Mac>) -> Option<Seen> {
    if bytes.first()? >> 4 != 6 {
        return None;
    }
    let (source, target) = (v6_at(bytes, 8)?, v6_at(bytes, 24)?);
    let (mut next, mut at, mut is_fragment) = (*bytes.get(6)?, 40, false);
    for _ in 0..EXTENSIONS {
        match next {
            // Hop by hop, routing, destination options, mobility, HIP, shim6.
            0 | 43 | 60 | 135 | 139 | 140 => {
                let len = usize::from(*bytes.get(at + 1)?) * 8 + 8;
                (next, at) = (*bytes.get(at)?, at + len);
            }
            // Authentication (RFC 4302, 2.2).
            51 => {
                let len = usize::from(*bytes.get(at + 1)?) * 4 + 8;
                (next, at) = (*bytes.get(at)?, at + len);
            }
            44 => {
                is_fragment = u16_at(bytes, at + 2)? & 0xfff8 != 0;
                (next, at) = (*bytes.get(at)?, at + 8);
                if is_fragment {
                    break;
                }
            }
            _ => break,
        }
    }
    let mut seen = Seen::new(vlans, mac, protocol(next, Protocol::Icmpv6));
    (seen.source, seen.target) = (Some(source.into()), Some(target.into()));
    carried(seen, bytes.get(at..), is_fragment)
}

const fn protocol(number: u8, icmp: Protocol) -> Protocol {
    match (number, icmp) {
        (UDP, _) => Protocol::Udp,
        (TCP, _) => Protocol::Tcp,
        (1, Protocol::Icmp) => Protocol::Icmp,
        (58, Protocol::Icmpv6) => Protocol::Icmpv6,
        (other, _) => Protocol::Ip(other),
    }
}

/// Ports are where both have them (RFC 768, RFC 9293).
fn carried(mut seen: Seen, rest: Option<&[u8]>, is_fragment: bool) -> Option<Seen> {
    seen.is_fragment = is_fragment;
    if is_fragment || !matches!(seen.protocol, Protocol::Udp | Protocol::Tcp) {
        return Some(seen);
    }
    let rest = rest?;
    seen.ports = Some((u16_at(rest, 0)?, u16_at(rest, 2)?));
    // SYN without ACK.
    seen.begins = seen.protocol == Protocol::Tcp && rest.get(13).is_some_and(|flags| flags & 0x12 == 0x02);
    Some(seen)
}

/// RFC 826; of other hardware or protocols no address is told.
fn arp(bytes: &[u8], vlans: Vec<u16>, mac: Mac) -> Option<Seen> {
    let mut seen = Seen::new(vlans, Some(mac), Protocol::Arp);
    if bytes.get(..6)? == [0, 1, 8, 0, 6, 4] {
        (seen.source, seen.target) = (Some(v4_at(bytes, 14)?.into()), Some(v4_at(bytes, 24)?.into()));
    }
    Some(seen)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    /// A datagram of IPv4 from 192.0.2.7:40000 to 192.0.2.1:514.
    fn datagram(fragment: u16) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 32, 0, 1];
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 1]);
        bytes.extend([0x9c, 0x40, 2, 2, 0, 12, 0, 0, 1, 2, 3, 4]);
        bytes
    }

    fn framed(kinds: &[u8], rest: &[u8]) -> Vec<u8> {
        [&MACS, kinds, rest].concat()
    }

    fn seen(bytes: &[u8]) -> Seen {
        decode(Framing::Ethernet, bytes, None).unwrap()
    }

    #[test]
    fn who_sends_what_to_whom_is_read_through_vlans_within_vlans() {
        let plain = seen(&framed(&[8, 0], &datagram(0)));
        assert_eq!((plain.source, plain.ports), (Some([192, 0, 2, 7].into()), Some((40_000, 514))));
        assert_eq!((plain.mac, plain.port()), (Some(Mac([2, 0, 0, 0, 0, 2])), (Some(514), false)));
        let twice = framed(&[0x88, 0xa8, 0xe0, 100, 0x81, 0, 0, 7, 8, 0], &datagram(0));
        assert_eq!(seen(&twice).vlans, [100, 7]);
        // The kernel takes the outer one out.
        let inner = framed(&[0x81, 0, 0, 7, 8, 0], &datagram(0));
        let seen = decode(Framing::Ethernet, &inner, Some((0x88a8, 0xe064))).unwrap();
        assert_eq!((seen.vlans, seen.ports), (vec![100, 7], Some((40_000, 514))));
        let tunnel = decode(Framing::Ip, &datagram(0), None).unwrap();
        assert_eq!((tunnel.mac, tunnel.ports), (None, Some((40_000, 514))));
    }

    #[test]
    fn a_fragment_has_ports_only_if_it_is_the_first() {
        assert_eq!(seen(&framed(&[8, 0], &datagram(0x2000))).ports, Some((40_000, 514)));
        let further = seen(&framed(&[8, 0], &datagram(0x2003)));
        assert_eq!((further.ports, further.is_fragment, further.protocol), (None, true, Protocol::Udp));
    }

    #[test]
    fn headers_of_ipv6_are_passed_over_and_not_without_end() {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
        bytes.extend([0xfd; 16]);
        bytes.extend([0xfe; 16]);
        let datagram = [0x9c, 0x40, 2, 2, 0, 8, 0, 0];
        let with = |headers: &[&[u8]]| framed(&[0x86, 0xdd], &[&bytes[..], &headers.concat(), &datagram].concat());
        let hop = [17, 0, 5, 2, 0, 0, 1, 0];
        assert_eq!(seen(&with(&[&hop])).ports, Some((40_000, 514)));
        let (again, first) = ([44, 0, 0, 0, 0, 0, 0, 0], [17, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(seen(&with(&[&again, &first])).ports, Some((40_000, 514)));
        let further = [17, 0, 0, 8, 0, 0, 0, 9];
        assert!(seen(&with(&[&again, &further])).is_fragment);
        let endless = [[0; 8]; 64].concat();
        assert_eq!(seen(&with(&[&endless])).protocol, Protocol::Ip(0));
    }

    #[test]
    fn an_answer_is_known_by_the_port_that_it_comes_from() {
        let mut answer = datagram(0);
        answer[20..24].copy_from_slice(&[0, 53, 0xc0, 1]);
        assert_eq!(seen(&framed(&[8, 0], &answer)).port(), (Some(53), true));
    }

    #[test]
    fn a_connection_that_is_begun_is_told_from_its_answer() {
        let tcp = |flags: u8| {
            let mut bytes = datagram(0);
            bytes[9] = 6;
            bytes.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
            bytes[33] = flags;
            seen(&framed(&[8, 0], &bytes)).begins
        };
        assert!(tcp(0x02) && tcp(0xc2) && !tcp(0x12) && !tcp(0x10));
    }

    #[test]
    fn arp_and_what_is_no_ip_is_told_by_name() {
        let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &MACS[..6], &[192, 0, 2, 7], &[0; 6], &[192, 0, 2, 1]].concat();
        let seen_arp = seen(&framed(&[8, 6], &arp));
        assert_eq!((seen_arp.source, seen_arp.protocol.name()), (Some([192, 0, 2, 7].into()), "arp".to_owned()));
        assert_eq!(seen(&framed(&[0x88, 0xcc], &[])).protocol.name(), "lldp");
        assert_eq!(seen(&framed(&[0x88, 0xf7], &[1])).protocol.name(), "ethernet-88f7");
        assert_eq!(seen(&framed(&[0, 38], &[0x42])).protocol.name(), "ethernet-802.3");
        assert_eq!(decode(Framing::Ethernet, &framed(&[8, 0], &[0x45]), None), None);
        assert_eq!(decode(Framing::Ethernet, &framed(&[8, 0], &[0x44; 40]), None), None);
    }

    #[test]
    fn what_is_meant_is_by_port_and_sender() {
        let seen = seen(&framed(&[8, 0], &datagram(0)));
        let meant = |ports: &[u16], from: Option<&str>| {
            seen.is_meant(&Meant { ports: ports.to_vec(), from: from.map(|from| from.parse().unwrap()) })
        };
        assert!(meant(&[], None) && meant(&[1, 514], None) && meant(&[40_000], None) && !meant(&[53], None));
        assert!(
            meant(&[], Some("192.0.2.0/24")) && !meant(&[514], Some("192.0.3.0/24")) && !meant(&[], Some("fd00::/8"))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_end_it(bytes in prop::collection::vec(any::<u8>(), 0..200), tag in any::<Option<(u16, u16)>>()) {
            let _ = decode(Framing::Ethernet, &bytes, tag).map(|seen| (seen.port(), seen.protocol.name()));
            let _ = decode(Framing::Ip, &bytes, tag);
        }

        #[test]
        fn no_change_of_a_frame_ends_it(at in 0_usize..60, byte in any::<u8>(), end in 0_usize..70) {
            let mut frame = framed(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 7, 8, 0], &datagram(0));
            if let Some(changed) = frame.get_mut(at) {
                *changed = byte;
            }
            frame.truncate(end);
            let _ = decode(Framing::Ethernet, &frame, None);
        }
    }
}
