//! What a family of processes costs, read from /proc.

use anyhow::{Context, Result};
use std::fmt;

/// CPU ticks a second (`USER_HZ`), the same on every Linux of these architectures.
const TICKS: f64 = 100.0;

/// A process as `/proc/PID/stat` shows it.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// cutime + cstime: of children that ended and were waited for.
    ended_children: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in parentheses may hold blanks and parentheses, so fields are counted from its end (`proc_pid_stat(5)`).
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat { parent: number(4)? as u32, ended_children: number(16)? + number(17)? })
}

/// CPU seconds of a process that lives, of its threads that live: to the nanosecond, where `stat` counts ticks.
fn own_seconds(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    texts.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum::<u64>() as f64 / 1e9
}

/// `root` and its children that live.
fn family(root: u32) -> Vec<(u32, Stat)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| stat(pid).map(|stat| (pid, stat)))
        .filter(|(pid, stat)| *pid == root || stat.parent == root)
        .collect()
}

/// Its children that live.
pub fn children_of(root: u32) -> Vec<u32> {
    family(root).into_iter().map(|(pid, _)| pid).filter(|pid| *pid != root).collect()
}

/// CPU seconds of `root` and its children, living and dead.
pub fn cpu_seconds(root: u32) -> f64 {
    let ended = |stat: &Stat| stat.ended_children as f64 / TICKS;
    family(root).iter().map(|(pid, stat)| own_seconds(*pid) + ended(stat)).sum()
}

/// CPU seconds of one process, without its children; none when it is gone.
pub fn cpu_of(pid: u32) -> f64 {
    own_seconds(pid)
}

/// Memory of `root` and its children, MiB: each shared page counted once, in shares (PSS, `proc_pid_smaps(5)`).
pub fn pss_mib(root: u32) -> Result<f64> {
    family(root).iter().map(|(pid, _)| Ok(memory_of(*pid)?.total)).sum()
}

/// Memory of one process by what it is, MiB; each shared page in shares (PSS, `proc_pid_smaps(5)`).
#[derive(Default)]
pub struct Memory {
    pub total: f64,
    /// Its own: heap and stacks.
    pub anonymous: f64,
    /// Mapped files: the program, and what it reads of the ring.
    pub file: f64,
    /// Passed on between processes.
    pub shared: f64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, anonymous, file, shared } = self;
        write!(f, "{total:.1} MiB (anonymous {anonymous:.1}, files {file:.1}, shared {shared:.1})")
    }
}

/// None of anything when it is gone.
pub fn memory_of(pid: u32) -> Result<Memory> {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { return Ok(Memory::default()) };
    let mib = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} there"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? as f64 / 1024.0)
    };
    Ok(Memory {
        total: mib("Pss:")?,
        anonymous: mib("Pss_Anon:")?,
        file: mib("Pss_File:")?,
        shared: mib("Pss_Shmem:")?,
    })
}

/// The middle one; the mean of both in the middle of an even number.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let n = figures.len();
    match (n, n % 2) {
        (0, _) => 0.0,
        (_, 1) => figures[n / 2],
        _ => f64::midpoint(figures[n / 2 - 1], figures[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_is_read_over() {
        let text = "42 (a) b) S 7 1 1 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 1 0";
        assert_eq!(parse_stat(text), Some(Stat { parent: 7, ended_children: 77 }));
    }

    #[test]
    fn we_cost_memory() {
        assert!(pss_mib(std::process::id()).is_ok_and(|mib| mib > 0.1));
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9 && (median(vec![1.0, 2.0]) - 1.5).abs() < 1e-9);
    }
}
