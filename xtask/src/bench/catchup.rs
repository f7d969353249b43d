//! How fast a backlog drains while new messages keep coming.

use super::Bench;
use super::load::{Load, What};
use super::measure::Subject;
use super::raven::{Raven, free_port};
use super::table::{Row, Target};
use crate::noc::{Receiver, Speaks};
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Messages a second that arrive all the while.
const ARRIVAL: u64 = 100_000;

/// How long the destination is away, seconds.
const AWAY: u64 = 30;

/// To a RELP and to an HTTP receiver that only count.
pub fn run(bench: &Bench) -> Result<Vec<Row>> {
    [(Speaks::Relp, "RELP"), (Speaks::Http, "HTTP")]
        .into_iter()
        .map(|(speaks, name)| row(bench, speaks, name))
        .collect()
}

fn row(bench: &Bench, speaks: Speaks, name: &str) -> Result<Row> {
    Ok(Row {
        bench: "catchup",
        what: format!("catch-up by {name} while 100 K/s arrive"),
        unit: "messages/s",
        reference: Some(("arrival".to_owned(), ARRIVAL as f64)),
        raven: drain_rate(bench, speaks)?,
        target: Target::RatioAtLeast(5.0),
    })
}

/// Records a second that the receiver acknowledges, from its first one until it has caught up with the present.
fn drain_rate(bench: &Bench, speaks: Speaks) -> Result<f64> {
    let port = free_port()?;
    let raven = Raven::start_with(&bench.programs, &[What::SyslogUdp], &uplink(speaks, port))?;
    let load = Load::plain(What::SyslogUdp, ARRIVAL, 2 * AWAY);
    let mut generator = load.start(&bench.programs, raven.port())?;
    std::thread::sleep(Duration::from_secs(AWAY));
    let receiver = Receiver::start(speaks, &format!("127.0.0.1:{port}"), None)?;
    let backlog_at = Instant::now();
    if !receiver.has_begun(Duration::from_mins(2)) {
        bail!("nothing arrives at the receiver: {}", raven.stream(raven.inputs()[0])?);
    }
    let started = Instant::now();
    let rate = loop {
        std::thread::sleep(Duration::from_millis(100));
        let (taken, arrived) = (receiver.records(), ARRIVAL * (AWAY + backlog_at.elapsed().as_secs()));
        // Caught up, or the generator is done: what comes later says nothing about a drain under load.
        if taken + ARRIVAL / 2 >= arrived || generator.is_done()? {
            break taken as f64 / started.elapsed().as_secs_f64();
        }
    };
    eprintln!("  {rate:.0}/s");
    generator.wait()?;
    raven.stop()?;
    Ok(rate)
}

fn uplink(speaks: Speaks, port: u16) -> String {
    match speaks {
        Speaks::Relp => format!("[uplink.noc]\nkind = \"relp\"\nto = \"127.0.0.1:{port}\"\n"),
        Speaks::Http => format!("[uplink.noc]\nkind = \"http\"\nto = \"http://127.0.0.1:{port}/raven\"\n"),
    }
}
