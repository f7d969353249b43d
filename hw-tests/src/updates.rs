//! Updates of a box that runs: into a system that is well, into ones that are not, and with a bundle that nobody signed.

use crate::judge::{self, Image};
use crate::machine::{Firmware, Lab, Machine, Medium};
use crate::variants::Broken;
use crate::volatile::Dice;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const UPDATE: &str = "/usr/bin/raven update /dev/vdb";
const SENDS: &str = "/usr/bin/raven gen syslog --to 127.0.0.1:514 --count 500";

/// From A to B, which stays: the same records are in the ring, and it is B after the next start too.
pub fn good(lab: &mut Lab) -> Result<()> {
    let built = lab.built()?;
    let does = built.that_does("before", &[SENDS, UPDATE, "/usr/bin/systemctl reboot"])?;
    let bundle = built.bundle(&built.that_does("next", &["/usr/bin/raven status"])?)?;
    let ticks = Ticks::to(lab.forward("udp", 514)?);
    let disk = lab.flashed(&built.disk(&does)?, 4)?;
    let mut machine = lab.start_with(Firmware::Bios, &Medium::Disk(disk.clone()), &[bundle])?;
    to_b(&mut machine)?;
    machine.expect("Raven: slot B is well")?;
    machine.expect("LAST SEQ")?;
    let row = machine.expect("trap ")?;
    ensure!(held(&row) >= Some(500), "the records of A are not in the ring:\n{row}");
    machine.listen(Duration::from_secs(5))?;
    machine.power_off()?;
    let sent = ticks.stop();
    let held = Image::of(&disk)?.data(lab.work())?.numbers(TICK)?;
    let gap = longest_gap(&held);
    println!("          of {sent} messages {} are in the ring; none came for {:.1} s", held.len(), gap as f64 / 10.0);
    ensure!(held.len() > 100 && gap > 10, "no messages of both systems are there");
    Ok(())
}

/// Random bits of the root that runs, one at a time: either the box comes up from the other slot, or nothing of the block
/// was wanted until it was well.
pub fn flips(lab: &mut Lab) -> Result<()> {
    let built = lab.built()?;
    let does = built.that_does("before", &[UPDATE, "/usr/bin/systemctl reboot"])?;
    let next = built.changed("next", |_| Ok(()))?;
    let (whole, disk) = (lab.flashed(&built.disk(&does)?, 4)?, lab.work().join("flipped"));
    let mut machine = lab.start_with(Firmware::Bios, &Medium::Disk(whole.clone()), &[built.bundle(&next)?])?;
    to_b(&mut machine)?;
    machine.expect("Raven: slot B is well")?;
    machine.power_off()?;
    let (mut dice, mut fell) = (Dice(20), 0);
    let (at, bytes) = (Image::of(&whole)?.at("raven-B")?, fs::metadata(&next.root)?.len());
    for n in 1..=FLIPS {
        judge::copy(&whole, &disk)?;
        let (byte, bit) = (dice.below(bytes), dice.below(8));
        flip(&disk, at + byte, bit)?;
        let mut machine = lab.start(Firmware::Bios, &Medium::Disk(disk.clone()))?;
        let is_other = machine.expect_one_of(&["Raven: slot B is well", "Raven: starting slot A"])? == 1;
        if is_other {
            machine.expect_despite("Raven: slot A is well; slot B was given up")?;
            fell += 1;
        }
        println!(
            "          {n}: bit {bit} of byte {byte}: {}",
            if is_other { "the other slot" } else { "was not read" }
        );
        machine.unplug();
    }
    println!("          {fell} of {FLIPS} bits were read, and none was executed");
    ensure!(fell > 0, "no bit was read at all");
    Ok(())
}

const FLIPS: u64 = 20;

fn flip(disk: &Path, at: u64, bit: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(disk)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << bit;
    Ok(file.write_all_at(&byte, at)?)
}

/// In front of the number of a message.
const TICK: &str = "tick=";

/// A device that sends ten messages a second to a box that may be off.
struct Ticks {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Ticks {
    fn to(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return 0 };
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                number += 1;
                let _ = socket
                    .send_to(format!("<134>1 - switch venue - - - {TICK}{number} ").as_bytes(), ("127.0.0.1", port));
                std::thread::sleep(Duration::from_millis(100));
            }
            number
        });
        Self { stop, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

/// Numbers that are missing between two that are there, at most.
fn longest_gap(numbers: &BTreeSet<u64>) -> u64 {
    numbers.iter().zip(numbers.iter().skip(1)).map(|(one, next)| next - one - 1).max().unwrap_or(0)
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
