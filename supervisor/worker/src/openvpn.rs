//! The role `openvpn`: not ours. The worker jails itself, and becomes Debian's openvpn for one tunnel.
//!
//! openvpn gets its profile, written anew by the `vpn` role, as standard input; orders that matter stand on its command
//! line, behind the profile, so that no profile can say otherwise. It runs no script, sets no address and no route, and
//! attaches to a TUN device that the `net` role made for its user.

use anyhow::{Context, bail};
use raven_jail::sandbox;
use raven_model::control::{Fd, Start};
use raven_model::table::table;
use raven_model::tunnel::TunnelName;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What a server may push; all else is thrown away, and openvpn's log says so.
const PUSHES: [&str; 19] = [
    "ifconfig ",
    "ifconfig-ipv6 ",
    "route ",
    "route-ipv6 ",
    "route-gateway ",
    "topology ",
    "ping ",
    "ping-restart ",
    "peer-id ",
    "cipher ",
    "tun-mtu ",
    "tun-ipv6",
    "dhcp-option DNS",
    "auth-token",
    "protocol-flags ",
    "key-derivation ",
    "explicit-exit-notify",
    "inactive ",
    "session-timeout ",
];

/// Becomes openvpn.
pub fn run(start: &Start, fds: Vec<OwnedFd>) -> anyhow::Result<Infallible> {
    let profile = start.fds.iter().zip(fds).find_map(|(name, fd)| match name {
        Fd::Profile { tunnel, link } => Some((tunnel, link.as_deref(), fd)),
        _ => None,
    });
    let (tunnel, link, profile) = profile.context("ravend passed no profile")?;
    let spec = table().spec(start.role);
    let program = spec.program.as_deref().context("the process table names no program")?;
    if !Path::new(program).exists() {
        bail!("{program} is not there: install the package openvpn");
    }
    nix::unistd::dup2_stdin(&profile).context("standard input")?;
    let args = arguments(tunnel, link, &start.data);
    sandbox::enter(spec, &table().base, &start.data)?;
    Err(sandbox::become_program(program, &args, &[]).into())
}

fn arguments(tunnel: &TunnelName, link: Option<&str>, data: &Path) -> Vec<String> {
    let socket = data.join("run/vpn").join(tunnel.as_str());
    let mut args = vec!["openvpn".to_owned()];
    let mut add = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
    add(&["--config", "stdin"]);
    add(&["--management", &socket.to_string_lossy(), "unix", "--management-client"]);
    add(&["--management-hold", "--management-query-passwords", "--management-up-down"]);
    add(&["--dev", &tunnel.device(), "--dev-type", "tun", "--persist-tun", "--nobind", "--disable-dco"]);
    add(&["--ifconfig-noexec", "--route-noexec", "--script-security", "0", "--auth-nocache"]);
    // Who does not answer is asked again after a second. How long that goes on the `vpn` role decides, before these do.
    add(&["--tls-timeout", "1", "--server-poll-timeout", "15", "--connect-retry", "1", "1", "--resolv-retry", "0"]);
    add(&["--hand-window", "15"]);
    add(&["--verb", "3", "--suppress-timestamps"]);
    if let Some(link) = link {
        add(&["--bind-dev", link]);
    }
    for push in PUSHES {
        add(&["--pull-filter", "accept", push]);
    }
    add(&["--pull-filter", "ignore", ""]);
    args
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_keeps_openvpn_in_its_place_stands_behind_the_profile() {
        let args = arguments(&"noc".parse().unwrap(), Some("eth1"), Path::new("/data"));
        let place = |word: &str| args.iter().position(|arg| arg == word).unwrap();
        assert_eq!(args[place("--config") + 1], "stdin");
        for word in ["--script-security", "--ifconfig-noexec", "--route-noexec", "--management", "--dev"] {
            assert!(place(word) > place("--config"), "{word}");
        }
        assert_eq!(args[place("--script-security") + 1], "0");
        assert_eq!(args[place("--management") + 1], "/data/run/vpn/noc");
        assert_eq!(args[place("--bind-dev") + 1], "eth1");
        assert_eq!(args.iter().rev().take(3).collect::<Vec<_>>(), ["", "ignore", "--pull-filter"]);
    }
}
