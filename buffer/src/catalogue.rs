//! The catalogue of a stream: what its sealed segments hold, the loss ledger, evictions under way, and how far seq
//! numbers may have been given out. All of it can be rebuilt from the segments.

use crate::env::{self, Env, Guard, Mode, READ_DEATHS, Table};
use crate::error::RingError;
use crate::files::{self, Paths};
use crate::ledger::Ledger;
use crate::segment::Summary;
use raven_model::units::Seq;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Enough for ten thousand segments and losses.
const MAP: u64 = 64 << 20;

/// Room taken ahead, so that an eviction can be noted on a disk that is full.
const ROOM: u64 = 4 << 20;

const LEDGER: &str = "ledger";
const RESERVED: &str = "reserved";

pub(crate) struct Catalogue {
    path: PathBuf,
    env: Env,
    table: Table,
}

/// What the catalogue knew when the ring was opened.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub sealed: BTreeMap<Seq, Summary>,
    /// Segments whose eviction was decided and perhaps not finished.
    pub evicting: Vec<Seq>,
    pub ledger: Option<Ledger>,
    pub reserved: Option<Seq>,
    /// Entries whose checksum is wrong.
    pub damaged: u32,
}

impl Catalogue {
    /// Opens it; one that cannot be read is set aside and begun anew, told in `notes`.
    pub fn open(paths: &Paths, notes: &mut Vec<String>) -> Result<(Self, Known), RingError> {
        let path = paths.catalogue();
        match Self::try_open(paths) {
            Err(error @ (RingError::Damaged { .. } | RingError::Database { .. })) => {
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
        let new = !path.exists();
        if new {
            files::create_with_room(&path, ROOM)?;
        }
        let damaged = |what| RingError::Damaged { path: path.clone(), what };
        let guard = Guard::enter(paths.guard(), &path, READ_DEATHS).map_err(damaged)?;
        let env = env::open(&path, Mode::Write { map: MAP })?;
        let table = env::create_table(&env, &path)?;
        let catalogue = Self { path: path.clone(), env, table };
        let known = catalogue.read()?;
        drop(guard);
        if new {
            files::sync_dir(&paths.catalogue_dir())?;
        }
        Ok((catalogue, known))
    }

    fn read(&self) -> Result<Known, RingError> {
        let failed = |e| RingError::lmdb("read", &self.path, e);
        let txn = self.env.read_txn().map_err(failed)?;
        let mut known = Known::default();
        for entry in self.table.iter(&txn).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            known.take(key, value);
        }
        Ok(known)
    }

    /// Writes what changed in one synchronous transaction.
    pub fn save(&self, changes: &[Change<'_>]) -> Result<(), RingError> {
        self.try_save(changes).map_err(|e| RingError::lmdb("write to", &self.path, e))
    }

    fn try_save(&self, changes: &[Change<'_>]) -> heed::Result<()> {
        let mut txn = self.env.write_txn()?;
        for change in changes {
            match change {
                Change::Sealed(held) => self.table.put(&mut txn, &key('s', held.first), &env::seal(held))?,
                Change::Evict(first) => self.table.put(&mut txn, &key('e', *first), &env::seal(first))?,
                Change::Gone(first) => {
                    self.table.delete(&mut txn, &key('s', *first))?;
                    self.table.delete(&mut txn, &key('e', *first))?;
                }
                Change::Ledger(ledger) => self.table.put(&mut txn, LEDGER, &env::seal(ledger))?,
                Change::Reserved(seq) => self.table.put(&mut txn, RESERVED, &env::seal(seq))?,
            }
        }
        txn.commit()
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
}

impl Known {
    fn take(&mut self, key: &str, value: &[u8]) {
        let taken = match key {
            LEDGER => env::unseal(value).map(|ledger| self.ledger = Some(ledger)),
            RESERVED => env::unseal(value).map(|seq| self.reserved = Some(seq)),
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
