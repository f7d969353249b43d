//! The senders of a stream, as counted in its newest records.

use crate::escape;
use crate::status::screen::{columns, count};
use crate::time;
use raven_model::query::SourceView;
use raven_model::units::UnixNanos;

/// One line per sender; what was not understood gets a line with its newest example.
pub fn table(views: &[SourceView], now: UnixNanos) -> Vec<String> {
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
            trouble: None,
        };
        let lines = table(&[view], UnixNanos(52_000_000_000));
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["192.0.2.7", "fw\\x1b1", "0.5", "12", "3400", "12s", "ago", "3"]
        );
        assert_eq!(lines[2], "    e.g. \\x1b[2J");
    }
}
