//! `cargo xtask matrix`: everything that can go wrong, one case at a time, with real programs, and a count at the end.

mod certificates;
pub mod net;
mod outage;
mod receiver;
mod wire;

use crate::args::Args;
use crate::{apt, build};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Something that goes wrong, and is put right.
pub struct Case<L> {
    /// Its name on the command line.
    pub name: &'static str,
    /// Breaks it, waits, heals it.
    pub run: fn(&mut L) -> Result<()>,
}

/// Where a case takes place.
pub trait Lab: Sized {
    /// Set up and under load.
    fn start(programs: &Path) -> Result<Self>;
    /// After healing: what came of it.
    fn judge(self) -> Result<Outcome>;
}

/// What came of a case.
#[derive(Debug)]
pub struct Outcome {
    /// From healing until the present arrived everywhere.
    pub live: Duration,
    /// Records that were stored.
    pub records: u64,
    /// Records that receivers got more than once.
    pub repeated: u64,
    /// What must not be; empty when all is well.
    pub flaws: Vec<String>,
}

/// Runs all cases, or one.
pub fn run(mut args: Args) -> Result<()> {
    let (json, bin_dir, only) =
        (args.flag("--json"), args.option::<String>("--bin-dir")?, args.option::<String>("--case")?);
    let kind = args.word();
    args.end()?;
    if !nix::unistd::geteuid().is_root() {
        bail!("the matrix makes network namespaces: run it as root");
    }
    apt::install(&apt::TESTS)?;
    let programs = match bin_dir {
        Some(folder) => build::in_folder(Path::new(&folder))?,
        None => build::programs("test-release")?,
    };
    match kind.as_deref() {
        Some("outage") => cases(&outage::CASES, only.as_deref(), &programs, json),
        other => bail!("`{}` is no matrix: outage", other.unwrap_or("")),
    }
}

fn cases<L: Lab>(all: &[Case<L>], only: Option<&str>, programs: &Path, json: bool) -> Result<()> {
    let chosen: Vec<_> = all.iter().filter(|case| only.is_none_or(|name| name == case.name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = all.iter().map(|case| case.name).collect();
        bail!("no case `{}`; there are {}", only.unwrap_or(""), names.join(", "));
    }
    let mut failed = Vec::new();
    let mut told = Vec::new();
    for case in chosen {
        let begun = Instant::now();
        let result = one(case, programs);
        let value = value_of(case.name, begun.elapsed(), &result);
        if value["ok"] != true {
            failed.push(case.name);
        }
        if !json {
            println!("{}", line(&value));
        }
        told.push(value);
    }
    if json {
        println!("{}", json!({ "cases": told, "ok": failed.is_empty() }));
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn one<L: Lab>(case: &Case<L>, programs: &Path) -> Result<Outcome> {
    let mut lab = L::start(programs).context("set-up")?;
    (case.run)(&mut lab)?;
    lab.judge()
}

fn value_of(name: &str, took: Duration, result: &Result<Outcome>) -> Value {
    match result {
        Ok(outcome) => json!({
            "case": name,
            "ok": outcome.flaws.is_empty(),
            "seconds": took.as_secs(),
            "live_after_ms": outcome.live.as_millis() as u64,
            "records": outcome.records,
            "repeated": outcome.repeated,
            "flaws": outcome.flaws,
        }),
        Err(error) => json!({ "case": name, "ok": false, "seconds": took.as_secs(), "flaws": [format!("{error:#}")] }),
    }
}

fn line(value: &Value) -> String {
    let flaws: Vec<&str> = value["flaws"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let verdict = if value["ok"] == true { "ok" } else { "FAILED" };
    format!(
        "{verdict:<7} {:<20} {:>4} s  present after {:>6} ms  {:>7} records, {} repeated  {}",
        value["case"].as_str().unwrap_or(""),
        value["seconds"],
        value["live_after_ms"],
        value["records"],
        value["repeated"],
        flaws.join("; ")
    )
}
