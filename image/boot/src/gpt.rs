//! The partition table of a disk (GPT, UEFI 2.10 chapter 5): written by the image builder, read by `raven-init` on an
//! installation medium, which as a CD has no partitions for the kernel.

use crate::SECTOR;
use std::fmt;
use std::str::FromStr;

/// A globally unique identifier, as its digits are written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid(pub u128);

/// Where GRUB's second part lies when firmware is a BIOS.
pub const BIOS_BOOT: Guid = Guid(0x2168_6148_6449_6e6f_744e_6565_6445_4649);
/// The EFI system partition; GRUB, kernels and the boot loader's memory, for BIOS too.
pub const ESP: Guid = Guid(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b);
/// A root file system. Types of our own: nothing but Raven looks at them.
pub const ROOT: Guid = Guid(0xdd50_82e3_6205_474a_aa85_f736_3caa_ed2f);
/// The hash tree of a root file system.
pub const HASHES: Guid = Guid(0x21e6_532d_d054_4ea6_97c0_7d46_2c3f_789a);
/// Configuration, ring, identity.
pub const DATA: Guid = Guid(0x9b4d_32b1_5f42_418c_8540_8444_eac0_67e8);

/// Sectors that the table takes at each end of the disk, the protective MBR in front apart.
pub const TABLE_SECTORS: u64 = 33;
/// So much is read to find a table: xorriso's has 248 entries and ends here.
pub const READ_SECTORS: u64 = 64;
const ENTRIES: usize = 128;
pub(crate) const ENTRY: usize = 128;
const HEADER: usize = 92;
const SIGNATURE: &[u8; 8] = b"EFI PART";

/// A stretch of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: Guid,
    /// Its own identity.
    pub id: Guid,
    /// First sector of 512 bytes.
    pub first: u64,
    /// Length in sectors.
    pub sectors: u64,
    /// At most 36 characters.
    pub name: String,
}

/// No table, or one that cannot be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GptError {
    /// Nothing that looks like one.
    #[error("no GUID partition table")]
    None,
    /// A checksum does not match.
    #[error("the partition table's {0} has a wrong checksum")]
    Checksum(&'static str),
    /// Sizes that no table of ours has.
    #[error("a partition table of a form that is not known ({0})")]
    Form(&'static str),
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &d[..8], &d[8..12], &d[12..16], &d[16..20], &d[20..])
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Guid {
    type Err = GptError;

    /// As people write it.
    fn from_str(text: &str) -> Result<Self, GptError> {
        let groups: Vec<&str> = text.split('-').collect();
        let is_formed = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
        let digits = groups.concat();
        let is_hex = is_formed && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(&digits, 16).ok()).flatten();
        number.map(Self).ok_or(GptError::Form("an identity is written as 8-4-4-4-12 hex digits"))
    }
}

impl Guid {
    /// As it lies on the disk: the first three groups with their lowest byte first.
    fn bytes(self) -> [u8; 16] {
        let mut bytes = self.0.to_be_bytes();
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }

    fn from_bytes(mut bytes: [u8; 16]) -> Self {
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        Self(u128::from_be_bytes(bytes))
    }
}

/// A disk's table: what is written to its first 34 sectors and to its last 33.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Protective MBR, header, entries. The MBR's first 440 bytes are zero, for a boot loader's code.
    pub front: Vec<u8>,
    /// Entries, header.
    pub back: Vec<u8>,
}

/// The table of a disk of `sectors` with at most 128 `partitions`.
pub fn write(disk: Guid, sectors: u64, partitions: &[Partition]) -> Table {
    let entries: Vec<u8> =
        partitions.iter().flat_map(entry).chain(std::iter::repeat(0)).take(ENTRIES * ENTRY).collect();
    let last = sectors - 1;
    let head = |own, other, entries_at| header(disk, own, other, entries_at, last, &entries);
    let mut front = protective(last);
    front.extend(head(1, last, 2));
    front.extend(&entries);
    let mut back = entries.clone();
    back.extend(head(last, 1, last - TABLE_SECTORS + 1));
    Table { front, back }
}

/// Reads a table from the first [`READ_SECTORS`] of a disk or medium.
///
/// # Errors
/// There is no table, or it is damaged.
pub fn read(front: &[u8]) -> Result<Vec<Partition>, GptError> {
    let (_, entries) = checked(front)?;
    Ok(entries.chunks(ENTRY).filter_map(partition).collect())
}

/// Header and entries of the table in `front`.
pub(crate) fn checked(front: &[u8]) -> Result<(&[u8], &[u8]), GptError> {
    let header = front.get(512..1024).ok_or(GptError::None)?;
    check_header(header)?;
    let at = usize::try_from(long(header, 72)).ok().and_then(|sector| sector.checked_mul(512));
    let length = (word(header, 80) as usize).checked_mul(ENTRY);
    let end = at.zip(length).and_then(|(at, length)| at.checked_add(length));
    let entries = at.zip(end).and_then(|(at, end)| front.get(at..end)).ok_or(GptError::Form("entries far away"))?;
    if crc32fast::hash(entries) != word(header, 88) {
        return Err(GptError::Checksum("list"));
    }
    Ok((header, entries))
}

fn check_header(header: &[u8]) -> Result<(), GptError> {
    if !header.starts_with(SIGNATURE) {
        return Err(GptError::None);
    }
    if word(header, 12) as usize != HEADER || word(header, 84) as usize != ENTRY {
        return Err(GptError::Form("header or entries of another size"));
    }
    if header_sum(header) != word(header, 16) {
        return Err(GptError::Checksum("header"));
    }
    Ok(())
}

/// The checksum of a header, in which its own place counts as zero.
pub(crate) fn header_sum(header: &[u8]) -> u32 {
    let mut zeroed = header[..HEADER].to_vec();
    zeroed[16..20].fill(0);
    crc32fast::hash(&zeroed)
}

fn entry(partition: &Partition) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..16].copy_from_slice(&partition.kind.bytes());
    bytes[16..32].copy_from_slice(&partition.id.bytes());
    bytes[32..40].copy_from_slice(&partition.first.to_le_bytes());
    bytes[40..48].copy_from_slice(&(partition.first + partition.sectors - 1).to_le_bytes());
    for (place, unit) in bytes[56..].chunks_mut(2).zip(partition.name.encode_utf16()) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
    bytes
}

pub(crate) fn partition(entry: &[u8]) -> Option<Partition> {
    let guid = |at: usize| entry[at..at + 16].try_into().map(Guid::from_bytes).ok();
    let (kind, id, first) = (guid(0)?, guid(16)?, long(entry, 32));
    let sectors = long(entry, 40).checked_sub(first)?.checked_add(1)?;
    let units: Vec<u16> =
        entry[56..].chunks(2).map(|u| u16::from_le_bytes([u[0], u[1]])).take_while(|u| *u != 0).collect();
    (kind != Guid(0)).then(|| Partition { kind, id, first, sectors, name: String::from_utf16_lossy(&units) })
}

fn header(disk: Guid, own: u64, other: u64, entries_at: u64, last: u64, entries: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0, 0, 1, 0]); // revision 1.0
    bytes.extend((HEADER as u32).to_le_bytes());
    bytes.extend([0; 8]); // checksum, for now; reserved
    for sector in [own, other, TABLE_SECTORS + 1, last - TABLE_SECTORS] {
        bytes.extend(sector.to_le_bytes());
    }
    bytes.extend(disk.bytes());
    bytes.extend(entries_at.to_le_bytes());
    for number in [ENTRIES as u32, ENTRY as u32, crc32fast::hash(entries)] {
        bytes.extend(number.to_le_bytes());
    }
    let checksum = crc32fast::hash(&bytes);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    bytes.resize(512, 0);
    bytes
}

/// One partition over all of the disk, for programs that know no GPT.
fn protective(last: u64) -> Vec<u8> {
    let mut mbr = vec![0; 512];
    mbr[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    mbr[454..458].copy_from_slice(&1_u32.to_le_bytes());
    mbr[458..462].copy_from_slice(&u32::try_from(last).unwrap_or(u32::MAX).to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

pub(crate) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

/// Sectors of so many MiB.
pub const fn mib(n: u64) -> u64 {
    n * 1024 * 1024 / SECTOR
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    fn partitions() -> Vec<Partition> {
        let part = |kind, n, name: &str| Partition {
            kind,
            id: Guid(n),
            first: mib(n as u64),
            sectors: mib(1),
            name: name.to_owned(),
        };
        vec![part(BIOS_BOOT, 1, "raven-bios"), part(ESP, 2, "raven-esp"), part(ROOT, 3, "raven-A")]
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let table = write(Guid(99), mib(16), &partitions());
        assert_eq!((table.front.len(), table.back.len()), (34 * 512, 33 * 512));
        assert_eq!(read(&table.front), Ok(partitions()));
    }

    /// As xorriso writes them.
    #[test]
    fn a_table_of_more_entries_is_read_too() {
        let mut front = write(Guid(99), mib(16), &partitions()).front;
        front.resize(READ_SECTORS as usize * 512, 0);
        front[512 + 80..512 + 84].copy_from_slice(&248_u32.to_le_bytes());
        let list = crc32fast::hash(&front[1024..1024 + 248 * ENTRY]);
        front[512 + 88..512 + 92].copy_from_slice(&list.to_le_bytes());
        front[512 + 16..512 + 20].fill(0);
        let header = crc32fast::hash(&front[512..512 + HEADER]);
        front[512 + 16..512 + 20].copy_from_slice(&header.to_le_bytes());
        assert_eq!(read(&front), Ok(partitions()));
    }

    #[test]
    fn a_guid_is_written_as_people_write_it() {
        assert_eq!(ESP.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(Guid::from_bytes(ESP.bytes()), ESP);
        assert_eq!(ESP.to_string().parse(), Ok(ESP));
        for wrong in ["", "c12a7328", "c12a7328f81f11d2ba4b00a0c93ec93b", "+12a7328-f81f-11d2-ba4b-00a0c93ec93b"] {
            assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
        }
        assert_eq!(ESP.bytes()[..4], [0x28, 0x73, 0x2a, 0xc1]);
    }

    #[test]
    fn a_damaged_table_is_no_table() {
        let front = write(Guid(99), mib(16), &partitions()).front;
        for (at, error) in [
            (512, GptError::None),
            (512 + 40, GptError::Checksum("header")),
            (1024 + 40, GptError::Checksum("list")),
            (512 + 84, GptError::Form("header or entries of another size")),
        ] {
            let mut damaged = front.clone();
            damaged[at] ^= 1;
            assert_eq!(read(&damaged), Err(error), "{at}");
        }
        for length in 0..front.len() {
            assert!(read(&front[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn sgdisk_is_content_with_it() {
        if Command::new("sgdisk").arg("--version").output().is_err() {
            println!("not run: sgdisk is not installed");
            return;
        }
        let table = write(Guid(99), mib(16), &partitions());
        let mut disk = vec![0; 16 << 20];
        disk[..table.front.len()].copy_from_slice(&table.front);
        let back = disk.len() - table.back.len();
        disk[back..].copy_from_slice(&table.back);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), disk).unwrap();
        let output = Command::new("sgdisk").arg("--verify").arg("--print").arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("No problems found"), "{said}");
        assert!(said.contains("raven-A") && said.contains("EF02") && said.contains("EF00"), "{said}");
    }
}
