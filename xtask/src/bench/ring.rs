//! The ring by itself: measurements of `buffer/tests/cost.rs`, on the disk of the temporary folder (`TMPDIR`).

use super::Bench;
use super::table::{Row, Target};
use crate::build::cargo;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

/// One thread that stores as fast as it can, durable every 100 ms.
pub fn append(_: &Bench) -> Result<Vec<Row>> {
    let figures = figures("row_append")?;
    let figure = |name| figure(&figures, name);
    Ok(vec![
        Row {
            bench: "append",
            what: "syslog records stored by one core, durable each 100 ms".to_owned(),
            unit: "records/s",
            reference: Some(("the same zstd blocks, plain file".to_owned(), figure("plain_rate")?)),
            raven: figure("rate")?,
            target: Target::AtLeast(1.5e6),
        },
        Row {
            bench: "append",
            what: "the same, CPU".to_owned(),
            unit: "CPU-s/million",
            reference: Some(("the same zstd blocks, plain file".to_owned(), figure("plain_cpu")?)),
            raven: figure("cpu")?,
            target: Target::RatioAtMost(1.15),
        },
    ])
}

/// A full ring, turned over ten times.
pub fn turnover(_: &Bench) -> Result<Vec<Row>> {
    let figures = figures("row_turnover")?;
    let figure = |name| figure(&figures, name);
    Ok(vec![
        Row {
            bench: "turnover",
            what: "a full ring, the tenth turnover".to_owned(),
            unit: "records/s",
            reference: Some(("the first".to_owned(), figure("first")?)),
            raven: figure("last")?,
            target: Target::RatioAtLeast(0.9),
        },
        Row {
            bench: "turnover",
            what: "bytes written to the device in ten turnovers".to_owned(),
            unit: "bytes",
            reference: Some(("bytes stored".to_owned(), figure("stored")?)),
            raven: figure("written")?,
            target: Target::RatioAtMost(1.1),
        },
    ])
}

/// A ring of 1 TB (sparse) after a crash.
pub fn open(_: &Bench) -> Result<Vec<Row>> {
    let figures = figures("row_open")?;
    let row = |what: &str, unit, name, most| -> Result<Row> {
        let target = Target::AtMost(most);
        Ok(Row { bench: "open", what: what.to_owned(), unit, reference: None, raven: figure(&figures, name)?, target })
    };
    Ok(vec![
        row("opening 1 TB of segments (sparse) after a crash", "s", "seconds", 2.0)?,
        row("the same without the catalogue, which is made anew", "s", "rebuilt", 2.0)?,
        row("both, memory that it takes at most", "MiB", "peak_mib", 128.0)?,
    ])
}

fn figures(test: &str) -> Result<BTreeMap<String, f64>> {
    let mut run = cargo();
    run.args(["test", "--quiet", "--profile", "test-release", "--package", "raven-buffer", "--test", "cost"]);
    let output = run.args(["--", "--ignored", "--exact", "--nocapture", test]).output().context("cargo test")?;
    if !output.status.success() {
        bail!("{test}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(read(&String::from_utf8_lossy(&output.stdout)))
}

/// From lines of `row NAME FIGURE`.
fn read(said: &str) -> BTreeMap<String, f64> {
    let row = |line: &str| {
        let (name, figure) = line.strip_prefix("row ")?.split_once(' ')?;
        Some((name.to_owned(), figure.parse().ok()?))
    };
    said.lines().filter_map(row).collect()
}

fn figure(figures: &BTreeMap<String, f64>, name: &str) -> Result<f64> {
    figures.get(name).copied().with_context(|| format!("the measurement says nothing of `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_other_lines() {
        let figures = read("running 1 test\nrow rate 1500000.5\nrow cpu x\ntest result: ok\n");
        assert!(figure(&figures, "rate").is_ok_and(|rate| (rate - 1_500_000.5).abs() < 0.1));
        assert!(figure(&figures, "cpu").is_err());
    }
}
