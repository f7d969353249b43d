//! All kinds of telemetry at the same time: nothing may be lost.

use super::Bench;
use super::load::{Load, What};
use super::machine::{cpu_seconds, pss_mib};
use super::measure::{Roles, Subject};
use super::raven::Raven;
use super::table::{Row, Target};
use anyhow::Result;
use std::time::Duration;

/// What arrives, a second.
const LOADS: [(What, u64); 4] =
    [(What::SyslogUdp, 100_000), (What::Netflow, 50_000), (What::Trap, 1_000), (What::Winevent(8), 5_000)];

/// For a minute.
pub fn run(bench: &Bench) -> Result<Vec<Row>> {
    let raven = Raven::start_with(&bench.programs, &LOADS.map(|(what, _)| what), "")?;
    let (roles, before) = (Roles::of(raven.roles()?), cpu_seconds(raven.pid()));
    let start = |(&(what, rate), input): (&(What, u64), &super::raven::Input)| {
        Load::plain(what, rate, bench.soak).start(&bench.programs, input.port)
    };
    let generators = LOADS.iter().zip(raven.inputs()).map(start).collect::<Result<Vec<_>>>()?;
    let sent = generators.into_iter().map(super::load::Running::wait).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_secs(1));
    let (cpu, mib) = ((cpu_seconds(raven.pid()) - before) / bench.soak as f64, pss_mib(raven.pid())?);
    eprintln!("  CPU in thousandths of a core{}", roles.since(bench.soak * 1000));
    let row = |what: String, unit, raven, target| Row { bench: "all-four", what, unit, reference: None, raven, target };
    let mut rows = Vec::new();
    for ((&input, sent), (what, rate)) in raven.inputs().iter().zip(sent).zip(LOADS) {
        let received = raven.settled(input, sent.count)?;
        let noun = what.noun();
        eprintln!("  {noun}s: {:.0}/s, sent {}, received {received}", sent.rate, sent.count);
        let lost = sent.count.saturating_sub(received);
        let (what, unit) = (format!("all four at once for {} s, {noun}s at {rate}/s", bench.soak), "lost");
        rows.push(row(what, unit, lost as f64, Target::AtMost(0.0)));
    }
    rows.push(row("all four at once, counted as dropped".to_owned(), "", raven.dropped()? as f64, Target::AtMost(0.0)));
    rows.push(row("all four at once, CPU".to_owned(), "cores", cpu, Target::None));
    rows.push(row("all four at once, memory".to_owned(), "MiB", mib, Target::None));
    raven.stop()?;
    Ok(rows)
}
