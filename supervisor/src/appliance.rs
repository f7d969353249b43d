//! What of the configuration is the box's own: addresses, firewall, name, clock, SSH keys. `ravend --box /run` puts it
//! into force, on the image alone: files below that directory, and a fixed list of programs that are told of them.
//!
//! Everything is written from checked types; nothing here is parsed.

mod firewall;
mod network;
mod networkd;

use crate::durable;
use crate::program::run;
use anyhow::{Context, bail};
use nix::unistd::sethostname;
use raven_model::config::Config;
use raven_model::control::PowerAction;
use raven_model::firewall::wants_ssh;
use raven_model::table::{OperatorRole, Role, table};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The programs that are started, and no others.
const NFT: &str = "/usr/sbin/nft";
const NETWORKCTL: &str = "/usr/bin/networkctl";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
const ZONES: &str = "/usr/share/zoneinfo";

/// The box.
#[derive(Debug)]
pub struct Appliance {
    /// `/run`, but for tests.
    run: PathBuf,
}

impl Appliance {
    /// Files go below `run`.
    pub fn new(run: &Path) -> Self {
        Self { run: run.to_owned() }
    }

    /// A connection to systemd-networkd for the net role; or why there is none.
    pub fn networkd(&self) -> Result<OwnedFd, String> {
        networkd::connect(&self.run, table().spec(Role::Net).uid)
    }

    /// What can be known to fail, before anything changes.
    pub fn check(config: &Config) -> anyhow::Result<()> {
        let zone = Path::new(ZONES).join(&config.system.timezone);
        // Without its file a zone is UTC.
        if config.system.timezone != "UTC" && !zone.is_file() {
            bail!("system.timezone: there is no time zone `{}`", config.system.timezone);
        }
        run(NFT, &["-c", "-f", "-"], firewall::rules(config).as_bytes())
            .context("the firewall would not take its rules")?;
        Ok(())
    }

    /// Puts all of it into force. What fails is told and keeps nothing else from being done.
    pub fn put(&self, config: &Config) -> Vec<String> {
        let parts: [(&str, anyhow::Result<()>); 6] = [
            ("firewall", run(NFT, &["-f", "-"], firewall::rules(config).as_bytes()).map(drop)),
            ("network", self.network(config)),
            ("name servers", self.name_servers(config)),
            ("name of the box", sethostname(hostname(&config.site.name)).map_err(anyhow::Error::from)),
            ("clock", self.clock(config)),
            ("SSH", self.ssh(config)),
        ];
        let failed = parts.into_iter().filter_map(|(part, outcome)| Some(format!("{part}: {:#}", outcome.err()?)));
        failed.inspect(|failure| tracing::error!("{failure}")).collect()
    }

    /// Starts the box anew, or turns it off.
    pub fn power(action: PowerAction) -> anyhow::Result<()> {
        let verb = match action {
            PowerAction::Reboot => "reboot",
            PowerAction::Off => "poweroff",
        };
        run(SYSTEMCTL, &["--no-block", verb], b"").map(drop)
    }

    /// Units of systemd-networkd, which reads them anew when it runs already.
    fn network(&self, config: &Config) -> anyhow::Result<()> {
        let dir = self.run.join("systemd/network");
        let (changed, gone) = replace(&dir, network::PREFIX, &network::units(&config.network))?;
        if !changed || !self.run.join("systemd/netif/state").exists() {
            return Ok(());
        }
        run(NETWORKCTL, &["reload"], b"")?;
        // A device of networkd's stays until somebody removes it.
        for device in gone.iter().filter_map(|file| network::device(file)) {
            run(NETWORKCTL, &["delete", device], b"")?;
        }
        Ok(())
    }

    fn name_servers(&self, config: &Config) -> anyhow::Result<()> {
        let servers: Vec<String> = config.network.dns.iter().map(ToString::to_string).collect();
        let text = format!("[Resolve]\nDNS={}\n", servers.join(" "));
        self.drop_in("resolved", &text)
    }

    fn clock(&self, config: &Config) -> anyhow::Result<()> {
        let link = self.run.join("raven/localtime");
        let zone = Path::new(ZONES).join(&config.system.timezone);
        if fs::read_link(&link).ok().as_ref() != Some(&zone) {
            make(link.parent().unwrap_or(&link))?;
            let new = link.with_extension("new");
            let _ = fs::remove_file(&new);
            std::os::unix::fs::symlink(&zone, &new).and_then(|()| fs::rename(&new, &link))?;
        }
        self.drop_in("timesyncd", &format!("[Time]\nNTP={}\n", config.system.ntp.join(" ")))
    }

    /// What a service of systemd reads when it starts.
    fn drop_in(&self, service: &str, text: &str) -> anyhow::Result<()> {
        let dir = self.run.join(format!("systemd/{service}.conf.d"));
        let files = BTreeMap::from([("raven.conf".to_owned(), text.to_owned())]);
        let (changed, _) = replace(&dir, "raven", &files)?;
        if changed && self.is_up() {
            run(SYSTEMCTL, &["--no-block", "try-restart", &format!("systemd-{service}.service")], b"")?;
        }
        Ok(())
    }

    /// No key is taken.
    pub fn let_nobody_in(&self) -> anyhow::Result<()> {
        self.ssh(&Config::default())
    }

    /// Keys of each role, and the server while there are any.
    fn ssh(&self, config: &Config) -> anyhow::Result<()> {
        let keys = |role: OperatorRole| {
            let keys = &config.access.of(role).ssh_keys;
            keys.iter().fold(String::new(), |all, key| all + key + "\n")
        };
        let files = OperatorRole::ALL.into_iter().map(|role| (format!("{role}.keys"), keys(role))).collect();
        let (changed, _) = replace(&self.run.join("raven/ssh"), "", &files)?;
        if changed && self.is_up() {
            let verb = if wants_ssh(config) { "start" } else { "stop" };
            run(SYSTEMCTL, &["--no-block", verb, "ssh.service"], b"")?;
        }
        Ok(())
    }

    /// Whether systemd can be asked: it starts ravend before its bus.
    fn is_up(&self) -> bool {
        self.run.join("systemd/private").exists()
    }
}

/// A name of the box as the kernel and DHCP take it (RFC 952).
fn hostname(site: &str) -> String {
    site.replace('_', "-").trim_matches(['-', '.']).to_owned()
}

fn make(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

/// Makes `files` all of the directory's files that begin with `prefix`. Says whether anything changed, and the names
/// that are gone.
fn replace(dir: &Path, prefix: &str, files: &BTreeMap<String, String>) -> anyhow::Result<(bool, Vec<String>)> {
    make(dir)?;
    let mut changed = false;
    for (name, text) in files {
        let path = dir.join(name);
        if fs::read_to_string(&path).is_ok_and(|now| now == *text) {
            continue;
        }
        durable::write_public(&path, text)?;
        changed = true;
    }
    let names = fs::read_dir(dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let gone: BTreeSet<String> = names.filter(|name| name.starts_with(prefix) && !files.contains_key(name)).collect();
    for name in &gone {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok((changed || !gone.is_empty(), gone.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_that_are_no_longer_wanted_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let files = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        fs::write(dir.path().join("80-dhcp.network"), "x").unwrap();
        let put = |names: &[&str]| replace(dir.path(), "10-raven-", &files(names)).unwrap();
        assert_eq!(put(&["10-raven-a", "10-raven-b"]), (true, vec![]));
        assert_eq!(put(&["10-raven-a", "10-raven-b"]), (false, vec![]));
        assert_eq!(put(&["10-raven-b"]), (true, vec!["10-raven-a".to_owned()]));
        assert!(dir.path().join("80-dhcp.network").exists() && !dir.path().join("10-raven-a").exists());
    }

    #[test]
    fn a_site_is_a_host_name() {
        assert_eq!(hostname("arena_north."), "arena-north");
    }
}
