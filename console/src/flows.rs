//! `raven flows top`: what makes most of the traffic, counted by the decode role.

use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::status::screen::{columns, count, size};
use crate::tail::Window;
use crate::time;
use clap::{Args, Subcommand, ValueEnum};
use raven_model::query::{FlowsTop, Query, TopBy, TopTotal, TopView};
use raven_model::record::plain_address;
use raven_model::units::{Span, UnixNanos};
use std::net::IpAddr;

/// Without `--since`.
const SINCE: &str = "5m";

/// `raven flows …`.
#[derive(Debug, Subcommand)]
pub enum FlowsCommand {
    /// What makes most of the traffic: by address, application, port or exporter
    #[command(after_help = crate::cli::TIMES)]
    Top(TopArgs),
}

/// `raven flows top`.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Count by
    #[arg(long, value_enum, default_value_t = By::Src)]
    pub by: By,
    /// How many to show, those with the most bytes
    #[arg(long, short, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub n: u32,
    /// Which time [default: since 5m]
    #[command(flatten)]
    pub window: Window,
    /// Only what this exporter saw
    #[arg(long, value_name = "EXPORTER")]
    pub source: Option<IpAddr>,
}

/// What to count by.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum By {
    /// Source address
    Src,
    /// Destination address
    Dst,
    /// Application: as the exporter calls it, else the service at the port that has a name, else at the lower port
    App,
    /// Who sent the flows
    Exporter,
    /// Source and destination address
    Pair,
    /// Protocol and destination port
    Port,
}

/// Runs it.
pub fn run(command: &FlowsCommand, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let FlowsCommand::Top(args) = command;
    let mut answer = client.query(&Query::FlowsTop(question(args)?))?;
    let mut views: Vec<TopView> = Vec::new();
    while let Some(line) = answer.next(output)? {
        if output.json {
            output.json_line(line)?;
        } else {
            views.push(serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?);
        }
    }
    if !output.json {
        for line in table(args.by, &views) {
            output.line(&line)?;
        }
    }
    Ok(OK)
}

fn question(args: &TopArgs) -> Result<FlowsTop, Failure> {
    let by = match args.by {
        By::Src => TopBy::Src,
        By::Dst => TopBy::Dst,
        By::App => TopBy::App,
        By::Exporter => TopBy::Exporter,
        By::Pair => TopBy::Pair,
        By::Port => TopBy::Port,
    };
    let default = || time::parse(SINCE, time::now()).map_err(Failure::Usage);
    let since = match (args.window.since, args.window.until) {
        (Some(since), _) => since,
        (None, None) => default()?,
        (None, Some(until)) => before(until),
    };
    let source = args.source.map(plain_address);
    Ok(FlowsTop { by, since: Some(since), until: args.window.until, n: args.n, source })
}

/// The same time before the end that was asked for.
fn before(until: UnixNanos) -> UnixNanos {
    let span = SINCE.parse::<Span>().map_or(0, |span| u64::try_from(span.0.as_nanos()).unwrap_or(0));
    UnixNanos(until.0.saturating_sub(span))
}

fn table(by: By, views: &[TopView]) -> Vec<String> {
    let (keys, last): (Vec<&TopView>, Vec<&TopView>) = views.iter().partition(|view| view.total.is_none());
    let all = last.first().copied();
    if keys.is_empty() {
        let lines = all.and_then(|all| all.total.as_ref()).map(about).unwrap_or_default();
        return std::iter::once("no flows in that time".to_owned()).chain(lines).collect();
    }
    let name = match by {
        By::Src => "SOURCE",
        By::Dst => "DESTINATION",
        By::App => "APPLICATION",
        By::Exporter => "EXPORTER",
        By::Pair => "SOURCE > DESTINATION",
        By::Port => "PORT",
    };
    let head = [name, "BYTES", "SHARE", "PACKETS", "FLOWS", "ESTIMATED BYTES", "ESTIMATED PACKETS"];
    let rows = keys.iter().map(|view| row(view, all)).chain(all.map(total_row));
    let lines = columns(std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect());
    lines
        .into_iter()
        .chain(all.map(estimate))
        .chain(all.and_then(|all| all.total.as_ref()).map(about).unwrap_or_default())
        .collect()
}

fn row(view: &TopView, all: Option<&TopView>) -> Vec<String> {
    let key = view.key.as_deref().map_or_else(|| "(not told)".to_owned(), escape::text);
    let key = match &view.name {
        Some(name) => format!("{key} {}", escape::text(name)),
        None => key,
    };
    let whole = all.map_or(0, |all| all.bytes);
    let share = if whole > 0 { format!("{:.1}%", view.bytes as f64 * 100.0 / whole as f64) } else { "-".to_owned() };
    sums(key, share, view)
}

fn total_row(all: &TopView) -> Vec<String> {
    sums("all".to_owned(), String::new(), all)
}

fn sums(key: String, share: String, view: &TopView) -> Vec<String> {
    vec![
        key,
        size(view.bytes),
        share,
        count(view.packets),
        count(view.flows),
        view.bytes_estimated.map_or_else(|| "-".to_owned(), size),
        view.packets_estimated.map_or_else(|| "-".to_owned(), count),
    ]
}

fn estimate(all: &TopView) -> String {
    let unknown = match all.flows_without_rate {
        0 => String::new(),
        n => format!("; `-` where a flow's rate is not known ({} flows)", count(n)),
    };
    format!("BYTES and PACKETS are as sent. Estimated: each flow times its sampling rate{unknown}")
}

fn about(total: &TopTotal) -> Vec<String> {
    let time = match (total.first_ns, total.last_ns) {
        (Some(first), Some(last)) => format!(", received {} to {}", time::format(first, 0), time::format(last, 0)),
        _ => String::new(),
    };
    let mut lines = vec![format!("{} datagrams{time}; {} keys", count(total.datagrams), count(total.keys))];
    if total.undescribed > 0 {
        lines.push(format!("not counted: {} data sets without a template", count(total.undescribed)));
    }
    if total.unread > 0 {
        lines.push(format!(
            "not counted: {} datagrams or parts that could not be read or were refused",
            count(total.unread)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_estimate_is_called_one() {
        let known = TopView {
            key: Some("tcp/443".into()),
            name: Some("https\u{1b}".into()),
            flows: 3,
            bytes: 1000,
            packets: 10,
            bytes_estimated: Some(100_000),
            packets_estimated: Some(1000),
            ..TopView::default()
        };
        let unknown = TopView { key: None, flows: 1, bytes: 250, flows_without_rate: 1, ..TopView::default() };
        let total = TopTotal { datagrams: 2, undescribed: 4, keys: 2, ..TopTotal::default() };
        let all = TopView { flows: 4, bytes: 1250, flows_without_rate: 1, total: Some(total), ..TopView::default() };
        let lines = table(By::App, &[known, unknown, all.clone()]);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = lines.iter().map(|line| words(line)).collect();
        assert_eq!(
            lines,
            [
                "APPLICATION BYTES SHARE PACKETS FLOWS ESTIMATED BYTES ESTIMATED PACKETS",
                "tcp/443 https\\x1b 1000B 80.0% 10 3 97.7KiB 1000",
                "(not told) 250B 20.0% 0 1 - -",
                "all 1.2KiB 0 4 - -",
                "BYTES and PACKETS are as sent. Estimated: each flow times its sampling rate; `-` where a flow's rate is not known (1 flows)",
                "2 datagrams; 2 keys",
                "not counted: 4 data sets without a template",
            ]
        );
        assert_eq!(table(By::Src, &[TopView { flows: 0, ..all }])[0], "no flows in that time");
    }
}
