//! Sums per key, for so many keys as there is room for. When there are more, the half with the fewest bytes goes; what
//! a key lost by that is at most what the largest of those had, each time.

use super::key::Key;
use raven_decode::flow::flows::Seen;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Keys, at most: about 9 MiB, of which all clients at once may take their part.
const KEYS_MAX: usize = 32_768;

/// What flows of one key come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub flows: u64,
    pub bytes: u64,
    pub packets: u64,
    pub bytes_estimated: u64,
    pub packets_estimated: u64,
    pub flows_without_rate: u64,
}

impl Sums {
    /// One flow. A counter that it does not give is 0.
    pub fn of(seen: &Seen<'_, '_, '_>) -> Self {
        let (bytes, packets) = (seen.flow.bytes.unwrap_or(0), seen.flow.packets.unwrap_or(0));
        let rate = seen.rate.rate.filter(|rate| *rate > 0);
        Self {
            flows: 1,
            bytes,
            packets,
            bytes_estimated: bytes.saturating_mul(rate.unwrap_or(0)),
            packets_estimated: packets.saturating_mul(rate.unwrap_or(0)),
            flows_without_rate: rate.is_none().into(),
        }
    }

    /// Forged counters come to a sum that stays at its end.
    fn add(&mut self, more: &Self) {
        for (sum, n) in [
            (&mut self.flows, more.flows),
            (&mut self.bytes, more.bytes),
            (&mut self.packets, more.packets),
            (&mut self.bytes_estimated, more.bytes_estimated),
            (&mut self.packets_estimated, more.packets_estimated),
            (&mut self.flows_without_rate, more.flows_without_rate),
        ] {
            *sum = sum.saturating_add(n);
        }
    }
}

/// All keys so far.
#[derive(Debug, Default)]
pub struct Table {
    sums: HashMap<Key, Sums>,
    all: Sums,
    missing_bytes_max: u64,
    left_out: u64,
}

/// The end of a count.
pub struct Topmost {
    /// The keys with the most bytes, those first.
    pub first: Vec<(Key, Sums)>,
    /// How many keys there were; one that was left out and came again counts twice.
    pub keys: u64,
    /// By so many bytes a key may be too low.
    pub missing_bytes_max: u64,
}

impl Table {
    /// Counts a flow.
    pub fn add(&mut self, key: &Key, sums: &Sums) {
        self.all.add(sums);
        if let Some(known) = self.sums.get_mut(key) {
            known.add(sums);
            return;
        }
        if self.sums.len() >= KEYS_MAX {
            self.halve();
        }
        self.sums.insert(key.clone(), *sums);
    }

    /// The sums of all flows: exact, whatever was left out.
    pub const fn all(&self) -> Sums {
        self.all
    }

    fn halve(&mut self) {
        let mut bytes: Vec<u64> = self.sums.values().map(|sums| sums.bytes).collect();
        let middle = bytes.len() / 2;
        let (_, limit, _) = bytes.select_nth_unstable(middle);
        let (limit, before) = (*limit, self.sums.len());
        // Of those that are equal to the limit as many go as must.
        let mut equal = bytes.iter().filter(|n| **n < limit).count().abs_diff(middle + 1);
        let mut largest = 0;
        self.sums.retain(|_, sums| {
            let goes = sums.bytes < limit || sums.bytes == limit && equal > 0;
            if goes {
                equal -= usize::from(sums.bytes == limit);
                largest = largest.max(sums.bytes);
            }
            !goes
        });
        self.missing_bytes_max = self.missing_bytes_max.saturating_add(largest);
        self.left_out += (before - self.sums.len()) as u64;
    }

    /// Ends the count.
    pub fn top(&mut self, n: usize) -> Topmost {
        let keys = self.left_out + self.sums.len() as u64;
        let mut first: Vec<(Key, Sums)> = self.sums.drain().collect();
        // Ties by the key, so that the same question has the same answer.
        first.sort_unstable_by(|(a, x), (b, y)| (Reverse(x.bytes), a).cmp(&(Reverse(y.bytes), b)));
        first.truncate(n);
        Topmost { first, keys, missing_bytes_max: self.missing_bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn key(n: u32) -> Key {
        Key::Addr(IpAddr::V4(Ipv4Addr::from(n)))
    }

    fn flow(bytes: u64) -> Sums {
        Sums { flows: 1, bytes, ..Sums::default() }
    }

    #[test]
    fn the_largest_are_found_among_more_keys_than_there_is_room_for() {
        let mut table = Table::default();
        for n in 0..300_000 {
            table.add(&key(n + 100), &flow(10));
            table.add(&key(n % 10), &flow(1000));
        }
        let all = table.all();
        assert_eq!((all.flows, all.bytes), (600_000, 303_000_000));
        let top = table.top(10);
        assert!(top.first.iter().all(|(_, sums)| sums.bytes == 30_000_000), "large ones never go");
        assert!(top.missing_bytes_max > 0 && top.missing_bytes_max < 200, "{}", top.missing_bytes_max);
        assert_eq!(top.keys, 300_010);
    }

    #[test]
    fn keys_that_are_all_alike_make_room_too() {
        let mut table = Table::default();
        (0..200_000).for_each(|n| table.add(&key(n), &flow(0)));
        let top = table.top(usize::MAX);
        assert!(top.first.len() <= KEYS_MAX && top.keys == 200_000);
    }

    #[test]
    fn forged_counters_do_not_go_round() {
        let mut table = Table::default();
        (0..3).for_each(|_| table.add(&key(1), &flow(u64::MAX)));
        assert_eq!(table.all().bytes, u64::MAX);
    }
}
