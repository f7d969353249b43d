//! What was refused, for the operator: one item for each sender, listener, reason and engine, with the first bytes and
//! what would let it in. Bounded; the one that was quiet for longest makes room.

use raven_decode::snmp::EngineId;
use raven_jail::receive::Arrived;
use raven_model::control::{Listener, ListenerId};
use raven_model::hex::hex;
use raven_model::report::InboxItem;
use raven_model::units::UnixNanos;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Items that are kept; the report travels in one packet.
const ITEMS: usize = 64;
/// Bytes shown of what came.
const SHOWN: usize = 32;

/// Which item it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    source: IpAddr,
    listener: ListenerId,
    reason: &'static str,
    engine: Option<EngineId>,
}

#[derive(Debug)]
struct Item {
    key: Key,
    count: u64,
    first_seen: UnixNanos,
    last_seen: UnixNanos,
    /// Rises with each that comes.
    turn: u64,
    shown: ([u8; SHOWN], usize),
    remedy: String,
}

/// All items.
#[derive(Debug, Default)]
pub struct Inbox {
    items: Vec<Item>,
    turn: u64,
    /// What is wrong at our own end, until it is put right: reason and what to do.
    own: BTreeMap<&'static str, String>,
}

impl Inbox {
    /// Notes a message. The remedy is made once for each item.
    pub fn note(
        &mut self,
        arrived: &Arrived<'_>,
        reason: &'static str,
        engine: Option<EngineId>,
        remedy: impl FnOnce() -> String,
    ) {
        let key = Key { source: arrived.source.ip(), listener: arrived.listener, reason, engine };
        self.turn += 1;
        let (turn, shown) = (self.turn, shown(arrived.raw));
        if let Some(item) = self.items.iter_mut().find(|item| item.key == key) {
            (item.count, item.last_seen, item.turn, item.shown) = (item.count + 1, arrived.wall, turn, shown);
            return;
        }
        if self.items.len() >= ITEMS {
            let quiet = self.items.iter().enumerate().min_by_key(|(_, item)| item.turn).map(|(at, _)| at);
            quiet.map(|at| self.items.swap_remove(at));
        }
        let (first_seen, last_seen) = (arrived.wall, arrived.wall);
        self.items.push(Item { key, count: 1, first_seen, last_seen, turn, shown, remedy: remedy() });
    }

    /// Says what is wrong at our own end under `reason`, or that nothing is any more.
    pub fn own(&mut self, reason: &'static str, remedy: Option<String>) {
        match remedy {
            Some(remedy) => drop(self.own.insert(reason, remedy)),
            None => drop(self.own.remove(reason)),
        }
    }

    /// As the report has them, newest last.
    pub fn report(&self, listeners: &BTreeMap<ListenerId, Listener>) -> Vec<InboxItem> {
        let stream = || "trap".to_owned();
        let mut items: Vec<&Item> = self.items.iter().collect();
        items.sort_unstable_by_key(|item| item.turn);
        let of_others = items.into_iter().map(|item| InboxItem {
            stream: stream(),
            source: item.key.source.to_string(),
            listener: listeners.get(&item.key.listener).map(Listener::name).unwrap_or_default(),
            reason: item.key.reason.to_owned(),
            count: item.count,
            first_seen_ns: item.first_seen,
            last_seen_ns: item.last_seen,
            first_bytes: hex(&item.shown.0[..item.shown.1]),
            remedy: item.remedy.clone(),
        });
        let own = self.own.iter().map(|(&reason, remedy)| InboxItem {
            stream: stream(),
            source: "raven".to_owned(),
            reason: reason.to_owned(),
            remedy: remedy.clone(),
            count: 1,
            ..InboxItem::default()
        });
        of_others.chain(own).collect()
    }
}

/// The first bytes. Of SNMP with a community only what stands before that: it may be the right one.
fn shown(raw: &[u8]) -> ([u8; SHOWN], usize) {
    let mut bytes = [0; SHOWN];
    let len = before_community(raw).unwrap_or(SHOWN).min(raw.len()).min(SHOWN);
    bytes[..len].copy_from_slice(&raw[..len]);
    (bytes, len)
}

/// Where a community begins, if it can be one: behind SEQUENCE, the version 0 or 1, tag and length of an OCTET STRING.
/// Read loosely, since what is refused may be malformed.
fn before_community(raw: &[u8]) -> Option<usize> {
    if raw.first() != Some(&0x30) {
        return None;
    }
    let at = raw.windows(4).take(16).position(|w| w[0] == 0x02 && w[1..3] != [1, 3] && w[3] == 0x04);
    // A number of another length: nothing behind the header is shown.
    Some(at.map_or_else(|| if v3(raw) { SHOWN } else { 8 }, |at| at + 4))
}

fn v3(raw: &[u8]) -> bool {
    raw.windows(3).take(8).any(|w| w == [0x02, 0x01, 0x03])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn arrived(n: u8, wall: u64, raw: &[u8]) -> Arrived<'_> {
        Arrived { source: ([192, 0, 2, n], 4000).into(), listener: 1, wall: UnixNanos(wall), raw }
    }

    #[test]
    fn one_sender_and_reason_is_one_item_with_the_newest_bytes() {
        let mut inbox = Inbox::default();
        inbox.note(&arrived(1, 5, b"<13>a"), "malformed", None, || "first".to_owned());
        inbox.note(&arrived(1, 7, b"<13>b"), "malformed", None, || unreachable!("made once"));
        inbox.note(&arrived(2, 8, b""), "malformed", None, String::new);
        inbox.own("users_file", Some("line 3".to_owned()));
        let items = inbox.report(&BTreeMap::new());
        assert_eq!((items.len(), items[0].count, items[0].remedy.as_str()), (3, 2, "first"));
        assert_eq!((items[0].first_seen_ns, items[0].last_seen_ns), (UnixNanos(5), UnixNanos(7)));
        assert_eq!((items[0].first_bytes.as_str(), items[1].source.as_str()), ("3c31333e62", "192.0.2.2"));
        assert_eq!((items[2].source.as_str(), items[2].remedy.as_str()), ("raven", "line 3"));
        inbox.own("users_file", None);
        assert_eq!(inbox.report(&BTreeMap::new()).len(), 2);
    }

    #[test]
    fn many_senders_push_out_the_one_quiet_for_longest() {
        let mut inbox = Inbox::default();
        for n in 0..=ITEMS as u8 {
            inbox.note(&arrived(n, 1, b""), "malformed", None, String::new);
            inbox.note(&arrived(0, 1, b""), "malformed", None, String::new);
        }
        let sources: Vec<_> = inbox.report(&BTreeMap::new()).into_iter().map(|item| item.source).collect();
        assert_eq!(sources.len(), ITEMS);
        assert!(sources.contains(&"192.0.2.0".to_owned()) && !sources.contains(&"192.0.2.1".to_owned()));
    }

    #[test]
    fn a_community_is_not_among_the_bytes_shown() {
        let text = |raw: &[u8]| {
            let (bytes, len) = shown(raw);
            bytes[..len].to_vec()
        };
        assert_eq!(text(b"\x30\x29\x02\x01\x01\x04\x06secret\xa0"), b"\x30\x29\x02\x01\x01\x04");
        assert_eq!(text(b"\x30\x82\x01\x29\x02\x01\x00\x04\x06secret"), b"\x30\x82\x01\x29\x02\x01\x00\x04");
        assert_eq!(text(b"\x30\x29\x02\x02\x00\x01\x04\x06secret\xa0"), b"\x30\x29\x02\x02\x00\x01\x04");
        assert_eq!(text(&[&b"\x30\x29\x02\x01\x03\x30"[..], &[7; 60]].concat()).len(), SHOWN);
        assert_eq!(text(b"<13>syslog"), b"<13>syslog");
    }
}
