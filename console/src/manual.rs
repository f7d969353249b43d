//! Completions and manual pages, made of the argument definitions.

use crate::cli::Cli;
use crate::failure::{Failure, OK, file};
use crate::output::Output;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::path::PathBuf;

/// `raven completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// `raven man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Write a page for each command into this folder, in place of the one of `raven` to standard output
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

/// Runs `raven completions`.
pub fn completions(args: &CompletionsArgs, output: &mut Output) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "raven", &mut script);
    output.bytes(&script)?;
    Ok(OK)
}

/// Runs `raven man`.
pub fn man(args: &ManArgs, output: &mut Output) -> Result<u8, Failure> {
    if let Some(folder) = &args.out {
        // `raven.1`, `raven-ring.1`, `raven-ring-verify.1`, …
        clap_mangen::generate_to(Cli::command(), folder).map_err(file("write into", folder))?;
        return Ok(OK);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::Output)?;
    output.bytes(&page)?;
    Ok(OK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_shell_gets_completions_that_know_the_commands() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "raven", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("console") && script.contains("history"), "{shell}");
        }
    }

    #[test]
    fn each_command_has_a_page_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();
        for name in ["raven", "raven-ring-verify", "raven-config-put"] {
            let text = std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}: {text}");
        }
    }
}
