//! Datagrams: what one costs, how many a second, whether any is lost, what one takes on disk.

use super::Bench;
use super::load::Load;
use super::machine::median;
use super::measure::{Run, Subject, run};
use super::raven::{Raven, number};
use super::rsyslog::{Rsyslog, Work};
use super::table::{Row, Target};
use anyhow::{Result, bail};

/// Loss that still counts as none, when the highest rate is sought.
const LOSS: f64 = 0.0001;

/// Runs of each, in turn.
const RUNS: usize = 3;

fn raven(bench: &Bench) -> Result<Box<dyn Subject>> {
    Ok(Box::new(Raven::start_with(&bench.programs, "")?))
}

fn rsyslog(_: &Bench) -> Result<Box<dyn Subject>> {
    Ok(Box::new(Rsyslog::start(Work::UdpToFile)?))
}

fn plain(rate: u64, seconds: u64) -> Load {
    Load { proto: "udp", rate, seconds, gso: false }
}

/// Runs Raven and the reference in turn, so that a busy neighbour hits both.
pub fn in_turn(
    bench: &Bench,
    load: Load,
    reference: impl Fn() -> Result<Box<dyn Subject>>,
) -> Result<(Vec<Run>, Vec<Run>)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        if bench.reference {
            theirs.push(run(&bench.programs, reference()?, load)?);
        }
        ours.push(run(&bench.programs, raven(bench)?, load)?);
    }
    Ok((ours, theirs))
}

/// The rows of a comparison: CPU with its target, and memory beside it.
pub fn cpu_rows(bench: &'static str, what: &str, who: &str, target: f64, ours: &[Run], theirs: &[Run]) -> Vec<Row> {
    let of = |runs: &[Run], figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    let row = |what: String, unit, figure: fn(&Run) -> f64, target| Row {
        bench,
        what,
        unit,
        reference: (!theirs.is_empty()).then(|| (who.to_owned(), of(theirs, figure))),
        raven: of(ours, figure),
        target,
    };
    vec![
        row(format!("{what}, CPU per message"), "CPU-s per million", Run::cpu_per_million, Target::RatioAtMost(target)),
        row(format!("{what}, peak memory"), "MiB", |run| run.peak_mib, Target::None),
        row(
            format!("{what}, generator beside it"),
            "CPU-s per million",
            |run| run.sent.cpu * 1e6 / run.sent.count as f64,
            Target::None,
        ),
        row(format!("{what}, loss"), "%", |run| run.loss() * 100.0, Target::None),
    ]
}

/// CPU at 100,000 plain sends a second, against rsyslog to a plain file.
pub fn cpu(bench: &Bench) -> Result<Vec<Row>> {
    let (ours, theirs) = in_turn(bench, plain(100_000, 10), || rsyslog(bench))?;
    Ok(cpu_rows("udp-cpu", "UDP at 100 K/s", "rsyslog imudp → file", 0.5, &ours, &theirs))
}

/// The highest rate without loss, the same search for both.
pub fn rate(bench: &Bench) -> Result<Vec<Row>> {
    let theirs = if bench.reference { Some(highest_rate(bench, rsyslog)?) } else { None };
    let ours = highest_rate(bench, raven)?;
    Ok(vec![Row {
        bench: "udp-rate",
        what: "UDP, highest rate with loss < 0.01 % (UDP_SEGMENT)".to_owned(),
        unit: "messages/s",
        reference: theirs.map(|rate| ("rsyslog imudp → file".to_owned(), rate)),
        raven: ours,
        target: Target::RatioAtLeast(1.0),
    }])
}

/// Up in large steps until two runs in a row lose, then the gap is halved three times.
fn highest_rate(bench: &Bench, start: fn(&Bench) -> Result<Box<dyn Subject>>) -> Result<f64> {
    let try_rate = |rate: u64| -> Result<Option<f64>> {
        // A run that loses may have met a busy neighbour: it gets a second one.
        for _ in 0..2 {
            let run = run(&bench.programs, start(bench)?, Load { proto: "udp", rate, seconds: 4, gso: true })?;
            if run.loss() < LOSS {
                return Ok(Some(run.sent.rate));
            }
        }
        Ok(None)
    };
    let (mut good, mut good_actual, mut bad) = (0, 0.0, 150_000);
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

/// A minute at 100,000 plain sends a second: nothing may be lost.
pub fn soak(bench: &Bench) -> Result<Vec<Row>> {
    let run = run(&bench.programs, raven(bench)?, plain(100_000, 60))?;
    if run.sent.rate < 95_000.0 {
        bail!("the generator reached only {:.0} messages a second; the machine is too busy to tell", run.sent.rate);
    }
    Ok(vec![Row {
        bench: "udp-soak",
        what: "UDP at 100 K/s for 60 s".to_owned(),
        unit: "messages lost",
        reference: None,
        raven: run.sent.count.saturating_sub(run.received) as f64,
        target: Target::AtMost(0.0),
    }])
}

/// Bytes on disk for each message, against rsyslog's disk queue.
pub fn disk(bench: &Bench) -> Result<Vec<Row>> {
    let reference = if bench.reference { Some(("rsyslog disk queue".to_owned(), rsyslog_disk(bench)?)) } else { None };
    // Small segments, so that space laid out ahead does not count; several of them get full.
    let mut raven = Raven::start_with(&bench.programs, "segment = \"8MiB\"\n")?;
    let sent = plain(100_000, 20).start(&bench.programs, raven.port())?.wait()?;
    raven.settle(sent.count)?;
    let stream = raven.stream()?;
    let bytes = number(&stream["bytes_disk"])? as f64 / number(&stream["stored"])?.max(1) as f64;
    raven.stop()?;
    Ok(vec![Row {
        bench: "disk",
        what: "disk per 200-byte message".to_owned(),
        unit: "bytes",
        reference,
        raven: bytes,
        target: Target::AtMost(60.0),
    }])
}

fn rsyslog_disk(bench: &Bench) -> Result<f64> {
    let queue = Rsyslog::start(Work::UdpToDiskQueue)?;
    plain(10_000, 10).start(&bench.programs, queue.port())?.wait()?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let (bytes, messages) = queue.queued()?;
    Ok(bytes as f64 / messages.max(1) as f64)
}
