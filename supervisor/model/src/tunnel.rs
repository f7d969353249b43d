//! Tunnels to the operations centre: what the `vpn` role asks of the `net` role, and what it is told.
//!
//! They talk over a SOCK_SEQPACKET pair that `ravend` makes and keeps ([`crate::control::Fd::Tunnels`]), one JSON value per
//! packet: [`ToNet`] one way, [`FromNet`] the other. `net` believes nothing of what it reads there; it carries out one order
//! after the other, and reads none while an answer was not taken. All orders say how it is to be, so that each may be
//! repeated: when `net` says [`FromNet::Began`], those that it has not answered are lost, and what it was told before is to
//! be said again.

use crate::config::Address;
use crate::prefix::Prefix;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Most tunnels at a time.
pub const TUNNELS_MAX: usize = 16;
/// Most addresses of a tunnel.
pub const ADDRESSES_MAX: usize = 8;
/// Most routes of a tunnel that are taken.
pub const ROUTES_MAX: usize = 256;
/// Most addresses at which its far end may be.
pub const ENDPOINTS_MAX: usize = 64;

/// Routes and refusals of a tunnel in the report, which has to fit into a packet whatever is asked for.
pub const SHOWN_ROUTES: usize = 64;
/// As above.
pub const SHOWN_REFUSALS: usize = 16;

/// From the `vpn` role to the `net` role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToNet {
    /// Pairs the answer with the order.
    pub id: u64,
    /// What is to be done.
    pub order: TunnelOrder,
}

/// What the `vpn` role may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TunnelOrder {
    /// Make its network device (TUN). One that is there and of this owner is taken as it is.
    Open {
        /// Which.
        tunnel: TunnelName,
        /// The user that may attach to the device; not root.
        owner: u32,
        /// Where its far end may be: packets to there never go through a tunnel. At most [`ENDPOINTS_MAX`].
        #[serde(default)]
        endpoints: Vec<IpAddr>,
    },
    /// The far end was reached: give the device these addresses and no others, and turn it on.
    Up {
        /// Which.
        tunnel: TunnelName,
        /// Its own addresses, at most [`ADDRESSES_MAX`].
        addresses: Vec<Address>,
        /// The address of the far end in the tunnel.
        #[serde(default)]
        peer: Option<IpAddr>,
        /// Longest packet, 576 to 9216 bytes; without it 1500.
        #[serde(default)]
        mtu: Option<u32>,
        /// What the far end says that it leads to. Takes nothing from the venue: `vpn.networks` alone is led into it.
        #[serde(default)]
        routes: Vec<Prefix>,
        /// As in `Open`, and instead of those.
        #[serde(default)]
        endpoints: Vec<IpAddr>,
    },
    /// Take addresses and routes away; the device stays, and so do the ways to its far end.
    Down {
        /// Which.
        tunnel: TunnelName,
    },
    /// Remove the device and all that belongs to it.
    Close {
        /// Which.
        tunnel: TunnelName,
    },
    /// Lead `vpn.networks` into this tunnel as long as it is up, or into none.
    Prefer {
        /// Which.
        tunnel: Option<TunnelName>,
    },
}

/// From the `net` role to the `vpn` role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNet {
    /// It was started, and holds what the kernel holds of tunnels.
    Began,
    /// To a [`ToNet`].
    Answer {
        /// Of the order; none when it was not to be read.
        id: Option<u64>,
        /// What was done, or why nothing was.
        answer: Result<TunnelAnswer, String>,
    },
}

/// How it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelAnswer {
    /// What was changed, a line each; nothing where all was so already.
    pub applied: Vec<String>,
    /// What was left out.
    pub refused: Vec<Refusal>,
}

/// Something that a tunnel asks for and does not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// `route 0.0.0.0/0`.
    pub what: String,
    /// `it asks for all traffic: only networks named in vpn.networks go through it`.
    pub why: String,
}

/// One tunnel, as the `net` role reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// Its name.
    pub name: TunnelName,
    /// Its network device.
    pub device: String,
    /// In a word.
    pub state: TunnelState,
    /// `vpn.networks` is led into it.
    pub carries: bool,
    /// Its addresses; the network's length of their prefix is not taken over.
    pub addresses: Vec<IpAddr>,
    /// Longest packet, bytes.
    pub mtu: u32,
    /// Its own routing table.
    pub table: u32,
    /// What its far end says that it leads to, as far as it was taken: the first [`SHOWN_ROUTES`].
    pub routes: Vec<Prefix>,
    /// How many of those there are.
    pub routes_taken: u32,
    /// What was not taken: the first [`SHOWN_REFUSALS`].
    pub refused: Vec<Refusal>,
    /// Since the device was made.
    pub traffic: Traffic,
}

/// What went through a device, as the kernel counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Packets that came in.
    pub rx_packets: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
    /// Packets that went out.
    pub tx_packets: u64,
}

/// A tunnel's device in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelState {
    /// It carries packets.
    Up,
    /// It has addresses, and no program holds its other end.
    Waiting,
    /// It has no addresses.
    Down,
    /// Its device is not there.
    Gone,
}

/// Name of a tunnel and of its profile: 1 to 11 small letters, digits and `-`, a letter first. Its network device is
/// `vpn-NAME`: the kernel takes 15 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TunnelName(String);

impl TunnelName {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of its network device.
    pub fn device(&self) -> String {
        format!("{DEVICE}{}", self.0)
    }
}

/// What names of tunnels' devices begin with: no other device of the box is called so.
pub const DEVICE: &str = "vpn-";

impl FromStr for TunnelName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fine = (1..=11).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let wrong = || format!("`{}` is no name of a VPN profile", text.escape_debug());
        if fine { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }
}

impl fmt::Display for TunnelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TunnelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_order_is_read_as_it_is_documented_and_nothing_beside_it() {
        let text = r#"{"id":7,"order":{"up":{"tunnel":"noc","addresses":["10.8.0.2/24"],"routes":["10.20.0.0/16"]}}}"#;
        let read: ToNet = serde_json::from_str(text).unwrap();
        let TunnelOrder::Up { tunnel, addresses, peer, mtu, routes, endpoints } = read.order else { panic!() };
        assert_eq!((read.id, tunnel.as_str(), addresses[0].to_string()), (7, "noc", "10.8.0.2/24".to_owned()));
        assert_eq!((peer, mtu, routes[0].to_string(), endpoints.len()), (None, None, "10.20.0.0/16".to_owned(), 0));
        let none = r#"{"id":1,"order":{"prefer":{"tunnel":null}}}"#;
        assert_eq!(serde_json::from_str::<ToNet>(none).unwrap().order, TunnelOrder::Prefer { tunnel: None });
        for wrong in [
            text.replace("noc", "../noc"),
            text.replace("10.8.0.2/24", "10.8.0.2/33"),
            text.replace("10.8.0.2/24", "127.0.0.1/8"),
            text.replace("/16", "/x"),
            text.replace("\"id\":7,", ""),
            text.replace("\"id\":7,", "\"id\":7,\"more\":1,"),
            text.replace("\"routes\"", "\"rotues\""),
            text.replace("\"up\"", "\"run\""),
        ] {
            assert!(serde_json::from_str::<ToNet>(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_fits_into_that_of_a_device() {
        assert_eq!("noc".parse::<TunnelName>().unwrap().device(), "vpn-noc");
        assert_eq!("noc-backup1".parse::<TunnelName>().unwrap().device().len(), 15);
        for wrong in ["", "noc-backup12", "Noc", "1st", "a b", "a/b", "..", "-a", "ä", "a\n"] {
            assert!(wrong.parse::<TunnelName>().is_err(), "{wrong}");
        }
    }
}
