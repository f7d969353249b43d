//! The outage matrix: what can go wrong between the venue and the operations centre, one at a time, under load.

use super::net::{ENDS, NOC_ADDRESS, Net, VENUE, inside};
use super::receiver::{Arrived, Disk, Dns, HTTP, RELP, Rsyslog, http};
use super::wire::Wire;
use super::{Case, Outcome};
use crate::appliance::Appliance;
use crate::noc::Receiver;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The live lane must be at the head again after so long.
const LIVE: Duration = Duration::from_secs(5);

/// How long a fault lasts.
const FAULT: Duration = Duration::from_secs(12);

/// Longest wait for the backlog.
const CATCH_UP: Duration = Duration::from_mins(3);

/// The name of the operations centre.
const NAME: &str = "noc.venue.test";

/// Streams that are fed, by the generator's word and rate a second.
const FED: [(&str, &str, u64); 3] = [("syslog", "syslog", 500), ("flow", "netflow", 1200), ("trap", "trap", 50)];

/// All of them.
pub const CASES: [Case<Lab>; 13] = [
    Case { name: "link-down", run: |lab| lab.down(FAULT) },
    Case { name: "drop-both", run: |lab| lab.wrong(FAULT, |lab| lab.wire.faults.cut()) },
    Case { name: "drop-out", run: |lab| lab.wrong(FAULT, |lab| lab.wire.faults.lost_out.store(1000, Relaxed)) },
    Case { name: "drop-in", run: |lab| lab.wrong(FAULT, |lab| lab.wire.faults.lost_in.store(1000, Relaxed)) },
    Case { name: "loss-30", run: |lab| lab.wrong(FAULT, lossy) },
    Case { name: "slow-1mbit", run: |lab| lab.wrong(FAULT, |lab| lab.wire.faults.rate.store(1_000_000, Relaxed)) },
    Case { name: "flapping", run: flapping },
    Case { name: "mtu-black-hole", run: |lab| lab.wrong(FAULT, |lab| lab.wire.faults.mtu.store(900, Relaxed)) },
    Case { name: "receiver-killed", run: receiver_killed },
    Case { name: "receiver-stopped", run: receiver_stopped },
    Case { name: "receiver-disk-full", run: disk_full },
    Case { name: "dns-gone", run: dns_gone },
    Case { name: "second-outage", run: second_outage },
];

fn lossy(lab: &mut Lab) {
    lab.wire.faults.lost_out.store(300, Relaxed);
    lab.wire.faults.lost_in.store(300, Relaxed);
}

fn flapping(lab: &mut Lab) -> Result<()> {
    for _ in 0..3 {
        lab.down(Duration::from_secs(7))?;
        lab.wait(Duration::from_secs(7))?;
    }
    lab.down(Duration::from_secs(7))
}

fn receiver_killed(lab: &mut Lab) -> Result<()> {
    lab.rsyslog.kill()?;
    lab.wait(FAULT)?;
    lab.rsyslog.go_on()
}

fn receiver_stopped(lab: &mut Lab) -> Result<()> {
    lab.rsyslog.signal(Signal::SIGSTOP)?;
    lab.wait(FAULT)?;
    lab.rsyslog.signal(Signal::SIGCONT)
}

/// Of the HTTP receiver: rsyslog acknowledges what its full disk did not take (docs/formats.md).
fn disk_full(lab: &mut Lab) -> Result<()> {
    lab.disk.fill()?;
    lab.wait(FAULT)?;
    lab.disk.free()
}

/// Gone when a new connection has to be made.
fn dns_gone(lab: &mut Lab) -> Result<()> {
    lab.dns = None;
    lab.rsyslog.kill()?;
    lab.rsyslog.go_on()?;
    lab.wait(FAULT)?;
    lab.dns = Some(name_server());
    Ok(())
}

/// The link goes down again as soon as the backlog begins to move.
fn second_outage(lab: &mut Lab) -> Result<()> {
    lab.wrong(FAULT, |lab| lab.wire.faults.cut())?;
    lab.wait(Duration::from_millis(700))?;
    lab.wrong(FAULT, |lab| lab.wire.faults.cut())
}

fn name_server() -> Dns {
    Dns::start([192, 0, 2, 2])
}

/// An appliance under load, its receivers, and the wire between them.
pub struct Lab {
    // Dropped in this order: programs before the namespaces that they are in.
    load: Loads,
    raven: Appliance,
    rsyslog: Rsyslog,
    dns: Option<Dns>,
    disk: Disk,
    wire: Wire,
    arrived: [Arrived; 2],
    /// What goes when all is over.
    _held: (Receiver, Resolver, Net, TempDir),
}

impl super::Lab for Lab {
    fn start(programs: &Path) -> Result<Self> {
        let net = Net::new()?;
        let wire = Wire::start(ENDS[0], ENDS[1]);
        let dir = tempfile::Builder::new().prefix("raven-matrix-").tempdir()?;
        let rsyslog = Rsyslog::start(&dir.path().join("noc"))?;
        let disk = Disk::mount(&dir.path().join("http"))?;
        let ndjson = dir.path().join("http/received.ndjson");
        let (http, dns) = (http(&ndjson)?, Some(name_server()));
        let config = dir.path().join("raven.toml");
        std::fs::write(&config, config_text())?;
        let resolver = Resolver::new()?;
        let mut raven = Appliance::start_inside(VENUE, programs, &config, &dir.path().join("data"))?;
        raven.wait_ready(|| false)?;
        let load = Loads::start(programs)?;
        let arrived = [Arrived::new(rsyslog.file()), Arrived::new(ndjson)];
        let mut lab = Self { load, raven, rsyslog, dns, disk, wire, arrived, _held: (http, resolver, net, dir) };
        lab.until_live(Duration::from_secs(30)).context("before anything was wrong")?;
        Ok(lab)
    }

    /// The wire is whole again: is the present there in time, and at the end everything?
    fn judge(mut self) -> Result<Outcome> {
        let live = self.until_live(Duration::from_mins(1))?;
        self.wait(Duration::from_secs(3))?;
        let sent = std::mem::take(&mut self.load).stop()?;
        // The status is a second old at most.
        self.wait(Duration::from_secs(2))?;
        self.until_delivered()?;
        let mut flaws = Vec::new();
        if live > LIVE {
            flaws.push(format!(
                "the present was there {:.1} s after healing, {} s are allowed",
                live.as_secs_f64(),
                LIVE.as_secs()
            ));
        }
        let status = self.raven.status()?;
        let mut records = 0;
        for ((stream, _, _), sent) in FED.iter().zip(sent) {
            let next = next_seq(&status, stream)?;
            records += next - 1;
            if *stream != "flow" && next - 1 != sent {
                flaws.push(format!("{stream}: {sent} sent, {} stored", next - 1));
            }
            for (arrived, name) in self.arrived.iter().zip(["rsyslog", "http"]) {
                let (missing, first) = arrived.missing(stream, next);
                if missing > 0 {
                    flaws.push(format!("{name}: {missing} of {} {stream} records are missing: {first:?} …", next - 1));
                }
            }
        }
        let repeated = self.arrived.iter().map(|arrived| arrived.repeated).sum();
        let Self { raven, .. } = self;
        raven.stop()?;
        Ok(Outcome { live, records, repeated, flaws })
    }
}

impl Lab {
    /// Time passes; everything goes on.
    fn wait(&mut self, time: Duration) -> Result<()> {
        std::thread::sleep(time);
        match self.raven.ended()? {
            Some(status) => bail!("ravend ended: {status}"),
            None => Ok(()),
        }
    }

    fn down(&mut self, time: Duration) -> Result<()> {
        Net::link(false)?;
        self.wait(time)?;
        Net::link(true)
    }

    fn wrong(&mut self, time: Duration, fault: impl Fn(&mut Self)) -> Result<()> {
        fault(self);
        self.wait(time)?;
        self.wire.faults.heal();
        Ok(())
    }

    /// Until what is stored from now on has arrived everywhere; how long that took.
    fn until_live(&mut self, patience: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let status = self.raven.status()?;
        let heads: Vec<u64> = FED.iter().map(|(stream, _, _)| next_seq(&status, stream)).collect::<Result<_>>()?;
        loop {
            for arrived in &mut self.arrived {
                arrived.look()?;
            }
            let is_there = |arrived: &Arrived| {
                FED.iter().zip(&heads).all(|((stream, _, _), head)| arrived.newest(stream) >= *head)
            };
            if self.arrived.iter().all(is_there) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > patience {
                bail!(
                    "what was stored after healing is not there after {} s: {}",
                    patience.as_secs(),
                    self.raven.status()?["destinations"]
                );
            }
            self.wait(Duration::from_millis(50))?;
        }
    }

    /// Until the cursors say that everything is acknowledged.
    fn until_delivered(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let status = self.raven.status()?;
            let lag = status["destinations"].as_array().into_iter().flatten();
            let lag: u64 = lag.filter_map(|destination| destination["lag"].as_u64()).sum();
            if lag == 0 {
                for arrived in &mut self.arrived {
                    arrived.look()?;
                }
                return Ok(());
            }
            if begun.elapsed() > CATCH_UP {
                bail!("{lag} records are not acknowledged after {} s: {}", CATCH_UP.as_secs(), status["destinations"]);
            }
            self.wait(Duration::from_millis(200))?;
        }
    }
}

/// Generators at work; killed when dropped.
#[derive(Default)]
struct Loads(Vec<Child>);

impl Loads {
    fn start(programs: &Path) -> Result<Self> {
        let mut this = Self::default();
        for (_, word, rate) in FED {
            this.0.push(load(programs, word, rate)?);
        }
        Ok(this)
    }

    /// Ends each as Ctrl-C does; how many it sent.
    fn stop(mut self) -> Result<Vec<u64>> {
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

fn config_text() -> String {
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
[alert]
enabled = false
[collect.host]
enabled = false
[buffer]
disk = "1GiB"
[uplink.rsyslog]
kind = "relp"
to = "{NAME}:{RELP}"
ack = "durable"
timeout = "3s"
[uplink.http]
kind = "http"
to = "http://{NOC_ADDRESS}:{HTTP}/"
ack = "durable"
timeout = "3s"
"#
    )
}

/// What `ip netns exec` lays over `/etc` in the venue (`ip-netns(8)`); removed when dropped.
struct Resolver(PathBuf);

impl Resolver {
    fn new() -> Result<Self> {
        let this = Self(Path::new("/etc/netns").join(VENUE));
        std::fs::create_dir_all(&this.0)?;
        std::fs::write(
            this.0.join("resolv.conf"),
            format!("nameserver {NOC_ADDRESS}\noptions timeout:1 attempts:1\n"),
        )?;
        std::fs::write(this.0.join("nsswitch.conf"), "hosts: files dns\n")?;
        Ok(this)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn load(programs: &Path, word: &str, rate: u64) -> Result<Child> {
    let port = match word {
        "syslog" => 1514,
        "trap" => 1162,
        _ => 2055,
    };
    let mut load = inside(VENUE, programs.join("raven"));
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

fn stop_load(load: Child) -> Result<u64> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(load.id().cast_signed()), Signal::SIGINT)?;
    let output = load.wait_with_output()?;
    let said: Value = serde_json::from_slice(&output.stdout).context("raven gen said nothing")?;
    said["sent"].as_u64().context("raven gen did not say what it sent")
}

fn next_seq(status: &Value, stream: &str) -> Result<u64> {
    let streams = status["streams"].as_array().into_iter().flatten();
    let found = streams.into_iter().find(|of| of["name"] == stream);
    found.and_then(|of| of["next_seq"].as_u64()).with_context(|| format!("status shows no stream {stream}"))
}
