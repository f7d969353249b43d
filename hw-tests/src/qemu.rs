//! A box that QEMU emulates: a firmware, a medium, a cable, a monitor.

use crate::machine::{Beside, Firmware, Lab, Medium};
use crate::monitor::Monitor;
use crate::network::ends_with_us;
use crate::serial::Serial;
use anyhow::{Context, Result};
use raven_boot::slot_file::KERNEL_ARGUMENTS;
use rustix::process::Signal;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// What each box has.
const BOARD: &str = "-machine q35 -cpu max -smp 2 -m 1024 -display none -vga std";

/// A network of QEMU's own: DHCP, and a way to nowhere.
const ALONE: &str = "user,id=net,restrict=on";

/// QEMU, which ends when nobody holds it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// What the box says on its serial line.
    log: PathBuf,
}

/// What a kernel says when an emulated processor ran an instruction that another one had replaced: QEMU 7.2 does that
/// now and then while the kernel patches itself (modules being loaded). Processors do not.
const STALE: &[u8] = b"Oops: int3: ";

/// The emulator made a fault of its own.
static HAS_CRASHED: AtomicBool = AtomicBool::new(false);

/// Whether that happened since this was asked last: nothing is known of the box then.
pub fn has_crashed() -> bool {
    HAS_CRASHED.swap(false, Ordering::Relaxed)
}

impl Drop for Process {
    fn drop(&mut self) {
        // The line closes a moment before the process has ended.
        std::thread::sleep(Duration::from_millis(100));
        let signal = self.child.try_wait().ok().flatten().and_then(|status| status.signal());
        if signal.is_some_and(|signal| [Signal::SEGV.as_raw(), Signal::ABORT.as_raw()].contains(&signal)) {
            HAS_CRASHED.store(true, Ordering::Relaxed);
        }
        if fs::read(&self.log).is_ok_and(|said| said.windows(STALE.len()).any(|at| at == STALE)) {
            HAS_CRASHED.store(true, Ordering::Relaxed);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An emulated box that is on.
#[derive(Debug)]
pub struct Emulated {
    process: Process,
    /// What QEMU is asked for.
    pub monitor: Monitor,
}

impl Emulated {
    /// Turns it on.
    pub fn start(
        lab: &Lab,
        firmware: Firmware,
        medium: &Medium,
        beside: &[Beside],
        log: &Path,
    ) -> Result<(Serial, Self)> {
        let work = lab.work();
        let (line, control) = (work.join("serial"), work.join("monitor"));
        for socket in [&line, &control] {
            let _ = fs::remove_file(socket);
        }
        let qemu = "qemu-system-x86_64";
        let network = lab.network();
        let mut qemu = network.as_ref().map_or_else(|| ends_with_us(qemu), |network| network.command(qemu));
        qemu.args(arguments(&accelerator(), firmware, medium, work)?);
        qemu.arg("-netdev").arg(match (&network, lab.forwards) {
            (Some(network), _) => format!("tap,id=net,ifname={},script=no,downscript=no", network.link()),
            (None, Some((proto, from, to))) => format!("{ALONE},hostfwd={proto}:127.0.0.1:{from}-:{to}"),
            (None, None) => ALONE.to_owned(),
        });
        for (n, beside) in beside.iter().enumerate() {
            qemu.args(beside.arguments(n));
        }
        qemu.arg("-chardev").arg(format!("socket,id=line,path={},server=on,wait=on", line.display()));
        qemu.args(["-serial", "chardev:line", "-qmp"]).arg(format!("unix:{},server=on,wait=off", control.display()));
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(log.with_extension("qemu"))?);
        let child = qemu.spawn();
        let child = child.context("setpriv (package util-linux), qemu-system-x86_64")?;
        let process = Process { child, log: log.to_owned() };
        let serial = Serial::connect(&line, log)?;
        let monitor = Monitor::connect(&control)?;
        Ok((serial, Self { process, monitor }))
    }

    /// Whether it is on.
    pub fn is_on(&mut self) -> Result<bool> {
        Ok(self.process.child.try_wait()?.is_none())
    }
}

/// Starts a kernel without a boot loader; it ends with the value.
pub fn kernel(kernel: &Path, initramfs: &Path, line: &Path, log: &Path) -> Result<Process> {
    let mut qemu = ends_with_us("qemu-system-x86_64");
    qemu.args(BOARD.split_whitespace()).args(["-accel", &accelerator(), "-kernel"]).arg(kernel);
    qemu.arg("-initrd").arg(initramfs).args(["-append", KERNEL_ARGUMENTS]);
    qemu.arg("-chardev").arg(format!("socket,id=line,path={},server=on,wait=on", line.display()));
    qemu.args(["-serial", "chardev:line"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Process { child: qemu.spawn().context("qemu-system-x86_64")?, log: log.to_owned() })
}

/// Emulation, unless somebody says that something faster works here.
fn accelerator() -> String {
    let chosen = std::env::var_os("RAVEN_QEMU_ACCEL").map(|chosen| chosen.to_string_lossy().into_owned());
    chosen.filter(|chosen| chosen != "tcg").unwrap_or_else(|| "tcg,thread=multi".to_owned())
}

fn arguments(accelerator: &str, firmware: Firmware, medium: &Medium, work: &Path) -> Result<Vec<String>> {
    let mut parts = vec![format!(
        "{BOARD} -accel {accelerator} -monitor none \
         -device i6300esb -action watchdog=reset -device virtio-net-pci,netdev=net"
    )];
    if firmware == Firmware::Uefi {
        let vars = work.join("uefi-variables");
        if !vars.exists() {
            fs::copy(OVMF_VARS, &vars).with_context(|| format!("{OVMF_VARS} (package ovmf)"))?;
        }
        parts.push(format!(
            "-drive if=pflash,format=raw,readonly=on,file={OVMF_CODE} -drive if=pflash,format=raw,file={}",
            vars.display()
        ));
    }
    let drive = "-drive if=none,id=disk,format=raw";
    parts.push(match medium {
        Medium::Disk(file) => {
            format!("{drive},cache=writeback,file={} -device virtio-blk-pci,drive=disk,bootindex=0", file.display())
        }
        Medium::Cd(file) => format!(
            "-drive if=none,id=cd,readonly=on,format=raw,file={} -device ide-cd,drive=cd,bootindex=0",
            file.display()
        ),
        Medium::Usb(file) => format!(
            "-device qemu-xhci {drive},snapshot=on,file={} -device usb-storage,drive=disk,bootindex=0",
            file.display()
        ),
        // What it cannot do QEMU would do by writing zeros, gigabytes of them.
        Medium::Volatile(socket) => format!(
            "-blockdev driver=nbd,node-name=disk,server.type=unix,server.path={} \
             -device virtio-blk-pci,drive=disk,bootindex=0,discard=off,write-zeroes=off",
            socket.display()
        ),
        Medium::Virtual(file) => {
            format!("{drive},snapshot=on,file={} -device virtio-blk-pci,drive=disk,bootindex=0", file.display())
        }
    });
    Ok(parts.iter().flat_map(|part| part.split_whitespace()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::PathBuf;

    fn words(medium: &Medium) -> String {
        arguments("tcg", Firmware::Bios, medium, Path::new("/nowhere")).unwrap().join(" ")
    }

    #[test]
    fn only_a_disk_keeps_what_is_written() {
        let image = PathBuf::from("/x");
        assert!(!words(&Medium::Disk(image.clone())).contains("snapshot=on"));
        for other in [Medium::Usb(image.clone()), Medium::Virtual(image.clone())] {
            assert!(words(&other).contains("snapshot=on"));
        }
        assert!(
            words(&Medium::Cd(image)).contains("readonly=on,format=raw,file=/x -device ide-cd,drive=cd,bootindex=0")
        );
    }

    #[test]
    fn a_fault_of_its_own_is_told_from_an_end_by_us() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("serial.log");
        let process = || {
            let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            Process { child, log: log.clone() }
        };
        fs::write(&log, b"\xff[    7.1] Oops: 0000 [#1] PREEMPT SMP").unwrap();
        drop(process());
        assert!(!has_crashed());
        let crashes = process();
        rustix::process::kill_process(rustix::process::Pid::from_child(&crashes.child), Signal::SEGV).unwrap();
        drop(crashes);
        assert!(has_crashed() && !has_crashed());
        fs::write(&log, b"\xff[   17.1] Oops: int3: 0000 [#1] PREEMPT SMP").unwrap();
        drop(process());
        assert!(has_crashed() && !has_crashed());
    }
}
