//! The process table: which process may do what. The data is `process-table.toml` beside this file.

use crate::stream::Stream;
use crate::units::{ByteCount, Span};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::LazyLock;

/// What a worker does. `raven-worker ROLE` runs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Receives syslog.
    Syslog,
    /// Receives NetFlow, IPFIX and sFlow.
    Flow,
    /// Receives SNMP notifications, and answers informs.
    Trap,
    /// Receives Windows events.
    Winevent,
    /// Receives metrics and log lines from Prometheus, Alloy and the like.
    Metrics,
    /// Samples this machine.
    Host,
    /// Says what an operator should act on.
    Alert,
    /// Sole writer of the ring.
    Store,
    /// Delivers to destinations.
    Uplink,
    /// Reads, decodes and shows stored records.
    Decode,
    /// Reads archives of other boxes for operators, and brings their records to the store. Runs while it is needed.
    Import,
    /// Parses a configuration, answers once, ends.
    Config,
    /// Makes the appliance's own key and certificate, answers once, ends.
    Keygen,
    /// Makes the device key or signs with it, answers once, ends.
    Sign,
    /// Takes an update bundle from an operator and writes it into the slot that does not run. Runs while it is needed.
    Update,
    /// Holds a password against its hash or makes one, answers once, ends.
    Login,
    /// Watches the links of the machine.
    Net,
    /// Keeps VPN profiles, and watches tunnels.
    Vpn,
    /// Becomes openvpn, one process for each tunnel.
    Openvpn,
    /// Becomes wireguard-go, one process for each tunnel, where the kernel has no WireGuard.
    Wireguard,
    /// Makes tests of the network for operators. Runs while it is needed.
    Diag,
    /// Looks at frames on an interface for operators. Runs while it is needed.
    Wire,
    /// Makes tests of the network when their time has come, and keeps what they came to.
    Schedule,
}

impl Role {
    /// All roles, in the order in which they are started.
    pub const ALL: [Self; 23] = [
        Self::Store,
        Self::Syslog,
        Self::Flow,
        Self::Trap,
        Self::Winevent,
        Self::Metrics,
        Self::Host,
        Self::Alert,
        Self::Schedule,
        Self::Decode,
        Self::Import,
        Self::Uplink,
        Self::Config,
        Self::Keygen,
        Self::Sign,
        Self::Update,
        Self::Login,
        Self::Net,
        Self::Vpn,
        Self::Openvpn,
        Self::Wireguard,
        Self::Diag,
        Self::Wire,
    ];

    /// As in the process table and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syslog => "syslog",
            Self::Flow => "flow",
            Self::Trap => "trap",
            Self::Winevent => "winevent",
            Self::Metrics => "metrics",
            Self::Host => "host",
            Self::Alert => "alert",
            Self::Store => "store",
            Self::Uplink => "uplink",
            Self::Decode => "decode",
            Self::Import => "import",
            Self::Config => "config",
            Self::Keygen => "keygen",
            Self::Sign => "sign",
            Self::Update => "update",
            Self::Login => "login",
            Self::Net => "net",
            Self::Vpn => "vpn",
            Self::Openvpn => "openvpn",
            Self::Wireguard => "wireguard",
            Self::Diag => "diag",
            Self::Wire => "wire",
            Self::Schedule => "schedule",
        }
    }

    /// The stream that it collects.
    pub fn stream(self) -> Option<Stream> {
        Stream::ALL.into_iter().find(|stream| stream.collector() == self)
    }

    /// True when it answers once and ends, false when it is kept running.
    pub const fn answers_once(self) -> bool {
        matches!(self, Self::Config | Self::Keygen | Self::Sign | Self::Login)
    }

    /// True when there is one process of it that is started with `ravend` or for an order; of the others there are as
    /// many as are needed, and who ordered them watches them.
    pub const fn is_kept(self) -> bool {
        !self.answers_once() && !matches!(self, Self::Openvpn | Self::Wireguard)
    }

    /// True when it is started for an operator's order, and ends when that is done.
    pub const fn is_on_demand(self) -> bool {
        matches!(self, Self::Import | Self::Update | Self::Diag | Self::Wire)
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The whole table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessTable {
    /// The supervisor itself.
    pub ravend: Ravend,
    /// What all workers may call.
    pub base: Base,
    /// One entry per role.
    pub role: Vec<RoleSpec>,
    /// Operator roles.
    pub operator: Operators,
}

/// The supervisor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ravend {
    /// What it keeps when started as root.
    pub capabilities: Vec<String>,
}

/// Common to all workers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Names of system calls.
    pub syscalls: Vec<String>,
}

/// What one role may do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// Which role.
    pub name: Role,
    /// User and group id.
    pub uid: u32,
    /// Supplementary groups.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// Capabilities in its permitted, effective and bounding set; ambient and inheritable are empty.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Files it can reach.
    #[serde(default)]
    pub paths: Vec<PathRule>,
    /// May make sockets and connect.
    #[serde(default)]
    pub network: bool,
    /// A program that is not ours, and which the jailed worker becomes. What it may not call is answered with ENOSYS
    /// instead of its end, and it may map files as code (its libraries), never memory.
    #[serde(default)]
    pub program: Option<String>,
    /// Names of system calls beyond [`Base::syscalls`].
    pub syscalls: Vec<String>,
    /// RLIMIT_DATA.
    pub memory: ByteCount,
    /// RLIMIT_NOFILE.
    pub files: u64,
    /// Longest silence before it counts as hung.
    pub heartbeat: Span,
    /// The watchdog depends on it.
    pub critical: bool,
}

/// A file or directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// Relative to the data directory, or absolute.
    pub path: String,
    /// What may be done below it.
    pub access: Access,
}

/// What may be done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Open and read.
    Read,
    /// Also create, write, rename and remove.
    Write,
    /// Open for reading and writing, and the device's own orders; nothing is made.
    Device,
    /// Connect to the sockets in it.
    Connect,
    /// Read and execute it.
    Execute,
}

/// What a person may do with the box; each may also what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Looks.
    Viewer,
    /// Also acts on what is under way, and changes nothing that stays.
    Operator,
    /// Also changes the box.
    Admin,
}

impl OperatorRole {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As in the process table and as a user of the box.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who may use the control socket. Root and the user of `ravend` are admins.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operators {
    /// The user as whom the console runs: a viewer until somebody logs in, an admin while the box has no password for
    /// admins.
    pub console: u32,
    /// Looks.
    pub viewer: Operator,
    /// Acts.
    pub operator: Operator,
    /// Changes.
    pub admin: Operator,
}

/// One operator role.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// The user of the box that has the role.
    pub uid: u32,
    /// Members of this group have the role.
    pub gid: u32,
    /// Names of [`crate::control::Request`]s that it may beside those of the roles before it.
    pub verbs: Vec<String>,
}

impl Operators {
    /// The entry of a role.
    pub const fn of(&self, role: OperatorRole) -> &Operator {
        match role {
            OperatorRole::Viewer => &self.viewer,
            OperatorRole::Operator => &self.operator,
            OperatorRole::Admin => &self.admin,
        }
    }

    /// Whether `role` may say `verb`.
    pub fn may(&self, role: OperatorRole, verb: &str) -> bool {
        OperatorRole::ALL.into_iter().filter(|r| *r <= role).any(|r| self.of(r).verbs.iter().any(|v| v == verb))
    }
}

/// The text of the table.
pub const TEXT: &str = include_str!("process-table.toml");

static TABLE: LazyLock<ProcessTable> =
    LazyLock::new(|| toml::from_str(TEXT).expect("a test reads the compiled-in table"));

/// The table.
pub fn table() -> &'static ProcessTable {
    &TABLE
}

impl ProcessTable {
    /// What `role` may do.
    pub fn spec(&self, role: Role) -> &RoleSpec {
        self.role.iter().find(|spec| spec.name == role).expect("a test looks every role up")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_role_has_an_entry_and_a_uid_of_its_own() {
        let uids: BTreeSet<u32> = Role::ALL.into_iter().map(|role| table().spec(role).uid).collect();
        assert_eq!(uids.len(), Role::ALL.len());
        assert_eq!(table().role.len(), Role::ALL.len());
    }

    #[test]
    fn one_worker_holds_a_capability_and_it_opens_nothing() {
        let with: Vec<_> = table().role.iter().filter(|spec| !spec.capabilities.is_empty()).collect();
        let [net] = with[..] else { panic!("{} roles hold capabilities", with.len()) };
        assert_eq!((net.name, net.capabilities.as_slice()), (Role::Net, &["CAP_NET_ADMIN".to_owned()][..]));
        assert!(table().ravend.capabilities.contains(&net.capabilities[0]), "it cannot be handed on");
        assert!(net.paths.is_empty() && net.groups.is_empty() && !net.network);
        for call in
            ["socket", "connect", "bind", "setsockopt", "openat", "open", "sendmsg", "sendmmsg", "clone", "prctl"]
        {
            assert!(!net.syscalls.iter().chain(&table().base.syscalls).any(|has| has == call), "{call}");
        }
    }

    #[test]
    fn a_collector_opens_nothing_and_sends_nothing() {
        for stream in [Stream::Syslog, Stream::Flow, Stream::Trap, Stream::Winevent, Stream::Metrics, Stream::Alert] {
            let collector = table().spec(stream.collector());
            assert!(collector.paths.is_empty() && !collector.network);
            for call in ["sendto", "sendmsg", "sendmmsg", "connect", "bind", "setsockopt", "socket", "openat", "open"] {
                // The trap role alone answers datagrams, from the socket on which they came.
                let may = stream == Stream::Trap && call == "sendto";
                let has = collector.syscalls.iter().chain(&table().base.syscalls).any(|s| s == call);
                assert_eq!(has, may, "{stream}: {call}");
            }
        }
    }

    /// The row of a role in docs/architecture.md.
    fn row(spec: &RoleSpec) -> String {
        let list = |items: Vec<String>, none: &str| if items.is_empty() { none.to_owned() } else { items.join(", ") };
        let access = |access| match access {
            Access::Read => "read",
            Access::Write => "write",
            Access::Device => "device",
            Access::Connect => "connect",
            Access::Execute => "execute",
        };
        let groups = list(spec.groups.iter().map(u32::to_string).collect(), "-");
        let files =
            list(spec.paths.iter().map(|rule| format!("{} ({})", rule.path, access(rule.access))).collect(), "none");
        let network = if spec.network { "TCP, UDP" } else { "none" };
        let capabilities = list(spec.capabilities.clone(), "none");
        format!("| {} | {} | {groups} | {capabilities} | {files} | {network} |", spec.name, spec.uid)
    }

    #[test]
    fn the_table_in_the_architecture_page_is_this_one() {
        let page = include_str!("../../../docs/architecture.md");
        for spec in &table().role {
            assert!(page.contains(&row(spec)), "missing in docs/architecture.md:\n{}", row(spec));
        }
    }
}
