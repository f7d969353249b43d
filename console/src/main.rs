//! The program `raven`. See the library for everything else.

use raven_console::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::parse(std::env::args_os().collect()).unwrap_or_else(|error| error.exit());
    ExitCode::from(cli::main(cli))
}
