//! `raven gen sflow`: an agent for each sender (sFlow version 5, sflow.org).

mod agent;
mod packet;

use super::args::CommonArgs;
use super::drive;
use super::flow::Venue;
use super::marks::{Kind, Summary};
use crate::failure::Failure;
use agent::{Agent, SAMPLES_MAX};
use clap::Args;

/// `raven gen sflow`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("to", |arg| arg.default_value("127.0.0.1:6343")))]
pub struct SflowArgs {
    /// What every generator is told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Flow samples in a datagram
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub samples_per_datagram: u16,
    /// One packet in so many is sampled
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub sampling: u32,
    /// A datagram of interface counters after so many of flow samples; 0 = never. It does not count for the rate
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub counters_every: u64,
    /// Hand the kernel many datagrams at once (`UDP_SEGMENT`); sends far faster
    #[arg(long)]
    pub gso: bool,
}

/// Runs it.
pub fn run(args: &SflowArgs) -> Result<Summary, Failure> {
    if !(1..=SAMPLES_MAX).contains(&args.samples_per_datagram) {
        let wrong = format!("--samples-per-datagram {}: expected 1 to {SAMPLES_MAX}", args.samples_per_datagram);
        return Err(Failure::Usage(wrong));
    }
    let plan = args.common.plan("udp")?;
    let open = |id| Agent::open(id, &plan, args).map_err(|error| plan.failed(error));
    let mut agents = (0..plan.senders).map(open).collect::<Result<Vec<_>, _>>()?;
    drive::in_turn(Kind::Sflow, &plan, &mut agents, &mut Venue::new(0))
}
