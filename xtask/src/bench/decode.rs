//! Reading flow records, in this process and without a network: the decoder beside the crate `netflow_parser`.

use super::Bench;
use super::table::{Row, Target};
use crate::build::cargo;
use anyhow::{Context, Result, bail};

/// Runs the decoder's own example, which times both in turn on the same datagrams.
pub fn run(_: &Bench) -> Result<Vec<Row>> {
    let mut example = cargo();
    example.args(["run", "--quiet", "--release", "--package", "raven-decode", "--example", "flow_speed"]);
    let output = example.output().context("cargo run --example flow_speed")?;
    if !output.status.success() {
        bail!("flow_speed: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    eprint!("{said}");
    Ok(vec![Row {
        bench: "decode",
        what: "NetFlow v9, every typed value of 24 records of 20 fields".to_owned(),
        unit: "records/s",
        reference: Some(("netflow_parser".to_owned(), rate(&said, "netflow_parser")?)),
        raven: rate(&said, "all typed values")?,
        target: Target::RatioAtLeast(3.0),
    }])
}

/// From a line as `NAME  30.1 ns/record  33.2 M records/s`.
fn rate(said: &str, name: &str) -> Result<f64> {
    let number = |line: &str| line.strip_prefix(name)?.trim().split_once(" ns/record")?.0.parse::<f64>().ok();
    let ns = said.lines().find_map(number).with_context(|| format!("flow_speed says nothing of `{name}`"))?;
    Ok(1e9 / ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_each_is_found() {
        let said = "all typed values       25.0 ns/record   40.00 M records/s\nratio, netflow_parser to all typed values: 3.1\n\
                    netflow_parser        100.0 ns/record   10.00 M records/s\n";
        let close = |name, figure: f64| rate(said, name).is_ok_and(|rate| (rate - figure).abs() < 1.0);
        assert!(close("all typed values", 4e7) && close("netflow_parser", 1e7));
        assert!(rate(said, "to_json").is_err());
    }
}
