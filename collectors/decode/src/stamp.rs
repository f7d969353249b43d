//! Timestamps in the shapes that devices write, and how they come out as RFC 3339.

use crate::cursor::Cursor;
use crate::zone::{self, Zone};
use raven_model::calendar::{date_of, days_in_month, days_since_1970};
use raven_model::query::{Assumed, Syslog};
use raven_model::units::UnixNanos;

/// A point in time as a message gives it.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// RFC 3164, 4.1.2 gives none.
    pub year: Option<u32>,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    /// Digits behind the point, as many as were given.
    fraction: &'a [u8],
    /// `None` where the message names none: taken as UTC.
    pub zone: Option<Zone>,
}

struct Clock<'a> {
    hour: u32,
    minute: u32,
    second: u32,
    fraction: &'a [u8],
}

const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const WEEKDAYS: [&[u8; 3]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];

/// How far to look for the nearest year: between two 29ths of February lie at most eight years.
const YEARS_AROUND: i64 = 8;

impl<'a> Stamp<'a> {
    fn new(year: Option<u32>, month: u32, day: u32, clock: &Clock<'a>, zone: Option<Zone>) -> Option<Self> {
        // A day without its year may be the 29th of February.
        let last = days_in_month(year.map_or(2000, i64::from), month);
        let Clock { hour, minute, second, fraction } = *clock;
        (1..=last).contains(&day).then_some(Self { year, month, day, hour, minute, second, fraction, zone })
    }

    /// RFC 3339, with the precision and the offset that were given. Where no year was given, it is the one that puts
    /// the stamp nearest to the time of receipt.
    pub fn to_rfc3339(self, received: UnixNanos) -> String {
        let year = self.year.map_or_else(|| self.nearest_year(received), i64::from);
        let Self { month, day, hour, minute, second, .. } = self;
        let mut out = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if !self.fraction.is_empty() {
            out.push('.');
            out.extend(self.fraction.iter().map(|digit| char::from(*digit)));
        }
        out.push_str(&self.zone.unwrap_or(Zone::Utc).to_string());
        out
    }

    /// What the message leaves out of it.
    pub fn assumed(&self) -> Vec<Assumed> {
        let missing = [(self.year.is_none(), Assumed::Year), (self.zone.is_none(), Assumed::Zone)];
        missing.into_iter().filter_map(|(is_missing, part)| is_missing.then_some(part)).collect()
    }

    /// Makes it the message's timestamp.
    pub fn put(self, syslog: &mut Syslog, received: UnixNanos) {
        syslog.assumed = self.assumed();
        syslog.timestamp = Some(self.to_rfc3339(received));
    }

    fn nearest_year(&self, received: UnixNanos) -> i64 {
        let received = (received.0 / 1_000_000_000).cast_signed();
        let (this_year, _, _) = date_of(received.div_euclid(86_400));
        (this_year - YEARS_AROUND..=this_year + YEARS_AROUND)
            .filter(|year| self.day <= days_in_month(*year, self.month))
            .min_by_key(|year| self.unix_seconds(*year).abs_diff(received))
            .unwrap_or(this_year)
    }

    fn unix_seconds(&self, year: i64) -> i64 {
        let offset = self.zone.map_or(0, Zone::minutes);
        days_since_1970(year, self.month, self.day) * 86_400
            + i64::from(self.hour * 3600 + self.minute * 60 + self.second)
            - offset * 60
    }
}

/// `2003-10-11T22:14:15.003Z` (RFC 5424, 6.2.3). Also without offset, with a comma for the point, in lower case, and
/// with a stray `Z` behind the offset.
pub fn rfc3339<'a>(c: &mut Cursor<'a>) -> Option<Stamp<'a>> {
    c.attempt(|c| {
        let year = c.number(4, 4)?;
        c.eat(b'-')?;
        let month = c.number(2, 2)?;
        c.eat(b'-')?;
        let day = c.number(2, 2)?;
        c.eat_if(|byte| byte.eq_ignore_ascii_case(&b'T'))?;
        let clock = clock(c)?;
        let zone = zone::numeric(c);
        if matches!(zone, Some(Zone::Offset { .. })) {
            let _ = c.eat(b'Z');
        }
        stamp_ends(c)?;
        Stamp::new(Some(year), month, day, &clock, zone)
    })
}

/// `Oct  7 22:14:15` (RFC 3164, 4.1.2), and what has grown around it: weekday, year in three places, fraction, zone.
pub fn bsd<'a>(c: &mut Cursor<'a>) -> Option<Stamp<'a>> {
    c.attempt(|c| {
        let _ = c.attempt(|c| {
            name(c, &WEEKDAYS)?;
            c.eat(b' ')
        });
        let mut year = c.attempt(year_word);
        let month = name(c, &MONTHS)?;
        c.eat(b' ')?;
        c.skip_spaces();
        let day = c.number(1, 2)?;
        c.eat(b' ')?;
        if year.is_none() {
            year = c.attempt(year_word);
        }
        let clock = clock(c)?;
        let zone = zone::after_time(c);
        if year.is_none() {
            year = c.attempt(|c| {
                c.eat(b' ')?;
                let year = plausible_year(c)?;
                // `2001:db8::7` would be a hostname.
                (c.is_empty() || c.rest().starts_with(b" ") || c.rest().starts_with(b": ")).then_some(year)
            });
        }
        stamp_ends(c)?;
        Stamp::new(year, month, day, &clock, zone)
    })
}

/// `2018-7-23 01:00:34.270.1` (Huawei), `2014-03-28 19:59:39,123` (Aruba `ClearPass`), `2024/03/28 19:59:39`.
pub fn spaced<'a>(c: &mut Cursor<'a>) -> Option<Stamp<'a>> {
    c.attempt(|c| {
        let (year, month, day) = numeric_date(c)?;
        c.eat(b' ')?;
        let clock = clock(c)?;
        // Huawei counts the messages of one millisecond behind a second point.
        let _ = c.attempt(|c| c.eat(b'.').and_then(|()| c.digits(1, 6)));
        let zone = zone::after_time(c);
        stamp_ends(c)?;
        Stamp::new(Some(year), month, day, &clock, zone)
    })
}

/// `2018-Nov- 9 15:41:30.972` (Opengear).
pub fn named_month<'a>(c: &mut Cursor<'a>) -> Option<Stamp<'a>> {
    c.attempt(|c| {
        let year = c.number(4, 4)?;
        c.eat(b'-')?;
        let month = name(c, &MONTHS)?;
        c.eat(b'-')?;
        let _ = c.eat(b' ');
        let day = c.number(1, 2)?;
        c.eat(b' ')?;
        let clock = clock(c)?;
        stamp_ends(c)?;
        Stamp::new(Some(year), month, day, &clock, None)
    })
}

/// `1563249630.774247467` (Meraki): seconds since 1970, with a fraction.
pub fn epoch<'a>(c: &mut Cursor<'a>) -> Option<Stamp<'a>> {
    c.attempt(|c| {
        let seconds = c.digits(10, 10)?.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        let fraction = fraction(c)?;
        stamp_ends(c)?;
        let (year, month, day) = date_of(seconds.div_euclid(86_400));
        let second = u32::try_from(seconds.rem_euclid(86_400)).ok()?;
        let clock = Clock { hour: second / 3600, minute: second / 60 % 60, second: second % 60, fraction };
        Stamp::new(u32::try_from(year).ok(), month, day, &clock, Some(Zone::Utc))
    })
}

/// A date and a time that stand in two fields: Fortinet's and Sophos's `date=2026-11-21 time=20:15:07`.
pub fn of_fields<'a>(date: &'a [u8], time: &'a [u8], zone: Option<Zone>) -> Option<Stamp<'a>> {
    let (mut date, mut time) = (Cursor::new(date), Cursor::new(time));
    let (year, month, day) = numeric_date(&mut date)?;
    let clock = clock(&mut time)?;
    if !date.is_empty() || !time.is_empty() {
        return None;
    }
    Stamp::new(Some(year), month, day, &clock, zone)
}

fn numeric_date(c: &mut Cursor<'_>) -> Option<(u32, u32, u32)> {
    let year = c.number(4, 4)?;
    let separator = c.eat_if(|byte| matches!(byte, b'-' | b'/'))?;
    let month = c.number(1, 2)?;
    c.eat(separator)?;
    Some((year, month, c.number(1, 2)?))
}

/// `22:14:15` with a fraction or none. A leap second passes: RFC 3339 writes it, though RFC 5424 forbids it.
fn clock<'a>(c: &mut Cursor<'a>) -> Option<Clock<'a>> {
    let hour = c.number(2, 2)?;
    c.eat(b':')?;
    let minute = c.number(2, 2)?;
    c.eat(b':')?;
    let second = c.number(2, 2)?;
    let fraction = c.attempt(fraction).unwrap_or_default();
    (hour < 24 && minute < 60 && second <= 60).then_some(Clock { hour, minute, second, fraction })
}

/// Nanoseconds are the most that is kept; nobody sends more.
fn fraction<'a>(c: &mut Cursor<'a>) -> Option<&'a [u8]> {
    c.eat_if(|byte| matches!(byte, b'.' | b','))?;
    c.digits(1, 9)
}

/// A stamp is a whole word: what follows it is a space, a colon or the end.
fn stamp_ends(c: &Cursor<'_>) -> Option<()> {
    matches!(c.peek(), None | Some(b' ' | b':')).then_some(())
}

fn year_word(c: &mut Cursor<'_>) -> Option<u32> {
    let year = plausible_year(c)?;
    c.eat(b' ')?;
    Some(year)
}

fn plausible_year(c: &mut Cursor<'_>) -> Option<u32> {
    c.number(4, 4).filter(|year| (1970..2100).contains(year))
}

/// One of the three-letter names, in any case; its number from 1.
fn name(c: &mut Cursor<'_>, names: &[&[u8; 3]]) -> Option<u32> {
    let word = c.take(3)?;
    (1..).zip(names).find_map(|(number, name)| word.eq_ignore_ascii_case(*name).then_some(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 2026-11-21T22:44:20Z.
    const RECEIVED: UnixNanos = UnixNanos(1_795_301_060_000_000_000);

    fn read<'a>(parse: impl Fn(&mut Cursor<'a>) -> Option<Stamp<'a>>, text: &'a str) -> Option<String> {
        let mut c = Cursor::new(text.as_bytes());
        parse(&mut c).map(|stamp| stamp.to_rfc3339(RECEIVED))
    }

    #[test]
    fn rfc_3339_keeps_precision_and_offset() {
        for text in ["2003-10-11T22:14:15.003Z", "2003-08-24T05:14:15.000003-07:00", "2016-02-21T04:32:57+00:00"] {
            assert_eq!(read(rfc3339, text).unwrap(), text);
        }
        assert_eq!(read(rfc3339, "2018-06-27T12:17:46").unwrap(), "2018-06-27T12:17:46Z");
        assert_eq!(read(rfc3339, "2026-11-21T20:15:07.1+00:00Z ").unwrap(), "2026-11-21T20:15:07.1+00:00");
    }

    #[test]
    fn what_no_clock_shows_is_no_stamp() {
        for text in [
            "2003-09-29T22:09:99Z",
            "2003-09-29T22:09:01.Z",
            "2003-09-29T22:09:01A",
            "2003-09-31T22:14:16Z",
            "2003-08-24T05:14:15.000003-60:00",
            "2006-01-02T15:04:05Z+07:00",
            "2018-112-22T00:00:00Z",
        ] {
            assert_eq!(read(rfc3339, text), None, "{text}");
        }
    }

    #[test]
    fn the_year_of_a_bsd_stamp_is_the_nearest_one() {
        let at = |text: &'static str, unix: u64| {
            bsd(&mut Cursor::new(text.as_bytes())).unwrap().to_rfc3339(UnixNanos(unix * 1_000_000_000))
        };
        assert_eq!(at("Dec 31 23:59:59", 1_767_225_600), "2025-12-31T23:59:59Z"); // received 2026-01-01T00:00:00Z
        assert_eq!(at("Jan  1 00:00:00", 1_767_225_599), "2026-01-01T00:00:00Z"); // received a second earlier
        assert_eq!(at("Feb 29 12:00:00", 1_795_301_060), "2028-02-29T12:00:00Z"); // 2026 has none
        assert_eq!(at("Feb 29 12:00:00", 1_730_000_000), "2024-02-29T12:00:00Z");
        assert_eq!(at("Mar  1 00:00:00", 0), "1970-03-01T00:00:00Z");
    }

    #[test]
    fn bsd_stamps_carry_year_zone_and_fraction_in_many_places() {
        for (text, expected) in [
            ("Oct 11 22:14:15", "2026-10-11T22:14:15Z"),
            ("Oct  7 22:14:15.003", "2026-10-07T22:14:15.003Z"),
            ("Oct 7 22:14:15", "2026-10-07T22:14:15Z"),
            ("2018 Apr 20 13:15:07 nexus", "2018-04-20T13:15:07Z"),
            ("Mar 7 2008 19:06:53 example", "2008-03-07T19:06:53Z"),
            ("Nov 21 20:15:07 2026 aruba", "2026-11-21T20:15:07Z"),
            ("Sat May  7 03:17:27 CDT 2011 x", "2011-05-07T03:17:27-05:00"),
            ("Nov 21 20:15:07 UTC: %ASA", "2026-11-21T20:15:07Z"),
            ("Nov 21 20:15:07.123 CEST: %SYS", "2026-11-21T20:15:07.123+02:00"),
            ("Nov 21 2018 20:15:07+08:00 host", "2018-11-21T20:15:07+08:00"),
            ("Nov 21 20:15:07 -0500 host", "2026-11-21T20:15:07-05:00"),
        ] {
            assert_eq!(read(bsd, text).unwrap(), expected, "{text}");
        }
        for text in ["Foo 11 22:14:15", "Oct 32 22:14:15", "Oct 11 24:00:00", "Oct 11", "Oct 11 22:14:15x"] {
            assert_eq!(read(bsd, text), None, "{text}");
        }
    }

    #[test]
    fn dates_of_other_makers() {
        assert_eq!(read(spaced, "2018-7-23 01:00:34.270.1 sw").unwrap(), "2018-07-23T01:00:34.270Z");
        assert_eq!(read(spaced, "2014-03-28 19:59:39,123 10.17.8.67").unwrap(), "2014-03-28T19:59:39.123Z");
        assert_eq!(read(named_month, "2018-Nov- 9 15:42:06.972 SIGNAL").unwrap(), "2018-11-09T15:42:06.972Z");
        assert_eq!(read(epoch, "1795292107.123456 ap").unwrap(), "2026-11-21T20:15:07.123456Z");
    }
}
