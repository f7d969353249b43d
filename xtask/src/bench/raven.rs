//! Raven as the subject of a measurement.

use super::measure::Subject;
use crate::appliance::Appliance;
use anyhow::{Context, Result};
use serde_json::Value;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// A running appliance with a ring of its own; without destinations unless given.
pub struct Raven {
    appliance: Appliance,
    port: u16,
    _dir: TempDir,
}

impl Raven {
    /// Starts one and waits until it is ready; `more` goes on from the table `[buffer]`.
    pub fn start_with(programs: &Path, more: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("raven-bench-").tempdir()?;
        let port = free_port()?;
        let config = dir.path().join("raven.toml");
        let text = format!(
            "schema = 1\n[site]\nname = \"bench\"\n[collect.syslog]\nudp = [{port}]\ntcp = [{port}]\n[buffer]\ndisk = \"2GiB\"\n{more}"
        );
        std::fs::write(&config, text)?;
        let mut appliance = Appliance::start(programs, &config, &dir.path().join("data"))?;
        appliance.wait_ready(|| false)?;
        // Start-up is not measured: let it end.
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self { appliance, port, _dir: dir })
    }

    /// The entry of the syslog stream in the status.
    pub fn stream(&self) -> Result<Value> {
        let status = self.appliance.status()?;
        status["streams"]
            .as_array()
            .and_then(|s| s.iter().find(|s| s["name"] == "syslog"))
            .cloned()
            .context("status shows no stream `syslog`")
    }

    /// Records stored.
    pub fn stored(&self) -> Result<u64> {
        number(&self.stream()?["stored"])
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        self.appliance.stop()
    }
}

/// A number of the status.
pub fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no number"))
}

/// A port that is free for UDP and TCP.
pub fn free_port() -> Result<u16> {
    loop {
        let port = TcpListener::bind("[::]:0")?.local_addr()?.port();
        if UdpSocket::bind(("::", port)).is_ok() {
            return Ok(port);
        }
    }
}

impl Subject for Raven {
    fn port(&self) -> u16 {
        self.port
    }

    fn pid(&self) -> u32 {
        self.appliance.pid()
    }

    /// Until all is stored, or nothing has been for two seconds (the status is a second old at most).
    fn settle(&mut self, sent: u64) -> Result<()> {
        let (mut last, mut quiet) = (self.stored()?, 0);
        while last < sent && quiet < 10 {
            std::thread::sleep(Duration::from_millis(200));
            let now = self.stored()?;
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        let stored = self.stored()?;
        self.stop()?;
        Ok(stored)
    }
}
