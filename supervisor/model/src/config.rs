//! The site configuration: one TOML file, `schema = 1`.
//!
//! Layers, the later over the earlier: built-in defaults, the image's factory file, the site file, `RAVEN_*` of the
//! environment (development). An unknown key is an error with file, line, column and the nearest valid key.

mod alert;
mod backfill;
mod bandwidth_server;
mod check;
mod collect;
mod destination;
mod diff;
mod error;
mod layers;
mod network;
mod schedule;
mod shape;
mod system;
mod vpn;

pub use alert::{Alert, Settings, Silence, Tuning};
pub use backfill::{Backfill, Rate};
pub use bandwidth_server::BandwidthServer;
pub use collect::{
    Collect, CollectFlow, CollectHost, CollectMetrics, CollectSyslog, CollectTrap, CollectWinevent, Secret, Wanted,
};
pub use error::{ConfigError, Flaw, Place};
pub use network::{Address, Dhcp, Link, Mac, Network};
pub use schedule::{
    Bandwidth, BitRate, Diag, Dns, Http, Mtu, Ntp, Ping, SCHEDULES, Schedule, Tcp, Thresholds, Tls, Trace,
};
pub use system::{Access, Keys, System};
pub use vpn::{Vpn, VpnProfile};

use crate::stream::Stream;
use crate::units::{ByteCount, Span, TextOrNumber, text_or_number};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this format; 1.
    pub schema: u32,
    /// Where this box stands.
    #[serde(default)]
    pub site: Site,
    /// Clock of the box.
    #[serde(default)]
    pub system: System,
    /// Addresses of the box.
    #[serde(default)]
    pub network: Network,
    /// Tunnels to the operations centre.
    #[serde(default)]
    pub vpn: Vpn,
    /// Whose SSH keys are taken.
    #[serde(default)]
    pub access: Access,
    /// What is received.
    #[serde(default)]
    pub collect: Collect,
    /// What is told when it goes wrong.
    #[serde(default)]
    pub alert: Alert,
    /// Tests of the network that are made by themselves.
    #[serde(default)]
    pub diag: Diag,
    /// What is kept.
    #[serde(default)]
    pub buffer: Buffer,
    /// Where it goes: a table per destination.
    #[serde(default)]
    pub uplink: BTreeMap<String, Destination>,
}

impl Default for Config {
    /// What an empty file with `schema = 1` gives.
    fn default() -> Self {
        Self {
            schema: 1,
            site: Site::default(),
            system: System::default(),
            network: Network::default(),
            vpn: Vpn::default(),
            access: Access::default(),
            collect: Collect::default(),
            alert: Alert::default(),
            diag: Diag::default(),
            buffer: Buffer::default(),
            uplink: BTreeMap::new(),
        }
    }
}

impl Config {
    /// True when somebody has said what this box is for: a name, an address, a way out, somebody who may come in.
    pub fn is_set_up(&self) -> bool {
        let new = Self::default();
        let is_new = self.site == new.site && self.system == new.system && self.network == new.network;
        !is_new || self.access != new.access || !self.uplink.is_empty()
    }

    /// True when the stream is collected at all.
    pub fn collects(&self, stream: Stream) -> bool {
        match stream {
            Stream::Host => self.collect.host.enabled,
            Stream::Alert => self.alert.enabled,
            Stream::Diag => !self.diag.schedule.is_empty(),
            _ => self.collect.wanted().iter().any(|wanted| wanted.stream == stream),
        }
    }
}

/// `[site]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// Name of this box: the `dev` of every record that is sent on. Letters, digits, `-`, `_` and `.`, at most 64.
    pub name: String,
}

impl Default for Site {
    fn default() -> Self {
        Self { name: "raven".to_owned() }
    }
}

/// A listening address: a port on all IPv4 and IPv6 addresses, or one address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen(pub SocketAddr);

impl Listen {
    /// All addresses, IPv4 and IPv6.
    pub const fn port(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
    }

    fn is_any(self) -> bool {
        self.0.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    }
}

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let port = text.parse().map(Self::port).ok();
        port.or_else(|| text.parse().map(Self).ok())
            .filter(|listen| listen.0.port() != 0)
            .ok_or_else(|| format!("`{text}` is not a listening address; expected a port such as `514`, or `192.0.2.1:514`, or `[2001:db8::1]:514`"))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_any() { serializer.serialize_u16(self.0.port()) } else { serializer.collect_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_number(deserializer, "a port (1 to 65535) or `address:port`").and_then(|v| {
            match v {
                TextOrNumber::Text(t) => t.parse(),
                TextOrNumber::Number(n) => n.to_string().parse(),
            }
            .map_err(de::Error::custom)
        })
    }
}

/// `[buffer]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Buffer {
    /// Age at which a record may be removed, once every destination has acknowledged it.
    pub keep: Span,
    /// Most disk that the ring takes: a share of the file system, or an amount.
    pub disk: Disk,
    /// How often received records are made durable; 10 ms to 1 s.
    pub sync: Span,
    /// Size of a segment; without it a 128th of the stream's share, 64 MiB to 8 GiB.
    pub segment: Option<ByteCount>,
    /// What is different for single streams.
    pub streams: BTreeMap<Stream, Room>,
}

/// `[buffer.streams.NAME]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Room {
    /// Its part of the disk against those of the other streams in use, 1 to 1000; without it [`Stream::weight`].
    pub share: Option<u32>,
    /// In place of `buffer.keep`.
    pub keep: Option<Span>,
}

impl Buffer {
    /// The part of a stream against those of the others.
    pub fn weight(&self, stream: Stream) -> u64 {
        self.streams.get(&stream).and_then(|room| room.share).map_or(stream.weight(), u64::from)
    }

    /// How long records of a stream are kept.
    pub fn keep(&self, stream: Stream) -> Duration {
        self.streams.get(&stream).and_then(|room| room.keep).unwrap_or(self.keep).0
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            keep: Span(Duration::from_hours(14 * 24)),
            disk: Disk::Share(90),
            sync: Span(Duration::from_millis(100)),
            segment: None,
            streams: BTreeMap::new(),
        }
    }
}

/// Disk space: `90%` or `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Percent of the file system, 1 to 95.
    Share(u8),
    /// Bytes.
    Amount(ByteCount),
}

impl FromStr for Disk {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            Some(share) => share
                .trim()
                .parse()
                .ok()
                .filter(|share| (1..=95).contains(share))
                .map(Self::Share)
                .ok_or_else(|| format!("`{text}` is not a share of the disk; expected `1%` to `95%`")),
            None => text.parse().map(Self::Amount),
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share}%"),
            Self::Amount(bytes) => bytes.fmt(f),
        }
    }
}

impl Serialize for Disk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Share(share) => serializer.collect_str(&format_args!("{share}%")),
            Self::Amount(bytes) => bytes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Disk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_number(deserializer, "a share such as `90%` or an amount such as `2GiB`").and_then(|v| match v {
            TextOrNumber::Text(t) => t.parse().map_err(de::Error::custom),
            TextOrNumber::Number(n) => Ok(Self::Amount(ByteCount(n))),
        })
    }
}

/// `[uplink.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Protocol.
    pub kind: Kind,
    /// `host:port`, or several with commas between, of which the first that answers is taken, but for `udp`; for
    /// HTTP and OTLP `http://host[:port]/path` or `https://…`.
    pub to: String,
    /// By which way it is reached alone; without it as the routes say.
    pub via: Option<Via>,
    /// Streams to send.
    #[serde(default = "all_streams")]
    pub streams: Vec<String>,
    /// What the receiver's acknowledgement means: `accepted`, or `durable` where its operator made it flush first.
    #[serde(default)]
    pub ack: AckClass,
    /// Compression of HTTP bodies; without it zstd, and none where `body` is `json`.
    pub compression: Option<Compression>,
    /// What an HTTP request holds.
    #[serde(default)]
    pub body: BodyForm,
    /// Records under way and not yet acknowledged, at most: 1 to 65536.
    #[serde(default = "window")]
    pub window: u32,
    /// A connection or an acknowledgement that takes longer counts as failed; 1 s to 10 min.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// A connection on which nothing is acknowledged for so long is given up, and what was under way is sent again on a
    /// new one; without it the smaller of `timeout` and 8 s.
    pub ack_timeout: Option<Span>,
    /// How fast what was missed is sent, beside what comes in.
    #[serde(default)]
    pub backfill: Backfill,
    /// How fast datagrams are sent altogether; without it 10,000 in a second.
    pub pace: Option<Rate>,
    /// What stands in a datagram.
    #[serde(default)]
    pub format: Format,
    /// TLS, for kinds that `to` says nothing of it for.
    #[serde(default)]
    pub tls: bool,
    /// Who may have signed the receiver's certificate, PEM; without it whom the system trusts.
    pub ca: Option<Secret>,
    /// Name in the receiver's certificate, where it is not the host of `to`.
    pub server_name: Option<String>,
    /// Our certificate, PEM, for receivers that ask for one.
    pub certificate: Option<Secret>,
    /// Its key, PEM.
    pub key: Option<Secret>,
    /// How we show who we are: `bearer TOKEN` or `basic USER:PASSWORD`.
    pub credentials: Option<Secret>,
    /// `http://host:port` of an HTTP proxy through which it is reached.
    pub proxy: Option<String>,
    /// How we show the proxy who we are, as `credentials`.
    pub proxy_credentials: Option<Secret>,
    /// For SNMP of version 2c: the community.
    pub community: Option<Secret>,
    /// For SNMP of version 3: our user at the manager, a file like that of `collect.trap.users` with one entry.
    pub user: Option<Secret>,
}

/// A way that packets to a destination take, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The tunnel that carries, of those in `vpn.order`: while there is none, nothing leaves.
    Vpn,
}

fn all_streams() -> Vec<String> {
    Stream::ALL.map(|stream| stream.name().to_owned()).to_vec()
}

const fn window() -> u32 {
    8192
}

const fn timeout() -> Span {
    Span(Duration::from_secs(30))
}

/// Protocol of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// RELP with RFC 5424 messages.
    Relp,
    /// NDJSON by POST; 2xx acknowledges the whole body.
    Http,
    /// RFC 5424 messages over TCP or TLS, octet counting (RFC 6587, 5425). Nothing acknowledges them.
    Syslog,
    /// Logs of OpenTelemetry, protobuf by POST.
    Otlp,
    /// Metrics of OpenTelemetry, of the host.
    OtlpMetrics,
    /// Prometheus' remote write 1.0, of the host.
    RemoteWrite,
    /// NATS JetStream; an acknowledgement per record once it is stored.
    Nats,
    /// Datagrams as they came, to collectors that know nothing else. Nothing acknowledges them.
    Udp,
    /// SNMP informs to a network management system; its response to each acknowledges it.
    Snmp,
}

/// What stands in a datagram of `kind = "udp"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// What was received.
    #[default]
    Raw,
    /// The same in an RFC 5424 message that says who sent it; for syslog.
    Rfc5424,
}

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckClass {
    /// The receiver says that it has it.
    #[default]
    Accepted,
    /// The receiver flushes it to disk before it says so.
    Durable,
}

/// What an HTTP request holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    /// Records as lines of JSON, as many as fit.
    #[default]
    Ndjson,
    /// One record as one JSON object, for webhooks.
    Json,
}

/// Compression of HTTP bodies (RFC 9110, 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As it is.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_collected_unless_it_has_no_listener_or_is_off() {
        let mut config = Config::default();
        assert!(Stream::ALL.into_iter().all(|stream| config.collects(stream) || stream == Stream::Diag));
        config.collect.trap.udp.clear();
        config.collect.host.enabled = false;
        config.alert.enabled = false;
        let off = [Stream::Trap, Stream::Host, Stream::Alert];
        assert!(!off.into_iter().any(|stream| config.collects(stream)));
        assert_eq!(config.collect.wanted().len(), 3 + 4 + 1 + 1);
    }
}
