//! One run: start, load, settle, read off.

use super::load::{Load, Sent};
use super::machine::{cpu_seconds, pss_mib};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// What is measured: Raven, rsyslog, or a bare sink.
pub trait Subject {
    /// Where it listens, on loopback.
    fn port(&self) -> u16;
    /// Its (parent) process.
    fn pid(&self) -> u32;
    /// Waits until nothing waits any more inside, as far as it can tell.
    fn settle(&mut self, sent: u64) -> Result<()>;
    /// Ends it; messages received, exactly.
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
    /// CPU seconds per million messages received.
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu * 1e6 / self.received.max(1) as f64
    }

    /// Share that was lost.
    pub fn loss(&self) -> f64 {
        self.sent.count.saturating_sub(self.received) as f64 / self.sent.count.max(1) as f64
    }
}

/// Puts `subject` under `load`.
pub fn run(programs: &Path, mut subject: Box<dyn Subject>, load: Load) -> Result<Run> {
    let (pid, port) = (subject.pid(), subject.port());
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
    subject.settle(sent.count)?;
    let received = subject.finish()?;
    let run = Run { sent, received, cpu, peak_mib };
    eprintln!(
        "  {:>9.0}/s sent {:>9} received {:>9} ({:.4} % lost), {:.2} CPU-s per million, generator {:.2}, {peak_mib:.1} MiB",
        sent.rate,
        sent.count,
        received,
        run.loss() * 100.0,
        run.cpu_per_million(),
        sent.cpu * 1e6 / sent.count.max(1) as f64
    );
    Ok(run)
}
