//! Raven and a reference in turn, under the same load: what one costs, and how many a second it takes.

use super::Bench;
use super::load::{Load, What};
use super::machine::median;
use super::measure::{Run, Subject, run};
use super::peer::{Peer, Program};
use super::raven::Raven;
use super::rsyslog::{Rsyslog, Work};
use super::table::{Row, Target};
use crate::apt::{NFCAPD, Need, RSYSLOG, SFCAPD, SNMPTRAPD};
use anyhow::{Result, bail};

/// Loss that still counts as none, when the highest rate is sought.
const LOSS: f64 = 0.0001;

/// Runs of each, in turn.
const RUNS: usize = 3;

/// Whom Raven is held against.
pub struct Reference {
    /// As the table names it.
    pub who: &'static str,
    /// What it needs.
    pub need: Need,
    start: fn() -> Result<Box<dyn Subject>>,
}

/// rsyslog, datagrams.
pub const RSYSLOG_UDP: Reference =
    Reference {
        who: "rsyslog imudp → file", need: RSYSLOG, start: || Ok(Box::new(Rsyslog::start(Work::UdpToFile)?))
    };

/// rsyslog, a connection.
pub const RSYSLOG_TCP: Reference =
    Reference {
        who: "rsyslog imptcp → file", need: RSYSLOG, start: || Ok(Box::new(Rsyslog::start(Work::TcpToFile)?))
    };

/// nfdump's collector of NetFlow.
pub const NFDUMP: Reference =
    Reference { who: "nfcapd → files", need: NFCAPD, start: || Ok(Box::new(Peer::start(Program::Nfcapd)?)) };

/// nfdump's collector of sFlow.
pub const NFDUMP_SFLOW: Reference =
    Reference { who: "sfcapd → files", need: SFCAPD, start: || Ok(Box::new(Peer::start(Program::Sfcapd)?)) };

/// net-snmp's collector of traps.
pub const NET_SNMP: Reference =
    Reference { who: "snmptrapd → log", need: SNMPTRAPD, start: || Ok(Box::new(Peer::start(Program::Snmptrapd)?)) };

/// Raven, receiving one thing.
pub fn raven(bench: &Bench, what: What) -> Result<Box<dyn Subject>> {
    Ok(Box::new(Raven::start(&bench.programs, what)?))
}

/// What both cost under `load`: CPU with its target, and memory beside it. They run in turn, so that a busy neighbour
/// hits both.
pub fn cpu(
    bench: &Bench,
    name: &'static str,
    what: &str,
    load: Load,
    against: &Reference,
    target: f64,
) -> Result<Vec<Row>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        if against.need.is_met() {
            theirs.push(run(&bench.programs, (against.start)()?, load)?);
        }
        ours.push(run(&bench.programs, raven(bench, load.what)?, load)?);
    }
    let of = |runs: &[Run], figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    let row = |what: String, unit, figure: fn(&Run) -> f64, target| Row {
        bench: name,
        what,
        unit,
        reference: (!theirs.is_empty()).then(|| (against.who.to_owned(), of(&theirs, figure))),
        raven: of(&ours, figure),
        target,
    };
    let noun = load.what.noun();
    let sender = |run: &Run| run.sent.cpu * 1e6 / run.sent.count.max(1) as f64;
    Ok(vec![
        row(format!("{what}, CPU per {noun}"), "CPU-s per million", Run::cpu_per_million, Target::RatioAtMost(target)),
        row(format!("{what}, peak memory"), "MiB", |run| run.peak_mib, Target::None),
        row(format!("{what}, generator beside it"), "CPU-s per million", sender, Target::None),
        row(format!("{what}, loss"), "%", |run| run.loss() * 100.0, Target::None),
    ])
}

/// The highest rate without loss, the same search for both, beginning at `from`.
pub fn rate(bench: &Bench, name: &'static str, what: What, from: u64, against: &Reference) -> Result<Vec<Row>> {
    let theirs = if against.need.is_met() { Some(highest_rate(bench, what, from, &against.start)?) } else { None };
    let ours = highest_rate(bench, what, from, &|| raven(bench, what))?;
    Ok(vec![Row {
        bench: name,
        what: format!("{name}, highest rate with loss < 0.01 % (UDP_SEGMENT)"),
        unit: "a second",
        reference: theirs.map(|rate| (against.who.to_owned(), rate)),
        raven: ours,
        target: Target::RatioAtLeast(1.0),
    }])
}

/// Up in large steps until two runs in a row lose, then the gap is halved three times.
fn highest_rate(bench: &Bench, what: What, from: u64, start: &dyn Fn() -> Result<Box<dyn Subject>>) -> Result<f64> {
    let try_rate = |rate: u64| -> Result<Option<f64>> {
        // A run that loses may have met a busy neighbour: it gets a second one.
        for _ in 0..2 {
            let run = run(&bench.programs, start()?, Load { what, rate, seconds: 4, gso: true })?;
            if run.loss() < LOSS {
                return Ok(Some(run.sent.rate));
            }
        }
        Ok(None)
    };
    let (mut good, mut good_actual, mut bad) = (0, 0.0, from);
    while let Some(actual) = try_rate(bad)? {
        (good, good_actual) = (bad, actual);
        if actual < 0.9 * bad as f64 {
            eprintln!("  the generator is at its end");
            return Ok(actual);
        }
        bad = bad * 13 / 10;
    }
    for _ in 0..3 {
        let middle = u64::midpoint(good, bad);
        match try_rate(middle)? {
            Some(actual) => (good, good_actual) = (middle, actual),
            None => bad = middle,
        }
    }
    Ok(good_actual)
}

/// Raven alone under `load`: nothing may be lost, and nothing counted as dropped.
pub fn soak(bench: &Bench, name: &'static str, what: &str, load: Load) -> Result<Vec<Row>> {
    let run = run(&bench.programs, raven(bench, load.what)?, load)?;
    if run.sent.rate < 0.95 * load.rate as f64 {
        bail!("the generator reached only {:.0} a second; the machine is too busy to tell", run.sent.rate);
    }
    Ok(vec![Row {
        bench: name,
        what: format!("{what} for {} s", load.seconds),
        unit: "lost",
        reference: None,
        raven: run.lost() as f64,
        target: Target::AtMost(0.0),
    }])
}
