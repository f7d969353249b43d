//! Names and handling of the ring's files. Paths are relative to the ring directory that the process was given.

use crate::error::RingError;
use crate::ledger::Ledger;
use nix::fcntl::{FallocateFlags, fallocate};
use raven_model::units::Seq;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Page size of LMDB on the machines that Raven runs on.
pub(crate) const PAGE: u64 = 4096;

/// Owner writes, the group (readers) reads. The umask may take more away.
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// Where the parts of one stream lie.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub ring: PathBuf,
    pub stream: String,
}

impl Paths {
    pub fn new(ring: &Path, stream: &str) -> Self {
        Self { ring: ring.to_owned(), stream: stream.to_owned() }
    }

    pub fn dir(&self) -> PathBuf {
        self.ring.join(&self.stream)
    }

    pub fn segment(&self, first: Seq) -> PathBuf {
        self.dir().join(format!("{:016x}.mdb", first.0))
    }

    /// The segment that is prepared ahead.
    pub fn prepared(&self) -> PathBuf {
        self.dir().join("next.mdb")
    }

    pub fn lock(&self) -> PathBuf {
        self.dir().join(".lock")
    }

    /// Notes which file is being opened, to find out which one kills us.
    pub fn guard(&self) -> PathBuf {
        self.dir().join(".opening")
    }

    /// The same for the first commit into the newest segment.
    pub fn write_guard(&self) -> PathBuf {
        self.dir().join(".writing")
    }

    pub fn ledger(&self) -> PathBuf {
        self.dir().join("ledger.json")
    }

    pub fn contexts(&self) -> PathBuf {
        self.dir().join("contexts")
    }

    pub fn catalogue_dir(&self) -> PathBuf {
        self.ring.join("catalogue")
    }

    pub fn catalogue(&self) -> PathBuf {
        self.catalogue_dir().join(format!("{}.mdb", self.stream))
    }

    pub fn quarantine(&self) -> PathBuf {
        self.ring.join("quarantine")
    }
}

/// First seq of each segment of a stream, oldest first. Other files in the folder are passed over.
pub(crate) fn list_segments(dir: &Path) -> Result<Vec<Seq>, RingError> {
    let failed = |error| RingError::io("list", dir, error);
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        firsts.extend(segment_name(&entry.map_err(failed)?.file_name().to_string_lossy()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

fn segment_name(name: &str) -> Option<Seq> {
    let hex = name.strip_suffix(".mdb").filter(|hex| hex.len() == 16)?;
    u64::from_str_radix(hex, 16).ok().map(Seq)
}

/// Makes a folder and those above it, where missing, durably: what is synced in a folder whose own name was not is gone
/// with it.
pub(crate) fn make_dir(dir: &Path) -> Result<(), RingError> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Ok(()) => sync_dir(parent),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // Perhaps by a process that was killed before the next line. A jail may not let us see what is above.
            let _ = sync_dir(parent);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound && !parent.exists() => {
            make_dir(parent)?;
            make_dir(dir)
        }
        Err(error) => Err(RingError::io("make", dir, error)),
    }
}

/// Makes an empty file with room for `bytes`, where none is yet. The size stays 0, so that LMDB takes it as new.
pub(crate) fn create_with_room(path: &Path, bytes: u64) -> Result<(), RingError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|e| RingError::io("create", path, e))?;
    reserve(&file, path, bytes).inspect_err(|_| {
        // Half the room is of no use to us and may be to others.
        let _ = fs::remove_file(path);
    })
}

fn reserve(file: &File, path: &Path, bytes: u64) -> Result<(), RingError> {
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes.cast_signed()) {
        // Not every file system can (tmpfs can, some network and FUSE ones cannot): room is then found as we go.
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(RingError::io("reserve room for", path, errno.into())),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), RingError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| RingError::io("make durable the names in", dir, e))
}

/// Gives back the room behind `bytes` (of which the file may have fewer).
pub(crate) fn trim(path: &Path, bytes: u64) -> Result<(), RingError> {
    let failed = |e| RingError::io("trim", path, e);
    let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    file.set_len(len.max(bytes)).map_err(failed)
}

/// Length, and bytes taken on disk; zeros for a missing file.
pub(crate) fn sizes(path: &Path) -> (u64, u64) {
    fs::metadata(path).map_or((0, 0), |meta| (meta.len(), meta.blocks() * 512))
}

/// Removes a file, where it is.
pub(crate) fn remove(path: &Path) -> Result<(), RingError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(RingError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// LMDB's lock file of an environment. Raven makes none; one may be left by somebody else's tool.
pub(crate) fn lmdb_lock(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

/// Takes a lock that ends with the process; `Ok(None)` when another has it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, RingError> {
    let failed = |e| RingError::io("lock", path, e);
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Writes a small file whole or not at all. Not durable: for copies of what is durable elsewhere.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), RingError> {
    let new = path.with_extension("new");
    write_new(&new, bytes)?;
    fs::rename(&new, path).map_err(|e| RingError::io("write", path, e))
}

/// The same, durable when it returns. After a power cut meanwhile it is the old file or the new one.
pub(crate) fn replace_durably(path: &Path, bytes: &[u8]) -> Result<(), RingError> {
    let new = path.with_extension("new");
    sync(&write_new(&new, bytes)?, &new)?;
    rename_durably(&new, path)
}

/// Makes a file's bytes durable.
pub(crate) fn sync(file: &File, path: &Path) -> Result<(), RingError> {
    file.sync_all().map_err(|e| RingError::io("make durable", path, e))
}

/// A file that is durable under another name gets its own, durably.
pub(crate) fn rename_durably(new: &Path, path: &Path) -> Result<(), RingError> {
    fs::rename(new, path).map_err(|e| RingError::io("write", path, e))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// A half written one is removed, which may give back the room that was missing.
fn write_new(path: &Path, bytes: &[u8]) -> Result<File, RingError> {
    let failed = |e| RingError::io("write", path, e);
    remove(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path).map_err(failed)?;
    match file.write_all(bytes) {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(failed(error))
        }
    }
}

/// The copy of the ledger that readers see.
pub(crate) fn published_ledger(paths: &Paths) -> Option<Ledger> {
    serde_json::from_slice(&fs::read(paths.ledger()).ok()?).ok()
}

/// Moves a file that cannot be read out of the way, under a name that is not taken. Returns the new path.
pub(crate) fn set_aside(path: &Path, into: &Path, stream: &str) -> Result<PathBuf, RingError> {
    make_dir(into)?;
    let here = path.parent().unwrap_or(into);
    let target = match rename_free(path, into, stream) {
        // A jail may forbid to move files between folders (Landlock without the right to refer): then it stays here,
        // under a name that nothing reads.
        Err(error) if error.kind() == ErrorKind::CrossesDevices => rename_free(path, here, "unread"),
        other => other,
    };
    let target = target.map_err(|e| RingError::io("set aside", path, e))?;
    sync_dir(here)?;
    Ok(target)
}

fn rename_free(path: &Path, into: &Path, prefix: &str) -> std::io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let names = (0..u32::MAX).map(|n| into.join(format!("{prefix}-{name}.{n}")));
    let target = names.into_iter().find(|p| !p.exists()).unwrap_or_default();
    fs::rename(path, &target).map(|()| target)
}

/// Files of a folder with their room on disk, oldest first by time of change.
pub(crate) fn by_age(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.metadata().ok().map(|meta| (meta.mtime(), entry.path(), meta.blocks() * 512)))
        .collect();
    files.sort();
    files.into_iter().map(|(_, path, room)| (path, room)).collect()
}
