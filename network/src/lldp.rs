//! Who is at the other end of each cable, as systemd-networkd heard it (LLDP, IEEE 802.1AB). `ravend` brings a
//! connection to networkd now and then; it is asked once, by Varlink (a JSON object and a zero byte each way).
//!
//! What a neighbour says of itself is text from the network: cut here, and shown with control characters escaped.

use raven_model::report::Neighbour;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The question. Without a link all are meant.
const QUESTION: &[u8] = b"{\"method\":\"io.systemd.Network.GetLLDPNeighbors\",\"parameters\":{}}\0";
/// Longest answer, bytes.
const ANSWER_MAX: usize = 256 << 10;
/// Characters of a text; LLDP has 255 bytes for each.
const TEXT_MAX: usize = 255;
/// networkd answers within this, or there is no answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Neighbours by the number of the link.
pub type Neighbours = BTreeMap<u32, Neighbour>;

/// Asks networkd over a connection to it.
///
/// # Errors
/// Why there is no answer, in words.
pub async fn ask(connection: OwnedFd) -> Result<Neighbours, String> {
    let answer = tokio::time::timeout(PATIENCE, converse(connection)).await;
    let answer = answer.map_err(|_| format!("no answer in {} s", PATIENCE.as_secs()))?;
    read(&answer.map_err(|error| error.to_string())?)
}

async fn converse(connection: OwnedFd) -> io::Result<Vec<u8>> {
    let stream = std::os::unix::net::UnixStream::from(connection);
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    stream.write_all(QUESTION).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer broke off"));
        }
        if let Some(end) = answer.iter().position(|byte| *byte == 0) {
            answer.truncate(end);
            return Ok(answer);
        }
        if answer.len() > ANSWER_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("an answer of over {ANSWER_MAX} bytes")));
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    error: Option<String>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "Neighbors", default)]
    links: Vec<OfLink>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfLink {
    interface_index: u32,
    #[serde(default)]
    neighbors: Vec<Heard>,
}

#[derive(Deserialize)]
struct Heard {
    #[serde(rename = "SystemName")]
    system: Option<String>,
    #[serde(rename = "ChassisID")]
    chassis: Option<String>,
    #[serde(rename = "PortID")]
    port: Option<String>,
    #[serde(rename = "PortDescription")]
    description: Option<String>,
}

/// What an answer says. Of several neighbours behind one cable (a hub) the first counts.
fn read(answer: &[u8]) -> Result<Neighbours, String> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| format!("an answer that is none: {error}"))?;
    if let Some(error) = answer.error {
        return Err(format!("refused: {}", cut(Some(error)).unwrap_or_default().escape_debug()));
    }
    let links = answer.parameters.map(|parameters| parameters.links).unwrap_or_default();
    let first = |link: OfLink| Some((link.interface_index, neighbour(link.neighbors.into_iter().next()?)));
    Ok(links.into_iter().filter_map(first).collect())
}

fn neighbour(heard: Heard) -> Neighbour {
    Neighbour {
        system: cut(heard.system),
        chassis: cut(heard.chassis),
        port: cut(heard.port),
        description: cut(heard.description),
    }
}

fn cut(text: Option<String>) -> Option<String> {
    text.map(|text| text.chars().take(TEXT_MAX).collect()).filter(|text: &String| !text.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as Plain;

    /// What systemd-networkd 257 answered with lldpd 1.0.16 at the other end of a veth pair.
    const ANSWER: &str = r#"{"parameters":{"Neighbors":[{"InterfaceIndex":3,"InterfaceName":"v0","Neighbors":[{"ChassisID":"8a:a0:b9:c8:82:a7","RawChassisID":[4,138,160,185,200,130,167],"PortID":"Gi1/0/7","RawPortID":[7,71,105,49,47,48,47,55],"PortDescription":"to the telemetry box","SystemName":"sw-core-1","SystemDescription":"core switch of the venue","EnabledCapabilities":128}]}]}}"#;

    /// What is made of an answer that comes in pieces.
    fn heard(pieces: &'static [&'static [u8]]) -> Result<Neighbours, String> {
        let (ours, mut theirs) = Plain::pair().unwrap();
        let networkd = std::thread::spawn(move || {
            let mut question = vec![0; QUESTION.len()];
            theirs.read_exact(&mut question).unwrap();
            assert_eq!(question, QUESTION);
            // Who asks may have had enough.
            let _ = pieces.iter().try_for_each(|piece| theirs.write_all(piece));
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let heard = runtime.block_on(ask(ours.into()));
        networkd.join().unwrap();
        heard
    }

    #[test]
    fn a_switch_is_known_by_its_name_and_port() {
        let pieces: [&[u8]; 3] = [&ANSWER.as_bytes()[..100], &ANSWER.as_bytes()[100..], b"\0"];
        let neighbours = heard(Box::leak(Box::new(pieces))).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let expected = Neighbour {
            system: text("sw-core-1"),
            chassis: text("8a:a0:b9:c8:82:a7"),
            port: text("Gi1/0/7"),
            description: text("to the telemetry box"),
        };
        assert_eq!(neighbours, [(3, expected)].into());
    }

    #[test]
    fn who_hears_nobody_and_who_cannot_answer_are_told_apart() {
        assert_eq!(heard(&[b"{\"parameters\":{\"Neighbors\":[]}}\0"]), Ok(Neighbours::new()));
        let refused = heard(&[b"{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{}}\0"]);
        assert_eq!(refused, Err("refused: org.varlink.service.MethodNotFound".to_owned()));
        assert_eq!(heard(&[b"{\"parameters\""]), Err("the answer broke off".to_owned()));
        assert!(heard(&[b"[]\0"]).unwrap_err().starts_with("an answer that is none"));
        static LONG: [u8; ANSWER_MAX + (64 << 10)] = [b' '; ANSWER_MAX + (64 << 10)];
        assert!(heard(Box::leak(Box::new([&LONG[..]]))).unwrap_err().contains("over 262144 bytes"));
    }

    #[test]
    fn a_long_text_is_cut_and_an_empty_one_is_none() {
        let long = format!(
            r#"{{"parameters":{{"Neighbors":[{{"InterfaceIndex":1,"Neighbors":[{{"SystemName":"{}","PortID":""}}]}},{{"InterfaceIndex":2}}]}}}}"#,
            "ü".repeat(300)
        );
        let neighbours = read(long.as_bytes()).unwrap();
        assert_eq!(neighbours.len(), 1);
        assert_eq!((neighbours[&1].system.as_ref().unwrap().chars().count(), &neighbours[&1].port), (255, &None));
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_ends_the_role(at in 0..ANSWER.len(), byte in any::<u8>(), cut in 0..ANSWER.len()) {
            let mut bytes = ANSWER.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = read(&bytes);
            let _ = read(&bytes[..cut]);
        }
    }
}
