//! Snare's lines: `MSWinEventLog` and fields with tabs between them, behind a syslog header or none.

use super::{WinEvent, level, time};
use memchr::memmem;
use raven_model::units::UnixNanos;

const MARK: &[u8] = b"MSWinEventLog";
/// What rsyslog makes of a tab unless it is told otherwise.
const ESCAPED_TAB: &str = "#011";

/// Reads a line; `None` where it is none of Snare's.
pub fn read(raw: &[u8]) -> Option<WinEvent> {
    let at = memmem::find(raw, MARK)?;
    let line = String::from_utf8_lossy(raw.get(at + MARK.len()..)?);
    let line = line.trim_end_matches(['\r', '\n', '\0']);
    let separator = if line.starts_with('\t') { "\t" } else { ESCAPED_TAB };
    let fields: Vec<&str> = line.strip_prefix(separator)?.splitn(32, separator).collect();
    let field = |n: usize| fields.get(n).map(|field| field.trim()).filter(|field| !matches!(*field, "" | "N/A"));
    let text = |n: usize| field(n).map(str::to_owned);
    let mut event = WinEvent {
        channel: text(1),
        event_id: field(4).and_then(|id| id.parse().ok()),
        provider: text(5),
        user: text(6),
        level: field(8).and_then(level::of_entry_type),
        computer: text(9),
        message: text(12),
        // The log's own counter, where it is not the checksum of older versions.
        record_id: field(13).and_then(|counter| counter.parse().ok()),
        ..WinEvent::default()
    };
    if let Some(time) = field(3).and_then(time::read) {
        event.time = Some(time.text);
        event.assumed = time.assumed;
    }
    if let Some(data) = text(11) {
        event.data.insert("param1".to_owned(), data);
    }
    if event.computer.is_none() {
        event.computer = crate::syslog(raw.get(..at + MARK.len())?, UnixNanos(0)).syslog.hostname;
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LINE: &str = "<14>Sep 17 16:37:25 relay MSWinEventLog\t1\tSecurity\t6862\tFri Sep 17 16:37:25 2021\t4608\tMicrosoft-Windows-Security-Auditing\tN/A\tN/A\tSuccess Audit\tWIN-5SB\tSecurity State Change\t\tWindows is starting up.\t15";

    #[test]
    fn fields_stand_in_their_order() {
        let event = read(LINE.as_bytes()).unwrap();
        assert_eq!((event.channel.as_deref(), event.event_id, event.level), (Some("Security"), Some(4608), Some(0)));
        assert_eq!((event.computer.as_deref(), event.record_id, event.user), (Some("WIN-5SB"), Some(15), None));
        assert_eq!(event.time.as_deref(), Some("2021-09-17T16:37:25Z"));
        assert_eq!(event.message.as_deref(), Some("Windows is starting up."));
    }

    #[test]
    fn tabs_that_a_relay_escaped_count_as_tabs() {
        assert_eq!(read(LINE.replace('\t', "#011").as_bytes()), read(LINE.as_bytes()));
    }

    #[test]
    fn a_short_line_gives_what_it_has() {
        let event = read(b"<14>Sep 17 16:37:25 host MSWinEventLog\t1\tSystem").unwrap();
        assert_eq!((event.channel.as_deref(), event.computer.as_deref()), (Some("System"), Some("host")));
        assert_eq!(read(b"MSWinEventLog"), None);
        assert_eq!(read(b"<14>Sep 17 16:37:25 host su: x"), None);
    }
}
