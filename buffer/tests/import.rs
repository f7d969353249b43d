//! Records of another box in the ring: as they were, once, whatever dies.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Batch, MIB, START_NS, open, options, read_all, reopen};
use raven_buffer::block::Entry;
use raven_buffer::{BatchMark, Block, BlockHead, Piece, RingReader, RingWriter, Took};
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use tempfile::tempdir;

const MARK: BatchMark = BatchMark { epoch: 1, batch: 1, pos: 0 };

/// Blocks of 10 records of another box, received a day before ours.
fn piece(n: u64) -> Piece {
    let first = Seq(101 + n * 10);
    let mut batch = Batch::default();
    batch.context(START_NS, b"template", b"theirs");
    let wall = |i: u64| START_NS - 86_400_000_000_000 + (n * 10 + i) * 1_000_000;
    for i in 0..10 {
        batch.add("198.51.100.9:2055", 1, wall(i), format!("of another box {}", first.0 + i).as_bytes());
    }
    Piece {
        stream: "syslog".to_owned(),
        device: "arena".to_owned(),
        first,
        count: 10,
        first_wall: UnixNanos(wall(0)),
        last_wall: UnixNanos(wall(9)),
        boot_id: [9; 16],
        mono_offset_ns: 77,
        listeners: BTreeMap::from([(1, "udp:[::]:9999".to_owned())]),
        frames: batch.bytes,
    }
}

fn ask(n: u64) -> Piece {
    Piece { frames: Vec::new(), ..piece(n) }
}

/// Every record by its text, in order.
fn texts(writer: &RingWriter, ring: &Path) -> Vec<String> {
    let mut all = Vec::new();
    read_all(writer, ring, |_, _, raw| all.push(String::from_utf8_lossy(raw).into_owned()));
    all
}

/// Of the open segment, which is the only one.
fn blocks(writer: &RingWriter) -> Vec<(Seq, Vec<u8>)> {
    let (mut all, mut at) = (Vec::new(), Seq(1));
    while let Some((first, value)) = writer.block_at(at).unwrap() {
        at = BlockHead::read(&value).unwrap().next();
        all.push((first, value));
    }
    all
}

fn status_of(writer: &mut RingWriter) -> (u64, u64, u64, u64) {
    let status = writer.status(Instant::now());
    assert!(status.gaps.is_empty());
    (status.received, status.stored, status.held, status.imported)
}

#[test]
fn imported_records_keep_what_they_were_and_leave_ours_alone() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, 16 * MIB);
    let ours = Batch::numbered(1, 5);
    writer.append(&ours.bytes, ours.count, 7).unwrap();
    assert_eq!(writer.import(&piece(0)), Ok(Took::Stored));
    let ours = Batch::numbered(6, 5);
    writer.append(&ours.bytes, ours.count, 7).unwrap();
    writer.commit(MARK).unwrap();
    let heads: Vec<_> = blocks(&writer).iter().map(|(_, value)| BlockHead::read(value).unwrap()).collect();
    let told: Vec<_> = heads.iter().map(|h| (h.count, h.imported, h.boot_id[0], h.mono_offset_ns)).collect();
    assert_eq!(told, [(5, false, 7, 7), (10, true, 9, 77), (5, false, 7, 7)]);
    assert_eq!((heads[1].first_wall, heads[1].last_wall), (piece(0).first_wall, piece(0).last_wall));
    let value = writer.block_at(Seq(6)).unwrap().unwrap().1;
    let block = Block::decode(Seq(6), &value).unwrap();
    let (_, record) = block.records().next().unwrap();
    assert_eq!(record.received.source, "198.51.100.9:2055".parse().unwrap());
    assert_eq!(block.listener_name(record.received.listener), "udp:[::]:9999");
    assert!(block.entries().any(|entry| matches!(entry, Entry::Context(_, context) if context.value == b"theirs")));
    assert!(writer.contexts().is_empty(), "a stranger's template is in force nowhere");
    assert_eq!(status_of(&mut writer), (20, 20, 20, 10));
    assert_eq!(writer.listener_counts()["udp:[::]:9999"].records, 10);
    assert_eq!(writer.listener_counts()["udp:[::]:514"].records, 10);
}

#[test]
fn a_piece_that_comes_again_is_here() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, 16 * MIB);
    assert_eq!(writer.import(&ask(0)), Ok(Took::New));
    for n in 0..3 {
        assert_eq!(writer.import(&piece(n)), Ok(Took::Stored));
    }
    assert_eq!(writer.import(&piece(1)), Ok(Took::Stored), "it waits for the same commit, and is not taken twice");
    writer.commit(MARK).unwrap();
    for n in 0..3 {
        assert_eq!((writer.import(&piece(n)), writer.import(&ask(n))), (Ok(Took::Here), Ok(Took::Here)));
    }
    assert_eq!(writer.import(&ask(3)), Ok(Took::New));
    let other = Piece { device: "hall".to_owned(), ..piece(1) };
    assert_eq!(writer.import(&other), Ok(Took::Stored), "another box has its own numbers");
    writer.commit(MARK).unwrap();
    assert_eq!(status_of(&mut writer), (40, 40, 40, 40));
}

#[test]
fn after_a_kill_what_was_committed_is_here_and_the_rest_is_new() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, 16 * MIB);
    writer.import(&piece(0)).unwrap();
    writer.commit(MARK).unwrap();
    writer.import(&piece(1)).unwrap();
    drop(writer);
    let (mut writer, recovery) = reopen(dir.path(), &options(64 * MIB, 16 * MIB)).unwrap();
    assert!(recovery.notes.is_empty(), "{:?}", recovery.notes);
    assert_eq!(writer.import(&ask(0)), Ok(Took::Here));
    for n in 0..3 {
        writer.import(&piece(n)).unwrap();
    }
    writer.commit(MARK).unwrap();
    let want: Vec<String> = (101..131).map(|n| format!("of another box {n}")).collect();
    assert_eq!(texts(&writer, dir.path()), want);
    // One range of them, though it came in two lives.
    let ledger = RingReader::open(dir.path(), "syslog").unwrap().ledger();
    assert_eq!((ledger.imports.len(), ledger.imported_ranges()), (1, vec![Seq(1)..Seq(31)]));
}

#[test]
fn a_lost_catalogue_and_a_lost_table_of_contexts_let_nothing_in_twice() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, 16 * MIB);
    writer.import(&piece(0)).unwrap();
    writer.commit(MARK).unwrap();
    drop(writer);
    for file in ["catalogue/syslog.mdb", "syslog/ledger.json", "syslog/contexts"] {
        std::fs::remove_file(dir.path().join(file)).unwrap();
    }
    let (mut writer, _) = reopen(dir.path(), &options(64 * MIB, 16 * MIB)).unwrap();
    assert_eq!(writer.import(&piece(0)), Ok(Took::Here));
    assert!(writer.contexts().is_empty(), "their context is not read back as ours");
}

#[test]
fn what_is_no_run_of_so_many_records_is_refused_and_changes_nothing() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, 16 * MIB);
    assert!(writer.import(&Piece { count: 9, ..piece(0) }).is_err());
    let mut cut = piece(0);
    cut.frames.pop();
    assert!(writer.import(&cut).is_err());
    let ours = Batch::numbered(1, 1);
    writer.append(&ours.bytes, ours.count, 7).unwrap();
    writer.commit(MARK).unwrap();
    assert_eq!(status_of(&mut writer), (1, 1, 1, 0));
    assert!(!BlockHead::read(&writer.block_at(Seq(1)).unwrap().unwrap().1).unwrap().imported);
    assert_eq!(writer.import(&ask(0)), Ok(Took::New));
}

#[test]
fn imports_go_over_segments_and_are_evicted_as_all_else() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 8 * MIB, MIB);
    let noisy = |n: u64| {
        let batch = Batch::noisy(1000 * n, 500, 400);
        let walls = (START_NS + 1000 * n * 1_000_000, START_NS + (1000 * n + 499) * 1_000_000);
        Piece {
            first: Seq(1 + n * 500),
            count: 500,
            first_wall: UnixNanos(walls.0),
            last_wall: UnixNanos(walls.1),
            frames: batch.bytes,
            ..piece(0)
        }
    };
    for n in 0..60 {
        assert_eq!(writer.import(&noisy(n)), Ok(Took::Stored));
        writer.commit(MARK).unwrap();
        while let Some(eviction) = writer.evictable(None, &BTreeMap::new()) {
            writer.evict(&eviction, BTreeMap::new()).unwrap();
        }
    }
    let (received, stored, held, imported) = status_of(&mut writer);
    assert_eq!((received, stored, imported), (30_000, 30_000, 30_000));
    assert_eq!(held + writer.ledger().evicted, 30_000);
    assert!(writer.ledger().evicted > 0);
    assert_eq!(writer.import(&noisy(0)), Ok(Took::Here), "it was here");
}
