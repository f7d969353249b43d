//! NATS JetStream: one connection, a window of records under way, each acknowledged once a stream has stored it.
//!
//! Each record is published with a reply subject of its own and `Nats-Msg-Id: DEVICE/STREAM/SEQ`, by which the server
//! removes doubles. Speaks the clients' protocol of nats-server 2.9 with headers.

pub mod wire;

use crate::attempt::Failure;
use crate::feed::{Ended, Feed};
use crate::link::{Dial, Link};
use crate::secrets::Scheme;
use crate::session::{self, Inbox, Memory, Protocol, printable};
use crate::source::Source;
use crate::tls;
use raven_model::record::Record;
use raven_model::units::Seq;
use serde_json::{Value, json};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt as _;
use wire::{Publisher, Said};

/// One attempt: connect, deliver until it fails or shall stop.
pub async fn attempt<S: Source>(feed: &mut Feed<S>, memory: &mut Memory) -> Ended {
    let answers = format!("_INBOX.{:016x}{:016x}", dice(), dice());
    let prepared = Dial::of(feed).and_then(|dial| Ok((dial.after_greeting(), hello(feed, &answers)?)));
    let (dial, hello) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return failure.into(),
    };
    let publisher = Publisher::new(&feed.device, &feed.stream, &answers);
    let subject = wire::subject(&feed.device, &feed.stream);
    let open = async |link: &mut Link, inbox: &mut Inbox| {
        let max_payload = open(link, inbox, &hello).await?;
        Ok(Nats { peer: link.peer, publisher, subject, max_payload })
    };
    session::attempt(feed, memory, dial, "CONNECT", open).await
}

/// The first words to a server.
fn hello<S: Source>(feed: &Feed<S>, inbox: &str) -> Result<Vec<u8>, Failure> {
    let mut connect = json!({
        "verbose": false, "pedantic": false, "protocol": 1, "headers": true, "no_responders": true, "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"), "name": format!("raven {} {}", feed.device, feed.stream),
        "tls_required": feed.to.speaks_tls(),
    });
    match feed.secrets.credentials("credentials", feed.to.credentials.as_ref())? {
        None => {}
        Some((Scheme::Bearer, token)) => connect["auth_token"] = token.into(),
        Some((Scheme::Basic, pair)) => {
            let (user, password) = pair.split_once(':').unwrap_or_default();
            (connect["user"], connect["pass"]) = (user.into(), password.into());
        }
    }
    Ok(format!("CONNECT {connect}\r\nSUB {inbox}.* 1\r\nPING\r\n").into_bytes())
}

/// The server's `INFO`, our `CONNECT`, its `PONG`. Returns the longest message that it takes.
async fn open(link: &mut Link, inbox: &mut Inbox, hello: &[u8]) -> Result<usize, Failure> {
    let peer = link.peer;
    let info = |bytes: &[u8]| match wire::parse(bytes).map_err(|error| no_nats(peer, error))? {
        Some((Said::Info(info), len)) => Ok(Some((take_info(peer, info)?, len))),
        _ => Err(Failure::retry(format!("{peer} does not speak NATS: it began without INFO"))),
    };
    let max_payload = inbox.wait(link, "greeting us", info).await?;
    link.write_all(hello).await.map_err(|error| tls::broken(peer, &error, ""))?;
    link.flush().await.map_err(|error| tls::broken(peer, &error, ""))?;
    let pong = |bytes: &[u8]| match wire::parse(bytes).map_err(|error| no_nats(peer, error))? {
        Some((Said::Error(words), _)) => Err(complaint(peer, words)),
        Some((said, len)) => Ok(Some((matches!(said, Said::Pong), len))),
        None => Ok(None),
    };
    while !inbox.wait(link, "letting us in", pong).await? {}
    Ok(max_payload)
}

/// Returns the longest message that it takes.
fn take_info(peer: SocketAddr, info: &[u8]) -> Result<usize, Failure> {
    let info: Value = serde_json::from_slice(info).unwrap_or_default();
    if info["headers"] != true {
        return Err(Failure::config(format!("{peer} takes no headers: NATS 2.2 or later is needed, with JetStream")));
    }
    Ok(info["max_payload"].as_u64().map_or(usize::MAX, |bytes| bytes as usize))
}

fn no_nats(peer: SocketAddr, error: wire::NoNats) -> Failure {
    Failure::retry(format!("{peer} does not speak NATS: {error}"))
}

/// Whether we may do what we do is a question for an operator; the rest passes.
fn complaint(peer: SocketAddr, words: &[u8]) -> Failure {
    let text = printable(&String::from_utf8_lossy(words));
    let lower = text.to_ascii_lowercase();
    let ours = ["authorization", "authentication", "permissions", "secure connection"];
    let words = format!("{peer} says {text}");
    if ours.iter().any(|word| lower.contains(word)) { Failure::config(words) } else { Failure::retry(words) }
}

/// Different for every connection; no secret.
fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}

struct Nats {
    peer: SocketAddr,
    publisher: Publisher,
    subject: String,
    max_payload: usize,
}

impl Protocol for Nats {
    const FIRST: u32 = 1;
    // Where two streams take a subject, each answers.
    const STRICT: bool = false;

    #[inline]
    fn unfit(&mut self, seq: Seq, record: &Record<'_>, listener: &str) -> Option<String> {
        let (len, max) = (self.publisher.prepare(seq, record, listener), self.max_payload);
        (len > max).then(|| format!("{len} bytes with headers, and the server's max_payload is {max}"))
    }

    #[inline]
    fn write(&mut self, out: &mut Vec<u8>, number: u32, _seq: Seq, record: &Record<'_>, _listener: &str) {
        self.publisher.write(out, number, record.raw);
    }

    #[inline]
    fn parse(&self, bytes: &[u8]) -> Result<Option<(session::Said, usize)>, Failure> {
        let peer = self.peer;
        let Some((said, len)) = wire::parse(bytes).map_err(|error| no_nats(peer, error))? else { return Ok(None) };
        let said = match said {
            Said::Message { status: Some(b"503"), .. } => return Err(nobody(peer, &self.subject)),
            Said::Message { subject, payload, .. } => {
                wire::question(subject).map_or(session::Said::Nothing, |number| verdict(number, payload))
            }
            Said::Ping => session::Said::Reply(b"PONG\r\n"),
            Said::Error(words) => return Err(complaint(peer, words)),
            Said::Info(_) | Said::Pong | Said::Ok => session::Said::Nothing,
        };
        Ok(Some((said, len)))
    }
}

/// Passes when a stream is made, or has a leader again.
fn nobody(peer: SocketAddr, subject: &str) -> Failure {
    Failure::retry(format!("{peer}: no JetStream stream takes {subject}, or it has no leader now"))
}

/// Reads a `PubAck`. A good one is not parsed as JSON: there are as many as records.
fn verdict(number: u32, payload: &[u8]) -> session::Said {
    let has = |word: &[u8]| payload.windows(word.len()).any(|part| part == word);
    if payload.starts_with(b"{") && has(b"\"seq\":") && !has(b"\"error\"") {
        return session::Said::Taken(number);
    }
    let answer: Value = serde_json::from_slice(payload).unwrap_or_default();
    let error = &answer["error"];
    let why = printable(error["description"].as_str().unwrap_or("an answer that is none of JetStream's"));
    // 5xx and "maximum messages", "maximum bytes": of the stream, not of the record.
    let of_stream = error["code"].as_u64().is_none_or(|code| code >= 500) || why.starts_with("maximum");
    if of_stream { session::Said::NotNow(number, why) } else { session::Said::Refused(number, why) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Said;

    #[test]
    fn an_answer_is_stored_only_without_an_error() {
        assert_eq!(verdict(7, br#"{"stream":"RAVEN","seq":7}"#), Said::Taken(7));
        assert_eq!(verdict(7, br#"{"stream":"RAVEN","seq":7,"duplicate": true}"#), Said::Taken(7));
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"R","seq":0}"#;
        assert_eq!(verdict(7, full), Said::NotNow(7, "maximum messages exceeded".to_owned()));
        let long = br#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"R","seq":0}"#;
        assert_eq!(verdict(7, long), Said::Refused(7, "message size exceeds maximum allowed".to_owned()));
        assert!(matches!(verdict(7, b"+ACK"), Said::NotNow(7, _)));
        assert!(matches!(verdict(7, b""), Said::NotNow(7, _)));
    }
}
