//! What is said to a WireGuard that runs as a program, and what it answers (wireguard.com/xplatform, "Configuration
//! Protocol"): lines of `key=value`, an empty one at the end; keys in hexadecimal digits.

use raven_model::tunnel::{PEERS_MAX, PublicKey, WireguardKey, WireguardPeer, WireguardSeen};
use std::fmt::{Display, Write as _};
use zeroize::Zeroizing;

/// Longest answer, bytes: with the most far ends and networks that we set.
pub const ANSWER: usize = 512 << 10;
/// Room for the longest request, so that no copy of a key stays behind when it grows.
const ROOM: usize = 512 << 10;

/// Asks how the far ends are.
pub const GET: &str = "get=1\n\n";

/// Sets key and far ends, instead of those that were.
pub fn set(key: &WireguardKey, port: Option<u16>, peers: &[WireguardPeer]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(ROOM));
    let mut line = |key: &str, value: &dyn Display| {
        // Writing into a String does not fail.
        let _ = writeln!(out, "{key}={value}");
    };
    line("set", &1);
    line("private_key", &*hex(key.expose()));
    if let Some(port) = port {
        line("listen_port", &port);
    }
    line("replace_peers", &true);
    for peer in peers {
        line("public_key", &*hex(&peer.public_key.0));
        if let Some(key) = &peer.preshared_key {
            line("preshared_key", &*hex(key.expose()));
        }
        if let Some(endpoint) = &peer.endpoint {
            line("endpoint", endpoint);
        }
        line("persistent_keepalive_interval", &peer.keepalive);
        line("replace_allowed_ips", &true);
        for net in &peer.allowed_ips {
            line("allowed_ip", &format!("{}/{}", net.addr(), net.len()));
        }
    }
    out.push('\n');
    out
}

/// The far ends of an answer.
///
/// # Errors
/// It says that something went wrong, or nothing that can be read.
pub fn read(answer: &str) -> Result<Vec<WireguardSeen>, String> {
    let mut peers: Vec<WireguardSeen> = Vec::new();
    for line in answer.lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').ok_or("WireGuard's answer holds a line without `=`")?;
        if key == "errno" {
            return match value {
                "0" => Ok(peers),
                number => Err(format!("WireGuard answers with error {}", number.escape_debug())),
            };
        }
        if key == "public_key" {
            if peers.len() == PEERS_MAX {
                return Err(format!("WireGuard tells of more than {PEERS_MAX} far ends"));
            }
            let public_key = key_of(value).ok_or("WireGuard tells of a far end whose key is none")?;
            peers.push(WireguardSeen { public_key, endpoint: None, handshake: 0, received: 0, sent: 0 });
        }
        let Some(peer) = peers.last_mut() else { continue };
        let number = value.parse().unwrap_or_default();
        match key {
            "endpoint" => peer.endpoint = value.parse().ok(),
            "last_handshake_time_sec" => peer.handshake = number,
            "rx_bytes" => peer.received = number,
            "tx_bytes" => peer.sent = number,
            _ => {}
        }
    }
    Err("WireGuard's answer has no end".to_owned())
}

fn hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(64));
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn key_of(text: &str) -> Option<PublicKey> {
    let mut key = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(PublicKey(key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_and_far_ends_are_set_as_the_protocol_has_them() {
        let peer = WireguardPeer {
            public_key: PublicKey([0xab; 32]),
            preshared_key: Some(WireguardKey::new(&[1; 32])),
            endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
            keepalive: 25,
            allowed_ips: vec!["10.20.0.0/16".parse().unwrap(), "2001:db8:2::7".parse().unwrap()],
        };
        let expected = format!(
            "set=1\nprivate_key={}\nlisten_port=51820\nreplace_peers=true\npublic_key={}\npreshared_key={}\n\
             endpoint=[2001:db8::1]:51820\npersistent_keepalive_interval=25\nreplace_allowed_ips=true\n\
             allowed_ip=10.20.0.0/16\nallowed_ip=2001:db8:2::7/128\n\n",
            "02".repeat(32),
            "ab".repeat(32),
            "01".repeat(32)
        );
        assert_eq!(*set(&WireguardKey::new(&[2; 32]), Some(51820), &[peer]), expected);
    }

    #[test]
    fn an_answer_tells_how_far_ends_are() {
        let answer = format!(
            "private_key={}\nlisten_port=1\npublic_key={}\nendpoint=192.0.2.1:51820\nlast_handshake_time_sec=1700000000\n\
             last_handshake_time_nsec=5\ntx_bytes=148\nrx_bytes=92\nallowed_ip=10.0.0.0/8\npublic_key={}\nerrno=0\n\n",
            "00".repeat(32),
            "ab".repeat(32),
            "cd".repeat(32)
        );
        let seen = read(&answer).unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].public_key, seen[0].endpoint), (PublicKey([0xab; 32]), "192.0.2.1:51820".parse().ok()));
        assert_eq!((seen[0].handshake, seen[0].received, seen[0].sent, seen[1].handshake), (1_700_000_000, 92, 148, 0));
        assert_eq!(read("errno=0\n\n"), Ok(Vec::new()));
        for (wrong, why) in [
            ("errno=-22\n\n", "WireGuard answers with error -22"),
            ("", "WireGuard's answer has no end"),
            ("public_key=xyz\nerrno=0\n\n", "WireGuard tells of a far end whose key is none"),
            ("nonsense\n\n", "WireGuard's answer holds a line without `=`"),
        ] {
            assert_eq!(read(wrong), Err(why.to_owned()));
        }
        let many = format!("public_key={}\n", "ab".repeat(32)).repeat(PEERS_MAX + 1);
        assert!(read(&many).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(answer in "([a-z_]{1,20}=[0-9a-f:.\\[\\]é]{0,70}\n){0,20}") {
            let _ = read(&answer);
        }
    }
}
