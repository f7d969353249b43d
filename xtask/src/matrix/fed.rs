//! What an appliance in the matrix is fed, and how it is told where to send it.

use super::net::beside;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Stdio};

/// Streams that are fed, by the generator's word and rate a second.
pub const FED: [(&str, &str, u64); 3] = [("syslog", "syslog", 500), ("flow", "netflow", 1200), ("trap", "trap", 50)];

/// Generators at work; killed when dropped.
#[derive(Default)]
pub struct Loads(Vec<Child>);

impl Loads {
    /// Starts them in a namespace, at so many times the rates.
    pub fn start(programs: &Path, namespace: &str, times: u64) -> Result<Self> {
        let mut this = Self::default();
        for (_, word, rate) in FED {
            this.0.push(load(programs, namespace, word, rate * times)?);
        }
        Ok(this)
    }

    /// Ends each as Ctrl-C does; its summary.
    pub fn stop(mut self) -> Result<Vec<Value>> {
        std::mem::take(&mut self.0).into_iter().map(stop_load).collect()
    }
}

impl Drop for Loads {
    fn drop(&mut self) {
        for load in &mut self.0 {
            drop(load.kill());
            drop(load.wait());
        }
    }
}

/// The configuration of an appliance with three inputs and two destinations that acknowledge what is on their disk.
/// `buffer` is what stands in that section. The authority of RELP over TLS is the secret `noc-ca.pem`.
pub fn config(buffer: &str, relp: &str, http: &str) -> String {
    format!(
        r#"schema = 1
[site]
name = "venue"
[collect.syslog]
udp = [1514]
tcp = [1514]
tls = []
[collect.flow]
udp = [2055]
tcp = []
[collect.trap]
udp = [1162]
storm = 1000000
[collect.metrics]
http = []
[collect.host]
enabled = false
[alert]
enabled = false
[buffer]
{buffer}
[uplink.rsyslog]
kind = "relp"
to = "{relp}"
tls = true
ca = "secret:noc-ca.pem"
ack = "durable"
timeout = "3s"
[uplink.http]
kind = "http"
to = "http://{http}/"
ack = "durable"
timeout = "3s"
"#
    )
}

fn load(programs: &Path, namespace: &str, word: &str, rate: u64) -> Result<Child> {
    let port = match word {
        "syslog" => 1514,
        "trap" => 1162,
        _ => 2055,
    };
    let mut load = beside(namespace, programs.join("raven"));
    load.args([
        "gen",
        word,
        "--json",
        "--to",
        &format!("127.0.0.1:{port}"),
        "--rate",
        &rate.to_string(),
        "--duration",
        "1h",
    ]);
    load.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("raven gen")
}

fn stop_load(load: Child) -> Result<Value> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(load.id().cast_signed()), Signal::SIGINT)?;
    let output = load.wait_with_output()?;
    serde_json::from_slice(&output.stdout).context("raven gen said nothing")
}

/// What the next record of a stream will be, by `raven status`.
pub fn next_seq(status: &Value, stream: &str) -> Result<u64> {
    let streams = status["streams"].as_array().into_iter().flatten();
    let found = streams.into_iter().find(|of| of["name"] == stream);
    found.and_then(|of| of["next_seq"].as_u64()).with_context(|| format!("status shows no stream {stream}"))
}

/// Records that destinations have not acknowledged, by `raven status`.
pub fn lag(status: &Value) -> u64 {
    let destinations = status["destinations"].as_array().into_iter().flatten();
    destinations.filter_map(|destination| destination["lag"].as_u64()).sum()
}
