//! `raven-install`: what an installation to a disk takes, as root, for `ravend`. All is said as JSON.

use raven_boot::gpt::Guid;
use raven_boot::{SECTOR, install, layout};
use raven_model::install::{Disk, Progress};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: raven-install list
       raven-install MEDIUM DISK
  list: the disks of this box, as JSON
  Installs from MEDIUM (the disk that the box runs from, or raven.iso) to DISK, a disk or a file, and says how far it
  is, a line of JSON each.";

/// Where the medium is that the box runs from.
const MEDIUM: &str = "/dev/raven/disk";
/// How often it is said how far it is.
const TELL: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["list"] => serde_json::to_string(&disks()).map(|list| println!("{list}")).map_err(|e| e.to_string()),
        [medium, disk] => put(Path::new(medium), Path::new(disk)),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn put(medium: &Path, disk: &Path) -> Result<(), String> {
    let name = disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut from = File::open(medium).map_err(|e| format!("{}: {e}", medium.display()))?;
    // Exclusive: the kernel says no for a disk of which something is mounted.
    let exclusive = if is_block(disk) { nix::libc::O_EXCL } else { 0 };
    let to = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(disk);
    let mut to = Synced(to.map_err(|e| format!("{}: {e}", disk.display()))?);
    let sectors = to.0.seek(SeekFrom::End(0)).map_err(|e| e.to_string())? / SECTOR;
    let disk_id = random()?;
    let id = |what: &str| if what == "disk" { disk_id } else { random().unwrap_or(disk_id) };
    let mut told = Instant::now();
    let progress = |done, total, finished| Progress { disk: name.clone(), done, total, finished, failed: None };
    let mut last = (0, 0);
    let outcome = install::install(&mut from, &mut to, sectors, id, |done, total| {
        last = (done, total);
        if told.elapsed() >= TELL {
            told = Instant::now();
            say(&progress(done, total, false));
        }
    });
    outcome.map_err(|e| e.to_string())?;
    say(&progress(last.0, last.1, true));
    Ok(())
}

fn say(progress: &Progress) {
    if let Ok(line) = serde_json::to_string(progress) {
        println!("{line}");
    }
}

/// A random identity: version 4, variant 1 (RFC 9562).
fn random() -> Result<Guid, String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).map_err(|e| e.to_string())?;
    Ok(Guid(u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62))
}

/// What is flushed is on the disk.
struct Synced(File);

impl Write for Synced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl Seek for Synced {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

fn is_block(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device())
}

/// All disks, the largest first; not those of memory and not parts of others.
fn disks() -> Vec<Disk> {
    let medium = fs::canonicalize(MEDIUM).ok();
    let names = fs::read_dir("/sys/block").into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok());
    let kinds = ["loop", "ram", "dm-", "zram", "sr", "md", "fd", "nbd"];
    let disks = names.filter(|name| !kinds.iter().any(|kind| name.starts_with(kind)));
    let mut disks: Vec<Disk> = disks.map(|name| disk(&name, medium.as_deref())).filter(|disk| disk.bytes > 0).collect();
    disks.sort_by_key(|disk| std::cmp::Reverse(disk.bytes));
    disks
}

fn disk(name: &str, medium: Option<&Path>) -> Disk {
    let sys = PathBuf::from("/sys/block").join(name);
    let text = |file: &str| fs::read_to_string(sys.join(file)).map(|t| t.trim().to_owned()).unwrap_or_default();
    let path = Path::new("/dev").join(name);
    let bytes = text("size").parse::<u64>().unwrap_or_default() * SECTOR;
    let usb = fs::canonicalize(&sys).is_ok_and(|path| path.to_string_lossy().contains("/usb"));
    let small = bytes < layout::least_disk();
    let refused = if medium.is_some_and(|medium| medium == path) {
        Some("the box runs from it".to_owned())
    } else if small {
        Some(format!("too small: Raven needs {} MiB", layout::least_disk() >> 20))
    } else if text("ro") == "1" {
        Some("it cannot be written to".to_owned())
    } else if is_used(&sys, name) {
        Some("something on it is in use".to_owned())
    } else {
        None
    };
    Disk { name: name.to_owned(), model: text("device/model"), bytes, usb, holds: holds(&sys, name), refused }
}

/// Whether the disk or a part of it is mounted or in a mapping.
fn is_used(sys: &Path, name: &str) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted: BTreeSet<&str> =
        mounts.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("/dev/")).collect();
    let held = |folder: PathBuf| fs::read_dir(folder).is_ok_and(|mut holders| holders.next().is_some());
    let parts = parts(sys, name);
    held(sys.join("holders"))
        || parts.iter().any(|part| held(sys.join(part).join("holders")))
        || parts.iter().map(String::as_str).chain([name]).any(|part| mounted.contains(part))
}

fn parts(sys: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(sys).into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut parts: Vec<String> = entries.filter(|entry| entry.starts_with(name)).collect();
    parts.sort();
    parts
}

/// What udev found on it: a line for each part, or for the disk.
fn holds(sys: &Path, name: &str) -> Vec<String> {
    let parts = parts(sys, name);
    let mut lines: Vec<String> = parts.iter().filter_map(|part| content(&sys.join(part), part)).collect();
    if lines.is_empty() {
        lines.extend(content(sys, name));
    }
    if parts.iter().any(|part| variable(&sys.join(part), "ID_PART_ENTRY_NAME").is_some_and(|n| n == layout::DATA_NAME))
    {
        lines.insert(0, "a Raven box, with its configuration and its records".to_owned());
    }
    lines
}

fn content(sys: &Path, name: &str) -> Option<String> {
    let label = variable(sys, "ID_FS_LABEL").or_else(|| variable(sys, "ID_PART_ENTRY_NAME"));
    let kind = variable(sys, "ID_FS_TYPE").or_else(|| variable(sys, "ID_PART_TABLE_TYPE"));
    let bytes = fs::read_to_string(sys.join("size")).ok()?.trim().parse::<u64>().ok()? * SECTOR;
    if label.is_none() && kind.is_none() {
        return None;
    }
    let words = [kind, label.map(|label| format!("`{}`", label.escape_debug())), Some(format!("{} MiB", bytes >> 20))];
    Some(format!("{name}: {}", words.into_iter().flatten().collect::<Vec<_>>().join(", ")))
}

/// What udev knows of a device.
fn variable(sys: &Path, key: &str) -> Option<String> {
    let number = fs::read_to_string(sys.join("dev")).ok()?;
    let known = fs::read_to_string(format!("/run/udev/data/b{}", number.trim())).ok()?;
    let line = known.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.chars().take(64).collect())
}
