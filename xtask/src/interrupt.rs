//! Ctrl-C and SIGTERM: what was started ends before we do.

use crate::bench::machine;
use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a run may take to clean up behind its programs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// A flag that either raises; a second one ends us at once.
pub fn flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// For runs that start many programs: they are ended, by which the run fails and cleans up as after any failure.
pub fn end_children() -> Result<()> {
    let flag = flag()?;
    std::thread::spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
        eprintln!("xtask: told to stop");
        for round in 0..PATIENCE.as_millis() / LOOK.as_millis() {
            // Whoever does not end by itself, or is started in this very moment, is killed.
            let signal = if round < 30 { Signal::SIGTERM } else { Signal::SIGKILL };
            if round % 10 == 0 {
                let children = machine::children_of(std::process::id());
                for pid in children {
                    // One that is gone already needs none.
                    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
                }
            }
            std::thread::sleep(LOOK);
        }
        std::process::exit(130);
    });
    Ok(())
}
