//! `raven gen`: a venue's devices, all talking at once. For tests only.
//!
//! Each input has a file that says what goes over the wire; pacing ([`meter`]), the order of sending ([`drive`]), UDP
//! ([`udp`]), answers ([`answers`]) and the summary ([`marks`]) are the same for all.

mod answers;
mod args;
mod bytes;
mod drive;
pub mod flow;
mod marks;
mod meter;
mod pace;
mod random;
pub mod sflow;
pub mod syslog;
pub mod trap;
mod udp;
mod wait;
pub mod winevent;

pub use answers::AnswerSummary;
pub use args::CommonArgs;
pub use flow::FlowMark;
pub use marks::{Kind, Mark, MarkCount, Summary};

use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use clap::Subcommand;

/// `raven gen …`.
#[derive(Debug, Subcommand)]
pub enum GenCommand {
    /// Syslog messages as a venue's devices send them, each with a mark that `raven audit` can count
    Syslog(Box<syslog::SyslogArgs>),
    /// NetFlow v5 or v9 of a venue's traffic. The rate is in flow records
    Netflow(flow::NetflowArgs),
    /// IPFIX of a venue's traffic, over UDP or TCP. The rate is in flow records
    Ipfix(flow::IpfixArgs),
    /// sFlow v5: sampled packet headers and interface counters. The rate is in flow samples
    Sflow(sflow::SflowArgs),
    /// SNMP traps or informs of interfaces going up and down
    Trap(Box<trap::TrapArgs>),
    /// Windows security events, posted over HTTP as forwarders do. The rate is in events
    Winevent(winevent::WineventArgs),
}

/// Runs it.
pub fn run(command: &GenCommand, output: &mut Output) -> Result<u8, Failure> {
    let summary = match command {
        GenCommand::Syslog(args) => syslog::run(args),
        GenCommand::Netflow(args) => flow::run_netflow(args),
        GenCommand::Ipfix(args) => flow::run_ipfix(args),
        GenCommand::Sflow(args) => sflow::run(args),
        GenCommand::Trap(args) => trap::run(args),
        GenCommand::Winevent(args) => winevent::run(args),
    }?;
    output.value(&summary)?;
    let refused = summary.answers.is_some_and(|answers| answers.rejected + answers.unanswered > 0);
    Ok(if refused { PROBLEM } else { OK })
}
