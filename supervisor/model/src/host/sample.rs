//! How the machine stood at one moment, part by part.

use super::health::{DiskHealth, StartedBy};
use crate::units::UnixNanos;
use serde::{Deserialize, Serialize};

/// How things stood at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostSample {
    /// Wall clock.
    pub t: UnixNanos,
    /// Nanoseconds since boot by a clock that is never set, sleep included.
    pub monotonic_ns: u64,
    /// 32 hex digits.
    #[serde(default)]
    pub boot_id: String,
    /// Processors and load.
    #[serde(default)]
    pub cpu: Cpu,
    /// Memory.
    #[serde(default)]
    pub memory: Memory,
    /// Tasks that wait for disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_pressure: Option<Pressure>,
    /// Block devices that were ever used.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// What disks say of their health.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disk_health: Vec<DiskHealth>,
    /// Local file systems.
    #[serde(default)]
    pub filesystems: Vec<FileSystem>,
    /// The one that the data directory lies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<FileSystem>,
    /// Network interfaces.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Tunnels to the operations centre.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<Tunnel>,
    /// UDP over IPv4.
    #[serde(default)]
    pub udp: Udp,
    /// UDP over IPv6.
    #[serde(default)]
    pub udp6: Udp,
    /// Tracked connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Conntrack>,
    /// Temperatures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub temperatures: Vec<Temperature>,
    /// Fans.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fans: Vec<Fan>,
    /// Power sensors and supplies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub power: Vec<Power>,
    /// Raven itself.
    #[serde(default)]
    pub processes: Vec<RavenProcess>,
    /// What started the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_by: Option<StartedBy>,
    /// Entries of the lists above that found no room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Processors: seconds per mode, of all together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// How many.
    pub cpus: u32,
    /// Programs.
    pub user_s: f64,
    /// Programs of low priority.
    pub nice_s: f64,
    /// Kernel.
    pub system_s: f64,
    /// Nothing.
    pub idle_s: f64,
    /// Nothing but waiting for disks.
    pub iowait_s: f64,
    /// Interrupts.
    pub irq_s: f64,
    /// Their second halves: most of the network.
    pub softirq_s: f64,
    /// Taken by the hypervisor.
    pub steal_s: f64,
    /// Share that was not idle since the last sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<f64>,
    /// Load average of 1 min.
    pub load_1: f64,
    /// Of 5 min.
    pub load_5: f64,
    /// Of 15 min.
    pub load_15: f64,
    /// Tasks that wait for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// Pressure stall information.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some task waited.
    pub some: Stall,
    /// All tasks waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Stall>,
}

/// Shares of time that were waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stall {
    /// Over 10 s.
    pub share_10s: f64,
    /// Over 60 s.
    pub share_60s: f64,
    /// Over 300 s.
    pub share_300s: f64,
    /// Seconds waited since boot.
    pub total_s: f64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// What programs could still get.
    pub available_bytes: u64,
    /// Used for nothing.
    pub free_bytes: u64,
    /// Of block devices.
    pub buffers_bytes: u64,
    /// Of files.
    pub cached_bytes: u64,
    /// Swap.
    pub swap_total_bytes: u64,
    /// Of that, free.
    pub swap_free_bytes: u64,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Tasks that wait for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// A block device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// `sda`.
    pub name: String,
    /// Reads done.
    pub reads: u64,
    /// Read.
    pub read_bytes: u64,
    /// Time that all reads took, together.
    pub read_s: f64,
    /// Writes done.
    pub writes: u64,
    /// Written.
    pub write_bytes: u64,
    /// Time that all writes took, together.
    pub write_s: f64,
    /// Requests under way.
    pub in_flight: u64,
    /// Time with at least one request under way.
    pub busy_s: f64,
    /// Share of that since the last sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<f64>,
}

/// A file system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileSystem {
    /// Where it is mounted; of `data` the data directory.
    pub mount: String,
    /// What is mounted.
    pub device: String,
    /// `ext4`.
    pub kind: String,
    /// Takes no writes.
    pub read_only: bool,
    /// Left out where the role cannot reach it.
    #[serde(flatten)]
    pub space: Option<Space>,
}

/// Room in a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// All of it.
    pub size_bytes: u64,
    /// Free, with what is reserved for root.
    pub free_bytes: u64,
    /// Free for everybody.
    pub available_bytes: u64,
    /// Files that it can hold; 0 = as many as there is room for.
    pub inodes: u64,
    /// More files that it can hold.
    pub inodes_free: u64,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// Received.
    pub rx_bytes: u64,
    /// Received.
    pub rx_packets: u64,
    /// Received and bad.
    pub rx_errors: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Sent.
    pub tx_packets: u64,
    /// Not sent because of errors.
    pub tx_errors: u64,
    /// Dropped before they were sent.
    pub tx_dropped: u64,
    /// Nothing when it is set down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// Times that the carrier went or came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier_changes: Option<u64>,
    /// Megabits a second, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<u64>,
    /// `up`, `down`, `dormant`, `unknown`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operstate: String,
}

/// A tunnel, as the `vpn` role reported it last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tunnel {
    /// Its name.
    pub name: String,
    /// `up`, `degraded`, `half-open`, `connecting`, `down` or `off`.
    pub state: String,
    /// Time in that state.
    pub state_s: u64,
    /// Times that the state changed, since the role or the tunnel's profile was started.
    pub changes: u64,
    /// It is the one that carries.
    pub carries: bool,
    /// Share of the last hundred pings that were not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Median time of their answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_s: Option<f64>,
    /// Received of its server.
    pub rx_bytes: u64,
    /// Sent to its server.
    pub tx_bytes: u64,
    /// Time until the first of its certificates expires; negative once one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_s: Option<i64>,
}

/// The kernel's UDP counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Udp {
    /// Taken by programs.
    pub in_datagrams: u64,
    /// Nobody listened.
    pub no_ports: u64,
    /// Lost, for the reasons below and others.
    pub in_errors: u64,
    /// Sent.
    pub out_datagrams: u64,
    /// A socket's buffer was full.
    pub rcvbuf_errors: u64,
    /// A socket's send buffer was full.
    pub sndbuf_errors: u64,
    /// Bad checksums.
    pub csum_errors: u64,
    /// `net.ipv4.udp_mem` was used up.
    pub mem_errors: u64,
}

/// Tracked connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// Now.
    pub count: u64,
    /// At most.
    pub limit: u64,
}

/// A temperature.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// `coretemp/Package id 0`, `thermal_zone0/acpitz`.
    pub sensor: String,
    /// Now.
    pub celsius: f64,
    /// Its own critical mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_celsius: Option<f64>,
}

/// A fan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fan {
    /// `nct6775/fan1`.
    pub sensor: String,
    /// Turns a minute.
    pub rpm: u64,
}

/// A power sensor or supply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// `power_meter/power1`, `AC`.
    pub sensor: String,
    /// Measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
    /// The supply is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// Charge of a battery, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge: Option<f64>,
}

/// A process of Raven.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RavenProcess {
    /// As in `ps`: `ravend`, `raven:store`.
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// Started so long after boot.
    pub start_s: f64,
    /// Processor time used.
    pub cpu_s: f64,
    /// Memory resident.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u32,
}
