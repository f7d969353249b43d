//! `raven config`: check, show, diff, apply, put, confirm, history, version, revert.

use crate::client::{Client, unexpected};
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM, file};
use crate::output::Output;
use crate::status::screen::columns;
use crate::time;
use clap::Subcommand;
use raven_model::config::{Config, ConfigError, Place};
use raven_model::control::{Request, Response, Version};
use raven_model::units::Span;
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
    /// Put this file in the place of the configuration, and into force, whole or not at all
    Put {
        /// The new configuration; `-` for standard input
        file: PathBuf,
        /// Take it back by itself unless `raven config confirm` comes within this time: 10s to 1h
        #[arg(long, value_name = "TIME", value_parser = read_patience)]
        confirm: Option<Span>,
    },
    /// Put the configuration (and the secrets) of a USB stick that is in the box into force
    TakeStick {
        /// As of `put`
        #[arg(long, value_name = "TIME", value_parser = read_patience)]
        confirm: Option<Span>,
    },
    /// Keep what was put with a time to confirm it
    Confirm,
    /// The configurations that were in force, newest first
    History,
    /// The text of one of them
    Version {
        /// As in the history
        number: u32,
    },
    /// Put one of them into force again
    Revert {
        /// As in the history
        number: u32,
        /// As of `put`
        #[arg(long, value_name = "TIME", value_parser = read_patience)]
        confirm: Option<Span>,
    },
}

/// For clap: the time within which a change is to be confirmed.
pub fn read_patience(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    let is_good = (10..=3600).contains(&span.0.as_secs());
    is_good.then_some(span).ok_or_else(|| format!("`{text}` is not between 10s and 1h"))
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
        ConfigCommand::Put { file, confirm } => {
            let request = Request::Put { text: read(file)?, confirm: confirm.map(|span| span.0.as_secs()) };
            change(&request, *confirm, client, output)
        }
        ConfigCommand::TakeStick { confirm } => {
            let request = Request::TakeStick { confirm: confirm.map(|span| span.0.as_secs()) };
            change(&request, *confirm, client, output)
        }
        ConfigCommand::Confirm => change(&Request::Confirm, None, client, output),
        ConfigCommand::History => history(client, output),
        ConfigCommand::Version { number } => version(*number, client, output),
        ConfigCommand::Revert { number, confirm } => {
            let request = Request::Revert { number: *number, confirm: confirm.map(|span| span.0.as_secs()) };
            change(&request, *confirm, client, output)
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).map_err(file("read", "standard input"));
    }
    std::fs::read_to_string(path).map_err(file("read", path))
}

/// What changed, and until when it is to be confirmed.
pub fn change(request: &Request, confirm: Option<Span>, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let code = match client.ask(request)? {
        Response::Applied(lines) => changes(&lines, "nothing to change", output)?,
        Response::Done => OK,
        other => return Err(unexpected(&other)),
    };
    if let Some(confirm) = confirm {
        output.remark(&format!("raven: it is taken back in {confirm} unless `raven config confirm` comes before"));
    }
    Ok(code)
}

fn history(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let versions = match client.ask(&Request::History)? {
        Response::History(versions) => versions,
        other => return Err(unexpected(&other)),
    };
    if output.json {
        output.value(&serde_json::json!({ "versions": versions }))?;
        return Ok(OK);
    }
    let row = |version: &Version| {
        let current = if version.current { "in force" } else { "" };
        vec![
            version.number.to_string(),
            time::format(version.time_ns, 0),
            escape::text(&version.by),
            current.to_owned(),
        ]
    };
    let head = ["VERSION", "IN FORCE SINCE", "BY", ""].map(str::to_owned).to_vec();
    let rows = std::iter::once(head).chain(versions.iter().map(row)).collect();
    columns(rows).iter().try_for_each(|line| output.line(line))?;
    Ok(OK)
}

fn version(number: u32, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match client.ask(&Request::Version { number })? {
        Response::Text(text) if output.json => output.value(&serde_json::json!({ "text": text }))?,
        Response::Text(text) if output.terminal => {
            text.lines().try_for_each(|line| output.line(&escape::text(line)))?;
        }
        Response::Text(text) => output.bytes(text.as_bytes())?,
        other => return Err(unexpected(&other)),
    }
    Ok(OK)
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
