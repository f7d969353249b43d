//! `raven sources`: who is sending.

use crate::cli::Stream;
use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::status::screen::{columns, count};
use crate::tail::read_time;
use crate::time;
use clap::Args;
use raven_model::query::{Query, SourceView};
use raven_model::units::UnixNanos;

/// `raven sources`.
#[derive(Debug, Clone, Args)]
pub struct SourcesArgs {
    /// Stream.
    #[command(flatten)]
    pub stream: Stream,
    /// Only what was received at or after this time
    #[arg(long, value_name = "TIME", value_parser = read_time, default_value = "10m")]
    pub since: UnixNanos,
}

/// Runs it.
pub fn run(args: &SourcesArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer = client.query(&Query::Sources { stream: args.stream.name(), since: Some(args.since) })?;
    let mut views = Vec::new();
    while let Some(line) = answer.next(output)? {
        if output.json {
            output.json_line(line)?;
        } else {
            views.push(serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?);
        }
    }
    if !output.json {
        for line in table(&views, time::now()) {
            output.line(&line)?;
        }
    }
    Ok(OK)
}

/// One line per sender; what was not understood gets a line with its newest example.
fn table(views: &[SourceView], now: UnixNanos) -> Vec<String> {
    if views.is_empty() {
        return vec!["nobody has sent anything in that time".to_owned()];
    }
    let head =
        ["SOURCE", "NAME", "RATE/s", "RECORDS", "BYTES", "LAST SEEN", "NOT UNDERSTOOD"].map(str::to_owned).to_vec();
    let rows = views.iter().map(|view| row(view, now));
    let lines = columns(std::iter::once(head).chain(rows).collect());
    let samples = std::iter::once(None).chain(views.iter().map(|view| view.sample.as_deref()));
    let with_sample = |(line, sample): (String, Option<&str>)| match sample {
        Some(sample) => vec![line, format!("    e.g. {}", escape::text(sample))],
        None => vec![line],
    };
    lines.into_iter().zip(samples).flat_map(with_sample).collect()
}

fn row(view: &SourceView, now: UnixNanos) -> Vec<String> {
    let name = view.hostname.as_deref().map_or_else(|| "-".to_owned(), escape::text);
    let rate = format!("{:.1}", view.rate);
    vec![
        view.addr.to_string(),
        name,
        rate,
        count(view.records),
        count(view.bytes),
        time::ago(view.last_seen_ns, now),
        count(view.not_understood),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_is_not_understood_shows_what_it_says() {
        let view = SourceView {
            addr: [192, 0, 2, 7].into(),
            records: 12,
            bytes: 3400,
            rate: 0.5,
            last_seen_ns: UnixNanos(40_000_000_000),
            not_understood: 3,
            hostname: Some("fw\u{1b}1".to_owned()),
            sample: Some("\u{1b}[2J".to_owned()),
        };
        let lines = table(&[view], UnixNanos(52_000_000_000));
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["192.0.2.7", "fw\\x1b1", "0.5", "12", "3400", "12s", "ago", "3"]
        );
        assert_eq!(lines[2], "    e.g. \\x1b[2J");
    }
}
