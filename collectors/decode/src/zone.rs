//! Time zones, as offsets and as the names that have one meaning.

use crate::cursor::Cursor;
use std::fmt;

/// Distance from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Written `Z`.
    Utc,
    /// Written as it was given, `+00:00` included.
    Offset {
        /// West of Greenwich.
        west: bool,
        /// 0 to 23.
        hours: u32,
        /// 0 to 59.
        minutes: u32,
    },
}

impl Zone {
    /// Minutes east of Greenwich.
    pub fn minutes(self) -> i64 {
        match self {
            Self::Utc => 0,
            Self::Offset { west, hours, minutes } => {
                let minutes = i64::from(hours * 60 + minutes);
                if west { -minutes } else { minutes }
            }
        }
    }
}

impl fmt::Display for Zone {
    /// As RFC 3339 writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Utc => f.write_str("Z"),
            Self::Offset { west, hours, minutes } => {
                write!(f, "{}{hours:02}:{minutes:02}", if west { '-' } else { '+' })
            }
        }
    }
}

const fn east(hours: u32, minutes: u32) -> Zone {
    Zone::Offset { west: false, hours, minutes }
}

const fn west(hours: u32) -> Zone {
    Zone::Offset { west: true, hours, minutes: 0 }
}

/// The American names are those of RFC 5322, 4.3; the others have one offset in today's tz database (MESZ is German for
/// MEST). Names with several, such as IST and BST, are not here: a stamp with such a name is taken as UTC, like one
/// without a name.
const NAMED: [(&[u8], Zone); 34] = [
    (b"UTC", Zone::Utc),
    (b"GMT", Zone::Utc),
    (b"WET", east(0, 0)),
    (b"WEST", east(1, 0)),
    (b"CET", east(1, 0)),
    (b"CEST", east(2, 0)),
    (b"MET", east(1, 0)),
    (b"MEST", east(2, 0)),
    (b"MEZ", east(1, 0)),
    (b"MESZ", east(2, 0)),
    (b"EET", east(2, 0)),
    (b"EEST", east(3, 0)),
    (b"MSK", east(3, 0)),
    (b"SAST", east(2, 0)),
    (b"JST", east(9, 0)),
    (b"KST", east(9, 0)),
    (b"AWST", east(8, 0)),
    (b"ACST", east(9, 30)),
    (b"ACDT", east(10, 30)),
    (b"AEST", east(10, 0)),
    (b"AEDT", east(11, 0)),
    (b"NZST", east(12, 0)),
    (b"NZDT", east(13, 0)),
    (b"EST", west(5)),
    (b"EDT", west(4)),
    (b"CST", west(6)),
    (b"CDT", west(5)),
    (b"MST", west(7)),
    (b"MDT", west(6)),
    (b"PST", west(8)),
    (b"PDT", west(7)),
    (b"HST", west(10)),
    (b"AKST", west(9)),
    (b"AKDT", west(8)),
];

/// The offset of a zone's name, where it has one meaning.
pub fn named(name: &[u8]) -> Option<Zone> {
    NAMED.iter().find_map(|(known, zone)| (*known == name).then_some(*zone))
}

/// `Z`, `+02:00` or `-0500`.
pub fn numeric(c: &mut Cursor<'_>) -> Option<Zone> {
    c.attempt(|c| {
        if c.eat_if(|byte| byte.eq_ignore_ascii_case(&b'Z')).is_some() {
            return Some(Zone::Utc);
        }
        let west = c.eat_if(|byte| matches!(byte, b'+' | b'-'))? == b'-';
        let hours = c.number(2, 2)?;
        let _ = c.eat(b':');
        let minutes = c.number(2, 2)?;
        (hours < 24 && minutes < 60).then_some(Zone::Offset { west, hours, minutes })
    })
}

/// A zone behind a time of day: at once, or after a space as offset or name.
pub fn after_time(c: &mut Cursor<'_>) -> Option<Zone> {
    numeric(c).or_else(|| {
        c.attempt(|c| {
            c.eat(b' ')?;
            let zone = match c.peek()? {
                b'+' | b'-' => numeric(c)?,
                _ => named(c.take_while(5, |byte| byte.is_ascii_uppercase()))?,
            };
            matches!(c.peek(), None | Some(b' ' | b':')).then_some(zone)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_several_meanings_has_no_offset() {
        assert_eq!(named(b"MEST"), Some(east(2, 0)));
        assert_eq!(named(b"AKDT"), Some(west(8)));
        assert_eq!((named(b"IST"), named(b"BST"), named(b"DST")), (None, None, None));
    }

    #[test]
    fn an_offset_comes_out_as_it_went_in() {
        for text in ["Z", "+00:00", "-00:00", "-23:59", "+05:30"] {
            let zone = numeric(&mut Cursor::new(text.as_bytes())).expect("an offset");
            assert_eq!(zone.to_string(), text);
        }
        assert_eq!(numeric(&mut Cursor::new(b"+24:00")), None);
    }
}
