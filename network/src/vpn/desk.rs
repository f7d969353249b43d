//! What operators say about profiles and tunnels: one order per connection, which `ravend` made and handed on, with what
//! its other end may say.

use super::hall::{Hall, now_seconds};
use super::store::{Loaded, Store, StoreError};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use raven_model::config::Config;
use raven_model::control::VpnRights;
use raven_model::prefix::Prefix;
use raven_model::query::Reply;
use raven_model::tunnel::TunnelName;
use raven_model::vpn::{Brought, Exported, Kept, ORDER_MAX, Verdict, VpnOrder, Which};
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
    pub turns: Sender<(TunnelName, bool)>,
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
    let mut line = Zeroizing::new(Vec::new());
    timeout(PATIENCE, (&mut reader).take(ORDER_MAX).read_until(b'\n', &mut line)).await??;
    let answer = match serde_json::from_slice::<VpnOrder>(&line) {
        Err(_) => Err("not an order that the vpn role knows".to_owned()),
        Ok(order) if order.rights() > rights => Err("the connection was made for less than that".to_owned()),
        Ok(order) => desk.answer(order),
    };
    let mut text = Zeroizing::new(Vec::new());
    match answer {
        Err(why) => line_of(&mut text, &Reply::Error(why))?,
        Ok(lines) => {
            line_of(&mut text, &Reply::Ok)?;
            for value in &lines {
                line_of(&mut text, value)?;
            }
            line_of(&mut text, &Reply::Done(lines.len() as u64))?;
        }
    }
    timeout(PATIENCE, reader.into_inner().write_all(&text)).await?
}

fn line_of<T: Serialize>(text: &mut Vec<u8>, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *text, value)?;
    text.push(b'\n');
    Ok(())
}

impl Desk {
    fn answer(&self, order: VpnOrder) -> Result<Vec<Value>, String> {
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
                Ok(vec![value(&Exported { text: loaded.profile.to_config().expose().clone() })?])
            }
            VpnOrder::Remove(name) => self.remove(&name),
            VpnOrder::Events => self.hall.events().iter().map(value).collect(),
            VpnOrder::Turn { name, on } => {
                if !self.config.vpn.order.contains(&name) {
                    return Err(format!("`{name}` is not in vpn.order: nothing is to be turned on or off"));
                }
                self.turns.try_send((name, on)).map_err(|_| "too much was ordered at once".to_owned())?;
                Ok(Vec::new())
            }
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
            let password = Some(Secret::new(login.password.clone()));
            profile.credentials = Credentials::Given { user: Secret::new(login.user.clone()), password };
        }
        Ok(reading)
    }

    fn import(&self, name: &TunnelName, brought: &Brought) -> Result<Verdict, String> {
        let reading = self.read(brought)?;
        let Some(profile) = reading.profile.clone() else { return Ok(verdict(&reading, None)) };
        let passphrase = brought.passphrase.clone().map(Zeroizing::new);
        let named: Vec<u32> = self.config.vpn.profile.get(name).map(|profile| profile.version).into_iter().collect();
        let version = self.store.add(name, &Loaded { profile, passphrase }, &named).map_err(words)?;
        Ok(verdict(&reading, Some(version)))
    }

    fn list(&self) -> Result<Vec<Value>, String> {
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
        let base =
            Kept { name: name.clone(), version, kind: String::new(), in_force, endpoints: Vec::new(), days_left: None };
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
    fn remove(&self, name: &TunnelName) -> Result<Vec<Value>, String> {
        if self.config.vpn.profile.contains_key(name) {
            return Err(format!("`{name}` is in the configuration: take [vpn.profile.{name}] out of it first"));
        }
        let kept: Vec<Kept> =
            self.store.versions(name).map_err(words)?.into_iter().map(|version| self.kept(name, version)).collect();
        self.store.remove(name).map_err(words)?;
        kept.iter().map(value).collect()
    }
}

fn value<T: Serialize>(of: &T) -> Result<Value, String> {
    serde_json::to_value(of).map_err(|error| error.to_string())
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
