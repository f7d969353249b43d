//! RELP: one connection, a window of records under way, each acknowledged by itself.
//!
//! Speaks what librelp 1.11 and rsyslog's imrelp speak (relp_version 0, command `syslog`). A frame from the far end has
//! 16 KiB at most.

pub mod frame;

use crate::attempt::Failure;
use crate::envelope::Envelope;
use crate::feed::{Ended, Feed};
use crate::link::{Dial, Link};
use crate::session::{self, Inbox, Memory, Protocol, Said, printable};
use crate::source::Source;
use crate::tls;
use frame::Frame;
use raven_model::record::Record;
use raven_model::units::Seq;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt as _;

const OFFER: &[u8] =
    concat!("relp_version=0\nrelp_software=raven,", env!("CARGO_PKG_VERSION"), "\ncommands=syslog").as_bytes();

/// One attempt: connect, open, deliver until it fails or shall stop.
pub async fn attempt<S: Source>(feed: &mut Feed<S>, memory: &mut Memory) -> Ended {
    let dial = match Dial::of(feed) {
        Ok(dial) => dial,
        Err(failure) => return failure.into(),
    };
    let envelope = Envelope::new(&feed.device, &feed.stream);
    let open = async |link: &mut Link, inbox: &mut Inbox| {
        open(link, inbox).await?;
        Ok(Relp { peer: link.peer, envelope })
    };
    session::attempt(feed, memory, dial, "RELP's open", open).await
}

/// Agrees on the protocol.
async fn open(link: &mut Link, inbox: &mut Inbox) -> Result<(), Failure> {
    let peer = link.peer;
    let mut out = Vec::new();
    frame::frame(&mut out, 1, b"open", OFFER);
    link.write_all(&out).await.map_err(|error| tls::broken(peer, &error, ""))?;
    link.flush().await.map_err(|error| tls::broken(peer, &error, ""))?;
    let answer = |bytes: &[u8]| {
        let parsed = frame::parse(bytes).map_err(|error| not_relp(peer, error))?;
        parsed.map(|(frame, len)| Ok((accepted(&frame, peer)?, len))).transpose()
    };
    inbox.wait(link, "answering RELP's open", answer).await
}

fn accepted(answer: &Frame<'_>, peer: SocketAddr) -> Result<(), Failure> {
    let Frame { txnr, command: b"rsp", data } = answer else {
        return Err(Failure::retry(format!("{peer} closed the session at once")));
    };
    let text = String::from_utf8_lossy(data);
    match frame::code(data) {
        Some(200) if *txnr == 1 && text.contains("commands=") && offers_syslog(&text) => Ok(()),
        Some(200) => Err(Failure::config(format!("{peer} speaks RELP but does not take syslog"))),
        _ => Err(Failure::config(format!("{peer} refused RELP's open: {}", printable(&text)))),
    }
}

fn offers_syslog(text: &str) -> bool {
    text.lines()
        .filter_map(|line| line.strip_prefix("commands="))
        .any(|commands| commands.split(',').any(|c| c.trim() == "syslog"))
}

fn not_relp(peer: SocketAddr, error: frame::FrameError) -> Failure {
    Failure::retry(format!("{peer} does not speak RELP: {error}"))
}

struct Relp {
    peer: SocketAddr,
    envelope: Envelope,
}

impl Protocol for Relp {
    // The first is `open`.
    const FIRST: u32 = 2;
    const STRICT: bool = true;

    #[inline]
    fn write(&mut self, out: &mut Vec<u8>, number: u32, seq: Seq, record: &Record<'_>, listener: &str) {
        let message = self.envelope.seal(seq, record, listener);
        frame::header(out, number, b"syslog", message.len());
        message.write(out);
        out.push(b'\n');
    }

    #[inline]
    fn parse(&self, bytes: &[u8]) -> Result<Option<(Said, usize)>, Failure> {
        let parsed = frame::parse(bytes).map_err(|error| not_relp(self.peer, error))?;
        let Some((Frame { txnr, command, data }, len)) = parsed else { return Ok(None) };
        let said = match (command, frame::code(data)) {
            (b"rsp", Some(200)) => Said::Taken(txnr),
            (b"rsp", _) => Said::Refused(txnr, printable(&String::from_utf8_lossy(data))),
            // librelp sends `serverclose` only; whatever else a receiver says unasked ends the session too.
            _ => return Err(Failure::retry(format!("{} ended the session", self.peer))),
        };
        Ok(Some((said, len)))
    }

    fn close(&self, out: &mut Vec<u8>, number: u32) {
        frame::frame(out, number, b"close", b"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_must_take_syslog() {
        assert!(offers_syslog("200 OK\nrelp_version=0\ncommands=syslog\n"));
        assert!(offers_syslog("200 OK\ncommands=eventlog,syslog"));
        assert!(!offers_syslog("200 OK\ncommands=syslogng"));
    }
}
