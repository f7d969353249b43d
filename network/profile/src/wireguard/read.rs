//! wg-quick's grammar, as `wg` and `wg-quick` read it: sections and keys in any case, `#` to the end of a line, lists
//! apart by commas. What they take silently and nobody can have meant (a network at two peers, of which the last wins;
//! an IPv6 endpoint without brackets) is refused.

use super::table::Answer::{Accept, Drop, Refuse};
use super::table::Section::{self, Interface, Peer as P};
use super::table::{RULES, unknown};
use super::{Address, Peer, WireGuard};
use crate::address::Endpoint;
use crate::report::{Finding, Remedy, Report, Verdict};
use crate::secret::Secret;
use crate::{BOM, Options};
use raven_model::prefix::Prefix;
use raven_model::tunnel::PublicKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const PEERS_MAX: usize = 64;

/// Why a value is not taken as it stands.
pub(crate) struct Problem {
    pub verdict: Verdict,
    pub reason: String,
    pub remedy: Option<Remedy>,
}

pub(super) fn refused(reason: impl Into<String>) -> Problem {
    Problem { verdict: Verdict::Refused, reason: reason.into(), remedy: Some(Remedy::LeaveOut) }
}

pub(super) fn milder(verdict: Verdict, reason: impl Into<String>) -> Problem {
    Problem { verdict, reason: reason.into(), remedy: None }
}

/// A peer while it is read.
#[derive(Default)]
pub(crate) struct PeerDraft {
    pub line: u32,
    pub public_key: Option<PublicKey>,
    pub preshared_key: Option<Secret<[u8; 32]>>,
    pub allowed_ips: Vec<(u32, Prefix)>,
    pub endpoint: Option<Endpoint>,
    pub keepalive: Option<u16>,
}

pub(crate) struct Draft<'a> {
    pub options: &'a Options,
    pub report: &'a mut Report,
    pub section: Option<Section>,
    /// Line and column of what is being read, and its key.
    pub at: (u32, u32, &'static str),
    /// Keys of the section that is being read.
    pub seen: BTreeSet<&'static str>,
    pub interfaces: u32,
    pub private_key: Option<Secret<[u8; 32]>>,
    pub addresses: Vec<Address>,
    pub listen_port: Option<u16>,
    pub mtu: Option<u16>,
    pub dns: Vec<IpAddr>,
    pub peers: Vec<PeerDraft>,
}

/// Reads a profile; `None` when it is refused.
pub(crate) fn read(bytes: &[u8], options: &Options, report: &mut Report) -> Option<WireGuard> {
    let mut draft = Draft {
        options,
        report,
        section: None,
        at: (0, 0, ""),
        seen: BTreeSet::new(),
        interfaces: 0,
        private_key: None,
        addresses: Vec::new(),
        listen_port: None,
        mtu: None,
        dns: Vec::new(),
        peers: Vec::new(),
    };
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let mut left_out = BTreeSet::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if draft.report.is_full() {
            draft.report.whole("", Verdict::Refused, "too much is wrong; the rest was not looked at");
            return None;
        }
        draft.line(number, line, &mut left_out);
    }
    for line in options.without.difference(&left_out).take(8).copied().collect::<Vec<_>>() {
        draft.at = (line, 0, "");
        draft.found(milder(Verdict::Warning, "was to be left out, but nothing stands there"));
    }
    draft.finish()
}

impl Draft<'_> {
    fn line(&mut self, number: u32, raw: &[u8], left_out: &mut BTreeSet<u32>) {
        self.at = (number, 0, "");
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        let text = std::str::from_utf8(raw).ok().filter(|text| !text.contains(|c: char| c.is_control() && c != '\t'));
        // As in wg: a comment may begin anywhere.
        let bare = text.map(|text| text.split('#').next().unwrap_or_default().trim());
        if bare == Some("") {
            return;
        }
        if self.options.without.contains(&number) {
            left_out.insert(number);
            self.found(milder(Verdict::Dropped, "as was asked for"));
            return;
        }
        let (Some(text), Some(bare)) = (text, bare) else {
            return self.found(refused("the line is no UTF-8 text or holds a control character"));
        };
        self.at.1 = text.chars().take_while(|c| c.is_whitespace()).count() as u32 + 1;
        match bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')) {
            Some(section) => self.open(section),
            None => self.assignment(text, bare),
        }
    }

    fn open(&mut self, name: &str) {
        self.seen.clear();
        self.section = None;
        if name.trim().eq_ignore_ascii_case("interface") {
            self.section = Some(Interface);
            self.interfaces += 1;
            if self.interfaces > 1 {
                self.found(refused("a second [Interface]; a profile has one"));
            }
        } else if !name.trim().eq_ignore_ascii_case("peer") {
            self.found(refused("a section that is not known; there are [Interface] and [Peer]"));
        } else if self.peers.len() == PEERS_MAX {
            self.found(refused("more than 64 peers"));
        } else {
            self.section = Some(P);
            self.peers.push(PeerDraft { line: self.at.0, ..PeerDraft::default() });
        }
    }

    fn assignment(&mut self, text: &str, bare: &str) {
        let Some((name, value)) = bare.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else {
            let semicolon = bare.starts_with(';');
            let reason = if semicolon { "`;` begins no comment here; `#` does" } else { "expected KEY = VALUE" };
            return self.found(refused(reason));
        };
        let Some(section) = self.section else {
            return self.found(refused("stands outside of [Interface] and [Peer]"));
        };
        let known = RULES.iter().filter(|rule| rule.section == section);
        let Some(rule) = known.clone().find(|rule| rule.name.eq_ignore_ascii_case(name)) else {
            return self.found(refused(unknown(name, section)));
        };
        self.at.2 = rule.name;
        let repeated = !self.seen.insert(rule.name) && !rule.more;
        let column = text.split_once('=').map_or(0, |(before, after)| {
            let blank = after.chars().take_while(|c| c.is_whitespace()).count();
            before.chars().count() + 2 + blank
        });
        let problem = match rule.answer {
            Refuse => refused(rule.reason),
            Drop => milder(Verdict::Dropped, rule.reason),
            Accept(_) if repeated => refused(format!("stands twice in this [{}]; which one is meant?", section.word())),
            Accept(take) => {
                let key = std::mem::replace(&mut self.at.1, column as u32);
                match take(self, value) {
                    Ok(()) => return,
                    Err(problem) if value.is_empty() => {
                        self.at.1 = key;
                        Problem { reason: "has no value".to_owned(), ..problem }
                    }
                    Err(problem) => problem,
                }
            }
        };
        self.found(problem);
    }

    fn found(&mut self, Problem { verdict, reason, remedy }: Problem) {
        let (line, column, directive) = self.at;
        self.report.add(Finding { line, column, directive: directive.to_owned(), verdict, reason, remedy });
    }

    fn finish(mut self) -> Option<WireGuard> {
        self.at = (0, 0, "");
        self.must(self.interfaces > 0, "[Interface] is missing");
        self.must(self.private_key.is_some(), "PrivateKey is missing");
        self.must(!self.addresses.is_empty(), "Address is missing: this end would have none");
        self.must(!self.peers.is_empty(), "[Peer] is missing: there is nobody to connect to");
        let reachable = self.peers.is_empty() || self.peers.iter().any(|peer| peer.endpoint.is_some());
        self.must(reachable, "no [Peer] has an Endpoint: there is nobody to connect to");
        self.networks_at_two_peers();
        let peers = self.peers();
        let private_key = self.private_key.take().filter(|_| !self.report.is_refused())?;
        let (listen_port, mtu) = (self.listen_port, self.mtu);
        Some(WireGuard { private_key, addresses: self.addresses, listen_port, mtu, dns: self.dns, peers })
    }

    fn must(&mut self, holds: bool, reason: &str) {
        if !holds {
            self.report.whole("", Verdict::Refused, reason);
        }
    }

    /// In WireGuard the last peer has it, and the first loses it without a word.
    fn networks_at_two_peers(&mut self) {
        let mut owners: BTreeMap<Prefix, usize> = BTreeMap::new();
        let mut clashes = Vec::new();
        for (index, peer) in self.peers.iter().enumerate() {
            for (line, prefix) in &peer.allowed_ips {
                let owner = *owners.entry(*prefix).or_insert(index);
                if owner != index {
                    clashes.push((*line, format!("{prefix} is at the [Peer] of line {} too", self.line_of(owner))));
                }
            }
        }
        for (line, reason) in clashes.into_iter().take(16) {
            self.at = (line, 1, "AllowedIPs");
            self.found(refused(reason));
        }
    }

    fn line_of(&self, peer: usize) -> u32 {
        self.peers.get(peer).map_or(0, |peer| peer.line)
    }

    fn peers(&mut self) -> Vec<Peer> {
        let mut keys: BTreeMap<PublicKey, u32> = BTreeMap::new();
        let mut peers = Vec::new();
        for draft in std::mem::take(&mut self.peers) {
            self.at = (draft.line, 1, "Peer");
            let Some(public_key) = draft.public_key else {
                self.found(Problem { remedy: None, ..refused("has no PublicKey") });
                continue;
            };
            if let Some(other) = keys.insert(public_key, draft.line) {
                let reason = format!("has the PublicKey of the [Peer] of line {other}");
                self.found(Problem { remedy: None, ..refused(reason) });
            }
            if draft.allowed_ips.is_empty() {
                self.found(Problem { remedy: None, ..refused("has no AllowedIPs: nothing would go to it") });
            }
            let mut allowed_ips: Vec<Prefix> = Vec::new();
            let mut once = BTreeSet::new();
            allowed_ips
                .extend(draft.allowed_ips.iter().map(|(_, prefix)| *prefix).filter(|prefix| once.insert(*prefix)));
            let (preshared_key, endpoint, keepalive) = (draft.preshared_key, draft.endpoint, draft.keepalive);
            peers.push(Peer { public_key, preshared_key, allowed_ips, endpoint, keepalive });
        }
        peers
    }

    pub(super) fn peer(&mut self) -> Result<&mut PeerDraft, Problem> {
        self.peers.last_mut().ok_or_else(|| refused("stands outside of [Peer]"))
    }
}
