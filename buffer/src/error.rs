//! Why the ring cannot do what it was asked, in operators' words.

use heed::MdbError;
use nix::sys::statvfs::statvfs;
use std::io;
use std::path::{Path, PathBuf};

/// `EIO`, and `ENOSPC`, `EDQUOT` and `EROFS` of Linux, the three that get words of their own.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;
const EROFS: i32 = 30;

/// Every variant leaves the ring as it was; the same call may succeed later.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The file system is full.
    #[error("no space left on the disk to {doing} {path}: free some, or lower `buffer.disk`")]
    NoSpace {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// The file system is mounted read-only, often after a disk error.
    #[error("the disk is read-only, cannot {doing} {path}: look at the kernel's log for disk errors")]
    ReadOnly {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// Another error of the operating system.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// LMDB refused for a reason of its own.
    #[error("cannot {doing} {path}: {what}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What LMDB said.
        what: String,
    },
    /// What is on disk cannot be what was written.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A later version of Raven wrote it. It is sound, and of no use to this one.
    #[error("{path} was written by a newer Raven ({what}): that version reads it")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Which version, and which this Raven knows.
        what: String,
    },
    /// Another process writes to it.
    #[error("{path} is held by another process that writes to this ring: stop it first")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
}

impl RingError {
    /// From an error of the operating system.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(ENOSPC | EDQUOT) => Self::NoSpace { doing, path },
            Some(EROFS) => Self::ReadOnly { doing, path },
            _ => Self::Io { doing, path, source },
        }
    }

    /// From an error of LMDB.
    pub(crate) fn lmdb(doing: &'static str, path: &Path, error: heed::Error) -> Self {
        match error {
            // LMDB calls a write that was cut short by a full disk an I/O error.
            heed::Error::Io(source) if source.raw_os_error() == Some(EIO) && is_full(path) => {
                Self::NoSpace { doing, path: path.to_owned() }
            }
            heed::Error::Io(source) => Self::io(doing, path, source),
            heed::Error::Mdb(MdbError::Other(code)) => Self::io(doing, path, io::Error::from_raw_os_error(code)),
            other => Self::Database { doing, path: path.to_owned(), what: other.to_string() },
        }
    }

    /// True when the error says that the file is not what this Raven wrote, rather than that it may not be read just now.
    pub(crate) const fn is_content(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Database { .. } | Self::Newer { .. })
    }

    /// True when eviction of an old segment would help.
    pub const fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}

/// True when the file system around `path` has less than 1 MiB left.
fn is_full(path: &Path) -> bool {
    statvfs(path).is_ok_and(|fs| fs.blocks_available().saturating_mul(fs.fragment_size()) < 1 << 20)
}
