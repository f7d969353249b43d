//! What the kernel says of the machine to everybody who may read `/proc`.

use raven_model::units::ByteCount;
use std::fmt::Write as _;
use std::{fs, io};

/// Files that go into the bundle as they are.
pub const FILES: [(&str, &str); 6] = [
    ("kernel-arguments.txt", "/proc/cmdline"),
    ("memory.txt", "/proc/meminfo"),
    ("load.txt", "/proc/loadavg"),
    ("interfaces.txt", "/proc/net/dev"),
    ("routes.txt", "/proc/net/route"),
    ("partitions.txt", "/proc/partitions"),
];

/// Every process: its name, never its arguments, which are its owner's business.
pub fn processes() -> io::Result<String> {
    let mut pids: Vec<u32> =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let mut text = format!("{:>7} {:>7} {:<16} {:<12} {:>12} THREADS\n", "PID", "UID", "NAME", "STATE", "RESIDENT");
    for pid in pids {
        // One that has ended meanwhile is none.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
        let uid = value("Uid:").split_whitespace().next().unwrap_or("");
        let (name, state, memory, threads) = (value("Name:"), value("State:"), value("VmRSS:"), value("Threads:"));
        let _ = writeln!(text, "{pid:>7} {uid:>7} {name:<16} {state:<12} {memory:>12} {threads}");
    }
    Ok(text)
}

/// What is mounted, and how full it is.
pub fn disks() -> io::Result<String> {
    let mut text = String::new();
    for line in fs::read_to_string("/proc/self/mounts")?.lines() {
        let room = line.split(' ').nth(1).and_then(|place| rustix::fs::statvfs(place).ok());
        let room = room.filter(|room| room.f_blocks > 0).map_or_else(String::new, |room| {
            let bytes = |blocks: u64| ByteCount(blocks.saturating_mul(room.f_frsize) & !0xfff);
            format!(": {} of {} free", bytes(room.f_bavail), bytes(room.f_blocks))
        });
        let _ = writeln!(text, "{line}{room}");
    }
    Ok(text)
}
