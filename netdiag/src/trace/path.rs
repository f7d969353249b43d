//! The way of one flow: who answered at each hop, whether that is another way than before, and its hash.

use raven_model::diag::trace::FlowPath;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A way, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Who answered at which hop.
    pub hops: BTreeMap<u8, IpAddr>,
    /// Where it ends, if anybody said so: the target, or who says that there is no way.
    pub end: Option<u8>,
}

impl Path {
    /// The first hop that is certainly another one than in `before`. Who answers nothing may be whoever was there.
    pub fn differs(&self, before: &Self) -> Option<u8> {
        let other = |(hop, address): (&u8, &IpAddr)| before.hops.get(hop).is_some_and(|was| was != address);
        let hop = self.hops.iter().find(|step| other(*step)).map(|(hop, _)| *hop);
        let end = match (self.end, before.end) {
            (Some(now), Some(was)) if now != was && !self.is_same_end(before) => Some(now.min(was) + 1),
            // It went on where it ended before.
            (None, Some(was)) => self.hops.keys().copied().find(|hop| *hop > was),
            _ => None,
        };
        hop.into_iter().chain(end).min()
    }

    /// Both end at the same place, and what the longer one has in between is silence: the answer of the end itself was lost, and
    /// that to a probe which could have gone farther was not.
    fn is_same_end(&self, other: &Self) -> bool {
        let (Some(one), Some(two)) = (self.end, other.end) else { return false };
        let (long, short) = if one > two { (self, two) } else { (other, one) };
        let is_same = self.hops.get(&one).is_some_and(|end| other.hops.get(&two) == Some(end));
        is_same && long.hops.range(short..one.max(two)).next().is_none()
    }

    /// What is not known of it is as before, up to the first hop that is another one.
    pub fn inherit(&mut self, before: &Self, until: Option<u8>) {
        let end = self.end.unwrap_or(u8::MAX);
        for (hop, address) in &before.hops {
            if until.is_none_or(|until| *hop < until) && *hop <= end {
                self.hops.entry(*hop).or_insert(*address);
            }
        }
        if until.is_none() {
            // The nearer one is where it is.
            self.end = self.end.into_iter().chain(before.end).min();
            let end = self.end.unwrap_or(u8::MAX);
            self.hops.retain(|hop, _| *hop <= end);
        }
    }

    /// Who stands at each hop, up to the end or to the last who answered; nothing for who answered nothing.
    pub fn list(&self) -> Vec<Option<IpAddr>> {
        let last = self.end.or_else(|| self.hops.keys().copied().max()).unwrap_or(0);
        (1..=last).map(|hop| self.hops.get(&hop).copied()).collect()
    }

    /// FNV-1a of 64 bits over all hops in their order, each as a byte with the length of its address (4, 16; 0 where nobody
    /// answers) and the address.
    pub fn hash(&self) -> u64 {
        self.list().into_iter().fold(BASIS, |hash, hop| match hop {
            None => fnv(hash, &[0]),
            Some(IpAddr::V4(v4)) => fnv(fnv(hash, &[4]), &v4.octets()),
            Some(IpAddr::V6(v6)) => fnv(fnv(hash, &[16]), &v6.octets()),
        })
    }

    /// As it is told.
    pub fn told(&self) -> FlowPath {
        FlowPath { hash: hex(self.hash()), hops: self.list() }
    }
}

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Of several ways: that of the one, where all are the same; else FNV-1a over the hashes of the different ones, in ascending
/// order, each as eight bytes, the highest first. So the order of flows does not matter.
pub fn hash_of_all<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let mut hashes: Vec<u64> = paths.map(Path::hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    match hashes[..] {
        [one] => hex(one),
        _ => hex(hashes.into_iter().fold(BASIS, |hash, one| fnv(hash, &one.to_be_bytes()))),
    }
}

/// A port for a flow to this target, outside of those that the kernel gives by itself: the same each time, so that routers
/// that choose by ports (RFC 2992) choose the same way tomorrow, and two traces can be compared.
pub fn flow_port(to: IpAddr, flow: u8) -> u16 {
    let hash = match to {
        IpAddr::V4(v4) => fnv(BASIS, &v4.octets()),
        IpAddr::V6(v6) => fnv(BASIS, &v6.octets()),
    };
    61_000 + (hash % 4096) as u16 + u16::from(flow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A digit is a router, a dot one who says nothing; `!` behind it: the way ends there.
    fn path(text: &str) -> Path {
        let mut path = Path::default();
        for (hop, c) in (1..).zip(text.trim_end_matches('!').chars()) {
            path.hops.extend(c.to_digit(10).map(|digit| (hop, IpAddr::from([10, 0, 0, digit as u8]))));
            path.end = text.ends_with('!').then_some(hop);
        }
        path
    }

    #[test]
    fn a_way_is_another_one_where_somebody_else_answers_or_it_ends_elsewhere() {
        for (before, now, hop) in [
            ("1234!", "1234!", None),
            ("1234!", "1934!", Some(2)),
            ("1234!", "1.34!", None),
            ("1.34!", "1234!", None),
            ("1234!", "12.", None),
            ("1234!", "", None),
            ("", "1234!", None),
            ("1234!", "124!", Some(3)),
            ("1234!", "12!", Some(3)),
            ("124!", "1234!", Some(3)),
            ("1234!", "12345", Some(5)),
            ("12.4!", "12.94!", Some(4)),
            ("12.4!", "124!", None),
            ("124!", "12.4!", None),
            ("124!", "12..4!", None),
            ("12.4!", "125!", Some(4)),
        ] {
            assert_eq!(path(now).differs(&path(before)), hop, "{before} {now}");
        }
    }

    #[test]
    fn what_is_silent_this_time_is_as_before() {
        let mut now = path("1.3.!");
        now.inherit(&path("1234!"), None);
        assert_eq!(now, path("123.!").with(4, 4));
        let mut other = path("1.9..!");
        other.inherit(&path("12345!"), Some(3));
        assert_eq!(other.list(), path("129..!").list());
        let mut farther = path("12.4!");
        farther.inherit(&path("124!"), None);
        assert_eq!(farther, path("124!"));
        let mut nothing = path("");
        nothing.inherit(&path("1234!"), None);
        assert_eq!(nothing, path("1234!"));
    }

    impl Path {
        fn with(mut self, hop: u8, digit: u8) -> Self {
            self.hops.insert(hop, IpAddr::from([10, 0, 0, digit]));
            self
        }
    }

    /// These stay as they are: who compares hashes of last year finds the same.
    #[test]
    fn hashes_are_these() {
        assert_eq!(path("").told().hash, "cbf29ce484222325");
        let one = path("1.2!");
        // FNV-1a of 04 0a000001 00 04 0a000002.
        assert_eq!(one.told().hash, hex(fnv(BASIS, &[4, 10, 0, 0, 1, 0, 4, 10, 0, 0, 2])));
        let (a, b) = (path("12!"), path("13!"));
        assert_eq!(hash_of_all([&a, &a].into_iter()), a.told().hash);
        assert_eq!(hash_of_all([&a, &b, &a].into_iter()), hash_of_all([&b, &a].into_iter()));
        assert_ne!(hash_of_all([&a, &b].into_iter()), a.told().hash);
    }

    #[test]
    fn ports_of_flows_are_the_same_each_time_and_none_that_the_kernel_gives() {
        let to = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(flow_port(to, 0), flow_port(to, 0));
        assert_ne!(flow_port(to, 0), flow_port(to, 1));
    }

    proptest! {
        #[test]
        fn a_way_never_differs_from_itself_or_from_what_it_inherits(a in "[1-9.]{0,12}!?", b in "[1-9.]{0,12}!?", to: u128, flow in 0_u8..64) {
            let (before, mut now) = (path(&a), path(&b));
            prop_assert_eq!(before.differs(&before), None);
            let hop = now.differs(&before);
            now.inherit(&before, hop);
            prop_assert_eq!(now.differs(&before), hop);
            prop_assert!(flow_port(IpAddr::from(to.to_be_bytes()), flow) >= 61_000);
        }
    }
}
