//! `raven.iso`: starts from CD, USB stick and virtual disk, with BIOS and UEFI. Root and hash tree are partitions
//! behind the ISO 9660 file system, in which only the boot loader reads. Written by xorriso itself: what grub-mkrescue
//! makes of it carries an HFS+ partition that breaks starts from USB.

use crate::{Order, System, disk, grub, run};
use anyhow::Result;
use raven_boot::{gpt, layout};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Writes the medium; it carries the head of the disk image `image`, for installation.
pub fn build(system: &System, order: &Order, image: &Path, to: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let tree = work.path().join("iso");
    fs::create_dir_all(tree.join("raven"))?;
    // Another Raven in the box must not be taken for this medium.
    let marker = format!("/raven/{}", &raven_model::hex::hex(&system.verity.root)[..16]);
    fs::write(tree.join(&marker[1..]), b"")?;
    fs::write(tree.join("raven/grub.cfg"), grub::of_medium(&system.verity))?;
    fs::copy(&system.kernel, tree.join("raven/kernel"))?;
    fs::copy(&system.initramfs, tree.join("raven/initramfs"))?;
    fs::copy(order.out.join(crate::RESCUE), tree.join(&crate::rescue::PLACE[1..]))?;
    fs::copy(grub::image(grub::Start::BiosCd, &marker, work.path())?, tree.join("raven/eltorito.img"))?;
    let efi = grub::image(grub::Start::Efi, &marker, work.path())?;
    let efi = disk::fat(
        &work.path().join("efi"),
        layout::MEDIUM_EFI,
        &["/EFI", "/EFI/BOOT"],
        &[(efi, "/EFI/BOOT/BOOTX64.EFI")],
    )?;
    let mut make = Command::new("xorriso");
    make.env("SOURCE_DATE_EPOCH", order.epoch.to_string())
        .args(["-as", "mkisofs", "-quiet", "-V", "RAVEN", "-R", "-J"]);
    // Folders of the tree are new each time, and Rock Ridge keeps even the times that cannot be set.
    make.args(["--set_all_file_dates", &format!("={}", order.epoch), "-o"]).arg(to);
    make.args(["--grub2-mbr", "/usr/lib/grub/i386-pc/boot_hybrid.img", "--mbr-force-bootable"]);
    make.args(["-partition_offset", "16", "-appended_part_as_gpt"]);
    disk::append_head(image, &efi)?;
    for (number, kind, file) in
        [("2", gpt::ESP, &efi), ("3", gpt::ROOT, &system.root), ("4", gpt::HASHES, &system.hashes)]
    {
        make.args(["-append_partition", number, &kind.to_string()]).arg(file);
    }
    make.args(["-c", "/raven/boot.cat", "-b", "raven/eltorito.img", "-no-emul-boot", "-boot-load-size", "4"]);
    make.args([
        "-boot-info-table",
        "--grub2-boot-info",
        "-eltorito-alt-boot",
        "-e",
        "--interval:appended_partition_2:all::",
    ]);
    make.arg("-no-emul-boot").arg(&tree);
    run::must(&mut make)?;
    Ok(())
}
