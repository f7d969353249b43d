//! What was refused or looked odd, by sender and reason: the newest of each, and how often.

use super::reason::Reason;
use raven_model::control::Listener;
use raven_model::hex::hex;
use raven_model::report::InboxItem;
use raven_model::units::UnixNanos;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::SystemTime;

/// Most items; the one that was quiet for longest goes.
const ITEMS_MAX: usize = 64;

/// Bounded; newest last.
#[derive(Debug, Default)]
pub struct Inbox {
    items: VecDeque<(IpAddr, InboxItem)>,
}

impl Inbox {
    /// Notes one more refusal.
    pub fn refused(&mut self, reason: Reason, source: IpAddr, listener: &Listener, first_bytes: &[u8]) {
        self.note((reason.name(), &reason.remedy(listener.stream)), 1, source, listener, first_bytes);
    }

    /// Notes `count` of something.
    pub fn note(
        &mut self,
        (reason, remedy): (&str, &str),
        count: u64,
        source: IpAddr,
        listener: &Listener,
        first_bytes: &[u8],
    ) {
        let now = now();
        let name = listener.name();
        let same =
            |(from, item): &(IpAddr, InboxItem)| *from == source && item.reason == reason && item.listener == name;
        let found = self.items.iter().position(same).and_then(|place| self.items.remove(place));
        let (_, mut item) = found.unwrap_or_else(|| {
            let item = InboxItem {
                stream: listener.stream.to_string(),
                source: source.to_string(),
                listener: name,
                reason: reason.to_owned(),
                first_seen_ns: now,
                remedy: remedy.to_owned(),
                ..InboxItem::default()
            };
            (source, item)
        });
        item.count += count;
        item.last_seen_ns = now;
        item.first_bytes = hex(first_bytes);
        if self.items.len() == ITEMS_MAX {
            self.items.pop_front();
        }
        self.items.push_back((source, item));
    }

    /// For the report.
    pub fn items(&self) -> Vec<InboxItem> {
        self.items.iter().map(|(_, item)| item.clone()).collect()
    }
}

/// The wall clock.
pub fn now() -> UnixNanos {
    UnixNanos(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::control::Proto;
    use raven_model::stream::Stream;

    #[test]
    fn the_inbox_is_bounded_and_counts_what_repeats() {
        let addr = ([0, 0, 0, 0], 8084).into();
        let listener = Listener { id: 1, stream: Stream::Winevent, proto: Proto::Http, addr };
        let mut inbox = Inbox::default();
        for n in 0..1000_u16 {
            let source = IpAddr::from([10, 0, (n / 200) as u8, (n % 200) as u8]);
            inbox.refused(Reason::NotEvents, source, &listener, b"\x00\xff");
            inbox.refused(Reason::NotEvents, [10, 9, 9, 9].into(), &listener, b"ab");
        }
        let items = inbox.items();
        assert_eq!(items.len(), ITEMS_MAX);
        let last = items.last().expect("it was just noted");
        assert_eq!((last.count, last.first_bytes.as_str(), last.source.as_str()), (1000, "6162", "10.9.9.9"));
    }
}
