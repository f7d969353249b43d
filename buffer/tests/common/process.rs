//! Tests in several processes, and disks of their own.

use super::Dice;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// So many times as often, for a long run.
pub fn factor() -> u64 {
    std::env::var_os("RAVEN_TRIALS").and_then(|n| n.to_str()?.parse().ok()).unwrap_or(1)
}

/// How often, with dice that are others in a long run.
pub fn trials(usual: u64) -> (u64, Dice) {
    (usual * factor(), Dice(usual + factor()))
}

/// In memory where there is such a place: what is tested is not this machine's disk.
pub fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// This test program again in a role of its own, as the process that may die.
pub fn child(role: &str, ring: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"]).env("RAVEN_TEST_RING", ring);
    command
}

/// A child that was told numbers.
pub fn child_told(role: &str, dir: &Path, told: &[(&str, u64)]) -> Command {
    let mut command = child(role, dir);
    command.envs(told.iter().map(|(name, value)| (name, value.to_string())));
    command
}

/// It runs, and its output is ours.
pub fn spawned(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The ring of a child; none when the tests run all that is ignored.
pub fn ring_of_child() -> Option<PathBuf> {
    std::env::var_os("RAVEN_TEST_RING").map(PathBuf::from)
}

/// What a child was told.
pub fn told(name: &str) -> u64 {
    std::env::var_os(name).unwrap().to_str().unwrap().parse().unwrap()
}

/// What the child says behind `word`; its end and all that it said when it does not.
pub fn answer(command: &mut Command, word: &str) -> Result<String, String> {
    let output = spawned(command).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().find_map(|line| line.split_once(word)).map(|(_, answer)| answer.trim().to_owned());
    found.ok_or_else(|| format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// The same, of a number.
pub fn said(role: &str, ring: &Path, word: &str) -> Result<u64, String> {
    answer(&mut child(role, ring), word).map(|number| number.parse().unwrap())
}

/// A copy of a ring.
pub fn copy_of(ring: &Path) -> TempDir {
    let dir = folder();
    let status = Command::new("cp").args(["-r", "--sparse=always"]).arg(ring.join(".")).arg(dir.path()).status();
    assert!(status.unwrap().success());
    dir
}

/// A small file system in memory; `None` (told) where the test may not mount.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        let made = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        if made.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("SKIPPED: this test mounts a small tmpfs, which needs root");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
