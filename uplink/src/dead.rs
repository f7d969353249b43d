//! Dead letters: records that a destination refuses, kept so that nothing is lost silently. One file per destination
//! and stream, one line of JSON per record: its fields as sent to HTTP receivers, `dead_ns` and `reason`.
//!
//! The file is bounded: when it is full, its oldest quarter is given up, counted. An operator lists, drops, or has
//! letters sent again ([`Retries`]); those are removed when they are acknowledged.

mod retries;

pub use retries::{Letter, Retries};

use crate::attempt::Failure;
use crate::ndjson::{self, Ndjson};
use crate::standing::Shared;
use raven_model::record::Record;
use raven_model::units::{Seq, UnixNanos};
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, create_dir_all};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Most bytes of dead letters per destination and stream.
pub const DEAD_MAX: u64 = 64 << 20;

/// The dead letters of one destination and stream; a clone is the same.
#[derive(Debug, Clone)]
pub struct DeadLetters(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    format: Ndjson,
    max: u64,
    /// Those that are sent again: refused once more, they are in the file already.
    again: RefCell<BTreeSet<Seq>>,
    /// Given up and not yet asked about.
    overflowed: Cell<u64>,
}

impl DeadLetters {
    /// Below the cursors' directory; made when first needed.
    pub fn new(cursors: &Path, device: &str, destination: &str, stream: &str) -> Self {
        Self::bounded(cursors, device, destination, stream, DEAD_MAX)
    }

    fn bounded(cursors: &Path, device: &str, destination: &str, stream: &str, max: u64) -> Self {
        let path = cursors.join("dead-letters").join(format!("{destination}.{stream}.ndjson"));
        let format = Ndjson::new(device, stream);
        Self(Rc::new(Inner { path, format, max, again: RefCell::default(), overflowed: Cell::new(0) }))
    }

    /// Goes on for `old`, of the same destination and stream: what is sent again, and what nobody has asked about yet.
    pub fn take_over(&self, old: &Self) {
        self.0.again.borrow_mut().extend(old.0.again.borrow().iter().copied());
        self.0.overflowed.set(self.0.overflowed.get() + old.take_overflowed());
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Adds a record and makes it durable.
    pub fn add(&self, seq: Seq, record: &Record<'_>, listener: &str, reason: &str) -> io::Result<()> {
        if self.0.again.borrow_mut().remove(&seq) {
            return Ok(());
        }
        let mut line = Vec::new();
        self.0.format.object(&mut line, seq, record, listener);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        line.extend_from_slice(format!(",\"dead_ns\":{now},\"reason\":\"").as_bytes());
        ndjson::escaped(&mut line, reason.as_bytes());
        line.extend_from_slice(b"\"}\n");
        let mut file = self.open()?;
        let len = file.metadata()?.len();
        if len + line.len() as u64 > self.0.max {
            self.give_up_oldest(len)?;
            file = self.open()?;
        }
        file.write_all(&line)?;
        file.sync_data()
    }

    /// Adds a record, and counts it as done with. The error is that of the file.
    pub fn bury(
        &self,
        standing: &Shared,
        seq: Seq,
        record: &Record<'_>,
        listener: &str,
        reason: &str,
    ) -> Result<(), Failure> {
        let unwritable = |error| Failure::config(format!("{}: {error}", self.path().display()));
        self.add(seq, record, listener, reason).map_err(unwritable)?;
        standing.borrow_mut().buried(seq);
        Ok(())
    }

    /// Letters given up for room since the last call.
    pub fn take_overflowed(&self) -> u64 {
        self.0.overflowed.take()
    }

    /// The lines of the file, oldest first; none where there is no file. A line that broke off in a crash is left out.
    pub fn lines(&self) -> io::Result<impl Iterator<Item = io::Result<String>> + use<>> {
        let file = match File::open(&self.0.path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(file.into_iter().flat_map(BufReader::lines).filter(|line| !matches!(line, Ok(line) if !line.ends_with('}'))))
    }

    /// Which records are in the file.
    pub fn seqs(&self) -> io::Result<BTreeSet<Seq>> {
        let lines = self.lines()?;
        lines.filter_map(|line| line.map(|line| seq_of(&line)).transpose()).collect()
    }

    /// These are sent again.
    pub fn send_again(&self, seqs: impl IntoIterator<Item = Seq>) {
        self.0.again.borrow_mut().extend(seqs);
    }

    /// Removes those for which `gone` says so; returns how many those were.
    pub fn remove(&self, mut gone: impl FnMut(Seq) -> bool) -> io::Result<u64> {
        let mut removed = 0;
        self.rewrite(|line| {
            let is_gone = seq_of(line).is_some_and(&mut gone);
            removed += u64::from(is_gone);
            !is_gone
        })?;
        Ok(removed)
    }

    fn give_up_oldest(&self, len: u64) -> io::Result<()> {
        let (mut at, mut given_up) = (0, 0);
        self.rewrite(|line| {
            at += line.len() as u64 + 1;
            given_up += u64::from(at <= len / 4);
            at > len / 4
        })?;
        eprintln!("{}: full; the {given_up} oldest dead letters are given up", self.0.path.display());
        self.0.overflowed.set(self.0.overflowed.get() + given_up);
        Ok(())
    }

    fn rewrite(&self, mut keep: impl FnMut(&str) -> bool) -> io::Result<()> {
        let (path, new) = (&self.0.path, self.0.path.with_extension("new"));
        let mut out = BufWriter::new(File::create(&new)?);
        for line in self.lines()? {
            let line = line?;
            if keep(&line) {
                writeln!(out, "{line}")?;
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }

    fn open(&self) -> io::Result<File> {
        let options = || OpenOptions::new().create(true).append(true).open(&self.0.path);
        options().or_else(|error| match (error.kind(), self.0.path.parent()) {
            (io::ErrorKind::NotFound, Some(dir)) => {
                create_dir_all(dir)?;
                File::open(dir)?.sync_all()?;
                options()
            }
            _ => Err(error),
        })
    }
}

/// Without taking the whole line apart: the device's name is before it, and has no quotes that are not escaped.
fn seq_of(line: &str) -> Option<Seq> {
    let digits = line.split_once("\",\"seq\":")?.1;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().map(Seq)
}

/// When and why, beside the record.
#[derive(Debug, serde::Deserialize)]
pub struct Refusal {
    /// When it was refused for good.
    #[serde(default)]
    pub dead_ns: UnixNanos,
    /// In the destination's words.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::record::Received;

    fn add(letters: &DeadLetters, seq: u64) {
        let received = Received::new("192.0.2.7:514".parse().expect("valid"), 0, UnixNanos(5));
        letters.add(Seq(seq), &Record { received, raw: b"\xff" }, "udp", "422 \"no\"").expect("written");
    }

    fn seqs(letters: &DeadLetters) -> Vec<u64> {
        letters.lines().expect("read").map(|line| seq_of(&line.expect("a line")).expect("a seq").0).collect()
    }

    #[test]
    fn a_refused_record_is_kept_whole_with_the_reason() {
        let dir = tempfile::tempdir().expect("a directory");
        let letters = DeadLetters::new(dir.path(), "arena", "noc", "syslog");
        assert_eq!(seqs(&letters), [0_u64; 0]);
        add(&letters, 7);
        add(&letters, 9);
        let lines: Vec<serde_json::Value> = letters
            .lines()
            .expect("read")
            .map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (&lines[1]["seq"], &lines[1]["raw_b64"], &lines[1]["reason"]),
            (&9.into(), &"/w==".into(), &"422 \"no\"".into())
        );
        let letter = Letter::parse(&letters.lines().expect("read").last().expect("one").expect("a line"));
        let letter = letter.expect("a letter");
        assert_eq!(
            (letter.seq, letter.record().raw, letter.record().received.wall),
            (Seq(9), &b"\xff"[..], UnixNanos(5))
        );
    }

    #[test]
    fn what_is_removed_is_gone_and_the_others_stay_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let letters = DeadLetters::new(dir.path(), "a\",\"seq\":1", "noc", "syslog");
        (1..=5).for_each(|seq| add(&letters, seq));
        assert_eq!(letters.remove(|seq| seq.0 % 2 == 0).expect("rewritten"), 2);
        assert_eq!(seqs(&letters), [1, 3, 5]);
        letters.send_again([Seq(3)]);
        add(&letters, 3);
        assert_eq!(seqs(&letters), [1, 3, 5], "refused again: it is there already");
        letters.send_again([Seq(5)]);
        let next = DeadLetters::new(dir.path(), "b", "noc", "syslog");
        next.take_over(&letters);
        add(&next, 5);
        assert_eq!(seqs(&next), [1, 3, 5], "also when the destination has changed meanwhile");
    }

    #[test]
    fn a_full_file_gives_up_its_oldest_and_says_how_many() {
        let dir = tempfile::tempdir().expect("a directory");
        let letters = DeadLetters::bounded(dir.path(), "arena", "noc", "syslog", 4000);
        (1..=40).for_each(|seq| add(&letters, seq));
        let kept = seqs(&letters);
        assert_eq!(letters.take_overflowed() + kept.len() as u64, 40);
        assert!(kept.len() >= 10 && *kept.last().expect("some") == 40 && kept.windows(2).all(|w| w[1] == w[0] + 1));
        assert_eq!(letters.take_overflowed(), 0);
    }
}
