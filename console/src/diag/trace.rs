//! `raven trace`: the way to a target, once, or again and again.

use super::shown::{number, times};
use super::{WayArgs, milliseconds, run};
use crate::client::Client;
use crate::escape;
use crate::failure::Failure;
use crate::output::Output;
use crate::status::screen::table;
use clap::Args;
use raven_model::diag::trace::{PathChanged, TraceRound, Watch};
use raven_model::diag::{Hop, Method, Router, Test, TraceResult, TraceTest};
use raven_model::units::Span;
use std::time::Duration;

/// `raven trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// A name or an address
    target: String,
    /// By echo requests instead of UDP
    #[arg(long, conflicts_with_all = ["port", "flows", "tcp"])]
    icmp: bool,
    /// By beginnings of TCP connections to this port [default: 443]
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "443", conflicts_with = "port")]
    tcp: Option<u16>,
    /// UDP port [default: 33434]
    #[arg(short, long)]
    port: Option<u16>,
    /// Flows: several show several ways
    #[arg(short, long, default_value = "1")]
    flows: u8,
    /// Probes to each hop, by each flow
    #[arg(short, long, default_value = "3", conflicts_with = "watch")]
    count: u8,
    /// Hops at most
    #[arg(short = 'm', long, default_value = "30")]
    hops: u8,
    /// Between two rounds [default: none, with --watch 1s]
    #[arg(short, long)]
    interval: Option<Span>,
    /// An answer that takes longer is none
    #[arg(short = 'W', long, default_value = "1s")]
    timeout: Span,
    /// Ask for no names
    #[arg(short = 'n', long)]
    no_names: bool,
    /// Go on, count at each hop, and tell when the way changes
    #[arg(long)]
    watch: bool,
    /// Go on for so long, a week at most
    #[arg(long = "for", value_name = "TIME", requires = "watch")]
    duration: Option<Span>,
    #[command(flatten)]
    way: WayArgs,
}

/// Runs `raven trace`.
pub fn trace(args: TraceArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let ndjson = args.way.ndjson;
    run(&Test::Trace(test(args)), ndjson, client, output)
}

fn test(args: TraceArgs) -> TraceTest {
    let method = match (args.icmp, args.tcp) {
        (true, _) => Method::Icmp,
        (_, Some(_)) => Method::Tcp,
        _ => Method::Udp,
    };
    let usual = Span(Duration::from_millis(if args.watch { 1000 } else { 0 }));
    let seconds = args.duration.map(|span| u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX));
    TraceTest {
        target: args.target,
        way: args.way.way(),
        method,
        port: args.tcp.or(args.port),
        hops: args.hops,
        rounds: args.count,
        flows: args.flows,
        interval_ms: milliseconds(args.interval.unwrap_or(usual)),
        timeout_ms: milliseconds(args.timeout),
        names: !args.no_names,
        watch: args.watch.then_some(Watch { seconds }),
    }
}

/// What is shown of a trace, which may go on.
pub struct Watched {
    goes_on: bool,
    terminal: bool,
    /// Lines that the next table replaces.
    drawn: usize,
    /// The next table shows something new.
    is_new: bool,
}

impl Watched {
    /// Of one that goes on or not, on a terminal or not.
    pub const fn new(goes_on: bool, terminal: bool) -> Self {
        Self { goes_on, terminal, drawn: 0, is_new: true }
    }

    /// The table, in place of the one before on a terminal; elsewhere the first one and those behind a change.
    pub fn round(&mut self, round: &TraceRound) -> Vec<String> {
        if !self.terminal && !std::mem::replace(&mut self.is_new, false) {
            return Vec::new();
        }
        let mut lines = counted(&round.hops);
        lines.push(format!("round {}, path {}", round.round, round.path_hash));
        let drawn = if self.terminal { lines.len() } else { 0 };
        self.instead(&mut lines);
        self.drawn = drawn;
        lines
    }

    /// A line that stays.
    pub fn change(&mut self, change: &PathChanged) -> Vec<String> {
        let at = |hops: &[Option<std::net::IpAddr>]| match hops.get(usize::from(change.hop.saturating_sub(1))) {
            Some(Some(address)) => address.to_string(),
            Some(None) => "*".to_owned(),
            None => "nobody".to_owned(),
        };
        let mut lines = vec![format!(
            "round {}: flow {} goes another way from hop {} on: {} instead of {}, path {} instead of {}",
            change.round,
            change.flow,
            change.hop,
            at(&change.to.hops),
            at(&change.from.hops),
            escape::text(&change.to.hash),
            escape::text(&change.from.hash),
        )];
        self.is_new = true;
        self.instead(&mut lines);
        lines
    }

    /// What came of it.
    pub fn result(&mut self, result: &TraceResult) -> Vec<String> {
        let table = if self.goes_on { counted(&result.hops) } else { timed(result.hops.iter()) };
        let mut lines = [table, summed(result)].concat();
        self.instead(&mut lines);
        lines
    }

    /// The lines before are taken from the terminal.
    fn instead(&mut self, lines: &mut [String]) {
        if let (Some(first), 1..) = (lines.first_mut(), self.drawn) {
            *first = format!("\x1b[{}A\x1b[J{first}", self.drawn);
        }
        self.drawn = 0;
    }
}

fn who(router: &Router) -> String {
    match &router.name {
        Some(name) => format!("{} ({})", escape::text(name), router.address),
        None => router.address.to_string(),
    }
}

fn routers(hop: &Hop) -> String {
    if hop.routers.is_empty() { "*".to_owned() } else { hop.routers.iter().map(who).collect::<Vec<_>>().join(" ") }
}

fn lost(hop: &Hop) -> f64 {
    f64::from(hop.sent - hop.received.min(hop.sent)) * 100.0 / f64::from(hop.sent.max(1))
}

fn loss(hop: &Hop) -> String {
    match (hop.received, hop.rate_limited) {
        (0, _) => "silent".to_owned(),
        (_, true) if lost(hop) > 0.0 => "rate limited".to_owned(),
        _ => format!("{:.0} %", lost(hop)),
    }
}

fn said(hop: &Hop) -> String {
    let said: Vec<&str> = hop.routers.iter().filter_map(|router| router.said.as_deref()).collect();
    escape::text(&said.join(", "))
}

/// As mtr has them.
fn counted(hops: &[Hop]) -> Vec<String> {
    let row = |hop: &Hop| {
        let rtt = hop.rtt.as_ref();
        let times = rtt.map(|rtt| [rtt.last_us, rtt.mean_us, rtt.min_us, rtt.max_us, rtt.stdev_us].map(number));
        let mut cells = vec![hop.hop.to_string(), routers(hop), loss(hop), hop.sent.to_string()];
        cells.extend(times.unwrap_or_else(|| std::array::from_fn(|_| "-".to_owned())));
        cells.push(said(hop));
        cells
    };
    let heads = ["HOP", "ADDRESS", "LOSS", "SENT", "LAST MS", "AVG", "BEST", "WORST", "STDEV", "SAYS"];
    table(&heads, hops.iter().map(row))
}

/// The table of hops of a trace that is made once.
pub fn timed<'a>(hops: impl Iterator<Item = &'a Hop>) -> Vec<String> {
    let row = |hop: &Hop| {
        let [min, p50, _, max, jitter] = times(hop.rtt.as_ref());
        vec![hop.hop.to_string(), routers(hop), loss(hop), min, p50, max, jitter, said(hop)]
    };
    table(&["HOP", "ADDRESS", "LOSS", "MIN MS", "P50", "MAX", "JITTER", "SAYS"], hops.map(row))
}

fn summed(result: &TraceResult) -> Vec<String> {
    let target = escape::text(&result.target);
    let mut lines = vec![if result.reached {
        format!("{target} answers at hop {}", result.hops.len())
    } else {
        format!("{target} was not reached")
    }];
    if result.paths > 1 {
        lines.push(format!("{} different ways by different flows", result.paths));
    }
    if result.changed {
        lines.push(format!("the way changed meanwhile, {} x", result.changes));
    }
    lines.push(format!("path {}", result.path_hash));
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;
    use raven_model::diag::Rtt;
    use raven_model::diag::trace::FlowPath;
    use std::net::IpAddr;

    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        args: TraceArgs,
    }

    fn parsed(words: &str) -> Option<TraceTest> {
        Cli::try_parse_from(["trace"].into_iter().chain(words.split(' ')))
            .ok()
            .filter(|cli| !cli.json)
            .map(|cli| test(cli.args))
    }

    #[test]
    fn options_are_what_they_say() {
        let udp = parsed("noc").unwrap();
        assert_eq!((udp.method, udp.port, udp.interval_ms, udp.names, udp.watch), (Method::Udp, None, 0, true, None));
        let tcp = parsed("noc --tcp -n").unwrap();
        assert_eq!((tcp.method, tcp.port, tcp.names), (Method::Tcp, Some(443), false));
        assert_eq!(parsed("noc --tcp 80").unwrap().port, Some(80));
        let watch = parsed("noc --watch --for 2m").unwrap();
        assert_eq!((watch.interval_ms, watch.watch), (1000, Some(Watch { seconds: Some(120) })));
        assert_eq!(parsed("noc --watch -i 5s").unwrap().watch, Some(Watch { seconds: None }));
        for wrong in ["noc --tcp --icmp", "noc --tcp 80 -p 81", "noc --for 2m", "noc --tcp x", "noc --watch -c 3"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    fn hop(hop: u8, received: u32, rate_limited: bool) -> Hop {
        let name = (hop == 1).then(|| "gw\x1b[2J.example".to_owned());
        Hop {
            hop,
            routers: vec![Router { address: IpAddr::from([10, 0, 0, hop]), name, flows: vec![0], said: None }],
            sent: 10,
            received,
            rtt: Some(Rtt { min_us: 512, p50_us: 530, max_us: 12_345, stdev_us: 77, ..Rtt::default() }),
            rate_limited,
        }
    }

    fn result() -> TraceResult {
        TraceResult {
            target: "noc".to_owned(),
            address: IpAddr::from([10, 0, 0, 3]),
            method: Method::Udp,
            reached: true,
            hops: vec![hop(1, 10, false), hop(2, 3, true), hop(3, 9, false)],
            paths: 1,
            path_hash: "0123".to_owned(),
            changed: true,
            changes: 2,
        }
    }

    #[test]
    fn a_trace_tells_a_rate_limited_hop_from_loss_and_names_are_escaped() {
        let lines = Watched::new(false, true).result(&result()).join("\n");
        assert!(lines.contains("rate limited") && lines.contains("10 %") && lines.contains("0.512"), "{lines}");
        assert!(lines.contains("12.3") && lines.contains("noc answers at hop 3"), "{lines}");
        assert!(lines.contains("gw\\x1b[2J.example (10.0.0.1)") && !lines.contains('\x1b'), "{lines}");
        assert!(lines.contains("changed meanwhile, 2 x"), "{lines}");
    }

    #[test]
    fn a_trace_that_goes_on_is_one_table_on_a_terminal_and_what_is_new_elsewhere() {
        let round = |round| TraceRound { round, reached: true, path_hash: "0123".to_owned(), hops: result().hops };
        let path = |hash: &str, hops: &[u8]| FlowPath {
            hash: hash.to_owned(),
            hops: hops.iter().map(|hop| Some(IpAddr::from([10, 0, 0, *hop]))).collect(),
        };
        let change = PathChanged { round: 2, flow: 0, hop: 3, from: path("aa", &[1, 2]), to: path("bb", &[1, 2, 9]) };
        let mut screen = Watched::new(true, true);
        let first = screen.round(&round(1));
        assert!(first.len() == 5 && !first[0].contains('\x1b') && first[1].contains("0.077"), "{first:?}");
        assert!(screen.round(&round(2))[0].starts_with("\x1b[5A\x1b[J"));
        let told = screen.change(&change);
        assert!(told[0].starts_with("\x1b[5A") && told[0].contains("hop 3 on: 10.0.0.9 instead of nobody"), "{told:?}");
        assert!(!screen.round(&round(3))[0].contains('\x1b'));
        assert!(screen.result(&result())[0].starts_with("\x1b[5A"));
        let mut file = Watched::new(true, false);
        assert_eq!((file.round(&round(1)).len(), file.round(&round(2)).len()), (5, 0));
        assert!(!file.change(&change)[0].contains('\x1b'));
        assert_eq!((file.round(&round(3)).len(), file.round(&round(4)).len()), (5, 0));
    }
}
