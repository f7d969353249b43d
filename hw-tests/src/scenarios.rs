//! What is done at the box, and what must then be seen.

use crate::machine::{Beside, Firmware, Lab, Machine, Medium, target_disk};
use crate::qemu::has_crashed;
use crate::variants::Broken;
use crate::{cuts, figures, health, rescue, reset, ssh, stick, tunnel, updates, venue};
use anyhow::{Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How a scenario went.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What was not as it must be.
    pub result: Result<()>,
}

type Scenario = fn(&mut Lab) -> Result<()>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("disk-bios", |lab| disk(lab, Firmware::Bios)),
    ("disk-uefi", |lab| disk(lab, Firmware::Uefi)),
    ("iso-bios-cd", |lab| live(lab, Firmware::Bios, Medium::Cd)),
    ("iso-bios-usb", |lab| live(lab, Firmware::Bios, Medium::Usb)),
    ("iso-bios-virtual", |lab| live(lab, Firmware::Bios, Medium::Virtual)),
    ("iso-uefi-cd", |lab| live(lab, Firmware::Uefi, Medium::Cd)),
    ("iso-uefi-usb", |lab| live(lab, Firmware::Uefi, Medium::Usb)),
    ("iso-uefi-virtual", |lab| live(lab, Firmware::Uefi, Medium::Virtual)),
    ("install-bios", |lab| {
        let disk = lab.empty_disk(4)?;
        install(lab, Firmware::Bios, disk)
    }),
    // On the disk there is a system already.
    ("install-uefi", |lab| {
        let disk = lab.flashed_disk(4)?;
        install(lab, Firmware::Uefi, disk)
    }),
    ("venue", venue::day),
    ("ssh", ssh::roles),
    ("tunnel", tunnel::openvpn),
    ("tunnel-wireguard", tunnel::wireguard),
    ("figures", figures::all),
    ("cuts-load", cuts::load),
    ("cuts-update", cuts::update),
    ("site-built-in", site_built_in),
    ("factory-reset", reset::by_keys),
    ("disks", health::disks),
    ("stick", stick::without_a_key),
    ("rescue", |lab| rescue::disk(lab, Firmware::Bios)),
    ("rescue-medium", rescue::medium),
    ("update", updates::good),
    ("update-altered", updates::altered),
    ("flips", updates::flips),
    ("update-init", |lab| updates::broken(lab, Broken::Init, "before any service started")),
    ("update-hang", |lab| updates::broken(lab, Broken::Hang, "the watchdog ended the last of these starts")),
    ("update-ravend", |lab| updates::broken(lab, Broken::Ravend, "cannot reach ravend")),
    ("update-collector", |lab| updates::broken(lab, Broken::Collector, "syslog")),
];

/// A flashed disk, larger than the image: starts, makes its data partition, answers, turns off, and is the same box
/// when it is turned on again.
fn disk(lab: &mut Lab, firmware: Firmware) -> Result<()> {
    let medium = Medium::Disk(lab.flashed_disk(4)?);
    for tries in ["2", "2"] {
        // The second time too: the first start showed that the slot is well, and got its tries back.
        let mut machine = lab.start(firmware, &medium)?;
        machine.expect(&format!("Raven: starting slot A, tries left: {tries}"))?;
        machine.expect("raven-init: watchdog armed")?;
        machine.expect("raven-init: starting the root of slot A")?;
        answers(&mut machine)?;
        machine.screenshot("status")?;
        machine.power_off()?;
    }
    Ok(())
}

/// The installation medium: runs in memory.
fn live(lab: &mut Lab, firmware: Firmware, medium: fn(PathBuf) -> Medium) -> Result<()> {
    let mut machine = lab.start(firmware, &medium(lab.iso()))?;
    machine.expect("raven-init: starting the root of the medium")?;
    answers(&mut machine)?;
    machine.screenshot("status")?;
    machine.power_off()
}

/// The console is on the serial line, and the box has an address.
fn answers(machine: &mut Machine) -> Result<()> {
    machine.expect("Telemetry appliance")?;
    let page = machine.shows("10.0.2.15/24")?;
    ensure!(page.contains("Enter: set up this box"), "a new box is not to be set up:\n{page}");
    // What was wrong before the first address may stand for a moment.
    machine.shows("OK: nothing is wrong")?;
    Ok(())
}

/// From the medium to a disk, by the keys of somebody who takes what is offered; then from the disk.
fn install(lab: &mut Lab, firmware: Firmware, disk: PathBuf) -> Result<()> {
    let mut machine = lab.start_beside(firmware, &Medium::Cd(lab.iso()), &[Beside::Disk(disk.clone())])?;
    install_to(&mut machine)?;
    machine.power_off()?;
    let mut machine = lab.start(firmware, &Medium::Disk(disk))?;
    machine.expect("Raven: starting slot A, tries left: 2")?;
    machine.expect("raven-init: starting the root of slot A")?;
    answers(&mut machine)?;
    machine.power_off()
}

/// By the keys of somebody who takes what is offered.
pub fn install_to(machine: &mut Machine) -> Result<()> {
    let disk = target_disk();
    machine.expect("Telemetry appliance")?;
    machine.shows("Enter: set up this box")?;
    machine.answers(&[
        ("\r", "Raven runs from its medium"),
        ("\r", "Install to which disk?"),
        ("\r", "Is this the disk?"),
        (&format!("{disk}\r"), &format!("Raven is on {disk}")),
    ])?;
    machine.screenshot("installed")
}

/// A site's configuration in the image: a new box has its name and address, asks for no set-up, and what it keeps from
/// then on is its own.
fn site_built_in(lab: &mut Lab) -> Result<()> {
    let text = include_str!("../../docs/venue.toml").replace("enp1s0", "enp0s3");
    let built = lab.built()?;
    let system = built.changed("site", |root| Ok(std::fs::write(root.join("usr/share/raven/raven.toml"), &text)?))?;
    let medium = Medium::Disk(lab.flashed(&built.disk(&system)?, 4)?);
    let mut machine = lab.start(Firmware::Bios, &medium)?;
    machine.expect("Telemetry appliance")?;
    let page = machine.shows("192.0.2.7/24")?;
    ensure!(page.contains("Raven arena-north"), "the box has another name:\n{page}");
    ensure!(page.contains("Enter: log in"), "the box asks to be set up:\n{page}");
    machine.screenshot("status")?;
    machine.power_off()
}

/// So often a scenario is begun anew.
const FAULTS: usize = 2;

/// Runs the named scenarios, or all, one after the other; logs and pictures go to `out`.
///
/// # Errors
/// There is no scenario of a name.
pub fn run(names: &[String], images: &Path, key: &Path, out: &Path) -> Result<Vec<Outcome>> {
    if let Some(unknown) = names.iter().find(|name| !SCENARIOS.iter().any(|(known, _)| known == name)) {
        let known: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        bail!("there is no scenario `{unknown}`; there are {}", known.join(", "));
    }
    let chosen = SCENARIOS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name));
    let run_one = |(name, scenario): &(&'static str, Scenario)| {
        println!("{name}");
        let began = Instant::now();
        let once = || Lab::new(images, key, out, name).and_then(|mut lab| scenario(&mut lab));
        let mut result = once();
        // QEMU 7.2 does so now and then with more than one emulated processor.
        for _ in 0..FAULTS {
            if result.is_err() && has_crashed() {
                println!("  a fault of QEMU itself; once more");
                result = once();
            }
        }
        if let Err(error) = &result {
            println!("  FAILED: {error:#}");
        }
        Outcome { name, took: began.elapsed(), result }
    };
    Ok(chosen.map(run_one).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_scenario_is_named_with_those_there_are() {
        let error =
            run(&["disk-bois".to_owned()], Path::new("."), Path::new("key"), Path::new(".")).unwrap_err().to_string();
        assert!(error.contains("disk-bois") && error.contains("disk-bios, disk-uefi"), "{error}");
    }
}
