//! A box at one end of a cable, and at the other an operations centre that is reached through a tunnel and in no other
//! way. What runs at the far end is real: Debian's openvpn, its proxies, rsyslog.

use crate::appliance::{Appliance, Plan, find, number, said, send_signal};
use crate::machine::{Cable, ip};
use crate::pki::Pki;
use crate::rsyslog::{self, Rsyslog};
use crate::{eventually, pause};
use raven_model::table::{Role, table};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// An address of the operations centre that lies behind the tunnel.
pub const CENTRE: &str = "10.20.0.1";
/// Its other one.
pub const CENTRE_V6: &str = "fd00:20::1";
/// An address at the far end of the cable to which the box has no route of its own: what a proxy reaches.
pub const BEYOND: &str = "203.0.113.7";

/// Whether all is there.
pub fn is_possible() -> bool {
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

/// A command in a network namespace, which says nothing.
pub fn command_in(name: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name, program]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A program at the far end; killed when dropped.
pub struct Program(Child);

impl Program {
    pub fn start(cable: &Cable, program: &str, arguments: &[&str]) -> Self {
        Self(command_in(&cable.names[1], program).args(arguments).spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Where a tunnel ends.
pub trait Far {
    /// Until it listens.
    fn start(&mut self);
    /// Its process.
    fn child(&mut self) -> &mut Option<Child>;

    /// At once, without a word to the box.
    fn kill(&mut self) {
        if let Some(mut child) = self.child().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// As an administrator does it.
    fn stop(&mut self) {
        send_signal(self.child().as_ref().unwrap().id(), Signal::TERM);
    }

    /// Waits for its end.
    fn ended(&mut self) {
        if let Some(mut child) = self.child().take() {
            child.wait().unwrap();
        }
    }

    /// The box is to get another address from it.
    fn give_another_address(&mut self) {}
}

/// A real server at the far end of the cable.
pub struct Server {
    name: String,
    device: String,
    pub arguments: Vec<String>,
    pub log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Listens at `port`; the tunnel is 10.8.`net`.0/24.
    pub fn new(venue: &Venue, device: &str, proto: &str, port: u16, net: u8, more: &[&str]) -> Self {
        let mut arguments = venue.pki.server(device, proto, port, net);
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        Self::with(venue, device, arguments)
    }

    /// With these options and no others.
    pub fn with(venue: &Venue, device: &str, arguments: Vec<String>) -> Self {
        let log = venue.pki.path(&format!("{device}.log"));
        let name = venue.cable.names[1].clone();
        let mut server = Self { name, device: device.to_owned(), arguments, log, child: None };
        server.start();
        server
    }
}

impl Far for Server {
    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = command_in(&self.name, "openvpn");
        self.child = Some(command.args(&self.arguments).stdout(log).spawn().unwrap());
        eventually(&format!("the server is up: {}", self.log.display()), || {
            let links =
                Command::new("ip").args(["-n", &self.name, "link", "show", &self.device, "up"]).output().unwrap();
            links.status.success() && !links.stdout.is_empty()
        });
    }

    fn child(&mut self) -> &mut Option<Child> {
        &mut self.child
    }

    fn give_another_address(&mut self) {
        let pool = self.arguments.iter().position(|word| word == "--ifconfig-pool").unwrap();
        "10.8.77.50".clone_into(&mut self.arguments[pool + 1]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Names and their addresses as the box alone knows them, and its name server, the far end of the cable: `ip netns exec` lays the
/// files over those of `/etc`.
struct Hosts(PathBuf);

impl Hosts {
    fn new(cable: &Cable) -> Self {
        let folder = Path::new("/etc/netns").join(&cable.names[0]);
        fs::create_dir_all(&folder).unwrap();
        let hosts = Self(folder);
        hosts.write("");
        fs::write(hosts.0.join("resolv.conf"), "nameserver 192.0.2.2\noptions timeout:1 attempts:2\n").unwrap();
        hosts
    }

    /// In its place: what was laid over it stays.
    fn write(&self, lines: &str) {
        fs::write(self.0.join("hosts"), format!("127.0.0.1 localhost\n{lines}\n")).unwrap();
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
        drop(fs::remove_dir("/etc/netns"));
    }
}

/// A box, a cable, and a receiver behind the tunnel.
pub struct Venue {
    pub raven: Appliance,
    pub noc: Rsyslog,
    pub pki: Pki,
    pub cable: Cable,
    hosts: Hosts,
    _keys: TempDir,
}

impl Venue {
    /// Without a tunnel.
    pub fn bare(test: &str) -> Self {
        Self::of(test, Plan::new())
    }

    /// The same, of this plan.
    pub fn of(test: &str, plan: Plan) -> Self {
        let keys = tempfile::Builder::new().prefix("raven-pki-").tempdir().unwrap();
        let pki = Pki::new(keys.path()).unwrap();
        let cable = Cable::new(test);
        let far = &cable.names[1];
        for address in [format!("{CENTRE}/32"), format!("{BEYOND}/32"), format!("{CENTRE_V6}/128 nodad")] {
            ip(&format!("-n {far} addr add {address} dev lo"));
        }
        // As the image has it.
        let sysctl = "net.ipv4.ping_group_range=61001 61999";
        let set = command_in(&cable.names[0], "sysctl").args(["-qw", sysctl]).status().unwrap();
        assert!(set.success(), "{sysctl}");
        let mut noc = Rsyslog::new();
        noc.start_in(far);
        let hosts = Hosts::new(&cable);
        let raven = cable.start(plan);
        Self { raven, noc, pki, cable, hosts, _keys: keys }
    }

    /// With a server and a profile that are to be the first tunnel; records are delivered through it.
    pub fn with(test: &str, proto: &str, more: &[&str], profile: &str) -> (Self, Server) {
        let venue = Self::bare(test);
        let server = Server::new(&venue, "tun7", proto, 1194, 77, more);
        venue.import("noc", profile);
        venue.enable("noc");
        venue.deliver();
        (venue, server)
    }

    pub fn import(&self, name: &str, lines: &str) {
        self.import_text(name, &self.pki.profile(lines).unwrap(), &[]);
    }

    /// With these arguments of `raven vpn import` beside it.
    pub fn import_text(&self, name: &str, text: &str, arguments: &[String]) {
        let file = self.pki.path("client.ovpn");
        fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let arguments = arguments.iter().map(String::as_str);
        let told = self.raven.raven(&["vpn", "import", name, &file].into_iter().chain(arguments).collect::<Vec<_>>());
        assert!(told.status.success(), "{}", said(&told));
    }

    pub fn enable(&self, name: &str) {
        let told = self.raven.raven(&["vpn", "enable", name]);
        assert!(told.status.success(), "{}", said(&told));
    }

    /// The receiver becomes a destination, by the tunnel alone.
    pub fn deliver(&self) {
        let uplink = self.noc.uplink("noc").replace("127.0.0.1", CENTRE) + "via = \"vpn\"\n";
        self.configure(|text| text + &uplink);
    }

    /// Changes the configuration.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let text = change(fs::read_to_string(self.raven.plan.config()).unwrap());
        let said = self.raven.ask(&[json!({ "put": { "text": text } })]);
        assert!(said["applied"].is_array(), "{said}");
    }

    /// What the names of these lines, as in `/etc/hosts`, stand for from now on.
    pub fn name(&self, lines: &str) {
        self.hosts.write(lines);
    }

    pub fn tunnel(&self, name: &str) -> Value {
        find(&self.raven.status()["vpn"], "name", name)
    }

    /// Waits until a tunnel is so.
    pub fn until_it(&self, name: &str, what: &str, mut is: impl FnMut(&Value) -> bool) {
        let mut last = Value::Null;
        eventually(&format!("{name} {what}"), || {
            let all = self.raven.status()["vpn"].clone();
            last = all.as_array().and_then(|all| all.iter().find(|t| t["name"] == name)).cloned().unwrap_or_default();
            is(&last)
        });
    }

    pub fn until(&self, name: &str, state: &str) {
        self.until_it(name, &format!("is {state}"), |tunnel| tunnel["state"] == state);
    }

    /// Down by that cause, or on its way again and told to have been: an attempt may take longer than the pause after it.
    pub fn until_cause(&self, name: &str, cause: &str) {
        self.until_it(name, &format!("is down by `{cause}`"), |tunnel| {
            let is_down = ["down", "connecting"].iter().any(|state| tunnel["state"] == *state);
            is_down && tunnel["cause"].as_str().is_some_and(|told| told.contains(cause))
        });
    }

    /// How long after `began` it was first noticed that a tunnel does not carry, by the box's own record of it: its status
    /// is a second old at times.
    pub fn lost_since(&self, name: &str, began: SystemTime) -> Duration {
        let began = began.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let events = self.raven.raven(&["vpn", "events", "--json"]);
        let events: Vec<Value> =
            said(&events).lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
        let lost = |event: &&Value| {
            let is_up = ["up", "degraded"].into_iter().any(|state| event["state"] == state);
            event["tunnel"] == name && !is_up && event["time_ns"].as_u64() >= Some(began)
        };
        let at = events.iter().find(lost).unwrap_or_else(|| panic!("no such event in {events:?}"));
        Duration::from_nanos(number(&at["time_ns"]) - began)
    }

    /// Something at the venue sends a message, by no cable that is looked at.
    pub fn send(&self, text: &str) {
        let to = self.raven.udp();
        self.cable.inside(|| {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(format!("<13>{text}").as_bytes(), to).unwrap();
        });
    }

    /// A role dies, and its successor goes on.
    pub fn survives(&self, role: &str) {
        let before = self.raven.process(role);
        self.raven.kill(role, Signal::KILL);
        self.raven.restarted(role, &before);
        self.until("noc", "up");
        self.send(&format!("after-{role}"));
        self.arrives(&format!("after-{role}"));
    }

    pub fn arrives(&self, text: &str) {
        eventually(&format!("{text} arrives"), || self.noc.received().contains(text));
    }

    /// The process of a tunnel by OpenVPN.
    pub fn openvpn(&self) -> u32 {
        let mut found = None;
        eventually("openvpn runs", || {
            found = self.carrier(Role::Openvpn, b"openvpn\0");
            found.is_some()
        });
        found.unwrap()
    }

    /// The process that carries the box's end of a tunnel by WireGuard, where the kernel does not.
    pub fn wireguard(&self) -> Option<u32> {
        self.carrier(Role::Wireguard, b"wireguard-go\0")
    }

    /// A child of this box's `ravend`: other tests may run beside this one.
    fn carrier(&self, role: Role, program: &[u8]) -> Option<u32> {
        let (uid, parent) = (table().spec(role).uid, format!("PPid:\t{}", self.raven.running.pid()));
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.into_iter().find(|pid: &u32| {
            fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == uid)
                && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(program))
                && fs::read_to_string(format!("/proc/{pid}/status"))
                    .is_ok_and(|status| status.lines().any(|line| line == parent))
        })
    }
}

/// Has the far end of the cable drop the tunnel's packets.
pub fn drop_packets(cable: &Cable, directions: &[&str]) {
    let nft = |line: &str| {
        let status = command_in(&cable.names[1], "nft").args(line.split(' ')).status().unwrap();
        assert!(status.success(), "nft {line}");
    };
    nft("add table inet lossy");
    nft("delete table inet lossy");
    for direction in directions {
        let (hook, port) = if *direction == "to the server" { ("input", "dport") } else { ("output", "sport") };
        nft("add table inet lossy");
        nft(&format!("add chain inet lossy {hook} {{ type filter hook {hook} priority 0 ; }}"));
        nft(&format!("add rule inet lossy {hook} th {port} 1194 drop"));
    }
}

/// All that passes on cables, as the far end sees it.
pub struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// On every device, also those that come later: a capture of one ends when that is off.
    pub fn new(venue: &Venue) -> Self {
        let file = venue.pki.path("all.pcap");
        let mut command = command_in(&venue.cable.names[1], "tshark");
        let child = command.args(["-q", "-i", "any", "-w"]).arg(&file).spawn().unwrap();
        eventually("the capture runs", || file.exists());
        pause(500);
        Self { child, file }
    }

    /// What of it should have gone through a tunnel: packets by their addresses, and records by what stands in each.
    pub fn end(mut self) -> String {
        pause(500);
        assert!(self.child.try_wait().unwrap().is_none(), "the capture ended by itself");
        send_signal(self.child.id(), Signal::INT);
        self.child.wait().unwrap();
        // Of Ethernet; tunnels and the loopback are of other kinds.
        let cables = self.file.with_extension("cables");
        let kept = Command::new("tshark")
            .args(["-Y", "sll.hatype == 1", "-r"])
            .arg(&self.file)
            .arg("-w")
            .arg(&cables)
            .output();
        assert!(kept.as_ref().unwrap().status.success(), "{}", said(&kept.unwrap()));
        let bytes = fs::read(&cables).unwrap();
        assert!(bytes.len() > 5000, "the capture saw next to nothing: {} bytes", bytes.len());
        let filter = "ip.addr == 10.20.0.0/16 || ip.addr == 10.8.0.0/16 || ipv6.addr == fd00::/8";
        let read = Command::new("tshark").args(["-Y", filter, "-r"]).arg(&cables).output().unwrap();
        assert!(read.status.success(), "{}", said(&read));
        let stands_in = |text: &&str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let readable = ["stream=\"", "raven-mark="].into_iter().filter(stands_in);
        String::from_utf8_lossy(&read.stdout).into_owned() + &readable.collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
