//! `raven gen syslog`: messages over UDP, TCP, TLS and RELP.

mod families;
mod relp;
mod stream;
mod tls;
mod writer;

pub use writer::{Format, Writer};

use super::args::CommonArgs;
use super::drive;
use super::marks::{Kind, Summary};
use super::udp::GSO_SIZE_MAX;
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use stream::StreamSender;

/// Shortest message that holds a header and a mark.
const SIZE_MIN: usize = 160;
/// Longest message over UDP.
const SIZE_MAX: usize = 60_000;

/// `raven gen syslog`.
#[derive(Debug, Clone, Args)]
pub struct SyslogArgs {
    /// What every generator is told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Transport
    #[arg(long, value_enum, default_value_t = Proto::Udp)]
    pub proto: Proto,
    /// Length of every message, bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub size: usize,
    /// How messages are written
    #[arg(long, value_enum, default_value_t = Format::Rfc3164)]
    pub format: Format,
    /// How messages are told apart over TCP (RFC 6587)
    #[arg(long, value_enum, default_value_t = Framing::Octet)]
    pub framing: Framing,
    /// UDP: hand the kernel many messages at once (`UDP_SEGMENT`); sends far faster
    #[arg(long)]
    pub gso: bool,
    /// RELP: messages that may be under way without an answer
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub window: usize,
    /// RELP: how long to go on connecting and waiting before giving up
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub patience: raven_model::units::Span,
    /// TLS.
    #[command(flatten)]
    pub tls: tls::TlsArgs,
}

/// Transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Proto {
    /// One message a datagram.
    Udp,
    /// RFC 6587.
    Tcp,
    /// RFC 5425: lengths before messages, over TLS.
    Tls,
    /// The receiver acknowledges each message; what it did not is sent again on a new connection.
    Relp,
}

impl Proto {
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Relp => "relp",
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
pub fn run(args: &SyslogArgs) -> Result<Summary, Failure> {
    check(args)?;
    let plan = args.common.plan(args.proto.name())?;
    if args.proto == Proto::Relp {
        let mut talkers: Vec<_> = (0..plan.senders).map(|id| relp::RelpSender::new(id, &plan, args)).collect();
        return drive::in_threads(Kind::Syslog, &plan, &mut talkers);
    }
    let tls = (args.proto == Proto::Tls).then(|| args.tls.client(&args.common.to)).transpose()?;
    let open = |id| StreamSender::open(id, &plan, args, tls.as_ref()).map_err(|error| plan.failed(error));
    let mut senders = (0..plan.senders).map(open).collect::<Result<Vec<_>, _>>()?;
    let mut writer = Writer::new(args.format, args.size, &plan.run);
    drive::in_turn(Kind::Syslog, &plan, &mut senders, &mut writer)
}

fn check(args: &SyslogArgs) -> Result<(), Failure> {
    let wrong = if !(SIZE_MIN..=SIZE_MAX).contains(&args.size) {
        format!("--size {}: expected {SIZE_MIN} to {SIZE_MAX}", args.size)
    } else if args.gso && (args.proto != Proto::Udp || args.size > GSO_SIZE_MAX) {
        format!("--gso is for UDP and messages of at most {GSO_SIZE_MAX} bytes")
    } else if args.window == 0 {
        "--window 0: expected at least 1".to_owned()
    } else {
        return Ok(());
    };
    Err(Failure::Usage(wrong))
}
