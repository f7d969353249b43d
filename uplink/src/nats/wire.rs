//! What a NATS server says and what it is told: the text protocol of its clients, as far as publishing needs it. Pure.

use crate::text;
use raven_model::record::Record;
use raven_model::units::Seq;

/// Longest line of a server; its `INFO` names all servers of a cluster.
pub const LINE_MAX: usize = 32 * 1024;

/// Longest message that is taken: an answer of JetStream has a few hundred bytes.
const MESSAGE_MAX: usize = 16 * 1024;

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// Who it is and what it takes, JSON.
    Info(&'a [u8]),
    /// Wants a `PONG`.
    Ping,
    /// Answer to our `PING`.
    Pong,
    /// Nothing.
    Ok,
    /// What it does not like; it often closes then.
    Error(&'a [u8]),
    /// A message for our inbox.
    Message {
        /// Where to: the last token is the number of the question.
        subject: &'a [u8],
        /// `503` of a header line `NATS/1.0 503`: nobody listens to what was published.
        status: Option<&'a [u8]>,
        /// Content.
        payload: &'a [u8],
    },
}

/// It does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what it says is no NATS, or too long")]
pub struct NoNats;

/// The first thing in `bytes` and its length, once all of it is there.
pub fn parse(bytes: &[u8]) -> Result<Option<(Said<'_>, usize)>, NoNats> {
    let Some(end) = bytes.iter().take(LINE_MAX).position(|b| *b == b'\n') else {
        return if bytes.len() >= LINE_MAX { Err(NoNats) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let (verb, rest) = line.split_at(line.iter().position(|b| *b == b' ' || *b == b'\t').unwrap_or(line.len()));
    let rest = rest.trim_ascii();
    let said = match verb.to_ascii_uppercase().as_slice() {
        b"INFO" => Said::Info(rest),
        b"PING" => Said::Ping,
        b"PONG" => Said::Pong,
        b"+OK" => Said::Ok,
        b"-ERR" => Said::Error(rest),
        b"MSG" => return message(bytes, end + 1, rest, false),
        b"HMSG" => return message(bytes, end + 1, rest, true),
        _ => return Err(NoNats),
    };
    Ok(Some((said, end + 1)))
}

/// `subject sid [reply] [header length] length`, CR LF, header, content, CR LF.
fn message<'a>(
    bytes: &'a [u8],
    start: usize,
    line: &'a [u8],
    headers: bool,
) -> Result<Option<(Said<'a>, usize)>, NoNats> {
    let mut words = line.split(|b| *b == b' ').filter(|word| !word.is_empty());
    let subject = words.next().ok_or(NoNats)?;
    let mut numbers = words.rev();
    let total = number(numbers.next()).filter(|total| *total <= MESSAGE_MAX).ok_or(NoNats)?;
    let head = if headers { number(numbers.next()).filter(|head| *head <= total).ok_or(NoNats)? } else { 0 };
    let Some(content) = bytes.get(start..start + total + 2) else { return Ok(None) };
    let content = content.strip_suffix(b"\r\n").ok_or(NoNats)?;
    let (head, payload) = content.split_at(head);
    let status = head.strip_prefix(b"NATS/1.0 ").and_then(|rest| rest.get(..3)).filter(|_| headers);
    Ok(Some((Said::Message { subject, status, payload }, start + total + 2)))
}

fn number(word: Option<&[u8]>) -> Option<usize> {
    std::str::from_utf8(word?).ok()?.parse().ok()
}

/// Publishes the records of one device and stream.
pub struct Publisher {
    /// `HPUB raven.DEVICE.STREAM INBOX.`
    opening: Vec<u8>,
    /// `NATS/1.0`, `Raven-Dev`, `Raven-Stream`, and the beginning of `Nats-Msg-Id`.
    headers: Vec<u8>,
    head: Vec<u8>,
}

/// Where records go: `raven.DEVICE.STREAM`. A dot in the device's name would make two words of it.
pub fn subject(device: &str, stream: &str) -> String {
    format!("raven.{}.{stream}", device.replace('.', "_"))
}

impl Publisher {
    /// Answers come to `inbox.N`.
    pub fn new(device: &str, stream: &str, inbox: &str) -> Self {
        Self {
            opening: format!("HPUB {} {inbox}.", subject(device, stream)).into_bytes(),
            headers: format!(
                "NATS/1.0\r\nRaven-Dev: {device}\r\nRaven-Stream: {stream}\r\nNats-Msg-Id: {device}/{stream}/"
            )
            .into_bytes(),
            head: Vec::with_capacity(512),
        }
    }

    /// Makes the headers of a record; returns how long its message is.
    pub fn prepare(&mut self, seq: Seq, record: &Record<'_>, listener: &str) -> usize {
        let (head, received) = (&mut self.head, &record.received);
        head.clear();
        head.extend_from_slice(&self.headers);
        text::decimal(head, seq.0);
        head.extend_from_slice(b"\r\nRaven-Seq: ");
        text::decimal(head, seq.0);
        head.extend_from_slice(b"\r\nRaven-Received-Ns: ");
        text::decimal(head, received.wall.0);
        head.extend_from_slice(b"\r\nRaven-Src: ");
        text::address(head, received.source.ip());
        head.extend_from_slice(b"\r\nRaven-Port: ");
        text::decimal(head, u64::from(received.source.port()));
        head.extend_from_slice(b"\r\nRaven-Listener: ");
        head.extend_from_slice(listener.as_bytes());
        for (set, flag) in [(received.piece, "\r\nRaven-Piece: 1"), (received.is_unparsed(), "\r\nRaven-Unparsed: 1")] {
            if set {
                head.extend_from_slice(flag.as_bytes());
            }
        }
        head.extend_from_slice(b"\r\n\r\n");
        head.len() + record.raw.len()
    }

    /// Appends the message of the record that was prepared last, as question `number`.
    pub fn write(&self, out: &mut Vec<u8>, number: u32, raw: &[u8]) {
        out.extend_from_slice(&self.opening);
        text::decimal(out, u64::from(number));
        out.push(b' ');
        text::decimal(out, self.head.len() as u64);
        out.push(b' ');
        text::decimal(out, (self.head.len() + raw.len()) as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.head);
        out.extend_from_slice(raw);
        out.extend_from_slice(b"\r\n");
    }
}

/// The number of the question that a message answers.
pub fn question(subject: &[u8]) -> Option<u32> {
    let last = subject.rsplit(|b| *b == b'.').next()?;
    std::str::from_utf8(last).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use raven_model::record::Received;
    use raven_model::units::UnixNanos;

    #[test]
    fn what_a_server_says_is_taken_apart_and_waits_for_its_end() {
        let text = b"INFO {\"max_payload\":1}\r\nPING\r\n-ERR 'Authorization Violation'\r\nMSG _I.7 1 5\r\n{\"a\"}\r\nHMSG _I.8 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
        let mut at = 0;
        let mut said = Vec::new();
        while let Ok(Some((one, len))) = parse(&text[at..]) {
            assert!((0..len).all(|cut| parse(&text[at..at + cut]) == Ok(None)), "{one:?}");
            said.push(one);
            at += len;
        }
        assert_eq!(at, text.len());
        assert_eq!(said[0], Said::Info(b"{\"max_payload\":1}"));
        assert_eq!(said[2], Said::Error(b"'Authorization Violation'"));
        assert_eq!(said[3], Said::Message { subject: b"_I.7", status: None, payload: b"{\"a\"}" });
        assert_eq!(said[4], Said::Message { subject: b"_I.8", status: Some(b"503"), payload: b"" });
        assert_eq!(question(b"_I.8"), Some(8));
        for bad in
            ["HTTP/1.1 400 Bad Request\r\n", "MSG a 1 x\r\n", "MSG a 1 99999999999\r\n", "HMSG a 1 9 3\r\nabc\r\n"]
        {
            assert_eq!(parse(bad.as_bytes()), Err(NoNats), "{bad}");
        }
    }

    #[test]
    fn a_record_travels_raw_with_its_envelope_in_headers() {
        let mut publisher = Publisher::new("arena.north", "syslog", "_INBOX.x");
        let received = Received::new("192.0.2.7:40000".parse().expect("valid"), 0, UnixNanos(5));
        let record = Record { received, raw: b"a\r\n\0\xff" };
        let len = publisher.prepare(Seq(42), &record, "udp:[::]:514");
        let mut out = Vec::new();
        publisher.write(&mut out, 9, record.raw);
        let head = len - 5;
        let expected = format!(
            "HPUB raven.arena_north.syslog _INBOX.x.9 {head} {len}\r\nNATS/1.0\r\nRaven-Dev: arena.north\r\n\
             Raven-Stream: syslog\r\nNats-Msg-Id: arena.north/syslog/42\r\nRaven-Seq: 42\r\nRaven-Received-Ns: 5\r\n\
             Raven-Src: 192.0.2.7\r\nRaven-Port: 40000\r\nRaven-Listener: udp:[::]:514\r\n\r\n"
        );
        assert_eq!(out, [expected.as_bytes(), b"a\r\n\0\xff\r\n"].concat());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"HMSG a 1 ", &bytes[..]].concat());
        }
    }
}
