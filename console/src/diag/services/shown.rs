//! Tests of services and their results as an engineer reads them.

use crate::diag::shown::ms;
use crate::escape;
use crate::status::screen::{columns, size, table};
use raven_model::calendar::date_of;
use raven_model::diag::Event;
use raven_model::diag::services::{
    Certificate, Connection, DnsRecord, DnsResult, DnsServer, HttpResult, NtpResult, TcpResult, Tls, TlsResult,
};

/// Lines that an event of these tests is worth.
pub fn lines(event: &Event) -> Vec<String> {
    match event {
        Event::Connection(connection) => vec![format!("  {}", attempt(connection))],
        Event::NtpAnswer(answer) => {
            let (server, offset) = (escape::text(&answer.server), signed(answer.offset_us));
            vec![format!("  {server}: offset {offset}, delay {}", signed(answer.delay_us))]
        }
        Event::Dns(result) => dns(result),
        Event::Tcp(result) => tcp(result),
        Event::Tls(result) => tls_result(result),
        Event::Http(result) => http(result),
        Event::Ntp(results) => ntp(results),
        _ => Vec::new(),
    }
}

/// Microseconds with a sign, as seconds where there are many.
fn signed(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs();
    match u32::try_from(us) {
        Ok(us) if us < 10_000_000 => format!("{sign}{}", ms(us)),
        _ => format!("{sign}{:.3} s", us as f64 / 1_000_000.0),
    }
}

fn attempt(connection: &Connection) -> String {
    let words = connection.words().map_or_else(|| "connected".to_owned(), |words| escape::text(&words));
    format!("{}: {words} after {}", connection.address, ms(connection.time_us))
}

fn dns(result: &DnsResult) -> Vec<String> {
    let mut lines = Vec::new();
    for server in &result.servers {
        lines.extend(dns_server(server));
    }
    lines
}

/// What one name server answered.
pub fn dns_server(server: &DnsServer) -> Vec<String> {
    let mut who = escape::text(&server.server);
    if let Some(address) = server.address.filter(|address| !server.server.contains(&address.ip().to_string())) {
        who = format!("{who} ({address})");
    }
    let mut lines = vec![match (&server.rcode, server.time_us) {
        (Some(rcode), Some(time)) => format!(
            "{who}: {} after {} by {}, {} bytes, {}",
            escape::text(rcode),
            ms(time),
            server.transport.name(),
            server.bytes,
            escape::text(&server.flags.join(" "))
        ),
        _ => format!("{who}: {}", escape::text(server.error.as_deref().unwrap_or("no answer"))),
    }];
    let row = |record: &DnsRecord| {
        let cells = [&record.name, &record.ttl.to_string(), &record.record, &record.data];
        std::iter::once(String::new()).chain(cells.into_iter().map(|cell| escape::text(cell))).collect()
    };
    lines.extend(columns(server.answers.iter().map(row).collect()));
    if server.more > 0 {
        lines.push(format!("  and {} more", server.more));
    }
    if server.truncated {
        lines.push("  its datagram was cut, so TCP was asked".to_owned());
    }
    if let Some(why) = &server.untrusted {
        lines.push(format!("  not to be trusted: {}", escape::text(why)));
    }
    let ignored = server.ignored;
    let counted = [
        (ignored.wrong_id, "with a wrong number"),
        (ignored.wrong_question, "to another question"),
        (ignored.wrong_address, "from another address"),
        (ignored.malformed, "that cannot be read"),
    ];
    let counted = counted.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    let counted: Vec<String> = counted.collect();
    if !counted.is_empty() {
        lines.push(format!("  ignored: {}", counted.join(", ")));
    }
    lines
}

fn tcp(result: &TcpResult) -> Vec<String> {
    let connected = result.connections.iter().filter(|connection| connection.words().is_none()).count();
    let of = result.connections.len();
    vec![format!(
        "{} port {}: {connected} of {of} {} connected; name lookup {}",
        escape::text(&result.target),
        result.port,
        if of == 1 { "address" } else { "addresses" },
        ms(result.resolve_us)
    )]
}

fn tls_result(result: &TlsResult) -> Vec<String> {
    let target = escape::text(&result.target);
    match &result.tls {
        None => vec![format!("{target} port {}: not connected; name lookup {}", result.port, ms(result.resolve_us))],
        Some(tls) => {
            let connect = result.connections.last().map_or(0, |connection| connection.time_us);
            let times = [("name lookup", result.resolve_us), ("connect", connect), ("handshake", tls.handshake_us)];
            std::iter::once(phases(&times)).chain(tls_lines(tls)).collect()
        }
    }
}

fn phases(times: &[(&str, u32)]) -> String {
    times.iter().map(|(what, us)| format!("{what} {}", ms(*us))).collect::<Vec<_>>().join(", ")
}

fn tls_lines(tls: &Tls) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(error) = &tls.error {
        lines.push(format!("no TLS: {}", escape::text(error)));
    } else {
        let or_unknown = |text: &Option<String>| text.as_deref().map_or_else(|| "?".to_owned(), escape::text);
        lines.push(format!("{}, {}", or_unknown(&tls.version), or_unknown(&tls.cipher)));
    }
    for (n, certificate) in tls.chain.iter().enumerate() {
        lines.extend(certificate_lines(n, certificate));
    }
    let name = escape::text(&tls.name);
    if tls.verified {
        lines.push(format!("the certificate is good, for {name}"));
    }
    lines.extend(tls.untrusted.iter().map(|why| format!("not to be trusted: {}", escape::text(why))));
    lines.extend(tls.misnamed.iter().map(|why| format!("wrong name: {}", escape::text(why))));
    if tls.wants_certificate {
        lines.push("it asks for a certificate of ours; none was shown".to_owned());
    }
    lines
}

fn certificate_lines(n: usize, certificate: &Certificate) -> Vec<String> {
    if let Some(why) = &certificate.unread {
        return vec![format!("  {n}  {}", escape::text(why))];
    }
    let day = |seconds: i64| {
        // A certificate may say anything; years of four digits are all that there is (RFC 5280, 4.1.2.5).
        let (year, month, day) = date_of(seconds.clamp(-62_135_596_800, 253_402_300_799).div_euclid(86_400));
        format!("{year:04}-{month:02}-{day:02}")
    };
    let left = match certificate.days_left {
        left if left < 0 => format!("over for {} days", left.unsigned_abs()),
        left => format!("{left} days left"),
    };
    let mut lines = vec![
        format!("  {n}  {}", escape::text(&certificate.subject)),
        format!("     issuer {}", escape::text(&certificate.issuer)),
        format!("     {} to {}, {left}", day(certificate.not_before_s), day(certificate.not_after_s)),
    ];
    if !certificate.names.is_empty() {
        lines.push(format!("     for {}", escape::text(&certificate.names.join(", "))));
    }
    lines
}

fn http(result: &HttpResult) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(status), Some(version)) = (result.status, &result.version) {
        let reason = result.reason.as_deref().map(escape::text).unwrap_or_default();
        lines.push(format!("{} {status} {reason}", escape::text(version)).trim_end().to_owned());
    }
    for (name, value) in &result.headers {
        lines.push(format!("  {}: {}", escape::text(name), escape::text(value)));
    }
    lines.extend(result.tls.iter().flat_map(tls_lines));
    let mut times = vec![("name lookup", result.resolve_us)];
    times.extend(result.connections.last().map(|connection| ("connect", connection.time_us)));
    times.extend(result.tls.as_ref().map(|tls| ("handshake", tls.handshake_us)));
    times.extend(result.first_byte_us.map(|us| ("first byte", us)));
    times.extend(result.whole_us.map(|us| ("whole", us)));
    times.push(("all", result.total_us));
    lines.push(phases(&times));
    if result.status.is_some() {
        lines.push(format!("header {}, body {}", size(result.header_bytes), size(result.body_bytes)));
    }
    lines.extend(result.error.iter().map(|why| format!("not whole: {}", escape::text(why))));
    lines
}

fn ntp(results: &[NtpResult]) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |result: &NtpResult| {
        vec![
            escape::text(&result.server),
            or_dash(result.address.map(|address| address.ip().to_string())),
            format!("{}/{}", result.received, result.sent),
            or_dash(result.offset_us.map(signed)),
            or_dash(result.delay_us.map(signed)),
            or_dash(result.stratum.map(|stratum| stratum.to_string())),
            or_dash(result.reference.as_deref().map(escape::text)),
            or_dash(result.leap.as_deref().map(escape::text)),
        ]
    };
    let heads = ["SERVER", "ADDRESS", "ANSWERS", "OFFSET", "DELAY", "STRATUM", "FOLLOWS", "LEAP"];
    let mut lines = table(&heads, results.iter().map(row));
    for result in results {
        let server = escape::text(&result.server);
        lines.extend(result.error.iter().map(|why| format!("{server}: {}", escape::text(why))));
        lines.extend(result.kiss.iter().map(|code| format!("{server} does not want to be asked: {}", kiss(code))));
        if result.ignored > 0 {
            lines.push(format!("{server}: {} answers to none of the queries, ignored", result.ignored));
        }
    }
    lines
}

/// RFC 5905, 7.4.
fn kiss(code: &str) -> String {
    let words = match code {
        "DENY" | "RSTR" => "it forbids it",
        "RATE" => "it was asked too often",
        "INIT" => "it has not found the time yet",
        "STEP" => "its clock was just set",
        _ => "",
    };
    format!("{} {words}", escape::text(code)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::diag::services::{DnsIgnored, Outcome, RecordType};

    #[test]
    fn an_answer_of_a_name_server_is_shown_with_what_was_ignored() {
        let server = DnsServer {
            server: "dns.example:53".to_owned(),
            address: Some(([192, 0, 2, 53], 53).into()),
            time_us: Some(1234),
            rcode: Some("NOERROR".to_owned()),
            flags: vec!["rd".to_owned(), "ra".to_owned()],
            truncated: true,
            answers: vec![DnsRecord {
                name: "noc\u{7}".to_owned(),
                record: "A".to_owned(),
                ttl: 60,
                data: "192.0.2.1".to_owned(),
            }],
            ignored: DnsIgnored { wrong_id: 2, ..DnsIgnored::default() },
            ..DnsServer::default()
        };
        let lines = dns(&DnsResult { name: "noc".to_owned(), record: RecordType::A, servers: vec![server] }).join("\n");
        for part in
            ["dns.example:53 (192.0.2.53:53): NOERROR after 1.234 ms by udp", "60  A  192.0.2.1", "was cut", "2 with a"]
        {
            assert!(lines.contains(part), "{part}: {lines}");
        }
        assert!(!lines.contains('\u{7}'), "{lines}");
    }

    #[test]
    fn a_certificate_that_is_over_is_shown_so() {
        let certificate = Certificate {
            subject: "CN=noc".to_owned(),
            not_after_s: 1_769_904_000,
            days_left: -5,
            names: vec!["noc.example".to_owned()],
            ..Certificate::default()
        };
        let tls = Tls {
            name: "noc".to_owned(),
            untrusted: Some("a certificate has expired".to_owned()),
            chain: vec![certificate],
            wants_certificate: true,
            ..Tls::default()
        };
        let lines = tls_lines(&tls).join("\n");
        for part in ["1970-01-01 to 2026-02-01, over for 5 days", "for noc.example", "not to be trusted: a", "asks for"]
        {
            assert!(lines.contains(part), "{part}: {lines}");
        }
    }

    #[test]
    fn phases_and_what_is_missing_are_shown() {
        let connection = Connection {
            address: ([192, 0, 2, 1], 80).into(),
            outcome: Outcome::Unreachable,
            time_us: 1500,
            source: None,
            why: Some("host unreachable".to_owned()),
            by: Some([192, 0, 2, 254].into()),
        };
        assert_eq!(
            lines(&Event::Connection(connection.clone())),
            ["  192.0.2.1:80: unreachable: host unreachable, says 192.0.2.254 after 1.500 ms"]
        );
        let result = HttpResult {
            connections: vec![connection],
            first_byte_us: Some(20_000),
            error: Some("no answer in time".to_owned()),
            ..HttpResult::default()
        };
        let lines = http(&result).join("\n");
        assert!(lines.contains("connect 1.500 ms, first byte 20.0 ms") && lines.contains("not whole: no"), "{lines}");
        let clock = NtpResult {
            server: "ntp".to_owned(),
            offset_us: Some(-90_061_000_000),
            delay_us: Some(812),
            kiss: Some("RATE".to_owned()),
            ..NtpResult::default()
        };
        let lines = ntp(&[clock]).join("\n");
        assert!(
            lines.contains("-90061.000 s") && lines.contains("0.812 ms") && lines.contains("asked too often"),
            "{lines}"
        );
    }
}
