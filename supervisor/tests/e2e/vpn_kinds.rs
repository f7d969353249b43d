//! Every kind of tunnel, one after the other on one box: each comes up, a record is delivered through it and
//! acknowledged, and nothing of it is seen on a cable. A kind is a row of [`KINDS`].

use crate::appliance::{number, said};
use crate::machine::ip;
use crate::venue::{BEYOND, CENTRE_V6, Capture, Program, Server, Venue, command_in, is_possible};
use crate::{eventually, root_only};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Instant;

/// A kind of tunnel: how it is called, and what makes its far end. The number is that of its network, its device and
/// its port.
struct Kind {
    name: &'static str,
    make: fn(&Venue, u8) -> Far,
}

/// The far end of a tunnel, and what an engineer imports at the box.
struct Far {
    /// The profile.
    text: String,
    /// Of `raven vpn import`.
    arguments: Vec<String>,
    /// How the box's address in this tunnel begins.
    address: String,
    _server: Server,
    _proxy: Option<Program>,
}

const KINDS: [Kind; 17] = [
    Kind { name: "UDP, tls-crypt", make: |venue, n| far(venue, n, Given::new("udp")) },
    Kind { name: "TCP, tls-crypt", make: |venue, n| far(venue, n, Given::new("tcp")) },
    Kind { name: "certificates alone", make: |venue, n| far(venue, n, Given { control: None, ..Given::new("udp") }) },
    Kind { name: "tls-auth", make: tls_auth },
    Kind { name: "tls-crypt-v2", make: tls_crypt_v2 },
    Kind { name: "HTTP proxy", make: |venue, n| http_proxy(venue, n, None) },
    Kind { name: "HTTP proxy that asks who", make: |venue, n| http_proxy(venue, n, Some(("venue7", "pass-word"))) },
    Kind { name: "SOCKS proxy", make: socks_proxy },
    Kind { name: "user and password, no certificate", make: |venue, n| password(venue, n, false, PASSWORD) },
    Kind { name: "user and password beside a certificate", make: |venue, n| password(venue, n, true, PASSWORD) },
    Kind { name: "PKCS #12 with a passphrase", make: pkcs12 },
    Kind { name: "key with a passphrase", make: key_with_passphrase },
    Kind { name: "IPv6 outside, UDP", make: |venue, n| far(venue, n, Given { to: V6_OUTSIDE, ..Given::new("udp6") }) },
    Kind { name: "IPv6 outside, TCP", make: |venue, n| far(venue, n, Given { to: V6_OUTSIDE, ..Given::new("tcp6") }) },
    Kind { name: "several remotes, the first is dead", make: |venue, n| several(venue, n, "udp") },
    Kind { name: "several remotes by TCP, the first is dead", make: |venue, n| several(venue, n, "tcp") },
    Kind { name: "IPv6 inside too", make: v6_inside },
];

const V6_OUTSIDE: &str = "2001:db8::2";
const PASSWORD: &str = "pass \"word\" \\ 7";
/// A directive and the file that belongs to it.
type Keys = (&'static str, &'static str);
const AUTHORITY: Keys = ("ca", "ca.crt");
const CERTIFICATE: [Keys; 3] = [AUTHORITY, ("cert", "client.crt"), ("key", "client.key")];

/// What differs between most kinds.
struct Given {
    proto: &'static str,
    to: &'static str,
    /// Lines of the profile.
    lines: String,
    files: Vec<Keys>,
    /// What protects the handshake: of the client, and of the server.
    control: Option<(Keys, Keys)>,
    /// More options of the server.
    more: Vec<String>,
    /// Of `raven vpn import`.
    arguments: Vec<String>,
}

impl Given {
    fn new(proto: &'static str) -> Self {
        let crypt = ("tls-crypt", "crypt.key");
        Self {
            proto,
            to: "192.0.2.2",
            lines: String::new(),
            files: CERTIFICATE.to_vec(),
            control: Some((crypt, crypt)),
            more: Vec::new(),
            arguments: Vec::new(),
        }
    }
}

const fn port(n: u8) -> u16 {
    1200 + n as u16
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn far(venue: &Venue, n: u8, given: Given) -> Far {
    let (ours, theirs) = given.control.unzip();
    let files: Vec<Keys> = given.files.into_iter().chain(ours).collect();
    let lines = format!("{}\nproto {}\nremote {} {}", given.lines, given.proto, given.to, port(n));
    let text = venue.pki.profile_of(&lines, &files).unwrap();
    let proto = given.proto.replace("tcp6", "tcp6-server");
    let proto = if proto == "tcp" { "tcp-server" } else { &proto };
    let keys: Vec<Keys> = [("cert", "server.crt")].into_iter().chain(theirs).collect();
    let device = format!("tun{n}");
    let mut options = venue.pki.server_of(&device, proto, (port(n), n), &keys);
    options.extend(given.more);
    let server = Server::with(venue, &device, options);
    Far { text, arguments: given.arguments, address: format!("10.8.{n}."), _server: server, _proxy: None }
}

/// Runs openssl or openvpn where the keys are.
fn run(venue: &Venue, program: &str, line: &str) {
    let done = Command::new(program).args(line.split(' ')).current_dir(venue.pki.path("")).output().unwrap();
    assert!(done.status.success(), "{program} {line}: {}", String::from_utf8_lossy(&done.stderr));
}

fn tls_auth(venue: &Venue, n: u8) -> Far {
    run(venue, "openvpn", "--genkey secret auth.key");
    let key = ("tls-auth", "auth.key");
    let (lines, more) = ("key-direction 1".to_owned(), words("--key-direction 0"));
    far(venue, n, Given { control: Some((key, key)), lines, more, ..Given::new("udp") })
}

fn tls_crypt_v2(venue: &Venue, n: u8) -> Far {
    run(venue, "openvpn", "--genkey tls-crypt-v2-server v2-server.key");
    run(venue, "openvpn", "--tls-crypt-v2 v2-server.key --genkey tls-crypt-v2-client v2-client.key");
    let control = Some((("tls-crypt-v2", "v2-client.key"), ("tls-crypt-v2", "v2-server.key")));
    far(venue, n, Given { control, ..Given::new("udp") })
}

/// Reached by nothing but the proxy.
fn behind_a_proxy(lines: String) -> Given {
    Given { to: BEYOND, lines, more: words(&format!("--local {BEYOND}")), ..Given::new("tcp") }
}

fn http_proxy(venue: &Venue, n: u8, login: Option<(&str, &str)>) -> Far {
    let file = venue.pki.path(&format!("tinyproxy-{n}.conf"));
    let asks = login.map(|(user, password)| format!("BasicAuth {user} {password}\n")).unwrap_or_default();
    let (at, to) = (port(n) + 1000, port(n));
    let config = format!("Port {at}\nListen 192.0.2.2\nTimeout 600\nAllow 192.0.2.0/24\nConnectPort {to}\n{asks}");
    fs::write(&file, config).unwrap();
    let proxy = Program::start(&venue.cable, "tinyproxy", &["-d", "-c", file.to_str().unwrap()]);
    let lines = match login {
        None => format!("http-proxy 192.0.2.2 {at}"),
        Some((user, password)) => format!(
            "http-proxy 192.0.2.2 {at} stdin basic\n<http-proxy-user-pass>\n{user}\n{password}\n</http-proxy-user-pass>"
        ),
    };
    Far { _proxy: Some(proxy), ..far(venue, n, behind_a_proxy(lines)) }
}

fn socks_proxy(venue: &Venue, n: u8) -> Far {
    let at = port(n) + 1000;
    let proxy = Program::start(&venue.cable, "microsocks", &["-i", "192.0.2.2", "-p", &at.to_string()]);
    Far { _proxy: Some(proxy), ..far(venue, n, behind_a_proxy(format!("socks-proxy 192.0.2.2 {at}"))) }
}

/// A server that takes `venue7` with [`PASSWORD`]; the profile comes with `password`.
fn password(venue: &Venue, n: u8, with_certificate: bool, password: &str) -> Far {
    let (script, login) = (venue.pki.path("verify"), venue.pki.path("login"));
    let wanted = venue.pki.path("wanted");
    fs::write(&wanted, format!("venue7\n{PASSWORD}\n")).unwrap();
    fs::write(&login, format!("venue7\n{password}\n")).unwrap();
    fs::write(&script, format!("#!/bin/sh\nexec cmp -s \"$1\" {}\n", wanted.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut more = words("--script-security 2 --username-as-common-name --auth-user-pass-verify");
    more.extend([script.display().to_string(), "via-file".to_owned()]);
    if !with_certificate {
        more.extend(words("--verify-client-cert none"));
    }
    let files = if with_certificate { CERTIFICATE.to_vec() } else { vec![AUTHORITY] };
    let arguments = vec!["--login".to_owned(), login.display().to_string()];
    far(venue, n, Given { lines: "auth-user-pass".to_owned(), files, more, arguments, ..Given::new("udp") })
}

fn with_passphrase(venue: &Venue, n: u8, lines: String, files: Vec<Keys>) -> Far {
    let file = venue.pki.path("passphrase");
    fs::write(&file, "open-sesame\n").unwrap();
    let arguments = vec!["--passphrase".to_owned(), file.display().to_string()];
    far(venue, n, Given { lines, files, arguments, ..Given::new("udp") })
}

fn pkcs12(venue: &Venue, n: u8) -> Far {
    let all = "-inkey client.key -in client.crt -certfile ca.crt -out client.p12 -passout pass:open-sesame";
    run(venue, "openssl", &format!("pkcs12 -export {all}"));
    run(venue, "openssl", "base64 -in client.p12 -out client.p12.base64");
    with_passphrase(venue, n, String::new(), vec![AUTHORITY, ("pkcs12", "client.p12.base64")])
}

fn key_with_passphrase(venue: &Venue, n: u8) -> Far {
    run(venue, "openssl", "pkcs8 -topk8 -in client.key -out locked.key -passout pass:open-sesame");
    with_passphrase(venue, n, String::new(), vec![AUTHORITY, ("cert", "client.crt"), ("key", "locked.key")])
}

/// Nobody has the first address.
fn several(venue: &Venue, n: u8, proto: &'static str) -> Far {
    let lines = format!("remote 192.0.2.66 {}", port(n));
    far(venue, n, Given { lines, ..Given::new(proto) })
}

fn v6_inside(venue: &Venue, n: u8) -> Far {
    let mut more = words(&format!("--server-ipv6 fd00:8:{n}::/64 --push"));
    more.push("route-ipv6 fd00:20::/64".to_owned());
    far(venue, n, Given { more, ..Given::new("udp") })
}

/// Imports a kind as the box's only tunnel, and waits until it carries.
fn bring_up(venue: &Venue, far: &Far) {
    venue.import_text("noc", &far.text, &far.arguments);
    if !fs::read_to_string(venue.raven.plan.config()).unwrap().contains("[uplink.noc]") {
        venue.enable("noc");
        venue.deliver();
    }
    venue.until_it("noc", &format!("is up with {}", far.address), |tunnel| {
        let addresses = tunnel["addresses"].to_string();
        tunnel["state"] == "up" && tunnel["carries"] == true && addresses.contains(&far.address)
    });
}

/// A record arrives; when it is so, the destination has acknowledged `n` of them.
fn delivers(venue: &Venue, text: &str, n: u64) {
    venue.send(text);
    venue.arrives(text);
    eventually(&format!("{text} is acknowledged"), || number(&venue.raven.destination("noc")["acked_seq"]) >= n);
}

#[test]
fn every_kind_of_tunnel_comes_up_and_delivers_and_nothing_is_seen_outside() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpnkinds");
    let capture = Capture::new(&venue);
    let began = Instant::now();
    for (n, kind) in (1..).zip(&KINDS) {
        let (far, at) = ((kind.make)(&venue, n), Instant::now());
        bring_up(&venue, &far);
        let up = at.elapsed().as_secs_f64();
        delivers(&venue, &format!("by-kind-{n}-"), n.into());
        println!("{}: up after {up:.1} s, delivered after {:.1} s", kind.name, at.elapsed().as_secs_f64());
    }
    println!("{} kinds in {:.0} s", KINDS.len(), began.elapsed().as_secs_f64());
    assert_eq!(capture.end(), "", "outside of the tunnel");
    // The end of the process of one version is not taken for that of the next.
    let events = said(&venue.raven.raven(&["vpn", "events"]));
    assert!(!events.contains("openvpn ended"), "{events}");
}

#[test]
fn a_wrong_password_is_told_as_such_and_the_right_one_is_used_at_once() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpnlogin");
    let wrong = password(&venue, 1, false, "guessed");
    venue.import_text("noc", &wrong.text, &wrong.arguments);
    venue.enable("noc");
    venue.deliver();
    venue.until_cause("noc", "auth refused");
    drop(wrong);
    bring_up(&venue, &password(&venue, 2, false, PASSWORD));
    let events = venue.raven.raven(&["vpn", "events"]);
    assert!(!said(&events).contains("guessed") && !venue.raven.running.log().contains("guessed"));
}

#[test]
fn a_destination_by_ipv6_is_reached_through_the_networks_of_the_tunnel() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpninside");
    let far = v6_inside(&venue, 1);
    let capture = Capture::new(&venue);
    // Without `via`: the address alone leads into the tunnel. It is there before the tunnel is.
    let uplink = venue.noc.uplink("noc").replace("127.0.0.1", &format!("[{CENTRE_V6}]"));
    let near = &venue.cable.names[0];
    ip(&format!("-n {near} route add default via 2001:db8::2"));
    venue.import_text("noc", &far.text, &far.arguments);
    venue.configure(|text| text.replace("[vpn]\n", "[vpn]\nnetworks = [\"fd00:20::/64\"]\n"));
    let way = || Command::new("ip").args(["-n", near, "route", "get", CENTRE_V6]).output().unwrap();
    eventually("nothing leads there", || !way().status.success());
    venue.configure(|text| text + &uplink);
    venue.send("before-there-is-a-tunnel");
    let error = || venue.raven.destination("noc")["last_error"].to_string();
    eventually("it is not reached", || error().contains(CENTRE_V6));
    assert_eq!(venue.noc.received(), "");
    venue.enable("noc");
    venue.until("noc", "up");
    assert!(venue.tunnel("noc")["addresses"].to_string().contains("fd00:8:1:"), "{}", venue.tunnel("noc"));
    venue.arrives("before-there-is-a-tunnel");
    delivers(&venue, "by-ipv6-inside", 2);
    assert_eq!(capture.end(), "", "outside of the tunnel");
}

#[test]
fn the_next_link_is_taken_where_the_first_has_a_carrier_and_carries_nothing() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpnlinks");
    let [near, beyond] = &venue.cable.names;
    // A second cable; the server is behind both.
    ip(&format!("-n {near} link add eth1 type veth peer name eth1 netns {beyond}"));
    for (name, end) in [(near, 1), (beyond, 2)] {
        ip(&format!("-n {name} addr add 198.51.100.{end}/24 dev eth1"));
        ip(&format!("-n {name} link set eth1 up"));
    }
    for (gateway, metric) in [("192.0.2.2 dev eth0", 10), ("198.51.100.2 dev eth1", 20)] {
        ip(&format!("-n {near} route add {BEYOND} via {gateway} metric {metric}"));
    }
    let capture = Capture::new(&venue);
    let proto = |venue: &Venue, n: u8, proto: &'static str| {
        far(venue, n, Given { to: BEYOND, more: words(&format!("--local {BEYOND}")), ..Given::new(proto) })
    };
    for (n, kind) in [(1, "udp"), (2, "tcp")] {
        let far = proto(&venue, n, kind);
        drop_all_of(&venue, "eth0", port(n));
        let at = Instant::now();
        venue.import_text("noc", &far.text, &far.arguments);
        if n == 1 {
            let links = "[vpn.profile.noc]\nlinks = [\"eth0\", \"eth1\"]\n";
            venue.configure(|text| text.replace("[vpn.profile.noc]\n", links));
            assert!(fs::read_to_string(venue.raven.plan.config()).unwrap().contains(links));
        }
        bring_up(&venue, &far);
        println!("{kind}: up by the second link after {:.1} s", at.elapsed().as_secs_f64());
        delivers(&venue, &format!("by-the-second-link-{kind}"), n.into());
    }
    assert_eq!(capture.end(), "", "outside of the tunnel");
}

/// What comes to this port over this link is lost.
fn drop_all_of(venue: &Venue, link: &str, port: u16) {
    for line in [
        "add table inet lossy".to_owned(),
        "add chain inet lossy input { type filter hook input priority 0 ; }".to_owned(),
        format!("add rule inet lossy input iifname {link} th dport {port} drop"),
    ] {
        let done = command_in(&venue.cable.names[1], "nft").args(line.split(' ')).status().unwrap();
        assert!(done.success(), "nft {line}");
    }
}
