//! Tests and their results as an engineer reads them.

use crate::escape;
use crate::status::screen::table;
use raven_model::diag::{Answer, Event, Hop, MtuResult, PingResult, Rtt, Test, TraceResult};
use std::net::IpAddr;

/// What was shown so far decides what a line needs to say.
pub struct Shown {
    /// Several targets: each line says whose it is.
    several: bool,
}

impl Shown {
    /// For this test.
    pub const fn new(test: &Test) -> Self {
        Self { several: matches!(test, Test::Ping(test) if test.targets.len() > 1) }
    }

    /// Lines that an event is worth.
    pub fn lines(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::Target { target, address } => self.target(target, *address),
            Event::Answer(answer) => vec![self.answer(answer)],
            Event::Lost { target, sequence } => {
                vec![format!("{}seq {sequence}: no answer in time", self.whose(target))]
            }
            Event::Unreachable { target, sequence, by, why } => {
                let by = by.map(|by| format!(", says {by}")).unwrap_or_default();
                vec![format!("{}seq {sequence}: {}{by}", self.whose(target), escape::text(why))]
            }
            Event::Hop(_) => Vec::new(),
            Event::Length { bytes, fits, limit } => {
                let said = limit.map(|limit| format!(": {} says {}", who(limit.by), limit.mtu)).unwrap_or_default();
                vec![format!("  {bytes} bytes {}{said}", if *fits { "get there" } else { "do not" })]
            }
            Event::Ping(results) => pings(results),
            Event::Trace(result) => trace(result),
            Event::Mtu(result) => mtu(result),
        }
    }

    fn whose(&self, target: &str) -> String {
        if self.several { format!("{}  ", escape::text(target)) } else { "  ".to_owned() }
    }

    fn target(&self, target: &str, address: IpAddr) -> Vec<String> {
        let is_literal = target.parse::<IpAddr>().is_ok();
        if self.several || is_literal { Vec::new() } else { vec![format!("{} is {address}", escape::text(target))] }
    }

    fn answer(&self, answer: &Answer) -> String {
        let mut line = format!("{}seq {}: {}", self.whose(&answer.target), answer.sequence, ms(answer.rtt_us));
        if answer.duplicate {
            line = format!("{}seq {}: once more", self.whose(&answer.target), answer.sequence);
        }
        if answer.reordered {
            line.push_str(", after a later one");
        }
        line
    }
}

/// Milliseconds with three digits.
fn ms(us: u32) -> String {
    format!("{} ms", number(us))
}

fn number(us: u32) -> String {
    let ms = f64::from(us) / 1000.0;
    let digits = if us < 10_000 { 3 } else { 1 };
    format!("{ms:.digits$}")
}

fn who(by: Option<IpAddr>) -> String {
    by.map_or_else(|| "this box".to_owned(), |by| by.to_string())
}

fn times(rtt: Option<&Rtt>) -> [String; 5] {
    rtt.map_or_else(
        || std::array::from_fn(|_| "-".to_owned()),
        |rtt| [rtt.min_us, rtt.p50_us, rtt.p95_us, rtt.max_us, rtt.jitter_us].map(number),
    )
}

fn pings(results: &[PingResult]) -> Vec<String> {
    let row = |result: &PingResult| {
        let mut cells = vec![
            escape::text(&result.target),
            result.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
            result.sent.to_string(),
            result.received.to_string(),
            format!("{:.1} %", result.loss),
        ];
        cells.extend(times(result.rtt.as_ref()));
        cells
    };
    let heads = ["TARGET", "ADDRESS", "SENT", "RECEIVED", "LOSS", "MIN MS", "P50", "P95", "MAX", "JITTER"];
    let mut lines = table(&heads, results.iter().map(row));
    for result in results {
        let counted = [
            (result.duplicates, "came twice"),
            (result.reordered, "came out of order"),
            (result.late, "came too late"),
        ];
        let counted = counted.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
        let errors = result.errors.iter().map(|(why, n)| format!("{n} x {}", escape::text(why)));
        let all: Vec<String> = counted.chain(errors).collect();
        if !all.is_empty() {
            lines.push(format!("{}: {}", escape::text(&result.target), all.join(", ")));
        }
    }
    lines
}

fn trace(result: &TraceResult) -> Vec<String> {
    let row = |hop: &Hop| {
        let routers: Vec<String> = hop.routers.iter().map(|router| router.address.to_string()).collect();
        let said: Vec<&str> = hop.routers.iter().filter_map(|router| router.said.as_deref()).collect();
        let lost = f64::from(hop.sent - hop.received.min(hop.sent)) * 100.0 / f64::from(hop.sent.max(1));
        let loss = match (hop.received, hop.rate_limited) {
            (0, _) => "silent".to_owned(),
            (_, true) if lost > 0.0 => "rate limited".to_owned(),
            _ => format!("{lost:.0} %"),
        };
        let [min, p50, _, max, jitter] = times(hop.rtt.as_ref());
        let who = if routers.is_empty() { "*".to_owned() } else { routers.join(" ") };
        vec![hop.hop.to_string(), who, loss, min, p50, max, jitter, escape::text(&said.join(", "))]
    };
    let mut lines =
        table(&["HOP", "ADDRESS", "LOSS", "MIN MS", "P50", "MAX", "JITTER", "SAYS"], result.hops.iter().map(row));
    let target = escape::text(&result.target);
    lines.push(if result.reached {
        format!("{target} answers at hop {}", result.hops.len())
    } else {
        format!("{target} was not reached")
    });
    if result.paths > 1 {
        lines.push(format!("{} different ways by different flows", result.paths));
    }
    if result.changed {
        lines.push("the way changed meanwhile".to_owned());
    }
    lines.push(format!("path {}", result.path_hash));
    lines
}

fn mtu(result: &MtuResult) -> Vec<String> {
    let target = escape::text(&result.target);
    let Some(mtu) = result.mtu else {
        return vec![format!("{target} answers nothing, so nothing can be said of packets to it")];
    };
    let mut lines = vec![format!(
        "packets of {mtu} bytes get to {target}; TCP needs an MSS of {} or less",
        result.mss.unwrap_or_default()
    )];
    if let Some(link) = result.link_mtu.filter(|link| *link != u32::from(mtu)) {
        lines.push(format!("the first link takes {link}"));
    }
    if let Some(limit) = result.limit {
        lines.push(format!("{} says that {} is the most", who(limit.by), limit.mtu));
    }
    if result.black_hole {
        lines.push(
            "longer ones vanish and nobody says so: connections begin and stand still with the first long packet; somebody on the \
             way drops \"packet too big\" (ICMP type 3 code 4, ICMPv6 type 2), or the MSS must be lowered"
                .to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::diag::{Limit, Method, Router};

    #[test]
    fn a_trace_tells_a_rate_limited_hop_from_loss() {
        let hop = |hop, received, rate_limited| Hop {
            hop,
            routers: vec![Router { address: IpAddr::from([10, 0, 0, hop]), flows: vec![0], said: None }],
            sent: 10,
            received,
            rtt: Some(Rtt { min_us: 512, p50_us: 530, max_us: 12_345, ..Rtt::default() }),
            rate_limited,
        };
        let result = TraceResult {
            target: "noc".to_owned(),
            address: IpAddr::from([10, 0, 0, 3]),
            method: Method::Udp,
            reached: true,
            hops: vec![hop(1, 10, false), hop(2, 3, true), hop(3, 9, false)],
            paths: 1,
            path_hash: "0123".to_owned(),
            changed: false,
        };
        let lines = trace(&result).join("\n");
        assert!(lines.contains("rate limited") && lines.contains("10 %") && lines.contains("0.512"), "{lines}");
        assert!(lines.contains("12.3") && lines.contains("noc answers at hop 3"), "{lines}");
    }

    #[test]
    fn a_black_hole_says_what_to_do() {
        let result = MtuResult {
            target: "noc".to_owned(),
            address: IpAddr::from([10, 0, 0, 3]),
            mtu: Some(1420),
            link_mtu: Some(1500),
            mss: Some(1380),
            limit: Some(Limit { by: None, mtu: 1420 }),
            black_hole: true,
        };
        let lines = mtu(&result).join("\n");
        for part in ["1420 bytes", "MSS of 1380", "the first link takes 1500", "this box says", "vanish"] {
            assert!(lines.contains(part), "{part}: {lines}");
        }
    }
}
