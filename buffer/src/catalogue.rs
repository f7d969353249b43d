//! The catalogue of a stream: what its sealed segments hold, the loss ledger, evictions under way, how far seq numbers
//! may have been given out, and the counts that no segment has. All but the last can be rebuilt from the segments.

use crate::counts::Counts;
use crate::env::{self, Guard, READ_DEATHS, Table};
use crate::error::RingError;
use crate::files::{self, Paths};
use crate::ledger::Ledger;
use crate::segment::Summary;
use crate::small::Small;
use heed::RwTxn;
use raven_model::units::Seq;
use std::collections::BTreeMap;

const LEDGER: &str = "ledger";
const RESERVED: &str = "reserved";
const COUNTS: &str = "counts";

pub(crate) struct Catalogue {
    file: Small,
}

/// What the catalogue knew when the ring was opened.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub sealed: BTreeMap<Seq, Summary>,
    /// Segments whose eviction was decided and perhaps not finished.
    pub evicting: Vec<Seq>,
    pub ledger: Option<Ledger>,
    pub reserved: Option<Seq>,
    pub counts: Option<Counts>,
    /// Entries whose checksum is wrong.
    pub damaged: u32,
}

impl Catalogue {
    /// Opens it; one that cannot be read is set aside and begun anew, told in `notes`.
    pub fn open(paths: &Paths, notes: &mut Vec<String>) -> Result<(Self, Known), RingError> {
        let path = paths.catalogue();
        match Self::try_open(paths) {
            Err(error) if error.is_content() => {
                notes.push(format!("{error}; it is set aside and rebuilt from the segments"));
                files::set_aside(&path, &paths.quarantine(), &paths.stream)?;
                Self::try_open(paths)
            }
            other => other,
        }
    }

    fn try_open(paths: &Paths) -> Result<(Self, Known), RingError> {
        files::make_dir(&paths.catalogue_dir())?;
        let path = paths.catalogue();
        let damaged = |what| RingError::Damaged { path: path.clone(), what };
        let guard = Guard::enter(paths.guard(), &path, READ_DEATHS).map_err(damaged)?;
        let file = Small::open(&path)?;
        let mut known = Known::default();
        for (key, value) in file.entries()? {
            known.take(&key, &value);
        }
        drop(guard);
        Ok((Self { file }, known))
    }

    /// Writes what changed in one synchronous transaction.
    pub fn save(&self, changes: &[Change<'_>]) -> Result<(), RingError> {
        self.file.write(|txn, table| changes.iter().try_for_each(|change| put(txn, table, change)))
    }
}

fn put(txn: &mut RwTxn<'_>, table: Table, change: &Change<'_>) -> heed::Result<()> {
    match change {
        Change::Sealed(held) => table.put(txn, &key('s', held.first), &env::seal(held)),
        Change::Evict(first) => table.put(txn, &key('e', *first), &env::seal(first)),
        Change::Gone(first) => {
            table.delete(txn, &key('s', *first))?;
            table.delete(txn, &key('e', *first)).map(drop)
        }
        Change::Ledger(ledger) => table.put(txn, LEDGER, &env::seal(ledger)),
        Change::Reserved(seq) => table.put(txn, RESERVED, &env::seal(seq)),
        Change::Counts(counts) => table.put(txn, COUNTS, &env::seal(counts)),
    }
}

/// One entry to write.
pub(crate) enum Change<'a> {
    Sealed(&'a Summary),
    /// Decided, and from now on redone at each opening until it is done.
    Evict(Seq),
    Gone(Seq),
    Ledger(&'a Ledger),
    Reserved(Seq),
    Counts(&'a Counts),
}

impl Known {
    fn take(&mut self, key: &str, value: &[u8]) {
        let taken = match key {
            LEDGER => env::unseal(value).map(|ledger| self.ledger = Some(ledger)),
            RESERVED => env::unseal(value).map(|seq| self.reserved = Some(seq)),
            COUNTS => env::unseal(value).map(|counts| self.counts = Some(counts)),
            _ if key.starts_with('s') => env::unseal(value).map(|held: Summary| {
                self.sealed.insert(held.first, held);
            }),
            _ if key.starts_with('e') => env::unseal(value).map(|first| self.evicting.push(first)),
            _ => None,
        };
        self.damaged += u32::from(taken.is_none());
    }
}

fn key(kind: char, first: Seq) -> String {
    format!("{kind}{:016x}", first.0)
}
