//! What was seen, by sender, target, protocol and port: a table that does not grow without end.

use super::decode::{Protocol, Seen};
use raven_model::diag::wire::{Mac, Row, Second, To, Volume, WireResult};
use raven_model::units::UnixNanos;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

/// Rows at most; who forges senders fills them, and the rest is counted together.
pub const ROWS: usize = 4096;
/// Rows of a second.
const BUSIEST: usize = 50;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    vlans: Vec<u16>,
    /// Of what has no addresses.
    mac: Option<Mac>,
    source: Option<IpAddr>,
    target: Option<IpAddr>,
    protocol: Protocol,
    port: (Option<u16>, bool),
    to: To,
}

#[derive(Debug, Default)]
struct Count {
    mac: Option<Mac>,
    packets: u64,
    fragments: u64,
    begun: u64,
    bytes: u64,
    first_ns: u64,
    last_ns: u64,
    /// Packets up to the last second's end.
    before: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    rows: HashMap<Key, Count>,
    other: Volume,
    total: Volume,
    /// As `total` at the last second's end.
    before: Volume,
    dropped: u64,
    dropped_before: u64,
    /// Frames that were not meant.
    pub unmeant: u64,
    /// Frames that could not be read.
    pub malformed: u64,
}

impl Table {
    /// A frame that is meant, its length on the wire and its time.
    pub fn add(&mut self, seen: Seen, to: To, len: u32, at_ns: u64) {
        add(&mut self.total, len);
        let mac = seen.mac;
        let (is_fragment, begins) = (seen.is_fragment, seen.begins);
        let key = Key {
            mac: if seen.source.is_none() { mac } else { None },
            port: seen.port(),
            vlans: seen.vlans,
            source: seen.source,
            target: seen.target,
            protocol: seen.protocol,
            to,
        };
        let is_full = self.rows.len() >= ROWS;
        let count = match self.rows.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if !is_full => entry.insert(Count { first_ns: at_ns, ..Count::default() }),
            Entry::Vacant(_) => return add(&mut self.other, len),
        };
        count.mac = mac;
        count.packets += u64::from(!is_fragment);
        count.fragments += u64::from(is_fragment);
        count.begun += u64::from(begins);
        count.bytes += u64::from(len);
        count.last_ns = at_ns;
    }

    /// The kernel dropped so many more.
    pub const fn lost(&mut self, frames: u64) {
        self.dropped += frames;
    }

    /// A second is over.
    pub fn second(&mut self, second: u32, seconds: f64) -> Second {
        let volume =
            Volume { packets: self.total.packets - self.before.packets, bytes: self.total.bytes - self.before.bytes };
        let dropped = self.dropped - self.dropped_before;
        (self.before, self.dropped_before) = (self.total, self.dropped);
        let mut busy: Vec<(u64, &Key, &Count)> = self
            .rows
            .iter()
            .map(|(key, count)| (count.packets - count.before, key, count))
            .filter(|(packets, ..)| *packets > 0)
            .collect();
        busy.sort_unstable_by_key(|(packets, _, count)| (Reverse(*packets), count.first_ns));
        busy.truncate(BUSIEST);
        let rows = busy.into_iter().map(|(packets, key, count)| row(key, count, packets as f64 / seconds.max(1e-3)));
        let rows = rows.collect();
        self.rows.values_mut().for_each(|count| count.before = count.packets);
        Second { second, volume, dropped, rows }
    }

    /// All of it.
    pub fn result(self, interface: &str, from: UnixNanos, until: UnixNanos) -> WireResult {
        let seconds = (until.0.saturating_sub(from.0) as f64 / 1e9).max(1e-3);
        let mut rows: Vec<Row> =
            self.rows.iter().map(|(key, count)| row(key, count, count.packets as f64 / seconds)).collect();
        rows.sort_by_key(|row| (Reverse(row.packets + row.fragments), row.first_ns));
        WireResult {
            interface: interface.to_owned(),
            from_ns: from,
            until_ns: until,
            rows,
            other: self.other,
            total: self.total,
            unmeant: self.unmeant,
            malformed: self.malformed,
            dropped: self.dropped,
        }
    }
}

fn add(volume: &mut Volume, len: u32) {
    volume.packets += 1;
    volume.bytes += u64::from(len);
}

fn row(key: &Key, count: &Count, rate: f64) -> Row {
    Row {
        vlans: key.vlans.clone(),
        source: key.source,
        mac: count.mac,
        target: key.target,
        to: key.to,
        protocol: key.protocol.name(),
        port: key.port.0,
        answer: key.port.1,
        packets: count.packets,
        fragments: count.fragments,
        begun: count.begun,
        bytes: count.bytes,
        rate,
        first_ns: UnixNanos(count.first_ns),
        last_ns: UnixNanos(count.last_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(n: u32, port: u16) -> Seen {
        Seen {
            vlans: vec![7],
            mac: Some(Mac([2; 6])),
            source: Some(std::net::Ipv4Addr::from_bits(n).into()),
            target: None,
            protocol: Protocol::Udp,
            ports: Some((40_000, port)),
            is_fragment: false,
            begins: false,
        }
    }

    #[test]
    fn who_forges_senders_takes_no_memory_and_is_counted() {
        let mut table = Table::default();
        for n in 0..20_000 {
            table.add(seen(n, 514), To::Us, 100, u64::from(n));
        }
        table.add(seen(5, 514), To::Us, 100, 30_000);
        table.lost(3);
        let result = table.result("eth0", UnixNanos(0), UnixNanos(2_000_000_000));
        assert_eq!((result.rows.len(), result.other.packets, result.total.packets), (ROWS, 20_000 - 4096, 20_001));
        assert_eq!(result.dropped, 3);
        let first = &result.rows[0];
        assert_eq!((first.packets, first.bytes, first.last_ns, first.rate), (2, 200, UnixNanos(30_000), 1.0));
    }

    #[test]
    fn a_second_has_what_came_in_it_the_busiest_first() {
        let mut table = Table::default();
        for _ in 0..3 {
            table.add(seen(1, 514), To::Us, 100, 1);
        }
        table.add(seen(2, 162), To::Us, 100, 1);
        let second = table.second(1, 1.0);
        assert_eq!((second.volume.packets, second.rows.len(), second.rows[0].rate), (4, 2, 3.0));
        table.add(seen(2, 162), To::Us, 50, 1);
        table.lost(2);
        let second = table.second(2, 0.5);
        assert_eq!((second.volume, second.dropped), (Volume { packets: 1, bytes: 50 }, 2));
        assert_eq!((second.rows[0].port, second.rows[0].packets, second.rows[0].rate), (Some(162), 2, 2.0));
        assert_eq!(table.second(3, 1.0).rows, []);
    }

    #[test]
    fn fragments_are_no_datagrams() {
        let mut table = Table::default();
        table.add(seen(1, 514), To::Us, 1500, 1);
        table.add(Seen { ports: None, is_fragment: true, ..seen(1, 0) }, To::Us, 900, 2);
        let result = table.result("eth0", UnixNanos(0), UnixNanos(1));
        let packets: Vec<(Option<u16>, u64, u64)> =
            result.rows.iter().map(|row| (row.port, row.packets, row.fragments)).collect();
        assert_eq!(packets, [(Some(514), 1, 0), (None, 0, 1)]);
    }
}
