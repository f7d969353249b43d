//! TCP, octet counting: what a message costs.

use super::Bench;
use super::load::Load;
use super::rsyslog::{Rsyslog, Work};
use super::table::Row;
use super::udp::{cpu_rows, in_turn};
use anyhow::Result;

/// CPU at 100,000 messages a second, against rsyslog to a plain file.
pub fn cpu(bench: &Bench) -> Result<Vec<Row>> {
    let load = Load { proto: "tcp", rate: 100_000, seconds: 10, gso: false };
    let (ours, theirs) = in_turn(bench, load, || Ok(Box::new(Rsyslog::start(Work::TcpToFile)?)))?;
    Ok(cpu_rows("tcp-cpu", "TCP at 100 K/s", "rsyslog imptcp → file", 0.7, &ours, &theirs))
}
