//! What an operator tells the `vpn` role, over a connection that `ravend` hands on without a look at it.
//!
//! The client sends one [`VpnOrder`] as a line of JSON; the answer has the form of [`crate::query`]: a
//! [`Reply`](crate::query::Reply) line, lines of JSON, and the count of them at the end.

use crate::control::VpnRights;
use crate::tunnel::TunnelName;
use crate::units::UnixNanos;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use zeroize::Zeroizing;

/// Longest order, bytes: a profile and its files, as base64.
pub const ORDER_MAX: u64 = 2 << 20;

/// Longest one-time code, bytes.
pub const CODE_MAX: usize = 128;

/// An operator's order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VpnOrder {
    /// Reads a profile and says what it thinks of it; answered by a [`Verdict`].
    Check(Box<Brought>),
    /// The same, and keeps it as a new version when nothing was refused; answered by a [`Verdict`] with its number.
    Import {
        /// Under which name.
        name: TunnelName,
        /// The profile.
        brought: Box<Brought>,
    },
    /// What is kept: a [`Kept`] for each version.
    List,
    /// A version without its secrets; answered by a [`Verdict`].
    Show(Which),
    /// A version with its secrets, as it is given to openvpn or WireGuard; answered by an [`Exported`].
    Export(Which),
    /// Removes all versions of a name, and their secrets; answered by a [`Kept`] for each.
    Remove(TunnelName),
    /// What happened to the tunnels lately: a [`VpnEvent`] each, the oldest first.
    Events,
    /// Turns a tunnel on or off until the next start or change of the configuration, and begins anew what was on.
    Turn {
        /// Which.
        name: TunnelName,
        /// On.
        on: bool,
        /// A one-time code for its next attempt, of [`CODE_MAX`] bytes at most, which begins at once; only with `on`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<SecretText>,
    },
}

impl VpnOrder {
    /// What it takes to give it.
    pub const fn rights(&self) -> VpnRights {
        match self {
            Self::Check(_) | Self::List | Self::Show(_) | Self::Events => VpnRights::Look,
            Self::Turn { .. } => VpnRights::Operate,
            Self::Import { .. } | Self::Export(_) | Self::Remove(_) => VpnRights::Change,
        }
    }
}

/// A version of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Its name.
    pub name: TunnelName,
    /// Its number; the newest without it.
    pub version: Option<u32>,
}

/// A profile from outside, and what goes with it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brought {
    /// The file, base64.
    pub text: Zeroizing<String>,
    /// Files that it names, base64, by the name that it uses.
    #[serde(default)]
    pub files: BTreeMap<String, Zeroizing<String>>,
    /// Lines that are left out on purpose.
    #[serde(default)]
    pub without: BTreeSet<u32>,
    /// What is to be allowed although it is refused by default.
    #[serde(default)]
    pub allow: BTreeSet<String>,
    /// User and password at the server.
    #[serde(default)]
    pub login: Option<Login>,
    /// Password of the private key.
    #[serde(default)]
    pub passphrase: Option<SecretText>,
}

impl fmt::Debug for Brought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(profile)")
    }
}

/// A password or a one-time code: wiped when dropped, and shown by no message and no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes one in.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The text itself: for what it is given to, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// User and password.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: SecretText,
}

/// What was thought of a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Under which number it is kept.
    pub version: Option<u32>,
    /// Nothing was refused.
    pub accepted: bool,
    /// What was found, a line each, in the order of the file.
    pub findings: Vec<String>,
    /// What it is, without secrets.
    pub summary: serde_json::Value,
}

/// A version that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub name: TunnelName,
    /// Its number.
    pub version: u32,
    /// `openvpn` or `wireguard`.
    pub kind: String,
    /// The configuration names it.
    pub in_force: bool,
    /// Its servers.
    pub endpoints: Vec<String>,
    /// Days until its certificate expires; negative once it has.
    pub days_left: Option<i64>,
    /// Of WireGuard: the public half of its key, which the far end has to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// A profile with its secrets.
#[derive(Serialize, Deserialize)]
pub struct Exported {
    /// Its text.
    pub text: Zeroizing<String>,
}

/// Something that happened to a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnEvent {
    /// When, by the clock of that moment.
    pub time_ns: UnixNanos,
    /// Of which.
    pub tunnel: TunnelName,
    /// `up`, `degraded`, `half-open`, `connecting`, `down`, `off`.
    pub state: String,
    /// Why.
    pub cause: String,
}
