//! Context comes with the records that need it, and its history outlives restarts and damage.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Batch, Dice, MIB, fill, mark, number_of, open, options, read_all, reopen};
use raven_buffer::verify::verify;
use raven_buffer::{Block, ContextTable, Entry, Found, Refused, RingError, RingReader, RingWriter};
use raven_model::record::Contexts;
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

type Known = BTreeMap<Vec<u8>, Vec<u8>>;

fn append(writer: &mut RingWriter, batch: &Batch) {
    writer.append(&batch.bytes, batch.count, 5).unwrap();
}

/// A batch of numbered records with contexts among them, and what it brought before each record.
fn mixed(dice: &mut Dice, from: u64, records: u64) -> (Batch, Vec<Known>) {
    let (mut batch, mut brought, mut known) = (Batch::default(), Known::new(), Vec::new());
    for n in from..from + records {
        while dice.below(5) == 0 {
            let (key, length) = (vec![dice.below(20) as u8], [0, 10, 300, 3000][dice.below(4) as usize]);
            let value = vec![dice.below(3) as u8; length];
            batch.context(n, &key, &value);
            brought.insert(key, value);
        }
        batch.extend(&Batch::noisy(n, 1, dice.below(1500) as usize));
        known.push(brought.clone());
    }
    (batch, known)
}

fn blocks(writer: &RingWriter, ring: &Path) -> Vec<Block> {
    let mut reader = RingReader::open(ring, "syslog").unwrap();
    let (mut at, mut blocks) = (writer.first_seq(), Vec::new());
    while at < writer.next_seq() {
        let block = match reader.find(at).unwrap() {
            Found::Block(block) => block,
            Found::Open => {
                let (first, value) = writer.block_at(at).unwrap().unwrap();
                Block::decode(first, &value).unwrap()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(block.first, at);
        at = block.next();
        blocks.push(block);
    }
    blocks
}

/// All versions, in an order.
fn told(table: &ContextTable) -> Vec<(Vec<u8>, Vec<u8>, u64, u64)> {
    let mut all: Vec<_> =
        table.iter().map(|v| (v.key.to_vec(), v.value.to_vec(), v.first_seen.0, v.last_seen.0)).collect();
    all.sort();
    all
}

#[test]
fn every_record_finds_its_context_over_commits_rolls_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut dice, mut known) = (open(dir.path(), 64 * MIB, MIB), Dice(77), Vec::new());
    let mut committed = 0;
    for round in 1..200 {
        let records = dice.below(60);
        let (batch, more) = mixed(&mut dice, known.len() as u64 + 1, records);
        append(&mut writer, &batch);
        known.extend(more);
        if dice.below(3) == 0 {
            assert_eq!(writer.commit(mark(round)).unwrap(), Seq(known.len() as u64 + 1));
            committed = known.len();
        }
        if dice.below(20) == 0 {
            drop(writer);
            writer = open(dir.path(), 64 * MIB, MIB);
            known.truncate(committed);
        }
    }
    known.truncate(committed);
    let mut at = 0;
    for block in blocks(&writer, dir.path()) {
        let mut in_force = Known::new();
        for entry in block.entries() {
            match entry {
                Entry::Context(_, context) => {
                    in_force.insert(context.key.to_vec(), context.value.to_vec());
                }
                Entry::Record(seq, record) => {
                    assert_eq!((seq.0, number_of(record.raw)), (at as u64 + 1, at as u64 + 1));
                    let brought = &known[at];
                    assert!(brought.iter().all(|(key, value)| in_force.get(key) == Some(value)), "record {seq}");
                    at += 1;
                }
            }
        }
    }
    assert_eq!(at, committed);
    assert!(RingReader::open(dir.path(), "syslog").unwrap().sealed().len() >= 2);
    assert_eq!(writer.listener_counts()["udp:[::]:514"].records, committed as u64, "context is not counted");
    drop(writer);
    let view = verify(dir.path(), "syslog", |_| {}).unwrap();
    assert_eq!((view.problems, view.records), (vec![], committed as u64));
}

#[test]
fn a_refused_batch_leaves_the_contexts_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let mut good = Batch::default();
    good.context(1, b"k", b"good");
    good.record(1);
    append(&mut writer, &good);
    let before = (told(writer.contexts()), writer.contexts().version());
    let mut bad = Batch::default();
    bad.context(2, b"k", b"bad");
    bad.context(2, b"other", b"bad");
    bad.record(2);
    assert!(writer.append(&bad.bytes, 2, 5).is_err());
    assert!(writer.append(&bad.bytes[..bad.bytes.len() - 1], 3, 5).is_err());
    let mut large = Batch::default();
    for n in 0..5 {
        large.context(3, &[n], &vec![0; 60_000]);
    }
    large.record(3);
    let refused = writer.append(&large.bytes, large.count, 5).unwrap_err();
    assert!(matches!(refused, Refused::Contexts { .. }) && refused.to_string().contains("a block holds 262144"));
    assert_eq!((told(writer.contexts()), writer.contexts().version()), before);
    let counts = writer.listener_counts();
    assert_eq!(counts.values().map(|count| count.refused).sum::<u64>(), 3, "records, not frames: {counts:?}");
    append(&mut writer, &good);
    writer.commit(mark(1)).unwrap();
    let block = blocks(&writer, dir.path()).remove(0);
    let contexts: Vec<_> = block.entries().filter(|entry| matches!(entry, Entry::Context(..))).collect();
    assert_eq!((contexts.len(), block.count), (1, 2), "{contexts:?}");
}

#[test]
fn a_batch_of_context_alone_is_remembered_and_stores_no_block() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let mut batch = Batch::default();
    batch.context(7, b"k", b"value");
    append(&mut writer, &batch);
    assert_eq!(writer.commit(mark(1)).unwrap(), Seq(1));
    assert_eq!((writer.mark(), writer.block_at(Seq(1)).unwrap()), (Some(mark(1)), None));
    assert_eq!(writer.contexts().in_force(b"k"), Some(&b"value"[..]));
    assert!(writer.save_contexts_now().unwrap());
    drop(writer);
    let (writer, recovery) = reopen(dir.path(), &options(64 * MIB, MIB)).unwrap();
    assert_eq!(recovery.notes, Vec::<String>::new());
    assert_eq!(writer.contexts().in_force(b"k"), Some(&b"value"[..]));
    let snapshot = writer.contexts().snapshot(1000);
    assert_eq!(Contexts::new(&snapshot).map(|context| context.value).collect::<Vec<_>>(), [b"value"]);
}

#[test]
fn contexts_are_saved_when_they_change_and_not_too_often() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    assert!(!writer.save_contexts(after(0)).unwrap(), "nothing changed");
    let note = |writer: &mut RingWriter, value: &[u8]| {
        let mut batch = Batch::default();
        batch.context(7, b"k", value);
        append(writer, &batch);
    };
    note(&mut writer, b"one");
    assert!(writer.save_contexts(after(0)).unwrap());
    note(&mut writer, b"two");
    assert!(!writer.save_contexts(after(900)).unwrap(), "too early");
    let loaded = || ContextTable::load(dir.path(), "syslog").unwrap();
    assert_eq!(loaded().in_force(b"k"), Some(&b"one"[..]));
    assert!(writer.save_contexts(after(1000)).unwrap());
    assert_eq!(told(&loaded()), told(writer.contexts()));
    note(&mut writer, b"two");
    assert!(!writer.save_contexts(after(5000)).unwrap(), "only seen again");
    assert!(writer.save_contexts_now().unwrap());
    assert!(!writer.save_contexts_now().unwrap());
    // A large table is written less often.
    let mut batch = Batch::default();
    (0..80).for_each(|n| batch.context(8, &[n], &vec![n; 60_000]));
    append(&mut writer, &batch);
    assert!(writer.save_contexts(after(10_000)).unwrap());
    note(&mut writer, b"three");
    assert!(!writer.save_contexts(after(14_000)).unwrap());
    assert!(writer.save_contexts(after(15_000)).unwrap());
    assert!(ContextTable::load(dir.path(), "no such stream").unwrap().is_empty());
}

/// A ring whose blocks bring contexts, the saved table being of the same; `k` changes with each batch.
fn with_history(ring: &Path, batches: u64) -> Vec<(Vec<u8>, Vec<u8>, u64, u64)> {
    let mut writer = open(ring, 64 * MIB, MIB);
    for n in 1..=batches {
        let mut batch = Batch::default();
        batch.context(n, b"k", &n.to_le_bytes());
        batch.context(n, b"same", b"value");
        batch.record(n);
        append(&mut writer, &batch);
        writer.commit(mark(n)).unwrap();
    }
    writer.save_contexts_now().unwrap();
    told(writer.contexts())
}

#[test]
fn a_lost_or_damaged_table_is_told_and_read_back_from_the_newest_blocks() {
    for damage in ["missing", "damaged", "short", "of a newer Raven"] {
        let dir = tempfile::tempdir().unwrap();
        let before = with_history(dir.path(), 5);
        let path = dir.path().join("syslog/contexts");
        let mut bytes = fs::read(&path).unwrap();
        match damage {
            "missing" => fs::remove_file(&path).unwrap(),
            "damaged" => *bytes.last_mut().unwrap() ^= 1,
            "short" => bytes.truncate(7),
            _ => bytes[4] = 9,
        }
        if damage != "missing" {
            fs::write(&path, &bytes).unwrap();
            let error = ContextTable::load(dir.path(), "syslog").unwrap_err();
            assert!(matches!(error, RingError::Damaged { .. }), "{error}");
        }
        let (writer, recovery) = reopen(dir.path(), &options(64 * MIB, MIB)).unwrap();
        assert_eq!(told(writer.contexts()), before, "{damage}");
        assert!(recovery.notes.len() == 1 && recovery.notes[0].contains("6 contexts are read back"), "{recovery:?}");
        drop(writer);
        let (writer, recovery) = reopen(dir.path(), &options(64 * MIB, MIB)).unwrap();
        assert_eq!((told(writer.contexts()), recovery.notes), (before, vec![]), "{damage}: written anew");
    }
}

#[test]
fn no_more_than_the_newest_blocks_are_read_back_also_behind_a_roll() {
    let dir = tempfile::tempdir().unwrap();
    with_history(dir.path(), 400);
    fs::remove_file(dir.path().join("syslog/contexts")).unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let first = writer.contexts().iter().find(|version| version.key == b"same").unwrap().first_seen;
    assert_eq!(first, UnixNanos(400 - 256 + 1));
    assert_eq!(writer.contexts().in_force(b"k"), Some(&400_u64.to_le_bytes()[..]));
    // A segment that was just begun has none of them.
    let rolled = writer.open_first();
    while writer.open_first() == rolled {
        fill(&mut writer, 1, 10, 3000);
    }
    let mut batch = Batch::default();
    batch.context(9, b"late", b"value");
    batch.record(writer.next_seq().0);
    append(&mut writer, &batch);
    writer.commit(mark(1000)).unwrap();
    drop(writer);
    fs::remove_file(dir.path().join("syslog/contexts")).unwrap();
    let (writer, recovery) = reopen(dir.path(), &options(64 * MIB, MIB)).unwrap();
    assert_eq!(recovery.notes.len(), 1);
    assert_eq!(writer.contexts().in_force(b"late"), Some(&b"value"[..]));
    assert_eq!(writer.contexts().in_force(b"k"), Some(&400_u64.to_le_bytes()[..]), "from the segment before");
}

#[test]
fn a_ring_without_context_says_nothing_about_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 3, 10, 0);
    drop(writer);
    // As an older Raven left it.
    fs::remove_file(dir.path().join("syslog/contexts")).unwrap();
    let (writer, recovery) = reopen(dir.path(), &options(64 * MIB, MIB)).unwrap();
    assert_eq!(recovery.notes, Vec::<String>::new());
    assert!(writer.contexts().is_empty() && ContextTable::load(dir.path(), "syslog").unwrap().is_empty());
}

#[test]
fn a_commit_that_failed_and_is_repeated_stores_context_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 1, 10, 0);
    let mut batch = Batch::default();
    batch.context(1, b"k", b"value");
    (11..=20).for_each(|n| batch.record(n));
    append(&mut writer, &batch);
    // The segment is opened anew by the commit, and is not there. `rest` closes it first.
    let segment = dir.path().join("syslog/0000000000000001.mdb");
    let aside = dir.path().join("aside");
    fs::rename(&segment, &aside).unwrap();
    fs::create_dir(&segment).unwrap();
    writer.rest();
    for _ in 0..3 {
        assert!(writer.commit(mark(2)).is_err());
    }
    append(&mut writer, &{
        let mut batch = Batch::default();
        batch.context(2, b"k", b"value");
        batch.record(21);
        batch
    });
    fs::remove_dir(&segment).unwrap();
    fs::rename(&aside, &segment).unwrap();
    assert_eq!(writer.commit(mark(3)).unwrap(), Seq(22));
    let blocks = blocks(&writer, dir.path());
    let shapes: Vec<_> = blocks.iter().map(|block| (block.entries().count(), block.count)).collect();
    // The commit that failed had ended its block, so the next one brings its context again.
    assert_eq!(shapes, [(10, 10), (11, 10), (2, 1)]);
    let mut next = 1;
    let gaps = read_all(&writer, dir.path(), |seq, _, raw| {
        assert_eq!((seq.0, number_of(raw)), (next, next));
        next += 1;
    });
    assert_eq!((gaps, next), (vec![], 22));
}
