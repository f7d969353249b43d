//! Flow exporters: what they send and say of themselves, and what was lost before it came here.

use crate::escape;
use crate::status::screen::{columns, count};
use crate::time;
use raven_model::report::Exporter;
use raven_model::units::UnixNanos;

/// A line for each, and a second one where something is wrong. Nothing where there are none.
pub fn lines(exporters: &[Exporter], now: UnixNanos) -> Vec<String> {
    if exporters.is_empty() {
        return Vec::new();
    }
    let head = [
        "EXPORTER",
        "VERSION",
        "DOMAIN",
        "RECORDS",
        "TEMPLATES",
        "AGE",
        "REFRESH",
        "SAMPLING",
        "LOST",
        "REORDERED",
        "CLOCK",
        "LAST SEEN",
    ];
    let rows = exporters.iter().map(|exporter| row(exporter, now));
    let lines = columns(std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect());
    let wrong = std::iter::once(None).chain(exporters.iter().map(wrong));
    lines
        .into_iter()
        .zip(wrong)
        .flat_map(|(line, wrong)| std::iter::once(line).chain(wrong.map(|wrong| format!("    {wrong}"))))
        .chain(std::iter::once("LOST is lost at or before the exporter or on the way, by its own count".to_owned()))
        .collect()
}

fn row(exporter: &Exporter, now: UnixNanos) -> Vec<String> {
    let span = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), time::span);
    let sampling = match exporter.sampling {
        Some(rate) => format!("1:{rate} ({})", escape::text(&exporter.sampling_source)),
        None => "unknown".to_owned(),
    };
    let lost = match exporter.lost {
        0 => "0".to_owned(),
        n => format!("{} {}", count(n), escape::text(&exporter.lost_unit)),
    };
    vec![
        escape::text(&exporter.source),
        escape::text(&exporter.version),
        exporter.domain.to_string(),
        count(exporter.records),
        exporter.templates.to_string(),
        span(exporter.template_age_s),
        span(exporter.template_refresh_s),
        sampling,
        lost,
        count(exporter.reordered),
        exporter.clock_skew_ms.map_or_else(|| "-".to_owned(), skew),
        time::ago(exporter.last_seen_ns, now),
    ]
}

/// Ahead of ours or behind: `+1.5s`.
fn skew(millis: i64) -> String {
    format!("{:+.1}s", millis as f64 / 1000.0)
}

fn wrong(exporter: &Exporter) -> Option<String> {
    let malformed = exporter.malformed.iter().filter(|(_, n)| **n > 0);
    let malformed = malformed.map(|(reason, n)| format!("{} malformed ({})", count(*n), escape::text(reason)));
    let undescribed = (exporter.undescribed > 0)
        .then(|| format!("{} data sets came before their template", count(exporter.undescribed)));
    let resets = (exporter.resets > 0).then(|| format!("its count began anew {} times", count(exporter.resets)));
    let told: Vec<String> = malformed.chain(undescribed).chain(resets).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_exporter_that_loses_and_errs_shows_it() {
        let exporter = Exporter {
            source: "192.0.2.1".into(),
            version: "netflow9".into(),
            domain: 7,
            records: 1000,
            templates: 3,
            template_age_s: Some(61),
            template_refresh_s: Some(600),
            undescribed: 2,
            sampling: Some(1000),
            sampling_source: "options".into(),
            lost: 12,
            lost_unit: "packets\u{1b}".into(),
            reordered: 4,
            resets: 1,
            clock_skew_ms: Some(-1500),
            malformed: BTreeMap::from([("set_length".to_owned(), 5)]),
            last_seen_ns: UnixNanos(40_000_000_000),
            ..Exporter::default()
        };
        let lines = lines(&[exporter], UnixNanos(52_000_000_000));
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(words[..9], ["192.0.2.1", "netflow9", "7", "1000", "3", "1m", "1s", "10m", "0s"]);
        assert!(
            lines[1].contains("1:1000 (options)") && lines[1].contains("12 packets\\x1b") && lines[1].contains("-1.5s")
        );
        assert_eq!(
            lines[2],
            "    5 malformed (set_length), 2 data sets came before their template, its count began anew 1 times"
        );
        assert_eq!(super::lines(&[], UnixNanos(0)), [""; 0]);
    }
}
