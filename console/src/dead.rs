//! `raven dead`: records that a destination refuses.

use crate::client::{Answer, Client};
use crate::escape;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::status::screen::columns;
use crate::time;
use clap::{Args, Subcommand};
use raven_model::delivery::{LetterView, LettersView, Order, Which};
use raven_model::stream::Stream;
use raven_model::units::Seq;
use serde::de::DeserializeOwned;

/// `raven dead …`.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// Which there are: destination, stream, seq, when, size, reason
    List(WhichArgs),
    /// The same, whole: as JSON
    Show(WhichArgs),
    /// Send them again; those that are acknowledged are removed
    Retry(WhichArgs),
    /// Remove them for good, counted
    Drop(DropArgs),
}

/// Which dead letters.
#[derive(Debug, Clone, Args)]
pub struct WhichArgs {
    /// Only these [default: all]
    #[arg(value_name = "SEQ")]
    pub seqs: Vec<u64>,
    /// Only of this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// Only of this stream
    #[arg(long, value_name = "STREAM", value_parser = crate::cli::read_stream)]
    pub stream: Option<Stream>,
}

/// `raven dead drop`.
#[derive(Debug, Clone, Args)]
pub struct DropArgs {
    /// Which.
    #[command(flatten)]
    pub which: WhichArgs,
    /// They are lost then: say so
    #[arg(long)]
    pub yes: bool,
}

impl WhichArgs {
    fn which(&self) -> Which {
        Which {
            destination: self.destination.clone(),
            stream: self.stream.map(|stream| stream.name().to_owned()),
            seqs: self.seqs.iter().copied().map(Seq).collect(),
        }
    }
}

/// Runs it.
pub fn run(command: &DeadCommand, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match command {
        DeadCommand::List(args) => list(client.deliver(&Order::List(args.which()))?, output),
        DeadCommand::Show(args) => show(client.deliver(&Order::Show(args.which()))?, output),
        DeadCommand::Retry(args) => settle("sent again", client.deliver(&Order::Retry(args.which()))?, output),
        DeadCommand::Drop(args) if args.yes => {
            settle("dropped", client.deliver(&Order::Drop(args.which.which()))?, output)
        }
        DeadCommand::Drop(args) => {
            let mut answer = client.deliver(&Order::List(args.which.which()))?;
            let mut letters = 0_u64;
            while answer.next(output)?.is_some() {
                letters += 1;
            }
            Err(Failure::Refused(vec![format!("{letters} records would be lost for good; say so with --yes")]))
        }
    }
}

fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))
}

fn list(mut answer: Answer, output: &mut Output) -> Result<u8, Failure> {
    let head = ["DESTINATION", "STREAM", "SEQ", "REFUSED", "SIZE", "REASON"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    while let Some(line) = answer.next(output)? {
        if output.json {
            output.json_line(line)?;
            continue;
        }
        let letter: LetterView = read(line)?;
        rows.push(vec![
            escape::text(&letter.destination),
            escape::text(&letter.stream),
            letter.seq.to_string(),
            time::format(letter.dead_ns, 0),
            letter.size.to_string(),
            escape::text(&letter.reason),
        ]);
        // Columns stay aligned within a page; memory stays bounded.
        if rows.len() > 500 {
            columns(std::mem::take(&mut rows)).iter().try_for_each(|line| output.line(line))?;
        }
    }
    if !output.json {
        columns(rows).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(OK)
}

fn show(mut answer: Answer, output: &mut Output) -> Result<u8, Failure> {
    while let Some(line) = answer.next(output)? {
        output.json_line(line)?;
    }
    Ok(OK)
}

fn settle(done: &str, mut answer: Answer, output: &mut Output) -> Result<u8, Failure> {
    while let Some(line) = answer.next(output)? {
        if output.json {
            output.json_line(line)?;
            continue;
        }
        let view: LettersView = read(line)?;
        let (name, stream) = (escape::text(&view.destination), escape::text(&view.stream));
        output.line(&format!("{name} {stream}: {} {done}", view.letters))?;
        if view.left > 0 {
            output.line(&format!("  {} more had no room: say it again when these are through", view.left))?;
        }
    }
    Ok(OK)
}
