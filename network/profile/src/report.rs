//! What was found in a profile, line by line, in words for its operator. Nothing secret is in it: directives that are
//! not known are not repeated (a key or password that stands in the wrong place would be), inline blocks never.

use crate::Allow;
use serde::Serialize;
use std::fmt;

/// Findings of one profile beyond which the rest is not looked at: whoever made it did not make a profile.
pub(crate) const FINDINGS_MAX: usize = 200;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The profile is not taken as long as this stands in it.
    Refused,
    /// Left out; the profile is taken.
    Dropped,
    /// Taken; somebody should know.
    Warning,
    /// Taken; worth knowing.
    Note,
}

/// What an operator can do about a refusal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Import without that line.
    LeaveOut,
    /// Say that it is meant so.
    Allow(Allow),
    /// Give the file of that name beside the profile, or leave out the line.
    Give(String),
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Counted from 1; 0: the profile as a whole.
    pub line: u32,
    /// In characters, counted from 1; 0: the line as a whole.
    pub column: u32,
    /// A directive of the format that this is about; empty when there is none.
    pub directive: String,
    /// How grave.
    pub verdict: Verdict,
    /// In operators' words, one line.
    pub reason: String,
    /// What can be done, where something can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => {}
            (line, 0) => write!(f, "line {line}: ")?,
            (line, column) => write!(f, "line {line}, column {column}: ")?,
        }
        if !self.directive.is_empty() {
            write!(f, "`{}`: ", self.directive)?;
        }
        if self.verdict == Verdict::Dropped {
            f.write_str("left out: ")?;
        }
        f.write_str(&self.reason)?;
        match &self.remedy {
            Some(Remedy::LeaveOut | Remedy::Give(_)) => write!(f, ". Import without it: --without {}", self.line),
            Some(Remedy::Allow(allow)) => write!(f, ". Take it nevertheless: --allow {allow}"),
            None => Ok(()),
        }
    }
}

/// Everything found in one profile, by line; what is about the profile as a whole stands first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Sorted by line and column.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether something in it keeps the profile from being taken.
    pub fn is_refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Verdict::Refused)
    }

    /// Names of the files that the profile needs and that were not given, each once.
    pub fn files_needed(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for finding in &self.findings {
            match &finding.remedy {
                Some(Remedy::Give(name)) if !names.contains(&name.as_str()) => names.push(name),
                _ => {}
            }
        }
        names
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// About the profile as a whole.
    pub(crate) fn whole(&mut self, directive: &str, verdict: Verdict, reason: impl Into<String>) {
        let (directive, reason) = (directive.to_owned(), reason.into());
        self.add(Finding { line: 0, column: 0, directive, verdict, reason, remedy: None });
    }

    pub(crate) fn is_full(&self) -> bool {
        self.findings.len() >= FINDINGS_MAX
    }

    pub(crate) fn sort(&mut self) {
        self.findings.sort_by_key(|finding| (finding.line, finding.column));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

/// What a profile says, fit for a terminal: printable ASCII, the rest escaped, at most 64 characters of it.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == 64 {
            out.push_str("...");
            break;
        }
        if c == ' ' || c.is_ascii_graphic() { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_what_why_and_what_to_do() {
        let mut finding = Finding {
            line: 12,
            column: 1,
            directive: "up".to_owned(),
            verdict: Verdict::Refused,
            reason: "runs a program; Raven runs none".to_owned(),
            remedy: Some(Remedy::LeaveOut),
        };
        let said = "line 12, column 1: `up`: runs a program; Raven runs none. Import without it: --without 12";
        assert_eq!(finding.to_string(), said);
        (finding.line, finding.remedy) = (0, Some(Remedy::Allow(Allow::CbcCiphers)));
        let said = "`up`: runs a program; Raven runs none. Take it nevertheless: --allow cbc-ciphers";
        assert_eq!(finding.to_string(), said);
    }

    #[test]
    fn what_a_profile_says_moves_no_cursor() {
        assert_eq!(shown("a\x1b[2Jé"), "a\\u{1b}[2J\\u{e9}");
        assert_eq!(shown(&"x".repeat(70)).len(), 67);
    }
}
