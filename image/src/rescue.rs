//! The rescue system: a shell in memory for whoever stands before the box. It lies on the EFI system partition and on the
//! medium, beside the slots, and is an archive that the boot loader has the kernel unpack over the initramfs of a
//! slot: modules come with that, so that they are always those of the kernel that starts. An update brings a new kernel
//! with its modules and leaves this as it is.
//!
//! What it does is in `image/rescue/`; programs are Debian's static ones. No network: neither modules nor a service.

use crate::Order;
use crate::cache::{self, Key};
use crate::initramfs::{Archive, is_static};
use crate::packages::Packages;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where GRUB finds it.
pub const PLACE: &str = "/raven/rescue";

/// Its first process: busybox by the name of what it is to do.
pub const INIT: &str = "/bin/init";

/// Programs: where the archive has them, and where their packages do.
const PROGRAMS: [(&str, &str); 2] = [("bin/busybox", "usr/bin/busybox"), ("sbin/e2fsck", "usr/sbin/e2fsck.static")];

/// Folders of merged and of unmerged packages.
const UNMERGED: [(&str, &str); 2] = [("usr/bin/", "bin/"), ("usr/sbin/", "sbin/")];

/// Builds it, unless the same things were put together before.
pub fn built(order: &Order, packages: &Packages) -> Result<PathBuf> {
    let files = order.sources.join("image/rescue");
    let mut key = Key::default().folder(&files)?;
    for (_, program) in PROGRAMS {
        key = key.file(&found(&packages.rescue(), program)?)?;
    }
    for source in ["initramfs.rs", "rescue.rs"] {
        key = key.file(&order.sources.join("image/src").join(source))?;
    }
    let name = key.name();
    let place = cache::folder(&order.cache, "rescue", &name, order.fresh, |at| {
        let archive = archive(&files, &packages.rescue())?;
        Ok(fs::write(at.join("rescue"), zstd::encode_all(archive.as_slice(), 19)?)?)
    })?;
    Ok(place.join("rescue"))
}

fn archive(files: &Path, packages: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "etc", "mnt", "sbin", "tmp"] {
        archive.folder(folder);
    }
    for (to, from) in PROGRAMS {
        let from = found(packages, from)?;
        is_static(&from)?;
        archive.file(to, 0o755, &fs::read(from)?);
    }
    // The kernel starts it before busybox has made names for all that it is.
    for name in [&INIT[1..], "bin/sh"] {
        archive.link(name, "busybox");
    }
    for path in cache::files(files)? {
        let name = path.strip_prefix(files)?.to_str().context("a name that is no text")?;
        let mode = fs::metadata(&path)?.permissions().mode() & 0o111;
        archive.file(name, if mode == 0 { 0o644 } else { 0o755 }, &fs::read(&path)?);
    }
    Ok(archive.end())
}

/// A file of a package, whether `/usr` is merged there or not.
fn found(packages: &Path, path: &str) -> Result<PathBuf> {
    let old = UNMERGED.iter().find_map(|(new, old)| Some(format!("{old}{}", path.strip_prefix(new)?)));
    let places = [Some(path.to_owned()), old].into_iter().flatten().map(|path| packages.join(path));
    places
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("no package of the rescue system has {path}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn files() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("rescue")
    }

    /// The archive with programs that are not read.
    fn unpacked() -> Option<tempfile::TempDir> {
        let packages = tempfile::tempdir().unwrap();
        for path in ["usr/bin/busybox", "sbin/e2fsck.static"] {
            let path = packages.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // Any ELF header without an interpreter.
            fs::write(path, static_program()).unwrap();
        }
        let bytes = archive(&files(), packages.path()).unwrap();
        let at = tempfile::tempdir().unwrap();
        let cpio = Command::new("cpio").args(["--extract", "--quiet"]).current_dir(&at).stdin(Stdio::piped()).spawn();
        let Ok(mut cpio) = cpio else {
            println!("not run: cpio is not installed");
            return None;
        };
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(cpio.wait().unwrap().success());
        Some(at)
    }

    fn static_program() -> Vec<u8> {
        let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0];
        elf.extend([0; 28]);
        elf.extend([64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        elf
    }

    #[test]
    fn the_first_process_and_what_it_starts_are_there_and_can_be_run() {
        let Some(at) = unpacked() else { return };
        assert_eq!(fs::read_link(at.path().join(&INIT[1..])).unwrap(), Path::new("busybox"));
        let inittab = fs::read_to_string(at.path().join("etc/inittab")).unwrap();
        for line in inittab.lines().filter(|line| !line.starts_with('#')) {
            let program = line.rsplit(':').next().unwrap().split(' ').next().unwrap().trim_start_matches('-');
            // `--install` makes the names of busybox after the first script.
            let is_ours = program == "/etc/begin" || program == "/bin/sh";
            assert!(is_ours || ["/bin/reboot", "/bin/umount"].contains(&program), "{program}");
            if is_ours {
                let path = at.path().join(&program[1..]);
                assert!(fs::symlink_metadata(&path).unwrap().is_symlink() || is_executable(&path), "{program}");
            }
        }
        assert!(is_executable(&at.path().join("bin/disks")) && !is_executable(&at.path().join("etc/profile")));
    }

    fn is_executable(path: &Path) -> bool {
        fs::metadata(path).unwrap().permissions().mode() & 0o111 == 0o111
    }

    /// Of disks nothing is mounted, and nothing is written, but by who types it.
    #[test]
    fn it_touches_no_disk_by_itself_and_has_no_network() {
        let all: String = ["etc/begin", "etc/profile", "etc/inittab", "bin/disks"]
            .iter()
            .map(|name| fs::read_to_string(files().join(name)).unwrap())
            .collect();
        let (said, done): (Vec<&str>, Vec<&str>) = {
            let (before, rest) = all.split_once("<<'END'").unwrap();
            let (text, after) = rest.split_once("\nEND\n").unwrap();
            (text.lines().collect(), before.lines().chain(after.lines()).collect())
        };
        let mounts: Vec<&&str> =
            done.iter().filter(|line| line.contains("mount ") && !line.contains("umount")).collect();
        assert!(
            mounts.len() == 3
                && mounts
                    .iter()
                    .all(|line| ["proc", "sysfs", "devtmpfs"].iter().any(|kind| line.contains(&format!("-t {kind} ")))),
            "{mounts:?}"
        );
        for word in ["e2fsck", "fsck", "dd ", "mkfs", "ifconfig", "udhcpc", "telnetd", "httpd", "sshd"] {
            assert!(!done.iter().any(|line| line.contains(word)), "{word}");
        }
        assert!(said.iter().any(|line| line.contains("mount -o ro,noload")));
        let modules = fs::read_to_string(files().join("../recipe/disk-modules.txt")).unwrap();
        assert!(!["virtio_net", "e1000", "igb", "r8169"].iter().any(|card| modules.contains(card)));
    }

    #[test]
    fn scripts_are_ones_that_a_shell_reads() {
        for name in ["etc/begin", "etc/profile", "bin/disks"] {
            let checked = Command::new("sh").arg("-n").arg(files().join(name)).output().unwrap();
            assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }

    #[test]
    fn a_program_that_no_package_has_is_named() {
        let empty = tempfile::tempdir().unwrap();
        assert!(archive(&files(), empty.path()).unwrap_err().to_string().contains("busybox"));
    }
}
