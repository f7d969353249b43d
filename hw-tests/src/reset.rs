//! Factory reset: a box that was set up is a new one again, whenever the power goes meanwhile.

use crate::machine::{Firmware, Lab, Machine, Medium};
use anyhow::{Context, Result, ensure};
use raven_boot::discard::data_partition;
use raven_boot::gpt::Guid;
use std::fs::File;
use std::path::Path;

/// From the console, by the keys of somebody who knows the box's name; the power is cut before `raven-init` does it, right
/// after, and while the new data partition is made.
pub fn by_keys(lab: &mut Lab) -> Result<()> {
    let disk = lab.flashed_disk(4)?;
    let medium = Medium::Disk(disk.clone());
    let mut machine = lab.start(Firmware::Bios, &medium)?;
    machine.expect("Telemetry appliance")?;
    set_up(&mut machine)?;
    let before = data_of(&disk)?;
    machine.answers(&[("0", "What is to be done?"), ("8\r", "Factory reset"), ("raven\r", "type its name: arena")])?;
    machine.screenshot("wrong")?;
    machine.send("arena\r")?;
    machine.expect("Raven: starting slot A")?;
    drop(machine);
    ensure!(data_of(&disk)? == before, "the data were discarded before raven-init ran");

    let mut machine = lab.start(Firmware::Bios, &medium)?;
    machine.expect("raven-init: factory reset: all data of this box are discarded")?;
    drop(machine);

    let mut machine = lab.start(Firmware::Bios, &medium)?;
    machine.expect("raven-init: starting the root of slot A")?;
    // About when the partition is made.
    std::thread::sleep(std::time::Duration::from_secs(4));
    drop(machine);

    let mut machine = lab.start(Firmware::Bios, &medium)?;
    machine.expect("all data were discarded, asked for by admin, 20")?;
    machine.shows("Enter: set up this box")?;
    machine.screenshot("new")?;
    machine.power_off()?;
    ensure!(data_of(&disk)? != before, "the data partition is the old one");

    // Once is once.
    let new = data_of(&disk)?;
    let mut machine = lab.start(Firmware::Bios, &medium)?;
    machine.expect("Raven: starting slot A, tries left: 2")?;
    machine.shows("Enter: set up this box")?;
    machine.power_off()?;
    ensure!(data_of(&disk)? == new, "it was discarded twice");
    Ok(())
}

/// Gives the box a name of its own.
fn set_up(machine: &mut Machine) -> Result<()> {
    machine.shows("Enter: set up this box")?;
    machine.answers(&[
        ("\r", "Set up this box"),
        ("2\r", "All answers"),
        ("2\r", "Name"),
        ("arena\r", "All answers"),
        ("\r", "Keep these settings?"),
        ("\r", "Raven arena: Status"),
    ])
}

/// The identity of the disk's data partition.
fn data_of(disk: &Path) -> Result<Guid> {
    data_partition(&mut File::open(disk)?)?.context("the disk has no data partition")
}
