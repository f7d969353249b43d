//! Tunnels to the operations centre: what the `vpn` role asks of the `net` role, and what it is told.
//!
//! They talk over a SOCK_SEQPACKET pair that `ravend` makes and keeps ([`crate::control::Fd::Tunnels`]), one JSON value per
//! packet: [`ToNet`] one way, [`FromNet`] the other. `net` believes nothing of what it reads there; it carries out one order
//! after the other, and reads none while an answer was not taken. All orders say how it is to be, so that each may be
//! repeated: when `net` says [`FromNet::Began`], those that it has not answered are lost, and what it was told before is to
//! be said again.

use crate::config::Address;
use crate::prefix::Prefix;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use zeroize::Zeroizing;

/// Most tunnels at a time.
pub const TUNNELS_MAX: usize = 16;
/// Most addresses of a tunnel.
pub const ADDRESSES_MAX: usize = 8;
/// Most routes of a tunnel that are taken.
pub const ROUTES_MAX: usize = 256;
/// Most far ends of a device of WireGuard.
pub const PEERS_MAX: usize = 16;
/// Most addresses at which its far end may be.
pub const ENDPOINTS_MAX: usize = 64;

/// Routes and refusals of a tunnel in the report, which has to fit into a packet whatever is asked for.
pub const SHOWN_ROUTES: usize = 64;
/// As above.
pub const SHOWN_REFUSALS: usize = 16;
/// Rules, and as many routes, in the report, as above.
pub const SHOWN_WAYS: usize = 128;

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
    /// Make its network device. One that is there and was made so is taken as it is.
    Open {
        /// Which.
        tunnel: TunnelName,
        /// What carries its packets: the first of these that can be.
        by: Vec<Carried>,
        /// Where its far end may be: packets to there never go through a tunnel. At most [`ENDPOINTS_MAX`].
        #[serde(default)]
        endpoints: Vec<IpAddr>,
    },
    /// Give a device of WireGuard its key and its far ends, and no others. Whatever it has of sessions begins anew.
    Peers {
        /// Which.
        tunnel: TunnelName,
        /// Its own key.
        private_key: WireguardKey,
        /// Its own UDP port; without it any.
        #[serde(default)]
        port: Option<u16>,
        /// Its far ends, at most [`PEERS_MAX`].
        peers: Vec<WireguardPeer>,
    },
    /// Say how its far ends are; for a device of WireGuard.
    Look {
        /// Which.
        tunnel: TunnelName,
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

/// What carries the packets of a tunnel's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Carried {
    /// A program of this user, not root, which attaches to a TUN device.
    Program(u32),
    /// The kernel's WireGuard, where it has one.
    Wireguard,
}

/// A far end of a WireGuard device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireguardPeer {
    /// Who it is.
    pub public_key: PublicKey,
    /// A key beside it.
    #[serde(default)]
    pub preshared_key: Option<WireguardKey>,
    /// Where it is.
    #[serde(default)]
    pub endpoint: Option<SocketAddr>,
    /// Seconds between packets that say that this end is still there; 0: none.
    #[serde(default)]
    pub keepalive: u16,
    /// What may come from it and is sent to it, at most [`ROUTES_MAX`].
    pub allowed_ips: Vec<Prefix>,
}

/// How a far end of a WireGuard device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireguardSeen {
    /// Which.
    pub public_key: PublicKey,
    /// From where it was heard last, or where it is looked for.
    pub endpoint: Option<SocketAddr>,
    /// When keys were exchanged with it last, seconds since 1970; 0: not yet.
    pub handshake: u64,
    /// Bytes that came from it.
    pub received: u64,
    /// Bytes that were sent to it.
    pub sent: u64,
}

/// A public key of WireGuard: 32 bytes, written in base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes_of(&String::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

/// A key that nobody else may know: 32 bytes, in base64 on the way between the roles; wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WireguardKey(Zeroizing<[u8; 32]>);

impl WireguardKey {
    /// Takes a key in.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*key))
    }

    /// The key itself: for what it is given to, never for a message.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for WireguardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for WireguardKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(self.expose())))
    }
}

impl<'de> Deserialize<'de> for WireguardKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::<String>::deserialize(deserializer)?;
        bytes_of(&text).map(|key| Self(Zeroizing::new(key))).map_err(de::Error::custom)
    }
}

/// What is wrong with it is not said by its words, which may be a secret.
fn bytes_of(text: &str) -> Result<[u8; 32], &'static str> {
    let bytes = STANDARD.decode(text).map(Zeroizing::new).map_err(|_| "a key is base64")?;
    bytes.as_slice().try_into().map_err(|_| "a key has 32 bytes")
}

/// From the `net` role to the `vpn` role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNet {
    /// It was started, and holds what the kernel holds of tunnels.
    Began,
    /// A link of the venue has a cable, an address or a way out that it had not: what waits for its next attempt need not
    /// wait.
    Returned,
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
    /// To [`TunnelOrder::Open`]: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Carried>,
    /// To [`TunnelOrder::Look`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<WireguardSeen>,
}

/// Something that a tunnel asks for and does not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// `route 0.0.0.0/0`.
    pub what: String,
    /// `it asks for all traffic: only networks named in vpn.networks go through it`.
    pub why: String,
}

/// The tunnel through which destinations are reached, as the `vpn` role tells the uplink. A hint: what is stored, sent and
/// caught up follows from acknowledgements alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carrier {
    /// The one that carries; while none does the one that carried last, since it may do so unseen.
    pub tunnel: Option<TunnelName>,
    /// It is known to carry: what waits for its next attempt need not wait.
    pub works: bool,
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
#[serde(default)]
pub struct Traffic {
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Packets that came in.
    pub rx_packets: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Packets that came in and were bad.
    pub rx_errors: u64,
    /// Packets that came in and were dropped.
    pub rx_dropped: u64,
    /// Packets that could not go out.
    pub tx_errors: u64,
    /// Packets that were dropped before they went out.
    pub tx_dropped: u64,
}

/// A rule of ours in the kernel: which table says the way of which packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRule {
    /// The lowest is asked first.
    pub priority: u32,
    /// Which packets: `to 10.20.0.0/16`.
    pub packets: String,
    /// The table in which their way is looked up.
    pub table: u32,
    /// Why it is there.
    pub why: Why,
}

/// A route of ours in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRoute {
    /// Where it stands.
    pub table: u32,
    /// To where.
    pub to: Prefix,
    /// The device into which it leads; null: nowhere.
    pub device: Option<String>,
    /// Why it is there.
    pub why: Why,
}

/// Why a rule or route of ours is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Of sockets that are bound to a tunnel's device.
    Bound,
    /// To a tunnel's far end.
    FarEnd,
    /// To a network of a link inside one of `vpn.networks`.
    Inside,
    /// To one of `vpn.networks` inside a network of a link.
    Wider,
    /// To the venue's.
    Venue,
    /// From a tunnel's address.
    Own,
    /// To `vpn.networks`.
    Networks,
    /// Into the tunnel that carries.
    Carried,
    /// To nowhere.
    Nowhere,
    /// All that a tunnel's own table is asked for.
    All,
    /// What a tunnel's server says.
    Pushed,
}

impl Why {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Bound => {
                "what is bound to the tunnel's device goes by the tunnel's own table: its pings, via = \"vpn\""
            }
            Self::FarEnd => "the tunnel's own packets reach its server over a link, not through a tunnel",
            Self::Inside => "a network of the venue inside one of vpn.networks stays reached over its link",
            Self::Wider => "one of vpn.networks stays the tunnel's, although a link's network is wider",
            Self::Venue => "the venue's networks and vpn.never never go through a tunnel",
            Self::Own => "answers from the tunnel's address go back through it",
            Self::Networks => "vpn.networks: through the tunnel that carries, or not at all",
            Self::Carried => "the tunnel that carries",
            Self::Nowhere => "unreachable while no tunnel carries: nothing leaves in clear",
            Self::All => "what is bound to this tunnel finds its way through it",
            Self::Pushed => "its server says that it leads there",
        }
    }
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
    fn a_key_goes_from_role_to_role_and_is_not_shown() {
        let text = format!(
            r#"{{"id":7,"order":{{"peers":{{"tunnel":"noc","private_key":"{}","peers":[{{"public_key":"{}","allowed_ips":["10.20.0.0/16"]}}]}}}}}}"#,
            STANDARD.encode([7; 32]),
            STANDARD.encode([8; 32])
        );
        let read: ToNet = serde_json::from_str(&text).unwrap();
        let TunnelOrder::Peers { private_key, peers, .. } = &read.order else { panic!() };
        assert_eq!((private_key.expose(), peers[0].public_key), (&[7; 32], PublicKey([8; 32])));
        assert_eq!(serde_json::from_slice::<ToNet>(&serde_json::to_vec(&read).unwrap()).unwrap(), read);
        let shown = format!("{read:?}");
        assert!(shown.contains("private_key: (secret)") && !shown.contains(&STANDARD.encode([7; 32])), "{shown}");
        for wrong in ["c2hvcnQ=", "no base64 at all"] {
            let wrong = text.replace(&STANDARD.encode([7; 32]), wrong);
            let said = serde_json::from_str::<ToNet>(&wrong).unwrap_err().to_string();
            assert!(said.starts_with("a key "), "{said}");
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
