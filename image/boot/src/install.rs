//! Puts a system from the installation medium on a disk: slot A filled, B empty, data to be made at the first start.
//!
//! The partition table is written last, so that a disk on which the power went is one without a system, never one with
//! half of it. Each disk gets identities of its own.

use crate::gpt::{self, Guid, Partition, TABLE_SECTORS, mib};
use crate::head::{HeadError, PIECE, Reader};
use crate::{SECTOR, layout};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The medium cannot be read.
    #[error("the medium: {0}")]
    Medium(#[source] io::Error),
    /// It is no installation medium.
    #[error("the medium: {0}")]
    Table(#[from] gpt::GptError),
    /// It is one without what is needed.
    #[error("this medium cannot install: it carries no {0}")]
    Lacks(&'static str),
    /// The boot loader's part of it.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The disk cannot be written.
    #[error("the disk: {0}")]
    Disk(#[source] io::Error),
    /// Too small.
    #[error("the disk has {0} MiB; Raven needs {1}")]
    Small(u64, u64),
}

/// A place on the medium.
struct Place {
    at: u64,
    bytes: u64,
}

/// Installs; `sectors` are those of the disk, `id` gives identities, `told` is told of bytes done and in all.
///
/// # Errors
/// The medium or the disk; the disk has no system then.
pub fn install(
    medium: &mut (impl Read + Seek),
    disk: &mut (impl Write + Seek),
    sectors: u64,
    id: impl Fn(&str) -> Guid,
    mut told: impl FnMut(u64, u64),
) -> Result<(), InstallError> {
    let least = layout::least_disk();
    if sectors * SECTOR < least {
        return Err(InstallError::Small((sectors * SECTOR) >> 20, least >> 20));
    }
    let found = look(medium)?;
    let [root, hashes, head] = &found;
    let partitions = layout::partitions(&id);
    let part = |name: &str| partitions.iter().find(|p| p.name == name).ok_or(InstallError::Lacks("such partition"));
    let (total, mut done) = (found.iter().map(|place| place.bytes).sum(), 0);
    let mut report = |more: u64| {
        done += more;
        told(done, total);
    };

    forget(disk, &partitions, sectors).map_err(InstallError::Disk)?;
    medium.seek(SeekFrom::Start(head.at)).map_err(InstallError::Medium)?;
    let mut pieces = Reader::new(BufReader::new(medium.by_ref().take(head.bytes)))?;
    let end = part("raven-esp")?.first * SECTOR + mib(layout::ESP_MIB) * SECTOR;
    let mut boot = Vec::new();
    while let Some(piece) = pieces.piece()? {
        report(piece.bytes.len() as u64);
        if piece.at == 0 {
            // Goes with the table, into the same sector.
            boot = piece.bytes;
        } else if piece.at < mib(1) * SECTOR || piece.at + piece.bytes.len() as u64 > end {
            return Err(InstallError::Lacks("head for this layout"));
        } else {
            put(disk, piece.at, &piece.bytes).map_err(InstallError::Disk)?;
        }
    }
    for (place, to) in [(root, part("raven-A")?), (hashes, part("raven-A-hashes")?)] {
        if place.bytes > to.sectors * SECTOR {
            return Err(InstallError::Lacks("system that fits a slot"));
        }
        copy(medium, place, disk, to.first * SECTOR, &mut report)?;
    }
    let table = gpt::write(id("disk"), sectors, &partitions);
    let mut front = table.front;
    front[..boot.len().min(440)].copy_from_slice(&boot[..boot.len().min(440)]);
    disk.flush().map_err(InstallError::Disk)?;
    put(disk, (sectors - TABLE_SECTORS) * SECTOR, &table.back).map_err(InstallError::Disk)?;
    put(disk, 0, &front).and_then(|()| disk.flush()).map_err(InstallError::Disk)
}

/// Root, hash tree and head.
fn look(medium: &mut (impl Read + Seek)) -> Result<[Place; 3], InstallError> {
    let mut front = vec![0; (gpt::READ_SECTORS * SECTOR) as usize];
    medium.rewind().and_then(|()| medium.read_exact(&mut front)).map_err(InstallError::Medium)?;
    let partitions = gpt::read(&front)?;
    let place = |kind, what| -> Result<Place, InstallError> {
        let found = partitions.iter().find(|p| p.kind == kind).ok_or(InstallError::Lacks(what))?;
        Ok(Place { at: found.first * SECTOR, bytes: found.sectors * SECTOR })
    };
    let mut head = place(gpt::ESP, "boot loader")?;
    head.at += layout::MEDIUM_EFI;
    head.bytes = head.bytes.checked_sub(layout::MEDIUM_EFI).ok_or(InstallError::Lacks("boot loader"))?;
    Ok([place(gpt::ROOT, "root")?, place(gpt::HASHES, "hash tree")?, head])
}

/// What was on the disk is not found again: neither its tables nor a file system where ours will lie.
fn forget(disk: &mut (impl Write + Seek), partitions: &[Partition], sectors: u64) -> io::Result<()> {
    let zeroes = vec![0; (mib(1) * SECTOR) as usize];
    put(disk, 0, &zeroes)?;
    put(disk, (sectors - TABLE_SECTORS) * SECTOR, &zeroes[..(TABLE_SECTORS * SECTOR) as usize])?;
    let data = partitions.iter().map(|p| p.first + p.sectors).max().unwrap_or_default();
    let esp = partitions.iter().filter(|p| p.kind == gpt::ESP || p.kind == gpt::BIOS_BOOT);
    for first in esp.map(|p| p.first).chain([data]) {
        put(disk, first * SECTOR, &zeroes)?;
    }
    // The tables of the file system that lay here are found in its first MiB, but for copies of no use without them;
    // what the head leaves out as zero must be zero.
    for partition in partitions.iter().filter(|p| p.kind == gpt::ESP) {
        for n in 1..partition.sectors / mib(1) {
            put(disk, (partition.first + mib(n)) * SECTOR, &zeroes)?;
        }
    }
    disk.flush()
}

fn copy(
    medium: &mut (impl Read + Seek),
    place: &Place,
    disk: &mut (impl Write + Seek),
    to: u64,
    report: &mut impl FnMut(u64),
) -> Result<(), InstallError> {
    medium.seek(SeekFrom::Start(place.at)).map_err(InstallError::Medium)?;
    disk.seek(SeekFrom::Start(to)).map_err(InstallError::Disk)?;
    let (mut left, mut piece) = (place.bytes, vec![0; 16 * PIECE]);
    while left > 0 {
        let len = left.min(piece.len() as u64) as usize;
        medium.read_exact(&mut piece[..len]).map_err(InstallError::Medium)?;
        disk.write_all(&piece[..len]).map_err(InstallError::Disk)?;
        left -= len as u64;
        report(len as u64);
    }
    Ok(())
}

fn put(disk: &mut (impl Write + Seek), at: u64, bytes: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(at))?;
    disk.write_all(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::head::Writer;
    use std::fs::File;

    /// A medium with a root of ones and a hash tree of twos.
    fn medium(head: &[u8]) -> File {
        let part = |kind, first, sectors| Partition { kind, id: Guid(1), first, sectors, name: String::new() };
        let parts = [
            part(gpt::ROOT, 2048, 4096),
            part(gpt::HASHES, 8192, 64),
            part(gpt::ESP, 16384, mib(4) + (head.len() as u64).div_ceil(SECTOR)),
        ];
        let table = gpt::write(Guid(2), 32768, &parts);
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(32768 * SECTOR).unwrap();
        put(&mut file, 0, &table.front).unwrap();
        put(&mut file, 2048 * SECTOR, &vec![1; 4096 * 512]).unwrap();
        put(&mut file, 8192 * SECTOR, &vec![2; 64 * 512]).unwrap();
        put(&mut file, (16384 + mib(4)) * SECTOR, head).unwrap();
        file
    }

    fn head() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut head = Writer::new(&mut bytes).unwrap();
        head.add(0, &[0xeb; 440]).unwrap();
        head.add(2 << 20, b"an EFI system partition").unwrap();
        head.finish().unwrap();
        bytes
    }

    /// A disk full of what was there before.
    fn disk(mib: u64) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(mib << 20).unwrap();
        for at in [0, 1, 2, 50, 97, mib - 1] {
            put(&mut file, at << 20, &vec![0xaa; 1 << 20]).unwrap();
        }
        file
    }

    fn read(file: &mut File, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).unwrap();
        bytes
    }

    #[test]
    fn a_disk_gets_everything_and_keeps_nothing_of_before() {
        let (mut disk, sectors) = (disk(1024), 1024 * 2048);
        let mut steps = Vec::new();
        let id = |name: &str| Guid(name.len() as u128);
        install(&mut medium(&head()), &mut disk, sectors, id, |done, total| steps.push((done, total))).unwrap();
        let front = read(&mut disk, 0, (gpt::READ_SECTORS * SECTOR) as usize);
        assert_eq!(&front[..440], [0xeb; 440]);
        let partitions = gpt::read(&front).unwrap();
        assert_eq!(partitions, layout::partitions(id));
        let at = |name: &str| partitions.iter().find(|p| p.name == name).unwrap().first * SECTOR;
        assert_eq!(read(&mut disk, at("raven-esp"), 24), b"an EFI system partition\0");
        assert_eq!(read(&mut disk, at("raven-A"), 4096 * 512), vec![1; 4096 * 512]);
        assert_eq!(read(&mut disk, at("raven-A-hashes"), 64 * 512), vec![2; 64 * 512]);
        assert!(read(&mut disk, 50 << 20, 1 << 20).iter().chain(&read(&mut disk, 97 << 20, 1 << 20)).all(|b| *b == 0));
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0) && steps.iter().all(|(done, total)| done <= total));
    }

    #[test]
    fn a_medium_that_cannot_be_read_leaves_a_disk_without_a_system() {
        let mut damaged = head();
        damaged[40] ^= 1;
        let mut target = disk(1024);
        let error = install(&mut medium(&damaged), &mut target, 1024 * 2048, |_| Guid(1), |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        assert!(gpt::read(&read(&mut target, 0, 64 * 512)).is_err());
    }

    #[test]
    fn a_head_cannot_write_beyond_its_part_of_the_disk() {
        let mut bytes = Vec::new();
        let mut head = Writer::new(&mut bytes).unwrap();
        head.add(500 << 20, b"x").unwrap();
        head.finish().unwrap();
        let error = install(&mut medium(&bytes), &mut disk(1024), 1024 * 2048, |_| Guid(1), |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("layout"), "{error}");
    }

    #[test]
    fn a_disk_that_is_too_small_is_left_alone() {
        let mut small = disk(512);
        let error = install(&mut medium(&head()), &mut small, 512 * 2048, |_| Guid(1), |_, _| {}).unwrap_err();
        assert!(error.to_string().starts_with("the disk has 512 MiB; Raven needs "), "{error}");
        assert_eq!(read(&mut small, 0, 4), [0xaa; 4]);
    }
}
