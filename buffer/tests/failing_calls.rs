//! A disk whose writes and syncs fail now and then, at any call: the store says so, goes on, and loses nothing that it
//! acknowledged. The calls are made to fail from outside, by strace.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::process::{answer, child_told, folder, ring_of_child, trials};
use common::promise::{QUOTA, SEGMENT, put, verdict};
use common::{mark, options, reopen};
use raven_buffer::{RingError, RingWriter};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Calls that fail: all by which the ring changes but opening.
const CALLS: &str = "pwrite64,pwritev,fsync,fdatasync,fallocate,ftruncate,rename,unlink";

/// Failures in a row that are more than the dice can give.
const PATIENCE: usize = 200;

/// Repeats until it works, and counts the failures.
fn insist<T>(failures: &mut u64, mut what: impl FnMut() -> Result<T, RingError>) -> T {
    for _ in 0..PATIENCE {
        match what() {
            Ok(done) => return done,
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("error") || text.contains("space"), "it does not say why: {text}");
                *failures += 1;
            }
        }
    }
    panic!("it never works again")
}

#[test]
#[ignore = "a process of a_disk_that_fails"]
fn child_insists() {
    let Some(ring) = ring_of_child() else { return };
    let mut failures = 0;
    let (mut writer, recovery) = insist(&mut failures, || reopen(&ring, &options(QUOTA, SEGMENT)));
    let (mut notes, mut evict, mut next) = (recovery.notes, 0, 0);
    for _ in 0..40 {
        for _ in 0..8 {
            put(&mut writer, next);
            next += 1;
        }
        insist(&mut failures, || writer.commit(mark(next)));
        failures += u64::from(writer.save_contexts_now().is_err());
        evict = make_room(&mut writer, &mut failures).max(evict);
        if next % 96 == 0 {
            drop(writer);
            let (again, recovery) = insist(&mut failures, || reopen(&ring, &options(QUOTA, SEGMENT)));
            writer = again;
            notes.extend(recovery.notes);
        }
    }
    println!("told {next} {evict} {failures} {}", notes.join("; "));
}

fn make_room(writer: &mut RingWriter, failures: &mut u64) -> u64 {
    let mut evict = 0;
    while let Some(eviction) = writer.evictable(None, &BTreeMap::new()) {
        evict = eviction.next.0;
        insist(failures, || writer.evict(&eviction, BTreeMap::new()));
    }
    evict
}

#[test]
#[ignore = "a process of a_disk_that_fails"]
fn child_judges() {
    if let Some(ring) = ring_of_child() {
        println!("verdict: {}", verdict(&ring));
    }
}

/// The child, with each `every`th call from the `first` on failing.
fn failing(ring: &Path, error: &str, first: u64, every: u64) -> Command {
    let child = child_told("child_insists", ring, &[]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}"), "-e", "signal=none", "-e"]);
    strace.arg(format!("inject={CALLS}:error={error}:when={first}+{every}")).arg(child.get_program());
    strace.args(child.get_args()).env("RAVEN_TEST_RING", ring);
    strace
}

#[test]
fn a_disk_that_fails_now_and_then_costs_nothing_that_was_acknowledged() {
    if Command::new("strace").arg("-V").output().is_err() {
        return eprintln!("SKIPPED: this test makes system calls fail, which needs strace");
    }
    let ((trials, mut dice), mut failed) = (trials(8), 0);
    for trial in 0..trials {
        let (dir, error) = (folder(), ["EIO", "ENOSPC"][trial as usize % 2]);
        // Often, but so that opening and beginning a segment, some twenty calls each, can come to an end.
        let (first, every) = (1 + dice.below(60), 24 + dice.below(40));
        let what = format!("trial {trial}: {error} at each {every}th call from the {first}th on");
        let said =
            answer(&mut failing(dir.path(), error, first, every), "told ").unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut parts = said.splitn(4, ' ');
        let mut number = || parts.next().unwrap().parse::<u64>().unwrap();
        let (ack, evict, failures) = (number(), number(), number());
        failed += failures;
        let verdict = answer(
            &mut child_told("child_judges", dir.path(), &[("ack", ack), ("evict", evict), ("contexts", 0)]),
            "verdict: ",
        );
        assert_eq!(verdict.as_deref(), Ok("sound"), "{what}, {said}");
    }
    println!("figures: {trials} lives, {failed} failures told, nothing lost");
    assert!(failed > trials, "{failed} failures in {trials} lives");
}
