//! Reads fields out of stored records.
//!
//! Pure functions over bytes: no I/O, no clock, no state, no unsafe, and no panic on any input. They run in jailed
//! processes only, because what they read was written by whoever can reach a collector. The raw bytes stay what is
//! stored; what is read here is made anew at each view and can be wrong without loss.
//!
//! Start at [`syslog`]: PRI, then RFC 5424 (`rfc5424.rs`) where VERSION and TIMESTAMP say so, else RFC 3164
//! (`rfc3164.rs`) in the shapes that devices send (`device.rs`, `key_value.rs`, `stamp.rs`). How that compares with
//! other decoders, message by message: `tests/corpus.rs`. The others have modules of their own: [`flow`] (NetFlow, IPFIX,
//! sFlow), [`snmp`] (notifications), [`winevent`] (Windows events) and [`metrics`] (Prometheus and Loki), and
//! [`mod@host`] reads back what Raven itself wrote.
//!
//! # What a reader can rely on
//!
//! - What the message does not give is null: no receive time for a missing stamp, no sender's address for a missing
//!   hostname, no default facility for a missing PRI.
//! - `timestamp` has the precision and the offset that were given; `Z` where no zone was given. A year that was not
//!   given is the one nearest to the time of receipt. Zones by name count where the name has one meaning. `assumed`
//!   says which of the two the message did not give.
//! - `app_name` of RFC 3164 is the tag up to `[`, `:` or space, slashes included (`postfix/smtpd`). Of a Cisco message
//!   it is the `%FACILITY-SEVERITY-MNEMONIC` unless a program's name stands before that.
//! - `message` of RFC 3164 has no space at its start, though one or more stood behind the tag. That of RFC 5424 is MSG
//!   exactly, without its byte order mark.
//! - Bytes that are not UTF-8 become U+FFFD: of Latin-1 and GBK the ASCII stays readable, and of UTF-16 each second
//!   character is NUL. A byte order mark before the PRI is left out. LF, CR and NUL at the end of the message belong to framing and are left
//!   out.
//! - A message of neither form has `rfc` null and a [`Reject`]; so has one that is RFC 5424 with a fault. Both still
//!   carry what could be read.

mod cursor;
mod device;
pub mod flow;
pub mod host;
mod key_value;
pub mod metrics;
mod rfc3164;
mod rfc5424;
/// SNMP traps and informs: `snmp::check` lets them in, `snmp::decode` shows them.
pub mod snmp;
mod stamp;
mod structured;
pub mod winevent;
mod zone;

use cursor::{Cursor, text};
use raven_model::query::Syslog;
use raven_model::units::UnixNanos;
use std::fmt;

/// What was read from a message, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// As much as could be read.
    pub syslog: Syslog,
    /// Why the message matches no grammar in full.
    pub reject: Option<Reject>,
}

/// Why a message matches no grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Nothing was sent but perhaps line ends.
    Empty,
    /// Neither a PRI nor a timestamp that would show where a header is.
    NoPriNoTimestamp,
    /// Starts with `<`, but not with a PRI (RFC 5424, 6.2.1).
    Pri,
    /// VERSION is there, TIMESTAMP is not (RFC 5424, 6.2.3).
    Timestamp,
    /// The header of RFC 5424 ends before STRUCTURED-DATA.
    HeaderShort,
    /// A field of the header of RFC 5424 is empty or holds a control character.
    Field(&'static str),
    /// STRUCTURED-DATA does not follow RFC 5424, 6.3.
    StructuredData,
    /// HOSTNAME by RFC 5424, then a tag by RFC 3164.
    MixedTag,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty message"),
            Self::NoPriNoTimestamp => f.write_str("no PRI and no timestamp: not RFC 5424 or RFC 3164"),
            Self::Pri => f.write_str("starts with `<` but not with a PRI: expected a number from 0 to 191 and `>`"),
            Self::Timestamp => f.write_str("VERSION of RFC 5424, but no RFC 3339 timestamp behind it"),
            Self::HeaderShort => f.write_str("RFC 5424 header ends before STRUCTURED-DATA"),
            Self::Field(name) => write!(f, "RFC 5424 header: {name} is empty or holds a control character"),
            Self::StructuredData => {
                f.write_str("RFC 5424 header, but STRUCTURED-DATA is malformed: it is left in the message")
            }
            Self::MixedTag => f.write_str("RFC 5424 header up to HOSTNAME, then an RFC 3164 tag"),
        }
    }
}

/// Reads a syslog message. `received` dates the stamps that have no year.
pub fn syslog(raw: &[u8], received: UnixNanos) -> Reading {
    let end = raw.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0)).map_or(0, |last| last + 1);
    let raw = &raw[..end];
    let whole = Cursor::new(raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw));
    if whole.is_empty() {
        return Reading { syslog: Syslog::default(), reject: Some(Reject::Empty) };
    }
    let mut c = whole;
    match c.attempt(pri) {
        Some(pri) => {
            let mut reading = behind_pri(c, received);
            reading.syslog.facility = Some(pri >> 3);
            reading.syslog.severity = Some(pri & 7);
            reading
        }
        // What has angle brackets but no number between them is most likely markup, so nothing more is guessed.
        None if whole.peek() == Some(b'<') => unread(whole, Reject::Pri),
        None => without_pri(whole, received),
    }
}

/// `<0>` to `<191>` (RFC 5424, 6.2.1; RFC 3164, 4.1.1). Leading zeros pass.
fn pri(c: &mut Cursor<'_>) -> Option<u8> {
    c.eat(b'<')?;
    let pri = c.number(1, 3)?;
    c.eat(b'>')?;
    u8::try_from(pri).ok().filter(|pri| *pri <= 191)
}

/// With a PRI everything is at least a message of RFC 3164 without the rest (4.3.2).
fn behind_pri(c: Cursor<'_>, received: UnixNanos) -> Reading {
    if let Some(reading) = rfc5424::read(c, received) {
        return reading;
    }
    let syslog = rfc3164::read(c, true, received);
    if syslog.timestamp.is_none() && rfc5424::claims_version_1(c) {
        let mut behind_version = c;
        let _ = behind_version.take(2);
        return unread(behind_version, Reject::Timestamp);
    }
    Reading { syslog, reject: None }
}

/// Without a PRI, a timestamp in front is what makes it syslog (RFC 3164, 4.3.3, is about relays that add one).
fn without_pri(c: Cursor<'_>, received: UnixNanos) -> Reading {
    let mut syslog = rfc3164::read(c, false, received);
    if syslog.timestamp.is_some() {
        return Reading { syslog, reject: None };
    }
    syslog.rfc = None;
    Reading { syslog, reject: Some(Reject::NoPriNoTimestamp) }
}

/// A message of which only the text can be given.
fn unread(c: Cursor<'_>, reject: Reject) -> Reading {
    Reading { syslog: Syslog { message: text(c.rest()), ..Syslog::default() }, reject: Some(reject) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T22:44:20Z.
    const RECEIVED: UnixNanos = UnixNanos(1_795_301_060_000_000_000);

    #[test]
    fn a_message_of_neither_form_keeps_its_text() {
        let Reading { syslog, reject } = syslog(b"this is \xff not syslog", RECEIVED);
        assert_eq!(reject, Some(Reject::NoPriNoTimestamp));
        assert_eq!(syslog, Syslog { message: Some("this is \u{fffd} not syslog".to_owned()), ..Syslog::default() });
    }

    #[test]
    fn what_the_message_does_not_give_is_null() {
        let Reading { syslog, reject } = syslog(b"Sep  1 10:25:29 10.10.10.1 %SEC-6-IPACCESSLOGP: list 102", RECEIVED);
        assert_eq!(reject, None);
        assert_eq!((syslog.facility, syslog.severity), (None, None));
        let Reading { syslog, reject } = self::syslog(b"<13>hello", RECEIVED);
        assert_eq!(reject, None);
        assert_eq!((syslog.timestamp, syslog.hostname, syslog.app_name), (None, None, None));
    }

    #[test]
    fn a_pri_is_three_digits_and_at_most_191() {
        for (text, facility, severity) in [("<0>", 0, 0), ("<002>", 0, 2), ("<191>", 23, 7), ("<34>", 4, 2)] {
            let syslog = syslog(text.as_bytes(), RECEIVED).syslog;
            assert_eq!((syslog.facility, syslog.severity), (Some(facility), Some(severity)), "{text}");
        }
        for text in ["<192>", "<999>", "<19000021>122 2018-11-22", "<abc> x", "<>", "<1", "<", "<-1>x"] {
            let Reading { syslog, reject } = syslog(text.as_bytes(), RECEIVED);
            assert_eq!((syslog.facility, syslog.message.as_deref()), (None, Some(text)));
            assert_eq!(reject, Some(Reject::Pri), "{text}");
        }
    }

    #[test]
    fn line_ends_belong_to_framing() {
        for raw in [
            &b"<13>Oct 11 22:14:15 h su: x\n"[..],
            b"<13>Oct 11 22:14:15 h su: x\r\n",
            b"<13>Oct 11 22:14:15 h su: x\0",
        ] {
            assert_eq!(syslog(raw, RECEIVED).syslog.message.as_deref(), Some("x"));
        }
        for raw in [&b""[..], b"\n", b"\0\0"] {
            assert_eq!(syslog(raw, RECEIVED).reject, Some(Reject::Empty));
        }
    }

    #[test]
    fn version_without_timestamp_is_named() {
        let Reading { syslog, reject } = syslog(b"<13>1 2026-13-01T00:00:00Z h a - - - x", RECEIVED);
        assert_eq!(reject, Some(Reject::Timestamp));
        assert_eq!((syslog.severity, syslog.message.as_deref()), (Some(5), Some("2026-13-01T00:00:00Z h a - - - x")));
    }
}
