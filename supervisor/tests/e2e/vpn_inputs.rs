//! Everything that is collected leaves through one tunnel.

use crate::appliance::{Plan, free_port, number, programs, said, sections};
use crate::machine::Cable;
use crate::venue::{Capture, Far, Server, Venue, is_possible};
use crate::wg::Keys;
use crate::wireguard::{self, WireGuard};
use crate::{eventually, root_only};
use serde_json::Value;
use std::process::Command;

/// A generator of load beside the box.
fn generate(cable: &Cable, line: &str) {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &cable.names[0]]).arg(programs().join("raven")).arg("gen");
    let done = command.args(line.split(' ')).output().unwrap();
    assert!(done.status.success(), "{line}: {}", said(&done));
}

/// What the box holds of a stream.
fn stored(venue: &Venue, stream: &str) -> u64 {
    let streams = venue.raven.status()["streams"].clone();
    streams.as_array().unwrap().iter().find(|s| s["name"] == stream).map_or(0, |s| number(&s["stored"]))
}

/// Up to which record the destination has acknowledged a stream.
fn acknowledged(venue: &Venue, stream: &str) -> u64 {
    let all = venue.raven.status()["destinations"].clone();
    let ours = |entry: &&Value| entry["name"] == "noc" && entry["stream"] == stream;
    all.as_array().unwrap().iter().find(ours).and_then(|entry| entry["acked_seq"].as_u64()).unwrap_or(0)
}

#[test]
fn every_input_is_delivered_through_a_tunnel_by_openvpn() {
    root_only!();
    if !is_possible() {
        return;
    }
    all_inputs("vpninputs", |venue| {
        let server = Server::new(venue, "tun7", "udp", 1194, 77, &[]);
        venue.import("noc", "proto udp\nremote 192.0.2.2 1194");
        Box::new(server)
    });
}

#[test]
fn every_input_is_delivered_through_a_tunnel_by_wireguard() {
    root_only!();
    if !wireguard::is_possible() {
        return;
    }
    all_inputs("wginputs", |venue| {
        let keys = Keys::new().unwrap();
        let far = WireGuard::new(venue, &keys);
        venue.import_text("noc", &wireguard::profile(&keys, "192.0.2.2:1194"), &[]);
        Box::new(far)
    });
}

fn all_inputs(test: &str, far: impl FnOnce(&Venue) -> Box<dyn Far>) {
    let [flow, trap, winevent] = [free_port(), free_port(), free_port()];
    let others = sections(&[
        ("flow", format!("udp = [{flow}]\ntcp = []")),
        ("trap", format!("udp = [{trap}]\ncommunities = [\"public\"]")),
        ("winevent", format!("http = [{winevent}]")),
    ]);
    let venue = Venue::of(test, Plan { others, ..Plan::new() });
    let _far = far(&venue);
    venue.enable("noc");
    venue.deliver();
    let capture = Capture::new(&venue);
    venue.until("noc", "up");
    let syslog = venue.raven.plan.port;
    for line in [
        format!("syslog --proto udp --to 127.0.0.1:{syslog} --count 200 --rate 2000 --mark by-udp"),
        format!("syslog --proto tcp --to 127.0.0.1:{syslog} --count 200 --rate 2000 --mark by-tcp"),
        format!("netflow --to 127.0.0.1:{flow} --count 600 --rate 6000"),
        format!("trap --to 127.0.0.1:{trap} --count 200 --rate 2000"),
        format!("winevent --to 127.0.0.1:{winevent} --count 200 --rate 2000"),
    ] {
        generate(&venue.cable, &line);
    }
    for (stream, least) in [("syslog", 400), ("flow", 10), ("trap", 200), ("winevent", 200)] {
        eventually(&format!("{stream} is stored"), || stored(&venue, stream) >= least);
        let all = stored(&venue, stream);
        eventually(&format!("all {all} of {stream} are acknowledged"), || acknowledged(&venue, stream) >= all);
        let mark = format!("stream=\"{stream}\"");
        let received = || venue.noc.received().matches(&mark).count() as u64;
        eventually(&format!("all {all} of {stream} are there"), || received() >= all);
    }
    let received = venue.noc.received();
    for run in ["raven-mark=by-udp/", "raven-mark=by-tcp/"] {
        assert!(received.matches(run).count() >= 200, "{run}");
    }
    let audit = venue.raven.raven(&["audit", venue.noc.file().to_str().unwrap()]);
    assert!(audit.status.success(), "{}", said(&audit));
    assert_eq!(capture.end(), "", "outside of the tunnel");
}
