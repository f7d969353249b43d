//! Tests beside each other. Most of them wait for something, so a machine is used far better by as many at a time as it
//! has cores; and each in a process of its own, so that one that breaks off takes no other with it.

use crate::build;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whoever has not ended by then hangs, and would take all the time there is.
const LIMIT: Duration = Duration::from_mins(10);
/// The same with the long counts.
const LONG_LIMIT: Duration = Duration::from_hours(2);
/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A test program that was built.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// Where Cargo runs it.
    folder: PathBuf,
}

/// What is run in one process.
#[derive(Debug)]
pub struct Job {
    name: String,
    command: Command,
    limit: Duration,
}

/// Builds the tests that `cargo test` with these arguments would run.
pub fn build(arguments: &[&str]) -> Result<Vec<Program>> {
    let mut cargo = build::cargo();
    cargo.arg("test").args(arguments).args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let built = cargo.stderr(Stdio::inherit()).output().context("cargo test --no-run")?;
    ensure!(built.status.success(), "cargo test --no-run {}: {}", arguments.join(" "), built.status);
    let told = String::from_utf8_lossy(&built.stdout);
    Ok(told.lines().filter_map(program).collect())
}

/// The test program of a message of Cargo's.
fn program(line: &str) -> Option<Program> {
    let told: Value = serde_json::from_str(line).ok()?;
    let path = told["executable"].as_str().filter(|_| told["profile"]["test"] == true)?;
    let manifest = Path::new(told["manifest_path"].as_str()?);
    Some(Program { path: path.into(), folder: manifest.parent()?.to_owned() })
}

impl Program {
    /// All of its tests in one process.
    pub fn whole(&self) -> Job {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let target = file.rsplit_once('-').map_or(&*file, |(target, _)| target);
        let package = self.folder.strip_prefix(build::root()).unwrap_or(&self.folder);
        let command = self.placed(inside(Processes::Shared, &self.path));
        Job { name: format!("{}: {target}", package.display()), command, limit: LIMIT }
    }

    /// Each of its tests in a process of its own.
    pub fn single(&self) -> Result<Vec<Job>> {
        let listed =
            self.placed(Command::new(&self.path)).args(["--list", "--format", "terse"]).output().context("--list")?;
        ensure!(listed.status.success(), "{} --list: {}", self.path.display(), listed.status);
        let listed = String::from_utf8(listed.stdout)?;
        let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(|name| self.one(name)).collect())
    }

    fn one(&self, name: &str) -> Job {
        let mut command = self.placed(inside(Processes::Own, &self.path));
        command.args(["--exact", name, "--nocapture"]);
        Job { name: name.to_owned(), command, limit: LIMIT }
    }

    fn placed(&self, mut command: Command) -> Command {
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }
}

/// Which processes a program sees.
#[derive(Clone, Copy)]
enum Processes {
    /// All of the machine's.
    Shared,
    /// Those that it starts, and they end with it: tests look for processes by their names, and end them.
    Own,
}

/// WireGuard in user space has its sockets, and `ip netns` its namespaces, by names: those of each program are its own, as are
/// its loopback, ports and devices.
const NAMES: &str = "\
    for at in /run/netns /run/wireguard; do mkdir -p $at && mount -t tmpfs tmpfs $at || exit; done; \
    ip link set lo up || exit";

/// Starts a program in a place of its own, where we may make namespaces.
fn inside(processes: Processes, program: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    let then = match processes {
        Processes::Shared => r#"exec "$@""#,
        Processes::Own => {
            command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
            // The shell is the first process: it waits for the program, and buries what others left.
            r#""$@"; exit $?"#
        }
    };
    command.args(["sh", "-c", &format!("{NAMES}; {then}"), "sh"]).arg(program);
    command
}

impl Job {
    /// Whether its name begins with one of these.
    pub fn is_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.name.starts_with(name))
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With the long counts.
    pub fn in_full(self) -> Self {
        Self { limit: LONG_LIMIT, ..self.env("RAVEN_FULL", "1") }
    }

    /// Runs it. What it printed is for those who look why it failed.
    fn run(&mut self) -> Result<(ExitStatus, String)> {
        let mut printed = tempfile::tempfile()?;
        self.command.stdout(printed.try_clone()?).stderr(printed.try_clone()?);
        let mut child = self.command.spawn().with_context(|| format!("{} could not be started", self.name))?;
        let ends = Instant::now() + self.limit;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() >= ends {
                // What it printed is shown as of any that fails.
                child.kill()?;
                break child.wait()?;
            }
            std::thread::sleep(LOOK);
        };
        Ok((status, read_all(&mut printed)?))
    }
}

fn read_all(file: &mut File) -> Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As many as it has cores: what waits takes none of them for long.
pub fn of_this_machine() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Runs all of them, as many at a time as there are `lanes`, also after one has failed.
pub fn run(jobs: Vec<Job>, lanes: usize) -> Result<()> {
    ensure!(!jobs.is_empty(), "there is no test to run");
    let (all, jobs, failed) = (jobs.len(), Mutex::new(VecDeque::from(jobs)), Mutex::new(Vec::new()));
    let lane = || -> Result<()> {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(mut job) = job else { return Ok(()) };
            let began = Instant::now();
            let (status, printed) = job.run()?;
            tell(&job.name, began.elapsed(), status, &printed);
            if !status.success() {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(job.name);
            }
        }
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().unwrap_or_else(|_| bail!("a lane ended")))
    })?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("{} of {all} failed: {}", failed.len(), failed.join(", "));
    }
    Ok(())
}

/// In one piece, whatever the other lanes say.
fn tell(name: &str, took: Duration, status: ExitStatus, printed: &str) {
    let seconds = took.as_secs_f64();
    if status.success() {
        println!("ok      {seconds:>6.1} s  {name}");
    } else {
        println!("FAILED  {seconds:>6.1} s  {name}: {status}\n{printed}--- end of {name}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn job(name: &str, script: &str) -> Job {
        let mut command = inside(Processes::Own, Path::new("sh"));
        command.args(["-c", script]);
        Job { name: name.to_owned(), command, limit: LIMIT }
    }

    fn failed(jobs: Vec<Job>, lanes: usize) -> String {
        run(jobs, lanes).unwrap_err().to_string()
    }

    #[test]
    fn the_others_run_also_after_one_has_failed_and_all_that_failed_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let ran = folder.path().join("ran");
        let jobs = vec![
            job("first", "exit 3"),
            job("second", &format!("touch {}", ran.display())),
            job("third", "kill -SEGV $$"),
        ];
        assert_eq!(failed(jobs, 1), "2 of 3 failed: first, third");
        assert!(ran.exists());
    }

    #[test]
    fn no_test_at_all_is_a_failure() {
        assert_eq!(failed(Vec::new(), 2), "there is no test to run");
    }

    #[test]
    fn as_many_run_beside_each_other_as_there_are_lanes() {
        let folder = tempfile::tempdir().unwrap();
        // Each waits for what the other makes.
        let script = |mine: &str, other: &str| {
            let at = |name: &str| folder.path().join(name).display().to_string();
            format!("touch {}; until [ -e {} ]; do sleep 0.01; done", at(mine), at(other))
        };
        run(vec![job("a", &script("a", "b")), job("b", &script("b", "a"))], 2).unwrap();
    }

    #[test]
    fn one_that_hangs_is_ended_with_all_that_it_started() {
        if !nix::unistd::geteuid().is_root() {
            println!("not run: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (beats, script) = (folder.path().join("beats"), "(while :; do echo >> $BEATS; sleep 0.01; done) & wait");
        let hanging = Job { limit: Duration::from_millis(500), ..job("hangs", script) }.env("BEATS", &beats);
        assert_eq!(failed(vec![hanging], 1), "1 of 1 failed: hangs");
        let length = || fs::metadata(&beats).unwrap().len();
        let then = length();
        assert!(then > 0);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(length(), then);
    }

    #[test]
    fn what_one_leaves_behind_ends_with_it_and_is_seen_by_no_other() {
        if !nix::unistd::geteuid().is_root() {
            println!("not run: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (ready, seen) = (folder.path().join("ready"), folder.path().join("seen"));
        let leaves =
            format!("sleep 4321 & touch {}; until [ -e {} ]; do sleep 0.01; done", ready.display(), seen.display());
        let looks = format!(
            "until [ -e {} ]; do sleep 0.01; done; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' > {}",
            ready.display(),
            seen.display()
        );
        run(vec![job("leaves", &leaves), job("looks", &looks)], 2).unwrap();
        let seen = fs::read_to_string(seen).unwrap();
        assert!(seen.contains("cat /proc") && !seen.contains("sleep 4321"), "{seen}");
        let runs =
            |pid: fs::DirEntry| fs::read(pid.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x004321\0");
        assert!(!fs::read_dir("/proc").unwrap().flatten().any(runs));
    }
}
