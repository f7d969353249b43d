//! `cargo xtask up`: the appliance and a demonstration NOC, on this machine, without root.

use crate::appliance::Appliance;
use crate::args::Args;
use crate::noc::{Receiver, Speaks};
use crate::{build, interrupt};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where the demonstration NOC listens.
const RELP: &str = "127.0.0.1:2514";
const HTTP: &str = "127.0.0.1:2580";

const CONFIG: &str = r#"# Written by `cargo xtask up`; edit it, then: raven config apply
schema = 1

[site]
name = "demo"

[collect.syslog]
udp = [1514]
tcp = [1514]
tls = [6514]
relp = [2515]

# NetFlow, IPFIX and sFlow, any of them on any of these ports.
[collect.flow]
udp = [2055, 4739, 6343]
tcp = [4739]

[collect.trap]
udp = [1162]

[collect.winevent]
http = [8084]

[collect.metrics]
http = [9201]

[buffer]
disk = "2GiB"

[uplink.noc]
kind = "relp"
to = "127.0.0.1:2514"

# The demonstration NOC takes NDJSON too; what it gets is in noc/received.ndjson.
# [uplink.web]
# kind = "http"
# to = "http://127.0.0.1:2580/raven"
"#;

struct Options {
    data: PathBuf,
    programs: Option<PathBuf>,
    limit: Option<Duration>,
}

/// Runs until Ctrl-C.
pub fn run(args: Args) -> Result<()> {
    let options = options(args)?;
    let interrupted = interrupt::flag()?;
    let programs = options.programs.as_deref().map_or_else(build_release, build::in_folder)?;
    let config = prepare(&options.data)?;
    let noc = options.data.join("noc");
    let relp = Receiver::start(Speaks::Relp, RELP, Some(&noc.join("received.log")))?;
    let http = Receiver::start(Speaks::Http, HTTP, Some(&noc.join("received.ndjson")))?;
    let mut appliance = Appliance::start(&programs, &config, &options.data)?;
    appliance.wait_ready(|| interrupted.load(Ordering::Relaxed))?;
    greet(&programs, &options.data);
    watch(&mut appliance, &interrupted, options.limit)?;
    println!("stopping …");
    appliance.stop()?;
    println!("stopped. The NOC acknowledged {} records by RELP and {} by HTTP.", relp.records(), http.records());
    Ok(())
}

fn build_release() -> Result<PathBuf> {
    println!("building (the first time takes a few minutes) …");
    build::programs("release")
}

fn options(mut args: Args) -> Result<Options> {
    let options = Options {
        data: args.option("--data")?.unwrap_or_else(|| build::root().join("raven-data")),
        programs: args.option("--bin-dir")?,
        limit: args.option("--for")?.map(Duration::from_secs),
    };
    args.end()?;
    Ok(options)
}

/// Makes the folders, and a configuration if there is none.
fn prepare(data: &Path) -> Result<PathBuf> {
    let noc = data.join("noc");
    std::fs::create_dir_all(&noc).with_context(|| format!("{} cannot be made", noc.display()))?;
    let config = data.join("raven.toml");
    if !config.try_exists()? {
        std::fs::write(&config, CONFIG).with_context(|| format!("{} cannot be written", config.display()))?;
    }
    Ok(config)
}

fn greet(programs: &Path, data: &Path) {
    let raven = format!("{} --data {}", shown(&programs.join("raven")), shown(data));
    let noc = shown(&data.join("noc"));
    println!(
        "
Raven is ready, on IPv4 and IPv6: syslog on 1514 (UDP, TCP), 6514 (TLS) and 2515 (RELP); NetFlow, IPFIX and sFlow on
2055, 4739 and 6343; SNMP notifications on 1162; Windows events by HTTP on 8084. In another terminal:

  logger -n 127.0.0.1 -P 1514 -d hello
  {raven} gen netflow --version 9 --count 1000
  {raven} tail syslog
  {raven} status

The demonstration NOC writes what it acknowledges to {noc}/received.log
Ctrl-C stops everything.
"
    );
}

/// As it would be typed here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// Until Ctrl-C, the time limit, or the end of ravend.
fn watch(appliance: &mut Appliance, interrupted: &AtomicBool, limit: Option<Duration>) -> Result<()> {
    let started = Instant::now();
    while !interrupted.load(Ordering::Relaxed) && limit.is_none_or(|limit| started.elapsed() < limit) {
        if let Some(status) = appliance.ended()? {
            bail!("ravend ended by itself: {status}; its messages are above");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
