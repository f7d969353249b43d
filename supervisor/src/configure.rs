//! Has the configuration parsed by a worker: root parses no text that a person or a program wrote. The same way keys
//! are made.

use crate::durable;
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
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A configuration is read in milliseconds; this is for a machine under heavy load.
const PATIENCE: Duration = Duration::from_secs(5);
/// Larger files are refused unread.
pub const TEXT_MAX: u64 = 1 << 20;

/// The text of the configuration file.
pub fn text(file: &Path) -> anyhow::Result<Vec<u8>> {
    let context = || format!("cannot read the configuration {}", file.display());
    let size = fs::metadata(file).with_context(context)?.len();
    if size > TEXT_MAX {
        bail!("{} has {size} bytes; a configuration has at most {TEXT_MAX}", file.display());
    }
    fs::read(file).with_context(context)
}

/// Makes `factory` the configuration where there is none.
pub fn begin_with(factory: &Path, file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        return Ok(());
    }
    let content = text(factory)?;
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).with_context(|| format!("cannot make the directory {}", folder.display()))?;
    durable::write_private(file, content)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
    tracing::info!("{} is what the factory gave: {}", file.display(), factory.display());
    Ok(())
}

/// Parses and checks a text; `file` is its name in messages. The errors of the text itself are the inner `Err`, a line
/// each with file, line and column.
pub fn parse(
    program: &OwnedFd,
    data: &Path,
    file: &Path,
    text: &[u8],
) -> anyhow::Result<Result<Box<Config>, Vec<String>>> {
    let environment: BTreeMap<String, String> =
        std::env::vars().filter(|(name, _)| name.starts_with("RAVEN_") && name != "RAVEN_LOG").collect();
    let fds = vec![Fd::ConfigText { name: file.display().to_string() }];
    let start = Start { environment, fds, ..start_once(Role::Config, "") };
    match ask(program, data, start, vec![memfd_of("raven-config", text)?])? {
        FromWorker::Config(result) => Ok(result),
        _ => bail!("the config worker gave another answer than a configuration"),
    }
}

/// The first message of a role that answers once.
pub fn start_once(role: Role, device: &str) -> Start {
    Start {
        role,
        device: device.to_owned(),
        boot_id: String::new(),
        data: "/".into(),
        config: None,
        listeners: BTreeMap::new(),
        environment: BTreeMap::new(),
        fds: Vec::new(),
    }
}

/// Starts a role that answers once, and returns its answer.
pub fn ask(program: &OwnedFd, data: &Path, start: Start, fds: Vec<OwnedFd>) -> anyhow::Result<FromWorker> {
    let role = start.role;
    let mut worker = Worker::new(role, Instant::now());
    worker.start(program.as_fd(), data).with_context(|| format!("cannot start the {role} worker"))?;
    worker.send(&ToWorker::Start(Box::new(start)), fds);
    let answer = answer(&mut worker);
    worker.kill();
    let reaped_by = Instant::now() + PATIENCE;
    while worker.is_alive() && worker.reap()?.is_none() && Instant::now() < reaped_by {
        wait(&worker, Duration::from_millis(10))?;
    }
    answer
}

fn answer(worker: &mut Worker) -> anyhow::Result<FromWorker> {
    let role = worker.role;
    let deadline = Instant::now() + PATIENCE;
    let mut packet = Vec::new();
    while Instant::now() < deadline {
        while let Some((message, _)) = worker.receive(&mut packet) {
            if matches!(
                message,
                FromWorker::Config(_)
                    | FromWorker::Keys { .. }
                    | FromWorker::DeviceKey { .. }
                    | FromWorker::Signed(_)
                    | FromWorker::Hashed(_)
                    | FromWorker::Verified(_)
            ) {
                return Ok(message);
            }
        }
        if let Some(end) = worker.reap()? {
            bail!("the {role} worker ended without an answer: {end}");
        }
        wait(worker, Duration::from_millis(50))?;
    }
    bail!("the {role} worker gave no answer within {} s", PATIENCE.as_secs())
}

fn wait(worker: &Worker, longest: Duration) -> anyhow::Result<()> {
    let Some((channel, process)) = worker.fds() else { return Ok(()) };
    let mut fds = [PollFd::new(channel, PollFlags::POLLIN), PollFd::new(process, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::try_from(longest).unwrap_or(PollTimeout::ZERO)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
