//! `raven-slot good | show`: what the boot loader remembers of the slots.
//!
//! `good` gives the running slot its tries back; systemd runs it when the appliance is up. The EFI system partition is
//! mounted in a mount namespace of its own, for as long as that takes.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use raven_boot::cmdline::{self, Medium};
use raven_boot::slots::{Env, Slot};
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, Write};
use std::process::ExitCode;

const ESP: &str = "/dev/raven/esp";
const MOUNTED: &str = "/run/raven-esp";

fn main() -> ExitCode {
    let verb = std::env::args().nth(1);
    let done = match verb.as_deref() {
        Some("good") => with_env(true),
        Some("show") => with_env(false),
        _ => Err("usage: raven-slot good | show".to_owned()),
    };
    match done {
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

fn with_env(good: bool) -> Result<String, String> {
    let cmdline = fs::read_to_string("/proc/cmdline").map_err(|e| format!("/proc/cmdline: {e}"))?;
    let running = match cmdline::medium(&cmdline).map_err(|e| e.to_string())? {
        Medium::Live => return Ok("live: no slot is running".to_owned()),
        Medium::Slot(slot) => slot,
    };
    mount_esp(good)?;
    let path = format!("{MOUNTED}/raven/grubenv");
    let wrong = |e: std::io::Error| format!("{path}: {e}");
    let mut file = OpenOptions::new().read(true).write(good).open(&path).map_err(wrong)?;
    let mut block = Vec::new();
    file.read_to_end(&mut block).map_err(wrong)?;
    let mut env = Env::parse(&block).map_err(|e| e.to_string())?;
    if good {
        env.good(running);
        let block = env.block().map_err(|e| e.to_string())?;
        // In place: the file keeps its clusters, and all that changes is in one sector.
        file.rewind().and_then(|()| file.write_all(&block)).and_then(|()| file.sync_all()).map_err(wrong)?;
    }
    Ok(shown(&env, running))
}

fn mount_esp(writable: bool) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("a mount namespace: {e}"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).map_err(|e| format!("private mounts: {e}"))?;
    fs::create_dir_all(MOUNTED).map_err(|e| format!("{MOUNTED}: {e}"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let flags = if writable { flags | MsFlags::MS_SYNCHRONOUS } else { flags | MsFlags::MS_RDONLY };
    mount(Some(ESP), MOUNTED, Some("vfat"), flags, none).map_err(|e| format!("{ESP}: {e}"))
}

fn shown(env: &Env, running: Slot) -> String {
    let slot = |slot: Slot| {
        let state = env.state(slot);
        let held = if state.filled { format!("{} tries left", state.tries) } else { "empty".to_owned() };
        format!("slot {slot}: {held}{}", if slot == running { ", running" } else { "" })
    };
    format!("{}; {}", slot(Slot::A), slot(Slot::B))
}
