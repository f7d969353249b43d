//! A small environment with one table of checked values: the catalogue, the cursors.

use crate::env::{self, Env, Mode, Table};
use crate::error::RingError;
use crate::files;
use heed::RwTxn;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Enough for ten thousand entries and their copies in flight.
const MAP: u64 = 64 << 20;

/// Room taken ahead, so that an eviction or an acknowledgement can be noted on a disk that is full.
const ROOM: u64 = 4 << 20;

pub(crate) struct Small {
    path: PathBuf,
    /// Absent after a failed write: LMDB refuses to go on after a failed sync, and what it has in memory is not
    /// trusted. It is opened anew.
    open: Mutex<Option<(Env, Table)>>,
}

impl Small {
    /// Opens the file, making it where there is none.
    pub fn open(path: &Path) -> Result<Self, RingError> {
        if !path.exists() {
            make(path)?;
        }
        let open = Mutex::new(Some(open(path)?));
        Ok(Self { path: path.to_owned(), open })
    }

    /// One synchronous transaction.
    pub fn write(&self, put: impl FnOnce(&mut RwTxn<'_>, Table) -> heed::Result<()>) -> Result<(), RingError> {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (env, table) = match slot.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        commit(&env, table, put).map_err(|e| RingError::lmdb("write to", &self.path, e))?;
        *slot = Some((env, table));
        Ok(())
    }

    /// All entries, as they lie there.
    pub fn entries(&self) -> Result<Vec<(String, Vec<u8>)>, RingError> {
        let failed = |e| RingError::lmdb("read", &self.path, e);
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(open(&self.path)?);
        }
        let Some((env, table)) = slot.as_ref() else { return Ok(Vec::new()) };
        let txn = env.read_txn().map_err(failed)?;
        let entries = table.iter(&txn).map_err(failed)?;
        entries.map(|entry| entry.map(|(key, value)| (key.to_owned(), value.to_vec())).map_err(failed)).collect()
    }
}

/// It gets its name when it is whole, so that a power cut leaves none that looks damaged.
fn make(path: &Path) -> Result<(), RingError> {
    let new = path.with_extension("new");
    files::remove(&new)?;
    files::create_with_room(&new, ROOM)?;
    open(&new)?;
    let file = File::open(&new).map_err(|e| RingError::io("open", &new, e))?;
    files::sync(&file, &new)?;
    files::rename_durably(&new, path)
}

fn open(path: &Path) -> Result<(Env, Table), RingError> {
    let env = env::open(path, Mode::Write { map: MAP })?;
    let table = env::create_table(&env, path)?;
    Ok((env, table))
}

fn commit(env: &Env, table: Table, put: impl FnOnce(&mut RwTxn<'_>, Table) -> heed::Result<()>) -> heed::Result<()> {
    let mut txn = env.write_txn()?;
    put(&mut txn, table)?;
    txn.commit()
}
