//! Headers that devices put where RFC 3164 has stamp and hostname, and that no RFC describes.
//!
//! ```text
//! IOS       1179: router: *May 31 15:25:53.743 MEST: %LINK-5-CHANGED: …    any of the fields may be missing
//! IOS       000123: 3d05h: %SYS-5-CONFIG_I: …                              uptime, not time
//! ASA       :Nov 21 20:15:07 UTC: %ASA-6-302015: …
//! NX-OS     : 2024 Mar  4 20:15:07 EDT: %L2FM-4-L2FM_MAC_MOVE: …
//! IOS XR    2647599: router RP/0/RSP1/CPU0:Mar 28 15:08:30.941 UTC: bgp[1051]: %ROUTING-BGP-5-MAXPFX : …
//! WLC       wlc-07: *spamApTask1: Nov 21 20:15:07.123: %CAPWAP-4-DISC: …
//! Opengear  console-1 port02 2018-Nov- 9 15:42:06.972 SIGNAL: CTS => 0
//! ```

use crate::cursor::Cursor;
use crate::rfc3164::is_host;
use crate::stamp::{self, Stamp};

/// What such a header gives. The cursor stands behind it, at the tag where `app_name` is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Header<'a> {
    pub hostname: Option<&'a [u8]>,
    pub stamp: Option<Stamp<'a>>,
    pub app_name: Option<&'a [u8]>,
}

/// Sequence number, host, second sequence number, task or node, and one to spare.
const FIELDS_MAX: usize = 6;

/// The header at the cursor; `None` where it is not one of these.
pub fn header<'a>(c: &mut Cursor<'a>) -> Option<Header<'a>> {
    c.attempt(cisco).or_else(|| c.attempt(opengear))
}

/// Fields that colons end, up to a stamp with a colon or a `%FACILITY-SEVERITY-MNEMONIC`.
fn cisco<'a>(c: &mut Cursor<'a>) -> Option<Header<'a>> {
    let mut hostname = None;
    let _ = c.eat(b':');
    c.skip_spaces();
    for _ in 0..FIELDS_MAX {
        if let Some(stamp) = c.attempt(stamp_with_colon) {
            return Some(Header { hostname, stamp: Some(stamp), app_name: None });
        }
        if is_mnemonic(*c) {
            return Some(Header { hostname, stamp: None, app_name: None });
        }
        if c.attempt(sequence).or_else(|| c.attempt(uptime)).or_else(|| c.attempt(task)).is_some() {
            continue;
        }
        if c.attempt(node).is_some() {
            let stamp = stamp_with_colon(c)?;
            return Some(Header { hostname, stamp: Some(stamp), app_name: None });
        }
        if hostname.is_some() {
            return None;
        }
        hostname = Some(host(c)?);
    }
    None
}

/// `*` says that the clock was never set, `.` that it lost its source.
fn stamp_with_colon<'a>(c: &mut Cursor<'a>) -> Option<Stamp<'a>> {
    let _ = c.eat_if(|byte| matches!(byte, b'*' | b'.'));
    let stamp = stamp::bsd(c).or_else(|| stamp::rfc3339(c))?;
    let _ = c.attempt(unknown_zone);
    c.skip_spaces();
    c.eat(b':')?;
    (c.is_empty() || c.skip_spaces() > 0).then_some(stamp)
}

/// IOS takes any word for a zone's name. One without a known offset is passed over where a mnemonic follows; elsewhere
/// such a word is a tag.
fn unknown_zone(c: &mut Cursor<'_>) -> Option<()> {
    c.eat(b' ')?;
    let name = c.take_while(8, |byte| byte.is_ascii_alphabetic());
    let mut ahead = *c;
    ahead.eat(b':')?;
    ahead.skip_spaces();
    (name.len() > 1 && is_mnemonic(ahead)).then_some(())
}

/// `%ACLLOG-5-ACLLOG_PKTLOG`; the facility may have parts, and the severity is one digit.
fn is_mnemonic(mut c: Cursor<'_>) -> bool {
    if c.eat(b'%').is_none() {
        return false;
    }
    let word = c.take_while(96, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let severity = word.windows(3).position(|at| at[0] == b'-' && (b'0'..=b'7').contains(&at[1]) && at[2] == b'-');
    severity.is_some_and(|at| at > 0 && word.len() > at + 3)
}

/// `000123: `; also the two numbers that some write.
fn sequence(c: &mut Cursor<'_>) -> Option<()> {
    c.digits(1, 9)?;
    c.take_while(12, |byte| byte.is_ascii_digit() || byte == b' ');
    field_ends(c)
}

/// `00:01:01: `, `3d05h: `, `1w2d: `, `1y18w: `.
fn uptime(c: &mut Cursor<'_>) -> Option<()> {
    let word = c.take_while(10, |byte| byte.is_ascii_digit() || b":ywdh".contains(&byte));
    let word = word.strip_suffix(b":")?; // the colon that ends the field is one of the word's own
    let clock = word.len() == 8 && word.split(|byte| *byte == b':').count() == 3;
    let units = word.last().is_some_and(u8::is_ascii_alphabetic) && word.iter().any(u8::is_ascii_digit);
    (c.skip_spaces() > 0 && (clock || units)).then_some(())
}

/// `*spamApTask1: `.
fn task(c: &mut Cursor<'_>) -> Option<()> {
    c.eat(b'*')?;
    c.take_while(64, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
    field_ends(c)
}

/// `RP/0/RSP1/CPU0:` or `node0:`, with the stamp right behind the colon.
fn node(c: &mut Cursor<'_>) -> Option<()> {
    c.take_while(32, |byte| byte.is_ascii_alphanumeric() || byte == b'/');
    c.eat(b':')?;
    c.peek().filter(|byte| *byte != b' ').map(|_| ())
}

/// `router: `, or `router ` before a node.
fn host<'a>(c: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let word = c.take_while(255, |byte| byte > b' ' && byte != b':');
    if !is_host(word) {
        return None;
    }
    if c.peek()? == b':' {
        field_ends(c)?;
    } else {
        c.eat(b' ')?;
        node(&mut c.clone())?;
    }
    Some(word)
}

fn field_ends(c: &mut Cursor<'_>) -> Option<()> {
    c.eat(b':')?;
    (c.skip_spaces() > 0).then_some(())
}

/// Hostname, program, stamp.
fn opengear<'a>(c: &mut Cursor<'a>) -> Option<Header<'a>> {
    let hostname = c.take_while(255, |byte| byte > b' ');
    c.eat(b' ')?;
    let program = c.take_while(64, |byte| byte > b' ');
    c.eat(b' ')?;
    let stamp = stamp::named_month(c)?;
    is_host(hostname).then_some(Header { hostname: Some(hostname), stamp: Some(stamp), app_name: Some(program) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::units::UnixNanos;

    /// Hostname, stamp, what is left for the tag.
    fn read(text: &str) -> Option<(String, String, String)> {
        let mut c = Cursor::new(text.as_bytes());
        let header = header(&mut c)?;
        let stamp = header.stamp.map(|stamp| stamp.to_rfc3339(UnixNanos(1_795_301_060_000_000_000)));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((text(header.hostname.unwrap_or_default()), stamp.unwrap_or_default(), text(c.rest())))
    }

    #[test]
    fn headers_of_cisco_devices() {
        for (text, host, stamp, rest) in [
            ("1: r1: *May 31 15:25:53.743 MEST: %A-5-B: x", "r1", "2026-05-31T15:25:53.743+02:00", "%A-5-B: x"),
            ("r1: 2020 Nov 21 20:15:07 IST: %A-5-B: x", "r1", "2020-11-21T20:15:07Z", "%A-5-B: x"),
            ("1: r1: 022546: .Nov 21 20:15:07: %A-5-B: x", "r1", "2026-11-21T20:15:07Z", "%A-5-B: x"),
            (":Nov 21 20:15:07 UTC: %ASA-6-3: x", "", "2026-11-21T20:15:07Z", "%ASA-6-3: x"),
            (": 2026 Nov 21 20:15:07 GMT: %A-5-B: x", "", "2026-11-21T20:15:07Z", "%A-5-B: x"),
            ("node0:Nov 21 20:15:07: config[65]: %A-5-B: x", "", "2026-11-21T20:15:07Z", "config[65]: %A-5-B: x"),
            ("1: x1 RP/0/RSP1/CPU0:Nov 21 20:15:07 : a[1]: x", "x1", "2026-11-21T20:15:07Z", "a[1]: x"),
            ("w: *task1: Nov 21 20:15:07: %A-5-B: x", "w", "2026-11-21T20:15:07Z", "%A-5-B: x"),
            ("12: 3d05h: %A-5-B: x", "", "", "%A-5-B: x"),
            ("r1: 00:01:01: %SYSMGR-STANDBY-3-S: x", "r1", "", "%SYSMGR-STANDBY-3-S: x"),
        ] {
            let expected = (host.to_owned(), stamp.to_owned(), rest.to_owned());
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn opengear_puts_the_stamp_behind_the_program() {
        let mut c = Cursor::new(b"ts-1 port02 2018-Nov-12 10:47:34.318 LOGOUT: root");
        let header = header(&mut c).unwrap();
        assert_eq!((header.hostname, header.app_name), (Some(&b"ts-1"[..]), Some(&b"port02"[..])));
        assert_eq!(c.rest(), b" LOGOUT: root");
    }

    #[test]
    fn other_headers_are_left_alone() {
        for text in
            ["Nov 21 20:15:07 host sshd: x", "sshd: x", "1: x", "", "%", "host: 5: x", "Nov 21 20:15:07 CRON: x"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
