//! Records as a capture file: each one a UDP datagram from its true sender to the listener that took it, with the time
//! at which it came.
//!
//! ```text
//! file    magic=a1b23c4d version=2.4 zone=0 sigfigs=0 snaplen linktype=101       little-endian
//! packet  seconds nanoseconds captured length | IPv4 or IPv6 header | UDP header | raw
//! ```
//!
//! Link type 101 is "raw IP": the first half byte tells IPv4 from IPv6. There is no Ethernet header, since nobody kept
//! one. Where a listener was bound to all addresses the one that was sent to is not known: 127.0.0.1 or ::1 stands for
//! it. What came by TCP, TLS or HTTP is written as UDP too, so that programs that read flows or syslog find it.

use raven_model::query::RecordView;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// With nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// No packet is longer: 65,535 bytes behind an IPv6 header.
const SNAPLEN: u32 = 65_575;
const LINKTYPE_RAW: u32 = 101;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
/// Most bytes of a datagram: its length, and over IPv4 also that of the packet, has 16 bits.
const MOST_V4: usize = 65_535 - 20 - UDP_HEADER;
const MOST_V6: usize = 65_535 - UDP_HEADER;

/// The beginning of a file.
pub fn file_header() -> Vec<u8> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.extend([2_u16, 4].iter().flat_map(|n| n.to_le_bytes()));
    out.extend([0, 0, SNAPLEN, LINKTYPE_RAW].iter().flat_map(|n| n.to_le_bytes()));
    out
}

/// What an operator should know about a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Odd {
    /// Records that did not come by UDP.
    pub not_udp: u64,
    /// Records too long for one datagram, written as two.
    pub cut: u64,
    /// Records whose listener's name is not known: port 0.
    pub nowhere: u64,
}

impl Odd {
    /// In words.
    pub fn notes(&self) -> Vec<String> {
        let all = [
            (self.not_udp, "came by TCP, TLS or HTTP and are written as UDP datagrams to their listener's port"),
            (self.cut, "are longer than a datagram can be and are written as two"),
            (self.nowhere, "have no listener that is known and are written to port 0"),
        ];
        all.iter().filter(|(n, _)| *n > 0).map(|(n, text)| format!("{n} records {text}")).collect()
    }
}

/// A record as a packet with its header; as two where it is too long for one.
pub fn packets(view: &RecordView, raw: &[u8], odd: &mut Odd) -> Vec<u8> {
    let source = SocketAddr::new(view.source.addr, view.source.port);
    let (proto, listener) = view.listener.split_once(':').unwrap_or(("", ""));
    let listener: Option<SocketAddr> = listener.parse().ok();
    odd.not_udp += u64::from(proto != "udp");
    odd.nowhere += u64::from(listener.is_none());
    let target = target(source.ip(), listener);
    let most = if source.is_ipv4() { MOST_V4 } else { MOST_V6 };
    odd.cut += u64::from(raw.len() > most);
    let mut parts = raw.chunks(most);
    // A datagram may be empty, and is one all the same.
    let first = parts.next().unwrap_or_default();
    std::iter::once(first).chain(parts).flat_map(|part| packet(view.received_ns.0, source, target, part)).collect()
}

/// The listener's own address where it has one of the sender's kind, else this machine's.
fn target(source: IpAddr, listener: Option<SocketAddr>) -> SocketAddr {
    let port = listener.map_or(0, |listener| listener.port());
    let own = listener.map(|listener| listener.ip());
    let own = own.filter(|ip| !ip.is_unspecified() && ip.is_ipv4() == source.is_ipv4());
    let here = if source.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
    SocketAddr::new(own.unwrap_or(here), port)
}

fn packet(at_ns: u64, source: SocketAddr, target: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let datagram = datagram(source, target, payload);
    let ip = match (source.ip(), target.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => v4_header(source, target, datagram.len()),
        (source, target) => v6_header(as_v6(source), as_v6(target), datagram.len()),
    };
    let length = (ip.len() + datagram.len()) as u32;
    let head = [(at_ns / 1_000_000_000) as u32, (at_ns % 1_000_000_000) as u32, length, length];
    let head: Vec<u8> = head.iter().flat_map(|n| n.to_le_bytes()).collect();
    [head, ip, datagram].concat()
}

fn as_v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// RFC 791. Not to be fragmented, so the identification says nothing and is 0 (RFC 6864).
fn v4_header(source: Ipv4Addr, target: Ipv4Addr, length: usize) -> Vec<u8> {
    let total = ((length + 20) as u16).to_be_bytes();
    let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, UDP, 0, 0];
    header.extend_from_slice(&source.octets());
    header.extend_from_slice(&target.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// RFC 8200.
fn v6_header(source: Ipv6Addr, target: Ipv6Addr, length: usize) -> Vec<u8> {
    let length = (length as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], UDP, 64];
    [&head[..], &source.octets(), &target.octets()].concat()
}

/// RFC 768, with the checksum over the addresses, too (RFC 8200, 8.1).
fn datagram(source: SocketAddr, target: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() + UDP_HEADER) as u16;
    let words = [source.port(), target.port(), length, 0];
    let head: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let mut datagram = [&head, payload].concat();
    let pseudo = [0, UDP, length.to_be_bytes()[0], length.to_be_bytes()[1]];
    let sum = match (source.ip(), target.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => checksum(&[&source.octets(), &target.octets(), &pseudo, &datagram]),
        (source, target) => checksum(&[&as_v6(source).octets(), &as_v6(target).octets(), &pseudo, &datagram]),
    };
    // 0 would say that there is none.
    let sum = if sum == 0 { 0xffff } else { sum };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// RFC 1071. All parts but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let word = |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u64 = pairs.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn view(source: &str, listener: &str) -> RecordView {
        let source: SocketAddr = source.parse().unwrap();
        let json = serde_json::json!({
            "seq": 1, "received_ns": 1_763_771_400_123_456_789_u64,
            "source": { "addr": source.ip(), "port": source.port() }, "listener": listener, "raw": ""
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_datagram_goes_from_its_sender_to_its_listener() {
        let mut odd = Odd::default();
        let out = packets(&view("192.0.2.7:40000", "udp:198.51.100.1:2055"), b"abc", &mut odd);
        assert_eq!(
            out[..16],
            [&0x6921_0408_u32.to_le_bytes()[..], &123_456_789_u32.to_le_bytes(), &[31, 0, 0, 0, 31, 0, 0, 0]].concat()
        );
        let (ip, udp) = out[16..].split_at(20);
        assert_eq!(
            (ip[0], &ip[2..4], ip[9], &ip[12..16], &ip[16..20]),
            (0x45, &[0, 31][..], 17, &[192, 0, 2, 7][..], &[198, 51, 100, 1][..])
        );
        assert_eq!(checksum(&[ip]), 0, "a header with its checksum sums up to nothing");
        assert_eq!((&udp[..6], &udp[8..]), (&[0x9c, 0x40, 0x08, 0x07, 0, 11][..], &b"abc"[..]));
        assert_eq!(checksum(&[&ip[12..20], &[0, 17, 0, 11], udp]), 0);
        assert_eq!(odd, Odd::default());
    }

    #[test]
    fn a_listener_on_all_addresses_is_this_machine() {
        let to = |source: &str, listener: &str| target(source.parse().unwrap(), listener.parse().ok()).to_string();
        assert_eq!(to("192.0.2.7", "[::]:2055"), "127.0.0.1:2055");
        assert_eq!(to("2001:db8::7", "[::]:2055"), "[::1]:2055");
        assert_eq!(to("2001:db8::7", "[2001:db8::1]:2055"), "[2001:db8::1]:2055");
        assert_eq!(to("192.0.2.7", "unknown"), "127.0.0.1:0");
    }

    #[test]
    fn ipv6_has_its_own_header_and_a_checksum_that_must_be_there() {
        let out = packets(&view("[2001:db8::7]:9", "udp:[::]:2055"), b"abcd", &mut Odd::default());
        let (ip, udp) = out[16..].split_at(40);
        assert_eq!((ip[0], &ip[4..8]), (0x60, &[0, 12, 17, 64][..]));
        assert_eq!(checksum(&[&ip[8..40], &[0, 17, 0, 12], udp]), 0);
    }

    #[test]
    fn what_is_odd_is_counted() {
        let mut odd = Odd::default();
        let long = vec![1; 65_536];
        let out = packets(&view("192.0.2.7:9", "tcp:[::]:4739"), &long, &mut odd);
        assert_eq!(out.len(), 2 * (16 + 28) + 65_536);
        assert_eq!(packets(&view("192.0.2.7:9", "unknown"), b"", &mut odd).len(), 16 + 28);
        assert_eq!(odd, Odd { not_udp: 2, cut: 1, nowhere: 1 });
        assert_eq!(odd.notes().len(), 3);
    }
}
