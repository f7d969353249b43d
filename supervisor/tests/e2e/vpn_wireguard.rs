//! Tunnels by WireGuard to Debian's wireguard-go, between two network namespaces. The box carries its end by wireguard-go
//! too where this kernel has no WireGuard.

use crate::appliance::{Appliance, Plan, proc_text, said, send_signal};
use crate::machine::{Cable, ip};
use crate::rsyslog::{self, Rsyslog};
use crate::{eventually, pause, root_only};
use raven_model::table::{Role, table};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
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
    let programs = ["/usr/bin/wireguard-go", "/usr/bin/wg"].iter().all(|program| Path::new(program).exists());
    if !programs {
        eprintln!("not run: needs wireguard-go and wireguard-tools");
    }
    // udev makes it so where there is one.
    let tun = fs::set_permissions("/dev/net/tun", fs::Permissions::from_mode(0o666));
    if tun.is_err() {
        eprintln!("not run: needs /dev/net/tun");
    }
    programs && tun.is_ok() && rsyslog::is_installed()
}

/// `wg genkey` and the like.
fn wg(verb: &str, input: &str) -> String {
    let mut command = Command::new("wg");
    let mut child = command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

/// The far end: at 10.9.0.1, whose peer is 10.9.0.2.
struct Far {
    name: String,
    device: String,
    config: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Far {
    fn start(&mut self) {
        let socket = Path::new("/run/wireguard").join(format!("{}.sock", self.device));
        // Of one that was killed.
        let _ = fs::remove_file(&socket);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "wireguard-go", "-f", &self.device]).env("LOG_LEVEL", "error");
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        eventually("the far end takes orders", || socket.exists());
        let set = Command::new("wg").args(["setconf", &self.device]).arg(&self.config).status().unwrap();
        assert!(set.success());
        ip(&format!("-n {} addr add 10.9.0.1/24 dev {}", self.name, self.device));
        ip(&format!("-n {} link set {} up", self.name, self.device));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_file(Path::new("/run/wireguard").join(format!("{}.sock", self.device)));
    }
}

/// A box, a cable, a far end, and a receiver behind the tunnel.
struct Venue {
    raven: Appliance,
    noc: Rsyslog,
    far: Far,
    cable: Cable,
    secret: String,
    folder: TempDir,
}

impl Venue {
    /// The far end is looked for at `endpoint`.
    fn new(test: &str, endpoint: &str) -> Self {
        let cable = Cable::new(test);
        let folder = tempfile::Builder::new().prefix("raven-wg-").tempdir().unwrap();
        ip(&format!("-n {} addr add {CENTRE}/32 dev lo", cable.names[1]));
        let sysctl = "net.ipv4.ping_group_range=61001 61999";
        let set =
            Command::new("ip").args(["netns", "exec", &cable.names[0], "sysctl", "-qw", sysctl]).status().unwrap();
        assert!(set.success(), "{sysctl}");
        let (server, client, shared) = (wg("genkey", ""), wg("genkey", ""), wg("genpsk", ""));
        let config = folder.path().join("far.conf");
        let client_public = wg("pubkey", &client);
        let port = 51820;
        let text = format!(
            "[Interface]\nPrivateKey = {server}\nListenPort = {port}\n[Peer]\nPublicKey = {client_public}\nPresharedKey = {shared}\nAllowedIPs = 10.9.0.2/32\n"
        );
        fs::write(&config, text).unwrap();
        let device = format!("wgfar{}", std::process::id() % 100_000);
        let mut far = Far { name: cable.names[1].clone(), device, config, port, child: None };
        far.start();
        let mut noc = Rsyslog::new();
        noc.start_in(&cable.names[1]);
        let vpn = "[vpn]\nnetworks = [\"10.20.0.0/16\"]\n".to_owned();
        let raven = cable.start(Plan { others: vpn, ..Plan::new() });
        let profile = format!(
            "[Interface]\nPrivateKey = {client}\nAddress = 10.9.0.2/24\n[Peer]\nPublicKey = {}\nPresharedKey = {shared}\nAllowedIPs = 10.9.0.1/32, 10.20.0.0/16\nEndpoint = {endpoint}\n",
            wg("pubkey", &server)
        );
        let file = folder.path().join("client.conf");
        fs::write(&file, profile).unwrap();
        let venue = Self { raven, noc, far, cable, secret: client, folder };
        for words in [&["vpn", "import", "noc", &file.display().to_string()][..], &["vpn", "enable", "noc"]] {
            let told = venue.raven.raven(words);
            assert!(told.status.success(), "{}", said(&told));
        }
        venue.deliver();
        venue
    }

    /// The receiver becomes a destination, by the tunnel alone.
    fn deliver(&self) {
        let text = fs::read_to_string(self.raven.plan.config()).unwrap();
        let uplink = self.noc.uplink("noc").replace("127.0.0.1", CENTRE) + "via = \"vpn\"\n";
        let said = self.raven.ask(&[serde_json::json!({ "put": { "text": text + &uplink } })]);
        assert!(said["applied"].is_array(), "{said}");
    }

    fn tunnel(&self) -> Value {
        let status = self.raven.status();
        let tunnels = status["vpn"].as_array().cloned().unwrap_or_default();
        tunnels.into_iter().find(|tunnel| tunnel["name"] == "noc").unwrap_or_default()
    }

    fn until(&self, state: &str) {
        let mut last = Value::Null;
        let patience = Instant::now() + std::time::Duration::from_mins(1);
        while last["state"] != state {
            assert!(Instant::now() < patience, "never {state}: {last}");
            pause(50);
            last = self.tunnel();
        }
    }

    /// A device sends a message from the far end of the cable.
    fn send(&self, text: &str) {
        let port = self.raven.plan.port;
        self.cable.outside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(format!("<13>{text}").as_bytes(), ("192.0.2.1", port)).unwrap();
        });
    }

    fn arrives(&self, text: &str) {
        eventually(&format!("{text} arrives: {}", self.tunnel()), || self.noc.received().contains(text));
    }

    /// The process that carries the box's end.
    fn program() -> Option<u32> {
        let uid = table().spec(Role::Wireguard).uid;
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.into_iter().find(|pid: &u32| {
            fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == uid)
                && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"wireguard-go\0"))
        })
    }

    /// Has the far end of the cable drop the tunnel's packets.
    fn drop_packets(&self, directions: &[&str]) {
        let nft = |line: &str| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &self.cable.names[1], "nft"]).args(line.split(' '));
            assert!(command.status().unwrap().success(), "nft {line}");
        };
        nft("add table inet lossy");
        nft("delete table inet lossy");
        for direction in directions {
            let (hook, port) = if *direction == "to the server" { ("input", "dport") } else { ("output", "sport") };
            nft("add table inet lossy");
            nft(&format!("add chain inet lossy {hook} {{ type filter hook {hook} priority 0 ; }}"));
            nft(&format!("add rule inet lossy {hook} udp {port} {} drop", self.far.port));
        }
    }
}

#[test]
fn records_leave_through_wireguard_and_in_no_other_way() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::new("wg", "192.0.2.2:51820");
    let file = venue.folder.path().join("clear.pcap");
    let mut command = Command::new("ip");
    let filter = format!("host {CENTRE} or net 10.9.0.0/16");
    command
        .args(["netns", "exec", &venue.cable.names[1], "tshark", "-q", "-i", "eth0", "-f", &filter, "-w"])
        .arg(&file);
    let mut capture = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the capture runs", || file.exists());
    venue.until("up");
    eventually("a ping is answered", || venue.tunnel()["rtt_ms"].is_number());
    venue.send("through-the-tunnel");
    venue.arrives("through-the-tunnel");
    let tunnel = venue.tunnel();
    assert_eq!(
        (&tunnel["carries"], &tunnel["probe"], &tunnel["server"]),
        (&true.into(), &"10.9.0.1".into(), &"192.0.2.2".into())
    );
    assert!(tunnel["sent"].as_u64().unwrap() > 0, "{tunnel}");
    // Whatever carries it holds nothing.
    if let Some(pid) = Venue::program() {
        let status = proc_text(pid, "status");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    }
    for (what, text) in [
        ("status", venue.raven.status().to_string()),
        ("vpn show", said(&venue.raven.raven(&["vpn", "show", "noc"]))),
        ("vpn list", said(&venue.raven.raven(&["vpn", "list"]))),
    ] {
        assert!(!text.contains(&venue.secret), "the private key is in {what}");
    }
    pause(500);
    send_signal(capture.id(), Signal::INT);
    capture.wait().unwrap();
    let read = Command::new("tshark").args(["-r"]).arg(&file).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "", "outside of the tunnel");
}

#[test]
fn a_far_end_that_is_deaf_mute_or_gone_is_noticed_and_used_again_when_it_lives() {
    root_only!();
    if !is_possible() {
        return;
    }
    let mut venue = Venue::new("wgloss", "192.0.2.2:51820");
    for (n, dead) in
        [&["to the server"][..], &["from the server"], &["to the server", "from the server"]].iter().enumerate()
    {
        venue.until("up");
        eventually("a ping is answered", || venue.tunnel()["rtt_ms"].is_number());
        venue.drop_packets(dead);
        let began = Instant::now();
        eventually("the loss is noticed", || venue.tunnel()["carries"] == false);
        println!("dropped {}: noticed after {:.1} s", dead.join(" and "), began.elapsed().as_secs_f64());
        venue.send(&format!("while-it-is-dead-{n}"));
        pause(1000);
        venue.drop_packets(&[]);
        let healed = Instant::now();
        venue.arrives(&format!("while-it-is-dead-{n}"));
        println!("healed: delivered after {:.1} s", healed.elapsed().as_secs_f64());
    }
    venue.until("up");
    let began = Instant::now();
    venue.far.kill();
    eventually("the loss is noticed", || venue.tunnel()["carries"] == false);
    println!("far end killed: noticed after {:.1} s", began.elapsed().as_secs_f64());
    venue.until("down");
    venue.send("while-it-is-gone");
    venue.far.start();
    let back = Instant::now();
    venue.arrives("while-it-is-gone");
    println!("far end back: delivered after {:.1} s", back.elapsed().as_secs_f64());
}

#[test]
fn records_go_on_when_whoever_answered_pings_goes_away() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::new("wgdeaf", "192.0.2.2:51820");
    venue.until("up");
    eventually("a ping is answered", || venue.tunnel()["rtt_ms"].is_number());
    venue.send("before");
    venue.arrives("before");
    for line in [
        "add table inet deaf",
        "add chain inet deaf input { type filter hook input priority 0 ; }",
        "add rule inet deaf input icmp type echo-request drop",
    ] {
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &venue.cable.names[1], "nft"]).args(line.split(' '));
        assert!(nft.status().unwrap().success(), "{line}");
    }
    let began = Instant::now();
    while began.elapsed().as_secs() < 8 {
        venue.send("meanwhile");
        pause(200);
        assert_eq!(venue.tunnel()["carries"], true, "{}", venue.tunnel());
    }
    eventually("it is said", || venue.tunnel()["cause"] == "nobody answers pings in it");
    venue.send("after");
    venue.arrives("after");
}

#[test]
fn what_carries_it_and_the_roles_may_die_and_come_back() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::new("wgkill", "192.0.2.2:51820");
    venue.until("up");
    eventually("a ping is answered", || venue.tunnel()["rtt_ms"].is_number());
    if let Some(first) = Venue::program() {
        send_signal(first, Signal::KILL);
        eventually("another runs", || Venue::program().is_some_and(|pid| pid != first));
        venue.until("up");
        venue.send("after-the-kill");
        venue.arrives("after-the-kill");
    }
    for role in ["net", "vpn"] {
        let before = venue.raven.process(role);
        venue.raven.kill(role, Signal::KILL);
        venue.raven.restarted(role, &before);
        venue.until("up");
        venue.send(&format!("after-{role}"));
        venue.arrives(&format!("after-{role}"));
    }
    // It goes with its tunnel.
    let told = venue.raven.raven(&["vpn", "disconnect", "noc"]);
    assert!(told.status.success(), "{}", said(&told));
    eventually("nothing carries it any more", || Venue::program().is_none());
}

#[test]
fn a_far_end_that_does_not_know_this_box_is_told() {
    root_only!();
    if !is_possible() {
        return;
    }
    let mut venue = Venue::new("wgkey", "192.0.2.2:51820");
    venue.far.kill();
    let text = fs::read_to_string(&venue.far.config).unwrap();
    let strangers = wg("pubkey", &wg("genkey", ""));
    let known = text.lines().find_map(|line| line.strip_prefix("PublicKey = ")).unwrap();
    fs::write(&venue.far.config, text.replace(known, &strangers)).unwrap();
    venue.far.start();
    for verb in ["disconnect", "connect"] {
        let told = venue.raven.raven(&["vpn", verb, "noc"]);
        assert!(told.status.success(), "{}", said(&told));
        pause(300);
    }
    venue.until("down");
    eventually("why is said", || {
        let cause = venue.tunnel()["cause"].as_str().unwrap().to_owned();
        cause.contains("does not know this box's key")
    });
}
