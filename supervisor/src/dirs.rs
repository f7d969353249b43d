//! The data directory: what lies in it and whose it is.

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, fchmodat};
use nix::unistd::{Gid, Uid, chown};
use raven_model::table::{Role, table};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The data directory of a running `ravend`.
#[derive(Debug)]
pub struct Dirs {
    /// The directory itself.
    pub data: PathBuf,
    /// Held as long as `ravend` runs, so that no second one uses the directory.
    _lock: Flock<File>,
}

impl Dirs {
    /// Makes what is missing and gives each part to its owner (as root).
    pub fn prepare(data: &Path) -> anyhow::Result<Self> {
        let root = Uid::effective().is_root();
        make(data, 0o755, None)?;
        make(&data.join("run"), 0o755, None)?;
        let lock = lock(&data.join("run/lock"))?;
        let owner = |role| root.then(|| table().spec(role).uid);
        make(&data.join("ring"), 0o750, owner(Role::Store))?;
        make(&data.join("cursors"), 0o700, owner(Role::Uplink))?;
        make(&data.join("vpn"), 0o700, owner(Role::Vpn))?;
        make(&data.join("diag"), 0o700, owner(Role::Schedule))?;
        // Sockets to which openvpn comes.
        make(&data.join("run/vpn"), 0o711, None)?;
        make(&data.join("secrets"), 0o700, root.then_some(0))?;
        make(&data.join("history"), 0o700, root.then_some(0))?;
        Ok(Self { data: data.to_owned(), _lock: lock })
    }

    /// Where operators' programs connect to.
    pub fn control(&self) -> PathBuf {
        self.data.join("run/control")
    }
}

fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .with_context(|| format!("another ravend uses this data directory ({} is locked)", path.display()))
}

/// A directory with this mode and, where given, this user and group, together with all in it.
fn make(path: &Path, mode: u32, owner: Option<u32>) -> anyhow::Result<()> {
    if !path.is_dir() {
        fs::create_dir_all(path).with_context(|| format!("cannot make the directory {}", path.display()))?;
        fchmodat(
            nix::fcntl::AT_FDCWD,
            path,
            Mode::from_bits_truncate(mode),
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
        .with_context(|| format!("cannot set the mode of {}", path.display()))?;
        // What its owner syncs in it would be gone with a name that a power cut took.
        let above = path.parent().unwrap_or(path);
        File::open(above)
            .and_then(|above| above.sync_all())
            .with_context(|| format!("cannot sync {}", above.display()))?;
    }
    match owner {
        Some(owner) => own(path, owner),
        None => Ok(()),
    }
}

/// Gives a tree to `owner`, who may have been another user before (a ring that was made without root).
fn own(path: &Path, owner: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.uid() != owner || meta.gid() != owner {
        chown(path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
            .with_context(|| format!("cannot give {} to user {owner}", path.display()))?;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), owner)?;
        }
    }
    Ok(())
}
