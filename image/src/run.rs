//! Running programs and telling how far things are.

use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Says what begins, and how long it took when it is done.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    println!("{name} …");
    let done = work().with_context(|| name.to_owned())?;
    println!("{name}: {:.1} s", began.elapsed().as_secs_f64());
    Ok(done)
}

/// Runs `command` to its end and returns what it printed; an error with its last words when it does not succeed.
pub fn must(command: &mut Command) -> Result<Vec<u8>> {
    let said = format!("{command:?}").replace('"', "");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{said} could not be started"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = words.lines().rev().take(10).collect();
        bail!("{said}: {}\n{}", output.status, last.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    Ok(output.stdout)
}
