//! `raven inbox`: what arrived and was not understood or not allowed, and what to do about it. Joined from what the
//! collectors report and from the stored records that no decoder understands.

use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::reports::Reports;
use crate::sources::of_stream;
use crate::status::screen::count;
use crate::tail::read_time;
use crate::time;
use clap::Args;
use raven_model::query::{SourceTrouble, SourceView};
use raven_model::report::InboxItem;
use raven_model::stream::Stream;
use raven_model::units::UnixNanos;
use serde::Serialize;
use std::cmp::Reverse;

/// `raven inbox`.
#[derive(Debug, Clone, Args)]
pub struct InboxArgs {
    /// Only this stream.
    #[command(flatten)]
    pub stream: crate::cli::Stream,
    /// Stored records are looked through from here on; what collectors report is of their whole life
    #[arg(long, value_name = "TIME", value_parser = read_time, default_value = "1h")]
    pub since: UnixNanos,
}

/// An item as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Item {
    #[serde(flatten)]
    what: InboxItem,
    /// The first bytes as text, with what is none as `\xff`.
    first_text: String,
    /// `collector`, or `records`: found among those stored.
    seen_by: &'static str,
}

/// Runs it: 1 when there is anything in it.
pub fn run(args: &InboxArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let reports = Reports::fetch(client)?;
    reports.unread.iter().for_each(|problem| output.note(problem));
    let reported = reports.collectors.into_values().flat_map(|report| report.inbox).collect();
    let mut stored = Vec::new();
    for stream in Stream::ALL.into_iter().filter(|stream| args.stream.given().is_none_or(|only| only == *stream)) {
        let views = of_stream(stream, args.since, client, output)?.unwrap_or_default();
        stored.extend(views.iter().filter_map(|view| of_source(stream, view)));
    }
    let mut items = join(reported, stored);
    items.retain(|item| args.stream.given().is_none_or(|only| item.what.stream == only.name()));
    let is_empty = items.is_empty();
    if output.json {
        for item in &items {
            let line = serde_json::to_vec(item).map_err(|error| Failure::Output(error.into()))?;
            output.json_line(&line)?;
        }
    } else {
        lines(&items, time::now()).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(if is_empty { OK } else { PROBLEM })
}

/// A sender of whom some records are not understood.
fn of_source(stream: Stream, view: &SourceView) -> Option<InboxItem> {
    // A decode role of another version may not say more than how many.
    let untold = || SourceTrouble {
        reason: "not understood".into(),
        last_seen_ns: view.last_seen_ns,
        ..SourceTrouble::default()
    };
    let trouble = view.trouble.clone().unwrap_or_else(untold);
    (view.not_understood > 0).then(|| InboxItem {
        stream: stream.name().to_owned(),
        source: view.addr.to_string(),
        listener: trouble.listener,
        reason: trouble.reason,
        count: view.not_understood,
        // Only the newest of them is known.
        first_seen_ns: UnixNanos(0),
        last_seen_ns: trouble.last_seen_ns,
        first_bytes: trouble.first_bytes,
        remedy: remedy(stream, &view.addr.to_string()),
    })
}

fn remedy(stream: Stream, source: &str) -> String {
    let look = format!("they are kept and forwarded as they came: `raven tail {stream} --source {source}`");
    let advice = match stream {
        Stream::Syslog => "set the device to RFC 5424 or RFC 3164 and look whether it sends to the right port",
        Stream::Flow => {
            "set the exporter to NetFlow 5 or 9, IPFIX or sFlow 5, and look whether it sends to the right port"
        }
        Stream::Trap => "set the device to SNMP 2c or 3, and its community or user to one of `collect.trap`",
        Stream::Winevent => "set the agent to send JSON, NDJSON or XML of whole events",
        Stream::Metrics => "set the sender to Prometheus remote write 1.0 or Loki's push",
        Stream::Host | Stream::Alert | Stream::Diag => "look at the log of ravend",
    };
    format!("{advice}; {look}")
}

/// Newest first. What a collector reports of a sender at a listener is said once: it knows more about it.
fn join(reported: Vec<InboxItem>, stored: Vec<InboxItem>) -> Vec<Item> {
    let place = |item: &InboxItem| (item.stream.clone(), item.source.clone(), item.listener.clone());
    let known: Vec<_> = reported.iter().map(place).collect();
    let stored = stored.into_iter().filter(|item| !known.contains(&place(item))).map(|item| (item, "records"));
    let all = reported.into_iter().map(|item| (item, "collector")).chain(stored);
    let mut items: Vec<Item> =
        all.map(|(item, seen_by)| Item { first_text: text(&item.first_bytes), what: item, seen_by }).collect();
    items.sort_by_key(|item| Reverse(item.what.last_seen_ns));
    items
}

fn text(hex: &str) -> String {
    let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map_while(byte).collect();
    escape::bytes(&bytes)
}

fn lines(items: &[Item], now: UnixNanos) -> Vec<String> {
    if items.is_empty() {
        return vec!["empty: everything that came was understood and allowed".to_owned()];
    }
    items.iter().flat_map(|item| shown(item, now)).collect()
}

fn shown(Item { what: item, first_text, .. }: &Item, now: UnixNanos) -> Vec<String> {
    let listener =
        if item.listener.is_empty() { String::new() } else { format!(" at {}", escape::text(&item.listener)) };
    let seen = if item.last_seen_ns == UnixNanos(0) { "now".to_owned() } else { time::ago(item.last_seen_ns, now) };
    let mut lines = vec![format!(
        "{} {}{listener}: {} ({} times, last {seen})",
        escape::text(&item.stream),
        escape::text(&item.source),
        escape::text(&item.reason),
        count(item.count),
    )];
    if !item.first_bytes.is_empty() {
        lines.push(format!("    begins {}  {first_text}", escape::text(&item.first_bytes)));
    }
    if !item.remedy.is_empty() {
        lines.push(format!("    remedy: {}", escape::text(&item.remedy)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(source: &str, last: u64) -> InboxItem {
        InboxItem {
            stream: "trap".into(),
            source: source.into(),
            listener: "udp:[::]:162".into(),
            reason: "bad \u{1b}".into(),
            count: 2,
            last_seen_ns: UnixNanos(last * 1_000_000_000),
            first_bytes: "30ff1b".into(),
            remedy: "do \u{1b}".into(),
            ..InboxItem::default()
        }
    }

    #[test]
    fn the_newest_comes_first_and_what_the_collector_said_is_said_once() {
        let items = join(vec![item("192.0.2.1", 5)], vec![item("192.0.2.1", 6), item("192.0.2.2", 7)]);
        let told: Vec<_> = items.iter().map(|item| (item.what.source.as_str(), item.seen_by)).collect();
        assert_eq!(told, [("192.0.2.2", "records"), ("192.0.2.1", "collector")]);
    }

    #[test]
    fn an_item_is_told_with_its_bytes_and_its_remedy() {
        let items = join(vec![item("192.0.2.1", 5)], Vec::new());
        assert_eq!(
            lines(&items, UnixNanos(17_000_000_000)),
            [
                "trap 192.0.2.1 at udp:[::]:162: bad \\x1b (2 times, last 12s ago)",
                "    begins 30ff1b  0\\xff\\x1b",
                "    remedy: do \\x1b",
            ]
        );
        assert_eq!(text("3"), "");
        assert_eq!(text("é0"), "");
    }
}
