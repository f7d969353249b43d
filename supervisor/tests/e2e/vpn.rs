//! Tunnels by Debian's openvpn, between two network namespaces: the box at one end of a cable, its operations centre at
//! the other, reached through the tunnel and in no other way.

use crate::appliance::{Appliance, Plan, find, proc_text, said, sections};
use crate::machine::{Cable, ip};
use crate::pki::Pki;
use crate::rsyslog::{self, Rsyslog};
use crate::{eventually, pause, root_only};
use raven_model::table::{Role, table};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// An address of the operations centre that lies behind the tunnel.
const CENTRE: &str = "10.20.0.1";

/// Whether all is there.
fn is_possible() -> bool {
    let openvpn = Path::new("/usr/sbin/openvpn").exists();
    if !openvpn {
        eprintln!("not run: needs openvpn");
    }
    // udev makes it so where there is one.
    let tun = fs::set_permissions("/dev/net/tun", fs::Permissions::from_mode(0o666));
    if tun.is_err() {
        eprintln!("not run: needs /dev/net/tun");
    }
    openvpn && tun.is_ok() && rsyslog::is_installed()
}

fn pki() -> (TempDir, Pki) {
    let folder = tempfile::Builder::new().prefix("raven-pki-").tempdir().unwrap();
    let pki = Pki::new(folder.path()).unwrap();
    (folder, pki)
}

/// A real server at the far end of the cable.
struct Server {
    name: String,
    device: &'static str,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Listens at `port`; the tunnel is 10.8.`net`.0/24.
    fn new(cable: &Cable, pki: &Pki, device: &'static str, proto: &str, port: u16, net: u8, more: &[&str]) -> Self {
        let mut arguments = pki.server(device, proto, port, net);
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        let log = pki.path(&format!("{device}.log"));
        let mut server = Self { name: cable.names[1].clone(), device, arguments, log, child: None };
        server.start();
        server
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "openvpn"]).args(&self.arguments);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        eventually("the server is up", || {
            let links =
                Command::new("ip").args(["-n", &self.name, "link", "show", self.device, "up"]).output().unwrap();
            links.status.success() && !links.stdout.is_empty()
        });
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A box, a cable, a server, and a receiver behind the tunnel.
struct Venue {
    raven: Appliance,
    noc: Rsyslog,
    server: Server,
    pki: Pki,
    cable: Cable,
    _keys: TempDir,
}

impl Venue {
    fn new(test: &str, proto: &str, more: &[&str], profile: &str) -> Self {
        let (cable, (keys, pki)) = (Cable::new(test), pki());
        ip(&format!("-n {} addr add {CENTRE}/32 dev lo", cable.names[1]));
        // As the image has it.
        let sysctl = "net.ipv4.ping_group_range=61001 61999";
        let set =
            Command::new("ip").args(["netns", "exec", &cable.names[0], "sysctl", "-qw", sysctl]).status().unwrap();
        assert!(set.success(), "{sysctl}");
        let server = Server::new(&cable, &pki, "tun7", proto, 1194, 77, more);
        let mut noc = Rsyslog::new();
        noc.start_in(&cable.names[1]);
        let raven = cable.start(Plan { others: sections(&[]), ..Plan::new() });
        let venue = Self { raven, noc, server, pki, cable, _keys: keys };
        venue.import("noc", profile);
        let told = venue.raven.raven(&["vpn", "enable", "noc"]);
        assert!(told.status.success(), "{}", said(&told));
        venue.deliver();
        venue
    }

    fn import(&self, name: &str, lines: &str) {
        let file = self.pki.path("client.ovpn");
        fs::write(&file, self.pki.profile(lines).unwrap()).unwrap();
        let told = self.raven.raven(&["vpn", "import", name, &file.display().to_string()]);
        assert!(told.status.success(), "{}", said(&told));
    }

    /// The receiver becomes a destination, by the tunnel alone.
    fn deliver(&self) {
        let text = fs::read_to_string(self.raven.plan.config()).unwrap();
        let uplink = self.noc.uplink("noc").replace("127.0.0.1", CENTRE) + "via = \"vpn\"\n";
        let said = self.raven.ask(&[serde_json::json!({ "put": { "text": text + &uplink } })]);
        assert!(said["applied"].is_array(), "{said}");
    }

    fn tunnel(&self, name: &str) -> Value {
        find(&self.raven.status()["vpn"], "name", name)
    }

    fn until(&self, name: &str, state: &str) {
        eventually(&format!("{name} is {state}: {}", self.server.log.display()), || {
            let tunnel =
                self.raven.status()["vpn"].as_array().and_then(|all| all.iter().find(|t| t["name"] == name).cloned());
            tunnel.is_some_and(|tunnel| tunnel["state"] == state)
        });
    }

    /// A device sends a message from the far end of the cable.
    fn send(&self, text: &str) {
        let port = self.raven.plan.port;
        self.cable.outside(|| {
            UdpSocket::bind("0.0.0.0:0")
                .unwrap()
                .send_to(format!("<13>{text}").as_bytes(), ("192.0.2.1", port))
                .unwrap();
        });
    }

    fn arrives(&self, text: &str) {
        eventually(&format!("{text} arrives: {}", self.tunnel("noc")), || self.noc.received().contains(text));
    }

    /// The process of the tunnel.
    fn openvpn() -> u32 {
        let uid = table().spec(Role::Openvpn).uid;
        let mut found = None;
        eventually("openvpn runs", || {
            let pids =
                fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            found = pids.into_iter().find(|pid: &u32| {
                fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == uid)
                    && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"openvpn\0"))
            });
            found.is_some()
        });
        found.unwrap()
    }
}

/// What passes at the far end of the cable and is neither the tunnel itself nor a message to the box.
struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    fn new(cable: &Cable, pki: &Pki) -> Self {
        let file = pki.path("clear.pcap");
        let filter = format!("host {CENTRE} or net 10.8.0.0/16");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &cable.names[1], "tshark", "-q", "-i", "eth0", "-f", &filter, "-w"]).arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the capture runs", || file.exists());
        pause(500);
        Self { child, file }
    }

    /// Packets that were seen.
    fn end(mut self) -> String {
        pause(500);
        crate::appliance::send_signal(self.child.id(), Signal::INT);
        self.child.wait().unwrap();
        let read = Command::new("tshark").args(["-r"]).arg(&self.file).output().unwrap();
        String::from_utf8_lossy(&read.stdout).into_owned()
    }
}

#[test]
fn records_leave_through_the_tunnel_and_in_no_other_way() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::new("vpn", "udp", &[], "proto udp\nremote 192.0.2.2 1194");
    let capture = Capture::new(&venue.cable, &venue.pki);
    venue.until("noc", "up");
    let tunnel = venue.tunnel("noc");
    assert_eq!((&tunnel["carries"], &tunnel["server"]), (&Value::Bool(true), &Value::from("192.0.2.2")), "{tunnel}");
    assert_eq!(tunnel["addresses"], serde_json::json!(["10.8.77.2/24"]));
    venue.send("through-the-tunnel");
    venue.arrives("through-the-tunnel");

    // openvpn has no right, and none of what it needs is on disk or in its arguments.
    let pid = Venue::openvpn();
    let status = proc_text(pid, "status");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    let secret = fs::read_to_string(venue.pki.path("client.key")).unwrap();
    let secret = secret.lines().nth(1).unwrap();
    assert!(!proc_text(pid, "cmdline").contains(secret) && !proc_text(pid, "environ").contains(secret));
    let shown = said(&venue.raven.raven(&["vpn", "show", "noc"])) + &said(&venue.raven.raven(&["status", "--json"]));
    assert!(!shown.contains(secret) && !venue.raven.running.log().contains(secret));
    let stored = venue.raven.plan.data().join("vpn/noc/1");
    assert_eq!(fs::metadata(stored).unwrap().permissions().mode() & 0o777, 0o600);

    // The server dies. Records wait; nothing of them is seen on the cable in clear.
    let mut venue = venue;
    venue.server.kill();
    let killed = Instant::now();
    eventually("its loss is noticed", || venue.tunnel("noc")["carries"] == false);
    println!("the server was killed: noticed after {:.1} s", killed.elapsed().as_secs_f64());
    for n in 0..20 {
        venue.send(&format!("while-it-is-down-{n}"));
    }
    pause(3000);
    assert!(!venue.noc.received().contains("while-it-is-down"), "by which way?");
    venue.server.start();
    let back = Instant::now();
    venue.until("noc", "up");
    println!("the server is back: up after {:.1} s", back.elapsed().as_secs_f64());
    for n in 0..20 {
        venue.arrives(&format!("while-it-is-down-{n}"));
    }
    println!("all of it arrived after {:.1} s", back.elapsed().as_secs_f64());
    // A new version of a profile in use takes its place; what is received meanwhile waits.
    venue.import("noc", "proto udp\nremote 192.0.2.2 1194\nverb 4");
    assert!(fs::read_to_string(venue.raven.plan.config()).unwrap().contains("version = 2"));
    venue.send("by-the-second-version");
    venue.arrives("by-the-second-version");
    let seen = capture.end();
    assert_eq!(seen, "", "outside of the tunnel");
}

/// Has the far end of the cable drop the tunnel's packets.
fn drop_packets(venue: &Venue, directions: &[&str]) {
    let nft = |line: &str| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &venue.cable.names[1], "nft"]).args(line.split(' '));
        assert!(command.status().unwrap().success(), "nft {line}");
    };
    nft("add table inet lossy");
    nft("delete table inet lossy");
    for direction in directions {
        let (hook, port) = if *direction == "to the server" { ("input", "dport") } else { ("output", "sport") };
        nft("add table inet lossy");
        nft(&format!("add chain inet lossy {hook} {{ type filter hook {hook} priority 0 ; }}"));
        nft(&format!("add rule inet lossy {hook} udp {port} 1194 drop"));
    }
}

#[test]
fn a_way_that_is_dead_in_one_direction_or_both_is_noticed_and_used_again_when_it_lives() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::new("vpnloss", "udp", &[], "proto udp\nremote 192.0.2.2 1194");
    for (n, dead) in
        [&["to the server"][..], &["from the server"], &["to the server", "from the server"]].iter().enumerate()
    {
        venue.until("noc", "up");
        eventually("a ping is answered", || venue.tunnel("noc")["rtt_ms"].is_number());
        drop_packets(&venue, dead);
        let began = Instant::now();
        eventually("the loss is noticed", || venue.tunnel("noc")["carries"] == false);
        println!("dropped {}: noticed after {:.1} s", dead.join(" and "), began.elapsed().as_secs_f64());
        venue.send(&format!("while-it-is-dead-{n}"));
        pause(1000);
        drop_packets(&venue, &[]);
        let healed = Instant::now();
        venue.arrives(&format!("while-it-is-dead-{n}"));
        println!("healed: delivered after {:.1} s", healed.elapsed().as_secs_f64());
    }
}

#[test]
fn openvpn_net_and_vpn_may_die_hang_and_come_back() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::new("vpnkill", "tcp-server", &[], "proto tcp\nremote 192.0.2.2 1194");
    venue.until("noc", "up");
    eventually("a ping is answered", || venue.tunnel("noc")["rtt_ms"].is_number());
    let first = Venue::openvpn();
    crate::appliance::send_signal(first, Signal::KILL);
    eventually("another openvpn runs", || Venue::openvpn() != first);
    venue.until("noc", "up");
    venue.send("after-the-kill");
    venue.arrives("after-the-kill");
    // One that stands still is found out by what does not come through, and begun anew.
    let second = Venue::openvpn();
    crate::appliance::send_signal(second, Signal::STOP);
    eventually("the one that stood still is gone", || Venue::openvpn() != second);
    venue.until("noc", "up");
    for role in ["net", "vpn"] {
        let before = venue.raven.process(role);
        venue.raven.kill(role, Signal::KILL);
        venue.raven.restarted(role, &before);
        venue.until("noc", "up");
        venue.send(&format!("after-{role}"));
        venue.arrives(&format!("after-{role}"));
    }
}

#[test]
fn what_a_server_pushes_is_limited_and_told() {
    root_only!();
    if !is_possible() {
        return;
    }
    let pushes = [
        "--push",
        "redirect-gateway def1",
        "--push",
        "route 192.0.2.0 255.255.255.0",
        "--push",
        "route 0.0.0.0 0.0.0.0",
        "--push",
        "dhcp-option DNS 10.20.0.53",
        "--push",
        "route 10.99.0.0 255.255.0.0",
        "--push",
        "setenv FOO bar",
    ];
    let venue = Venue::new("vpnpush", "udp", &pushes, "proto udp\nremote 192.0.2.2 1194");
    venue.until("noc", "up");
    let tunnel = venue.tunnel("noc");
    let refused = tunnel["refused"].to_string();
    for refusal in ["192.0.2.0/24", "0.0.0.0/0", "redirect-gateway def1", "setenv FOO bar"] {
        assert!(refused.contains(refusal), "{refusal}: {tunnel}");
    }
    assert_eq!(tunnel["dns"], serde_json::json!(["10.20.0.53"]));
    let routes = Command::new("ip").args(["-n", &venue.cable.names[0], "route", "get", "192.0.2.2"]).output().unwrap();
    assert!(String::from_utf8_lossy(&routes.stdout).contains("dev eth0"), "{routes:?}");
    let resolv =
        Command::new("ip").args(["-n", &venue.cable.names[0], "route", "get", "203.0.113.9"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&resolv.stdout).contains("vpn-noc"), "all traffic goes through the tunnel");
    venue.send("past-the-pushes");
    venue.arrives("past-the-pushes");
}

#[test]
fn the_next_profile_carries_when_one_dies_and_the_first_again_later() {
    root_only!();
    if !is_possible() {
        return;
    }
    let mut venue = Venue::new("vpnfail", "udp", &[], "proto udp\nremote 192.0.2.2 1194");
    let _second = Server::new(&venue.cable, &venue.pki, "tun8", "udp", 1195, 78, &[]);
    venue.import("backup", "proto udp\nremote 192.0.2.2 1195");
    let told = venue.raven.raven(&["vpn", "enable", "backup"]);
    assert!(told.status.success(), "{}", said(&told));
    venue.until("noc", "up");
    assert_eq!(venue.tunnel("backup")["state"], "off");
    venue.server.kill();
    let killed = Instant::now();
    eventually("the backup carries", || venue.tunnel("backup")["carries"] == true);
    println!("the first server was killed: the second carries after {:.1} s", killed.elapsed().as_secs_f64());
    venue.send("by-the-backup");
    venue.arrives("by-the-backup");
    venue.server.start();
    eventually("the first carries again", || venue.tunnel("noc")["carries"] == true);
    venue.send("by-the-first");
    venue.arrives("by-the-first");
    let events = said(&venue.raven.raven(&["vpn", "events"]));
    assert!(events.contains("backup") && (events.contains("half-open") || events.contains("down")), "{events}");
}

#[test]
fn a_profile_that_runs_programs_is_refused_with_its_line() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (raven, (_keys, pki)) = (Appliance::start(), pki());
    let file = pki.path("evil.ovpn");
    let marker = pki.path("ran");
    let line = format!("script-security 2\nup \"/usr/bin/touch {}\"", marker.display());
    fs::write(&file, pki.profile(&format!("proto udp\nremote 192.0.2.2 1194\n{line}")).unwrap()).unwrap();
    let file = file.display().to_string();
    for command in [vec!["vpn", "check", &file], vec!["vpn", "import", "evil", &file]] {
        let told = raven.raven(&command);
        assert_eq!(told.status.code(), Some(1), "{}", said(&told));
        assert!(said(&told).contains("line 8") && said(&told).contains("refused"), "{}", said(&told));
    }
    assert!(!marker.exists());
    assert!(!said(&raven.raven(&["vpn", "list"])).contains("evil"));
    // Left out on purpose it is taken, and exported as it would be run.
    let told = raven.raven(&["vpn", "import", "noc", &file, "--without", "7", "--without", "8"]);
    assert!(told.status.success(), "{}", said(&told));
    let exported = said(&raven.raven(&["vpn", "export", "noc"]));
    assert!(exported.contains("remote 192.0.2.2 1194") && !exported.contains("touch"), "{exported}");
    let told = raven.raven(&["vpn", "remove", "noc"]);
    assert!(told.status.success(), "{}", said(&told));
    assert!(!raven.plan.data().join("vpn/noc/1").exists());
}
