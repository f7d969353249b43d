//! A wall clock that jumps by ten years, forward and back, while records come: they are kept, found and counted as ever,
//! and age removes nothing that a destination has not.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::process::{folder, trials};
use common::{Batch, Dice, MIB, START_NS, mark, number_of, numbered, open, read_all};
use raven_buffer::verify::verify;
use raven_buffer::{Found, RingReader, RingWriter, Why};
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const TEN_YEARS: i64 = 10 * 365 * 86_400 * 1_000_000_000;

/// Where the clock may jump to.
const JUMPS: [i64; 4] = [0, TEN_YEARS, -TEN_YEARS, 0];

/// Records, and the clock that they were stamped by.
struct Life {
    dice: Dice,
    /// Whether it jumps forward too.
    forward: bool,
    jump: i64,
    walls: Vec<u64>,
}

impl Life {
    /// A batch of records, a second each.
    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..50 {
            let n = self.walls.len() as u64 + 1;
            let wall = (START_NS + n * 1_000_000_000).saturating_add_signed(self.jump);
            let mut raw = numbered(n).into_bytes();
            raw.extend(self.dice.bytes(300));
            batch.add("192.0.2.7:514", 1, wall, &raw);
            self.walls.push(wall);
        }
        batch
    }

    fn store(&mut self, writer: &mut RingWriter) {
        if self.dice.below(5) == 0 {
            let jump = JUMPS[self.dice.below(4) as usize];
            self.jump = if self.forward { jump } else { jump.min(0) };
        }
        let batch = self.batch();
        writer.append(&batch.bytes, batch.count, self.jump).unwrap();
        writer.commit(mark(self.walls.len() as u64)).unwrap();
    }

    /// The clock now, which need not be right either.
    fn now(&mut self) -> UnixNanos {
        let jump = JUMPS[self.dice.below(4) as usize];
        UnixNanos((START_NS + self.walls.len() as u64 * 1_000_000_000).saturating_add_signed(jump))
    }
}

/// Whole segments that age removes by this clock; none that was not acknowledged.
fn age(writer: &mut RingWriter, life: &mut Life, acked: Seq) -> u64 {
    let (now, low, mut gone) = (life.now(), BTreeMap::from([("noc".to_owned(), acked)]), 0);
    while let Some(eviction) = writer.evictable(Some(now), &low) {
        assert_eq!(eviction.why, Why::Age);
        assert!(eviction.next.0 <= acked.0 + 1, "{eviction:?} goes, {acked} is acknowledged");
        gone += eviction.records;
        writer.evict(&eviction, BTreeMap::new()).unwrap();
    }
    gone
}

/// Records at or behind a time, found by the heads of blocks first, as a search does.
fn found_since(ring: &Path, writer: &RingWriter, since: u64) -> Vec<u64> {
    let mut reader = RingReader::open(ring, "syslog").unwrap().sparse();
    let (mut at, mut found) = (writer.first_seq(), Vec::new());
    while at < writer.open_first() {
        let mut passed = at;
        let block = reader.find_wanted(at, &mut |head, _| {
            passed = head.next();
            head.last_wall.0 >= since
        });
        at = match block.unwrap() {
            Some(Found::Block(block)) => {
                let meant = block.records().filter(|(_, record)| record.received.wall.0 >= since);
                found.extend(meant.map(|(seq, _)| seq.0));
                block.next()
            }
            None => passed,
            Some(other) => panic!("{other:?}"),
        };
    }
    found
}

fn live(dice: Dice, forward: bool) -> (u64, u64) {
    let dir = folder();
    let mut life = Life { dice, forward, jump: 0, walls: Vec::new() };
    let mut writer = open(dir.path(), 64 * MIB, MIB / 4);
    let (mut gone, mut acked, start) = (0, Seq(0), Instant::now());
    for step in 1..=80 {
        life.store(&mut writer);
        if life.dice.below(8) == 0 {
            acked = Seq(life.dice.below(writer.next_seq().0).max(acked.0));
        }
        gone += age(&mut writer, &mut life, acked);
        let status = writer.status(start + Duration::from_secs(step));
        assert!(status.rate.is_finite() && status.rate <= 51.0, "{status:?}");
        assert!(status.forecast.iter().all(|of| (0.0..1e6).contains(&of.bytes_per_s)), "{status:?}");
        assert_eq!((status.held + status.evicted, status.evicted), (status.stored, gone));
        if life.dice.below(20) == 0 {
            drop(writer);
            writer = open(dir.path(), 64 * MIB, MIB / 4);
        }
    }
    let first = writer.first_seq();
    let mut next = first;
    let gaps = read_all(&writer, dir.path(), |seq, _, raw| {
        assert_eq!((seq, number_of(raw)), (next, next.0));
        next = next.plus(1);
    });
    assert_eq!((gaps, next), (vec![], writer.next_seq()));
    for _ in 0..20 {
        let since = life.now().0.saturating_sub(life.dice.below(4_000) * 1_000_000_000);
        let there = (first.0..writer.open_first().0).filter(|seq| life.walls[*seq as usize - 1] >= since);
        assert_eq!(found_since(dir.path(), &writer, since), there.collect::<Vec<_>>());
    }
    drop(writer);
    assert_eq!(verify(dir.path(), "syslog", |_| {}).unwrap().problems, Vec::<String>::new());
    (life.walls.len() as u64, gone)
}

#[test]
fn a_clock_that_jumps_ten_years_loses_and_hides_nothing() {
    let ((lives, mut dice), mut records, mut gone) = (trials(3), 0, 0);
    for life in 0..lives {
        let (stored, went) = live(Dice(dice.roll()), life % 2 > 0);
        records += stored;
        gone += went;
    }
    println!("figures: {lives} lives, {records} records, {gone} gone by age, all acknowledged before");
    assert!(gone > 0, "age came to nothing");
}

#[test]
fn a_record_of_the_future_keeps_nothing_from_going_by_age() {
    let dir = folder();
    let mut life = Life { dice: Dice(7), forward: true, jump: 0, walls: Vec::new() };
    let mut writer = open(dir.path(), 64 * MIB, MIB / 4);
    for step in 0..60 {
        // In the first segment.
        life.jump = if step == 2 { TEN_YEARS } else { 0 };
        let batch = life.batch();
        writer.append(&batch.bytes, batch.count, life.jump).unwrap();
        writer.commit(mark(life.walls.len() as u64)).unwrap();
    }
    let acked = BTreeMap::from([("noc".to_owned(), writer.next_seq())]);
    let at = |after: u64| Some(UnixNanos(START_NS + after * 1_000_000_000));
    assert_eq!(writer.evictable(at(3_000), &acked), None, "not as old as it is kept");
    let eviction = writer.evictable(at(400 * 86_400), &acked).expect("its records are a year old, but for one");
    assert_eq!((eviction.why, eviction.first, writer.first_seq()), (Why::Age, Seq(1), Seq(1)));
}
