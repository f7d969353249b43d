//! How the box starts, from the boot loader's choice to the first process of the root, and what the image builder
//! must lay out for that. Parts without I/O, used on both sides:
//!
//! * [`gpt`]: the partition table, written and read; the types and names of Raven's partitions.
//! * [`layout`]: where what lies on a disk; [`head`]: what the medium carries of it; [`install`]: how it gets there.
//! * [`slots`]: the boot loader's memory (GRUB's environment block), slots A and B, tries left.
//! * [`handed`]: what an update hands over to be started, and whether it is signed.
//! * [`verdict`]: what follows from how well the running system is.
//! * [`verity`]: the hash tree of a root file system and the line that gives it to the kernel.
//! * [`cmdline`]: what the boot loader tells `raven-init`.
//! * [`ext4`]: whether the data partition has to be checked before it is mounted.
//! * [`discard`]: a factory reset: the data partition leaves the partition table.
//! * [`mapper`]: messages to the device mapper.
//! * [`slot_file`]: what GRUB is told of a slot's system.
//! * [`stick`]: what is taken from a USB stick.
//!
//! Three programs: `raven-init` is all of the initramfs that runs; `raven-slot` does all that is done on the EFI system
//! partition ([`esp`]); neither ever writes to a slot or to the data partition. `raven-install` writes a whole disk.

pub mod cmdline;
pub mod discard;
pub mod esp;
pub mod ext4;
pub mod gpt;
pub mod handed;
pub mod head;
pub mod install;
pub mod layout;
pub mod mapper;
pub mod slot_file;
pub mod slots;
pub mod stick;
pub mod verdict;
pub mod verity;

/// Bytes of a sector as the kernel and the partition table count them.
pub const SECTOR: u64 = 512;
