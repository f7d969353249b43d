//! Errors of a configuration, each with the place where the operator can find it.

use std::fmt;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where it stands.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// The valid key (or value) that looks most like what was written.
    pub nearest: Option<String>,
    /// What would be right.
    pub expected: Option<String>,
}

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File {
        /// As the operator named it.
        name: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// In a variable of the environment.
    Variable(String),
}

impl Place {
    /// The character at byte `offset` of `text`, the content of file `name`.
    pub(super) fn at(name: &str, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        Self::File { name: name.to_owned(), line, column: before[line_start..].chars().count() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for ConfigError {
    /// `FILE:LINE:COLUMN: MESSAGE; nearest valid key KEY; expected WHAT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, visible(&self.message))?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; nearest valid key `{nearest}`")?;
        }
        self.expected.as_ref().map_or(Ok(()), |expected| write!(f, "; expected {expected}"))
    }
}

/// Text that may quote the file, fit for one line of a log: no control characters, of bounded length.
fn visible(text: &str) -> String {
    const MOST: usize = 600;
    let mut out: String = text
        .chars()
        .take(MOST)
        .flat_map(|c| if c.is_control() { c.escape_debug().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

/// What is wrong at one key, before it is known where that key was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The key, from the top: `["collect", "syslog", "udp", "1"]`; an index where it is inside a list.
    pub path: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// The valid key that looks most like what was written.
    pub nearest: Option<String>,
    /// What would be right.
    pub expected: Option<String>,
}

impl Flaw {
    /// Without a nearest key.
    pub(super) fn new(path: &[&str], message: impl Into<String>, expected: impl Into<String>) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        Self { path, message: message.into(), nearest: None, expected: Some(expected.into()) }
    }

    /// With the place where its key stands.
    pub(super) fn placed(self, place: Place) -> ConfigError {
        ConfigError { place, message: self.message, nearest: self.nearest, expected: self.expected }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", key_text(&self.path), self.message)?;
        self.expected.as_ref().map_or(Ok(()), |expected| write!(f, "; expected {expected}"))
    }
}

/// `collect.syslog.udp[1]`.
pub(super) fn key_text(path: &[String]) -> String {
    path.iter().fold(String::new(), |mut text, part| {
        if part.parse::<usize>().is_ok() && !text.is_empty() {
            text.extend(["[", part, "]"]);
        } else {
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(part);
        }
        text
    })
}
