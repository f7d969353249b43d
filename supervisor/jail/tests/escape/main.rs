//! What the owner of a worker can reach: nothing but what the process table gives its role.
//!
//! The program is its own worker: [`spawn`] runs a copy of it, which enters the jail of its role and does one probe. A
//! probe that ends its process with SIGSYS was denied. Each escape is also tried outside any jail, where it must work:
//! a probe that never works proves nothing.

#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod checks;
mod probes;
mod worker;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

/// A check and its name.
type Check = (&'static str, fn());

const CHECKS: [Check; 7] = [
    ("every escape works outside the jail", checks::escapes_work_outside),
    ("every role is denied every escape and keeps its abilities", checks::roles_are_jailed),
    ("the status of every worker equals the process table", checks::status_equals_the_table),
    ("a worker has no descriptor but its own", checks::descriptors),
    ("a worker dies with its parent", checks::worker_dies_with_parent),
    ("a failed start names its step", checks::failed_start_is_named),
    (
        "the supervisor keeps the capabilities of the table and can still start workers",
        checks::supervisor_keeps_its_capabilities,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["raven-worker", role] => worker::run(role),
        [_, "--outside"] => worker::run_outside(),
        [_, "--parent", ref rest @ ..] => checks::be_parent(rest),
        [_, "--supervisor", ref rest @ ..] => checks::be_supervisor(rest),
        [_, "--list", ..] => return ExitCode::SUCCESS,
        [_, ref filters @ ..] => return run_checks(filters),
        [] => {}
    }
    ExitCode::SUCCESS
}

fn run_checks(filters: &[&str]) -> ExitCode {
    let wanted = |name: &str| {
        let mut words = filters.iter().filter(|filter| !filter.starts_with('-')).peekable();
        words.peek().is_none() || words.any(|word| name.contains(*word))
    };
    let mut failed = 0;
    for (name, check) in CHECKS.iter().filter(|(name, _)| wanted(name)) {
        let ok = panic::catch_unwind(AssertUnwindSafe(check)).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        failed += u32::from(!ok);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
