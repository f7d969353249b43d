//! What the role does, seen from outside.

use crate::place::{
    CAPTURE, Net, OWNER, Program, READER, addresses, eventually, everything, ip, routes, rules, shown, within,
};
use raven_model::tunnel::{FromNet, TunnelState};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const NETWORKS: &str = "[vpn]\nnetworks = ['10.20.0.0/16', '2001:db8:20::/48']\nnever = ['10.99.0.0/16']\n";

pub fn open(tunnel: &str) -> Value {
    json!({ "open": { "tunnel": tunnel, "by": [{ "program": OWNER }], "endpoints": ["203.0.113.9"] } })
}

pub fn up(tunnel: &str) -> Value {
    json!({ "up": {
        "tunnel": tunnel, "addresses": ["10.8.0.2/24", "2001:db8:8::2/64"], "peer": "10.8.0.1", "mtu": 1400,
        "routes": ["10.30.0.0/16"], "endpoints": ["203.0.113.9"],
    } })
}

pub fn about(verb: &str, tunnel: &str) -> Value {
    json!({ verb: { "tunnel": tunnel } })
}

/// Sends from a socket that is bound to a device.
const BOUND: &str = r#"
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
bound = socket.socket(family, socket.SOCK_DGRAM)
bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
bound.sendto(b"bound", (sys.argv[2], 9))
print("ready")
"#;

fn reader(tunnel: &str) -> Program {
    Program::start(None, READER, &[&format!("vpn-{tunnel}"), &OWNER.to_string()])
}

fn try_to(addr: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(if addr.contains('[') { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.send_to(b"try", addr).map(drop)
}

/// Told at once that nothing leads there.
fn is_refused(addr: &str) -> bool {
    let began = Instant::now();
    let to: SocketAddr = addr.parse().unwrap();
    let [udp, tcp] = [try_to(addr), TcpStream::connect_timeout(&to, Duration::from_secs(1)).map(drop)];
    let refused = [udp, tcp].into_iter().all(|outcome| {
        let kind = outcome.as_ref().err().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable))
    });
    refused && began.elapsed() < Duration::from_millis(500)
}

pub fn orders_make_what_they_say() {
    within(|_| {
        let mut net = Net::start(NETWORKS);
        let status = fs::read_to_string(format!("/proc/{}/status", net.child.pid)).unwrap();
        let set = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(["CapPrm:", "CapEff:", "CapBnd:"].map(set), ["0000000000001000"; 3]);
        assert_eq!(["CapInh:", "CapAmb:"].map(set), ["0000000000000000"; 2]);

        assert_eq!(net.done(&open("noc"))[0], "device vpn-noc made");
        let link = shown("link show dev vpn-noc")[0]["linkinfo"].clone();
        let made = &link["info_data"];
        let how = (&link["info_kind"], &made["type"], &made["user"], &made["persist"], &made["pi"]);
        assert_eq!(how, (&json!("tun"), &json!("tun"), &json!(OWNER), &json!(true), &json!(false)));
        let opened = [
            "7400 oif vpn-noc -4 7701 (77)",
            "7400 oif vpn-noc -6 7701 (77)",
            "7501 to 203.0.113.9 main (77)",
            "7600 to 10.99.0.0/16 main (77)",
            "7600 to 192.0.2.0/24 main (77)",
            "7600 to 2001:db8::/64 main (77)",
            "7700 to 10.20.0.0/16 7700 (77)",
            "7700 to 2001:db8:20::/48 7700 (77)",
        ];
        assert_eq!(rules(), opened);
        assert_eq!(net.done(&open("noc")), Vec::<String>::new(), "once");

        let _reader = reader("noc");
        net.done(&up("noc"));
        assert_eq!(addresses("vpn-noc"), ["10.8.0.2/32", "2001:db8:8::2/128"]);
        assert_eq!(shown("link show dev vpn-noc")[0]["mtu"], 1400);
        assert_eq!(shown("addr show dev vpn-noc")[0]["addr_info"][0]["address"], "10.8.0.1");
        assert_eq!(routes("7701"), ["10.30.0.0/16 vpn-noc", "default vpn-noc", "default6 vpn-noc"]);
        let nowhere = ["unreachable 10.20.0.0/16", "unreachable 2001:db8:20::/48"];
        assert_eq!(routes("7700"), nowhere);
        assert!(!routes("main").iter().any(|route| route.contains("vpn-noc")), "{:?}", routes("main"));
        assert!(rules().contains(&"7650 from 10.8.0.2 7701 (77)".to_owned()));
        assert_eq!(net.done(&up("noc")), Vec::<String>::new(), "once");
        let mut other = up("noc");
        other["up"]["addresses"] = json!(["10.8.0.3/24"]);
        other["up"]["peer"] = Value::Null;
        net.done(&other);
        assert_eq!(addresses("vpn-noc"), ["10.8.0.3/32"]);

        net.done(&about("prefer", "noc"));
        let mut both: Vec<String> = vec!["10.20.0.0/16 vpn-noc".into(), "2001:db8:20::/48 vpn-noc".into()];
        both.extend(nowhere.map(String::from));
        // Of IPv6 it has no address: packets would have that of a link.
        let of_v4: Vec<String> = both.iter().filter(|route| *route != "2001:db8:20::/48 vpn-noc").cloned().collect();
        assert_eq!(routes("7700"), of_v4);
        net.done(&up("noc"));
        assert_eq!(routes("7700"), both);
        let report = net.report();
        assert_eq!(report.links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["eth0"]);
        let [tunnel] = &report.tunnels[..] else { panic!("{report:?}") };
        assert_eq!((tunnel.state, tunnel.carries, tunnel.mtu, tunnel.table), (TunnelState::Up, true, 1400, 7701));
        assert_eq!((tunnel.routes.len(), report.ways.trouble.as_str()), (1, ""));
        assert_eq!(report.ways.rules as usize, rules().len());

        net.done(&about("down", "noc"));
        assert_eq!(addresses("vpn-noc"), Vec::<String>::new());
        assert_eq!((routes("7701"), routes("7700")), (vec![], nowhere.map(String::from).to_vec()));
        assert_eq!(net.report().tunnels[0].state, TunnelState::Down);
        net.done(&about("close", "noc"));
        net.done(&about("close", "noc"));
        assert!(shown("link show").as_array().unwrap().iter().all(|link| link["ifname"] != "vpn-noc"));
        assert_eq!(rules(), opened[3..]);
        for order in [up("noc"), about("down", "noc"), about("prefer", "noc")] {
            assert_eq!(net.order(&order), Err("vpn-noc is not open".to_owned()), "{order}");
        }
    });
}

pub fn nothing_leaks() {
    within(|place| {
        let mut net = Net::start(NETWORKS);
        let capture = Program::start(Some(&place.far), CAPTURE, &[]);
        let all = ["10.20.0.7:9", "[2001:db8:20::7]:9"];
        let leaked = || -> Vec<String> {
            // What is not led into the tunnel goes over the cable, and is seen there: so would be the other.
            try_to("198.51.100.1:9").unwrap();
            let mut said = Vec::new();
            eventually("the capture works", || {
                said.extend(capture.said());
                said.contains(&"198.51.100.1".to_owned())
            });
            said.retain(|to| to.starts_with("10.") || to.starts_with("2001:db8:20:"));
            said
        };
        assert!(all.iter().all(|to| is_refused(to)), "before it was opened");
        net.done(&open("noc"));
        net.done(&about("prefer", "noc"));
        assert!(all.iter().all(|to| is_refused(to)), "opened");
        net.done(&up("noc"));
        assert!(all.iter().all(|to| is_refused(to)), "held by nobody");
        let holder = reader("noc");
        eventually("it is up", || net.report().tunnels[0].state == TunnelState::Up);
        for (to, seen) in all.iter().zip(["10.20.0.7 try", "2001:db8:20::7 try"]) {
            try_to(to).unwrap();
            holder.says(seen);
        }
        // Bound to the device, packets take it to wherever they go: so a way through is looked for, and the far end pinged.
        let bound = ["203.0.113.77 bound", "2001:db8:77::7 bound"];
        for seen in bound {
            let _sender = Program::start(None, BOUND, &["vpn-noc", seen.split(' ').next().unwrap()]);
            holder.says(seen);
        }
        eventually("it is counted", || net.report().tunnels[0].traffic.tx_packets >= 4);
        // Its own packets and those of the venue never go into it.
        for to in ["203.0.113.9:9", "192.0.2.2:9", "10.99.0.1:9"] {
            try_to(to).unwrap();
        }
        drop(holder);
        eventually("nothing leads there any more", || all.iter().all(|to| is_refused(to)));
        assert_eq!(leaked(), ["10.99.0.1"]);
        net.done(&about("down", "noc"));
        assert!(all.iter().all(|to| is_refused(to)), "down");
        net.done(&about("close", "noc"));
        assert!(all.iter().all(|to| is_refused(to)), "closed");
        drop(net);
        assert!(all.iter().all(|to| is_refused(to)), "the role is dead");
        assert_eq!(leaked(), Vec::<String>::new());
    });
}

pub fn what_is_foreign_stays() {
    within(|_| {
        ip("link add vpn-noc type veth peer name other");
        ip("tuntap add vpn-b mode tun user 1");
        ip(&format!("tuntap add vpn-c mode tap user {OWNER}"));
        ip("rule add to 10.20.9.0/24 lookup main priority 7690");
        ip("route add 10.77.0.0/16 via 192.0.2.2 table 7700");
        let passing = "import fcntl, os, struct, time\n\
            tun = os.open('/dev/net/tun', os.O_RDWR)\n\
            fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'vpn-d', 0x1001))\n\
            print('ready')\ntime.sleep(60)";
        let _passing = Program::start(None, passing, &[]);
        let before = everything();
        let mut net = Net::start(NETWORKS);
        for tunnel in ["noc", "b", "c", "d"] {
            let why = net.order(&open(tunnel)).unwrap_err();
            assert!(why.starts_with(&format!("device vpn-{tunnel} is taken by somebody else")), "{why}");
            net.done(&about("close", tunnel));
        }
        // Root has no need of one, and would be no user of its own.
        assert!(net.order(&json!({ "open": { "tunnel": "e", "by": [{ "program": 0 }] } })).is_err());
        // Keys are for devices of WireGuard; where the kernel has none of those, that is said so that a program takes over.
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        let peers = json!({ "peers": { "tunnel": "f", "private_key": key, "peers": [] } });
        assert_eq!(net.order(&peers).map(drop), Err("vpn-f is not open".to_owned()));
        net.done(&open("f"));
        for order in [&peers, &about("look", "f")] {
            assert_eq!(net.order(order).map(drop), Err("vpn-f is not one of WireGuard".to_owned()));
        }
        net.done(&about("close", "f"));
        match net.order(&json!({ "open": { "tunnel": "f", "by": ["wireguard"] } })) {
            Ok(_) => {
                net.done(&peers);
                net.done(&about("look", "f"));
                assert!(net.order(&open("f")).is_err(), "it is of another kind");
                net.done(&about("close", "f"));
            }
            Err(why) => assert_eq!(why, "this kernel has no WireGuard, and nothing else may carry it"),
        }
        let either = json!({ "open": { "tunnel": "f", "by": ["wireguard", { "program": OWNER }] } });
        let first = net.order(&either).unwrap().by;
        assert_eq!(net.order(&either).unwrap().by, first, "what is there is taken as it is");
        assert!(first.is_some());
        net.done(&about("close", "f"));
        // One that was ours, removed, and made by somebody else.
        net.done(&open("f"));
        net.done(&up("f"));
        ip("link del vpn-f");
        ip("link add vpn-f type veth peer name more");
        eventually("it is seen", || net.report().ways.trouble.contains("vpn-f is taken by somebody else"));
        assert!(net.order(&up("f")).unwrap_err().contains("taken by somebody else"));
        net.done(&about("close", "f"));
        ip("link del vpn-f");
        net.configure("");
        eventually("nothing of ours is left", || rules() == ["7690 to 10.20.9.0/24 main (unspec)"]);
        assert_eq!(routes("7700"), ["10.77.0.0/16 eth0"]);
        eventually("all else is as it was", || everything() == before);
    });
}

pub fn a_restart_is_not_felt() {
    within(|_| {
        let mut net = Net::start(NETWORKS);
        net.done(&open("noc"));
        net.done(&open("spare"));
        let holder = reader("noc");
        net.done(&up("noc"));
        net.done(&about("prefer", "noc"));
        eventually("it leads into the tunnel", || routes("7700").contains(&"10.20.0.0/16 vpn-noc".to_owned()));
        let before = everything();
        let over = AtomicBool::new(false);
        net = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let mut sent = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    socket.send_to(sent.len().to_string().as_bytes(), "10.20.0.7:9").expect("always a way");
                    sent.push(format!("10.20.0.7 {}", sent.len()));
                    thread::sleep(Duration::from_millis(2));
                }
                sent
            });
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(300));
                net = net.restart(NETWORKS);
                assert_eq!(net.report().tunnels[0].state, TunnelState::Up);
            }
            over.store(true, Ordering::Relaxed);
            let sent = sender.join().unwrap();
            assert!(sent.len() > 50, "{} were sent", sent.len());
            let mut arrived = Vec::new();
            eventually("all arrives", || {
                arrived.extend(holder.said());
                arrived.len() >= sent.len()
            });
            assert_eq!(arrived, sent);
            net
        });
        assert_eq!(everything(), before);
        // All of it was taken over: the same orders change nothing, and a later one does.
        assert_eq!(net.done(&open("noc")), Vec::<String>::new());
        assert_eq!(net.done(&up("noc")), Vec::<String>::new());
        assert_eq!(net.done(&about("prefer", "noc")), Vec::<String>::new());
        assert_eq!(net.done(&open("spare")), Vec::<String>::new());
        assert_eq!(net.report().tunnels.iter().map(|tunnel| tunnel.table).collect::<Vec<_>>(), [7701, 7702]);
        net.done(&about("close", "noc"));
        assert_eq!(routes("7700"), ["unreachable 10.20.0.0/16", "unreachable 2001:db8:20::/48"]);
    });
}

pub fn the_venue_changes() {
    within(|_| {
        let mut net = Net::start(NETWORKS);
        net.done(&open("noc"));
        let _holder = reader("noc");
        let mut order = up("noc");
        order["up"]["routes"] = json!(["10.30.0.0/16", "0.0.0.0/0", "192.0.2.0/25", "10.99.1.0/24"]);
        let answer = net.order(&order).unwrap();
        let said: Vec<_> = answer.refused.iter().map(|refusal| refusal.what.as_str()).collect();
        assert_eq!(said, ["route 0.0.0.0/0", "route 192.0.2.0/25", "route 10.99.1.0/24"]);
        assert_eq!(routes("7701"), ["10.30.0.0/16 vpn-noc", "default vpn-noc", "default6 vpn-noc"]);
        // An address comes, and with it the venue is in what was the tunnel's.
        ip("addr add 10.30.7.1/24 dev eth0");
        ip("addr add 10.20.7.1/24 dev eth0");
        eventually("it is the venue's", || {
            rules().contains(&"7600 to 10.30.7.0/24 main (77)".to_owned())
                && rules().contains(&"7600 to 10.20.7.0/24 main (77)".to_owned())
                && routes("7701") == ["default vpn-noc", "default6 vpn-noc"]
        });
        let report = net.report();
        assert!(report.tunnels[0].refused.iter().any(|refusal| refusal.why == "eth0 is in 10.30.7.0/24"));
        assert_eq!(report.ways.overlaps, ["10.20.0.0/16: eth0 is in 10.20.7.0/24, which is reached over it"]);
        ip("addr del 10.30.7.1/24 dev eth0");
        ip("addr del 10.20.7.1/24 dev eth0");
        eventually("it is the tunnel's again", || {
            routes("7701").contains(&"10.30.0.0/16 vpn-noc".to_owned())
                && rules().iter().all(|rule| !rule.contains(".7."))
        });
        // A mask that is too wide takes nothing out of the tunnel.
        ip("addr add 10.1.1.1/8 dev eth0");
        eventually("the network stays", || rules().contains(&"7590 to 10.20.0.0/16 7700 (77)".to_owned()));
        assert!(is_refused("10.20.0.7:9"));
        // And a new configuration is in force without an order.
        net.configure("[vpn]\nnetworks = ['10.40.0.0/16']\n");
        eventually("the new one is in force", || routes("7700") == ["unreachable 10.40.0.0/16"]);
        net.configure("");
        eventually("none is", || routes("7700").is_empty() && rules().iter().all(|rule| !rule.contains(" 7700 ")));
    });
}

pub fn what_was_taken_away_comes_back() {
    within(|_| {
        let mut net = Net::start(NETWORKS);
        net.done(&open("noc"));
        let _holder = reader("noc");
        net.done(&up("noc"));
        net.done(&about("prefer", "noc"));
        let before = everything();
        for line in [
            "rule del priority 7700 to 10.20.0.0/16",
            "-6 rule del priority 7700 to 2001:db8:20::/48",
            "route flush table 7700",
            "addr del 10.8.0.2 peer 10.8.0.1/32 dev vpn-noc",
            "link set vpn-noc down",
            "rule add to 10.66.0.0/16 lookup main priority 7666 protocol 77",
            "route add 10.66.0.0/16 via 192.0.2.2 table 7700 protocol 77",
        ] {
            ip(line);
            eventually(line, || everything() == before);
        }
        // Idle, it does nothing: no look follows from its own changes for ever.
        thread::sleep(Duration::from_millis(600));
        let ticks = || -> u64 {
            let stat = fs::read_to_string(format!("/proc/{}/stat", net.child.pid)).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let began = ticks();
        thread::sleep(Duration::from_secs(5));
        let used = ticks() - began;
        assert!(used <= 5, "{used} hundredths of a second of processor in five seconds");
    });
}

pub fn one_takes_over_from_another() {
    within(|_| {
        let mut net = Net::start(NETWORKS);
        let mut holders = Vec::new();
        for (tunnel, address) in [("noc", "10.8.0.2/24"), ("spare", "10.9.0.2/24")] {
            net.done(&open(tunnel));
            holders.push(reader(tunnel));
            let mut order = up(tunnel);
            order["up"]["addresses"] = json!([address]);
            order["up"]["peer"] = Value::Null;
            net.done(&order);
        }
        for (tunnel, holder) in [("noc", 0), ("spare", 1), ("noc", 0)] {
            net.done(&about("prefer", tunnel));
            assert_eq!(routes("7700")[0], format!("10.20.0.0/16 vpn-{tunnel}"));
            try_to("10.20.0.7:9").unwrap();
            holders[holder].says("10.20.0.7 try");
        }
        net.done(&json!({ "prefer": { "tunnel": null } }));
        assert!(is_refused("10.20.0.7:9"));
        for n in 3..=16 {
            net.done(&open(&format!("t{n}")));
        }
        let why = net.order(&open("t17")).unwrap_err();
        assert_eq!(why, "16 tunnels are open, and no more can be: close one");
    });
}

pub fn without_the_capability() {
    within(|_| {
        let mut net = Net::start_bare(NETWORKS);
        for order in [open("noc"), up("noc"), about("close", "noc")] {
            let why = net.order(&order).unwrap_err();
            assert!(why.contains("without CAP_NET_ADMIN"), "{why}");
        }
        let report = net.report();
        assert_eq!((report.links.len(), report.tunnels.len()), (1, 0));
        assert_eq!(rules(), Vec::<String>::new());
        net.far.try_clone().and_then(|mut far| io::Write::write_all(&mut far, b"?")).unwrap();
        assert!(matches!(net.hear(), FromNet::Answer { id: None, answer: Err(_) }));
    });
}
