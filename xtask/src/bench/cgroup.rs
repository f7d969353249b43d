//! A memory cgroup: what the processes in it use, their page cache included, is held to a limit.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup of our own; removed when dropped, once its processes have ended.
pub struct MemoryLimit {
    dir: PathBuf,
    stat_key: &'static str,
}

impl MemoryLimit {
    /// Makes one of so many bytes, of version 2 or of version 1, whichever governs memory here. Needs root.
    pub fn new(bytes: u64) -> Result<Self> {
        let name = format!("raven-bench-{}", std::process::id());
        let controllers = fs::read_to_string(format!("{ROOT}/cgroup.controllers")).unwrap_or_default();
        let (parent, limit, stat_key) = if controllers.split_whitespace().any(|word| word == "memory") {
            fs::write(format!("{ROOT}/cgroup.subtree_control"), "+memory").context("cgroups cannot be set up")?;
            (Path::new(ROOT).to_owned(), "memory.max", "file")
        } else if Path::new(ROOT).join("memory").is_dir() {
            (Path::new(ROOT).join("memory"), "memory.limit_in_bytes", "cache")
        } else {
            bail!("no memory cgroups at {ROOT}");
        };
        let dir = parent.join(name);
        fs::create_dir(&dir).with_context(|| format!("{} cannot be made: run as root", dir.display()))?;
        let made = Self { dir, stat_key };
        made.write(limit, bytes)?;
        Ok(made)
    }

    /// Holds a process to it, and what that process starts from now on.
    pub fn take(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", u64::from(pid))
    }

    /// Its page cache, in words.
    pub fn usage(&self) -> Result<String> {
        let stat = fs::read_to_string(self.dir.join("memory.stat"))?;
        let value = |key: &str| {
            let mut values = stat.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| *name == key);
            values.next().and_then(|(_, value)| value.parse::<u64>().ok())
        };
        let cached = value(self.stat_key).with_context(|| format!("memory.stat shows no `{}`", self.stat_key))?;
        Ok(format!("{} MiB in the page cache", cached >> 20))
    }

    fn write(&self, file: &str, value: u64) -> Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value.to_string()).with_context(|| format!("{} takes no {value}", path.display()))
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.dir) {
            eprintln!("{} is still there: {error}", self.dir.display());
        }
    }
}
