//! A stored record as a line or a few for people, by stream. All that strangers wrote is escaped on the way.
//!
//! The decode role took the record apart; here is only chosen what of its JSON a person wants to see first.

pub mod alert;
pub mod diag;
mod flow;
mod host;
mod metrics;
mod syslog;
mod trap;
mod winevent;

pub use trap::{Trap, is_named};

use crate::escape;
use crate::time;
use raven_model::query::{Json, RecordView};
use raven_model::stream::Stream;
use std::fmt::Write as _;

/// Characters of one field, or of one message, that are shown.
const LONG: usize = 400;
/// Bytes that are shown of what is no text.
const BYTES: usize = 32;

/// A line of an answer as lines for people; what is no record is shown as it is.
pub fn record(stream: Stream, line: &[u8]) -> Vec<String> {
    match serde_json::from_slice::<RecordView>(line) {
        Ok(view) => lines(stream, &view),
        Err(_) => vec![escape::bytes(line)],
    }
}

/// A record as lines for people.
pub fn lines(stream: Stream, view: &RecordView) -> Vec<String> {
    let raw = view.raw_bytes().unwrap_or_default();
    let told = view.decoded.as_ref().map(|decoded| {
        // Fields of another version of the decode role are better than none.
        decoded_lines(stream, decoded, &raw).unwrap_or_else(|| vec![escape::text(decoded.text())])
    });
    let mut lines = told.unwrap_or_else(|| vec![undecoded(stream, &raw)]);
    if let Some(first) = lines.first_mut() {
        first.push_str(&marks(stream, view));
    }
    let head = format!("{} {}", time::format(view.received_ns, 3), view.source.addr);
    lines.into_iter().map(|line| format!("{head} {line}")).collect()
}

fn decoded_lines(stream: Stream, decoded: &Json, raw: &[u8]) -> Option<Vec<String>> {
    match stream {
        Stream::Syslog => Some(vec![syslog::line(&decoded.read()?, raw)]),
        Stream::Flow => Some(flow::lines(&decoded.read()?)),
        Stream::Trap => Some(vec![decoded.read::<Trap>()?.line()]),
        Stream::Winevent => Some(vec![winevent::line(&decoded.read()?)]),
        Stream::Metrics => metrics::line(&decoded.read()?).map(|line| vec![line]),
        Stream::Host => host::line(&decoded.read()?).map(|line| vec![line]),
        Stream::Alert => Some(vec![alert::line(&decoded.read()?)]),
        Stream::Diag => Some(vec![diag::line(&decoded.read()?)]),
    }
}

fn undecoded(stream: Stream, raw: &[u8]) -> String {
    match stream {
        Stream::Flow | Stream::Trap => format!("- {} bytes: {}", raw.len(), first_hex(raw)),
        Stream::Syslog => format!("- {}", message(raw)),
        Stream::Winevent | Stream::Metrics | Stream::Host | Stream::Alert | Stream::Diag => {
            format!("- {}", cut(&message(raw)))
        }
    }
}

fn marks(stream: Stream, view: &RecordView) -> String {
    let mut marks = Vec::new();
    if view.piece {
        marks.push("goes on in the next record".to_owned());
    }
    if view.unparsed {
        marks.push("kept unparsed".to_owned());
        return written(&marks);
    }
    // A message that matches no grammar is shown as it came, which says enough.
    let reject = view.reject.as_deref().filter(|_| stream != Stream::Syslog || view.refused);
    let reject = reject.map(|reject| escape::text(reject.trim_start_matches("refused when it came: ")));
    match (view.refused, reject) {
        (true, Some(why)) => marks.push(format!("refused: {why}")),
        (true, None) => marks.push("refused".to_owned()),
        (false, Some(why)) => marks.push(why),
        (false, None) => {}
    }
    written(&marks)
}

fn written(marks: &[String]) -> String {
    if marks.is_empty() { String::new() } else { format!(" [{}]", marks.join("] [")) }
}

/// Line ends and NULs at the end are the sender's framing, not text.
fn message(raw: &[u8]) -> String {
    let end = raw.iter().rposition(|b| !b"\r\n\0".contains(b)).map_or(0, |at| at + 1);
    escape::bytes(&raw[..end])
}

/// White space as single blanks, escaped, and not longer than a person reads.
fn plain(text: &str) -> String {
    cut(&escape::text(&text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The first bytes in hex.
fn first_hex(raw: &[u8]) -> String {
    let mut hex = String::new();
    for byte in raw.iter().take(BYTES) {
        let _ = write!(hex, "{byte:02x}");
    }
    if raw.len() > BYTES { hex + "…" } else { hex }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#""seq":7,"received_ns":1763771400123456789,"source":{"addr":"192.0.2.7","port":514},"listener":"udp:[::]:514""#;
    const BEGIN: &str = "2025-11-22T00:30:00.123Z 192.0.2.7 ";

    /// What is shown of a record, without time and source.
    pub fn shown(stream: Stream, rest: &str) -> Vec<String> {
        let lines = record(stream, format!("{{{HEAD},{rest}}}").as_bytes());
        lines.iter().map(|line| line.strip_prefix(BEGIN).unwrap_or(line).to_owned()).collect()
    }

    #[test]
    fn a_decoded_message_is_one_line() {
        let line = shown(
            Stream::Syslog,
            r#""raw":"x","decoded":{"rfc":"3164","facility":4,"severity":4,"timestamp":null,"hostname":"fw1","app_name":"sshd","procid":"42","msgid":null,"structured_data":null,"message":"no entry\n"}"#,
        );
        assert_eq!(line, ["warning fw1 sshd[42]: no entry"]);
    }

    #[test]
    fn what_could_not_be_decoded_is_shown_raw() {
        assert_eq!(shown(Stream::Syslog, r#""raw":"hello","reject":"no priority""#), ["- hello"]);
        assert_eq!(
            shown(Stream::Syslog, r#""raw_b64":"aP8=","piece":true"#),
            ["- h\\xff [goes on in the next record]"]
        );
        assert_eq!(shown(Stream::Trap, r#""raw_b64":"aP8=","reject":"not BER""#), ["- 2 bytes: 68ff [not BER]"]);
    }

    #[test]
    fn refused_and_unparsed_records_are_marked() {
        let why = "refused when it came: its sender or its credentials were not allowed";
        let line = shown(Stream::Winevent, &format!(r#""raw":"x","refused":true,"reject":"{why}""#));
        assert_eq!(line, ["- x [refused: its sender or its credentials were not allowed]"]);
        let line = shown(Stream::Flow, r#""raw":"x","unparsed":true,"reject":"a collector died""#);
        assert_eq!(line, ["- 1 bytes: 78 [kept unparsed]"]);
    }

    #[test]
    fn no_field_of_any_stream_can_smuggle_an_escape_sequence_to_the_terminal() {
        let evil = r"\u001b]0;owned\u0007\u009b2J\r\u202e";
        let e = |text: &str| text.replace('@', evil);
        let all = [
            (Stream::Syslog, e(r#"{"severity":9,"hostname":"@","app_name":"@","procid":"@","message":"a@b"}"#)),
            (
                Stream::Flow,
                e(
                    r#"{"version":"@","agent":"@","domain":1,"flows":[{"src_addr":"@","in_if":"@","sampling_source":"@"}],"options":[{"sampling":1}],"counters":[{"if_index":1}],"drops":[{"reason_name":"@"}],"undescribed":[{}],"faults":["@"]}"#,
                ),
            ),
            (
                Stream::Trap,
                e(
                    r#"{"version":"@","community":"@","user":"@","engine_id":"@","type":"@","trap_name":"@","agent_addr":"@","varbinds":[{"oid":"@","name":"@","type":"x","value":"@","label":"@"}]}"#,
                ),
            ),
            (
                Stream::Winevent,
                e(
                    r#"{"provider":"@","channel":"@","computer":"@","user":"@","time":"@","message":"@","data":{"@":"@"}}"#,
                ),
            ),
            (
                Stream::Metrics,
                e(
                    r#"{"kind":"series","name":"@","labels":{"@":"@"},"samples":[{"time_ms":1,"value":"@"}],"histograms":[{"count":"@","sum":"@"}]}"#,
                ),
            ),
            (Stream::Metrics, e(r#"{"kind":"metadata","name":"@","type":"@","help":"@","unit":"@"}"#)),
            (Stream::Metrics, e(r#"{"kind":"log","labels":{"@":"@"},"time_ns":1,"line":"@"}"#)),
            (
                Stream::Alert,
                e(
                    r#"{"t":1,"alert":"lag","subject":"@","state":"firing","severity":"notice","since_ns":1,"value":1,"text":"@"}"#,
                ),
            ),
            (
                Stream::Diag,
                e(
                    r#"{"t":1,"schedule":"@","test":"ping","outcome":"bad","why":"@","took_ms":1,"figures":{"path":"@"}}"#,
                ),
            ),
            (Stream::Host, e(r#"{"t":1,"event":"@","@":"@","interface":"@"}"#)),
            (Stream::Host, e(r#"{"t":1,"cpu":{},"data":{"mount":"@"},"interfaces":[{"name":"@","operstate":"@"}]}"#)),
        ];
        for (stream, decoded) in all {
            let rest = format!(r#""raw":"{evil}","refused":true,"decoded":{decoded},"reject":"{evil}""#);
            let lines = shown(stream, &rest);
            let is_bad = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!lines.concat().contains(is_bad) && !lines.is_empty(), "{stream}: {lines:?}");
            assert!(!lines.concat().contains("\"decoded\""), "{stream} was not read: {lines:?}");
        }
        assert!(!record(Stream::Flow, b"not json \x1b[2J").concat().contains(char::is_control));
    }

    #[test]
    fn a_flow_is_a_line_and_the_rest_is_summarised() {
        let decoded = r#"{"version":"netflow9","exporter":"192.0.2.7","domain":1,"flows":[
            {"src_addr":"10.0.0.1","src_port":40000,"dst_addr":"2001:db8::2","dst_port":443,"proto":6,"bytes":1500,"packets":3,"in_if":1,"out_if":"multiple 10","sampling":100,"sampling_source":"options","fields":{"x":1}},
            {"proto":250}],
            "options":[{"sampling":100},{}],"counters":[{"if_index":3,"if_in_octets":5,"if_out_octets":6}],
            "drops":[{"reason_name":"acl"},{"reason_name":"acl"}],"undescribed":[{"set":260,"length":9}],"faults":["bad"]}"#;
        let lines =
            shown(Stream::Flow, &format!(r#""raw":"x","decoded":{decoded},"reject":"1 data sets have no template""#));
        assert_eq!(
            lines,
            [
                "10.0.0.1:40000 > [2001:db8::2]:443 tcp 1500 B 3 pkt if 1>multiple 10 netflow9/1 1:100 (options) [1 data sets have no template]",
                "- > - proto 250 - B - pkt netflow9/1",
                "options: 2 records, sampling 1:100 netflow9/1",
                "counters: 1 samples: if 3 in 5 B out 6 B netflow9/1",
                "drops: 2 samples: 2 acl netflow9/1",
                "undescribed: 1 (set 260) netflow9/1",
                "fault: bad netflow9/1",
            ]
        );
        let empty = shown(Stream::Flow, r#""raw":"x","decoded":{"version":"ipfix","domain":7,"flows":[]}"#);
        assert_eq!(empty, ["no records, perhaps templates ipfix/7"]);
    }

    #[test]
    fn a_notification_tells_its_name_credentials_and_values() {
        let decoded = r#"{"version":"2c","community":"public","user":null,"engine_id":null,"type":"trap","uptime":7,"trap_oid":"1.3.6.1.6.3.1.1.5.3","trap_name":"linkDown","agent_addr":null,"varbinds":[
            {"oid":"1.3.6.1.2.1.1.3.0","name":"sysUpTime.0","type":"TimeTicks","value":7},
            {"oid":"1.3.6.1.6.3.1.1.4.1.0","name":"snmpTrapOID.0","type":"ObjectIdentifier","value":"1.3"},
            {"oid":"1.3.6.1.2.1.2.2.1.1.3","name":"ifIndex.3","type":"Integer32","value":3},
            {"oid":"1.3.6.1.2.1.2.2.1.8.3","name":"ifOperStatus.3","type":"Integer32","value":2,"label":"down"},
            {"oid":"1.3.6.1.4.1.9.1","type":"OctetString","value":"a b"}]}"#;
        let line = shown(Stream::Trap, &format!(r#""raw":"x","decoded":{decoded}"#));
        assert_eq!(line, ["linkDown public ifIndex.3=3 ifOperStatus.3=down(2) 1.3.6.1.4.1.9.1=\"a b\""]);
        let v3 = r#"{"version":"3","community":null,"user":"noc","engine_id":"8000","type":"inform","trap_oid":"1.2.3","varbinds":[]}"#;
        assert_eq!(shown(Stream::Trap, &format!(r#""raw":"x","decoded":{v3}"#)), ["1.2.3 inform noc@8000"]);
    }

    #[test]
    fn a_windows_event_is_one_line_however_long_its_text_is() {
        let decoded = r#"{"provider":"Microsoft-Windows-Security-Auditing","event_id":4624,"channel":"Security","level":0,"computer":"DC1","record_id":7,"time":"2026-11-22T18:30:00Z","user":null,"data":{"TargetUserName":"anna"},"message":"An account\r\n\twas logged on."}"#;
        let line = shown(Stream::Winevent, &format!(r#""raw":"x","decoded":{decoded}"#));
        assert_eq!(
            line,
            [
                "2026-11-22T18:30:00Z DC1 Security Microsoft-Windows-Security-Auditing 4624 always: An account was logged on."
            ]
        );
        let data =
            r#"{"provider":null,"event_id":7,"channel":null,"level":2,"computer":null,"data":{"a":"b c","d":"e"}}"#;
        assert_eq!(
            shown(Stream::Winevent, &format!(r#""raw":"x","decoded":{data}"#)),
            ["- - - - 7 error: a=\"b c\" d=e"]
        );
    }

    #[test]
    fn series_and_log_lines_are_one_line_each() {
        let one = |decoded: &str| shown(Stream::Metrics, &format!(r#""raw":"x","decoded":{decoded}"#)).remove(0);
        let series = r#"{"kind":"series","name":"up","labels":{"instance":"leaf-1:9100","job":"node"},"samples":[{"time_ms":1763771399500,"value":"1"},{"time_ms":1763771400500,"value":"NaN","stale":true}]}"#;
        assert_eq!(
            one(series),
            r#"up{instance="leaf-1:9100",job="node"} 1 @2025-11-22T00:29:59.500Z, stale @2025-11-22T00:30:00.500Z"#
        );
        let histogram = r#"{"kind":"series","name":"lat","labels":{},"histograms":[{"time_ms":1763771399500,"count":"12","sum":"18.4","schema":3,"positive":{}}]}"#;
        assert_eq!(one(histogram), "lat{} histogram count 12 sum 18.4 @2025-11-22T00:29:59.500Z");
        let log = r#"{"kind":"log","labels":{"job":"sonic"},"time_ns":1763771399500000000,"line":"BGP\tdown","metadata":{"pod":"x"}}"#;
        assert_eq!(one(log), r#"2025-11-22T00:29:59.500Z {job="sonic"} BGP down [pod="x"]"#);
        let metadata = r#"{"kind":"metadata","name":"up","type":"gauge","help":"Is it?","unit":""}"#;
        assert_eq!(one(metadata), "# up gauge: Is it?");
    }

    #[test]
    fn the_host_is_told_in_brief() {
        let sample = r#"{"t":1,"cpu":{"cpus":4,"busy":0.123,"load_1":1.5},"memory":{"total_bytes":8589934592,"available_bytes":6442450944},"disks":[{"name":"sda","busy":0.5}],"filesystems":[],"data":{"mount":"/data","size_bytes":100,"available_bytes":25},"interfaces":[{"name":"lo","rx_bytes":1},{"name":"eth0","rx_bytes":10,"tx_bytes":20,"carrier":false,"rx_errors":2}]}"#;
        assert_eq!(
            shown(Stream::Host, &format!(r#""raw":"x","decoded":{sample}"#)),
            [
                "cpu 12% load 1.50, mem 25% of 8GiB, disk 75% of 100B, sda 50% busy, eth0 no carrier rx 10B tx 20B 2 errors"
            ]
        );
        let event = r#"{"t":1,"event":"carrier_flapped","interface":"eth0","changes":4}"#;
        assert_eq!(
            shown(Stream::Host, &format!(r#""raw":"x","decoded":{event}"#)),
            ["event carrier flapped changes=4 interface=eth0"]
        );
    }
}
