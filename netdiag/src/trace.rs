//! The way to a target, hop by hop, as a plan that owns no socket and no clock: which probe is due, and what the answers say.
//!
//! Routers choose among several ways by a hash of addresses and ports (RFC 2992), so all probes of one flow have the same: a
//! flow sees one way, and several flows see several. A probe is known again by a number in it; of routers that give back the
//! header alone, the oldest probe of the flow that waits is meant.
//!
//! A router answers only so many probes a second. What is missing at a hop and not behind it was forwarded: nothing is lost.

pub mod run;

use crate::rtt::Times;
use raven_model::diag::{Hop, Router, TraceTest};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Probes of one flow that wait for an answer at a time: so many silent hops do not slow a trace down.
const AHEAD: usize = 12;
/// Between two probes of a flow: a router is asked for no burst.
const GAP: Duration = Duration::from_millis(4);

/// A probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Through all of the trace.
    pub number: u64,
    /// From 0.
    pub flow: u8,
    /// From 1.
    pub hop: u8,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    step: Step,
    at: Instant,
}

/// What one flow has seen.
#[derive(Debug, Default)]
struct Flow {
    round: u8,
    /// Hop of the next probe.
    next: u8,
    /// When it may leave.
    due: Option<Instant>,
    /// When this round began.
    began: Option<Instant>,
    /// Hop at which the target, or somebody who says that there is no way, answers.
    end: Option<u8>,
    /// Who answered at each hop.
    way: BTreeMap<u8, IpAddr>,
    changed: bool,
}

#[derive(Debug, Default)]
struct Seen {
    sent: u32,
    received: u32,
    times: Times,
    routers: BTreeMap<IpAddr, (BTreeSet<u8>, Option<String>)>,
}

/// What an answer says of who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// A router on the way.
    Exceeded,
    /// The target.
    Reached,
    /// There is no way from here; why.
    Unreachable(String),
}

/// The probes of one trace.
#[derive(Debug)]
pub struct Trace {
    hops: u8,
    rounds: u8,
    interval: Duration,
    timeout: Duration,
    began: Instant,
    flows: Vec<Flow>,
    waiting: Vec<Waiting>,
    seen: BTreeMap<u8, Seen>,
    numbers: u64,
    reached: bool,
}

impl Trace {
    /// As the test says.
    pub fn new(test: &TraceTest, now: Instant) -> Self {
        let flow = || Flow { next: 1, due: Some(now), began: Some(now), ..Flow::default() };
        Self {
            hops: test.hops,
            rounds: test.rounds,
            interval: Duration::from_millis(test.interval_ms.into()),
            timeout: Duration::from_millis(test.timeout_ms.into()),
            began: now,
            flows: (0..test.flows).map(|_| flow()).collect(),
            waiting: Vec::new(),
            seen: BTreeMap::new(),
            numbers: 0,
            reached: false,
        }
    }

    /// True when all rounds of all flows are over.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.flows.iter().all(|flow| flow.round == self.rounds)
    }

    /// When something is due, unless an answer comes first.
    pub fn due(&self, now: Instant) -> Instant {
        let expires = self.waiting.iter().map(|waiting| waiting.at + self.timeout);
        let sends = (0..self.flows.len()).filter_map(|flow| self.sends(flow));
        expires.chain(sends).min().unwrap_or(now)
    }

    /// When a flow sends next, as far as answers are not waited for.
    fn sends(&self, n: usize) -> Option<Instant> {
        let flow = &self.flows[n];
        let open = self.waiting.iter().filter(|waiting| usize::from(waiting.step.flow) == n).count();
        if flow.round == self.rounds {
            return None;
        }
        if flow.next > flow.end.unwrap_or(self.hops) {
            // The round is out; the next begins when all of it is answered, and not before its time.
            return (open == 0).then(|| flow.began.unwrap_or(self.began) + self.interval);
        }
        (open < AHEAD).then_some(flow.due).flatten()
    }

    /// The next probe, when one is due. Ends rounds and probes whose time is over.
    pub fn take(&mut self, now: Instant) -> Option<Step> {
        let timeout = self.timeout;
        self.waiting.retain(|waiting| waiting.at + timeout > now);
        for n in 0..self.flows.len() {
            self.turn(n, now);
            if self.sends(n).is_some_and(|at| at <= now) && self.flows[n].next <= self.flows[n].end.unwrap_or(self.hops)
            {
                let flow = &mut self.flows[n];
                let step = Step { number: self.numbers, flow: n as u8, hop: flow.next };
                flow.next += 1;
                flow.due = Some(now + GAP);
                self.numbers += 1;
                self.waiting.push(Waiting { step, at: now });
                self.seen.entry(step.hop).or_default().sent += 1;
                return Some(step);
            }
        }
        None
    }

    /// The next round, when this one is over.
    fn turn(&mut self, n: usize, now: Instant) {
        let is_out = self.flows[n].next > self.flows[n].end.unwrap_or(self.hops);
        let is_answered = !self.waiting.iter().any(|waiting| usize::from(waiting.step.flow) == n);
        let rounds = self.rounds;
        let flow = &mut self.flows[n];
        let is_last = flow.round + 1 == rounds;
        let is_time = flow.began.is_none_or(|began| began + self.interval <= now);
        if flow.round < rounds && is_out && is_answered && (is_last || is_time) {
            flow.round += 1;
            (flow.next, flow.due, flow.began) = (1, Some(now), Some(now));
        }
    }

    /// Somebody answered a probe: by its number, or, where that did not come back, by its flow.
    pub fn answer(&mut self, number: Option<u64>, flow: u8, by: IpAddr, says: &Says, at: Instant) -> Option<u8> {
        let is_it = |waiting: &Waiting| match number {
            Some(number) => waiting.step.number == number,
            None => waiting.step.flow == flow,
        };
        let place = self.waiting.iter().position(is_it)?;
        let Waiting { step, at: sent } = self.waiting.remove(place);
        let of = &mut self.flows[usize::from(step.flow)];
        if of.end.is_some_and(|end| step.hop > end) {
            return None;
        }
        if *says != Says::Exceeded {
            of.end = Some(step.hop);
            of.way.retain(|hop, _| *hop <= step.hop);
        }
        self.reached |= *says == Says::Reached;
        of.changed |= of.way.insert(step.hop, by).is_some_and(|before| before != by);
        let seen = self.seen.entry(step.hop).or_default();
        seen.received += 1;
        seen.times.add(at.saturating_duration_since(sent));
        let (flows, said) = seen.routers.entry(by).or_default();
        flows.insert(step.flow);
        if let Says::Unreachable(why) = says {
            *said = Some(why.clone());
        }
        Some(step.hop)
    }

    /// The target answered.
    pub const fn reached(&self) -> bool {
        self.reached
    }

    /// A flow went another way than before.
    pub fn changed(&self) -> bool {
        self.flows.iter().any(|flow| flow.changed)
    }

    /// The last hop that is of interest: the target's, or the last that anybody answered at.
    fn last(&self) -> u8 {
        let ends = self.flows.iter().map(|flow| flow.end);
        let end = ends.collect::<Option<Vec<u8>>>().and_then(|ends| ends.into_iter().max());
        let answered = self.seen.iter().filter(|(_, seen)| seen.received > 0).map(|(hop, _)| *hop).max();
        end.or(answered).unwrap_or(0)
    }

    /// What is known of each hop.
    pub fn hops(&self) -> Vec<Hop> {
        let last = self.last();
        self.seen.range(..=last).map(|(hop, _)| self.hop(*hop)).collect()
    }

    /// What is known of one.
    pub fn hop(&self, hop: u8) -> Hop {
        let seen = &self.seen[&hop];
        let share = |seen: &Seen| f64::from(seen.received) / f64::from(seen.sent.max(1));
        let last = self.last();
        let behind = self.seen.range(hop + 1..).filter(|(hop, seen)| **hop <= last && seen.received > 0);
        let behind = behind.map(|(_, seen)| share(seen));
        let router = |(address, (flows, said)): (&IpAddr, &(BTreeSet<u8>, Option<String>))| Router {
            address: *address,
            flows: flows.iter().copied().collect(),
            said: said.clone(),
        };
        Hop {
            hop,
            routers: seen.routers.iter().map(router).collect(),
            sent: seen.sent,
            received: seen.received,
            rtt: seen.times.rtt(),
            rate_limited: behind.fold(0.0, f64::max) > share(seen),
        }
    }

    /// Different ways, by flows.
    pub fn paths(&self) -> u32 {
        let ways: BTreeSet<_> = self.flows.iter().map(|flow| &flow.way).filter(|way| !way.is_empty()).collect();
        ways.len() as u32
    }

    /// The same while the ways are: FNV-1a of hops and who stands there.
    pub fn path_hash(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for (hop, seen) in self.seen.range(..=self.last()) {
            add(*hop);
            for router in seen.routers.keys() {
                router.to_string().bytes().for_each(&mut add);
            }
        }
        format!("{hash:016x}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::diag::Way;

    const MS: Duration = Duration::from_millis(1);

    fn test(rounds: u8, flows: u8) -> TraceTest {
        TraceTest {
            target: "192.0.2.9".to_owned(),
            way: Way::default(),
            method: raven_model::diag::Method::Udp,
            port: None,
            hops: 30,
            rounds,
            flows,
            interval_ms: 100,
            timeout_ms: 500,
        }
    }

    fn router(hop: u8, side: u8) -> IpAddr {
        IpAddr::from([10, side, 0, hop])
    }

    /// A path of so many hops; says who answers a probe, if anybody does.
    fn run(trace: &mut Trace, answers: impl Fn(Step) -> Option<(IpAddr, Says)>) -> (usize, Duration) {
        let (mut now, mut sent, began) = (trace.began, 0, trace.began);
        let mut under_way: Vec<(Instant, Step, IpAddr, Says)> = Vec::new();
        while !trace.is_over() {
            under_way.retain(|(at, step, by, says)| {
                let is_there = *at <= now;
                if is_there {
                    trace.answer(Some(step.number), step.flow, *by, says, *at);
                }
                !is_there
            });
            while let Some(step) = trace.take(now) {
                sent += 1;
                under_way.extend(answers(step).map(|(by, says)| (now + 10 * MS, step, by, says)));
            }
            now += MS;
            assert!(now < began + Duration::from_mins(5), "{trace:?}");
        }
        (sent, now - began)
    }

    fn six_hops(step: Step) -> (IpAddr, Says) {
        let says = if step.hop >= 6 { Says::Reached } else { Says::Exceeded };
        (router(step.hop.min(6), 0), says)
    }

    #[test]
    fn a_path_is_found_hop_by_hop_and_no_further() {
        let mut trace = Trace::new(&test(3, 1), Instant::now());
        let (sent, took) = run(&mut trace, |step| Some(six_hops(step)));
        let hops = trace.hops();
        assert_eq!(
            hops.iter().map(|hop| hop.routers[0].address).collect::<Vec<_>>(),
            (1..=6).map(|n| router(n, 0)).collect::<Vec<_>>()
        );
        assert!(trace.reached() && !trace.changed() && trace.paths() == 1);
        assert!(hops.iter().all(|hop| (hop.sent, hop.received) == (3, 3)), "{hops:?}");
        assert!(sent <= 18 + AHEAD && took < 400 * MS, "{sent} {took:?}");
    }

    #[test]
    fn silent_hops_do_not_stop_it_and_who_forwards_more_than_it_answers_is_told() {
        let mut trace = Trace::new(&test(4, 1), Instant::now());
        run(&mut trace, |step| {
            Some(six_hops(step)).filter(|_| step.hop != 2 && (step.hop != 4 || step.number % 2 == 0))
        });
        let hops = trace.hops();
        assert_eq!((hops[1].received, hops[1].rate_limited, hops[1].routers.len()), (0, true, 0));
        assert!(hops[3].received < 4 && hops[3].rate_limited && !hops[5].rate_limited, "{hops:?}");
    }

    #[test]
    fn loss_that_goes_on_to_the_target_is_loss() {
        let mut trace = Trace::new(&test(10, 1), Instant::now());
        run(&mut trace, |step| Some(six_hops(step)).filter(|_| step.hop < 3 || step.number % 3 == 0));
        assert!(trace.hops().iter().all(|hop| hop.hop < 3 || hop.received < hop.sent));
        assert!(!trace.hops()[5].rate_limited);
    }

    #[test]
    fn flows_show_several_ways_and_the_hash_is_of_all() {
        let began = Instant::now();
        let two_ways = |step: Step| {
            Some(six_hops(step))
                .map(|(by, says)| if step.hop == 3 { (router(3, step.flow % 2), says) } else { (by, says) })
        };
        let (mut trace, mut again, mut other) =
            (Trace::new(&test(2, 4), began), Trace::new(&test(2, 4), began), Trace::new(&test(2, 4), began));
        run(&mut trace, two_ways);
        run(&mut again, two_ways);
        run(&mut other, |step| Some(six_hops(step)));
        assert_eq!((trace.paths(), other.paths(), trace.changed()), (2, 1, false));
        assert_eq!(
            trace.hops()[2].routers.iter().map(|router| router.flows.clone()).collect::<Vec<_>>(),
            [[0, 2], [1, 3]]
        );
        assert_eq!(trace.path_hash(), again.path_hash());
        assert_ne!(trace.path_hash(), other.path_hash());
    }

    #[test]
    fn a_way_that_changes_meanwhile_is_told() {
        let mut trace = Trace::new(&test(4, 1), Instant::now());
        run(&mut trace, |step| {
            Some(six_hops(step))
                .map(|(by, says)| if step.hop == 2 && step.number > 20 { (router(2, 9), says) } else { (by, says) })
        });
        assert!(trace.changed());
    }

    #[test]
    fn who_says_that_there_is_no_way_ends_it() {
        let mut trace = Trace::new(&test(2, 1), Instant::now());
        run(&mut trace, |step| match step.hop {
            1 | 2 => Some(six_hops(step)),
            3 => Some((router(3, 0), Says::Unreachable("host unreachable".to_owned()))),
            _ => None,
        });
        assert!(!trace.reached());
        let hops = trace.hops();
        assert_eq!((hops.len(), hops[2].routers[0].said.as_deref()), (3, Some("host unreachable")));
    }

    #[test]
    fn an_answer_without_a_number_is_of_the_oldest_probe_of_its_flow() {
        let now = Instant::now();
        let mut trace = Trace::new(&test(1, 2), now);
        let (first, other) = (trace.take(now).unwrap(), trace.take(now).unwrap());
        assert_eq!(((first.flow, first.hop), (other.flow, other.hop)), ((0, 1), (1, 1)));
        assert_eq!(trace.answer(None, 1, router(1, 0), &Says::Exceeded, now), Some(1));
        assert_eq!(trace.answer(None, 1, router(1, 0), &Says::Exceeded, now), None);
        assert_eq!(trace.answer(Some(99), 0, router(1, 0), &Says::Exceeded, now), None);
    }
}
