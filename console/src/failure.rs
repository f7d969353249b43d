//! How a command can fail, and the exit code of each way.

use std::io;
use std::path::{Path, PathBuf};

/// Exit code: done, nothing wrong.
pub const OK: u8 = 0;
/// Exit code: done, and a problem was found (or the request was refused).
pub const PROBLEM: u8 = 1;
/// Exit code: the command line makes no sense.
pub const USAGE: u8 = 2;
/// Exit code: ravend cannot be reached.
pub const UNREACHABLE: u8 = 3;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection to the control socket.
    #[error("cannot reach ravend at {path}: {source}\n{hint}", path = path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The connection broke, or what came over it makes no sense.
    #[error("ravend did not answer properly: {0}")]
    Protocol(String),
    /// The answer to a query ended before its end.
    #[error("the answer broke off after {lines} lines, more may be missing: {why}{}", kept_in(kept.as_ref()))]
    BrokenOff {
        /// Lines that came.
        lines: u64,
        /// Why.
        why: String,
        /// File that holds them.
        kept: Option<PathBuf>,
    },
    /// ravend or the decode role said no.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// The arguments contradict each other.
    #[error("{0}")]
    Usage(String),
    /// A file.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A network target of the load generator.
    #[error("cannot send to {to} over {proto}: {source}")]
    Send {
        /// Target.
        to: String,
        /// `udp` or `tcp`.
        proto: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

impl Failure {
    /// The exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Unreachable { .. } | Self::Protocol(_) | Self::BrokenOff { .. } => UNREACHABLE,
            _ => PROBLEM,
        }
    }

    /// The same, and what came before it is in this file.
    #[must_use]
    pub fn kept_in(self, path: &Path) -> Self {
        match self {
            Self::BrokenOff { lines, why, .. } => Self::BrokenOff { lines, why, kept: Some(path.to_owned()) },
            other => other,
        }
    }

    /// True when the reader of our output went away (`raven tail | head`): no error to speak of.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn kept_in(file: Option<&PathBuf>) -> String {
    file.map_or_else(String::new, |path| format!("\n{} is incomplete: it holds what came before", path.display()))
}

/// Makes [`Failure::File`].
pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Failure {
    let path = path.into();
    move |source| Failure::File { what, path, source }
}
