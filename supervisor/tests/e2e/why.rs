//! Faults are planted, one at a time, and `raven why` names the first rung that is broken by each, and what to do.

use crate::appliance::{Plan, said, sections};
use crate::machine::ip;
use crate::venue::{Far as _, Program, Venue, command_in, is_possible};
use crate::{pause, root_only};
use rustix::process::Signal;
use serde_json::Value;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// So long a fault may take to show.
const PATIENCE: Duration = Duration::from_secs(40);

/// What `raven why` says.
fn why(venue: &Venue, words: &[&str]) -> Value {
    let told = venue.raven.raven(&[&["why", "--json"], words].concat());
    serde_json::from_slice(&told.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&told)))
}

fn first_broken(ladder: &Value) -> Value {
    ladder["first_broken"].as_u64().map_or(Value::Null, |index| ladder["rungs"][index as usize].clone())
}

/// The first rung that is broken is this, for this reason, and this is to be done.
fn names(venue: &Venue, fault: &str, (rung, reason, remedy): (&str, &str, &str)) {
    let patience = Instant::now() + PATIENCE;
    loop {
        let ladder = why(venue, &[]);
        let broken = first_broken(&ladder);
        let evidence = broken["evidence"].to_string();
        let is_named = broken["name"] == rung && evidence.contains(reason);
        if is_named && broken["remedy"].as_str().is_some_and(|told| told.contains(remedy)) {
            println!("{fault}: {rung} {}: {evidence} -> {}", broken["subject"], broken["remedy"]);
            return;
        }
        assert!(Instant::now() < patience, "{fault}: {rung} is not named for `{reason}` with `{remedy}`: {ladder:#}");
        pause(500);
    }
}

/// Nothing is broken.
fn is_well(venue: &Venue) {
    let patience = Instant::now() + PATIENCE;
    loop {
        let ladder = why(venue, &[]);
        if ladder["well"] == true {
            return;
        }
        assert!(Instant::now() < patience, "{ladder:#}");
        pause(500);
    }
}

/// Packets that come in here and of which this is true are dropped; with nothing: none any more.
fn drops(name: &str, which: &str) {
    nft(name, "inet", "type filter hook input priority 0 ;", which);
}

fn nft(name: &str, family: &str, hook: &str, which: &str) {
    let nft =
        |line: &str| assert!(command_in(name, "nft").args(line.split(' ')).status().unwrap().success(), "nft {line}");
    nft(&format!("add table {family} fault"));
    nft(&format!("delete table {family} fault"));
    if !which.is_empty() {
        nft(&format!("add table {family} fault"));
        nft(&format!("add chain {family} fault wall {{ {hook} }}"));
        nft(&format!("add rule {family} fault wall {which} drop"));
    }
}

/// A time server whose clock is off by so many seconds; stops when dropped.
struct Clock {
    off: Arc<AtomicI64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Clock {
    fn start(venue: &Venue) -> Self {
        let socket = venue.cable.outside(|| UdpSocket::bind("192.0.2.2:123").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (off, ends) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut clock = Self { off: Arc::clone(&off), ends: Arc::clone(&ends), thread: None };
        let serve = move || {
            let mut query = [0; 512];
            while !ends.load(Ordering::Relaxed) {
                let Ok((48.., from)) = socket.recv_from(&mut query) else { continue };
                drop(socket.send_to(&answer(&query, off.load(Ordering::Relaxed)), from));
            }
        };
        clock.thread = Some(std::thread::spawn(serve));
        clock
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// RFC 5905, 7.3: stratum 1, by GPS.
fn answer(query: &[u8], off: i64) -> Vec<u8> {
    let since_1900 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_hours(613_608);
    let seconds = (since_1900.as_secs().cast_signed() + off) as u32;
    let now = [
        seconds.to_be_bytes(),
        (((u64::from(since_1900.subsec_nanos())) << 32) / 1_000_000_000).to_be_bytes()[4..].try_into().unwrap(),
    ]
    .concat();
    let mut answer = vec![0x24, 1, 6, 0xec];
    answer.extend([0; 8]);
    answer.extend(b"GPS\0");
    answer.extend(&now);
    answer.extend(&query[40..48]);
    answer.extend(&now);
    answer.extend(&now);
    answer
}

/// The far end of the cable is the gateway, name server and time server; behind it is the receiver.
struct Site {
    venue: Venue,
    clock: Clock,
    names: Option<Program>,
}

/// A name server with these records and no others.
fn name_server(venue: &Venue, records: &[&str]) -> Program {
    let fixed = [
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--local=/example/",
    ];
    let server = Program::start(&venue.cable, "dnsmasq", &[&fixed[..], records].concat());
    pause(300);
    server
}

const KNOWN: [&str; 1] = ["--host-record=noc.example,203.0.113.7"];

fn site(test: &str) -> Site {
    let alert = "[alert.source_silent]\nafter = \"2s\"\nregular = \"3s\"".to_owned();
    let plan = Plan { alert: format!("enabled = true\n{alert}"), others: sections(&[]), ..Plan::new() };
    let venue = Venue::of(test, plan);
    ip(&format!("-n {} route add default via 192.0.2.2", venue.cable.names[0]));
    let names = name_server(&venue, &KNOWN);
    let clock = Clock::start(&venue);
    let uplink = venue.noc.uplink("noc").replace("127.0.0.1", "noc.example");
    venue.configure(|text| format!("{text}{uplink}[system]\nntp = [\"192.0.2.2\"]\n"));
    venue.send("the-first");
    venue.arrives("the-first");
    Site { venue, clock, names: Some(names) }
}

#[test]
fn faults_of_the_cable_addresses_gateways_names_and_the_clock_are_named() {
    root_only!();
    if !is_possible() {
        return;
    }
    let Site { venue, clock, names: mut server } = site("whynet");
    let [near, far] = &venue.cable.names;
    is_well(&venue);
    let text = said(&venue.raven.raven(&["why"]));
    assert!(text.starts_with("test: nothing is broken"), "{text}");
    println!("{text}");

    ip(&format!("-n {far} link set eth0 down"));
    names(&venue, "cable out", ("link", "no link on eth0", "plug in the cable"));
    let told = venue.raven.raven(&["why"]);
    assert_eq!(told.status.code(), Some(1));
    println!("{}", said(&told));
    ip(&format!("-n {far} link set eth0 up"));

    ip(&format!("-n {near} link set eth0 down"));
    names(&venue, "turned off", ("link", "eth0 is turned off", "turn it on"));
    ip(&format!("-n {near} link set eth0 up"));
    ip(&format!("-n {near} addr add 2001:db8::1/64 dev eth0 nodad"));

    // The switch's port takes tagged frames alone.
    ip(&format!("-n {near} route replace default via 192.0.2.2"));
    nft(far, "netdev", "type filter hook ingress device eth0 priority 0 ;", "ether type != 8021q");
    ip(&format!("-n {near} neigh flush dev eth0"));
    names(&venue, "wrong VLAN", ("gateway", "192.0.2.2 does not answer ARP", "right VLAN"));
    nft(far, "netdev", "", "");
    ip(&format!("-n {far} addr del 192.0.2.2/24 dev eth0"));
    ip(&format!("-n {near} neigh flush dev eth0"));
    names(&venue, "gateway silent", ("gateway", "192.0.2.2 does not answer ARP", "is the gateway up"));
    ip(&format!("-n {far} addr add 192.0.2.2/24 dev eth0"));

    ip(&format!("-n {near} route del default"));
    names(&venue, "no default route", ("gateway", "no default route", "give the link its gateway"));
    let looking = std::thread::scope(|scope| {
        let looking = scope.spawn(|| why(&venue, &[]));
        pause(1000);
        ip(&format!("-n {near} route add default via 192.0.2.2"));
        looking.join().unwrap()
    });
    let is_gateway = |rung: &&Value| rung["name"] == "gateway";
    let gateway = looking["rungs"].as_array().unwrap().iter().find(is_gateway).unwrap();
    assert_eq!(gateway["state"], "ok", "it came while others were asked: {gateway}");

    ip(&format!("-n {near} addr flush dev eth0"));
    names(&venue, "no address", ("address", "no address", "give the link an address"));
    ip(&format!("-n {near} addr add 192.0.2.1/24 dev eth0"));
    // Addresses of IPv6 went with the link.
    ip(&format!("-n {far} addr replace 2001:db8::2/64 dev eth0 nodad"));
    ip(&format!("-n {near} addr add 2001:db8::2/64 dev eth0"));
    names(&venue, "duplicate address", ("address", "another machine has 2001:db8::2 too", "another"));
    ip(&format!("-n {near} addr del 2001:db8::2/64 dev eth0"));
    ip(&format!("-n {near} route replace default via 192.0.2.2"));
    is_well(&venue);
    ip(&format!("-n {far} addr add 192.0.2.1/32 dev lo"));
    names(&venue, "duplicate address, IPv4", ("address", " has 192.0.2.1 too", "the switch knows"));
    ip(&format!("-n {far} addr del 192.0.2.1/32 dev lo"));
    is_well(&venue);

    drop(server.take());
    drops(far, "udp dport 53");
    names(&venue, "name server silent", ("dns", "no name server answers", "port 53"));
    drops(far, "");
    let wrong = name_server(&venue, &["--host-record=other.example,203.0.113.7"]);
    names(&venue, "name not known", ("dns", "do not know the name", "written as it should be"));
    drop(wrong);
    let _names = name_server(&venue, &KNOWN);

    clock.off.store(3600, Ordering::Relaxed);
    names(&venue, "clock off", ("clock", "3600 s behind", "let the clock be set"));
    clock.off.store(0, Ordering::Relaxed);
    is_well(&venue);
}

#[test]
fn faults_of_the_far_end_are_named() {
    root_only!();
    if !is_possible() {
        return;
    }
    let Site { mut venue, names: _names, clock: _clock } = site("whyfar");
    let far = venue.cable.names[1].clone();
    is_well(&venue);

    drops(&far, "tcp dport 1024-65535");
    names(&venue, "endpoint blocked", ("connection", "timeout", "a firewall on the way"));
    drops(&far, "");
    is_well(&venue);

    venue.noc.signal(Signal::STOP);
    venue.send("while-it-is-full");
    names(&venue, "receiver takes nothing", ("acknowledgement", "1 records behind", ""));
    venue.noc.signal(Signal::CONT);
    venue.arrives("while-it-is-full");
    is_well(&venue);

    let held = venue.raven.raven(&["uplink", "pause", "noc"]);
    assert!(held.status.success(), "{}", said(&held));
    names(&venue, "held by an operator", ("acknowledgement", "paused", "raven uplink resume noc"));
    assert!(venue.raven.raven(&["uplink", "resume", "noc"]).status.success());
    is_well(&venue);

    venue.noc.stop();
    venue.send("while-it-is-off");
    names(&venue, "receiver stopped", ("connection", "refused", "nobody listens there"));
    venue.noc.start_in(&far);
    venue.arrives("while-it-is-off");
    is_well(&venue);

    let folder = tempfile::tempdir().unwrap();
    let web = "[uplink.web]\nkind = \"http\"\nto = \"https://noc.example:8443/in\"\nstreams = [\"syslog\"]\n";
    venue.configure(|text| text + web);
    for (fault, name, days, expected) in [
        ("certificate expired", "noc.example", "-1", ("tls", "expired", "renew its certificate")),
        ("certificate of another name", "other.example", "9", ("tls", "noc.example", "name it as in the certificate")),
        ("certificate of nobody", "noc.example", "9", ("tls", "signed by itself", "name the authority")),
    ] {
        let _server = tls_server(&venue, folder.path(), name, days);
        names(&venue, fault, expected);
    }
}

/// A TLS server with a certificate of this name that ends in so many days.
fn tls_server(venue: &Venue, folder: &Path, name: &str, days: &str) -> Program {
    let openssl = |words: &str| {
        let done = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", said(&done));
    };
    std::fs::write(folder.join("names"), format!("subjectAltName=DNS:{name}\n")).unwrap();
    openssl(&format!(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout key.pem -out request"
    ));
    openssl(&format!("x509 -req -in request -signkey key.pem -days {days} -extfile names -out own.pem"));
    let words = format!("s_server -accept 8443 -cert {0}/own.pem -key {0}/key.pem -quiet", folder.display());
    let server = Program::start(&venue.cable, "openssl", &words.split(' ').collect::<Vec<_>>());
    pause(300);
    server
}

#[test]
fn faults_of_a_tunnel_are_named() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, mut server) = Venue::with("whyvpn", "udp", &[], "proto udp\nremote 192.0.2.2 1194");
    let far = venue.cable.names[1].clone();
    venue.send("through-it");
    venue.arrives("through-it");
    is_well(&venue);

    // Its own packets go through, and nothing of what they carry.
    drops(&far, "iifname \"tun7\"");
    names(&venue, "half-open tunnel", ("tunnel", "noc is ", "nothing comes back"));
    drops(&far, "");
    is_well(&venue);

    drops(&far, "udp dport 1194");
    names(&venue, "tunnel's server silent", ("tunnel", "noc is ", "raven trace SERVER"));
    drops(&far, "");
    is_well(&venue);

    server.kill();
    names(&venue, "tunnel's server away", ("tunnel", "noc is down: the server refuses connections", "nobody listens"));
    server.start();
    is_well(&venue);

    assert!(venue.raven.raven(&["vpn", "disconnect", "noc"]).status.success());
    names(&venue, "turned off by hand", ("tunnel", "noc is off", "raven vpn connect"));
    assert!(venue.raven.raven(&["vpn", "connect", "noc"]).status.success());
    is_well(&venue);
}

#[test]
fn faults_on_the_way_in_are_named() {
    root_only!();
    if !is_possible() {
        return;
    }
    let Site { venue, names: _names, clock: _clock } = site("whyin");
    is_well(&venue);
    let to = venue.raven.udp();
    let regular = |seconds: u64| {
        venue.cable.outside(|| {
            let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
            let until = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < until {
                socket.send_to(b"<13>regular", ("192.0.2.1", to.port())).unwrap();
                pause(200);
            }
        });
    };
    regular(5);
    names(&venue, "exporter silent", ("sender", "192.0.2.2 has sent no syslog for", "is it up"));
    let told = said(&venue.raven.raven(&["why", "--all", "--sender", "192.0.2.2"]));
    assert!(told.contains("ok      sender 192.0.2.2: syslog: "), "{told}");
    let told = said(&venue.raven.raven(&["why", "--sender", "192.0.2.77"]));
    assert!(told.contains("nothing of it was stored"), "{told}");
    regular(1);
    is_well(&venue);

    let steady = |port: u16, check: &dyn Fn()| {
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                venue.cable.outside(|| {
                    let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
                    let until = Instant::now() + 2 * PATIENCE;
                    while !ends.load(Ordering::Relaxed) && Instant::now() < until {
                        socket.send_to(b"<13>steady", ("192.0.2.1", port)).unwrap();
                        pause(50);
                    }
                });
            });
            check();
            ends.store(true, Ordering::Relaxed);
        });
    };
    steady(1514, &|| {
        names(&venue, "exporter on the wrong port", ("wire", "nobody listens at UDP 1514", "where somebody listens"));
    });
    drops(&venue.cable.names[0], &format!("udp dport {}", to.port()));
    steady(to.port(), &|| names(&venue, "firewall of the box", ("wire", "192.0.2.2", "this box's firewall")));
    drops(&venue.cable.names[0], "");
    regular(1);
    is_well(&venue);

    // The collector is held, and more comes than its socket takes.
    let pid = venue.raven.process("syslog")["pid"].as_u64().unwrap() as u32;
    crate::appliance::send_signal(pid, Signal::STOP);
    let flood = || {
        venue.cable.outside(|| {
            let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
            let until = Instant::now() + Duration::from_secs(6);
            while Instant::now() < until {
                (0..2000).for_each(|_| drop(socket.send_to(&[b'x'; 1000], ("192.0.2.1", to.port()))));
                pause(50);
            }
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(flood);
        names(&venue, "datagrams dropped by the kernel", ("receive", "socket buffer", "receive_buffer"));
    });
    crate::appliance::send_signal(pid, Signal::CONT);
}
