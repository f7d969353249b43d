//! `[collect]`: what is received, and where.

use super::Listen;
use crate::control::Proto;
use crate::stream::Stream;
use crate::table::Role;
use crate::units::{ByteCount, Span};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// `[collect]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Collect {
    /// Syslog.
    pub syslog: CollectSyslog,
    /// NetFlow, IPFIX and sFlow.
    pub flow: CollectFlow,
    /// SNMP notifications.
    pub trap: CollectTrap,
    /// Windows events.
    pub winevent: CollectWinevent,
    /// Prometheus remote write and Loki's push.
    pub metrics: CollectMetrics,
    /// The appliance's own telemetry.
    pub host: CollectHost,
}

/// `[collect.syslog]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectSyslog {
    /// UDP listeners (RFC 5426): ports, or `address:port`.
    pub udp: Vec<Listen>,
    /// TCP listeners (RFC 6587).
    pub tcp: Vec<Listen>,
    /// TLS listeners (RFC 5425); 6514 is the port for it.
    pub tls: Vec<Listen>,
    /// RELP listeners.
    pub relp: Vec<Listen>,
    /// The certificate of the TLS listeners, PEM; without it the appliance's own.
    pub certificate: Option<Secret>,
    /// Its key, PEM.
    pub key: Option<Secret>,
    /// Certificates of those who may sign senders' certificates, PEM; with it senders must show one.
    pub client_ca: Option<Secret>,
    /// Longest message over TCP, TLS and RELP, at most 64 KiB; a longer one is kept in pieces.
    pub message_limit: ByteCount,
    /// Most connections at a time, at most 1024.
    pub connections: u32,
    /// Most connections from one address at a time.
    pub connections_per_source: u32,
    /// Kernel receive buffer per UDP listener. More than `net.core.rmem_max` needs root.
    pub receive_buffer: ByteCount,
}

impl Default for CollectSyslog {
    fn default() -> Self {
        Self {
            udp: vec![Listen::port(514)],
            tcp: vec![Listen::port(601)],
            tls: vec![Listen::port(6514)],
            relp: Vec::new(),
            certificate: None,
            key: None,
            client_ca: None,
            message_limit: ByteCount::kib(64),
            connections: 1024,
            connections_per_source: 64,
            receive_buffer: ByteCount::mib(64),
        }
    }
}

/// `[collect.flow]`. Any version of NetFlow, IPFIX and sFlow is taken on any of the ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectFlow {
    /// UDP listeners.
    pub udp: Vec<Listen>,
    /// TCP listeners (IPFIX, RFC 7011, 10.4).
    pub tcp: Vec<Listen>,
    /// The exporter's port tells exporters apart, besides its address. For several exporters behind one address that
    /// use the same domain; wrong for exporters that change their port.
    pub exporter_port: bool,
    /// Sampling rates that exporters do not tell: address to N, for 1 in N packets.
    pub sampling: BTreeMap<String, u32>,
    /// A template that was not refreshed for so long is forgotten.
    pub template_lifetime: Span,
    /// Most templates of one exporter; the one unused for the longest time goes first.
    pub templates_per_exporter: u32,
    /// Most templates in all.
    pub templates: u32,
    /// Most TCP connections at a time, at most 1024.
    pub connections: u32,
    /// Most TCP connections from one address at a time.
    pub connections_per_source: u32,
    /// Kernel receive buffer per UDP listener.
    pub receive_buffer: ByteCount,
}

impl Default for CollectFlow {
    fn default() -> Self {
        Self {
            udp: vec![Listen::port(2055), Listen::port(4739), Listen::port(6343)],
            tcp: vec![Listen::port(4739)],
            exporter_port: false,
            sampling: BTreeMap::new(),
            template_lifetime: Span(Duration::from_hours(24)),
            templates_per_exporter: 1024,
            templates: 16_384,
            connections: 256,
            connections_per_source: 16,
            receive_buffer: ByteCount::mib(64),
        }
    }
}

/// `[collect.trap]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectTrap {
    /// UDP listeners.
    pub udp: Vec<Listen>,
    /// Communities of SNMPv1 and v2c that are accepted; empty = any.
    pub communities: Vec<String>,
    /// Senders that are accepted: addresses or prefixes such as `10.0.0.0/8`; empty = any.
    pub sources: Vec<String>,
    /// The SNMPv3 users, a TOML file of secrets.
    pub users: Option<Secret>,
    /// SNMPv3 engines that are accepted, in hex, besides those that a user names; others wait in the inbox.
    pub engines: Vec<String>,
    /// Most notifications of one sender in a second; what is above is dropped and counted.
    pub storm: u32,
    /// Kernel receive buffer per UDP listener.
    pub receive_buffer: ByteCount,
}

impl Default for CollectTrap {
    fn default() -> Self {
        Self {
            udp: vec![Listen::port(162)],
            communities: Vec::new(),
            sources: Vec::new(),
            users: None,
            engines: Vec::new(),
            storm: 10_000,
            receive_buffer: ByteCount::mib(16),
        }
    }
}

/// `[collect.winevent]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectWinevent {
    /// HTTP listeners.
    pub http: Vec<Listen>,
    /// HTTPS listeners.
    pub https: Vec<Listen>,
    /// The certificate of the HTTPS listeners, PEM; without it the appliance's own.
    pub certificate: Option<Secret>,
    /// Its key, PEM.
    pub key: Option<Secret>,
    /// Certificates of those who may sign senders' certificates, PEM; with it senders must show one.
    pub client_ca: Option<Secret>,
    /// Who may send: lines of `bearer TOKEN` or `basic USER:PASSWORD`. Without it anybody.
    pub credentials: Option<Secret>,
    /// Longest body, as sent and unpacked.
    pub body_limit: ByteCount,
    /// Longest event, at most 64 KiB kept in one piece.
    pub event_limit: ByteCount,
    /// Most connections at a time, at most 1024.
    pub connections: u32,
    /// Most connections from one address at a time.
    pub connections_per_source: u32,
}

impl Default for CollectWinevent {
    fn default() -> Self {
        Self {
            http: vec![Listen::port(8084)],
            https: Vec::new(),
            certificate: None,
            key: None,
            client_ca: None,
            credentials: None,
            body_limit: ByteCount::mib(16),
            event_limit: ByteCount::mib(1),
            connections: 1024,
            connections_per_source: 256,
        }
    }
}

/// `[collect.metrics]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectMetrics {
    /// HTTP listeners. 9201 is where Prometheus's own example of a remote write receiver listens.
    pub http: Vec<Listen>,
    /// HTTPS listeners.
    pub https: Vec<Listen>,
    /// The certificate of the HTTPS listeners, PEM; without it the appliance's own.
    pub certificate: Option<Secret>,
    /// Its key, PEM.
    pub key: Option<Secret>,
    /// Certificates of those who may sign senders' certificates, PEM; with it senders must show one.
    pub client_ca: Option<Secret>,
    /// Who may send: lines of `bearer TOKEN` or `basic USER:PASSWORD`. Without it anybody.
    pub credentials: Option<Secret>,
    /// Longest body, as sent and unpacked, at most 16 MiB. Prometheus sends less than 100 KiB, Alloy 1 MiB.
    pub body_limit: ByteCount,
    /// Most connections at a time, at most 1024.
    pub connections: u32,
    /// Most connections from one address at a time. One Prometheus opens up to 200.
    pub connections_per_source: u32,
}

impl Default for CollectMetrics {
    fn default() -> Self {
        Self {
            http: vec![Listen::port(9201)],
            https: Vec::new(),
            certificate: None,
            key: None,
            client_ca: None,
            credentials: None,
            body_limit: ByteCount::mib(8),
            connections: 1024,
            connections_per_source: 256,
        }
    }
}

/// `[collect.host]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectHost {
    /// Whether the appliance keeps its own telemetry.
    pub enabled: bool,
    /// How often a sample is taken; 1 s to 1 h.
    pub interval: Span,
}

impl Default for CollectHost {
    fn default() -> Self {
        Self { enabled: true, interval: Span(Duration::from_secs(10)) }
    }
}

/// The name of a file in the directory `secrets` beside the configuration: `secret:NAME`. The file belongs to root and
/// nobody else can read it; its content is in no message and no log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(String);

impl Secret {
    /// Name of the file.
    pub fn file_name(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fine = |name: &&str| {
            (1..=64).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let name = text.strip_prefix("secret:").filter(fine).ok_or_else(|| {
            "not the name of a secret; expected `secret:` and a file name of letters, digits, `-`, `_` and `.`"
                .to_owned()
        })?;
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret:{}", self.0)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A listener that the configuration wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Stream that its records go to.
    pub stream: Stream,
    /// Transport.
    pub proto: Proto,
    /// Address.
    pub listen: Listen,
    /// Kernel receive buffer of a UDP listener.
    pub receive_buffer: ByteCount,
}

impl Collect {
    /// All listeners.
    pub fn wanted(&self) -> Vec<Wanted> {
        let Self { syslog, flow, trap, winevent, metrics, .. } = self;
        let lists = [
            (Stream::Syslog, Proto::Udp, &syslog.udp, syslog.receive_buffer),
            (Stream::Syslog, Proto::Tcp, &syslog.tcp, ByteCount(0)),
            (Stream::Syslog, Proto::Tls, &syslog.tls, ByteCount(0)),
            (Stream::Syslog, Proto::Relp, &syslog.relp, ByteCount(0)),
            (Stream::Flow, Proto::Udp, &flow.udp, flow.receive_buffer),
            (Stream::Flow, Proto::Tcp, &flow.tcp, ByteCount(0)),
            (Stream::Trap, Proto::Udp, &trap.udp, trap.receive_buffer),
            (Stream::Winevent, Proto::Http, &winevent.http, ByteCount(0)),
            (Stream::Winevent, Proto::Https, &winevent.https, ByteCount(0)),
            (Stream::Metrics, Proto::Http, &metrics.http, ByteCount(0)),
            (Stream::Metrics, Proto::Https, &metrics.https, ByteCount(0)),
        ];
        let each = lists.into_iter().flat_map(|(stream, proto, list, receive_buffer)| {
            list.iter().map(move |&listen| Wanted { stream, proto, listen, receive_buffer })
        });
        each.collect()
    }

    /// Most connections of a stream, in all and from one address.
    pub const fn connection_limits(&self, stream: Stream) -> (u32, u32) {
        match stream {
            Stream::Syslog => (self.syslog.connections, self.syslog.connections_per_source),
            Stream::Flow => (self.flow.connections, self.flow.connections_per_source),
            Stream::Winevent => (self.winevent.connections, self.winevent.connections_per_source),
            Stream::Metrics => (self.metrics.connections, self.metrics.connections_per_source),
            Stream::Trap | Stream::Host | Stream::Alert | Stream::Diag => (0, 0),
        }
    }

    /// The secrets that a role needs, by the key that names them.
    pub fn secrets(&self, role: Role) -> Vec<(&'static str, &Secret)> {
        let Self { syslog, trap, winevent, metrics, .. } = self;
        let all = match role {
            Role::Syslog => vec![
                ("collect.syslog.certificate", &syslog.certificate),
                ("collect.syslog.key", &syslog.key),
                ("collect.syslog.client_ca", &syslog.client_ca),
            ],
            Role::Trap | Role::Decode => vec![("collect.trap.users", &trap.users)],
            Role::Winevent => vec![
                ("collect.winevent.certificate", &winevent.certificate),
                ("collect.winevent.key", &winevent.key),
                ("collect.winevent.client_ca", &winevent.client_ca),
                ("collect.winevent.credentials", &winevent.credentials),
            ],
            Role::Metrics => vec![
                ("collect.metrics.certificate", &metrics.certificate),
                ("collect.metrics.key", &metrics.key),
                ("collect.metrics.client_ca", &metrics.client_ca),
                ("collect.metrics.credentials", &metrics.credentials),
            ],
            _ => Vec::new(),
        };
        all.into_iter().filter_map(|(key, secret)| Some((key, secret.as_ref()?))).collect()
    }

    /// True when a listener of the role speaks TLS.
    pub fn speaks_tls(&self, role: Role) -> bool {
        match role {
            Role::Syslog => !self.syslog.tls.is_empty(),
            Role::Winevent => !self.winevent.https.is_empty(),
            Role::Metrics => !self.metrics.https.is_empty(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_plain_file_name() {
        assert_eq!(
            "secret:snmp-users.toml".parse::<Secret>().map(|s| s.to_string()),
            Ok("secret:snmp-users.toml".into())
        );
        for bad in ["users", "secret:", "secret:../shadow", "secret:.hidden", "secret:a/b", "hunter2"] {
            let error = bad.parse::<Secret>().expect_err(bad);
            assert!(!error.contains("hunter2"), "what was written there may be a secret");
        }
    }
}
