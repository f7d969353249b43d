//! The light scan: which version, what its header says, and where sets and samples stand. Nothing is allocated.
//!
//! A collector does this for each datagram. What it needs of the versions' counting rules:
//!
//! | version | sequence counts | per |
//! |---|---|---|
//! | 1 | - | - |
//! | 5, 7 | flow records before this datagram | engine ([`Header::domain`]) |
//! | 9 | datagrams | source id |
//! | IPFIX | data records before this message (RFC 7011, section 3.1); needs the templates to count | domain |
//! | sFlow 5 | datagrams; samples by themselves ([`super::sflow::Sample`]) | agent and sub-agent; source of the sample |

use super::Reject;
use super::netflow5::Legacy;
use super::sets::Message;
use super::sflow::Sflow;
use super::wire::Wire;
use std::fmt;
use std::net::IpAddr;

/// What a datagram is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// NetFlow 1.
    V1,
    /// NetFlow 5.
    V5,
    /// NetFlow 7 (Catalyst switches).
    V7,
    /// NetFlow 9 (RFC 3954).
    V9,
    /// IPFIX (RFC 7011).
    Ipfix,
    /// sFlow 5.
    Sflow5,
}

impl Version {
    /// `netflow5`, `ipfix`, `sflow5`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "netflow1",
            Self::V5 => "netflow5",
            Self::V7 => "netflow7",
            Self::V9 => "netflow9",
            Self::Ipfix => "ipfix",
            Self::Sflow5 => "sflow5",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the headers of all versions have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Version.
    pub version: Version,
    /// Sequence number, by the version's own rule; none in version 1.
    pub sequence: Option<u32>,
    /// Source id (v9), observation domain (IPFIX), sub-agent (sFlow), engine type and id (v5: `type << 8 | id`).
    pub domain: Option<u32>,
    /// When it was sent by the exporter's clock, milliseconds since 1970. sFlow does not say.
    pub export_ms: Option<u64>,
    /// How long the exporter has been up, milliseconds, round about every 49.7 days. IPFIX does not say.
    pub uptime_ms: Option<u32>,
    /// What the header counts: flow records (v1, v5, v7), records of all kinds (v9), samples (sFlow).
    pub count: Option<u32>,
    /// Sampling in the header of v5: packets per sampled packet; 0 = the exporter does not say.
    pub sampling: Option<u16>,
    /// sFlow: the agent's own address, which need not be the sender's.
    pub agent: Option<IpAddr>,
}

/// A datagram whose header was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan<'a> {
    /// Versions with records of one fixed form.
    Legacy(Legacy<'a>),
    /// NetFlow 9 and IPFIX.
    Sets(Message<'a>),
    /// sFlow 5.
    Sflow(Sflow<'a>),
}

impl Scan<'_> {
    /// The header.
    pub const fn header(&self) -> &Header {
        match self {
            Self::Legacy(legacy) => &legacy.header,
            Self::Sets(message) => &message.header,
            Self::Sflow(sflow) => &sflow.header,
        }
    }

    /// Version of the datagram.
    pub const fn version(&self) -> Version {
        self.header().version
    }
}

/// Reads the header of a datagram. The version is told by content: NetFlow has it in the first two bytes, sFlow in the
/// first four.
///
/// ```
/// # use raven_decode::flow::scan::{Version, scan};
/// let header = [0, 9, 0, 0, 0, 0, 0, 9, 0x5f, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1];
/// let scan = scan(&header).expect("a header of version 9");
/// assert_eq!((scan.version(), scan.header().sequence, scan.header().domain), (Version::V9, Some(7), Some(1)));
/// ```
pub fn scan(raw: &[u8]) -> Result<Scan<'_>, Reject> {
    let mut wire = Wire::new(raw);
    let version = wire.u16().ok_or(if raw.is_empty() { Reject::Empty } else { Reject::HeaderShort })?;
    match version {
        1 | 5 | 7 => Legacy::read(version, raw).map(Scan::Legacy),
        9 => Message::v9(raw).map(Scan::Sets),
        10 => Message::ipfix(raw).map(Scan::Sets),
        0 => match wire.u16() {
            Some(5) => Sflow::read(raw).map(Scan::Sflow),
            Some(other) => Err(Reject::Version(other.into())),
            None => Err(Reject::HeaderShort),
        },
        other => Err(Reject::Version(other.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_flow_datagram_is_named() {
        assert_eq!(scan(b""), Err(Reject::Empty));
        assert_eq!(scan(b"\0"), Err(Reject::HeaderShort));
        assert_eq!(scan(&[0, 0, 0]), Err(Reject::HeaderShort));
        assert_eq!(scan(&[0, 0, 0, 4]), Err(Reject::Version(4)));
        assert_eq!(scan(b"<13>x"), Err(Reject::Version(0x3c31)));
        for version in [1, 5, 7, 9, 10] {
            assert_eq!(scan(&[0, version, 0, 1]), Err(Reject::HeaderShort));
        }
        assert_eq!(scan(&[0, 0, 0, 5, 0, 0, 0, 1]), Err(Reject::HeaderShort));
    }
}
