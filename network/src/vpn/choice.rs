//! Which tunnels are on, and which of them carries: the first of the order that works. The next is tried as soon as one
//! does not, and the way back is taken only when the better one has held for a while, longer each time it did not.

use raven_model::tunnel::TunnelName;
use std::time::{Duration, Instant};

/// A tunnel that is on its way may take so long before the next is tried beside it.
const PATIENCE: Duration = Duration::from_secs(4);
/// A better tunnel must hold for so long before it is taken again; doubles with each time that it did not hold.
const HOLD: (Duration, Duration) = (Duration::from_secs(20), Duration::from_mins(10));
/// One that held for so long is trusted as at first.
const TRUST: Duration = Duration::from_hours(1);
/// The one that carried before is left on for so long, in case the way back was a mistake.
const LINGER: Duration = Duration::from_secs(10);

/// What is known of one tunnel.
#[derive(Debug)]
struct Candidate {
    name: TunnelName,
    /// It carries, since then.
    carries: Option<Instant>,
    /// It does not, since then; from when it was turned on.
    fails: Option<Instant>,
    /// How often it was lost while it carried.
    losses: u32,
}

/// The choice.
#[derive(Debug)]
pub struct Choice {
    candidates: Vec<Candidate>,
    current: Option<TunnelName>,
    /// Since when the present one carries.
    since: Option<Instant>,
    /// That of the last run of the box, which is tried at once beside the first.
    last_good: Option<TunnelName>,
}

impl Choice {
    /// None carries yet.
    pub fn new(order: &[TunnelName], last_good: Option<TunnelName>) -> Self {
        let candidate = |name: &TunnelName| Candidate { name: name.clone(), carries: None, fails: None, losses: 0 };
        let candidates = order.iter().map(candidate).collect();
        Self { candidates, current: None, since: None, last_good }
    }

    /// Another order; what is known of those that stay is kept.
    pub fn reorder(&mut self, order: &[TunnelName]) {
        let fresh = Self::new(order, self.last_good.clone());
        let old = std::mem::replace(&mut self.candidates, fresh.candidates);
        for known in old {
            if let Some(place) = self.candidates.iter_mut().find(|candidate| candidate.name == known.name) {
                *place = known;
            }
        }
        if self.current.as_ref().is_some_and(|name| !order.contains(name)) {
            (self.current, self.since) = (None, None);
        }
    }

    /// What carries now.
    pub fn current(&self) -> Option<&TunnelName> {
        self.current.as_ref()
    }

    /// Whether a tunnel carries at this moment.
    pub fn tell(&mut self, name: &TunnelName, carries: bool, now: Instant) {
        let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.name == *name) else { return };
        match (carries, candidate.carries) {
            (true, None) => (candidate.carries, candidate.fails) = (Some(now), None),
            (false, Some(since)) => {
                let held = now.duration_since(since) >= TRUST;
                candidate.losses = if held { 1 } else { candidate.losses.saturating_add(1) };
                (candidate.carries, candidate.fails) = (None, Some(now));
            }
            (false, None) => drop(candidate.fails.get_or_insert(now)),
            (true, Some(_)) => {}
        }
    }

    /// Decides anew; true when another one carries than before.
    pub fn decide(&mut self, now: Instant) -> bool {
        let rank = |name: &TunnelName| self.candidates.iter().position(|candidate| candidate.name == *name);
        let current = self.current.as_ref().and_then(rank);
        let works = current.is_some_and(|n| self.candidates[n].carries.is_some());
        let fit = |candidate: &&Candidate| candidate.carries.is_some_and(|since| !works || held(candidate, since, now));
        let better = if works { current.unwrap_or(0) } else { self.candidates.len() };
        let chosen = self.candidates.iter().take(better).find(fit).map(|candidate| candidate.name.clone());
        let next = chosen.or_else(|| self.current.clone().filter(|_| works));
        let is_other = next != self.current;
        if is_other {
            (self.current, self.since) = (next, Some(now));
        }
        is_other
    }

    /// Which tunnels should be on.
    pub fn wanted(&self, now: Instant) -> Vec<TunnelName> {
        let mut wanted = Vec::new();
        for candidate in &self.candidates {
            wanted.push(candidate.name.clone());
            let works = candidate.carries.is_some();
            if works && self.current.as_ref() == Some(&candidate.name) {
                break;
            }
            // Lost while it carried: the next at once. On its way: after a while.
            let patience = if candidate.losses > 0 { Duration::ZERO } else { PATIENCE };
            if !works && candidate.fails.is_none_or(|since| now.duration_since(since) < patience) {
                break;
            }
        }
        let lingers = self.since.is_some_and(|since| now.duration_since(since) < LINGER);
        let also = |candidate: &&Candidate| {
            let is_last_good = self.current.is_none() && self.last_good.as_ref() == Some(&candidate.name);
            is_last_good || lingers && candidate.carries.is_some()
        };
        let also = self.candidates.iter().filter(also).map(|candidate| candidate.name.clone());
        for name in also.collect::<Vec<_>>() {
            if !wanted.contains(&name) {
                wanted.push(name);
            }
        }
        wanted
    }
}

/// Whether a better tunnel has held long enough to be taken again.
fn held(candidate: &Candidate, since: Instant, now: Instant) -> bool {
    let needed = match candidate.losses {
        0 => Duration::ZERO,
        losses => HOLD.0.saturating_mul(1 << (losses - 1).min(8)).min(HOLD.1),
    };
    now.duration_since(since) >= needed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn name(text: &str) -> TunnelName {
        text.parse().unwrap()
    }

    struct Rig {
        choice: Choice,
        now: Instant,
    }

    impl Rig {
        fn new(last_good: Option<&str>) -> Self {
            let order = [name("noc"), name("backup"), name("lte")];
            Self { choice: Choice::new(&order, last_good.map(name)), now: Instant::now() }
        }

        /// A second goes by, in which these carry.
        fn second(&mut self, carrying: &[&str]) -> (Option<String>, Vec<String>) {
            self.now += S;
            let wanted = self.choice.wanted(self.now);
            for tunnel in &wanted {
                self.choice.tell(tunnel, carrying.contains(&tunnel.as_str()), self.now);
            }
            self.choice.decide(self.now);
            let wanted = self.choice.wanted(self.now).iter().map(ToString::to_string).collect();
            (self.choice.current().map(ToString::to_string), wanted)
        }
    }

    #[test]
    fn the_first_that_works_carries_and_the_others_stay_off() {
        let mut rig = Rig::new(None);
        assert_eq!(rig.second(&[]), (None, vec!["noc".to_owned()]));
        assert_eq!(rig.second(&["noc", "backup"]), (Some("noc".to_owned()), vec!["noc".to_owned()]));
    }

    #[test]
    fn one_that_does_not_come_up_is_followed_by_the_next_and_tried_on() {
        let mut rig = Rig::new(None);
        let mut seconds = 0;
        while rig.second(&["backup", "lte"]).0 != Some("backup".to_owned()) {
            seconds += 1;
            assert!(seconds < 10);
        }
        assert!(seconds >= 3, "the first has its time");
        assert_eq!(rig.second(&["backup", "lte"]).1, ["noc", "backup"]);
    }

    #[test]
    fn when_the_carrying_one_is_lost_the_next_is_tried_in_the_same_second() {
        let mut rig = Rig::new(None);
        for _ in 0..100 {
            rig.second(&["noc"]);
        }
        let (current, wanted) = rig.second(&["backup"]);
        assert_eq!((current, wanted), (None, vec!["noc".to_owned(), "backup".to_owned()]));
        assert_eq!(rig.second(&["backup"]).0, Some("backup".to_owned()));
    }

    #[test]
    fn the_way_back_is_taken_after_a_while_and_later_each_time_it_was_wrong() {
        let mut rig = Rig::new(None);
        let mut holds = Vec::new();
        rig.second(&["noc"]);
        for _ in 0..4 {
            while rig.second(&["backup"]).0 != Some("backup".to_owned()) {}
            let mut held = 0;
            while rig.second(&["noc", "backup"]).0 != Some("noc".to_owned()) {
                held += 1;
            }
            holds.push(held);
        }
        assert_eq!(holds, [20, 40, 80, 160]);
        // An hour later that is forgotten.
        for _ in 0..3700 {
            rig.second(&["noc"]);
        }
        while rig.second(&["backup"]).0 != Some("backup".to_owned()) {}
        let held = (0..1000).take_while(|_| rig.second(&["noc", "backup"]).0 != Some("noc".to_owned())).count();
        assert_eq!(held, 20);
    }

    #[test]
    fn the_one_before_is_left_on_for_a_moment() {
        let mut rig = Rig::new(None);
        rig.second(&["noc"]);
        while rig.second(&["backup"]).0 != Some("backup".to_owned()) {}
        while rig.second(&["noc", "backup"]).0 != Some("noc".to_owned()) {}
        assert_eq!(rig.second(&["noc", "backup"]).1, ["noc", "backup"]);
        let later = (0..12).map(|_| rig.second(&["noc", "backup"]).1).last().unwrap();
        assert_eq!(later, ["noc"]);
    }

    #[test]
    fn the_last_good_one_is_tried_beside_the_first() {
        let mut rig = Rig::new(Some("lte"));
        assert_eq!(rig.second(&[]).1, ["noc", "lte"]);
        assert_eq!(rig.second(&["lte"]).0, Some("lte".to_owned()));
        // The first works later, and is taken: it was never lost.
        assert_eq!(rig.second(&["lte", "noc"]).0, Some("noc".to_owned()));
    }

    #[test]
    fn an_order_without_the_carrying_one_lets_it_go() {
        let mut rig = Rig::new(None);
        rig.second(&["noc"]);
        rig.choice.reorder(&[name("backup")]);
        assert_eq!((rig.choice.current(), rig.choice.wanted(rig.now)), (None, vec![name("backup")]));
        assert_eq!(rig.second(&["backup"]).0, Some("backup".to_owned()));
    }
}
