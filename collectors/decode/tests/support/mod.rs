//! The corpus of real messages: `RAVEN_CORPUS`, else `../shared/corpus` beside the repository.

#![allow(dead_code)] // each test file uses its own part

pub mod flow;

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// One message and where it stands.
pub struct Message {
    /// `arista__napalm-logs`; the expectations are in a file of the same name.
    pub file: String,
    /// Line, from 0.
    pub index: usize,
    /// As it was received.
    pub raw: Vec<u8>,
}

/// Where the syslog part of the corpus lies; `None` where there is none, which is said.
pub fn corpus() -> Option<PathBuf> {
    part("syslog")
}

/// Where its Windows events lie.
pub fn windows() -> Option<PathBuf> {
    part("windows")
}

/// Where a part of the corpus lies.
pub fn part(name: &str) -> Option<PathBuf> {
    // Beside the repository, whichever crate's tests these are.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut beside = above.map(|dir| dir.join("shared/corpus")).filter(|dir| dir.is_dir());
    let beside = beside.next().unwrap_or_else(|| PathBuf::from("../shared/corpus"));
    let root = std::env::var_os("RAVEN_CORPUS").map_or(beside, PathBuf::from);
    let part = root.join(name);
    if !part.is_dir() {
        // Not `eprintln!`: the test harness would keep that of a passing test to itself.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: no corpus at {}; RAVEN_CORPUS names another place", root.display());
        return None;
    }
    Some(part)
}

/// Every message, by file name and line.
pub fn messages(syslog: &Path) -> Vec<Message> {
    let mut files: Vec<PathBuf> =
        entries(syslog).into_iter().filter(|path| path.is_dir()).flat_map(|dir| entries(&dir)).collect();
    files.sort_unstable();
    files.iter().filter_map(|path| Some((path, stem(path)?))).flat_map(|(path, file)| of_file(path, &file)).collect()
}

/// The JSON lines of a file.
pub fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_file(path: &Path, file: &str) -> Vec<Message> {
    let lines = json_lines(path);
    let raw = |line: &serde_json::Value| line["text"].as_str().unwrap().as_bytes().to_vec();
    lines.iter().enumerate().map(|(index, line)| Message { file: file.to_owned(), index, raw: raw(line) }).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn stem(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".msgs.jsonl")?.to_owned())
}

/// By shape (RFC 3339, 5.6): digits where digits belong, a fraction or none, an offset.
pub fn is_rfc3339(stamp: &str) -> bool {
    let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let rest = rest.strip_prefix('.').map_or(rest, |fraction| fraction.trim_start_matches('0'));
    matches!(rest, "Z" | "+00:00" | "-00:00")
}
