//! `raven gen netflow` and `raven gen ipfix`: an exporter for each sender.

mod exporter;
mod mark;
mod templates;
mod v5;
mod venue;

pub use mark::{Endpoints, FlowMark};
pub use venue::{Flow, Venue};

use super::args::CommonArgs;
use super::drive;
use super::marks::{Kind, Summary};
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use exporter::{Exporter, Settings};
use raven_model::units::Span;
use std::str::FromStr;
use std::time::Duration;

/// Most bytes of a datagram's payload: fits every path.
const DATAGRAM_MAX: usize = 1400;

/// `raven gen netflow`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("to", |arg| arg.default_value("127.0.0.1:2055")))]
pub struct NetflowArgs {
    /// What every generator is told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Version of NetFlow
    #[arg(long = "version", value_name = "5|9", default_value = "9", value_parser = clap::value_parser!(u8).range(5..=9))]
    pub number: u8,
    /// Of flows.
    #[command(flatten)]
    pub flows: FlowArgs,
}

/// `raven gen ipfix`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("to", |arg| arg.default_value("127.0.0.1:4739")))]
pub struct IpfixArgs {
    /// What every generator is told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Transport
    #[arg(long, value_enum, default_value_t = Proto::Udp)]
    pub proto: Proto,
    /// Of flows.
    #[command(flatten)]
    pub flows: FlowArgs,
}

/// Flags of all flow exporters.
#[derive(Debug, Clone, Args)]
pub struct FlowArgs {
    /// Flow records in a datagram [default: 24, or what fits 1400 bytes]
    #[arg(long, value_name = "N")]
    pub records_per_datagram: Option<u16>,
    /// When templates come again: after so many packets, `20`, or after a time, `30s`. Not in v5, and once over TCP
    #[arg(long, value_name = "N|TIME", default_value = "10s")]
    pub template_every: Every,
    /// One packet in so many was looked at: what the exporter says about its sampling
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16_383))]
    pub sampling: u32,
    /// Every eighth datagram holds flows over IPv6 (not in v5)
    #[arg(long)]
    pub ipv6: bool,
    /// UDP: hand the kernel many datagrams at once (`UDP_SEGMENT`); sends far faster
    #[arg(long)]
    pub gso: bool,
}

/// Transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Proto {
    /// A message a datagram.
    Udp,
    /// Message behind message.
    Tcp,
}

/// How often templates are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// After so many packets.
    Packets(u64),
    /// After this time.
    Time(Duration),
}

impl FromStr for Every {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("expected at least 1 packet".to_owned()),
            Ok(packets) => Ok(Self::Packets(packets)),
            Err(_) => text.parse().map(|Span(time)| Self::Time(time)),
        }
    }
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// NetFlow 5.
    V5,
    /// NetFlow 9 (RFC 3954).
    V9,
    /// IPFIX (RFC 7011).
    Ipfix,
}

/// Runs `raven gen netflow`.
pub fn run_netflow(args: &NetflowArgs) -> Result<Summary, Failure> {
    let version = match args.number {
        5 => Version::V5,
        9 => Version::V9,
        other => return Err(Failure::Usage(format!("--version {other}: expected 5 or 9"))),
    };
    run(Kind::Netflow, version, Proto::Udp, &args.common, &args.flows)
}

/// Runs `raven gen ipfix`.
pub fn run_ipfix(args: &IpfixArgs) -> Result<Summary, Failure> {
    run(Kind::Ipfix, Version::Ipfix, args.proto, &args.common, &args.flows)
}

fn run(kind: Kind, version: Version, proto: Proto, common: &CommonArgs, args: &FlowArgs) -> Result<Summary, Failure> {
    if args.gso && proto == Proto::Tcp {
        return Err(Failure::Usage("--gso is for UDP".to_owned()));
    }
    if args.ipv6 && version == Version::V5 {
        return Err(Failure::Usage("NetFlow 5 knows no IPv6".to_owned()));
    }
    let plan = common.plan(if proto == Proto::Udp { "udp" } else { "tcp" })?;
    let settings = Settings {
        version,
        proto,
        records: exporter::records_per_datagram(version, args.records_per_datagram)?,
        every: args.template_every,
        sampling: args.sampling,
        ipv6: args.ipv6,
        gso: args.gso,
    };
    let open = |id| Exporter::open(id, &plan, settings).map_err(|error| plan.failed(error));
    let mut exporters = (0..plan.senders).map(open).collect::<Result<Vec<_>, _>>()?;
    drive::in_turn(kind, &plan, &mut exporters, &mut Venue::new(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_come_by_packets_or_by_time() {
        assert_eq!("20".parse(), Ok(Every::Packets(20)));
        assert_eq!("30s".parse(), Ok(Every::Time(Duration::from_secs(30))));
        assert!("0".parse::<Every>().is_err() && "soon".parse::<Every>().is_err());
    }
}
