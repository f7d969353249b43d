//! One look at the machine.

use super::source::Source;
use super::text::{count, name};
use super::{disk, network, process, processor, sensor::Sensors};
use raven_model::host::{Conntrack, FileSystem, HostSample, Interface, StartedBy};
use raven_model::record::RAW_MAX;

/// Most entries of each list. A hundred containers have as many interfaces and mounts; a record has 64 KiB.
const MOST: usize = 64;

/// What does not change while the role runs.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// 32 hex digits.
    pub boot_id: String,
    /// The data directory, as the role sees it.
    pub data: String,
    /// Bytes of a page.
    pub page: u64,
}

/// Looks at everything. Shares since the last sample, the health of disks and tunnels are still missing.
pub fn sample(source: &impl Source, fixed: &Fixed) -> HostSample {
    let text = |path: &str| source.text(path).unwrap_or_default();
    let pressure = |of: &str| source.text(&format!("/proc/pressure/{of}"));
    let sensors = Sensors::read(source);
    let mounts = disk::mounts(&text("/proc/self/mounts"));
    let (t, monotonic_ns) = source.clocks();
    let mut sample = HostSample {
        t,
        monotonic_ns,
        boot_id: name(&fixed.boot_id),
        cpu: processor::cpu(&text("/proc/stat"), &text("/proc/loadavg"), pressure("cpu").as_deref()),
        memory: processor::memory(&text("/proc/meminfo"), &text("/proc/vmstat"), pressure("memory").as_deref()),
        io_pressure: pressure("io").as_deref().and_then(processor::pressure),
        disks: disk::disks(&text("/proc/diskstats"), &source.names("/sys/block")),
        disk_health: Vec::new(),
        filesystems: disk::that_matter(&mounts).into_iter().take(2 * MOST).filter_map(|m| room(source, m)).collect(),
        data: data(source, &mounts, &fixed.data),
        interfaces: network::interfaces(&text("/proc/net/dev")),
        tunnels: Vec::new(),
        udp: network::udp(&text("/proc/net/snmp")),
        udp6: network::udp6(&text("/proc/net/snmp6")),
        conntrack: conntrack(source),
        temperatures: sensors.temperatures,
        fans: sensors.fans,
        power: sensors.power,
        processes: process::processes(source, fixed.page),
        started_by: started_by(source),
        left_out: 0,
    };
    sample.left_out = cut(&mut sample, MOST);
    sample.interfaces.iter_mut().for_each(|interface| look_up(source, interface));
    sample
}

/// Those of memory without a limit are left out.
fn room(source: &impl Source, mount: &disk::Mount) -> Option<FileSystem> {
    let space = source.space(&mount.at);
    let mut shown = FileSystem { space: space.map(|(space, _)| space), ..mount.shown() };
    shown.read_only |= space.is_some_and(|(_, read_only)| read_only);
    shown.space.is_none_or(|space| space.size_bytes > 0).then_some(shown)
}

fn data(source: &impl Source, mounts: &[disk::Mount], path: &str) -> Option<FileSystem> {
    let mount = disk::mount_of(mounts, path).filter(|mount| mount.matters())?;
    room(source, &mount.at(path))
}

/// `carrier` and `speed` cannot be read while an interface is set down.
fn look_up(source: &impl Source, interface: &mut Interface) {
    let read = |file: &str| source.text(&format!("/sys/class/net/{}/{file}", interface.name));
    let number = |file: &str| read(file).and_then(|text| text.trim().parse::<u64>().ok());
    let (carrier, carrier_changes, speed_mbps) = (number("carrier"), number("carrier_changes"), number("speed"));
    let operstate = read("operstate").map(|state| name(&state)).unwrap_or_default();
    interface.carrier = carrier.map(|carrier| carrier != 0);
    interface.carrier_changes = carrier_changes;
    // Unknown is -1, in old drivers as a positive number.
    interface.speed_mbps = speed_mbps.filter(|speed| (1..i32::MAX as u64).contains(speed));
    interface.operstate = operstate;
}

fn conntrack(source: &impl Source) -> Option<Conntrack> {
    let number = |file: &str| source.text(&format!("/proc/sys/net/netfilter/nf_conntrack_{file}"));
    Some(Conntrack { count: count(&number("count")?), limit: count(&number("max")?) })
}

/// The variable of UEFI that has Secure Boot's state: four bytes of attributes, then 0 or 1 (UEFI 2.10, 3.3).
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// What the firmware left behind: without `/sys/firmware/efi` it was a BIOS. A container sees nothing of either.
fn started_by(source: &impl Source) -> Option<StartedBy> {
    let firmware = source.names("/sys/firmware");
    if firmware.is_empty() {
        return None;
    }
    if !firmware.iter().any(|name| name == "efi") {
        return Some(StartedBy::Bios);
    }
    Some(match source.text(SECURE_BOOT).as_deref().map(str::as_bytes) {
        Some([_, _, _, _, 0]) => StartedBy::UefiSecureBootOff,
        Some([_, _, _, _, 1]) => StartedBy::UefiSecureBootOn,
        _ => StartedBy::Uefi,
    })
}

/// Cuts the lists. Returns how many entries went.
fn cut(sample: &mut HostSample, most: usize) -> u64 {
    fn one<T>(list: &mut Vec<T>, most: usize) -> usize {
        let over = list.len().saturating_sub(most);
        list.truncate(most);
        over
    }
    let over = one(&mut sample.disks, most)
        + one(&mut sample.disk_health, most)
        + one(&mut sample.filesystems, most)
        + one(&mut sample.interfaces, most)
        + one(&mut sample.tunnels, most)
        + one(&mut sample.temperatures, most)
        + one(&mut sample.fans, most)
        + one(&mut sample.power, most)
        + one(&mut sample.processes, most);
    over as u64
}

/// The sample as a record: one line, cut so that it stays one record.
pub fn line(sample: &HostSample) -> Vec<u8> {
    let mut line = serde_json::to_vec(sample).unwrap_or_default();
    let (mut shorter, mut most) = (sample.clone(), MOST);
    while line.len() > RAW_MAX && most > 0 {
        most /= 2;
        shorter.left_out += cut(&mut shorter, most);
        line = serde_json::to_vec(&shorter).unwrap_or_default();
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::source::{Machine, Scripted};
    use raven_model::host::{HostRecord, Space};
    use std::fmt::Write;

    fn fixed(data: &str) -> Fixed {
        Fixed { boot_id: "ab".repeat(16), data: data.to_owned(), page: 4096 }
    }

    #[test]
    fn this_machine_is_sampled_and_reads_back() {
        let sample = sample(&Machine, &fixed("/tmp"));
        assert!(sample.cpu.cpus > 0 && sample.memory.total_bytes > 0);
        assert!(sample.interfaces.iter().any(|interface| interface.name == "lo"));
        let record = HostRecord::Sample(Box::new(sample));
        let text = serde_json::to_string(&record).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(HostRecord::read(text.as_bytes()), Ok(record));
    }

    #[test]
    fn a_machine_without_anything_is_sampled_too() {
        let sample = sample(&Scripted::default(), &fixed("/data"));
        assert_eq!(HostSample { boot_id: "ab".repeat(16), ..HostSample::default() }, sample);
    }

    #[test]
    fn the_data_directory_has_the_device_and_state_of_its_mount() {
        let mut source = Scripted::default();
        source.set("/proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /var/lib xfs ro 0 0\n");
        source.spaces.insert("/var/lib/raven".to_owned(), (Space { size_bytes: 7, ..Space::default() }, false));
        let data = sample(&source, &fixed("/var/lib/raven")).data.unwrap();
        assert_eq!((data.mount.as_str(), data.device.as_str(), data.read_only), ("/var/lib/raven", "/dev/sdb1", true));
        assert_eq!(data.space.unwrap().size_bytes, 7);
    }

    #[test]
    fn what_started_the_machine_is_read_from_what_the_firmware_left() {
        let by = |files: &[(&str, &str)]| {
            let mut source = Scripted::default();
            for (file, text) in files {
                source.set(file, text);
            }
            started_by(&source)
        };
        let efi = ("/sys/firmware/efi/fw_platform_size", "64\n");
        assert_eq!(by(&[]), None);
        assert_eq!(by(&[("/sys/firmware/dmi/tables/DMI", "")]), Some(StartedBy::Bios));
        assert_eq!(by(&[efi]), Some(StartedBy::Uefi));
        assert_eq!(by(&[efi, (SECURE_BOOT, "\x06\0\0\0\0")]), Some(StartedBy::UefiSecureBootOff));
        assert_eq!(by(&[efi, (SECURE_BOOT, "\x06\0\0\0\x01")]), Some(StartedBy::UefiSecureBootOn));
        for odd in ["", "\x06\0\0\0", "\x06\0\0\0\x02", "\x06\0\0\0\x01\x01"] {
            assert_eq!(by(&[efi, (SECURE_BOOT, odd)]), Some(StartedBy::Uefi), "{odd:?}");
        }
    }

    #[test]
    fn an_interface_that_is_set_down_has_no_carrier_and_no_speed() {
        let mut source = Scripted::default();
        let line = |name| format!("{name}: {}\n", ["1"; 16].join(" "));
        source
            .set("/proc/net/dev", &format!("a\nb\n{}{}", line("eth0"), line("eth1")))
            .set("/sys/class/net/eth0/carrier", "1\n")
            .set("/sys/class/net/eth0/speed", "10000\n")
            .set("/sys/class/net/eth0/operstate", "up\n")
            .set("/sys/class/net/eth1/speed", "-1\n");
        let sample = sample(&source, &fixed("/"));
        let [eth0, eth1] = &sample.interfaces[..] else { panic!("two interfaces") };
        assert_eq!((eth0.carrier, eth0.speed_mbps, eth0.operstate.as_str()), (Some(true), Some(10_000), "up"));
        assert_eq!((eth1.carrier, eth1.speed_mbps, eth1.operstate.as_str()), (None, None, ""));
    }

    /// Names as long and as costly in JSON as they can be.
    #[test]
    fn the_largest_machine_fits_into_one_record() {
        let mut source = Scripted::default();
        let (mut dev, mut mounts, mut stats) = ("\n\n".to_owned(), String::new(), String::new());
        let max = u64::MAX;
        let many = |n: usize| vec![max.to_string(); n].join(" ");
        for n in 0..200 {
            let long = format!("{n}{}", "\"".repeat(300));
            writeln!(dev, "{long}: {}", many(16)).unwrap();
            writeln!(mounts, "/{long} /{long} ext4 rw 0 0").unwrap();
            writeln!(stats, "8 0 {long} {}", many(16)).unwrap();
            source.set(&format!("/sys/block/{long}"), "");
            let space = Space { size_bytes: max, free_bytes: max, available_bytes: max, inodes: max, inodes_free: max };
            source.spaces.insert(format!("/{long}"), (space, true));
            source.set(&format!("/proc/{n}/stat"), &format!("{n} (raven{long}) {}", many(30)));
            let chip = format!("/sys/class/hwmon/hwmon{n}");
            source.set(&format!("{chip}/name"), &long).set(&format!("{chip}/temp1_input"), "99999");
            source.set(&format!("{chip}/temp1_crit"), "99999").set(&format!("{chip}/fan1_input"), "9999999999");
            source.set(&format!("{chip}/power1_input"), "999999999999");
        }
        source.set("/proc/net/dev", &dev).set("/proc/self/mounts", &mounts).set("/proc/diskstats", &stats);
        let sample = sample(&source, &fixed("/data"));
        assert_eq!(sample.interfaces.len(), MOST);
        assert!(sample.left_out > 400);
        let line = line(&sample);
        assert!(line.len() <= RAW_MAX, "{} bytes", line.len());
        let Ok(HostRecord::Sample(read)) = HostRecord::read(&line) else { panic!("it reads back") };
        assert!(read.interfaces.len() >= MOST / 4 && read.left_out > sample.left_out);
    }
}
