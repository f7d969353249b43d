//! Cursors on disk.

use crate::fleet::{CursorStore, Route, Saved};
use crate::progress::Progress;
use raven_buffer::{Cursor, Cursors, RingError};
use raven_model::units::Seq;
use std::path::Path;

/// Beside the cursor of stream `syslog` lies, as `syslog#missed`, the count of records that were evicted before they
/// were acknowledged. No stream has a `#` in its name.
const MISSED: &str = "#missed";

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
        let missed = self.get(name, &format!("{stream}{MISSED}")).map_or(0, |missed| missed.low.0);
        Some(Saved { progress: Progress::from_parts(cursor.low, cursor.above), missed })
    }

    fn save(&mut self, cursors: &[(Route, Saved)]) -> Result<(), String> {
        let mut entries: Vec<(&str, String, Cursor)> = Vec::new();
        for ((name, stream), saved) in cursors {
            let cursor = Cursor { low: saved.progress.low(), above: saved.progress.ranges().collect() };
            entries.push((name, stream.clone(), cursor));
            if saved.missed > 0 {
                entries.push((name, format!("{stream}{MISSED}"), Cursor { low: Seq(saved.missed), above: Vec::new() }));
            }
        }
        let entries: Vec<(&str, &str, &Cursor)> =
            entries.iter().map(|(name, stream, cursor)| (*name, stream.as_str(), cursor)).collect();
        self.0.save(&entries).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_with_their_ranges_and_what_was_missed() {
        let dir = tempfile::tempdir().expect("a directory");
        let route = ("noc".to_owned(), "syslog".to_owned());
        let saved = Saved { progress: Progress::from_parts(Seq(10), [(Seq(20), Seq(30))]), missed: 7 };
        let mut cursors = DiskCursors::open(dir.path()).expect("open");
        assert_eq!(cursors.load(&route), None);
        cursors.save(&[(route.clone(), saved.clone())]).expect("saved");
        drop(cursors);
        assert_eq!(DiskCursors::open(dir.path()).expect("open").load(&route), Some(saved));
    }
}
