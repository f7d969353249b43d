//! Names from MIB modules that an operator supplies.
//!
//! [`load`] reads any number of texts, `parse.rs` each by itself, `resolve.rs` all together. What cannot be read or
//! resolved is said with file and line and costs no more than itself.

mod lexer;
mod parse;
mod resolve;
mod words;

use super::names::Names;
use std::fmt;

/// Problems that are reported in one load; how many there were is counted on.
const MAX_PROBLEMS: usize = 1000;

/// Something in a MIB file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// As the caller named it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// What was expected, or what is missing.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What a load brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Modules that were read, in order.
    pub modules: Vec<String>,
    /// OIDs that they name.
    pub names: usize,
    /// What could not be used, the first thousand of it.
    pub problems: Vec<Problem>,
    /// Symbols that are imported from modules that are not there, as `SYMBOL FROM MODULE`.
    pub unresolved: Vec<Problem>,
}

impl Loaded {
    fn problem(&mut self, file: &str, line: u32, what: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { file: file.to_owned(), line, what });
        }
    }

    fn unresolved(&mut self, file: &str, line: u32, what: String) {
        if self.unresolved.len() < MAX_PROBLEMS {
            self.unresolved.push(Problem { file: file.to_owned(), line, what });
        }
    }
}

/// A MIB file: what to call it in reports, and its text.
#[derive(Debug, Clone, Copy)]
pub struct MibFile<'a> {
    /// Its name in reports.
    pub name: &'a str,
    /// What it holds; one module or several.
    pub text: &'a str,
}

/// Adds to `names` what these files define. Their order does not matter, but that of two modules of the same name the
/// first one counts.
pub fn load(files: &[MibFile<'_>], names: &mut Names) -> Loaded {
    let mut loaded = Loaded::default();
    let mut modules = Vec::new();
    for file in files {
        let (found, faults) = parse::modules(file.text);
        for fault in faults {
            loaded.problem(file.name, fault.line, format!("expected {}", fault.expected));
        }
        modules.extend(found.into_iter().map(|module| (file.name, module)));
    }
    resolve::resolve(&modules, names, &mut loaded);
    loaded
}

#[cfg(test)]
mod tests;
