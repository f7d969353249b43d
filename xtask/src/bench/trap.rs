//! SNMP notifications: what one costs.

use super::Bench;
use super::compare::{self, NET_SNMP};
use super::load::{Load, What};
use super::table::Row;
use anyhow::Result;

/// CPU at 10,000 traps a second, against snmptrapd.
pub fn cpu(bench: &Bench) -> Result<Vec<Row>> {
    compare::cpu(bench, "trap-cpu", "traps (v2c) at 10 K/s", Load::plain(What::Trap, 10_000, 10), &NET_SNMP, 0.1)
}
