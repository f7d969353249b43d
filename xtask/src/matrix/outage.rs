//! The outage matrix: what can go wrong between the venue and the operations centre, one at a time, under load.

use super::certificates::{Authority, Until};
use super::fed::{self, FED, Loads, next_seq};
use super::net::{ENDS, NOC_ADDRESS, Net, VENUE};
use super::receiver::{Arrived, Disk, Dns, HTTP, RELP, Rsyslog, http};
use super::wire::Wire;
use super::{Case, Outcome, Settings};
use crate::appliance::Appliance;
use crate::noc::Receiver;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
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

/// All of them.
pub const CASES: [Case<Lab>; 15] = [
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
    Case { name: "certificate-expired", run: certificate_expired },
    Case { name: "second-outage", run: second_outage },
    Case { name: "control", run: control },
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

/// Seen when a new connection has to be made. Healed by a renewed one and a restart of the receiver alone.
fn certificate_expired(lab: &mut Lab) -> Result<()> {
    lab.new_certificate(Until::Past)?;
    lab.wait(FAULT)?;
    let status = lab.raven.status()?["destinations"].to_string();
    if !status.contains("certificate has expired") {
        bail!("status does not say that the certificate has expired: {status}");
    }
    lab.new_certificate(Until::Far)
}

/// The link goes down again as soon as the backlog begins to move.
fn second_outage(lab: &mut Lab) -> Result<()> {
    lab.wrong(FAULT, |lab| lab.wire.faults.cut())?;
    lab.wait(Duration::from_millis(700))?;
    lab.wrong(FAULT, |lab| lab.wire.faults.cut())
}

/// Nothing is wrong but the receiver: it loses a record that it acknowledged. The case is good when that is found out.
fn control(lab: &mut Lab) -> Result<()> {
    lab.wait(Duration::from_secs(2))?;
    lab.spoiled = true;
    lab.arrived[1].spoil()
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
    /// A record was taken from the HTTP receiver on purpose.
    spoiled: bool,
    /// What goes when all is over.
    _held: (Receiver, Resolver, Net, TempDir),
}

impl super::Lab for Lab {
    fn start(settings: &Settings) -> Result<Self> {
        let programs = &settings.programs;
        let net = Net::new()?;
        let wire = Wire::start(ENDS[0], ENDS[1]);
        let dir = tempfile::Builder::new().prefix("raven-matrix-").tempdir()?;
        let rsyslog = Rsyslog::start(&dir.path().join("noc"), Authority::trusted(dir.path(), NAME)?)?;
        let disk = Disk::mount(&dir.path().join("http"))?;
        let ndjson = dir.path().join("http/received.ndjson");
        let (http, dns) = (http(&ndjson)?, Some(name_server()));
        let config = dir.path().join("raven.toml");
        std::fs::write(
            &config,
            fed::config("disk = \"1GiB\"", &format!("{NAME}:{RELP}"), &format!("{NOC_ADDRESS}:{HTTP}")),
        )?;
        let resolver = Resolver::new()?;
        let mut raven = Appliance::start_inside(VENUE, programs, &config, &dir.path().join("data"))?;
        raven.wait_ready(|| false)?;
        let load = Loads::start(programs, VENUE, 1)?;
        let arrived = [Arrived::new(rsyslog.file()), Arrived::new(ndjson)];
        let held = (http, resolver, net, dir);
        let mut lab = Self { load, raven, rsyslog, dns, disk, wire, arrived, spoiled: false, _held: held };
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
            let sent = sent["sent"].as_u64().context("raven gen did not say what it sent")?;
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
        if self.spoiled {
            let found = flaws.len() == 1 && flaws[0].starts_with("http: 1 of ");
            let missed = format!("a record was taken from the HTTP receiver, and this was found: {flaws:?}");
            flaws = if found { Vec::new() } else { vec![missed] };
        }
        let Self { raven, .. } = self;
        raven.stop()?;
        let figures = vec![("live_after_ms", live.as_millis() as u64), ("records", records), ("repeated", repeated)];
        Ok(Outcome { figures, flaws, ..Outcome::default() })
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

    /// rsyslog is given another certificate and started again.
    fn new_certificate(&mut self, until: Until) -> Result<()> {
        self.rsyslog.kill()?;
        self.rsyslog.authority.sign(NAME, until)?;
        self.rsyslog.go_on()
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
            let lag = fed::lag(&status);
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
