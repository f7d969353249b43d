//! Times of day and of week, as `crontab(5)` writes them: minute, hour, day of the month, month, day of the week, in UTC.
//!
//! Crates for this bring dates of their own, seconds and time zones; five fields of numbers are these lines.

use crate::calendar::{date_of, days_in_month};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// Longest text.
const LONGEST: usize = 128;
/// A day that comes at all comes within so many: 29 February may be away for eight years.
const DAYS: i64 = 8 * 366;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// When something is due, to the minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// A bit for each minute, and so on.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days are given: either is enough, as cron has it.
    either_day: bool,
}

impl Cron {
    /// The first time that is due after `unix_s`, both in seconds since 1970.
    pub fn next_after(&self, unix_s: i64) -> Option<i64> {
        let from = (unix_s.div_euclid(60) + 1) * 60;
        let first = from.div_euclid(DAY);
        for day in first..first.saturating_add(DAYS) {
            if !self.has_day(day) {
                continue;
            }
            let after = if day == first { from.rem_euclid(DAY) / 60 } else { 0 };
            let due = (after..1440).find(|minute| has(self.hours, minute / 60) && has(self.minutes, minute % 60));
            if let Some(minute) = due {
                return Some(day * DAY + minute * 60);
            }
        }
        None
    }

    /// Minutes between the two times of a day that lie closest together, those around midnight among them.
    pub fn shortest_gap_minutes(&self) -> u32 {
        let of_day = |minute: &i64| has(self.hours, minute / 60) && has(self.minutes, minute % 60);
        let times: Vec<i64> = (0..1440).filter(of_day).collect();
        let around = times.iter().skip(1).chain(times.first());
        let gaps = times.iter().zip(around).map(|(one, next)| (next - one - 1).rem_euclid(1440) + 1);
        gaps.min().unwrap_or(1440) as u32
    }

    fn has_day(&self, day: i64) -> bool {
        let (_, month, day_of_month) = date_of(day);
        // 1970-01-01 was a Thursday.
        let weekday = (day + 4).rem_euclid(7);
        let by_date = has(self.days, day_of_month.into());
        let by_week = has(self.weekdays, weekday);
        has(self.months, month.into()) && if self.either_day { by_date || by_week } else { by_date && by_week }
    }

    /// Whether any date has it: 31 February has not.
    fn comes(&self) -> bool {
        let fits = |month: u32| {
            let longest = days_in_month(2000, month);
            has(self.months, month.into()) && (1..=longest).any(|day| has(self.days, day.into()))
        };
        self.either_day || (1..=12).any(fits)
    }
}

const fn has(bits: u64, n: i64) -> bool {
    bits >> n & 1 == 1
}

/// One field: numbers, ranges and steps, with commas between.
fn field(text: &str, name: &str, least: u32, most: u32) -> Result<u64, String> {
    let wrong =
        || format!("`{text}` is no {name}; expected {least} to {most}, such as `*`, `5`, `1-3`, `*/10` or `0,30`");
    let number = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten().filter(|n| (least..=most).contains(n)).ok_or_else(wrong)
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| (1..=59).contains(step)).ok_or_else(wrong)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // `5/10`: from there on.
            None => (number(range)?, if part.contains('/') { most } else { number(range)? }),
        };
        if from > to {
            return Err(wrong());
        }
        (from..=to).step_by(step).for_each(|n| bits |= 1_u64 << n);
    }
    Ok(bits)
}

impl FromStr for Cron {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let five =
            "expected five fields such as `*/15 * * * *`: minute, hour, day of the month, month, day of the week";
        if text.len() > LONGEST {
            return Err(format!("longer than {LONGEST} bytes; {five}"));
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("`{}` has {} fields; {five}", text.escape_debug(), fields.len()));
        };
        let weekdays = field(weekday, "day of the week", 0, 7)?;
        let cron = Self {
            text: fields.join(" "),
            minutes: field(minute, "minute", 0, 59)?,
            hours: field(hour, "hour", 0, 23)?,
            days: field(day, "day of the month", 1, 31)?,
            months: field(month, "month", 1, 12)?,
            // 7 is Sunday, too.
            weekdays: weekdays & 0x7f | weekdays >> 7,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        if cron.comes() { Ok(cron) } else { Err(format!("`{text}` never comes")) }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::calendar::{days_since_1970, format};
    use crate::units::UnixNanos;
    use proptest::prelude::*;

    fn unix(year: i64, month: u32, day: u32, hour: i64, minute: i64) -> i64 {
        days_since_1970(year, month, day) * DAY + hour * 3600 + minute * 60
    }

    fn next(cron: &str, from: i64) -> String {
        let next = cron.parse::<Cron>().unwrap().next_after(from).unwrap();
        format(UnixNanos(next as u64 * 1_000_000_000), 0)
    }

    #[test]
    fn the_next_time_is_that_of_a_calendar() {
        // A Monday.
        let from = unix(2026, 11, 30, 14, 23);
        for (cron, expected) in [
            ("* * * * *", "2026-11-30T14:24:00Z"),
            ("*/5 * * * *", "2026-11-30T14:25:00Z"),
            ("23 14 * * *", "2026-12-01T14:23:00Z"),
            ("0 0 1 1 *", "2027-01-01T00:00:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("30 6 * * 1-5", "2026-12-01T06:30:00Z"),
            ("0 12 * * 0", "2026-12-06T12:00:00Z"),
            ("0 12 * * 7", "2026-12-06T12:00:00Z"),
            ("0 3 13 * 5", "2026-12-04T03:00:00Z"),
            ("50/5 23 * * *", "2026-11-30T23:50:00Z"),
            ("5,10 2-4/2 * * *", "2026-12-01T02:05:00Z"),
        ] {
            assert_eq!(next(cron, from), expected, "{cron}");
        }
        assert_eq!(next("* * * * *", from + 59), "2026-11-30T14:24:00Z");
        assert_eq!(next("0 0 29 2 *", unix(2096, 3, 1, 0, 0)), "2104-02-29T00:00:00Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "*/60 * * * *",
            "5-3 * * * *",
            "a * * * *",
            "-1 * * * *",
            "1- * * * *",
            "1,,2 * * * *",
            "+1 * * * *",
            "0 0 31 2 *",
            "0 0 30 2 *",
            "0 0 31 4,6 *",
            "* * * * mon",
            "1/2/3 * * * *",
            "é * * * *",
        ] {
            assert!(text.parse::<Cron>().is_err(), "{text}");
        }
        assert!("1,".repeat(100).parse::<Cron>().is_err());
        assert!("0 0 31 2 1".parse::<Cron>().is_ok(), "any Monday");
    }

    #[test]
    fn the_shortest_gap_goes_around_midnight() {
        for (cron, gap) in [
            ("*/5 * * * *", 5),
            ("0 * * * *", 60),
            ("0,55 3 * * *", 55),
            ("0,55 * * * *", 5),
            ("58 23 * * *", 1440),
            ("0,59 0,23 * * *", 1),
        ] {
            assert_eq!(cron.parse::<Cron>().unwrap().shortest_gap_minutes(), gap, "{cron}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,60}") {
            let _ = text.parse::<Cron>();
        }

        /// Held against a walk over each minute.
        #[test]
        fn no_time_is_left_out(
            minute in "(\\*|\\*/[1-9]|[0-9],[1-5][0-9])", hour in "(\\*|\\*/[1-9]|1?[0-9])",
            day in "(\\*|[1-9]|1[0-9])", weekday in "(\\*|[0-7])", from in 0_i64..4_000_000_000,
        ) {
            let cron: Cron = format!("{minute} {hour} {day} * {weekday}").parse().unwrap();
            let next = cron.next_after(from).unwrap();
            prop_assert!(next > from && next % 60 == 0);
            let is_due = |at: i64| {
                let (_, _, day) = date_of(at.div_euclid(DAY));
                let (dom, dow) = (has(cron.days, day.into()), has(cron.weekdays, (at.div_euclid(DAY) + 4) % 7));
                let days = if cron.either_day { dom || dow } else { dom && dow };
                days && has(cron.hours, at % DAY / 3600) && has(cron.minutes, at % 3600 / 60)
            };
            prop_assert!(is_due(next));
            let mut at = (from.div_euclid(60) + 1) * 60;
            while at < next && at < from + 20 * DAY {
                prop_assert!(!is_due(at), "{at}");
                at += 60;
            }
        }

        #[test]
        fn it_reads_back_as_written(text in "(\\*|[1-5]-9|\\*/7) [0-9] \\* \\* [0-7]") {
            let cron: Cron = text.parse().unwrap();
            prop_assert_eq!(cron.to_string().parse::<Cron>(), Ok(cron));
        }
    }
}
