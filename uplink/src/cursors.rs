//! Cursors on disk.

use crate::fleet::{CursorStore, Route, Saved};
use crate::progress::Progress;
use crate::standing::{Counts, Paused};
use raven_buffer::{Cursor, Cursors, RingError};
use raven_model::units::Seq;
use std::path::Path;

/// Finds one of the counts.
type Count = fn(&mut Counts) -> &mut u64;

/// Beside the cursor of stream `syslog` lie its counts, as `syslog#missed` and so on. No stream has a `#` in its name.
const COUNTS: [(&str, Count); 6] = [
    ("#start", |counts| &mut counts.start),
    ("#missed", |counts| &mut counts.missed),
    ("#dead", |counts| &mut counts.dead),
    ("#revived", |counts| &mut counts.revived),
    ("#dropped", |counts| &mut counts.dropped),
    ("#overflowed", |counts| &mut counts.overflowed),
];

/// What an operator holds of a destination: 1 the live lane, 2 backfill, 3 both.
const PAUSED: &str = "#paused";

/// The cursors of all destinations, in the uplink's own environment.
pub struct DiskCursors(Cursors);

impl DiskCursors {
    /// Opens them in `dir`; says on standard error what was wrong with them.
    pub fn open(dir: &Path) -> Result<Self, RingError> {
        let (cursors, notes) = Cursors::open(dir)?;
        for note in notes {
            eprintln!("uplink: {note}");
        }
        Ok(Self(cursors))
    }

    fn get(&self, name: &str, stream: &str) -> Option<Cursor> {
        self.0.load(name, stream).unwrap_or_else(|error| {
            eprintln!("uplink.{name}: {error}");
            None
        })
    }
}

impl CursorStore for DiskCursors {
    fn load(&mut self, (name, stream): &Route) -> Option<Saved> {
        let cursor = self.get(name, stream)?;
        let mut counts = Counts::default();
        for (key, count) in COUNTS {
            *count(&mut counts) = self.get(name, &format!("{stream}{key}")).map_or(0, |cursor| cursor.low.0);
        }
        Some(Saved { progress: Progress::from_parts(cursor.low, cursor.above), counts })
    }

    fn save(&mut self, cursors: &[(Route, Saved)]) -> Result<(), String> {
        let mut entries: Vec<(&str, String, Cursor)> = Vec::new();
        for ((name, stream), saved) in cursors {
            let cursor = Cursor { low: saved.progress.low(), above: saved.progress.ranges().collect() };
            entries.push((name, stream.clone(), cursor));
            let mut counts = saved.counts;
            for (key, count) in COUNTS {
                let count = *count(&mut counts);
                if count > 0 {
                    entries.push((name, format!("{stream}{key}"), Cursor { low: Seq(count), above: Vec::new() }));
                }
            }
        }
        let entries: Vec<(&str, &str, &Cursor)> =
            entries.iter().map(|(name, stream, cursor)| (*name, stream.as_str(), cursor)).collect();
        self.0.save(&entries).map_err(|error| error.to_string())
    }

    fn load_paused(&mut self, name: &str) -> Paused {
        let bits = self.get(name, PAUSED).map_or(0, |cursor| cursor.low.0);
        Paused { live: bits & 1 != 0, backfill: bits & 2 != 0 }
    }

    fn save_paused(&mut self, name: &str, paused: Paused) -> Result<(), String> {
        let bits = u64::from(paused.live) | u64::from(paused.backfill) << 1;
        let entry = Cursor { low: Seq(bits), above: Vec::new() };
        self.0.save(&[(name, PAUSED, &entry)]).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_with_their_ranges_and_what_was_missed() {
        let dir = tempfile::tempdir().expect("a directory");
        let route = ("noc".to_owned(), "syslog".to_owned());
        let counts = Counts { start: 1, missed: 7, dead: 6, revived: 3, dropped: 2, overflowed: 1 };
        let paused = Paused { live: false, backfill: true };
        let saved = Saved { progress: Progress::from_parts(Seq(10), [(Seq(20), Seq(30))]), counts };
        let mut cursors = DiskCursors::open(dir.path()).expect("open");
        assert_eq!(cursors.load(&route), None);
        cursors.save(&[(route.clone(), saved.clone())]).expect("saved");
        cursors.save_paused("noc", paused).expect("saved");
        drop(cursors);
        let mut cursors = DiskCursors::open(dir.path()).expect("open");
        assert_eq!(cursors.load(&route), Some(saved));
        assert_eq!((cursors.load_paused("noc"), cursors.load_paused("lab")), (paused, Paused::default()));
    }
}
