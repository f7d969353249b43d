//! A tunnel's surroundings are not as they should be: names, certificates, clocks, openvpn itself. Each has a state that
//! says what it is, and the tunnel comes up once that is put right. Nothing that was sent meanwhile is missing.

use crate::appliance::{number, send_signal};
use crate::machine::ip;
use crate::root_only;
use crate::venue::{Capture, Far as _, Server, Venue, is_possible};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

const PROFILE: &str = "proto udp\nremote 192.0.2.2 1194";

/// Ends a part of a test: what was sent in it has arrived.
fn heals(venue: &Venue, text: &str) {
    venue.send(text);
    let since = Instant::now();
    venue.until_it("noc", "carries", |tunnel| tunnel["carries"] == true);
    venue.arrives(text);
    println!("{text}: delivered after {:.1} s", since.elapsed().as_secs_f64());
}

#[test]
fn a_server_that_has_another_address_in_dns_is_found_there() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpnnames");
    let _server = Server::new(&venue, "tun7", "udp", 1194, 77, &[]);
    venue.import("noc", "proto udp\nremote noc.example 1194");
    venue.enable("noc");
    venue.deliver();
    venue.until_cause("noc", "endpoint does not resolve: noc.example");
    venue.name("192.0.2.2 noc.example");
    heals(&venue, "once-it-has-a-name");
    assert_eq!(venue.tunnel("noc")["server"], "192.0.2.2");
    // It moves, and its name with it.
    let far = &venue.cable.names[1];
    ip(&format!("-n {far} addr del 192.0.2.2/24 dev eth0"));
    ip(&format!("-n {far} addr add 192.0.2.3/24 dev eth0"));
    venue.until_it("noc", "is lost", |tunnel| tunnel["carries"] == false);
    venue.name("192.0.2.3 noc.example");
    heals(&venue, "since-it-moved");
    assert_eq!(venue.tunnel("noc")["server"], "192.0.2.3");
    // Without a name server it is sought where it was.
    venue.name("");
    let before = number(&venue.tunnel("noc")["changes"]);
    send_signal(venue.openvpn(), Signal::KILL);
    // It may be back before its loss is seen.
    venue.until_it("noc", "was lost", |tunnel| number(&tunnel["changes"]) > before);
    heals(&venue, "without-a-name-server");
}

/// Signs `name` anew, good from and until then, as `date` reads it.
fn sign(venue: &Venue, name: &str, usage: &str, (from, until): (&str, &str)) {
    let path = |file: &str| venue.pki.path(file);
    let config = "[ca]\ndefault_ca = here\n[here]\nnew_certs_dir = .\ndatabase = index.txt\nserial = serial\n\
        certificate = ca.crt\nprivate_key = ca.key\ndefault_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n";
    fs::write(path("ca.cnf"), config).unwrap();
    fs::write(path("ext"), format!("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage={usage}\n"))
        .unwrap();
    fs::write(path("index.txt"), "").unwrap();
    fs::write(path("serial"), "01\n").unwrap();
    let time = |when: &str| {
        let date = Command::new("date").args(["-u", "-d", when, "+%Y%m%d%H%M%SZ"]).output().unwrap();
        String::from_utf8(date.stdout).unwrap().trim().to_owned()
    };
    let line = format!("ca -batch -notext -config ca.cnf -in {name}.csr -out {name}.crt -extfile ext");
    let mut openssl = Command::new("openssl");
    openssl.args(line.split(' ')).args(["-startdate", &time(from), "-enddate", &time(until)]);
    let done = openssl.current_dir(path("")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

const VALID: (&str, &str) = ("-1 day", "+1 year");

#[test]
fn a_certificate_that_expires_or_is_not_valid_yet_is_named() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpncerts");
    sign(&venue, "server", "serverAuth", ("-1 day", "+8 seconds"));
    // Keys are made anew so often that it is looked at again.
    let often = ["--reneg-sec", "3", "--tran-window", "2"];
    let mut server = Server::new(&venue, "tun7", "udp", 1194, 77, &often);
    venue.import("noc", PROFILE);
    venue.enable("noc");
    venue.deliver();
    heals(&venue, "before-it-expires");
    let capture = Capture::new(&venue);
    venue.until_cause("noc", "certificate expired: that of the server");
    venue.send("while-it-is-expired");
    for (times, cause) in [(("+1 year", "+2 years"), "certificate not yet valid"), (VALID, "")] {
        server.kill();
        sign(&venue, "server", "serverAuth", times);
        server.start();
        if !cause.is_empty() {
            venue.until_cause("noc", cause);
        }
    }
    venue.arrives("while-it-is-expired");
    heals(&venue, "with-a-new-one");
    assert_eq!(capture.end(), "", "outside of the tunnel");

    // Ours, as a server sees it whose clock is right.
    sign(&venue, "client", "clientAuth", ("-2 years", "-1 year"));
    let old = venue.pki.profile(PROFILE).unwrap();
    venue.import_text("noc", &old, &["--allow".to_owned(), "expired-certificate".to_owned()]);
    venue.until_cause("noc", "certificate expired: one of the profile's");
    sign(&venue, "client", "clientAuth", VALID);
    venue.import("noc", PROFILE);
    heals(&venue, "with-a-new-one-of-ours");
}

#[test]
fn a_device_of_that_name_that_somebody_else_made_is_left_alone_and_named() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpntaken");
    let _server = Server::new(&venue, "tun7", "udp", 1194, 77, &[]);
    let near = &venue.cable.names[0];
    ip(&format!("-n {near} tuntap add vpn-noc mode tun user nobody"));
    ip(&format!("-n {near} addr add 10.66.0.1/24 dev vpn-noc"));
    venue.import("noc", PROFILE);
    venue.enable("noc");
    venue.deliver();
    venue.until_cause("noc", "device vpn-noc is taken by somebody else");
    let theirs = Command::new("ip").args(["-n", near, "addr", "show", "dev", "vpn-noc"]).output().unwrap();
    assert!(String::from_utf8_lossy(&theirs.stdout).contains("10.66.0.1/24"), "{theirs:?}");
    ip(&format!("-n {near} link del vpn-noc"));
    heals(&venue, "once-it-is-gone");
}

/// The process of the role, when there is one: without a tunnel there is none.
fn pid_of_vpn(venue: &Venue) -> Value {
    let processes = venue.raven.status()["processes"].clone();
    let vpn = processes.as_array().and_then(|all| all.iter().find(|process| process["role"] == "vpn"));
    vpn.map(|vpn| vpn["pid"].clone()).unwrap_or_default()
}

/// Comes to the management socket before openvpn does, and says what no openvpn says. Where openvpn was faster it is
/// ended, and the next one is awaited.
fn intrude(venue: &Venue, garbage: &[u8]) {
    let place = venue.raven.plan.data().join("run/vpn/noc");
    for _ in 0..5 {
        let patience = Instant::now() + Duration::from_secs(5);
        while Instant::now() < patience {
            if let Ok(mut stream) = UnixStream::connect(&place) {
                // It may be ended before all is written.
                let _ = stream.set_read_timeout(Some(Duration::from_secs(3)));
                let _ = stream.write_all(garbage);
                let _ = stream.read_to_end(&mut Vec::new());
                return;
            }
        }
        send_signal(venue.openvpn(), Signal::KILL);
    }
    panic!("openvpn is always faster at {}", place.display());
}

#[test]
fn garbage_on_the_management_socket_harms_nothing_and_ends_with_the_next_attempt() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpngarbage");
    let _server = Server::new(&venue, "tun7", "udp", 1194, 77, &[]);
    venue.import("noc", PROFILE);
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let endless = vec![b'>'; 4 << 20];
    let lies = ">HOLD:x\n>STATE:1,CONNECTED,SUCCESS,10.8.77.9,192.0.2.2,1194,,\n>UPDOWN:UP\n>UPDOWN:ENV,ifconfig_local=192.0.2.9\n>UPDOWN:ENV,END\n>PASSWORD:Need 'Auth' username/password\n";
    for (n, garbage) in [&bytes[..], &endless, lies.as_bytes()].into_iter().enumerate() {
        let vpn = pid_of_vpn(&venue);
        if n == 0 {
            venue.enable("noc");
        } else {
            send_signal(venue.openvpn(), Signal::KILL);
        }
        intrude(&venue, garbage);
        let links = Command::new("ip").args(["-n", &venue.cable.names[0], "addr"]).output().unwrap();
        assert!(!String::from_utf8_lossy(&links.stdout).contains("192.0.2.9"), "a lie became an address");
        if n == 0 {
            venue.deliver();
        } else {
            assert_eq!(pid_of_vpn(&venue), vpn, "the role that listens there is the one from before");
        }
        heals(&venue, &format!("after-garbage-{n}"));
    }
    let events = crate::appliance::said(&venue.raven.raven(&["vpn", "events"]));
    assert!(events.contains("openvpn ended"), "{events}");
}

#[test]
fn a_server_that_says_good_bye_is_followed_by_the_next_profile_at_once() {
    root_only!();
    if !is_possible() {
        return;
    }
    let (venue, mut server) = Venue::with("vpnbye", "udp", &["--explicit-exit-notify", "1"], PROFILE);
    let _second = Server::new(&venue, "tun8", "udp", 1195, 78, &[]);
    venue.import("backup", "proto udp\nremote 192.0.2.2 1195");
    venue.enable("backup");
    venue.until("noc", "up");
    let began = SystemTime::now();
    let stopped = Instant::now();
    server.stop();
    venue.until_it("backup", "carries", |tunnel| tunnel["carries"] == true);
    println!(
        "a clean stop: noticed after {:.2} s, the backup carries after {:.1} s",
        venue.lost_since("noc", began).as_secs_f64(),
        stopped.elapsed().as_secs_f64()
    );
    let events = crate::appliance::said(&venue.raven.raven(&["vpn", "events"]));
    assert!(events.contains("the server ended the connection"), "{events}");
    venue.send("by-the-backup");
    venue.arrives("by-the-backup");
}
