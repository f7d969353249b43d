//! `raven ping`, `raven trace`, `raven mtu`: tests that the `diag` role makes. Who ends the command ends the test.

pub mod bw;
pub mod help;
pub mod meaning;
pub mod schedule;
pub mod services;
pub mod shown;
pub mod trace;
pub mod wire;

use crate::client::Client;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use clap::Args;
use raven_model::diag::{Event, Family, MtuTest, PingTest, Test, Way};
use raven_model::tunnel::TunnelName;
use raven_model::units::Span;
use shown::Shown;
use std::net::IpAddr;

/// How packets leave, and how results are written.
#[derive(Debug, Args)]
pub struct WayArgs {
    /// Over IPv4 only
    #[arg(short = '4', conflicts_with = "six")]
    four: bool,
    /// Over IPv6 only
    #[arg(short = '6')]
    six: bool,
    /// By this interface alone
    #[arg(short = 'I', long, value_name = "NAME", conflicts_with = "tunnel")]
    interface: Option<String>,
    /// Through this tunnel alone
    #[arg(short = 'T', long, value_name = "NAME")]
    tunnel: Option<TunnelName>,
    /// From this address of the box
    #[arg(short = 'S', long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// Write each event as a line of JSON, and the result last
    #[arg(long, conflicts_with = "json")]
    ndjson: bool,
}

impl WayArgs {
    fn way(&self) -> Way {
        let family = match (self.four, self.six) {
            (true, _) => Some(Family::Ipv4),
            (_, true) => Some(Family::Ipv6),
            _ => None,
        };
        let interface = self.interface.clone().or_else(|| self.tunnel.as_ref().map(TunnelName::device));
        Way { interface, source: self.source, family }
    }
}

/// `raven ping`.
#[derive(Debug, Args)]
pub struct PingArgs {
    /// Names and addresses
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Pings to each
    #[arg(short, long, default_value = "5")]
    count: u32,
    /// Between two pings to one target
    #[arg(short, long, default_value = "1s")]
    interval: Span,
    /// An answer that takes longer is none
    #[arg(short = 'W', long, default_value = "1s")]
    timeout: Span,
    /// Bytes behind the ICMP header
    #[arg(short, long, default_value = "56")]
    size: u16,
    /// Differentiated Services Code Point, 0 to 63
    #[arg(long, default_value = "0")]
    dscp: u8,
    /// Nobody may fragment it
    #[arg(long)]
    df: bool,
    /// Show results alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    way: WayArgs,
}

/// `raven mtu`.
#[derive(Debug, Args)]
pub struct MtuArgs {
    /// A name or an address
    target: String,
    /// Probes of one length before it counts as lost
    #[arg(short, long, default_value = "3")]
    count: u8,
    /// An answer that takes longer is none
    #[arg(short = 'W', long, default_value = "500ms")]
    timeout: Span,
    #[command(flatten)]
    way: WayArgs,
}

/// Runs `raven ping`.
pub fn ping(args: PingArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let test = PingTest {
        targets: args.targets,
        way: args.way.way(),
        count: args.count,
        interval_ms: milliseconds(args.interval),
        timeout_ms: milliseconds(args.timeout),
        size: args.size,
        dscp: args.dscp,
        dont_fragment: args.df,
        each: args.way.ndjson || !(args.quiet || output.json),
    };
    run(&Test::Ping(test), args.way.ndjson, client, output)
}

/// Runs `raven mtu`.
pub fn mtu(args: MtuArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let timeout_ms = milliseconds(args.timeout);
    let test = MtuTest { target: args.target, way: args.way.way(), timeout_ms, tries: args.count };
    run(&Test::Mtu(test), args.way.ndjson, client, output)
}

fn milliseconds(span: Span) -> u32 {
    u32::try_from(span.0.as_millis()).unwrap_or(u32::MAX)
}

/// Has a test made and shows what comes; the exit code.
fn run(test: &Test, ndjson: bool, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer = client.diag(test)?;
    let mut shown = Shown::new(test, output.terminal);
    let mut code = PROBLEM;
    while let Some(line) = answer.next(output)? {
        let event: Event = serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?;
        if event.is_result() {
            code = if event.is_well() { OK } else { PROBLEM };
        }
        if ndjson {
            output.json_line(line)?;
        } else if output.json {
            match &event {
                Event::Ping(results) => output.value(results)?,
                Event::Trace(result) => output.value(result)?,
                Event::Mtu(result) => output.value(result)?,
                Event::Bandwidth(result) => output.value(result)?,
                Event::BandwidthServer(result) => output.value(result)?,
                other => services::value(other, output)?,
            }
        } else {
            for text in shown.lines(&event) {
                output.line(&text)?;
            }
        }
        if answer.is_drained() {
            output.flush()?;
        }
    }
    Ok(code)
}
