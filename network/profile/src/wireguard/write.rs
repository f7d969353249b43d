//! Writes a profile anew, from its values alone, in a fixed order. The same values give the same bytes.

use super::{Peer, WireGuard};
use crate::pem::base64_of;
use crate::secret::Secret;
use std::fmt::{Display, Write as _};

/// Room for the longest text, so that no copy of a key stays behind when it grows.
const ROOM: usize = 2 * crate::PROFILE_MAX;

impl WireGuard {
    /// The profile as wg-quick writes them, which [`crate::read`] gives back as it is. It holds keys.
    pub fn to_config(&self) -> Secret<String> {
        let mut out = String::with_capacity(ROOM);
        out.push_str("[Interface]\n");
        line(&mut out, "PrivateKey", base64_of(self.private_key.expose()).as_str());
        self.addresses.iter().for_each(|address| line(&mut out, "Address", address));
        self.listen_port.iter().for_each(|port| line(&mut out, "ListenPort", port));
        self.mtu.iter().for_each(|mtu| line(&mut out, "MTU", mtu));
        self.dns.iter().for_each(|dns| line(&mut out, "DNS", dns));
        self.peers.iter().for_each(|peer| write_peer(&mut out, peer));
        Secret::new(out)
    }
}

fn write_peer(out: &mut String, peer: &Peer) {
    out.push_str("\n[Peer]\n");
    line(out, "PublicKey", peer.public_key);
    peer.preshared_key.iter().for_each(|key| line(out, "PresharedKey", base64_of(key.expose()).as_str()));
    peer.allowed_ips.iter().for_each(|prefix| line(out, "AllowedIPs", prefix));
    peer.endpoint.iter().for_each(|endpoint| line(out, "Endpoint", endpoint));
    peer.keepalive.iter().for_each(|seconds| line(out, "PersistentKeepalive", seconds));
}

fn line(out: &mut String, key: &str, value: impl Display) {
    // Writing into a String does not fail.
    let _ = writeln!(out, "{key} = {value}");
}
