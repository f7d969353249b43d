//! The load: `raven gen …`, as a process of its own, the same for Raven and for the reference.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Flow records in a datagram of NetFlow v9.
pub const FLOWS: u64 = 24;

/// Samples in a datagram of sFlow.
pub const SAMPLES: u64 = 8;

/// Events in a body.
const EVENTS: u64 = 100;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Syslog over UDP, 200 bytes.
    SyslogUdp,
    /// Syslog over TCP, octet counting, 200 bytes.
    SyslogTcp,
    /// NetFlow v9, its templates once, in a datagram of their own.
    Netflow,
    /// sFlow without counters.
    Sflow,
    /// SNMPv2c traps.
    Trap,
    /// Windows events as NDJSON over HTTP, on so many connections.
    Winevent(u32),
}

impl What {
    /// What the rate counts.
    pub fn noun(self) -> &'static str {
        match self {
            Self::SyslogUdp | Self::SyslogTcp => "message",
            Self::Netflow => "flow record",
            Self::Sflow => "sample",
            Self::Trap => "trap",
            Self::Winevent(_) => "event",
        }
    }

    /// How many of them Raven keeps in one record.
    pub fn in_a_record(self) -> u64 {
        match self {
            Self::Netflow => FLOWS,
            Self::Sflow => SAMPLES,
            _ => 1,
        }
    }

    /// Records of Raven's that hold none: the templates.
    pub fn empty_records(self) -> u64 {
        u64::from(self == Self::Netflow)
    }

    fn arguments(self) -> Vec<String> {
        let line = match self {
            Self::SyslogUdp => "syslog --proto udp --size 200".to_owned(),
            Self::SyslogTcp => "syslog --proto tcp --size 200".to_owned(),
            Self::Netflow => {
                format!("netflow --version 9 --records-per-datagram {FLOWS} --template-every 1000000000")
            }
            Self::Sflow => format!("sflow --samples-per-datagram {SAMPLES} --counters-every 0"),
            Self::Trap => "trap --version 2c".to_owned(),
            Self::Winevent(connections) => {
                format!("winevent --shape ndjson --batch {EVENTS} --senders {connections}")
            }
        };
        line.split(' ').map(str::to_owned).collect()
    }
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What.
    pub what: What,
    /// How many a second; 0 = as fast as the receiver answers.
    pub rate: u64,
    /// How long, seconds.
    pub seconds: u64,
    /// Many datagrams a call (`UDP_SEGMENT`).
    pub gso: bool,
}

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// How many; of those that are acknowledged, the acknowledged.
    pub count: u64,
    /// How many a second, as it came out.
    pub rate: f64,
    /// CPU seconds of the generator.
    pub cpu: f64,
    /// From sending to the acknowledgement: the slowest in a hundred, milliseconds.
    pub p99_ms: Option<f64>,
}

/// A generator at work.
pub struct Running {
    child: Child,
}

impl Load {
    /// Each datagram by itself, evenly.
    pub const fn plain(what: What, rate: u64, seconds: u64) -> Self {
        Self { what, rate, seconds, gso: false }
    }

    /// Starts it, aimed at a local port.
    pub fn start(&self, programs: &Path, port: u16) -> Result<Running> {
        let mut generator = Command::new(programs.join("raven"));
        generator.arg("gen").args(self.what.arguments()).args(["--json", "--to", &format!("127.0.0.1:{port}")]);
        generator.args(["--rate", &self.rate.to_string()]).args(self.gso.then_some("--gso"));
        if self.rate > 0 {
            // Whole datagrams only, so that records stored tell what they hold.
            let count = (self.rate * self.seconds).next_multiple_of(self.what.in_a_record());
            generator.args(["--count", &count.to_string()]);
        } else {
            generator.args(["--duration", &format!("{}s", self.seconds)]);
        }
        let child = generator.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("raven gen")?;
        Ok(Running { child })
    }
}

impl Running {
    /// Whether it is done.
    pub fn is_done(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Ends it before its time.
    pub fn end(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(self) -> Result<Sent> {
        let output = self.child.wait_with_output()?;
        if !output.status.success() {
            bail!("raven gen: {}: {}", output.status, String::from_utf8_lossy(&output.stdout));
        }
        let said: Value = serde_json::from_slice(&output.stdout).context("raven gen printed no JSON")?;
        let number = |key: &str| said[key].as_f64().with_context(|| format!("raven gen says no `{key}`: {said}"));
        let answers = &said["answers"];
        let count = answers["acknowledged"].as_u64().map_or_else(|| number("sent").map(|n| n as u64), Ok)?;
        Ok(Sent {
            count,
            rate: count as f64 / number("seconds")?,
            cpu: number("cpu_s")?,
            p99_ms: answers["p99_ms"].as_f64(),
        })
    }
}
