//! `raven why`: why is it not forwarding? From the cable to the acknowledgement, rung by rung: the first that is broken, what is
//! known of it, and what to do.
//!
//! [`facts`] gathers, [`ladder`] judges; judging asks nobody, so that a fault can be shown to it in a test.

pub mod facts;
pub mod ladder;
mod machine;
mod records;
mod way;

use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM, UNREACHABLE};
use crate::output::Output;
use clap::Args;
use facts::Facts;
use ladder::{Ladder, State};
use std::net::IpAddr;

/// `raven why`.
#[derive(Debug, Clone, Args)]
pub struct WhyArgs {
    /// A destination, by its name in `[uplink]`: its rungs alone
    #[arg(value_name = "DESTINATION")]
    pub destination: Option<String>,
    /// A sender: what of it was received, stored, understood and delivered
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<IpAddr>,
    /// Every rung, also those on which all is well
    #[arg(short, long)]
    pub all: bool,
    /// Send nothing: judge by what is known already
    #[arg(long)]
    pub passive: bool,
}

/// Runs it: 1 when a rung is broken, 3 when `ravend` cannot be reached.
pub fn run(args: &WhyArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let facts = match Facts::gather(args, client) {
        Ok(facts) => facts,
        Err(failure @ Failure::Unreachable { .. }) => {
            show(&Ladder::unreachable(&failure.to_string()), true, output)?;
            return Ok(UNREACHABLE);
        }
        Err(failure) => return Err(failure),
    };
    let ladder = facts.judge();
    show(&ladder, args.all, output)?;
    Ok(if ladder.well { OK } else { PROBLEM })
}

fn show(ladder: &Ladder, all: bool, output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return output.value(ladder);
    }
    lines(ladder, all).iter().try_for_each(|line| output.line(line))
}

/// For people. Rungs on which all is well are one line, unless each is asked for.
pub fn lines(ladder: &Ladder, all: bool) -> Vec<String> {
    let mut lines = vec![verdict(ladder)];
    lines.push(String::new());
    for rung in &ladder.rungs {
        let subject = if rung.subject.is_empty() { String::new() } else { format!(" {}", escape::text(&rung.subject)) };
        let mut evidence = rung.evidence.iter().map(|text| escape::text(text));
        let first = evidence.next().map(|text| format!(": {text}")).unwrap_or_default();
        lines.push(format!("{} {}{subject}{first}", rung.state.mark(), rung.name));
        if all || rung.state != State::Ok {
            lines.extend(evidence.map(|text| format!("          {text}")));
        }
        if !rung.remedy.is_empty() {
            lines.push(format!("       -> {}", escape::text(&rung.remedy)));
        }
    }
    lines
}

fn verdict(ladder: &Ladder) -> String {
    let name = |index: &usize| {
        ladder.rungs.get(*index).map(|rung| {
            let subject = if rung.subject.is_empty() { String::new() } else { format!(" {}", rung.subject) };
            escape::text(&format!("{}{subject}", rung.name))
        })
    };
    match ladder.first_broken.as_ref().and_then(name) {
        Some(name) => format!("{}: broken at {name}", escape::text(&ladder.device)),
        None if ladder.rungs.iter().any(|rung| rung.state == State::Warning) => {
            format!("{}: nothing is broken; some of it deserves a look", escape::text(&ladder.device))
        }
        None => format!("{}: nothing is broken", escape::text(&ladder.device)),
    }
}
