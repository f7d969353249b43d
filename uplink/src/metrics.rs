//! What a sample of the host says in numbers, by name, and a scheduled test ([`diag`]): for Prometheus and OpenTelemetry alike.
//! Pure.
//!
//! Names follow the rules of Prometheus: `raven_host_`, the thing, its unit in full (seconds, bytes, celsius, ratio), and
//! `_total` behind what only grows. `docs/formats.md` lists them.

pub mod diag;

use raven_model::diag::schedule::DiagRecord;
use raven_model::host::{
    Cpu, Disk, DiskHealth, Fan, FileSystem, HostRecord, HostSample, Interface, Power, Pressure, RavenProcess,
    StartedBy, Temperature, Tunnel, Udp,
};
use raven_model::record::Record;
use raven_model::units::UnixNanos;

/// Numbers of one name.
#[derive(Debug, PartialEq)]
pub struct Family<'a> {
    /// Such as `raven_host_memory_free_bytes`.
    pub name: &'static str,
    /// Only grows, until the machine or process starts anew.
    pub counter: bool,
    /// Never none; no two with the same labels.
    pub points: Vec<Point<'a>>,
}

/// One number.
#[derive(Debug, PartialEq)]
pub struct Point<'a> {
    /// What of.
    pub labels: Vec<(&'static str, &'a str)>,
    /// How much.
    pub value: f64,
}

impl Family<'_> {
    /// In UCUM, as OpenTelemetry wants it.
    pub fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let units = [("_bytes", "By"), ("_seconds", "s"), ("_celsius", "Cel"), ("_watts", "W"), ("_ratio", "1")];
        units.into_iter().find(|(suffix, _)| name.ends_with(suffix)).map_or("", |(_, unit)| unit)
    }
}

/// What has numbers.
#[derive(Debug)]
pub enum Numbers {
    /// Of the host.
    Host(Box<HostSample>),
    /// Of a scheduled test.
    Diag(Box<DiagRecord>),
}

impl Numbers {
    /// When they were taken.
    pub const fn at(&self) -> UnixNanos {
        match self {
            Self::Host(sample) => sample.t,
            Self::Diag(record) => record.t,
        }
    }

    /// All of them.
    pub fn families(&self) -> Vec<Family<'_>> {
        match self {
            Self::Host(sample) => families(sample),
            Self::Diag(record) => diag::families(record),
        }
    }
}

/// The numbers in a record; none in one that tells what changed. Why it cannot be read, where that is so.
pub fn sample(record: &Record<'_>) -> Result<Option<Numbers>, String> {
    if let Ok(record) = DiagRecord::read(record.raw) {
        return Ok(Some(Numbers::Diag(Box::new(record))));
    }
    match HostRecord::read(record.raw)? {
        HostRecord::Sample(sample) => Ok(Some(Numbers::Host(sample))),
        HostRecord::Event(_) => Ok(None),
    }
}

/// A name, and where its number is.
type Column<T> = (&'static str, fn(&T) -> Option<f64>);

/// Names in the order in which they are sent.
const MACHINE: &[Column<HostSample>] = &[
    ("raven_host_uptime_seconds", |s| Some(s.monotonic_ns as f64 / 1e9)),
    ("raven_host_cpus", |s| Some(f64::from(s.cpu.cpus))),
    ("raven_host_cpu_busy_ratio", |s| s.cpu.busy),
    ("raven_host_load1", |s| Some(s.cpu.load_1)),
    ("raven_host_load5", |s| Some(s.cpu.load_5)),
    ("raven_host_load15", |s| Some(s.cpu.load_15)),
    ("raven_host_memory_size_bytes", |s| n(s.memory.total_bytes)),
    ("raven_host_memory_available_bytes", |s| n(s.memory.available_bytes)),
    ("raven_host_memory_free_bytes", |s| n(s.memory.free_bytes)),
    ("raven_host_memory_buffers_bytes", |s| n(s.memory.buffers_bytes)),
    ("raven_host_memory_cached_bytes", |s| n(s.memory.cached_bytes)),
    ("raven_host_swap_size_bytes", |s| n(s.memory.swap_total_bytes)),
    ("raven_host_swap_free_bytes", |s| n(s.memory.swap_free_bytes)),
    ("raven_host_oom_kills_total", |s| n(s.memory.oom_kills)),
    ("raven_host_conntrack_entries", |s| s.conntrack.as_ref().and_then(|c| n(c.count))),
    ("raven_host_conntrack_limit", |s| s.conntrack.as_ref().and_then(|c| n(c.limit))),
    ("raven_host_uefi", |s| s.started_by.and_then(|by| truth(by != StartedBy::Bios))),
    ("raven_host_secure_boot", |s| s.started_by.and_then(StartedBy::secure_boot).and_then(truth)),
    ("raven_host_left_out", |s| n(s.left_out)),
];
const DATA: &[Column<FileSystem>] = &[
    ("raven_host_data_size_bytes", |f| f.space.and_then(|s| n(s.size_bytes))),
    ("raven_host_data_free_bytes", |f| f.space.and_then(|s| n(s.free_bytes))),
    ("raven_host_data_available_bytes", |f| f.space.and_then(|s| n(s.available_bytes))),
    ("raven_host_data_read_only", |f| truth(f.read_only)),
];
const FILE_SYSTEMS: &[Column<FileSystem>] = &[
    ("raven_host_filesystem_size_bytes", |f| f.space.and_then(|s| n(s.size_bytes))),
    ("raven_host_filesystem_free_bytes", |f| f.space.and_then(|s| n(s.free_bytes))),
    ("raven_host_filesystem_available_bytes", |f| f.space.and_then(|s| n(s.available_bytes))),
    ("raven_host_filesystem_inodes", |f| f.space.and_then(|s| n(s.inodes))),
    ("raven_host_filesystem_inodes_free", |f| f.space.and_then(|s| n(s.inodes_free))),
    ("raven_host_filesystem_read_only", |f| truth(f.read_only)),
];
const DISKS: &[Column<Disk>] = &[
    ("raven_host_disk_reads_total", |d| n(d.reads)),
    ("raven_host_disk_read_bytes_total", |d| n(d.read_bytes)),
    ("raven_host_disk_read_seconds_total", |d| Some(d.read_s)),
    ("raven_host_disk_writes_total", |d| n(d.writes)),
    ("raven_host_disk_write_bytes_total", |d| n(d.write_bytes)),
    ("raven_host_disk_write_seconds_total", |d| Some(d.write_s)),
    ("raven_host_disk_busy_seconds_total", |d| Some(d.busy_s)),
    ("raven_host_disk_requests", |d| n(d.in_flight)),
];
const DISK_HEALTH: &[Column<DiskHealth>] = &[
    ("raven_host_disk_smart_passed", |d| d.passed.and_then(truth)),
    ("raven_host_disk_temperature_celsius", |d| d.celsius.map(|celsius| celsius as f64)),
    ("raven_host_disk_life_used_ratio", |d| d.life_used),
    ("raven_host_disk_spare_ratio", |d| d.spare),
    ("raven_host_disk_spare_threshold_ratio", |d| d.spare_threshold),
    ("raven_host_disk_reallocated_sectors", |d| d.reallocated_sectors.and_then(n)),
    ("raven_host_disk_pending_sectors", |d| d.pending_sectors.and_then(n)),
    ("raven_host_disk_media_errors_total", |d| d.media_errors.and_then(n)),
    ("raven_host_disk_power_on_seconds_total", |d| d.power_on_s.and_then(n)),
    ("raven_host_disk_asleep", |d| truth(d.asleep)),
    ("raven_host_disk_health_unread_total", |d| n(d.unread)),
];
const INTERFACES: &[Column<Interface>] = &[
    ("raven_host_network_receive_bytes_total", |i| n(i.rx_bytes)),
    ("raven_host_network_receive_packets_total", |i| n(i.rx_packets)),
    ("raven_host_network_receive_errors_total", |i| n(i.rx_errors)),
    ("raven_host_network_receive_dropped_total", |i| n(i.rx_dropped)),
    ("raven_host_network_transmit_bytes_total", |i| n(i.tx_bytes)),
    ("raven_host_network_transmit_packets_total", |i| n(i.tx_packets)),
    ("raven_host_network_transmit_errors_total", |i| n(i.tx_errors)),
    ("raven_host_network_transmit_dropped_total", |i| n(i.tx_dropped)),
    ("raven_host_network_carrier", |i| i.carrier.and_then(truth)),
    ("raven_host_network_carrier_changes_total", |i| i.carrier_changes.and_then(n)),
    // A megabit has 125,000 bytes.
    ("raven_host_network_speed_bytes", |i| i.speed_mbps.map(|speed| speed as f64 * 125_000.0)),
];
const TUNNELS: &[Column<Tunnel>] = &[
    ("raven_host_tunnel_carries", |t| truth(t.carries)),
    ("raven_host_tunnel_state_seconds", |t| n(t.state_s)),
    ("raven_host_tunnel_state_changes_total", |t| n(t.changes)),
    ("raven_host_tunnel_loss_ratio", |t| t.loss),
    ("raven_host_tunnel_rtt_seconds", |t| t.rtt_s),
    ("raven_host_tunnel_receive_bytes_total", |t| n(t.rx_bytes)),
    ("raven_host_tunnel_transmit_bytes_total", |t| n(t.tx_bytes)),
    ("raven_host_tunnel_certificate_left_seconds", |t| t.certificate_s.map(|left| left as f64)),
];
/// Each of these is a series, 1 for the one that the tunnel is in.
const TUNNEL_STATES: [&str; 6] = ["up", "degraded", "half-open", "connecting", "down", "off"];
const UDP: &[Column<Udp>] = &[
    ("raven_host_udp_in_datagrams_total", |u| n(u.in_datagrams)),
    ("raven_host_udp_out_datagrams_total", |u| n(u.out_datagrams)),
    ("raven_host_udp_no_ports_total", |u| n(u.no_ports)),
    ("raven_host_udp_in_errors_total", |u| n(u.in_errors)),
    ("raven_host_udp_receive_buffer_errors_total", |u| n(u.rcvbuf_errors)),
    ("raven_host_udp_send_buffer_errors_total", |u| n(u.sndbuf_errors)),
    ("raven_host_udp_checksum_errors_total", |u| n(u.csum_errors)),
    ("raven_host_udp_memory_errors_total", |u| n(u.mem_errors)),
];
const PRESSURES: &[Column<Pressure>] = &[
    ("raven_host_pressure_some_seconds_total", |p| Some(p.some.total_s)),
    ("raven_host_pressure_full_seconds_total", |p| p.full.map(|full| full.total_s)),
];
const TEMPERATURES: &[Column<Temperature>] = &[
    ("raven_host_temperature_celsius", |t| Some(t.celsius)),
    ("raven_host_temperature_critical_celsius", |t| t.critical_celsius),
];
const FANS: &[Column<Fan>] = &[("raven_host_fan_rpm", |f| n(f.rpm))];
const POWER: &[Column<Power>] = &[
    ("raven_host_power_watts", |p| p.watts),
    ("raven_host_power_online", |p| p.online.and_then(truth)),
    ("raven_host_power_charge_ratio", |p| p.charge),
];
const PROCESSES: &[Column<RavenProcess>] = &[
    ("raven_host_process_cpu_seconds_total", |p| Some(p.cpu_s)),
    ("raven_host_process_resident_bytes", |p| n(p.rss_bytes)),
    ("raven_host_process_threads", |p| Some(f64::from(p.threads))),
    ("raven_host_process_start_seconds", |p| Some(p.start_s)),
];
/// A mode of processors, and the seconds in it.
type Mode = (&'static str, fn(&Cpu) -> f64);

const CPU_MODES: [Mode; 8] = [
    ("user", |c| c.user_s),
    ("nice", |c| c.nice_s),
    ("system", |c| c.system_s),
    ("idle", |c| c.idle_s),
    ("iowait", |c| c.iowait_s),
    ("irq", |c| c.irq_s),
    ("softirq", |c| c.softirq_s),
    ("steal", |c| c.steal_s),
];

#[expect(clippy::unnecessary_wraps, reason = "columns may have no number")]
const fn n(count: u64) -> Option<f64> {
    Some(count as f64)
}

#[expect(clippy::unnecessary_wraps, reason = "columns may have no number")]
const fn truth(set: bool) -> Option<f64> {
    Some(if set { 1.0 } else { 0.0 })
}

/// All numbers of a sample.
pub fn families(sample: &HostSample) -> Vec<Family<'_>> {
    let mut all = Vec::with_capacity(80);
    table(&mut all, MACHINE, std::slice::from_ref(sample), |_| Vec::new());
    let modes = CPU_MODES.iter().map(|(mode, of)| Point { labels: vec![("mode", *mode)], value: of(&sample.cpu) });
    add(&mut all, "raven_host_cpu_seconds_total", modes);
    let pressures = [
        ("cpu", sample.cpu.pressure.as_ref()),
        ("memory", sample.memory.pressure.as_ref()),
        ("io", sample.io_pressure.as_ref()),
    ];
    labelled(&mut all, PRESSURES, "resource", &pressures.into_iter().filter_map(|(of, some)| Some((of, some?))));
    table(&mut all, DATA, sample.data.as_slice(), |_| Vec::new());
    table(&mut all, FILE_SYSTEMS, &sample.filesystems, |f| {
        vec![("device", f.device.as_str()), ("fstype", f.kind.as_str()), ("mount", f.mount.as_str())]
    });
    labelled(&mut all, DISKS, "disk", &sample.disks.iter().map(|d| (d.name.as_str(), d)));
    table(&mut all, DISK_HEALTH, &sample.disk_health, |d| {
        vec![("model", d.model.as_str()), ("serial", d.serial.as_str()), ("disk", d.name.as_str())]
    });
    labelled(&mut all, INTERFACES, "interface", &sample.interfaces.iter().map(|i| (i.name.as_str(), i)));
    add(&mut all, "raven_host_tunnel_state", sample.tunnels.iter().flat_map(tunnel_states));
    labelled(&mut all, TUNNELS, "tunnel", &sample.tunnels.iter().map(|t| (t.name.as_str(), t)));
    labelled(&mut all, UDP, "family", &[("ipv4", &sample.udp), ("ipv6", &sample.udp6)].into_iter());
    labelled(&mut all, TEMPERATURES, "sensor", &sample.temperatures.iter().map(|t| (t.sensor.as_str(), t)));
    labelled(&mut all, FANS, "sensor", &sample.fans.iter().map(|f| (f.sensor.as_str(), f)));
    labelled(&mut all, POWER, "sensor", &sample.power.iter().map(|p| (p.sensor.as_str(), p)));
    labelled(&mut all, PROCESSES, "process", &sample.processes.iter().map(|p| (p.name.as_str(), p)));
    all
}

fn tunnel_states(tunnel: &Tunnel) -> impl Iterator<Item = Point<'_>> {
    TUNNEL_STATES.iter().map(|state| Point {
        labels: vec![("state", *state), ("tunnel", tunnel.name.as_str())],
        value: if tunnel.state == *state { 1.0 } else { 0.0 },
    })
}

fn labelled<'a, T: 'a>(
    all: &mut Vec<Family<'a>>,
    columns: &[Column<T>],
    label: &'static str,
    rows: &(impl Iterator<Item = (&'a str, &'a T)> + Clone),
) {
    for (name, of) in columns {
        let point = |(row, thing)| Some(Point { labels: vec![(label, row)], value: of(thing)? });
        add(all, name, rows.clone().filter_map(point));
    }
}

fn table<'a, T: 'a>(
    all: &mut Vec<Family<'a>>,
    columns: &[Column<T>],
    rows: &'a [T],
    labels: impl Fn(&'a T) -> Vec<(&'static str, &'a str)>,
) {
    for (name, of) in columns {
        let point = |thing| Some(Point { labels: labels(thing), value: of(thing)? });
        add(all, name, rows.iter().filter_map(point));
    }
}

/// Two things of one name, such as mounts over each other, would be one series with two values: the first counts.
fn add<'a>(all: &mut Vec<Family<'a>>, name: &'static str, found: impl Iterator<Item = Point<'a>>) {
    let mut points: Vec<Point<'a>> = Vec::new();
    for point in found {
        if points.iter().all(|other| other.labels != point.labels) {
            points.push(point);
        }
    }
    if !points.is_empty() {
        all.push(Family { name, counter: name.ends_with("_total"), points });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SAMPLE: &[u8] = include_bytes!("../../collectors/decode/tests/host/sample.json");

    fn real() -> HostSample {
        let Ok(HostRecord::Sample(sample)) = HostRecord::read(SAMPLE.trim_ascii()) else { panic!("a sample") };
        *sample
    }

    #[test]
    fn a_sample_of_a_real_machine_has_each_series_once() {
        let sample = real();
        let families = families(&sample);
        let series: Vec<_> = families.iter().flat_map(|f| f.points.iter().map(|p| (f.name, &p.labels))).collect();
        assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len());
        let value = |name: &str, label: &str| {
            let family = families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("{name}"));
            let point = family.points.iter().find(|p| p.labels.last().is_none_or(|(_, value)| *value == label));
            point.unwrap_or_else(|| panic!("{name} of {label}")).value.to_bits()
        };
        assert_eq!(value("raven_host_memory_free_bytes", ""), (sample.memory.free_bytes as f64).to_bits());
        assert_eq!(value("raven_host_cpu_seconds_total", "softirq"), sample.cpu.softirq_s.to_bits());
        let eth0 = sample.interfaces.iter().find(|interface| interface.name == "eth0").expect("there");
        assert_eq!(value("raven_host_network_receive_bytes_total", "eth0"), (eth0.rx_bytes as f64).to_bits());
        assert_eq!(value("raven_host_udp_out_datagrams_total", "ipv4"), (sample.udp.out_datagrams as f64).to_bits());
    }

    fn disk() -> DiskHealth {
        DiskHealth {
            name: "sda".to_owned(),
            serial: "S1".to_owned(),
            passed: Some(false),
            celsius: Some(-3),
            life_used: Some(0.93),
            spare: Some(0.05),
            spare_threshold: Some(0.1),
            reallocated_sectors: Some(1),
            pending_sectors: Some(8),
            media_errors: Some(2),
            power_on_s: Some(3600),
            unread: 4,
            ..DiskHealth::default()
        }
    }

    #[test]
    fn the_health_of_disks_and_secure_boot_are_numbers() {
        let by = |by: StartedBy| {
            let sample = HostSample { disk_health: vec![disk()], started_by: Some(by), ..HostSample::default() };
            let of = |family: &Family<'_>| (family.name.to_owned(), family.points[0].value);
            let all: Vec<(String, f64)> = families(&sample).iter().map(of).collect();
            move |name: &str| {
                all.iter().find(|(known, _)| *known == format!("raven_host_{name}")).map(|(_, value)| *value)
            }
        };
        let bios = by(StartedBy::Bios);
        assert_eq!((bios("uefi"), bios("secure_boot")), (Some(0.0), None));
        let uefi = by(StartedBy::Uefi);
        assert_eq!((uefi("uefi"), uefi("secure_boot")), (Some(1.0), None));
        assert_eq!(by(StartedBy::UefiSecureBootOff)("secure_boot"), Some(0.0));
        let on = by(StartedBy::UefiSecureBootOn);
        assert_eq!((on("uefi"), on("secure_boot")), (Some(1.0), Some(1.0)));
        assert_eq!((on("disk_smart_passed"), on("disk_temperature_celsius")), (Some(0.0), Some(-3.0)));
        assert_eq!((on("disk_life_used_ratio"), on("disk_pending_sectors")), (Some(0.93), Some(8.0)));
        assert_eq!((on("disk_health_unread_total"), on("disk_asleep")), (Some(4.0), Some(0.0)));
    }

    fn tunnel() -> Tunnel {
        Tunnel {
            name: "noc".to_owned(),
            state: "half-open".to_owned(),
            state_s: 7,
            changes: 3,
            carries: false,
            loss: Some(0.12),
            rtt_s: Some(0.0345),
            rx_bytes: 1000,
            tx_bytes: 2000,
            certificate_s: Some(-86_400),
        }
    }

    #[test]
    fn a_tunnel_is_in_one_state_and_has_its_numbers() {
        let off = Tunnel { name: "spare".to_owned(), state: "off".to_owned(), carries: true, ..Tunnel::default() };
        let sample = HostSample { tunnels: vec![tunnel(), off], ..HostSample::default() };
        let all = families(&sample);
        let points = |name: &str| {
            let family = all.iter().find(|family| family.name == format!("raven_host_tunnel_{name}"));
            &family.unwrap_or_else(|| panic!("{name}")).points
        };
        let of = |name: &str| -> Vec<f64> { points(name).iter().map(|point| point.value).collect() };
        assert_eq!(of("state"), [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(points("state")[2].labels, [("state", "half-open"), ("tunnel", "noc")]);
        assert_eq!((of("carries"), of("state_seconds")), (vec![0.0, 1.0], vec![7.0, 0.0]));
        assert_eq!((of("loss_ratio"), of("rtt_seconds")), (vec![0.12], vec![0.0345]));
        assert_eq!((of("receive_bytes_total"), of("transmit_bytes_total")), (vec![1000.0, 0.0], vec![2000.0, 0.0]));
        assert_eq!((of("state_changes_total"), of("certificate_left_seconds")), (vec![3.0, 0.0], vec![-86_400.0]));
    }

    #[test]
    fn names_keep_to_the_rules_and_stand_in_the_documentation() {
        let sample = HostSample {
            temperatures: vec![Temperature { critical_celsius: Some(1.0), ..Temperature::default() }],
            fans: vec![Fan::default()],
            disk_health: vec![disk()],
            tunnels: vec![tunnel()],
            started_by: Some(StartedBy::UefiSecureBootOn),
            ..real()
        };
        let text = include_str!("../../docs/formats.md");
        for family in families(&sample) {
            let name = family.name;
            assert!(
                name.starts_with("raven_host_")
                    && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(text.contains(&format!("`{}`", &name["raven_host_".len()..])), "{name} is not in docs/formats.md");
        }
    }

    #[test]
    fn mounts_over_each_other_are_one() {
        let twice = FileSystem { mount: "/x".to_owned(), ..FileSystem::default() };
        let sample = HostSample { filesystems: vec![twice.clone(), twice], ..HostSample::default() };
        let read_only = families(&sample).into_iter().find(|f| f.name == "raven_host_filesystem_read_only");
        assert_eq!(read_only.expect("there").points.len(), 1);
    }
}
