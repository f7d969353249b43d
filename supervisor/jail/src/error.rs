//! What can go wrong in building a jail.

use std::io;
use std::path::PathBuf;

/// A worker could not be jailed; it must not go on.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// The process table names a system call that no supported machine has.
    #[error("process table: `{name}` is not a system call that the jail knows; add it to the list in sandbox/names.rs")]
    UnknownCall {
        /// As written in the table.
        name: String,
    },
    /// A directory that the role works in cannot be opened.
    #[error("{}: cannot be opened by the {role} worker: {error}", path.display())]
    Path {
        /// Which path.
        path: PathBuf,
        /// For which role.
        role: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The jail holds one thread only; others would stay outside.
    #[error("the {role} worker has {threads} threads before it is jailed; it must have one")]
    Threads {
        /// Which role.
        role: &'static str,
        /// How many.
        threads: u64,
    },
    /// A process attribute could not be set.
    #[error("{call}: {error}")]
    Call {
        /// System call and argument.
        call: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The capability sets are not as the process table says.
    #[error("the capability sets of the {role} worker: {error}")]
    Capabilities {
        /// Which role.
        role: &'static str,
        /// Why.
        error: String,
    },
    /// The Landlock rules could not be made.
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// The filter could not be made.
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
}
