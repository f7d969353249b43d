//! The profiles that were imported: `DIR/vpn/NAME/VERSION`, each file written once, never changed, readable by this role
//! alone. What is in force is said by the configuration, which names a version.
//!
//! A file is JSON: the profile as [`raven_profile`] writes it, and beside it what openvpn asks for.

use raven_model::tunnel::TunnelName;
use raven_model::vpn::SecretText;
use raven_profile::{Options, Profile, read};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Versions of one name that are kept; the oldest that the configuration does not name goes first.
pub const VERSIONS: usize = 16;
/// Names that are kept.
pub const NAMES: usize = 32;
/// Largest file, bytes: a profile, written anew, in JSON.
const FILE_MAX: u64 = 1 << 20;

/// All profiles.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// A file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// As it was written anew.
    profile: Zeroizing<String>,
    /// Password of its private key.
    #[serde(default)]
    passphrase: Option<SecretText>,
}

/// A profile and what goes with it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The profile.
    pub profile: Profile,
    /// Password of its private key.
    pub passphrase: Option<SecretText>,
}

/// What went wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none of that name or number.
    #[error("there is no profile `{0}`")]
    Unknown(String),
    /// Too many.
    #[error("there are {NAMES} profiles already: remove one first")]
    Full,
    /// The disk.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// It is not what was written.
    #[error("{0}: damaged; import the profile again")]
    Damaged(PathBuf),
}

impl Store {
    /// In this directory, which is there.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Names that have a version, in order.
    pub fn names(&self) -> Result<Vec<TunnelName>, StoreError> {
        let mut names: Vec<TunnelName> = entries(&self.folder)?.iter().filter_map(|name| name.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Versions of a name, the oldest first; empty when there is none.
    pub fn versions(&self, name: &TunnelName) -> Result<Vec<u32>, StoreError> {
        let mut versions: Vec<u32> = entries(&self.folder(name))?.iter().filter_map(|name| name.parse().ok()).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Keeps a new version; its number. `named` are those that the configuration needs.
    pub fn add(&self, name: &TunnelName, loaded: &Loaded, named: &[u32]) -> Result<u32, StoreError> {
        let versions = self.versions(name)?;
        if versions.is_empty() && self.names()?.len() >= NAMES {
            return Err(StoreError::Full);
        }
        let folder = self.folder(name);
        fs::create_dir_all(&folder).map_err(|error| StoreError::Io(folder.clone(), error))?;
        // Numbers of versions that are gone are not given again: the configuration's history may name them.
        let counted = self.highest(name).max(versions.last().copied().unwrap_or(0));
        let version = counted.saturating_add(1);
        let stored = Stored {
            profile: Zeroizing::new(loaded.profile.to_config().expose().clone()),
            passphrase: loaded.passphrase.clone(),
        };
        write(&folder, &version.to_string(), &stored).map_err(|error| StoreError::Io(folder.clone(), error))?;
        write(&folder, "highest", &version).map_err(|error| StoreError::Io(folder.clone(), error))?;
        let spare = versions.iter().filter(|old| !named.contains(old));
        let superfluous = (versions.len() + 1).saturating_sub(VERSIONS);
        for old in spare.take(superfluous) {
            let path = folder.join(old.to_string());
            fs::remove_file(&path).map_err(|error| StoreError::Io(path, error))?;
        }
        Ok(version)
    }

    /// A version.
    pub fn load(&self, name: &TunnelName, version: u32, now: i64) -> Result<Loaded, StoreError> {
        let path = self.folder(name).join(version.to_string());
        let mut text = Zeroizing::new(Vec::new());
        match File::open(&path) {
            Ok(file) => file.take(FILE_MAX).read_to_end(&mut text).map_err(|e| StoreError::Io(path.clone(), e))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Unknown(format!("{name}, version {version}")));
            }
            Err(error) => return Err(StoreError::Io(path, error)),
        };
        let stored: Stored = serde_json::from_slice(&text).map_err(|_| StoreError::Damaged(path.clone()))?;
        let profile = read(stored.profile.as_bytes(), &Options::stored(now)).profile;
        Ok(Loaded { profile: profile.ok_or(StoreError::Damaged(path))?, passphrase: stored.passphrase })
    }

    /// Removes a name with all its versions; their numbers. What lay on the disk is not overwritten: it is gone from the
    /// file system, and from the disk with the next TRIM.
    pub fn remove(&self, name: &TunnelName) -> Result<Vec<u32>, StoreError> {
        let versions = self.versions(name)?;
        if versions.is_empty() {
            return Err(StoreError::Unknown(name.to_string()));
        }
        let folder = self.folder(name);
        for version in &versions {
            let path = folder.join(version.to_string());
            fs::remove_file(&path).map_err(|error| StoreError::Io(path, error))?;
        }
        sync(&folder).map_err(|error| StoreError::Io(folder, error))?;
        Ok(versions)
    }

    /// The tunnel that carried last.
    pub fn last_good(&self) -> Option<TunnelName> {
        serde_json::from_slice(&fs::read(self.folder.join("LAST")).ok()?).ok()
    }

    /// Notes the tunnel that carries.
    pub fn note_good(&self, name: &TunnelName) -> Result<(), StoreError> {
        write(&self.folder, "LAST", name).map_err(|error| StoreError::Io(self.folder.clone(), error))
    }

    fn folder(&self, name: &TunnelName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    fn highest(&self, name: &TunnelName) -> u32 {
        let text = fs::read(self.folder(name).join("highest")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or(0)
    }
}

fn entries(folder: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |error| StoreError::Io(folder.to_owned(), error);
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
        Ok(entries) => {
            let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
            entries.map(name).collect::<io::Result<_>>().map_err(failed)
        }
    }
}

/// Beside, synced, and then under its name: a power cut leaves the old file or the new one.
fn write<T: Serialize>(folder: &Path, name: &str, content: &T) -> io::Result<()> {
    let text = Zeroizing::new(serde_json::to_vec(content)?);
    let (beside, path) = (folder.join(".new"), folder.join(name));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    sync(folder)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const NOW: i64 = 1_796_000_000;
    const WIREGUARD: &str = "[Interface]\nPrivateKey = 6Nl3fcGwpkTsJcRMVzFZ6tyxqS8Ap0jBzkzM5cHYv0c=\nAddress = 10.8.0.2/32\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nEndpoint = 192.0.2.1:51820\nAllowedIPs = 10.20.0.0/16\n";

    fn loaded() -> Loaded {
        let reading = read(WIREGUARD.as_bytes(), &Options { now: NOW, ..Options::default() });
        let report = reading.report;
        Loaded {
            profile: reading.profile.unwrap_or_else(|| panic!("{report:?}")),
            passphrase: Some(SecretText::new("p")),
        }
    }

    #[test]
    fn a_profile_comes_back_as_it_was_and_nobody_else_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        let noc: TunnelName = "noc".parse().unwrap();
        assert_eq!((store.names().unwrap().len(), store.versions(&noc).unwrap().len()), (0, 0));
        assert_eq!(store.add(&noc, &loaded(), &[]).unwrap(), 1);
        assert_eq!(store.add(&noc, &loaded(), &[]).unwrap(), 2);
        let back = store.load(&noc, 1, NOW).unwrap();
        assert_eq!(back.profile, loaded().profile);
        assert_eq!(back.passphrase.unwrap().expose(), "p");
        let mode = fs::metadata(folder.path().join("noc/1")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(store.names().unwrap(), std::slice::from_ref(&noc));
        assert!(matches!(store.load(&noc, 3, NOW), Err(StoreError::Unknown(_))));
        fs::write(folder.path().join("noc/2"), "{}").unwrap();
        assert!(matches!(store.load(&noc, 2, NOW), Err(StoreError::Damaged(_))));
    }

    #[test]
    fn numbers_are_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        let noc: TunnelName = "noc".parse().unwrap();
        store.add(&noc, &loaded(), &[]).unwrap();
        assert_eq!(store.remove(&noc).unwrap(), [1]);
        assert!(matches!(store.remove(&noc), Err(StoreError::Unknown(_))));
        assert_eq!(store.add(&noc, &loaded(), &[]).unwrap(), 2);
    }

    #[test]
    fn old_versions_go_and_the_one_in_force_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        let noc: TunnelName = "noc".parse().unwrap();
        for _ in 0..20 {
            store.add(&noc, &loaded(), &[2]).unwrap();
        }
        let versions = store.versions(&noc).unwrap();
        assert_eq!((versions.len(), versions[0], versions[1]), (VERSIONS, 2, 6));
    }

    #[test]
    fn the_tunnel_that_carried_last_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        assert_eq!(store.last_good(), None);
        store.note_good(&"lte".parse().unwrap()).unwrap();
        assert_eq!(store.last_good(), "lte".parse().ok());
        assert_eq!(store.names().unwrap().len(), 0, "LAST is no name");
    }
}
