//! RFC 5424: `VERSION SP TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID SP STRUCTURED-DATA [SP MSG]`.
//!
//! Lengths are not checked: devices exceed them, and nothing here depends on them. VERSION may be any the grammar
//! allows; none but 1 exists, and what says otherwise reads the same.

use crate::cursor::{Cursor, text};
use crate::{Reading, Reject, rfc3164, stamp, structured};
use raven_model::query::Syslog;
use raven_model::units::UnixNanos;

/// Reads what stands behind PRI; `None` where VERSION and TIMESTAMP do not say RFC 5424.
pub fn read(mut c: Cursor<'_>, received: UnixNanos) -> Option<Reading> {
    let mut syslog = Syslog { rfc: Some("5424".to_owned()), ..Syslog::default() };
    version_and_timestamp(&mut c, &mut syslog, received)?;
    let mut reject = None;
    if let Err(fault) = fields(&mut c, &mut syslog) {
        reject = Some(fault);
    }
    if reject == Some(Reject::MixedTag) {
        rfc3164::tag_and_message(c, &mut syslog);
    } else if reject != Some(Reject::HeaderShort) {
        let fault = structured_data_and_message(c, &mut syslog).err();
        reject = reject.or(fault);
    }
    Some(Reading { syslog, reject })
}

/// True where the text starts like RFC 5424 (`1 ` and something), whatever follows.
pub fn claims_version_1(c: Cursor<'_>) -> bool {
    c.rest().starts_with(b"1 ")
}

fn version_and_timestamp(c: &mut Cursor<'_>, syslog: &mut Syslog, received: UnixNanos) -> Option<()> {
    if c.digits(1, 3)?.starts_with(b"0") {
        return None;
    }
    c.eat(b' ')?;
    if nil(c).is_none() {
        stamp::rfc3339(c)?.put(syslog, received);
    }
    c.eat(b' ')
}

/// NILVALUE, with a space or the end behind it.
fn nil(c: &mut Cursor<'_>) -> Option<()> {
    c.attempt(|c| {
        c.eat(b'-')?;
        matches!(c.peek(), None | Some(b' ')).then_some(())
    })
}

/// HOSTNAME to MSGID. Stops where the header ends early; goes on over a field that is merely wrong.
fn fields(c: &mut Cursor<'_>, syslog: &mut Syslog) -> Result<(), Reject> {
    let mut fault = Ok(());
    let Syslog { hostname, app_name, procid, msgid, .. } = syslog;
    for (name, slot) in [("HOSTNAME", hostname), ("APP-NAME", app_name), ("PROCID", procid), ("MSGID", msgid)] {
        let start = *c;
        let field = c.take_while(usize::MAX, |byte| byte != b' ');
        if name == "APP-NAME" && is_tag(field) {
            *c = start;
            return Err(Reject::MixedTag);
        }
        *slot = text(field).filter(|value| value != "-");
        if field.is_empty() || field.iter().any(u8::is_ascii_control) {
            fault = fault.and(Err(Reject::Field(name)));
        }
        c.eat(b' ').ok_or(Reject::HeaderShort)?;
    }
    fault
}

/// HPE iLO writes an RFC 5424 header as far as HOSTNAME and goes on with `DriveArray: `, which no APP-NAME ends like.
fn is_tag(field: &[u8]) -> bool {
    field.len() > 1 && field.ends_with(b":")
}

fn structured_data_and_message(mut c: Cursor<'_>, syslog: &mut Syslog) -> Result<(), Reject> {
    let mut fault = Ok(());
    if nil(&mut c).is_none() {
        syslog.structured_data = c.attempt(structured::elements);
        fault = syslog.structured_data.as_ref().map(|_| ()).ok_or(Reject::StructuredData);
    }
    if fault.is_ok() {
        let _ = c.eat(b' ');
    }
    let message = c.rest();
    syslog.message = text(message.strip_prefix("\u{feff}".as_bytes()).unwrap_or(message));
    fault
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Reading {
        read(Cursor::new(text.as_bytes()), UnixNanos(0)).unwrap()
    }

    #[test]
    fn the_example_with_structured_data_reads_in_full() {
        // RFC 5424, 6.5, example 4, with a byte order mark.
        let Reading { syslog, reject } = parse(concat!(
            "1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 ",
            r#"[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"]"#,
            r#"[examplePriority@32473 class="high"] "#,
            "\u{feff}An application event",
        ));
        assert_eq!(reject, None);
        assert_eq!(syslog.rfc.as_deref(), Some("5424"));
        assert_eq!(syslog.timestamp.as_deref(), Some("2003-10-11T22:14:15.003Z"));
        assert_eq!(syslog.hostname.as_deref(), Some("mymachine.example.com"));
        assert_eq!((syslog.app_name.as_deref(), syslog.procid.as_deref()), (Some("evntslog"), None));
        assert_eq!(syslog.msgid.as_deref(), Some("ID47"));
        let data = syslog.structured_data.unwrap();
        assert_eq!(data["exampleSDID@32473"]["eventSource"], "Application");
        assert_eq!(data["examplePriority@32473"]["class"], "high");
        assert_eq!(syslog.message.as_deref(), Some("An application event"));
    }

    #[test]
    fn nil_values_are_null() {
        let Reading { syslog, reject } = parse("1 - - - - - -");
        assert_eq!((syslog, reject), (Syslog { rfc: Some("5424".to_owned()), ..Syslog::default() }, None));
    }

    #[test]
    fn malformed_structured_data_stays_readable_in_the_message() {
        // Check Point without its 5424 format: semicolons between the parameters and a colon for the equals sign.
        let Reading { syslog, reject } =
            parse(r#"1 2026-11-21T20:15:07Z gw CheckPoint 26 - [action:"Accept"; ok:"1"]"#);
        assert_eq!(reject, Some(Reject::StructuredData));
        assert_eq!(syslog.procid.as_deref(), Some("26"));
        assert_eq!(syslog.structured_data, None);
        assert_eq!(syslog.message.as_deref(), Some(r#"[action:"Accept"; ok:"1"]"#));
    }

    #[test]
    fn a_header_that_ends_early_gives_what_it_has() {
        let Reading { syslog, reject } = parse("1 2026-11-21T20:15:07Z gw app");
        assert_eq!(reject, Some(Reject::HeaderShort));
        assert_eq!((syslog.hostname.as_deref(), syslog.app_name.as_deref()), (Some("gw"), Some("app")));
    }

    #[test]
    fn a_control_character_in_the_header_is_named() {
        let Reading { syslog, reject } = parse("1 - \nhost app - - - text");
        assert_eq!(reject, Some(Reject::Field("HOSTNAME")));
        assert_eq!((syslog.app_name.as_deref(), syslog.message.as_deref()), (Some("app"), Some("text")));
    }

    #[test]
    fn a_3164_tag_behind_a_5424_header_is_read_as_one() {
        let Reading { syslog, reject } = parse("1 2026-11-21T20:15:07Z ilo DriveArray: Drive failed");
        assert_eq!(reject, Some(Reject::MixedTag));
        assert_eq!((syslog.hostname.as_deref(), syslog.app_name.as_deref()), (Some("ilo"), Some("DriveArray")));
        assert_eq!(syslog.message.as_deref(), Some("Drive failed"));
    }
}
