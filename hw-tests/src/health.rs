//! Disks that tell of their health, and one that cannot; what started the box.

use crate::machine::{Beside, Firmware, Lab, Medium};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;

/// A minute after the start disks are asked, give or take another.
const ASKED_AFTER: &str = "/usr/bin/sleep 150";

/// QEMU's NVMe and SATA disks answer smartctl; the virtual one that the box runs from says nothing.
pub fn disks(lab: &mut Lab) -> Result<()> {
    let system = lab.built()?.that_always_does(
        "disks",
        &[ASKED_AFTER, "/usr/bin/raven status --json", "/usr/bin/raven status", "/usr/bin/echo disks are over"],
    )?;
    let medium = Medium::Disk(lab.flashed(&lab.built()?.disk(&system)?, 4)?);
    let beside = [("nvme,serial=N7", "nvme"), ("ide-hd,serial=S7", "sata")].map(|(device, name)| {
        let file = lab.work().join(name);
        fs::File::create(&file).and_then(|made| made.set_len(64 << 20)).map(|()| Beside::Kind(device, file))
    });
    let beside = beside.into_iter().collect::<std::io::Result<Vec<_>>>()?;
    let mut machine = lab.start_beside(Firmware::Uefi, &medium, &beside)?;
    let said = machine.expect("disks are over")?;
    machine.power_off()?;
    let status = said.lines().find_map(|line| line.find("{\"").and_then(|at| serde_json::from_str(&line[at..]).ok()));
    let status: Value = status.with_context(|| format!("no status in what it said:\n{said}"))?;
    let disks = status["disks"].as_array().context("no disks")?;
    println!("  {}", status["disks"]);
    let disk = |name: &str| disks.iter().find(|disk| disk["name"] == name).with_context(|| format!("no {name}"));
    let (nvme, sata, virtual_disk) = (disk("nvme0n1")?, disk("sda")?, disk("vda")?);
    ensure!(nvme["serial"] == "N7" && nvme["passed"] == true && nvme["celsius"].is_number(), "{nvme}");
    ensure!(sata["serial"] == "S7" && sata["passed"] == true && sata["reallocated_sectors"] == 0, "{sata}");
    ensure!(virtual_disk["holds_data"] == true && virtual_disk["note"].is_string(), "{virtual_disk}");
    ensure!(status["started_by"] == "uefi_secure_boot_off", "{}", status["started_by"]);
    ensure!(said.contains("DISK       vda"), "it is not on the screen");
    Ok(())
}
