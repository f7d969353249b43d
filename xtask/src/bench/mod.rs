//! `cargo xtask bench`: Raven beside a reference, in the same run, on the same machine, under the same generator.
//!
//! Ratios are what counts: figures of two machines, or of two days on one, say little. Start with [`udp`] and what
//! it calls in [`compare`]; how CPU and memory are read is in [`machine`].

mod all_four;
mod backlog;
mod catchup;
mod cgroup;
mod compare;
mod decode;
mod diag;
mod flow;
mod idle;
mod load;
pub mod machine;
mod measure;
mod peer;
mod raven;
mod ring;
mod rsyslog;
mod search;
pub mod sink;
mod table;
mod tcp;
mod trap;
mod udp;
mod winevent;

use crate::args::Args;
use crate::{apt, build, interrupt};
use anyhow::{Result, bail};
use std::path::PathBuf;
use table::Row;

/// What a measurement needs to know.
pub struct Bench {
    /// Folder of the three programs.
    programs: PathBuf,
    /// Smaller where the full size takes minutes.
    quick: bool,
    /// Length of the benchmarks that show that nothing is lost, seconds.
    soak: u64,
    /// Megabytes of messages in the ring that is searched.
    search_mb: u64,
}

type Measure = fn(&Bench) -> Result<Vec<Row>>;

const ALL: [(&str, Measure); 22] = [
    ("sink", sink::run),
    ("udp-cpu", udp::cpu),
    ("udp-rate", udp::rate),
    ("udp-soak", udp::soak),
    ("tcp-cpu", tcp::cpu),
    ("disk", udp::disk),
    ("catchup", catchup::run),
    ("backlog", backlog::run),
    ("idle", idle::run),
    ("diag", diag::run),
    ("flow-cpu", flow::cpu),
    ("flow-rate", flow::rate),
    ("flow-soak", flow::soak),
    ("sflow-cpu", flow::sflow),
    ("trap-cpu", trap::cpu),
    ("winevent", winevent::run),
    ("all-four", all_four::run),
    ("decode", decode::run),
    ("search", search::run),
    ("append", ring::append),
    ("turnover", ring::turnover),
    ("open", ring::open),
];

/// Runs one or all and prints the table.
pub fn run(mut args: Args) -> Result<()> {
    let json = args.flag("--json");
    let quick = args.flag("--quick");
    let soak = if quick { 20 } else { 60 };
    let search_mb = args.option("--search-mb")?.unwrap_or(1000);
    let folder: Option<PathBuf> = args.option("--bin-dir")?;
    let name = args.word();
    args.end()?;
    let chosen: Vec<_> =
        ALL.into_iter().filter(|(known, _)| name.as_deref().is_none_or(|name| name == *known)).collect();
    if chosen.is_empty() {
        bail!("there is no such benchmark; known: {}", ALL.map(|(name, _)| name).join(" "));
    }
    let programs = folder.map_or_else(|| build::programs("release"), |folder| build::in_folder(&folder))?;
    if let Err(error) = apt::install(&apt::REFERENCES) {
        eprintln!("without some references: {error:#}");
    }
    interrupt::end_children()?;
    let bench = Bench { programs, quick, soak, search_mb };
    let mut rows = Vec::new();
    for (name, measure) in chosen {
        eprintln!("measuring {name} …");
        rows.extend(measure(&bench)?);
    }
    if json {
        table::print_json(&rows);
    } else {
        table::print(&rows);
    }
    Ok(())
}
