//! TCP, octet counting: what a message costs.

use super::Bench;
use super::compare::{self, RSYSLOG_TCP};
use super::load::{Load, What};
use super::table::Row;
use anyhow::Result;

/// CPU at 100,000 messages a second, against rsyslog to a plain file.
pub fn cpu(bench: &Bench) -> Result<Vec<Row>> {
    compare::cpu(bench, "tcp-cpu", "TCP at 100 K/s", Load::plain(What::SyslogTcp, 100_000, 10), &RSYSLOG_TCP, 0.7)
}
