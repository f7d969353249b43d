//! The flow corpus: cases of captured datagrams, with what other decoders read from them.

use serde_json::Value;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Sender of a datagram that is in a file by itself; the expectations have this address too.
pub const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));

/// One case of `index.json`.
pub struct Case {
    pub name: String,
    pub summary: Value,
    pub datagrams: Vec<Datagram>,
    /// The first records that other decoders read.
    pub expected: Vec<Value>,
}

/// One datagram and who sent it.
#[derive(Clone)]
pub struct Datagram {
    pub from: IpAddr,
    pub raw: Vec<u8>,
}

/// Every case, or none where there is no corpus.
pub fn cases() -> Vec<Case> {
    let Some(flow) = super::part("flow") else { return Vec::new() };
    let index = std::fs::read_to_string(flow.join("index.json")).unwrap();
    let index: Vec<Value> = serde_json::from_str(&index).unwrap();
    index.into_iter().map(|summary| case(&flow, summary)).collect()
}

fn case(flow: &Path, summary: Value) -> Case {
    let name = summary["case"].as_str().unwrap().to_owned();
    let dir = flow.parent().unwrap().join(summary["dir"].as_str().unwrap());
    let files = summary["files"].as_array().unwrap().iter().map(|file| dir.join(file.as_str().unwrap()));
    let datagrams: Vec<Datagram> = files.flat_map(|file| read(&file)).collect();
    assert_eq!(datagrams.len() as u64, summary["datagrams"].as_u64().unwrap(), "{name}: datagrams");
    let expected = super::json_lines(&flow.join("expected").join(format!("{name}.jsonl")));
    let expected = expected.into_iter().skip(1).collect();
    Case { name, summary, datagrams, expected }
}

/// A capture, a file of IPFIX messages (RFC 5655), or one datagram.
fn read(path: &Path) -> Vec<Datagram> {
    let bytes = std::fs::read(path).unwrap();
    let lone = |raw: &[u8]| Datagram { from: NOBODY, raw: raw.to_vec() };
    match bytes.get(..4) {
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => pcap(&bytes, u32::from_le_bytes),
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => pcap(&bytes, u32::from_be_bytes),
        _ if path.extension().is_some_and(|ending| ending == "ipfix") => {
            let mut messages = Vec::new();
            let mut rest = &bytes[..];
            while rest.len() >= 16 {
                let (message, after) = rest.split_at(usize::from(be16(rest, 2)));
                messages.push(lone(message));
                rest = after;
            }
            messages
        }
        _ => vec![lone(&bytes)],
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn pcap(bytes: &[u8], word: fn([u8; 4]) -> u32) -> Vec<Datagram> {
    let word = |at: usize| word(bytes[at..at + 4].try_into().unwrap()) as usize;
    let link = word(20);
    let mut fragments = Fragments::default();
    let mut datagrams = Vec::new();
    let mut at = 24;
    while at + 16 <= bytes.len() {
        let end = (at + 16 + word(at + 8)).min(bytes.len());
        datagrams.extend(packet_of(link, &bytes[at + 16..end]).and_then(|packet| udp(packet, &mut fragments)));
        at = end;
    }
    datagrams
}

fn packet_of(link: usize, frame: &[u8]) -> Option<&[u8]> {
    match link {
        1 => {
            let mut at = 12;
            while matches!(be16(frame, at), 0x8100 | 0x88a8 | 0x9100) {
                at += 4;
            }
            matches!(be16(frame, at), 0x0800 | 0x86dd).then(|| &frame[at + 2..])
        }
        12 | 14 | 101 | 228 | 229 => Some(frame),
        0 | 108 => frame.get(4..),
        113 => frame.get(16..),
        276 => frame.get(20..),
        _ => None,
    }
}

/// Pieces of packets, by sender, receiver and number.
#[derive(Default)]
struct Fragments(HashMap<Vec<u8>, Vec<Piece>>);

/// Offset, bytes, whether more follow.
type Piece = (usize, Vec<u8>, bool);

impl Fragments {
    fn add(&mut self, key: &[u8], at: usize, more: bool, data: &[u8]) -> Option<Vec<u8>> {
        let pieces = self.0.entry(key.to_vec()).or_default();
        pieces.push((at, data.to_vec(), more));
        pieces.sort();
        let mut whole = Vec::new();
        for (at, data, more) in pieces {
            if *at != whole.len() {
                return None;
            }
            whole.extend_from_slice(data);
            if !*more {
                self.0.remove(key);
                return Some(whole);
            }
        }
        None
    }
}

fn udp(packet: &[u8], fragments: &mut Fragments) -> Option<Datagram> {
    let (from, proto, content): (IpAddr, u8, Vec<u8>) = match packet.first()? >> 4 {
        4 => {
            let total = usize::from(be16(packet, 2));
            let end = if total == 0 { packet.len() } else { total.min(packet.len()) };
            let data = &packet[usize::from(packet[0] & 15) * 4..end];
            let fragment = usize::from(be16(packet, 6));
            let from: [u8; 4] = packet[12..16].try_into().unwrap();
            let whole = if (fragment as u16) << 2 == 0 {
                data.to_vec()
            } else {
                let key = [&packet[12..20], &packet[4..6], &[packet[9]]].concat();
                fragments.add(&key, (fragment & 0x1fff) * 8, fragment & 0x2000 != 0, data)?
            };
            (Ipv4Addr::from(from).into(), packet[9], whole)
        }
        6 => {
            let from: [u8; 16] = packet[8..24].try_into().unwrap();
            let length = usize::from(be16(packet, 4));
            let end = if length == 0 { packet.len() } else { (40 + length).min(packet.len()) };
            let (mut next, mut data) = (packet[6], packet[40..end].to_vec());
            while matches!(next, 0 | 43 | 44 | 60) {
                let after = data[0];
                data = if next == 44 {
                    let fragment = usize::from(be16(&data, 2));
                    let key = [&packet[8..40], &data[4..8]].concat();
                    fragments.add(&key, fragment & 0xfff8, fragment & 1 != 0, &data[8..])?
                } else {
                    data[(usize::from(data[1]) + 1) * 8..].to_vec()
                };
                next = after;
            }
            (Ipv6Addr::from(from).into(), next, data)
        }
        _ => return None,
    };
    let length = (proto == 17 && content.len() >= 8).then(|| usize::from(be16(&content, 4)))?;
    let end = if (8..=content.len()).contains(&length) { length } else { content.len() };
    Some(Datagram { from, raw: content[8..end].to_vec() })
}
