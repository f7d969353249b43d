//! One run: start, load, settle, read off.

use super::load::{Load, Sent};
use super::machine::{cpu_of, cpu_seconds, pss_mib};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// What is measured: Raven, a reference, or a bare sink.
pub trait Subject {
    /// Where it listens, on loopback.
    fn port(&self) -> u16;
    /// Its (parent) process.
    fn pid(&self) -> u32;
    /// Its processes by name, when it has several.
    fn roles(&self) -> Result<Vec<(String, u32)>> {
        Ok(Vec::new())
    }
    /// Waits until nothing waits any more inside, as far as it can tell.
    fn settle(&mut self, sent: u64) -> Result<()>;
    /// Ends it; how many were received (messages, flow records, …), exactly.
    fn finish(self: Box<Self>) -> Result<u64>;
}

/// What a run gave.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What was sent.
    pub sent: Sent,
    /// What was received.
    pub received: u64,
    /// CPU seconds of the subject, start-up left out.
    pub cpu: f64,
    /// Largest memory seen, MiB.
    pub peak_mib: f64,
}

impl Run {
    /// CPU seconds per million received.
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu * 1e6 / self.received.max(1) as f64
    }

    /// Share that was lost.
    pub fn loss(&self) -> f64 {
        self.lost() as f64 / self.sent.count.max(1) as f64
    }

    /// How many were lost.
    pub fn lost(&self) -> u64 {
        self.sent.count.saturating_sub(self.received)
    }
}

/// Puts `subject` under `load`.
pub fn run(programs: &Path, mut subject: Box<dyn Subject>, load: Load) -> Result<Run> {
    let (pid, port) = (subject.pid(), subject.port());
    let roles = Roles::of(subject.roles()?);
    let before = cpu_seconds(pid);
    let mut generator = load.start(programs, port)?;
    let mut peak_mib = pss_mib(pid)?;
    while !generator.is_done()? {
        std::thread::sleep(Duration::from_millis(500));
        peak_mib = peak_mib.max(pss_mib(pid)?);
    }
    let sent = generator.wait()?;
    // What still lies in buffers is worked off within this second, by all that keep up.
    std::thread::sleep(Duration::from_secs(1));
    let cpu = cpu_seconds(pid) - before;
    let parts = roles.since(sent.count);
    subject.settle(sent.count)?;
    let received = subject.finish()?;
    let run = Run { sent, received, cpu, peak_mib };
    eprintln!(
        "  {:>9.0}/s sent {:>9} received {:>9} ({:.4} % lost), {:.2} CPU-s per million{parts}, generator {:.2}, {peak_mib:.1} MiB",
        sent.rate,
        sent.count,
        received,
        run.loss() * 100.0,
        run.cpu_per_million(),
        sent.cpu * 1e6 / sent.count.max(1) as f64
    );
    Ok(run)
}

/// What each process had used at a moment.
pub struct Roles(Vec<(String, u32, f64)>);

impl Roles {
    /// Now.
    pub fn of(roles: Vec<(String, u32)>) -> Self {
        Self(roles.into_iter().map(|(name, pid)| (name, pid, cpu_of(pid))).collect())
    }

    /// CPU seconds per million since then, as words: the share of each that took any.
    pub fn since(&self, count: u64) -> String {
        let each = self.0.iter().map(|(name, pid, before)| (name, (cpu_of(*pid) - before) * 1e6 / count.max(1) as f64));
        let words: Vec<_> = each.filter(|(_, cpu)| *cpu > 0.0).map(|(name, cpu)| format!("{name} {cpu:.2}")).collect();
        if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
    }
}
