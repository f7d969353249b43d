//! `raven-stick DEVICE`: takes the configuration from a USB stick, as root, for systemd; `raven-stick --give NAME`: puts what
//! comes on standard input onto one, for `ravend`. The kernel mounts it, with file systems of a short list; here bytes are
//! copied and none is looked at. See [`raven_boot::stick`].
//!
//! The mount is seen by this process alone, in a mount namespace of its own, and is gone when it ends.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use raven_boot::stick;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: raven-stick DEVICE
       raven-stick --give NAME
  Copies raven.toml and the folder secrets from the file system on DEVICE to /run/raven/stick.
  --give: writes standard input as a new file of the first USB stick with a FAT or ext4 file system";

const MOUNTED: &str = "/run/raven/mounted";
const TAKEN: &str = "/run/raven/stick";

/// What is mounted to be read, and how: a journal is not played back, which would write.
const TO_READ: [(&str, &str); 3] = [("vfat", ""), ("ext4", "noload"), ("iso9660", "")];
/// What is mounted to be written to.
const TO_WRITE: [(&str, &str); 2] = [("vfat", ""), ("ext4", "")];
/// Most bytes of standard input.
const GIVEN_MAX: u64 = 32 << 20;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["--give", name] => give(name),
        [device] => take(device).map_err(|error| format!("{device}: {error}")),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn take(device: &str) -> Result<String, String> {
    alone()?;
    mounted(device, MsFlags::MS_RDONLY, &TO_READ)?;
    let taken = stick::take(Path::new(MOUNTED), Path::new(TAKEN)).map_err(|e| e.to_string())?;
    let Some(taken) = taken else { return Ok(format!("{device}: no raven.toml on it")) };
    let left = taken.left.iter().fold(String::new(), |all, left| all + "; left out: " + left);
    Ok(format!("{device}: raven.toml and {} secrets{left}", taken.secrets.len()))
}

fn give(name: &str) -> Result<String, String> {
    let mut content = Vec::new();
    std::io::stdin().take(GIVEN_MAX + 1).read_to_end(&mut content).map_err(|e| format!("standard input: {e}"))?;
    if content.len() as u64 > GIVEN_MAX {
        return Err(format!("more than {GIVEN_MAX} bytes"));
    }
    alone()?;
    let mut why = Vec::new();
    for stick in sticks() {
        let device = format!("/dev/{stick}");
        if let Err(error) = mounted(&device, MsFlags::MS_SYNCHRONOUS, &TO_WRITE) {
            why.push(format!("{stick}: {error}"));
            continue;
        }
        let given = stick::give(Path::new(MOUNTED), name, &content);
        let gone = umount(MOUNTED);
        return match (given, gone) {
            (Ok(()), Ok(())) => Ok(format!("{name} is on the stick ({stick})")),
            (Err(error), _) => Err(format!("{stick}: {error}")),
            (_, Err(error)) => Err(format!("{stick}: {error}")),
        };
    }
    why.insert(0, "there is no USB stick with a FAT or ext4 file system".to_owned());
    Err(why.join("; "))
}

/// File systems on USB devices may be on these, partitions before whole devices; never the disk that the box runs from.
fn sticks() -> Vec<String> {
    let own = fs::canonicalize("/dev/raven/disk").unwrap_or_default();
    let own = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = fs::read_dir("/sys/class/block").into_iter().flatten();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut sticks: Vec<String> = names.filter(|name| is_stick(name, &own)).collect();
    sticks.sort_by_key(|name| (!is_partition(name), name.clone()));
    sticks
}

fn is_stick(name: &str, own: &str) -> bool {
    let place = fs::read_link(Path::new("/sys/class/block").join(name)).unwrap_or_default();
    let mut folders = place.iter().map(|folder| folder.to_string_lossy());
    let is_usb = place.to_string_lossy().contains("/usb");
    is_usb && !folders.any(|folder| folder == own)
}

fn is_partition(name: &str) -> bool {
    Path::new("/sys/class/block").join(name).join("partition").exists()
}

/// What is mounted from here on, nobody else sees.
fn alone() -> Result<(), String> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("a mount namespace: {e}"))?;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).map_err(|e| format!("private mounts: {e}"))?;
    fs::create_dir_all(MOUNTED).map_err(|e| format!("{MOUNTED}: {e}"))
}

fn mounted(device: &str, how: MsFlags, kinds: &[(&str, &str)]) -> Result<(), String> {
    let flags = how | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for (kind, options) in kinds {
        match mount(Some(device), MOUNTED, Some(*kind), flags, Some(*options)) {
            Ok(()) => return Ok(()),
            // Another file system, or none.
            Err(Errno::EINVAL) => {}
            Err(error) => return Err(format!("{kind}: {error}")),
        }
    }
    Err("no file system of a kind that is taken".to_owned())
}
