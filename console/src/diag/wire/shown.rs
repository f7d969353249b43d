//! The wire as an engineer reads it.

use crate::escape;
use crate::status::screen::{count, size, table};
use raven_model::diag::wire::{Row, Second, WireReport};
use std::net::IpAddr;

/// Rows that are shown of a second, and at the end without `--all`.
const LIVE: usize = 15;
const BUSIEST: usize = 20;
const HEAD: [&str; 9] = ["SENDER", "VLAN", "TARGET", "TO", "PROTOCOL", "PORT", "PACKETS", "BYTES", "RATE/s"];

/// The last second; with its rows on a terminal.
pub fn second(interface: &str, second: &Second, with_rows: bool) -> Vec<String> {
    let dropped = if second.dropped > 0 { format!(", {} not counted", second.dropped) } else { String::new() };
    let volume = format!("{} packets, {}", count(second.volume.packets), size(second.volume.bytes));
    let mut lines = vec![format!("{} {:>3} s: {volume}{dropped}", escape::text(interface), second.second)];
    if with_rows {
        lines.extend(table(&HEAD, second.rows.iter().take(LIVE).map(row)));
    }
    lines
}

fn row(row: &Row) -> Vec<String> {
    let dash = || "-".to_owned();
    let address = |address: Option<IpAddr>| address.map(|address| address.to_string());
    let mac = || row.mac.map_or_else(dash, |mac| mac.to_string());
    let vlans: Vec<String> = row.vlans.iter().map(u16::to_string).collect();
    let port = row.port.map_or_else(dash, |port| if row.answer { format!("from {port}") } else { port.to_string() });
    vec![
        address(row.source).unwrap_or_else(mac),
        if vlans.is_empty() { dash() } else { vlans.join(".") },
        address(row.target).unwrap_or_else(dash),
        row.to.name().to_owned(),
        escape::text(&row.protocol),
        port,
        count(row.packets + row.fragments),
        size(row.bytes),
        format!("{:.1}", row.rate),
    ]
}

/// All of it, what to look at last.
pub fn report(report: &WireReport, all: bool) -> Vec<String> {
    let wire = &report.wire;
    let seconds = wire.until_ns.0.saturating_sub(wire.from_ns.0) as f64 / 1e9;
    let shown = if all { wire.rows.len() } else { BUSIEST };
    let mut lines = table(&HEAD, wire.rows.iter().take(shown).map(row));
    let more = wire.rows.len().saturating_sub(shown);
    if more > 0 {
        lines.push(format!("and {more} more rows: --all shows them"));
    }
    let volume = format!("{} packets, {} in {seconds:.1} s", count(wire.total.packets), size(wire.total.bytes));
    let odd = [(wire.unmeant, "others not asked for"), (wire.malformed, "with broken headers")];
    let odd = odd.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {} {what}", count(*n)));
    lines.push(format!("{}: {volume}{}", escape::text(&wire.interface), odd.collect::<String>()));
    lines.push(String::new());
    if !report.senders.is_empty() {
        let received = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), count);
        let cells = report.senders.iter().map(|sender| {
            let ports: Vec<String> = sender.ports.iter().map(u16::to_string).collect();
            let (source, stream) = (sender.source.to_string(), escape::text(&sender.stream));
            vec![source, stream, ports.join(","), count(sender.wire), received(sender.received)]
        });
        lines.extend(table(&["SENDER", "STREAM", "UDP PORT", "ON THE WIRE", "RECEIVED"], cells));
        lines.push(String::new());
    }
    if report.findings.is_empty() {
        lines.push("what arrives for this box is received".to_owned());
    }
    lines.extend(report.findings.iter().map(|finding| format!("! {}", escape::text(&finding.text))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::diag::wire::{Finding, SenderSeen, WireResult};

    #[test]
    fn rows_senders_and_findings_are_shown_and_strangers_write_nothing_to_the_terminal() {
        let row = Row {
            vlans: vec![100, 7],
            source: Some([192, 0, 2, 7].into()),
            protocol: "udp".to_owned(),
            port: Some(514),
            packets: 1200,
            bytes: 240_000,
            rate: 120.0,
            ..Row::default()
        };
        let wire = WireResult { interface: "eth0".to_owned(), rows: vec![row; 30], ..WireResult::default() };
        let sender = SenderSeen {
            source: [192, 0, 2, 7].into(),
            stream: "syslog".to_owned(),
            ports: vec![514],
            wire: 1200,
            received: Some(1199),
        };
        let finding = Finding { kind: "not_received".to_owned(), text: "one\u{1b}[2J".to_owned() };
        let told = WireReport { wire, senders: vec![sender], findings: vec![finding], ..WireReport::default() };
        let text = report(&told, false).join("\n");
        assert!(
            text.contains("100.7") && text.contains("and 10 more rows") && text.contains("! one\\x1b[2J"),
            "{text}"
        );
        assert!(text.contains("1199") && !text.contains("is received\n"), "{text}");
        assert_eq!(report(&told, true).len(), report(&told, false).len() + 9);
    }
}
