//! `raven uplink`: hold a destination, and let it go on.

use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK};
use crate::output::Output;
use clap::{Args, Subcommand};
use raven_model::delivery::{Hold, Order, PausedView};

/// `raven uplink …`.
#[derive(Debug, Subcommand)]
pub enum UplinkCommand {
    /// Send nothing more to a destination until `resume`, also after a restart; records wait in the ring
    Pause(HoldArgs),
    /// Go on sending
    Resume(HoldArgs),
}

/// `raven uplink pause|resume`.
#[derive(Debug, Clone, Args)]
pub struct HoldArgs {
    /// Destination: NAME of `[uplink.NAME]`
    #[arg(value_name = "NAME")]
    pub destination: String,
    /// Only what an outage left behind; what comes in is sent on
    #[arg(long)]
    pub backfill: bool,
}

/// Runs it.
pub fn run(command: &UplinkCommand, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let hold = |args: &HoldArgs| Hold { destination: args.destination.clone(), backfill_only: args.backfill };
    let order = match command {
        UplinkCommand::Pause(args) => Order::Pause(hold(args)),
        UplinkCommand::Resume(args) => Order::Resume(hold(args)),
    };
    let mut answer = client.deliver(&order)?;
    while let Some(line) = answer.next(output)? {
        if output.json {
            output.json_line(line)?;
            continue;
        }
        let view: PausedView = serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?;
        let name = escape::text(&view.destination);
        output.line(&format!(
            "{name}: live {}, backfill {}",
            escape::text(&view.live),
            escape::text(&view.backfill)
        ))?;
    }
    Ok(OK)
}
