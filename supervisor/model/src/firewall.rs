//! The firewall of a box: which packets may come in, and why. What is not listed is dropped. Pure; `ravend` writes it down
//! for `nft`, `raven net firewall` shows it.
//!
//! Telemetry is let through by port alone and is not tracked as connections: that would cost time per datagram and have
//! a table that can fill. Answers to what the box itself asks are known by connection tracking.

use crate::config::{Config, Listen};
use crate::table::OperatorRole;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Where SSH is.
const SSH: u16 = 22;

/// Where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// Packets that came in, before connections are tracked.
    Untracked,
    /// Packets of the box itself, before connections are tracked.
    UntrackedOut,
    /// Packets for the box.
    Input,
}

impl Chain {
    /// All, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Untracked, Self::UntrackedOut, Self::Input];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untracked => "untracked",
            Self::UntrackedOut => "untracked_out",
            Self::Input => "input",
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Where it stands.
    pub chain: Chain,
    /// Which packets and what becomes of them, in nft's words.
    pub rule: String,
    /// Why, at most 128 bytes without `"`: nft keeps it as a comment.
    pub why: String,
}

/// What stands before the rules of each input, and behind them.
const FIRST: [(&str, &str); 1] = [("iif \"lo\" accept", "the box itself")];
const LAST: [(&str, &str); 9] = [
    ("ct state established,related accept", "answers to what the box asked"),
    ("ct state invalid drop", "of no connection that is known"),
    (
        "icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } accept",
        "ping, and why packets do not arrive (RFC 792)",
    ),
    (
        "icmpv6 type { echo-request, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept",
        "the same (RFC 4443)",
    ),
    (
        "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept",
        "neighbours and routers (RFC 4861)",
    ),
    ("icmpv6 type { mld-listener-query } ip6 saddr fe80::/10 accept", "multicast (RFC 2710)"),
    ("udp sport 67 udp dport 68 accept", "DHCP (RFC 2131)"),
    ("ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept", "DHCPv6 (RFC 8415)"),
    ("counter", "all others are counted and dropped: nothing asks for them"),
];

/// All rules, in their order.
pub fn rules(config: &Config) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut add = |chain, rule: String, why: String| rules.push(Rule { chain, rule, why });
    let open = open(config);
    for ((proto, listen), _) in open.iter().filter(|((proto, _), _)| *proto == "udp") {
        let ((to, from), port) = (address(listen.0.ip()), listen.0.port());
        let why = |what: &str| format!("{what} is not tracked as a connection: a table of those can fill");
        add(Chain::Untracked, format!("{to}{proto} dport {port} notrack"), why("telemetry"));
        add(Chain::UntrackedOut, format!("{from}{proto} sport {port} notrack"), why("what answers telemetry"));
    }
    let mut input = |rule: String, why: String| add(Chain::Input, rule, why);
    for (rule, why) in FIRST {
        input(rule.to_owned(), why.to_owned());
    }
    for ((proto, listen), streams) in &open {
        let ((to, _), port) = (address(listen.0.ip()), listen.0.port());
        let streams: Vec<&str> = streams.iter().copied().collect();
        input(format!("{to}{proto} dport {port} accept"), format!("collects {}", streams.join(", ")));
    }
    if let Some(server) = &config.diag.bandwidth_server {
        for prefix in &server.allow {
            let family = if prefix.addr().is_ipv4() { "ip" } else { "ip6" };
            for proto in ["tcp", "udp"] {
                let rule = format!("{family} saddr {prefix} {proto} dport {} accept", server.port);
                input(rule, "measures bandwidth: diag.bandwidth_server".to_owned());
            }
        }
    }
    if wants_ssh(config) {
        input(format!("tcp dport {SSH} accept"), "SSH: keys are configured".to_owned());
    }
    for (rule, why) in LAST {
        input(rule.to_owned(), why.to_owned());
    }
    rules
}

/// Whether anybody may come by SSH.
pub fn wants_ssh(config: &Config) -> bool {
    OperatorRole::ALL.into_iter().any(|role| !config.access.of(role).ssh_keys.is_empty())
}

/// What is listened on, by transport, and for which streams.
fn open(config: &Config) -> BTreeMap<(&'static str, Listen), BTreeSet<&'static str>> {
    let mut open: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for wanted in config.collect.wanted() {
        let proto = if wanted.proto.is_connected() { "tcp" } else { "udp" };
        open.entry((proto, wanted.listen)).or_default().insert(wanted.stream.name());
    }
    open
}

/// How packets to and from a listener's address are known; all of them, where it listens on every address.
fn address(addr: IpAddr) -> (String, String) {
    match addr {
        IpAddr::V4(v4) if v4.is_unspecified() => ["meta nfproto ipv4 ", "meta nfproto ipv4 "].map(str::to_owned).into(),
        IpAddr::V6(v6) if v6.is_unspecified() => (String::new(), String::new()),
        IpAddr::V4(v4) => (format!("ip daddr {v4} "), format!("ip saddr {v4} ")),
        IpAddr::V6(v6) => (format!("ip6 daddr {v6} "), format!("ip6 saddr {v6} ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Vec<Rule> {
        rules(&Config::from_toml(&format!("schema = 1\n{text}"), "test.toml").unwrap())
    }

    #[test]
    fn each_rule_says_why_it_is_there_as_nft_can_keep_it() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvzVXJpRDzWSkZMVGrLnZYyJ8iD1rUZtWmJHcUQ4x2T";
        for rule in of(&format!("[access.viewer]\nssh_keys = ['{key}']")) {
            assert!((5..=128).contains(&rule.why.len()) && !rule.why.contains(['"', '\\', '\n']), "{rule:?}");
        }
    }

    #[test]
    fn who_may_measure_bandwidth_is_let_in_and_nobody_else() {
        let rules = of("[diag.bandwidth_server]\nport = 5300\nallow = ['10.20.0.0/16', '2001:db8::7']");
        let open: Vec<&str> =
            rules.iter().map(|rule| rule.rule.as_str()).filter(|rule| rule.contains("5300")).collect();
        let [v4, v6] = ["ip saddr 10.20.0.0/16", "ip6 saddr 2001:db8::7"];
        let all = [v4, v6].map(|from| ["tcp", "udp"].map(|proto| format!("{from} {proto} dport 5300 accept")));
        assert_eq!(open, all.concat());
    }

    #[test]
    fn a_listener_for_two_streams_has_one_rule_with_both() {
        let rules = of(
            "[collect.syslog]\nudp = []\ntcp = []\ntls = []\n[collect.metrics]\nhttp = [8080]\n[collect.winevent]\nhttp = [9999]\n",
        );
        let why = |port: &str| rules.iter().find(|rule| rule.rule.contains(port)).map(|rule| rule.why.as_str());
        assert_eq!((why("tcp dport 8080"), why("dport 514"), why("dport 22 ")), (Some("collects metrics"), None, None));
    }
}
