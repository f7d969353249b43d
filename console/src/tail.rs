//! `raven tail`: stored messages as lines for people, or as the decode role's JSON lines.

use crate::cli::Stream;
use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::time;
use clap::Args;
use raven_model::query::{Decoded, Query, RecordView, Select, Syslog};
use raven_model::units::UnixNanos;
use std::net::IpAddr;

/// `raven tail`.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    /// Stream.
    #[command(flatten)]
    pub stream: Stream,
    /// Go on with new messages as they arrive
    #[arg(long, short)]
    pub follow: bool,
    /// Only the newest N [default: 20, or all with --since or --until]
    #[arg(long, short = 'n', value_name = "N")]
    pub last: Option<u64>,
    /// Which part of the stream.
    #[command(flatten)]
    pub window: Window,
    /// Only from this sender
    #[arg(long, value_name = "ADDRESS")]
    pub source: Option<IpAddr>,
    /// Only messages that contain this text, byte for byte
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// With --json: add the fields read from each message, or why there are none
    #[arg(long)]
    pub decoded: bool,
}

/// `--since` and `--until`.
#[derive(Debug, Clone, Default, Args)]
pub struct Window {
    /// Only what was received at or after this time
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    pub since: Option<UnixNanos>,
    /// Only what was received before this time
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    pub until: Option<UnixNanos>,
}

/// For clap.
pub fn read_time(text: &str) -> Result<UnixNanos, String> {
    time::parse(text, time::now())
}

impl TailArgs {
    fn select(&self, json: bool) -> Select {
        let all = self.window.since.is_some() || self.window.until.is_some();
        Select {
            stream: self.stream.name(),
            since: self.window.since,
            until: self.window.until,
            last: self.last.or(if all { None } else { Some(20) }),
            follow: self.follow,
            // IPv4 senders are IPv4 in the ring, however the operator writes them.
            source: self.source.map(raven_model::record::plain_address),
            grep: self.grep.clone(),
            decoded: self.decoded || !json,
            ..Select::default()
        }
    }
}

/// Runs it. Following has no end of its own but `--until`: any other is a failure.
pub fn run(args: &TailArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer = client.query(&Query::Records(args.select(output.json)))?;
    loop {
        if answer.is_drained() {
            output.flush()?;
        }
        let Some(record) = answer.next(output)? else { return Ok(OK) };
        if output.json {
            output.json_line(record)?;
        } else {
            output.line(&human(record))?;
        }
    }
}

/// A record as one line for people; a line that is no record is shown as it is, escaped.
pub fn human(line: &[u8]) -> String {
    match serde_json::from_slice::<RecordView>(line) {
        Ok(view) => human_record(&view),
        Err(_) => escape::bytes(line),
    }
}

fn human_record(view: &RecordView) -> String {
    let raw = view.raw_bytes().unwrap_or_default();
    let text = match &view.decoded {
        Some(Decoded::Syslog(syslog)) => human_syslog(syslog, &raw),
        Some(Decoded::Host(_)) | None => format!("- {}", message(&raw)),
    };
    let marks = [(view.piece, " [goes on in the next record]"), (view.unparsed, " [kept unparsed]")];
    let marks: String = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect();
    format!("{} {} {text}{marks}", time::format(view.received_ns, 3), view.source.addr)
}

/// `severity host app[pid]: message`, without what the message does not give.
fn human_syslog(syslog: &Syslog, raw: &[u8]) -> String {
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

/// Line ends and NULs at the end are the sender's framing, not text.
fn message(raw: &[u8]) -> String {
    let end = raw.iter().rposition(|b| !b"\r\n\0".contains(b)).map_or(0, |at| at + 1);
    escape::bytes(&raw[..end])
}

/// As in RFC 5424, 6.2.1, in one word.
pub fn severity(number: Option<u8>) -> &'static str {
    const NAMES: [&str; 8] = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
    number.and_then(|n| NAMES.get(usize::from(n))).copied().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#""seq":7,"received_ns":1763771400123456789,"source":{"addr":"192.0.2.7","port":514},"listener":"udp:[::]:514""#;

    fn shown(rest: &str) -> String {
        human(format!("{{{HEAD},{rest}}}").as_bytes())
    }

    #[test]
    fn a_decoded_message_is_one_line() {
        let line = shown(
            r#""raw":"x","decoded":{"rfc":"3164","facility":4,"severity":4,"timestamp":null,"hostname":"fw1","app_name":"sshd","procid":"42","msgid":null,"structured_data":null,"message":"no entry\n"}"#,
        );
        assert_eq!(line, "2025-11-22T00:30:00.123Z 192.0.2.7 warning fw1 sshd[42]: no entry");
    }

    #[test]
    fn what_could_not_be_decoded_is_shown_raw() {
        assert_eq!(shown(r#""raw":"hello","reject":"no priority""#), "2025-11-22T00:30:00.123Z 192.0.2.7 - hello");
        assert_eq!(
            shown(r#""raw_b64":"aP8=","piece":true"#),
            "2025-11-22T00:30:00.123Z 192.0.2.7 - h\\xff [goes on in the next record]"
        );
    }

    #[test]
    fn no_field_can_smuggle_an_escape_sequence_to_the_terminal() {
        let evil = r"\u001b]0;owned\u0007\u009b2J\r";
        let line = shown(&format!(
            r#""raw":"{evil}","decoded":{{"rfc":null,"facility":null,"severity":9,"timestamp":null,"hostname":"{evil}","app_name":"{evil}","procid":"{evil}","msgid":null,"structured_data":null,"message":"a{evil}b"}}"#
        ));
        assert!(!line.chars().any(char::is_control), "{line}");
        assert!(!human(b"not json \x1b[2J").chars().any(char::is_control));
    }
}
