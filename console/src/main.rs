//! The program `raven`. See the library for everything else.

use raven_console::cli;
use raven_console::session::Session;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let session = Session::begin(&arguments);
    let code = match cli::parse(arguments) {
        Ok(cli) => cli::main(cli),
        Err(error) => {
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(u8::MAX)
        }
    };
    if let Some(session) = session {
        session.end(code);
    }
    ExitCode::from(code)
}
