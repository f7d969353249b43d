//! `raven gen syslog`: a venue's devices, all talking at once. For tests only.

mod families;
mod marks;
mod pace;
mod sender;
mod writer;

pub use marks::{Mark, MarkCount, Summary};
pub use writer::{Format, Writer};

use crate::failure::{Failure, OK};
use crate::output::Output;
use clap::{Args, ValueEnum};
use pace::Pace;
use raven_model::units::Span;
use rustix::time::{ClockId, clock_gettime};
use sender::Sender;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// Shortest message that holds a header and a mark.
const SIZE_MIN: usize = 160;
/// Longest message over UDP.
const SIZE_MAX: usize = 60_000;

/// `raven gen syslog`.
#[derive(Debug, Clone, Args)]
pub struct SyslogArgs {
    /// Where to send
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1514")]
    pub to: String,
    /// Transport
    #[arg(long, value_enum, default_value_t = Proto::Udp)]
    pub proto: Proto,
    /// Messages per second of all senders together; 0 = as fast as possible
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub rate: u64,
    /// Messages to send
    #[arg(long, value_name = "N", required_unless_present = "duration")]
    pub count: Option<u64>,
    /// How long to send, such as `60s`
    #[arg(long, value_name = "TIME")]
    pub duration: Option<Span>,
    /// Length of every message, bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub size: usize,
    /// Sockets, each with a count of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub senders: u32,
    /// Every sender from a loopback address of its own: 127.1.0.1, 127.1.0.2, …
    #[arg(long)]
    pub own_addresses: bool,
    /// How messages are written
    #[arg(long, value_enum, default_value_t = Format::Rfc3164)]
    pub format: Format,
    /// How messages are told apart over TCP (RFC 6587)
    #[arg(long, value_enum, default_value_t = Framing::Octet)]
    pub framing: Framing,
    /// Name of this run, in every mark: letters, digits, `-`, `_`, `.` [default: the time]
    #[arg(long, value_name = "ID", value_parser = marks::read_run)]
    pub mark: Option<String>,
    /// UDP: hand the kernel many messages at once (`UDP_SEGMENT`); sends far faster
    #[arg(long)]
    pub gso: bool,
    /// Rise from nothing to the rate in this time
    #[arg(long, value_name = "TIME")]
    pub ramp: Option<Span>,
    /// Send to a machine that is not this one. It is a flood: be sure that it is yours
    #[arg(long)]
    pub i_mean_it: bool,
}

/// Transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Proto {
    /// One message a datagram.
    Udp,
    /// RFC 6587.
    Tcp,
}

impl Proto {
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// How messages are told apart over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Framing {
    /// Their length before them.
    Octet,
    /// A line feed behind them.
    Lf,
}

/// Runs it.
pub fn run(args: &SyslogArgs, output: &mut Output) -> Result<u8, Failure> {
    check(args)?;
    let target = resolve(args)?;
    let run = args.mark.clone().unwrap_or_else(|| format!("{:x}", crate::time::now().0));
    let mut senders = (0..args.senders).map(|id| Sender::open(id, target, args)).collect::<Result<Vec<_>, _>>()?;
    let mut writer = Writer::new(args.format, args.size, &run);
    let (cpu, started) = (cpu_seconds(), Instant::now());
    send_all(args, &mut senders, &mut writer, started)?;
    senders.iter_mut().try_for_each(Sender::finish)?;
    let seconds = started.elapsed().as_secs_f64();
    let sent = senders.iter().map(|sender| sender.sent).sum();
    let summary = Summary {
        mark: run,
        to: target.to_string(),
        proto: args.proto.name().to_owned(),
        sent,
        bytes: sent * args.size as u64,
        seconds,
        rate: sent as f64 / seconds.max(1e-9),
        cpu_s: cpu_seconds() - cpu,
        refused: senders.iter().map(|sender| sender.refused).sum(),
        senders: senders.iter().map(|sender| MarkCount { sender: sender.id, count: sender.sent }).collect(),
    };
    output.value(&summary)?;
    Ok(OK)
}

fn check(args: &SyslogArgs) -> Result<(), Failure> {
    let wrong = if !(SIZE_MIN..=SIZE_MAX).contains(&args.size) {
        format!("--size {}: expected {SIZE_MIN} to {SIZE_MAX}", args.size)
    } else if !(1..=1000).contains(&args.senders) {
        format!("--senders {}: expected 1 to 1000", args.senders)
    } else if args.gso && (args.proto == Proto::Tcp || args.size > 1400) {
        "--gso is for UDP and messages of at most 1400 bytes".to_owned()
    } else {
        return Ok(());
    };
    Err(Failure::Usage(wrong))
}

/// A load generator is a weapon: away from this machine it wants to be told twice.
fn resolve(args: &SyslogArgs) -> Result<SocketAddr, Failure> {
    let failed = |source| Failure::Send { to: args.to.clone(), proto: args.proto.name(), source };
    let target = args.to.to_socket_addrs().map_err(failed)?.next();
    let target = target.ok_or_else(|| Failure::Usage(format!("{} has no address", args.to)))?;
    if !target.ip().is_loopback() && !args.i_mean_it {
        return Err(Failure::Usage(format!("{target} is not this machine; if you may flood it, say --i-mean-it")));
    }
    if args.own_addresses && !(target.ip().is_loopback() && target.is_ipv4()) {
        return Err(Failure::Usage("--own-addresses needs an IPv4 loopback target".to_owned()));
    }
    Ok(target)
}

fn send_all(args: &SyslogArgs, senders: &mut [Sender], writer: &mut Writer, started: Instant) -> Result<(), Failure> {
    let pace = Pace {
        rate: args.rate,
        ramp: args.ramp.map_or(Duration::ZERO, |ramp| ramp.0),
        count: args.count,
        duration: args.duration.map(|span| span.0),
    };
    let (mut sent, mut turn) = (0_u64, 0);
    loop {
        let elapsed = started.elapsed();
        let Some(due) = pace.due(elapsed, sent) else { return Ok(()) };
        if due == 0 {
            std::thread::sleep(pace::TICK);
            continue;
        }
        writer.set_time(crate::time::now());
        let batch = senders[turn].batch_max().min(usize::try_from(due).unwrap_or(usize::MAX));
        senders[turn].send(batch, writer)?;
        sent += batch as u64;
        turn = (turn + 1) % senders.len();
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
