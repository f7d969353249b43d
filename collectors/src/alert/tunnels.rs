//! What is not well with tunnels to the operations centre, by what the vpn role reports.

use super::engine::{Finding, Look};
use raven_model::alert::Rule;
use raven_model::calendar::span;
use raven_model::config::Alert;
use raven_model::report::VpnTunnel;

/// A tunnel that is off is not needed; one that is on its way is neither well nor ill.
pub fn look_at(look: &mut Look, tunnels: &[VpnTunnel], config: &Alert) {
    let carries = tunnels.iter().find(|tunnel| tunnel.carries);
    for tunnel in tunnels {
        look.findings.extend(down(tunnel, carries));
        look.findings.extend(expiring(tunnel, config));
    }
}

fn down(tunnel: &VpnTunnel, carries: Option<&VpnTunnel>) -> Option<Finding> {
    let bad = match tunnel.state.as_str() {
        "down" | "half-open" => true,
        "connecting" => false,
        _ => return None,
    };
    let instead = carries.map_or_else(|| "no other carries".to_owned(), |other| format!("{} carries", other.name));
    let cause: String = tunnel.cause.split("; next attempt").next().unwrap_or_default().chars().take(200).collect();
    Some(Finding {
        rule: Rule::TunnelDown,
        subject: tunnel.name.to_string(),
        bad,
        severity: None,
        since: None,
        value: tunnel.since_s,
        what: format!("the tunnel {} is {} ({cause}); {instead}", tunnel.name, tunnel.state),
        remedy: "see `raven vpn status`, and docs/vpn.md for what each cause means; all is kept and sent when it is back",
    })
}

fn expiring(tunnel: &VpnTunnel, config: &Alert) -> Option<Finding> {
    let left = tunnel.expires_s?;
    if left >= config.expiring_below().as_secs().cast_signed() {
        return None;
    }
    let when = match u64::try_from(left) {
        Ok(left) => format!("expires in {}", span(left)),
        Err(_) => format!("has expired {} ago", span(left.unsigned_abs())),
    };
    Some(Finding {
        rule: Rule::CertificateExpiring,
        subject: tunnel.name.to_string(),
        bad: true,
        severity: None,
        since: None,
        value: left.max(0).unsigned_abs() / 86_400,
        what: format!("a certificate in the VPN profile {} {when}", tunnel.name),
        remedy: "get a new profile from whoever runs the VPN server, and `raven vpn import` it under the same name",
    })
}
