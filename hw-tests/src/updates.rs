//! Updates of a box that runs: into a system that is well, into ones that are not, and with a bundle that nobody signed.

use crate::machine::{Firmware, Lab, Machine, Medium};
use crate::variants::Broken;
use anyhow::{Result, ensure};

const UPDATE: &str = "/usr/bin/raven update /dev/vdb";
const SENDS: &str = "/usr/bin/raven gen syslog --to 127.0.0.1:514 --count 500";

/// From A to B, which stays: the same records are in the ring, and it is B after the next start too.
pub fn good(lab: &mut Lab) -> Result<()> {
    let built = lab.built()?;
    let does = built.that_does("before", &[SENDS, UPDATE, "/usr/bin/systemctl reboot"])?;
    let bundle = built.bundle(&built.that_does("next", &["/usr/bin/raven status"])?)?;
    let mut machine = lab.start_with(Firmware::Bios, &Medium::Disk(lab.flashed(&built.disk(&does)?, 4)?), &[bundle])?;
    to_b(&mut machine)?;
    machine.expect("Raven: slot B is well")?;
    machine.expect("LAST SEQ")?;
    let row = machine.expect("trap ")?;
    ensure!(held(&row) >= Some(500), "the records of A are not in the ring:\n{row}");
    machine.power_off()
}

/// A bit in the root and a bit in the manifest: neither is taken, and A stays.
pub fn altered(lab: &mut Lab) -> Result<()> {
    let built = lab.built()?;
    let does =
        built.that_does("before", &[UPDATE, "/usr/bin/raven update /dev/vdc", "/usr/bin/raven update status"])?;
    let bundle = built.bundle(&built.changed("next", |_| Ok(()))?)?;
    let more = [built.altered(&bundle, 20 << 20)?, built.altered(&bundle, 200)?];
    let mut machine = lab.start_with(Firmware::Bios, &Medium::Disk(lab.flashed(&built.disk(&does)?, 4)?), &more)?;
    machine.expect("Raven: slot A is well")?;
    machine.expect("the bundle was altered or damaged: its root has another SHA-256")?;
    machine.expect("the bundle is not signed by a key that this box trusts")?;
    machine.shows("Telemetry appliance")?;
    machine.power_off()
}

/// Into a system that is not well: back in A by itself, which says why.
pub fn broken(lab: &mut Lab, how: Broken, why: &str) -> Result<()> {
    let built = lab.built()?;
    let does = built.that_does("before", &[UPDATE, "/usr/bin/systemctl reboot"])?;
    let bundle = built.bundle(&built.broken(how)?)?;
    let mut machine = lab.start_with(Firmware::Bios, &Medium::Disk(lab.flashed(&built.disk(&does)?, 4)?), &[bundle])?;
    to_b(&mut machine)?;
    machine.expect_despite("Raven: starting slot B, tries left: 0")?;
    machine.expect_despite("Raven: starting slot A, tries left: 2")?;
    machine.expect("Raven: slot A is well; slot B was given up: ")?;
    machine.expect(why)?;
    machine.shows("slot B was given up")?;
    machine.screenshot("status")?;
    machine.power_off()
}

/// Records of syslog in the ring, from the rows of the status: each line may have the journal's words before it.
fn held(rows: &str) -> Option<u64> {
    let row = rows.lines().find_map(|line| line.split_once("syslog "))?.1;
    row.split_whitespace().nth(1)?.parse().ok()
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
        let rows = "\n[  81.2] raven[412]: syslog  0.1  517  517  1.0 MiB\n[  81.2] raven[412]: ";
        assert_eq!(held(rows), Some(517));
        assert_eq!(held("nothing"), None);
    }
}
