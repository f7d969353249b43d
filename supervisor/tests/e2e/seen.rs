//! What happens to links and tunnels is seen: as records of the stream `host`, and by `raven net`.

use crate::appliance::{Appliance, Plan, number, said, sections};
use crate::machine::{Cable, ip};
use crate::pki::Pki;
use crate::rsyslog::{self, Rsyslog};
use crate::{eventually, pause, root_only};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Behind the tunnel.
const CENTRE: &str = "10.20.0.1";

/// A box at the near end that looks at itself each second.
fn start(cable: &Cable, more: &str) -> Appliance {
    let host = sections(&[("host", "interval = \"1s\"".to_owned())]);
    cable.start(Plan { others: host, uplinks: more.to_owned(), ..Plan::new() })
}

/// Records of the stream `host` that tell what happened, the oldest first, without the processes of the test.
fn events(raven: &Appliance) -> Vec<Value> {
    let exported = raven.raven(&["export", "host", "--format", "ndjson"]);
    let text = String::from_utf8(exported.stdout).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told = records.map(|record| serde_json::from_str::<Value>(record["raw"].as_str().unwrap()).unwrap());
    told.filter(|told| told["event"].is_string() && told["event"] != "process_restarted").collect()
}

/// Those of a kind.
fn of(raven: &Appliance, event: &str) -> Vec<Value> {
    events(raven).into_iter().filter(|told| told["event"] == event).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

#[test]
fn who_was_sought_without_a_cable_is_asked_for_at_once_when_there_is_one() {
    root_only!();
    if !crate::venue::is_possible() {
        return;
    }
    let cable = Cable::new("sought");
    let raven = start(&cable, "");
    eventually("the role has settled", || raven.status()["links"][0]["state"] == "up");
    let [near, far] = &cable.names;
    let sought = || {
        let shown = Command::new("ip").args(["-n", near, "neigh", "show", "192.0.2.77"]).output().unwrap();
        String::from_utf8(shown.stdout).unwrap()
    };
    ip(&format!("-n {far} link set eth0 down"));
    eventually("there is no cable", || raven.status()["links"][0]["carrier"] == false);
    cable.inside(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "192.0.2.77:9")).unwrap();
    assert!(sought().contains("192.0.2.77"), "{}", sought());
    ip(&format!("-n {far} link set eth0 up"));
    eventually("there is a cable", || raven.status()["links"][0]["carrier"] == true);
    eventually("it is forgotten", || sought().is_empty());
}

#[test]
fn what_happens_to_a_link_is_a_record_once_and_at_its_time() {
    root_only!();
    let cable = Cable::new("seen");
    let raven = start(&cable, "");
    let [near, far] = &cable.names;
    // From here on the role tells, and not the sample.
    eventually("the role has settled", || raven.status()["links"][0]["state"] == "up");
    pause(4000);
    let before = now();
    ip(&format!("-n {far} link set eth0 down"));
    eventually("the lost carrier is a record", || !of(&raven, "carrier_down").is_empty());
    let lost = of(&raven, "carrier_down");
    assert_eq!((lost.len(), &lost[0]["interface"]), (1, &json!("eth0")), "{lost:?}");
    assert!((before..=now()).contains(&number(&lost[0]["t"])), "{lost:?}");
    // The role that makes records dies; what was told is not told again, what comes is.
    raven.kill("host", Signal::KILL);
    ip(&format!("-n {far} link set eth0 up"));
    ip(&format!("-n {near} addr add 198.51.100.7/24 dev eth0"));
    ip(&format!("-n {near} route add default via 192.0.2.9"));
    eventually("address and route are records", || {
        !of(&raven, "address_added").is_empty() && !of(&raven, "gateway_added").is_empty()
    });
    eventually("the carrier is a record", || !of(&raven, "carrier_up").is_empty());
    pause(2500);
    let all = events(&raven);
    let count = |event: &str| all.iter().filter(|told| told["event"] == event).count();
    assert_eq!((count("carrier_down"), count("carrier_up"), count("events_missed")), (1, 1, 0), "{all:?}");
    let added: Vec<&Value> = all.iter().filter(|told| told["event"] == "address_added").collect();
    assert!(added.iter().any(|told| told["address"] == "198.51.100.7/24"), "{all:?}");

    let screen = said(&raven.raven(&["net"]));
    for part in ["eth0  up", "192.0.2.1/24", "by hand", "198.51.100.7/24", "192.0.2.9"] {
        assert!(screen.contains(part), "{part}\n{screen}");
    }
    let told = said(&raven.raven(&["net", "events"]));
    for part in ["eth0      lost its carrier", "has address 198.51.100.7/24", "default route to 192.0.2.9"] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    let json: Value = serde_json::from_slice(&raven.raven(&["net", "--json"]).stdout).unwrap();
    assert!(number(&json["links"][0]["traffic"]["tx_packets"]) > 0, "{json}");
    let rules = said(&raven.raven(&["net", "firewall"]));
    assert!(
        rules.contains("accept") && rules.contains("collects syslog") && !rules.contains("no Raven box"),
        "{rules}"
    );
    // What is shown is what is in force.
    let mut nft = Command::new("ip");
    let listed = nft.args(["netns", "exec", near, "nft", "list", "table", "inet", "raven"]).output().unwrap();
    let json: Value = serde_json::from_slice(&raven.raven(&["net", "firewall", "--json"]).stdout).unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let whys: Vec<&str> = json["rules"].as_array().unwrap().iter().map(|rule| rule["why"].as_str().unwrap()).collect();
    assert_eq!(listed.matches(" comment ").count(), whys.len(), "{listed}");
    assert!(whys.iter().all(|why| listed.contains(&format!("comment \"{why}\""))), "{listed}");
}

/// A real server at the far end of the cable, which ends with the test.
struct Server(Child);

impl Server {
    fn start(cable: &Cable, pki: &Pki) -> Self {
        let log = File::options().create(true).append(true).open(pki.path("server.log")).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &cable.names[1], "openvpn"]).args(pki.server("tun7", "udp", 1194, 77));
        Self(command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn the_end_of_a_tunnel_and_its_return_are_records_with_cause_and_time_and_are_delivered() {
    root_only!();
    let tun = fs::set_permissions("/dev/net/tun", Permissions::from_mode(0o666));
    if tun.is_err() || !Path::new("/usr/sbin/openvpn").exists() || !rsyslog::is_installed() {
        eprintln!("not run: needs openvpn, rsyslog and /dev/net/tun");
        return;
    }
    let folder = tempfile::Builder::new().prefix("raven-pki-").tempdir().unwrap();
    let (cable, pki) = (Cable::new("seenvpn"), Pki::new(folder.path()).unwrap());
    let sysctl = "net.ipv4.ping_group_range=61001 61999";
    let near = &cable.names[0];
    assert!(Command::new("ip").args(["netns", "exec", near, "sysctl", "-qw", sysctl]).status().unwrap().success());
    ip(&format!("-n {} addr add {CENTRE}/32 dev lo", cable.names[1]));
    let mut noc = Rsyslog::new();
    noc.start_in(&cable.names[1]);
    let server = Server::start(&cable, &pki);
    let uplink = noc.uplink("noc").replace("127.0.0.1", CENTRE) + "via = \"vpn\"\nstreams = [\"host\"]\n";
    let raven = start(&cable, "");
    let profile = pki.path("noc.ovpn");
    fs::write(&profile, pki.profile("proto udp\nremote 192.0.2.2 1194").unwrap()).unwrap();
    for command in [vec!["vpn", "import", "noc", profile.to_str().unwrap()], vec!["vpn", "enable", "noc"]] {
        let told = raven.raven(&command);
        assert!(told.status.success(), "{}", said(&told));
    }
    let text = fs::read_to_string(raven.plan.config()).unwrap();
    let text = text.replace("[vpn]\n", "[vpn]\nnetworks = [\"10.20.0.0/16\"]\n") + &uplink;
    let put = raven.ask(&[json!({ "put": { "text": text } })]);
    assert!(put["applied"].is_array(), "{put}\n{text}");
    let tunnel = || raven.status()["vpn"][0].clone();
    eventually("the tunnel is up", || tunnel()["state"] == "up" && tunnel()["rtt_ms"].is_number());
    let is = |told: &Value, states: &[&str]| {
        told["event"] == "tunnel_state" && told["tunnel"] == "noc" && states.iter().any(|state| told["state"] == *state)
    };
    eventually("that it is up is a record", || events(&raven).iter().any(|told| is(told, &["up"])));
    let led = |into: Value| events(&raven).iter().any(|told| told["event"] == "network_led" && told["into"] == into);
    let screen = said(&raven.raven(&["net"]));
    for part in ["vpn-noc", "to 10.20.0.0/16", "the tunnel that carries", "bound to vpn-noc (IPv4)"] {
        assert!(screen.contains(part), "{part}\n{screen}");
    }

    let killed = now();
    drop(server);
    let ended = |told: &Value| is(told, &["half-open", "down", "connecting"]) && number(&told["t"]) >= killed;
    eventually("its end is a record", || events(&raven).iter().any(ended));
    let end = events(&raven).into_iter().find(ended).unwrap();
    assert_ne!(end["cause"], "", "{end}");
    eventually("so is that its networks lead nowhere", || led(Value::Null));
    pause(1000);
    assert!(!noc.received().contains(&end.to_string()), "by which way?");
    let _server = Server::start(&cable, &pki);
    let returned = |told: &Value| is(told, &["up"]) && number(&told["t"]) > number(&end["t"]);
    eventually("its return is a record", || events(&raven).iter().any(returned));
    eventually("so is that they lead into it again", || led(json!("vpn-noc")));
    eventually("its end has arrived", || noc.received().contains("half-open") || noc.received().contains("connecting"));
    eventually("numbers of it are in a sample", || {
        let status = said(&raven.raven(&["tail", "host", "--json", "--last", "3"]));
        status.contains("\\\"tunnels\\\":[{\\\"name\\\":\\\"noc\\\"")
    });

    // A destination that is reached through the tunnel alone goes first.
    let without = fs::read_to_string(raven.plan.config()).unwrap().replace(&uplink, "");
    let put = raven.ask(&[json!({ "put": { "text": without } })]);
    assert!(put["applied"].is_array(), "{put}");
    let told = raven.raven(&["vpn", "disable", "noc"]);
    assert!(told.status.success(), "{}", said(&told));
    let off =
        |told: &Value| is(told, &["off"]) && told["cause"].as_str().is_some_and(|cause| cause.contains("vpn.order"));
    eventually("that it is used no more is a record", || events(&raven).iter().any(off));
}
