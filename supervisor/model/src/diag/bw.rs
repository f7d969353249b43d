//! Bandwidth between this box and another end that speaks iperf3: what is asked for, and what comes back.

use super::Way;
use crate::prefix::Prefix;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Where iperf3 listens.
pub const PORT: u16 = 5201;

/// What carries the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP: as fast as the path takes it.
    #[default]
    Tcp,
    /// UDP: as fast as asked for; what is lost on the way is counted.
    Udp,
}

/// Where the bytes go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From this box to the other end.
    #[default]
    Up,
    /// From the other end to this box.
    Down,
    /// Both at once, by streams of their own.
    Both,
}

/// A measurement, this box being the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BandwidthTest {
    /// A name or an address.
    pub target: String,
    /// How packets leave.
    #[serde(default)]
    pub way: Way,
    /// Where it listens: [`PORT`] as a rule.
    pub port: u16,
    /// What carries the bytes.
    #[serde(default)]
    pub transport: Transport,
    /// Where they go.
    #[serde(default)]
    pub direction: Direction,
    /// Streams in each direction, 1 to [`BandwidthTest::STREAMS`].
    pub streams: u8,
    /// Bits a second of each stream; none: as fast as can be (TCP), 1 Mbit/s (UDP). UDP with 0: as fast as can be.
    #[serde(default)]
    pub rate: Option<u64>,
    /// How long is measured, seconds, 1 to [`BandwidthTest::SECONDS`].
    pub seconds: u32,
    /// How long bytes flow before that and are not counted (TCP is slow at first), seconds, 0 to 60.
    #[serde(default)]
    pub omit: u32,
    /// Bytes that are written at once: up to 1 MiB (TCP), 16 to 65,507 (UDP). None: 128 KiB, or what a packet takes.
    #[serde(default)]
    pub length: Option<u32>,
}

impl BandwidthTest {
    /// Most streams in each direction.
    pub const STREAMS: u8 = 32;
    /// Longest measurement, seconds.
    pub const SECONDS: u32 = 3600;
    /// Longest time that is not counted, seconds, which is iperf3's.
    pub const OMIT: u32 = 60;
    /// Highest rate that can be asked for, bits a second.
    pub const RATE: u64 = 1_000_000_000_000;
}

/// The other end of a measurement: this box waits for clients for a while, one at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BandwidthServer {
    /// Where it listens; none: where the configuration says, else at [`PORT`]. 0: a free port, which is told.
    pub port: Option<u16>,
    /// At which interface and address.
    #[serde(default)]
    pub way: Way,
    /// How long it waits for clients, seconds, 1 to [`BandwidthServer::SECONDS`]. A test that runs then ends by itself.
    pub seconds: u32,
    /// It ends after the first test.
    #[serde(default)]
    pub once: bool,
    /// What a client may.
    pub limits: Limits,
}

impl BandwidthServer {
    /// Longest time, seconds.
    pub const SECONDS: u32 = 86_400;
    /// Most prefixes.
    pub const PREFIXES: usize = 256;
}

/// What a client may do to this box and its link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bits a second in each direction, all streams together. TCP is slowed to it; UDP that asks for more is refused, and
    /// ended when it sends more. None: no limit.
    #[serde(default)]
    pub rate: Option<u64>,
    /// Seconds of one test, 1 to [`BandwidthTest::SECONDS`]. Longer ones are refused.
    pub seconds: u32,
    /// Bytes of one test, both directions together. None: no limit.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Who may; nobody else is served. Empty: anybody.
    #[serde(default)]
    pub allowed: Vec<Prefix>,
}

/// What was moved, as one end counted it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Payload.
    pub bytes: u64,
    /// In how long.
    pub seconds: f64,
    /// Payload, bits a second.
    pub bits_per_second: f64,
}

impl Volume {
    /// Of bytes in seconds.
    pub fn new(bytes: u64, seconds: f64) -> Self {
        let bits_per_second = if seconds > 0.0 { bytes as f64 * 8.0 / seconds } else { 0.0 };
        Self { bytes, seconds, bits_per_second }
    }
}

/// What became of datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Datagrams {
    /// Sent, as far as their receiver knows.
    pub sent: u64,
    /// Lost on the way.
    pub lost: u64,
    /// Percent of those sent that were lost.
    pub loss: f64,
    /// Came after a later one; unknown where the other end received.
    pub out_of_order: Option<u64>,
    /// Interarrival jitter, microseconds (RFC 3550, 6.4.1). Of a sum: the mean of its streams.
    pub jitter_us: f64,
}

/// TCP at its sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpState {
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u32,
    /// Its mean deviation, microseconds (RFC 6298, RTTVAR).
    pub rtt_var_us: u32,
    /// Congestion window, bytes.
    pub window: u64,
    /// Path MTU, bytes.
    pub path_mtu: u32,
}

/// Both ends of a connection, or of a pair of sockets that exchange datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// This box's.
    pub local: SocketAddr,
    /// The other's.
    pub remote: SocketAddr,
}

/// Share of one processor, percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// In the program.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

impl Cpu {
    /// Both.
    pub fn total(self) -> f64 {
        self.user + self.system
    }
}

/// One second of a stream, or of all of them in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Which; none: the sum of a direction.
    pub stream: Option<u32>,
    /// Up: as this box sent it. Down: as this box received it.
    pub direction: Direction,
    /// What was moved.
    pub volume: Volume,
    /// TCP segments that were sent again, where this box sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
    /// TCP, where this box sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpState>,
    /// Datagrams, where this box sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// UDP, where this box receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Datagrams>,
}

/// What happened in a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Since the test began, seconds; since the end of what is not counted, where that is over.
    pub from: f64,
    /// The same.
    pub to: f64,
    /// It is not counted.
    pub omitted: bool,
    /// Each stream.
    pub streams: Vec<Slice>,
    /// Each direction.
    pub sums: Vec<Slice>,
}

/// What a stream moved, or all of them in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Which, as iperf3 numbers them (1, 3, 4, …); none: the sum of a direction.
    pub stream: Option<u32>,
    /// Its ends; none: the sum of a direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Ends>,
    /// Where to.
    pub direction: Direction,
    /// As its sender counted.
    pub sent: Volume,
    /// As its receiver counted.
    pub received: Volume,
    /// TCP segments that were sent again, where the sender says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
    /// UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Datagrams>,
}

/// Result of a measurement, as the client has it, and of one test of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BandwidthResult {
    /// As it was given; of the server: the client's address.
    pub target: String,
    /// The other end.
    pub address: IpAddr,
    /// Where the server listens.
    pub port: u16,
    /// What carried the bytes.
    pub transport: Transport,
    /// Where they went, as this box sees it.
    pub direction: Direction,
    /// Each stream.
    pub streams: Vec<Transfer>,
    /// Each direction.
    pub sums: Vec<Transfer>,
    /// What this end took for it.
    pub cpu: Cpu,
    /// What the other end says of its own.
    pub remote_cpu: Cpu,
}

impl BandwidthResult {
    /// Every direction moved something.
    pub fn is_well(&self) -> bool {
        !self.sums.is_empty() && self.sums.iter().all(|sum| sum.received.bytes > 0)
    }
}

/// What became of [`BandwidthServer`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerResult {
    /// Tests that came to their end.
    pub tests: u64,
    /// Tests that broke off, or went beyond a limit.
    pub failed: u64,
    /// Connections that were refused: another test ran, nobody may from there, or they said nothing of sense.
    pub refused: u64,
    /// Payload of all tests.
    pub bytes: u64,
}
