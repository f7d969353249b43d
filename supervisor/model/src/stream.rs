//! The streams: what is received, by kind. A record belongs to one of them from its listener on.

use crate::table::Role;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A stream of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Syslog messages.
    Syslog,
    /// NetFlow, IPFIX and sFlow datagrams.
    Flow,
    /// SNMP notifications.
    Trap,
    /// Windows events.
    Winevent,
    /// Prometheus remote write, and log lines pushed as to Loki.
    Metrics,
    /// The appliance's own telemetry.
    Host,
    /// What an operator should act on.
    Alert,
    /// Results of tests of the network that are made by themselves.
    Diag,
}

impl Stream {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Syslog, Self::Flow, Self::Trap, Self::Winevent, Self::Metrics, Self::Host, Self::Alert, Self::Diag];

    /// As in the configuration, the ring and every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syslog => "syslog",
            Self::Flow => "flow",
            Self::Trap => "trap",
            Self::Winevent => "winevent",
            Self::Metrics => "metrics",
            Self::Host => "host",
            Self::Alert => "alert",
            Self::Diag => "diag",
        }
    }

    /// The stream of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }

    /// The role that collects it.
    pub const fn collector(self) -> Role {
        match self {
            Self::Syslog => Role::Syslog,
            Self::Flow => Role::Flow,
            Self::Trap => Role::Trap,
            Self::Winevent => Role::Winevent,
            Self::Metrics => Role::Metrics,
            Self::Host => Role::Host,
            Self::Alert => Role::Alert,
            Self::Diag => Role::Schedule,
        }
    }

    /// Names of the reasons for which its collector drops messages, by their number in the receive memory.
    pub const fn drop_reasons(self) -> &'static [&'static str] {
        match self {
            Self::Syslog | Self::Flow => &[],
            Self::Trap => &["storm", "discovery"],
            Self::Host | Self::Alert | Self::Diag => &["ring_full"],
            Self::Winevent | Self::Metrics => &[
                "credentials",
                "not_ready",
                "not_events",
                "body_too_long",
                "encoding_unknown",
                "encoding_broken",
                "charset",
                "slow",
                "ring_full",
                "too_many_waiting",
                "method",
                "http_malformed",
                "cut_off",
                "tls_handshake",
                "no_certificate",
                "connection_unserved",
                "path",
                "content_type",
            ],
        }
    }

    /// Its part of the disk against those of the other streams in use.
    pub const fn weight(self) -> u64 {
        match self {
            Self::Syslog => 42,
            Self::Flow => 29,
            Self::Winevent => 13,
            Self::Metrics => 8,
            Self::Trap => 4,
            Self::Host => 2,
            Self::Alert | Self::Diag => 1,
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_has_a_name_and_a_collector_of_its_own() {
        for stream in Stream::ALL {
            assert_eq!(Stream::named(stream.name()), Some(stream));
            assert_eq!(stream.collector().stream(), Some(stream));
        }
        assert_eq!(Stream::named("metric"), None);
        assert_eq!(Stream::ALL.iter().map(|stream| stream.weight()).sum::<u64>(), 100);
    }
}
