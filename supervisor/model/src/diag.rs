//! Tests that an operator has the `diag` role make, and what comes back: the schema of `--json` and `--ndjson`.
//!
//! The client sends one [`Test`] as a line of JSON and gets a [`crate::query::Reply`] line; after `ok` follow lines of JSON, one
//! [`Event`] each, and the last of them is the result. The connection is the test: who closes it ends the test.

pub mod bw;
pub mod cron;
pub mod schedule;
pub mod services;
pub mod trace;
pub mod wire;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is to be tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Test {
    /// Whether targets answer, and how fast (ICMP echo, RFC 792 and RFC 4443).
    Ping(PingTest),
    /// By which routers a target is reached.
    Trace(TraceTest),
    /// The longest packet that reaches a target whole (RFC 8899 as far as it is asked for by hand).
    Mtu(MtuTest),
    /// How much gets through to another end that speaks iperf3.
    Bandwidth(bw::BandwidthTest),
    /// This box as that other end, for a while.
    BandwidthServer(bw::BandwidthServer),
    /// What name servers answer (RFC 1035).
    Dns(services::DnsTest),
    /// Whether a port can be connected to (RFC 9293).
    Tcp(services::TcpTest),
    /// Whether a TLS server shows what it should (RFC 8446, RFC 5246).
    Tls(services::TlsTest),
    /// How long each phase of a request takes (RFC 9112).
    Http(services::HttpTest),
    /// How far the clock is from others (RFC 5905, SNTP).
    Ntp(services::NtpTest),
}

/// How packets leave the box; without any of it as the routes say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Way {
    /// By this interface alone; a tunnel's is `vpn-NAME`.
    pub interface: Option<String>,
    /// From this address of the box.
    pub source: Option<IpAddr>,
    /// Only to addresses of this family, where a name has both.
    pub family: Option<Family>,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// [`Test::Ping`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingTest {
    /// Names and addresses, [`PingTest::TARGETS`] at most.
    pub targets: Vec<String>,
    /// How packets leave.
    #[serde(default)]
    pub way: Way,
    /// Pings to each target, [`PingTest::COUNT`] at most.
    pub count: u32,
    /// Between two pings to one target, milliseconds, 10 to 600,000.
    pub interval_ms: u32,
    /// An answer that takes longer is none, milliseconds, 10 to 60,000.
    pub timeout_ms: u32,
    /// Bytes behind the ICMP header, 16 to 65,000.
    pub size: u16,
    /// Differentiated Services Code Point, 0 to 63 (RFC 2474).
    #[serde(default)]
    pub dscp: u8,
    /// Routers may not fragment it (IPv4; nobody may fragment IPv6).
    #[serde(default)]
    pub dont_fragment: bool,
    /// Each answer is told.
    #[serde(default)]
    pub each: bool,
}

impl PingTest {
    /// Most targets.
    pub const TARGETS: usize = 4096;
    /// Most pings to each.
    pub const COUNT: u32 = 1_000_000;
    /// Most pings a second to all of them.
    pub const RATE: u32 = 20_000;
}

/// [`Test::Trace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceTest {
    /// A name or an address.
    pub target: String,
    /// How packets leave.
    #[serde(default)]
    pub way: Way,
    /// What is sent.
    #[serde(default)]
    pub method: Method,
    /// Of UDP: 33434 unless given; of TCP: 443.
    #[serde(default)]
    pub port: Option<u16>,
    /// Hops at most, 1 to 64.
    pub hops: u8,
    /// Probes to each hop, 1 to 100.
    pub rounds: u8,
    /// Flows, 1 to 64: routers send packets of one flow one way (RFC 2992), so several show several ways.
    pub flows: u8,
    /// From the beginning of one round to that of the next, milliseconds, to 60,000; of those that go on 10 at least.
    pub interval_ms: u32,
    /// An answer that takes longer is none, milliseconds, 10 to 60,000; with TCP 1,000 at most.
    pub timeout_ms: u32,
    /// Names of those on the way are asked for (PTR).
    #[serde(default)]
    pub names: bool,
    /// It goes on, whatever `rounds` says.
    #[serde(default)]
    pub watch: Option<trace::Watch>,
}

/// What is sent to trace a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Datagrams, each flow with ports of its own that do not change.
    #[default]
    Udp,
    /// Echo requests: one flow.
    Icmp,
    /// Beginnings of connections, each flow with ports of its own that do not change: what firewalls let through.
    Tcp,
}

/// [`Test::Mtu`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MtuTest {
    /// A name or an address.
    pub target: String,
    /// How packets leave.
    #[serde(default)]
    pub way: Way,
    /// An answer that takes longer is none, milliseconds, 10 to 60,000.
    pub timeout_ms: u32,
    /// Probes of one length before it counts as lost, 1 to 10.
    pub tries: u8,
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A target and its address.
    Target {
        /// As it was given.
        target: String,
        /// What it stands for.
        address: IpAddr,
    },
    /// A ping was answered.
    Answer(Answer),
    /// A ping was not answered in time.
    Lost {
        /// Whose.
        target: String,
        /// Which, from 0.
        sequence: u32,
    },
    /// Somebody said that a packet cannot get there.
    Unreachable {
        /// Whose.
        target: String,
        /// Which, from 0.
        sequence: u32,
        /// Who said so; nobody: this box.
        by: Option<IpAddr>,
        /// In words.
        why: String,
    },
    /// What is known of a hop changed.
    Hop(Hop),
    /// A round of a trace that goes on is over.
    TraceRound(trace::TraceRound),
    /// A flow of a trace goes another way than before.
    PathChanged(trace::PathChanged),
    /// A length was tried.
    Length {
        /// Bytes, the IP header among them.
        bytes: u16,
        /// It reached the target whole.
        fits: bool,
        /// Who said that it does not fit, and what would.
        limit: Option<Limit>,
    },
    /// A name server answered, or did not.
    DnsServer(services::DnsServer),
    /// An attempt to connect ended.
    Connection(services::Connection),
    /// A time server answered.
    NtpAnswer(services::NtpAnswer),
    /// Result of [`Test::Ping`]: one of each target, in the order of the test.
    Ping(Vec<PingResult>),
    /// Result of [`Test::Trace`].
    Trace(TraceResult),
    /// Result of [`Test::Mtu`].
    Mtu(MtuResult),
    /// What was moved in a second.
    Interval(bw::Interval),
    /// [`Test::BandwidthServer`] waits for clients.
    Listening {
        /// At this port.
        port: u16,
        /// Bytes that clients may move today still, where the configuration has a limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left_today: Option<u64>,
    },
    /// A client's test has come to its end.
    Served(bw::BandwidthResult),
    /// A client's test has not.
    ServedNot {
        /// Whose.
        address: IpAddr,
        /// In words.
        why: String,
    },
    /// Result of [`Test::Bandwidth`].
    Bandwidth(bw::BandwidthResult),
    /// Result of [`Test::BandwidthServer`].
    BandwidthServer(bw::ServerResult),
    /// Result of [`Test::Dns`].
    Dns(services::DnsResult),
    /// Result of [`Test::Tcp`].
    Tcp(services::TcpResult),
    /// Result of [`Test::Tls`].
    Tls(services::TlsResult),
    /// Result of [`Test::Http`].
    Http(services::HttpResult),
    /// Result of [`Test::Ntp`]: one of each server, in the order of the test.
    Ntp(Vec<services::NtpResult>),
}

impl Event {
    /// True for the last line.
    pub const fn is_result(&self) -> bool {
        matches!(self, Self::Ping(_) | Self::Trace(_) | Self::Mtu(_))
            || matches!(self, Self::Bandwidth(_) | Self::BandwidthServer(_))
            || matches!(self, Self::Dns(_) | Self::Tcp(_) | Self::Tls(_) | Self::Http(_) | Self::Ntp(_))
    }

    /// Of a result, whether all is as it should be: what exit codes and the outcomes of scheduled tests say. Of another event false.
    pub fn is_well(&self) -> bool {
        match self {
            Self::Ping(results) => results.iter().all(|result| result.received > 0),
            Self::Trace(result) => result.reached,
            Self::Mtu(result) => result.mtu.is_some() && !result.black_hole,
            Self::Bandwidth(result) => result.is_well(),
            Self::BandwidthServer(_) => true,
            Self::Dns(result) => result.is_well(),
            Self::Tcp(result) => result.connections.iter().any(services::Connection::is_connected),
            Self::Tls(result) => result.tls.as_ref().is_some_and(|tls| tls.verified),
            Self::Http(result) => result.is_well(),
            Self::Ntp(results) => results.iter().all(services::NtpResult::is_well),
            _ => false,
        }
    }
}

/// A ping that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose.
    pub target: String,
    /// Which, from 0.
    pub sequence: u32,
    /// Round-trip time, microseconds.
    pub rtt_us: u32,
    /// Time to live (hop limit) that was left of it.
    pub ttl: Option<u8>,
    /// It was answered before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// It came after the answer to a later one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reordered: bool,
}

/// What became of the pings to one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PingResult {
    /// As it was given.
    pub target: String,
    /// What it stands for; none: it does not resolve.
    pub address: Option<IpAddr>,
    /// Pings sent.
    pub sent: u32,
    /// Pings answered in time.
    pub received: u32,
    /// Percent of those sent that were not answered in time.
    pub loss: f64,
    /// Round-trip times, where any was answered.
    pub rtt: Option<Rtt>,
    /// Answers that came twice or more often.
    pub duplicates: u32,
    /// Answers that came after the answer to a later ping.
    pub reordered: u32,
    /// Answers that came after the time: they count as lost.
    pub late: u32,
    /// What was said instead of an answer, and how often.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, u32>,
}

/// Round-trip times, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rtt {
    /// Shortest.
    pub min_us: u32,
    /// Mean.
    pub mean_us: u32,
    /// Median, within 1 %, as the other percentiles.
    pub p50_us: u32,
    /// 95th percentile.
    pub p95_us: u32,
    /// 99th percentile.
    pub p99_us: u32,
    /// Longest.
    pub max_us: u32,
    /// Mean difference of two that follow each other (RFC 3393, of the round trip).
    pub jitter_us: u32,
    /// The newest.
    #[serde(default)]
    pub last_us: u32,
    /// Standard deviation.
    #[serde(default)]
    pub stdev_us: u32,
}

/// A router on the way, or the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// From 1.
    pub hop: u8,
    /// Who answered there, and by which flows.
    pub routers: Vec<Router>,
    /// Probes sent.
    pub sent: u32,
    /// Probes answered.
    pub received: u32,
    /// Round-trip times.
    pub rtt: Option<Rtt>,
    /// Probes are missing here, and none behind it: it answers fewer than it forwards, and nothing is lost.
    pub rate_limited: bool,
}

/// Who answered at a hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// Its address.
    pub address: IpAddr,
    /// Its name (PTR), where it was asked for and has one. Whoever rules the address chose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Flows that it answered, from 0.
    pub flows: Vec<u8>,
    /// What it said, where that is not "time exceeded": `host unreachable`, `administratively prohibited`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// The way to a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceResult {
    /// As it was given.
    pub target: String,
    /// What it stands for.
    pub address: IpAddr,
    /// What was sent.
    pub method: Method,
    /// It answered.
    pub reached: bool,
    /// Who stands on the way, the first hop first.
    pub hops: Vec<Hop>,
    /// Different ways that were seen, by flows.
    pub paths: u32,
    /// Of the routers in their order: the same while the ways are. 16 hex digits; docs/diagnostics.md says how it is made.
    pub path_hash: String,
    /// A flow went another way than before while it was watched.
    pub changed: bool,
    /// How often.
    #[serde(default)]
    pub changes: u32,
}

/// Somebody who says how long a packet may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Who; nobody: this box.
    pub by: Option<IpAddr>,
    /// Bytes, the IP header among them.
    pub mtu: u32,
}

/// How long packets to a target may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MtuResult {
    /// As it was given.
    pub target: String,
    /// What it stands for.
    pub address: IpAddr,
    /// Longest packet that reached it whole, bytes, the IP header among them; none: it answers nothing.
    pub mtu: Option<u16>,
    /// What the first link takes.
    pub link_mtu: Option<u32>,
    /// Maximum Segment Size of TCP that fits (RFC 9293, 3.7.1).
    pub mss: Option<u16>,
    /// Who said that longer ones do not fit.
    pub limit: Option<Limit>,
    /// Longer ones vanish and nobody says so: TCP connections begin, and stand still with the first long packet.
    pub black_hole: bool,
}
