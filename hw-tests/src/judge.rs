//! What a power cut left on a disk, judged on this machine as the box would take it: by the boot loader's rules, by the
//! hash tree, by e2fsck and the ring's own recovery.

use anyhow::{Context, Result, bail, ensure};
use raven_boot::cmdline;
use raven_boot::gpt::{self, Partition};
use raven_boot::slots::{Env, Slot};
use raven_boot::verity;
use raven_boot::{SECTOR, slot_file};
use raven_buffer::verify::verify;
use raven_buffer::{Block, Found, RingReader, RingWriter, WriterOptions};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A disk image.
pub struct Image {
    path: PathBuf,
    partitions: Vec<Partition>,
}

impl Image {
    /// Reads its partition table.
    pub fn of(path: &Path) -> Result<Self> {
        let mut front = vec![0; (gpt::READ_SECTORS * SECTOR) as usize];
        File::open(path)?.read_exact(&mut front)?;
        Ok(Self { path: path.to_owned(), partitions: gpt::read(&front)? })
    }

    fn partition(&self, name: &str) -> Result<&Partition> {
        self.partitions.iter().find(|part| part.name == name).with_context(|| format!("no partition {name}"))
    }

    /// Where a partition begins, in bytes.
    pub fn at(&self, name: &str) -> Result<u64> {
        Ok(self.partition(name)?.first * SECTOR)
    }

    /// A file of the EFI system partition, by its chain of clusters.
    fn boot_file(&self, name: &str) -> Result<Vec<u8>> {
        let at = self.at("raven-esp")?;
        let from = format!("{}@@{at}", self.path.display());
        let output = Command::new("mcopy").args(["-n", "-i", &from, &format!("::/raven/{name}"), "-"]).output();
        let output = output.context("mcopy (package mtools)")?;
        ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(output.stdout)
    }

    /// What GRUB is told.
    pub fn env(&self) -> Result<Env> {
        Ok(Env::parse(&self.boot_file("grubenv")?)?)
    }

    /// Whether a slot's kernel, initramfs and root belong together and are whole: the files are compared with those of
    /// `systems`, the root with its hash tree's root.
    pub fn slot(&self, slot: Slot, systems: &[Known]) -> Result<()> {
        let text = String::from_utf8(self.boot_file(&format!("{slot}/slot.cfg"))?)?;
        slot_file::version(&text).context("slot.cfg without a version")?;
        let root = text.lines().find_map(|line| line.strip_prefix("set verity=")).context("slot.cfg without a root")?;
        let root = cmdline::parse(&format!("raven.slot={slot} raven.verity={root}"))?.verity;
        let known = systems.iter().find(|system| system.root == root.root).context("a root that nobody built")?;
        for (name, hash) in [("kernel", &known.kernel), ("initramfs", &known.initramfs)] {
            let bytes = self.boot_file(&format!("{slot}/{name}"))?;
            ensure!(Sha256::digest(&bytes).as_slice() == hash, "{name} of slot {slot} is not that of its system");
        }
        let mut disk = File::open(&self.path)?;
        disk.seek(SeekFrom::Start(self.at(&format!("raven-{slot}"))?))?;
        let mut data = BufReader::with_capacity(1 << 20, disk).take(root.blocks * 4096);
        let (found, _) = verity::tree(&mut data, &root.salt)?;
        ensure!(found.root == root.root, "the root of slot {slot} is not the one that slot.cfg names");
        Ok(())
    }

    /// The slot that is started next; it is whole, and so is each one that the boot loader would fall back to.
    pub fn starts(&self, systems: &[Known]) -> Result<Slot> {
        let env = self.env()?;
        for slot in [Slot::A, Slot::B] {
            let state = env.state(slot);
            if state.filled && state.tries > 0 {
                self.slot(slot, systems).with_context(|| format!("slot {slot}, {} tries left", state.tries))?;
            }
        }
        env.next().context("the boot loader finds no slot")
    }

    /// Mounts the data partition as the box does: after e2fsck.
    pub fn data(&self, work: &Path) -> Result<Mounted> {
        let part = self.partition("raven-data")?;
        let (at, bytes) = (part.first * SECTOR, part.sectors * SECTOR);
        let place = work.join("mounted");
        fs::create_dir_all(&place)?;
        let device = Loop::of(&self.path, at, bytes)?;
        // 1: errors that are corrected. Preen, as at each start.
        let check = Command::new("e2fsck").args(["-p"]).arg(&device.0).output().context("e2fsck")?;
        if check.status.code().is_none_or(|code| code > 1) {
            let said = [check.stdout, check.stderr].concat();
            bail!("e2fsck, {}: {}", check.status, String::from_utf8_lossy(&said).trim());
        }
        let mount = Command::new("mount").args(["-t", "ext4", "-o", "noatime"]).arg(&device.0).arg(&place).output()?;
        ensure!(mount.status.success(), "mount: {}", String::from_utf8_lossy(&mount.stderr).trim());
        Ok(Mounted { place, _device: device })
    }
}

/// A system that was built: what its files must be.
#[derive(Debug, Clone)]
pub struct Known {
    /// Root of its hash tree.
    pub root: [u8; 32],
    /// SHA-256.
    pub kernel: Vec<u8>,
    /// SHA-256.
    pub initramfs: Vec<u8>,
}

impl Known {
    /// Of a system's files.
    pub fn of(system: &raven_image::System) -> Result<Self> {
        let hash = |path: &Path| anyhow::Ok(Sha256::digest(fs::read(path)?).to_vec());
        Ok(Self { root: system.verity.root, kernel: hash(&system.kernel)?, initramfs: hash(&system.initramfs)? })
    }
}

struct Loop(String);

impl Loop {
    fn of(file: &Path, at: u64, bytes: u64) -> Result<Self> {
        let mut set = Command::new("losetup");
        set.args(["--find", "--show", "--offset", &at.to_string(), "--sizelimit", &bytes.to_string()]).arg(file);
        let output = set.output().context("losetup")?;
        ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self(String::from_utf8(output.stdout)?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// The data partition, until this value goes.
pub struct Mounted {
    place: PathBuf,
    _device: Loop,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Before its device goes. One that stayed would write into the next image, which would be blamed for it.
        let gone = Command::new("umount").arg(&self.place).status().is_ok_and(|status| status.success());
        assert!(gone || std::thread::panicking(), "{} cannot be unmounted", self.place.display());
    }
}

impl Mounted {
    /// Opens the ring as the store does at its start, has it verified, and returns the numbers that stand behind `mark`
    /// in its syslog messages.
    pub fn numbers(&self, mark: &str) -> Result<BTreeSet<u64>> {
        let ring = self.place.join("ring");
        let options = WriterOptions {
            // As large as on the box: the segments that a ring is given follow from it, and must have room.
            quota_bytes: 3 << 30,
            segment_bytes: None,
            keep: Duration::from_hours(24),
            boot_id: [7; 16],
        };
        let (writer, recovery) = RingWriter::open(&ring, "syslog", options)?;
        ensure!(recovery.notes.is_empty(), "recovery: {}", recovery.notes.join("; "));
        let mut numbers = BTreeSet::new();
        let mut take = |block: &Block| {
            for (_, record) in block.records() {
                let text = String::from_utf8_lossy(record.raw);
                let number = text.split_once(mark).and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
                numbers.extend(number);
            }
        };
        let mut reader = RingReader::open(&ring, "syslog")?;
        let mut at = writer.first_seq();
        while at < writer.next_seq() {
            match reader.find(at)? {
                Found::Block(block) => {
                    take(&block);
                    at = block.next();
                }
                Found::Before { first } => at = first,
                Found::Gap { why, .. } => bail!("record {at} cannot be read: {why}"),
                Found::Open => {
                    let Some((first, bytes)) = writer.block_at(at)? else { break };
                    let block = Block::decode(first, &bytes)?;
                    take(&block);
                    at = block.next();
                }
            }
        }
        drop(writer);
        let problems = verify(&ring, "syslog", |_| {})?.problems;
        ensure!(problems.is_empty(), "verify: {}", problems.join("; "));
        Ok(numbers)
    }
}

/// A copy that may be changed; holes stay holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("--sparse=always").args([from, to]).status()?;
    ensure!(copied.success(), "{} could not be copied", from.display());
    Ok(())
}
