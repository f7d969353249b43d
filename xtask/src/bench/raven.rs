//! Raven as the subject of a measurement.

use super::load::What;
use super::measure::Subject;
use crate::appliance::Appliance;
use anyhow::{Context, Result};
use serde_json::Value;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A running appliance with a ring of its own; without destinations unless given.
pub struct Raven {
    appliance: Appliance,
    inputs: Vec<Input>,
    _dir: TempDir,
}

/// What is received, and where. All other inputs are switched off.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// What is sent there.
    pub what: What,
    /// The port, of UDP and TCP alike.
    pub port: u16,
}

impl Input {
    fn stream(self) -> &'static str {
        match self.what {
            What::SyslogUdp | What::SyslogTcp => "syslog",
            What::Netflow | What::Sflow => "flow",
            What::Trap => "trap",
            What::Winevent(_) => "winevent",
        }
    }
}

impl Raven {
    /// Starts one that receives one thing.
    pub fn start(programs: &Path, what: What) -> Result<Self> {
        Self::start_with(programs, &[what], "")
    }

    /// Starts one that receives several things; `more` goes on from the table `[buffer]`.
    pub fn start_with(programs: &Path, what: &[What], more: &str) -> Result<Self> {
        Self::start_sized(programs, what, "2GiB", more)
    }

    /// Starts one that receives nothing, in a network namespace.
    pub fn start_inside(programs: &Path, namespace: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("raven-bench-").tempdir()?;
        let config = dir.path().join("raven.toml");
        std::fs::write(&config, text(&[], "2GiB"))?;
        let appliance = Appliance::start_inside(namespace, programs, &config, &dir.path().join("data"))?;
        Self::ready(appliance, Vec::new(), dir)
    }

    /// Starts one with a ring of so much, and waits until it is ready.
    pub fn start_sized(programs: &Path, what: &[What], disk: &str, more: &str) -> Result<Self> {
        let inputs = what.iter().map(|&what| Ok(Input { what, port: free_port()? })).collect::<Result<Vec<_>>>()?;
        let dir = tempfile::Builder::new().prefix("raven-bench-").tempdir()?;
        let config = dir.path().join("raven.toml");
        std::fs::write(&config, text(&inputs, disk) + more)?;
        let appliance = Appliance::start(programs, &config, &dir.path().join("data"))?;
        Self::ready(appliance, inputs, dir)
    }

    fn ready(mut appliance: Appliance, inputs: Vec<Input>, dir: TempDir) -> Result<Self> {
        appliance.wait_ready(|| false)?;
        // Start-up is not measured: let it end.
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self { appliance, inputs, _dir: dir })
    }

    /// What it receives.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The entry of an input's stream in the status.
    pub fn stream(&self, input: Input) -> Result<Value> {
        let (status, name) = (self.appliance.status()?, input.stream());
        let streams = status["streams"].as_array();
        let found = streams.and_then(|streams| streams.iter().find(|stream| stream["name"] == name));
        found.cloned().with_context(|| format!("status shows no stream `{name}`"))
    }

    /// How many of what was sent to an input are stored.
    pub fn received(&self, input: Input) -> Result<u64> {
        let stored = number(&self.stream(input)?["stored"])?;
        Ok(stored.saturating_sub(input.what.empty_records()) * input.what.in_a_record())
    }

    /// Until all that was sent to an input is stored, or nothing has been for two seconds (the status is a second old
    /// at most). How much that is.
    pub fn settled(&self, input: Input, sent: u64) -> Result<u64> {
        let (mut last, mut quiet) = (self.received(input)?, 0);
        while last < sent && quiet < 10 {
            std::thread::sleep(Duration::from_millis(200));
            let now = self.received(input)?;
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
        Ok(last)
    }

    /// All that the listeners counted as dropped.
    pub fn dropped(&self) -> Result<u64> {
        let status = self.appliance.status()?;
        let listeners = status["listeners"].as_array().context("status shows no listeners")?;
        let reasons = listeners.iter().filter_map(|listener| listener["dropped"].as_object());
        Ok(reasons.flat_map(|reasons| reasons.values()).filter_map(Value::as_u64).sum())
    }

    /// The process of a role.
    pub fn process(&self, role: &str) -> Result<u32> {
        let status = self.appliance.status()?;
        let found = status["processes"].as_array().and_then(|all| all.iter().find(|one| one["role"] == role));
        let pid = found.and_then(|process| process["pid"].as_u64()).filter(|pid| *pid > 0);
        pid.map(|pid| pid as u32).with_context(|| format!("status shows no process `{role}`"))
    }

    /// The operator's program, aimed at it.
    pub fn raven(&self) -> Command {
        self.appliance.raven()
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        self.appliance.stop()
    }
}

/// The configuration: these inputs and no others, and a ring of so much.
fn text(inputs: &[Input], disk: &str) -> String {
    let ports = |of: fn(What) -> bool| -> String {
        let ports = inputs.iter().filter(|input| of(input.what)).map(|input| input.port.to_string());
        ports.collect::<Vec<_>>().join(", ")
    };
    let udp = ports(|what| what == What::SyslogUdp);
    let tcp = ports(|what| what == What::SyslogTcp);
    let flow = ports(|what| matches!(what, What::Netflow | What::Sflow));
    let trap = ports(|what| what == What::Trap);
    let winevent = ports(|what| matches!(what, What::Winevent(_)));
    format!(
        r#"schema = 1
[site]
name = "bench"
[collect.syslog]
udp = [{udp}]
tcp = [{tcp}]
tls = []
[collect.flow]
udp = [{flow}]
tcp = []
[collect.trap]
udp = [{trap}]
storm = 1000000
[collect.winevent]
http = [{winevent}]
[collect.metrics]
http = []
[collect.host]
enabled = false
[buffer]
disk = "{disk}"
"#
    )
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
        self.inputs[0].port
    }

    fn pid(&self) -> u32 {
        self.appliance.pid()
    }

    fn roles(&self) -> Result<Vec<(String, u32)>> {
        let status = self.appliance.status()?;
        let processes = status["processes"].as_array().context("status shows no processes")?;
        let role = |process: &Value| Some((process["role"].as_str()?.to_owned(), process["pid"].as_u64()? as u32));
        Ok(processes.iter().filter_map(role).collect())
    }

    fn settle(&mut self, sent: u64) -> Result<()> {
        self.settled(self.inputs[0], sent)?;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        let received = self.received(self.inputs[0])?;
        self.stop()?;
        Ok(received)
    }
}
