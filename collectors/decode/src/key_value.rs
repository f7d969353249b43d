//! `date=2019-04-09 time=04:27:29 devname=fw01 …`: Fortinet's and Sophos's messages without a header of RFC 3164.

use crate::cursor::Cursor;
use crate::stamp::{self, Stamp};
use crate::zone::{self, Zone};

/// What the pairs say of time and sender. The message is all the pairs, these included.
pub struct Found<'a> {
    pub hostname: Option<&'a [u8]>,
    pub stamp: Option<Stamp<'a>>,
}

/// Both makers name the sender within the first ten pairs.
const PAIRS_MAX: usize = 24;

/// `None` unless the text starts with a pair and a date stands among the first ones.
pub fn read(mut c: Cursor<'_>) -> Option<Found<'_>> {
    let (mut date, mut time, mut zone, mut hostname) = (None, None, None, None);
    for _ in 0..PAIRS_MAX {
        let Some((key, value)) = pair(&mut c) else { break };
        match key {
            b"date" => date = Some(value),
            b"time" => time = Some(value),
            b"tz" | b"timezone" => zone = offset(value),
            b"devname" | b"device_name" => hostname = Some(value),
            _ => {}
        }
    }
    let stamp = stamp::of_fields(date?, time?, zone);
    Some(Found { hostname, stamp })
}

fn pair<'a>(c: &mut Cursor<'a>) -> Option<(&'a [u8], &'a [u8])> {
    c.attempt(|c| {
        c.skip_spaces();
        let key = c.take_while(64, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        c.eat(b'=')?;
        let value = if c.eat(b'"').is_some() {
            let value = c.take_while(usize::MAX, |byte| byte != b'"');
            c.eat(b'"')?;
            value
        } else {
            c.take_while(usize::MAX, |byte| byte != b' ')
        };
        (!key.is_empty()).then_some((key, value))
    })
}

/// `-0500`, `CDT`.
fn offset(value: &[u8]) -> Option<Zone> {
    zone::numeric(&mut Cursor::new(value)).or_else(|| zone::named(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::units::UnixNanos;

    #[test]
    fn time_and_sender_stand_among_the_first_pairs() {
        for (text, host, stamp) in [
            ("date=2019-04-09 time=04:27:29 devname=fw01 a=b", "fw01", "2019-04-09T04:27:29Z"),
            (r#"date=2026-11-21 time=20:15:07 devname="fw 1" tz="-0500""#, "fw 1", "2026-11-21T20:15:07-05:00"),
            (
                r#"device="SFW" date=2022-04-25 time=15:27:08 timezone="CDT" device_name="X""#,
                "X",
                "2022-04-25T15:27:08-05:00",
            ),
        ] {
            let found = read(Cursor::new(text.as_bytes())).unwrap();
            assert_eq!(found.hostname.unwrap(), host.as_bytes());
            assert_eq!(found.stamp.unwrap().to_rfc3339(UnixNanos(0)), stamp);
        }
        assert!(read(Cursor::new(b"a=b c=d")).is_none());
        assert!(read(Cursor::new(b"no pairs")).is_none());
    }
}
