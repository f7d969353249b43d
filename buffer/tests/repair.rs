//! A check that runs in steps beside the writer, what a repair does about what it finds, and the filter of senders.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Batch, Dice, MIB, START_NS, fill, mark, open};
use raven_buffer::verify::{Asked, Checked, Found as Problems, Verify};
use raven_buffer::{Found, RingReader, RingWriter, Why};
use raven_model::prefix::Prefix;
use raven_model::units::{Seq, UnixNanos};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

fn segment(ring: &Path, first: Seq) -> PathBuf {
    ring.join(format!("syslog/{:016x}.mdb", first.0))
}

/// A ring with several sealed segments, and their first seqs.
fn ring(dir: &Path) -> (RingWriter, Vec<Seq>) {
    let mut writer = open(dir, 64 * MIB, MIB);
    fill(&mut writer, 40, 100, 1000);
    let sealed = RingReader::open(dir, "syslog").unwrap().sealed().to_vec();
    assert!(sealed.len() >= 3, "{sealed:?}");
    (writer, sealed)
}

/// As the decode role does it: the open segment is asked from the writer. Returns the steps that it took, too.
fn check(ring: &Path, writer: &RingWriter) -> (Problems, usize) {
    let mut verify = Verify::beside_store(ring, "syslog", writer.next_seq()).unwrap();
    let mut ask = |seq: Seq| match writer.block_at(seq).unwrap() {
        _ if seq < writer.open_first() => Asked::Sealed,
        Some((first, value)) => Asked::Block(first, value),
        None => Asked::End,
    };
    let mut steps = 1;
    while verify.step(&mut ask).unwrap() != Checked::All {
        steps += 1;
        assert!(steps < 10_000, "it has no end");
    }
    (verify.finish(), steps)
}

/// Has the writer mend all that was found, as `raven ring repair` does; returns the records newly counted.
fn mend(writer: &mut RingWriter, found: &Problems) -> u64 {
    let lost: u64 = found.uncounted.iter().map(|(first, _)| writer.repair(*first).unwrap().lost).sum();
    writer.repair(Seq(0)).unwrap();
    lost
}

/// Changes a byte of the last occurrence of `needle` in a file.
fn spoil(path: &Path, needle: &[u8]) {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(needle.len()).rposition(|window| window == needle).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[!bytes[at + needle.len() + 200]], (at + needle.len() + 200) as u64).unwrap();
}

#[test]
fn a_check_beside_the_writer_reads_all_in_many_steps() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, sealed) = ring(dir.path());
    let (found, steps) = check(dir.path(), &writer);
    assert_eq!((found.view.problems, found.uncounted), (vec![], vec![]));
    assert_eq!((found.view.records, found.view.next_seq), (4000, writer.next_seq()));
    assert_eq!(found.view.segments, sealed.len() as u64 + 1);
    assert!(steps > sealed.len(), "{steps} steps");
}

#[test]
fn a_segment_that_is_sealed_during_the_check_is_read_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 5, 100, 1000);
    let until = Seq(1501);
    let mut verify = Verify::beside_store(dir.path(), "syslog", until).unwrap();
    fill(&mut writer, 10, 100, 1000);
    let mut ask = |seq: Seq| match writer.block_at(seq).unwrap() {
        _ if seq < writer.open_first() => Asked::Sealed,
        Some((first, value)) => Asked::Block(first, value),
        None => Asked::End,
    };
    while verify.step(&mut ask).unwrap() != Checked::All {}
    let view = verify.finish().view;
    assert_eq!((view.problems, view.records, view.next_seq), (vec![], 1500, until));
}

#[test]
fn a_damaged_block_is_counted_once_and_its_neighbours_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, sealed) = ring(dir.path());
    spoil(&segment(dir.path(), sealed[1]), b"RvnB");
    let (found, _) = check(dir.path(), &writer);
    assert_eq!(found.uncounted.len(), 1, "{:?}", found.view.problems);
    assert!(found.view.problems[0].contains("NOT in the loss ledger"), "{:?}", found.view.problems);
    let lost = mend(&mut writer, &found);
    assert_eq!(lost, found.uncounted[0].1.0 - found.uncounted[0].0.0);
    let (again, _) = check(dir.path(), &writer);
    assert!(again.uncounted.is_empty() && again.view.problems[0].contains("counted in the loss ledger"));
    assert_eq!((mend(&mut writer, &found), writer.ledger().damaged), (0, lost));
    assert_eq!(again.view.records + lost, 4000);
}

#[test]
fn a_segment_that_cannot_be_opened_is_set_aside_and_counted_with_its_times() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, sealed) = ring(dir.path());
    let path = segment(dir.path(), sealed[1]);
    // Both of LMDB's meta pages.
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xa5; 8192], 0).unwrap();
    let (found, _) = check(dir.path(), &writer);
    assert_eq!(found.uncounted, [(sealed[1], sealed[2])], "{:?}", found.view.problems);
    assert_eq!(mend(&mut writer, &found), sealed[2].0 - sealed[1].0);
    assert!(!path.exists() && fs::read_dir(dir.path().join("quarantine")).unwrap().count() == 1);
    let loss = writer.ledger().losses.last().unwrap().clone();
    let wall = |seq: Seq| Some(UnixNanos(START_NS + seq.0 * 1_000_000));
    assert_eq!(
        (loss.why, loss.first_wall, loss.last_wall),
        (Why::Quarantined, wall(sealed[1]), wall(Seq(sealed[2].0 - 1)))
    );
    assert_eq!(mend(&mut writer, &found), 0, "safe to repeat");
    drop(writer);
    let (writer, recovery) = common::reopen(dir.path(), &common::options(64 * MIB, MIB)).unwrap();
    assert_eq!((recovery.damaged, recovery.quarantined), (0, 0), "{:?}", recovery.notes);
    assert!(check(dir.path(), &writer).0.uncounted.is_empty());
}

#[test]
fn a_segment_that_is_gone_is_counted_as_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, sealed) = ring(dir.path());
    fs::remove_file(segment(dir.path(), sealed[1])).unwrap();
    let (found, _) = check(dir.path(), &writer);
    assert_eq!(found.uncounted, [(sealed[1], sealed[2])], "{:?}", found.view.problems);
    assert_eq!(mend(&mut writer, &found), sealed[2].0 - sealed[1].0);
    assert_eq!(writer.ledger().losses.last().unwrap().why, Why::Missing);
    assert!(check(dir.path(), &writer).0.uncounted.is_empty());
}

#[test]
fn blocks_without_the_sender_are_passed_over_and_none_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let mut dice = Dice(7);
    for n in 0..200_u64 {
        let mut batch = Batch::default();
        for i in 0..20 {
            batch.add(&format!("10.{}.0.{i}:514", n % 50), 1, START_NS + n, &dice.bytes(2000));
        }
        writer.append(&batch.bytes, batch.count, 5).unwrap();
        writer.commit(mark(n)).unwrap();
    }
    let mut reader = RingReader::open(dir.path(), "syslog").unwrap().sparse();
    for (wanted, share) in [("10.7.0.3", 1), ("10.7.0.0/24", 20), ("203.0.113.1", 0)] {
        let wanted: Prefix = wanted.parse().unwrap();
        let (mut at, mut passed, mut read, mut hits) = (Seq(1), 0, 0, 0);
        while at < reader.open_first().unwrap() {
            let mut next = at;
            let found = reader.find_wanted(at, &mut |head, value| {
                next = head.next();
                head.may_hold(value, &wanted)
            });
            match found.unwrap() {
                Some(Found::Block(block)) => {
                    read += 1;
                    hits += block.records().filter(|(_, record)| wanted.holds(record.received.source.ip())).count();
                }
                None => passed += 1,
                other => panic!("{other:?}"),
            }
            at = next;
        }
        // Every fiftieth block is from that network, one in twenty of its records from that sender.
        let there = (1..at.0).filter(|seq| (seq - 1) / 20 % 50 == 7).count();
        assert_eq!(hits, there / 20 * share, "{wanted}");
        assert!(passed > read * 20, "{wanted}: {read} blocks read, {passed} passed over");
        assert!(hits > 0 || share == 0);
    }
}
