//! Installation from the medium, by `raven-install`: it is started, and what it says is passed on as it came.

use crate::program::{ours, run, scratch};
use anyhow::{Context, bail};
use raven_model::install::{Disk, Progress};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = "raven-install";
const MEDIUM: &str = "/dev/raven/disk";
/// Of what it says, the last so many bytes are looked at: more than a line has.
const LAST: u64 = 4096;

/// See the top.
#[derive(Debug, Default)]
pub struct Installer {
    running: Option<Running>,
    last: Option<Progress>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    disk: String,
    said: File,
    errors: File,
}

impl Installer {
    /// The disks of the box.
    pub fn disks() -> anyhow::Result<Vec<Disk>> {
        let text = run(ours(PROGRAM)?, &["list"], b"")?;
        serde_json::from_str(&text).context("raven-install said something else than disks")
    }

    /// Begins; `typed` must be the disk's name.
    pub fn begin(&mut self, disk: &str, typed: &str) -> anyhow::Result<()> {
        if self.tend().is_some_and(|progress| !progress.finished && progress.failed.is_none()) {
            bail!("an installation is under way");
        }
        let disks = Self::disks()?;
        let found =
            disks.iter().find(|known| known.name == disk).with_context(|| format!("there is no disk {disk}"))?;
        if let Some(why) = &found.refused {
            bail!("{disk}: {why}");
        }
        if typed != disk {
            bail!("to confirm that all on it is lost, type its name: {disk}");
        }
        let (said, errors) = (scratch()?, scratch()?);
        let path = Path::new("/dev").join(disk);
        let child = start(&[MEDIUM, &path.to_string_lossy()], &said, &errors)?;
        tracing::warn!(disk, "installing");
        self.last = Some(Progress { disk: disk.to_owned(), ..Progress::default() });
        self.running = Some(Running { child, disk: disk.to_owned(), said, errors });
        Ok(())
    }

    /// How far it is; `None` when nothing was begun.
    pub fn tend(&mut self) -> Option<Progress> {
        if let Some(running) = &mut self.running {
            let ended = running.child.try_wait();
            if let Some(progress) = running.said.try_clone().ok().and_then(|said| last_line(said).ok()) {
                self.last = serde_json::from_str(&progress).ok().or(self.last.take());
            }
            if !matches!(ended, Ok(None)) {
                let running = self.running.take()?;
                let finished = matches!(ended, Ok(Some(status)) if status.success());
                let last = self.last.get_or_insert_default();
                (last.disk, last.finished) = (running.disk, finished);
                if !finished {
                    let why = all(running.errors).unwrap_or_default();
                    last.failed = Some(why.trim().to_owned());
                    tracing::error!("not installed: {}", why.trim());
                }
            }
        }
        self.last.clone()
    }
}

fn start(args: &[&str], said: &File, errors: &File) -> anyhow::Result<Child> {
    let program = ours(PROGRAM)?;
    let output = |file: &File| -> anyhow::Result<Stdio> { Ok(Stdio::from(file.as_fd().try_clone_to_owned()?)) };
    Command::new(&program)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(output(said)?)
        .stderr(output(errors)?)
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))
}

fn all(mut said: File) -> std::io::Result<String> {
    let mut text = String::new();
    said.rewind()?;
    said.take(64 << 10).read_to_string(&mut text)?;
    Ok(text)
}

/// The last whole line. The program writes at the end of the file, wherever that is read from.
fn last_line(mut said: File) -> std::io::Result<String> {
    use std::os::unix::fs::FileExt;
    let len = said.seek(SeekFrom::End(0))?;
    let from = len.saturating_sub(LAST);
    let mut bytes = vec![0; (len - from) as usize];
    said.read_exact_at(&mut bytes, from)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Ok(whole.rsplit('\n').next().unwrap_or("").to_owned())
}
