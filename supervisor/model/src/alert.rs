//! The `alert` stream: what an operator should act on. One JSON object per record, on one line: an [`AlertRecord`] when
//! something begins to be wrong, and one when it is over. The `alert` role writes them; they are kept and delivered like
//! all records, before all others.

use crate::record::RAW_MAX;
use crate::report::CollectorReport;
use crate::units::UnixNanos;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What is watched. The name is that of its table in the configuration, `[alert.NAME]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The disk does not take what is received.
    Storing,
    /// Records were lost to damage on disk.
    Damaged,
    /// Records go, or are the next to go, before every destination has them.
    EvictingUnforwarded,
    /// Messages were lost before they were stored.
    Drops,
    /// A destination refuses what it is sent, or cannot be spoken to as configured.
    DestinationRefused,
    /// A destination cannot be reached.
    DestinationDown,
    /// A tunnel that is wanted does not carry.
    TunnelDown,
    /// A certificate of a VPN profile in use expires soon, or has.
    CertificateExpiring,
    /// The oldest record that a destination has not acknowledged is old.
    Lag,
    /// A destination refused single records.
    DeadLetters,
    /// The ring has passed a watermark.
    RingFilling,
    /// The ring will be full soon.
    TimeToFull,
    /// A sender that sent regularly is silent.
    SourceSilent,
    /// A disk says of itself that it is failing, worn or damaged.
    DiskHealth,
    /// A process of Raven dies again and again.
    RoleRestarting,
    /// The clock was set, or is not.
    Clock,
    /// Results of a scheduled test are beyond a threshold.
    Diag,
}

impl Rule {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 17] = [
        Self::Storing,
        Self::Damaged,
        Self::EvictingUnforwarded,
        Self::Drops,
        Self::DestinationRefused,
        Self::DestinationDown,
        Self::TunnelDown,
        Self::CertificateExpiring,
        Self::Lag,
        Self::DeadLetters,
        Self::RingFilling,
        Self::TimeToFull,
        Self::SourceSilent,
        Self::DiskHealth,
        Self::RoleRestarting,
        Self::Clock,
        Self::Diag,
    ];

    /// As in the configuration and in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Storing => "storing",
            Self::Damaged => "damaged",
            Self::EvictingUnforwarded => "evicting_unforwarded",
            Self::Drops => "drops",
            Self::DestinationRefused => "destination_refused",
            Self::DestinationDown => "destination_down",
            Self::TunnelDown => "tunnel_down",
            Self::CertificateExpiring => "certificate_expiring",
            Self::Lag => "lag",
            Self::DeadLetters => "dead_letters",
            Self::RingFilling => "ring_filling",
            Self::TimeToFull => "time_to_full",
            Self::SourceSilent => "source_silent",
            Self::DiskHealth => "disk_health",
            Self::RoleRestarting => "role_restarting",
            Self::Clock => "clock",
            Self::Diag => "diag",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How bad it is, in the words of RFC 5424, 6.2.1; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Data is lost or about to be.
    Critical,
    /// Something does not work as it should.
    Warning,
    /// Good to know.
    Notice,
}

impl Severity {
    /// As in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }

    /// The number of RFC 5424.
    pub const fn number(self) -> u8 {
        match self {
            Self::Critical => 2,
            Self::Warning => 4,
            Self::Notice => 5,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// It has begun.
    Firing,
    /// It is over.
    Resolved,
}

/// A record of the stream. Rule, subject and `since_ns` together name one alert: the same in both of its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// When this was found.
    pub t: UnixNanos,
    /// Which rule.
    pub alert: Rule,
    /// What it is about: a listener, a destination, a sender, …
    pub subject: String,
    /// Begun or over.
    pub state: AlertState,
    /// How bad it is.
    pub severity: Severity,
    /// When it began.
    pub since_ns: UnixNanos,
    /// The number that made it begin or end: messages, seconds, percent, as the rule has it.
    pub value: u64,
    /// What, where, since when, the number, and what to do next.
    pub text: String,
}

impl AlertRecord {
    /// Reads a record back.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(raw: &[u8]) -> Result<Self, String> {
        if raw.len() > RAW_MAX {
            return Err(format!("{} bytes, more than the {RAW_MAX} of a record", raw.len()));
        }
        serde_json::from_slice(raw).map_err(|error| format!("not an alert: {error}"))
    }

    /// The priority of its syslog message: facility daemon, its severity; one that is over is a notice.
    pub const fn priority(&self) -> u8 {
        let severity = match self.state {
            AlertState::Firing => self.severity,
            AlertState::Resolved => Severity::Notice,
        };
        3 * 8 + severity.number()
    }
}

/// An alert that has begun and is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// Which rule.
    pub alert: Rule,
    /// What it is about.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// When it began.
    pub since_ns: UnixNanos,
    /// As it was told.
    pub text: String,
}

/// What the `alert` role must not forget: kept as context of its stream, in the batch of the records that changed it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Records written so far: the later of two memories has more.
    pub written: u64,
    /// What is not over.
    pub firing: Vec<Firing>,
    /// Counters as they stood when last told of, by rule and subject.
    pub counters: BTreeMap<String, u64>,
}

/// The `alert` role's heartbeat: that of a collector, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AlertReport {
    /// As every collector says.
    #[serde(flatten)]
    pub collector: CollectorReport,
    /// What is wrong now, the worst and then the oldest first.
    pub firing: Vec<Firing>,
    /// Alerts that would be told too, were there not so many already.
    pub withheld: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record() -> AlertRecord {
        AlertRecord {
            t: UnixNanos(9),
            alert: Rule::Drops,
            subject: "udp:[::]:514".to_owned(),
            state: AlertState::Firing,
            severity: Severity::Warning,
            since_ns: UnixNanos(7),
            value: 3,
            text: "lost".to_owned(),
        }
    }

    #[test]
    fn a_record_is_one_flat_line_and_reads_back() {
        let text = serde_json::to_string(&record()).unwrap();
        assert_eq!(
            text,
            r#"{"t":9,"alert":"drops","subject":"udp:[::]:514","state":"firing","severity":"warning","since_ns":7,"value":3,"text":"lost"}"#
        );
        assert_eq!(AlertRecord::read(text.as_bytes()), Ok(record()));
        for end in 0..text.len() {
            assert!(AlertRecord::read(&text.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn its_priority_is_its_severity_until_it_is_over() {
        assert_eq!(record().priority(), 28);
        assert_eq!(AlertRecord { severity: Severity::Critical, ..record() }.priority(), 26);
        assert_eq!(AlertRecord { state: AlertState::Resolved, ..record() }.priority(), 29);
    }

    #[test]
    fn the_names_of_rules_are_those_of_their_json() {
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
        }
    }
}
