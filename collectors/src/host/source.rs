//! Where a sample comes from: files of `/proc` and `/sys`, room in file systems, two clocks.

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::time::{ClockId, clock_gettime};
use raven_model::host::Space;
use raven_model::units::UnixNanos;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::time::{SystemTime, UNIX_EPOCH};

/// Most that is read of a file. `/proc/stat` has 10 KiB and 70 bytes per processor.
const FILE_MAX: usize = 128 << 10;
/// Most names of a directory that are looked at.
const NAMES_MAX: usize = 32_768;

/// The machine, or a made-up one.
pub trait Source {
    /// The text of a file, cut at 128 KiB. `None` when it is not there or says nothing now.
    fn text(&self, path: &str) -> Option<String>;

    /// The names in a directory; none when it is not there.
    fn names(&self, path: &str) -> Vec<String>;

    /// The room in the file system at `path`, and whether it takes no writes.
    fn space(&self, path: &str) -> Option<(Space, bool)>;

    /// Wall clock, and nanoseconds since boot.
    fn clocks(&self) -> (UnixNanos, u64);
}

/// This machine. Uses no calls but `openat`, `read`, `close`, `fstat`, `getdents64` and `statfs`.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

impl Source for Machine {
    fn text(&self, path: &str) -> Option<String> {
        let mut file = File::open(path).ok()?;
        let (mut bytes, mut used) = (vec![0; 1024], 0);
        loop {
            match file.read(&mut bytes[used..]) {
                Ok(0) => break,
                Ok(n) => used += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // As `carrier` of an interface that is set down, or a sensor that is asleep.
                Err(_) => return None,
            }
            if used == bytes.len() {
                if used >= FILE_MAX {
                    break;
                }
                bytes.resize(used * 4, 0);
            }
        }
        bytes.truncate(used.min(FILE_MAX));
        Some(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        entries.take(NAMES_MAX).filter_map(name).collect()
    }

    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // their widths differ between machines
    fn space(&self, path: &str) -> Option<(Space, bool)> {
        let all = statvfs(path).ok()?;
        let block = u64::from(all.fragment_size());
        let bytes = |blocks| block.saturating_mul(u64::from(blocks));
        let space = Space {
            size_bytes: bytes(all.blocks()),
            free_bytes: bytes(all.blocks_free()),
            available_bytes: bytes(all.blocks_available()),
            inodes: u64::from(all.files()),
            inodes_free: u64::from(all.files_free()),
        };
        Some((space, all.flags().contains(FsFlags::ST_RDONLY)))
    }

    fn clocks(&self) -> (UnixNanos, u64) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64);
        (UnixNanos(wall), boot)
    }
}

/// A made-up machine.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub struct Scripted {
    /// Path to text.
    pub files: std::collections::BTreeMap<String, String>,
    /// Mount point to room.
    pub spaces: std::collections::BTreeMap<String, (Space, bool)>,
    /// Both clocks.
    pub clocks: (UnixNanos, u64),
}

#[cfg(test)]
impl Scripted {
    /// Writes a file.
    pub fn set(&mut self, path: &str, text: &str) -> &mut Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }
}

#[cfg(test)]
impl Source for Scripted {
    fn text(&self, path: &str) -> Option<String> {
        self.files.get(path).cloned()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let below = |file: &String| Some(file.strip_prefix(path)?.strip_prefix('/')?.split('/').next()?.to_owned());
        let mut names: Vec<String> = self.files.keys().filter_map(below).collect();
        names.dedup();
        names
    }

    fn space(&self, path: &str) -> Option<(Space, bool)> {
        self.spaces.get(path).copied()
    }

    fn clocks(&self) -> (UnixNanos, u64) {
        self.clocks
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_machine_tells_of_itself() {
        assert!(Machine.text("/proc/stat").unwrap().starts_with("cpu "));
        assert_eq!(Machine.text("/proc/does-not-exist"), None);
        assert!(Machine.names("/proc").contains(&std::process::id().to_string()));
        assert!(Machine.names("/proc/stat").is_empty());
        let (space, _) = Machine.space("/").unwrap();
        assert!(space.size_bytes >= space.free_bytes && space.free_bytes >= space.available_bytes);
        assert!(Machine.clocks().0 > UnixNanos(1_700_000_000_000_000_000) && Machine.clocks().1 > 0);
    }

    #[test]
    fn a_long_file_is_cut() {
        let path = std::env::temp_dir().join(format!("raven-host-{}", std::process::id()));
        std::fs::write(&path, vec![b'x'; FILE_MAX + 7]).unwrap();
        assert_eq!(Machine.text(path.to_str().unwrap()).unwrap().len(), FILE_MAX);
        std::fs::remove_file(path).unwrap();
    }
}
