//! Tunnels by Debian's openvpn, between two network namespaces: the box at one end of a cable, its operations centre at
//! the other, reached through the tunnel and in no other way.

use crate::appliance::{Appliance, proc_text, said};
use crate::pki::Pki;
use crate::venue::{Capture, Far, Server, Venue, is_possible};
use crate::wg::Keys;
use crate::wireguard::{self, WireGuard};
use crate::{eventually, pause, root_only};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Instant;

#[test]
fn records_leave_through_the_tunnel_and_in_no_other_way() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, mut server) = Venue::with("vpn", "udp", &[], "proto udp\nremote 192.0.2.2 1194");
    let capture = Capture::new(&venue);
    venue.until("noc", "up");
    let tunnel = venue.tunnel("noc");
    assert_eq!((&tunnel["carries"], &tunnel["server"]), (&Value::Bool(true), &Value::from("192.0.2.2")), "{tunnel}");
    assert_eq!(tunnel["addresses"], serde_json::json!(["10.8.77.2/24"]));
    venue.send("through-the-tunnel");
    venue.arrives("through-the-tunnel");

    // openvpn has no right, and none of what it needs is on disk or in its arguments.
    let pid = venue.openvpn();
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
    server.kill();
    let killed = Instant::now();
    eventually("its loss is noticed", || venue.tunnel("noc")["carries"] == false);
    println!("the server was killed: noticed after {:.1} s", killed.elapsed().as_secs_f64());
    for n in 0..20 {
        venue.send(&format!("while-it-is-down-{n}"));
    }
    pause(3000);
    assert!(!venue.noc.received().contains("while-it-is-down"), "by which way?");
    server.start();
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

#[test]
fn openvpn_net_and_vpn_may_die_hang_and_come_back() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, _server) = Venue::with("vpnkill", "tcp-server", &[], "proto tcp\nremote 192.0.2.2 1194");
    venue.until("noc", "up");
    eventually("a ping is answered", || venue.tunnel("noc")["rtt_ms"].is_number());
    let first = venue.openvpn();
    crate::appliance::send_signal(first, Signal::KILL);
    eventually("another openvpn runs", || venue.openvpn() != first);
    venue.until("noc", "up");
    venue.send("after-the-kill");
    venue.arrives("after-the-kill");
    // One that stands still is found out by what does not come through, and begun anew.
    let second = venue.openvpn();
    crate::appliance::send_signal(second, Signal::STOP);
    eventually("the one that stood still is gone", || venue.openvpn() != second);
    venue.until("noc", "up");
    for role in ["net", "vpn"] {
        venue.survives(role);
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
    let (venue, _server) = Venue::with("vpnpush", "udp", &pushes, "proto udp\nremote 192.0.2.2 1194");
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
    let (venue, mut server) = Venue::with("vpnfail", "udp", &[], "proto udp\nremote 192.0.2.2 1194");
    let _second = Server::new(&venue, "tun8", "udp", 1195, 78, &[]);
    venue.import("backup", "proto udp\nremote 192.0.2.2 1195");
    fails_over_and_back(&venue, &mut server);
}

#[test]
fn the_next_profile_may_be_of_the_other_kind() {
    root_only!();
    if !is_possible() || !wireguard::is_possible() {
        return;
    }
    let (venue, mut server) = Venue::with("vpnwgfail", "tcp-server", &[], "proto tcp-client\nremote 192.0.2.2 1194");
    let keys = Keys::new().unwrap();
    let _second = WireGuard::new(&venue, &keys);
    venue.import_text("backup", &wireguard::profile(&keys, "192.0.2.2:1194"), &[]);
    fails_over_and_back(&venue, &mut server);
}

#[test]
fn the_next_profile_after_wireguard_may_be_by_openvpn() {
    root_only!();
    if !is_possible() || !wireguard::is_possible() {
        return;
    }
    let (venue, mut far, _) = wireguard::venue("wgvpnfail", "192.0.2.2:1194");
    let _second = Server::new(&venue, "tun8", "tcp-server", 1195, 78, &[]);
    venue.import("backup", "proto tcp-client\nremote 192.0.2.2 1195");
    fails_over_and_back(&venue, &mut far);
}

/// The tunnel `backup` carries while the far end of `noc` is dead.
fn fails_over_and_back(venue: &Venue, first: &mut dyn Far) {
    venue.enable("backup");
    venue.until("noc", "up");
    eventually("a ping is answered", || venue.tunnel("noc")["rtt_ms"].is_number());
    assert_eq!(venue.tunnel("backup")["state"], "off");
    first.kill();
    let killed = Instant::now();
    eventually("the backup carries", || venue.tunnel("backup")["carries"] == true);
    println!("the first server was killed: the second carries after {:.1} s", killed.elapsed().as_secs_f64());
    venue.send("by-the-backup");
    venue.arrives("by-the-backup");
    first.start();
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
    let (raven, keys) = (Appliance::start(), tempfile::tempdir().unwrap());
    let pki = Pki::new(keys.path()).unwrap();
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
