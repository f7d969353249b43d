//! Updates of a box that runs: into a system that is well, into ones that are not, and with a bundle that nobody signed.

use crate::machine::{Firmware, Lab, Machine, Medium};
use crate::variants::Broken;
use anyhow::{Result, bail};

const UPDATE: &str = "/usr/bin/raven update /dev/vdb";

/// From A to B, which stays: the same records are in the ring, and it is B after the next start too.
pub fn good(lab: &mut Lab) -> Result<()> {
    let built = lab.built()?;
    let does = built.that_does(&[UPDATE, "/usr/bin/systemctl reboot"])?;
    let bundle = built.bundle(&built.changed("next", |_| Ok(()))?)?;
    let mut machine = lab.start_with(Firmware::Bios, &Medium::Disk(lab.flashed(&built.disk(&does)?, 4)?), &[bundle])?;
    to_b(&mut machine)?;
    machine.expect("Raven: slot B is well")?;
    // One record of the look at A, one of the look at B, which the reports may not know of yet.
    status_with(&mut machine, "what came in A", |shown| held(shown) >= Some(2))?;
    machine.power_off()
}

/// A bit in the root and a bit in the manifest: neither is taken, and A stays.
pub fn altered(lab: &mut Lab) -> Result<()> {
    let built = lab.built()?;
    let does = built.that_does(&[UPDATE, "/usr/bin/raven update /dev/vdc", "/usr/bin/raven update status"])?;
    let bundle = built.bundle(&built.changed("next", |_| Ok(()))?)?;
    let more = [built.altered(&bundle, 20 << 20)?, built.altered(&bundle, 200)?];
    let mut machine = lab.start_with(Firmware::Bios, &Medium::Disk(lab.flashed(&built.disk(&does)?, 4)?), &more)?;
    machine.expect("Raven: slot A is well")?;
    machine.expect("the bundle was altered or damaged: its root has another SHA-256")?;
    machine.expect("the bundle is not signed by a key that this box trusts")?;
    status(&mut machine)?;
    machine.power_off()
}

/// Into a system that is not well: back in A by itself, which says why.
pub fn broken(lab: &mut Lab, how: Broken, why: &str) -> Result<()> {
    let built = lab.built()?;
    let does = built.that_does(&[UPDATE, "/usr/bin/systemctl reboot"])?;
    let bundle = built.bundle(&built.broken(how)?)?;
    let mut machine = lab.start_with(Firmware::Bios, &Medium::Disk(lab.flashed(&built.disk(&does)?, 4)?), &[bundle])?;
    to_b(&mut machine)?;
    machine.expect_despite("Raven: starting slot B, tries left: 0")?;
    machine.expect_despite("Raven: starting slot A, tries left: 2")?;
    machine.expect("Raven: slot A is well; slot B was given up: ")?;
    machine.expect(why)?;
    status_with(&mut machine, "why", |shown| shown.contains("slot B was given up"))?;
    machine.screenshot("status")?;
    machine.power_off()
}

/// Somebody presses Enter, again where the line was not open yet; what is shown. That the prompt came may have been read
/// over while something else was waited for.
fn status(machine: &mut Machine) -> Result<String> {
    for _ in 0..4 {
        machine.send("\r")?;
        let said = machine.expect("press Enter for the status of this box")?;
        if said.contains("STREAM") {
            return Ok(said);
        }
    }
    bail!("Enter does not show the status")
}

/// The same until the status says something that takes a moment.
fn status_with(machine: &mut Machine, what: &str, says: impl Fn(&str) -> bool) -> Result<()> {
    let mut shown = String::new();
    for _ in 0..8 {
        shown = status(machine)?;
        if says(&shown) {
            return Ok(());
        }
    }
    bail!("the status does not say {what}:\n{shown}")
}

/// Records of syslog in the ring, as the status says.
fn held(status: &str) -> Option<u64> {
    let row = status.rsplit("STREAM").next()?.lines().find(|line| line.starts_with("syslog"))?;
    row.split_whitespace().nth(2)?.parse().ok()
}

fn to_b(machine: &mut Machine) -> Result<()> {
    machine.expect("Raven: slot A is well")?;
    machine.expect("into slot B")?;
    machine.expect("Raven: starting slot B, tries left: 1")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_read_from_the_status() {
        let status = "LISTENER STREAM\nudp syslog 0 1\nPROCESS\nsyslog 1 running\nSTREAM  RATE/s  HELD  LAST SEQ\nsyslog  0.1  17  17  1.0 MiB\n";
        assert_eq!(held(status), Some(17));
        assert_eq!(held("nothing"), None);
    }
}
