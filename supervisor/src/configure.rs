//! Has the configuration parsed by a worker: root parses no text that a person or a program wrote.

use crate::worker::Worker;
use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_jail::memory::memfd_of;
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, Start, ToWorker};
use raven_model::table::Role;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A configuration is read in milliseconds; this is for a machine under heavy load.
const PATIENCE: Duration = Duration::from_secs(5);
/// Larger files are refused unread.
const TEXT_MAX: u64 = 1 << 20;

/// Reads, parses and checks the file. The errors of the file itself are the inner `Err`, a line each with file, line
/// and column.
pub fn read(program: &OwnedFd, data: &Path, file: &Path) -> anyhow::Result<Result<Box<Config>, Vec<String>>> {
    let size = fs::metadata(file).with_context(|| format!("cannot read the configuration {}", file.display()))?.len();
    if size > TEXT_MAX {
        bail!("{} has {size} bytes; a configuration has at most {TEXT_MAX}", file.display());
    }
    let text = fs::read(file).with_context(|| format!("cannot read the configuration {}", file.display()))?;
    let mut worker = Worker::new(Role::Config, Instant::now());
    worker.start(program.as_fd(), data).context("cannot start the config worker")?;
    worker.send(&ToWorker::Start(Box::new(start(file))), vec![memfd_of("raven-config", &text)?]);
    let answer = answer(&mut worker);
    worker.kill();
    let reaped_by = Instant::now() + PATIENCE;
    while worker.is_alive() && worker.reap()?.is_none() && Instant::now() < reaped_by {
        wait(&worker, Duration::from_millis(10))?;
    }
    answer
}

fn start(file: &Path) -> Start {
    let environment: BTreeMap<String, String> =
        std::env::vars().filter(|(name, _)| name.starts_with("RAVEN_") && name != "RAVEN_LOG").collect();
    Start {
        role: Role::Config,
        device: String::new(),
        boot_id: String::new(),
        data: "/".into(),
        config: None,
        listeners: BTreeMap::new(),
        environment,
        fds: vec![Fd::ConfigText { name: file.display().to_string() }],
    }
}

fn answer(worker: &mut Worker) -> anyhow::Result<Result<Box<Config>, Vec<String>>> {
    let deadline = Instant::now() + PATIENCE;
    let mut packet = Vec::new();
    while Instant::now() < deadline {
        while let Some(message) = worker.receive(&mut packet) {
            if let FromWorker::Config(result) = message {
                return Ok(result);
            }
        }
        if let Some(end) = worker.reap()? {
            bail!("the config worker ended without an answer: {end}");
        }
        wait(worker, Duration::from_millis(50))?;
    }
    bail!("the config worker gave no answer within {} s", PATIENCE.as_secs())
}

fn wait(worker: &Worker, longest: Duration) -> anyhow::Result<()> {
    let Some((channel, process)) = worker.fds() else { return Ok(()) };
    let mut fds = [PollFd::new(channel, PollFlags::POLLIN), PollFd::new(process, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::try_from(longest).unwrap_or(PollTimeout::ZERO)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
