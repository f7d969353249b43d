//! The one place where LMDB is opened, and the guard around opening what may be damaged.
//!
//! All environments are opened with `MDB_NOLOCK`: a segment, the catalogue and the cursors each have exactly one
//! writing process (held to it by a flock of our own), with one thread, which holds no read transaction while it
//! writes; other processes open only sealed segments, which never change. LMDB's lock files would add a mutex that a
//! reader could hold against the writer, and a second file per segment to clean up.

use crate::error::RingError;
use crate::files;
use heed::byteorder::BE;
use heed::types::{Bytes, Str, U64};
use heed::{CommitOrAbort, Database, EnvFlags, EnvOpenOptions, WithoutTls};
use nix::sys::mman::{MmapAdvise, madvise};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

pub(crate) type Env = heed::Env<WithoutTls>;
pub(crate) type Blocks = Database<'static, U64<BE>, Bytes>;
pub(crate) type Table = Database<'static, Str, Bytes>;

/// How an environment is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// May grow to so many bytes.
    Write {
        /// Size of the map; rounded up to pages.
        map: u64,
    },
    /// Must not change while it is open.
    Sealed,
    /// The same, for who reads a little here and there: the kernel reads no pages ahead.
    Sparse,
}

/// Opens an environment of one file.
#[allow(unsafe_code)] // LMDB's open is unsafe by nature: the map must not change under us, see the SAFETY notes
pub(crate) fn open(path: &Path, mode: Mode) -> Result<Env, RingError> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.max_dbs(2);
    let mut flags = EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK;
    match mode {
        Mode::Write { map } => {
            options.map_size(map.next_multiple_of(files::PAGE) as usize);
        }
        Mode::Sealed => flags |= EnvFlags::READ_ONLY,
        Mode::Sparse => flags |= EnvFlags::READ_ONLY | EnvFlags::NO_READ_AHEAD,
    }
    // SAFETY (flags): NO_LOCK is sound with one writer process and thread and no read transaction across a write; our
    // flock and the single-threaded store see to it. No flag here weakens syncing.
    // SAFETY (open): the file is ours; a sealed one is never written again, an open one only by this environment
    // (heed refuses to open a path twice in a process). What damage on disk can do to a mapped tree is why readers are
    // processes of their own and why `Guard` exists.
    let env = unsafe { options.flags(flags).open(path) }.map_err(|e| RingError::lmdb("open", path, e))?;
    refuse_short(&env, path)?;
    Ok(env)
}

/// Touching a page behind the end of a file is SIGBUS: a file that lost its tail is not used.
fn refuse_short(env: &Env, path: &Path) -> Result<(), RingError> {
    let want = used(env);
    let (have, _) = files::sizes(path);
    if have != 0 && have < want {
        let what = format!("it has {have} bytes, its last page ends at {want}");
        return Err(RingError::Damaged { path: path.to_owned(), what });
    }
    Ok(())
}

/// Bytes up to the end of the last page in use.
pub(crate) fn used(env: &Env) -> u64 {
    (env.info().last_page_number as u64).saturating_add(1).saturating_mul(files::PAGE)
}

/// The `blocks` and `meta` tables of a segment, made where missing.
pub(crate) fn create_segment_tables(env: &Env, path: &Path) -> Result<(Blocks, Table), RingError> {
    let failed = |e| RingError::lmdb("make tables in", path, e);
    let txn = env.write_txn().map_err(failed)?;
    let made = env.create_databases_and_commit(txn, |opener, txn| {
        let blocks = opener.create_database::<U64<BE>, Bytes>(txn, Some("blocks"))?;
        let meta = opener.create_database::<Str, Bytes>(txn, Some("meta"))?;
        Ok(CommitOrAbort::<_, ()>::Commit((blocks, meta)))
    });
    made.map_err(failed).map(CommitOrAbort::unwrap_commit)
}

/// The tables of a segment that is there; `None` when it has none.
pub(crate) fn open_segment_tables(env: &Env, path: &Path) -> Result<Option<(Blocks, Table)>, RingError> {
    let failed = |e| RingError::lmdb("open tables of", path, e);
    let txn = env.read_txn().map_err(failed)?;
    let found = env.open_databases_and_commit(txn, |opener, txn| {
        let blocks = opener.open_database::<U64<BE>, Bytes>(txn, Some("blocks"))?;
        let meta = opener.open_database::<Str, Bytes>(txn, Some("meta"))?;
        Ok(CommitOrAbort::<_, ()>::Commit((blocks, meta)))
    });
    let (blocks, meta) = found.map_err(failed)?.unwrap_commit();
    Ok(blocks.zip(meta))
}

/// The unnamed table of a small environment, made where missing.
pub(crate) fn create_table(env: &Env, path: &Path) -> Result<Table, RingError> {
    let failed = |e| RingError::lmdb("make a table in", path, e);
    let txn = env.write_txn().map_err(failed)?;
    let made = env.create_databases_and_commit(txn, |opener, txn| {
        opener.create_database::<Str, Bytes>(txn, None).map(CommitOrAbort::<_, ()>::Commit)
    });
    made.map_err(failed).map(CommitOrAbort::unwrap_commit)
}

/// Takes the pages of a value that was read out of this process; they stay in the page cache. Whoever walked through a
/// segment of gigabytes would else hold as much memory. `value` must come from a read transaction.
#[allow(unsafe_code)] // madvise(2) can change what memory holds
pub(crate) fn let_go(value: &[u8]) {
    let past = value.as_ptr().addr() % files::PAGE as usize;
    let begin = value.as_ptr().wrapping_sub(past).cast_mut().cast();
    // SAFETY: the value lies in LMDB's map, which (no environment is opened with WRITE_MAP) is a shared mapping of the
    // file that is never written through: a page that was taken out is read from the file again when it is touched.
    let taken = NonNull::new(begin).map(|at| unsafe { madvise(at, past + value.len(), MmapAdvise::MADV_DONTNEED) });
    debug_assert!(matches!(taken, Some(Ok(()))), "{taken:?}");
}

/// LMDB does not notice damaged values, so ours carry a crc32c in front.
pub(crate) fn seal<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let json = serde_json::to_vec(value).expect("maps with text keys and numbers are always JSON");
    let mut out = crc32c::crc32c(&json).to_le_bytes().to_vec();
    out.extend_from_slice(&json);
    out
}

/// The value behind a good crc32c.
pub(crate) fn unseal<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (crc, json) = bytes.split_first_chunk::<4>()?;
    (crc32c::crc32c(json) == u32::from_le_bytes(*crc)).then(|| serde_json::from_slice(json).ok())?
}

/// Deaths over reading one file after which it is set aside. More than the damage needs, since a SIGKILL that happens
/// to fall into the few milliseconds of opening counts as well.
pub(crate) const READ_DEATHS: u32 = 5;

/// Deaths over the first commit into a segment after which it is sealed, which costs nothing.
pub(crate) const WRITE_DEATHS: u32 = 3;

/// A damaged tree can kill the process that reads it (SIGSEGV, SIGBUS). This note on disk says which file we are at:
/// who comes back several times to find the same name there leaves that file alone.
pub(crate) struct Guard {
    note: PathBuf,
    name: String,
    /// Before this use.
    deaths: u32,
}

impl Guard {
    /// Notes that `path` is going to be used; `Err` with the reason when that ended us `allowed` times.
    pub fn enter(note: PathBuf, path: &Path, allowed: u32) -> Result<Self, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let deaths = fs::read_to_string(&note).ok().and_then(|text| deaths(&text, &name)).unwrap_or(0);
        if deaths >= allowed {
            let _ = fs::remove_file(&note);
            return Err(format!("using it ended this process {deaths} times"));
        }
        let guard = Self { note, name, deaths };
        guard.resume();
        Ok(guard)
    }

    /// The use goes on.
    pub fn resume(&self) {
        self.write(self.deaths + 1);
    }

    /// For a while nothing is done that could end us: who kills us then is not this file.
    pub fn pause(&self) {
        self.write(self.deaths);
    }

    fn write(&self, deaths: u32) {
        // A note that cannot be written (full disk) must not keep us from reading.
        let _ = fs::write(&self.note, format!("{} {deaths}", self.name));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.note);
    }
}

fn deaths(text: &str, name: &str) -> Option<u32> {
    let (noted, count) = text.rsplit_once(' ')?;
    (noted == name).then(|| count.parse().ok())?
}
