//! The newest lines of the system's journal, for support bundles: `journalctl` writes them into a file without a name,
//! which whoever asked gets to read. Nothing is waited for, and nothing is looked at here.

use crate::program::scratch;
use anyhow::{Context, bail};
use raven_jail::memory::reopen_read_only;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const JOURNALCTL: &str = "/usr/bin/journalctl";
/// Most lines.
const LINES: &str = "5000";
/// A journal of 32 MiB is read in a second or two.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the top. One is read at a time.
#[derive(Debug, Default)]
pub struct Journal {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    said: File,
    client: u32,
    since: Instant,
}

impl Journal {
    /// Begins to read, for a client that waits; the kernel's lines alone, or all.
    pub fn begin(&mut self, kernel: bool, client: u32) -> anyhow::Result<()> {
        if self.running.is_some() {
            bail!("the journal is being read for somebody else: say it again");
        }
        let said = scratch()?;
        let mut journalctl = Command::new(JOURNALCTL);
        journalctl.args(["--no-pager", "--quiet", "--output=short-iso-precise", "--lines", LINES]);
        if kernel {
            journalctl.arg("--dmesg");
        }
        let child = journalctl
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::from(said.try_clone()?))
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{JOURNALCTL} cannot be started: there is no journal to be had"))?;
        self.running = Some(Running { child, said, client, since: Instant::now() });
        Ok(())
    }

    /// The client that waits.
    pub fn client(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.client)
    }

    /// Who waited, and what there is to read.
    pub fn tend(&mut self) -> Option<(u32, anyhow::Result<OwnedFd>)> {
        let running = self.running.as_mut()?;
        let ended = match running.child.try_wait() {
            Ok(None) if running.since.elapsed() < PATIENCE => return None,
            Ok(None) => {
                let _ = running.child.kill();
                let _ = running.child.wait();
                Err(anyhow::anyhow!("{JOURNALCTL} did not end within {} s", PATIENCE.as_secs()))
            }
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(anyhow::anyhow!("{JOURNALCTL}: {status}")),
            Err(error) => Err(error.into()),
        };
        let Running { said, client, .. } = self.running.take()?;
        Some((client, ended.and_then(|()| Ok(reopen_read_only(&said)?))))
    }
}
