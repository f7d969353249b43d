//! `raven traps`: notifications as a list, by name.

use crate::client::Client;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::shown::{self, Trap, is_named};
use crate::tail::Window;
use crate::time;
use clap::Args;
use raven_model::prefix::Prefix;
use raven_model::query::{Query, RecordView, Select};
use raven_model::stream::Stream;
use std::collections::VecDeque;

/// Shown without another word from the operator.
const LAST: usize = 20;
/// How far back a name is looked for without `--since`.
const SINCE: &str = "1d";

/// `raven traps`.
#[derive(Debug, Clone, Args)]
pub struct TrapsArgs {
    /// Which time [default: all, with --name the last day]
    #[command(flatten)]
    pub window: Window,
    /// Only from this sender, or from these: 10.20.0.0/16
    #[arg(long, value_name = "ADDRESS|PREFIX")]
    pub source: Option<Prefix>,
    /// Only notifications of this name (linkDown), OID, or of an OID below it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only the newest N [default: 20, or all with --since or --until]
    #[arg(long, short = 'n', value_name = "N")]
    pub last: Option<usize>,
    /// Go on with new ones as they arrive
    #[arg(long, short)]
    pub follow: bool,
}

/// Runs it.
pub fn run(args: &TrapsArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer = client.query(&Query::Records(select(args)?))?;
    // Who follows wants to see what comes at once; the newest of a name are known at the end.
    let mut newest =
        Newest { most: args.name.as_ref().filter(|_| !args.follow).and_then(|_| last(args)), lines: VecDeque::new() };
    loop {
        if answer.is_drained() {
            output.flush()?;
        }
        let Some(line) = answer.next(output)? else { break };
        if !args.name.as_deref().is_none_or(|name| is_meant(line, name)) {
            continue;
        }
        if let Some(line) = newest.pass(line) {
            show(&line, output)?;
        }
    }
    newest.lines.iter().try_for_each(|line| show(line, output))?;
    Ok(OK)
}

fn last(args: &TrapsArgs) -> Option<usize> {
    let all = args.window.since.is_some() || args.window.until.is_some();
    args.last.or(if all { None } else { Some(LAST) })
}

fn select(args: &TrapsArgs) -> Result<Select, Failure> {
    // By name the last N are counted here, of those that have it.
    let by_name = args.name.is_some() && !args.follow;
    let since = match args.window.since {
        None if by_name && args.window.until.is_none() => {
            Some(time::parse(SINCE, time::now()).map_err(Failure::Usage)?)
        }
        since => since,
    };
    Ok(Select {
        stream: Stream::Trap.name().to_owned(),
        since,
        until: args.window.until,
        last: last(args).filter(|_| !by_name).map(|n| n as u64),
        follow: args.follow,
        source: args.source,
        decoded: true,
        ..Select::default()
    })
}

fn is_meant(line: &[u8], name: &str) -> bool {
    let view: Option<RecordView> = serde_json::from_slice(line).ok();
    let trap: Option<Trap> = view.and_then(|view| view.decoded?.read());
    trap.is_some_and(|trap| is_named(&trap, name))
}

fn show(line: &[u8], output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return output.json_line(line);
    }
    shown::record(Stream::Trap, line).iter().try_for_each(|line| output.line(line))
}

/// The newest so many lines; without a limit all, at once.
struct Newest {
    most: Option<usize>,
    lines: VecDeque<Vec<u8>>,
}

impl Newest {
    fn pass(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let Some(most) = self.most else { return Some(line.to_vec()) };
        self.lines.push_back(line.to_vec());
        if self.lines.len() > most {
            self.lines.pop_front();
        }
        None
    }
}
