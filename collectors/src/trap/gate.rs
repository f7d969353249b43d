//! How much one sender may do: notifications in a second, and reports that it gets.
//!
//! The table is bounded. The younger half has who sent since it was begun; when it is full it becomes the old half, and
//! who is only in that one is forgotten at the next turn: least recently seen first, at no cost for each datagram.

use super::moment::{Moment, SECOND};
use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;

/// Senders in one half of the table.
const HALF: usize = 8192;
/// Reports to one sender in a second. A sender needs two before its first inform, and a site behind one address has many
/// senders; more are a flood, or somebody who has reports sent to an address that is not its own.
const REPORTS: Rate = Rate::per_second(50);
/// Reports to all of them.
const ALL_REPORTS: Rate = Rate::per_second(1000);

/// So many in a second, and as many at once after a pause.
#[derive(Debug, Clone, Copy)]
struct Rate {
    interval: u64,
}

impl Rate {
    const fn per_second(n: u32) -> Self {
        Self { interval: SECOND / if n == 0 { 1 } else { n as u64 } }
    }
}

/// A bucket of tokens, told by the moment at which it is full again.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket(u64);

impl Bucket {
    fn take(&mut self, rate: Rate, now: Moment) -> bool {
        let full_at = self.0.max(now.0);
        if full_at - now.0 > SECOND - rate.interval {
            return false;
        }
        self.0 = full_at + rate.interval;
        true
    }
}

/// What a sender has left.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    notifications: Bucket,
    reports: Bucket,
}

/// All senders.
#[derive(Debug)]
pub struct Gate {
    storm: Rate,
    young: HashMap<IpAddr, Left>,
    old: HashMap<IpAddr, Left>,
    reports: Bucket,
}

impl Gate {
    /// Lets through so many notifications of one sender in a second.
    pub fn new(storm: u32) -> Self {
        Self { storm: Rate::per_second(storm), young: HashMap::new(), old: HashMap::new(), reports: Bucket::default() }
    }

    /// From now on so many.
    pub fn set_storm(&mut self, storm: u32) {
        self.storm = Rate::per_second(storm);
    }

    /// False when this one is above what its sender may send.
    pub fn admit(&mut self, source: IpAddr, now: Moment) -> bool {
        let storm = self.storm;
        self.left(source).notifications.take(storm, now)
    }

    /// False when its sender is not to get a report for it.
    pub fn may_report(&mut self, source: IpAddr, now: Moment) -> bool {
        self.left(source).reports.take(REPORTS, now) && self.reports.take(ALL_REPORTS, now)
    }

    fn left(&mut self, source: IpAddr) -> &mut Left {
        if self.young.len() >= HALF && !self.young.contains_key(&source) {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let old = &mut self.old;
        self.young.entry(source).or_insert_with(|| old.remove(&source).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn source(n: u32) -> IpAddr {
        Ipv4Addr::from(n).into()
    }

    #[test]
    fn a_sender_has_its_rate_and_nobody_else_s() {
        let mut gate = Gate::new(100);
        let mut admitted = |n, ns| (0..1000).filter(|_| gate.admit(source(n), Moment(ns))).count();
        assert_eq!(admitted(1, SECOND), 100, "at once");
        assert_eq!(admitted(2, SECOND), 100, "another has its own");
        assert_eq!(admitted(1, SECOND + SECOND / 2), 50, "half a second later");
        assert_eq!(admitted(1, 10 * SECOND), 100, "a pause gives no more");
        gate.set_storm(1);
        assert!(!gate.admit(source(1), Moment(10 * SECOND)));
        assert!(gate.admit(source(1), Moment(12 * SECOND)) && !gate.admit(source(1), Moment(12 * SECOND)));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_who_goes_on() {
        let mut gate = Gate::new(1);
        for n in 0..200_000 {
            gate.admit(source(n), Moment(SECOND));
            assert!(n < 2 || !gate.admit(source(1), Moment(SECOND)), "it sends all the time and is not forgotten");
        }
        assert!(gate.young.len() <= HALF && gate.old.len() <= HALF);
    }

    #[test]
    fn reports_are_few_for_one_and_for_all() {
        let mut gate = Gate::new(1000);
        assert_eq!((0..100).filter(|_| gate.may_report(source(1), Moment(SECOND))).count(), 50);
        assert_eq!((2..5000).filter(|&n| gate.may_report(source(n), Moment(SECOND))).count(), 950);
    }
}
