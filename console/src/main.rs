//! The program `raven`. See the library for everything else.

use clap::Parser as _;
use raven_console::cli::{self, Cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::main(Cli::parse()))
}
