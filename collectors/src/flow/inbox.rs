//! What arrived on a flow listener and could not be read: who sent it, why, and what an operator can do about it.
//!
//! Bounded: of all senders and reasons the ones seen last are kept.

use raven_decode::flow::Reject;
use raven_jail::receive::Arrived;
use raven_model::units::UnixNanos;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Most items.
pub const ITEMS: usize = 64;
/// Bytes that are shown of a message.
const SHOWN: usize = 32;

/// Why something could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Syslog,
    Snmp,
    Tls,
    Http,
    SflowVersion,
    NetflowVersion,
    UnknownVersion,
    Empty,
    Short,
    Count,
    MessageLength,
    SetLength,
    Template,
    Samples,
    NoTemplate,
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Self::NoTemplate as usize + 1;
    /// All, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Syslog,
        Self::Snmp,
        Self::Tls,
        Self::Http,
        Self::SflowVersion,
        Self::NetflowVersion,
        Self::UnknownVersion,
        Self::Empty,
        Self::Short,
        Self::Count,
        Self::MessageLength,
        Self::SetLength,
        Self::Template,
        Self::Samples,
        Self::NoTemplate,
    ];

    /// Of a datagram, or a part of it.
    pub fn of(reject: &Reject, raw: &[u8]) -> Self {
        match reject {
            Reject::Empty => Self::Empty,
            Reject::Version(version) => Self::of_other(*version, raw),
            Reject::HeaderShort => Self::Short,
            Reject::Count { .. } | Reject::Trailing { .. } => Self::Count,
            Reject::MessageLength { .. } => Self::MessageLength,
            Reject::SetLength { .. } | Reject::Leftover { .. } => Self::SetLength,
            Reject::Template { .. } | Reject::TemplateFields { .. } => Self::Template,
            Reject::Samples { .. } | Reject::SampleShort { .. } | Reject::SampleRecords { .. } => Self::Samples,
        }
    }

    /// What is no flow datagram, told by how it begins.
    fn of_other(version: u32, raw: &[u8]) -> Self {
        match raw {
            [b'<', b'0'..=b'9', ..] => Self::Syslog,
            // A sequence of BER, and in it the version, an integer of one byte.
            [0x30, 0..=0x7f, 2, 1, ..] | [0x30, 0x81, _, 2, 1, ..] | [0x30, 0x82, _, _, 2, 1, ..] => Self::Snmp,
            [0x16, 3, 0..=4, ..] => Self::Tls,
            _ if [&b"GET "[..], b"POST ", b"PUT ", b"HEAD ", b"CONNECT "].iter().any(|word| raw.starts_with(word)) => {
                Self::Http
            }
            [0, 0, 0, ..] if version < 16 => Self::SflowVersion,
            [0, ..] if version < 16 => Self::NetflowVersion,
            _ => Self::UnknownVersion,
        }
    }

    /// In a few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syslog => "syslog text",
            Self::Snmp => "SNMP",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::SflowVersion => "sFlow of another version",
            Self::NetflowVersion => "NetFlow of another version",
            Self::UnknownVersion => "no flow datagram",
            Self::Empty => "empty datagram",
            Self::Short => "cut off in the header",
            Self::Count => "count of records",
            Self::MessageLength => "length of the message",
            Self::SetLength => "length of a set",
            Self::Template => "template that cannot be",
            Self::Samples => "samples cut off",
            Self::NoTemplate => "template has not come",
        }
    }

    /// What an operator can do about it. `detail` is the version, or seconds.
    pub fn remedy(self, detail: u64) -> String {
        let text = match self {
            Self::Syslog => {
                "syslog text on a flow listener: send it to the syslog listener (collect.syslog), usually port 514"
            }
            Self::Snmp => {
                "SNMP on a flow listener: send notifications to the trap listener (collect.trap), usually port 162"
            }
            Self::Tls => {
                "a TLS hello: flow is taken as plain UDP and TCP only; switch TLS or DTLS off at the exporter, or send elsewhere"
            }
            Self::Http => "an HTTP request on a flow listener: the sender has the wrong port, or is a scanner",
            Self::SflowVersion => return format!("sFlow v{detail}: set the agent to version 5"),
            Self::NetflowVersion => {
                return format!("NetFlow v{detail} is not known: set the exporter to version 9, IPFIX or 5");
            }
            Self::UnknownVersion => {
                "neither NetFlow, IPFIX nor sFlow: look at the sender's export settings and the port"
            }
            Self::Empty => {
                "a datagram without content: perhaps a port scan or a health check; nothing to do if it is yours"
            }
            Self::Short | Self::Samples => {
                "datagrams arrive cut off: look for a device on the way that drops fragments, and lower the exporter's datagram size below the MTU"
            }
            Self::Count | Self::MessageLength | Self::SetLength => {
                "the exporter's lengths do not fit its data: look for fragments lost on the way; else update the exporter's software"
            }
            Self::Template => {
                "the exporter describes a template that cannot be read: update its software, or choose another record format there"
            }
            Self::NoTemplate => {
                return format!(
                    "data sets whose template has not come for {detail} s: check the exporter's template refresh (every minute or every 20 packets is good), and that templates reach this address and port"
                );
            }
        };
        text.to_owned()
    }
}

/// What one sender sent for one reason.
#[derive(Debug, Clone)]
pub struct Item {
    /// Who sent it; of senders that change ports, the newest.
    pub source: SocketAddr,
    /// Who took it.
    pub listener: u8,
    /// Why it is here.
    pub reason: Reason,
    /// Version or seconds.
    pub detail: u64,
    /// Messages.
    pub count: u64,
    /// First and newest of them.
    pub first: UnixNanos,
    pub last: UnixNanos,
    begins: [u8; SHOWN],
    len: u8,
}

impl Item {
    const fn new(reason: Reason, arrived: &Arrived<'_>) -> Self {
        let Arrived { source, listener, wall, .. } = *arrived;
        Self { source, listener, reason, detail: 0, count: 0, first: wall, last: wall, begins: [0; SHOWN], len: 0 }
    }

    /// The first bytes of the newest, in hex.
    pub fn first_bytes(&self) -> String {
        self.begins[..usize::from(self.len)].iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// The items, the newest last.
#[derive(Debug, Default)]
pub struct Inbox {
    items: Vec<Item>,
}

impl Inbox {
    /// Notes a message.
    pub fn note(&mut self, reason: Reason, detail: u64, arrived: &Arrived<'_>) {
        let same = |item: &Item| {
            item.reason == reason && item.source.ip() == arrived.source.ip() && item.listener == arrived.listener
        };
        let known = self.items.iter().rposition(same).map(|at| self.items.remove(at));
        let mut item = known.unwrap_or_else(|| Item::new(reason, arrived));
        if self.items.len() >= ITEMS {
            self.items.remove(0);
        }
        let shown = arrived.raw.len().min(SHOWN);
        item.begins[..shown].copy_from_slice(&arrived.raw[..shown]);
        (item.len, item.source, item.detail) = (shown as u8, arrived.source, detail);
        (item.last, item.count) = (arrived.wall, item.count + 1);
        self.items.push(item);
    }

    /// All, the newest last.
    pub fn items(&self) -> &[Item] {
        &self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_decode::flow::scan::scan;

    fn reason(raw: &[u8]) -> Option<Reason> {
        scan(raw).err().map(|reject| Reason::of(&reject, raw))
    }

    #[test]
    fn what_is_sent_to_the_wrong_port_is_named() {
        assert_eq!(reason(b"<189>Oct 1 12:00:00 sw1 up"), Some(Reason::Syslog));
        assert_eq!(reason(&[0x30, 0x2c, 2, 1, 1, 4, 6]), Some(Reason::Snmp));
        assert_eq!(reason(&[0x30, 0x82, 1, 2, 2, 1, 3, 0x30]), Some(Reason::Snmp));
        assert_eq!(reason(&[0x16, 3, 1, 2, 0, 1]), Some(Reason::Tls));
        assert_eq!(reason(b"GET / HTTP/1.1"), Some(Reason::Http));
        assert_eq!(reason(&[0, 8, 0, 1, 0, 0]), Some(Reason::NetflowVersion));
        assert_eq!(reason(&[0, 0, 0, 4, 0, 0]), Some(Reason::SflowVersion));
        assert_eq!(reason(b"anything"), Some(Reason::UnknownVersion));
        assert_eq!(reason(b""), Some(Reason::Empty));
        assert_eq!(reason(&[0, 5, 0, 30]), Some(Reason::Short));
    }

    #[test]
    fn of_many_senders_the_newest_are_kept() {
        let mut inbox = Inbox::default();
        for n in 0..200_u32 {
            let source = SocketAddr::new(std::net::Ipv4Addr::from(n / 2).into(), n as u16);
            let arrived = Arrived { source, listener: 1, wall: UnixNanos(n.into()), raw: b"<13>x" };
            inbox.note(Reason::Syslog, 0, &arrived);
        }
        assert_eq!(inbox.items().len(), ITEMS);
        let newest = inbox.items().last().map(|item| (item.count, item.first.0, item.last.0, item.first_bytes()));
        assert_eq!(newest, Some((2, 198, 199, "3c31333e78".to_owned())));
    }

    #[test]
    fn every_reason_has_a_remedy() {
        for (n, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
            assert!(reason.remedy(7).len() > 20 && !reason.name().is_empty());
        }
        assert_eq!(Reason::SflowVersion.remedy(4), "sFlow v4: set the agent to version 5");
    }
}
