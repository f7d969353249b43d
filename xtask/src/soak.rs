//! `cargo xtask soak`: fourteen simulated days from each seed, for as long as it is told to.
//!
//! The soak itself is a test of `raven-worker`, beside the store that it drives; here it is built nearly as it ships,
//! started, and what it says is summed up.

use crate::args::Args;
use crate::build;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// The test that goes on for hours.
const TEST: &str = "store::soak::seeds_for_hours";

/// What was heard of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    /// The seed that was begun last.
    seed: Option<u64>,
    /// Seeds whose account added up.
    passed: u64,
    /// What did not.
    wrong: Option<String>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        if let Some(seed) = line.strip_prefix("soak: seed ") {
            self.seed = seed.trim().parse().ok();
        } else if line.starts_with("soak: ok ") {
            self.passed += 1;
        } else if line.starts_with("soak: wrong ") {
            self.wrong = line.strip_prefix("soak: wrong ").map(str::to_owned);
        }
    }
}

/// Runs seeds from `--seed` on for `--hours`.
pub fn run(mut args: Args) -> Result<()> {
    let seed: u64 = args.option("--seed")?.context("soak needs --seed N")?;
    let hours: f64 = args.option("--hours")?.context("soak needs --hours H")?;
    let json = args.flag("--json");
    args.end()?;
    if !hours.is_finite() || hours < 0.0 {
        bail!("`{hours}` is no number of hours");
    }
    let mut test = build::cargo();
    test.args(["test", "--quiet", "--profile", "test-release", "--package", "raven-worker", "--bin", "raven-worker"]);
    test.args(["--", "--ignored", "--exact", "--nocapture", TEST]);
    test.env("RAVEN_SOAK_SEED", seed.to_string()).env("RAVEN_SOAK_HOURS", hours.to_string());
    let (heard, succeeded) = listen(&mut test, json)?;
    let ok = succeeded && heard.passed > 0;
    if json {
        let failed = if ok { None } else { heard.seed };
        println!(
            "{}",
            json!({ "ok": ok, "first": seed, "passed": heard.passed, "failed": failed, "what": heard.wrong })
        );
    } else {
        println!("{} seeds from {seed} on add up", heard.passed);
    }
    match (ok, heard.seed) {
        (true, _) => Ok(()),
        (false, Some(failed)) => bail!(
            "{}; to see it again: cargo xtask soak --seed {failed} --hours 0",
            heard.wrong.unwrap_or_else(|| format!("seed {failed} ended without a word"))
        ),
        (false, None) => bail!("the soak did not begin"),
    }
}

/// Shows what it says, but for what store and uplink say of themselves.
fn listen(test: &mut Command, json: bool) -> Result<(Heard, bool)> {
    let mut child = test.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cargo test")?;
    let mut heard = Heard::default();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        heard.line(&line);
        if !json && line.starts_with("soak: ok ") {
            println!("{line}");
        }
    }
    Ok((heard, child.wait()?.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_that_fails_is_the_one_that_was_begun_last() {
        let mut heard = Heard::default();
        let said =
            ["soak: seed 7", "soak: ok 7: stored 9", "soak: seed 8", "soak: wrong seed 8, day 3: dropped", "test x"];
        for line in said {
            heard.line(line);
        }
        let wrong = Some("seed 8, day 3: dropped".to_owned());
        assert_eq!(heard, Heard { seed: Some(8), passed: 1, wrong });
    }
}
