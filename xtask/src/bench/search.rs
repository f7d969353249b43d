//! How fast a ring is searched for one sender, beside `zstdcat | grep` of the same messages in a file.
//!
//! Two hundred busy senders, and one that says something ten times a second: a device in trouble among all others. A
//! sender who is in every block is found no faster than the blocks unpack.

use super::Bench;
use super::load::What;
use super::measure::Subject;
use super::raven::Raven;
use super::table::{Row, Target};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Bytes of a message.
const MESSAGE: u64 = 200;

/// Messages a second while the ring is filled.
const RATE: u64 = 300_000;

/// The one that is looked for.
const WANTED: &str = "127.0.0.1";

/// Times that each is measured; the best counts.
const ROUNDS: usize = 3;

/// Fills a ring, writes the file, searches both in turn.
pub fn run(bench: &Bench) -> Result<Vec<Row>> {
    // On the disk they are a quarter of that, or less.
    let disk = format!("{}MiB", 1024 + bench.search_mb / 2);
    let raven = Raven::start_sized(&bench.programs, &[What::SyslogUdp], &disk, "")?;
    fill(bench, &raven)?;
    let dir = tempfile::Builder::new().prefix("raven-search-").tempdir()?;
    let file = dir.path().join("messages.zst");
    let bytes = write_file(&raven, &file)?;
    let grep = format!("zstdcat '{}' | LC_ALL=C grep -c -F '{WANTED} '", file.display());
    let (mut by_raven, mut by_grep) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let found = found_by_raven(&raven)?;
        by_raven = by_raven.max(bytes as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        let output = Command::new("sh").args(["-c", &grep]).output().context("zstdcat | grep")?;
        by_grep = by_grep.max(bytes as f64 / start.elapsed().as_secs_f64());
        let grepped: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().context("zstdcat | grep failed")?;
        if found == 0 || found != grepped {
            bail!("raven search found {found} messages, grep {grepped}");
        }
        eprintln!("  {found} messages of {bytes} bytes: {:.0} and {:.0} MB/s so far", by_raven / 1e6, by_grep / 1e6);
    }
    raven.stop()?;
    Ok(vec![Row {
        bench: "search",
        what: format!("one sender of 201 in {} MB of messages", bytes / 1_000_000),
        unit: "MB/s",
        reference: Some(("zstdcat, grep".to_owned(), by_grep / 1e6)),
        raven: by_raven / 1e6,
        target: Target::RatioAtLeast(5.0),
    }])
}

fn fill(bench: &Bench, raven: &Raven) -> Result<()> {
    let messages = bench.search_mb * 1_000_000 / MESSAGE;
    let to = format!("127.0.0.1:{}", raven.port());
    let generate = |arguments: &str| {
        let mut generator = Command::new(bench.programs.join("raven"));
        generator.args(["gen", "syslog", "--proto", "udp", "--json", "--to", &to]).args(arguments.split(' '));
        generator.stdout(Stdio::null()).spawn().context("raven gen")
    };
    let mut many = generate(&format!("--senders 200 --own-addresses --gso --rate {RATE} --count {messages}"))?;
    let mut one = generate(&format!("--rate 10 --duration {}s", messages / RATE + 1))?;
    if !many.wait()?.success() || !one.wait()?.success() {
        bail!("raven gen failed");
    }
    raven.settled(raven.inputs()[0], messages)?;
    Ok(())
}

/// Each message on a line behind its sender's address, as a collector's file has it; returns their bytes.
fn write_file(raven: &Raven, path: &Path) -> Result<u64> {
    let mut export = raven.raven().args(["export", "syslog", "--json"]).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::with_capacity(1 << 20, export.stdout.take().context("no output")?);
    let mut file = zstd::Encoder::new(File::create(path)?, 3)?;
    let mut bytes = 0;
    for line in lines.lines() {
        let record: Value = serde_json::from_str(&line?)?;
        let (address, raw) = (record["source"]["addr"].as_str(), record["raw"].as_str());
        let line = format!("{} {}\n", address.context("no sender")?, raw.context("no message")?);
        bytes += line.len() as u64;
        file.write_all(line.as_bytes())?;
    }
    file.finish()?.sync_all()?;
    if !export.wait()?.success() {
        bail!("raven export failed");
    }
    Ok(bytes)
}

fn found_by_raven(raven: &Raven) -> Result<u64> {
    let mut search = raven.raven();
    let output = search.args(["search", "--source", WANTED, "--json"]).stderr(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("raven search: {}", output.status);
    }
    Ok(memchr::memchr_iter(b'\n', &output.stdout).count() as u64)
}
