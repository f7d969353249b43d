//! RFC 3164, as devices write it: a stamp in one of many shapes, perhaps a hostname, perhaps a tag, the message.
//!
//! What each part is has to be guessed from its shape, since this RFC describes what was seen and prescribes little.
//! The rules, in order:
//!
//! - A header that only one maker writes is tried first (`device`, `key_value`).
//! - After a stamp, a word of letters, digits, `.`, `_` and `-` that a space follows is the hostname; so is an IPv6
//!   address and the identity that a `UniFi` device writes there. Without a stamp nothing says that a first word is a
//!   hostname: it is null.
//! - The tag is the next word, up to `:`, `[` or the space. Behind a stamp it needs no colon (RFC 3164, 4.1.3);
//!   without one it does. A word with `,`, `=`, quotes or braces is no program's name but the start of the message.

use crate::cursor::{Cursor, text};
use crate::{device, key_value, stamp};
use raven_model::query::Syslog;
use raven_model::units::UnixNanos;
use std::net::Ipv6Addr;

/// Longest hostname: that of DNS (RFC 1035, 2.3.4).
const HOST_MAX: usize = 255;
/// Longest tag and process id. RFC 3164 says 32; devices say more.
const TAG_MAX: usize = 128;
/// F5 BIG-IP writes the level between hostname and tag.
const LEVELS: [&[u8]; 12] = [
    b"emerg",
    b"alert",
    b"crit",
    b"critical",
    b"err",
    b"error",
    b"warn",
    b"warning",
    b"notice",
    b"info",
    b"debug",
    b"panic",
];

/// Reads what stands behind PRI, or a whole message without one. `pri` says which: some stamps count as syslog only
/// behind a PRI, because without it the text is more likely a line of some program's own log file.
pub fn read(mut c: Cursor<'_>, pri: bool, received: UnixNanos) -> Syslog {
    let mut syslog = Syslog { rfc: Some("3164".to_owned()), ..Syslog::default() };
    c.skip_spaces();
    if let Some(header) = device::header(&mut c) {
        syslog.hostname = header.hostname.and_then(text);
        if let Some(stamp) = header.stamp {
            stamp.put(&mut syslog, received);
        }
        c.skip_spaces();
        syslog.app_name = header.app_name.and_then(text);
        match syslog.app_name {
            Some(_) => syslog.message = text(c.rest()),
            None => tag_and_message(c, &mut syslog),
        }
    } else if let Some(stamp) = leading_stamp(&mut c, pri) {
        stamp.put(&mut syslog, received);
        c.skip_spaces();
        syslog.hostname = hostname(&mut c).and_then(text);
        tag_and_message(c, &mut syslog);
    } else if let Some(found) = key_value::read(c) {
        syslog.hostname = found.hostname.and_then(text);
        if let Some(stamp) = found.stamp {
            stamp.put(&mut syslog, received);
        }
        syslog.message = text(c.rest());
    } else {
        if let Some(tag) = c.attempt(colon_tag) {
            tag.put(&mut syslog);
            c.skip_spaces();
        }
        syslog.message = text(c.rest());
    }
    syslog
}

fn leading_stamp<'a>(c: &mut Cursor<'a>, pri: bool) -> Option<stamp::Stamp<'a>> {
    let common = stamp::bsd(c).or_else(|| stamp::rfc3339(c));
    if common.is_some() || !pri {
        return common;
    }
    stamp::spaced(c).or_else(|| {
        c.attempt(|c| {
            let _ = c.eat_all(b"1 "); // Meraki's security events: VERSION of RFC 5424 and nothing else of it
            let stamp = stamp::epoch(c)?;
            c.eat(b' ')?;
            Some(stamp)
        })
    })
}

/// The word behind the stamp, where it is a hostname. Leaves the cursor at what follows its space.
fn hostname<'a>(c: &mut Cursor<'a>) -> Option<&'a [u8]> {
    c.attempt(|c| {
        let word = c.take_while(HOST_MAX, |byte| byte > b' ');
        let fits = is_host(word) || is_ipv6(word) || is_unifi_identity(word);
        let ends = c.is_empty() || c.eat(b' ').is_some();
        (fits && ends).then_some(word)
    })
    .or_else(|| unifi_identity_with_colon(c))
}

/// Letters, digits, `.`, `_` and `-`, the last a letter or digit.
pub fn is_host(word: &[u8]) -> bool {
    word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && word.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn is_ipv6(word: &[u8]) -> bool {
    word.contains(&b':') && std::str::from_utf8(word).is_ok_and(|word| word.parse::<Ipv6Addr>().is_ok())
}

/// `7f3a,f09fc26f4419,v4.0.54.10625`: name or model, MAC address, firmware; older firmware leaves out the first.
fn is_unifi_identity(word: &[u8]) -> bool {
    let mut fields = word.split(|byte| *byte == b',');
    let is_mac = |field: &[u8]| field.len() == 12 && field.iter().all(u8::is_ascii_hexdigit);
    word.contains(&b',') && !word.ends_with(b":") && fields.by_ref().take(2).any(is_mac)
}

fn unifi_identity_with_colon<'a>(c: &mut Cursor<'a>) -> Option<&'a [u8]> {
    c.attempt(|c| {
        let word = c.take_while(HOST_MAX, |byte| byte > b' ' && byte != b':');
        c.eat(b':')?;
        c.eat(b' ')?;
        is_unifi_identity(word).then_some(word)
    })
}

struct Tag<'a> {
    app_name: &'a [u8],
    procid: Option<&'a [u8]>,
}

impl Tag<'_> {
    fn put(&self, syslog: &mut Syslog) {
        syslog.app_name = text(self.app_name);
        syslog.procid = self.procid.and_then(text);
    }
}

/// The tag, where there is one, and the rest as message, without the spaces between them.
pub fn tag_and_message(mut c: Cursor<'_>, syslog: &mut Syslog) {
    if let Some(tag) = c.attempt(tag) {
        tag.put(syslog);
        let _ = c.eat(b'\t'); // Snare: a tab ends the tag, and tabs stand between the fields
        if tag.app_name.starts_with(b"%") {
            let _ = c.attempt(colon_apart); // IOS XR and Unified CM: `%UC_AUDITLOG-5-AdministrativeEvent : `
        }
    } else {
        c.skip_spaces();
        let _ = c.attempt(colon_apart); // `asa-01 : text`: a tag without a name
    }
    c.skip_spaces();
    syslog.message = text(c.rest());
}

fn tag<'a>(c: &mut Cursor<'a>) -> Option<Tag<'a>> {
    if c.peek() == Some(b' ') {
        c.skip_spaces();
        // Two spaces behind the hostname are an empty tag, unless a Cisco mnemonic follows.
        return cisco_tag(c);
    }
    if let Some(tag) = c.attempt(|c| colon_apart(c).and_then(|()| cisco_tag(c))) {
        return Some(tag);
    }
    if nested_header(*c) {
        return None;
    }
    let _ = c.attempt(level);
    let _ = unifi_identity_with_colon(c);
    plain_tag(c)
}

/// ` : `, with or without the spaces around it.
fn colon_apart(c: &mut Cursor<'_>) -> Option<()> {
    c.skip_spaces();
    c.eat(b':')?;
    (c.is_empty() || c.skip_spaces() > 0).then_some(())
}

fn cisco_tag<'a>(c: &mut Cursor<'a>) -> Option<Tag<'a>> {
    (c.peek() == Some(b'%')).then(|| plain_tag(c)).flatten()
}

/// A relay has put its own stamp and hostname before a whole message: what follows is no tag.
fn nested_header(mut c: Cursor<'_>) -> bool {
    stamp::bsd(&mut c).is_some()
}

fn level(c: &mut Cursor<'_>) -> Option<()> {
    let word = c.take_while(8, |byte| byte.is_ascii_lowercase());
    c.eat(b' ')?;
    let mut ahead = *c;
    let tag = plain_tag(&mut ahead)?;
    let strict = tag.procid.is_some() || c.rest().get(tag.app_name.len()) == Some(&b':');
    (LEVELS.contains(&word) && strict).then_some(())
}

/// `name`, `name:`, `name[procid]` or `name[procid]:`.
fn plain_tag<'a>(c: &mut Cursor<'a>) -> Option<Tag<'a>> {
    let app_name = c.take_while(TAG_MAX, is_tag_byte);
    if !app_name.iter().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii()) {
        return None;
    }
    let procid = match c.peek() {
        Some(b'[') => Some(c.attempt(procid)?),
        _ => None,
    };
    if c.eat(b':').is_none() {
        ends_word(c)?;
    }
    Some(Tag { app_name, procid })
}

fn procid<'a>(c: &mut Cursor<'a>) -> Option<&'a [u8]> {
    c.eat(b'[')?;
    let procid = c.take_while(TAG_MAX, |byte| byte > b' ' && byte != b']');
    c.eat(b']')?;
    Some(procid)
}

/// What stands for a tag without any stamp before it: a name with a letter in it, then `:` or `[procid]:`, then a space.
fn colon_tag<'a>(c: &mut Cursor<'a>) -> Option<Tag<'a>> {
    let before = c.rest();
    let tag = plain_tag(c)?;
    let read = before.get(..before.len() - c.rest().len())?;
    let named = tag.app_name.iter().any(u8::is_ascii_alphabetic);
    (named && read.ends_with(b":") && ends_word(c).is_some()).then_some(tag)
}

fn ends_word(c: &Cursor<'_>) -> Option<()> {
    matches!(c.peek(), None | Some(b' ' | b'\t')).then_some(())
}

fn is_tag_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !b":[],=\"'`{}<>|;^?".contains(&byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 2026-11-21T22:44:20Z.
    const RECEIVED: UnixNanos = UnixNanos(1_795_301_060_000_000_000);

    fn parse(text: &str) -> Syslog {
        read(Cursor::new(text.as_bytes()), true, RECEIVED)
    }

    /// Hostname, tag, process id, message.
    fn parts(text: &str) -> [Option<String>; 4] {
        let Syslog { hostname, app_name, procid, message, .. } = parse(text);
        [hostname, app_name, procid, message]
    }

    fn some(parts: [&str; 4]) -> [Option<String>; 4] {
        parts.map(|part| (!part.is_empty()).then(|| part.to_owned()))
    }

    #[test]
    fn stamp_hostname_tag_and_message() {
        // RFC 3164, 5.4, example 1.
        let text = "Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8";
        assert_eq!(parts(text), some(["mymachine", "su", "", "'su root' failed for lonvick on /dev/pts/8"]));
        assert_eq!(parse(text).timestamp.as_deref(), Some("2026-10-11T22:14:15Z"));
    }

    #[test]
    fn tags_in_many_shapes() {
        for (text, expected) in [
            ("Oct 11 22:14:15 h sshd[12]: up", ["h", "sshd", "12", "up"]),
            ("Oct 11 22:14:15 h sshd[12] up", ["h", "sshd", "12", "up"]),
            ("Oct 11 22:14:15 h tag:up:3", ["h", "tag", "", "up:3"]),
            ("Oct 11 22:14:15 h postfix/smtpd[12]: up", ["h", "postfix/smtpd", "12", "up"]),
            ("Oct 11 22:14:15 h su(pam_unix)[12]: up", ["h", "su(pam_unix)", "12", "up"]),
            ("Oct 11 22:14:15 h fpc0 (buf) failed", ["h", "fpc0", "", "(buf) failed"]),
            ("Oct 11 22:14:15 h 1,2026/11/21,00,TRAFFIC", ["h", "", "", "1,2026/11/21,00,TRAFFIC"]),
            ("Oct 11 22:14:15 h date=2026-11-21 a=b", ["h", "", "", "date=2026-11-21 a=b"]),
            ("Oct 11 22:14:15 h -- MARK --", ["h", "", "", "-- MARK --"]),
            ("Oct 11 22:14:15 h  msgnum:1", ["h", "", "", "msgnum:1"]),
            ("Oct 11 22:14:15 h info audit[16]: started.", ["h", "audit", "16", "started."]),
            ("Oct 11 22:14:15 h MSWinEventLog\t1\tSecurity", ["h", "MSWinEventLog", "", "1\tSecurity"]),
            ("Oct 11 22:14:15 h warning: hot", ["h", "warning", "", "hot"]),
            ("Oct 11 22:14:15 relay Oct 11 22:14:14 h su: x", ["relay", "", "", "Oct 11 22:14:14 h su: x"]),
        ] {
            assert_eq!(parts(text), some(expected), "{text}");
        }
    }

    #[test]
    fn hostnames_and_their_absence() {
        for (text, expected) in [
            ("Oct 11 22:14:15 dnsmasq[15210]: 21745", ["", "dnsmasq", "15210", "21745"]),
            ("Oct 11 22:14:15 syslogd: restart", ["", "syslogd", "", "restart"]),
            ("Oct 11 22:14:15 2001:db8::7 su: x", ["2001:db8::7", "su", "", "x"]),
            ("Oct 11 22:14:15  vmx01 rpd[2902]: x", ["vmx01", "rpd", "2902", "x"]),
            ("Oct 11 22:14:15 X4711", ["X4711", "", "", ""]),
            ("Oct 11 22:14:15", ["", "", "", ""]),
            ("Oct 11 22:14:15 a1,788a2056b183,v4.0 switch: Cold", ["a1,788a2056b183,v4.0", "switch", "", "Cold"]),
            ("Oct 11 22:14:15 788a2056b183,v4.0: logread[5]: x", ["788a2056b183,v4.0", "logread", "5", "x"]),
            ("Oct 11 22:14:15 ap 788a2056b183,v6: hostapd: x", ["ap", "hostapd", "", "x"]),
            ("last message repeated 5 times", ["", "", "", "last message repeated 5 times"]),
            ("PAM-tacplus[12023]: auth failed", ["", "PAM-tacplus", "12023", "auth failed"]),
            ("http://example.org/ is down", ["", "", "", "http://example.org/ is down"]),
        ] {
            assert_eq!(parts(text), some(expected), "{text}");
        }
    }

    #[test]
    fn a_meraki_stamp_counts_only_behind_a_pri() {
        let text = "1795292107.123456 mx events type=vpn";
        assert_eq!(parts(text), some(["mx", "events", "", "type=vpn"]));
        assert_eq!(parse(text).timestamp.as_deref(), Some("2026-11-21T20:15:07.123456Z"));
        assert_eq!(read(Cursor::new(text.as_bytes()), false, RECEIVED).timestamp, None);
        assert_eq!(parts("1 1795292107.123456123 mx security_event x"), some(["mx", "security_event", "", "x"]));
    }
}
