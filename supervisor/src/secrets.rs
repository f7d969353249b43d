//! Secrets: files beside the configuration that only root can read, handed to the roles that need them as sealed
//! memory. `ravend` reads them and never looks inside.
//!
//! TLS listeners without an operator's certificate use the appliance's own, made by the `keygen` role at the first
//! start and kept in `DIR/secrets`. So is the device key, which the `sign` role makes and uses.

use crate::{Args, configure, durable};
use anyhow::{Context, bail};
use nix::unistd::{Uid, dup};
use raven_jail::memory::memfd_of;
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, Start};
use raven_model::hex::unhex;
use raven_model::signature::Signature;
use raven_model::table::Role;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A longer one is refused unread.
const SECRET_MAX: u64 = 1 << 20;
/// Bounds of the operator's MIB modules: a file, and all of them.
const MIB_MAX: u64 = 4 << 20;
const MIBS_MAX: usize = 32 << 20;

/// Roles that get secrets.
const ROLES: [Role; 6] = [Role::Syslog, Role::Trap, Role::Winevent, Role::Metrics, Role::Decode, Role::Uplink];

/// All secrets in force.
#[derive(Debug, Default)]
pub struct Secrets {
    /// By the key of the configuration that names each.
    of_config: BTreeMap<String, OwnedFd>,
    /// The appliance's own certificate and key.
    own: Option<(OwnedFd, OwnedFd)>,
    /// What could not be read, for operators.
    pub alerts: Vec<String>,
}

impl Secrets {
    /// Reads all that `config` names; the first that cannot be read is an error.
    pub fn read(program: &OwnedFd, args: &Args, config: &Config) -> anyhow::Result<Self> {
        let mut secrets = Self::read_or_tell(program, args, config);
        if secrets.alerts.is_empty() { Ok(secrets) } else { bail!(secrets.alerts.swap_remove(0)) }
    }

    /// Reads all that can be read. What cannot be read is told, and stops nothing else.
    pub fn read_or_tell(program: &OwnedFd, args: &Args, config: &Config) -> Self {
        let mut this = Self::default();
        let dir = beside(&args.config, "secrets");
        for (key, secret) in ROLES.into_iter().flat_map(|role| config.secrets(role)) {
            match read_secret(&dir.join(secret.file_name())) {
                Ok(fd) => drop(this.of_config.insert(key, fd)),
                Err(error) => this.tell(format!("{key}: {error:#}")),
            }
        }
        if ROLES.into_iter().any(|role| config.collect.speaks_tls(role)) {
            match own(program, args, &config.site.name) {
                Ok(own) => this.own = Some(own),
                Err(error) => this.tell(format!("no certificate of the appliance's own: {error:#}")),
            }
        }
        this
    }

    fn tell(&mut self, alert: String) {
        if !self.alerts.contains(&alert) {
            tracing::error!("{alert}");
            self.alerts.push(alert);
        }
    }

    /// What `role` is to get: names, and a descriptor for each.
    pub fn of(&self, role: Role, config: &Config) -> io::Result<(Vec<String>, Vec<OwnedFd>)> {
        let (mut names, mut fds) = (Vec::new(), Vec::new());
        for (key, _) in config.secrets(role) {
            if let Some(fd) = self.of_config.get(&key) {
                names.push(key);
                fds.push(dup(fd)?);
            }
        }
        let certificate = format!("collect.{role}.certificate");
        let needs_own = config.collect.speaks_tls(role) && !names.contains(&certificate);
        if let Some((own_certificate, own_key)) = self.own.as_ref().filter(|_| needs_own) {
            names.extend([certificate, format!("collect.{role}.key")]);
            fds.extend([dup(own_certificate)?, dup(own_key)?]);
        }
        Ok((names, fds))
    }
}

/// The file or directory `name` beside the configuration.
pub fn beside(config: &Path, name: &str) -> std::path::PathBuf {
    config.with_file_name(name)
}

/// A file that only its owner can read.
pub fn read_secret(path: &Path) -> anyhow::Result<OwnedFd> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read the secret {shown}"))?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > SECRET_MAX {
        bail!("the secret {shown} is not a file of at most {SECRET_MAX} bytes");
    }
    if meta.mode() & 0o077 != 0 || (meta.uid() != 0 && meta.uid() != Uid::effective().as_raw()) {
        bail!("others can read or own the secret {shown}: `chown root` and `chmod 600` it");
    }
    let mut content = Vec::new();
    file.take(SECRET_MAX).read_to_end(&mut content)?;
    Ok(memfd_of("raven-secret", &content)?)
}

/// The appliance's own certificate and key, made where there are none.
fn own(program: &OwnedFd, args: &Args, device: &str) -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let dir = args.data.join("secrets");
    let (certificate, key) = (dir.join("appliance.crt"), dir.join("appliance.key"));
    if !certificate.is_file() || !key.is_file() {
        let start = configure::start_once(Role::Keygen, device);
        match configure::ask(program, &args.data, start, Vec::new())? {
            FromWorker::Keys { certificate: text, key: secret } => {
                durable::write_private(&key, &secret)?;
                durable::write_private(&certificate, &text)?;
            }
            _ => bail!("the keygen worker gave no keys"),
        }
    }
    Ok((read_secret(&certificate)?, read_secret(&key)?))
}

/// The appliance's signature of what has this digest. The device key is made at the first need of it.
pub fn sign(program: &OwnedFd, args: &Args, device: &str, sha256: &str) -> anyhow::Result<Signature> {
    let path = args.data.join("secrets/device.key");
    if !path.is_file() {
        match configure::ask(program, &args.data, configure::start_once(Role::Sign, device), Vec::new())? {
            FromWorker::DeviceKey { key } => durable::write_private(&path, unhex(&key).context("no key")?)?,
            _ => bail!("the sign worker gave no key"),
        }
    }
    let fds = vec![read_secret(&path)?, memfd_of("raven-digest", sha256.as_bytes())?];
    let start = Start { fds: vec![Fd::DeviceKey, Fd::Digest], ..configure::start_once(Role::Sign, device) };
    match configure::ask(program, &args.data, start, fds)? {
        FromWorker::Signed(signature) => Ok(signature),
        _ => bail!("the sign worker gave no signature"),
    }
}

/// The operator's MIB modules, in the directory `mibs` beside the configuration: `{ name_len u16, name, text_len u32,
/// text } …`. Those that are too long are left out and told.
pub fn mibs(config: &Path) -> anyhow::Result<OwnedFd> {
    let mut all = Vec::new();
    let mut paths: Vec<_> = match fs::read_dir(beside(config, "mibs")) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => Vec::new(),
    };
    paths.sort_unstable();
    for path in paths.iter().filter(|path| path.is_file()) {
        let (name, size) = (path.file_name().unwrap_or_default().to_string_lossy(), fs::metadata(path)?.len());
        if size > MIB_MAX || all.len() + size as usize > MIBS_MAX || name.len() > 255 {
            tracing::warn!("{} is left out: MIB modules have at most 4 MiB, and 32 MiB in all", path.display());
            continue;
        }
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        all.extend_from_slice(&(name.len() as u16).to_le_bytes());
        all.extend_from_slice(name.as_bytes());
        all.extend_from_slice(&(text.len() as u32).to_le_bytes());
        all.extend_from_slice(&text);
    }
    Ok(memfd_of("raven-mibs", &all)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn secret(mode: u32, content: &[u8]) -> anyhow::Result<OwnedFd> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        read_secret(&path)
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        assert!(secret(0o600, b"x").is_ok());
        for mode in [0o644, 0o640, 0o604] {
            assert!(secret(mode, b"x").unwrap_err().to_string().contains("chmod 600"));
        }
        assert!(read_secret(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn mib_modules_are_handed_over_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("mibs")).unwrap();
        fs::write(dir.path().join("mibs/B.mib"), "two").unwrap();
        fs::write(dir.path().join("mibs/A.txt"), "one").unwrap();
        let mut all = Vec::new();
        File::from(mibs(&dir.path().join("raven.toml")).unwrap()).read_to_end(&mut all).unwrap();
        assert_eq!(all, b"\x05\0A.txt\x03\0\0\0one\x05\0B.mib\x03\0\0\0two");
        let empty = mibs(Path::new("/nowhere/raven.toml")).unwrap();
        assert_eq!(raven_jail::memory::len(&empty).unwrap(), 0);
    }
}
