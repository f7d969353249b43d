//! `raven wire`, `raven capture`, `raven lan`: what is on an interface, by the `wire` role. Who ends the command ends the view.

mod capture;
mod judge;
mod lan;
mod shown;

pub use capture::{CaptureArgs, capture};
pub use lan::{LanArgs, ask, lan};

use super::milliseconds;
use crate::client::{Answer, Client};
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::{sources, status};
use clap::Args;
use judge::{Beside, Place};
use raven_model::diag::wire::{Event, Meant, Order, Purpose, Tap, ViewOrder, WireReport, WireResult};
use raven_model::prefix::Prefix;
use raven_model::query::Query;
use raven_model::report::Status;
use raven_model::stream::Stream;
use raven_model::units::Span;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

/// What was received is stored and reported by then, and asked for again so often where records are missing still.
const STORED: Duration = Duration::from_millis(1200);
const AGAIN: u32 = 3;

/// Which frames.
#[derive(Debug, Args)]
pub struct MeantArgs {
    /// Only to or from this port, UDP or TCP; several times
    #[arg(short, long = "port", value_name = "PORT")]
    ports: Vec<u16>,
    /// Only from this sender, or from these: 10.20.0.0/16
    #[arg(long, value_name = "ADDRESS|PREFIX")]
    from: Option<Prefix>,
    /// Also what the box itself sends
    #[arg(long)]
    outbound: bool,
    /// Have the interface take what is for others, too
    #[arg(long)]
    promiscuous: bool,
}

impl MeantArgs {
    fn meant(&self) -> Meant {
        Meant { ports: self.ports.clone(), from: self.from }
    }

    fn tap(&self, interface: &str, purpose: Purpose, snap: Option<u32>) -> Tap {
        let (promiscuous, outbound) = (self.promiscuous, self.outbound);
        Tap { interface: interface.to_owned(), purpose, promiscuous, outbound, snap }
    }
}

/// `raven wire`.
#[derive(Debug, Args)]
pub struct WireArgs {
    /// As `raven net` shows it
    interface: String,
    /// How long
    #[arg(long = "for", value_name = "TIME", default_value = "10s")]
    time: Span,
    #[command(flatten)]
    meant: MeantArgs,
    /// Show each sender, not the busiest alone
    #[arg(short, long)]
    all: bool,
    /// Write each event as a line of JSON, and the result last
    #[arg(long, conflicts_with = "json")]
    ndjson: bool,
}

/// Runs `raven wire`: 1 when something arrives that nobody receives.
pub fn wire(args: &WireArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let before = status::fetch(client)?;
    let tap = args.meant.tap(&args.interface, Purpose::View, None);
    let order = ViewOrder { for_ms: milliseconds(args.time), meant: args.meant.meant() };
    let mut answer = client.wire(&tap, &Order::View(order))?;
    let wire = watch(&mut answer, args, output)?;
    let report = beside(&wire, &before, &args.meant.ports, client)?;
    let code = if judge::is_well(&report) { OK } else { PROBLEM };
    if args.ndjson {
        let line = serde_json::to_vec(&serde_json::json!({ "report": report }));
        output.json_line(&line.map_err(|error| Failure::Output(error.into()))?)?;
    } else if output.json {
        output.value(&report)?;
    } else {
        shown::report(&report, args.all).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(code)
}

/// What is on an interface for a moment, beside what was received of it.
///
/// # Errors
/// The interface cannot be watched, or `ravend` not be asked.
pub fn glance(client: &Client, interface: &str, for_ms: u32, before: &Status) -> Result<WireReport, Failure> {
    let interface = interface.to_owned();
    let tap = Tap { interface, purpose: Purpose::View, promiscuous: false, outbound: false, snap: None };
    let order = ViewOrder { for_ms, meant: Meant::default() };
    let mut answer = client.wire(&tap, &Order::View(order))?;
    let (mut result, mut quiet) = (None, Output::nowhere());
    while let Some(line) = answer.next(&mut quiet)? {
        if let Event::Wire(told) = event(line)? {
            result = Some(told);
        }
    }
    let result = result.ok_or_else(|| Failure::Protocol("the view ended without a result".to_owned()))?;
    beside(&result, before, &[], client)
}

fn watch(answer: &mut Answer, args: &WireArgs, output: &mut Output) -> Result<WireResult, Failure> {
    let mut result = None;
    while let Some(line) = answer.next(output)? {
        match event(line)? {
            Event::Second(_) if args.ndjson => output.json_line(line)?,
            Event::Second(_) if output.json => {}
            Event::Second(second) => {
                if output.terminal {
                    // Home and clear, as `status --watch`.
                    output.bytes(b"\x1b[H\x1b[2J")?;
                }
                let lines = shown::second(&args.interface, &second, output.terminal);
                lines.iter().try_for_each(|line| output.line(line))?;
            }
            Event::Wire(told) => result = Some(told),
            _ => {}
        }
        if answer.is_drained() {
            output.flush()?;
        }
    }
    if output.terminal && !output.json && !args.ndjson {
        output.bytes(b"\x1b[H\x1b[2J")?;
    }
    result.ok_or_else(|| Failure::Protocol("the view ended without a result".to_owned()))
}

fn event(line: &[u8]) -> Result<Event, Failure> {
    serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))
}

/// Sets what Raven received in the same time beside what was on the wire.
fn beside(wire: &WireResult, before: &Status, ports: &[u16], client: &Client) -> Result<WireReport, Failure> {
    let place = Place::of(before);
    let mut records = BTreeMap::new();
    for _ in 0..AGAIN {
        thread::sleep(STORED);
        // What is more than can be counted is not compared.
        for stream in place.streams(wire).into_iter().filter(|stream| place.datagrams(wire, *stream) <= most(*stream)) {
            records.insert(stream, received(stream, wire, client)?);
        }
        let told = Beside { records: &records, before, after: before, ports };
        if judge::report(wire, &place, &told).senders.iter().all(judge::is_whole) {
            break;
        }
    }
    let after = status::fetch(client)?;
    let told = Beside { records: &records, before, after: &after, ports };
    Ok(judge::report(wire, &place, &told))
}

/// Of the newest records the decode role counts two million, of other streams than syslog a tenth of that: half of those, since more
/// come meanwhile.
fn most(stream: Stream) -> u64 {
    if stream == Stream::Syslog { 1_000_000 } else { 100_000 }
}

/// Records by sender that were received while the wire was watched.
fn received(stream: Stream, wire: &WireResult, client: &Client) -> Result<BTreeMap<IpAddr, u64>, Failure> {
    let (since, until) = (Some(wire.from_ns), Some(wire.until_ns));
    let query = Query::Sources { stream: stream.name().to_owned(), since, until };
    let views = sources::views(&query, client, &mut Output::nowhere())?.unwrap_or_default();
    Ok(views.into_iter().map(|view| (view.addr, view.records)).collect())
}
