//! All of the initramfs that runs: finds the root file system, lets the kernel check every block of it, and starts it.
//!
//! Nothing is written to any disk here, but for one thing: after a factory reset was asked for, the data partition is
//! taken out of the disk's partition table. What goes wrong is said on the console, and the box starts anew, so that the
//! boot loader counts it and in the end takes the other slot.
//!
//! Modules lie in `/modules`; files there list them in the order in which they are loaded: `watchdog`, `disks` until the
//! root is found, `root` and `data` for what is on them. The data partition is mounted here when it is there and well,
//! so that Raven need not wait for udev; else systemd makes, checks and mounts it.

use nix::mount::{MsFlags, mount, umount};
use nix::sys::reboot::{RebootMode, reboot};
use raven_boot::cmdline::{self, Boot, Medium};
use raven_boot::mapper::{self, Target};
use raven_boot::{discard, ext4, gpt, layout, slots::Slot};
use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// A USB disk answers within this time, or there is none.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(100);
/// For people to read what went wrong.
const BEFORE_RESTART: Duration = Duration::from_secs(10);

type Outcome<T> = Result<T, String>;

/// Files of the root that every start reads, a path on a line.
const FIRST: &str = "usr/share/raven/read-first.txt";

fn main() {
    if std::env::args().nth(1).as_deref() == Some("read-first") {
        return read_first();
    }
    let Err(failed) = start();
    say(&format!("FAILED: {failed}; starting anew in {} s", BEFORE_RESTART.as_secs()));
    sleep(BEFORE_RESTART);
    let never = reboot(RebootMode::RB_AUTOBOOT);
    say(&format!("restart: {never:?}"));
}

fn start() -> Outcome<Infallible> {
    kernel_file_systems()?;
    let boot = cmdline::parse(&read("/proc/cmdline")?).map_err(|e| e.to_string())?;
    // Most of the time here goes into modules: a second processor takes half of them.
    let of_data = spawn(|| load_all("data"));
    load_all("watchdog")?;
    let mut watchdog = armed_watchdog();
    load_all("root")?;
    let (root, hashes, disk) = find(boot.medium, watchdog.as_mut())?;
    if let (Medium::Slot(_), Some(id)) = (boot.medium, boot.reset) {
        reset(&disk, id);
    }
    let device = open(&boot, &root, &hashes)?;
    mounted(&device, "/root", "squashfs", MsFlags::MS_RDONLY | MsFlags::MS_NODEV, "")?;
    // Beside what follows, since unpacking and checking what is read takes a processor most of a second. It ends by itself.
    if let Err(error) = Command::new("/init").arg("read-first").current_dir("/root").spawn() {
        say(&format!("nothing is read ahead: {error}"));
    }
    memory("/root/var", "mode=0755,size=25%")?;
    of_data.join().unwrap_or_else(|_| Err("a thread that loads modules ended".to_owned()))?;
    name_partitions(&disk)?;
    match boot.medium {
        Medium::Live => {
            memory("/root/data", "mode=0755,size=50%")?;
            is_mounted("", "What=tmpfs\nType=tmpfs")?;
            // It would wait for the EFI system partition to say something about a slot.
            std::os::unix::fs::symlink("/dev/null", "/run/systemd/system/raven-slot-started.service")
                .map_err(|e| e.to_string())?;
        }
        Medium::Slot(_) => match mount_data(&disk) {
            Ok(device) => is_mounted(
                "Wants=systemd-growfs@data.service\n",
                &format!("What=/dev/{device}\nType=ext4\nOptions={}", layout::DATA_OPTIONS),
            )?,
            Err(why) => say(&format!("the data partition is left to systemd: {why}")),
        },
    }
    switch(boot.medium)
}

/// Reads what will be started next, so that the kernel has it. What is not there is not read.
fn read_first() {
    let mut buffer = vec![0; 256 << 10];
    for path in fs::read_to_string(FIRST).unwrap_or_default().lines() {
        let Ok(mut file) = File::open(path) else { continue };
        while file.read(&mut buffer).is_ok_and(|n| n > 0) {}
    }
}

fn kernel_file_systems() -> Outcome<()> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mounted(kind, place, kind, MsFlags::MS_NOSUID, "")?;
    }
    mounted("tmpfs", "/run", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=0755,size=20%")
}

/// Modules of a list.
fn modules(list: &str) -> Outcome<Vec<String>> {
    Ok(read(&format!("/modules/{list}"))?.lines().map(str::to_owned).collect())
}

fn load_all(list: &str) -> Outcome<()> {
    modules(list)?.iter().try_for_each(|module| load(module))
}

/// Hardware that is not there refuses its own module, which is no fault.
fn load(module: &str) -> Outcome<()> {
    let file = File::open(Path::new("/modules").join(module)).map_err(|e| format!("/modules/{module}: {e}"))?;
    match nix::kmod::finit_module(&file, c"", nix::kmod::ModuleInitFlags::empty()) {
        Ok(()) | Err(nix::Error::EEXIST | nix::Error::ENODEV) => {}
        Err(error) => say(&format!("module {module}: {error}")),
    }
    Ok(())
}

/// From here on a kernel that hangs is started anew. Systemd takes the watchdog over; closing it does not stop it.
fn armed_watchdog() -> Option<File> {
    match OpenOptions::new().write(true).open("/dev/watchdog") {
        Ok(mut watchdog) => {
            feed(&mut watchdog);
            say("watchdog armed");
            Some(watchdog)
        }
        Err(error) => {
            say(&format!("no watchdog: {error}"));
            None
        }
    }
}

/// Discards the data partition `id` and starts anew, which then goes as the first start does. What was discarded already
/// is not there any more; what cannot be discarded is said, and the box goes on with what it has.
fn reset(disk: &str, id: gpt::Guid) {
    let opened = OpenOptions::new().read(true).write(true).open(Path::new("/dev").join(disk));
    match opened.map_err(Into::into).and_then(|mut opened| discard::discard(&mut opened, id)) {
        Ok(false) => {}
        Ok(true) => {
            say("factory reset: all data of this box are discarded; starting anew");
            let never = reboot(RebootMode::RB_AUTOBOOT);
            say(&format!("restart: {never:?}"));
        }
        Err(error) => say(&format!("factory reset: NOT done, the data are as they were: {error}")),
    }
}

fn feed(watchdog: &mut File) {
    if let Err(error) = watchdog.write_all(b"\n") {
        say(&format!("watchdog: {error}"));
    }
}

/// A part of a block device: the device as `MAJOR:MINOR`, from which sector on.
#[derive(Debug, Clone)]
struct Part {
    device: String,
    first: u64,
    sectors: u64,
}

/// Root, hash tree, and the name of the disk that holds them, as soon as they are there.
fn find(medium: Medium, mut watchdog: Option<&mut File>) -> Outcome<(Part, Part, String)> {
    let began = Instant::now();
    let mut disks = modules("disks")?.into_iter();
    loop {
        let found = match medium {
            Medium::Slot(slot) => slot_parts(slot),
            Medium::Live => live_parts(),
        };
        if let Some(found) = found {
            say(&format!("found on {} after {} ms", found.2, began.elapsed().as_millis()));
            return Ok(found);
        }
        match disks.next() {
            Some(module) => load(&module)?,
            None if began.elapsed() > PATIENCE => {
                let seen: Vec<String> = block_devices().collect();
                return Err(format!("no disk with {medium}; disks and partitions here: {}", seen.join(" ")));
            }
            None => sleep(POLL),
        }
        if let Some(watchdog) = &mut watchdog {
            feed(watchdog);
        }
    }
}

/// Partitions of a disk that Raven was installed on; the kernel knows them by name. Disks inside the box go first.
fn slot_parts(slot: Slot) -> Option<(Part, Part, String)> {
    let mut devices: Vec<String> = block_devices().collect();
    devices.sort_by_key(|name| (is_usb(name), name.clone()));
    let named = |wanted: String| {
        let mut found = devices.iter().filter(|d| uevent(d, "PARTNAME").as_deref() == Some(&wanted)).cloned();
        found.next()
    };
    let (root, hashes) = (named(format!("raven-{slot}"))?, named(format!("raven-{slot}-hashes"))?);
    let link = fs::read_link(format!("/sys/class/block/{root}")).ok()?;
    let disk = link.parent()?.file_name()?.to_str()?.to_owned();
    Some((whole(&root)?, whole(&hashes)?, disk))
}

/// Partitions on the installation medium, by the table in its first sectors: a CD has none for the kernel.
fn live_parts() -> Option<(Part, Part, String)> {
    block_devices().filter(|name| uevent(name, "DEVTYPE").as_deref() == Some("disk")).find_map(|name| {
        let mut front = vec![0; gpt::READ_SECTORS as usize * 512];
        File::open(format!("/dev/{name}")).and_then(|mut disk| disk.read_exact(&mut front)).ok()?;
        let (root, hashes) = layout::of_medium(&gpt::read(&front).ok()?)?;
        let device = whole(&name)?.device;
        let part = |found: gpt::Partition| Part { device: device.clone(), first: found.first, sectors: found.sectors };
        Some((part(root), part(hashes), name))
    })
}

fn whole(name: &str) -> Option<Part> {
    let sys = |what: &str| fs::read_to_string(format!("/sys/class/block/{name}/{what}")).ok();
    Some(Part { device: sys("dev")?.trim().to_owned(), first: 0, sectors: sys("size")?.trim().parse().ok()? })
}

fn block_devices() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| !["loop", "ram", "dm-", "zram"].iter().any(|other| name.starts_with(other)))
}

fn is_usb(name: &str) -> bool {
    let link = fs::read_link(format!("/sys/class/block/{name}")).unwrap_or_default();
    link.to_string_lossy().contains("/usb")
}

/// A variable of a device, as udev would see it.
fn uevent(name: &str, variable: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/class/block/{name}/uevent")).ok()?;
    let value = text.lines().filter_map(|line| line.split_once('=')).find(|(n, _)| *n == variable)?.1;
    Some(value.to_owned())
}

/// Puts the check of every block in front of the root; returns the device to mount.
fn open(boot: &Boot, root: &Part, hashes: &Part) -> Outcome<String> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/mapper/control");
    let control = control.map_err(|e| format!("device mapper: {e}"))?;
    let devices = [stretch(&control, "raven-data-blocks", root)?, stretch(&control, "raven-hashes", hashes)?];
    let table = boot.verity.table(&devices[0], &devices[1]);
    let target = Target { kind: "verity", sectors: boot.verity.sectors(), parameters: table };
    mapper::make(&control, "raven-root", &target).map_err(|e| format!("dm-verity over {}: {e}", root.device))
}

/// A device of its own for a part that does not begin where its device does.
fn stretch(control: &File, name: &str, part: &Part) -> Outcome<String> {
    if part.first == 0 {
        return Ok(part.device.clone());
    }
    let parameters = format!("{} {}", part.device, part.first);
    let target = Target { kind: "linear", sectors: part.sectors, parameters };
    mapper::make(control, name, &target).map_err(|e| format!("a part of {}: {e}", part.device))
}

/// Names for this disk's partitions below `/dev/raven`, by number of the disk: another disk in the box may have
/// partitions of the same names.
fn name_partitions(disk: &str) -> Outcome<()> {
    let number = read(&format!("/sys/class/block/{disk}/dev"))?;
    let number = number.trim();
    let rule = |partition: &str| {
        format!(
            "SUBSYSTEM==\"block\", ENV{{ID_PART_ENTRY_DISK}}==\"{number}\", \
             ENV{{ID_PART_ENTRY_NAME}}==\"raven-{partition}\", SYMLINK+=\"raven/{partition}\"\n"
        )
    };
    let this = format!("SUBSYSTEM==\"block\", ENV{{DEVTYPE}}==\"disk\", KERNEL==\"{disk}\", SYMLINK+=\"raven/disk\"\n");
    let parts = ["esp", "data", "A", "A-hashes", "B", "B-hashes"].map(rule);
    let rules = this + &parts.concat();
    fs::create_dir_all("/run/udev/rules.d").map_err(|e| e.to_string())?;
    fs::write("/run/udev/rules.d/61-raven.rules", rules).map_err(|e| e.to_string())
}

/// Mounts the data partition of `disk` and returns its name, or says why it is not for here.
fn mount_data(disk: &str) -> Outcome<String> {
    let on_disk = |name: &String| {
        let link = fs::read_link(format!("/sys/class/block/{name}")).ok();
        link.and_then(|link| Some(link.parent()?.file_name()? == disk)) == Some(true)
    };
    let mut devices = block_devices().filter(on_disk);
    let device = devices.find(|name| uevent(name, "PARTNAME").as_deref() == Some(layout::DATA_NAME));
    let device = device.ok_or("there is none yet")?;
    let path = format!("/dev/{device}");
    ext4::is_well(Path::new(&path)).map_err(|e| e.to_string())?;
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mounted(&path, "/root/data", "ext4", flags, layout::DATA_OPTIONS)?;
    // Playing back the journal can bring to light that it has to be checked.
    if let Err(error) = ext4::is_well(Path::new(&path)) {
        umount("/root/data").map_err(|e| e.to_string())?;
        return Err(error.to_string());
    }
    Ok(device)
}

/// `/data` is mounted already: systemd neither looks for the partition nor checks it.
fn is_mounted(wants: &str, what: &str) -> Outcome<()> {
    let unit =
        format!("[Unit]\nDescription=Raven: configuration, ring, identity\n{wants}[Mount]\nWhere=/data\n{what}\n");
    fs::create_dir_all("/run/systemd/system").map_err(|e| e.to_string())?;
    fs::write("/run/systemd/system/data.mount", unit).map_err(|e| e.to_string())
}

fn switch(medium: Medium) -> Outcome<Infallible> {
    for place in ["/proc", "/sys", "/dev", "/run"] {
        let to = format!("/root{place}");
        mount(Some(place), to.as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .map_err(|e| format!("moving {place}: {e}"))?;
    }
    say_to("/root/dev/kmsg", &format!("starting the root of {medium}"));
    // What the kernel unpacked would keep its memory.
    for name in ["modules", "init"] {
        let path = Path::new("/").join(name);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    std::env::set_current_dir("/root").map_err(|e| e.to_string())?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(|e| format!("moving the root: {e}"))?;
    nix::unistd::chroot(".").map_err(|e| format!("chroot: {e}"))?;
    std::env::set_current_dir("/").map_err(|e| e.to_string())?;
    let failed = Command::new("/usr/lib/systemd/systemd").arg0("/sbin/init").env_clear().exec();
    Err(format!("/usr/lib/systemd/systemd: {failed}"))
}

fn memory(place: &str, options: &str) -> Outcome<()> {
    mounted("tmpfs", place, "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, options)
}

fn mounted(what: &str, place: &str, kind: &str, flags: MsFlags, options: &str) -> Outcome<()> {
    fs::create_dir_all(place)
        .or_else(|e| if Path::new(place).is_dir() { Ok(()) } else { Err(e) })
        .map_err(|e| e.to_string())?;
    mount(Some(what), place, Some(kind), flags, Some(options)).map_err(|e| format!("mounting {what} at {place}: {e}"))
}

fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}

fn say(what: &str) {
    say_to("/dev/kmsg", what);
}

/// Into the kernel's log, with a level that a quiet kernel still shows on every console.
fn say_to(log: &str, what: &str) {
    let write = |mut log: File| log.write_all(format!("<3>raven-init: {what}\n").as_bytes());
    if OpenOptions::new().write(true).open(log).and_then(write).is_err() {
        let _ = writeln!(io::stderr(), "raven-init: {what}");
    }
}
