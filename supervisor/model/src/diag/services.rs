//! Tests of services, phase by phase: names, TCP, TLS, HTTP, clocks.

use super::Way;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// [`Test::Dns`](super::Test::Dns).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsTest {
    /// What is asked for; of [`RecordType::Ptr`] an address, too.
    pub name: String,
    /// Type of the record.
    pub record: RecordType,
    /// Who is asked: an address or a name, `:PORT` behind it where it is not the usual one. None: those of
    /// `/etc/resolv.conf`. [`DnsTest::SERVERS`] at most.
    #[serde(default)]
    pub servers: Vec<String>,
    /// How packets leave.
    #[serde(default)]
    pub way: Way,
    /// How they are asked.
    #[serde(default)]
    pub transport: Transport,
    /// An answer that takes longer is none, milliseconds, 10 to 60,000.
    pub timeout_ms: u32,
    /// Datagrams before a server counts as silent, 1 to 10.
    pub tries: u8,
}

impl DnsTest {
    /// Most servers.
    pub const SERVERS: usize = 16;
}

/// What a name has (RFC 1035, 3.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address (RFC 3596).
    Aaaa,
    /// Name of an address.
    Ptr,
    /// Text.
    Txt,
    /// Service (RFC 2782).
    Srv,
    /// Mail exchanger.
    Mx,
    /// Name server.
    Ns,
    /// The name that this is another one of.
    Cname,
    /// Start of authority.
    Soa,
}

impl RecordType {
    /// All of them, with their numbers on the wire.
    pub const ALL: [(Self, u16, &'static str); 9] = [
        (Self::A, 1, "A"),
        (Self::Ns, 2, "NS"),
        (Self::Cname, 5, "CNAME"),
        (Self::Soa, 6, "SOA"),
        (Self::Ptr, 12, "PTR"),
        (Self::Mx, 15, "MX"),
        (Self::Txt, 16, "TXT"),
        (Self::Aaaa, 28, "AAAA"),
        (Self::Srv, 33, "SRV"),
    ];

    /// On the wire.
    pub fn number(self) -> u16 {
        Self::ALL.iter().find(|(record, ..)| *record == self).map_or(1, |(_, number, _)| *number)
    }

    /// Of that name, in letters of any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(.., known)| known.eq_ignore_ascii_case(name)).map(|(record, ..)| *record)
    }

    /// As in zone files.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(record, ..)| *record == self).map_or("A", |(.., name)| *name)
    }
}

/// How a name server is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By datagrams, and once more by TCP where the answer is cut.
    #[default]
    Udp,
    /// By TCP (RFC 7766).
    Tcp,
    /// By TLS (RFC 7858).
    Tls,
}

impl Transport {
    /// Lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// Result of a [`DnsTest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsResult {
    /// What was asked for, as it went out.
    pub name: String,
    /// Type of the record.
    pub record: RecordType,
    /// What each server says, in the order of the test.
    pub servers: Vec<DnsServer>,
}

impl DnsResult {
    /// Somebody was asked, and all of them answered, and have it.
    pub fn is_well(&self) -> bool {
        let has_it = |server: &DnsServer| {
            server.rcode.as_deref() == Some("NOERROR") && !server.answers.is_empty() && server.untrusted.is_none()
        };
        !self.servers.is_empty() && self.servers.iter().all(has_it)
    }
}

/// What one server says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsServer {
    /// As it was given.
    pub server: String,
    /// Where it is asked; none: its name does not resolve.
    pub address: Option<SocketAddr>,
    /// How the answer came.
    pub transport: Transport,
    /// From the question that was answered to its answer, microseconds; of TCP and TLS with connect and handshake.
    pub time_us: Option<u32>,
    /// `NOERROR`, `NXDOMAIN`, … (RFC 6895, 2.3).
    pub rcode: Option<String>,
    /// Flags of the header: `aa`, `tc`, `rd`, `ra`, `ad`, `cd`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// The answer by datagram was cut, so TCP was asked.
    #[serde(default)]
    pub truncated: bool,
    /// Bytes of the answer.
    #[serde(default)]
    pub bytes: u32,
    /// Records of the answer; the first 128.
    #[serde(default)]
    pub answers: Vec<DnsRecord>,
    /// Records that the answer has besides.
    #[serde(default)]
    pub more: u32,
    /// Questions sent.
    pub sent: u32,
    /// What came and was not the answer.
    #[serde(default)]
    pub ignored: DnsIgnored,
    /// Of TLS: why its certificate is not to be trusted; none: it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Datagrams that were not the answer: somebody guesses, or a server is odd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsIgnored {
    /// With another number than that of a question.
    pub wrong_id: u32,
    /// To another question.
    pub wrong_question: u32,
    /// From another address or port than was asked.
    pub wrong_address: u32,
    /// No answer that can be read.
    pub malformed: u32,
}

impl DnsIgnored {
    /// All together.
    pub const fn sum(&self) -> u32 {
        self.wrong_id
            .saturating_add(self.wrong_question)
            .saturating_add(self.wrong_address)
            .saturating_add(self.malformed)
    }
}

/// A record of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// Whose.
    pub name: String,
    /// `A`, …; `TYPE65` where it is none of ours (RFC 3597).
    pub record: String,
    /// Seconds for which it may be kept.
    pub ttl: u32,
    /// As in zone files.
    pub data: String,
}

/// [`Test::Tcp`](super::Test::Tcp).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpTest {
    /// A name or an address.
    pub target: String,
    /// 1 to 65,535.
    pub port: u16,
    /// How packets leave.
    #[serde(default)]
    pub way: Way,
    /// For each address, milliseconds, 10 to 60,000.
    pub timeout_ms: u32,
}

/// Result of a [`TcpTest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpResult {
    /// As it was given.
    pub target: String,
    /// Which was tried.
    pub port: u16,
    /// Name lookup, microseconds.
    pub resolve_us: u32,
    /// One of each address, 16 at most, in the order in which programs would try them.
    pub connections: Vec<Connection>,
}

/// What became of one attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// To whom.
    pub address: SocketAddr,
    /// How it ended.
    pub outcome: Outcome,
    /// Until then, microseconds.
    pub time_us: u32,
    /// Own end, where it was connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SocketAddr>,
    /// In words, where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Who said so, where that was somebody else than the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<IpAddr>,
}

impl Connection {
    /// It is there.
    pub fn is_connected(&self) -> bool {
        self.outcome == Outcome::Connected
    }

    /// Why it is none, and who says so.
    pub fn words(&self) -> Option<String> {
        let kind = match self.outcome {
            Outcome::Connected => return None,
            Outcome::Refused => "refused",
            Outcome::Timeout => "timeout",
            Outcome::Unreachable => "unreachable",
            Outcome::Failed => "failed",
        };
        let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let by = self.by.map(|by| format!(", says {by}")).unwrap_or_default();
        Some(format!("{kind}{why}{by}"))
    }
}

/// How an attempt to connect ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is there.
    Connected,
    /// The target says that nobody listens there (RST).
    Refused,
    /// Nobody says anything.
    Timeout,
    /// Somebody says that there is no way.
    Unreachable,
    /// This box cannot try.
    Failed,
}

/// [`Test::Tls`](super::Test::Tls).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsTest {
    /// A name or an address.
    pub target: String,
    /// 1 to 65,535.
    pub port: u16,
    /// The name that is asked for and that the certificate must have; none: the target.
    #[serde(default)]
    pub name: Option<String>,
    /// How packets leave.
    #[serde(default)]
    pub way: Way,
    /// For connecting to each address, and for the handshake, milliseconds, 10 to 60,000.
    pub timeout_ms: u32,
}

/// Result of a [`TlsTest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsResult {
    /// As it was given.
    pub target: String,
    /// Which was tried.
    pub port: u16,
    /// Name lookup, microseconds.
    pub resolve_us: u32,
    /// Attempts to connect: the last is the one that goes on, if any does.
    pub connections: Vec<Connection>,
    /// What TLS came to, where something was connected.
    pub tls: Option<Tls>,
}

/// A handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// The name that was asked for.
    pub name: String,
    /// Until it was done or failed, microseconds.
    pub handshake_us: u32,
    /// `TLS 1.3` or `TLS 1.2`.
    pub version: Option<String>,
    /// As IANA writes it.
    pub cipher: Option<String>,
    /// The chain leads to an authority that this system trusts, and the certificate has the name.
    pub verified: bool,
    /// Why the chain is not to be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
    /// Why the name does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misnamed: Option<String>,
    /// It asks for a certificate of ours.
    #[serde(default)]
    pub wants_certificate: bool,
    /// Its certificates, its own first; 16 at most.
    pub chain: Vec<Certificate>,
    /// Why the handshake failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Names and addresses that it is for (subjectAltName); the first 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// From when on it holds, seconds since 1970.
    pub not_before_s: i64,
    /// Until when.
    pub not_after_s: i64,
    /// Whole days until then; negative once it is over.
    pub days_left: i64,
    /// It cannot be read: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// [`Test::Http`](super::Test::Http).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTest {
    /// `http://` or `https://`.
    pub url: String,
    /// How packets leave.
    #[serde(default)]
    pub way: Way,
    /// For connecting to each address, for the handshake, and for the first byte, milliseconds, 10 to 60,000.
    pub timeout_ms: u32,
    /// For all of the response, milliseconds, 10 to 600,000.
    pub whole_ms: u32,
    /// Bytes of the body that are read before it is given up; all are dropped.
    pub limit: u64,
}

/// Result of a [`HttpTest`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResult {
    /// As it was given.
    pub url: String,
    /// Name lookup, microseconds.
    pub resolve_us: u32,
    /// Attempts to connect: the last is the one that goes on, if any does.
    pub connections: Vec<Connection>,
    /// Of `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// From the request to the first byte of the response, microseconds.
    pub first_byte_us: Option<u32>,
    /// From the request to its last byte, or to where it was given up.
    pub whole_us: Option<u32>,
    /// All phases together.
    pub total_us: u32,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: Option<String>,
    /// As `200`.
    pub status: Option<u16>,
    /// What stands behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Those that say who answers and what with; 32 at most.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Bytes of the header.
    #[serde(default)]
    pub header_bytes: u64,
    /// Bytes of the body, without the framing of chunks.
    #[serde(default)]
    pub body_bytes: u64,
    /// Nothing of it is missing.
    pub is_whole: bool,
    /// Why something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl HttpResult {
    /// All of a response that is no error came, from who it should.
    pub fn is_well(&self) -> bool {
        let is_right = self.status.is_some_and(|status| status < 400);
        is_right && self.is_whole && self.tls.as_ref().is_none_or(|tls| tls.verified)
    }
}

/// [`Test::Ntp`](super::Test::Ntp).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NtpTest {
    /// Names and addresses, `:PORT` behind them where it is not 123; [`NtpTest::SERVERS`] at most.
    pub servers: Vec<String>,
    /// How packets leave.
    #[serde(default)]
    pub way: Way,
    /// Queries to each, 1 to 20.
    pub count: u8,
    /// Between two to one server, milliseconds, 100 to 60,000.
    pub interval_ms: u32,
    /// An answer that takes longer is none, milliseconds, 10 to 60,000.
    pub timeout_ms: u32,
}

impl NtpTest {
    /// Most servers.
    pub const SERVERS: usize = 16;
}

/// A query was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NtpAnswer {
    /// By whom, as it was given.
    pub server: String,
    /// Server's clock minus ours, microseconds (RFC 5905, 8: theta).
    pub offset_us: i64,
    /// Round-trip time without the time in the server, microseconds (RFC 5905, 8: delta).
    pub delay_us: i64,
}

/// What one server says, of a [`NtpTest`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NtpResult {
    /// As it was given.
    pub server: String,
    /// What it stands for; none: it does not resolve.
    pub address: Option<SocketAddr>,
    /// Queries sent.
    pub sent: u32,
    /// Queries answered.
    pub received: u32,
    /// Answers that were to none of them, or from somebody else.
    pub ignored: u32,
    /// Of the answer with the least delay: server's clock minus ours, microseconds.
    pub offset_us: Option<i64>,
    /// Its round-trip time, microseconds.
    pub delay_us: Option<i64>,
    /// Hops from a clock: 1 has one itself.
    pub stratum: Option<u8>,
    /// Which: `GPS`, `PPS`, …; of stratum 2 and more an address, or 8 hex digits of IPv6.
    pub reference: Option<String>,
    /// `none`, `insert` or `delete` a second at the end of the day, `unsynchronised`.
    pub leap: Option<String>,
    /// To that clock and back, microseconds.
    pub root_delay_us: Option<u32>,
    /// How far it may be wrong, microseconds.
    pub root_dispersion_us: Option<u32>,
    /// Kiss-of-death code (RFC 5905, 7.4): it does not want to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kiss: Option<String>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl NtpResult {
    /// It answered, and is right by its own account.
    pub fn is_well(&self) -> bool {
        let is_synchronised = self.leap.as_deref().is_some_and(|leap| leap != "unsynchronised");
        self.kiss.is_none() && is_synchronised && self.stratum.is_some_and(|stratum| (1..16).contains(&stratum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Event;

    #[test]
    fn what_is_no_answer_is_not_well() {
        let mut http = HttpResult { status: Some(301), is_whole: true, ..HttpResult::default() };
        assert!(http.is_well());
        http.status = Some(503);
        assert!(!http.is_well());
        let mut ntp = NtpResult { leap: Some("none".to_owned()), stratum: Some(3), ..NtpResult::default() };
        assert!(ntp.is_well());
        ntp.stratum = Some(16);
        assert!(!Event::Ntp(vec![ntp]).is_well());
        let dns = |servers: &[DnsServer]| {
            let servers = servers.to_vec();
            DnsResult { name: "noc".to_owned(), record: RecordType::A, servers }.is_well()
        };
        let mut server = DnsServer { rcode: Some("NOERROR".to_owned()), ..DnsServer::default() };
        assert!(!dns(&[server.clone()]), "the name is there and has no such record");
        server.rcode = Some("NXDOMAIN".to_owned());
        assert!(!dns(&[server]) && !dns(&[]), "nobody has it");
    }

    #[test]
    fn record_types_are_known_by_name_and_number() {
        for (record, number, name) in RecordType::ALL {
            assert_eq!((record.number(), record.name()), (number, name));
            assert_eq!(RecordType::named(&name.to_lowercase()), Some(record));
        }
        assert_eq!(RecordType::named("AXFR"), None);
    }
}
