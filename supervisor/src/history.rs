//! The configurations that were in force, `DIR/history/NUMBER.SECONDS.WHO.toml`, and the one that comes back unless
//! the one in force is confirmed. Nothing here is parsed: all that is known of a version is in its name.

use crate::durable;
use anyhow::{Context, bail};
use raven_model::control::Version;
use raven_model::units::UnixNanos;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Versions kept; the oldest go.
const KEPT: usize = 100;

/// See the top.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
}

struct Entry {
    number: u32,
    seconds: u64,
    by: String,
    path: PathBuf,
}

impl Entry {
    fn named(path: &Path) -> Option<Self> {
        let mut parts = path.file_name()?.to_str()?.strip_suffix(".toml")?.splitn(3, '.');
        let (number, seconds) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { number, seconds, by: parts.next()?.to_owned(), path: path.to_owned() })
    }
}

impl History {
    /// Of a data directory.
    pub fn open(data: &Path) -> Self {
        Self { dir: data.join("history") }
    }

    /// All of them, the oldest first.
    fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let files = fs::read_dir(&self.dir).with_context(|| format!("cannot read {}", self.dir.display()))?;
        let mut entries: Vec<Entry> = files.filter_map(|file| Entry::named(&file.ok()?.path())).collect();
        entries.sort_by_key(|entry| entry.number);
        Ok(entries)
    }

    /// What was in force, the newest first, which is in force.
    pub fn versions(&self) -> anyhow::Result<Vec<Version>> {
        let entries = self.entries()?.into_iter().rev().enumerate();
        let version = |(n, entry): (usize, Entry)| Version {
            number: entry.number,
            time_ns: UnixNanos(entry.seconds * 1_000_000_000),
            by: entry.by,
            current: n == 0,
        };
        Ok(entries.map(version).collect())
    }

    /// Number of the one in force.
    pub fn newest(&self) -> anyhow::Result<u32> {
        self.entries()?.last().map(|entry| entry.number).context("there is no history of the configuration")
    }

    /// The text of a version.
    pub fn text(&self, number: u32) -> anyhow::Result<Vec<u8>> {
        let entries = self.entries()?;
        let Some(entry) = entries.iter().find(|entry| entry.number == number) else {
            let has = entries.first().zip(entries.last());
            let has = has.map_or_else(String::new, |(a, b)| format!(": there are {} to {}", a.number, b.number));
            bail!("there is no configuration {number} in the history{has}");
        };
        fs::read(&entry.path).with_context(|| format!("cannot read {}", entry.path.display()))
    }

    /// Keeps what was put into force, unless it is what was in force before.
    pub fn keep(&self, text: &[u8], by: &str) -> anyhow::Result<()> {
        let entries = self.entries()?;
        let last = entries.last();
        if last.is_some_and(|last| fs::read(&last.path).is_ok_and(|before| before == text)) {
            return Ok(());
        }
        let number = last.map_or(1, |last| last.number + 1);
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        durable::write_private(&self.dir.join(format!("{number:06}.{seconds}.{by}.toml")), text)?;
        for old in entries.iter().take((entries.len() + 1).saturating_sub(KEPT)) {
            durable::remove(&old.path)?;
        }
        Ok(())
    }

    /// From now on this version comes back at the next start; `None`: none does.
    pub fn expect(&self, back_to: Option<u32>) -> anyhow::Result<()> {
        match back_to {
            Some(number) => durable::write_private(&self.unconfirmed(), number.to_string()),
            None => durable::remove(&self.unconfirmed()),
        }
    }

    /// At the start: brings back what was in force before a change that nobody confirmed. A note that cannot be
    /// followed does not keep the box from starting.
    pub fn take_back(&self, config: &Path) -> anyhow::Result<()> {
        let Ok(number) = fs::read_to_string(self.unconfirmed()) else { return Ok(()) };
        match number.trim().parse().context("damaged").and_then(|number| self.text(number)) {
            Ok(text) => {
                tracing::warn!("the last change of the configuration was not confirmed: version {number} comes back");
                durable::prepare(config, &text)?.commit()?;
                self.keep(&text, "revert")?;
            }
            Err(error) => tracing::error!("the configuration before the last change does not come back: {error:#}"),
        }
        self.expect(None)
    }

    fn unconfirmed(&self) -> PathBuf {
        self.dir.join("unconfirmed")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn history() -> (tempfile::TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("history")).unwrap();
        let history = History::open(dir.path());
        (dir, history)
    }

    #[test]
    fn versions_are_numbered_and_the_same_is_kept_once() {
        let (_dir, history) = history();
        for text in ["a", "b", "b", "a"] {
            history.keep(text.as_bytes(), "admin").unwrap();
        }
        let versions = history.versions().unwrap();
        assert_eq!(
            versions.iter().map(|v| (v.number, v.current)).collect::<Vec<_>>(),
            [(3, true), (2, false), (1, false)]
        );
        assert_eq!((versions[0].by.as_str(), history.newest().unwrap()), ("admin", 3));
        assert_eq!(history.text(2).unwrap(), b"b");
        assert_eq!(
            history.text(9).unwrap_err().to_string(),
            "there is no configuration 9 in the history: there are 1 to 3"
        );
    }

    #[test]
    fn a_hundred_are_kept() {
        let (_dir, history) = history();
        for n in 0..105 {
            history.keep(n.to_string().as_bytes(), "admin").unwrap();
        }
        let versions = history.versions().unwrap();
        assert_eq!((versions.len(), versions[0].number, versions[99].number), (100, 105, 6));
    }

    #[test]
    fn what_nobody_confirmed_is_gone_at_the_next_start() {
        let (dir, history) = history();
        let config = dir.path().join("raven.toml");
        history.keep(b"old", "start").unwrap();
        history.expect(Some(1)).unwrap();
        fs::write(&config, "new").unwrap();
        history.keep(b"new", "admin").unwrap();
        history.take_back(&config).unwrap();
        assert_eq!(fs::read(&config).unwrap(), b"old");
        assert_eq!(history.versions().unwrap()[0].by, "revert");
        fs::write(&config, "newer").unwrap();
        history.take_back(&config).unwrap();
        assert_eq!(fs::read(&config).unwrap(), b"newer", "once");
    }

    #[test]
    fn a_note_that_cannot_be_followed_stops_nothing() {
        let (dir, history) = history();
        let config = dir.path().join("raven.toml");
        for note in ["7", "x", ""] {
            fs::write(history.unconfirmed(), note).unwrap();
            history.take_back(&config).unwrap();
            assert!(!config.exists() && !history.unconfirmed().exists());
        }
    }
}
