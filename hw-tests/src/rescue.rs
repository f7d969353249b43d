//! The rescue system, chosen at the boot loader's menu over the serial line.

use crate::machine::{Firmware, Lab, Machine, Medium};
use anyhow::{Result, ensure};
use std::time::Duration;

/// On a box with data: nothing of it is mounted, it can be looked at and checked, and the slot has its tries afterwards.
pub fn disk(lab: &mut Lab, firmware: Firmware) -> Result<()> {
    let medium = Medium::Disk(lab.flashed_disk(4)?);
    let mut machine = lab.start(firmware, &medium)?;
    // With the data partition made, and ravend on it.
    machine.expect("Telemetry appliance")?;
    machine.shows("Enter: set up this box")?;
    machine.power_off()?;

    let mut machine = lab.start(firmware, &medium)?;
    choose(&mut machine)?;
    machine.screenshot("shell")?;
    let disks = says(&mut machine, "disks; echo 'all' seen", "all seen")?;
    let row = |row: &str| disks.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == row);
    ensure!(row("vda7 3605 raven-data ext4"), "the data partition is not shown:\n{disks}");
    ensure!(row("vda2 96 raven-esp vfat") && row("vda3 192 raven-A squashfs"), "{disks}");
    says(&mut machine, "echo mounted: $(grep -c ^/dev/ /proc/mounts)", "mounted: 0")?;
    says(&mut machine, "echo links: $(ls /sys/class/net).", "links: lo.")?;
    says(&mut machine, "mount -o ro,noload /dev/vda7 /mnt && ls /mnt/config", "raven.toml")?;
    says(&mut machine, "touch /mnt/x", "Read-only file system")?;
    says(&mut machine, "umount /mnt; e2fsck -fn /dev/vda7 && echo 'is' sound", "is sound")?;
    machine.send("\x15poweroff\r")?;
    machine.turns_off()?;

    let mut machine = lab.start(firmware, &medium)?;
    machine.expect("Raven: starting slot A, tries left: 2")?;
    Ok(())
}

/// From the medium.
pub fn medium(lab: &mut Lab) -> Result<()> {
    let mut machine = lab.start(Firmware::Uefi, &Medium::Cd(lab.iso()))?;
    choose(&mut machine)?;
    says(&mut machine, "echo mounted: $(grep -c ^/dev/ /proc/mounts)", "mounted: 0")?;
    machine.send("\x15poweroff\r")?;
    machine.turns_off()
}

/// Takes the rescue entry.
fn choose(machine: &mut Machine) -> Result<()> {
    machine.expect("Raven: Esc shows a menu")?;
    machine.press_until("\x1b", Duration::from_millis(300), "rescue, a shell")?;
    // As somebody does who is not sure; the menu stays.
    machine.send("\x1b\x1b")?;
    machine.press_until("x", Duration::from_secs(3), "Raven: starting the rescue system")?;
    machine.expect("Nothing is mounted")?;
    machine.expect("rescue# ")?;
    Ok(())
}

/// Types a command; `answer` is not part of it, since the line echoes what is typed.
fn says(machine: &mut Machine, command: &str, answer: &str) -> Result<String> {
    // Ctrl-U: a key may have come once more than it was waited for.
    machine.send(&format!("\x15{command}\r"))?;
    let said = machine.expect(answer)?;
    machine.expect("rescue# ")?;
    Ok(said)
}
