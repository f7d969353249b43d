//! What operators say about profiles and tunnels: one order per connection, which `ravend` made and handed on, with what
//! its other end may say.

use super::Turn;
use super::hall::{Hall, now_seconds};
use super::store::{Loaded, Store, StoreError};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use raven_model::config::Config;
use raven_model::control::VpnRights;
use raven_model::prefix::Prefix;
use raven_model::query::Reply;
use raven_model::tunnel::TunnelName;
use raven_model::vpn::{Brought, CODE_MAX, Exported, Kept, ORDER_MAX, SecretText, Verdict, VpnOrder, Which};
use raven_profile::openvpn::Credentials;
use raven_profile::{Allow, Options, Profile, Reading, Secret, Summary, read};
use serde::Serialize;
use serde_json::Value;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// A silent operator's program, or one that does not read, is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for a line that holds no key.
const SHORT: usize = 1 << 10;

/// What is known at this moment of what an order is about.
#[derive(Clone)]
pub struct Desk {
    /// The profiles.
    pub store: Store,
    /// Events.
    pub hall: Rc<Hall>,
    /// In force.
    pub config: Rc<Config>,
    /// Tunnels to be turned on or off by hand.
    pub(super) turns: Sender<(TunnelName, Turn)>,
}

/// Answers one order.
pub fn serve(desk: Desk, fd: OwnedFd, rights: VpnRights) {
    tokio::task::spawn_local(async move {
        if let Err(error) = timeout(2 * PATIENCE, talk(&desk, fd, rights)).await.unwrap_or_else(|late| Err(late.into()))
        {
            eprintln!("raven-worker vpn: an operator's connection: {error}");
        }
    });
}

async fn talk(desk: &Desk, fd: OwnedFd, rights: VpnRights) -> io::Result<()> {
    let stream = net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    let mut reader = BufReader::new(UnixStream::from_std(stream)?);
    // Room for all, so that no copy of a key stays behind when it grows.
    let mut line = Zeroizing::new(Vec::with_capacity(ORDER_MAX as usize));
    timeout(PATIENCE, (&mut reader).take(ORDER_MAX).read_until(b'\n', &mut line)).await??;
    let answer = match serde_json::from_slice::<VpnOrder>(&line) {
        Err(_) => Err("not an order that the vpn role knows".to_owned()),
        Ok(order) if order.rights() > rights => Err("the connection was made for less than that".to_owned()),
        Ok(order) => desk.answer(order),
    };
    let lines = match answer {
        Err(why) => vec![line_of(&Reply::Error(why), SHORT)?],
        Ok(lines) => {
            let end = line_of(&Reply::Done(lines.len() as u64), SHORT)?;
            [line_of(&Reply::Ok, SHORT)?].into_iter().chain(lines).chain([end]).collect()
        }
    };
    let mut stream = reader.into_inner();
    let write = async {
        for line in &lines {
            stream.write_all(line).await?;
        }
        Ok(())
    };
    timeout(PATIENCE, write).await?
}

/// A line of an answer: it may hold keys.
type Line = Zeroizing<Vec<u8>>;

/// With room for so many bytes: longer ones leave a copy behind in freed memory.
fn line_of<T: Serialize>(value: &T, room: usize) -> io::Result<Line> {
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *line, value)?;
    line.push(b'\n');
    Ok(line)
}

impl Desk {
    fn answer(&self, order: VpnOrder) -> Result<Vec<Line>, String> {
        match order {
            VpnOrder::Check(brought) => Ok(vec![value(&verdict(&self.read(&brought)?, None))?]),
            VpnOrder::Import { name, brought } => Ok(vec![value(&self.import(&name, &brought)?)?]),
            VpnOrder::List => self.list(),
            VpnOrder::Show(which) => {
                let (version, loaded) = self.load(&which)?;
                let reading = Reading { profile: Some(loaded.profile), report: raven_profile::Report::default() };
                Ok(vec![value(&verdict(&reading, Some(version)))?])
            }
            VpnOrder::Export(which) => {
                let (_, loaded) = self.load(&which)?;
                let text = Zeroizing::new(loaded.profile.to_config().expose().clone());
                // Escaped, it is not twice as long: it has no control characters but ends of lines.
                let room = 2 * text.len() + SHORT;
                Ok(vec![line_of(&Exported { text }, room).map_err(|error| error.to_string())?])
            }
            VpnOrder::Remove(name) => self.remove(&name),
            VpnOrder::Events => self.hall.events().iter().map(value).collect(),
            VpnOrder::Turn { name, on, code } => {
                let turn = self.turn(&name, on, code)?;
                self.turns.try_send((name, turn)).map_err(|_| "too much was ordered at once".to_owned())?;
                Ok(Vec::new())
            }
        }
    }

    fn turn(&self, name: &TunnelName, on: bool, code: Option<SecretText>) -> Result<Turn, String> {
        let vpn = &self.config.vpn;
        let known = vpn.profile.get(name).filter(|_| vpn.order.contains(name));
        let Some(known) = known else {
            return Err(format!("`{name}` is not in vpn.order: nothing is to be turned on or off"));
        };
        match code {
            None if on => Ok(Turn::On),
            None => Ok(Turn::Off),
            Some(_) if !on => Err("a one-time code is for turning a tunnel on".to_owned()),
            Some(code) if code.expose().is_empty() || code.expose().len() > CODE_MAX => {
                Err(format!("a one-time code has 1 to {CODE_MAX} bytes"))
            }
            Some(code) if code.expose().contains(char::is_control) => {
                Err("a one-time code holds no control characters".to_owned())
            }
            Some(code) => match self.store.load(name, known.version, now_seconds()).map_err(words)?.profile {
                Profile::OpenVpn(_) => Ok(Turn::Code(code)),
                Profile::WireGuard(_) => {
                    Err(format!("`{name}` is a profile of WireGuard, which knows no one-time codes"))
                }
            },
        }
    }

    /// What the profile is, with what was brought beside it.
    fn read(&self, brought: &Brought) -> Result<Reading, String> {
        let plain = |what: &str, text: &str| BASE64.decode(text).map_err(|_| format!("{what}: not base64"));
        let text = Zeroizing::new(plain("the profile", &brought.text)?);
        let mut options = Options { now: now_seconds(), without: brought.without.clone(), ..Options::default() };
        for (name, content) in &brought.files {
            options.files.insert(name.clone(), Secret::new(plain(name, content)?));
        }
        for word in &brought.allow {
            options.allow.insert(word.parse::<Allow>().map_err(|expected| format!("`{word}`: {expected}"))?);
        }
        options.venue = venue(&self.config);
        let mut reading = read(&text, &options);
        if let (Some(Profile::OpenVpn(profile)), Some(login)) = (&mut reading.profile, &brought.login) {
            let password = Some(Secret::new(login.password.expose().to_owned()));
            profile.credentials = Credentials::Given { user: Secret::new(login.user.clone()), password };
        }
        Ok(reading)
    }

    fn import(&self, name: &TunnelName, brought: &Brought) -> Result<Verdict, String> {
        let reading = self.read(brought)?;
        let Some(profile) = reading.profile.clone() else { return Ok(verdict(&reading, None)) };
        let passphrase = brought.passphrase.clone();
        let named: Vec<u32> = self.config.vpn.profile.get(name).map(|profile| profile.version).into_iter().collect();
        let version = self.store.add(name, &Loaded { profile, passphrase }, &named).map_err(words)?;
        Ok(verdict(&reading, Some(version)))
    }

    fn list(&self) -> Result<Vec<Line>, String> {
        let mut lines = Vec::new();
        for name in self.store.names().map_err(words)? {
            for version in self.store.versions(&name).map_err(words)? {
                lines.push(value(&self.kept(&name, version))?);
            }
        }
        Ok(lines)
    }

    fn kept(&self, name: &TunnelName, version: u32) -> Kept {
        let in_force = self.config.vpn.profile.get(name).is_some_and(|profile| profile.version == version);
        let base = Kept {
            name: name.clone(),
            version,
            kind: String::new(),
            in_force,
            endpoints: Vec::new(),
            days_left: None,
            public_key: None,
        };
        let now = now_seconds();
        match self.store.load(name, version, now).map(|loaded| loaded.profile.summary(now)) {
            Err(error) => Kept { kind: error.to_string(), ..base },
            Ok(summary) => described(base, &summary),
        }
    }

    fn load(&self, which: &Which) -> Result<(u32, Loaded), String> {
        let newest = || self.store.versions(&which.name).map(|versions| versions.last().copied());
        let version = match which.version {
            Some(version) => version,
            None => newest().map_err(words)?.ok_or_else(|| words(StoreError::Unknown(which.name.to_string())))?,
        };
        Ok((version, self.store.load(&which.name, version, now_seconds()).map_err(words)?))
    }

    /// What the configuration names cannot be removed: it would be asked for at the next start.
    fn remove(&self, name: &TunnelName) -> Result<Vec<Line>, String> {
        if self.config.vpn.profile.contains_key(name) {
            return Err(format!("`{name}` is in the configuration: take [vpn.profile.{name}] out of it first"));
        }
        let kept: Vec<Kept> =
            self.store.versions(name).map_err(words)?.into_iter().map(|version| self.kept(name, version)).collect();
        self.store.remove(name).map_err(words)?;
        kept.iter().map(value).collect()
    }
}

fn value<T: Serialize>(of: &T) -> Result<Line, String> {
    line_of(of, SHORT).map_err(|error| error.to_string())
}

/// Networks that are the venue's, as far as the configuration has them; `net` knows those of DHCP too, and takes no route
/// over any.
fn venue(config: &Config) -> Vec<Prefix> {
    let addresses = config.network.link.values().flat_map(|link| &link.addresses);
    let links = addresses.filter_map(|address| Prefix::new(address.addr, address.len));
    links.chain(config.vpn.never.iter().copied()).collect()
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn words(error: StoreError) -> String {
    error.to_string()
}

fn verdict(reading: &Reading, version: Option<u32>) -> Verdict {
    let summary = reading.profile.as_ref().map(|profile| profile.summary(now_seconds()));
    Verdict {
        version,
        accepted: reading.profile.is_some(),
        findings: reading.report.findings.iter().map(ToString::to_string).collect(),
        summary: summary.and_then(|summary| serde_json::to_value(summary).ok()).unwrap_or(Value::Null),
    }
}

fn described(base: Kept, summary: &Summary) -> Kept {
    match summary {
        Summary::OpenVpn(profile) => Kept {
            kind: "openvpn".to_owned(),
            endpoints: profile.remotes.iter().map(|r| format!("{}:{} {}", r.host, r.port, r.proto)).collect(),
            days_left: profile.certificates.iter().map(|certificate| certificate.days_left).min(),
            ..base
        },
        Summary::WireGuard(profile) => Kept {
            kind: "wireguard".to_owned(),
            public_key: Some(profile.public_key.clone()),
            endpoints: profile.peers.iter().filter_map(|peer| Some(peer.endpoint.as_ref()?.to_string())).collect(),
            ..base
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::config::Link;

    #[test]
    fn networks_of_configured_links_are_the_venues() {
        let mut config = Config::default();
        config.vpn.never = vec!["10.9.0.0/24".parse().unwrap()];
        let addresses = vec!["192.0.2.7/24".parse().unwrap(), "2001:db8::7/64".parse().unwrap()];
        config.network.link.insert("eth0".to_owned(), Link { addresses, ..Link::default() });
        let venue: Vec<String> = venue(&config).iter().map(ToString::to_string).collect();
        assert_eq!(venue, ["192.0.2.0/24", "2001:db8::/64", "10.9.0.0/24"]);
    }
}
