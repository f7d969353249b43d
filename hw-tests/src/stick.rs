//! A configuration on a USB stick: a box that nobody has set up takes it by itself, every other one offers it.

use crate::machine::{Beside, Firmware, Lab, Medium};
use anyhow::Result;

/// No key is pressed until the box has the name that the stick gave it; the next stick only offers another one.
pub fn without_a_key(lab: &mut Lab) -> Result<()> {
    let medium = Medium::Disk(lab.flashed_disk(4)?);
    let stick = lab.stick("one", "schema = 1\n[site]\nname = \"from-stick\"\n")?;
    let mut machine = lab.start_beside(Firmware::Bios, &medium, &[Beside::Stick(stick)])?;
    machine.expect("Telemetry appliance")?;
    machine.shows("USB stick its configuration is in force")?;
    machine.shows("Raven from-stick")?;
    machine.screenshot("taken")?;
    machine.power_off()?;

    let stick = lab.stick("two", "schema = 1\n[site]\nname = \"other\"\n")?;
    let mut machine = lab.start_beside(Firmware::Bios, &medium, &[Beside::Stick(stick)])?;
    machine.expect("Telemetry appliance")?;
    machine.shows("USB stick a configuration is on it")?;
    machine.answers(&[
        ("\r", "Raven from-stick: Status"),
        ("0", "Take the configuration of the USB stick"),
        ("4\r", "Are you sure?"),
        ("2\r", "Keep these settings?"),
        ("\r", "Raven other: Status"),
    ])?;
    machine.screenshot("offered")?;
    machine.power_off()
}
