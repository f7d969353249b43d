//! An interface of WireGuard, typed, as wg-quick's files describe it. [`read`] makes one of a profile;
//! [`WireGuard::to_config`] writes it anew.

mod read;
mod table;
mod values;
mod write;

pub(crate) use read::read;

use crate::address::Endpoint;
use crate::secret::Secret;
use raven_model::prefix::Prefix;
use raven_model::tunnel::PublicKey;
use std::fmt;
use std::net::IpAddr;

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireGuard {
    /// Own key.
    pub private_key: Secret<[u8; 32]>,
    /// Own addresses, at least one.
    pub addresses: Vec<Address>,
    /// Own UDP port; else the kernel chooses.
    pub listen_port: Option<u16>,
    /// Largest packet in the tunnel, bytes.
    pub mtu: Option<u16>,
    /// DNS servers that the profile would like: a wish.
    pub dns: Vec<IpAddr>,
    /// At least one, and one that has an endpoint; no key twice, no network at two of them.
    pub peers: Vec<Peer>,
}

/// Another end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub public_key: PublicKey,
    /// A key beside it, for the day when curves are broken.
    pub preshared_key: Option<Secret<[u8; 32]>>,
    /// What may come from it and goes to it, at least one.
    pub allowed_ips: Vec<Prefix>,
    /// Where it is.
    pub endpoint: Option<Endpoint>,
    /// Seconds between packets that say that this end is still there; `None`: off.
    pub keepalive: Option<u16>,
}

/// An own address and how many of its bits are its network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// With host bits.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub length: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The public half of a private key (RFC 7748): what the far end has to know.
pub fn public_key(private: &Secret<[u8; 32]>) -> PublicKey {
    let private = x25519_dalek::StaticSecret::from(*private.expose());
    PublicKey(x25519_dalek::PublicKey::from(&private).to_bytes())
}

/// What may be done with each key of a profile: section and key, `accepted`, `refused` or `left out`, and why.
pub fn directives() -> impl Iterator<Item = (String, &'static str, &'static str)> {
    table::RULES.iter().map(|rule| {
        let answer = match rule.answer {
            table::Answer::Accept(_) => "accepted",
            table::Answer::Refuse => "refused",
            table::Answer::Drop => "left out",
        };
        (format!("[{}] {}", rule.section.word(), rule.name), answer, rule.reason)
    })
}
