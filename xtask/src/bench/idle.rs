//! What Raven takes when nothing happens.

use super::Bench;
use super::load::What;
use super::machine::{cpu_of, cpu_seconds, pss_mib};
use super::measure::Subject;
use super::raven::Raven;
use super::table::{Row, Target};
use anyhow::Result;
use std::time::Duration;

/// Memory of all processes after half a minute of rest, with one destination that is away.
pub fn run(bench: &Bench) -> Result<Vec<Row>> {
    let uplink = "[uplink.noc]\nkind = \"relp\"\nto = \"127.0.0.1:9\"\n";
    let raven = Raven::start_with(&bench.programs, &[What::SyslogUdp], uplink)?;
    std::thread::sleep(Duration::from_secs(20));
    let (before, seconds) = (cpu_seconds(raven.pid()), 10);
    std::thread::sleep(Duration::from_secs(seconds));
    let cpu = (cpu_seconds(raven.pid()) - before) * 1000.0 / seconds as f64;
    let mib = pss_mib(raven.pid())?;
    raven.stop()?;
    let [net, vpn] = network(bench)?;
    let row = |what: &str, unit, raven, target| Row {
        bench: "idle",
        what: what.to_owned(),
        unit,
        reference: None,
        raven,
        target,
    };
    Ok(vec![
        row("idle memory of all processes (PSS)", "MiB", mib, Target::AtMost(40.0)),
        row("idle CPU of all processes", "ms per second", cpu, Target::None),
        row("idle CPU of the role net", "percent", net, Target::AtMost(0.1)),
        row("idle CPU of the role vpn, with a tunnel that is not up", "percent", vpn, Target::AtMost(0.1)),
    ])
}

/// Percent of a processor that the roles `net` and `vpn` take over a minute in which no link and no tunnel changes. The
/// profile is not there, so that nothing is tried.
fn network(bench: &Bench) -> Result<[f64; 2]> {
    let tunnel = "[vpn]\norder = [\"noc\"]\n[vpn.profile.noc]\nversion = 1\n";
    let raven = Raven::start_with(&bench.programs, &[What::SyslogUdp], tunnel)?;
    std::thread::sleep(Duration::from_secs(10));
    let pids = [raven.process("net")?, raven.process("vpn")?];
    let (before, seconds) = (pids.map(cpu_of), if bench.quick { 20 } else { 60 });
    std::thread::sleep(Duration::from_secs(seconds));
    let after = pids.map(cpu_of);
    raven.stop()?;
    let percent = |n: usize| (after[n] - before[n]) * 100.0 / seconds as f64;
    Ok([percent(0), percent(1)])
}
