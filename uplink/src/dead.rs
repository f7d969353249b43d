//! Dead letters: records that a destination refuses, kept so that nothing is lost silently. One file per destination
//! and stream, one line of JSON per record: its fields as sent to HTTP receivers, and `reason`.

use crate::ndjson::{self, Ndjson};
use raven_model::record::Record;
use raven_model::units::Seq;
use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Most bytes of dead letters per destination and stream. A destination that refuses more is misconfigured.
pub const DEAD_MAX: u64 = 64 << 20;

/// The dead letters of one destination and stream.
#[derive(Debug)]
pub struct DeadLetters {
    path: PathBuf,
    format: Ndjson,
}

impl DeadLetters {
    /// Below the cursors' directory; made when first needed.
    pub fn new(cursors: &Path, device: &str, destination: &str, stream: &str) -> Self {
        let path = cursors.join("dead-letters").join(format!("{destination}.{stream}.ndjson"));
        Self { path, format: Ndjson::new(device, stream) }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a record and makes it durable.
    pub fn add(&self, seq: Seq, record: &Record<'_>, listener: &str, reason: &str) -> io::Result<()> {
        let mut line = Vec::new();
        self.format.object(&mut line, seq, record, listener);
        line.extend_from_slice(b",\"reason\":\"");
        ndjson::escaped(&mut line, reason.as_bytes());
        line.extend_from_slice(b"\"}\n");
        let mut file = self.open()?;
        if file.metadata()?.len() + line.len() as u64 > DEAD_MAX {
            return Err(io::Error::other("the 64 MiB kept for records that a destination refuses are full"));
        }
        file.write_all(&line)?;
        file.sync_data()
    }

    fn open(&self) -> io::Result<File> {
        let options = || OpenOptions::new().create(true).append(true).open(&self.path);
        options().or_else(|error| match (error.kind(), self.path.parent()) {
            (io::ErrorKind::NotFound, Some(dir)) => {
                create_dir_all(dir)?;
                File::open(dir)?.sync_all()?;
                options()
            }
            _ => Err(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::record::Received;
    use raven_model::units::UnixNanos;

    #[test]
    fn a_refused_record_is_kept_whole_with_the_reason() {
        let dir = tempfile::tempdir().expect("a directory");
        let letters = DeadLetters::new(dir.path(), "arena", "noc", "syslog");
        let received = Received::new("192.0.2.7:514".parse().expect("valid"), 0, UnixNanos(5));
        for seq in [7, 9] {
            letters.add(Seq(seq), &Record { received, raw: b"\xff" }, "udp", "422 \"no\"").expect("written");
        }
        let text = std::fs::read_to_string(letters.path()).expect("there");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (&lines[1]["seq"], &lines[1]["raw_b64"], &lines[1]["reason"]),
            (&9.into(), &"/w==".into(), &"422 \"no\"".into())
        );
    }
}
