//! How far each destination has acknowledged each stream: one small environment, owned by the uplink.
//!
//! When it is lost, delivery starts again at the ring's first record: twice at worst, never too little.

use crate::env::{self, Guard, READ_DEATHS};
use crate::error::RingError;
use crate::files;
use crate::small::Small;
use raven_model::units::Seq;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;

/// What is acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Everything up to and including this.
    pub low: Seq,
    /// Ranges above, first and last inclusive, in order, not touching.
    pub above: Vec<(Seq, Seq)>,
}

impl Cursor {
    /// Enters `first..=last` as acknowledged.
    pub fn acknowledge(&mut self, first: Seq, last: Seq) {
        if last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        self.above.retain(|(from, to)| {
            let touches = *from <= last.plus(1) && first <= to.plus(1);
            if touches {
                (first, last) = (first.min(*from), last.max(*to));
            }
            !touches
        });
        if first <= self.low.plus(1) {
            self.low = self.low.max(last);
        } else {
            let at = self.above.partition_point(|(from, _)| *from < first);
            self.above.insert(at, (first, last));
        }
    }

    /// The first range that is not acknowledged, at or above `from`: its first seq, and one after its last (none when
    /// it has no end).
    pub fn hole(&self, from: Seq) -> (Seq, Option<Seq>) {
        let mut at = from.max(self.low.plus(1));
        for (first, last) in &self.above {
            if at < *first {
                return (at, Some(*first));
            }
            at = at.max(last.plus(1));
        }
        (at, None)
    }

    /// Records acknowledged above the low-water mark.
    pub fn above_count(&self) -> u64 {
        self.above.iter().map(|(first, last)| last.0 - first.0 + 1).sum()
    }

    /// Records of `first..next` that are not acknowledged.
    pub fn missing_in(&self, first: Seq, next: Seq) -> u64 {
        let first = first.max(self.low.plus(1));
        let acknowledged = |(from, to): &(Seq, Seq)| (to.plus(1).min(next).0).saturating_sub(from.max(&first).0);
        next.0.saturating_sub(first.0).saturating_sub(self.above.iter().map(acknowledged).sum())
    }
}

/// The cursors of all destinations, on disk.
pub struct Cursors {
    file: Small,
    _lock: File,
}

impl Cursors {
    /// Opens them, making the file where there is none, and tells what was wrong: a damaged file is set aside.
    pub fn open(dir: &Path) -> Result<(Self, Vec<String>), RingError> {
        files::make_dir(dir)?;
        let lock_path = dir.join(".lock");
        let lock = files::try_lock(&lock_path)?.ok_or(RingError::Locked { path: lock_path })?;
        let path = dir.join("cursors.mdb");
        let mut notes = Vec::new();
        let file = match Self::try_open(dir, &path) {
            Err(error) if error.is_content() => {
                notes.push(format!("{error}; it is set aside, and delivery starts again at the oldest record held"));
                files::set_aside(&path, &dir.join("quarantine"), "uplink")?;
                Self::try_open(dir, &path)?
            }
            other => other?,
        };
        Ok((Self { file, _lock: lock }, notes))
    }

    fn try_open(dir: &Path, path: &Path) -> Result<Small, RingError> {
        let damaged = |what| RingError::Damaged { path: path.to_owned(), what };
        let guard = Guard::enter(dir.join(".opening"), path, READ_DEATHS).map_err(damaged)?;
        let file = Small::open(path)?;
        for (name, value) in file.entries()? {
            env::unseal::<Cursor>(&value)
                .ok_or_else(|| damaged(format!("the checksum of the cursor {name} is wrong")))?;
        }
        drop(guard);
        Ok(file)
    }

    /// The cursor of a destination; none before its first acknowledgement.
    pub fn load(&self, destination: &str, stream: &str) -> Result<Option<Cursor>, RingError> {
        let wanted = key(destination, stream);
        let entry = self.file.entries()?.into_iter().find(|(name, _)| *name == wanted);
        Ok(entry.and_then(|(_, value)| env::unseal(&value)))
    }

    /// Makes cursors durable, all in one commit. May be repeated after an error.
    pub fn save(&self, cursors: &[(&str, &str, &Cursor)]) -> Result<(), RingError> {
        self.file.write(|txn, table| {
            cursors.iter().try_for_each(|(destination, stream, cursor)| {
                table.put(txn, &key(destination, stream), &env::seal(cursor))
            })
        })
    }

    /// Forgets a destination that is configured no more.
    pub fn remove(&self, destination: &str, stream: &str) -> Result<(), RingError> {
        self.file.write(|txn, table| table.delete(txn, &key(destination, stream)).map(drop))
    }
}

fn key(destination: &str, stream: &str) -> String {
    format!("{destination}/{stream}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    #[test]
    fn holes_close_and_the_low_water_mark_rises() {
        let mut cursor = Cursor::default();
        cursor.acknowledge(Seq(11), Seq(20));
        assert_eq!((cursor.low, cursor.hole(Seq(1)), cursor.above_count()), (Seq(0), (Seq(1), Some(Seq(11))), 10));
        assert_eq!(cursor.missing_in(Seq(5), Seq(16)), 6);
        cursor.acknowledge(Seq(1), Seq(10));
        assert_eq!(cursor, Cursor { low: Seq(20), above: vec![] });
        assert_eq!(cursor.hole(Seq(1)), (Seq(21), None));
    }

    proptest! {
        #[test]
        fn a_cursor_knows_exactly_what_was_acknowledged(ranges in prop::collection::vec((1_u64..60, 0_u64..8), 0..20)) {
            let mut cursor = Cursor::default();
            let mut acked = [false; 80];
            for (first, more) in ranges {
                cursor.acknowledge(Seq(first), Seq(first + more));
                acked[first as usize..=(first + more) as usize].fill(true);
            }
            let mut at = Seq(1);
            for seq in 1..80_u64 {
                if !acked[seq as usize] {
                    prop_assert_eq!(cursor.hole(at).0, Seq(seq));
                    at = Seq(seq + 1);
                }
            }
            prop_assert_eq!(cursor.missing_in(Seq(1), Seq(80)), acked[1..80].iter().filter(|a| !**a).count() as u64);
        }
    }

    #[test]
    fn cursors_are_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = Cursor { low: Seq(5), above: vec![(Seq(9), Seq(12))] };
        let (cursors, notes) = Cursors::open(dir.path()).unwrap();
        assert!(notes.is_empty());
        cursors.save(&[("noc", "syslog", &cursor), ("lab", "syslog", &Cursor::default())]).unwrap();
        assert!(matches!(Cursors::open(dir.path()), Err(RingError::Locked { .. })));
        drop(cursors);
        let (cursors, _) = Cursors::open(dir.path()).unwrap();
        assert_eq!(cursors.load("noc", "syslog").unwrap(), Some(cursor));
        assert_eq!(cursors.load("noc", "trap").unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursors.mdb");
        let (cursors, _) = Cursors::open(dir.path()).unwrap();
        let cursor = Cursor { low: Seq(123_456_789), above: vec![] };
        cursors.save(&[("noc", "syslog", &cursor)]).unwrap();
        drop(cursors);
        let mut bytes = fs::read(&path).unwrap();
        let mut changed = 0;
        for at in 0..bytes.len() - 9 {
            if &bytes[at..at + 9] == b"123456789" {
                bytes[at] = b'9';
                changed += 1;
            }
        }
        assert!(changed > 0);
        fs::write(&path, bytes).unwrap();
        let (cursors, notes) = Cursors::open(dir.path()).unwrap();
        assert!(notes[0].contains("cursors.mdb") && notes[0].contains("checksum"), "{notes:?}");
        assert_eq!(cursors.load("noc", "syslog").unwrap(), None);
        cursors.save(&[("noc", "syslog", &cursor)]).unwrap();
    }
}
