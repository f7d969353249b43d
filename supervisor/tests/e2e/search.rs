//! Stored messages are found again by sender and text.

use crate::appliance::{Appliance, said};
use crate::sender::{Sender, one_datagram};
use std::net::UdpSocket;

/// Records that a search finds, by their text, and how many blocks it looked into and passed over.
fn search(raven: &Appliance, arguments: &[&str]) -> (Vec<String>, u64, u64) {
    let output = raven.raven(&[&["search", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", said(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let found = lines.lines().map(|line| value(line)["raw"].as_str().unwrap().to_owned()).collect();
    let told = String::from_utf8(output.stderr).unwrap();
    let last = value(told.lines().last().unwrap());
    let progress = &last["progress"];
    assert_eq!(progress["done"], progress["total"], "{told}");
    (found, progress["blocks"].as_u64().unwrap(), progress["passed"].as_u64().unwrap())
}

#[test]
fn a_sender_among_many_is_found_and_most_blocks_are_passed_over() {
    let raven = Appliance::start();
    let rare = UdpSocket::bind("127.0.0.9:0").unwrap();
    let sender = Sender::tcp(raven.udp(), "many", 0, 100_000);
    crate::eventually("there are many blocks", || raven.stored() > 50_000);
    rare.send_to(b"<13>rare: Port 10.1.2.34 DENIED", raven.udp()).unwrap();
    rare.send_to(b"<13>rare: port 10.1.2.3 denied", raven.udp()).unwrap();
    crate::eventually("and more", || raven.stored() > 100_000);
    let sent = sender.stop();
    raven.settle(sent + 2);
    let (found, blocks, passed) = search(&raven, &["--source", "127.0.0.9"]);
    assert_eq!(found.len(), 2);
    assert!(blocks <= 4 && passed > 20, "{blocks} blocks looked into, {passed} passed over");
    assert_eq!(search(&raven, &["--from", "127.0.0.8/29", "-n", "1"]).0, ["<13>rare: port 10.1.2.3 denied"]);
    assert_eq!(search(&raven, &["--source", "203.0.113.0/24"]).0, [""; 0]);
    let (found, blocks, passed) = search(&raven, &["-i", "denied", "rare"]);
    assert_eq!((found.len(), passed), (2, 0));
    assert!(blocks > 20);
    assert_eq!(search(&raven, &["-i", "-w", "10.1.2.3", "DENIED"]).0, ["<13>rare: port 10.1.2.3 denied"]);
    assert_eq!(search(&raven, &["many/0/0", "--until", "now"]).0.len(), 1);
    one_datagram(raven.udp(), b"<13>goes on");
    raven.settle(sent + 3);
    assert!(raven.verify().0, "{}", raven.verify().1);
}
