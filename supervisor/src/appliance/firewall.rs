//! The firewall: what is not listed is dropped. Each rule says why it is there.
//!
//! Telemetry is let through by port alone and is not tracked as connections: that would cost time per datagram and have
//! a table that can fill. Answers to what the box itself asks are known by connection tracking.

use super::wants_ssh;
use raven_model::config::{Config, Listen};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

/// Where SSH is.
const SSH: u16 = 22;

/// All rules, as `nft -f` takes them: in one step.
pub fn rules(config: &Config) -> String {
    let (mut accept, mut untracked, mut untracked_out) = (String::new(), String::new(), String::new());
    for ((proto, listen), streams) in open(config) {
        let port = listen.0.port();
        let (to, from) = address(listen.0.ip());
        let why = streams.into_iter().collect::<Vec<_>>().join(", ");
        let _ = writeln!(accept, "\t\t{to}{proto} dport {port} accept comment \"collects {why}\"");
        if proto == "udp" {
            let _ = writeln!(untracked, "\t\t{to}udp dport {port} notrack");
            let _ = writeln!(untracked_out, "\t\t{from}udp sport {port} notrack");
        }
    }
    if wants_ssh(config) {
        let _ = writeln!(accept, "\t\ttcp dport {SSH} accept comment \"SSH: keys are configured\"");
    }
    format!(
        "table inet raven
delete table inet raven
table inet raven {{
\tchain untracked {{
\t\ttype filter hook prerouting priority raw; policy accept;
{untracked}\t}}
\tchain untracked_out {{
\t\ttype filter hook output priority raw; policy accept;
{untracked_out}\t}}
\tchain input {{
\t\ttype filter hook input priority filter; policy drop;
\t\tiif \"lo\" accept comment \"the box itself\"
{accept}\t\tct state established,related accept comment \"answers to what the box asked\"
\t\tct state invalid drop
\t\ticmp type {{ echo-request, destination-unreachable, time-exceeded, parameter-problem }} accept comment \"ping, and why packets do not arrive (RFC 792)\"
\t\ticmpv6 type {{ echo-request, destination-unreachable, packet-too-big, time-exceeded, parameter-problem }} accept comment \"the same (RFC 4443)\"
\t\ticmpv6 type {{ nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept comment \"neighbours and routers (RFC 4861)\"
\t\ticmpv6 type {{ mld-listener-query }} ip6 saddr fe80::/10 accept comment \"multicast (RFC 2710)\"
\t\tudp sport 67 udp dport 68 accept comment \"DHCP (RFC 2131)\"
\t\tip6 saddr fe80::/10 udp sport 547 udp dport 546 accept comment \"DHCPv6 (RFC 8415)\"
\t\tcounter comment \"refused\"
\t}}
\tchain forward {{
\t\ttype filter hook forward priority filter; policy drop;
\t}}
}}
"
    )
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

    fn of(text: &str) -> String {
        rules(&Config::from_toml(&format!("schema = 1\n{text}"), "test.toml").unwrap())
    }

    #[test]
    fn each_listener_has_its_rule_and_nothing_else_has() {
        let rules = of("[collect.syslog]\nudp = [514, '192.0.2.1:1514']\ntcp = [514]\ntls = []\n");
        for rule in [
            "\t\tudp dport 514 accept comment \"collects syslog\"\n",
            "\t\ttcp dport 514 accept comment \"collects syslog\"\n",
            "\t\tip daddr 192.0.2.1 udp dport 1514 accept comment \"collects syslog\"\n",
            "\t\tip saddr 192.0.2.1 udp sport 1514 notrack\n",
            "\t\tudp dport 162 accept comment \"collects trap\"\n",
        ] {
            assert!(rules.contains(rule), "{rule}{rules}");
        }
        assert!(!rules.contains("6514") && !rules.contains("dport 22 "), "{rules}");
    }

    #[test]
    fn ssh_is_open_while_somebody_has_a_key() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvzVXJpRDzWSkZMVGrLnZYyJ8iD1rUZtWmJHcUQ4x2T";
        assert!(of(&format!("[access.viewer]\nssh_keys = ['{key}']")).contains("tcp dport 22 accept"));
    }
}
