//! Where what lies on a disk. The data partition is not among it: the box makes that at its first start, in all the
//! room that is left.

use crate::SECTOR;
use crate::gpt::{self, Guid, Partition, TABLE_SECTORS, mib};

/// The EFI system partition.
pub const ESP_MIB: u64 = 96;
/// What a slot may hold: twice and more what it does today.
pub const SLOT_MIB: u64 = 192;
/// More than a hash tree of a full slot (1/127 of it).
pub const HASHES_MIB: u64 = 4;

/// On the installation medium: bytes of the file system in its EFI system partition, behind which lies the
/// [head](crate::head) (a medium written by xorriso has room for no partition of its own).
pub const MEDIUM_EFI: u64 = 4 << 20;

/// The data partition, which the box makes.
pub const DATA_NAME: &str = "raven-data";

/// How its ext4 is mounted, beside `noatime,nodev,nosuid,noexec`. A file that was synced is whole after a power cut, and an
/// ext4 that found itself damaged takes no more writes.
pub const DATA_OPTIONS: &str = "data=ordered,barrier=1,errors=remount-ro";

/// Sectors of the least data partition that a box begins with.
const DATA_SECTORS: u64 = mib(256);

/// Everything but data, in the order in which it lies on the disk; `id` gives each its identity.
pub fn partitions(id: impl Fn(&str) -> Guid) -> Vec<Partition> {
    let mut first = mib(1);
    let mut part = |kind, name: &str, size| {
        let partition = Partition { kind, id: id(name), first, sectors: mib(size), name: name.to_owned() };
        first += partition.sectors;
        partition
    };
    vec![
        part(gpt::BIOS_BOOT, "raven-bios", 1),
        part(gpt::ESP, "raven-esp", ESP_MIB),
        part(gpt::ROOT, "raven-A", SLOT_MIB),
        part(gpt::HASHES, "raven-A-hashes", HASHES_MIB),
        part(gpt::ROOT, "raven-B", SLOT_MIB),
        part(gpt::HASHES, "raven-B-hashes", HASHES_MIB),
    ]
}

/// Root and hash tree, if `partitions` are those of an installation medium: an installed box has two of each.
pub fn of_medium(partitions: &[Partition]) -> Option<(Partition, Partition)> {
    let only = |kind| {
        let mut found = partitions.iter().filter(|p| p.kind == kind);
        found.next().filter(|_| found.next().is_none()).cloned()
    };
    Some((only(gpt::ROOT)?, only(gpt::HASHES)?))
}

/// Sectors of a disk that holds just these partitions and the two tables.
pub fn image_sectors(partitions: &[Partition]) -> u64 {
    let end = partitions.iter().map(|p| p.first + p.sectors).max().unwrap_or_default();
    end + TABLE_SECTORS + mib(1) - TABLE_SECTORS % mib(1)
}

/// Bytes of the smallest disk that a box can be installed to.
pub fn least_disk() -> u64 {
    (image_sectors(&partitions(|_| Guid(0))) + DATA_SECTORS) * SECTOR
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn partitions_lie_one_behind_the_other_and_are_aligned() {
        let partitions = partitions(|_| Guid(7));
        for pair in partitions.windows(2) {
            assert_eq!(pair[0].first + pair[0].sectors, pair[1].first);
        }
        assert!(partitions.iter().all(|p| p.first.is_multiple_of(mib(1)) && p.name.len() <= 36));
        assert!(least_disk() < 1 << 30);
    }

    /// A box that is to be installed anew still has its disk.
    #[test]
    fn an_installed_disk_is_not_taken_for_the_medium() {
        let mut partitions = partitions(|_| Guid(7));
        assert_eq!(of_medium(&partitions), None);
        partitions.truncate(4);
        let (root, hashes) = of_medium(&partitions).unwrap();
        assert_eq!((root.name.as_str(), hashes.name.as_str()), ("raven-A", "raven-A-hashes"));
    }

    #[test]
    fn a_hash_tree_of_a_full_slot_fits() {
        let blocks = SLOT_MIB * 256;
        let hash_blocks = blocks.div_ceil(128) + blocks.div_ceil(128 * 128) + 1;
        assert!(hash_blocks * 4096 <= HASHES_MIB << 20);
    }
}
