//! Times in the shapes that agents write, as RFC 3339.

use crate::cursor::Cursor;
use crate::stamp;
use raven_model::calendar::date_of;
use raven_model::query::Assumed;
use raven_model::units::UnixNanos;

/// Seconds from 1601, where Windows counts from, to 1970.
const FROM_1601: i64 = 11_644_473_600;
/// No time beyond the year 9999: RFC 3339 has four digits.
const SECONDS_MAX: i64 = 253_402_300_799;
/// Longest text that is looked at.
const TEXT_MAX: usize = 64;

/// A time, and whether its zone is assumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// RFC 3339, with the precision and the offset that were given.
    pub text: String,
    /// What the text did not say: taken as UTC.
    pub assumed: Vec<Assumed>,
}

/// Reads a time; what stands behind it makes it none.
pub fn read(text: &str) -> Option<Time> {
    let text = text.trim();
    if text.len() > TEXT_MAX {
        return None;
    }
    let text = text.strip_suffix(" UTC").map_or_else(|| text.to_owned(), |time| format!("{time}Z"));
    stamped(&text).or_else(|| counted(&text)).or_else(|| wmi(&text)).or_else(|| american(&text))
}

/// `2019-03-09T07:23:05.468200Z`, `2020-09-22 14:53:01 +0900`, `Fri Sep 17 16:37:25 2021`.
fn stamped(text: &str) -> Option<Time> {
    // .NET prints seven digits, and some writers as many as they have.
    [stamp::rfc3339, stamp::spaced, stamp::bsd].iter().find_map(|parse| {
        let mut c = Cursor::new(text.as_bytes());
        let stamp = parse(&mut c).filter(|stamp| c.is_empty() && stamp.year.is_some())?;
        Some(Time { assumed: stamp.assumed(), text: stamp.to_rfc3339(UnixNanos(0)) })
    })
}

/// `/Date(1603279688823)/`, and numbers: seconds, milliseconds, microseconds or nanoseconds since 1970, or a FILETIME
/// (100 ns since 1601), told apart by their size.
fn counted(text: &str) -> Option<Time> {
    let inside = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/"));
    if let Some(inside) = inside {
        // An offset behind the number tells where the clock stood; the number is UTC all the same.
        let digits = inside.get(1..)?.find(['+', '-']).map_or(inside, |at| &inside[..=at]);
        return since_1970(i128::from(digits.parse::<i64>().ok()?) * 1_000_000, 3);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number: i64 = whole.parse().ok()?;
    let is_digits = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match number {
        100_000_000..=99_999_999_999 if is_digits => {
            let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
            since_1970(i128::from(number) * 1_000_000_000 + nanos, fraction.len())
        }
        _ if !fraction.is_empty() => None,
        100_000_000_000..=9_999_999_999_999 => since_1970(i128::from(number) * 1_000_000, 3),
        100_000_000_000_000_000..=300_000_000_000_000_000 => {
            since_1970((i128::from(number) - i128::from(FROM_1601) * 10_000_000) * 100, 7)
        }
        10_000_000_000_000..=99_999_999_999_999_999 => since_1970(i128::from(number) * 1000, 6),
        300_000_000_000_000_001.. => since_1970(i128::from(number), 9),
        _ => None,
    }
}

fn since_1970(nanos: i128, digits: usize) -> Option<Time> {
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    let nanos = nanos.rem_euclid(1_000_000_000);
    if !(-FROM_1601..=SECONDS_MAX).contains(&seconds) {
        return None;
    }
    let (year, month, day) = date_of(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if digits > 0 {
        text.push('.');
        text.push_str(&format!("{nanos:09}")[..digits.min(9)]);
    }
    text.push('Z');
    Some(Time { text, assumed: Vec::new() })
}

/// `20191224135910.000000+540` (WMI): the offset in minutes.
fn wmi(text: &str) -> Option<Time> {
    let (digits, rest) = text.split_at_checked(14)?;
    let offset = rest.find(['+', '-']).map(|at| &rest[at..])?;
    let fraction = &rest[..rest.len() - offset.len()];
    let minutes: u32 = offset[1..].parse().ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| &digits[from..to];
    stamped(&format!(
        "{}-{}-{}T{}:{}:{}{fraction}{}{:02}:{:02}",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14),
        &offset[..1],
        minutes / 60,
        minutes % 60
    ))
}

/// `9/17/2021 4:37:25 PM`: what PowerShell makes of a time in the American culture. Only with AM or PM, since others
/// write the day first.
fn american(text: &str) -> Option<Time> {
    let mut words = text.split_ascii_whitespace();
    let (date, clock, half) = (words.next()?, words.next()?, words.next()?);
    let mut date = date.split('/').map(|part| part.parse::<u32>().ok());
    let (month, day, year) = (date.next()??, date.next()??, date.next()??);
    let (hour, rest) = clock.split_once(':')?;
    let hour: u32 = hour.parse().ok().filter(|hour| (1..=12).contains(hour))?;
    let hour = match half {
        "AM" => hour % 12,
        "PM" => hour % 12 + 12,
        _ => return None,
    };
    if words.next().is_some() {
        return None;
    }
    stamped(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_writes_another_one() {
        for (text, expected) in [
            ("2019-03-09T07:23:05.468200Z", "2019-03-09T07:23:05.468200Z"),
            ("2021-09-17T16:37:25.1234567+02:00", "2021-09-17T16:37:25.1234567+02:00"),
            ("2022-12-14 16:23:12 +0900", "2022-12-14T16:23:12+09:00"),
            ("2022-12-14 16:23:12.345 UTC", "2022-12-14T16:23:12.345Z"),
            ("/Date(1603279688823)/", "2020-10-21T11:28:08.823Z"),
            ("/Date(-1+0200)/", "1969-12-31T23:59:59.999Z"),
            ("1603279688", "2020-10-21T11:28:08Z"),
            ("1603279688.823", "2020-10-21T11:28:08.823Z"),
            ("1603279688823", "2020-10-21T11:28:08.823Z"),
            ("1603279688823000", "2020-10-21T11:28:08.823000Z"),
            ("1603279688823000000", "2020-10-21T11:28:08.823000000Z"),
            ("132477532888230000", "2020-10-21T11:28:08.8230000Z"),
            ("20191224135910.000000+540", "2019-12-24T13:59:10.000000+09:00"),
        ] {
            assert_eq!(read(text), Some(Time { text: expected.to_owned(), assumed: Vec::new() }), "{text}");
        }
    }

    #[test]
    fn a_zone_that_was_not_given_is_assumed() {
        for (text, expected) in [
            ("2020-09-22 14:53:01", "2020-09-22T14:53:01Z"),
            ("Fri Sep 17 16:37:25 2021", "2021-09-17T16:37:25Z"),
            ("9/17/2021 4:37:25 PM", "2021-09-17T16:37:25Z"),
            ("9/17/2021 12:37:25 AM", "2021-09-17T00:37:25Z"),
        ] {
            assert_eq!(read(text), Some(Time { text: expected.to_owned(), assumed: vec![Assumed::Zone] }), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "now",
            "Sep 17 16:37:25",
            "2020-13-01 00:00:00",
            "17.09.2021 16:37:25",
            "99999999999999999999",
            "/Date()/",
            "/Date(é)/",
            "/Date(9223372036854775807)/",
            "2020-09-22 14:53:01 and more",
            "99/99/99999 1:00:00 PM",
            "5",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
