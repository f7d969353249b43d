//! A backlog four times as large as the memory that may cache it: how fast it drains, how long what arrives meanwhile
//! takes, and what store and uplink need for it.
//!
//! All of Raven is held to a memory cgroup of 1 GiB, its page cache included; generators and receiver are not in it.

use super::Bench;
use super::cgroup::MemoryLimit;
use super::load::{Load, What};
use super::machine::memory_of;
use super::measure::Subject;
use super::raven::{Raven, free_port, number};
use super::table::{Row, Target};
use crate::noc::{Receiver, Speaks};
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// Messages a second that arrive all the while.
const ARRIVAL: u64 = 100_000;

/// How many times the limit the backlog is.
const TIMES: u64 = 4;

/// Longest drain that is waited for.
const PATIENCE: Duration = Duration::from_mins(10);

/// What a drain gave.
struct Drain {
    /// Records a second that the receiver acknowledged.
    rate: f64,
    /// Of what arrived meanwhile: from its receipt until it was at the receiver, the slowest in a hundred, seconds.
    p99: f64,
    /// Largest memory of store and uplink, MiB.
    peak_mib: f64,
}

/// To a RELP receiver that only counts.
pub fn run(bench: &Bench) -> Result<Vec<Row>> {
    let limit = if bench.quick { 256 << 20 } else { 1 << 30 };
    let drain = drain(bench, limit)?;
    let what = |what: &str| format!("{what}, backlog {TIMES} × page cache of {} MiB, 100 K/s arrive", limit >> 20);
    let row = |what, unit, reference, raven, target| Row { bench: "backlog", what, unit, reference, raven, target };
    let arrival = Some(("arrival".to_owned(), ARRIVAL as f64));
    Ok(vec![
        row(what("catch-up by RELP"), "messages/s", arrival, drain.rate, Target::RatioAtLeast(5.0)),
        row(what("live lane, p99"), "s", None, drain.p99, Target::AtMost(1.0)),
        row(what("memory of store and uplink"), "MiB", None, drain.peak_mib, Target::AtMost(128.0)),
    ])
}

fn drain(bench: &Bench, limit: u64) -> Result<Drain> {
    let group = MemoryLimit::new(limit)?;
    let port = free_port()?;
    let uplink = format!("[uplink.noc]\nkind = \"relp\"\nto = \"127.0.0.1:{port}\"\n");
    let disk = format!("{}MiB", (limit >> 20) * (TIMES + 4));
    let raven = Raven::start_sized(&bench.programs, &[What::SyslogTcp, What::SyslogUdp], &disk, &uplink)?;
    group.take(raven.pid())?;
    for (_, pid) in raven.roles()? {
        group.take(pid)?;
    }
    let backlog = fill(bench, &raven, limit * TIMES)?;
    let arriving =
        Load::plain(What::SyslogUdp, ARRIVAL, 2 * PATIENCE.as_secs()).start(&bench.programs, raven.inputs()[1].port)?;
    let drain = until_caught_up(&raven, &Receiver::start(Speaks::Relp, &format!("127.0.0.1:{port}"), None)?, backlog);
    arriving.end()?;
    eprintln!("  cgroup: {}", group.usage()?);
    raven.stop()?;
    drain
}

/// Fills the ring with so many bytes; returns how many records those are.
fn fill(bench: &Bench, raven: &Raven, bytes: u64) -> Result<u64> {
    let input = raven.inputs()[0];
    loop {
        let stream = raven.stream(input)?;
        let stored = number(&stream["bytes_disk"])?;
        if stored >= bytes {
            return number(&stream["stored"]);
        }
        eprintln!("  {} of {} MiB", stored >> 20, bytes >> 20);
        let load = Load { what: What::SyslogTcp, rate: 0, seconds: 10, gso: false };
        load.start(&bench.programs, input.port)?.wait()?;
        // The status is a second old at most.
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// From the receiver's first record until nothing waits but what just came.
fn until_caught_up(raven: &Raven, receiver: &Receiver, backlog: u64) -> Result<Drain> {
    let begun = Instant::now();
    if !receiver.has_begun(Duration::from_mins(2)) {
        bail!("nothing arrives at the receiver: {}", raven.stream(raven.inputs()[0])?);
    }
    let started = Instant::now();
    receiver.watch();
    let roles = raven.roles()?;
    let (mut peak_mib, mut peak) = (0.0_f64, String::new());
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let both = roles.iter().filter(|(role, _)| role == "store" || role == "uplink");
        let both = both.map(|(role, pid)| Ok((role, memory_of(*pid)?))).collect::<Result<Vec<_>>>()?;
        let total = both.iter().map(|(_, memory)| memory.total).sum();
        if total > peak_mib {
            let parts: Vec<String> = both.iter().map(|(role, memory)| format!("{role} {memory}")).collect();
            (peak_mib, peak) = (total, parts.join(", "));
        }
        let taken = receiver.records();
        let arrived = backlog + (ARRIVAL as f64 * begun.elapsed().as_secs_f64()) as u64;
        if taken + ARRIVAL / 2 >= arrived {
            let rate = taken as f64 / started.elapsed().as_secs_f64();
            let p99 = receiver.p99().context("nothing that arrived meanwhile came to the receiver")?;
            eprintln!("  {taken} records, {rate:.0}/s; live p99 {p99:?}; store and uplink {peak_mib:.1} MiB: {peak}");
            return Ok(Drain { rate, p99: p99.as_secs_f64(), peak_mib });
        }
        if begun.elapsed() > PATIENCE {
            bail!("{taken} of {arrived} records are delivered after {PATIENCE:?}");
        }
    }
}
