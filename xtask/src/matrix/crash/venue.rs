//! An appliance under load, beside real receivers that acknowledge what is on their disk, all in one namespace.

use super::super::Outcome;
use super::super::certificates::Authority;
use super::super::fed::{self, FED, Loads, next_seq};
use super::super::net::{NOC, Net, inside};
use super::super::receiver::{Arrived, HTTP, RELP, Rsyslog, http};
use super::fd_store::FdStore;
use crate::appliance::Appliance;
use crate::noc::Receiver;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for a process that was killed, and for the backlog at the end.
const BACK: Duration = Duration::from_secs(30);
const CATCH_UP: Duration = Duration::from_mins(3);

/// Streams whose records are audited by their marks, beside the count of their numbers.
const MARKED: [&str; 2] = ["syslog", "trap"];

/// Appliance, load and receivers; `D` is what its data lie on.
pub struct Venue<D> {
    // Dropped in this order: programs before what they use.
    load: Loads,
    raven: Option<Appliance>,
    _rsyslog: Rsyslog,
    arrived: [Arrived; 2],
    /// What its data lie on.
    pub disk: D,
    store: FdStore,
    programs: PathBuf,
    /// Records that were stored, by stream, as of the last look.
    stored: [u64; 3],
    _http: Receiver,
    _net: Net,
    dir: TempDir,
}

impl<D> Venue<D> {
    /// At `times` the rates of [`FED`]. `disk` is given the data directory before Raven is started.
    pub fn start(programs: &Path, buffer: &str, times: u64, disk: impl FnOnce(&Path) -> Result<D>) -> Result<Self> {
        let net = Net::new()?;
        let dir = tempfile::Builder::new().prefix("raven-crash-").tempdir()?;
        let authority = Authority::trusted(dir.path(), "127.0.0.1")?;
        let (rsyslog, ndjson) =
            (Rsyslog::start(&dir.path().join("noc"), authority)?, dir.path().join("received.ndjson"));
        let http = http(&ndjson)?;
        let config = fed::config(buffer, &format!("127.0.0.1:{RELP}"), &format!("127.0.0.1:{HTTP}"));
        std::fs::write(dir.path().join("raven.toml"), config)?;
        let mut this = Self {
            load: Loads::default(),
            raven: None,
            arrived: [Arrived::new(rsyslog.file()), Arrived::new(ndjson)],
            _rsyslog: rsyslog,
            disk: disk(&dir.path().join("data"))?,
            store: FdStore::listen(&dir.path().join("notify")),
            programs: programs.to_owned(),
            stored: [0; 3],
            _http: http,
            _net: net,
            dir,
        };
        this.launch()?;
        this.load = Loads::start(programs, NOC, times)?;
        this.wait(Duration::from_secs(2))?;
        Ok(this)
    }

    fn launch(&mut self) -> Result<()> {
        let ravend = self.store.command(&inside(NOC, self.programs.join("ravend")));
        let (config, data) = (self.dir.path().join("raven.toml"), self.dir.path().join("data"));
        let raven = self.raven.insert(Appliance::start_by(ravend, &self.programs, &config, &data)?);
        let begun = Instant::now();
        raven.wait_ready(|| begun.elapsed() > BACK)
    }

    fn raven(&self) -> Result<&Appliance> {
        self.raven.as_ref().context("ravend does not run")
    }

    /// Time passes; everything goes on.
    pub fn wait(&mut self, time: Duration) -> Result<()> {
        std::thread::sleep(time);
        match self.raven.as_mut().context("ravend does not run")?.ended()? {
            Some(status) => bail!("ravend ended: {status}"),
            None => self.arrived.iter_mut().try_for_each(Arrived::look),
        }
    }

    /// The process of a role that runs.
    pub fn pid(&self, role: &str) -> Result<u32> {
        let status = self.raven()?.status()?;
        let found = status["processes"].as_array().into_iter().flatten().find(|process| process["role"] == role);
        let pid = found.filter(|process| process["state"] == "running").and_then(|process| process["pid"].as_u64());
        pid.map(|pid| pid as u32).with_context(|| format!("{role} does not run: {}", status["processes"]))
    }

    /// SIGKILL to a worker; another one must come.
    pub fn kill(&mut self, role: &str) -> Result<()> {
        self.look()?;
        let pid = self.pid(role)?;
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        let begun = Instant::now();
        while !self.pid(role).is_ok_and(|now| now != pid) {
            if begun.elapsed() > BACK {
                bail!("{role} did not come back");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// SIGKILL to ravend; the next one gets what was kept for it.
    pub fn kill_ravend(&mut self) -> Result<()> {
        self.kill_and(|_| Ok(()))
    }

    /// The same, with something done to the disk between.
    pub fn kill_and(&mut self, between: impl FnOnce(&mut D) -> Result<()>) -> Result<()> {
        self.look()?;
        self.raven.take().context("ravend does not run")?.kill()?;
        between(&mut self.disk)?;
        self.launch()
    }

    /// Notes what is stored: it must be there at the end. (A store that has just started has not reported yet.)
    fn look(&mut self) -> Result<Value> {
        let status = self.raven()?.status()?;
        for (stored, (stream, _, _)) in self.stored.iter_mut().zip(FED) {
            *stored = next_seq(&status, stream).map_or(0, |next| next - 1).max(*stored);
        }
        Ok(status)
    }

    /// What the status says of its streams meanwhile, in small letters.
    pub fn said_while(&mut self, time: Duration) -> Result<String> {
        let (begun, mut said) = (Instant::now(), String::new());
        while begun.elapsed() < time {
            self.wait(Duration::from_millis(500))?;
            let status = self.look()?;
            let errors = status["streams"].as_array().into_iter().flatten();
            said += &errors.filter_map(|stream| stream["error"].as_str()).collect::<Vec<_>>().join("\n").to_lowercase();
        }
        Ok(said)
    }

    /// The load ends: is everything there, once, in the ring and at the receivers?
    pub fn judge(mut self) -> Result<Outcome> {
        self.wait(Duration::from_secs(3))?;
        let sent = std::mem::take(&mut self.load).stop()?;
        self.until_delivered()?;
        let status = self.look()?;
        let mut flaws = Vec::new();
        let mut records = 0;
        for (stored, (stream, _, _)) in self.stored.iter().zip(FED) {
            let next = next_seq(&status, stream)?;
            records += next - 1;
            if next - 1 < *stored {
                flaws.push(format!("{stream}: {stored} were stored, {} are", next - 1));
            }
            for (arrived, name) in self.arrived.iter().zip(["rsyslog", "http"]) {
                let (missing, first) = arrived.missing(stream, next);
                if missing > 0 {
                    flaws.push(format!("{name}: {missing} of {} {stream} records are missing: {first:?} …", next - 1));
                }
            }
        }
        let dropped = dropped(&status);
        for (sent, (stream, _, _)) in sent.iter().zip(FED).filter(|(_, (stream, _, _))| MARKED.contains(stream)) {
            let (missing, doubled) = self.marks(stream, sent)?;
            let evicted = evicted(&status, stream);
            if missing > dropped + evicted || doubled > 0 {
                flaws.push(format!(
                    "{stream}: {missing} missing in the ring, {dropped} counted as dropped, {evicted} as evicted, \
                     {doubled} doubled"
                ));
            }
        }
        for check in [&["ring", "verify"][..], &["audit", "report"][..]] {
            let output = self.raven()?.raven().args(check).output()?;
            if !output.status.success() {
                flaws.push(format!("raven {}: {}", check.join(" "), String::from_utf8_lossy(&output.stdout)));
            }
        }
        let repeated = self.arrived.iter().map(|arrived| arrived.repeated).sum();
        self.raven.take().context("ravend does not run")?.stop()?;
        let figures = vec![("records", records), ("repeated", repeated), ("dropped", dropped)];
        Ok(Outcome { figures, flaws, ..Outcome::default() })
    }

    /// Until nothing new is stored and the cursors say that everything is acknowledged.
    fn until_delivered(&mut self) -> Result<()> {
        let (begun, mut quiet) = (Instant::now(), 0);
        // The status is a second old at most.
        while quiet < 3 {
            self.wait(Duration::from_secs(1))?;
            let before = self.stored;
            let status = self.look()?;
            let lag = fed::lag(&status);
            quiet = if lag == 0 && before == self.stored && self.stored[0] > 0 { quiet + 1 } else { 0 };
            if begun.elapsed() > CATCH_UP {
                bail!("{lag} records are not acknowledged after {} s: {}", CATCH_UP.as_secs(), status["destinations"]);
            }
        }
        Ok(())
    }

    /// How many of the numbers that a sender gave are missing in the ring, and how many are there more than once.
    fn marks(&self, stream: &str, sent: &Value) -> Result<(u64, u64)> {
        let summary = self.dir.path().join("sent.json");
        std::fs::write(&summary, sent.to_string())?;
        let export = self.raven()?.raven().args(["export", stream, "--decoded"]).stdout(Stdio::piped()).spawn();
        let mut export = export.context("raven export")?;
        let output = export.stdout.take().expect("it was asked for above");
        let audit =
            self.raven()?.raven().args(["audit", "-", "--json", "--marks"]).arg(&summary).stdin(output).output()?;
        let status = export.wait()?;
        let said: Value = serde_json::from_slice(&audit.stdout)
            .with_context(|| format!("raven audit: {}", String::from_utf8_lossy(&audit.stderr)))?;
        if !status.success() || said["marks"].as_array().is_none_or(Vec::is_empty) {
            bail!("raven export: {status}; raven audit: {said}");
        }
        let sum = |name| said["marks"].as_array().into_iter().flatten().filter_map(|mark| mark[name].as_u64()).sum();
        Ok((sum("missing"), sum("duplicates")))
    }
}

/// Gone for room, of one stream.
fn evicted(status: &Value, stream: &str) -> u64 {
    let found = status["streams"].as_array().into_iter().flatten().find(|of| of["name"] == stream);
    found.and_then(|of| of["evicted"].as_u64()).unwrap_or(0)
}

/// Of all listeners and reasons.
fn dropped(status: &Value) -> u64 {
    let listeners = status["listeners"].as_array().into_iter().flatten();
    let reasons = listeners.filter_map(|listener| listener["dropped"].as_object());
    reasons.flat_map(|reasons| reasons.values()).filter_map(Value::as_u64).sum()
}
