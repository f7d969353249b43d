//! `raven tail`: stored records as lines for people, or as the decode role's JSON lines.

use crate::cli::Stream;
use crate::client::Client;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::{shown, time};
use clap::Args;
use raven_model::prefix::Prefix;
use raven_model::query::{Query, Select};
use raven_model::units::UnixNanos;

/// `raven tail`.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    /// Stream.
    #[command(flatten)]
    pub stream: Stream,
    /// Go on with new messages as they arrive
    #[arg(long, short)]
    pub follow: bool,
    /// Only the newest N [default: 20, or all with --since or --until]
    #[arg(long, short = 'n', value_name = "N")]
    pub last: Option<u64>,
    /// Which part of the stream.
    #[command(flatten)]
    pub window: Window,
    /// Only from this sender, or from these: 10.20.0.0/16
    #[arg(long, value_name = "ADDRESS|PREFIX")]
    pub source: Option<Prefix>,
    /// Only messages that contain this text, byte for byte
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// With --json: add the fields read from each message, or why there are none
    #[arg(long)]
    pub decoded: bool,
}

/// `--since` and `--until`.
#[derive(Debug, Clone, Default, Args)]
pub struct Window {
    /// Only what was received at or after this time
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    pub since: Option<UnixNanos>,
    /// Only what was received before this time
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    pub until: Option<UnixNanos>,
}

/// For clap.
pub fn read_time(text: &str) -> Result<UnixNanos, String> {
    time::parse(text, time::now())
}

impl TailArgs {
    fn select(&self, json: bool) -> Select {
        let all = self.window.since.is_some() || self.window.until.is_some();
        Select {
            stream: self.stream.name(),
            since: self.window.since,
            until: self.window.until,
            last: self.last.or(if all { None } else { Some(20) }),
            follow: self.follow,
            source: self.source,
            grep: self.grep.iter().cloned().collect(),
            decoded: self.decoded || !json,
            ..Select::default()
        }
    }
}

/// Runs it. Following has no end of its own but `--until`: any other is a failure.
pub fn run(args: &TailArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer = client.query(&Query::Records(args.select(output.json)))?;
    loop {
        if answer.is_drained() {
            output.flush()?;
        }
        let Some(record) = answer.next(output)? else { return Ok(OK) };
        if output.json {
            output.json_line(record)?;
        } else {
            for line in shown::record(args.stream.stream(), record) {
                output.line(&line)?;
            }
        }
    }
}
