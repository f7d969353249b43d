//! A machine with a cable to a venue, in network namespaces that go with the test, and the role in its jail there.

use raven_jail::channel::Channel;
use raven_jail::spawn::{Child, SpawnSpec, open_program, spawn};
use raven_jail::{signals, tun};
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::report::NetReport;
use raven_model::table::{ProcessTable, Role, RoleSpec, TEXT, table};
use raven_model::tunnel::{FromNet, ToNet, TunnelAnswer};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The user that may attach to tunnels' devices.
pub const OWNER: u32 = 61_019;

pub fn is_possible() -> bool {
    let runs = |name: &str, argument: &str| {
        Command::new(name).arg(argument).output().is_ok_and(|output| output.status.success())
    };
    rustix::process::geteuid().is_root() && tun::open().is_ok() && runs("ip", "-V") && runs("python3", "-V")
}

/// The namespaces of a test: the box, and the venue at the other end of its cable.
pub struct Place {
    pub near: String,
    pub far: String,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let [near, far] = ["box", "venue"].map(|end| format!("raven-net-{end}-{}-{number}", process::id()));
        let place = Self { near, far };
        let Self { near, far } = &place;
        ip(&format!("netns add {near}"));
        ip(&format!("netns add {far}"));
        ip(&format!("-n {near} link add eth0 type veth peer name eth0 netns {far}"));
        for (name, n) in [(near, 1), (far, 2)] {
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set eth0 addrgenmode none"));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} addr add 192.0.2.{n}/24 dev eth0"));
            ip(&format!("-n {name} addr add 2001:db8::{n}/64 dev eth0 nodad"));
        }
        ip(&format!("-n {near} route add default via 192.0.2.2"));
        ip(&format!("-n {near} -6 route add default via 2001:db8::2"));
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Runs a test in a box of its own.
pub fn within(test: impl FnOnce(&Place) + Send) {
    let place = Place::new();
    let at = File::open(Path::new("/run/netns").join(&place.near)).unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(at.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            test(&place);
        });
        thread.join().unwrap();
    });
}

pub fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What `ip -j` shows; an empty list where it shows nothing.
pub fn shown(line: &str) -> Value {
    let output = Command::new("ip").args(["-j", "-d"]).args(line.split(' ')).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| Value::Array(Vec::new()))
}

/// A table's routes: `10.20.0.0/16 vpn-noc`, `unreachable 10.20.0.0/16`.
pub fn routes(table: &str) -> Vec<String> {
    let mut routes = Vec::new();
    for family in ["-4", "-6"] {
        for route in shown(&format!("{family} route show table {table}")).as_array().unwrap() {
            let dst = route["dst"].as_str().unwrap();
            let dst = if family == "-6" && dst == "default" { "default6" } else { dst };
            routes.push(match route["type"].as_str() {
                Some("unreachable") => format!("unreachable {dst}"),
                _ => format!("{dst} {}", route["dev"].as_str().unwrap()),
            });
        }
    }
    routes.sort();
    routes
}

/// Rules that are not the kernel's: `7700 to 10.20.0.0/16 7700`.
pub fn rules() -> Vec<String> {
    let mut rules = Vec::new();
    for family in ["-4", "-6"] {
        for rule in shown(&format!("{family} rule show")).as_array().unwrap() {
            let text = |key: &str| rule[key].as_str().unwrap_or_default();
            let net = |key: &str| match rule[format!("{key}len")].as_u64() {
                Some(len) => format!("{}/{len}", text(key)),
                None => text(key).to_owned(),
            };
            let which = match (text("oif"), text("dst"), text("src")) {
                ("", "", _) => format!("from {}", net("src")),
                ("", _, _) => format!("to {}", net("dst")),
                (oif, _, _) => format!("oif {oif} {family}"),
            };
            if text("protocol") != "kernel" {
                rules.push(format!("{} {which} {} ({})", rule["priority"], text("table"), text("protocol")));
            }
        }
    }
    rules.sort();
    rules
}

/// Addresses of a device.
pub fn addresses(device: &str) -> Vec<String> {
    let links = shown(&format!("addr show dev {device}"));
    let of_it = links[0]["addr_info"].as_array().cloned().unwrap_or_default();
    let mut texts: Vec<_> =
        of_it.iter().map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"])).collect();
    texts.sort();
    texts
}

/// All that the kernel has here, but for what counts or ages.
pub fn everything() -> Vec<String> {
    let show = |line: &str| {
        let output = Command::new("ip").args(line.split(' ')).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let texts = ["-o addr", "-4 rule", "-6 rule", "-4 route show table all", "-6 route show table all"].map(show);
    let keep = |line: &&str| !line.contains("expires");
    texts.iter().flat_map(|text| text.lines().filter(keep).map(str::to_owned)).collect()
}

/// Waits until `done`; after half a minute the test has failed.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < patience, "never: {what}\n{:#?}\n{:#?}", rules(), routes("all"));
        thread::sleep(Duration::from_millis(20));
    }
}

/// The role, started by hand, and the far end of its pair.
pub struct Net {
    pub child: Child,
    control: Arc<Channel>,
    near: OwnedFd,
    pub far: UnixStream,
    report: Arc<Mutex<Option<NetReport>>>,
    next: u64,
}

impl Net {
    /// `more`: of the configuration.
    pub fn start(more: &str) -> Self {
        let (near, far) = Channel::pair().unwrap();
        Self::start_with(more, OwnedFd::from(near), OwnedFd::from(far).into(), table().spec(Role::Net))
    }

    fn start_with(more: &str, near: OwnedFd, far: UnixStream, role: &RoleSpec) -> Self {
        far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        far.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let program = open_program(Path::new("/proc/self/exe")).unwrap();
        let data = std::env::temp_dir();
        let spec = SpawnSpec { role, program: program.as_fd(), control: theirs.as_fd(), data: &data };
        let child = spawn(&spec).unwrap();
        let start = Start {
            role: Role::Net,
            device: "test".to_owned(),
            boot_id: String::new(),
            data,
            config: Some(Box::new(config(more))),
            listeners: BTreeMap::new(),
            environment: BTreeMap::new(),
            fds: vec![Fd::Tunnels],
        };
        ours.send_json(&ToWorker::Start(Box::new(start)), &[near.as_fd()]).unwrap();
        let (control, report) = (Arc::new(ours), Arc::new(Mutex::new(None)));
        let (heard, kept) = (Arc::clone(&control), Arc::clone(&report));
        thread::spawn(move || serve(&heard, &kept));
        let mut net = Self { child, control, near, far, report, next: 0 };
        assert_eq!(net.hear(), FromNet::Began);
        net
    }

    /// Without what the process table grants it.
    pub fn start_bare(more: &str) -> Self {
        let mut bare: ProcessTable = toml::from_str(TEXT).unwrap();
        bare.role.iter_mut().for_each(|spec| spec.capabilities.clear());
        let (near, far) = Channel::pair().unwrap();
        Self::start_with(more, OwnedFd::from(near), OwnedFd::from(far).into(), bare.spec(Role::Net))
    }

    /// Killed, and started again over the same pair.
    pub fn restart(self, more: &str) -> Self {
        let (near, far) = (self.near.try_clone().unwrap(), self.far.try_clone().unwrap());
        drop(self);
        Self::start_with(more, near, far, table().spec(Role::Net))
    }

    pub fn hear(&mut self) -> FromNet {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            let len = self.far.read(&mut packet).expect("the role answers");
            match serde_json::from_slice(&packet[..len]).unwrap() {
                // Comes whenever a link does.
                FromNet::Returned => {}
                told => return told,
            }
        }
    }

    /// Gives an order, as its JSON, and returns what is answered.
    pub fn order(&mut self, order: &Value) -> Result<TunnelAnswer, String> {
        self.next += 1;
        let asked: ToNet = serde_json::from_value(serde_json::json!({ "id": self.next, "order": order })).unwrap();
        self.far.write_all(&serde_json::to_vec(&asked).unwrap()).unwrap();
        let FromNet::Answer { id, answer } = self.hear() else { panic!("no answer") };
        assert_eq!(id, Some(self.next));
        answer
    }

    /// As `order`, which must be taken as a whole.
    pub fn done(&mut self, order: &Value) -> Vec<String> {
        let answer = self.order(order).unwrap();
        assert_eq!(answer.refused, vec![], "{order}");
        answer.applied
    }

    pub fn configure(&self, more: &str) {
        self.control.send_json(&ToWorker::Configure(Box::new(config(more))), &[]).unwrap();
    }

    /// The next report.
    pub fn report(&self) -> NetReport {
        *self.report.lock().unwrap() = None;
        eventually("a report", || self.report.lock().unwrap().is_some());
        self.report.lock().unwrap().clone().unwrap()
    }

    pub fn lives(&self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.child.kill(signals::SIGKILL).ok();
        self.child.wait().ok();
    }
}

fn config(more: &str) -> Config {
    Config::from_toml(&format!("schema = 1\n{more}"), "test.toml").unwrap()
}

/// What `ravend` does at its end of the control channel.
fn serve(control: &Channel, report: &Mutex<Option<NetReport>>) {
    let mut packet = vec![0; PACKET_MAX];
    while let Ok(Some((message, _))) = control.recv_json::<FromWorker>(&mut packet) {
        match message {
            FromWorker::Heartbeat { report: said } => {
                *report.lock().unwrap() = Some(serde_json::from_str(said.get()).unwrap());
            }
            FromWorker::Tun => {
                let opened = tun::open().unwrap();
                control.send_json(&ToWorker::Tun(Ok(())), &[opened.as_fd()]).unwrap();
            }
            _ => {}
        }
    }
}

/// A program beside the test, which says a line for each packet; ends with it.
pub struct Program {
    child: process::Child,
    lines: Receiver<String>,
}

impl Program {
    /// Python, in a namespace or in this one; returns when it has said `ready`.
    pub fn start(namespace: Option<&str>, script: &str, arguments: &[&str]) -> Self {
        let mut command = match namespace {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, "python3"]);
                command
            }
            None => Command::new("python3"),
        };
        let mut child = command
            .args(["-u", "-c", script])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        assert_eq!(lines.recv_timeout(Duration::from_secs(30)).as_deref(), Ok("ready"));
        Self { child, lines }
    }

    /// What it said since it was asked last.
    pub fn said(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Waits for a line.
    pub fn says(&self, what: &str) {
        let mut all = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(10)) {
                Ok(line) if line == what => return,
                Ok(line) => all.push(line),
                Err(error) => panic!("never: {what}; but {all:?}: {error}"),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Holds the device of a tunnel as its owner, and says where each packet is to go: `10.20.0.7`, and its first bytes of UDP.
pub const READER: &str = r#"
import fcntl, os, socket, struct, sys
tun = os.open("/dev/net/tun", os.O_RDWR)
os.setgroups([]); os.setresgid(*[int(sys.argv[2])] * 3); os.setresuid(*[int(sys.argv[2])] * 3)
fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", sys.argv[1].encode(), 0x1001))
print("ready")
while True:
    try:
        packet = os.read(tun, 65536)
    except OSError: # the device is gone
        sys.exit()
    if packet[0] >> 4 == 4 and packet[9] == 17:
        print(socket.inet_ntoa(packet[16:20]), packet[28:].decode("latin1"))
    elif packet[0] >> 4 == 6 and packet[6] == 17:
        print(socket.inet_ntop(socket.AF_INET6, packet[24:40]), packet[48:].decode("latin1"))
"#;

/// Says where each packet on a cable is to go that is no talk of neighbours.
pub const CAPTURE: &str = r#"
import socket
cable = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
print("ready")
while True:
    packet, (_, kind, *_) = cable.recvfrom(65536)
    if kind == 0x800:
        print(socket.inet_ntoa(packet[16:20]))
    elif kind == 0x86dd and packet[6] != 58:
        print(socket.inet_ntop(socket.AF_INET6, packet[24:40]))
"#;
