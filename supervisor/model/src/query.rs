//! What an operator asks the `decode` role, and what comes back.
//!
//! The client sends one [`Query`] as a line of JSON and gets a [`Reply`] line; after [`Reply::Ok`] follow lines of
//! JSON: one [`RecordView`], [`SourceView`], [`TopView`] or [`VerifyView`] each, with [`Reply::Note`]s between them. The last line
//! of a whole answer is [`Reply::Done`]: an answer that ends without it broke off.

use crate::prefix::Prefix;
use crate::units::{Seq, UnixNanos};
use base64::Engine as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// A question about stored records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Query {
    /// Records of a stream.
    Records(Select),
    /// Who sends, how much, and how much of it could be read.
    Sources {
        /// Stream name.
        stream: String,
        /// Only what was received from here on.
        since: Option<UnixNanos>,
        /// And before here.
        #[serde(default)]
        until: Option<UnixNanos>,
    },
    /// What makes most of the traffic that exporters of flows saw.
    FlowsTop(FlowsTop),
    /// What the ledger of a stream has one by one: a [`LossView`] each.
    Losses {
        /// Stream name.
        stream: String,
    },
    /// Records of streams as an archive, for another box: [`crate::archive::ArchiveLine`]s.
    Archive(crate::archive::ArchiveSelect),
    /// Check every block of a stream: checksum, order, ledger.
    Verify {
        /// Stream name.
        stream: String,
        /// And have the store count what is lost, set aside what cannot be opened, and write its catalogue anew.
        #[serde(default)]
        repair: bool,
    },
}

/// What to count flows by, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowsTop {
    /// What they are counted by.
    pub by: TopBy,
    /// Received at or after.
    pub since: Option<UnixNanos>,
    /// Received before.
    pub until: Option<UnixNanos>,
    /// So many keys, those with the most bytes.
    pub n: u32,
    /// Only of this exporter.
    pub source: Option<IpAddr>,
}

/// What flows are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopBy {
    /// Source address.
    Src,
    /// Destination address.
    Dst,
    /// Application, as the exporter calls it; else the service of the lower port, or the one that has a name.
    App,
    /// Who sent the flows.
    Exporter,
    /// Source and destination address.
    Pair,
    /// Protocol and destination port.
    Port,
}

/// Which records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // each is a switch of the command line, independent of the others
pub struct Select {
    /// Stream name.
    pub stream: String,
    /// Received at or after.
    pub since: Option<UnixNanos>,
    /// Received before.
    pub until: Option<UnixNanos>,
    /// From this seq on.
    pub from: Option<Seq>,
    /// Only the newest so many (of what the other conditions leave); none = all.
    pub last: Option<u64>,
    /// Go on with new records as they are stored.
    pub follow: bool,
    /// Only from these senders.
    pub source: Option<Prefix>,
    /// Only messages that contain all of these, byte for byte.
    pub grep: Vec<String>,
    /// ASCII letters are the same in either case.
    pub ignore_case: bool,
    /// A text counts only where no letter, digit or `_` stands before or behind it.
    pub words: bool,
    /// Tell now and then how far the work is ([`Reply::Progress`]).
    pub progress: bool,
    /// Add decoded fields, or why there are none.
    pub decoded: bool,
}

/// What is said about an answer, on lines of its own: `"ok"`, `{"note":"…"}`, `{"done":7}`, `{"error":"…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// First line: the answer follows.
    Ok,
    /// First line, or instead of [`Reply::Done`]: nothing (more) follows; why, in words.
    Error(String),
    /// For the operator's eyes, anywhere between: what the answer does not show, and why.
    Note(String),
    /// How far the work is, anywhere between, for who asked for it.
    Progress(Progress),
    /// Last line: the answer is whole, and had so many lines. Replies are not counted.
    Done(u64),
}

impl Reply {
    /// The reply that stands on this line (without its LF); `None` for a line of the answer itself. None of these
    /// begins with the name of a reply.
    pub fn on_line(line: &[u8]) -> Option<Self> {
        const BEGINNINGS: [&[u8]; 5] = [b"{\"note\":", b"{\"progress\":", b"{\"done\":", b"{\"error\":", b"\"ok\""];
        let may_be = BEGINNINGS.iter().any(|beginning| line.starts_with(beginning));
        may_be.then(|| serde_json::from_slice(line).ok()).flatten()
    }
}

/// How far a search is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Blocks that were looked into.
    pub blocks: u64,
    /// Blocks that were passed over, since none of their records is from the sender.
    pub passed: u64,
    /// Bytes that were looked into, unpacked.
    pub bytes: u64,
    /// Receive time of what was looked at last.
    pub at_ns: UnixNanos,
    /// Records that are done with.
    pub done: u64,
    /// All that may be meant.
    pub total: u64,
}

/// Sender of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAddr {
    /// Address, IPv4 as IPv4.
    pub addr: IpAddr,
    /// UDP or TCP port.
    pub port: u16,
}

impl From<SocketAddr> for SourceAddr {
    fn from(addr: SocketAddr) -> Self {
        Self { addr: addr.ip(), port: addr.port() }
    }
}

/// One record as it is shown and sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordView {
    /// Position in the stream.
    pub seq: Seq,
    /// Receive time.
    pub received_ns: UnixNanos,
    /// Who sent it.
    pub source: SourceAddr,
    /// Who took it: `udp:[::]:514`.
    pub listener: String,
    /// The message, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// The message in base64 (RFC 4648, 4), where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_b64: Option<String>,
    /// True when the message goes on in the sender's next record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub piece: bool,
    /// True when a collector died twice over it and nobody looked inside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unparsed: bool,
    /// True when the collector does not vouch for it: its sender or its credentials were not allowed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// Fields read from the message: those of [`Syslog`] for the stream `syslog`, and so on by stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoded: Option<Json>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject: Option<String>,
}

impl RecordView {
    /// The message as it was received; `None` when the view holds neither text nor valid base64.
    pub fn raw_bytes(&self) -> Option<Vec<u8>> {
        match (&self.raw, &self.raw_b64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(b64)) => base64::engine::general_purpose::STANDARD.decode(b64).ok(),
            (None, None) => None,
        }
    }
}

/// What a decoder read from a record: JSON, taken apart only by those who want to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Of text that is JSON.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    /// Of what has a JSON form.
    pub fn of(value: &impl Serialize) -> Option<Self> {
        serde_json::value::to_raw_value(value).ok().map(Self)
    }

    /// As a type; `None` when it is not of that shape.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.0.get()).ok()
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// A syslog message, by RFC 5424, RFC 3164 or as much as could be read. What the message does not give is null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syslog {
    /// `"5424"`, `"3164"`, or null when it matches neither.
    pub rfc: Option<String>,
    /// 0 to 23 (RFC 5424, 6.2.1).
    pub facility: Option<u8>,
    /// 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// RFC 3339. An RFC 3164 stamp has no year: it gets the one nearest to the receive time; without a zone it is
    /// taken as UTC.
    pub timestamp: Option<String>,
    /// As the sender wrote it.
    pub hostname: Option<String>,
    /// APP-NAME, or the TAG of RFC 3164.
    pub app_name: Option<String>,
    /// PROCID, or what stands in brackets behind the TAG.
    pub procid: Option<String>,
    /// MSGID.
    pub msgid: Option<String>,
    /// SD-ID to its parameters.
    pub structured_data: Option<BTreeMap<String, BTreeMap<String, String>>>,
    /// The free text.
    pub message: Option<String>,
    /// What of `timestamp` the message does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<Assumed>,
}

/// A part of a time that a message leaves out and that had to be assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assumed {
    /// The one nearest to the receive time.
    Year,
    /// UTC.
    Zone,
}

/// One sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceView {
    /// Address, IPv4 as IPv4.
    pub addr: IpAddr,
    /// Records in the window.
    pub records: u64,
    /// Raw bytes in the window.
    pub bytes: u64,
    /// Records per second over the window.
    pub rate: f64,
    /// Newest record.
    pub last_seen_ns: UnixNanos,
    /// Records that matched no grammar.
    pub not_understood: u64,
    /// The name that it last called itself: hostname, computer, or SNMPv3 engine.
    pub hostname: Option<String>,
    /// The newest message that was not understood, cut to 200 bytes, lossy UTF-8.
    pub sample: Option<String>,
    /// Of that message: why it was not understood, and how it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<SourceTrouble>,
}

/// About a sender's newest message that was not understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTrouble {
    /// Why, in words.
    pub reason: String,
    /// Who took it.
    pub listener: String,
    /// When.
    pub last_seen_ns: UnixNanos,
    /// Its first 32 bytes, in hex.
    pub first_bytes: String,
}

/// One key of [`Query::FlowsTop`], those with the most bytes first. The last line has `total`, and the sums of all
/// keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopView {
    /// The key: `10.0.0.1`, `10.0.0.1 > 10.0.0.2`, `tcp/443`, `13:453`; null for flows that do not say.
    pub key: Option<String>,
    /// Its name, where it has one: `https`.
    pub name: Option<String>,
    /// Flow records and flow samples.
    pub flows: u64,
    /// Octets as the exporters sent them.
    pub bytes: u64,
    /// Packets as the exporters sent them.
    pub packets: u64,
    /// Each flow's octets times its sampling rate, summed up: an estimate. Null when a flow's rate is not known.
    pub bytes_estimated: Option<u64>,
    /// The same of packets.
    pub packets_estimated: Option<u64>,
    /// Flows whose sampling rate is not known.
    pub flows_without_rate: u64,
    /// On the last line: what was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<TopTotal>,
}

/// What was read for [`Query::FlowsTop`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopTotal {
    /// Datagrams.
    pub datagrams: u64,
    /// Receive time of the first of them.
    pub first_ns: Option<UnixNanos>,
    /// And of the last.
    pub last_ns: Option<UnixNanos>,
    /// Keys that were told apart, and are not all shown.
    pub keys: u64,
    /// Data sets whose template is not known: their flows are missing here.
    pub undescribed: u64,
    /// Datagrams, and parts of some, that could not be read or were refused: their flows are missing here.
    pub unread: u64,
    /// By so many bytes each key may be too low, because there were more keys than there is memory for; 0 = exact.
    pub missing_bytes_max: u64,
}

/// Records that were held once and are gone, for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossView {
    /// First of them.
    pub first: Seq,
    /// Last of them.
    pub last: Seq,
    /// How many: others between the two may have an entry of their own.
    pub records: u64,
    /// True when it may have been fewer: nobody knows how far the newest segment went.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_most: bool,
    /// `space`, `age`, `damaged`, `quarantined` or `missing`.
    pub why: String,
    /// Receive time of the first, where it is known.
    pub first_ns: Option<UnixNanos>,
    /// Receive time of the last, where it is known.
    pub last_ns: Option<UnixNanos>,
    /// Of them, records that a destination had not acknowledged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unforwarded: BTreeMap<String, u64>,
    /// The file, and what was wrong with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What `ring verify` found in one stream: lines of progress, the last one with `done`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyView {
    /// Stream name.
    pub stream: String,
    /// True on the last line.
    pub done: bool,
    /// Segments read so far.
    pub segments: u64,
    /// Segments there are.
    pub segments_total: u64,
    /// Records that are to be read, as of the beginning.
    #[serde(default)]
    pub records_total: u64,
    /// Blocks read.
    pub blocks: u64,
    /// Records in good blocks.
    pub records: u64,
    /// First and last seq held.
    pub first_seq: Seq,
    /// One after the last record.
    pub next_seq: Seq,
    /// What is wrong, in words, each with segment file and seq range.
    pub problems: Vec<String>,
    /// With `repair`: what was done, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line(value: &impl Serialize) -> Vec<u8> {
        serde_json::to_vec(value).unwrap()
    }

    #[test]
    fn replies_are_told_from_the_lines_of_an_answer() {
        for reply in [
            Reply::Ok,
            Reply::Error("no".into()),
            Reply::Note("a \"b\"".into()),
            Reply::Progress(Progress::default()),
            Reply::Done(7),
        ] {
            assert_eq!(Reply::on_line(&line(&reply)), Some(reply));
        }
        assert_eq!(line(&Reply::Done(7)), br#"{"done":7}"#);
        assert_eq!(Reply::on_line(&line(&VerifyView { done: true, ..VerifyView::default() })), None);
        assert_eq!(Reply::on_line(br#"{"seq":1,"raw":"{\"done\":7}"}"#), None);
    }
}
