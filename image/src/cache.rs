//! What was fetched or built is kept, named by the hash of all that went into it, so that nothing is done twice and
//! nothing old is taken for new.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Collects what goes into something.
#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    /// Adds bytes, so that two parts are never taken for one.
    pub fn add(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a file with its name.
    pub fn file(self, path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.add(path.file_name().unwrap_or_default().as_encoded_bytes()).add(&bytes))
    }

    /// Adds all files below `folder`, with names, targets of links and modes.
    pub fn folder(mut self, folder: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        for path in files(folder)? {
            let name = path.strip_prefix(folder).unwrap_or(&path);
            let meta = fs::symlink_metadata(&path)?;
            self = self.add(name.as_os_str().as_encoded_bytes()).add(&meta.permissions().mode().to_le_bytes());
            self = if meta.is_symlink() {
                self.add(fs::read_link(&path)?.as_os_str().as_encoded_bytes())
            } else {
                self.add(&fs::read(&path)?)
            };
        }
        Ok(self)
    }

    /// Twenty hexadecimal digits.
    pub fn name(self) -> String {
        raven_model::hex::hex(&self.0.finalize()[..10])
    }
}

/// All files and links below `folder`, sorted.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { open.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort();
    Ok(found)
}

/// The folder `NAME-KEY` of the cache, made by `make` when it is not there whole. Others of the same name go.
pub fn folder(
    cache: &Path,
    name: &str,
    key: &str,
    fresh: bool,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let place = cache.join(format!("{name}-{key}"));
    if place.is_dir() && !fresh {
        println!("  kept: {}", place.display());
        return Ok(place);
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let begun = tempfile::Builder::new().prefix("begun-").tempdir_in(cache)?;
    make(begun.path())?;
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    fs::rename(begun.keep(), &place)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_made_is_made_once_and_never_kept_half() {
        let cache = tempfile::tempdir().unwrap();
        let make = |text: &'static str| move |at: &Path| Ok(fs::write(at.join("it"), text)?);
        let failed = folder(cache.path(), "x", "1", false, |at| {
            fs::write(at.join("it"), "half").unwrap();
            anyhow::bail!("no")
        });
        assert!(failed.is_err() && fs::read_dir(cache.path()).unwrap().count() == 0);
        let place = folder(cache.path(), "x", "1", false, make("one")).unwrap();
        folder(cache.path(), "x", "1", false, make("two")).unwrap();
        assert_eq!(fs::read_to_string(place.join("it")).unwrap(), "one");
        folder(cache.path(), "x", "1", true, make("three")).unwrap();
        assert_eq!(fs::read_to_string(place.join("it")).unwrap(), "three");
        folder(cache.path(), "x", "2", false, make("four")).unwrap();
        assert!(!place.exists());
    }

    #[test]
    fn parts_are_not_taken_for_each_other() {
        assert_ne!(Key::default().add(b"ab").add(b"c").name(), Key::default().add(b"a").add(b"bc").name());
    }

    #[test]
    fn a_changed_mode_or_link_is_a_change() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let key = || Key::default().folder(dir.path()).unwrap().name();
        fs::write(dir.path().join("a"), "x").unwrap();
        let first = key();
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        let second = key();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(first != second && second != key());
    }
}
