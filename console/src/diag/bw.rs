//! `raven bw`: how much gets through to another end that speaks iperf3, or this box as that end.

mod iperf3;

use super::{WayArgs, run};
use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::status::screen::table;
use clap::Args;
use raven_model::diag::bw::{
    BandwidthResult, BandwidthServer, BandwidthTest, Datagrams, Direction, Interval, Limits, PORT, ServerResult, Slice,
    Transfer, Transport,
};
use raven_model::diag::{Event, Test};
use raven_model::prefix::Prefix;
use raven_model::units::{ByteCount, Span};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// `raven bw`.
#[derive(Debug, Args)]
pub struct BwArgs {
    /// A name or an address, where iperf3 or another Raven listens
    #[arg(required_unless_present = "server", conflicts_with = "server")]
    host: Option<String>,
    /// Where it listens [default: 5201; of a server: as configured]
    #[arg(short, long)]
    port: Option<u16>,
    /// Bits a second of each stream, 10M for example; 0: as fast as can be [default: as fast as can be; UDP: 1M]. Of a
    /// server: the most, of all streams together
    #[arg(short = 'b', long, value_name = "RATE", value_parser = rate)]
    rate: Option<u64>,
    /// How long is measured [default: 10s]. Of a server: the longest test [default: 60s]
    #[arg(short = 't', long, value_name = "TIME")]
    time: Option<Span>,
    /// Write JSON as `iperf3 -J` does, for programs that read that
    #[arg(short = 'J', long, conflicts_with_all = ["server", "ndjson", "json"])]
    iperf3_json: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    way: WayArgs,
}

/// What a client says besides.
#[derive(Debug, Args)]
struct ClientArgs {
    /// By UDP, which counts what is lost
    #[arg(short = 'u', long, conflicts_with = "server")]
    udp: bool,
    /// Streams in each direction
    #[arg(short = 'P', long, value_name = "N", default_value = "1")]
    parallel: u8,
    /// To this box instead of from it
    #[arg(short = 'R', long, conflicts_with_all = ["bidir", "server"])]
    reverse: bool,
    /// In both directions at once
    #[arg(long, conflicts_with = "server")]
    bidir: bool,
    /// How long bytes flow before they are counted
    #[arg(long, value_name = "TIME", default_value = "0s")]
    omit: Span,
    /// Bytes that are written at once
    #[arg(short = 'l', long, value_name = "BYTES")]
    length: Option<u32>,
}

/// What a server says besides.
#[derive(Debug, Args)]
struct ServerArgs {
    /// Be the other end, for a while: one test at a time
    #[arg(long)]
    server: bool,
    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "10m", requires = "server")]
    span: Span,
    /// End after the first test
    #[arg(short = '1', long, requires = "server")]
    once: bool,
    /// The most bytes of a test
    #[arg(long, value_name = "BYTES", requires = "server")]
    bytes: Option<ByteCount>,
    /// Who may, 10.20.0.0/16 for example; several times; without it anybody
    #[arg(long, value_name = "PREFIX", requires = "server")]
    allow: Vec<Prefix>,
}

/// As iperf3 reads it: 10M is 10,000,000.
fn rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no rate; expected for example `10M` or `1.5G`, in bits a second");
    let (number, factor) = match text.trim_end_matches("bit/s").trim_end().split_at_checked(1.max(text.len()) - 1) {
        Some((number, "K" | "k")) => (number, 1e3),
        Some((number, "M" | "m")) => (number, 1e6),
        Some((number, "G" | "g")) => (number, 1e9),
        _ => (text, 1.0),
    };
    let bits = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    if (0.0..=BandwidthTest::RATE as f64).contains(&bits) { Ok(bits.round() as u64) } else { Err(wrong()) }
}

fn seconds(span: Span) -> u32 {
    u32::try_from(span.0.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Runs `raven bw`.
pub fn bw(args: BwArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let ndjson = args.way.ndjson;
    let test = match args.host {
        Some(ref host) => Test::Bandwidth(BandwidthTest {
            target: host.clone(),
            way: args.way.way(),
            port: args.port.unwrap_or(PORT),
            transport: if args.client.udp { Transport::Udp } else { Transport::Tcp },
            direction: match (args.client.reverse, args.client.bidir) {
                (_, true) => Direction::Both,
                (true, _) => Direction::Down,
                _ => Direction::Up,
            },
            streams: args.client.parallel,
            rate: args.rate,
            seconds: args.time.map_or(10, seconds),
            omit: seconds(args.client.omit),
            length: args.client.length,
        }),
        None => Test::BandwidthServer(BandwidthServer {
            port: args.port,
            way: args.way.way(),
            seconds: seconds(args.server.span),
            once: args.server.once,
            limits: Limits {
                rate: args.rate.filter(|rate| *rate > 0),
                seconds: args.time.map_or(60, seconds),
                bytes: args.server.bytes.map(|bytes| bytes.0),
                allowed: args.server.allow,
            },
        }),
    };
    match &test {
        Test::Bandwidth(order) if args.iperf3_json => as_iperf3(order, &test, client, output),
        _ => run(&test, ndjson, client, output),
    }
}

/// Has it measured, and writes one document of it.
fn as_iperf3(order: &BandwidthTest, test: &Test, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (mut answer, mut intervals) = (client.diag(test)?, Vec::new());
    while let Some(line) = answer.next(output)? {
        match serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))? {
            Event::Interval(interval) => intervals.push(interval),
            Event::Bandwidth(result) => {
                output.value(&iperf3::report(order, began, &intervals, &result))?;
                return Ok(if result.is_well() { OK } else { PROBLEM });
            }
            _ => {}
        }
    }
    Ok(PROBLEM)
}

/// The lines of an event of these tests.
pub(super) fn lines(event: &Event) -> Vec<String> {
    match event {
        Event::Interval(interval) => self::interval(interval),
        Event::Listening { port, left_today: None } => vec![format!("waits for clients at port {port}")],
        Event::Listening { port, left_today: Some(left) } => {
            vec![format!("waits for clients at port {port}; {} may be moved today still", ByteCount(*left))]
        }
        Event::Served(result) | Event::Bandwidth(result) => result_lines(result),
        Event::ServedNot { address, why } => vec![format!("{address}: {}", escape::text(why))],
        Event::BandwidthServer(result) => vec![served(result)],
        _ => Vec::new(),
    }
}

/// In a word.
pub const fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
        Direction::Both => "both",
    }
}

/// Bits a second with three digits.
pub fn speed(bits: f64) -> String {
    let (factor, unit) = match bits {
        bits if bits >= 1e9 => (1e9, "Gbit/s"),
        bits if bits >= 1e6 => (1e6, "Mbit/s"),
        _ => (1e3, "kbit/s"),
    };
    let value = bits / factor;
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

fn interval(interval: &Interval) -> Vec<String> {
    let line = |slice: &Slice| {
        let mut line = format!(
            "  {:>5.1} to {:>5.1} s  {:4} {:>12}",
            interval.from,
            interval.to,
            arrow(slice.direction),
            speed(slice.volume.bits_per_second)
        );
        if let Some(again) = slice.retransmits.filter(|again| *again > 0) {
            let _ = write!(line, "  {again} sent again");
        }
        if let Some(udp) = &slice.udp {
            let _ = write!(line, "  {} of {} lost, jitter {:.3} ms", udp.lost, udp.sent, udp.jitter_us / 1000.0);
        }
        if interval.omitted {
            line.push_str("  (not counted)");
        }
        line
    };
    interval.sums.iter().map(line).collect()
}

fn udp_cells(udp: Option<&Datagrams>) -> [String; 4] {
    let dash = || "-".to_owned();
    udp.map_or_else(
        || [dash(), dash(), dash(), dash()],
        |udp| {
            [
                format!("{}/{}", udp.lost, udp.sent),
                format!("{:.2} %", udp.loss),
                udp.out_of_order.map_or_else(dash, |n| n.to_string()),
                format!("{:.3}", udp.jitter_us / 1000.0),
            ]
        },
    )
}

fn result_lines(result: &BandwidthResult) -> Vec<String> {
    let is_udp = result.transport == Transport::Udp;
    let row = |transfer: &Transfer| {
        let mut cells = vec![
            transfer.stream.map_or_else(|| "sum".to_owned(), |id| id.to_string()),
            arrow(transfer.direction).to_owned(),
            ByteCount(transfer.received.bytes).to_string(),
            speed(transfer.sent.bits_per_second),
            speed(transfer.received.bits_per_second),
        ];
        if is_udp {
            cells.extend(udp_cells(transfer.udp.as_ref()));
        } else {
            cells.push(transfer.retransmits.map_or_else(|| "-".to_owned(), |n| n.to_string()));
        }
        cells
    };
    let mut heads = vec!["STREAM", "WAY", "BYTES", "SENT", "RECEIVED"];
    heads.extend(if is_udp { &["LOST", "LOSS", "OUT OF ORDER", "JITTER MS"][..] } else { &["SENT AGAIN"] });
    let several = result.streams.len() > result.sums.len();
    let streams: &[Transfer] = if several { &result.streams } else { &[] };
    let mut lines = table(&heads, streams.iter().chain(&result.sums).map(row));
    let who = escape::text(&result.target);
    lines.push(format!(
        "{who}: processor {:.0} % of one core here, {:.0} % there",
        result.cpu.total(),
        result.remote_cpu.total()
    ));
    lines
}

fn served(result: &ServerResult) -> String {
    format!(
        "{} tests, {} failed, {} connections refused, {} moved",
        result.tests,
        result.failed,
        result.refused,
        ByteCount(result.bytes)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::diag::bw::{Cpu, Volume};

    #[test]
    fn rates_are_read_as_iperf3_reads_them() {
        for (text, bits) in [("10M", 10_000_000), ("1.5G", 1_500_000_000), ("300k", 300_000), ("0", 0), ("9600", 9600)]
        {
            assert_eq!(rate(text), Ok(bits), "{text}");
        }
        for wrong in ["", "M", "-1", "fast", "1T", "1e30", "nan"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_lost_and_sent_again_is_told() {
        let transfer = |stream, udp: Option<Datagrams>| Transfer {
            stream,
            ends: None,
            direction: Direction::Up,
            sent: Volume::new(12_500_000, 1.0),
            received: Volume::new(12_000_000, 1.0),
            retransmits: if udp.is_none() { Some(17) } else { None },
            udp,
        };
        let udp = Datagrams { sent: 1000, lost: 40, loss: 4.0, out_of_order: None, jitter_us: 250.0 };
        let result = |transport, udp: Option<Datagrams>| BandwidthResult {
            target: "noc".to_owned(),
            address: [10, 0, 0, 1].into(),
            port: PORT,
            transport,
            direction: Direction::Up,
            streams: vec![transfer(Some(1), udp)],
            sums: vec![transfer(None, udp)],
            cpu: Cpu { user: 2.0, system: 10.0 },
            remote_cpu: Cpu { user: 1.0, system: 2.0 },
        };
        let text = result_lines(&result(Transport::Tcp, None)).join("\n");
        assert!(text.contains("100 Mbit/s") && text.contains("96.0 Mbit/s") && text.contains("17"), "{text}");
        let text = result_lines(&result(Transport::Udp, Some(udp))).join("\n");
        assert!(text.contains("40/1000") && text.contains("4.00 %") && text.contains("0.250"), "{text}");
    }
}
