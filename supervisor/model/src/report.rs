//! What the roles report with each heartbeat, and the status that is made of it.
//!
//! `ravend` never looks inside a role's report: it hands it to the operator's `raven`, which makes [`Status`] of it.

use crate::host::{DiskHealth, MissingFirmware, StartedBy};
use crate::neighbour::Neighbour;
use crate::news::News;
use crate::tunnel::{HeldRoute, HeldRule, Traffic, TunnelName, TunnelStatus};
use crate::units::{Seq, UnixNanos};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `raven status --json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running `ravend`.
    pub version: String,
    /// `site.name`: the `dev` of every record sent on.
    pub device: String,
    /// When this was read.
    pub now_ns: UnixNanos,
    /// Seconds since `ravend` started.
    pub uptime_s: u64,
    /// What the jail lacks because `ravend` was not started as root or the kernel is old; empty when complete.
    pub jail_missing: Vec<String>,
    /// `ravend` and its workers.
    pub processes: Vec<Process>,
    /// Sockets that receive.
    pub listeners: Vec<ListenerStatus>,
    /// What is kept.
    pub streams: Vec<StreamStatus>,
    /// The disk under it all; null while the store has not reported.
    #[serde(default)]
    pub ring: Option<RingStatus>,
    /// Where it goes.
    pub destinations: Vec<DestinationStatus>,
    /// UDP counters of the network namespace since boot (`/proc/net/snmp`, `snmp6`).
    pub kernel: KernelUdp,
    /// Things an operator should act on, most urgent first.
    pub alerts: Vec<String>,
    /// Links of the machine; empty while the net role has not reported.
    #[serde(default)]
    pub links: Vec<LinkStatus>,
    /// Tunnels to the operations centre, in the order of `vpn.order`.
    #[serde(default)]
    pub vpn: Vec<VpnTunnel>,
    /// Tunnels to the operations centre; empty while the net role has not reported.
    #[serde(default)]
    pub tunnels: Vec<TunnelStatus>,
    /// How traffic is kept on its way.
    #[serde(default)]
    pub ways: WaysStatus,
    /// Alerts that were raised and are not over: see `raven alerts`.
    #[serde(default)]
    pub firing: Vec<crate::alert::Firing>,
    /// What the boot loader knew when it was asked last; null where there are no slots.
    #[serde(default)]
    pub slots: Option<crate::update::Slots>,
    /// The machine is Raven's own: addresses, firewall and clock are those of the configuration.
    #[serde(default)]
    pub is_box: bool,
    /// What came of a USB stick with a configuration; null while there was none.
    #[serde(default)]
    pub stick: Option<StickStatus>,
    /// Disks, by what they say of their health; empty while the host role has not reported.
    #[serde(default)]
    pub disks: Vec<DiskHealth>,
    /// What started the machine; null where that is not known.
    #[serde(default)]
    pub started_by: Option<StartedBy>,
}

/// The host role's heartbeat: that of a collector, and what its newest look found of disks and firmware.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// As every collector says.
    #[serde(flatten)]
    pub collector: CollectorReport,
    /// Disks, by what they say of their health.
    #[serde(default)]
    pub disks: Vec<DiskHealth>,
    /// What started the machine.
    #[serde(default)]
    pub started_by: Option<StartedBy>,
    /// What network interfaces lack.
    #[serde(default)]
    pub firmware: Vec<MissingFirmware>,
}

/// A USB stick with a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickStatus {
    /// What came of it, for people.
    pub said: String,
    /// Its configuration waits to be taken.
    pub is_offered: bool,
}

/// What the net role reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetReport {
    /// By name, without the loopback and the devices of tunnels.
    pub links: Vec<LinkStatus>,
    /// Tunnels that have, or had, a device, by name.
    #[serde(default)]
    pub tunnels: Vec<TunnelStatus>,
    /// How traffic is kept on its way.
    #[serde(default)]
    pub ways: WaysStatus,
    /// What changed lately.
    #[serde(default)]
    pub news: News,
}

/// Rules and routes by which `vpn.networks` goes through the tunnel and nothing else does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaysStatus {
    /// Rules of ours in the kernel.
    pub rules: u32,
    /// Routes of ours in the kernel.
    pub routes: u32,
    /// Networks of `vpn.networks` of which a part is reached over a link instead, since the box's own address is in it.
    pub overlaps: Vec<String>,
    /// Why they are not as they should be; empty when they are.
    pub trouble: String,
    /// The rules, by their priority: the first [`crate::tunnel::SHOWN_WAYS`].
    #[serde(default)]
    pub held_rules: Vec<HeldRule>,
    /// The routes, by their table: the first [`crate::tunnel::SHOWN_WAYS`].
    #[serde(default)]
    pub held_routes: Vec<HeldRoute>,
}

/// What the vpn role reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VpnReport {
    /// In the order of `vpn.order`.
    pub tunnels: Vec<VpnTunnel>,
    /// Their changes of state.
    #[serde(default)]
    pub news: News,
}

/// A tunnel to the operations centre.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VpnTunnel {
    /// Its name, and that of its profile.
    pub name: TunnelName,
    /// `up`, `degraded`, `half-open`, `connecting`, `down` or `off`.
    pub state: String,
    /// Why: `12 % loss`, `sent, nothing back for 6 s`, `auth refused; next attempt in 40 s`.
    pub cause: String,
    /// Seconds since the state is this one.
    pub since_s: u64,
    /// Times that the state changed since the role, or the tunnel with this profile, was started.
    #[serde(default)]
    pub changes: u64,
    /// It is the one that carries.
    pub carries: bool,
    /// Our addresses in it.
    pub addresses: Vec<String>,
    /// The server's address outside.
    pub server: Option<IpAddr>,
    /// Whom the pings in it go to.
    pub probe: Option<IpAddr>,
    /// Percent of the last hundred pings that were not answered; null while there were too few.
    pub loss: Option<u32>,
    /// Median time of their answers, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Bytes of the connection to the server, received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Name servers that the server gave; they are not used.
    pub dns: Vec<IpAddr>,
    /// What the server asked for and did not get, and why.
    pub refused: Vec<String>,
    /// Seconds until the first of its profile's certificates expires; negative once one has.
    #[serde(default)]
    pub expires_s: Option<i64>,
    /// Why it was `down` or `half-open` last, since it was turned on.
    #[serde(default)]
    pub last_outage: Option<String>,
}

impl VpnTunnel {
    /// Of which nothing is known but its state.
    pub const fn new(name: TunnelName, state: String) -> Self {
        Self {
            name,
            state,
            cause: String::new(),
            since_s: 0,
            changes: 0,
            carries: false,
            addresses: Vec::new(),
            server: None,
            probe: None,
            loss: None,
            rtt_ms: None,
            received: 0,
            sent: 0,
            dns: Vec::new(),
            refused: Vec::new(),
            expires_s: None,
            last_outage: None,
        }
    }
}

/// One link: an interface of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// As the kernel calls it.
    pub name: String,
    /// Hardware address.
    pub mac: Option<String>,
    /// In a word.
    pub state: LinkState,
    /// Why it is not up, or what is odd although it is; empty when all is well.
    pub cause: String,
    /// Longest packet, bytes.
    pub mtu: u32,
    /// Something is at the other end of its cable.
    #[serde(default)]
    pub carrier: bool,
    /// Times that this went or came, since the link is there.
    #[serde(default)]
    pub carrier_changes: u32,
    /// Addresses with the lengths of their prefixes, link-local ones last.
    pub addresses: Vec<String>,
    /// Where each of them is from, in the same order.
    #[serde(default)]
    pub origins: Vec<Origin>,
    /// Where its default routes lead.
    pub gateways: Vec<IpAddr>,
    /// Who is at the other end of its cable.
    #[serde(default)]
    pub neighbour: Neighbour,
    /// What went through it since it is there; a few seconds old.
    #[serde(default)]
    pub traffic: Traffic,
}

impl LinkStatus {
    /// Of which nothing is known but its state.
    pub fn new(name: &str, state: LinkState) -> Self {
        Self {
            name: name.to_owned(),
            mac: None,
            state,
            cause: String::new(),
            mtu: 0,
            carrier: false,
            carrier_changes: 0,
            addresses: Vec::new(),
            origins: Vec::new(),
            gateways: Vec::new(),
            neighbour: Neighbour::Nobody,
            traffic: Traffic::default(),
        }
    }
}

/// Where an address is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `network.link.NAME.addresses`.
    Configured,
    /// Lent by a DHCP server.
    Dhcp,
    /// Of a network that a router announced (RFC 4862).
    Router,
    /// Of the cable alone.
    LinkLocal,
    /// Of somebody else on this machine.
    Other,
}

impl Origin {
    /// As operators read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Dhcp => "DHCP",
            Self::Router => "router",
            Self::LinkLocal => "link-local",
            Self::Other => "by hand",
        }
    }
}

/// A link in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// It carries packets.
    Up,
    /// There is a cable and no address yet.
    Waiting,
    /// It has an address and does not work.
    Trouble,
    /// No cable, or nobody at its other end.
    NoLink,
    /// It is turned off.
    Off,
}

impl LinkState {
    /// As operators read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Waiting => "waiting",
            Self::Trouble => "trouble",
            Self::NoLink => "no link",
            Self::Off => "off",
        }
    }
}

/// One process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Role of the process table, or `ravend`.
    pub role: String,
    /// Process id; 0 while it is being restarted.
    pub pid: u32,
    /// Effective uid.
    pub uid: u32,
    /// Starts after the first.
    pub restarts: u64,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Its permitted, effective and bounding set hold these and no others; of a worker, as far as the process table grants
    /// them and `ravend` holds them.
    pub capabilities: Vec<String>,
    /// Milliseconds since its last heartbeat.
    pub heartbeat_ms: u64,
    /// `starting`, `running`, `held` (it dies too often) or `stopping`.
    pub state: String,
    /// How it last ended: `exit 1`, `SIGKILL`.
    pub last_end: Option<String>,
}

/// One listening socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Stream that its records go to.
    pub stream: String,
    /// `udp` or `tcp`.
    pub proto: String,
    /// Bound address: `[::]:514`.
    pub addr: String,
    /// Records stored from it since the ring was made.
    pub received: u64,
    /// Their raw bytes.
    pub bytes: u64,
    /// Records per second over the last 10 s.
    pub rate: f64,
    /// Lost before they reached the ring, by reason: `socket_buffer` (SK_MEMINFO_DROPS), `over_limit` (TCP
    /// connections refused), `refused_batch` (frames that failed the store's check).
    pub dropped: BTreeMap<String, u64>,
    /// Receive buffer in force, bytes, as the kernel counts it.
    pub receive_buffer: u64,
    /// Live TCP connections.
    pub connections: u32,
}

/// One stream of the ring.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Stream name.
    pub name: String,
    /// Oldest record still held.
    pub first_seq: Seq,
    /// Seq that the next record will get.
    pub next_seq: Seq,
    /// Records that its collector handed over since the ring was made, by what the batches say.
    #[serde(default)]
    pub received: u64,
    /// Of those, records in batches that failed the store's check.
    #[serde(default)]
    pub refused: u64,
    /// Records that were stored, as counted by listener.
    #[serde(default)]
    pub counted: u64,
    /// Records stored since the ring was made: numbers given.
    pub stored: u64,
    /// Of those stored, records that another box received and an operator brought (`raven ring import`).
    #[serde(default)]
    pub imported: u64,
    /// Records held, by the segments there are.
    #[serde(default)]
    pub held: u64,
    /// Records evicted since the ring was made.
    pub evicted: u64,
    /// Of those, records that some destination had not acknowledged.
    pub evicted_unforwarded: u64,
    /// Records lost to damage on disk (bad blocks, quarantined segments).
    pub damaged: u64,
    /// Raw bytes held.
    pub bytes_raw: u64,
    /// Bytes that they fill on disk.
    pub bytes_disk: u64,
    /// Bytes taken from the file system: what is filled and the room prepared ahead. This is held to the quota.
    pub bytes_allocated: u64,
    /// Most bytes the stream may take on disk.
    pub quota: u64,
    /// Receive time of the oldest record held.
    pub oldest_ns: Option<UnixNanos>,
    /// Seconds until the quota is reached at the rate of the last minute; null when nothing arrives; 0 when full.
    pub time_to_full_s: Option<u64>,
    /// Seconds of records the quota holds at that rate; null when nothing arrives.
    pub holds_s: Option<u64>,
    /// Messages that the collector dropped before they were stored, by reason, since its memory was made.
    #[serde(default)]
    pub dropped: BTreeMap<String, u64>,
    /// Dropped before they were stored since the ring was made, by reason, by listeners' sockets and the collector.
    #[serde(default)]
    pub dropped_ever: BTreeMap<String, u64>,
    /// Bytes that are the stream's own, whatever the others need; the quota is more while they leave some.
    #[serde(default)]
    pub share: u64,
    /// How long the quota lasts.
    #[serde(default)]
    pub forecast: Vec<Forecast>,
    /// Ranges that are not held and that no loss explains: there are none, or something is wrong.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// Records of the oldest segment, the next to go, that a destination has not acknowledged.
    #[serde(default)]
    pub next_to_go: BTreeMap<String, u64>,
    /// Records per second over the last 10 s.
    pub rate: f64,
    /// Why storing does not work just now: `no space left on /data`. Null when it works.
    pub error: Option<String>,
}

/// Records that are not there, both ends inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First of them.
    pub first: Seq,
    /// Last of them.
    pub last: Seq,
}

/// How long the disk lasts at the rate of a time that is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// `hour`, `day` or `week`: the last one in which the store ran.
    pub window: String,
    /// Seconds of it that are known: less when the ring is younger.
    pub covered_s: u64,
    /// Bytes that were stored per second.
    pub bytes_per_s: f64,
    /// Seconds of records that the quota holds; null when nothing came.
    pub holds_s: Option<u64>,
    /// Seconds until it is full; 0 when it is.
    pub time_to_full_s: Option<u64>,
}

impl Forecast {
    /// At `rate` bytes a second, with so many of the quota's bytes filled.
    pub fn of(window: &str, rate: f64, covered: std::time::Duration, quota: u64, filled: u64) -> Self {
        let seconds = |bytes: u64| (rate > 0.0).then(|| (bytes as f64 / rate) as u64);
        Self {
            window: window.to_owned(),
            covered_s: covered.as_secs(),
            bytes_per_s: rate,
            holds_s: seconds(quota),
            time_to_full_s: seconds(quota.saturating_sub(filled)),
        }
    }
}

/// The disk under the ring.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RingStatus {
    /// Size of the file system.
    pub size: u64,
    /// Bytes of it that can still be taken.
    pub free: u64,
    /// What `buffer.disk` grants the ring.
    pub granted: u64,
    /// What the ring may take now: less than granted when others have taken the room.
    pub quota: u64,
    /// What it has taken.
    pub allocated: u64,
    /// Percent of the quota that are taken or needed next; at 100 the oldest records go.
    pub fill: f64,
    /// The highest watermark that is passed: 70, 85, 95, or 0. It is left when the fill is 5 below it.
    pub watermark: u8,
    /// How often each was passed since the store started.
    pub passed: BTreeMap<String, u64>,
    /// Receive time of the oldest record.
    pub oldest_ns: Option<UnixNanos>,
    /// How long it lasts, all streams together.
    pub forecast: Vec<Forecast>,
}

/// One destination and stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// `uplink.NAME`.
    pub name: String,
    /// Stream name.
    pub stream: String,
    /// `relp` or `http`.
    pub kind: String,
    /// Where to.
    pub to: String,
    /// What its acknowledgement means: `accepted` or `durable`.
    pub ack_class: String,
    /// Everything up to here is acknowledged.
    pub acked_seq: Seq,
    /// Records acknowledged above that, out of order.
    pub acked_above: u64,
    /// Records acknowledged since the cursor was made. `acked_seq` + `acked_above` counts also what this destination was
    /// never to get, what it missed and what it refused.
    #[serde(default)]
    pub acknowledged: u64,
    /// Records stored and not yet acknowledged, by either lane.
    pub lag: u64,
    /// Those of the live lane: the present.
    #[serde(default)]
    pub live_lag: u64,
    /// Acknowledged records per second over the last 10 s.
    pub rate: f64,
    /// Seconds until the lag is gone at the present rates; null when it does not shrink.
    pub eta_s: Option<u64>,
    /// Of the live lane: `connecting`, `sending`, `idle`, `retrying`, `config_error`, `paused`, `stopped`.
    pub state: String,
    /// Records sent more than once since start (the receiver can tell by seq).
    pub resent: u64,
    /// Records evicted before this destination had acknowledged them.
    pub missed: u64,
    /// Records that it refuses.
    #[serde(default)]
    pub dead: DeadStatus,
    /// What an outage left behind.
    #[serde(default)]
    pub backfill: BackfillStatus,
    /// The last failure, in words, with the peer.
    pub last_error: Option<String>,
    /// Seconds since the last acknowledgement.
    pub last_ack_s: Option<u64>,
}

/// The backfill lane of one destination and stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BackfillStatus {
    /// Records that the live lane left behind and that are not acknowledged yet.
    pub records: u64,
    /// In so many ranges.
    pub gaps: u64,
    /// Their raw bytes, by the mean of what was sent of them; null before the first was.
    pub bytes: Option<u64>,
    /// The first of them.
    pub first_seq: Option<Seq>,
    /// One above the last of them.
    pub end_seq: Option<Seq>,
    /// Receive time of the one that is being sent.
    pub oldest_ns: Option<UnixNanos>,
    /// When the newest was left behind; null when that was before the uplink's start.
    pub newest_ns: Option<UnixNanos>,
    /// Acknowledged records per second over the last 10 s.
    pub rate: f64,
    /// Seconds until none is left at that rate; null when it stands still.
    pub eta_s: Option<u64>,
    /// `none`, or as the state of a destination.
    pub state: String,
    /// `uplink.NAME.backfill`.
    pub pace: String,
}

/// Dead letters of one destination and stream, since its cursor was made: `lettered` = `held` + `delivered` + `dropped`
/// + `overflowed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadStatus {
    /// Records that it refused.
    pub lettered: u64,
    /// Of those, still kept.
    pub held: u64,
    /// Of those, sent again by an operator and acknowledged.
    pub delivered: u64,
    /// Of those, dropped by an operator.
    pub dropped: u64,
    /// Of those, given up because there were too many.
    pub overflowed: u64,
}

/// UDP receive errors of the whole network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelUdp {
    /// `RcvbufErrors`: datagrams dropped because a socket's buffer was full (IPv4 + IPv6).
    pub rcvbuf_errors: u64,
    /// `MemErrors`: dropped because `net.ipv4.udp_mem` was used up.
    pub mem_errors: u64,
    /// `InErrors`: all of these and others.
    pub in_errors: u64,
    /// `InCsumErrors`: bad checksums.
    pub csum_errors: u64,
}

/// The store's heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreReport {
    /// Streams it keeps.
    pub streams: Vec<StreamStatus>,
    /// The disk under them.
    #[serde(default)]
    pub ring: RingStatus,
    /// Senders that sent regularly and are silent; null when nobody watches that.
    #[serde(default)]
    pub silence: Option<SilenceReport>,
    /// Counts per listener name (`udp:[::]:514`).
    pub listeners: BTreeMap<String, ListenerCount>,
}

/// Senders that sent regularly and are silent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceReport {
    /// Senders that are remembered.
    pub known: u64,
    /// Of those, regular ones.
    pub regular: u64,
    /// Of those, silent ones.
    pub silent: u64,
    /// Those that are silent for the longest time, longest first; bounded.
    pub longest: Vec<SilentSource>,
}

/// A silent sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilentSource {
    /// Stream name.
    pub stream: String,
    /// Its address.
    pub source: IpAddr,
    /// When it sent last.
    pub last_ns: UnixNanos,
    /// Seconds of silence while Raven was listening.
    pub silent_s: u64,
}

/// Records stored from a listener since the ring was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListenerCount {
    /// Records.
    pub records: u64,
    /// Raw bytes.
    pub bytes: u64,
    /// Records per second over the last 10 s.
    pub rate: f64,
    /// Records refused by the check of a batch.
    pub refused: u64,
    /// Dropped at its socket since the ring was made, by reason.
    #[serde(default)]
    pub dropped_ever: BTreeMap<String, u64>,
}

/// A collector's heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CollectorReport {
    /// Batches published since the receive ring was made.
    pub published: u64,
    /// Times it found the receive ring full and waited.
    pub stalls: u64,
    /// Live TCP connections per listener name.
    pub connections: BTreeMap<String, u32>,
    /// Datagrams taken over from predecessors that died.
    pub recovered: u64,
    /// Records stored as `unparsed`: collectors died twice over them.
    pub unparsed: u64,
    /// Messages dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Records stored as refused, by reason, since the collector started.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    /// Answers to senders, by kind, since the collector started: `responses` to informs, `reports`; not sent: `held_back`
    /// until the engine is on disk, `limited`, `failed`, `forgotten`.
    #[serde(default)]
    pub answers: BTreeMap<String, u64>,
    /// What could not be understood or was not allowed, newest last; bounded.
    pub inbox: Vec<InboxItem>,
    /// Flow exporters, the busiest first; bounded.
    pub exporters: Vec<Exporter>,
    /// Flow exporters that were forgotten because there were too many.
    #[serde(default)]
    pub exporters_evicted: u64,
    /// SNMPv3 engines that have sent, newest first; bounded.
    pub engines: Vec<Engine>,
}

/// What arrived and was not understood or not allowed, from one sender for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxItem {
    /// Stream name.
    pub stream: String,
    /// Who sent it.
    pub source: String,
    /// Who took it: `udp:[::]:6343`.
    pub listener: String,
    /// Why it is here.
    pub reason: String,
    /// Messages.
    pub count: u64,
    /// First of them.
    pub first_seen_ns: UnixNanos,
    /// Newest of them.
    pub last_seen_ns: UnixNanos,
    /// The first bytes of the newest, in hex.
    pub first_bytes: String,
    /// What an operator can do about it.
    pub remedy: String,
}

/// One flow exporter: an address, an observation domain (IPFIX), source id (v9), engine (v5) or sub-agent (sFlow), and
/// a version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exporter {
    /// Its address; with the port where `collect.flow.exporter_port` is set.
    pub source: String,
    /// `netflow5`, `netflow9`, `ipfix`, `sflow5`, …
    pub version: String,
    /// Observation domain, source id, engine or sub-agent.
    pub domain: u32,
    /// Datagrams (IPFIX over TCP: messages).
    pub datagrams: u64,
    /// Flow records or samples.
    pub records: u64,
    /// Templates known.
    pub templates: u32,
    /// Seconds since the newest template or refresh of one.
    pub template_age_s: Option<u64>,
    /// Seconds between the refreshes of templates, as last seen.
    pub template_refresh_s: Option<u64>,
    /// Data sets whose template had not come yet.
    pub undescribed: u64,
    /// 1 in so many packets was sampled.
    pub sampling: Option<u64>,
    /// Where that is known from: `record`, `options`, `header`, `configured`, `unknown`.
    pub sampling_source: String,
    /// By the exporter's own count: records (v5, v7, IPFIX), packets (v9) or samples (sFlow) lost at or before the
    /// exporter or on the way, and not by Raven.
    pub lost: u64,
    /// Unit of `lost`: `records`, `packets` or `samples`.
    pub lost_unit: String,
    /// Datagrams that came out of order.
    pub reordered: u64,
    /// Times that its count began anew.
    pub resets: u64,
    /// Its clock minus ours, milliseconds.
    pub clock_skew_ms: Option<i64>,
    /// Datagrams that could not be read, by reason.
    pub malformed: BTreeMap<String, u64>,
    /// Newest datagram.
    pub last_seen_ns: UnixNanos,
}

/// An SNMPv3 engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// Hex.
    pub engine_id: String,
    /// Where it last sent from.
    pub source: String,
    /// The user that it last named.
    pub user: String,
    /// snmpEngineBoots as last told.
    pub boots: u32,
    /// snmpEngineTime as last told, seconds.
    pub time: u32,
    /// Notifications accepted.
    pub accepted: u64,
    /// Notifications refused.
    pub refused: u64,
    /// Newest of them.
    pub last_seen_ns: UnixNanos,
}

/// The uplink's heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UplinkReport {
    /// Destinations and streams.
    pub destinations: Vec<DestinationStatus>,
}
