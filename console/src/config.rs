//! `raven config`: check, show, diff, apply.

use crate::client::{Client, unexpected};
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM, file};
use crate::output::Output;
use clap::Subcommand;
use raven_model::config::{Config, ConfigError, Place};
use raven_model::control::{Request, Response};
use std::path::{Path, PathBuf};

/// `raven config …`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Check a file; without one, the file that ravend was started with. Changes nothing (exit 1 when it is bad)
    Check {
        /// File to check, without asking ravend
        file: Option<PathBuf>,
    },
    /// The configuration in force
    Show,
    /// What `apply` would change
    Diff,
    /// Read the file again and put it into force, whole or not at all
    Apply,
}

/// Runs it.
pub fn run(command: &ConfigCommand, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match command {
        ConfigCommand::Check { file: Some(path) } => check_file(path, output),
        ConfigCommand::Check { file: None } => check_running(client, output),
        ConfigCommand::Show => show(client, output),
        ConfigCommand::Diff => changes(&diff(client)?, "nothing would change", output),
        ConfigCommand::Apply => match client.ask(&Request::Apply { confirm: None })? {
            Response::Applied(lines) => changes(&lines, "nothing to change", output),
            other => Err(unexpected(&other)),
        },
    }
}

fn check_file(path: &Path, output: &mut Output) -> Result<u8, Failure> {
    let text = std::fs::read_to_string(path).map_err(file("read", path))?;
    let name = path.display().to_string();
    let errors = Config::from_toml(&text, &name).err().unwrap_or_default();
    if output.json {
        let listed: Vec<_> = errors.iter().map(error_json).collect();
        output.value(&serde_json::json!({ "ok": errors.is_empty(), "errors": listed }))?;
    } else if errors.is_empty() {
        output.line(&format!("{name}: good"))?;
    } else {
        errors.iter().try_for_each(|error| output.line(&escape::text(&error.to_string())))?;
    }
    Ok(if errors.is_empty() { OK } else { PROBLEM })
}

fn error_json(error: &ConfigError) -> serde_json::Value {
    let (file, line, column) = match &error.place {
        Place::File { name, line, column } => (name, Some(line), Some(column)),
        Place::Variable(name) => (name, None, None),
    };
    serde_json::json!({
        "file": file, "line": line, "column": column, "message": error.message, "nearest": error.nearest,
        "expected": error.expected, "text": error.to_string(),
    })
}

/// `ravend` has the file read by a jailed worker; what is wrong comes back as a refusal.
fn check_running(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match diff(client) {
        Ok(lines) if output.json => output.value(&serde_json::json!({ "ok": true, "errors": [], "changes": lines }))?,
        Ok(lines) if lines.is_empty() => output.line("good, and in force")?,
        Ok(lines) => output.line(&format!("good; {} changes to apply: see `raven config diff`", lines.len()))?,
        Err(Failure::Refused(why)) if output.json => {
            let listed: Vec<_> = why.iter().map(|text| serde_json::json!({ "text": text })).collect();
            output.value(&serde_json::json!({ "ok": false, "errors": listed }))?;
            return Ok(PROBLEM);
        }
        Err(failure) => return Err(failure),
    }
    Ok(OK)
}

fn show(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match client.ask(&Request::Show)? {
        Response::Config(config) if output.json => output.value(&config)?,
        Response::Config(config) => output.line(config.to_toml().trim_end())?,
        other => return Err(unexpected(&other)),
    }
    Ok(OK)
}

fn diff(client: &Client) -> Result<Vec<String>, Failure> {
    match client.ask(&Request::Diff)? {
        Response::Diff { running, file } => Ok(running.diff(&file)),
        other => Err(unexpected(&other)),
    }
}

fn changes(lines: &[String], none: &str, output: &mut Output) -> Result<u8, Failure> {
    if output.json {
        output.value(&serde_json::json!({ "changes": lines }))?;
    } else if lines.is_empty() {
        output.line(none)?;
    } else {
        lines.iter().try_for_each(|line| output.line(&escape::text(line)))?;
    }
    Ok(OK)
}
