//! What the box has and knows: whom a test could be of, and by which way.

use super::order::Kind;
use crate::tui::facts::Facts;
use raven_model::tunnel::TunnelName;
use std::net::IpAddr;
use toml_edit::{DocumentMut, Item};

/// Targets that are offered.
const OFFERED: usize = 12;
/// This box itself.
const OWN: &str = "127.0.0.1";

/// A target, and why it is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// As it is given to the test.
    pub target: String,
    /// In a few words.
    pub why: String,
}

impl Suggestion {
    fn new(target: impl Into<String>, why: impl Into<String>) -> Self {
        Self { target: target.into(), why: why.into() }
    }
}

/// A tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    name: String,
    /// Its interface.
    pub device: String,
    /// Whom the pings in it go to.
    pub far: Option<String>,
}

/// See the top.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// Name and address of interfaces.
    links: Vec<(String, Option<String>)>,
    gateways: Vec<Suggestion>,
    /// Name and `to` of destinations.
    destinations: Vec<(String, String)>,
    /// Name servers.
    pub dns: Vec<String>,
    ntp: Vec<String>,
    /// Tunnels.
    pub tunnels: Vec<Tunnel>,
    /// Why ravend is away.
    away: bool,
}

impl Around {
    /// By what is known, and by the configuration where that may be seen.
    pub fn new(facts: &Facts, text: Option<&str>) -> Self {
        let own = |address: &&String| !address.starts_with("fe80:");
        let bare = |address: &String| address.split('/').next().unwrap_or_default().to_owned();
        let link = |link: &crate::tui::facts::Link| (link.name.clone(), link.addresses.iter().find(own).map(bare));
        let gateways = facts.links.iter().flat_map(|link| {
            link.gateways.iter().map(|gateway| {
                // A link-local gateway is one of its interface alone.
                let zone = if gateway.starts_with("fe80:") { format!("%{}", link.name) } else { String::new() };
                Suggestion::new(format!("{gateway}{zone}"), format!("the gateway of {}", link.name))
            })
        });
        let status = facts.status.as_ref().ok();
        let destinations = status.into_iter().flat_map(|status| &status.destinations);
        let mut destinations: Vec<(String, String)> = destinations.map(|it| (it.name.clone(), it.to.clone())).collect();
        destinations.dedup();
        let tunnel = |it: &raven_model::report::VpnTunnel| Tunnel {
            name: it.name.to_string(),
            device: TunnelName::device(&it.name),
            far: it.probe.map(|probe| probe.to_string()),
        };
        let config = text.and_then(|text| text.parse::<DocumentMut>().ok());
        let listed = |table: &str, key: &str| config.as_ref().map_or_else(Vec::new, |config| list(config, table, key));
        let mut dns: Vec<String> = facts.links.iter().flat_map(|link| link.dns.clone()).collect();
        dns.extend(listed("network", "dns"));
        dns.sort();
        dns.dedup();
        Self {
            links: facts.links.iter().map(link).collect(),
            gateways: gateways.collect(),
            destinations,
            dns,
            ntp: listed("system", "ntp"),
            tunnels: status.map_or_else(Vec::new, |status| status.vpn.iter().map(tunnel).collect()),
            away: status.is_none(),
        }
    }

    /// Nothing but this box itself can be reached.
    pub fn is_alone(&self) -> bool {
        self.links.iter().all(|(_, address)| address.is_none())
    }

    /// What should be known before a test is chosen.
    pub fn hint(&self) -> Vec<&'static str> {
        let away = self.away.then_some("Raven does not answer: no test can be made before it does.");
        let alone = self.is_alone().then_some("No address yet: this box itself, 127.0.0.1, can be tested.");
        away.into_iter().chain(alone).collect()
    }

    /// Ways out: words, and the interface; none: as routes say.
    pub fn ways(&self) -> Vec<(String, Option<String>)> {
        let link = |(name, address): &(String, Option<String>)| {
            let address = address.as_deref().unwrap_or("no address");
            (crate::escape::text(&format!("By {name} alone ({address})")), Some(name.clone()))
        };
        let tunnel = |it: &Tunnel| (format!("Through the tunnel {} alone", it.name), Some(it.device.clone()));
        let own = std::iter::once(("As routes say".to_owned(), None));
        own.chain(self.links.iter().map(link)).chain(self.tunnels.iter().map(tunnel)).collect()
    }

    /// Targets that a test of this kind is mostly of.
    pub fn suggestions(&self, kind: Kind) -> Vec<Suggestion> {
        let own = |what: &str| Suggestion::new(what, "this box itself");
        let ntp = || self.ntp.iter().map(|server| Suggestion::new(server.as_str(), "time server"));
        let all: Vec<Suggestion> = match kind {
            Kind::Ping | Kind::Trace | Kind::Mtu => {
                let dns = self.dns.iter().map(|dns| Suggestion::new(dns.as_str(), "name server"));
                let gateways = self.gateways.iter().cloned();
                gateways.chain(self.hosts()).chain(self.far_ends()).chain(dns).chain([own(OWN)]).collect()
            }
            Kind::Dns => {
                let is_name = |it: &Suggestion| it.target.parse::<IpAddr>().is_err();
                self.hosts().chain(ntp()).filter(is_name).collect()
            }
            Kind::Tcp | Kind::Tls => self.ports().collect(),
            Kind::Http => self.urls().collect(),
            Kind::Ntp => ntp().chain(self.gateways.iter().cloned()).collect(),
            Kind::Bandwidth => self.hosts().chain(self.far_ends()).chain(self.gateways.iter().cloned()).collect(),
        };
        let mut seen: Vec<Suggestion> = Vec::new();
        for it in all {
            if !seen.iter().any(|known| known.target == it.target) && seen.len() < OFFERED {
                seen.push(it);
            }
        }
        seen
    }

    fn hosts(&self) -> impl Iterator<Item = Suggestion> {
        let host =
            |(name, to): &(String, String)| Some(Suggestion::new(place(to)?.host, format!("destination {name}")));
        self.destinations.iter().filter_map(host)
    }

    fn far_ends(&self) -> impl Iterator<Item = Suggestion> {
        let far = |it: &Tunnel| Some(Suggestion::new(it.far.clone()?, format!("far end of the tunnel {}", it.name)));
        self.tunnels.iter().filter_map(far)
    }

    fn ports(&self) -> impl Iterator<Item = Suggestion> {
        let port = |(name, to): &(String, String)| {
            let place = place(to)?;
            let bracketed = if place.host.contains(':') { format!("[{}]", place.host) } else { place.host };
            Some(Suggestion::new(format!("{bracketed}:{}", place.port?), format!("destination {name}")))
        };
        self.destinations.iter().filter_map(port)
    }

    fn urls(&self) -> impl Iterator<Item = Suggestion> {
        let is_url = |to: &str| to.starts_with("http://") || to.starts_with("https://");
        let own = self.destinations.iter().filter(move |(_, to)| is_url(to));
        let own = own.map(|(name, to)| Suggestion::new(to.as_str(), format!("destination {name}")));
        let gateway = |it: &Suggestion| {
            let is_plain = !it.target.contains(':');
            is_plain.then(|| Suggestion::new(format!("http://{}/", it.target), it.why.clone()))
        };
        own.chain(self.gateways.iter().filter_map(gateway))
    }
}

/// A host, and a port where one is known.
struct Place {
    host: String,
    port: Option<u16>,
}

/// Where a destination is: `noc:2514`, `[2001:db8::1]:443`, `https://noc/x`.
fn place(to: &str) -> Option<Place> {
    let (scheme, rest) = to.split_once("://").map_or(("", to), |(scheme, rest)| (scheme, rest));
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let usual = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| Place { host: host.to_owned(), port: port.or(usual) })
}

fn list(config: &DocumentMut, table: &str, key: &str) -> Vec<String> {
    let array = config.get(table).and_then(|table| table.get(key)).and_then(Item::as_array);
    array.into_iter().flatten().filter_map(|value| Some(value.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_out_of_where_destinations_are() {
        let of = |to: &str| place(to).map(|place| (place.host, place.port));
        for (to, host, port) in [
            ("noc.example:2514", "noc.example", Some(2514)),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
            ("2001:db8::1", "2001:db8::1", None),
            ("https://noc.example/v1/logs?x=1", "noc.example", Some(443)),
            ("http://user@noc.example:4318/", "noc.example", Some(4318)),
            ("noc.example", "noc.example", None),
        ] {
            assert_eq!(of(to), Some((host.to_owned(), port)), "{to}");
        }
        for nothing in ["", "https://", ":80"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }
}
