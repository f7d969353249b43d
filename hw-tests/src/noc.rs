//! The operations centre: an rsyslog that takes RELP and keeps what it gets. It ends with its value.

use crate::network::Network;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Where it listens.
pub const PORT: u16 = 2514;

/// A running rsyslog.
#[derive(Debug)]
pub struct Noc {
    child: Child,
    received: PathBuf,
}

impl Noc {
    /// In `network`; its files are in the folder `work`.
    pub fn start(network: &Network, work: &Path) -> Result<Self> {
        let work = work.join("noc");
        fs::create_dir_all(&work)?;
        let (config, received) = (work.join("rsyslog.conf"), work.join("received.log"));
        fs::write(&config, of_rsyslog(&work, &received))?;
        let mut rsyslog = network.command("rsyslogd");
        rsyslog.arg("-n").arg("-f").arg(&config).arg("-i").arg(work.join("pid"));
        let child =
            rsyslog.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("rsyslogd")?;
        Ok(Self { child, received })
    }

    /// Everything that it acknowledged, a message a line.
    pub fn received(&self) -> String {
        fs::read(&self.received).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Noc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn of_rsyslog(work: &Path, received: &Path) -> String {
    let (work, received) = (work.display(), received.display());
    format!(
        r#"global(workDirectory="{work}" maxMessageSize="128k" parser.escapeControlCharactersOnReceive="off" net.enableDNS="off")
main_queue(queue.type="Direct")
module(load="imrelp")
template(name="as-received" type="string" string="%rawmsg%\n")
ruleset(name="raven" queue.type="Direct") {{
  action(type="omfile" file="{received}" template="as-received" flushOnTXEnd="on" asyncWriting="off" queue.type="Direct")
}}
input(type="imrelp" port="{PORT}" ruleset="raven" maxDataSize="128k")
"#
    )
}
