//! The load: `raven gen syslog`, as a process of its own, the same for Raven and for the reference.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// `udp` or `tcp`.
    pub proto: &'static str,
    /// Messages per second.
    pub rate: u64,
    /// How long, seconds.
    pub seconds: u64,
    /// Many datagrams a call (`UDP_SEGMENT`).
    pub gso: bool,
}

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Messages.
    pub count: u64,
    /// Messages per second, as it came out.
    pub rate: f64,
    /// CPU seconds of the generator.
    pub cpu: f64,
}

/// A generator at work.
pub struct Running(Child);

impl Load {
    /// Starts it, aimed at a local port.
    pub fn start(&self, programs: &Path, port: u16) -> Result<Running> {
        let mut generator = Command::new(programs.join("raven"));
        generator.args(["gen", "syslog", "--json", "--to", &format!("127.0.0.1:{port}"), "--proto", self.proto]);
        generator.args(["--rate", &self.rate.to_string(), "--count", &(self.rate * self.seconds).to_string()]);
        generator.args(["--size", "200"]).args(self.gso.then_some("--gso"));
        let child = generator.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("raven gen syslog")?;
        Ok(Running(child))
    }
}

impl Running {
    /// Whether it is done.
    pub fn is_done(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Waits for its end.
    pub fn wait(self) -> Result<Sent> {
        let output = self.0.wait_with_output()?;
        if !output.status.success() {
            bail!("raven gen syslog: {}", output.status);
        }
        let said: Value = serde_json::from_slice(&output.stdout).context("raven gen syslog printed no JSON")?;
        let number =
            |key: &str| said[key].as_f64().with_context(|| format!("raven gen syslog says no `{key}`: {said}"));
        Ok(Sent { count: number("sent")? as u64, rate: number("rate")?, cpu: number("cpu_s")? })
    }
}
