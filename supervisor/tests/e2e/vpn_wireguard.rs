//! Tunnels by WireGuard to Debian's wireguard-go. The box carries its end by wireguard-go too where this kernel has no
//! WireGuard. What outages do to them stands in `vpn_outages`.

use crate::appliance::{proc_text, said, send_signal};
use crate::machine::ip;
use crate::venue::{CENTRE, CENTRE_V6, Capture, Far, Venue, command_in};
use crate::wg::wg;
use crate::wireguard::{WireGuard, is_possible, venue};
use crate::{count, eventually, full, pause, root_only};
use rustix::process::Signal;
use std::fs;
use std::time::Instant;

#[test]
fn records_leave_through_wireguard_and_in_no_other_way() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, _far, keys) = venue("wg", "192.0.2.2:1194");
    let capture = Capture::new(&venue);
    venue.until("noc", "up");
    eventually("a ping is answered", || venue.tunnel("noc")["rtt_ms"].is_number());
    // Enough for the capture to have seen something.
    for n in 0..20 {
        venue.send(&format!("through-the-tunnel-{n}-"));
        venue.arrives(&format!("through-the-tunnel-{n}-"));
    }
    let tunnel = venue.tunnel("noc");
    assert_eq!((&tunnel["carries"], tunnel["probe"].as_str()), (&true.into(), Some("10.8.9.1")));
    assert_eq!(tunnel["server"].as_str(), Some("192.0.2.2"));
    assert!(tunnel["sent"].as_u64().unwrap() > 0, "{tunnel}");
    // Whatever carries it holds nothing.
    if let Some(pid) = venue.wireguard() {
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
        ("the log", venue.raven.running.log()),
    ] {
        assert!(!text.contains(&keys.near) && !text.contains(&keys.shared), "a key is in {what}");
    }
    assert_eq!(capture.end(), "", "outside of the tunnel");
}

#[test]
fn both_ends_and_what_is_inside_may_be_ipv6() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, _far, _) = venue("wgsix", "[2001:db8::2]:1194");
    let capture = Capture::new(&venue);
    venue.configure(|text| text.replace(&format!("{CENTRE}:"), &format!("[{CENTRE_V6}]:")));
    venue.until("noc", "up");
    for n in 0..20 {
        venue.send(&format!("by-ipv6-{n}-"));
        venue.arrives(&format!("by-ipv6-{n}-"));
    }
    assert_eq!(venue.tunnel("noc")["server"].as_str(), Some("2001:db8::2"));
    assert_eq!(capture.end(), "", "outside of the tunnel");
}

#[test]
fn a_far_end_whose_name_stands_for_another_address_is_found_there() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, mut far) = by_name("wgmoves");
    venue.until("noc", "up");
    eventually("a ping is answered", || venue.tunnel("noc")["rtt_ms"].is_number());
    is_found_elsewhere(&venue, &mut far);
}

/// Bytes that come in say whether it lives: half a minute.
#[test]
fn a_far_end_that_answers_no_pings_is_found_at_another_address_too() {
    root_only!();
    if !is_possible() || !full() {
        return;
    }
    let (venue, mut far) = by_name("wgmute");
    answer_no_pings(&venue);
    venue.until_it("noc", "says so", |tunnel| tunnel["cause"] == "nobody answers pings in it");
    is_found_elsewhere(&venue, &mut far);
}

fn by_name(test: &str) -> (Venue, WireGuard) {
    let (venue, far, _) = venue(test, "noc.venue.example:1194");
    venue.name("192.0.2.2 noc.venue.example");
    (venue, far)
}

fn is_found_elsewhere(venue: &Venue, far: &mut WireGuard) {
    venue.send("at-the-first-address");
    venue.arrives("at-the-first-address");
    far.kill();
    let beyond = &venue.cable.names[1];
    ip(&format!("-n {beyond} addr del 192.0.2.2/24 dev eth0"));
    ip(&format!("-n {beyond} addr add 192.0.2.3/24 dev eth0"));
    venue.name("192.0.2.3 noc.venue.example");
    far.start();
    let began = Instant::now();
    venue.send("at-the-second-address");
    venue.arrives("at-the-second-address");
    println!("another address: delivered after {:.1} s", began.elapsed().as_secs_f64());
    venue.until_it("noc", "says where it is", |tunnel| tunnel["server"] == "192.0.2.3");
}

fn answer_no_pings(venue: &Venue) {
    for line in [
        "add table inet deaf",
        "add chain inet deaf input { type filter hook input priority 0 ; }",
        "add rule inet deaf input icmp type echo-request drop",
    ] {
        assert!(command_in(&venue.cable.names[1], "nft").args(line.split(' ')).status().unwrap().success(), "{line}");
    }
}

#[test]
fn records_go_on_when_whoever_answered_pings_goes_away() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, _far, _) = venue("wgdeaf", "192.0.2.2:1194");
    venue.until("noc", "up");
    eventually("a ping is answered", || venue.tunnel("noc")["rtt_ms"].is_number());
    venue.send("before");
    venue.arrives("before");
    answer_no_pings(&venue);
    let began = Instant::now();
    while began.elapsed().as_secs() < 8 {
        venue.send("meanwhile");
        pause(200);
        assert_eq!(venue.tunnel("noc")["carries"], true, "{}", venue.tunnel("noc"));
    }
    venue.until_it("noc", "says so", |tunnel| tunnel["cause"] == "nobody answers pings in it");
    // Nothing is sent: what comes in is what the far end's WireGuard says by itself.
    let quiet = Instant::now();
    while quiet.elapsed().as_secs() < count(60, 1).into() {
        pause(200);
        assert_eq!(venue.tunnel("noc")["carries"], true, "{}", venue.tunnel("noc"));
    }
    venue.send("after");
    venue.arrives("after");
}

#[test]
fn what_carries_it_and_the_roles_may_die_and_come_back() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, _far, _) = venue("wgkill", "192.0.2.2:1194");
    venue.until("noc", "up");
    eventually("a ping is answered", || venue.tunnel("noc")["rtt_ms"].is_number());
    if let Some(first) = venue.wireguard() {
        send_signal(first, Signal::KILL);
        eventually("another runs", || venue.wireguard().is_some_and(|pid| pid != first));
        venue.until("noc", "up");
        venue.send("after-the-kill");
        venue.arrives("after-the-kill");
    }
    for role in ["net", "vpn"] {
        venue.survives(role);
    }
    // It goes with its tunnel.
    let told = venue.raven.raven(&["vpn", "disconnect", "noc"]);
    assert!(told.status.success(), "{}", said(&told));
    eventually("nothing carries it any more", || venue.wireguard().is_none());
}

#[test]
fn a_far_end_that_does_not_know_this_box_is_told() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, mut far, _) = venue("wgkey", "192.0.2.2:1194");
    far.kill();
    let text = fs::read_to_string(&far.config).unwrap();
    let known = text.lines().find_map(|line| line.strip_prefix("PublicKey = ")).unwrap();
    fs::write(&far.config, text.replace(known, &wg("pubkey", &wg("genkey", "").unwrap()).unwrap())).unwrap();
    far.start();
    for verb in ["disconnect", "connect"] {
        let told = venue.raven.raven(&["vpn", verb, "noc"]);
        assert!(told.status.success(), "{}", said(&told));
        pause(300);
    }
    venue.until_cause("noc", "the server does not answer, or does not know this box's key");
}
