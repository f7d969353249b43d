//! Repair on an operator's word, by the one writer: what cannot be read is counted, a segment that cannot be opened is
//! set aside, the catalogue is written anew. Safe to repeat: what is counted is not counted again.

use crate::catalogue::{Catalogue, Change};
use crate::env::{Guard, READ_DEATHS};
use crate::error::RingError;
use crate::files;
use crate::ledger::{Loss, Why};
use crate::segment::{Segment, Summary};
use crate::tail::Repaired;
use crate::writer::RingWriter;
use raven_model::units::Seq;
use std::collections::BTreeMap;
use std::io::ErrorKind;

impl RingWriter {
    /// Looks at `seq`, which a check could not read; at seq 0 writes the catalogue anew.
    pub fn repair(&mut self, seq: Seq) -> Result<Repaired, RingError> {
        if seq == Seq(0) {
            return self.rewrite_catalogue();
        }
        if seq >= self.held.first {
            return self.count(seq);
        }
        let Some(place) = self.sealed.iter().position(|held| seq < held.next) else {
            return self.write_off_missing(seq, self.held.first);
        };
        let held = self.sealed[place];
        if seq < held.first {
            return self.write_off_missing(seq, held.first);
        }
        match self.why_unreadable(&held)? {
            None => self.count(seq),
            Some((why, what)) => self.set_aside(place, why, &what),
        }
    }

    /// Sets aside the sealed segment of `seq` when it cannot be opened; how many records that costs. `None` when it can.
    pub(crate) fn set_aside_unreadable(&mut self, seq: Seq) -> Result<Option<u64>, RingError> {
        let Some(place) = self.sealed.iter().position(|held| held.first <= seq && seq < held.next) else {
            return Ok(None);
        };
        match self.why_unreadable(&self.sealed[place])? {
            None => Ok(None),
            Some((why, what)) => self.set_aside(place, why, &what).map(|repaired| Some(repaired.lost)),
        }
    }

    fn count(&mut self, seq: Seq) -> Result<Repaired, RingError> {
        let lost = self.note_damage(seq)?;
        let what = if lost == 0 { "it can be read, or is counted already" } else { "counted as damaged" };
        Ok(Repaired { lost, what: what.to_owned() })
    }

    /// Why a sealed segment cannot be opened at all; `None` when it can.
    fn why_unreadable(&self, held: &Summary) -> Result<Option<(Why, String)>, RingError> {
        let path = self.paths.segment(held.first);
        let _guard = match Guard::enter(self.paths.guard(), &path, READ_DEATHS) {
            Ok(guard) => guard,
            Err(what) => return Ok(Some((Why::Quarantined, what))),
        };
        match Segment::open_sealed(&path).and_then(|segment| segment.key_after(Seq(0))) {
            Ok(Some(_)) => Ok(None),
            Ok(None) => Ok(Some((Why::Quarantined, "it holds no blocks".to_owned()))),
            Err(RingError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(Some((Why::Missing, "its file is gone".to_owned())))
            }
            Err(error) if error.is_content() => Ok(Some((Why::Quarantined, error.to_string()))),
            Err(error) => Err(error),
        }
    }

    /// First the file goes, then it is counted: a crash between leaves a file that is missed and counted at the next
    /// start.
    fn set_aside(&mut self, place: usize, why: Why, what: &str) -> Result<Repaired, RingError> {
        let held = self.sealed[place];
        let path = self.paths.segment(held.first);
        let mut note = what.to_owned();
        if why == Why::Quarantined {
            let aside = files::set_aside(&path, &self.paths.quarantine(), &self.paths.stream)?;
            note = format!("{what}; kept as {}", aside.display());
        }
        let walls = (held.first_wall, held.last_wall);
        let mut ledger = self.ledger.clone();
        let mut lost = 0;
        for (first, next) in ledger.uncovered(held.first, held.next) {
            lost += next.0 - first.0;
            ledger.add(Loss { first_wall: walls.0, last_wall: walls.1, ..loss(first, next, why, &note) });
        }
        self.catalogue.save(&[Change::Ledger(&ledger), Change::Gone(held.first)])?;
        self.ledger = ledger;
        self.sealed.remove(place);
        self.publish_ledger();
        self.trim_quarantine();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let what = if why == Why::Quarantined { "set aside and counted" } else { "gone and counted" };
        Ok(Repaired { lost, what: format!("the segment {name} is {what}: {note}") })
    }

    /// Between two segments, or before the first, where no file has them.
    fn write_off_missing(&mut self, seq: Seq, next: Seq) -> Result<Repaired, RingError> {
        let mut ledger = self.ledger.clone();
        let mut lost = 0;
        for (first, next) in ledger.uncovered(seq, next) {
            lost += next.0 - first.0;
            ledger.add(loss(first, next, Why::Missing, "no segment has these records"));
        }
        if lost > 0 {
            self.catalogue.save(&[Change::Ledger(&ledger)])?;
            self.ledger = ledger;
            self.publish_ledger();
        }
        Ok(Repaired { lost, what: "no segment has it: counted as missing".to_owned() })
    }

    /// All that the catalogue should say. One that cannot be written to is set aside and begun anew; how far numbers
    /// were given out is then not in it, and the next start keeps a wide distance if it has to.
    fn rewrite_catalogue(&mut self) -> Result<Repaired, RingError> {
        let mut changes: Vec<Change<'_>> = self.sealed.iter().map(Change::Sealed).collect();
        changes.push(Change::Ledger(&self.ledger));
        let said = format!("the catalogue holds {} sealed segments and the loss ledger", self.sealed.len());
        let mut what = said.clone();
        match self.catalogue.save(&changes) {
            Err(error) if error.is_content() => {
                files::set_aside(&self.paths.catalogue(), &self.paths.quarantine(), &self.paths.stream)?;
                let (catalogue, _) = Catalogue::open(&self.paths, &mut Vec::new())?;
                catalogue.save(&changes)?;
                drop(changes);
                self.catalogue = catalogue;
                what = format!("{said}; begun anew: {error}");
            }
            other => other?,
        }
        self.publish_ledger();
        Ok(Repaired { lost: 0, what })
    }
}

fn loss(first: Seq, next: Seq, why: Why, note: &str) -> Loss {
    Loss {
        first,
        next,
        records: next.0 - first.0,
        at_most: false,
        first_wall: None,
        last_wall: None,
        why,
        unforwarded: BTreeMap::new(),
        note: note.to_owned(),
    }
}
