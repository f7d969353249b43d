//! Command line arguments: a command, then options in any order.

use anyhow::{Context, Result, bail};
use std::str::FromStr;

/// What is left of the command line.
#[derive(Debug)]
pub struct Args(Vec<String>);

impl Args {
    /// The program's own.
    pub fn from_env() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// The first word.
    pub fn command(&mut self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Whether `--name` is there; takes it.
    pub fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|arg| arg == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// The value behind `--name`; takes both.
    pub fn option<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(at) = self.0.iter().position(|arg| arg == name) else { return Ok(None) };
        if at + 1 >= self.0.len() {
            bail!("{name} needs a value");
        }
        let value = self.0.remove(at + 1);
        self.0.remove(at);
        value.parse().ok().with_context(|| format!("`{value}` is no value for {name}")).map(Some)
    }

    /// A word that is no option; takes it.
    pub fn word(&mut self) -> Option<String> {
        let found = self.0.iter().position(|arg| !arg.starts_with('-'));
        found.map(|at| self.0.remove(at))
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<()> {
        match self.0.first() {
            Some(arg) => bail!("`{arg}` was not understood"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn options_stand_in_any_order() {
        let mut args = args("bench --json udp-cpu --bin-dir target/release");
        assert_eq!(args.command().as_deref(), Some("bench"));
        assert_eq!(args.option::<String>("--bin-dir").ok().flatten().as_deref(), Some("target/release"));
        assert!(args.flag("--json") && !args.flag("--json"));
        assert_eq!(args.word().as_deref(), Some("udp-cpu"));
        assert!(args.end().is_ok());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(args("--fore 5").end().map_err(|e| e.to_string()), Err("`--fore` was not understood".to_owned()));
        assert!(args("--for soon").option::<u64>("--for").is_err());
        assert!(args("--for").option::<u64>("--for").is_err());
    }
}
