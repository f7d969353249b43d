//! Power cuts: what a process wrote is watched call by call, the disk that a cut could leave at each sync is built, and
//! the real recovery opens it. With a control: a disk that says it synced and did not must be found out.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod disk;

use common::process::{answer, child_told, factor, folder, ring_of_child, told};
use common::promise::{QUOTA, SEGMENT, put, verdict};
use common::{Dice, mark, options, reopen};
use disk::trace::{can_trace, record};
use disk::{Disk, Step, sync_points};
use raven_buffer::{Cursor, Cursors};
use raven_model::units::Seq;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// Stores, rolls, evicts, and says what it promises.
#[test]
#[ignore = "a process of what_was_acknowledged"]
fn child_writes() {
    let Some(ring) = ring_of_child() else { return };
    let mut dice = Dice(told("RAVEN_TEST_SEED"));
    let (mut writer, _) = reopen(&ring, &options(QUOTA, SEGMENT)).unwrap();
    let mut next = writer.mark().map_or(0, |mark| mark.batch);
    for _ in 0..told("RAVEN_TEST_COMMITS") {
        for _ in 0..=dice.below(16) {
            put(&mut writer, next);
            next += 1;
        }
        writer.commit(mark(next)).unwrap();
        println!("ack {next}");
        if dice.below(4) == 0 {
            writer.save_contexts_now().unwrap();
            println!("contexts {next}");
        }
        while let Some(eviction) = writer.evictable(None, &BTreeMap::new()) {
            println!("evict {}", eviction.next);
            writer.evict(&eviction, BTreeMap::from([("noc".to_owned(), eviction.records)])).unwrap();
        }
    }
}

/// Holds what a power cut left against what was promised.
#[test]
#[ignore = "a process of what_was_acknowledged"]
fn child_judges() {
    if let Some(ring) = ring_of_child() {
        println!("verdict: {}", verdict(&ring));
    }
}

/// Opens the cursors that are left and holds them against what was acknowledged.
#[test]
#[ignore = "a process of cursors"]
fn child_judges_cursors() {
    let Some(dir) = ring_of_child() else { return };
    let verdict = match Cursors::open(&dir) {
        Err(error) => format!("it does not open: {error}"),
        Ok((cursors, notes)) if notes.is_empty() => {
            let low = cursors.load("noc", "syslog").unwrap().unwrap_or_default().low.0;
            cursors.save(&[("noc", "syslog", &Cursor { low: Seq(low + 1), above: vec![] })]).unwrap();
            if low >= told("ack") { "sound".to_owned() } else { format!("{low} is less than was acknowledged") }
        }
        Ok((_, notes)) => notes.join("; "),
    };
    println!("verdict: {verdict}");
}

#[test]
#[ignore = "a process of cursors"]
fn child_writes_cursors() {
    let Some(dir) = ring_of_child() else { return };
    let (cursors, _) = Cursors::open(&dir).unwrap();
    let from = cursors.load("noc", "syslog").unwrap().unwrap_or_default().low.0;
    for low in from + 1..=from + told("RAVEN_TEST_COMMITS") {
        let above = (0..low % 50).map(|n| (Seq(low + 10 * n + 5), Seq(low + 10 * n + 7))).collect();
        cursors.save(&[("noc", "syslog", &Cursor { low: Seq(low), above })]).unwrap();
        println!("ack {low}");
    }
}

/// What a process does, and what judges the disk it leaves.
struct Story {
    writes: &'static str,
    judges: &'static str,
}

const RING: Story = Story { writes: "child_writes", judges: "child_judges" };
const CURSORS: Story = Story { writes: "child_writes_cursors", judges: "child_judges_cursors" };

/// What was promised, by word.
type Promised = Vec<(&'static str, u64)>;

/// What had been promised before, and by then.
fn promised(before: &Promised, steps: &[Step]) -> Promised {
    before.iter().map(|(word, n)| (*word, newest(steps, word).max(*n))).collect()
}

fn newest(steps: &[Step], word: &str) -> u64 {
    let said = steps.iter().rev().filter_map(|step| if let Step::Said(line) = step { Some(line) } else { None });
    said.filter_map(|line| line.split_once(' ')).find(|(said, _)| *said == word).map_or(0, |(_, n)| n.parse().unwrap())
}

impl Story {
    fn record(&self, dir: &Path, seed: u64, commits: u64) -> (Vec<Step>, usize) {
        record(&child_told(self.writes, dir, &[("RAVEN_TEST_SEED", seed), ("RAVEN_TEST_COMMITS", commits)]), dir)
    }

    /// `None` when what is left is sound.
    fn flaw(&self, image: &Path, promised: &[(&str, u64)]) -> Option<String> {
        match answer(&mut child_told(self.judges, image, promised), "verdict: ") {
            Ok(verdict) if verdict == "sound" => None,
            Ok(flaw) | Err(flaw) => Some(flaw),
        }
    }

    /// Cuts at each `every`th sync, while it is under way and when it is done.
    fn cut_honest_disk(&self, steps: &[Step], begun: &Begun, every: u64, dice: &mut Dice) -> Cuts {
        let (mut disk, mut held, points) = (Disk::default(), begun.held.clone(), sync_points(steps));
        let mut cuts = Cuts { sound: 0, flaws: Vec::new(), left: None };
        for (at, step) in steps.iter().enumerate() {
            if let Step::Said(_) = step {
                held = promised(&held, std::slice::from_ref(step));
            }
            let here = at >= begun.steps && points.binary_search(&at).is_ok() && dice.below(every) == 0;
            disk.begin(step);
            for done in [false, true] {
                if done {
                    disk.finish(step);
                }
                if here {
                    let image = folder();
                    disk.cut(dice, image.path());
                    match self.flaw(image.path(), &held) {
                        None => cuts.sound += 1,
                        Some(flaw) => cuts.flaws.push(format!("cut at step {at} of {}: {flaw}", steps.len())),
                    }
                    if cuts.left.is_none() || dice.below(8) == 0 {
                        let left = folder();
                        disk.cut(dice, left.path());
                        cuts.left = Some((left, held.clone()));
                    }
                }
            }
        }
        cuts
    }

    /// The same right behind acknowledgements, on a disk that lies about every sync, or only about those since the
    /// acknowledgement before. How many of how many images are found to lack something.
    fn cut_lying_disk(&self, steps: &[Step], begun: &Begun, always: bool, dice: &mut Dice) -> (u64, u64) {
        let is_ack = |step: &Step| matches!(step, Step::Said(line) if line.starts_with("ack "));
        let acks: Vec<usize> = (begun.steps..steps.len()).filter(|at| is_ack(&steps[*at])).collect();
        let mut found = 0;
        for _ in 0..LIES {
            let n = 1 + dice.below(acks.len() as u64 - 1) as usize;
            let lies_from = if always { begun.steps } else { acks[n - 1] };
            let (upto, image) = (&steps[..=acks[n]], folder());
            Disk::after(upto, lies_from).cut(dice, image.path());
            found += u64::from(self.flaw(image.path(), &promised(&begun.held, upto)).is_some());
        }
        (found, LIES)
    }

    /// Lives one after the other, each on what a power cut left of the one before.
    fn live(&self, lives: u64, commits: u64, every: u64) {
        if !can_trace() {
            return;
        }
        let (mut dice, mut dir) = (Dice(lives * 77 + 5), folder());
        let mut held: Promised = ["ack", "evict", "contexts"].map(|word| (word, 0)).to_vec();
        let (mut sound, mut flaws, mut lies) = (0, Vec::new(), [(0, 0); 2]);
        for life in 0..lives {
            let (steps, before) = self.record(dir.path(), life * 31 + 1, commits);
            let begun = Begun { steps: before, held };
            let cuts = self.cut_honest_disk(&steps, &begun, every, &mut dice);
            sound += cuts.sound;
            flaws.extend(cuts.flaws.into_iter().map(|flaw| format!("life {life}, {flaw}")));
            for (always, sum) in [true, false].into_iter().zip(&mut lies) {
                let (found, of) = self.cut_lying_disk(&steps, &begun, always, &mut dice);
                *sum = (sum.0 + found, sum.1 + of);
            }
            (dir, held) = cuts.left.unwrap();
        }
        let [always, newest] = lies.map(|(found, of)| format!("{found} of {of}"));
        println!(
            "figures: {} images, {} with flaws; control: flaws found in {always} of a disk that never syncs, {newest} of one \
             that forgets the newest commit",
            sound + flaws.len() as u64,
            flaws.len(),
        );
        assert!(flaws.is_empty(), "{} flaws, {sound} sound: {:#?}", flaws.len(), &flaws[..flaws.len().min(10)]);
        assert!(sound > 0 && lies.iter().all(|(found, of)| found * 2 > *of), "the control was not found out: {lies:?}");
    }
}

/// Where a life begins: what was on the disk, as so many steps, and what had been promised.
struct Begun {
    steps: usize,
    held: Promised,
}

/// What came of cutting.
struct Cuts {
    sound: u64,
    flaws: Vec<String>,
    /// A disk to go on from.
    left: Option<(TempDir, Promised)>,
}

/// Images of each lying disk in a life.
const LIES: u64 = 6;

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut_at_any_sync() {
    RING.live(1 + factor(), 40, if factor() > 1 { 1 } else { 6 });
}

#[test]
fn cursors_are_there_after_a_power_cut_at_any_sync() {
    CURSORS.live(1 + factor(), 30, if factor() > 1 { 1 } else { 4 });
}
