//! A syslog message.

use super::message;
use crate::escape;
use raven_model::query::Syslog;

/// `severity host app[pid]: message`, without what the message does not give.
pub fn line(syslog: &Syslog, raw: &[u8]) -> String {
    let mut out = severity(syslog.severity).to_owned();
    if let Some(host) = &syslog.hostname {
        out = format!("{out} {}", escape::text(host));
    }
    let pid = syslog.procid.as_deref().map(|pid| format!("[{}]", escape::text(pid))).unwrap_or_default();
    if let Some(app) = &syslog.app_name {
        out = format!("{out} {}{pid}:", escape::text(app));
    }
    let text = syslog.message.as_deref().map_or_else(|| message(raw), |text| message(text.as_bytes()));
    format!("{out} {text}")
}

/// As in RFC 5424, 6.2.1, in one word.
fn severity(number: Option<u8>) -> &'static str {
    const NAMES: [&str; 8] = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
    number.and_then(|n| NAMES.get(usize::from(n))).copied().unwrap_or("-")
}
