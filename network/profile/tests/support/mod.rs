//! The profiles of `tests/data`, each with what is expected of it in a file beside it.

#![allow(dead_code, clippy::unwrap_used)] // each test file uses its own part

use raven_profile::{Finding, Options, Secret, Verdict};
use std::path::{Path, PathBuf};

/// 2026-06-01, which certificates are held against.
pub const NOW: i64 = 1_780_272_000;

/// A profile and what is expected.
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub options: Options,
    /// Verdict, line, and a piece of the finding as it is shown.
    pub expected: Vec<(Verdict, u32, String)>,
    /// More refusals than those that are expected are all right.
    pub only_some: bool,
}

pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// All cases of a folder, by name.
pub fn cases(folder: &str) -> Vec<Case> {
    let entries = std::fs::read_dir(data().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end != "expect")).collect();
    paths.sort();
    paths.iter().map(|path| case(path)).collect()
}

fn case(path: &Path) -> Case {
    let options = Options { now: NOW, ..Options::default() };
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let bytes = std::fs::read(path).unwrap();
    let mut case = Case { name, bytes, options, expected: Vec::new(), only_some: false };
    for line in std::fs::read_to_string(path.with_extension("expect")).unwrap().lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        case.expect(word, rest);
    }
    case
}

impl Case {
    fn expect(&mut self, word: &str, rest: &str) {
        match word {
            "without" => self.options.without.extend(rest.split(' ').map(|line| line.parse::<u32>().unwrap())),
            "allow" => self.options.allow.extend([rest.parse::<raven_profile::Allow>().unwrap()]),
            "venue" => {
                self.options.venue.push(rest.parse().unwrap());
            }
            "file" => {
                let (name, file) = rest.split_once('=').unwrap();
                let bytes = std::fs::read(data().join("pki").join(file)).unwrap();
                self.options.files.insert(name.to_owned(), Secret::new(bytes));
            }
            "only_some" => self.only_some = true,
            _ => {
                let verdict = match word {
                    "refused" => Verdict::Refused,
                    "dropped" => Verdict::Dropped,
                    "warning" => Verdict::Warning,
                    "note" => Verdict::Note,
                    _ => panic!("{}: {word}", self.name),
                };
                let (line, piece) = rest.split_once(' ').unwrap();
                self.expected.push((verdict, line.parse().unwrap(), piece.to_owned()));
            }
        }
    }

    /// Whether a finding is one of those that are expected.
    pub fn expects(&self, finding: &Finding) -> bool {
        let said = finding.to_string();
        self.expected.iter().any(|(verdict, line, piece)| {
            (*verdict, *line) == (finding.verdict, finding.line) && said.contains(piece.as_str())
        })
    }
}

/// Holds the findings against what is expected: each of those is there, and no others but notes on compatibility.
pub fn hold(case: &Case, findings: &[Finding]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (verdict, line, piece) in &case.expected {
        let met = findings.iter().any(|finding| {
            (*verdict, *line) == (finding.verdict, finding.line) && finding.to_string().contains(piece.as_str())
        });
        if !met {
            wrong.push(format!("{}: missing: {verdict:?} {line} {piece}", case.name));
        }
    }
    for finding in findings {
        if !case.expects(finding) && !case.only_some && (finding.verdict == Verdict::Refused || case.is_exact()) {
            wrong.push(format!("{}: not expected: {:?} {finding}", case.name, finding.verdict));
        }
    }
    wrong
}

impl Case {
    /// Valid profiles state all findings, hostile ones those that matter.
    fn is_exact(&self) -> bool {
        !self.expected.iter().any(|(verdict, ..)| *verdict == Verdict::Refused)
    }
}

/// Deterministic numbers (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }
}
