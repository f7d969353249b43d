//! `ravend --config FILE --data DIR`: the supervisor.
//!
//! It binds every listener and keeps it, makes the receive memory and never maps it, starts each worker of the
//! process table in its jail, and restarts what dies. It parses no byte that came from the network: it never reads
//! from a listener, hands reports on as they come, and has even its own configuration parsed by a worker.
//!
//! Start with [`supervisor`], the event loop; [`worker`] is one child and the restart law; [`listeners`],
//! [`connections`] and [`fdstore`] hold what outlives a child.

mod appliance;
mod configure;
mod connections;
mod dirs;
mod durable;
mod fdstore;
mod history;
mod installer;
mod journal;
mod listeners;
mod log;
mod logins;
mod operator;
mod program;
mod programs;
mod secrets;
mod slots;
mod status;
mod stick;
mod supervisor;
mod worker;

use anyhow::{Context, bail};
use std::path::PathBuf;

/// The command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    /// The site configuration.
    pub config: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// Where the slots of an installed box are: `A`, `A-hashes`, `B`, `B-hashes`, `esp`.
    pub slots: PathBuf,
    /// Public keys of update bundles.
    pub update_keys: PathBuf,
    /// What a box begins with that has no configuration yet.
    pub factory: Option<PathBuf>,
    /// On the image: where files for the rest of the system go (`/run`).
    pub box_run: Option<PathBuf>,
}

const USAGE: &str =
    "usage: ravend --config FILE --data DIR [--factory FILE] [--box RUN] [--slots DIR] [--update-keys FILE]
  Runs the appliance in the foreground, as root or not. Prints `ready` when every listener is bound and every
  worker is jailed. SIGHUP reads FILE again; SIGTERM or SIGINT makes everything received durable and stops. Where there
  is no configuration yet, that of --factory becomes it. With --box addresses, firewall, name, clock and SSH keys of the
  machine are put into force too: on Raven's image, RUN is /run.
  --slots: where A, A-hashes, B, B-hashes and esp of an installed box are (/dev/raven); --update-keys: whose update
  bundles are taken (/usr/share/raven/update.pub).";

fn parse_args(mut args: impl Iterator<Item = String>) -> anyhow::Result<Args> {
    let (mut config, mut data, mut factory, mut box_run) = (None, None, None, None);
    let (mut slots, mut update_keys) = (PathBuf::from("/dev/raven"), PathBuf::from("/usr/share/raven/update.pub"));
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        let mut value =
            || value.clone().or_else(|| args.next()).with_context(|| format!("{name} needs a value\n{USAGE}"));
        match name.as_str() {
            "--config" => config = Some(PathBuf::from(value()?)),
            "--data" => data = Some(PathBuf::from(value()?)),
            "--slots" => slots = std::path::absolute(value()?)?,
            "--update-keys" => update_keys = std::path::absolute(value()?)?,
            "--factory" => factory = Some(std::path::absolute(value()?)?),
            "--box" => box_run = Some(std::path::absolute(value()?)?),
            "--version" => {
                println!("ravend {}", env!("CARGO_PKG_VERSION"));
                std::process::exit(0);
            }
            "--help" => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            _ => bail!("unknown argument {name}\n{USAGE}"),
        }
    }
    let config = config.with_context(|| format!("--config is missing\n{USAGE}"))?;
    let data = data.with_context(|| format!("--data is missing\n{USAGE}"))?;
    let (config, data) = (std::path::absolute(config)?, std::path::absolute(data)?);
    Ok(Args { config, data, slots, update_keys, factory, box_run })
}

/// Nothing of any process's memory is in a core file, whatever the machine does with those: keys and passwords go through
/// `ravend` and lie in its workers. A limit of 0 bytes, which workers have, does not hold where cores are piped to a
/// program; what is to be in a core is inherited over fork and exec (core(5)).
fn keep_memory_out_of_cores() {
    if let Err(error) = std::fs::write("/proc/self/coredump_filter", "0") {
        tracing::warn!("/proc/self/coredump_filter cannot be set, so core files may hold keys: {error}");
    }
}

fn main() {
    log::start();
    keep_memory_out_of_cores();
    let outcome = parse_args(std::env::args().skip(1)).and_then(supervisor::run);
    if let Err(error) = outcome {
        tracing::error!("ravend stops: {error:#}");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn args(line: &str) -> anyhow::Result<Args> {
        parse_args(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_forms_of_an_option_are_taken() {
        let taken = args("--config /a --data=/b --slots /c --update-keys=/d --box /e --factory /f").unwrap();
        let Args { config, data, slots, update_keys, factory, box_run } = taken;
        assert_eq!([config, data, slots, update_keys], ["/a", "/b", "/c", "/d"].map(PathBuf::from));
        assert_eq!((box_run, factory), (Some("/e".into()), Some("/f".into())));
        assert_eq!(args("--config /a --data=/b").unwrap().slots, PathBuf::from("/dev/raven"));
    }

    #[test]
    fn a_missing_or_unknown_option_is_named() {
        assert!(args("--config /a").unwrap_err().to_string().contains("--data is missing"));
        assert!(args("--confg /a").unwrap_err().to_string().contains("--confg"));
    }
}
