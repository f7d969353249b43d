//! `raven factory-reset`: everything that the box keeps is discarded, once its name was said.

use crate::client::{Client, unexpected};
use crate::failure::{Failure, OK};
use crate::output::Output;
use clap::Args;
use raven_model::control::{Request, Response};

/// `raven factory-reset`.
#[derive(Debug, Args)]
pub struct FactoryResetArgs {
    /// The name of the box (`site.name`): that all it keeps is lost, and cannot be had back, is meant
    #[arg(long, value_name = "NAME", required = true)]
    pub yes_discard: String,
}

/// Runs it.
pub fn run(args: &FactoryResetArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let follows = match client.ask(&Request::FactoryReset { typed: args.yes_discard.clone() })? {
        Response::Applied(follows) => follows,
        other => return Err(unexpected(&other)),
    };
    if output.json {
        output.value(&serde_json::json!({ "follows": follows }))?;
    } else {
        follows.iter().try_for_each(|line| output.line(line))?;
    }
    Ok(OK)
}
