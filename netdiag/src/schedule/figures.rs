//! What a result comes to: well or not, in numbers, in words. Of several targets or servers the worst counts.

use raven_model::diag::bw::{BandwidthResult, Datagrams};
use raven_model::diag::schedule::{Figures, Outcome};
use raven_model::diag::services::{Connection, DnsResult, DnsServer, HttpResult, NtpResult, TcpResult, Tls, TlsResult};
use raven_model::diag::{Event, MtuResult, PingResult, Rtt, TraceResult};

/// A result in short.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// [`Outcome::Well`] or [`Outcome::Bad`], as the exit code of the same test by hand says.
    pub outcome: Outcome,
    /// Why it is not well.
    pub why: Option<String>,
    /// In numbers.
    pub figures: Figures,
}

/// Sums a result up; what is no result of a test that can be scheduled comes to nothing.
pub fn summary(result: &Event) -> Option<Summary> {
    let (why, figures) = match result {
        Event::Ping(results) => ping(results),
        Event::Trace(result) => trace(result),
        Event::Mtu(result) => mtu(result),
        Event::Bandwidth(result) => bandwidth(result),
        Event::Dns(result) => dns(result),
        Event::Tcp(result) => tcp(result),
        Event::Tls(result) => tls(result),
        Event::Http(result) => http(result),
        Event::Ntp(results) => ntp(results),
        _ => return None,
    };
    let outcome = if result.is_well() { Outcome::Well } else { Outcome::Bad };
    // Its reason is told in short; that it is not well is true without one.
    let why = (outcome == Outcome::Bad).then(|| why.unwrap_or_else(|| "it is not well".to_owned()));
    Some(Summary { outcome, why, figures })
}

/// Times of a result that are no pings: those tell each one as it comes.
pub fn times_us(result: &Event) -> Vec<u32> {
    match result {
        Event::Dns(result) => result.servers.iter().filter_map(|server| server.time_us).collect(),
        Event::Ntp(results) => {
            results.iter().filter_map(|result| result.delay_us).map(|delay| u32::try_from(delay).unwrap_or(0)).collect()
        }
        Event::Trace(result) => {
            let last = result.hops.last().filter(|_| result.reached).and_then(|hop| hop.rtt);
            last.map(|rtt| rtt.p50_us).into_iter().collect()
        }
        other => summary(other).and_then(|summary| summary.figures.time_us).into_iter().collect(),
    }
}

type Told = (Option<String>, Figures);

/// What is so of the worst of several, and of whom.
fn named(name: &str, why: &str, several: bool) -> String {
    if several { format!("{name}: {why}") } else { why.to_owned() }
}

fn ping(results: &[PingResult]) -> Told {
    let silent = results.iter().find(|result| result.received == 0).map(|result| {
        let why = result.errors.keys().next().map_or("no answer", String::as_str);
        named(&result.target, why, results.len() > 1)
    });
    let loss = results
        .iter()
        .map(|result| result.loss)
        .fold(None, |worst: Option<f64>, loss| Some(worst.map_or(loss, |worst| worst.max(loss))));
    let rtt = results.iter().filter_map(|result| result.rtt).max_by_key(|rtt| rtt.p95_us);
    (silent, Figures { loss, rtt, ..Figures::default() })
}

fn trace(result: &TraceResult) -> Told {
    let why = (!result.reached).then(|| {
        let last = result.hops.iter().rev().find_map(|hop| hop.routers.first()).map(|router| router.address);
        last.map_or_else(|| "not reached, nobody answers".to_owned(), |last| format!("not reached, last {last}"))
    });
    let figures = Figures {
        rtt: result.hops.last().filter(|_| result.reached).and_then(|hop| hop.rtt),
        // A path that was cut short is no other path.
        path: result.reached.then(|| result.path_hash.clone()),
        hops: result.reached.then_some(result.hops.len() as u8),
        ..Figures::default()
    };
    (why, figures)
}

fn mtu(result: &MtuResult) -> Told {
    let why = match (result.mtu, result.black_hole) {
        (None, _) => Some("no answer".to_owned()),
        (Some(mtu), true) => Some(format!("packets of more than {mtu} bytes vanish, and nobody says so")),
        (Some(_), false) => None,
    };
    (why, Figures { mtu: result.mtu, ..Figures::default() })
}

fn bandwidth(result: &BandwidthResult) -> Told {
    let slowest = result.sums.iter().map(|sum| sum.received.bits_per_second).min_by(f64::total_cmp);
    let why = slowest.is_none_or(|rate| rate <= 0.0).then(|| "nothing came through".to_owned());
    let udp = result.sums.iter().filter_map(|sum| sum.udp.as_ref());
    let worst: Option<&Datagrams> = udp.max_by(|a, b| a.loss.total_cmp(&b.loss));
    (why, Figures { rate: slowest, loss: worst.map(|udp| udp.loss), ..Figures::default() })
}

fn dns(result: &DnsResult) -> Told {
    let several = result.servers.len() > 1;
    let why = result.servers.iter().find_map(|server| Some(named(&server.server, &of_server(server)?, several)));
    let why = why.or_else(|| result.servers.is_empty().then(|| "there is no name server".to_owned()));
    let time_us = result.servers.iter().filter_map(|server| server.time_us).max();
    (why, Figures { time_us, ..Figures::default() })
}

fn of_server(server: &DnsServer) -> Option<String> {
    match (&server.error, &server.untrusted, server.rcode.as_deref()) {
        (Some(error), ..) => Some(error.clone()),
        (_, Some(untrusted), _) => Some(format!("not to be trusted: {untrusted}")),
        (_, _, Some("NOERROR")) if server.answers.is_empty() => Some("no such record".to_owned()),
        (_, _, Some("NOERROR")) => None,
        (_, _, rcode) => Some(rcode.unwrap_or("no answer").to_owned()),
    }
}

/// Why nothing is connected, or how long it took with the name lookup.
fn connected(connections: &[Connection], resolve_us: u32) -> Result<u32, String> {
    let good = connections.iter().find(|connection| connection.words().is_none());
    let last = || connections.last().and_then(Connection::words).unwrap_or_else(|| "no address".to_owned());
    good.map(|connection| resolve_us.saturating_add(connection.time_us)).ok_or_else(last)
}

fn tcp(result: &TcpResult) -> Told {
    let connected = connected(&result.connections, result.resolve_us);
    let time_us = connected.as_ref().ok().copied();
    (connected.err(), Figures { time_us, ..Figures::default() })
}

fn of_tls(tls: &Tls) -> Option<String> {
    let because = [&tls.error, &tls.untrusted, &tls.misnamed].into_iter().find_map(Clone::clone);
    (!tls.verified).then(|| because.unwrap_or_else(|| "the certificate is not good".to_owned()))
}

fn days_left(tls: &Tls) -> Option<i64> {
    tls.chain.first().filter(|first| first.unread.is_none()).map(|first| first.days_left)
}

fn tls(result: &TlsResult) -> Told {
    let connected = connected(&result.connections, result.resolve_us);
    let done = result.tls.as_ref().filter(|tls| tls.error.is_none());
    let time_us = connected.as_ref().ok().zip(done).map(|(time, tls)| time.saturating_add(tls.handshake_us));
    let days_left = result.tls.as_ref().and_then(days_left);
    let why = match (connected, &result.tls) {
        (Err(why), _) => Some(why),
        (Ok(_), Some(tls)) => of_tls(tls),
        (Ok(_), None) => Some("no handshake".to_owned()),
    };
    (why, Figures { time_us, days_left, ..Figures::default() })
}

fn http(result: &HttpResult) -> Told {
    let broken = result.error.clone().or_else(|| result.tls.as_ref().and_then(of_tls));
    let why = broken.or_else(|| match result.status {
        Some(status) if status >= 400 => Some(format!("status {status}")),
        Some(_) if result.is_whole => None,
        Some(_) => Some("the response is not whole".to_owned()),
        None => Some(connected(&result.connections, 0).err().unwrap_or_else(|| "no response".to_owned())),
    });
    let time_us = result.is_whole.then_some(result.total_us);
    (why, Figures { time_us, days_left: result.tls.as_ref().and_then(days_left), ..Figures::default() })
}

fn of_clock(result: &NtpResult) -> Option<String> {
    let is_synchronised = result.leap.as_deref().is_some_and(|leap| leap != "unsynchronised");
    match (&result.error, &result.kiss) {
        (Some(error), _) => Some(error.clone()),
        (_, Some(kiss)) => Some(format!("does not want to be asked ({kiss})")),
        _ if result.received == 0 => Some("no answer".to_owned()),
        _ if !is_synchronised || !result.stratum.is_some_and(|stratum| (1..16).contains(&stratum)) => {
            Some("says of itself that it is not synchronised".to_owned())
        }
        _ => None,
    }
}

fn ntp(results: &[NtpResult]) -> Told {
    let several = results.len() > 1;
    let why = results.iter().find_map(|result| Some(named(&result.server, &of_clock(result)?, several)));
    let lost = |result: &NtpResult| {
        let missing = result.sent.saturating_sub(result.received);
        f64::from(missing) * 100.0 / f64::from(result.sent.max(1))
    };
    let figures = Figures {
        loss: results.iter().filter(|result| result.sent > 0).map(lost).max_by(f64::total_cmp),
        offset_us: results.iter().filter_map(|result| result.offset_us).max_by_key(|offset| offset.unsigned_abs()),
        rtt: results.iter().filter_map(|result| result.delay_us).max().and_then(of_delay),
        ..Figures::default()
    };
    (why, figures)
}

/// One time as round-trip times.
fn of_delay(delay_us: i64) -> Option<Rtt> {
    let us = u32::try_from(delay_us).ok()?;
    Some(Rtt { min_us: us, mean_us: us, p50_us: us, p95_us: us, p99_us: us, max_us: us, last_us: us, ..Rtt::default() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ping(target: &str, received: u32, loss: f64) -> PingResult {
        PingResult { target: target.to_owned(), sent: 5, received, loss, ..PingResult::default() }
    }

    #[test]
    fn the_worst_of_several_targets_counts() {
        let summary = summary(&Event::Ping(vec![ping("a", 5, 0.0), ping("b", 0, 100.0)])).unwrap();
        assert_eq!((summary.outcome, summary.figures.loss), (Outcome::Bad, Some(100.0)));
        assert_eq!(summary.why.as_deref(), Some("b: no answer"));
    }

    #[test]
    fn a_path_that_breaks_off_is_no_other_path() {
        let text = r#"{"target":"t","address":"192.0.2.1","method":"udp","reached":false,"hops":[],"paths":1,"path_hash":"00","changed":false}"#;
        let mut result: TraceResult = serde_json::from_str(text).unwrap();
        assert_eq!(trace(&result).1.path, None);
        result.reached = true;
        assert_eq!(trace(&result).1.path.as_deref(), Some("00"));
    }

    #[test]
    fn what_cannot_be_scheduled_comes_to_nothing() {
        assert_eq!(summary(&Event::Listening { port: 1, left_today: None }), None);
    }

    #[test]
    fn a_clock_that_is_not_synchronised_is_not_well() {
        let mut clock =
            NtpResult { sent: 4, received: 4, leap: Some("none".to_owned()), stratum: Some(2), ..NtpResult::default() };
        (clock.offset_us, clock.delay_us) = (Some(-7), Some(900));
        let far = NtpResult { offset_us: Some(5), ..clock.clone() };
        let told = summary(&Event::Ntp(vec![clock.clone(), far])).unwrap();
        assert_eq!((told.outcome, told.figures.offset_us, told.figures.loss), (Outcome::Well, Some(-7), Some(0.0)));
        clock.leap = Some("unsynchronised".to_owned());
        assert_eq!(summary(&Event::Ntp(vec![clock])).unwrap().outcome, Outcome::Bad);
    }
}
