//! `raven-slot`: all that is done with slots and what the boot loader remembers of them. `ravend` runs it for updates,
//! systemd runs it when the box starts. See [`raven_boot::esp`] for what lies where.
//!
//! The EFI system partition is mounted in a mount namespace of its own, for as long as that takes.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use raven_boot::cmdline::{self, Medium};
use raven_boot::discard;
use raven_boot::esp::Esp;
use raven_boot::gpt::Guid;
use raven_boot::handed::Handed;
use raven_boot::slots::Slot;
use raven_boot::verdict::{Health, Verdict, verdict};
use raven_model::calendar;
use raven_model::table::OperatorRole;
use raven_model::units::UnixNanos;
use raven_model::update::{BOOT_MAX, FIXED, FORMATS, MANIFEST_MAX, Slots, keys};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const USAGE: &str = "usage: raven-slot [--slots DIR] [--key FILE] VERB
  show     what the boot loader knows, as JSON
  empty    nothing is started from the other slot any more: it is about to be written to
  stage    takes a bundle's header, kernel and initramfs on standard input: the other slot is started next
  started  notes that services begin, while the running slot is on trial
  judge    asks `raven health` and gives the running slot its tries back, or starts the box anew when it is on trial
  overdue  the running slot is still on trial after too long: keeps that as the reason, and starts the box anew
  good     gives the running slot its tries back
  reset-by-viewer, reset-by-operator, reset-by-admin
           the data partition is discarded at the next start, since somebody of that role asked for it";

const MOUNTED: &str = "/run/raven-esp";
/// How long the box has for being well, after `raven.service` was started.
const HEALTH_PATIENCE: &str = "90";
/// Another `raven-slot` has the partition mounted the other way.
const MOUNT_PATIENCE: Duration = Duration::from_secs(20);
/// Raven runs before udev has named the partition, on a busy machine long before.
const NAME_PATIENCE: Duration = Duration::from_mins(5);
/// `raven` exits so when `ravend` cannot be reached.
const UNREACHABLE: i32 = 3;
/// `WDIOF_CARDRESET` (linux/watchdog.h): the last restart was the watchdog's.
const CARD_RESET: u32 = 0x20;

struct Args {
    slots: PathBuf,
    key: PathBuf,
    verb: String,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).ok_or_else(|| USAGE.to_owned()).and_then(|args| run(&args)) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("raven-slot: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args { slots: "/dev/raven".into(), key: "/usr/share/raven/update.pub".into(), verb: String::new() };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--slots" => args.slots = words.next()?.into(),
            "--key" => args.key = words.next()?.into(),
            _ if args.verb.is_empty() => args.verb = word,
            _ => return None,
        }
    }
    (!args.verb.is_empty()).then_some(args)
}

fn run(args: &Args) -> Result<String, String> {
    let running = running(&args.slots)?;
    let open = |write| esp(&args.slots, write).map(|root| Esp::new(&root, running));
    let view = match args.verb.as_str() {
        "show" => open(false)?.show(),
        "empty" => open(true)?.empty(),
        "started" => open(true)?.started(),
        "good" => open(true)?.good(watchdog_restarted(), data_partition(&args.slots).ok().flatten()),
        "stage" => return stage(args, &open(true)?),
        "judge" => {
            // Before the partition is mounted: `ravend` wants to look at it meanwhile.
            let health = health();
            wait_for(&args.slots.join("esp"), NAME_PATIENCE);
            return judge(&open(true)?, health, data_partition(&args.slots).ok().flatten());
        }
        "overdue" => return overdue(&open(true)?),
        verb => match OperatorRole::ALL.into_iter().find(|role| verb == format!("reset-by-{role}")) {
            Some(role) => return reset(&args.slots, &open(true)?, role),
            None => return Err(USAGE.to_owned()),
        },
    };
    view.map_err(|e| e.to_string()).and_then(|view| json(&view))
}

fn json(view: &Slots) -> Result<String, String> {
    serde_json::to_string(view).map_err(|e| e.to_string())
}

/// The slot that runs: what the boot loader told the kernel. For tests a file `running` beside the slots stands in.
fn running(slots: &Path) -> Result<Slot, String> {
    if let Ok(text) = fs::read_to_string(slots.join("running")) {
        return text.trim().parse().map_err(|e: raven_boot::slots::EnvError| e.to_string());
    }
    let text = fs::read_to_string("/proc/cmdline").map_err(|e| format!("/proc/cmdline: {e}"))?;
    match cmdline::medium(&text) {
        Ok(Medium::Slot(slot)) => Ok(slot),
        Ok(Medium::Live) => Err("this box runs from the installation medium: it has no slots".to_owned()),
        Err(_) => Err("this is no installed box: it was not started from a slot".to_owned()),
    }
}

/// Where the EFI system partition can be looked into. A folder of that name is taken as it is.
fn esp(slots: &Path, write: bool) -> Result<PathBuf, String> {
    let device = slots.join("esp");
    if device.is_dir() {
        return Ok(device);
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("a mount namespace: {e}"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).map_err(|e| format!("private mounts: {e}"))?;
    fs::create_dir_all(MOUNTED).map_err(|e| format!("{MOUNTED}: {e}"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let flags = if write { flags | MsFlags::MS_SYNCHRONOUS } else { flags | MsFlags::MS_RDONLY };
    let began = Instant::now();
    loop {
        match mount(Some(&device), MOUNTED, Some("vfat"), flags, none) {
            Ok(()) => return Ok(MOUNTED.into()),
            Err(Errno::EBUSY) if began.elapsed() < MOUNT_PATIENCE => sleep(Duration::from_millis(100)),
            Err(error) => return Err(format!("{}: {error}", device.display())),
        }
    }
}

/// Until it is there, but not for ever: what is done next says that it is missing.
fn wait_for(path: &Path, patience: Duration) {
    let began = Instant::now();
    while !path.exists() && began.elapsed() < patience {
        sleep(Duration::from_millis(100));
    }
}

fn stage(args: &Args, esp: &Esp) -> Result<String, String> {
    let trusted = fs::read_to_string(&args.key).map_err(|e| format!("{}: {e}", args.key.display()))?;
    let most = BOOT_MAX + (FIXED + MANIFEST_MAX) as u64;
    let mut bytes = Vec::new();
    std::io::stdin().take(most + 1).read_to_end(&mut bytes).map_err(|e| format!("standard input: {e}"))?;
    let handed = Handed::read(&bytes, &keys(&trusted), FORMATS).map_err(|e| e.to_string())?;
    esp.stage(&handed).map_err(|e| e.to_string()).and_then(|view| json(&view))
}

/// Has the data partition discarded at the next start.
fn reset(slots: &Path, esp: &Esp, by: OperatorRole) -> Result<String, String> {
    let data = data_partition(slots)?.ok_or("the disk has no data partition: there is nothing to discard")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = calendar::format(UnixNanos(now.as_nanos() as u64), 0);
    esp.reset(data, &format!("{by}, {now}")).map_err(|e| e.to_string()).and_then(|view| json(&view))
}

/// The identity of the data partition, from the table of the disk that this system runs from.
fn data_partition(slots: &Path) -> Result<Option<Guid>, String> {
    let disk = slots.join("disk");
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", disk.display());
    let mut file = File::open(&disk).map_err(|e| wrong(&e))?;
    discard::data_partition(&mut file).map_err(|e| wrong(&e))
}

/// Does what follows from how well this system is.
fn judge(esp: &Esp, health: Health, data: Option<Guid>) -> Result<String, String> {
    let on_trial = esp.on_trial().map_err(|e| e.to_string())?;
    let asked = esp.show().map_err(|e| e.to_string())?.reset;
    let good = || esp.good(watchdog_restarted(), data).map_err(|e| e.to_string());
    match verdict(on_trial, health) {
        Verdict::Good => good().map(|view| {
            let gone = view.slots.iter().filter_map(|slot| Some((&slot.name, slot.given_up.as_ref()?)));
            let told = |all, (name, why)| format!("{all}; slot {name} was given up: {why}");
            let gone = gone.fold(String::new(), told);
            let reset = reset_done(asked.as_deref(), &view);
            format!("Raven: slot {} is well{reset}{gone}", view.running)
        }),
        Verdict::GoodButIll(why) => {
            let view = good()?;
            let reset = reset_done(asked.as_deref(), &view);
            Err(format!("Raven: slot {} stays{reset}, but is not well: {why}", view.running))
        }
        Verdict::Leave(why) => Err(format!("Raven: this slot is not well, and one of its tries stays spent: {why}")),
        Verdict::Restart(why) => {
            let view = esp.failed(&why).map_err(|e| e.to_string())?;
            eprintln!("Raven: the new system in slot {} is not well, starting anew: {why}", view.running);
            restart()
        }
    }
}

/// What is said when the order of before is one no longer.
fn reset_done(asked: Option<&str>, now: &Slots) -> String {
    let done = asked.filter(|_| now.reset.is_none());
    done.map_or_else(String::new, |by| format!("; all data were discarded, asked for by {by}"))
}

/// Something never ended starting, so that nobody looked whether the system is well.
fn overdue(esp: &Esp) -> Result<String, String> {
    if !esp.on_trial().map_err(|e| e.to_string())? {
        return Ok("this system was judged".to_owned());
    }
    esp.failed("it did not come so far in a quarter of an hour that anything looked whether it is well")
        .map_err(|e| e.to_string())?;
    restart()
}

fn health() -> Health {
    let asked = Command::new("/usr/bin/raven").args(["health", "--wait", HEALTH_PATIENCE]).output();
    let output = match asked {
        Ok(output) => output,
        Err(error) => return Health::Silent(format!("/usr/bin/raven: {error}")),
    };
    let text = [output.stdout, output.stderr].concat();
    let why = String::from_utf8_lossy(&text).lines().filter(|l| !l.starts_with("ok")).collect::<Vec<_>>().join("; ");
    match output.status.code() {
        Some(0) => Health::Well,
        Some(UNREACHABLE) | None => Health::Silent(why),
        Some(_) => Health::Ill(why),
    }
}

fn restart() -> Result<String, String> {
    let asked = Command::new("systemctl").args(["--no-block", "reboot"]).status();
    if asked.is_ok_and(|status| status.success()) {
        return Ok("Raven: starting anew".to_owned());
    }
    // Whoever should do it does not answer.
    nix::unistd::sync();
    let never = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT);
    Err(format!("restart: {never:?}"))
}

fn watchdog_restarted() -> bool {
    let text = fs::read_to_string("/sys/class/watchdog/watchdog0/bootstatus").unwrap_or_default();
    text.trim().parse::<u32>().is_ok_and(|status| status & CARD_RESET != 0)
}
