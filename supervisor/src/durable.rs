//! Files that are there whole or not at all, also after a power cut.

use anyhow::Context;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file's new content, on disk beside it.
#[derive(Debug)]
pub struct Prepared {
    new: PathBuf,
    path: PathBuf,
}

/// Writes the new content of a file beside it, with the mode that the file has (0600 where there is none).
pub fn prepare(path: &Path, content: &[u8]) -> anyhow::Result<Prepared> {
    let mode = fs::metadata(path).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
    let (new, context) = (beside(path), || format!("cannot write {}", path.display()));
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).with_context(context)?;
    file.write_all(content)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .with_context(context)?;
    Ok(Prepared { new, path: path.to_owned() })
}

impl Prepared {
    /// Puts it in the file's place.
    pub fn commit(self) -> anyhow::Result<()> {
        let Self { new, path } = self;
        fs::rename(&new, &path)
            .and_then(|()| sync_folder(&path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A file that only its owner can read.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    prepare(path, content.as_ref())?.commit()
}

/// A file that everybody may read, whole or not at all, in memory: it is not synced.
pub fn write_public(path: &Path, content: &str) -> anyhow::Result<()> {
    let (new, context) = (beside(path), || format!("cannot write {}", path.display()));
    fs::write(&new, content)
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&new, path))
        .with_context(context)
}

/// Where the new content of a file is written.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Removes a file for good; one that is not there is fine.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.and_then(|()| sync_folder(path)).with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// A name that is not synced can go with the power.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
