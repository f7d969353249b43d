//! `raven search`: stored messages by text, sender and time, without an index.

use crate::cli::read_stream;
use crate::client::Client;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::progress;
use crate::shown;
use crate::tail::Window;
use clap::Args;
use raven_model::prefix::Prefix;
use raven_model::query::{Query, Select};
use raven_model::stream::Stream;

/// `raven search`.
#[derive(Debug, Clone, Args)]
pub struct SearchArgs {
    /// What messages must contain, all of it, byte for byte
    #[arg(value_name = "TEXT", required_unless_present_any = ["source", "since", "until"])]
    pub texts: Vec<String>,
    /// Stream
    #[arg(long, value_name = "STREAM", default_value = "syslog", value_parser = read_stream)]
    pub stream: Stream,
    /// Which part of the stream.
    #[command(flatten)]
    pub window: Window,
    /// Only from this sender, or from these: 10.20.0.0/16. Blocks without them are not read
    #[arg(long, visible_alias = "from", value_name = "ADDRESS|PREFIX")]
    pub source: Option<Prefix>,
    /// ASCII letters in either case
    #[arg(long, short)]
    pub ignore_case: bool,
    /// Only where no letter, digit or `_` stands before or behind TEXT
    #[arg(long, short)]
    pub words: bool,
    /// Only the newest N of them
    #[arg(long, short = 'n', visible_alias = "count", value_name = "N")]
    pub last: Option<u64>,
    /// With --json: add the fields read from each message, or why there are none
    #[arg(long)]
    pub decoded: bool,
}

fn select(args: &SearchArgs, json: bool) -> Select {
    Select {
        stream: args.stream.name().to_owned(),
        since: args.window.since,
        until: args.window.until,
        last: args.last,
        source: args.source,
        grep: args.texts.clone(),
        ignore_case: args.ignore_case,
        words: args.words,
        progress: true,
        decoded: args.decoded || !json,
        ..Select::default()
    }
}

/// Runs it.
pub fn run(args: &SearchArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer = client.query(&Query::Records(select(args, output.json)))?;
    let mut found = 0_u64;
    loop {
        if answer.is_drained() {
            output.flush()?;
        }
        let Some(record) = answer.next(output)? else { break };
        found += 1;
        if output.json {
            output.json_line(record)?;
            continue;
        }
        for line in shown::record(args.stream, record) {
            output.line(&line)?;
        }
    }
    output.flush()?;
    let looked = answer.progress().map_or_else(String::new, |looked| format!("; {}", progress::search(looked)));
    output.remark(&format!("{found} found{looked}"));
    Ok(OK)
}
