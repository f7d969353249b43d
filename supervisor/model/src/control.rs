//! What `ravend`, its workers and its operators say to each other.
//!
//! * `ravend` and a worker: one JSON value per packet on a SOCK_SEQPACKET pair, descriptors beside it (SCM_RIGHTS).
//! * operator and `ravend`: one [`Request`] per connection to `DIR/run/control`, a line of JSON ([`Request::Session`] may
//!   stand before it); one [`Response`] line back; for [`Request::Query`], [`Request::Deliver`] and [`Request::Import`] the response carries a stream
//!   socket to the role.

use crate::config::Config;
use crate::diag::wire::{Link, Purpose, Tap};
use crate::install::{Disk, Progress};
use crate::signature::Signature;
use crate::stream::Stream;
use crate::table::{OperatorRole, Role};
use crate::tunnel::{Carrier, TunnelName};
use crate::units::UnixNanos;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Largest packet on the control channel, bytes.
pub const PACKET_MAX: usize = 192 * 1024;

/// From `ravend` to a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// First message: what to be and with what. Its descriptors are named by [`Start::fds`], in order.
    Start(Box<Start>),
    /// A listener was bound. For a UDP listener with its descriptor, for a TCP listener without (connections follow).
    Listen(Listener),
    /// A listener is gone: read what it still holds, then close it.
    Unlisten(ListenerId),
    /// Names of all listeners by id, for the store; a name is told before the first record of its listener comes.
    Listeners(BTreeMap<ListenerId, String>),
    /// A TCP connection, with its descriptor.
    Connection(Connection),
    /// Secrets, with their descriptors (memfds) in this order: the key of the configuration that names each, such as
    /// `collect.trap.users`. TLS roles without an operator's certificate get the appliance's own under the same keys.
    /// Sent at the start and whenever they are read anew.
    Secrets(Vec<String>),
    /// MIB modules of the operator, with a descriptor (memfd): `{ name_len u16, name, text_len u32, text } …`,
    /// little-endian.
    Mibs,
    /// A client of the `decode` role (it speaks the protocol of [`crate::query`]), of the uplink
    /// ([`crate::delivery`]), of the `import` role ([`crate::archive`]) or of the `diag` role ([`crate::diag`]), with its descriptor.
    Client,
    /// A client of the `wire` role (it speaks the protocol of [`crate::diag::wire`]), with the descriptors of its connection and of
    /// the packet socket that was made for it.
    Tapped {
        /// For what it was made.
        purpose: Purpose,
        /// Where.
        link: Link,
    },
    /// A client of the `vpn` role (it speaks the protocol of [`crate::vpn`]), with its descriptor.
    VpnClient {
        /// What it may say.
        rights: VpnRights,
    },
    /// A client of the `schedule` role (it speaks the protocol of [`crate::diag::schedule`]), with its descriptor.
    ScheduleClient {
        /// It may have a test made.
        run: bool,
    },
    /// The configuration changed (store: quota and sync; uplink: destinations).
    Configure(Box<Config>),
    /// For the `alert` role, each second: what `ravend` knows itself. The reports follow.
    Own(Box<crate::report::Status>),
    /// For the `alert`, the `host` and the `schedule` role: the newest report of a role, as it came.
    Report {
        /// Whose.
        role: Role,
        /// One of [`crate::report`]'s role reports.
        report: Box<RawValue>,
    },
    /// For the `host` role, each second: what operators did from afar.
    Audit(Box<crate::news::News>),
    /// For the store: what listeners' sockets have dropped so far.
    Dropped(Vec<Dropped>),
    /// Finish: make durable what was received, then exit 0.
    Stop,
    /// For the `update` role: who brings a bundle, with the descriptor of the connection ([`crate::update`]).
    Bundle {
        /// An older release may be taken too.
        downgrade: bool,
    },
    /// For the `update` role, to [`SlotOrder::Open`]: the slot that it may write to, with the descriptors of its root,
    /// of its hash tree, and of memory for header, kernel and initramfs; or why there is none.
    Slot(Result<String, String>),
    /// For the `update` role, to [`SlotOrder::Stage`]: done, or why not.
    Staged(Result<(), String>),
    /// For the `vpn` role: a program that it ordered was started, with the socket to whose connection openvpn comes, or
    /// one that WireGuard reads; or why not.
    ProgramStarted {
        /// Of which tunnel.
        tunnel: TunnelName,
        /// Why it is not there.
        started: Result<(), String>,
    },
    /// For the `vpn` role: the program of a tunnel is gone.
    ProgramEnded {
        /// Of which tunnel.
        tunnel: TunnelName,
        /// `exit 1`, `SIGKILL`.
        how: String,
    },
    /// For the uplink: which tunnel carries now.
    Carrier(Carrier),
    /// For the `vpn` role: as [`FromWorker::Acknowledged`].
    Acknowledged {
        /// As there.
        tunnel: TunnelName,
        /// As there.
        ago_ms: u64,
    },
    /// For the `net` role, every few seconds: a connection to systemd-networkd, with its descriptor, which does not block, to
    /// ask who is at the other ends of the cables; or why there is none.
    Networkd(Result<(), String>),
    /// For the `net` role, to [`FromWorker::Tun`]: with an opened `/dev/net/tun`, or why there is none.
    Tun(Result<(), String>),
}

/// From a worker to `ravend`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromWorker {
    /// Jailed and at work.
    Ready {
        /// What the kernel did not allow of the jail.
        missing: Vec<String>,
    },
    /// Alive; at least once in 2 s. `ravend` does not look inside the report.
    Heartbeat {
        /// One of [`crate::report`]'s role reports.
        report: Box<RawValue>,
    },
    /// A TCP connection ended: `ravend` closes its duplicate.
    Closed {
        /// Which.
        connection: u32,
    },
    /// The `config` role's answer.
    Config(Result<Box<Config>, Vec<String>>),
    /// The `keygen` role's answer.
    Keys {
        /// A certificate, PEM.
        certificate: String,
        /// Its key, PEM (PKCS #8).
        key: String,
    },
    /// The `sign` role's answer when it was given no key: a new one, PKCS #8 as hex digits.
    DeviceKey {
        /// The key.
        key: String,
    },
    /// The `sign` role's answer.
    Signed(Signature),
    /// The `update` role's: something that only root can do.
    Slot(SlotOrder),
    /// The `vpn` role's: a process that only root can start or end; with the profile (memfd) to start.
    Program(ProgramOrder),
    /// The `vpn` role's, when it changes: which tunnel carries.
    Carrier(Carrier),
    /// The uplink's, once a second while it is so: a destination reached through a tunnel acknowledged records, so that both
    /// of its ways live, whoever answers pings or not.
    Acknowledged {
        /// Which tunnel.
        tunnel: TunnelName,
        /// Milliseconds since then.
        ago_ms: u64,
    },
    /// The `login` role's answer when it was given no hash: that of the new password (a PHC string).
    Hashed(String),
    /// The `login` role's answer: whether it is the password.
    Verified(bool),
    /// The `net` role's: it is to make a device for a tunnel, which takes a descriptor that only root can open.
    Tun,
}

/// What the `update` role asks of `ravend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotOrder {
    /// A bundle is signed and may be taken: have the other slot started no more, and give it to me.
    Open,
    /// All is written: have it started next. What is in the memory is looked at by `raven-slot` once more.
    Stage,
}

/// What the `vpn` role asks of `ravend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramOrder {
    /// Start openvpn for this tunnel; one that runs is ended first.
    Openvpn {
        /// Which.
        tunnel: TunnelName,
        /// The link over which its own packets leave; without it as the routes say.
        link: Option<String>,
    },
    /// Start a WireGuard for this tunnel, whose device is there; one that runs is ended first.
    Wireguard {
        /// Which.
        tunnel: TunnelName,
    },
    /// End it.
    End {
        /// Which.
        tunnel: TunnelName,
    },
}

/// What an operator may say to the `vpn` role; each may also what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VpnRights {
    /// Look.
    Look,
    /// Also connect and disconnect.
    Operate,
    /// Also bring and remove profiles, and take secrets out.
    Change,
}

/// All that a worker needs to begin.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// Which role.
    pub role: Role,
    /// `site.name`.
    pub device: String,
    /// `/proc/sys/kernel/random/boot_id` without dashes, 32 hex digits.
    pub boot_id: String,
    /// The data directory, as this worker sees it.
    pub data: PathBuf,
    /// The configuration (secrets are not in it). `None` for the `config` role.
    pub config: Option<Box<Config>>,
    /// Listener names by id, for the store.
    pub listeners: BTreeMap<ListenerId, String>,
    /// `RAVEN_*` of `ravend`'s environment, for the `config` role.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What the descriptors of this message are, in order.
    pub fds: Vec<Fd>,
}

/// Name of a passed descriptor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fd {
    /// The collector's receive memory (memfd); read-only for the store.
    Ring {
        /// Which stream.
        stream: Stream,
    },
    /// The store's words (memfd); read-only for the collector.
    Words {
        /// Which stream.
        stream: Stream,
    },
    /// Eventfd by which the collector wakes the store.
    Wake {
        /// Which stream.
        stream: Stream,
    },
    /// SOCK_SEQPACKET between the store and a reader of the open segment.
    Tail {
        /// The reader at the other end (for the store), or the store (for the reader).
        peer: Role,
    },
    /// SOCK_SEQPACKET between the `net` role and the `vpn` role ([`crate::tunnel`]), for each its end of it. It must outlive
    /// both. Without it `net` watches links and does nothing about tunnels.
    Tunnels,
    /// Configuration text (memfd), for the `config` role.
    ConfigText {
        /// File name, for messages.
        name: String,
    },
    /// The device key (memfd), PKCS #8, for the `sign` role.
    DeviceKey,
    /// SHA-256 in hex digits (memfd), for the `sign` role.
    Digest,
    /// Public keys of bundles (memfd), for the `update` role.
    UpdateKeys,
    /// What clients of the bandwidth server moved today (a file), for the `diag` role.
    BandwidthDay,
    /// The profile (memfd) that an openvpn is to run.
    Profile {
        /// Its tunnel.
        tunnel: TunnelName,
        /// The link over which its own packets leave.
        link: Option<String>,
    },
    /// The listening socket at which a WireGuard takes orders.
    Orders {
        /// Of this tunnel.
        tunnel: TunnelName,
    },
    /// What somebody typed (memfd), for the `login` role.
    Password,
    /// The hash against which it is held (memfd), for the `login` role.
    Hash,
}

/// Identifies a listener within one life of the receive memory; never given twice in it.
pub type ListenerId = u8;

/// A bound listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its id.
    pub id: ListenerId,
    /// Stream that its records go to.
    pub stream: Stream,
    /// Transport.
    pub proto: Proto,
    /// Bound address.
    pub addr: SocketAddr,
}

impl Listener {
    /// As operators see it: `udp:[::]:514`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.proto.name(), self.addr)
    }
}

/// What the socket of a listener has dropped since it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The stream that misses it.
    pub stream: Stream,
    /// Name of the listener.
    pub listener: String,
    /// As in [`crate::report::ListenerStatus::dropped`].
    pub reason: String,
    /// Tells this socket from the one before: its inode.
    pub source: u64,
    /// How many.
    pub count: u64,
}

/// Transport of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proto {
    /// One datagram, one message.
    Udp,
    /// A byte stream: syslog by RFC 6587, IPFIX by RFC 7011, 10.4. Goes on in the next collector when one dies.
    Tcp,
    /// Syslog over TLS, RFC 5425.
    Tls,
    /// RELP.
    Relp,
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
}

impl Proto {
    /// Lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Relp => "relp",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The transport of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Udp, Self::Tcp, Self::Tls, Self::Relp, Self::Http, Self::Https];
        all.into_iter().find(|proto| proto.name() == name)
    }

    /// True when `ravend` accepts connections for it.
    pub const fn is_connected(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// True when a connection outlives its collector. The others end with it: their state (keys, requests that were
    /// begun) is in it, and their senders repeat what was not acknowledged.
    pub const fn outlives_collector(self) -> bool {
        matches!(self, Self::Tcp)
    }
}

/// An accepted TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its id: never given twice in one life of the receive memory.
    pub id: u32,
    /// Its place in the receive memory.
    pub slot: u16,
    /// The listener that accepted it.
    pub listener: ListenerId,
    /// The sender.
    pub peer: SocketAddr,
}

/// From an operator's program to `ravend`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Everything about the running appliance.
    Status,
    /// The configuration in force.
    Show,
    /// A connection to the `decode` role.
    Query,
    /// A connection to the uplink, for orders: see [`crate::delivery`].
    Deliver,
    /// A connection to the `import` role: see [`crate::archive`].
    Import,
    /// A connection to the `diag` role: see [`crate::diag`].
    Diag,
    /// A connection to the `wire` role, with a packet socket: see [`crate::diag::wire`].
    Wire(Tap),
    /// A connection to the `schedule` role: see [`crate::diag::schedule`].
    Schedule {
        /// To make a test, not only to look.
        run: bool,
    },
    /// A connection to the `vpn` role: see [`crate::vpn`].
    Vpn {
        /// For what.
        rights: VpnRights,
    },
    /// Read the configuration file again and put it into force, whole or not at all.
    Apply {
        /// As in [`Request::Put`].
        #[serde(default)]
        confirm: Option<u64>,
    },
    /// Read and check the configuration file, change nothing.
    Diff,
    /// The configuration file as it is written.
    Text,
    /// Put this configuration into force and into the file, whole or not at all.
    Put {
        /// The file's new content, at most 1 MiB.
        text: String,
        /// Seconds, 10 to 3600, within which [`Request::Confirm`] must follow: the configuration before comes back
        /// otherwise.
        #[serde(default)]
        confirm: Option<u64>,
    },
    /// Keep what was put into force with a time to confirm it.
    Confirm,
    /// The configurations that were in force.
    History,
    /// The text of one of them.
    Version {
        /// As in the history.
        number: u32,
    },
    /// Put one of them into force again.
    Revert {
        /// As in the history.
        number: u32,
        /// As in [`Request::Put`].
        #[serde(default)]
        confirm: Option<u64>,
    },
    /// The appliance's signature of a document.
    Sign {
        /// SHA-256 of the document, 64 hex digits.
        sha256: String,
    },
    /// A connection to the `update` role: see [`crate::update`].
    Update {
        /// Take an older release too.
        downgrade: bool,
    },
    /// What the boot loader knows of the slots.
    Slots,
    /// Who knows the password of an operator role may say what it may, for a while.
    Login {
        /// Which.
        role: OperatorRole,
        /// Its password.
        password: Password,
    },
    /// On a line of its own before the request: says that request by the rights of a login. It has no answer.
    Session {
        /// From [`Response::LoggedIn`].
        token: String,
    },
    /// Gives an operator role a password for the console.
    SetPassword {
        /// Which.
        role: OperatorRole,
        /// 8 to 1024 bytes.
        password: Password,
    },
    /// The disks of the box that runs from the installation medium.
    Disks,
    /// Install to one of them: all that is on it is lost.
    Install {
        /// Which.
        disk: String,
        /// What the operator typed: its name.
        typed: String,
    },
    /// How far an installation is.
    Progress,
    /// Put the configuration of a USB stick into force.
    TakeStick {
        /// As in [`Request::Put`].
        #[serde(default)]
        confirm: Option<u64>,
    },
    /// A new file on a USB stick, for a support bundle.
    Give {
        /// Its name: letters, digits, `-`, `_` and `.`
        name: String,
    },
    /// The newest 5,000 lines of the system's journal, for a support bundle.
    Journal {
        /// Those of the kernel alone.
        kernel: bool,
    },
    /// On a box: all that it keeps is discarded at its next start, which begins at once.
    FactoryReset {
        /// What the operator typed: the box's name, `site.name`.
        typed: String,
    },
    /// On a box: start it anew or turn it off.
    Power {
        /// Which.
        action: PowerAction,
    },
    /// What an operator's program was told to do from afar, or what came of it: becomes a record.
    Audit(Box<Audited>),
}

/// A command that came over SSH. Who said it is known by its user; the rest is what its login shell says, which is `raven` itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Tells this command from others: random.
    pub session: u64,
    /// The words, or `console`; cut to what an event may hold.
    pub words: String,
    /// From where: `SSH_CONNECTION` of sshd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// The public key that was shown, type and base64 (RFC 4253, 6.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its fingerprint: `SHA256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// It has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its exit code; 141: who asked was cut off.
    pub code: u8,
    /// It took so long, milliseconds.
    pub ms: u64,
}

/// What can be done with the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerAction {
    /// Start anew.
    Reboot,
    /// Turn off.
    Off,
}

impl Request {
    /// Its name in the process table.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Show => "show",
            Self::Query => "query",
            Self::Deliver => "deliver",
            Self::Import => "import",
            Self::Diag => "diag",
            Self::Wire(Tap { purpose: Purpose::View, .. }) => "wire",
            Self::Wire(Tap { purpose: Purpose::Capture, .. }) => "capture",
            Self::Wire(Tap { purpose: Purpose::Lan, .. }) => "lan",
            Self::Schedule { run: false } => "schedule",
            Self::Schedule { run: true } => "schedule_run",
            Self::Vpn { rights: VpnRights::Look } => "vpn",
            Self::Vpn { rights: VpnRights::Operate } => "vpn_operate",
            Self::Vpn { rights: VpnRights::Change } => "vpn_change",
            Self::Apply { .. } => "apply",
            Self::Diff => "diff",
            Self::Text => "text",
            Self::Put { .. } => "put",
            Self::Confirm => "confirm",
            Self::History => "history",
            Self::Version { .. } => "version",
            Self::Revert { .. } => "revert",
            Self::Sign { .. } => "sign",
            Self::Update { downgrade: false } => "update",
            Self::Update { downgrade: true } => "downgrade",
            Self::Slots => "slots",
            Self::Login { .. } => "login",
            Self::Session { .. } => "session",
            Self::SetPassword { .. } => "set_password",
            Self::Power { .. } => "power",
            Self::TakeStick { .. } => "take_stick",
            Self::Give { .. } => "give",
            Self::Journal { .. } => "journal",
            Self::FactoryReset { .. } => "factory_reset",
            Self::Disks => "disks",
            Self::Install { .. } => "install",
            Self::Progress => "progress",
            Self::Audit(_) => "audit",
        }
    }
}

/// A password, which no log and no message of an error shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(password)")
    }
}

/// A configuration that was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counts up by one from 1.
    pub number: u32,
    /// When it was put into force, by the clock of that moment.
    pub time_ns: UnixNanos,
    /// By whom: an operator role, or `start` for a file that was found changed when `ravend` started.
    pub by: String,
    /// It is in force.
    pub current: bool,
}

/// From `ravend` to an operator's program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<RawStatus>),
    /// To [`Request::Show`].
    Config(Box<Config>),
    /// To [`Request::Query`], [`Request::Deliver`], [`Request::Import`], [`Request::Diag`], [`Request::Wire`], [`Request::Vpn`] and [`Request::Update`]: the descriptor beside
    /// this line is the connection. To [`Request::Journal`]: the descriptor is a file to be read. To
    /// [`Request::Give`]: it takes the content, to its end, and then tells in a line what came of it.
    Query,
    /// To [`Request::Apply`], [`Request::Put`], [`Request::Confirm`], [`Request::Revert`] and [`Request::TakeStick`]: what was
    /// changed, a line each;
    /// to [`Request::FactoryReset`]: what follows.
    Applied(Vec<String>),
    /// To [`Request::Diff`]: the running configuration and the one in the file.
    Diff {
        /// In force.
        running: Box<Config>,
        /// In the file.
        file: Box<Config>,
    },
    /// To [`Request::Text`] and [`Request::Version`].
    Text(String),
    /// To [`Request::History`], the newest first.
    History(Vec<Version>),
    /// To [`Request::Sign`].
    Signed(Signature),
    /// To [`Request::Login`].
    LoggedIn {
        /// For [`Request::Session`]; of no use after 15 minutes in which it was not used.
        token: String,
    },
    /// To [`Request::Disks`].
    Disks(Vec<Disk>),
    /// To [`Request::Progress`]; nothing when nothing was begun.
    Progress(Option<Progress>),
    /// To requests that have nothing to tell.
    Done,
    /// Nothing was done; why, a line each.
    Refused(Vec<String>),
    /// To [`Request::Slots`].
    Slots {
        /// What the boot loader knows.
        slots: Box<crate::update::Slots>,
        /// The uplink's report as it was when the newest update was staged.
        before: Option<Box<RawValue>>,
    },
}

/// What `ravend` itself knows, and the roles' reports as they came.
#[derive(Debug, Serialize, Deserialize)]
pub struct RawStatus {
    /// Filled but for what the reports say: `streams`, `destinations`, and the counts of `listeners` that the store
    /// and the collectors keep.
    pub own: crate::report::Status,
    /// Newest report of each role.
    pub reports: BTreeMap<Role, Box<RawValue>>,
}
