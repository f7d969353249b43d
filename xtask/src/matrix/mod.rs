//! `cargo xtask matrix`: everything that can go wrong, one case at a time, with real programs, and a count at the end.

mod certificates;
mod crash;
mod fed;
pub mod net;
mod outage;
mod receiver;
mod wire;

use crate::args::Args;
use crate::{apt, build, interrupt};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rounds of the crash matrix when nothing else is asked for.
const ROUNDS: u64 = 1000;

/// Something that goes wrong, and is put right.
pub struct Case<L> {
    /// Its name on the command line.
    pub name: &'static str,
    /// Breaks it, waits, heals it.
    pub run: fn(&mut L) -> Result<()>,
}

/// What the cases run with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of the programs.
    pub programs: PathBuf,
    /// How often, where that is a matter of patience.
    pub rounds: u64,
}

/// Where a case takes place.
pub trait Lab: Sized {
    /// Set up.
    fn start(settings: &Settings) -> Result<Self>;
    /// After healing: what came of it.
    fn judge(self) -> Result<Outcome>;
}

/// What came of a case.
#[derive(Debug, Default)]
pub struct Outcome {
    /// By name.
    pub figures: Vec<(&'static str, u64)>,
    /// More of them, in words.
    pub told: String,
    /// What must not be; empty when all is well.
    pub flaws: Vec<String>,
}

/// Runs all cases, or one.
pub fn run(mut args: Args) -> Result<()> {
    let (json, bin_dir, only) =
        (args.flag("--json"), args.option::<String>("--bin-dir")?, args.option::<String>("--case")?);
    let rounds = args.option("--rounds")?.unwrap_or(ROUNDS);
    let kind = args.word();
    args.end()?;
    if !nix::unistd::geteuid().is_root() {
        bail!("the matrix makes network namespaces and mounts: run it as root");
    }
    apt::install(apt::TESTS)?;
    interrupt::end_children()?;
    let programs = match bin_dir {
        Some(folder) => build::in_folder(Path::new(&folder))?,
        None => build::programs("test-release")?,
    };
    let settings = Settings { programs, rounds };
    match kind.as_deref() {
        Some("outage") => cases(&outage::CASES, only.as_deref(), &settings, json),
        Some("crash") => cases(&crash::CASES, only.as_deref(), &settings, json),
        other => bail!("`{}` is no matrix: outage, crash", other.unwrap_or("")),
    }
}

fn cases<L: Lab>(all: &[Case<L>], only: Option<&str>, settings: &Settings, json: bool) -> Result<()> {
    let chosen: Vec<_> = all.iter().filter(|case| only.is_none_or(|name| name == case.name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = all.iter().map(|case| case.name).collect();
        bail!("no case `{}`; there are {}", only.unwrap_or(""), names.join(", "));
    }
    let mut failed = Vec::new();
    let mut told = Vec::new();
    for case in chosen {
        let begun = Instant::now();
        let result = one(case, settings);
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

fn one<L: Lab>(case: &Case<L>, settings: &Settings) -> Result<Outcome> {
    let mut lab = L::start(settings).context("set-up")?;
    (case.run)(&mut lab)?;
    lab.judge()
}

fn value_of(name: &str, took: Duration, result: &Result<Outcome>) -> Value {
    let mut value = json!({ "case": name, "seconds": took.as_secs() });
    match result {
        Ok(outcome) => {
            value["ok"] = outcome.flaws.is_empty().into();
            value["flaws"] = json!(outcome.flaws);
            value["told"] = json!(outcome.told);
            for (name, figure) in &outcome.figures {
                value[name] = json!(figure);
            }
        }
        Err(error) => {
            value["ok"] = false.into();
            value["flaws"] = json!([format!("{error:#}")]);
        }
    }
    value
}

fn line(value: &Value) -> String {
    let flaws: Vec<&str> = value["flaws"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let verdict = if value["ok"] == true { "ok" } else { "FAILED" };
    let known = ["case", "seconds", "ok", "flaws", "told"];
    let figures = value.as_object().into_iter().flatten().filter(|(name, _)| !known.contains(&name.as_str()));
    let figures: Vec<String> = figures.map(|(name, figure)| format!("{} {figure}", name.replace('_', " "))).collect();
    format!(
        "{verdict:<7} {:<20} {:>4} s  {}{}  {}",
        value["case"].as_str().unwrap_or(""),
        value["seconds"],
        figures.join(", "),
        value["told"].as_str().unwrap_or(""),
        flaws.join("; ")
    )
}
