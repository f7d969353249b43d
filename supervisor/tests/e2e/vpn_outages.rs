//! Outages of a tunnel, by OpenVPN over UDP and TCP, and by WireGuard: whatever happens to the way, every record that was sent during it arrives, and
//! nothing of it is seen outside of the tunnel. How long a loss takes to be noticed and healed is printed, not asserted.

use crate::machine::ip;
use crate::marks::Marks;
use crate::sender::Sender;
use crate::venue::{Capture, Far, Venue, drop_packets, is_possible};
use crate::wireguard;
use crate::{count, eventually, full, pause, root_only};
use std::time::{Duration, Instant, SystemTime};

/// What happens to a tunnel: it is broken, and mended.
struct Outage {
    name: &'static str,
    /// Gone through wherever the tests run, the others when the long counts are asked for.
    is_telling: bool,
    break_it: fn(&Venue, &mut dyn Far),
    mend: fn(&Venue, &mut dyn Far),
}

const OUTAGES: [Outage; 10] = [
    Outage {
        name: "server killed",
        is_telling: true,
        break_it: |_, server| server.kill(),
        mend: |_, server| server.start(),
    },
    Outage {
        name: "server stopped",
        is_telling: true,
        break_it: |_, server| server.stop(),
        mend: |_, server| {
            server.ended();
            server.start();
        },
    },
    Outage {
        name: "cable pulled at the far end",
        is_telling: false,
        break_it: |v, _| plug(v, 1, "down"),
        mend: |v, _| plug(v, 1, "up"),
    },
    Outage {
        name: "link off at the box",
        is_telling: false,
        break_it: |v, _| plug(v, 0, "down"),
        mend: |v, _| plug(v, 0, "up"),
    },
    Outage {
        name: "link off at the box for a minute",
        is_telling: false,
        break_it: |v, _| {
            plug(v, 0, "down");
            pause(60_000);
        },
        mend: |v, _| plug(v, 0, "up"),
    },
    Outage {
        name: "dropped both ways",
        is_telling: false,
        break_it: |v, _| drop_packets(&v.cable, &BOTH),
        mend: |v, _| drop_packets(&v.cable, &[]),
    },
    Outage {
        name: "dropped outbound",
        is_telling: true,
        break_it: |v, _| drop_packets(&v.cable, &BOTH[..1]),
        mend: |v, _| drop_packets(&v.cable, &[]),
    },
    Outage {
        name: "dropped inbound",
        is_telling: false,
        break_it: |v, _| drop_packets(&v.cable, &BOTH[1..]),
        mend: |v, _| drop_packets(&v.cable, &[]),
    },
    Outage {
        name: "another address in the tunnel",
        is_telling: true,
        break_it: |_, server| server.kill(),
        mend: |_, server| {
            server.give_another_address();
            server.start();
        },
    },
    Outage {
        name: "another network card",
        is_telling: true,
        break_it: |v, _| unplug_card(v),
        mend: |v, _| plug_card(v),
    },
];

const BOTH: [&str; 2] = ["to the server", "from the server"];

/// The far end's link follows what is done at one end of a cable.
fn plug(venue: &Venue, end: usize, how: &str) {
    ip(&format!("-n {} link set eth0 {how}", venue.cable.names[end]));
    if how == "up" && end == 0 {
        // As networkd does: addresses of IPv6 go with the link.
        ip(&format!("-n {} addr replace 2001:db8::1/64 dev eth0 nodad", venue.cable.names[0]));
    }
}

fn unplug_card(venue: &Venue) {
    ip(&format!("-n {} link del eth0", venue.cable.names[0]));
}

/// Of another name at the box, with the same address.
fn plug_card(venue: &Venue) {
    let [near, far] = &venue.cable.names;
    ip(&format!("-n {near} link add eth7 type veth peer name eth0 netns {far}"));
    for (name, device, end) in [(near, "eth7", 1), (far, "eth0", 2)] {
        ip(&format!("-n {name} addr add 192.0.2.{end}/24 dev {device}"));
        ip(&format!("-n {name} link set {device} up"));
    }
}

/// Records at a steady pace, from a device at the venue.
fn steady(venue: &Venue, run: &'static str) -> Sender {
    let to = venue.raven.udp();
    venue.cable.inside(|| Sender::udp(to, run, 0, 100))
}

/// Waits until all of a run has arrived, and says that nothing of it is missing.
fn all_arrive(venue: &Venue, run: &str, sent: u64) {
    let audit = || Marks::of_text(&venue.noc.received(), run).audit(0, sent);
    let patience = Instant::now() + Duration::from_secs(30);
    while audit().missing > 0 && Instant::now() < patience {
        pause(50);
    }
    let missing = audit().missing;
    assert_eq!(missing, 0, "of {sent} of {run}: {} {}", venue.raven.destination("noc"), venue.tunnel("noc"));
}

fn goes_through(outage: &Outage, run: &'static str, venue: &Venue, server: &mut dyn Far) {
    venue.until("noc", "up");
    eventually("a ping is answered", || venue.tunnel("noc")["rtt_ms"].is_number());
    let sender = steady(venue, run);
    pause(300);
    let began = SystemTime::now();
    (outage.break_it)(venue, server);
    venue.until_it("noc", &format!("is not up: {}", outage.name), |tunnel| tunnel["carries"] == false);
    let why = venue.tunnel("noc");
    let noticed = venue.lost_since("noc", began);
    pause(1000);
    (outage.mend)(venue, server);
    let mended = Instant::now();
    venue.until("noc", "up");
    let up = mended.elapsed();
    let sent = sender.stop();
    all_arrive(venue, run, sent);
    println!(
        "{run}, {}: noticed after {:.1} s ({}, {}), up {:.1} s after it was mended, all {sent} records after {:.1} s",
        outage.name,
        noticed.as_secs_f64(),
        why["state"].as_str().unwrap_or("?"),
        why["cause"].as_str().unwrap_or("?"),
        up.as_secs_f64(),
        mended.elapsed().as_secs_f64()
    );
}

fn all_outages(test: &str, proto: &str, (profile, more): (&str, &[&str]), runs: [&'static str; 11]) {
    let (venue, mut server) = Venue::with(test, proto, more, profile);
    go_through_all(&venue, &mut server, runs);
}

fn go_through_all(venue: &Venue, server: &mut dyn Far, runs: [&'static str; 11]) {
    let capture = Capture::new(venue);
    for (outage, run) in OUTAGES.iter().zip(runs).filter(|(outage, _)| full() || outage.is_telling) {
        goes_through(outage, run, venue, server);
    }
    flaps(venue, runs[10]);
    assert_eq!(capture.end(), "", "outside of the tunnel");
}

/// The cable goes in and out, a second or three each, for 40 s.
fn flaps(venue: &Venue, run: &'static str) {
    venue.until("noc", "up");
    let (sender, began) = (steady(venue, run), Instant::now());
    let mut n: u64 = 0;
    while began.elapsed() < Duration::from_secs(count(40, 10).into()) {
        plug(venue, 1, "down");
        pause(1000 + n * 700 % 2000);
        plug(venue, 1, "up");
        pause(1000 + n * 1100 % 2000);
        n += 1;
    }
    let (sent, mended) = (sender.stop(), Instant::now());
    all_arrive(venue, run, sent);
    println!("{run}: {n} times out and in, all {sent} records {:.1} s after the last", mended.elapsed().as_secs_f64());
    venue.until("noc", "up");
}

#[test]
fn nothing_is_lost_by_any_outage_of_a_tunnel_by_udp() {
    root_only!();
    if !is_possible() {
        return;
    }
    let runs = ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9", "u10"];
    let clean = &["--explicit-exit-notify", "1"];
    all_outages("vpnoutu", "udp", ("proto udp\nremote 192.0.2.2 1194", clean), runs);
}

#[test]
fn nothing_is_lost_by_any_outage_of_a_tunnel_by_tcp() {
    root_only!();
    if !is_possible() {
        return;
    }
    let runs = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9", "t10"];
    all_outages("vpnoutt", "tcp-server", ("proto tcp\nremote 192.0.2.2 1194", &[]), runs);
}

#[test]
fn nothing_is_lost_by_any_outage_of_a_tunnel_by_wireguard() {
    root_only!();
    if !wireguard::is_possible() {
        return;
    }
    let runs = ["w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9", "w10"];
    let (venue, mut far, _) = wireguard::venue("vpnoutw", "192.0.2.2:1194");
    go_through_all(&venue, &mut far, runs);
}
