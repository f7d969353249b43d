//! Datagrams of syslog: what one costs, how many a second, whether any is lost, what one takes on disk.

use super::Bench;
use super::compare::{self, RSYSLOG_UDP};
use super::load::{Load, What};
use super::measure::Subject;
use super::raven::{Raven, number};
use super::rsyslog::{Rsyslog, Work};
use super::table::{Row, Target};
use crate::apt::RSYSLOG;
use anyhow::Result;
use std::time::Duration;

fn plain(rate: u64, seconds: u64) -> Load {
    Load::plain(What::SyslogUdp, rate, seconds)
}

/// CPU at 100,000 plain sends a second, against rsyslog to a plain file.
pub fn cpu(bench: &Bench) -> Result<Vec<Row>> {
    compare::cpu(bench, "udp-cpu", "UDP at 100 K/s", plain(100_000, 10), &RSYSLOG_UDP, 0.5)
}

/// The highest rate without loss.
pub fn rate(bench: &Bench) -> Result<Vec<Row>> {
    compare::rate(bench, "udp-rate", What::SyslogUdp, 150_000, &RSYSLOG_UDP)
}

/// A minute at 100,000 plain sends a second: nothing may be lost.
pub fn soak(bench: &Bench) -> Result<Vec<Row>> {
    compare::soak(bench, "udp-soak", "UDP at 100 K/s", plain(100_000, bench.soak))
}

/// Bytes on disk for each message, against rsyslog's disk queue.
pub fn disk(bench: &Bench) -> Result<Vec<Row>> {
    let reference = if RSYSLOG.is_met() { Some(("rsyslog disk queue".to_owned(), rsyslog_disk(bench)?)) } else { None };
    // Small segments, so that space laid out ahead does not count; several of them get full.
    let raven = Raven::start_with(&bench.programs, &[What::SyslogUdp], "segment = \"8MiB\"\n")?;
    let input = raven.inputs()[0];
    let sent = plain(100_000, 20).start(&bench.programs, input.port)?.wait()?;
    raven.settled(input, sent.count)?;
    let stream = raven.stream(input)?;
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
    std::thread::sleep(Duration::from_secs(2));
    let (bytes, messages) = queue.queued()?;
    Ok(bytes as f64 / messages.max(1) as f64)
}
