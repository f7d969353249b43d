//! A running `ravend`, started from a folder of programs, and stopped as systemd would.

use crate::matrix::net::inside;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest graceful stop: everything received is made durable first.
const STOP: Duration = Duration::from_mins(1);

/// The appliance, as a child of ours; killed when dropped, if it was not stopped.
#[derive(Debug)]
pub struct Appliance {
    child: Child,
    lines: Receiver<String>,
    programs: PathBuf,
    data: PathBuf,
}

impl Appliance {
    /// Starts `ravend`; what it logs goes to our standard error.
    pub fn start(programs: &Path, config: &Path, data: &Path) -> Result<Self> {
        Self::start_by(Command::new(programs.join("ravend")), programs, config, data)
    }

    /// The same, within a network namespace.
    pub fn start_inside(namespace: &str, programs: &Path, config: &Path, data: &Path) -> Result<Self> {
        Self::start_by(inside(namespace, programs.join("ravend")), programs, config, data)
    }

    /// The same by a command that becomes `ravend` when its arguments are put behind it.
    pub fn start_by(mut command: Command, programs: &Path, config: &Path, data: &Path) -> Result<Self> {
        command.arg("--config").arg(config).arg("--data").arg(data).stdin(Stdio::null()).stdout(Stdio::piped());
        // A group of its own, so that Ctrl-C reaches it only through us, once.
        let mut child = command.process_group(0).spawn().context("ravend could not be started")?;
        let output = child.stdout.take().expect("it was asked for above");
        Ok(Self { child, lines: lines_of(output), programs: programs.to_owned(), data: data.to_owned() })
    }

    /// Waits for the line `ready`; gives up when ravend ends or when `give_up` says so.
    pub fn wait_ready(&mut self, give_up: impl Fn() -> bool) -> Result<()> {
        while !give_up() {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line == "ready" => return Ok(()),
                Ok(line) => println!("{line}"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("ravend ended before it was ready ({}); its messages are above", self.child.wait()?)
                }
            }
        }
        bail!("ravend was not ready in time");
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The operator's program, aimed at this appliance.
    pub fn raven(&self) -> Command {
        let mut raven = Command::new(self.programs.join("raven"));
        raven.arg("--data").arg(&self.data);
        raven
    }

    /// `raven status --json`.
    pub fn status(&self) -> Result<Value> {
        let output = self.raven().args(["status", "--json"]).output().context("raven status")?;
        if !output.status.success() {
            bail!("raven status: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("raven status printed no JSON")
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it is gone.
    pub fn stop(mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("ravend ended by itself: {status}");
        }
        kill(self.nix_pid(), Signal::SIGTERM)?;
        let patience = Instant::now() + STOP;
        while Instant::now() < patience {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("ravend stopped with {status}"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        bail!("ravend did not stop within {} s and is killed", STOP.as_secs())
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// The child's lines, through a thread, so that waiting for one can have an end.
fn lines_of(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
