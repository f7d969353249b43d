//! `raven.img`: what is written to a disk as it is. Slot A is filled, B is empty; the data partition is made by the
//! box at its first start, in all the room that is left.

use crate::{System, grub, run};
use anyhow::{Context, Result, ensure};
use raven_boot::gpt::{self, Guid, Partition, TABLE_SECTORS};
use raven_boot::head;
use raven_boot::layout;
use raven_boot::slot_file::{self, KERNEL_ARGUMENTS};
use raven_boot::slots::{Env, Slot};
use raven_boot::{SECTOR, verity};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which file tells GRUB that it found the right file system.
const MARKER: &str = "/raven/grubenv";

/// Writes the image; `rescue` is what lies beside the slots.
pub fn build(system: &System, rescue: &Path, to: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let id = |what: &str| identity(system, what);
    let partitions = layout::partitions(id);
    let sectors = layout::image_sectors(&partitions);
    let table = gpt::write(id("disk"), sectors, &partitions);
    let part = |name: &str| partitions.iter().find(|p| p.name == name).expect("it is in the list above");

    let mut disk = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    disk.set_len(sectors * SECTOR)?;
    put(&mut disk, 0, &table.front)?;
    put(&mut disk, sectors - TABLE_SECTORS, &table.back)?;
    let core = grub::image(grub::Start::BiosDisk, MARKER, work.path())?;
    let (boot, core) = grub::bios(&core, part("raven-bios").first)?;
    ensure!(core.len() as u64 <= part("raven-bios").sectors * SECTOR, "GRUB does not fit its partition");
    put(&mut disk, 0, &boot)?;
    put(&mut disk, part("raven-bios").first, &core)?;
    for (name, file) in [
        ("raven-esp", esp(system, rescue, work.path())?),
        ("raven-A", system.root.clone()),
        ("raven-A-hashes", system.hashes.clone()),
    ] {
        copy(&file, &mut disk, part(name))?;
    }
    Ok(disk.sync_all()?)
}

/// Appends what the medium carries of a disk: the boot loader and the EFI system partition, cut out of a disk image.
pub fn append_head(image: &Path, to: &Path) -> Result<()> {
    let mut disk = File::open(image).with_context(|| format!("cannot read {}", image.display()))?;
    let mut head = head::Writer::new(io::BufWriter::new(File::options().append(true).open(to)?))?;
    let mut boot = [0; 440];
    disk.read_exact(&mut boot)?;
    head.add(0, &boot)?;
    for partition in layout::partitions(|_| Guid(0)).iter().filter(|p| p.kind == gpt::BIOS_BOOT || p.kind == gpt::ESP) {
        let mut bytes = vec![0; (partition.sectors * SECTOR) as usize];
        disk.seek(SeekFrom::Start(partition.first * SECTOR))?;
        disk.read_exact(&mut bytes)?;
        head.add(partition.first * SECTOR, &bytes)?;
    }
    head.finish()?;
    // A partition is made of whole sectors, of which a CD's are the largest.
    let len = fs::metadata(to)?.len().next_multiple_of(2048);
    Ok(File::options().write(true).open(to)?.set_len(len)?)
}

/// Every disk from one image has the same identities, and every image its own: they follow from what is in it.
fn identity(system: &System, what: &str) -> Guid {
    let mut bytes = what.as_bytes();
    let (named, _) = verity::tree(&mut bytes, &system.verity.root).expect("a name is not empty");
    let random = u128::from_be_bytes(named.root[..16].try_into().expect("sixteen of 32"));
    // Version 4, variant 1 (RFC 9562).
    Guid(random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62)
}

/// The EFI system partition as a file.
fn esp(system: &System, rescue: &Path, work: &Path) -> Result<PathBuf> {
    let efi = grub::image(grub::Start::Efi, MARKER, work)?;
    let text = |name: &str, content: &[u8]| {
        let path = work.join(name);
        fs::write(&path, content).map(|()| path)
    };
    let files = [
        (efi, "/EFI/BOOT/BOOTX64.EFI"),
        (text("grub.cfg", grub::of_disk().as_bytes())?, "/raven/grub.cfg"),
        (text("grubenv", &Env::new().block()?)?, "/raven/grubenv"),
        (
            text("slot.cfg", slot_file::text(system.version, &system.verity, KERNEL_ARGUMENTS).as_bytes())?,
            &format!("/raven/{}/slot.cfg", Slot::A),
        ),
        (system.kernel.clone(), "/raven/A/kernel"),
        (system.initramfs.clone(), "/raven/A/initramfs"),
        (rescue.to_owned(), crate::rescue::PLACE),
    ];
    let folders = ["/EFI", "/EFI/BOOT", "/raven", "/raven/A", "/raven/B"];
    fat(&work.join("esp"), layout::ESP_MIB << 20, &folders, &files)
}

/// A FAT file system with these files. Clusters of 4 KiB: GRUB reads those of 512 bytes slowly.
pub fn fat(to: &Path, bytes: u64, folders: &[&str], files: &[(PathBuf, &str)]) -> Result<PathBuf> {
    File::create(to)?.set_len(bytes)?;
    let cluster = if bytes > 32 << 20 { "8" } else { "4" };
    let bits = if bytes > 32 << 20 { "16" } else { "12" };
    run::must(Command::new("mkfs.vfat").args(["--invariant", "-F", bits, "-s", cluster, "-n", "RAVENESP"]).arg(to))?;
    let tool = |name: &str| {
        let mut command = Command::new(name);
        // The same times each time; 1980 is where those of FAT begin.
        command.env("MTOOLS_SKIP_CHECK", "1").env("SOURCE_DATE_EPOCH", "315532800").env("TZ", "UTC").arg("-i").arg(to);
        command
    };
    for folder in folders {
        run::must(tool("mmd").arg(format!("::{folder}")))?;
    }
    for (file, name) in files {
        run::must(tool("mcopy").arg(file).arg(format!("::{name}")))?;
    }
    Ok(to.to_owned())
}

fn put(disk: &mut File, sector: u64, bytes: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(sector * SECTOR))?;
    disk.write_all(bytes)
}

/// Copies a file into its partition; stretches of zeroes stay holes.
fn copy(from: &Path, disk: &mut File, to: &Partition) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    ensure!(
        bytes.len() as u64 <= to.sectors * SECTOR,
        "{} ({} bytes) does not fit {}",
        from.display(),
        bytes.len(),
        to.name
    );
    for (n, chunk) in bytes.chunks(1 << 16).enumerate() {
        if chunk.iter().any(|byte| *byte != 0) {
            put(disk, to.first + n as u64 * (1 << 16) / SECTOR, chunk)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn identities_follow_from_the_image() {
        let system = |root| System {
            version: raven_model::update::FLOOR,
            root: PathBuf::new(),
            hashes: PathBuf::new(),
            verity: verity::Verity { root, blocks: 1, salt: vec![] },
            kernel: PathBuf::new(),
            initramfs: PathBuf::new(),
        };
        let (one, other) = (system([1; 32]), system([2; 32]));
        assert_eq!(identity(&one, "disk"), identity(&one, "disk"));
        assert_ne!(identity(&one, "disk"), identity(&one, "raven-A"));
        assert_ne!(identity(&one, "disk"), identity(&other, "disk"));
        let text = identity(&one, "disk").to_string();
        assert!(text.as_bytes()[14] == b'4' && b"89ab".contains(&text.as_bytes()[19]), "{text}");
    }
}
