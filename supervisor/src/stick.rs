//! USB sticks, by `raven-stick`: what it took from one, in `RUN/raven/stick`, and what it puts onto one.
//!
//! What was taken is a configuration and the secrets that it names. Bytes of
//! strangers: they are moved, and the text is parsed by the `config` role as every configuration is.

use crate::program::ours;
use crate::{configure, durable, secrets};
use anyhow::{Context, bail};
use raven_jail::channel::stream_pair;
use raven_model::config::Secret;
use raven_model::report::StickStatus;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Most bytes of a secret, and most secrets; as in `raven-stick`.
const SECRET_MAX: u64 = 64 << 10;
const SECRETS_MAX: usize = 64;

/// See the top.
#[derive(Debug)]
pub struct Stick {
    folder: PathBuf,
    /// The folder that was seen last: its inode and when it was made.
    seen: Option<(u64, i64, i64)>,
    /// What is told of it.
    pub status: Option<StickStatus>,
    /// Puts something onto one.
    giving: Option<Child>,
}

/// Secrets that were put beside the configuration, with what was there before.
#[derive(Debug, Default)]
pub struct Placed(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Stick {
    /// Below `run`.
    pub fn new(run: &Path) -> Self {
        Self { folder: run.join("raven/stick"), seen: None, status: None, giving: None }
    }

    /// Whether a stick has come since this was asked last.
    pub fn has_come(&mut self) -> bool {
        let now = fs::symlink_metadata(&self.folder).ok().filter(fs::Metadata::is_dir);
        let now = now.map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec()));
        let is_new = now.is_some() && now != self.seen;
        self.seen = now;
        is_new
    }

    /// Begins to put a file onto a stick: the content goes into the connection, and what came of it comes back.
    pub fn give(&mut self, name: &str) -> anyhow::Result<OwnedFd> {
        if self.is_giving() {
            bail!("something is being put onto a stick: say it again");
        }
        let (ours_end, theirs) = stream_pair()?;
        let program = ours("raven-stick")?;
        let (output, errors) = (ours_end.try_clone()?, ours_end.try_clone()?);
        let child = Command::new(&program)
            .args(["--give", name])
            .env_clear()
            .stdin(Stdio::from(ours_end))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors))
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        self.giving = Some(child);
        Ok(theirs)
    }

    /// Whether something is being put onto a stick; one that has ended is waited for.
    pub fn is_giving(&mut self) -> bool {
        let runs = self.giving.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if !runs {
            self.giving = None;
        }
        runs
    }

    /// The configuration.
    pub fn text(&self) -> anyhow::Result<Vec<u8>> {
        configure::text(&self.folder.join("raven.toml"))
    }

    /// Puts its secrets into the folder of those of `config`, which is made where there is none.
    pub fn place_secrets(&self, config: &Path) -> anyhow::Result<Placed> {
        let (from, to) = (self.folder.join("secrets"), secrets::beside(config, "secrets"));
        let mut placed = Placed::default();
        let entries = fs::read_dir(&from).with_context(|| format!("{}", from.display()))?;
        for entry in entries.take(SECRETS_MAX) {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if format!("secret:{name}").parse::<Secret>().is_err() || entry.metadata()?.len() > SECRET_MAX {
                continue;
            }
            fs::create_dir_all(&to)?;
            let (content, path) = (fs::read(entry.path())?, to.join(name));
            let before = fs::read(&path).ok();
            let written = durable::write_private(&path, &content);
            placed.0.push((path, before));
            if let Err(error) = written {
                placed.take_back();
                return Err(error);
            }
        }
        Ok(placed)
    }
}

impl Placed {
    /// As it was before.
    pub fn take_back(self) {
        for (path, before) in self.0 {
            let done = before.map_or_else(|| durable::remove(&path), |before| durable::write_private(&path, before));
            if let Err(error) = done {
                tracing::error!("{}: the secret of the stick stays: {error:#}", path.display());
            }
        }
    }
}
