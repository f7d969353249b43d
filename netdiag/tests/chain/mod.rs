//! A chain of network namespaces as a scenario file says, which goes with the test. The first one is the box, the last one the
//! target; those between are routers.

pub mod made;
pub mod wire;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use wire::{Trouble, Wire};

/// A chain and what it does to packets. Nodes are numbered from 0, the box.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// MTU of the link behind each node: one fewer than there are nodes.
    pub links: Vec<u32>,
    /// Nodes from which no ICMP error gets back.
    #[serde(default)]
    pub mute: Vec<usize>,
    /// Nodes that answer a sender once a second at most.
    #[serde(default)]
    pub limited: Vec<usize>,
    /// Nodes that forward all but one of so many packets towards the target.
    #[serde(default)]
    pub loss: Vec<Loss>,
    /// The node that stands twice, side by side.
    pub twice: Option<usize>,
    /// The node that says that the target cannot be reached.
    pub forbids: Option<usize>,
    /// Links that are wires of our own.
    #[serde(default)]
    pub wires: Vec<WireOf>,
    /// Nodes that let so much through towards the target and back.
    #[serde(default)]
    pub rate: Vec<Rate>,
    /// Answers come back another way than probes go: around this node.
    #[serde(default)]
    pub asymmetric: bool,
}

/// See [`Scenario::loss`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Which.
    pub node: usize,
    /// One of so many.
    pub one_in: u32,
}

/// See [`Scenario::wires`].
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireOf {
    /// The link behind this node.
    pub node: usize,
    /// Towards the target.
    #[serde(default)]
    pub there: Trouble,
    /// Towards the box.
    #[serde(default)]
    pub back: Trouble,
}

/// See [`Scenario::rate`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Which.
    pub node: usize,
    /// Megabits a second.
    pub mbit: u32,
}

/// The namespaces.
pub struct Chain {
    names: Vec<String>,
    nodes: usize,
    wires: Vec<Wire>,
}

/// Whether namespaces can be made.
pub fn is_possible() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("not run: needs root");
    }
    is_root
}

impl Chain {
    /// As the file says.
    pub fn new(test: &str, scenario: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chain").join(scenario).with_extension("toml");
        let scenario: Scenario = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let nodes = scenario.links.len() + 1;
        let name = |n: &str| format!("raven-{test}-{n}-{}", std::process::id());
        let mut names: Vec<String> = (0..nodes).map(|n| name(&n.to_string())).collect();
        names.extend(scenario.twice.map(|_| name("b")));
        let mut chain = Self { names, nodes, wires: Vec::new() };
        begin(&chain.names);
        for (n, mtu) in scenario.links.iter().enumerate() {
            match scenario.wires.iter().find(|wire| wire.node == n) {
                Some(wire) => chain.wire(&name(&format!("w{n}")), wire, *mtu),
                None => chain.link((n, "east"), (n + 1, "west"), (n, n + 1), *mtu, 1),
            }
        }
        if let Some(twice) = scenario.twice {
            let (beside, mtu) = (nodes, scenario.links[twice]);
            chain.link((twice - 1, "east2"), (beside, "west"), (twice - 1, twice), mtu, 2);
            chain.link((beside, "east"), (twice + 1, "west2"), (twice, twice + 1), mtu, 2);
        }
        chain.routes(&scenario);
        chain.settle();
        chain.troubles(&scenario);
        chain
    }

    /// `side` tells the second of two links between the same places.
    fn link(&self, near: (usize, &str), far: (usize, &str), (left, right): (usize, usize), mtu: u32, side: u8) {
        let (a, b) = (&self.names[near.0], &self.names[far.0]);
        ip(&format!("-n {a} link add {} type veth peer name {} netns {b}", near.1, far.1));
        self.address(near, (left, right), mtu, (side, 1));
        self.address(far, (left, right), mtu, (side, 2));
    }

    fn address(&self, (node, device): (usize, &str), (left, right): (usize, usize), mtu: u32, (side, end): (u8, u8)) {
        let batch = format!(
            "addr add 10.{side}{left}.{right}.{end}/24 dev {device}
-6 addr add fd00:{side}{left}:{right}::{end}/64 dev {device} nodad
link set dev {device} mtu {mtu} up
"
        );
        ip_batch(&self.names[node], &batch);
    }

    /// The link behind a node, as a wire in a namespace of its own.
    fn wire(&mut self, name: &str, wire: &WireOf, mtu: u32) {
        let (n, m) = (wire.node, wire.node + 1);
        ip(&format!("netns add {name}"));
        self.names.push(name.to_owned());
        let quiet = ["-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"];
        let _ = command_in(name, "sysctl").args(quiet).status();
        for (node, device, end, here) in [(n, "east", 1, "left"), (m, "west", 2, "right")] {
            ip(&format!("-n {name} link add name {here} type veth peer name {device} netns {}", self.names[node]));
            ip(&format!("-n {name} link set dev {here} mtu {mtu} up"));
            self.address((node, device), (n, m), mtu, (1, end));
            // Checksums that a device would make are made by nobody on the wire.
            let done = command_in(&self.names[node], "ethtool").args(["-K", device, "tx", "off"]).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        let wire = inside(name, || Wire::new(("left", "right"), wire.there, wire.back));
        self.wires.push(wire);
    }

    fn routes(&self, scenario: &Scenario) {
        let last = self.nodes - 1;
        for n in 0..self.nodes {
            let mut batch = String::new();
            if n < last {
                let to = [format!("10.1{n}.{}.2", n + 1), format!("fd00:1{n}:{}::2", n + 1)];
                let second = format!("10.2{n}.{}.2", n + 1);
                if scenario.twice == Some(n + 1) {
                    let _ = writeln!(batch, "route add default nexthop via {} nexthop via {second}", to[0]);
                } else {
                    let _ = writeln!(batch, "route add default via {}", to[0]);
                }
                let _ = writeln!(batch, "-6 route add default via {}", to[1]);
            }
            // Back to the box and to everything before.
            for before in (0..n.saturating_sub(1)).filter(|_| n > 0) {
                let via = if scenario.asymmetric && scenario.twice == Some(n - 1) {
                    format!("10.2{}.{n}.1", n - 1)
                } else {
                    format!("10.1{}.{n}.1", n - 1)
                };
                let _ = writeln!(batch, "route add 10.1{before}.{}.0/24 via {via}", before + 1);
                let _ = writeln!(batch, "-6 route add fd00:1{before}:{}::/64 via fd00:1{}:{n}::1", before + 1, n - 1);
            }
            ip_batch(&self.names[n], &batch);
        }
        if let Some(twice) = scenario.twice {
            let (beside, before) = (&self.names[self.nodes], twice - 1);
            let mut batch = format!("route add default via 10.2{twice}.{}.2\n", twice + 1);
            for n in 0..before {
                let _ = writeln!(batch, "route add 10.1{n}.{}.0/24 via 10.2{before}.{twice}.1", n + 1);
            }
            ip_batch(beside, &batch);
        }
    }

    /// Neighbours of IPv6 are found a second after links are up.
    fn settle(&self) {
        for target in [self.target(), self.target_v6()] {
            let ping = format!("-n -c 1 -W 1 {target}");
            let answers = |_| self.others("ping", &ping).is_none_or(|text| text.contains("1 received"));
            assert!((0..10).any(answers), "{target} answers nothing");
        }
    }

    fn troubles(&self, scenario: &Scenario) {
        for node in &scenario.limited {
            for setting in ["net.ipv4.icmp_ratelimit=1000", "net.ipv6.icmp.ratelimit=1000"] {
                assert!(command_in(&self.names[*node], "sysctl").args(["-qw", setting]).status().unwrap().success());
            }
        }
        for node in &scenario.mute {
            self.rule(*node, "output", "icmp type { time-exceeded, destination-unreachable } drop");
            self.rule(*node, "output", "icmpv6 type { time-exceeded, destination-unreachable, packet-too-big } drop");
        }
        for Loss { node, one_in } in &scenario.loss {
            self.rule(*node, "forward", &format!("iifname west numgen inc mod {one_in} 0 drop"));
        }
        for Rate { node, mbit } in &scenario.rate {
            for device in ["east", "west"] {
                let shape = format!("qdisc add dev {device} root tbf rate {mbit}mbit burst 15kb latency 100ms");
                assert!(command_in(&self.names[*node], "tc").args(shape.split(' ')).status().unwrap().success());
            }
        }
        if let Some(node) = scenario.forbids {
            self.rule(node, "forward", "reject with icmpx type admin-prohibited");
        }
    }

    /// A rule of nft at a node.
    pub fn rule(&self, node: usize, hook: &str, rule: &str) {
        for line in [
            "add table inet trouble".to_owned(),
            format!("add chain inet trouble {hook} {{ type filter hook {hook} priority 0 ; }}"),
            format!("add rule inet trouble {hook} {rule}"),
        ] {
            let done = command_in(&self.names[node], "nft").arg(&line).status().unwrap();
            assert!(done.success(), "{line}");
        }
    }

    /// The last node's address.
    pub fn target(&self) -> String {
        format!("10.1{}.{}.2", self.nodes - 2, self.nodes - 1)
    }

    /// The same of IPv6.
    pub fn target_v6(&self) -> String {
        format!("fd00:1{}:{}::2", self.nodes - 2, self.nodes - 1)
    }

    /// Does it where the box is.
    pub fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        inside(&self.names[0], work)
    }

    /// Does it at another node.
    #[allow(dead_code, reason = "some tests alone need it")]
    pub fn at<R: Send>(&self, node: usize, work: impl FnOnce() -> R + Send) -> R {
        inside(&self.names[node], work)
    }

    /// `ip` at a node.
    #[allow(dead_code, reason = "some tests alone need it")]
    pub fn ip(&self, node: usize, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.names[node]));
    }

    /// Starts a program of others at the target.
    #[allow(dead_code, reason = "some tests alone need one there")]
    pub fn at_target(&self, program: &str, arguments: &str) -> Child {
        let mut command = command_in(&self.names[self.nodes - 1], program);
        command.args(arguments.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What a program of others says there.
    pub fn others(&self, program: &str, arguments: &str) -> Option<String> {
        let done = command_in(&self.names[0], program).args(arguments.split_whitespace()).output();
        let Ok(Output { stdout, stderr, .. }) = done else { return None };
        let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        if text.contains("exec of") && text.contains("failed") {
            eprintln!("{program} is not here: nothing to compare with");
            return None;
        }
        Some(text)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.wires.clear();
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn inside<R: Send>(name: &str, work: impl FnOnce() -> R + Send) -> R {
    let place = File::open(Path::new("/run/netns").join(name)).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// Makes namespaces, all at a time: most of it is waiting.
fn begin(names: &[String]) {
    for name in names {
        ip(&format!("netns add {name}"));
    }
    let settings = [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.icmp_ratelimit=0",
        "net.ipv6.icmp.ratelimit=0",
        "net.ipv4.icmp_msgs_per_sec=100000",
        "net.ipv4.ping_group_range=0 65535",
        "net.ipv4.fib_multipath_hash_policy=1",
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.default.rp_filter=0",
        "net.ipv6.conf.all.accept_dad=0",
        "net.ipv6.conf.default.accept_dad=0",
    ];
    // Not all kernels have all of them.
    let set =
        |name: &String| command_in(name, "sysctl").arg("-qw").args(settings).stderr(Stdio::null()).spawn().unwrap();
    let setting: Vec<Child> = names.iter().map(set).collect();
    for mut child in setting {
        let _ = child.wait();
    }
    for name in names {
        ip(&format!("-n {name} link set lo up"));
    }
}

/// Lines of `ip`, at one place; those of IPv6 begin with `-6`, which a line of a batch may not.
fn ip_batch(name: &str, lines: &str) {
    let (v6, v4): (Vec<&str>, Vec<&str>) = lines.lines().partition(|line| line.starts_with("-6 "));
    for (family, lines) in [("-4", v4), ("-6", v6)] {
        let mut command = Command::new("ip");
        command.args([family, "-n", name, "-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines: Vec<&str> = lines.into_iter().map(|line| line.trim_start_matches("-6 ")).collect();
        let text = lines.join("\n") + "\n";
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{text}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

fn command_in(name: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name, program]);
    command
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}
