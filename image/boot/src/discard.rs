//! A factory reset: the data partition is taken out of the disk's partition table. Whatever lies in it is never looked at
//! again; the box makes a new one at its next start, as at its first.
//!
//! The partition is named by its identity, so that an order is good for this one only: its successor has another.
//! The table lies on the disk twice. The second one is written and synced first, then the first: whenever the power goes,
//! one of the two is whole, and it is the old table or the new one (GRUB has the kernel look at both: its argument `gpt`).

use crate::SECTOR;
use crate::gpt::{self, ENTRY, Guid, READ_SECTORS, TABLE_SECTORS, header_sum, long};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// The partition was not taken out.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// The disk.
    #[error("the disk: {0}")]
    Disk(#[from] io::Error),
    /// Its table.
    #[error(transparent)]
    Table(#[from] gpt::GptError),
}

/// A disk whose writes can be made to last.
pub trait Disk: Read + Write + Seek {
    /// All that was written is there also after a power cut.
    ///
    /// # Errors
    /// It is not.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for std::fs::File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// The data partition of a disk.
///
/// # Errors
/// The disk or its table cannot be read.
pub fn data_partition(disk: &mut (impl Read + Seek)) -> Result<Option<Guid>, DiscardError> {
    let front = read(disk, 0, READ_SECTORS)?;
    Ok(gpt::read(&front)?.iter().find(|partition| partition.kind == gpt::DATA).map(|partition| partition.id))
}

/// Takes the data partition `id` out of the table. False when there is none of that identity: all is as it was.
///
/// # Errors
/// Disk or table; another start may try again.
pub fn discard(disk: &mut impl Disk, id: Guid) -> Result<bool, DiscardError> {
    let front = read(disk, 0, READ_SECTORS)?;
    let (header, entries) = gpt::checked(&front)?;
    let is_meant = |entry: &&[u8]| gpt::partition(entry).is_some_and(|found| found.kind == gpt::DATA && found.id == id);
    let Some(place) = entries.chunks(ENTRY).position(|entry| is_meant(&entry)) else { return Ok(false) };
    let mut entries = entries.to_vec();
    entries[place * ENTRY..][..ENTRY].fill(0);

    let (own, other, entries_at) = (long(header, 24), long(header, 32), long(header, 72));
    let back_at = other.checked_sub(TABLE_SECTORS - 1).filter(|at| *at > long(header, 48));
    let back_at = back_at.ok_or(gpt::GptError::Form("no room for its second copy"))?;
    if entries.len() as u64 > (TABLE_SECTORS - 1) * SECTOR {
        return Err(gpt::GptError::Form("more entries than Raven writes").into());
    }
    for (own, other, entries_at) in [(other, own, back_at), (own, other, entries_at)] {
        put(disk, entries_at, &entries)?;
        put(disk, own, &with(header, own, other, entries_at, &entries))?;
        disk.sync()?;
    }
    Ok(true)
}

/// A header like `header` for the copy that lies at sector `own`.
fn with(header: &[u8], own: u64, other: u64, entries_at: u64, entries: &[u8]) -> Vec<u8> {
    let mut header = header.to_vec();
    for (at, sector) in [(24, own), (32, other), (72, entries_at)] {
        header[at..at + 8].copy_from_slice(&sector.to_le_bytes());
    }
    header[88..92].copy_from_slice(&crc32fast::hash(entries).to_le_bytes());
    let sum = header_sum(&header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

fn read(disk: &mut (impl Read + Seek), sector: u64, sectors: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (sectors * SECTOR) as usize];
    disk.seek(SeekFrom::Start(sector * SECTOR))?;
    disk.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn put(disk: &mut (impl Write + Seek), sector: u64, bytes: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(sector * SECTOR))?;
    disk.write_all(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gpt::{Partition, mib};
    use crate::layout;
    use std::io::Cursor;
    use std::process::Command;

    const DATA: Guid = Guid(77);
    const SECTORS: u64 = mib(800);

    fn partitions() -> Vec<Partition> {
        let mut partitions = layout::partitions(|_| Guid(7));
        let end = partitions.iter().map(|p| p.first + p.sectors).max().unwrap();
        let name = layout::DATA_NAME.to_owned();
        partitions.push(Partition { kind: gpt::DATA, id: DATA, first: end, sectors: mib(256), name });
        partitions
    }

    /// Of the disk only its two ends are kept. What was not synced may be lost, each sector by itself.
    struct Ends {
        at: u64,
        bytes: Vec<(u64, Vec<u8>)>,
        /// Each write of a sector since the last sync, and how many writes and syncs may still be done.
        loose: Vec<(u64, Vec<u8>)>,
        left: usize,
    }

    impl Ends {
        fn new() -> Self {
            let table = gpt::write(Guid(1), SECTORS, &partitions());
            let mut front = table.front;
            front.resize((READ_SECTORS * SECTOR) as usize, 0);
            let back_at = (SECTORS - TABLE_SECTORS) * SECTOR;
            Self { at: 0, bytes: vec![(0, front), (back_at, table.back)], loose: Vec::new(), left: usize::MAX }
        }

        fn part(&mut self, at: u64, length: usize) -> &mut [u8] {
            let holds = |(first, bytes): &&mut (u64, Vec<u8>)| (*first..*first + bytes.len() as u64).contains(&at);
            let (first, bytes) = self.bytes.iter_mut().find(holds).unwrap();
            &mut bytes[(at - *first) as usize..][..length]
        }

        fn step(&mut self) -> io::Result<()> {
            self.left = self.left.checked_sub(1).ok_or_else(|| io::Error::other("the power is gone"))?;
            Ok(())
        }

        /// The power is gone: of what was not synced, those sectors stay of which `stays` is true.
        fn cut(&mut self, stays: impl Fn(usize) -> bool) {
            let loose: Vec<_> = std::mem::take(&mut self.loose);
            for (n, (at, sector)) in loose.into_iter().enumerate() {
                if stays(n) {
                    self.part(at, 512).copy_from_slice(&sector);
                }
            }
        }

        /// What the kernel takes, with `gpt` on its command line: the first table, or the one at the end of the disk.
        fn kernel(&mut self) -> Vec<Partition> {
            let front = self.part(0, (READ_SECTORS * SECTOR) as usize).to_vec();
            gpt::read(&front).unwrap_or_else(|_| {
                let back = self.part((SECTORS - TABLE_SECTORS) * SECTOR, (TABLE_SECTORS * SECTOR) as usize).to_vec();
                let (entries, header) = back.split_at(back.len() - 512);
                assert_eq!(long(header, 72), SECTORS - TABLE_SECTORS);
                // The same as a first table, but for where its entries are.
                let mut front = vec![0; 512];
                front.extend(with(header, 1, SECTORS - 1, 2, entries));
                assert_eq!(header[88..92], front[512 + 88..512 + 92], "the second table's list is torn");
                assert_eq!(header[16..20], header_sum(header).to_le_bytes(), "the second table's header is torn");
                front.extend(entries);
                gpt::read(&front).unwrap()
            })
        }
    }

    impl Read for Ends {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let at = self.at;
            buffer.copy_from_slice(self.part(at, buffer.len()));
            Ok(buffer.len())
        }
    }

    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            for sector in bytes.chunks(512) {
                self.step()?;
                self.loose.push((self.at, sector.to_vec()));
                self.at += 512;
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Ends {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            let SeekFrom::Start(at) = to else { return Err(io::Error::other("from the start only")) };
            self.at = at;
            Ok(at)
        }
    }

    impl Disk for Ends {
        fn sync(&mut self) -> io::Result<()> {
            self.step()?;
            self.cut(|_| true);
            Ok(())
        }
    }

    #[test]
    fn the_data_partition_goes_and_all_others_stay() {
        let mut disk = Ends::new();
        assert_eq!(data_partition(&mut disk).unwrap(), Some(DATA));
        assert!(discard(&mut disk, DATA).unwrap());
        assert_eq!(disk.kernel(), partitions()[..6]);
        assert_eq!(data_partition(&mut disk).unwrap(), None);
        // An order that stays behind finds nothing.
        assert!(!discard(&mut disk, DATA).unwrap());
    }

    #[test]
    fn an_order_is_good_for_one_partition_and_for_data_only() {
        for id in [Guid(78), Guid(7), Guid(0)] {
            let mut disk = Ends::new();
            assert!(!discard(&mut disk, id).unwrap());
            assert_eq!((disk.kernel(), disk.loose.len()), (partitions(), 0), "{id}");
        }
    }

    #[test]
    fn whenever_the_power_goes_the_table_is_the_old_one_or_the_new_one_and_the_next_start_ends_it() {
        let writes = 2 * (32 + 1 + 1);
        for left in 0..writes {
            // What of the unsynced sectors is there: none, all, the first, the last, every other one.
            let stays: [fn(usize) -> bool; 5] = [|_| false, |_| true, |n| n == 0, |n| n >= 32, |n| n.is_multiple_of(2)];
            for stays in stays {
                let mut disk = Ends::new();
                disk.left = left;
                assert!(discard(&mut disk, DATA).is_err(), "{left}");
                disk.cut(stays);
                disk.left = usize::MAX;
                let partitions_then = disk.kernel();
                assert!(partitions_then == partitions() || partitions_then == partitions()[..6], "{left}");
                if partitions_then == partitions() {
                    assert!(discard(&mut disk, DATA).unwrap(), "{left}");
                    assert_eq!(disk.kernel(), partitions()[..6], "{left}");
                }
            }
        }
        let mut disk = Ends::new();
        disk.left = writes;
        assert!(discard(&mut disk, DATA).is_ok(), "there are more writes than were cut");
    }

    #[test]
    fn a_damaged_table_is_left_as_it_is() {
        let mut disk = Ends::new();
        disk.part(1024, 1)[0] ^= 1;
        assert!(matches!(discard(&mut disk, DATA), Err(DiscardError::Table(gpt::GptError::Checksum("list")))));
        assert!(disk.loose.is_empty());
        let mut small = Cursor::new(vec![0; 512]);
        assert!(matches!(data_partition(&mut small), Err(DiscardError::Disk(_))));
    }

    #[test]
    fn sgdisk_is_content_with_what_is_left() {
        if Command::new("sgdisk").arg("--version").output().is_err() {
            println!("not run: sgdisk is not installed");
            return;
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SECTORS * SECTOR).unwrap();
        let table = gpt::write(Guid(1), SECTORS, &partitions());
        put(file.as_file_mut(), 0, &table.front).unwrap();
        put(file.as_file_mut(), SECTORS - TABLE_SECTORS, &table.back).unwrap();
        assert!(discard(file.as_file_mut(), DATA).unwrap());
        let output = Command::new("sgdisk").arg("--verify").arg("--print").arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("No problems found"), "{said}");
        assert!(said.contains("raven-B-hashes") && !said.contains("raven-data"), "{said}");
    }
}
