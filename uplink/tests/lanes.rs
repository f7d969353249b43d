//! The two lanes against a link that goes down, loses answers and whose uplink is killed: a simulation without sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use proptest::prelude::*;
use raven_model::units::{Seq, UnixNanos};
use raven_uplink::fleet::Saved;
use raven_uplink::lanes::{GAPS_MAX, Lane};
use raven_uplink::standing::{Place, Standing, Way};
use std::time::Duration;
use tokio::time::Instant;

const STEP: Duration = Duration::from_millis(100);
/// A good link.
const LINK: u64 = 800;
/// Five seconds.
const SOON: usize = 50;

#[derive(Default)]
struct LaneSim {
    at: Seq,
    under_way: Vec<u64>,
    silent: u32,
}

struct World {
    now: Instant,
    dice: u64,
    heads: Vec<u64>,
    is_up: bool,
    /// Records that the link takes in a step, both lanes together.
    link: u64,
    /// Steps since anything went wrong.
    well: usize,
    standing: Standing,
    lanes: [LaneSim; 2],
    /// How often each record was received.
    received: Vec<u8>,
    newest: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let saved = Saved::default();
        Self {
            now: Instant::now(),
            dice: seed | 1,
            heads: vec![1],
            is_up: true,
            link: LINK,
            well: 0,
            standing: Standing::new(Some(saved), Way::default()),
            lanes: <[LaneSim; 2]>::default(),
            received: vec![1],
            newest: 0,
        }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % below
    }

    fn head(&self) -> u64 {
        *self.heads.last().unwrap()
    }

    fn step(&mut self, arriving: u64, has_faults: bool) {
        self.now += STEP;
        self.well += 1;
        self.heads.push(self.head() + arriving);
        self.received.resize(self.head() as usize, 0);
        if has_faults && self.roll(60) == 0 {
            self.is_up = !self.is_up;
            self.well = 0;
        }
        if has_faults && self.roll(200) == 0 {
            // Killed: what was saved comes back, what was under way may have arrived.
            self.standing = Standing::new(Some(self.standing.saved()), Way::default());
            self.lanes = <[LaneSim; 2]>::default();
            self.well = 0;
        }
        self.standing.lanes.note_head(self.now, Seq(self.head()));
        for lane in [Lane::Live, Lane::Backfill] {
            self.answer(lane, has_faults);
        }
        let mut room = if self.is_up { self.link } else { 0 };
        for lane in [Lane::Live, Lane::Backfill] {
            room -= self.hand_out(lane, room);
        }
    }

    fn answer(&mut self, lane: Lane, has_faults: bool) {
        let sent = std::mem::take(&mut self.lanes[lane as usize].under_way);
        if sent.is_empty() {
            return;
        }
        if !self.is_up {
            let sim = &mut self.lanes[lane as usize];
            (sim.under_way, sim.silent) = (sent, sim.silent + 1);
            if sim.silent > 20 {
                self.fail(lane);
            }
            return;
        }
        self.lanes[lane as usize].silent = 0;
        for &seq in &sent {
            self.received[seq as usize] += 1;
            self.newest = self.newest.max(seq);
        }
        // The connection breaks: all arrived, and only the first answers came back.
        let breaks = has_faults && self.roll(40) == 0;
        let answered = if breaks { self.roll(sent.len() as u64) as usize } else { sent.len() };
        self.standing.acked(sent[..answered].iter().copied().map(Seq));
        if breaks {
            self.fail(lane);
        }
    }

    fn fail(&mut self, lane: Lane) {
        self.well = 0;
        self.standing.give_back(lane);
        self.lanes[lane as usize] = LaneSim::default();
    }

    fn hand_out(&mut self, lane: Lane, room: u64) -> u64 {
        let (at, head, now) = (self.lanes[lane as usize].at, Seq(self.head()), self.now);
        if room == 0 || !self.lanes[lane as usize].under_way.is_empty() {
            return 0;
        }
        let Place::At { next, end, bytes, records } = self.standing.place(lane, at, head, now) else { return 0 };
        let most = room.min(records).min(bytes.div_ceil(100));
        let stop = end.map_or(head.0, |end| end.0.min(head.0)).min(next.0.saturating_add(most));
        if stop <= next.0 {
            self.lanes[lane as usize].at = next;
            return 0;
        }
        let seqs: Vec<u64> = (next.0..stop).filter(|seq| !self.standing.progress.covers(Seq(*seq))).collect();
        let other = &self.lanes[1 - lane as usize].under_way;
        assert!(!seqs.iter().any(|seq| other.binary_search(seq).is_ok()), "a record is under way in both lanes");
        let count = seqs.len() as u64;
        let span = (next, Seq(stop - 1));
        self.standing.handed(lane, span, (count, count * 100), UnixNanos(1), now);
        self.lanes[lane as usize] = LaneSim { at: Seq(stop), under_way: seqs, silent: 0 };
        count
    }

    fn check(&self) {
        let progress = &self.standing.progress;
        let lost = (1..self.head()).find(|seq| progress.covers(Seq(*seq)) && self.received[*seq as usize] == 0);
        assert_eq!(lost, None, "counted as acknowledged and never received");
    }

    fn check_present(&self) {
        if self.is_up && self.well > SOON {
            let then = self.heads[self.heads.len() - SOON];
            assert!(self.newest + 1 >= then, "five seconds after healing it is at {} of {then}", self.newest);
        }
    }

    /// No more faults: everything arrives.
    fn heal(&mut self) {
        (self.is_up, self.well) = (true, 0);
        for _ in 0..10_000 {
            self.step(50, false);
            self.check_present();
            if self.standing.progress.low().0 + 200 > self.head()
                && self.standing.lanes.backlog(&self.standing.progress) == 0
            {
                break;
            }
        }
        for _ in 0..30 {
            self.step(0, false);
        }
        assert_eq!(self.standing.progress.low().0 + 1, self.head(), "everything is acknowledged");
        self.check();
        assert!(self.received.iter().all(|times| *times > 0), "nothing was skipped");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn outages_kills_and_lost_answers_skip_nothing_and_the_present_is_back_within_seconds(seed: u64) {
        let mut world = World::new(seed);
        for step in 0..400 {
            let arriving = world.roll(600);
            world.step(arriving, true);
            world.check_present();
            if step % 100 == 0 {
                world.check();
            }
        }
        world.heal();
    }
}

#[test]
fn a_link_without_faults_carries_each_record_once() {
    let mut world = World::new(7);
    for outage in [0, 300, 300] {
        for step in 0..900 {
            // Down without anything under way: nothing has to be sent twice.
            world.is_up = step >= outage;
            world.step(if step == 0 && outage > 0 { 0 } else { 300 }, false);
        }
    }
    world.heal();
    let repeated = world.received.iter().skip(1).filter(|times| **times > 1).count();
    assert!(repeated <= 2 * LINK as usize, "{repeated} records came twice; one window for each outage may");
    assert!(world.standing.lanes.jumps >= 2, "the second outage fell into the backfill of the first");
}

#[test]
fn a_receiver_that_is_always_too_slow_has_bounded_gaps_and_sees_the_present() {
    let mut world = World::new(3);
    world.link = 20;
    for _ in 0..12_000 {
        world.step(60, false);
    }
    world.check();
    world.check_present();
    assert!(world.standing.lanes.jumps > GAPS_MAX as u64 + 20, "{}", world.standing.lanes.jumps);
    assert!(world.standing.progress.range_count() <= GAPS_MAX + 1, "{}", world.standing.progress.range_count());
    world.link = LINK;
    world.heal();
}
