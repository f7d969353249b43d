//! What is seen on an interface: the view of the wire, captures, and the check of a LAN. The schema of `--json` and `--ndjson`.
//!
//! `ravend` makes one packet socket for each, by [`Tap`], and passes it with the operator's connection to the `wire` role. On that
//! connection the client sends one [`Order`] as a line of JSON and gets a [`crate::query::Reply`] line; after `ok` follow lines of
//! JSON, one [`Event`] each, and the last of them is the result. The connection is the view: who closes it ends it.

use crate::prefix::Prefix;
use crate::units::UnixNanos;
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Longest name of an interface, bytes (`IFNAMSIZ` without its end).
pub const INTERFACE_MAX: usize = 15;
/// Longest time that anything here takes, milliseconds.
pub const TIME_MAX_MS: u32 = 3_600_000;
/// Ports that can be asked for.
pub const PORTS: usize = 64;
/// Bytes of a frame that a view is given: headers, as far as they are looked at.
pub const HEADERS: u32 = 192;
/// Most bytes of a frame that a capture keeps.
pub const SNAP_MAX: u32 = 65_535;

/// For what a packet socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Counting: headers alone, nothing can be sent.
    View,
    /// Keeping frames: nothing can be sent.
    Capture,
    /// Asking the LAN: ARP, neighbour discovery and DHCP alone are heard, and can be sent.
    Lan,
}

/// The packet socket that an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// The interface, at most [`INTERFACE_MAX`] bytes.
    pub interface: String,
    /// For what.
    pub purpose: Purpose,
    /// Have the interface take what is for others, too.
    #[serde(default)]
    pub promiscuous: bool,
    /// Also what the box sends.
    #[serde(default)]
    pub outbound: bool,
    /// For a capture: most bytes of each frame, 64 to [`SNAP_MAX`].
    #[serde(default)]
    pub snap: Option<u32>,
}

impl Tap {
    /// Why it makes no sense.
    pub fn fault(&self) -> Option<String> {
        let name = &self.interface;
        let is_name = !name.is_empty()
            && name.len() <= INTERFACE_MAX
            && name != "."
            && name != ".."
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if !is_name {
            return Some(format!("an interface's name has 1 to {INTERFACE_MAX} visible characters and no `/`"));
        }
        let snap = self.snap.unwrap_or(SNAP_MAX);
        (!(64..=SNAP_MAX).contains(&snap)).then(|| format!("the bytes of a frame: {snap}; must be 64 to {SNAP_MAX}"))
    }
}

/// An interface as the kernel knew it when the socket was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Kind of its hardware (`ARPHRD_…`): 1 Ethernet, 772 loopback, 65534 none (tunnels).
    pub kind: u16,
    /// Its hardware address; zeroes where it has none of six bytes.
    pub mac: Mac,
}

/// A hardware address of six bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&pairs.join(":"))
    }
}

impl std::str::FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part =
                parts.next().filter(|part| part.len() == 2).ok_or("a hardware address is six pairs of hex digits")?;
            *byte = u8::from_str_radix(part, 16).map_err(|error| error.to_string())?;
        }
        if parts.next().is_some() { Err("a hardware address has six bytes".to_owned()) } else { Ok(Self(bytes)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What is to be done with the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Count what comes.
    View(ViewOrder),
    /// Keep what comes.
    Capture(CaptureOrder),
    /// Ask the LAN.
    Lan(LanOrder),
}

/// Which frames are meant; all, where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Meant {
    /// To or from one of these ports, UDP or TCP; at most [`PORTS`].
    pub ports: Vec<u16>,
    /// Sent by one of these.
    pub from: Option<Prefix>,
}

/// [`Order::View`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewOrder {
    /// How long, milliseconds, 100 to [`TIME_MAX_MS`].
    pub for_ms: u32,
    /// Which frames.
    #[serde(default)]
    pub meant: Meant,
}

/// [`Order::Capture`]. It ends with what is reached first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureOrder {
    /// How long, milliseconds, 100 to [`TIME_MAX_MS`].
    pub for_ms: u32,
    /// Frames, 1 to 10,000,000.
    pub packets: u64,
    /// Bytes of the file, 1,000 to 4 GiB.
    pub bytes: u64,
    /// Which frames.
    #[serde(default)]
    pub meant: Meant,
}

impl CaptureOrder {
    /// Most frames.
    pub const PACKETS: u64 = 10_000_000;
    /// Most bytes.
    pub const BYTES: u64 = 4 << 30;
}

/// [`Order::Lan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanOrder {
    /// The box's own addresses at this interface, at most [`LanOrder::ADDRESSES`]: does anybody else use them?
    pub addresses: Vec<IpAddr>,
    /// Its gateways, at most [`LanOrder::GATEWAYS`]: do they answer?
    pub gateways: Vec<IpAddr>,
    /// Whether DHCP servers are asked for an address, which is not taken.
    pub dhcp: bool,
    /// How long answers may take, milliseconds, 500 to 30,000.
    pub wait_ms: u32,
}

impl LanOrder {
    /// Most addresses.
    pub const ADDRESSES: usize = 64;
    /// Most gateways.
    pub const GATEWAYS: usize = 16;
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The last second of a view.
    Second(Second),
    /// Bytes of a capture file, base64 (RFC 4648, 4).
    Part(String),
    /// Result of [`Order::View`].
    Wire(WireResult),
    /// Result of [`Order::Capture`].
    Captured(CaptureResult),
    /// Result of [`Order::Lan`].
    Lan(LanResult),
}

impl Event {
    /// A part of a file.
    pub fn part(bytes: &[u8]) -> Self {
        Self::Part(base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    /// Its bytes; none where it is no part, or no base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let Self::Part(text) = self else { return None };
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    }
}

/// To whom a frame is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// To this interface's hardware address.
    #[default]
    Us,
    /// To all.
    Broadcast,
    /// To a group.
    Multicast,
    /// To another: seen on the wire, not for this box.
    Others,
    /// From this box.
    Outbound,
}

impl To {
    /// As operators read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Broadcast => "all",
            Self::Multicast => "a group",
            Self::Others => "others",
            Self::Outbound => "outbound",
        }
    }
}

/// Frames of one kind from one sender to one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// VLANs, the outer one first (IEEE 802.1Q, 802.1ad).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// Who sent it; none: not IP, and no ARP.
    pub source: Option<IpAddr>,
    /// By which hardware address, in the newest.
    pub mac: Option<Mac>,
    /// To which address; none: as `source`.
    pub target: Option<IpAddr>,
    /// To whom.
    pub to: To,
    /// `udp`, `tcp`, `icmp`, `icmpv6`, `arp`, `lldp`; others by their number: `ip-47`, `ethernet-88f7`.
    pub protocol: String,
    /// Port that it is sent to; with `answer` the port that it is sent from.
    pub port: Option<u16>,
    /// It comes from the lower port of the two, to one that programs are given: an answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answer: bool,
    /// Frames; of datagrams that are fragmented the first fragment alone.
    pub packets: u64,
    /// Further fragments, which have no ports; they count in a row without a port.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fragments: u64,
    /// Of TCP, connections that were begun (SYN).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub begun: u64,
    /// Bytes of the frames as they were on the wire, without the checksum of Ethernet.
    pub bytes: u64,
    /// Packets a second: of the last second, in a result over all of its time.
    pub rate: f64,
    /// When the first came.
    pub first_ns: UnixNanos,
    /// When the newest came.
    pub last_ns: UnixNanos,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Frames.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What came in a second, and the busiest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Which, from 1.
    pub second: u32,
    /// In it.
    pub volume: Volume,
    /// What the kernel dropped at the packet socket in it: not counted anywhere.
    pub dropped: u64,
    /// The busiest in it, at most 50; `packets` and `bytes` are from the beginning.
    pub rows: Vec<Row>,
}

/// [`Event::Wire`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WireResult {
    /// The interface.
    pub interface: String,
    /// Frames stamped from here on are counted,
    pub from_ns: UnixNanos,
    /// and before here.
    pub until_ns: UnixNanos,
    /// Each sender, target, protocol and port, those with the most packets first.
    pub rows: Vec<Row>,
    /// What had no room in the rows.
    pub other: Volume,
    /// All that was meant.
    pub total: Volume,
    /// Frames that were not meant, by the ports and senders that were asked for.
    pub unmeant: u64,
    /// Frames whose headers break off.
    pub malformed: u64,
    /// What the kernel dropped at the packet socket: not counted anywhere.
    pub dropped: u64,
}

/// [`Event::Captured`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureResult {
    /// The interface.
    pub interface: String,
    /// Frames in the file.
    pub packets: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Frames of which the end is missing.
    pub cut: u64,
    /// Frames that were not meant.
    pub unmeant: u64,
    /// What the kernel dropped at the packet socket: not in the file.
    pub dropped: u64,
    /// What ended it: `time`, `packets` or `bytes`.
    pub ended_by: String,
}

/// [`Event::Lan`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LanResult {
    /// The interface.
    pub interface: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Each gateway.
    pub gateways: Vec<Asked>,
    /// Each of the box's own addresses: nobody else should answer.
    pub addresses: Vec<Asked>,
    /// Servers that offered an address, in the order in which they did.
    pub offers: Vec<Offer>,
    /// Whether servers were asked.
    pub dhcp: bool,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// Who answers for an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The address.
    pub address: IpAddr,
    /// Who says that it is theirs.
    pub holders: Vec<Holder>,
}

/// Somebody who says that an address is theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// Who.
    pub mac: Mac,
    /// From the question to the answer, microseconds; none: it was said without having been asked.
    pub rtt_us: Option<u32>,
}

/// A DHCP server's offer (RFC 2131).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// As the server calls itself (option 54), else who sent it.
    pub server: Ipv4Addr,
    /// By which hardware address it came.
    pub mac: Mac,
    /// What is offered.
    pub address: Ipv4Addr,
    /// Its netmask (option 1).
    pub mask: Option<Ipv4Addr>,
    /// Gateways (option 3).
    pub gateways: Vec<Ipv4Addr>,
    /// Name servers (option 6).
    pub dns: Vec<Ipv4Addr>,
    /// How long it may be used, seconds (option 51).
    pub lease_s: Option<u32>,
    /// Through this relay.
    pub relay: Option<Ipv4Addr>,
    /// From the question to the offer, microseconds.
    pub rtt_us: u32,
}

/// `raven wire --json`: what was on the wire, and beside it what Raven received.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WireReport {
    /// What was on the wire.
    #[serde(flatten)]
    pub wire: WireResult,
    /// What came for Raven's listeners.
    pub listeners: Vec<ListenerSeen>,
    /// Who sent datagrams to them.
    pub senders: Vec<SenderSeen>,
    /// What somebody should look at.
    pub findings: Vec<Finding>,
}

/// A listener beside the wire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListenerSeen {
    /// `udp:[::]:514`.
    pub listener: String,
    /// Its stream.
    pub stream: String,
    /// Datagrams, or segments of TCP, that came to it on the wire.
    pub wire: u64,
    /// Lost in that time by reason, before the stream's collector had it or by the collector; by all interfaces.
    pub dropped: BTreeMap<String, u64>,
}

/// A sender of datagrams beside the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SenderSeen {
    /// Who.
    pub source: IpAddr,
    /// The stream of the listeners to which it sent.
    pub stream: String,
    /// Their ports.
    pub ports: Vec<u16>,
    /// Datagrams on the wire.
    pub wire: u64,
    /// Records of it, received in the same time; null where it also sends by TCP, or where that is not known.
    pub received: Option<u64>,
}

/// What somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `nobody_listens`, `not_received`, `other_address` or `not_counted`.
    pub kind: String,
    /// In words.
    pub text: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hardware_addresses_are_read_as_they_are_written() {
        let mac = Mac([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
        assert_eq!("52:54:00:ab:cd:ef".parse(), Ok(mac));
        for wrong in ["", "52:54:00:ab:cd", "52:54:00:ab:cd:ef:00", "52:54:00:ab:cd:e", "52:54:00:ab:cd:xx"] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_name_of_an_interface_is_not_asked_for() {
        let tap = |interface: &str, snap| Tap {
            interface: interface.to_owned(),
            purpose: Purpose::Capture,
            promiscuous: false,
            outbound: false,
            snap,
        };
        for name in ["eth0", "vlan.10", "wg-noc", "a-name-of-15-ch"] {
            assert_eq!(tap(name, None).fault(), None, "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a-name-of-16-cha", "a\n", "\u{e4}"] {
            assert!(tap(name, None).fault().is_some(), "{name}");
        }
        assert!(tap("eth0", Some(63)).fault().is_some() && tap("eth0", Some(65_536)).fault().is_some());
    }

    #[test]
    fn a_part_is_the_bytes_that_it_was_made_of() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(Event::part(&bytes).bytes(), Some(bytes));
        assert_eq!(Event::Part("!".to_owned()).bytes(), None);
    }
}
