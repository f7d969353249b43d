//! A box: QEMU with a firmware and a medium, its serial line and its monitor. It ends with its value.

use crate::monitor::Monitor;
use crate::serial::{PATIENCE, Serial};
use crate::variants::Built;
use anyhow::{Context, Result, ensure};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// How long an emulated box may take to draw a page on its serial line.
const DRAWING: Duration = Duration::from_secs(4);

/// What the box must not say while something else is waited for.
const NEVER: [&str; 4] = ["raven-init: FAILED", "Kernel panic", "emergency mode", "grub rescue>"];

/// What starts the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// What it starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// A disk that keeps what is written.
    Disk(PathBuf),
    /// A CD.
    Cd(PathBuf),
    /// A USB stick.
    Usb(PathBuf),
    /// A virtual disk that nothing is written to.
    Virtual(PathBuf),
}

/// A place for what one scenario leaves behind.
#[derive(Debug)]
pub struct Lab {
    /// Images that were built.
    pub images: PathBuf,
    /// Where logs and pictures go.
    pub out: PathBuf,
    /// Signs the bundles of changed systems, as it did the built one.
    key: PathBuf,
    name: String,
    work: tempfile::TempDir,
    starts: u32,
}

impl Lab {
    /// For the scenario `name`.
    pub fn new(images: &Path, key: &Path, out: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let work = tempfile::tempdir()?;
        let key = key.to_owned();
        Ok(Self { images: images.to_owned(), key, out: out.to_owned(), name: name.to_owned(), work, starts: 0 })
    }

    /// A disk of so many GiB with the built image on it.
    pub fn flashed_disk(&self, gib: u64) -> Result<PathBuf> {
        self.flashed(&self.images.join("raven.img"), gib)
    }

    /// A disk of so many GiB with `image` on it.
    pub fn flashed(&self, from: &Path, gib: u64) -> Result<PathBuf> {
        let to = self.work.path().join("disk");
        let copied = Command::new("cp").arg("--sparse=always").args([from, &to]).status()?;
        ensure!(copied.success(), "{} could not be copied; build it: cargo xtask image", from.display());
        OpenOptions::new().write(true).open(&to)?.set_len(gib << 30)?;
        Ok(to)
    }

    /// The built installation medium.
    pub fn iso(&self) -> PathBuf {
        self.images.join("raven.iso")
    }

    /// The built system, to be changed.
    pub fn built(&self) -> Result<Built> {
        let work = self.work.path().join("built");
        fs::create_dir_all(&work)?;
        Built::of(&self.images.join("raven.bundle"), &self.key, &work)
    }

    /// Turns a box on.
    pub fn start(&mut self, firmware: Firmware, medium: &Medium) -> Result<Machine> {
        self.start_with(firmware, medium, &[])
    }

    /// Turns a box on that has more disks, to read only.
    pub fn start_with(&mut self, firmware: Firmware, medium: &Medium, more: &[PathBuf]) -> Result<Machine> {
        self.begin(firmware, medium, more, None)
    }

    /// Turns a box on that has a disk beside what it starts from.
    pub fn start_beside(&mut self, firmware: Firmware, medium: &Medium, disk: &Path) -> Result<Machine> {
        self.begin(firmware, medium, &[], Some(disk))
    }

    /// A new disk of so many GiB.
    pub fn empty_disk(&self, gib: u64) -> Result<PathBuf> {
        let to = self.work.path().join("empty");
        fs::File::create(&to)?.set_len(gib << 30)?;
        Ok(to)
    }

    fn begin(&mut self, firmware: Firmware, medium: &Medium, more: &[PathBuf], disk: Option<&Path>) -> Result<Machine> {
        self.starts += 1;
        let work = self.work.path();
        let log = self.out.join(format!("{}-{}.log", self.name, self.starts));
        let (serial, monitor) = (work.join("serial"), work.join("monitor"));
        for socket in [&serial, &monitor] {
            let _ = fs::remove_file(socket);
        }
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(arguments(&accelerator(), firmware, medium, work)?);
        for (n, disk) in more.iter().enumerate() {
            qemu.arg("-drive").arg(format!("if=none,id=more{n},format=raw,readonly=on,file={}", disk.display()));
            qemu.arg("-device").arg(format!("virtio-blk-pci,drive=more{n}"));
        }
        if let Some(disk) = disk {
            qemu.arg("-drive").arg(format!("if=none,id=beside,format=raw,file={}", disk.display()));
            qemu.args(["-device", "virtio-blk-pci,drive=beside"]);
        }
        qemu.arg("-chardev").arg(format!("socket,id=line,path={},server=on,wait=on", serial.display()));
        qemu.args(["-serial", "chardev:line", "-qmp"]).arg(format!("unix:{},server=on,wait=off", monitor.display()));
        let process = qemu.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("qemu-system-x86_64")?;
        let mut process = Process(process);
        let serial = Serial::connect(&serial, &log).inspect_err(|_| drop(process.0.kill()))?;
        let monitor = Monitor::connect(&monitor)?;
        let pictures = self.out.join(&self.name);
        Ok(Machine { process, serial, monitor, pictures, began: Instant::now() })
    }
}

/// QEMU, which ends when nobody holds it.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A box that is on.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    serial: Serial,
    monitor: Monitor,
    pictures: PathBuf,
    began: Instant,
}

impl Machine {
    /// Waits until the serial line says `what`; returns what it said before.
    pub fn expect(&mut self, what: &str) -> Result<String> {
        let before = self.serial.expect(what, &NEVER, PATIENCE)?;
        println!("  {:6.1} s  {what}", self.began.elapsed().as_secs_f64());
        Ok(before)
    }

    /// The same while the box may fail on the way.
    pub fn expect_despite(&mut self, what: &str) -> Result<String> {
        let before = self.serial.expect(what, &[], PATIENCE)?;
        println!("  {:6.1} s  {what}", self.began.elapsed().as_secs_f64());
        Ok(before)
    }

    /// Has the console draw all of its page anew until it shows `what`; returns the page's text, rows in a row.
    pub fn shows(&mut self, what: &str) -> Result<String> {
        let began = Instant::now();
        loop {
            self.serial.send("\x0c")?;
            let page = self.serial.said_in(DRAWING)?;
            if page.contains(what) {
                println!("  {:6.1} s  shows {what}", self.began.elapsed().as_secs_f64());
                return Ok(page);
            }
            ensure!(began.elapsed() < PATIENCE, "the console does not show `{what}`; it shows:\n{page}");
        }
    }

    /// Presses a key again and again, as somebody who waits for a menu, until `what` is said: where the firmware reads the
    /// line too, it keeps an Esc to itself until the next byte comes.
    pub fn press_until(&mut self, key: &str, every: Duration, what: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            self.serial.send(key)?;
            match self.serial.expect(what, &[], every) {
                Ok(_) => break,
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => {}
            }
        }
        println!("  {:6.1} s  {what}", self.began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Types on the serial line.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.serial.send(keys)
    }

    /// Keeps what is on the screen.
    pub fn screenshot(&mut self, name: &str) -> Result<()> {
        self.monitor.screenshot(&self.pictures.with_added_extension(format!("{name}.png")))
    }

    /// Presses the button and waits until the box is off.
    pub fn power_off(mut self) -> Result<()> {
        self.monitor.power_button()?;
        self.turns_off()
    }

    /// Waits until the box is off.
    pub fn turns_off(mut self) -> Result<()> {
        let began = Instant::now();
        while self.process.0.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "the box does not turn off");
            // Its last words would fill the line, and it would wait for somebody to read them.
            let _ = self.serial.expect("\0never\0", &[], Duration::from_millis(200));
        }
        println!("  {:6.1} s  off", self.began.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Emulation, unless somebody says that something faster works here.
fn accelerator() -> String {
    let chosen = std::env::var_os("RAVEN_QEMU_ACCEL").map(|chosen| chosen.to_string_lossy().into_owned());
    chosen.filter(|chosen| chosen != "tcg").unwrap_or_else(|| "tcg,thread=multi".to_owned())
}

fn arguments(accelerator: &str, firmware: Firmware, medium: &Medium, work: &Path) -> Result<Vec<String>> {
    let mut parts = vec![format!(
        "-machine q35 -accel {accelerator} -cpu max -smp 2 -m 1024 -display none -vga std -monitor none \
         -device i6300esb -action watchdog=reset -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net"
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
        Medium::Cd(file) => format!("-drive media=cdrom,readonly=on,format=raw,file={}", file.display()),
        Medium::Usb(file) => format!(
            "-device qemu-xhci {drive},snapshot=on,file={} -device usb-storage,drive=disk,bootindex=0",
            file.display()
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
        assert!(words(&Medium::Cd(image)).contains("media=cdrom,readonly=on"));
    }

    #[test]
    fn a_box_reaches_nothing_outside_of_itself() {
        assert!(words(&Medium::Cd(PathBuf::from("/x"))).contains("restrict=on"));
    }
}
