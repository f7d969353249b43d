//! What is taken from a USB stick (the configuration and the secrets that it names, and nothing else) and what is put onto
//! one (a support bundle). Bytes are copied and never looked at.
//!
//! ```text
//! raven.toml     the configuration, at most 1 MiB
//! secrets/NAME   what it calls `secret:NAME`, at most 64 files of 64 KiB
//! ```

use raven_model::config::Secret;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Most bytes of a configuration; as in `ravend`.
pub const CONFIG_MAX: u64 = 1 << 20;
/// Most bytes of a secret.
pub const SECRET_MAX: u64 = 64 << 10;
/// Most secrets.
pub const SECRETS_MAX: usize = 64;
/// Most entries of the folder `secrets` that are looked at.
const ENTRIES_MAX: usize = 1024;

/// What was taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Names of secrets.
    pub secrets: Vec<String>,
    /// What was left where it is, and why.
    pub left: Vec<String>,
}

/// Copies from a stick that is mounted at `from` into the folder `to`, which is replaced as a whole. `None` when there is
/// no configuration on it: then `to` stays as it is.
///
/// # Errors
/// The configuration cannot be read or is too long; `to` cannot be written.
pub fn take(from: &Path, to: &Path) -> io::Result<Option<Taken>> {
    let config = match regular(&from.join("raven.toml"), CONFIG_MAX) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        config => config.map_err(|error| io::Error::new(error.kind(), format!("raven.toml: {error}")))?,
    };
    let new = to.with_extension("new");
    for old in [&new, to] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    private_folder(&new)?;
    private_folder(&new.join("secrets"))?;
    put(&new.join("raven.toml"), &config)?;
    let taken = secrets(&from.join("secrets"), &new.join("secrets"))?;
    fs::rename(&new, to)?;
    Ok(Some(taken))
}

fn secrets(from: &Path, to: &Path) -> io::Result<Taken> {
    let mut taken = Taken::default();
    let is_folder = fs::symlink_metadata(from).is_ok_and(|meta| meta.is_dir());
    let entries = if is_folder { fs::read_dir(from).ok() } else { None };
    for entry in entries.into_iter().flatten().take(ENTRIES_MAX) {
        let Ok(entry) = entry else {
            taken.left.push("secrets: an entry cannot be read".to_owned());
            continue;
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        let why = if format!("secret:{name}").parse::<Secret>().is_err() {
            "not the name of a secret".to_owned()
        } else if taken.secrets.len() >= SECRETS_MAX {
            format!("more than {SECRETS_MAX}")
        } else {
            match regular(&entry.path(), SECRET_MAX) {
                Ok(content) => {
                    put(&to.join(&name), &content)?;
                    taken.secrets.push(name);
                    continue;
                }
                Err(error) => error.to_string(),
            }
        };
        taken.left.push(format!("secrets/{}: {why}", name.escape_default()));
    }
    taken.secrets.sort();
    Ok(taken)
}

/// The content of a file that is one, and no longer than `most` bytes: no link, no pipe, no device.
fn regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(io::Error::other(format!("longer than {most} bytes")));
    }
    Ok(content)
}

/// Whether a file of this name is put onto a stick.
pub fn is_fine(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=100).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// Writes `content` as the new file `name` of a stick that is mounted at `to`: all of it is on the stick, or nothing.
///
/// # Errors
/// The name; a file of that name is there; the stick is full or takes no writes.
pub fn give(to: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    if !is_fine(name) {
        return Err(io::Error::other("not a name of a file"));
    }
    let path = to.join(name);
    let written =
        put(&path, content).and_then(|()| File::open(&path)?.sync_all()).and_then(|()| File::open(to)?.sync_all());
    match written {
        // Whatever is there was there before.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        Err(error) => {
            let _ = fs::remove_file(&path);
            Err(error)
        }
        done => done,
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::os::unix::fs::symlink;

    fn stick() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("stick"), dir.path().join("taken"));
        fs::create_dir_all(from.join("secrets")).unwrap();
        (dir, from, to)
    }

    #[test]
    fn configuration_and_secrets_are_taken_and_nothing_else() {
        let (_dir, from, to) = stick();
        fs::write(from.join("raven.toml"), "schema = 1\n").unwrap();
        fs::write(from.join("holiday.jpg"), "x").unwrap();
        fs::write(from.join("secrets/noc"), "bearer x\n").unwrap();
        fs::write(from.join("secrets/.hidden"), "x").unwrap();
        fs::write(from.join("secrets/long"), vec![b'x'; SECRET_MAX as usize + 1]).unwrap();
        fs::create_dir(from.join("secrets/folder")).unwrap();
        let taken = take(&from, &to).unwrap().unwrap();
        assert_eq!(taken.secrets, ["noc"]);
        assert_eq!(taken.left.len(), 3, "{:?}", taken.left);
        assert_eq!(fs::read_to_string(to.join("raven.toml")).unwrap(), "schema = 1\n");
        let names = |path: &Path| fs::read_dir(path).unwrap().count();
        assert_eq!((names(&to), names(&to.join("secrets"))), (2, 1));
        // The next one replaces all of it.
        fs::remove_file(from.join("secrets/noc")).unwrap();
        fs::write(from.join("raven.toml"), "schema = 2\n").unwrap();
        take(&from, &to).unwrap().unwrap();
        assert_eq!(
            (fs::read_to_string(to.join("raven.toml")).unwrap().as_str(), names(&to.join("secrets"))),
            ("schema = 2\n", 0)
        );
    }

    #[test]
    fn a_stick_without_a_configuration_changes_nothing() {
        let (_dir, from, to) = stick();
        fs::create_dir(&to).unwrap();
        fs::write(to.join("raven.toml"), "before").unwrap();
        fs::write(from.join("secrets/noc"), "x").unwrap();
        assert_eq!(take(&from, &to).unwrap(), None);
        assert_eq!(fs::read_to_string(to.join("raven.toml")).unwrap(), "before");
    }

    #[test]
    fn a_file_is_given_whole_under_a_plain_name_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        give(dir.path(), "raven-a-2.tar.zst", b"bundle").unwrap();
        assert_eq!(fs::read(dir.path().join("raven-a-2.tar.zst")).unwrap(), b"bundle");
        assert!(give(dir.path(), "raven-a-2.tar.zst", b"other").is_err());
        assert_eq!(fs::read(dir.path().join("raven-a-2.tar.zst")).unwrap(), b"bundle");
        for name in ["", ".hidden", "../out", "a/b", "a b", &"x".repeat(101)] {
            assert!(give(dir.path(), name, b"x").is_err(), "{name}");
        }
    }

    #[test]
    fn links_pipes_and_long_files_are_no_configuration() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        for (name, make) in [
            ("link", Box::new(|at: &Path| symlink(outside.path(), at).unwrap()) as Box<dyn Fn(&Path)>),
            ("pipe", Box::new(|at: &Path| mkfifo(at, Mode::S_IRWXU).unwrap())),
            ("folder", Box::new(|at: &Path| fs::create_dir(at).unwrap())),
            ("long", Box::new(|at: &Path| fs::write(at, vec![b'#'; CONFIG_MAX as usize + 1]).unwrap())),
        ] {
            let (_dir, from, to) = stick();
            make(&from.join("raven.toml"));
            let error = take(&from, &to).unwrap_err().to_string();
            assert!(error.starts_with("raven.toml: ") && !to.exists(), "{name}: {error}");
        }
        // A link in place of the folder of secrets leads nowhere either.
        let (_dir, from, to) = stick();
        fs::write(from.join("raven.toml"), "schema = 1\n").unwrap();
        fs::remove_dir(from.join("secrets")).unwrap();
        symlink("/etc", from.join("secrets")).unwrap();
        assert_eq!(take(&from, &to).unwrap(), Some(Taken::default()));
    }
}
