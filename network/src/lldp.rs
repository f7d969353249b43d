//! Who is at the other end of each cable, as systemd-networkd heard it (LLDP, IEEE 802.1AB). `ravend` brings a
//! connection to networkd now and then; it is asked for each link, by Varlink (a JSON object and a zero byte each way).
//! Each link by itself, so that a flood of neighbours on one cable cannot hide those of another.
//!
//! What a neighbour says of itself is text from the network. networkd writes its bytes as C does in strings; here they
//! become text again, without control characters, and are cut.

use raven_model::neighbour::{Heard, Neighbour};
use raven_model::text::is_unsafe;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longest answer, bytes. networkd keeps 128 neighbours of a link; each is at most 14 KB of JSON, since a frame has 1,500
/// bytes and a byte of it becomes nine at most.
const ANSWER_MAX: u64 = 2 << 20;
/// Neighbours of a link that are looked at.
const NEIGHBOURS_MAX: usize = 128;
/// Links that are asked for.
const LINKS_MAX: usize = 64;
/// Characters of a text; LLDP has up to 255 bytes for each.
const TEXT_MAX: usize = 100;
/// networkd answers within this for all links, or there is no answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Capabilities of who forwards packets: repeater, bridge, router.
const FORWARDS: u16 = 1 << 1 | 1 << 2 | 1 << 4;

/// Neighbours by the number of the link.
pub type Neighbours = BTreeMap<u32, Neighbour>;

/// Asks networkd about `links` over a connection to it, one that does not block: the jail has no call that makes it so.
/// Each of them is in what comes back.
pub async fn ask(connection: OwnedFd, links: Vec<u32>) -> Neighbours {
    let mut neighbours = Neighbours::new();
    let why = match tokio::time::timeout(PATIENCE, converse(connection, &links, &mut neighbours)).await {
        Ok(Ok(())) => format!("only {LINKS_MAX} interfaces are asked about"),
        Ok(Err(error)) => format!("systemd-networkd: {error}"),
        Err(_) => format!("systemd-networkd does not answer within {} s", PATIENCE.as_secs()),
    };
    for link in links {
        neighbours.entry(link).or_insert_with(|| Neighbour::Unknown(why.clone()));
    }
    neighbours
}

async fn converse(connection: OwnedFd, links: &[u32], neighbours: &mut Neighbours) -> io::Result<()> {
    let mut stream = BufReader::new(UnixStream::from_std(connection.into())?);
    for link in links.iter().take(LINKS_MAX) {
        stream.write_all(question(*link).as_bytes()).await?;
        let mut answer = Vec::new();
        (&mut stream).take(ANSWER_MAX).read_until(0, &mut answer).await?;
        if answer.last() != Some(&0) {
            let is_long = answer.len() as u64 == ANSWER_MAX;
            return Err(io::Error::other(if is_long { "an answer of over 2 MiB" } else { "the answer broke off" }));
        }
        answer.pop();
        neighbours.insert(*link, read(*link, &answer));
    }
    Ok(())
}

fn question(link: u32) -> String {
    format!("{{\"method\":\"io.systemd.Network.GetLLDPNeighbors\",\"parameters\":{{\"InterfaceIndex\":{link}}}}}\0")
}

#[derive(Deserialize)]
struct Answer<'a> {
    error: Option<String>,
    #[serde(borrow)]
    parameters: Option<Parameters<'a>>,
}

#[derive(Deserialize)]
struct Parameters<'a> {
    #[serde(rename = "Neighbors", borrow, default)]
    links: Vec<OfLink<'a>>,
}

/// Its neighbours unread: there may be more than are looked at.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfLink<'a> {
    interface_index: u32,
    #[serde(borrow, default)]
    neighbors: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "SystemName")]
    system: Option<String>,
    #[serde(rename = "ChassisID")]
    chassis: Option<String>,
    #[serde(rename = "PortID")]
    port: Option<String>,
    #[serde(rename = "PortDescription")]
    description: Option<String>,
    #[serde(rename = "EnabledCapabilities")]
    capabilities: Option<u16>,
}

/// What an answer says of a link.
fn read(link: u32, answer: &[u8]) -> Neighbour {
    let unreadable = |error| Neighbour::Unknown(format!("systemd-networkd: an answer that is none: {error}"));
    let answer: Answer = match serde_json::from_slice(answer) {
        Ok(answer) => answer,
        Err(error) => return unreadable(error),
    };
    if let Some(error) = answer.error {
        let name = text(&error).unwrap_or_default();
        return Neighbour::Unknown(format!("systemd-networkd refuses to tell: {name}"));
    }
    let links = answer.parameters.map(|parameters| parameters.links).unwrap_or_default();
    let Some(of_link) = links.into_iter().find(|of_link| of_link.interface_index == link) else {
        return Neighbour::Nobody;
    };
    let neighbours = of_link.neighbors.iter().take(NEIGHBOURS_MAX).map(|raw| serde_json::from_str(raw.get()));
    match neighbours.collect::<Result<Vec<Said>, _>>() {
        Ok(said) => first(said).map_or(Neighbour::Nobody, Neighbour::Heard),
        Err(error) => unreadable(error),
    }
}

/// Of several behind one cable (a hub, or a switch that lets LLDP through) who forwards packets comes first; among
/// equals the order of their names decides, so that it is the same one each time.
fn first(said: Vec<Said>) -> Option<Heard> {
    let others = said.len().saturating_sub(1);
    let rank = |said: &Said| (said.capabilities.unwrap_or(0) & FORWARDS == 0, said.chassis.clone(), said.port.clone());
    let first = said.into_iter().min_by_key(rank)?;
    let text = |said: Option<String>| text(&said?);
    Some(Heard {
        system: text(first.system),
        chassis: text(first.chassis),
        port: text(first.port),
        description: text(first.description),
        others,
    })
}

/// A text of the network, fit to be shown: `?` for what is none; cut.
fn text(said: &str) -> Option<String> {
    let bytes = unescaped(said);
    let shown = |c: char| if is_unsafe(c) || c == char::REPLACEMENT_CHARACTER { '?' } else { c };
    let text: String = String::from_utf8_lossy(&bytes).trim().chars().map(shown).collect();
    let cut = match text.char_indices().nth(TEXT_MAX) {
        Some(_) => text.chars().take(TEXT_MAX - 3).chain("...".chars()).collect(),
        None => text,
    };
    (!cut.is_empty()).then_some(cut)
}

/// The bytes that networkd wrote as C does in strings: `\n`, `\"`, `\303`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            (b'\\', [letter, after @ ..]) => (escape(*letter), after),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

const fn escape(letter: u8) -> u8 {
    match letter {
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        other => other,
    }
}

#[cfg(test)]
mod tests;
