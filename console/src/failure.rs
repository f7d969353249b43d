//! How a command can fail, and the exit code of each way.

use std::io;
use std::path::PathBuf;

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
            Self::Unreachable { .. } | Self::Protocol(_) => UNREACHABLE,
            _ => PROBLEM,
        }
    }

    /// True when the reader of our output went away (`raven tail | head`): no error to speak of.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Makes [`Failure::File`].
pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Failure {
    let path = path.into();
    move |source| Failure::File { what, path, source }
}
