//! The answer to each key of wg-quick's files. What is not in it is refused. `docs/vpn.md` shows this table; a test holds
//! the two together.

use super::read::{Draft, Problem};
use super::values::{address, allowed_ips, dns, endpoint, keepalive, listen_port, mtu};
use super::values::{preshared_key, private_key, public_key, save_config, table};

const RUNS: &str = "runs a program as root; Raven runs none";

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    Interface,
    Peer,
}

impl Section {
    pub fn word(self) -> &'static str {
        match self {
            Self::Interface => "Interface",
            Self::Peer => "Peer",
        }
    }
}

type Take = fn(&mut Draft<'_>, &str) -> Result<(), Problem>;

/// What is done with a key.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Accept(Take),
    Refuse,
    Drop,
}

/// One row of the table.
pub(crate) struct Rule {
    pub section: Section,
    pub name: &'static str,
    pub answer: Answer,
    /// May stand there more than once in a section.
    pub more: bool,
    pub reason: &'static str,
}

const fn row(section: Section, name: &'static str, answer: Answer, more: bool, reason: &'static str) -> Rule {
    Rule { section, name, answer, more, reason }
}

use Answer::{Accept, Drop, Refuse};
use Section::{Interface, Peer as P};

/// The table.
pub(crate) static RULES: &[Rule] = &[
    row(Interface, "Address", Accept(address), true, "own addresses; they must not lie in a network of the venue"),
    row(Interface, "DNS", Accept(dns), true, "DNS servers, shown as a wish; domains to search are left out"),
    row(Interface, "FwMark", Drop, false, "Raven marks packets by its own numbers"),
    row(Interface, "ListenPort", Accept(listen_port), false, "own UDP port, 0 to 65535; 0: any"),
    row(Interface, "MTU", Accept(mtu), false, "largest packet in the tunnel, 576 to 9000 bytes"),
    row(Interface, "PostDown", Refuse, true, RUNS),
    row(Interface, "PostUp", Refuse, true, RUNS),
    row(Interface, "PreDown", Refuse, true, RUNS),
    row(Interface, "PreUp", Refuse, true, RUNS),
    row(Interface, "PrivateKey", Accept(private_key), false, "own key: 32 bytes in base64"),
    row(Interface, "SaveConfig", Accept(save_config), false, "`false`; `true` is refused: it writes the profile anew"),
    row(
        Interface,
        "Table",
        Accept(table),
        false,
        "`auto` or `off`, both without effect: Raven sets routes itself. A number is refused",
    ),
    row(
        P,
        "AllowedIPs",
        Accept(allowed_ips),
        true,
        "networks behind the peer; each at one peer only, and none of the venue's",
    ),
    row(P, "Endpoint", Accept(endpoint), false, "where the peer is: HOST:PORT, IPv6 in brackets"),
    row(P, "PersistentKeepalive", Accept(keepalive), false, "seconds, 1 to 65535, or `off`"),
    row(P, "PresharedKey", Accept(preshared_key), false, "a key beside the public one: 32 bytes in base64"),
    row(P, "PublicKey", Accept(public_key), false, "the peer's key: 32 bytes in base64"),
];

/// What is unknown is not repeated: it may be a key whose name is missing.
pub(crate) fn unknown(name: &str, section: Section) -> String {
    let other = RULES.iter().find(|rule| rule.section != section && rule.name.eq_ignore_ascii_case(name));
    if let Some(rule) = other {
        return format!("{} belongs into [{}]", rule.name, rule.section.word());
    }
    let lower = name.to_ascii_lowercase();
    let near = RULES.iter().filter(|rule| rule.section == section && name.len() <= 40);
    let near = near.map(|rule| (strsim::osa_distance(&rule.name.to_ascii_lowercase(), &lower), rule.name)).min();
    match near.filter(|(distance, _)| *distance <= 2) {
        Some((_, name)) => format!("an unknown key; the nearest is {name}"),
        None => "an unknown key".to_owned(),
    }
}
