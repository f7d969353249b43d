//! What the ring says of itself adds up, whatever happened to it.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Batch, Dice, MIB, fill, mark, open};
use raven_buffer::RingWriter;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn sound(writer: &mut RingWriter) {
    let status = writer.status(Instant::now());
    assert_eq!(status.stored, status.held + status.evicted + status.damaged, "{status:?}");
    assert_eq!((status.received, status.stored), (status.counted + status.refused, status.counted), "{status:?}");
    assert_eq!(status.gaps, []);
}

fn segments(ring: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(ring.join("syslog")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = names.filter(|path| path.file_stem().is_some_and(|stem| stem.len() == 16)).collect();
    files.sort();
    files
}

#[test]
fn the_account_adds_up_over_evictions_refusals_restarts_and_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(11);
    let mut writer = open(dir.path(), 8 * MIB, MIB);
    for round in 0..60 {
        fill(&mut writer, 4, 500, 300);
        assert!(writer.append(&Batch::numbered(1, 10).bytes, 9, 5).is_err());
        while let Some(eviction) = writer.evictable(None, &BTreeMap::new()) {
            writer.evict(&eviction, BTreeMap::new()).unwrap();
        }
        sound(&mut writer);
        if round % 10 == 9 {
            // What was refused is counted with the next commit.
            fill(&mut writer, 1, 10, 0);
            let before = writer.status(Instant::now());
            drop(writer);
            if round == 19 {
                // A segment in the middle is gone.
                let files = segments(dir.path());
                fs::remove_file(&files[1 + dice.below(files.len() as u64 - 2) as usize]).unwrap();
            }
            if round == 39 {
                // The newest cannot be read: with it go the counts of the records in it.
                let newest = segments(dir.path()).pop().unwrap();
                fs::write(&newest, vec![0; 8192]).unwrap();
            }
            writer = open(dir.path(), 8 * MIB, MIB);
            sound(&mut writer);
            let after = writer.status(Instant::now());
            assert!(after.stored >= before.stored && after.received >= before.received.min(after.stored));
        }
    }
    let status = writer.status(Instant::now());
    assert!(status.evicted > 50_000 && status.damaged > 1000 && status.refused > 0, "{status:?}");
}

#[test]
fn what_no_segment_has_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let start = Instant::now();
    writer.status(start);
    for second in 1..=30 {
        fill(&mut writer, 1, 100, 300);
        writer.status(start + Duration::from_secs(second));
    }
    writer.note_drops("udp:[::]:514", "socket_buffer", 1, 5);
    writer.note_drops("", "storm", 1, 7);
    writer.save_counts(start, true).unwrap();
    let before = writer.status(start + Duration::from_secs(30));
    drop(writer);
    let mut writer = open(dir.path(), 64 * MIB, MIB);
    let after = writer.status(start);
    assert_eq!(after.dropped_ever, BTreeMap::from([("socket_buffer".to_owned(), 5), ("storm".to_owned(), 7)]));
    assert_eq!(after.forecast, before.forecast);
    let hour = &after.forecast[0];
    assert_eq!((hour.window.as_str(), hour.covered_s), ("hour", 30));
    // About 340 bytes a record on disk and 100 records a second: 64 MiB hold some 2000 s.
    assert!((1500..2500).contains(&hour.holds_s.unwrap()), "{hour:?}");
    assert_eq!(writer.listener_counts()["udp:[::]:514"].dropped_ever["socket_buffer"], 5);
    // The same collector's count goes on; a new one begins at nought.
    writer.note_drops("", "storm", 1, 9);
    writer.note_drops("", "storm", 2, 1);
    assert_eq!(writer.status(start).dropped_ever["storm"], 10);
    writer.commit(mark(31)).unwrap();
}
