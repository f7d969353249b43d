//! The way to each destination, measured: loss and times, the routers, how long packets may be.

use super::report::{Check, Path, Verdict};
use crate::client::Client;
use crate::why::facts::{Facts, Target, make, make_with};
use raven_model::diag::{Event, Method, MtuResult, MtuTest, PingResult, PingTest, Test, TraceResult, TraceTest};
use std::collections::BTreeSet;
use std::thread;

/// Pings to each, and between two, milliseconds.
const PINGS: (u32, u32) = (50, 100);
/// A way that loses more of them is not fit for use, percent.
const LOSS: f64 = 2.0;

/// What was measured, and what is to be said of it.
pub fn paths(facts: &Facts, client: &Client) -> (Vec<Path>, Vec<Check>) {
    let mut seen = BTreeSet::new();
    let targets: Vec<&Target> =
        facts.tests.targets.iter().filter(|target| seen.insert((&target.host, &target.way.interface))).collect();
    let paths: Vec<Path> = thread::scope(|scope| {
        let all: Vec<_> = targets.iter().map(|target| scope.spawn(|| path(client, target))).collect();
        all.into_iter().filter_map(|path| path.join().ok()).collect()
    });
    if paths.is_empty() {
        let why = if facts.config.uplink.is_empty() {
            "no destination is configured"
        } else {
            "no destination can be reached: see above"
        };
        return (paths, vec![Check::untested("ping", why)]);
    }
    let checks = paths.iter().flat_map(|path| [ping(path), route(path), length(path)]).collect();
    (paths, checks)
}

fn path(client: &Client, target: &Target) -> Path {
    let (host, way) = (&target.host, &target.way);
    thread::scope(|scope| {
        let trace = scope.spawn(|| {
            let test = TraceTest {
                target: host.clone(),
                way: way.clone(),
                method: Method::Icmp,
                port: None,
                hops: 20,
                rounds: 3,
                flows: 1,
                interval_ms: 200,
                timeout_ms: 1000,
                names: false,
                watch: None,
            };
            match make(client, &Test::Trace(test)) {
                Ok(Event::Trace(result)) => Some(result),
                _ => None,
            }
        });
        let (rtts_us, ping) = pings(client, target);
        let test = MtuTest { target: host.clone(), way: way.clone(), timeout_ms: 500, tries: 2 };
        let mtu = match make(client, &Test::Mtu(test)) {
            Ok(Event::Mtu(result)) => Some(result),
            _ => None,
        };
        let trace = trace.join().ok().flatten();
        Path { destination: target.destination.clone(), host: host.clone(), rtts_us, ping, trace, mtu }
    })
}

fn pings(client: &Client, target: &Target) -> (Vec<Option<u32>>, Option<PingResult>) {
    let (count, interval_ms) = PINGS;
    let test = PingTest {
        targets: vec![target.host.clone()],
        way: target.way.clone(),
        count,
        interval_ms,
        timeout_ms: 1000,
        size: 56,
        dscp: 0,
        dont_fragment: false,
        each: true,
    };
    let mut rtts = vec![None; count as usize];
    let result = make_with(client, &Test::Ping(test), |event| {
        if let Event::Answer(answer) = event
            && let Some(place) = rtts.get_mut(answer.sequence as usize)
        {
            *place = place.or(Some(answer.rtt_us));
        }
    });
    match result {
        Ok(Event::Ping(mut results)) => (rtts, results.pop()),
        _ => (Vec::new(), None),
    }
}

fn subject(path: &Path) -> String {
    format!("{} ({})", path.destination, path.host)
}

fn milliseconds(us: u32) -> String {
    format!("{:.1} ms", f64::from(us) / 1000.0)
}

fn ping(path: &Path) -> Check {
    let Some(result) = &path.ping else {
        return Check::new("ping", &subject(path), Verdict::Untested, "no test could be made", "");
    };
    let times = result.rtt.map_or_else(String::new, |rtt| {
        format!(
            "; median {}, 95 of 100 within {}, jitter {}",
            milliseconds(rtt.p50_us),
            milliseconds(rtt.p95_us),
            milliseconds(rtt.jitter_us)
        )
    });
    let evidence = format!("{} of {} answered{times}", result.received, result.sent);
    let subject = subject(path);
    match result.loss {
        _ if result.received == 0 => {
            Check::new("ping", &subject, Verdict::Untested, evidence, "it answers no pings: mostly it is told not to")
        }
        loss if loss > LOSS => Check::new(
            "ping",
            &subject,
            Verdict::Fail,
            evidence,
            "look for the router behind which packets are lost: `raven trace`",
        ),
        loss if loss > 0.0 => {
            Check::new("ping", &subject, Verdict::Look, evidence, "few are lost: look again under load")
        }
        _ => Check::new("ping", &subject, Verdict::Pass, evidence, ""),
    }
}

fn route(path: &Path) -> Check {
    let subject = subject(path);
    match &path.trace {
        Some(TraceResult { reached: true, hops, .. }) => {
            Check::new("trace", &subject, Verdict::Pass, format!("{} hops", hops.len()), "")
        }
        Some(TraceResult { hops, .. }) => {
            let last = hops.iter().rev().find_map(|hop| hop.routers.first());
            let evidence = last
                .map_or_else(|| "no router answers".to_owned(), |router| format!("seen as far as {}", router.address));
            Check::new("trace", &subject, Verdict::Look, evidence, "what lies behind answers no probes")
        }
        None => Check::new("trace", &subject, Verdict::Untested, "no test could be made", ""),
    }
}

fn length(path: &Path) -> Check {
    let subject = subject(path);
    match &path.mtu {
        Some(MtuResult { mtu: Some(mtu), mss, black_hole, .. }) => {
            let mss = mss.map_or_else(String::new, |mss| format!(", MSS {mss}"));
            if *black_hole {
                let remedy = "have whoever runs the way let ICMP \"packet too big\" through, or lower the MTU of the link or the MSS";
                return Check::new(
                    "mtu",
                    &subject,
                    Verdict::Fail,
                    format!("packets longer than {mtu} bytes vanish{mss}"),
                    remedy,
                );
            }
            Check::new("mtu", &subject, Verdict::Pass, format!("{mtu} bytes{mss}"), "")
        }
        _ => Check::new("mtu", &subject, Verdict::Untested, "it answers no pings", ""),
    }
}
