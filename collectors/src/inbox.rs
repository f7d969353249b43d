//! What was not understood or not allowed, for the operator: one item per sender, listener and reason, with the first
//! bytes and what to do about it. Bounded: the one that was quiet for the longest time makes room.

use raven_model::control::{Listener, ListenerId};
use raven_model::hex::hex;
use raven_model::report::{CollectorReport, InboxItem};
use raven_model::units::UnixNanos;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Items kept; the report travels in one packet.
const ITEMS: usize = 64;

/// Bytes shown of what came.
pub const SHOWN: usize = 32;

/// What went wrong, and what an operator can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// A word for counters and screens.
    pub reason: &'static str,
    /// In operators' words.
    pub remedy: &'static str,
}

/// Who sent, and who took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct From {
    /// Sender.
    pub peer: SocketAddr,
    /// Listener.
    pub listener: ListenerId,
}

/// Items and counts.
#[derive(Debug, Default)]
pub struct Inbox {
    items: Vec<Item>,
    refused: BTreeMap<&'static str, u64>,
    /// What is wrong at our own end, until it is put right: reason and what to do.
    own: BTreeMap<&'static str, String>,
}

#[derive(Debug)]
struct Item {
    from: From,
    trouble: Trouble,
    count: u64,
    first_seen: UnixNanos,
    last_seen: UnixNanos,
    first_bytes: Vec<u8>,
}

impl Inbox {
    /// Notes what came, `bytes` first.
    pub fn note(&mut self, from: From, trouble: Trouble, bytes: &[u8], now: UnixNanos) {
        let same = |item: &Item| {
            item.from.peer.ip() == from.peer.ip()
                && item.from.listener == from.listener
                && item.trouble.reason == trouble.reason
        };
        let first_bytes = bytes[..bytes.len().min(SHOWN)].to_vec();
        let fresh = match self.items.iter().position(same) {
            Some(at) => Item { last_seen: now, first_bytes, count: self.items[at].count + 1, ..self.items.remove(at) },
            None => Item { from, trouble, count: 1, first_seen: now, last_seen: now, first_bytes },
        };
        if self.items.len() >= ITEMS {
            self.items.remove(0);
        }
        self.items.push(fresh);
    }

    /// Notes a connection that was closed over it, and counts it as dropped.
    pub fn refuse(&mut self, from: From, trouble: Trouble, bytes: &[u8], now: UnixNanos) {
        *self.refused.entry(trouble.reason).or_insert(0) += 1;
        self.note(from, trouble, bytes, now);
    }

    /// Says what is wrong at our own end under `reason`, or that nothing is any more.
    pub fn own(&mut self, reason: &'static str, remedy: Option<String>) {
        match remedy {
            Some(remedy) => drop(self.own.insert(reason, remedy)),
            None => drop(self.own.remove(reason)),
        }
    }

    /// Connections closed under a reason.
    pub fn refused(&self, reason: &str) -> u64 {
        self.refused.get(reason).copied().unwrap_or(0)
    }

    /// Adds all of it to a report of `stream`.
    pub fn report(&self, stream: &str, report: &mut CollectorReport, listeners: &BTreeMap<ListenerId, Listener>) {
        for (&reason, count) in &self.refused {
            *report.dropped.entry(reason.to_owned()).or_insert(0) += count;
        }
        let own = self.own.iter().map(|(&reason, remedy)| InboxItem {
            stream: stream.to_owned(),
            source: "raven".to_owned(),
            reason: reason.to_owned(),
            remedy: remedy.clone(),
            count: 1,
            ..InboxItem::default()
        });
        report.inbox.extend(own);
        report.inbox.extend(self.items.iter().map(|item| InboxItem {
            stream: stream.to_owned(),
            source: item.from.peer.ip().to_string(),
            listener: listeners.get(&item.from.listener).map(Listener::name).unwrap_or_default(),
            reason: item.trouble.reason.to_owned(),
            count: item.count,
            first_seen_ns: item.first_seen,
            last_seen_ns: item.last_seen,
            first_bytes: hex(&item.first_bytes),
            remedy: item.trouble.remedy.to_owned(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Trouble = Trouble { reason: "plain", remedy: "speak TLS" };

    fn from(n: u8) -> From {
        From { peer: SocketAddr::from(([192, 0, 2, n], 4000)), listener: 1 }
    }

    fn reported(inbox: &Inbox) -> CollectorReport {
        let mut report = CollectorReport::default();
        inbox.report("syslog", &mut report, &BTreeMap::new());
        report
    }

    #[test]
    fn one_sender_and_reason_is_one_item_with_the_newest_bytes() {
        let mut inbox = Inbox::default();
        inbox.refuse(from(1), PLAIN, b"<13>a", UnixNanos(5));
        inbox.refuse(
            From { peer: SocketAddr::from(([192, 0, 2, 1], 4001)), listener: 1 },
            PLAIN,
            b"<13>b",
            UnixNanos(7),
        );
        let report = reported(&inbox);
        assert_eq!((report.dropped["plain"], report.inbox.len()), (2, 1));
        let item = &report.inbox[0];
        assert_eq!((item.count, item.first_seen_ns, item.last_seen_ns), (2, UnixNanos(5), UnixNanos(7)));
        assert_eq!((item.first_bytes.as_str(), item.source.as_str()), ("3c31333e62", "192.0.2.1"));
    }

    #[test]
    fn many_senders_push_out_the_one_quiet_for_the_longest_time() {
        let mut inbox = Inbox::default();
        for n in 0..=ITEMS as u8 {
            inbox.note(from(n), PLAIN, b"", UnixNanos(u64::from(n)));
            inbox.note(from(0), PLAIN, b"", UnixNanos(u64::from(n)));
        }
        let report = reported(&inbox);
        assert_eq!(report.inbox.len(), ITEMS);
        assert!(report.inbox.iter().any(|item| item.source == "192.0.2.0"), "it goes on");
        assert!(!report.inbox.iter().any(|item| item.source == "192.0.2.1"), "it was quiet");
    }

    #[test]
    fn what_is_wrong_at_our_end_stays_until_it_is_put_right() {
        let mut inbox = Inbox::default();
        inbox.own("certificate", Some("no PEM".to_owned()));
        assert_eq!(reported(&inbox).inbox[0].remedy, "no PEM");
        inbox.own("certificate", None);
        assert!(reported(&inbox).inbox.is_empty());
    }
}
