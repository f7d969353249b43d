//! What a collector's report gives an operator to act on.

use raven_model::report::{CollectorReport, Exporter, InboxItem};
use raven_model::stream::Stream;
use std::cmp::Reverse;

/// Exporters that are named; the rest are counted.
const NAMED: usize = 2;
/// What the reasons of drops above a limit of messages have in their names.
const STORM: &str = "storm";

/// Most urgent first: what is lost, then what is not understood.
pub fn alerts(stream: Stream, report: &CollectorReport) -> Vec<String> {
    let all = [
        storm(stream, report),
        dropped(stream, report),
        losing(&report.exporters),
        unparsed(stream, report.unparsed),
        inbox(stream, &report.inbox),
    ];
    all.into_iter().flatten().collect()
}

/// One sender that sends without measure would take the place of all others.
fn storm(stream: Stream, report: &CollectorReport) -> Option<String> {
    let count: u64 = report.dropped.iter().filter(|(reason, _)| reason.contains(STORM)).map(|(_, n)| n).sum();
    let mut senders: Vec<&str> =
        report.inbox.iter().filter(|item| item.reason.contains(STORM)).map(|item| item.source.as_str()).collect();
    senders.dedup();
    let who = if senders.is_empty() { String::new() } else { format!(" of {}", few(&senders)) };
    (count > 0 || !senders.is_empty())
        .then(|| format!("{stream}: storm{who}: {count} dropped that came faster than `collect.{stream}.storm` allows"))
}

fn dropped(stream: Stream, report: &CollectorReport) -> Option<String> {
    let others = report.dropped.iter().filter(|(reason, count)| **count > 0 && !reason.contains(STORM));
    let told: Vec<String> = others.map(|(reason, count)| format!("{count} ({reason})")).collect();
    (!told.is_empty()).then(|| format!("{stream}: the collector dropped {}", told.join(", ")))
}

fn losing(exporters: &[Exporter]) -> Option<String> {
    let mut losing: Vec<&Exporter> = exporters.iter().filter(|exporter| exporter.lost > 0).collect();
    losing.sort_by_key(|exporter| Reverse(exporter.lost));
    let told: Vec<String> = losing
        .iter()
        .map(|exporter| format!("{} lost {} {}", exporter.source, exporter.lost, exporter.lost_unit))
        .collect();
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    (!told.is_empty())
        .then(|| format!("flow: by their own count {} before they came here: see `raven sources`", few(&told)))
}

/// Poison is stored raw; somebody should look at it.
fn unparsed(stream: Stream, records: u64) -> Option<String> {
    (records > 0).then(|| format!("{records} records are kept unparsed: the {stream} collector died twice over them"))
}

/// A storm is said by itself.
fn inbox(stream: Stream, inbox: &[InboxItem]) -> Option<String> {
    let items: Vec<&InboxItem> = inbox.iter().filter(|item| !item.reason.contains(STORM)).collect();
    let newest = items.iter().max_by_key(|item| item.last_seen_ns)?;
    let more = if items.len() > 1 { format!(" and {} more", items.len() - 1) } else { String::new() };
    Some(format!("{stream}: in the inbox {} of {}{more}: see `raven inbox`", newest.reason, newest.source))
}

fn few(told: &[&str]) -> String {
    let more = told.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", told[..told.len() - more].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::units::UnixNanos;
    use std::collections::BTreeMap;

    fn item(source: &str, reason: &str, last: u64) -> InboxItem {
        InboxItem {
            source: source.into(),
            reason: reason.into(),
            last_seen_ns: UnixNanos(last),
            ..InboxItem::default()
        }
    }

    #[test]
    fn a_collector_without_trouble_gives_no_alert() {
        assert_eq!(alerts(Stream::Flow, &CollectorReport::default()), [""; 0]);
        let quiet =
            CollectorReport { dropped: BTreeMap::from([("malformed".to_owned(), 0)]), ..CollectorReport::default() };
        assert_eq!(alerts(Stream::Flow, &quiet), [""; 0]);
    }

    #[test]
    fn storms_drops_and_the_inbox_are_said_with_who_and_how_much() {
        let report = CollectorReport {
            dropped: BTreeMap::from([("storm".to_owned(), 300), ("not_allowed".to_owned(), 2)]),
            inbox: vec![
                item("192.0.2.1", "storm", 9),
                item("192.0.2.2", "wrong_community", 5),
                item("192.0.2.3", "unknown_user", 6),
            ],
            unparsed: 1,
            ..CollectorReport::default()
        };
        assert_eq!(
            alerts(Stream::Trap, &report),
            [
                "trap: storm of 192.0.2.1: 300 dropped that came faster than `collect.trap.storm` allows",
                "trap: the collector dropped 2 (not_allowed)",
                "1 records are kept unparsed: the trap collector died twice over them",
                "trap: in the inbox unknown_user of 192.0.2.3 and 1 more: see `raven inbox`",
            ]
        );
    }

    #[test]
    fn exporters_that_lose_most_are_named() {
        let exporter = |n: u64| Exporter {
            source: format!("192.0.2.{n}"),
            lost: n * 10,
            lost_unit: "packets".into(),
            ..Exporter::default()
        };
        let report = CollectorReport { exporters: (0..4).map(exporter).collect(), ..CollectorReport::default() };
        assert_eq!(
            alerts(Stream::Flow, &report),
            [
                "flow: by their own count 192.0.2.3 lost 30 packets, 192.0.2.2 lost 20 packets and 1 more before they came here: see `raven sources`"
            ]
        );
    }
}
