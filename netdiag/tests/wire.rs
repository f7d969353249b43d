//! The view of the wire, captures and the check of a LAN, in namespaces behind one switch, beside the programs of others.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use raven_jail::packet;
use raven_model::diag::wire::{
    CaptureOrder, CaptureResult, Event, HEADERS, LanOrder, LanResult, Mac, Meant, Order, Purpose, Row, SNAP_MAX, Tap,
    To, ViewOrder, WireResult,
};
use raven_netdiag::session::Session;
use raven_netdiag::wire::{Tapped, follow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A box and two other machines, each with `eth0` at a switch: 192.0.2.1 to 192.0.2.3, 2001:db8::1 to 2001:db8::3.
struct Lan {
    switch: String,
    names: [String; 3],
}

const BOX: usize = 0;
const FAR: usize = 1;
const OTHER: usize = 2;

fn is_possible() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("not run: needs root");
    }
    is_root
}

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status().unwrap();
    assert!(status.success(), "ip {line}");
}

fn command_in(name: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name, program]);
    command
}

impl Lan {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("raven-lan-{end}-{}-{number}", std::process::id());
        let lan = Self { switch: name("s"), names: ["a", "b", "c"].map(name) };
        let switch = &lan.switch;
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add br0 type bridge mcast_snooping 0 forward_delay 0"));
        ip(&format!("-n {switch} link set br0 up"));
        // Where the machine filters what its bridges pass, hostile packets would not get through ours.
        for family in ["ip", "ip6", "arp"] {
            let setting = format!("net.bridge.bridge-nf-call-{family}tables=0");
            let _ = command_in(switch, "sysctl").args(["-qw", &setting]).stderr(Stdio::null()).status();
        }
        for (at, name) in lan.names.iter().enumerate() {
            let n = at + 1;
            ip(&format!("netns add {name}"));
            ip(&format!(
                "-n {name} link add eth0 address 02:00:00:00:00:0{n} type veth peer name port{n} netns {switch}"
            ));
            ip(&format!("-n {switch} link set port{n} master br0 up"));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} addr add 192.0.2.{n}/24 dev eth0"));
            ip(&format!("-n {name} addr add 2001:db8::{n}/64 dev eth0 nodad"));
            ip(&format!("-n {name} link set eth0 up"));
        }
        // Everybody knows everybody, and addresses of the cable are taken.
        for target in ["192.0.2.1", "2001:db8::1"] {
            let ping = || lan.command(FAR, "ping").args(["-c", "1", "-W", "1", target]).output().unwrap();
            assert!((0..10).any(|_| ping().status.success()), "{target} answers nothing");
        }
        std::thread::sleep(Duration::from_millis(1500));
        lan
    }

    fn command(&self, at: usize, program: &str) -> Command {
        command_in(&self.names[at], program)
    }

    fn inside<R: Send>(&self, at: usize, work: impl FnOnce() -> R + Send) -> R {
        let place = File::open(Path::new("/run/netns").join(&self.names[at])).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// Datagrams from a machine.
    fn send(&self, at: usize, from: &str, to: &str, count: usize) {
        self.inside(at, || {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            for n in 0..count {
                socket.send_to(format!("<13>message {n}").as_bytes(), to).unwrap();
            }
        });
    }

    /// Follows an order at the box's eth0 while `work` is done; what was told.
    fn follow(&self, tap: &Tap, order: &Order, work: impl FnOnce() + Send) -> Vec<Event> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let tapped = self.inside(BOX, || {
            let (socket, link) = match tap.purpose {
                Purpose::View => packet::listen(tap, HEADERS),
                Purpose::Capture => packet::listen(tap, tap.snap.unwrap_or(SNAP_MAX)),
                Purpose::Lan => packet::talk(&tap.interface),
            }
            .unwrap();
            Tapped { socket, purpose: tap.purpose, link }
        });
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let lines = BufReader::new(theirs).lines().map(Result::unwrap);
                lines.filter(|line| line != "\"ok\"").map(|line| serde_json::from_str(&line).unwrap()).collect()
            });
            // By what it is passed alone: it is in no namespace of the LAN.
            scope.spawn(move || {
                let mut session = Session::new(ours).unwrap();
                follow(order, &tapped, &mut session).unwrap();
                session.flush().unwrap();
            });
            std::thread::sleep(Duration::from_millis(200));
            work();
            reader.join().unwrap()
        })
    }

    fn view(&self, for_ms: u32, tap: &Tap, meant: Meant, work: impl FnOnce() + Send) -> WireResult {
        let mut events = self.follow(tap, &Order::View(ViewOrder { for_ms, meant }), work);
        let Some(Event::Wire(result)) = events.pop() else { panic!("{events:?}") };
        assert!(!events.is_empty() && events.iter().all(|event| matches!(event, Event::Second(_))), "{events:?}");
        result
    }

    fn capture(&self, tap: &Tap, order: CaptureOrder, work: impl FnOnce() + Send) -> (Vec<u8>, CaptureResult) {
        let mut events = self.follow(tap, &Order::Capture(order), work);
        let Some(Event::Captured(result)) = events.pop() else { panic!("{events:?}") };
        let file: Vec<u8> = events.iter().flat_map(|event| event.bytes().unwrap()).collect();
        assert_eq!(file.len() as u64, result.bytes);
        (file, result)
    }

    fn check(&self, addresses: &[&str], gateways: &[&str], dhcp: bool, wait_ms: u32) -> LanResult {
        let parsed = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let order = LanOrder { addresses: parsed(addresses), gateways: parsed(gateways), dhcp, wait_ms };
        match self.follow(&tap(Purpose::Lan), &Order::Lan(order), || {}).pop() {
            Some(Event::Lan(result)) => result,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.switch]) {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A program of others; ended when dropped.
struct Program(Child);

impl Program {
    fn start(lan: &Lan, at: usize, program: &str, arguments: &str) -> Self {
        let mut command = lan.command(at, program);
        command.args(arguments.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// As by Ctrl-C.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_raw(self.0.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.0.wait().unwrap();
        std::mem::forget(self);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_installed(program: &str) -> bool {
    let is_there = ["/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !is_there {
        eprintln!("{program} is not here: not run");
    }
    is_there
}

fn tap(purpose: Purpose) -> Tap {
    Tap { interface: "eth0".to_owned(), purpose, promiscuous: false, outbound: false, snap: None }
}

fn only(ports: &[u16]) -> Meant {
    Meant { ports: ports.to_vec(), from: None }
}

fn of<'a>(result: &'a WireResult, source: &str, port: u16) -> Vec<&'a Row> {
    let source = source.parse().ok();
    result.rows.iter().filter(|row| row.source == source && row.port == Some(port)).collect()
}

fn packets(rows: &[&Row]) -> u64 {
    rows.iter().map(|row| row.packets).sum()
}

/// A frame from a machine that is made by hand.
fn frame(to: Mac, kinds: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut frame = [&to.0[..], &[2, 0, 0, 0, 0, 2], kinds, rest].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// From 192.0.2.7:40000 to port 514 of 192.0.2.1.
const DATAGRAM: [u8; 32] = [
    0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0xf6, 0xc3, 192, 0, 2, 7, 192, 0, 2, 1, 0x9c, 0x40, 2, 2, 0, 12, 0, 0, 1, 2, 3,
    4,
];
const US: Mac = Mac([2, 0, 0, 0, 0, 1]);

#[test]
fn what_was_sent_is_counted_by_sender_protocol_port_and_vlan() {
    if !is_possible() || !is_installed("tcpdump") {
        return;
    }
    let lan = Lan::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("theirs.pcap");
    let words = format!("-i eth0 -Q in -U -s 2000 -B 65536 --immediate-mode -w {} udp or vlan", file.display());
    let tcpdump = Program::start(&lan, BOX, "tcpdump", &words);
    std::thread::sleep(Duration::from_millis(800));
    let result = lan.view(2500, &tap(Purpose::View), Meant::default(), || {
        lan.send(FAR, "192.0.2.2", "192.0.2.1:514", 1200);
        lan.send(FAR, "2001:db8::2", "[2001:db8::1]:162", 300);
        lan.send(OTHER, "192.0.2.3", "192.0.2.1:514", 7);
        lan.inside(FAR, || {
            let (socket, _) = packet::talk("eth0").unwrap();
            for _ in 0..50 {
                packet::send(socket.as_fd(), &frame(US, &[0x81, 0, 0xe0, 100, 8, 0], &DATAGRAM)).unwrap();
            }
        });
        lan.send(BOX, "192.0.2.1", "192.0.2.2:9999", 5);
    });
    tcpdump.end();
    let syslog = of(&result, "192.0.2.2", 514);
    assert_eq!((syslog.len(), syslog[0].packets, syslog[0].to), (1, 1200, To::Us), "{syslog:?}");
    assert_eq!((syslog[0].mac, syslog[0].target), (Some(Mac([2, 0, 0, 0, 0, 2])), "192.0.2.1".parse().ok()));
    assert_eq!(packets(&of(&result, "2001:db8::2", 162)), 300);
    assert_eq!(packets(&of(&result, "192.0.2.3", 514)), 7);
    let tagged = of(&result, "192.0.2.7", 514);
    assert_eq!((tagged.len(), tagged[0].packets, &tagged[0].vlans[..]), (1, 50, &[100][..]));
    assert!(of(&result, "192.0.2.1", 9999).is_empty(), "what the box sends is not asked for");
    assert_eq!((result.dropped, result.malformed, result.other.packets), (0, 0, 0));

    // tcpdump counts the same.
    let counted = |filter: &str| {
        let told = Command::new("tcpdump").args(["-nn", "-r"]).arg(&file).args(filter.split(' ')).output().unwrap();
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).unwrap().lines().count() as u64
    };
    assert_eq!(counted("src 192.0.2.2 and udp port 514"), 1200);
    assert_eq!(counted("ip6 and udp port 162"), 300);
    assert_eq!(counted("vlan 100 and udp port 514"), 50);
    let bytes: u64 = result.rows.iter().filter(|row| row.port == Some(162)).map(|row| row.bytes).sum();
    let payload: usize = (0..300).map(|n| format!("<13>message {n}").len()).sum();
    assert_eq!(bytes, (300 * (14 + 40 + 8) + payload) as u64);
}

#[test]
fn what_is_asked_for_alone_is_counted_and_what_is_for_others_is_told_apart() {
    if !is_possible() {
        return;
    }
    let lan = Lan::new();
    let send = || {
        lan.send(FAR, "192.0.2.2", "192.0.2.1:514", 20);
        lan.send(OTHER, "192.0.2.3", "192.0.2.1:162", 30);
        lan.send(BOX, "192.0.2.1", "192.0.2.2:514", 40);
        // To another machine; the switch does not know where that is.
        lan.inside(FAR, || {
            let (socket, _) = packet::talk("eth0").unwrap();
            for _ in 0..10 {
                packet::send(socket.as_fd(), &frame(Mac([2, 0, 0, 0, 0, 99]), &[8, 0], &DATAGRAM)).unwrap();
            }
        });
    };
    let outbound = Tap { outbound: true, ..tap(Purpose::View) };
    let result = lan.view(1500, &outbound, only(&[514]), send);
    assert_eq!(packets(&of(&result, "192.0.2.2", 514)), 20);
    assert_eq!(
        of(&result, "192.0.2.1", 514).iter().map(|row| (row.packets, row.to)).collect::<Vec<_>>(),
        [(40, To::Outbound)]
    );
    assert!(of(&result, "192.0.2.3", 162).is_empty() && result.unmeant >= 30, "{result:?}");
    let others = of(&result, "192.0.2.7", 514);
    // Whether a veth shows it without being asked is its own affair; that it is not for us is told.
    assert!(others.iter().all(|row| row.to == To::Others), "{others:?}");
    let promiscuous = Tap { promiscuous: true, ..tap(Purpose::View) };
    let meant = Meant { ports: Vec::new(), from: Some("192.0.2.7".parse().unwrap()) };
    let result = lan.view(1500, &promiscuous, meant, send);
    assert_eq!((result.rows.len(), result.rows[0].packets, result.rows[0].to), (1, 10, To::Others), "{result:?}");
    // And given back with the socket.
    let told = lan.command(BOX, "ip").args(["-d", "link", "show", "eth0"]).output().unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains("promiscuity 0"), "{told:?}");
}

#[test]
fn hostile_frames_are_counted_and_end_nothing() {
    const FRAMES: u64 = 30_000;
    if !is_possible() {
        return;
    }
    let lan = Lan::new();
    let meant = Meant::default();
    let result = lan.view(6000, &tap(Purpose::View), meant, || {
        lan.inside(FAR, || {
            let (socket, _) = packet::talk("eth0").unwrap();
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            let mut random = move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            for n in 0..FRAMES {
                let kinds: &[u8] = match random() % 5 {
                    0 => &[8, 0],
                    1 => &[0x86, 0xdd],
                    2 => &[8, 6],
                    3 => &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0],
                    _ => &[0x81, 0, 0, 2, 0x81, 0, 0, 2, 0x81, 0, 0, 2, 0x81, 0, 0, 2, 0x81, 0],
                };
                let len = (random() % 1400) as usize;
                let mut rest: Vec<u8> = (0..len).map(|_| random() as u8).collect();
                if n % 2 == 0 {
                    rest.splice(..0, DATAGRAM);
                    let at = random() as usize % rest.len();
                    rest[at] = random() as u8;
                }
                while packet::send(socket.as_fd(), &frame(US, kinds, &rest)).is_err() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
    });
    let seen = result.total.packets + result.malformed + result.dropped;
    // Beside a few of the kernels' own.
    assert!((FRAMES..FRAMES + 1000).contains(&seen), "{seen} of {FRAMES}");
    assert!(result.malformed > 1000 && (100..=4096).contains(&result.rows.len()), "{}", result.malformed);
    println!("{} malformed, {} rows, {} dropped", result.malformed, result.rows.len(), result.dropped);
}

#[test]
fn how_much_can_be_counted_is_told() {
    const DATAGRAMS: usize = 300_000;
    if !is_possible() {
        return;
    }
    let lan = Lan::new();
    let begun = Instant::now();
    let mut sent_in = Duration::ZERO;
    let result = lan.view(8000, &tap(Purpose::View), only(&[514]), || {
        lan.send(FAR, "192.0.2.2", "192.0.2.1:514", DATAGRAMS);
        sent_in = begun.elapsed();
    });
    let counted = packets(&of(&result, "192.0.2.2", 514));
    assert_eq!(counted + result.dropped, DATAGRAMS as u64, "what is not counted is told");
    println!("{DATAGRAMS} datagrams in {:.1} s: {counted} counted, {} dropped", sent_in.as_secs_f64(), result.dropped);
}

/// The frames of a capture file: time in nanoseconds, length on the wire, bytes.
fn read(file: &[u8]) -> Vec<(u64, u32, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 1));
    let (mut at, mut frames) = (24, Vec::new());
    while at < file.len() {
        let held = word(at + 8) as usize;
        let time = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4));
        frames.push((time, word(at + 12), file[at + 16..at + 16 + held].to_vec()));
        at += 16 + held;
    }
    frames
}

fn capture_order(for_ms: u32, packets: u64, bytes: u64, ports: &[u16]) -> CaptureOrder {
    CaptureOrder { for_ms, packets, bytes, meant: only(ports) }
}

#[test]
fn a_capture_is_what_tcpdump_would_have_written() {
    if !is_possible() || !is_installed("tcpdump") || !is_installed("tshark") {
        return;
    }
    let lan = Lan::new();
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours.pcap"), folder.path().join("theirs.pcap"));
    let words = "-i eth0 -Q in -U -s 2000 -B 65536 --immediate-mode --time-stamp-precision=nano -w";
    let tcpdump = Program::start(&lan, BOX, "tcpdump", &format!("{words} {}", theirs.display()));
    std::thread::sleep(Duration::from_millis(800));
    let (file, result) = lan.capture(&tap(Purpose::Capture), capture_order(2000, 10_000, 16 << 20, &[]), || {
        lan.send(FAR, "192.0.2.2", "192.0.2.1:514", 500);
        lan.send(FAR, "2001:db8::2", "[2001:db8::1]:162", 100);
        lan.inside(FAR, || {
            let (socket, _) = packet::talk("eth0").unwrap();
            for kinds in [&[0x81, 0, 0xe0, 7, 8, 0][..], &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0]] {
                packet::send(socket.as_fd(), &frame(US, kinds, &[&DATAGRAM[..], &[0; 1000]].concat())).unwrap();
            }
            // Longer than any Ethernet frame is not sent here; a full one is.
            packet::send(socket.as_fd(), &frame(US, &[8, 0], &[&DATAGRAM[..], &[7; 1468]].concat())).unwrap();
        });
    });
    tcpdump.end();
    std::fs::write(&ours, &file).unwrap();
    assert_eq!((result.dropped, result.cut, result.ended_by.as_str()), (0, 0, "time"));
    let (mine, others) = (read(&file), read(&std::fs::read(&theirs).unwrap()));
    assert_eq!(mine.len() as u64, result.packets);
    assert!(mine.len() >= 603, "{}", mine.len());
    // Byte for byte, to the nanosecond; each may have seen more before or after.
    let first = others.iter().position(|frame| *frame == mine[0]).expect("its first frame is there");
    for (n, (mine, theirs)) in mine.iter().zip(&others[first..]).enumerate() {
        assert_eq!(mine, theirs, "frame {n}");
    }
    assert!(others.len() - first >= mine.len());

    let told = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(&ours)
        .args([
            "-Y",
            "vlan",
            "-T",
            "fields",
            "-e",
            "ieee8021ad.id",
            "-e",
            "vlan.id",
            "-e",
            "udp.dstport",
            "-e",
            "frame.len",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(told.status.success() && lines.len() == 2, "{text}");
    assert!(lines[0].contains("7\t514\t1050") && lines[1].contains("514\t1054"), "{text}");
    assert!(lines[1].contains("100") && lines[1].contains('7'), "{text}");
    let told = Command::new("capinfos").arg("-c").arg(&ours).output().unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains(&result.packets.to_string()), "{told:?}");
}

#[test]
fn a_capture_ends_with_what_is_reached_first_and_keeps_no_more_of_a_frame_than_asked_for() {
    if !is_possible() {
        return;
    }
    let lan = Lan::new();
    let send = || lan.send(FAR, "192.0.2.2", "192.0.2.1:514", 200);
    let (file, result) = lan.capture(&tap(Purpose::Capture), capture_order(20_000, 25, 1 << 20, &[514]), send);
    assert_eq!((read(&file).len(), result.packets, result.ended_by.as_str()), (25, 25, "packets"));
    let (file, result) = lan.capture(&tap(Purpose::Capture), capture_order(20_000, 1000, 2000, &[514]), send);
    assert!(file.len() <= 2000 && result.packets > 10 && result.ended_by == "bytes", "{result:?}");
    let short = Tap { snap: Some(64), ..tap(Purpose::Capture) };
    let (file, result) = lan.capture(&short, capture_order(1500, 1000, 1 << 20, &[514]), || {
        lan.send(FAR, "192.0.2.2", "192.0.2.1:514", 10);
        lan.send(FAR, "192.0.2.2", "192.0.2.1:162", 10);
        lan.inside(FAR, || {
            let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
            socket.send_to(&[0; 900], "192.0.2.1:514").unwrap();
        });
    });
    assert!(read(&file).iter().all(|(_, _, bytes)| bytes.len() <= 64), "{result:?}");
    assert_eq!((result.packets, result.cut > 0), (11, true), "{result:?}");
    assert!(result.unmeant >= 10 && read(&file).iter().any(|(_, len, _)| *len == 942), "{result:?}");
}

#[test]
fn who_goes_away_ends_it_at_once() {
    if !is_possible() {
        return;
    }
    let lan = Lan::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let tapped = lan.inside(BOX, || {
        let (socket, link) = packet::listen(&tap(Purpose::View), HEADERS).unwrap();
        Tapped { socket, purpose: Purpose::View, link }
    });
    // For an hour, as ordered: nobody would wait for that.
    let order = Order::View(ViewOrder { for_ms: 3_600_000, meant: Meant::default() });
    std::thread::scope(|scope| {
        let run = scope.spawn(|| follow(&order, &tapped, &mut Session::new(ours).unwrap()));
        std::thread::sleep(Duration::from_millis(300));
        drop(theirs);
        assert!(run.join().unwrap().is_err());
    });
    // A socket is used for what it was made for alone.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let capture = Order::Capture(capture_order(1000, 10, 10_000, &[]));
    let refused = follow(&capture, &tapped, &mut Session::new(ours).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("to do something else"), "{refused}");
}

#[test]
fn gateways_and_addresses_that_two_have_are_found_as_arping_finds_them() {
    if !is_possible() {
        return;
    }
    let lan = Lan::new();
    let result = lan.check(
        &["192.0.2.1", "2001:db8::1"],
        &["192.0.2.2", "192.0.2.77", "2001:db8::2", "2001:db8::77"],
        false,
        2500,
    );
    let answers: Vec<bool> =
        result.gateways.iter().map(|asked| asked.holders.iter().any(|holder| holder.rtt_us.is_some())).collect();
    assert_eq!(answers, [true, false, true, false], "{result:?}");
    let far = Mac([2, 0, 0, 0, 0, 2]);
    assert!(result.gateways[0].holders[0].mac == far && result.gateways[2].holders[0].mac == far, "{result:?}");
    assert!(result.gateways[0].holders[0].rtt_us < Some(500_000), "{result:?}");
    assert_eq!(result.problems.len(), 2, "{:?}", result.problems);
    assert!(result.problems[0].contains("gateway 192.0.2.77 does not answer ARP"), "{:?}", result.problems);

    // The other machine takes the box's addresses.
    ip(&format!("-n {} addr add 192.0.2.1/24 dev eth0", lan.names[OTHER]));
    ip(&format!("-n {} addr add 2001:db8::1/64 dev eth0 nodad", lan.names[OTHER]));
    let result = lan.check(&["192.0.2.1", "2001:db8::1"], &["192.0.2.2"], false, 2500);
    for asked in &result.addresses {
        assert_eq!(
            asked.holders.iter().map(|holder| holder.mac).collect::<Vec<_>>(),
            [Mac([2, 0, 0, 0, 0, 3])],
            "{result:?}"
        );
    }
    assert_eq!(result.problems.len(), 2, "{:?}", result.problems);
    assert!(result.problems[0].contains("192.0.2.1 is this box's, and 02:00:00:00:00:03"), "{:?}", result.problems);
    if is_installed("arping") {
        let told = lan.command(BOX, "arping").args(["-0", "-c", "2", "-i", "eth0", "192.0.2.1"]).output().unwrap();
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(text.contains("02:00:00:00:00:03"), "{text}");
    }
    // Nobody's table holds anything that was not there: probes have no sender.
    let told = lan.command(OTHER, "ip").args(["neigh", "show", "192.0.2.1"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&told.stdout).contains("REACHABLE"), "{told:?}");
}

#[test]
fn all_servers_that_offer_addresses_are_found_and_two_are_too_many() {
    if !is_possible() || !is_installed("dnsmasq") {
        return;
    }
    let lan = Lan::new();
    let serve = |at: usize, range: &str, router: &str| {
        let lease = "/dev/null";
        let words = format!(
            "--keep-in-foreground --conf-file=/dev/null --port=0 --pid-file= --user=root --no-ping --dhcp-leasefile={lease} \
             --dhcp-authoritative --interface=eth0 --dhcp-range={range} --dhcp-option=3,{router} --dhcp-option=6,192.0.2.53"
        );
        Program::start(&lan, at, "dnsmasq", &words)
    };
    assert_eq!(lan.check(&[], &[], true, 1200).offers, [], "nobody serves yet");
    let _first = serve(FAR, "192.0.2.100,192.0.2.120,255.255.255.0,1h", "192.0.2.254");
    std::thread::sleep(Duration::from_millis(800));
    let result = lan.check(&[], &[], true, 3000);
    let [offer] = &result.offers[..] else { panic!("{result:?}") };
    assert_eq!((offer.server, offer.mac), ([192, 0, 2, 2].into(), Mac([2, 0, 0, 0, 0, 2])));
    assert_eq!((offer.lease_s, offer.mask), (Some(3600), Some([255, 255, 255, 0].into())));
    assert_eq!((&offer.gateways[..], &offer.dns[..]), (&[[192, 0, 2, 254].into()][..], &[[192, 0, 2, 53].into()][..]));
    assert!((100..=120).contains(&offer.address.octets()[3]) && result.problems.is_empty(), "{result:?}");

    let _second = serve(OTHER, "192.0.2.200,192.0.2.220,255.255.255.0,30m", "192.0.2.253");
    std::thread::sleep(Duration::from_millis(800));
    let result = lan.check(&[], &[], true, 3000);
    assert_eq!(result.offers.len(), 2, "{result:?}");
    assert!(result.problems[0].starts_with("2 DHCP servers offer addresses: "), "{:?}", result.problems);
    // Both were asked and nobody took anything.
    let told = lan.command(BOX, "ip").args(["addr", "show", "eth0"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&told.stdout).contains("192.0.2.1/24 brd 192.0.2.100"));
}
