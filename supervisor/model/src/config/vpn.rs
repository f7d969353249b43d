//! `[vpn]`: which tunnels there are to the operations centre, in which order they are tried, and what goes through them.
//! Profiles themselves, with their keys, are kept by the `vpn` role; the configuration names a version of each.

use super::error::Flaw;
use crate::prefix::Prefix;
use crate::tunnel::TunnelName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// `[vpn]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vpn {
    /// Profiles that are in use, the preferred one first: the next is tried when one does not work.
    pub order: Vec<TunnelName>,
    /// Networks that are reached through the tunnel and in no other way: while there is none, not at all.
    pub networks: Vec<Prefix>,
    /// Networks of the venue that are never reached through a tunnel, beside those that the box's own links are in.
    pub never: Vec<Prefix>,
    /// Profiles by name.
    pub profile: BTreeMap<TunnelName, VpnProfile>,
}

/// `[vpn.profile.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpnProfile {
    /// Which of the imported versions is in force; from 1.
    pub version: u32,
    /// An address at the far end that answers pings, by which it is found each second whether anything gets through;
    /// without it the tunnel's gateway.
    #[serde(default)]
    pub probe: Option<IpAddr>,
    /// Links over which its own packets leave, the preferred one first; without it as the routes say.
    #[serde(default)]
    pub links: Vec<String>,
}

impl Vpn {
    /// What the types cannot say.
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, name) in self.order.iter().enumerate() {
            let mut at = |message, expected| {
                flaws.push(Flaw::new(&["vpn", "order", &index.to_string()], message, expected));
            };
            if !self.profile.contains_key(name) {
                at(format!("there is no profile `{name}`"), "the name of a `[vpn.profile.NAME]`");
            } else if !seen.insert(name) {
                at(format!("`{name}` stands here twice"), "each profile once");
            }
        }
        for (index, (network, never)) in self.clashes() {
            let message = format!("{network} is to be reached through the tunnel and {never} never");
            flaws.push(Flaw::new(&["vpn", "networks", &index.to_string()], message, "networks that do not overlap"));
        }
        for (name, profile) in &self.profile {
            flaws.extend(profile.flaws(name));
        }
        flaws
    }

    /// Networks of `networks` that hold, or are in, one of `never`.
    fn clashes(&self) -> Vec<(usize, (Prefix, Prefix))> {
        let overlapping = |network: Prefix| self.never.iter().copied().find(|never| network.overlaps(never));
        let numbered = self.networks.iter().copied().enumerate();
        numbered.filter_map(|(index, network)| Some((index, (network, overlapping(network)?)))).collect()
    }
}

impl VpnProfile {
    fn flaws(&self, name: &TunnelName) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        if self.version == 0 {
            let message = "versions of a profile are counted from 1".to_owned();
            flaws.push(Flaw::new(&["vpn", "profile", name.as_str(), "version"], message, "a number from 1 on"));
        }
        for (index, link) in self.links.iter().enumerate().filter(|(_, link)| !super::network::is_link_name(link)) {
            let path = ["vpn", "profile", name.as_str(), "links", &index.to_string()];
            let message = format!("`{}` is no name of a link", link.escape_debug());
            flaws.push(Flaw::new(&path, message, "the name of a link such as `\"eth1\"`"));
        }
        flaws
    }
}
