//! Windows events over HTTP: NDJSON in bodies of 100, each acknowledged once it is on disk.

use super::Bench;
use super::compare::raven;
use super::load::{Load, What};
use super::measure;
use super::table::{Row, Target};
use anyhow::Result;

/// As fast as they are acknowledged, from 32 and from 64 connections.
pub fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for connections in [32, 64] {
        let what = What::Winevent(connections);
        let run = measure::run(&bench.programs, raven(bench, what)?, Load::plain(what, 0, 10))?;
        let row = |what: &str, unit, raven, target| Row {
            bench: "winevent",
            what: format!("events by HTTP on {connections} connections, {what}"),
            unit,
            reference: None,
            raven,
            target,
        };
        rows.extend([
            row("acknowledged", "events/s", run.sent.rate, Target::AtLeast(100_000.0)),
            row("CPU per event", "CPU-s per million", run.cpu_per_million(), Target::AtMost(8.0)),
            row("acknowledged and not stored", "events", run.lost() as f64, Target::AtMost(0.0)),
            row("slowest acknowledgement of 100", "ms", run.sent.p99_ms.unwrap_or(f64::NAN), Target::None),
            row("peak memory", "MiB", run.peak_mib, Target::None),
        ]);
    }
    Ok(rows)
}
