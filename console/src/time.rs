//! Times as operators write and read them. Always UTC: venues, devices and the operations centre compare logs.

use raven_model::calendar::{days_in_month, days_since_1970};
pub use raven_model::calendar::{format, span};
use raven_model::units::{Span, UnixNanos};
use std::time::{SystemTime, UNIX_EPOCH};

const SECOND: u64 = 1_000_000_000;

/// The wall clock.
pub fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// `now`, `10m` (that long ago), `2026-11-22`, or RFC 3339 such as `2026-11-22T18:30:00Z` or `…+01:00`; `T` may be a
/// space, and without a zone it is UTC.
pub fn parse(text: &str, now: UnixNanos) -> Result<UnixNanos, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    let ago = text.strip_suffix("ago").unwrap_or(text).trim();
    if let Ok(span) = ago.parse::<Span>() {
        return Ok(UnixNanos(now.0.saturating_sub(u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX))));
    }
    rfc3339(text).map(UnixNanos).ok_or_else(|| {
        format!("`{text}` is not a time; expected `10m` or `2h` (ago), `2026-11-22`, or `2026-11-22T18:30:00Z`")
    })
}

fn rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let day = day_of(date)?;
    let seconds_and_nanos = if rest.is_empty() { Some((0, 0)) } else { clock(rest) };
    let (seconds, nanos) = seconds_and_nanos?;
    let total = i128::from(day * 86_400 + seconds) * i128::from(SECOND) + i128::from(nanos);
    u64::try_from(total).ok()
}

fn day_of(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
    if parts.next().is_some() || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    Some(days_since_1970(year, month, day))
}

/// `T18:30:00.5+01:00` as seconds of the day in UTC (may be negative or over a day) and nanoseconds.
fn clock(text: &str) -> Option<(i64, u32)> {
    let text = text.strip_prefix(['T', 't', ' '])?;
    let zone_at = text.find(['Z', 'z', '+', '-']).unwrap_or(text.len());
    let (time, zone) = text.split_at(zone_at);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = time.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |part| digits(part, 2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((hour * 3600 + minute * 60 + second - offset(zone)?, nanos(fraction)?))
}

fn nanos(fraction: &str) -> Option<u32> {
    let fine = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    fine.then(|| format!("{fraction:0<9}").parse().ok()).flatten()
}

fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next() {
        None | Some('Z' | 'z') if zone.len() <= 1 => return Some(0),
        Some('+') => 1,
        Some('-') => -1,
        _ => return None,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// How long ago, seen from `now`: `12s ago`.
pub fn ago(time: UnixNanos, now: UnixNanos) -> String {
    format!("{} ago", span(now.0.saturating_sub(time.0) / SECOND))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixNanos = UnixNanos(1_763_771_400 * SECOND);

    fn read(text: &str) -> String {
        format(parse(text, NOW).unwrap(), 3)
    }

    #[test]
    fn times_are_read_as_operators_write_them() {
        assert_eq!(format(NOW, 0), "2025-11-22T00:30:00Z");
        assert_eq!(read("10m"), "2025-11-22T00:20:00.000Z");
        assert_eq!(read("2h ago"), "2025-11-21T22:30:00.000Z");
        assert_eq!(read("now"), "2025-11-22T00:30:00.000Z");
        assert_eq!(read("2024-02-29"), "2024-02-29T00:00:00.000Z");
        assert_eq!(read("2025-11-22T01:30:00.25+01:00"), "2025-11-22T00:30:00.250Z");
        assert_eq!(read("2025-11-21 23:00:00-01:30"), "2025-11-22T00:30:00.000Z");
        assert_eq!(read("2025-11-22T00:30Z"), "2025-11-22T00:30:00.000Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "soon",
            "2025-02-29",
            "2025-13-01",
            "2025-11-22T24:00:00Z",
            "2025-11-22T00:00:00+25:00",
            "2025-11-22Tü",
            "1969-12-31",
            "22.11.2025",
            "2025-11-22T00:00:00ZZ",
        ] {
            assert!(parse(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_show_two_units() {
        assert_eq!(
            [0, 59, 61, 3700, 90_000, 1_000 * 86_400].map(span),
            ["0s", "59s", "1m 1s", "1h 1m", "1d 1h", "1000d"]
        );
    }

    proptest! {
        #[test]
        fn a_formatted_time_reads_back(ns in any::<u64>()) {
            prop_assert_eq!(parse(&format(UnixNanos(ns), 9), NOW), Ok(UnixNanos(ns)));
        }

        #[test]
        fn any_text_is_refused_or_read(text in "\\PC{0,30}") {
            let _ = parse(&text, NOW);
        }
    }
}
