//! Other systems than the one that was built: the built bundle is taken apart, something in its root is changed, and the
//! rest is made to fit again. No packages, no compiler.

use anyhow::{Context, Result, bail, ensure};
use raven_boot::verity;
use raven_image::key::Key;
use raven_image::{System, bundle, disk};
use raven_model::update::{Header, Manifest, PartName};
use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is wrong with a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The first process is not there.
    Init,
    /// The first process stands still, and nobody feeds the watchdog.
    Hang,
    /// `ravend` ends at once.
    Ravend,
    /// The collector of syslog is killed by its own jail at its first datagram.
    Collector,
}

/// The first process of a system that hangs: an ELF program of `for (;;) pause()`.
fn pause_program() -> Vec<u8> {
    const CODE: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
    const AT: u64 = 0x40_0000;
    let size = 64 + 56 + CODE.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]); // a program, x86-64, version 1
    for word in [AT + 64 + 56, 64, 0] {
        elf.extend(word.to_le_bytes()); // entry, program headers, no section headers
    }
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]); // loaded, read and execute
    for word in [0, AT, AT, size, size, 4096] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(CODE);
    elf
}

/// The built system, taken apart.
pub struct Built {
    work: PathBuf,
    key: PathBuf,
    rescue: PathBuf,
    manifest: Manifest,
}

impl Built {
    /// Cuts the bundle into its parts, in the empty folder `work`.
    pub fn of(bundle: &Path, key: &Path, work: &Path) -> Result<Self> {
        let bytes = fs::read(bundle).with_context(|| format!("{}; build it: cargo xtask image", bundle.display()))?;
        let start = Header::len(&bytes)?.context("a bundle without a header")?;
        let manifest = Header::cut(&bytes)?.read()?;
        for name in PartName::ALL {
            let from = start + manifest.offset(name) as usize;
            fs::write(work.join(name.name()), &bytes[from..from + manifest.part(name).bytes as usize])?;
        }
        let rescue = bundle.with_file_name(raven_image::RESCUE);
        Ok(Self { work: work.to_owned(), key: key.to_owned(), rescue, manifest })
    }

    /// Its kernel.
    pub fn kernel(&self) -> PathBuf {
        self.work.join("kernel")
    }

    /// A system with a changed root.
    pub fn changed(&self, name: &str, change: impl FnOnce(&Path) -> Result<()>) -> Result<System> {
        let (tree, root) = (self.work.join("tree"), self.work.join(format!("{name}.root")));
        run(Command::new("unsquashfs")
            .args(["-quiet", "-no-progress", "-dest"])
            .arg(&tree)
            .arg(self.work.join("root")))?;
        change(&tree)?;
        let fast = ["-comp", "zstd", "-Xcompression-level", "3", "-b", "256K", "-noappend", "-no-progress", "-quiet"];
        run(Command::new("mksquashfs").arg(&tree).arg(&root).args(fast))?;
        fs::remove_dir_all(&tree)?;
        let (verity, tree) = verity::tree(&mut BufReader::new(File::open(&root)?), name.as_bytes())?;
        let hashes = self.work.join(format!("{name}.hashes"));
        fs::write(&hashes, tree)?;
        let (kernel, initramfs) = (self.work.join("kernel"), self.work.join("initramfs"));
        Ok(System { version: self.manifest.version, root, hashes, verity, kernel, initramfs })
    }

    /// A program of the built system, to be run here.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let to = self.work.join("programs");
        run(Command::new("unsquashfs")
            .args(["-quiet", "-no-progress", "-force", "-dest"])
            .arg(&to)
            .arg(self.work.join("root"))
            .arg(format!("usr/bin/{name}")))?;
        Ok(to.join("usr/bin").join(name))
    }

    /// A system that is broken.
    pub fn broken(&self, how: Broken) -> Result<System> {
        self.changed(&format!("{how:?}"), |tree| {
            let init = tree.join("usr/lib/systemd/systemd");
            match how {
                Broken::Init => fs::remove_file(init)?,
                Broken::Hang => program(&init, &pause_program())?,
                // Another program of ours, which does not know ravend's arguments.
                Broken::Ravend => drop(fs::copy(tree.join("usr/bin/raven"), tree.join("usr/bin/ravend"))?),
                Broken::Collector => other_jail(&tree.join("usr/bin/raven-worker"))?,
            }
            Ok(())
        })
    }

    /// The built system under a name, with something to do once it is well, one command after the other, at its first
    /// start.
    pub fn that_does(&self, name: &str, commands: &[&str]) -> Result<System> {
        let once = format!("/usr/bin/touch /data/{name}");
        let commands: Vec<&str> = std::iter::once(once.as_str()).chain(commands.iter().copied()).collect();
        self.with_unit(name, &format!("ConditionPathExists=!/data/{name}\n"), &commands)
    }

    /// The same, at each start.
    pub fn that_always_does(&self, name: &str, commands: &[&str]) -> Result<System> {
        self.with_unit(name, "", commands)
    }

    fn with_unit(&self, name: &str, condition: &str, commands: &[&str]) -> Result<System> {
        self.changed(name, |tree| {
            let units = tree.join("etc/systemd/system");
            let commands = commands.iter().fold(String::new(), |all, command| all + "ExecStart=-" + command + "\n");
            let unit = format!(
                "[Unit]\nAfter=raven-slot-good.service\n{condition}[Service]\nType=oneshot\n{commands}\
                 StandardOutput=journal+console\nStandardError=journal+console\n"
            );
            fs::write(units.join("raven-test.service"), unit)?;
            let wants = units.join("multi-user.target.wants");
            fs::create_dir_all(&wants)?;
            Ok(symlink("../raven-test.service", wants.join("raven-test.service"))?)
        })
    }

    /// A disk image with `system` in slot A.
    pub fn disk(&self, system: &System) -> Result<PathBuf> {
        let to = self.work.join("image");
        disk::build(system, &self.rescue, &to)?;
        Ok(to)
    }

    /// A bundle of `system`, as a disk.
    pub fn bundle(&self, system: &System) -> Result<PathBuf> {
        let to = system.root.with_extension("bundle");
        bundle::build(system, &Key::read(&self.key)?, self.manifest.made_s, &to)?;
        as_disk(&to)?;
        Ok(to)
    }

    /// The bundle `from` with one bit changed at `at`, as a disk.
    pub fn altered(&self, from: &Path, at: usize) -> Result<PathBuf> {
        let mut bytes = fs::read(from)?;
        bytes[at] ^= 1;
        let to = self.work.join(format!("altered-{at}"));
        fs::write(&to, bytes)?;
        as_disk(&to)?;
        Ok(to)
    }
}

/// Disks are of whole sectors.
fn as_disk(file: &Path) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).open(file)?;
    Ok(file.set_len(file.metadata()?.len().next_multiple_of(1 << 20))?)
}

fn program(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// The process table that is compiled in loses the call by which syslog is received.
fn other_jail(worker: &Path) -> Result<()> {
    let mut bytes = fs::read(worker)?;
    let find = |from: usize, what: &[u8]| bytes[from..].windows(what.len()).position(|w| w == what).map(|at| from + at);
    let role = find(0, b"name = \"syslog\"\nuid").context("the worker has no process table")?;
    let Some(call) = find(role, b"\"recvmmsg\"") else { bail!("syslog is received in another way") };
    bytes[call..call + 10].copy_from_slice(b"\"recvfrom\"");
    program(worker, &bytes)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_program_that_hangs_runs_and_stands_still() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        program(&path, &pause_program()).unwrap();
        let mut child = Command::new(&path).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
