//! `raven health`: whether this box does what it must, each thing with its reason. After an update the answer decides
//! whether the new system stays.

pub(crate) mod canary;
pub(crate) mod checks;

use crate::client::{Client, unexpected};
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use clap::Args;
use raven_model::control::{Request, Response};
use raven_model::report::UplinkReport;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Rest between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// `raven health`.
#[derive(Debug, Clone, Copy, Args)]
pub struct HealthArgs {
    /// Look again for so many seconds until all is well
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u64,
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// All of it is well.
    pub well: bool,
    /// One by one.
    pub checks: Vec<Check>,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `config`, `processes`, `listeners`, `ring`, `canary` or `uplink`.
    pub name: &'static str,
    /// It is well.
    pub ok: bool,
    /// Why, or why not.
    pub reason: String,
}

impl Check {
    /// Of an outcome with its reason.
    pub fn of(name: &'static str, outcome: Result<String, String>) -> Self {
        let ok = outcome.is_ok();
        let (Ok(reason) | Err(reason)) = outcome;
        Self { name, ok, reason }
    }
}

/// Runs it: 1 when something is not well, 3 when ravend cannot be reached, each after `--wait`.
pub fn run(args: HealthArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let began = Instant::now();
    let health = loop {
        let found = look(client);
        let over = began.elapsed() >= Duration::from_secs(args.wait);
        match found {
            Ok(health) if health.well || over => break health,
            Err(failure) if over => return Err(failure),
            _ => std::thread::sleep(EVERY),
        }
    };
    if output.json {
        output.value(&health)?;
    } else {
        for Check { name, ok, reason } in &health.checks {
            output.line(&format!("{} {name}: {}", if *ok { "ok  " } else { "BAD " }, escape::text(reason)))?;
        }
    }
    Ok(if health.well { OK } else { PROBLEM })
}

/// Looks once.
fn look(client: &Client) -> Result<Health, Failure> {
    let config = client.config()?;
    let first = client.status()?;
    let mut found = vec![
        Check::of("config", file(client)?),
        Check::of("listeners", checks::listeners(&config.collect.wanted(), &first.own.listeners)),
        Check::of("ring", checks::ring(&first)),
        Check::of("canary", canary::sent(client, &first.own.listeners)),
        Check::of("uplink", checks::uplink(before(client)?.as_ref(), checks::uplink_report(&first).as_ref())),
    ];
    // Last: the canary has given a role that dies over each message the time to do so.
    let then = client.status()?;
    found.push(Check::of("processes", checks::processes(&first.own.processes, &then.own.processes)));
    Ok(Health { well: found.iter().all(|check| check.ok), checks: found })
}

/// Whether the file is one that this Raven reads.
fn file(client: &Client) -> Result<Result<String, String>, Failure> {
    match client.ask(&Request::Diff) {
        Ok(Response::Diff { .. }) => Ok(Ok("the configuration file is read and valid".to_owned())),
        Ok(other) => Err(unexpected(&other)),
        Err(Failure::Refused(why)) => Ok(Err(why.join("; "))),
        Err(other) => Err(other),
    }
}

/// The uplink before the newest update; none where nothing was ever updated.
fn before(client: &Client) -> Result<Option<UplinkReport>, Failure> {
    match client.ask(&Request::Slots) {
        Ok(Response::Slots { before, .. }) => Ok(before.and_then(|before| serde_json::from_str(before.get()).ok())),
        Ok(other) => Err(unexpected(&other)),
        // No slots, so nothing to compare with.
        Err(Failure::Refused(_)) => Ok(None),
        Err(other) => Err(other),
    }
}
