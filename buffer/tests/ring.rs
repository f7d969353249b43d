//! What goes in comes out, over rolls, restarts and evictions.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Batch, Dice, MIB, START_NS, fill, mark, number_of, open, options, read_all, reopen};
use raven_buffer::verify::verify;
use raven_buffer::{Found, RingError, RingReader, RingWriter, Why};
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn every_byte_comes_back_with_its_source_and_listener() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let mut dice = Dice(1);
    let messages: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        b"a\nb\0c\xff\xfe".to_vec(),
        dice.bytes(65_536),
        vec![b'x'; 65_507],
        b"<13>hello".to_vec(),
    ];
    let sources = ["192.0.2.7:514", "[2001:db8::7]:40000"];
    let mut sent = Vec::new();
    for round in 0..20_u64 {
        let mut batch = Batch::default();
        for (i, message) in messages.iter().enumerate() {
            let (source, listener) = (sources[i % 2], (i % 3) as u8);
            batch.add(source, listener, START_NS + round, message);
            sent.push((source.to_owned(), listener, message.clone()));
        }
        writer.append(&batch.bytes, batch.count, 5).unwrap();
        writer.commit(mark(round + 1)).unwrap();
    }
    let mut got = Vec::new();
    let reader_gaps = read_all(&writer, dir.path(), |_, _, _| {});
    assert_eq!(reader_gaps, []);
    let mut at = Seq(1);
    let mut reader = RingReader::open(dir.path(), "syslog").unwrap();
    while at < writer.next_seq() {
        let block = match reader.find(at).unwrap() {
            Found::Block(block) => block,
            Found::Open => {
                let (first, value) = writer.block_at(at).unwrap().unwrap();
                raven_buffer::Block::decode(first, &value).unwrap()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!((block.boot_id, block.mono_offset_ns), ([7; 16], 5));
        assert_eq!(block.listener_name(0), "unknown");
        assert_eq!(block.listener_name(1), "udp:[::]:514");
        for (_, record) in block.records() {
            got.push((record.received.source.to_string(), record.received.listener, record.raw.to_vec()));
        }
        at = block.next();
    }
    assert!(got == sent, "{} records instead of {}, or other bytes", got.len(), sent.len());
    assert_eq!(writer.listener_counts()["udp:[::]:514"].records, 40);
}

#[test]
fn segments_roll_and_readers_follow_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 100, 100, 300);
    let reader = RingReader::open(dir.path(), "syslog").unwrap();
    assert!(reader.sealed().len() >= 3, "{:?}", reader.sealed());
    let mut next = 1;
    let gaps = read_all(&writer, dir.path(), |seq, _, raw| {
        assert_eq!((seq.0, number_of(raw)), (next, next));
        next += 1;
    });
    assert_eq!((gaps, next), (vec![], 10_001));
    let longest = fs::read_dir(dir.path().join("syslog")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).max();
    assert!(longest <= Some(MIB), "a segment keeps to its size: {longest:?}");
}

#[test]
fn a_reader_that_looked_early_finds_what_was_sealed_since() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 1, 100, 300);
    let mut reader = RingReader::open(dir.path(), "syslog").unwrap();
    assert_eq!(reader.find(Seq(1)).unwrap(), Found::Open);
    fill(&mut writer, 100, 100, 300);
    assert!(matches!(reader.find(Seq(1)).unwrap(), Found::Block(block) if block.first == Seq(1)));
    assert_eq!(reader.find(writer.next_seq()).unwrap(), Found::Open);
}

/// KiB of memory that a mapped file takes in this process.
fn mapped_kib(file: &std::path::Path) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = smaps.split_once(&file.display().to_string()).expect("it is mapped").1;
    let rss = mapping.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    rss.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_reader_does_not_hold_the_segment_it_walked_through() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, 16 * MIB);
    fill(&mut writer, 40, 500, 1000);
    let mut reader = RingReader::open(dir.path(), "syslog").unwrap();
    let (&[first], end) = (reader.sealed(), reader.open_first().unwrap()) else { panic!("{:?}", reader.sealed()) };
    let (mut at, mut bytes) = (first, 0);
    while at < end {
        let Found::Block(block) = reader.find(at).unwrap() else { panic!("nothing at {at}") };
        bytes += block.records().map(|(_, record)| record.raw.len() as u64).sum::<u64>();
        at = block.next();
    }
    assert!(bytes > 12 * MIB, "{bytes}");
    let kib = mapped_kib(&dir.path().join("syslog").join(format!("{:016x}.mdb", first.0)));
    assert!(kib < 1024, "{kib}");
}

#[test]
fn a_restart_goes_on_where_the_last_commit_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    assert_eq!(writer.mark(), None);
    fill(&mut writer, 50, 100, 300);
    let (next, counts) = (writer.next_seq(), writer.listener_counts());
    let batch = Batch::numbered(next.0, 10);
    writer.append(&batch.bytes, 10, 5).unwrap();
    drop(writer);
    let (mut writer, recovery) = reopen(dir.path(), &options(64 * MIB, MIB)).unwrap();
    assert_eq!(recovery.notes, Vec::<String>::new());
    assert_eq!((writer.next_seq(), writer.mark()), (next, Some(mark(next.0 - 100))));
    assert_eq!(writer.listener_counts()["udp:[::]:514"].records, counts["udp:[::]:514"].records);
    fill(&mut writer, 1, 10, 0);
    let mut seen = 0;
    read_all(&writer, dir.path(), |seq, _, raw| {
        assert_eq!(number_of(raw), seq.0);
        seen += 1;
    });
    assert_eq!(seen, next.0 + 9);
}

#[test]
fn a_mark_is_stored_also_when_no_record_came() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    writer.commit(mark(7)).unwrap();
    drop(writer);
    assert_eq!(open(dir.path(), 64 * MIB, MIB).mark(), Some(mark(7)));
}

#[test]
fn the_mark_survives_a_stop_right_behind_a_roll() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let mut rolled = writer.open_first();
    while rolled == writer.open_first() {
        fill(&mut writer, 1, 100, 300);
    }
    rolled = writer.open_first();
    let (mark, next) = (writer.mark(), writer.next_seq());
    drop(writer);
    // As if the process had ended between the roll and the first commit into the new segment: an empty segment.
    fs::remove_file(dir.path().join(format!("syslog/{:016x}.mdb", rolled.0))).unwrap();
    let writer = open(dir.path(), 64 * MIB, MIB);
    assert!(writer.next_seq() >= rolled && writer.next_seq() <= next);
    assert!(writer.mark().unwrap().batch < mark.unwrap().batch, "an older mark: what is not stored is asked for again");
}

#[test]
fn a_refused_batch_leaves_nothing_but_a_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let good = Batch::numbered(1, 100);
    writer.append(&good.bytes, 100, 5).unwrap();
    assert!(writer.append(&good.bytes, 99, 5).is_err());
    assert!(writer.append(&good.bytes[..good.bytes.len() - 1], 100, 5).is_err());
    assert!(writer.append(&Dice(3).bytes(5000), 7, 5).is_err());
    // Also when the fault comes behind several whole blocks.
    let mut long = Batch::numbered(1, 20_000);
    *long.bytes.last_mut().unwrap() = 1;
    long.bytes.push(0);
    assert!(writer.append(&long.bytes, 20_000, 5).is_err());
    assert_eq!(writer.commit(mark(1)).unwrap(), Seq(101));
    let counts = writer.listener_counts();
    assert_eq!(counts["udp:[::]:514"].records, 100);
    assert!(counts.values().map(|c| c.refused).sum::<u64>() >= 20_199);
    let mut n = 0;
    read_all(&writer, dir.path(), |_, _, _| n += 1);
    assert_eq!(n, 100);
}

#[test]
fn one_commit_larger_than_a_segment_is_stored_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 3, 10, 0);
    let batch = Batch::noisy(31, 100, 60_000);
    writer.append(&batch.bytes, 100, 5).unwrap();
    assert_eq!(writer.commit(mark(9)).unwrap(), Seq(131));
    drop(writer);
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 3, 10, 0);
    let mut next = 1;
    let gaps = read_all(&writer, dir.path(), |_, _, raw| {
        assert_eq!(number_of(raw), next);
        next += 1;
    });
    assert_eq!((next, gaps), (161, vec![]));
}

#[test]
fn two_stores_never_write_one_ring() {
    let dir = tempfile::tempdir().unwrap();
    let _writer = open(dir.path(), 64 * MIB, MIB);
    let second = RingWriter::open(dir.path(), "syslog", options(64 * MIB, MIB));
    assert!(matches!(second, Err(RingError::Locked { .. })));
}

#[test]
fn the_quota_holds_over_many_turnovers_and_every_record_is_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let quota = 8 * MIB;
    let mut writer = open(dir.path(), quota, MIB);
    let (mut evicted, mut most) = (0, 0);
    let mut reader = RingReader::open(dir.path(), "syslog").unwrap();
    for round in 0..400 {
        fill(&mut writer, 1, 500, 300);
        while let Some(eviction) = writer.evictable(None, &BTreeMap::new()) {
            assert_eq!(eviction.why, Why::Space);
            reader.fence(eviction.next);
            evicted += eviction.records;
            writer.evict(&eviction, BTreeMap::from([("noc".to_owned(), eviction.unforwarded(Seq(100)))])).unwrap();
        }
        let status = writer.status(Instant::now());
        most = most.max(status.bytes_allocated);
        assert_eq!(status.evicted, evicted);
        assert_eq!(status.stored, status.evicted + (status.next_seq.0 - status.first_seq.0));
        if round == 200 {
            drop(writer);
            writer = open(dir.path(), quota, MIB);
        }
        let _ = reader.find(writer.first_seq()).unwrap();
    }
    assert!(most <= quota, "{most} bytes were taken");
    assert!(evicted > 150_000, "several turnovers: {evicted}");
    assert_eq!(writer.ledger().unforwarded["noc"], evicted - 100);
    let (mut held, next) = (0, writer.next_seq());
    assert_eq!(read_all(&writer, dir.path(), |_, _, _| held += 1), []);
    assert_eq!(next.0 - 1, held + evicted);
    let first = writer.first_seq();
    assert_eq!(reader.find(Seq(1)).unwrap(), Found::Before { first });
    drop((writer, reader));
    let view = verify(dir.path(), "syslog", |_| {}).unwrap();
    assert_eq!((view.problems, view.records, view.first_seq, view.next_seq), (vec![], held, first, next));
}

#[test]
fn age_removes_only_what_every_destination_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    fill(&mut writer, 90, 100, 300);
    let second = RingReader::open(dir.path(), "syslog").unwrap().sealed()[1];
    let late = Some(UnixNanos(START_NS + Duration::from_hours(25).as_nanos() as u64));
    let low = |noc, lab| BTreeMap::from([("noc".to_owned(), Seq(noc)), ("lab".to_owned(), Seq(lab))]);
    assert_eq!(writer.evictable(late, &low(second.0 - 2, second.0)), None, "one record is missing");
    assert_eq!(writer.evictable(Some(UnixNanos(START_NS)), &low(second.0, second.0)), None, "not old");
    assert_eq!(writer.evictable(None, &low(second.0, second.0)), None, "the clock is not trusted");
    let eviction = writer.evictable(late, &low(second.0 - 1, second.0)).unwrap();
    assert_eq!((eviction.why, eviction.next, eviction.unforwarded(Seq(second.0 - 1))), (Why::Age, second, 0));
    writer.evict(&eviction, BTreeMap::new()).unwrap();
    assert_eq!((writer.first_seq(), writer.ledger().evicted_unforwarded), (second, 0));
}

#[test]
fn an_eviction_that_was_cut_short_is_finished_and_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 6 * MIB, MIB);
    fill(&mut writer, 40, 500, 300);
    let eviction = writer.evictable(None, &BTreeMap::new()).unwrap();
    let path = dir.path().join(format!("syslog/{:016x}.mdb", eviction.first.0));
    let kept = fs::read(&path).unwrap();
    writer.evict(&eviction, BTreeMap::new()).unwrap();
    let evicted = writer.ledger().evicted;
    drop(writer);
    // The removal did not reach the disk.
    fs::write(&path, kept).unwrap();
    let writer = open(dir.path(), 6 * MIB, MIB);
    assert_eq!(writer.ledger().evicted, evicted);
    drop(writer);
    assert!(verify(dir.path(), "syslog", |_| {}).unwrap().problems.is_empty());
}

#[test]
fn status_tells_rates_and_how_long_the_quota_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let start = Instant::now();
    let idle = writer.status(start);
    assert_eq!((idle.time_to_full_s, idle.holds_s, idle.oldest_ns), (None, None, None));
    for second in 1..=30 {
        fill(&mut writer, 1, 100, 300);
        writer.status(start + Duration::from_secs(second));
    }
    let status = writer.status(start + Duration::from_secs(31));
    assert!((90.0..=100.0).contains(&status.rate), "{}", status.rate);
    // About 340 bytes a record on disk and 100 records a second: 64 MiB hold some 2000 s.
    assert!((1500..2500).contains(&status.holds_s.unwrap()), "{status:?}");
    assert!(status.time_to_full_s.unwrap() < status.holds_s.unwrap());
    assert_eq!(status.oldest_ns, Some(UnixNanos(START_NS + 1_000_000)));
    assert!((80.0..=100.0).contains(&writer.listener_counts()["udp:[::]:514"].rate));
}

/// Appends, commits, refusals, evictions, new quotas and restarts in random order, against a count kept beside it.
#[test]
fn a_random_life_keeps_every_promise() {
    for seed in 1..=12 {
        let (dir, mut dice) = (tempfile::tempdir().unwrap(), Dice(seed * 7919));
        let mut quota = 8 * MIB;
        let mut writer = open(dir.path(), quota, MIB);
        let (mut appended, mut committed, mut evicted, mut last_mark) = (1, 1, 0, None);
        for step in 1..300 {
            match dice.below(12) {
                0..=4 => {
                    let (count, noise) = (1 + dice.below(300) as u32, dice.below(1500) as usize);
                    writer.append(&Batch::noisy(appended, count, noise).bytes, count, 5).unwrap();
                    appended += u64::from(count);
                }
                5..=8 => {
                    assert_eq!(writer.commit(mark(step)).unwrap(), Seq(appended));
                    (committed, last_mark) = (appended, Some(mark(step)));
                }
                9 => assert!(writer.append(&dice.bytes(100), 3, 5).is_err()),
                10 => {
                    quota = (6 + dice.below(6)) * MIB;
                    writer.set_quota(quota, Duration::from_hours(1));
                }
                _ => {
                    drop(writer);
                    writer = open(dir.path(), quota, MIB);
                    appended = committed;
                }
            }
            while let Some(eviction) = writer.evictable(None, &BTreeMap::new()) {
                evicted += eviction.records;
                writer.evict(&eviction, BTreeMap::new()).unwrap();
            }
            assert_eq!((writer.next_seq(), writer.mark()), (Seq(committed), last_mark), "seed {seed} step {step}");
        }
        let mut held = 0;
        let gaps = read_all(&writer, dir.path(), |seq, _, raw| {
            assert_eq!(number_of(raw), seq.0);
            held += 1;
        });
        assert_eq!((gaps, held + evicted, writer.ledger().evicted), (vec![], committed - 1, evicted), "seed {seed}");
    }
}
