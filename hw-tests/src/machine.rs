//! A box: what it starts from, its serial line, and what is seen there. It is emulated ([`crate::qemu`]) and ends with its
//! value; or it is a real one at the serial device that `RAVEN_HW_SERIAL` names, where somebody does what is asked for.

use crate::network::Network;
use crate::qemu::Emulated;
use crate::serial::{PATIENCE, Serial};
use crate::variants::Built;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, OpenOptions};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long an emulated box may take to draw a page on its serial line.
const DRAWING: Duration = Duration::from_secs(4);

/// A person's patience with a button.
const PRESSED_EVERY: Duration = Duration::from_secs(20);

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
    /// A disk that is offered at this socket ([`crate::volatile`]).
    Volatile(PathBuf),
}

/// What a box has beside what it starts from.
#[derive(Debug, Clone)]
pub enum Beside {
    /// A disk to read only.
    ReadOnly(PathBuf),
    /// A disk.
    Disk(PathBuf),
    /// A disk of a kind that tells of its health: the device, with what it needs.
    Kind(&'static str, PathBuf),
    /// A USB stick.
    Stick(PathBuf),
}

impl Beside {
    /// Its arguments, as the `n`th.
    pub fn arguments(&self, n: usize) -> Vec<String> {
        let (file, more, device) = match self {
            Self::ReadOnly(file) => (file, ",readonly=on", vec![format!("virtio-blk-pci,drive=more{n}")]),
            Self::Disk(file) => (file, "", vec![format!("virtio-blk-pci,drive=more{n}")]),
            Self::Kind(device, file) => (file, "", vec![format!("{device},drive=more{n}")]),
            Self::Stick(file) => (file, "", vec!["qemu-xhci".to_owned(), format!("usb-storage,drive=more{n}")]),
        };
        let drive = format!("if=none,id=more{n},format=raw{more},file={}", file.display());
        let devices = device.into_iter().flat_map(|device| ["-device".to_owned(), device]);
        ["-drive".to_owned(), drive].into_iter().chain(devices).collect()
    }
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
    network: Option<Rc<Network>>,
    pub(crate) forwards: Option<(&'static str, u16, u16)>,
    carried: Vec<Beside>,
}

impl Lab {
    /// For the scenario `name`.
    pub fn new(images: &Path, key: &Path, out: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let work = tempfile::tempdir()?;
        let key = key.to_owned();
        Ok(Self {
            images: images.to_owned(),
            key,
            out: out.to_owned(),
            name: name.to_owned(),
            work,
            starts: 0,
            network: None,
            forwards: None,
            carried: Vec::new(),
        })
    }

    /// Boxes that start from now on are plugged into this network, instead of one of QEMU's own with DHCP.
    pub fn plug(&mut self, network: Network) -> Rc<Network> {
        let network = Rc::new(network);
        self.network = Some(Rc::clone(&network));
        network
    }

    /// What they are plugged into.
    pub fn network(&self) -> Option<Rc<Network>> {
        self.network.clone()
    }

    /// A free port of this machine, which is returned, leads to one of the boxes that start from now on (`tcp` or `udp`); for
    /// those that are not plugged in.
    pub fn forward(&mut self, proto: &'static str, to: u16) -> Result<u16> {
        let from = match proto {
            "udp" => UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port(),
            _ => TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        };
        self.forwards = Some((proto, from, to));
        Ok(from)
    }

    /// Boxes that start from now on have this disk too, to read only.
    pub fn carry(&mut self, disk: &Path) {
        self.carried = vec![Beside::ReadOnly(disk.to_owned())];
    }

    /// Which scenario this is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder for files of the scenario.
    pub fn work(&self) -> &Path {
        self.work.path()
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
        self.start_beside(firmware, medium, &self.carried.clone())
    }

    /// Turns a box on that has more disks, to read only.
    pub fn start_with(&mut self, firmware: Firmware, medium: &Medium, more: &[PathBuf]) -> Result<Machine> {
        let more: Vec<Beside> = more.iter().cloned().map(Beside::ReadOnly).collect();
        self.start_beside(firmware, medium, &more)
    }

    /// A USB stick with a FAT file system and this configuration on it.
    pub fn stick(&self, name: &str, config: &str) -> Result<PathBuf> {
        let file = self.work.path().join(format!("{name}.toml"));
        fs::write(&file, config)?;
        raven_image::disk::fat(&self.work.path().join(format!("{name}.stick")), 8 << 20, &[], &[(file, "/raven.toml")])
    }

    /// A new disk of so many GiB.
    pub fn empty_disk(&self, gib: u64) -> Result<PathBuf> {
        let to = self.work.path().join("empty");
        fs::File::create(&to)?.set_len(gib << 30)?;
        Ok(to)
    }

    /// Turns a box on that has more than what it starts from.
    pub fn start_beside(&mut self, firmware: Firmware, medium: &Medium, beside: &[Beside]) -> Result<Machine> {
        self.starts += 1;
        let log = self.out.join(format!("{}-{}.log", self.name, self.starts));
        let pictures = self.out.join(&self.name);
        let (serial, emulated) = if let Some(device) = real_box() {
            (real(&device, &log, firmware, medium)?, None)
        } else {
            let (serial, emulated) = Emulated::start(self, firmware, medium, beside, &log)?;
            (serial, Some(emulated))
        };
        Ok(Machine { emulated, serial, pictures, began: Instant::now() })
    }
}

/// The serial device that a real box is at, when there is one.
pub fn real_box() -> Option<PathBuf> {
    std::env::var_os("RAVEN_HW_SERIAL").map(PathBuf::from)
}

/// What a variable names at a real box.
pub fn named(variable: &str) -> Option<String> {
    let name = std::env::var_os(variable).filter(|_| real_box().is_some())?;
    Some(name.to_string_lossy().into_owned())
}

/// The disk that an installation goes to.
pub fn target_disk() -> String {
    named("RAVEN_HW_DISK").unwrap_or_else(|| "vda".to_owned())
}

/// Somebody does at a real box what the scenario wants, once the line is open.
fn real(device: &Path, log: &Path, firmware: Firmware, medium: &Medium) -> Result<Serial> {
    let from = match medium {
        Medium::Disk(_) => "from its own disk".to_owned(),
        Medium::Cd(file) => format!("from a CD with {}", file.display()),
        Medium::Usb(file) | Medium::Virtual(file) => format!("from a USB stick with {}", file.display()),
        Medium::Volatile(_) => bail!("only a virtual machine has a disk that forgets"),
    };
    let serial = Serial::device(device, log)?;
    println!("  >>> At the box: start it by {firmware:?}, {from}.");
    Ok(serial)
}

/// A box that is on.
#[derive(Debug)]
pub struct Machine {
    /// Nothing at a real box.
    emulated: Option<Emulated>,
    serial: Serial,
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
        self.draws(what, None)
    }

    fn draws(&mut self, what: &str, enough: Option<&str>) -> Result<String> {
        let began = Instant::now();
        loop {
            self.serial.send(b"\x0c")?;
            let page = self.serial.said_in(DRAWING, enough)?;
            if page.contains(what) {
                println!("  {:6.1} s  shows {what}", self.began.elapsed().as_secs_f64());
                return Ok(page);
            }
            ensure!(began.elapsed() < PATIENCE, "the console does not show `{what}`; it shows:\n{page}");
        }
    }

    /// Types answers; after each the console shows what stands beside it.
    pub fn answers(&mut self, dialog: &[(&str, &str)]) -> Result<()> {
        for (keys, shown) in dialog {
            self.serial.send(keys.as_bytes())?;
            self.draws(shown, Some(shown))?;
        }
        Ok(())
    }

    /// Presses a key again and again, as somebody who waits for a menu, until `what` is said: where the firmware reads the
    /// line too, it keeps an Esc to itself until the next byte comes.
    pub fn press_until(&mut self, key: &str, every: Duration, what: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            self.serial.send(key.as_bytes())?;
            match self.serial.expect(what, &[], every) {
                Ok(_) => break,
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => {}
            }
        }
        println!("  {:6.1} s  {what}", self.began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Sends bytes as fast as the line takes them, and reads on meanwhile.
    pub fn floods(&mut self, bytes: &[u8]) -> Result<()> {
        self.serial.send(bytes)?;
        println!("  {:6.1} s  {} bytes typed", self.began.elapsed().as_secs_f64(), bytes.len());
        Ok(())
    }

    /// Waits until the serial line says one of these; which.
    pub fn expect_one_of(&mut self, whats: &[&str]) -> Result<usize> {
        let found = self.serial.expect_one_of(whats, PATIENCE)?;
        println!("  {:6.1} s  {}", self.began.elapsed().as_secs_f64(), whats[found]);
        Ok(found)
    }

    /// Listens for so long.
    pub fn listen(&mut self, time: Duration) -> Result<()> {
        self.serial.said_in(time, None).map(drop)
    }

    /// Pulls the plug.
    pub fn unplug(self) {
        drop(self.emulated);
    }

    /// Types on the serial line.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.serial.send(keys.as_bytes())
    }

    /// Keeps what is on the screen; a real box's stays there.
    pub fn screenshot(&mut self, name: &str) -> Result<()> {
        let to = self.pictures.with_added_extension(format!("{name}.png"));
        self.emulated.as_mut().map_or(Ok(()), |emulated| emulated.monitor.screenshot(&to))
    }

    /// Presses the button and waits until the box is off. Its driver may not be there yet: so once more, like anybody would.
    pub fn power_off(mut self) -> Result<()> {
        if self.emulated.is_none() {
            println!("  >>> At the box: press the power button, briefly.");
        }
        self.off(Some(PRESSED_EVERY))
    }

    /// Waits until the box is off.
    pub fn turns_off(mut self) -> Result<()> {
        self.off(None)
    }

    fn off(&mut self, press: Option<Duration>) -> Result<()> {
        let Some(emulated) = &mut self.emulated else { return self.expect("reboot: Power down").map(drop) };
        let (began, mut pressed) = (Instant::now(), 0);
        while emulated.is_on()? {
            ensure!(began.elapsed() < PATIENCE, "the box does not turn off");
            if press.is_some_and(|every| began.elapsed() >= every * pressed) {
                pressed += 1;
                // It may be off by now.
                let _ = emulated.monitor.power_button();
            }
            // Its last words would fill the line, and it would wait for somebody to read them.
            let _ = self.serial.expect("\0never\0", &[], Duration::from_millis(200));
        }
        println!("  {:6.1} s  off", self.began.elapsed().as_secs_f64());
        Ok(())
    }
}
