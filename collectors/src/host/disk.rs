//! `/proc/diskstats` and `/proc/self/mounts`.

use super::text::{name, nth, path};
use raven_model::host::{Disk, FileSystem};

/// `/proc/diskstats` counts sectors of 512 bytes, whatever the device's own are.
const SECTOR: u64 = 512;

/// Local file systems that hold something. The room in others is not asked for: that of a network file system whose
/// server is gone would never be answered, and those of the kernel have none.
const KINDS: [&str; 15] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "jfs", "vfat", "exfat", "ntfs3", "ubifs",
    "overlay", "tmpfs",
];

/// Whole block devices (those that `whole` names) that were ever used.
pub fn disks(diskstats: &str, whole: &[String]) -> Vec<Disk> {
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let device = *words.get(2)?;
        // In names of directories of /sys `/` is `!`.
        let known = whole.iter().any(|name| name == device || name.replace('!', "/") == device);
        let n = |at: usize| nth(&words, at);
        let used = n(3) > 0 || n(7) > 0;
        (known && used).then(|| Disk {
            name: name(device),
            reads: n(3),
            read_bytes: n(5).saturating_mul(SECTOR),
            read_s: n(6) as f64 / 1e3,
            writes: n(7),
            write_bytes: n(9).saturating_mul(SECTOR),
            write_s: n(10) as f64 / 1e3,
            in_flight: n(11),
            busy_s: n(12) as f64 / 1e3,
            busy: None,
        })
    };
    diskstats.lines().filter_map(read).collect()
}

/// A mount, as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub at: String,
    device: String,
    kind: String,
    read_only: bool,
}

impl Mount {
    /// The same file system, looked at from a place inside.
    pub fn at(&self, inside: &str) -> Self {
        Self { at: inside.to_owned(), ..self.clone() }
    }

    /// As it is shown.
    pub fn shown(&self) -> FileSystem {
        FileSystem {
            mount: path(&self.at),
            device: path(&self.device),
            kind: name(&self.kind),
            read_only: self.read_only,
            space: None,
        }
    }

    /// Local, and of a kind that holds something; not the scaffolding of control groups.
    pub fn matters(&self) -> bool {
        KINDS.contains(&self.kind.as_str()) && !self.at.starts_with("/sys/")
    }
}

/// All mounts that are not hidden by a later one at the same place.
pub fn mounts(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(at), Some(kind), Some(options)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        // ext4 says `emergency_ro` (Linux 6.15) or `shutdown` when errors have ended all writing to it.
        let read_only = options.split(',').any(|option| ["ro", "emergency_ro", "shutdown"].contains(&option));
        let mount = Mount { at: unescaped(at), device: unescaped(device), kind: kind.to_owned(), read_only };
        match mounts.iter_mut().find(|other| other.at == mount.at) {
            Some(hidden) => *hidden = mount,
            None => mounts.push(mount),
        }
    }
    mounts
}

/// Of those that matter one per device: the others are views of the same room. Those of memory have no device.
pub fn that_matter(mounts: &[Mount]) -> Vec<&Mount> {
    let mut kept: Vec<&Mount> = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.matters()) {
        let seen = kept.iter().any(|other| other.device == mount.device && mount.device.starts_with('/'));
        if !seen {
            kept.push(mount);
        }
    }
    kept
}

/// The mount that `path` lies on.
pub fn mount_of<'a>(mounts: &'a [Mount], path: &str) -> Option<&'a Mount> {
    let holds = |mount: &&Mount| {
        let rest = path.strip_prefix(mount.at.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    mounts.iter().filter(holds).max_by_key(|mount| mount.at.len())
}

/// Space, tab, LF and backslash are written in octal (`\040`).
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        out.push(byte.map_or('\\', char::from));
        rest = &rest[at + if byte.is_some() { 4 } else { 1 }..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const DISKSTATS: &str = "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 16420 129 1306634 9083 115021 60312 14390744 98822 3 65108 109422 3318 0 12 5 1505 1511
 254       1 vda1 16420 129 1306634 9083 115021 60312 14390744 98822 3 65108 109422 0 0 0 0 0 0
  11       0 old 1 2 8 4
";
    const MOUNTS: &str = "proc /proc proc rw,relatime 0 0
tmpfs /dev/shm tmpfs rw,relatime,size=24684084k 0 0
/dev/vda / ext4 rw,relatime,discard,resv_strict 0 0
/dev/vda /srv/bind ext4 rw,relatime 0 0
tmpfs /dev/shm tmpfs ro,relatime,size=4k 0 0
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
nas:/export /mnt/nas nfs4 rw,vers=4.2 0 0
/dev/sdb1 /mnt/with\\040space\\134 ext4 rw,errors=remount-ro,emergency_ro 0 0
";

    #[test]
    fn whole_devices_that_were_used_are_kept() {
        let disks = disks(DISKSTATS, &["vda".to_owned(), "loop0".to_owned(), "old".to_owned()]);
        assert_eq!(disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), ["vda", "old"]);
        let vda = &disks[0];
        assert_eq!((vda.reads, vda.read_bytes, vda.writes), (16_420, 1_306_634 * 512, 115_021));
        assert_eq!((vda.in_flight, vda.busy_s, vda.write_s), (3, 65.108, 98.822));
    }

    #[test]
    fn one_mount_of_each_local_device_matters() {
        let mounts = mounts(MOUNTS);
        let kept = that_matter(&mounts);
        let places: Vec<&str> = kept.iter().map(|mount| mount.at.as_str()).collect();
        assert_eq!(places, ["/dev/shm", "/", "/mnt/with space\\"]);
        assert_eq!(kept.iter().map(|mount| mount.read_only).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn the_mount_of_a_path_is_the_nearest_one() {
        let mounts = mounts(MOUNTS);
        let of = |path| mount_of(&mounts, path).map(|mount| mount.at.as_str());
        assert_eq!(of("/srv/bind/data"), Some("/srv/bind"));
        assert_eq!(of("/srv/binder"), Some("/"));
        assert_eq!(of("/srv/bind"), Some("/srv/bind"));
        assert_eq!(of("relative"), None);
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(unescaped("a\\04"), "a\\04");
        assert_eq!(unescaped("\\999\\"), "\\999\\");
        assert_eq!(unescaped("\\ä\\011b"), "\\ä\tb");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(vda|/|\\\\|ext4|ro|,|[0-9 \n]|\\PC){0,80}") {
            let mounts = mounts(&text);
            let _ = (that_matter(&mounts), mount_of(&mounts, &text));
            prop_assert!(disks(&text, &["vda".to_owned()]).len() <= text.lines().count());
        }
    }
}
