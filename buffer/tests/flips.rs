//! Bits that turn, files that are cut or gone, a segment of a later version: each costs what it held, and no more, and
//! is counted and named.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::process::{answer, child, copy_of, factor, folder, ring_of_child, trials};
use common::{Batch, Dice, MIB, fill, mark, number_of, open, options, read_all, reopen};
use raven_buffer::verify::verify;
use raven_buffer::{Found, RingReader, Why};
use raven_model::units::Seq;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SEGMENT: u64 = MIB / 4;
const QUOTA: u64 = 64 * MIB;
const PAGE: usize = 4096;

/// Records of a block.
const RECORDS: u64 = 50;

/// Times that the appliance starts a process again which damage ends.
const STARTS: usize = 12;

/// A ring of some segments, and what comes next.
fn ring() -> (TempDir, Seq) {
    let dir = folder();
    let mut writer = open(dir.path(), QUOTA, SEGMENT);
    fill(&mut writer, 60, RECORDS as u32, 400);
    (dir, writer.next_seq())
}

fn segments(ring: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(ring.join("syslog")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_stem().is_some_and(|stem| stem.len() == 16));
    files.sort();
    files
}

fn first_of(segment: &Path) -> u64 {
    u64::from_str_radix(segment.file_stem().unwrap().to_str().unwrap(), 16).unwrap()
}

/// As the store does: opens, stores a batch.
#[test]
#[ignore = "a process of the others"]
fn child_stores() {
    let Some(ring) = ring_of_child() else { return };
    let (mut writer, recovery) = reopen(&ring, &options(QUOTA, SEGMENT)).unwrap();
    let from = writer.next_seq().0;
    let batch = Batch::noisy(from, RECORDS as u32, 400);
    writer.append(&batch.bytes, batch.count, 5).unwrap();
    writer.commit(mark(from)).unwrap();
    println!("stored {}", recovery.notes.join("; "));
}

/// As readers do with the store: reads all, reports what is lost, and says which records are there and what was told.
#[test]
#[ignore = "a process of the others"]
fn child_reads() {
    let Some(ring) = ring_of_child() else { return };
    let mut writer = open(&ring, QUOTA, SEGMENT);
    let expected = |n: u64| Batch::noisy((n - 1) / RECORDS * RECORDS + 1, RECORDS as u32, 400);
    let (mut batch, mut held, mut of) = (Batch::default(), 0, u64::MAX);
    let bytes_of_test: u64 = std::env::var_os("RAVEN_TEST_NEXT").unwrap().to_str().unwrap().parse().unwrap();
    let gaps = read_all(&writer, &ring, |seq, _, raw| {
        assert_eq!(number_of(raw), seq.0, "a record under a wrong number");
        if seq.0 < bytes_of_test {
            if of != (seq.0 - 1) / RECORDS {
                (of, batch) = ((seq.0 - 1) / RECORDS, expected(seq.0));
            }
            let frame = raven_model::record::Frames::new(&batch.bytes).nth(((seq.0 - 1) % RECORDS) as usize);
            assert!(frame.unwrap().unwrap().raw == raw, "record {seq} has other bytes");
        }
        held += 1;
    });
    for (first, next) in &gaps {
        (first.0..next.0.min(first.0 + 10_000)).for_each(|at| drop(writer.note_damage(Seq(at))));
    }
    let ledger = writer.ledger().clone();
    assert_eq!(held + ledger.damaged + ledger.evicted, writer.next_seq().0 - 1, "every record is held or counted");
    assert!(ledger.losses.iter().all(|loss| !loss.note.is_empty()), "a loss without a word: {ledger:?}");
    drop(writer);
    let view = verify(&ring, "syslog", |_| {}).unwrap();
    assert!(!view.problems.iter().any(|problem| problem.contains("NOT in")), "{:?}", view.problems);
    let lost = ledger.losses.iter().map(|loss| format!("{}-{}", loss.first, loss.next));
    println!("lost {}", lost.collect::<Vec<_>>().join(" "));
}

/// What is lost of a ring whose records below `next` were stored, after the store and a reader have been at it as often
/// as damage ended them. The seqs are those of the test's own records.
fn lost(ring: &Path, next: Seq, what: &str) -> (Vec<(u64, u64)>, String) {
    let stored = again(what, || answer(&mut child("child_stores", ring), "stored "));
    let next = next.0;
    let read = again(what, || answer(child("child_reads", ring).env("RAVEN_TEST_NEXT", next.to_string()), "lost "));
    let range = |text: &str| {
        let (first, upto) = text.split_once('-').unwrap();
        (first.parse::<u64>().unwrap(), upto.parse::<u64>().unwrap().min(next))
    };
    (read.split(' ').filter(|text| !text.is_empty()).map(range).filter(|(first, _)| *first < next).collect(), stored)
}

fn again(what: &str, mut ask: impl FnMut() -> Result<String, String>) -> String {
    let mut ends = Vec::new();
    while ends.len() < STARTS {
        match ask() {
            Ok(answer) => return answer,
            Err(end) => {
                assert!(end.contains("signal: 11") || end.contains("signal: 7"), "{what}: {end}");
                ends.push(end);
            }
        }
    }
    panic!("{what}: it never gets over it: {}", ends[0]);
}

/// Which pages of a segment hold blocks, by LMDB's page headers (flags at 10, for P_OVERFLOW = 4 their number at 12).
fn is_value(bytes: &[u8], page: usize) -> bool {
    let mut at = 0;
    while at <= page {
        let head = &bytes[at * PAGE..at * PAGE + 16];
        let pages = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
        let run = if u16::from_le_bytes([head[10], head[11]]) & 4 == 0 { 1 } else { pages.max(1) };
        if page < at + run {
            return run > 1 || head[10] & 4 != 0;
        }
        at += run;
    }
    false
}

#[test]
fn a_bit_that_turns_costs_at_most_its_block() {
    let (template, next) = ring();
    let ((trials, mut dice), mut sums) = (trials(25), [0_u64; 4]);
    for trial in 0..trials {
        let dir = copy_of(template.path());
        let files = segments(dir.path());
        let n = dice.below(files.len() as u64) as usize;
        let (segment, from) = (&files[n], first_of(&files[n]));
        let upto = files.get(n + 1).map_or(next.0, |behind| first_of(behind));
        let bytes = fs::read(segment).unwrap();
        let (at, bit) = (dice.below(bytes.len() as u64), dice.below(8));
        let file = OpenOptions::new().write(true).open(segment).unwrap();
        file.write_all_at(&[bytes[at as usize] ^ 1 << bit], at).unwrap();
        let value = is_value(&bytes, at as usize / PAGE);
        let what = format!("trial {trial}: bit {bit} of byte {at} of {} ({value})", segment.display());
        let (lost, _) = lost(dir.path(), next, &what);
        let records: u64 = lost.iter().map(|(first, next)| next - first).sum();
        assert!(lost.iter().all(|(first, next)| *first >= from && *next <= upto), "{what}: others are lost: {lost:?}");
        if value {
            assert!(records == 0 || records == RECORDS, "{what}: {lost:?}");
        }
        sums[if records == 0 {
            0
        } else if records <= RECORDS {
            1
        } else {
            2
        }] += 1;
        sums[3] += u64::from(!value);
    }
    let [none, block, more, tree] = sums;
    println!(
        "figures: {trials} bits: {none} harmless, {block} cost a block, {more} more than one; {tree} were in the tree"
    );
    assert!(block > trials / 4 && more <= tree, "{sums:?}");
}

#[test]
fn a_file_that_is_cut_or_gone_costs_what_it_held() {
    let (template, next) = ring();
    let files = files_below(template.path());
    let (mut dice, mut harmless, mut trials) = (Dice(factor() + 3), 0, 0);
    for file in &files {
        // Gone, empty, cut at some page, cut anywhere.
        for way in 0..4 {
            let dir = copy_of(template.path());
            let path = dir.path().join(file);
            let len = fs::metadata(&path).unwrap().len();
            let cut = |at: u64| OpenOptions::new().write(true).open(&path).unwrap().set_len(at).unwrap();
            match way {
                0 => fs::remove_file(&path).unwrap(),
                1 => cut(0),
                2 => cut(dice.below(len / PAGE as u64 + 1) * PAGE as u64),
                _ => cut(dice.below(len.max(1))),
            }
            let what = format!("{} {}", ["without", "empty", "cut at a page", "cut"][way], file.display());
            let (lost, said) = lost(dir.path(), next, &what);
            let of_segment = file.starts_with("syslog") && file.extension().is_some_and(|ext| ext == "mdb");
            if lost.is_empty() {
                harmless += 1;
            } else {
                assert!(of_segment, "{what}: {lost:?}");
                let from = first_of(file);
                let behind = segments(template.path()).iter().map(|path| first_of(path)).find(|first| *first > from);
                let upto = behind.unwrap_or(next.0);
                assert!(lost.iter().all(|(a, b)| *a >= from && *b <= upto), "{what}: others are lost: {lost:?}");
                assert!(said.contains(&format!("{from:016x}.mdb")), "{what}: it is not named: {said}");
            }
            trials += 1;
        }
    }
    println!("figures: {trials} files cut or gone, {harmless} harmless");
    assert!(trials > 20 && harmless < trials, "{harmless} of {trials}");
}

/// Paths below `root`, relative to it.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["syslog", "catalogue"] {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        files.extend(entries.map(|name| Path::new(folder).join(name)));
    }
    files.sort();
    files
}

/// Makes all blocks of a segment those of the version after this.
fn make_newer(segment: &Path) {
    let mut bytes = fs::read(segment).unwrap();
    let heads: Vec<usize> = (0..bytes.len() - 80).filter(|at| &bytes[*at..at + 4] == b"RvnB").collect();
    for at in heads {
        bytes[at + 4] = 3;
        let crc = crc32c::crc32c(&bytes[at..at + 76]);
        bytes[at + 76..at + 80].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(segment, bytes).unwrap();
}

fn set_aside(ring: &Path) -> Vec<u8> {
    let aside: Vec<_> = fs::read_dir(ring.join("quarantine")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    fs::read(&aside[0]).unwrap()
}

const WORD: &str = "was written by a newer Raven (version 3 of the block format, this Raven reads up to 2)";

#[test]
fn a_newest_segment_of_a_later_version_is_left_as_it_is_and_the_rest_is_served() {
    let (dir, next) = ring();
    let newest = segments(dir.path()).pop().unwrap();
    make_newer(&newest);
    let before = fs::read(&newest).unwrap();
    let (lost, said) = lost(dir.path(), next, "newer");
    assert_eq!(lost, [(first_of(&newest), next.0)]);
    assert!(said.contains(WORD) && said.contains("kept as"), "{said}");
    assert!(set_aside(dir.path()) == before, "it was changed");
    println!("figures: the newest set aside unchanged, {} records counted", next.0 - first_of(&newest));
}

#[test]
fn a_sealed_segment_of_a_later_version_is_set_aside_when_it_is_read() {
    let (dir, next) = ring();
    let files = segments(dir.path());
    make_newer(&files[1]);
    let (before, from, upto) = (fs::read(&files[1]).unwrap(), Seq(first_of(&files[1])), Seq(first_of(&files[2])));
    let mut reader = RingReader::open(dir.path(), "syslog").unwrap();
    let Found::Gap { next: behind, why } = reader.find(from).unwrap() else { panic!("it was read") };
    assert!(behind == upto && why.contains(WORD), "{behind} {why}");
    let mut writer = open(dir.path(), QUOTA, SEGMENT);
    assert_eq!(writer.note_damage(from).unwrap(), upto.0 - from.0);
    assert_eq!(writer.note_damage(from).unwrap(), 0, "counted once");
    let loss = writer.ledger().losses.last().unwrap().clone();
    assert!(
        (loss.first, loss.next, loss.why) == (from, upto, Why::Quarantined) && loss.note.contains(WORD),
        "{loss:?}"
    );
    assert!(set_aside(dir.path()) == before, "it was changed");
    let mut held = 0;
    assert_eq!(read_all(&writer, dir.path(), |_, _, _| held += 1), [(from, upto)]);
    assert_eq!(held, next.0 - 1 - (upto.0 - from.0));
    assert_eq!(writer.evictable(None, &BTreeMap::new()), None);
    println!("figures: a sealed one set aside unchanged, {} records counted", upto.0 - from.0);
}

#[test]
fn a_sealed_segment_that_cannot_be_opened_is_set_aside_and_counted_when_a_reader_finds_it() {
    let (dir, next) = ring();
    let files = segments(dir.path());
    let (bytes, lost) = (fs::read(&files[0]).unwrap(), first_of(&files[1]) - 1);
    // A bit of LMDB's magic number.
    OpenOptions::new().write(true).open(&files[0]).unwrap().write_all_at(&[bytes[16] ^ 1], 16).unwrap();
    let mut writer = open(dir.path(), QUOTA, SEGMENT);
    assert_eq!(read_all(&writer, dir.path(), |_, _, _| ()), [(Seq(1), Seq(lost + 1))]);
    assert_eq!(writer.note_damage(Seq(7)).unwrap(), lost);
    assert_eq!(writer.note_damage(Seq(7)).unwrap(), 0, "counted once");
    assert_eq!((writer.ledger().damaged, writer.next_seq()), (lost, next));
}
