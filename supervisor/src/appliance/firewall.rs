//! The firewall ([`raven_model::firewall`]) as `nft -f` takes it: in one step. Each rule has its reason as a comment.

use raven_model::config::Config;
use raven_model::firewall::{self, Chain};
use std::fmt::Write;

/// All rules.
pub fn rules(config: &Config) -> String {
    let rules = firewall::rules(config);
    let mut text = "table inet raven\ndelete table inet raven\ntable inet raven {\n".to_owned();
    for chain in Chain::ALL {
        let _ = writeln!(text, "\tchain {} {{\n\t\t{}", chain.name(), head(chain));
        for rule in rules.iter().filter(|rule| rule.chain == chain) {
            let _ = writeln!(text, "\t\t{} comment \"{}\"", rule.rule, rule.why);
        }
        text += "\t}\n";
    }
    text + "\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n"
}

/// Where it takes its place, and what becomes of packets about which it says nothing.
const fn head(chain: Chain) -> &'static str {
    match chain {
        Chain::Untracked => "type filter hook prerouting priority raw; policy accept;",
        Chain::UntrackedOut => "type filter hook output priority raw; policy accept;",
        Chain::Input => "type filter hook input priority filter; policy drop;",
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
            "\t\tip saddr 192.0.2.1 udp sport 1514 notrack comment \"what answers telemetry",
            "\t\tudp dport 162 accept comment \"collects trap\"\n",
            "\t\tct state invalid drop comment \"of no connection that is known\"\n",
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
