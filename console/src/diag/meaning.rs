//! What a result means, in a line: whether all is well, and else where to look.

use super::bw::{self, speed};
use super::shown::ms;
use crate::escape;
use raven_model::diag::bw::{BandwidthResult, Transfer, Transport};
use raven_model::diag::services::{Connection, DnsResult, HttpResult, NtpResult, Outcome, TcpResult, Tls, TlsResult};
use raven_model::diag::{Event, MtuResult, PingResult, TraceResult};

/// Above it the box was measured, and not the network: percent of one processor.
const BUSY: f64 = 90.0;
/// Above it a clock is wrong, microseconds: certificates and logs are.
const CLOCK: u64 = 1_000_000;

/// How a result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Good,
    /// It works, and something is odd.
    Odd,
    /// It is not well.
    Bad,
}

/// What a result means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// In a word.
    pub verdict: Verdict,
    /// In a line without anything that a terminal obeys.
    pub words: String,
}

/// Of a result; of another event nothing.
pub fn of(result: &Event) -> Meaning {
    let (oddity, words) = match result {
        Event::Ping(results) => pings(results),
        Event::Trace(result) => trace(result),
        Event::Mtu(result) => mtu(result),
        Event::Bandwidth(result) => bandwidth(result),
        Event::Dns(result) => dns(result),
        Event::Tcp(result) => tcp(result),
        Event::Tls(result) => tls(result),
        Event::Http(result) => http(result),
        Event::Ntp(results) => ntp(results),
        _ => (false, String::new()),
    };
    let verdict = match (result.is_well(), oddity) {
        (false, _) => Verdict::Bad,
        (true, true) => Verdict::Odd,
        (true, false) => Verdict::Good,
    };
    Meaning { verdict, words: escape::text(&words) }
}

/// What to do about words of ICMP and of the kernel.
fn remedy(why: &str) -> &'static str {
    match why {
        why if why.contains("ARP") || why.contains("neighbour") => {
            "look at its power, its cable, the VLAN, the address"
        }
        why if why.contains("prohibited") || why.contains("permitted") => "a firewall forbids it",
        why if why.contains("network unreachable") || why.contains("no route") => {
            "there is no route: has this box an address and a gateway?"
        }
        why if why.contains("name") => "is a name server reached? the test dns tells",
        _ => "trace tells who says so",
    }
}

fn pings(results: &[PingResult]) -> (bool, String) {
    let silent: Vec<&PingResult> = results.iter().filter(|result| result.received == 0).collect();
    let sum = |count: fn(&PingResult) -> u32| results.iter().map(|result| u64::from(count(result))).sum::<u64>();
    let (sent, received) = (sum(|result| result.sent), sum(|result| result.received));
    if let Some(first) = silent.first() {
        let who = match silent.len() {
            1 => format!("{} answers nothing", first.target),
            many if many == results.len() => format!("none of {many} targets answers"),
            many => format!("{many} of {} targets answer nothing, {} first", results.len(), first.target),
        };
        let why = first.errors.iter().max_by_key(|(_, n)| **n).map(|(why, _)| why);
        let why = why.map_or_else(
            || "it is off, it or a firewall drops pings, or the way is broken: trace tells where".to_owned(),
            |why| format!("{why}; {}", remedy(why)),
        );
        return (false, format!("{who}: {why}"));
    }
    let lossy = results.iter().filter(|result| result.loss > 0.0).max_by(|a, b| a.loss.total_cmp(&b.loss));
    if let Some(worst) = lossy {
        let words = format!(
            "{:.1} % of the pings to {} are lost: look for a full link, a bad cable, radio; trace tells where",
            worst.loss, worst.target
        );
        return (true, words);
    }
    let mean = results.iter().filter_map(|result| result.rtt).map(|rtt| rtt.mean_us).max();
    let at_most = if results.len() > 1 { "at most " } else { "" };
    let time = mean.map_or_else(String::new, |us| format!(", {at_most}{} on average", ms(us)));
    (false, format!("{received} of {sent} answered{time}"))
}

fn trace(result: &TraceResult) -> (bool, String) {
    let TraceResult { target, hops, .. } = result;
    if !result.reached {
        let last = hops.iter().rev().find_map(|hop| Some((hop.hop, hop.routers.first()?)));
        let words = match last {
            None => {
                "nobody answers, not even the first router: has this box an address, a link and a gateway?".to_owned()
            }
            Some((hop, router)) => {
                let said = router.said.as_ref().map(|said| format!(", which says: {said}")).unwrap_or_default();
                format!("it ends behind hop {hop}, {}{said}; look there, or a firewall drops it", router.address)
            }
        };
        return (false, format!("{target} was not reached: {words}"));
    }
    let lost = hops.last().filter(|hop| hop.received < hop.sent && !hop.rate_limited);
    if let Some(hop) = lost {
        let first = hops.iter().position(|hop| hop.received < hop.sent && hop.received > 0 && !hop.rate_limited);
        let first = first.map_or(hop.hop, |at| hops[at].hop);
        let share = u64::from(hop.sent - hop.received) * 100 / u64::from(hop.sent.max(1));
        return (true, format!("{share} % lost on the way to {target}, from hop {first} on"));
    }
    let changed = if result.changed { ", and the way changed meanwhile" } else { "" };
    (result.changed, format!("{target} is reached at hop {}{changed}", hops.len()))
}

fn mtu(result: &MtuResult) -> (bool, String) {
    let target = &result.target;
    match result.mtu {
        None => (false, format!("{target} answers nothing: ping tells more")),
        Some(mtu) if result.black_hole => (
            false,
            format!(
                "packets over {mtu} bytes vanish: TCP will stand still; lower the MSS, or let ICMP \"too big\" through"
            ),
        ),
        Some(mtu) => {
            let is_less = result.link_mtu.is_some_and(|link| link > u32::from(mtu));
            let less = if is_less { ", less than the first link takes, and somebody says so: that works" } else { "" };
            (is_less, format!("packets of {mtu} bytes get to {target}{less}"))
        }
    }
}

fn bandwidth(result: &BandwidthResult) -> (bool, String) {
    if !result.is_well() {
        return (
            false,
            "nothing came through: does iperf3 or a Raven serve there, and does a firewall let it?".to_owned(),
        );
    }
    let word = |sum: &Transfer| format!("{} {}", bw::arrow(sum.direction), speed(sum.received.bits_per_second));
    let mut words = result.sums.iter().map(word).collect::<Vec<_>>().join(", ");
    let loss = result.sums.iter().filter_map(|sum| sum.udp).map(|udp| udp.loss).fold(0.0, f64::max);
    let is_busy = result.cpu.total() > BUSY || result.remote_cpu.total() > BUSY;
    if is_busy {
        words.push_str(": a processor was at its end, so this is the box and not the network");
    } else if result.transport == Transport::Udp && loss >= 0.01 {
        words = format!("{words}: {loss:.2} % lost, the way does not take that rate");
    }
    (is_busy || loss >= 0.01, words)
}

fn dns(result: &DnsResult) -> (bool, String) {
    let DnsResult { name, record, servers } = result;
    let all = servers.len();
    let wrong = servers.iter().find(|server| server.rcode.as_deref() != Some("NOERROR") || server.answers.is_empty());
    if let Some(server) = wrong {
        let who = &server.server;
        let words = match server.rcode.as_deref() {
            None => {
                let why = server.error.as_deref().unwrap_or("no answer");
                format!("{who}: {why}; is it reached (ping), and is port 53 let through?")
            }
            Some("NOERROR") => format!("{who}: {name} has no {} record", record.name()),
            Some("NXDOMAIN") => {
                format!("{who}: there is no {name}: mistyped, or this server does not know the venue's names")
            }
            Some("REFUSED") => format!("{who} refuses: it does not serve this box's network"),
            Some("SERVFAIL") => format!("{who} fails: it reaches nobody who knows, or DNSSEC does not hold"),
            Some(other) => format!("{who}: {other}"),
        };
        return (false, words);
    }
    if let Some(server) = servers.iter().find(|server| server.untrusted.is_some()) {
        return (false, format!("{}: its certificate is not to be trusted", server.server));
    }
    if let Some(server) = servers.iter().find(|server| server.ignored.sum() > 0) {
        let n = server.ignored.sum();
        return (true, format!("{}: {n} answers were none of its own: somebody answers in its place?", server.server));
    }
    if servers.is_empty() {
        return (true, "this box has no name server".to_owned());
    }
    let slowest = servers.iter().filter_map(|server| server.time_us).max().unwrap_or_default();
    (false, format!("{name}: {all} of {all} servers answer, after {} at most", ms(slowest)))
}

/// Why nothing is connected.
fn unconnected(connections: &[Connection]) -> String {
    let Some(last) = connections.last() else { return "its name does not resolve: the test dns tells why".to_owned() };
    let hint = match last.outcome {
        Outcome::Connected => return String::new(),
        Outcome::Refused => "it is there, and nobody listens at this port",
        Outcome::Timeout => "nobody says anything: a firewall drops it, or the way is broken",
        Outcome::Unreachable => "there is no way to it",
        Outcome::Failed => "this box cannot try",
    };
    format!("{}: {}; {hint}", last.address, last.words().unwrap_or_default())
}

fn tcp(result: &TcpResult) -> (bool, String) {
    let is_connected = |connection: &&Connection| connection.outcome == Outcome::Connected;
    let all = result.connections.len();
    let connected = result.connections.iter().filter(is_connected).count();
    match result.connections.iter().find(is_connected) {
        None => (false, unconnected(&result.connections)),
        Some(_) if connected < all => {
            let rest: Vec<Connection> =
                result.connections.iter().filter(|it| !is_connected(it)).take(1).cloned().collect();
            (true, format!("{connected} of {all} addresses are connected; {}", unconnected(&rest)))
        }
        Some(first) => (false, format!("connected after {}", ms(first.time_us))),
    }
}

/// What is wrong with a handshake.
fn handshake(tls: &Tls) -> Option<String> {
    if let Some(error) = &tls.error {
        return Some(format!("no TLS: {error}"));
    }
    let why = tls.untrusted.as_ref().map(|why| format!("not to be trusted: {why}"));
    let name = tls.misnamed.as_ref().map(|why| format!("wrong name: {why}"));
    let all: Vec<String> = why.into_iter().chain(name).collect();
    (!all.is_empty()).then(|| format!("the certificate is {}; is this box's clock right?", all.join(", ")))
}

/// A certificate that ends soon.
fn ends(tls: &Tls) -> Option<String> {
    let left = tls.chain.iter().filter(|it| it.unread.is_none()).map(|it| it.days_left).min()?;
    (left < 14).then(|| format!("a certificate ends in {left} days"))
}

fn tls(result: &TlsResult) -> (bool, String) {
    let Some(tls) = &result.tls else { return (false, unconnected(&result.connections)) };
    match (handshake(tls), ends(tls)) {
        (Some(why), _) => (false, why),
        (None, Some(soon)) => (true, soon),
        (None, None) => {
            let version = tls.version.as_deref().unwrap_or("TLS");
            (false, format!("{version} after {}, the certificate is good", ms(tls.handshake_us)))
        }
    }
}

fn http(result: &HttpResult) -> (bool, String) {
    if let Some(why) = result.tls.as_ref().and_then(handshake) {
        return (false, why);
    }
    let Some(status) = result.status else {
        let is_connected = result.connections.iter().any(|it| it.outcome == Outcome::Connected);
        let why = result.error.clone().unwrap_or_else(|| "no answer".to_owned());
        return (false, if is_connected { why } else { unconnected(&result.connections) });
    };
    let all = ms(result.total_us);
    match (status, &result.error) {
        (_, Some(why)) => (false, format!("{status}, and not whole: {why}")),
        (500.., None) => (false, format!("{status}: the server has a problem of its own")),
        (400.., None) => (false, format!("{status}: the server does not do that")),
        (300..400, None) => (true, format!("{status}: it sends on to somewhere else, which was not followed; {all}")),
        _ => (false, format!("{status}, all of it after {all}")),
    }
}

fn ntp(results: &[NtpResult]) -> (bool, String) {
    for result in results {
        let who = &result.server;
        if result.received == 0 {
            let why = result.error.as_deref().unwrap_or("no answer");
            return (false, format!("{who}: {why}; is it reached (ping), and is UDP port 123 let through?"));
        }
        if let Some(code) = &result.kiss {
            return (false, format!("{who} does not want to be asked: {code}"));
        }
        if result.leap.as_deref().is_none_or(|leap| leap == "unsynchronised") || result.stratum.is_none_or(|it| it > 15)
        {
            return (false, format!("{who} does not know the time itself: it is not synchronised"));
        }
    }
    let offset = results.iter().filter_map(|result| result.offset_us).max_by_key(|offset| offset.unsigned_abs());
    match offset {
        Some(us) if us.unsigned_abs() > CLOCK => {
            let (seconds, way) = (us.unsigned_abs() / 1_000_000, if us > 0 { "behind" } else { "ahead" });
            (true, format!("this box's clock is {seconds} s {way}"))
        }
        Some(us) => {
            (false, format!("{} of {} answer; the clock is off by {} ms", results.len(), results.len(), us / 1000))
        }
        None => (true, "nobody said the time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::diag::services::RecordType;
    use raven_model::diag::{Hop, Method, Router, Rtt};
    use std::collections::BTreeMap;

    fn ping(target: &str, sent: u32, received: u32, errors: &[(&str, u32)]) -> PingResult {
        PingResult {
            target: target.to_owned(),
            sent,
            received,
            loss: f64::from(sent - received) * 100.0 / f64::from(sent),
            rtt: (received > 0).then(|| Rtt { mean_us: 512, ..Rtt::default() }),
            errors: errors.iter().map(|(why, n)| ((*why).to_owned(), *n)).collect::<BTreeMap<_, _>>(),
            ..PingResult::default()
        }
    }

    fn said(event: &Event) -> (Verdict, String) {
        let meaning = of(event);
        (meaning.verdict, meaning.words)
    }

    #[test]
    fn pings_that_are_lost_are_told_with_where_to_look() {
        let (verdict, words) = said(&Event::Ping(vec![ping("10.0.0.1", 10, 10, &[])]));
        assert_eq!((verdict, words.as_str()), (Verdict::Good, "10 of 10 answered, 0.512 ms on average"));
        let (verdict, words) = said(&Event::Ping(vec![ping("10.0.0.1", 10, 9, &[]), ping("10.0.0.2", 10, 10, &[])]));
        assert!(verdict == Verdict::Odd && words.starts_with("10.0 % of the pings to 10.0.0.1 are lost"), "{words}");
        let why = [("no answer to ARP or neighbour discovery", 10)];
        let (verdict, words) = said(&Event::Ping(vec![ping("10.0.0.\u{1b}[2J", 10, 0, &why)]));
        assert!(verdict == Verdict::Bad && words.contains("the VLAN") && !words.contains('\u{1b}'), "{words}");
        let (_, words) = said(&Event::Ping(vec![ping("a", 1, 0, &[]), ping("b", 1, 1, &[]), ping("c", 1, 0, &[])]));
        assert!(words.starts_with("2 of 3 targets answer nothing, a first"), "{words}");
    }

    #[test]
    fn a_trace_that_ends_names_the_last_who_answered() {
        let hop = |hop, received, said: Option<&str>, rate_limited| Hop {
            hop,
            routers: (received > 0)
                .then(|| Router {
                    address: [10, 0, 0, hop].into(),
                    name: None,
                    flows: vec![0],
                    said: said.map(str::to_owned),
                })
                .into_iter()
                .collect(),
            sent: 10,
            received,
            rtt: None,
            rate_limited,
        };
        let result = |reached, hops| {
            let target = "noc".to_owned();
            let (address, method, path_hash) = ([10, 0, 0, 9].into(), Method::Udp, String::new());
            Event::Trace(TraceResult {
                target,
                address,
                method,
                reached,
                hops,
                paths: 1,
                path_hash,
                changed: false,
                changes: 0,
            })
        };
        let (verdict, words) = said(&result(
            false,
            vec![hop(1, 10, None, false), hop(2, 10, Some("host unreachable"), false), hop(3, 0, None, false)],
        ));
        assert!(
            verdict == Verdict::Bad && words.contains("behind hop 2, 10.0.0.2, which says: host unreachable"),
            "{words}"
        );
        let (_, words) = said(&result(false, vec![hop(1, 0, None, false)]));
        assert!(words.contains("not even the first router"), "{words}");
        let limited = vec![hop(1, 10, None, false), hop(2, 3, None, true), hop(3, 10, None, false)];
        assert_eq!(said(&result(true, limited)), (Verdict::Good, "noc is reached at hop 3".to_owned()));
        let lossy = vec![hop(1, 10, None, false), hop(2, 8, None, false), hop(3, 8, None, false)];
        assert_eq!(said(&result(true, lossy)), (Verdict::Odd, "20 % lost on the way to noc, from hop 2 on".to_owned()));
    }

    #[test]
    fn services_that_are_not_as_they_should_be_are_told_in_a_line() {
        let connection = |outcome| Connection {
            address: ([192, 0, 2, 1], 443).into(),
            outcome,
            time_us: 900,
            source: None,
            why: None,
            by: None,
        };
        let tcp = |outcomes: &[Outcome]| {
            let connections = outcomes.iter().map(|outcome| connection(*outcome)).collect();
            said(&Event::Tcp(TcpResult { target: "noc".to_owned(), port: 443, resolve_us: 1, connections }))
        };
        assert_eq!(tcp(&[Outcome::Connected]), (Verdict::Good, "connected after 0.900 ms".to_owned()));
        assert!(tcp(&[Outcome::Refused]).1.contains("nobody listens at this port"));
        let (verdict, words) = tcp(&[Outcome::Timeout, Outcome::Connected]);
        assert!(
            verdict == Verdict::Odd && words.contains("1 of 2") && words.contains("a firewall drops it"),
            "{words}"
        );
        let tls = Tls { untrusted: Some("a certificate has expired".to_owned()), ..Tls::default() };
        let connections = vec![connection(Outcome::Connected)];
        let result = TlsResult { target: "noc".to_owned(), port: 443, resolve_us: 1, connections, tls: Some(tls) };
        let (verdict, words) = said(&Event::Tls(result));
        assert!(verdict == Verdict::Bad && words.contains("has expired") && words.contains("clock"), "{words}");
        let result = DnsResult { name: "noc".to_owned(), record: RecordType::A, servers: Vec::new() };
        assert!(said(&Event::Dns(result)).1.contains("no name server"));
        let http = HttpResult { status: Some(503), is_whole: true, ..HttpResult::default() };
        assert!(said(&Event::Http(http)).1.starts_with("503: the server has a problem"));
        let ntp = NtpResult {
            server: "ntp".to_owned(),
            received: 4,
            offset_us: Some(-90_000_000),
            stratum: Some(2),
            leap: Some("none".to_owned()),
            ..NtpResult::default()
        };
        assert_eq!(said(&Event::Ntp(vec![ntp])), (Verdict::Odd, "this box's clock is 90 s ahead".to_owned()));
    }
}
