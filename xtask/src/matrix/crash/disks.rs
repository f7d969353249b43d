//! Disks that fail.

use crate::build::must;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// An ext4 of its own on a loop device; gone when dropped.
pub struct Ext4 {
    at: PathBuf,
    image: PathBuf,
    device: String,
}

impl Ext4 {
    /// 512 MiB, mounted at `at`; its bytes lie beside.
    pub fn mount(at: &Path) -> Result<Self> {
        Self::with(at, &at.with_extension("image"), 512)
    }

    fn with(at: &Path, image: &Path, mib: u64) -> Result<Self> {
        fs::create_dir_all(at)?;
        File::create(image)?.set_len(mib << 20)?;
        must(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
        let mut this = Self { at: at.to_owned(), image: image.to_owned(), device: String::new() };
        this.attach()?;
        this.mount_again()?;
        Ok(this)
    }

    fn attach(&mut self) -> Result<()> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&self.image).output().context("losetup")?;
        String::from_utf8_lossy(&output.stdout).trim().clone_into(&mut self.device);
        if self.device.is_empty() {
            bail!("losetup: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn detach(&self) -> Result<()> {
        must(Command::new("losetup").args(["--detach", &self.device]))
    }

    fn mount_again(&self) -> Result<()> {
        must(Command::new("mount").args(["-o", "errors=remount-ro", &self.device]).arg(&self.at))
    }

    fn unmount(&self) -> Result<()> {
        patiently(|| must(Command::new("umount").arg(&self.at)))
    }

    /// The kernel meets an error in it, and takes no write from there on.
    pub fn stop_writing(&self) -> Result<()> {
        let name = self.device.rsplit('/').next().unwrap_or_default();
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "raven").context("ext4's own way to fail")
    }

    /// What an operator does then. Nobody may use it.
    pub fn check(&mut self) -> Result<()> {
        self.unmount()?;
        self.check_and_mount()
    }

    fn check_and_mount(&self) -> Result<()> {
        patiently(|| {
            let mut check = Command::new("e2fsck");
            let status = check.args(["-fy", &self.device]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            // 1: errors were corrected.
            if status.code().is_none_or(|code| code > 1) {
                bail!("e2fsck: {status}");
            }
            Ok(())
        })?;
        self.mount_again()
    }
}

/// Again for ten seconds: workers of a ravend that was killed hold the mount for a moment.
fn patiently(mut what: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..100 {
        if what().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    what()
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        drop(must(Command::new("umount").arg("--lazy").arg(&self.at)));
        drop(self.detach());
    }
}

/// The same on a disk that can fail below it: its bytes lie in another one.
pub struct OnFailing {
    // Dropped in this order.
    disk: Ext4,
    below: Ext4,
}

impl OnFailing {
    /// Mounted at `at`.
    pub fn mount(at: &Path) -> Result<Self> {
        let below = Ext4::with(&at.with_extension("below"), &at.with_extension("image"), 400)?;
        let disk = Ext4::with(at, &below.at.join("image"), 200)?;
        Ok(Self { disk, below })
    }

    /// Every write of the disk is answered with an error by the device below: EIO, as a dying disk has it.
    pub fn fail(&self) -> Result<()> {
        self.below.stop_writing()
    }

    /// A sound disk with the same bytes. Nobody may use it.
    pub fn check(&mut self) -> Result<()> {
        self.disk.unmount()?;
        self.disk.detach()?;
        self.below.check()?;
        self.disk.attach()?;
        self.disk.check_and_mount()
    }
}
