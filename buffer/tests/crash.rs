//! Processes that die, disks that fill, bytes that change: what was acknowledged is there, or is counted.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::process::{SmallDisk, child, copy_of, ring_of_child, said, spawned, trials};
use common::promise::{is_of_another_box, mistaken, put};
use common::{Batch, Dice, MIB, fill, mark, number_of, open, options, read_all, reopen};
use raven_buffer::verify::verify;
use raven_buffer::{Entry, RingError, RingWriter};
use raven_model::units::Seq;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Batch number n holds records 10 n + 1 to 10 n + 10, so the mark tells the seq.
#[test]
#[ignore = "a process of killed_at_any_time"]
fn child_writer() {
    let Some(ring) = ring_of_child() else { return };
    let mut writer = open(&ring, 6 * MIB, MIB);
    let mut batch = writer.mark().map_or(0, |mark| mark.batch);
    assert_eq!(writer.next_seq().0, batch * 10 + 1, "mark and blocks are of one commit");
    loop {
        for _ in 0..20 {
            put(&mut writer, batch);
            batch += 1;
        }
        writer.commit(mark(batch)).unwrap();
        writer.save_contexts_now().unwrap();
        println!("ack {batch}");
        std::io::stdout().flush().unwrap();
        while let Some(eviction) = writer.evictable(None, &BTreeMap::new()) {
            writer.evict(&eviction, BTreeMap::new()).unwrap();
        }
    }
}

#[test]
fn killed_at_any_time_nothing_acknowledged_is_missing_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let ((kills, mut dice), mut acked) = (trials(60), 0);
    for kill in 0..kills {
        let mut process = spawned(&mut child("child_writer", dir.path()));
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        // Half of the kills fall into opening, the others behind a few commits.
        let mut line = String::new();
        for _ in 0..dice.below(2) * dice.below(8) {
            line.clear();
            lines.read_line(&mut line).unwrap();
            acked = line.trim().strip_prefix("ack ").map_or(acked, |n| n.parse().unwrap());
        }
        std::thread::sleep(Duration::from_micros(dice.below(20_000)));
        process.kill().unwrap();
        process.wait().unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        let last = rest.lines().filter_map(|line| line.strip_prefix("ack ")?.parse::<u64>().ok()).next_back();
        acked = last.unwrap_or(acked);
        let (mut writer, recovery) = reopen(dir.path(), &options(6 * MIB, MIB)).unwrap();
        assert_eq!(recovery.notes, Vec::<String>::new(), "kill {kill}");
        let stored = writer.mark().map_or(0, |mark| mark.batch);
        assert!(stored >= acked, "kill {kill}: {stored} batches stored, {acked} acknowledged");
        assert_eq!(writer.next_seq().0, stored * 10 + 1);
        let mut next = writer.first_seq();
        let gaps = read_all(&writer, dir.path(), |seq, block, raw| {
            assert_eq!((seq, number_of(raw)), (next, next.0));
            next = next.plus(1);
            if seq == block.first {
                let brought = |entry| matches!(entry, Entry::Context(_, context) if context.value == ((seq.0 - 1) / 10).to_le_bytes());
                assert!(block.entries().next().is_some_and(brought), "kill {kill}: the block at {seq}");
            }
        });
        assert_eq!((gaps, next), (vec![], writer.next_seq()), "kill {kill}");
        let known = writer.contexts().in_force(b"key").map(|value| u64::from_le_bytes(value.try_into().unwrap()));
        let own = (0..acked).rev().find(|n| !is_of_another_box(*n));
        assert!(known >= own, "kill {kill}: {known:?}, {acked} acknowledged");
        assert_eq!(mistaken(&mut writer, stored), Vec::<String>::new(), "kill {kill}");
        assert_eq!(writer.ledger().evicted + writer.next_seq().0 - writer.first_seq().0, writer.next_seq().0 - 1);
    }
    assert!(acked > 100, "the writer came to work: {acked}");
}

/// Opens, and does nothing.
#[test]
#[ignore = "a process of killed_while_idle"]
fn child_idles() {
    let Some(ring) = ring_of_child() else { return };
    let (_writer, recovery) = reopen(&ring, &options(6 * MIB, MIB)).unwrap();
    println!("open {}", recovery.notes.join("; "));
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_mins(1));
}

#[test]
fn killed_while_idle_no_segment_is_taken_for_what_killed_it() {
    for batches in [0, 3] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path(), 6 * MIB, MIB);
        fill(&mut writer, batches, 10, 10);
        let (first, next) = (writer.open_first(), writer.next_seq());
        drop(writer);
        for kill in 0..8 {
            let mut process = spawned(&mut child("child_idles", dir.path()));
            let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
            let said = lines.find_map(|line| line.unwrap().split_once("open ").map(|(_, notes)| notes.to_owned()));
            assert_eq!(said.as_deref(), Some(""), "kill {kill}");
            process.kill().unwrap();
            process.wait().unwrap();
        }
        let (writer, recovery) = reopen(dir.path(), &options(6 * MIB, MIB)).unwrap();
        assert_eq!((recovery.notes, writer.open_first(), writer.next_seq()), (vec![], first, next));
    }
}

/// Opens what may be damaged, stores a batch, and says what it found.
#[test]
#[ignore = "a process of damage_is_counted"]
fn child_opens_and_stores() {
    let Some(ring) = ring_of_child() else { return };
    let (mut writer, _) = reopen(&ring, &options(64 * MIB, MIB)).unwrap();
    let from = writer.next_seq();
    let batch = Batch::numbered(from.0, 10);
    writer.append(&batch.bytes, 10, 5).unwrap();
    writer.commit(mark(from.0)).unwrap();
    println!("stored {from}");
}

/// Reads all, reports damage to the writer, and says what is there.
#[test]
#[ignore = "a process of damage_is_counted"]
fn child_reads_all() {
    let Some(ring) = ring_of_child() else { return };
    let mut writer = open(&ring, 64 * MIB, MIB);
    let mut held = 0;
    let gaps = read_all(&writer, &ring, |seq, _, raw| {
        assert_eq!(number_of(raw), seq.0, "a record under a wrong number");
        held += 1;
    });
    for (first, next) in gaps {
        let mut at = first;
        while at < next {
            writer.note_damage(at).unwrap();
            at = at.plus(1);
        }
    }
    let ledger = writer.ledger().clone();
    assert_eq!(held + ledger.damaged + ledger.evicted, writer.next_seq().0 - 1, "every record is held or counted");
    drop(writer);
    let view = verify(&ring, "syslog", |_| {}).unwrap();
    assert_eq!(view.records, held);
    assert!(!view.problems.iter().any(|problem| problem.contains("NOT in")), "{:?}", view.problems);
    println!("held {held}");
}

/// Changes bytes of a file: overwrites some, zeroes a page, or cuts off. Says which.
fn damage(path: &Path, dice: &mut Dice) -> String {
    let file = fs::OpenOptions::new().write(true).read(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let at = dice.below(len);
    match dice.below(4) {
        0 => file.write_all_at(&dice.bytes(4), at.min(len - 4)).map(|()| format!("4 bytes at {at}")),
        1 => file.write_all_at(&[0; 4096], at / 4096 * 4096).map(|()| format!("zeroes at page {}", at / 4096)),
        2 => file.write_all_at(&dice.bytes(512), at.min(len - 512)).map(|()| format!("512 bytes at {at}")),
        _ => file.set_len(at).map(|()| format!("cut at {at} of {len}")),
    }
    .unwrap()
}

#[test]
fn damage_is_counted_and_never_keeps_the_ring_from_opening() {
    let ((trials, mut dice), mut with_loss, mut unread) = (trials(40), 0, 0);
    let template = tempfile::tempdir().unwrap();
    let mut writer = open(template.path(), 64 * MIB, MIB);
    fill(&mut writer, 80, 100, 300);
    let next = writer.next_seq();
    drop(writer);
    for trial in 0..trials {
        let dir = copy_of(template.path());
        let mut files: Vec<_> = fs::read_dir(dir.path().join("syslog")).unwrap().map(|e| e.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ext| ext == "mdb"));
        files.sort();
        // The open segment in half of the trials, the catalogue in a few.
        let victim = match trial % 8 {
            0 => dir.path().join("catalogue/syslog.mdb"),
            1..=4 => files.last().unwrap().clone(),
            _ => files[dice.below(files.len() as u64 - 1) as usize].clone(),
        };
        let kind = damage(&victim, &mut dice);
        let tries: Vec<_> = (0..7).map_while(|_| said("child_opens_and_stores", dir.path(), "stored ").err()).collect();
        assert!(tries.len() < 7, "trial {trial}: {kind} {} keeps the store from working: {tries:?}", victim.display());
        match said("child_reads_all", dir.path(), "held ") {
            Ok(held) => {
                assert!(held + 10 >= next.0 / 2, "trial {trial}: neighbours are readable, {held} of {next}");
                with_loss += u64::from(held < next.0 + 9);
            }
            // LMDB trusts what it maps: a reader may die over a damaged tree, which is why it is a process of its own.
            Err(error) if error.contains("signal") => {
                assert!(!error.contains("signal: 6"), "trial {trial}: {kind} {}: {error}", victim.display());
                unread += 1;
            }
            Err(error) => panic!("trial {trial}: {kind} {}: {error}", victim.display()),
        }
    }
    println!("{trials} trials: {with_loss} with loss, {unread} not readable");
    assert!(with_loss >= trials / 4 && unread <= trials / 5, "{with_loss} with loss, {unread} not readable");
}

#[test]
fn numbers_of_a_lost_open_segment_are_never_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 80, 100, 300);
    let (next, first) = (writer.next_seq(), writer.open_first());
    drop(writer);
    fs::write(dir.path().join(format!("syslog/{:016x}.mdb", first.0)), b"not LMDB").unwrap();
    let (mut writer, recovery) = reopen(dir.path(), &options(64 * MIB, MIB)).unwrap();
    assert_eq!(recovery.quarantined, 1);
    assert!(recovery.notes.iter().any(|note| note.contains("quarantine")), "{:?}", recovery.notes);
    assert!(writer.next_seq() >= next);
    let loss = writer.ledger().losses.last().unwrap().clone();
    assert_eq!((loss.first, loss.next, loss.at_most), (first, writer.next_seq(), true));
    assert!(writer.mark().is_some(), "an older mark: what is still in the receive memory is taken again");
    fill(&mut writer, 3, 10, 10);
    drop(writer);
    let view = verify(dir.path(), "syslog", |_| {}).unwrap();
    assert!(!view.problems.iter().any(|problem| problem.contains("NOT in")), "{:?}", view.problems);
}

#[test]
fn a_ring_without_its_catalogue_is_the_same_ring() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 6 * MIB, MIB);
    fill(&mut writer, 40, 500, 300);
    while let Some(eviction) = writer.evictable(None, &BTreeMap::new()) {
        writer.evict(&eviction, BTreeMap::from([("noc".to_owned(), 3)])).unwrap();
    }
    fill(&mut writer, 1, 10, 10);
    let (ledger, first, next) = (writer.ledger().clone(), writer.first_seq(), writer.next_seq());
    drop(writer);
    fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    fs::remove_file(dir.path().join("syslog/ledger.json")).unwrap();
    let (writer, recovery) = reopen(dir.path(), &options(6 * MIB, MIB)).unwrap();
    assert_eq!(recovery.notes, Vec::<String>::new());
    assert_eq!((writer.ledger(), writer.first_seq(), writer.next_seq()), (&ledger, first, next));
}

#[test]
fn a_segment_that_somebody_removed_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 100, 100, 300);
    let next = writer.next_seq();
    drop(writer);
    let reader = raven_buffer::RingReader::open(dir.path(), "syslog").unwrap();
    let (gone, behind) = (reader.sealed()[1], reader.sealed()[2]);
    fs::remove_file(dir.path().join(format!("syslog/{:016x}.mdb", gone.0))).unwrap();
    let (writer, recovery) = reopen(dir.path(), &options(64 * MIB, MIB)).unwrap();
    assert_eq!((recovery.damaged, writer.next_seq()), (behind.0 - gone.0, next));
    assert!(recovery.notes[0].contains("is gone"), "{:?}", recovery.notes);
    let mut held = 0;
    let gaps = read_all(&writer, dir.path(), |_, _, _| held += 1);
    assert_eq!((gaps, held), (vec![(gone, behind)], next.0 - 1 - recovery.damaged));
}

/// Commits until the disk is full; returns the error.
fn fill_disk(writer: &mut RingWriter) -> RingError {
    loop {
        let from = writer.next_seq().0;
        let batch = Batch::noisy(from, 100, 300);
        writer.append(&batch.bytes, 100, 5).unwrap();
        if let Err(error) = writer.commit(mark(from)) {
            return error;
        }
    }
}

#[test]
fn a_full_disk_is_told_and_storing_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path(), "12m") else { return };
    fs::write(dir.path().join("ballast"), vec![1; 3 << 20]).unwrap();
    let mut writer = open(dir.path(), 1024 * MIB, MIB);
    let error = fill_disk(&mut writer);
    assert!(
        error.is_no_space() && error.to_string().contains("no space left") && error.to_string().contains("syslog"),
        "{error}"
    );
    let (stuck, error) = (writer.next_seq(), error.to_string());
    assert_eq!(writer.status(std::time::Instant::now()).error, Some(error));
    assert!(writer.commit(mark(1)).is_err(), "still full");
    assert_eq!(writer.next_seq(), stuck);
    // Somebody makes room.
    fs::remove_file(dir.path().join("ballast")).unwrap();
    assert_eq!(writer.commit(mark(stuck.0)).unwrap(), stuck.plus(100));
    assert_eq!(writer.status(std::time::Instant::now()).error, None);
    // Nobody does: the oldest goes.
    fill_disk(&mut writer);
    let stuck = writer.next_seq();
    let eviction = writer.evictable(None, &BTreeMap::new()).unwrap();
    writer.evict(&eviction, BTreeMap::new()).unwrap();
    assert_eq!(writer.commit(mark(stuck.0)).unwrap(), stuck.plus(100));
    let mut next = writer.first_seq();
    let gaps = read_all(&writer, dir.path(), |seq, _, raw| {
        assert_eq!((seq, number_of(raw)), (next, next.0));
        next = next.plus(1);
    });
    assert_eq!((gaps, next), (vec![], writer.next_seq()));
    // A full disk keeps nobody from opening what is there.
    fill_disk(&mut writer);
    let (next, mark) = (writer.next_seq(), writer.mark());
    drop(writer);
    let writer = open(dir.path(), 1024 * MIB, MIB);
    assert_eq!((writer.next_seq(), writer.mark()), (next, mark));
}

#[test]
fn a_disk_that_fills_in_the_middle_of_a_commit_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path(), "14m") else { return };
    let mut writer = open(dir.path(), 1024 * MIB, MIB);
    fill(&mut writer, 3, 10, 10);
    fs::write(dir.path().join("ballast"), vec![1; 5 << 20]).unwrap();
    // More than a segment's room, which is all that was taken ahead.
    let batch = Batch::noisy(31, 100, 60_000);
    writer.append(&batch.bytes, 100, 5).unwrap();
    for _ in 0..3 {
        let error = writer.commit(mark(9)).unwrap_err();
        assert!(error.is_no_space() && error.to_string().contains("write to"), "{error}");
        assert_eq!(writer.next_seq(), Seq(31));
    }
    let more = Batch::numbered(131, 5);
    writer.append(&more.bytes, 5, 5).unwrap();
    fs::remove_file(dir.path().join("ballast")).unwrap();
    assert_eq!(writer.commit(mark(10)).unwrap(), Seq(136));
    drop(writer);
    let writer = open(dir.path(), 1024 * MIB, MIB);
    let mut next = 1;
    let gaps = read_all(&writer, dir.path(), |_, _, raw| {
        assert_eq!(number_of(raw), next);
        next += 1;
    });
    assert_eq!((gaps, next, writer.mark()), (vec![], 136, Some(mark(10))));
}

#[test]
fn a_read_only_disk_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path(), "16m") else { return };
    let mut writer = open(dir.path(), 8 * MIB, MIB);
    fill(&mut writer, 10, 10, 10);
    drop(writer);
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(dir.path()).status().unwrap();
    assert!(status.success());
    let Err(error) = reopen(dir.path(), &options(8 * MIB, MIB)) else { panic!("opened for writing") };
    assert!(matches!(error, RingError::ReadOnly { .. }) && error.to_string().contains("read-only"), "{error}");
    let reader = raven_buffer::RingReader::open(dir.path(), "syslog").unwrap();
    assert_eq!(reader.open_first(), Some(Seq(1)));
}
