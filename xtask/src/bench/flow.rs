//! NetFlow v9 and sFlow: what a record costs, how many a second, whether any is lost.

use super::Bench;
use super::compare::{self, NFDUMP, NFDUMP_SFLOW};
use super::load::{Load, What};
use super::table::Row;
use anyhow::Result;

/// CPU at an ordinary and at a high rate, against nfcapd.
pub fn cpu(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (rate, what) in [(50_000, "NetFlow v9 at 50 K/s"), (300_000, "NetFlow v9 at 300 K/s")] {
        rows.extend(compare::cpu(bench, "flow-cpu", what, Load::plain(What::Netflow, rate, 10), &NFDUMP, 0.8)?);
    }
    Ok(rows)
}

/// The highest rate without loss.
pub fn rate(bench: &Bench) -> Result<Vec<Row>> {
    compare::rate(bench, "flow-rate", What::Netflow, 500_000, &NFDUMP)
}

/// A minute at 300,000 flow records a second: nothing may be lost.
pub fn soak(bench: &Bench) -> Result<Vec<Row>> {
    compare::soak(bench, "flow-soak", "NetFlow v9 at 300 K/s", Load::plain(What::Netflow, 300_000, bench.soak))
}

/// CPU of sFlow, against sfcapd.
pub fn sflow(bench: &Bench) -> Result<Vec<Row>> {
    let load = Load::plain(What::Sflow, 50_000, 10);
    compare::cpu(bench, "sflow-cpu", "sFlow at 50 K/s", load, &NFDUMP_SFLOW, 0.8)
}
