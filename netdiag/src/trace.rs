//! The way to a target, hop by hop, as a plan that owns no socket and no clock: which probe is due, and what the answers say.
//!
//! Routers choose among several ways by a hash of addresses and ports (RFC 2992), so all probes of one flow have the same: a
//! flow sees one way, and several flows see several. A probe is known again by a number in it; of routers that give back the
//! header alone, the oldest probe of the flow that waits is meant.
//!
//! A router answers only so many probes a second. What is missing at a hop and not behind it was forwarded: nothing is lost.
//!
//! A trace may go on ([`Watch`](raven_model::diag::trace::Watch)): round by round, each of which sees the way of each flow once
//! ([`path`]). Who answers nothing does not hold a round up: it is waited for so long as answers from behind it take, ten times;
//! what comes later counts all the same.

pub mod path;
pub mod run;
mod tcp;

use crate::rtt::Times;
use path::Path;
use raven_model::diag::trace::PathChanged;
use raven_model::diag::{Hop, Method, Router, TraceTest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Probes of one flow that wait for an answer at a time: so many silent hops do not slow a trace down.
const AHEAD: usize = 16;
/// Between two probes of a flow while nobody knows where its way ends: a quarter of what the answer before took, so that few
/// probes go beyond the target, which may answer only so many. At first, and at most, this.
const GAP: Duration = Duration::from_millis(4);
/// Who answers nothing is waited for no longer than so many times what an answer from behind it took, and so long at least.
const PATIENCE: (u32, Duration) = (10, Duration::from_millis(100));
/// Addresses at one hop that are kept.
const ROUTERS: usize = 64;
/// Rounds without a word from where the way ended before: then it is looked for anew.
const MISSES: u8 = 3;

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
    round: u32,
    at: Instant,
    /// The round waits for it no longer than then.
    until: Instant,
}

/// What one flow has seen.
#[derive(Debug, Default)]
struct Flow {
    /// Rounds that are over.
    round: u32,
    /// Hop of the next probe.
    next: u8,
    /// When it may leave.
    due: Option<Instant>,
    /// When the one before left.
    left: Option<Instant>,
    /// Between the two.
    gap: Duration,
    /// When this round began.
    began: Option<Instant>,
    /// This round's way.
    now: Path,
    /// The way as far as it was known before.
    known: Path,
    /// Hop at which it ended before: none is probed behind it, as long as that is so.
    expected: Option<u8>,
    misses: u8,
}

impl Flow {
    /// The last hop that is of interest in this round.
    fn last(&self, hops: u8) -> u8 {
        self.now.end.or(self.expected).unwrap_or(hops)
    }

    /// A round is over: what changed, if anything.
    fn settle(&mut self, flow: u8) -> Option<PathChanged> {
        self.misses = if self.now.end.is_some() { 0 } else { self.misses.saturating_add(1) };
        self.expected = self.now.end.or(self.expected).filter(|_| self.misses < MISSES);
        let mut now = std::mem::take(&mut self.now);
        let differs = now.differs(&self.known);
        now.inherit(&self.known, differs);
        let before = std::mem::replace(&mut self.known, now);
        self.round += 1;
        differs.map(|hop| PathChanged { round: self.round, flow, hop, from: before.told(), to: self.known.told() })
    }
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
    /// Probes of one flow under way at a time.
    ahead: usize,
    /// Nothing: it goes on until [`stop`](Self::stop).
    rounds: Option<u32>,
    interval: Duration,
    timeout: Duration,
    began: Instant,
    flows: Vec<Flow>,
    waiting: Vec<Waiting>,
    seen: BTreeMap<u8, Seen>,
    numbers: u64,
    reached: bool,
    /// Of the round under way.
    reached_now: bool,
    changed: VecDeque<PathChanged>,
    changes: u32,
}

impl Trace {
    /// As the test says.
    pub fn new(test: &TraceTest, now: Instant) -> Self {
        let flow = || Flow { next: 1, due: Some(now), gap: GAP, began: Some(now), ..Flow::default() };
        Self {
            hops: test.hops,
            // Two connections cannot have the same addresses and ports at a time.
            ahead: if test.method == Method::Tcp { 1 } else { AHEAD },
            rounds: test.watch.is_none().then_some(test.rounds.into()),
            interval: Duration::from_millis(test.interval_ms.into()),
            timeout: Duration::from_millis(test.timeout_ms.into()),
            began: now,
            flows: (0..test.flows).map(|_| flow()).collect(),
            waiting: Vec::new(),
            seen: BTreeMap::new(),
            numbers: 0,
            reached: false,
            reached_now: false,
            changed: VecDeque::new(),
            changes: 0,
        }
    }

    /// True when all rounds of all flows are over.
    pub fn is_over(&self) -> bool {
        self.flows.iter().all(|flow| self.is_done(flow))
    }

    fn is_done(&self, flow: &Flow) -> bool {
        self.rounds.is_some_and(|rounds| flow.round >= rounds)
    }

    /// The rounds under way are the last ones.
    pub fn stop(&mut self) {
        self.rounds = self.rounds.or_else(|| self.flows.iter().map(|flow| flow.round + 1).max());
    }

    /// Rounds of all flows that are over.
    pub fn rounds(&self) -> u32 {
        self.flows.iter().map(|flow| flow.round).min().unwrap_or(0)
    }

    /// When something is due, unless an answer comes first.
    pub fn due(&self, now: Instant) -> Instant {
        let expires = self.waiting.iter().map(|waiting| waiting.until).filter(|until| *until > now);
        let sends = (0..self.flows.len()).filter_map(|flow| self.sends(flow, now));
        expires.chain(sends).min().unwrap_or(now)
    }

    /// Probes of a flow that its round waits for.
    fn open(&self, n: usize, now: Instant) -> usize {
        self.waiting.iter().filter(|waiting| usize::from(waiting.step.flow) == n && waiting.until > now).count()
    }

    /// When a flow sends next, as far as answers are not waited for.
    fn sends(&self, n: usize, now: Instant) -> Option<Instant> {
        let flow = &self.flows[n];
        if self.is_done(flow) {
            return None;
        }
        let open = self.open(n, now);
        if flow.next > flow.last(self.hops) {
            // The round is out; the next begins when all of it is answered, and not before its time.
            return (open == 0).then(|| flow.began.unwrap_or(self.began) + self.interval);
        }
        (open < self.ahead).then_some(flow.due).flatten()
    }

    /// The next probe, when one is due. Ends rounds and probes whose time is over.
    pub fn take(&mut self, now: Instant) -> Option<Step> {
        let timeout = self.timeout;
        self.waiting.retain(|waiting| waiting.at + timeout > now);
        for n in 0..self.flows.len() {
            self.turn(n, now);
            let is_due = self.sends(n, now).is_some_and(|at| at <= now);
            if is_due && self.flows[n].next <= self.flows[n].last(self.hops) {
                let flow = &mut self.flows[n];
                let step = Step { number: self.numbers, flow: n as u8, hop: flow.next };
                flow.next += 1;
                let is_known = flow.expected.is_some() || flow.now.end.is_some();
                (flow.left, flow.due) = (Some(now), Some(if is_known { now } else { now + flow.gap }));
                self.numbers += 1;
                self.waiting.push(Waiting { step, round: flow.round, at: now, until: now + timeout });
                self.seen.entry(step.hop).or_default().sent += 1;
                return Some(step);
            }
        }
        None
    }

    /// The next round, when this one is over.
    fn turn(&mut self, n: usize, now: Instant) {
        let (is_answered, is_done) = (self.open(n, now) == 0, self.is_done(&self.flows[n]));
        let flow = &mut self.flows[n];
        let is_out = flow.next > flow.last(self.hops);
        let is_last = self.rounds == Some(flow.round + 1);
        let is_time = flow.began.is_none_or(|began| began + self.interval <= now);
        if !is_done && is_out && is_answered && (is_last || is_time) {
            let changed = flow.settle(n as u8);
            (flow.next, flow.due, flow.began) = (1, Some(now), Some(now));
            self.changes = self.changes.saturating_add(changed.is_some().into());
            self.changed.extend(changed);
        }
    }

    /// A change that was not told yet.
    pub fn change(&mut self) -> Option<PathChanged> {
        self.changed.pop_front()
    }

    /// Somebody answered a probe: by its number, or, where that did not come back, by its flow.
    pub fn answer(&mut self, number: Option<u64>, flow: u8, by: IpAddr, says: &Says, at: Instant) -> Option<u8> {
        let is_it = |waiting: &Waiting| match number {
            Some(number) => waiting.step.number == number,
            None => waiting.step.flow == flow,
        };
        let place = self.waiting.iter().position(is_it)?;
        let Waiting { step, round, at: sent, .. } = self.waiting.remove(place);
        let of = &mut self.flows[usize::from(step.flow)];
        // What comes when its round is over counts, and is no part of the way of the next one.
        let is_now = of.round == round;
        if is_now && of.now.end.is_some_and(|end| step.hop > end) {
            return None;
        }
        let rtt = at.saturating_duration_since(sent);
        self.note(step, by, says, rtt);
        if is_now {
            self.go_on(step, by, says, rtt, at);
        }
        Some(step.hop)
    }

    /// What this round's way is by an answer.
    fn go_on(&mut self, step: Step, by: IpAddr, says: &Says, rtt: Duration, at: Instant) {
        let of = &mut self.flows[usize::from(step.flow)];
        of.now.hops.insert(step.hop, by);
        of.gap = (rtt / 4).min(GAP);
        of.due = of.due.min(of.left.map(|left| left + of.gap)).or(of.due);
        let patience = (rtt * PATIENCE.0).max(PATIENCE.1);
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.step.flow == step.flow) {
            if waiting.step.hop < step.hop {
                waiting.until = waiting.until.min(at + patience);
            }
        }
        if *says == Says::Exceeded {
            // It goes on behind where it ended before.
            of.expected = of.expected.filter(|end| step.hop < *end);
            return;
        }
        self.reached_now |= *says == Says::Reached;
        of.now.end = Some(step.hop);
        of.now.hops.retain(|hop, _| *hop <= step.hop);
        // What was sent beyond the end was no probe of a hop.
        let seen = &mut self.seen;
        self.waiting.retain(|waiting| {
            let is_beyond = waiting.step.flow == step.flow && waiting.step.hop > step.hop;
            if let Some(beyond) = seen.get_mut(&waiting.step.hop).filter(|_| is_beyond) {
                beyond.sent = beyond.sent.saturating_sub(1);
            }
            !is_beyond
        });
    }

    fn note(&mut self, step: Step, by: IpAddr, says: &Says, rtt: Duration) {
        self.reached |= *says == Says::Reached;
        let seen = self.seen.entry(step.hop).or_default();
        seen.received += 1;
        seen.times.add(rtt);
        if seen.routers.len() >= ROUTERS && !seen.routers.contains_key(&by) {
            return;
        }
        let (flows, said) = seen.routers.entry(by).or_default();
        flows.insert(step.flow);
        if let Says::Unreachable(why) = says {
            *said = Some(why.clone());
        }
    }

    /// Whether the target answered since this was asked last.
    pub const fn take_reached(&mut self) -> bool {
        std::mem::replace(&mut self.reached_now, false)
    }

    /// The target answered.
    pub const fn reached(&self) -> bool {
        self.reached
    }

    /// How often a flow went another way than before.
    pub const fn changes(&self) -> u32 {
        self.changes
    }

    /// The way of each flow as far as it is known: of this round, and what is missing of it as before.
    fn ways(&self) -> Vec<Path> {
        let way = |flow: &Flow| {
            let mut way = flow.now.clone();
            way.inherit(&flow.known, way.differs(&flow.known));
            way
        };
        self.flows.iter().map(way).collect()
    }

    /// The last hop that is of interest: the target's, or the last that anybody answered at.
    fn last(&self) -> u8 {
        let ends = self.flows.iter().map(|flow| flow.now.end.or(flow.known.end));
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
            name: None,
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
        let ways = self.ways().into_iter().map(|way| way.hops);
        ways.filter(|hops| !hops.is_empty()).collect::<BTreeSet<_>>().len() as u32
    }

    /// The same while the ways are; see [`path::hash_of_all`].
    pub fn path_hash(&self) -> String {
        path::hash_of_all(self.ways().iter())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use raven_model::diag::Way;
    use raven_model::diag::trace::Watch;

    const MS: Duration = Duration::from_millis(1);

    fn test(rounds: u8, flows: u8) -> TraceTest {
        TraceTest {
            target: "192.0.2.9".to_owned(),
            way: Way::default(),
            method: Method::Udp,
            port: None,
            hops: 30,
            rounds,
            flows,
            interval_ms: 100,
            timeout_ms: 500,
            names: false,
            watch: None,
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
        assert!(trace.reached() && trace.changes() == 0 && trace.paths() == 1);
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
        assert_eq!((trace.paths(), other.paths(), trace.changes()), (2, 1, 0));
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
        let change = trace.change().unwrap();
        assert_eq!((trace.changes(), change.flow, change.hop, trace.change()), (1, 0, 2, None));
        assert_eq!((change.from.hops[1], change.to.hops[1]), (Some(router(2, 0)), Some(router(2, 9))));
        assert_eq!((change.to.hash, change.to.hops.len()), (trace.path_hash(), 6));
    }

    #[test]
    fn a_trace_that_goes_on_sees_ways_become_longer_and_shorter_and_stops() {
        let mut trace = Trace::new(&TraceTest { watch: Some(Watch::default()), ..test(1, 1) }, Instant::now());
        let (mut now, began) = (trace.began, trace.began);
        let mut changes = Vec::new();
        while !trace.is_over() {
            while let Some(step) = trace.take(now) {
                // Six hops, then eight, then four; the last one says nothing for two rounds.
                let length = match trace.rounds() {
                    0..5 => 6,
                    5..10 => 8,
                    _ => 4,
                };
                let says = if step.hop >= length { Says::Reached } else { Says::Exceeded };
                if !(7..9).contains(&trace.rounds()) || step.hop < length {
                    trace.answer(Some(step.number), 0, router(step.hop, 0), &says, now);
                }
            }
            changes.extend(trace.change().map(|change| (change.round, change.hop, change.to.hops.len())));
            if trace.rounds() == 20 {
                trace.stop();
            }
            now += MS;
            assert!(now < began + Duration::from_mins(1), "{trace:?}");
        }
        assert_eq!((changes, trace.rounds()), (vec![(6, 7, 8), (11, 5, 4)], 21));
        assert_eq!((trace.hops().len(), trace.hops()[2].sent), (4, 21));
        assert!(trace.hops()[3].sent == 21 && trace.take_reached() && !trace.take_reached());
    }

    #[test]
    fn few_probes_go_beyond_the_target_and_near_ones_are_found_at_once() {
        for (rtt_us, most_us) in [(100, 2_000), (40_000, 200_000)] {
            let mut trace = Trace::new(&TraceTest { interval_ms: 0, ..test(1, 1) }, Instant::now());
            let (mut now, began, mut beyond) = (trace.began, trace.began, 0);
            let mut under_way = VecDeque::new();
            while !trace.is_over() {
                while let Some(step) = trace.take(now) {
                    beyond += usize::from(step.hop > 6);
                    under_way.push_back((now + Duration::from_micros(rtt_us), step));
                }
                while let Some((at, step)) = under_way.front().copied().filter(|(at, _)| *at <= now) {
                    under_way.pop_front();
                    let (by, says) = six_hops(step);
                    trace.answer(Some(step.number), 0, by, &says, at);
                }
                now += Duration::from_micros(20);
            }
            let took = now - began;
            assert!(beyond <= 10 && took < Duration::from_micros(most_us), "{rtt_us}: {beyond} {took:?}");
            assert_eq!((trace.hops().len(), trace.hops()[5].sent), (6, 1));
        }
    }

    #[test]
    fn who_answers_late_counts_and_holds_nothing_up() {
        let mut trace = Trace::new(&test(3, 1), Instant::now());
        let (mut now, began) = (trace.began, trace.began);
        let mut late = Vec::new();
        while !trace.is_over() {
            while let Some(step) = trace.take(now) {
                if step.hop == 2 {
                    late.push((now + 150 * MS, step));
                } else {
                    let (by, says) = six_hops(step);
                    trace.answer(Some(step.number), 0, by, &says, now + 2 * MS);
                }
            }
            late.retain(|(at, step)| {
                *at > now || trace.answer(Some(step.number), 0, router(2, 0), &Says::Exceeded, *at).is_none()
            });
            now += MS;
            assert!(now < began + Duration::from_secs(10), "{trace:?}");
        }
        assert!(now - began < 400 * MS, "{:?}", now - began);
        assert_eq!((trace.hops()[1].sent, trace.hops()[1].received, trace.changes()), (3, 2, 0));
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

    proptest! {
        /// Numbers that are none, answers that come twice, ends here and there, late: it ends, and what it says is in bounds.
        #[test]
        fn whatever_is_said_a_trace_ends(
            lies in proptest::collection::vec((proptest::option::of(0_u64..150), 0_u8..3, 0_u8..6, 0_u8..3), 0..400),
            method in prop_oneof![Just(Method::Udp), Just(Method::Tcp)],
        ) {
            let mut trace = Trace::new(&TraceTest { timeout_ms: 30, interval_ms: 10, method, ..test(2, 3) }, Instant::now());
            let (mut now, mut lies) = (trace.began, lies.into_iter());
            for _ in 0..10_000 {
                while trace.take(now).is_some() {}
                if trace.is_over() {
                    break;
                }
                if let Some((number, flow, by, says)) = lies.next() {
                    let says = [Says::Exceeded, Says::Reached, Says::Unreachable("no".to_owned())][usize::from(says)].clone();
                    trace.answer(number, flow, router(by, 0), &says, now);
                }
                now += MS;
            }
            prop_assert!(trace.is_over(), "{:?}", trace);
            prop_assert!(trace.hops().iter().all(|hop| hop.hop <= 30 && hop.routers.len() <= ROUTERS));
            prop_assert!(trace.changes() <= 6 && trace.paths() <= 3 && trace.path_hash().len() == 16);
        }
    }
}
