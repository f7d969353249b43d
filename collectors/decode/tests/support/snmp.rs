//! SNMP datagrams of the corpus, read as its replay.py reads them, and the access that net-snmp had.

#![allow(dead_code)] // each test file uses its own part

use super::support;
use raven_decode::snmp::{
    Access, AuthProtocol, Communities, Engine, EngineId, LocalEngine, PrivProtocol, Seconds, Secret, User, Users,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One datagram and where it stands.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// The file's name.
    pub file: String,
    /// Frame of the capture, from 0.
    pub index: usize,
    /// Whether it comes from the sender of notifications, not from their receiver.
    pub to_us: bool,
    /// The payload.
    pub raw: Vec<u8>,
}

/// Where the SNMP part of the corpus lies; `None` where there is none, which is said.
pub fn corpus() -> Option<PathBuf> {
    Some(support::corpus()?.join("../snmp"))
}

/// Every datagram of every file; those of `malformed/` too.
pub fn datagrams(snmp: &Path) -> Vec<Datagram> {
    let mut files: Vec<PathBuf> = ["", "malformed"]
        .iter()
        .flat_map(|dir| std::fs::read_dir(snmp.join(dir)).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort_unstable();
    files.iter().flat_map(|path| of_file(path)).collect()
}

/// The datagrams of one file: a capture, or one datagram as it is.
pub fn of_file(path: &Path) -> Vec<Datagram> {
    let bytes = std::fs::read(path).unwrap();
    let file = path.file_name().unwrap().to_str().unwrap().to_owned();
    if !bytes.starts_with(&[0xd4, 0xc3, 0xb2, 0xa1]) {
        return vec![Datagram { file, index: 0, to_us: true, raw: bytes }];
    }
    let datagram = |(index, (link, frame)): (usize, (u32, &[u8]))| {
        let (to_us, raw) = payload(link, frame)?;
        Some(Datagram { file: file.clone(), index, to_us, raw })
    };
    frames(&bytes).into_iter().enumerate().filter_map(datagram).collect()
}

fn frames(capture: &[u8]) -> Vec<(u32, &[u8])> {
    let word = |at: usize| u32::from_le_bytes(capture[at..at + 4].try_into().unwrap());
    let (link, mut at, mut frames) = (word(20) & 0x0fff_ffff, 24, Vec::new());
    while at + 16 <= capture.len() {
        let length = word(at + 8) as usize;
        frames.push((link, &capture[at + 16..(at + 16 + length).min(capture.len())]));
        at += 16 + length;
    }
    frames
}

/// The UDP payload of a frame with Ethernet or raw IP, and IPv4 or IPv6.
fn payload(link: u32, frame: &[u8]) -> Option<(bool, Vec<u8>)> {
    let packet = match link {
        1 => frame.get(14..)?,
        101 | 12 | 14 => frame,
        0 | 108 => frame.get(4..)?,
        other => panic!("link type {other}"),
    };
    let (protocol, header) = match packet.first()? >> 4 {
        4 => (packet.get(9)?, usize::from(packet[0] & 15) * 4),
        6 => (packet.get(6)?, 40),
        _ => return None,
    };
    let udp = packet.get(header..).filter(|_| *protocol == 17)?;
    let length = usize::from(u16::from_be_bytes(udp.get(4..6)?.try_into().unwrap())).min(udp.len());
    Some((!from_receiver(packet), udp.get(8..length)?.to_vec()))
}

/// The receiver of net-snmp's traps was 127.0.0.2.
fn from_receiver(packet: &[u8]) -> bool {
    packet[0] >> 4 == 4 && packet.get(12..16) == Some(&[127, 0, 0, 2])
}

/// The cases of `expected/netsnmp.jsonl`.
pub fn cases(snmp: &Path) -> Vec<Value> {
    support::json_lines(&snmp.join("expected/netsnmp.jsonl"))
}

/// What stands behind an option of a command line.
fn option<'a>(case: &'a Value, name: &str) -> Option<&'a str> {
    let words = case["cmd"].as_array().unwrap();
    let at = words.iter().position(|word| word == name)?;
    words[at + 1].as_str()
}

/// The users of all cases, with the passwords that the receiver knew.
pub fn users(cases: &[Value]) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    for case in cases.iter().filter(|case| !case["v3"].is_null()) {
        let name = option(case, "-u").unwrap().to_owned();
        if users.iter().any(|user| user.name == name) {
            continue;
        }
        let secret = |which: &str| Secret::password(case["v3"][which].as_str().unwrap());
        let auth = option(case, "-a").map(|name| name.parse::<AuthProtocol>().unwrap());
        let privacy = option(case, "-x").map(|name| name.parse::<PrivProtocol>().unwrap());
        users.push(User {
            name,
            engine: Engine::Approved,
            auth: auth.map(|auth| (auth, secret("auth_pass"))),
            priv_: privacy.map(|privacy| (privacy, secret("priv_pass"))),
        });
    }
    users
}

/// The engine that net-snmp's receiver had.
pub fn receiver() -> EngineId {
    "0x80001f8804726176656e74657374".parse().unwrap()
}

/// The engine that net-snmp's traps came from.
pub fn sender() -> EngineId {
    "0x8000000001020304".parse().unwrap()
}

/// As net-snmp's receiver was set up: its engine at this boot and time, its users, its communities.
pub fn access(cases: &[Value], boots: u32, started: Seconds) -> Access {
    let mut users = Users::new(users(cases)).unwrap();
    users.approve(sender());
    let communities = Communities::only(["public", "n0c-venue"]);
    Access::new(communities, users, LocalEngine::new(receiver(), boots, started, 1))
}
