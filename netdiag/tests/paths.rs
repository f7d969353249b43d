//! Traces by TCP, names on the way, ways that change, delays, and liars: in chains of network namespaces, beside the programs of
//! others.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod chain;

use chain::made::{WAY, make, measured, ping_test, pings, trace_test, traced, way};
use chain::{Chain, is_possible};
use raven_model::diag::bw::{BandwidthTest, Direction, Transport};
use raven_model::diag::trace::{PathChanged, TraceRound, Watch};
use raven_model::diag::{Event, Method, PingTest, TraceResult, TraceTest, Way};
use raven_netdiag::names::Resolver;
use raven_netdiag::trace::path::flow_port;
use raven_netdiag::{bw, trace};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn tcp_finds_the_way_to_ports_that_are_open_and_closed() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("tcp", "plain");
    let target = chain.target();
    let open = chain.at(5, || TcpListener::bind("[::]:443").unwrap());
    let began = Instant::now();
    let result = traced(&chain, &trace_test(&target, Method::Tcp, 3, 1));
    assert_eq!((way(&result), result.reached, result.paths), (WAY.map(str::to_owned).to_vec(), true, 1), "{result:?}");
    assert!(result.hops.iter().all(|hop| (hop.sent, hop.received) == (3, 3)), "{result:?}");
    println!("tcp: {:?}", began.elapsed());
    // What was open is closed by RST: nobody has a connection that he did not want.
    open.set_nonblocking(true).unwrap();
    while let Ok((connection, _)) = open.accept() {
        assert!(std::io::Read::read(&mut &connection, &mut [0]).map_or(true, |n| n == 0));
    }
    let v6 = traced(&chain, &trace_test(&chain.target_v6(), Method::Tcp, 2, 1));
    assert_eq!((v6.reached, v6.hops.len(), &*way(&v6)[1]), (true, 5, "fd00:11:2::2"), "{v6:?}");
    drop(open);
    let closed = traced(&chain, &TraceTest { port: Some(444), ..trace_test(&target, Method::Tcp, 2, 2) });
    assert_eq!((way(&closed), closed.reached), (way(&result), true), "{closed:?}");
    assert_eq!(closed.path_hash, result.path_hash);
    let udp = traced(&chain, &trace_test(&target, Method::Udp, 2, 1));
    assert_eq!(udp.path_hash, result.path_hash);
    if let Some(text) = chain.others("traceroute", &format!("-T -n -q 1 -p 443 {target}")) {
        assert!(WAY.iter().all(|hop| text.contains(hop)), "{text}");
    }
}

#[test]
fn one_flow_of_tcp_goes_one_way_and_many_go_several() {
    if !is_possible() {
        return;
    }
    // Behind a wire: from one namespace to the next the kernel hands the sender's own hash of a connection on.
    let chain = Chain::new("tcpecmp", "two-ways-wire");
    let target = chain.target();
    let one = traced(&chain, &TraceTest { interval_ms: 10, ..trace_test(&target, Method::Tcp, 12, 1) });
    assert!(one.reached && one.hops.iter().all(|hop| hop.routers.len() == 1 && hop.received == 12), "{one:?}");
    let again = traced(&chain, &trace_test(&target, Method::Tcp, 2, 1));
    assert_eq!((one.path_hash, one.changes), (again.path_hash, 0));
    let many = traced(&chain, &trace_test(&target, Method::Tcp, 2, 16));
    assert_eq!((many.hops[1].routers.len(), many.changes), (2, 0), "{many:?}");
}

#[test]
fn tcp_passes_silent_hops_and_names_who_forbids() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("tcpmute", "loss");
    let result = traced(&chain, &TraceTest { timeout_ms: 250, ..trace_test(&chain.target(), Method::Tcp, 4, 1) });
    assert_eq!((result.reached, result.hops[3].received, result.hops.len()), (true, 0, 5), "{result:?}");
    let chain = Chain::new("tcpno", "forbidden");
    let result = traced(&chain, &trace_test(&chain.target(), Method::Tcp, 2, 1));
    let last = result.hops.last().unwrap();
    assert_eq!((result.reached, last.hop, last.routers[0].address.to_string()), (false, 4, WAY[2].to_owned()));
    assert_eq!(last.routers[0].said.as_deref(), Some("administratively prohibited"));
}

/// Answers questions until it is told to stop: some addresses have a name, of the others there is none.
fn name_server(stop: &AtomicBool, socket: &UdpSocket) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut bytes = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        let Ok((n, from)) = socket.recv_from(&mut bytes) else { continue };
        let mut answer = bytes[..n].to_vec();
        answer[2..4].copy_from_slice(&[0x81, 0x80]);
        // Every second one is unknown.
        if bytes[14..16] == *b"\x012" || bytes[14..16] == *b"\x014" {
            answer[3] = 0x83;
        } else {
            answer[7] = 1;
            answer.extend(b"\xc0\x0c\0\x0c\0\x01\0\0\0\x3c\0\x0c\x04core\x05venue\0");
        }
        socket.send_to(&answer, from).unwrap();
    }
}

#[test]
fn those_on_the_way_have_names_and_a_silent_name_server_is_asked_thrice_for_each_and_no_more() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("names", "plain");
    let test = TraceTest { names: true, ..trace_test(&chain.target(), Method::Udp, 1, 1) };
    let stop = AtomicBool::new(false);
    let events = make(&chain, |session| {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let names = Resolver::of(&[server.local_addr().unwrap().to_string()]);
        std::thread::scope(|scope| {
            scope.spawn(|| name_server(&stop, &server));
            let outcome = trace::run::run_with(&test, session, names);
            stop.store(true, Ordering::Relaxed);
            outcome
        })
    });
    let Some(Event::Trace(result)) = events.last() else { panic!("{events:?}") };
    let named: Vec<_> = result.hops.iter().map(|hop| hop.routers[0].name.as_deref()).collect();
    let core = Some("core.venue");
    assert_eq!(named, [core, None, core, None, core], "{result:?}");
    // Nobody answers.
    let mut questions = 0;
    let events = make(&chain, |session| {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let outcome = trace::run::run_with(&test, session, Resolver::of(&[silent.local_addr().unwrap().to_string()]));
        silent.set_nonblocking(true).unwrap();
        questions = std::iter::from_fn(|| silent.recv(&mut [0; 512]).ok()).count();
        outcome
    });
    let Some(Event::Trace(result)) = events.last() else { panic!("{events:?}") };
    assert!(result.reached && result.hops.iter().all(|hop| hop.routers[0].name.is_none()));
    assert!((5..=15).contains(&questions), "{questions}");
    // Nobody can be asked.
    let nowhere = ["127.0.0.1:9".to_owned(), "192.0.2.1%nowhere".to_owned()];
    let events = make(&chain, |session| trace::run::run_with(&test, session, Resolver::of(&nowhere)));
    let Some(Event::Trace(result)) = events.last() else { panic!("{events:?}") };
    assert!(result.reached && result.hops.iter().all(|hop| hop.routers[0].name.is_none()));
}

#[test]
fn a_way_that_changes_is_told_while_each_hop_is_counted() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("watch", "two-ways");
    let (before, after) = ("10.11.2.2", "10.21.2.2");
    chain.ip(1, &format!("route replace default via {before}"));
    let watch = Some(Watch { seconds: Some(3) });
    let test = TraceTest { watch, ..trace_test(&chain.target(), Method::Udp, 1, 1) };
    let events = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(1500));
            chain.ip(1, &format!("route replace default via {after}"));
        });
        make(&chain, |session| trace::run::run(&test, session))
    });
    let rounds: Vec<&TraceRound> = events.iter().filter_map(|event| as_round(event)).collect();
    let changes: Vec<&PathChanged> = events.iter().filter_map(|event| as_change(event)).collect();
    let Some(Event::Trace(result)) = events.last() else { panic!("{events:?}") };
    assert_eq!((changes.len(), result.changes, result.changed, result.reached), (1, 1, true, true), "{changes:?}");
    let change = changes[0];
    let at = |hops: &[Option<IpAddr>]| hops[1].unwrap().to_string();
    assert_eq!((change.hop, at(&change.from.hops), at(&change.to.hops)), (2, before.to_owned(), after.to_owned()));
    let (first, last) = (rounds[0], rounds[rounds.len() - 1]);
    assert_eq!((&first.path_hash, &result.path_hash), (&change.from.hash, &change.to.hash));
    assert!((20..=31).contains(&last.round) && rounds.len() == last.round as usize, "{}", last.round);
    assert!((5..25).contains(&change.round), "{change:?}");
    let target = &result.hops[4];
    assert!(target.sent == last.round && target.received + 3 >= target.sent, "{target:?}");
    assert_eq!(result.hops[1].routers.len(), 2);
    let rtt = target.rtt.unwrap();
    assert!(rtt.last_us >= rtt.min_us && rtt.last_us <= rtt.max_us && rtt.stdev_us < rtt.max_us, "{rtt:?}");
}

fn as_round(event: &Event) -> Option<&TraceRound> {
    if let Event::TraceRound(round) = event { Some(round) } else { None }
}

fn as_change(event: &Event) -> Option<&PathChanged> {
    if let Event::PathChanged(change) = event { Some(change) } else { None }
}

/// Times of `fping -q -C`, milliseconds, in ascending order, lost ones not among them; and how many came twice.
fn fping(chain: &Chain, words: &str, target: &str) -> Option<(Vec<f64>, usize)> {
    let text = chain.others("fping", &format!("-q {words} {target}"))?;
    let line = text.lines().rfind(|line| line.contains(" : "))?;
    let (_, times) = line.split_once(" : ")?;
    let mut times: Vec<f64> = times.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    Some((times, text.matches("duplicate for").count()))
}

#[test]
fn a_wire_of_forty_milliseconds_each_way_is_measured_as_fping_measures_it() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("delay", "delayed");
    let target = chain.target();
    let result = &pings(&chain, &ping_test(&[&target], 150, 20))[0];
    let rtt = result.rtt.unwrap();
    assert!((78_000..86_000).contains(&rtt.p50_us) && rtt.min_us >= 70_000 && rtt.stdev_us > 1000, "{rtt:?}");
    assert!((3.0..20.0).contains(&result.loss) && result.duplicates == 0, "{result:?}");
    if let Some((times, _)) = fping(&chain, "-C 150 -p 20 -t 2000", &target) {
        let theirs = times[times.len() / 2] * 1000.0;
        let lost = 100.0 - times.len() as f64 / 1.5;
        println!("delayed: ours p50 {} us, lost {:.0} %; fping's {theirs:.0} us, {lost:.0} %", rtt.p50_us, result.loss);
        assert!(
            (f64::from(rtt.p50_us) - theirs).abs() < 3000.0 && (3.0..20.0).contains(&lost),
            "{rtt:?} {theirs} {lost}"
        );
    }
    let result = traced(&chain, &TraceTest { interval_ms: 20, ..trace_test(&target, Method::Icmp, 30, 1) });
    assert!(result.hops[0].rtt.unwrap().p50_us < 20_000 && result.hops[0].received == 30, "{result:?}");
    assert!((75_000..90_000).contains(&result.hops[1].rtt.unwrap().p50_us), "{result:?}");
    if let Some(text) = chain.others("mtr", &format!("-n -r -c 10 -i 0.1 {target}")) {
        println!("mtr of the same:\n{text}");
    }
}

#[test]
fn a_way_back_that_is_slower_is_one_round_trip() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("back", "slow-back");
    let target = chain.target();
    let rtt = pings(&chain, &ping_test(&[&target], 20, 20))[0].rtt.unwrap();
    assert!((69_000..76_000).contains(&rtt.p50_us), "{rtt:?}");
    if let Some((times, _)) = fping(&chain, "-C 20 -p 20 -t 2000", &target) {
        assert!((f64::from(rtt.p50_us) / 1000.0 - times[times.len() / 2]).abs() < 2.0, "{rtt:?} {times:?}");
    }
    if let Some(text) = chain.others("tracepath", &format!("-n {target}")) {
        assert!(text.contains("asymm") || text.contains("reached"), "{text}");
    }
    let tcp = traced(&chain, &trace_test(&target, Method::Tcp, 3, 1));
    assert!(tcp.reached && (69_000..80_000).contains(&tcp.hops[2].rtt.unwrap().p50_us), "{tcp:?}");
}

#[test]
fn what_comes_twice_and_what_comes_out_of_order_is_told() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("order", "disorder");
    let result = &pings(&chain, &PingTest { each: false, ..ping_test(&[&chain.target()], 300, 10) })[0];
    assert_eq!((result.sent, result.received, result.loss), (300, 300, 0.0), "{result:?}");
    // A reply that comes twice is one of a request that came twice: one of ten.
    assert!((10..60).contains(&result.duplicates), "{result:?}");
    // An answer that came before those that left earlier makes them late ones: three each, less what is lost in the crowd.
    assert!((40..250).contains(&result.reordered), "{result:?}");
    if let Some((times, twice)) = fping(&chain, "-C 300 -p 10 -t 2000", &chain.target()) {
        println!("disorder: ours {} twice, fping's {twice}", result.duplicates);
        assert!(times.len() == 300 && (10..60).contains(&twice), "{times:?} {twice}");
    }
}

#[test]
fn pings_carry_their_class_and_size_and_nobody_fragments_what_nobody_may() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("class", "narrow");
    chain.rule(1, "forward", "icmp type echo-request ip dscp != ef drop");
    let target = chain.target();
    let test = |dscp, size, dont_fragment| {
        let test = PingTest { dscp, size, dont_fragment, timeout_ms: 300, ..ping_test(&[&target], 3, 20) };
        pings(&chain, &test).remove(0)
    };
    assert_eq!([test(46, 16, true).received, test(0, 56, true).received], [3, 0]);
    // The narrowest link takes 1300.
    assert_eq!(test(46, 1272, true).received, 3);
    let long = test(46, 1273, true);
    assert_eq!((long.received, long.errors.get("packet too big")), (0, Some(&3)), "{long:?}");
    assert_eq!(test(46, 1400, false).received, 3);
}

fn json_of(child: Child) -> Value {
    let done = child.wait_with_output().unwrap();
    serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stdout)))
}

#[test]
fn ten_megabits_are_measured_as_iperf3_measures_them() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("tbf", "ten-mbit");
    if chain.others("iperf3", "--version").is_none() {
        return;
    }
    let target = chain.target();
    let test = BandwidthTest {
        target: target.clone(),
        way: Way::default(),
        port: 5201,
        transport: Transport::Tcp,
        direction: Direction::Up,
        streams: 1,
        rate: None,
        seconds: 3,
        omit: 1,
        length: None,
    };
    let theirs = || {
        let server = chain.at_target("iperf3", "-s -1 -J");
        std::thread::sleep(Duration::from_millis(300));
        let text = chain.others("iperf3", &format!("-c {target} -J -t 3 -O 1"));
        drop(json_of(server));
        let text = text?;
        let json: Value = serde_json::from_str(&text).unwrap();
        json["end"]["sum_received"]["bits_per_second"].as_f64()
    };
    let ours = || {
        let server = chain.at_target("iperf3", "-s -1 -J");
        std::thread::sleep(Duration::from_millis(300));
        let events = make(&chain, |session| bw::client::run(&test, session));
        drop(json_of(server));
        let Some(Event::Bandwidth(result)) = events.last() else { panic!("{events:?}") };
        result.sums[0].received.bits_per_second
    };
    // Once more where the machine has much else to do.
    for _ in 0..3 {
        let Some(theirs) = theirs() else { return };
        let ours = ours();
        println!("tbf: ours {:.3} Mbit/s, iperf3's {:.3}", ours / 1e6, theirs / 1e6);
        if (ours / theirs - 1.0).abs() < 0.02 {
            return;
        }
    }
    panic!("not within 2 %");
}

/// An ICMP message from anybody, with a checksum that fits or does not.
fn icmp(from: Ipv4Addr, kind: u8, code: u8, rest: [u8; 4], data: &[u8], is_good: bool) -> Vec<u8> {
    let mut icmp = [&[kind, code, 0, 0][..], &rest, data].concat();
    let mut sum: u32 = icmp.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let check = !(sum as u16) ^ u16::from(!is_good);
    icmp[2..4].copy_from_slice(&check.to_be_bytes());
    packet(from, BOX, 1, 64, &icmp)
}

/// The kernel fills in length and checksum.
fn packet(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + payload.len() as u16).to_be_bytes();
    let header = [0x45, 0, high, low, 0, 1, 0x40, 0, ttl, protocol, 0, 0];
    [&header[..], &from.octets(), &to.octets(), payload].concat()
}

const BOX: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 1);
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 14, 5, 2);
const LIAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

/// Everything that somebody who sees no packet of ours can think of.
fn lies() -> Vec<Vec<u8>> {
    let mut lies = Vec::new();
    let port = flow_port(TARGET.into(), 0);
    let mut quotes = Vec::new();
    // Datagrams of the trace as they are but for their content, and of a port that is not ours with no content.
    for (port, content) in [(port, &[0x55; 32][..]), (port ^ 1, &[])] {
        let udp = [&port.to_be_bytes()[..], &33_434_u16.to_be_bytes(), &[0, 40, 0, 0], content].concat();
        quotes.push(packet(BOX, TARGET, 17, 1, &udp));
    }
    // A SYN as it would be, but for its sequence number.
    let syn = [&port.to_be_bytes()[..], &443_u16.to_be_bytes(), &[9, 9, 9, 9, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]]
        .concat();
    quotes.push(packet(BOX, TARGET, 6, 1, &syn));
    quotes.push(vec![0x4f; 28]);
    quotes.push(vec![0x45]);
    for quote in &quotes {
        for (kind, code) in
            [(11, 0), (11, 1), (3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (12, 0), (5, 1), (200, 7), (4, 0)]
        {
            for from in [LIAR, TARGET] {
                lies.push(icmp(from, kind, code, [0, 0, 2, 88], quote, true));
                lies.push(icmp(from, kind, code, [0, 0, 2, 88], quote, false));
            }
        }
    }
    // Cut in the middle of the header.
    lies.push(packet(LIAR, BOX, 1, 64, &[11, 0]));
    lies.push(packet(LIAR, BOX, 1, 64, &[]));
    lies
}

/// What needs the identifier of a socket of ours, for this one.
fn guesses(id: u16) -> [Vec<u8>; 4] {
    let [high, low] = id.to_be_bytes();
    let echo = |content: &[u8]| packet(BOX, TARGET, 1, 64, &[&[8, 0, 0, 0, high, low, 0, 0][..], content].concat());
    [
        icmp(TARGET, 0, 0, [high, low, 0, 0], &[0x55; 56], true),
        icmp(TARGET, 0, 0, [high, low, 0, 1], &[], true),
        icmp(LIAR, 3, 1, [0; 4], &echo(&[0x55; 56]), true),
        icmp(LIAR, 3, 4, [0, 0, 2, 88], &echo(&[]), true),
    ]
}

fn lie(stop: &AtomicBool) -> u64 {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
    let to = SocketAddr::from((BOX, 0)).into();
    let (lies, mut sent) = (lies(), 0);
    for id in (0..=u16::MAX).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let more = if id % 64 == 0 { &lies[..] } else { &[] };
        for packet in guesses(id).iter().chain(more) {
            sent += u64::from(socket.send_to(packet, &to).is_ok());
        }
    }
    sent
}

/// Ends the liar, also where a test fails meanwhile.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_liars_say_changes_nothing() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("liars", "plain");
    let target = chain.target();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let liar = scope.spawn(|| chain.at(1, || lie(&stop)));
        let stopped = Stop(&stop);
        let results: Vec<TraceResult> = [Method::Udp, Method::Icmp, Method::Tcp]
            .map(|method| traced(&chain, &trace_test(&target, method, 3, 1)))
            .to_vec();
        let pinged = pings(&chain, &PingTest { each: false, ..ping_test(&[&target], 100, 10) }).remove(0);
        let mtu = measured(&chain, &target);
        drop(stopped);
        let sent = liar.join().unwrap();
        println!("{sent} lies");
        assert!(sent > 10_000, "{sent}");
        for result in &results {
            assert_eq!((way(result), result.reached), (WAY.map(str::to_owned).to_vec(), true), "{result:?}");
            assert!(
                result.hops.iter().all(|hop| hop.routers.len() == 1 && hop.routers[0].said.is_none()),
                "{result:?}"
            );
        }
        assert_eq!(
            (pinged.received, pinged.duplicates, pinged.reordered, pinged.errors.len()),
            (100, 0, 0, 0),
            "{pinged:?}"
        );
        assert_eq!((mtu.mtu, mtu.limit, mtu.black_hole), (Some(1500), None, false), "{mtu:?}");
    });
}
