//! `cargo xtask hw-test`: starts the built image in a virtual machine. The work is in the crate `raven-hw-tests`.

use crate::args::Args;
use crate::{apt, build, image};
use anyhow::{Result, ensure};
use serde_json::json;

/// Runs the named scenarios or all.
pub fn run(mut args: Args) -> Result<()> {
    let (all, json) = (args.flag("--all"), args.flag("--json"));
    let key = args.option("--key")?;
    let names: Vec<String> = std::iter::from_fn(|| args.word()).collect();
    args.end()?;
    ensure!(all == names.is_empty(), "name scenarios, or say --all");
    apt::install(&apt::QEMU)?;
    // Scenarios of updates make systems that are not well.
    apt::install(&apt::IMAGE)?;
    let out = build::root().join("target/hw-test");
    let outcomes = raven_hw_tests::run(&names, &image::out(), &image::signing_key(key)?, &out)?;
    let failed = outcomes.iter().filter(|o| o.result.is_err()).count();
    if json {
        let lines: Vec<_> = outcomes
            .iter()
            .map(|o| {
                let error = o.result.as_ref().err().map(|e| format!("{e:#}"));
                json!({"name": o.name, "seconds": o.took.as_secs_f64(), "error": error})
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&lines)?);
    }
    println!("{} passed, {failed} failed; logs and pictures: {}", outcomes.len() - failed, out.display());
    ensure!(failed == 0, "{failed} scenarios failed");
    Ok(())
}
