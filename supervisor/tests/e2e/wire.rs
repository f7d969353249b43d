//! What arrives on an interface beside what Raven received, captures and the check of a LAN: from the command line through `ravend`
//! into the jail of the role `wire`, at a cable.

use crate::appliance::{Appliance, Plan, number, proc_text, said};
use crate::machine::{Cable, ip};
use crate::venue::command_in;
use crate::{eventually, pause, root_only};
use raven_model::diag::wire::{CaptureResult, LanResult, WireReport};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Output, Stdio};

/// Datagrams of syslog from the far end.
fn send(cable: &Cable, port: u16, count: usize) {
    cable.outside(|| {
        let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
        for n in 0..count {
            socket.send_to(format!("<13>message {n}").as_bytes(), ("192.0.2.1", port)).unwrap();
        }
    });
}

/// Watches while `work` is done.
fn watch(raven: &Appliance, words: &[&str], work: impl FnOnce()) -> Output {
    std::thread::scope(|scope| {
        let watched = scope.spawn(|| raven.raven(words));
        eventually("a packet socket is there", || sockets(raven) > 0);
        pause(300);
        work();
        watched.join().unwrap()
    })
}

/// Packet sockets in the box's namespace.
fn sockets(raven: &Appliance) -> usize {
    proc_text(raven.running.pid(), "net/packet").lines().count() - 1
}

fn report(told: &Output) -> WireReport {
    serde_json::from_slice(&told.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(told)))
}

#[test]
fn what_arrives_is_set_beside_what_was_received() {
    root_only!();
    let cable = Cable::new("wire");
    let raven = cable.start(Plan::new());
    let port = raven.plan.port;
    eventually("the link is known", || raven.status()["links"][0]["addresses"].to_string().contains("192.0.2.1/24"));
    let view = &["wire", "eth0", "--for", "4s", "--json"];

    // All that is sent is received, by sender and in that time.
    send(&cable, port, 10);
    let told = watch(&raven, view, || send(&cable, port, 1200));
    let all = report(&told);
    let sender = all.senders.iter().find(|sender| sender.source.to_string() == "192.0.2.2").unwrap();
    assert_eq!((sender.wire, sender.received, &sender.ports[..]), (1200, Some(1200), &[port][..]), "{}", said(&told));
    assert_eq!((told.status.code(), all.findings.len()), (Some(0), 0), "{}", said(&told));

    // The process has nothing, and its socket is gone with the view.
    let pid = u32::try_from(number(&raven.process("wire")["pid"])).unwrap();
    let status = proc_text(pid, "status");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(sockets(&raven), 0);

    // Nobody listens there; the firewall of the box drops it, which is what comes of that.
    let told = watch(&raven, view, || send(&cable, 1514, 7));
    assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    let text = &report(&told).findings[0].text;
    assert_eq!(text, "nobody listens at UDP 1514 (syslog): 7 datagrams from 192.0.2.2");

    // Somebody listens and a firewall drops it.
    for line in [
        "add table inet test".to_owned(),
        "add chain inet test input { type filter hook input priority -200 ; }".to_owned(),
        format!("add rule inet test input udp dport {port} numgen inc mod 4 0 drop"),
    ] {
        assert!(command_in(&cable.names[0], "nft").arg(&line).status().unwrap().success(), "{line}");
    }
    let told = watch(&raven, &["wire", "eth0", "--for", "4s"], || send(&cable, port, 400));
    let text = said(&told);
    assert!(text.contains("400 on the wire, 300 received") && text.contains("! 192.0.2.2"), "{text}");
    assert_eq!(told.status.code(), Some(1));
    assert!(raven.running.log().contains("wire: a packet socket is given"), "{}", raven.running.log());
}

#[test]
fn a_capture_is_a_file_that_tcpdump_reads_and_its_owner_alone() {
    root_only!();
    let cable = Cable::new("wirecap");
    let raven = cable.start(Plan::new());
    let file = raven.plan.dir.path().join("eth0.pcap");
    let name = file.display().to_string();
    let words = ["capture", "eth0", &name, "--for", "3s", "--port", "514", "--json"];
    let told = watch(&raven, &words, || send(&cable, 514, 250));
    let result: CaptureResult = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((result.packets, result.dropped, result.ended_by.as_str()), (250, 0, "time"), "{}", said(&told));
    let made = file.metadata().unwrap();
    assert_eq!((made.len(), made.mode() & 0o777), (result.bytes, 0o600));
    let count = |file: &str| {
        let told =
            Command::new("tcpdump").args(["-nn", "-r", file, "src 192.0.2.2 and udp port 514"]).output().unwrap();
        assert!(told.status.success(), "{}", said(&told));
        String::from_utf8_lossy(&told.stdout).lines().count()
    };
    assert_eq!(count(&name), 250);
    // What is there is not written over; what makes no sense is refused.
    for (words, why) in [
        (vec!["capture", "eth0", &name, "--for", "1s"], "cannot make"),
        (vec!["capture", "eth9", "/nowhere", "--for", "1s"], "there is no interface `eth9`"),
        (vec!["wire", "a/b"], "an interface's name has"),
        (vec!["wire", "eth0", "--for", "2h"], "must be 100 to 3600000"),
        (vec!["lan", "lo"], "it is no Ethernet"),
    ] {
        let told = raven.raven(&words);
        assert!(told.status.code() == Some(1) && said(&told).contains(why), "{words:?}: {}", said(&told));
    }
    // To a pipe, until so many frames are there.
    let words = ["capture", "eth0", "-", "--for", "60s", "-c", "100", "--port", "514"];
    let told = watch(&raven, &words, || send(&cable, 514, 250));
    let piped = raven.plan.dir.path().join("piped.pcap");
    std::fs::write(&piped, &told.stdout).unwrap();
    assert_eq!((count(&piped.display().to_string()), told.status.code()), (100, Some(0)));

    // Who ends the command ends the capture.
    let mut child = Command::new(raven.programs.join("raven"))
        .arg("--data")
        .arg(raven.plan.data())
        .args(["capture", "eth0", "-", "--for", "1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it captures", || sockets(&raven) == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("it does not any more", || sockets(&raven) == 0);
}

#[test]
fn who_may_look_may_not_keep_and_who_views_the_box_may_neither() {
    root_only!();
    let cable = Cable::new("wirewho");
    let raven = cable.start(Plan::new());
    std::fs::set_permissions(raven.plan.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let may = |user: u32, purpose: &str| {
        let request: Value = json!({ "wire": { "interface": "eth0", "purpose": purpose } });
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let (user, group) = (rustix::thread::Uid::from_raw(user), rustix::thread::Gid::from_raw(user));
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(group, group, group).unwrap();
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
                raven.ask(&[request])
            });
            asked.join().unwrap().get("refused").is_none()
        })
    };
    for (user, views, captures) in [(61_101, false, false), (61_102, true, false), (61_103, true, true)] {
        assert_eq!((may(user, "view"), may(user, "lan"), may(user, "capture")), (views, views, captures), "{user}");
    }
}

#[test]
fn gateways_and_addresses_that_two_have_are_found_from_the_box() {
    root_only!();
    let cable = Cable::new("wirelan");
    let raven = cable.start(Plan::new());
    let [near, far] = &cable.names;
    ip(&format!("-n {near} route add default via 192.0.2.2"));
    eventually("the route is seen", || raven.status()["links"][0]["gateways"][0] == "192.0.2.2");
    let check = || {
        let told = raven.raven(&["lan", "eth0", "-W", "2500ms", "--json"]);
        let result: LanResult = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{}", said(&told)));
        (told.status.code(), result)
    };
    let (code, result) = check();
    assert_eq!((code, result.problems.len(), result.offers.len()), (Some(0), 0, 0), "{result:?}");
    assert!(result.gateways[0].holders[0].rtt_us.is_some() && result.addresses.len() >= 2, "{result:?}");
    ip(&format!("-n {far} addr add 192.0.2.1/32 dev eth0"));
    let (code, result) = check();
    assert_eq!(code, Some(1), "{result:?}");
    assert!(result.problems[0].starts_with("192.0.2.1 is this box's, and "), "{:?}", result.problems);
    assert!(said(&raven.raven(&["lan", "eth0", "-W", "1500ms", "--no-dhcp"])).contains("! 192.0.2.1"));
}
