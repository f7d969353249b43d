//! Every flow that the load generator sends, read by decoders of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::wire::{Reader, datagrams, stream};
use raven_console::load::{FlowMark, Summary};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

const RUN: &[&str] = &["--count", "2000", "--rate", "20000", "--mark", "t1"];

/// Marks of all senders are there once.
fn assert_all(marks: &[FlowMark], summary: &Summary) {
    assert_eq!((marks.len() as u64, summary.sent), (2000, 2000));
    assert!(marks.iter().all(|mark| mark.tag == FlowMark::tag_of("t1")));
    let seen: BTreeSet<(u32, u64)> = marks.iter().map(|mark| (mark.sender, mark.n)).collect();
    let sent = summary.senders.iter().flat_map(|s| (0..s.count).map(move |n| (s.sender, n)));
    assert_eq!(seen, sent.collect());
}

#[test]
fn netflow_5_has_dense_sequences_and_every_mark() {
    for extra in [&["--senders", "3"][..], &["--gso"], &["--records-per-datagram", "7"]] {
        let (all, summary) = datagrams(&["netflow", "--version", "5"], &[RUN, extra].concat());
        let (mut marks, mut next) = (Vec::new(), HashMap::new());
        for datagram in all {
            let mut r = Reader(&datagram);
            assert_eq!(r.u16(), 5);
            let count = r.u16();
            r.take(12);
            let (sequence, engine) = (r.u32(), r.u16());
            r.take(2);
            let expected = next.insert(engine, sequence + u32::from(count)).unwrap_or(0);
            assert_eq!(sequence, expected);
            for _ in 0..count {
                let (source, destination) = (r.u32(), r.u32());
                r.take(8);
                let (packets, bytes, first, last) = (r.u32(), r.u32(), r.u32(), r.u32());
                assert!(packets > 0 && bytes / packets >= 40 && bytes / packets < 1500 && first <= last);
                marks.push(mark(IpAddr::V4(source.into()), r.u16(), IpAddr::V4(destination.into())));
                r.take(14);
            }
            assert!(r.0.is_empty() && datagram.len() <= 1400);
        }
        assert_all(&marks, &summary);
    }
}

fn mark(source: IpAddr, port: u16, destination: IpAddr) -> FlowMark {
    FlowMark::read(source, port, destination).unwrap_or_else(|| panic!("{source}:{port} {destination}"))
}

/// A collector of NetFlow 9 and IPFIX that knows nothing but what templates say.
#[derive(Default)]
struct Collector {
    templates: HashMap<(u32, u16), Vec<(u16, u16)>>,
    next: HashMap<u32, u32>,
    marks: Vec<FlowMark>,
    samplers: usize,
    template_packets: usize,
}

impl Collector {
    fn v9(&mut self, datagram: &[u8]) {
        let mut r = Reader(datagram);
        assert_eq!(r.u16(), 9);
        let count = usize::from(r.u16());
        r.take(8);
        let (sequence, domain) = (r.u32(), r.u32());
        assert_eq!(sequence, self.next.insert(domain, sequence + 1).unwrap_or(0));
        let (records, _) = self.sets(r.0, domain, [0, 1]);
        assert_eq!(records, count);
    }

    /// One message; what follows it.
    fn ipfix<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut r = Reader(bytes);
        assert_eq!(r.u16(), 10);
        let len = usize::from(r.u16());
        r.take(4);
        let (sequence, domain) = (r.u32(), r.u32());
        let (_, data) = self.sets(&bytes[16..len], domain, [2, 3]);
        assert_eq!(sequence, self.next.insert(domain, sequence + data as u32).unwrap_or(0));
        &bytes[len..]
    }

    /// Records of all kinds, and of data.
    fn sets(&mut self, sets: &[u8], domain: u32, ids: [u16; 2]) -> (usize, usize) {
        let (mut all, mut data, mut r) = (0, 0, Reader(sets));
        while !r.0.is_empty() {
            let id = r.u16();
            let len = usize::from(r.u16());
            let mut set = Reader(r.take(len - 4));
            if id == ids[0] {
                self.template_packets += 1;
                while set.0.len() >= 4 {
                    let (id, count) = (set.u16(), set.u16());
                    let fields = (0..count).map(|_| (set.u16(), set.u16())).collect();
                    self.templates.insert((domain, id), fields);
                    all += 1;
                }
            } else if id == ids[1] {
                let template = set.u16();
                let (a, b) = (set.u16(), set.u16());
                // v9 says bytes of scopes and of options, IPFIX fields and those of them that are scopes.
                let count = if ids[0] == 0 { (a + b) / 4 } else { a };
                let fields = (0..count).map(|_| (set.u16(), set.u16())).collect();
                self.templates.insert((domain, template), fields);
                assert!(set.0.len() < 4);
                all += 1;
            } else {
                let fields = self.templates[&(domain, id)].clone();
                let size: usize = fields.iter().map(|(_, len)| usize::from(*len)).sum();
                while set.0.len() >= size {
                    self.record(&fields, &mut set);
                    data += 1;
                }
                assert!(set.0.len() < 4 && set.0.iter().all(|byte| *byte == 0));
            }
        }
        (all + data, data)
    }

    fn record(&mut self, fields: &[(u16, u16)], set: &mut Reader<'_>) {
        let values: HashMap<u16, &[u8]> = fields.iter().map(|(id, len)| (*id, set.take(usize::from(*len)))).collect();
        let number = |id: u16| Reader(values[&id]).number(values[&id].len());
        if values.contains_key(&50) || values.contains_key(&306) {
            let interval = if values.contains_key(&50) { number(50) } else { number(305) + number(306) };
            assert_eq!(interval, 100);
            self.samplers += 1;
            return;
        }
        let v4 = |id: u16| IpAddr::from(<[u8; 4]>::try_from(values[&id]).unwrap());
        let v6 = |id: u16| IpAddr::from(<[u8; 16]>::try_from(values[&id]).unwrap());
        let (source, destination) = if values.contains_key(&8) { (v4(8), v4(12)) } else { (v6(27), v6(28)) };
        let mark = mark(source, number(7) as u16, destination);
        assert_eq!(mark.n, number(148));
        let times = if values.contains_key(&152) { (number(152), number(153)) } else { (number(22), number(21)) };
        assert!(times.0 <= times.1 && number(1) / number(2) < 1500);
        self.marks.push(mark);
    }
}

#[test]
fn netflow_9_is_read_by_its_templates() {
    for extra in [&["--senders", "3", "--ipv6"][..], &["--gso"], &["--template-every", "5"]] {
        let (all, summary) = datagrams(&["netflow", "--sampling", "100"], &[RUN, extra].concat());
        let mut collector = Collector::default();
        for datagram in &all {
            collector.v9(datagram);
        }
        assert!(all.iter().all(|datagram| datagram.len() <= 1400 && datagram.len() % 4 == 0));
        assert_all(&collector.marks, &summary);
        let templates = if extra[0] == "--template-every" { all.len().div_ceil(6) } else { summary.senders.len() };
        assert!(collector.template_packets.abs_diff(templates) <= 1, "{} {templates}", collector.template_packets);
        assert_eq!(collector.samplers, collector.template_packets);
    }
}

#[test]
fn ipfix_is_read_by_its_templates_over_udp() {
    for extra in [&["--senders", "3", "--ipv6"][..], &["--gso"]] {
        let (all, summary) = datagrams(&["ipfix", "--sampling", "100"], &[RUN, extra].concat());
        let mut collector = Collector::default();
        assert!(all.iter().all(|datagram| datagram.len() <= 1400 && collector.ipfix(datagram).is_empty()));
        assert_all(&collector.marks, &summary);
    }
}

#[test]
fn ipfix_over_tcp_sends_templates_once() {
    let more = ["--proto", "tcp", "--sampling", "100", "--template-every", "2"];
    let (bytes, summary) = stream(&["ipfix"], &[RUN, &more].concat());
    let (mut collector, mut rest) = (Collector::default(), &bytes[..]);
    while !rest.is_empty() {
        rest = collector.ipfix(rest);
    }
    assert_all(&collector.marks, &summary);
    assert_eq!((collector.template_packets, summary.bytes), (1, bytes.len() as u64));
}

/// A flow sample: its mark, and its number.
fn sample(mut r: Reader<'_>) -> (FlowMark, u32) {
    let number = r.u32();
    r.take(24);
    let records = r.u32();
    let mut found = None;
    for _ in 0..records {
        let (format, len) = (r.u32(), r.u32() as usize);
        let record = r.take(len);
        if format == 1 {
            found = Some(packet(Reader(record)));
        }
    }
    assert!(r.0.is_empty());
    (found.unwrap(), number)
}

fn packet(mut r: Reader<'_>) -> FlowMark {
    assert_eq!(r.u32(), 1);
    let (frame, stripped, len) = (r.u32(), r.u32(), r.u32() as usize);
    assert!(stripped == 4 && r.0.len() == len && (82..=1518).contains(&frame));
    let packet = r.take(len);
    let ip = &packet[14..34];
    assert_eq!((&packet[12..14], ip[0]), (&[8, 0][..], 0x45));
    assert_eq!(u32::from(u16::from_be_bytes([ip[2], ip[3]])) + 18, frame);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "checksum");
    let address = |at: usize| IpAddr::V4(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
    mark(address(12), u16::from_be_bytes([packet[34], packet[35]]), address(16))
}

#[test]
fn sflow_has_dense_sequences_and_every_mark() {
    for extra in [&["--senders", "3"][..], &["--gso"], &["--counters-every", "3", "--samples-per-datagram", "5"]] {
        let (all, summary) = datagrams(&["sflow"], &[RUN, extra].concat());
        let (mut marks, mut next, mut counters) = (Vec::new(), HashMap::new(), 0);
        for datagram in &all {
            let mut r = Reader(datagram);
            assert_eq!((r.u32(), r.u32(), r.u32()), (5, 1, 0x7f00_0001));
            let (agent, sequence, _, samples) = (r.u32(), r.u32(), r.u32(), r.u32());
            assert_eq!(sequence, next.insert(agent, sequence + 1).unwrap_or(1));
            for _ in 0..samples {
                let (format, len) = (r.u32(), r.u32() as usize);
                let body = Reader(r.take(len));
                if format == 1 {
                    let (mark, number) = sample(body);
                    assert_eq!(u64::from(number), mark.n + 1);
                    marks.push(mark);
                } else {
                    assert_eq!((format, body.0.len()), (2, 108));
                    counters += 1;
                }
            }
            assert!(r.0.is_empty() && datagram.len() <= 1400);
        }
        assert_all(&marks, &summary);
        let interfaces = if extra[0] == "--counters-every" { 8 * (400 / 3) } else { 8 * (2000 / 8 / 50) };
        assert!(counters >= interfaces / 2 && counters <= interfaces, "{counters} {interfaces}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "netflow --version 7 --count 1",
        "netflow --version 5 --ipv6 --count 1",
        "netflow --records-per-datagram 60 --count 1",
        "ipfix --proto tcp --gso --count 1",
        "sflow --samples-per-datagram 20 --count 1",
        "netflow --to 192.0.2.1:2055 --count 1",
        "sflow",
    ] {
        let args: Vec<&str> = ["gen"].into_iter().chain(line.split(' ')).collect();
        assert_eq!(common::code(&common::raven(&args)), 2, "{line}");
    }
}
