//! The syslog collector in its jail, as a process of its own, with the programs that send to it in the field: openssl,
//! rsyslog, logger. A program that is not installed is named, and its scenario does not run.
//!
//! Without a harness: the collector is this program again, which enters its jail as the only thread of its process.
//! `peers bench` measures CPU and memory of the collector.
#![allow(clippy::unwrap_used)]

mod bench;
mod collector;
mod programs;
mod scenarios;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--collector") => collector::run(),
        Some("--keygen") => collector::run_keygen(),
        Some("bench") => bench::run(),
        // What tools ask that look for tests.
        Some("--list") => {}
        name => scenarios::all(name.filter(|name| !name.starts_with('-'))),
    }
    ExitCode::SUCCESS
}
