//! Tests and their results as an engineer reads them.

use super::trace::Watched;
use crate::escape;
use crate::status::screen::table;
use raven_model::diag::{Answer, Event, MtuResult, PingResult, Rtt, Test};
use std::net::IpAddr;

/// What was shown so far decides what a line needs to say.
pub struct Shown {
    /// Several targets: each line says whose it is.
    several: bool,
    watched: Watched,
}

impl Shown {
    /// For this test, on a terminal or not.
    pub const fn new(test: &Test, terminal: bool) -> Self {
        let several = matches!(test, Test::Ping(test) if test.targets.len() > 1);
        let goes_on = matches!(test, Test::Trace(test) if test.watch.is_some());
        Self { several, watched: Watched::new(goes_on, terminal) }
    }

    /// For a result alone.
    pub const fn again() -> Self {
        Self { several: false, watched: Watched::new(false, false) }
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
            Event::TraceRound(round) => self.watched.round(round),
            Event::PathChanged(change) => self.watched.change(change),
            Event::Trace(result) => self.watched.result(result),
            Event::Mtu(result) => mtu(result),
            Event::Interval(_)
            | Event::Listening { .. }
            | Event::Served(_)
            | Event::ServedNot { .. }
            | Event::Bandwidth(_)
            | Event::BandwidthServer(_) => super::bw::lines(event),
            other => super::services::lines(other),
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
pub fn ms(us: u32) -> String {
    format!("{} ms", number(us))
}

/// The same without its unit.
pub fn number(us: u32) -> String {
    let ms = f64::from(us) / 1000.0;
    let digits = if us < 10_000 { 3 } else { 1 };
    format!("{ms:.digits$}")
}

fn who(by: Option<IpAddr>) -> String {
    by.map_or_else(|| "this box".to_owned(), |by| by.to_string())
}

pub(super) fn times(rtt: Option<&Rtt>) -> [String; 5] {
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
    lines.extend(notes(results));
    lines
}

/// What came of pings besides answers in time.
pub fn notes(results: &[PingResult]) -> Vec<String> {
    let mut lines = Vec::new();
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
    use raven_model::diag::Limit;

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
