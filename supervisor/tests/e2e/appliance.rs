//! A `ravend` with its own directory, ports and configuration.

use crate::{eventually, pause};
use raven_model::query::RecordView;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Where the programs are.
pub fn programs() -> PathBuf {
    let asked = std::env::var_os("RAVEN_BIN_DIR").map(PathBuf::from);
    let built = option_env!("CARGO_BIN_EXE_ravend").map(|ravend| Path::new(ravend).parent().unwrap().to_owned());
    let folder = asked.or(built).expect("RAVEN_BIN_DIR names the folder of the programs");
    for program in ["ravend", "raven-worker", "raven"] {
        assert!(folder.join(program).is_file(), "{program} is not in {}; run `cargo xtask test`", folder.display());
    }
    folder
}

/// A port that is free for UDP and TCP, IPv4 and IPv6.
pub fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("[::]:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("::", port)).is_ok() {
            return port;
        }
    }
}

/// The sections of all streams but syslog: those given, and nothing else is collected.
pub fn sections(given: &[(&str, String)]) -> String {
    let off = [
        ("flow", "udp = []\ntcp = []"),
        ("trap", "udp = []"),
        ("winevent", "http = []"),
        ("metrics", "http = []"),
        ("host", "enabled = false"),
    ];
    let section = |(name, off): (&str, &str)| {
        let text = given.iter().find(|(given, _)| *given == name).map_or(off, |(_, text)| text);
        format!("[collect.{name}]\n{text}\n")
    };
    off.map(section).concat()
}

/// What to start.
pub struct Plan {
    pub dir: TempDir,
    /// `site.name`.
    pub name: &'static str,
    pub port: u16,
    pub disk: &'static str,
    pub segment: &'static str,
    pub syslog: String,
    /// The other streams.
    pub others: String,
    /// `[alert]` and its tables: nothing is watched unless a test is about that.
    pub alert: String,
    pub uplinks: String,
    pub uid: Option<u32>,
}

impl Plan {
    pub fn new() -> Self {
        Self {
            dir: tempfile::Builder::new().prefix("raven-e2e-").tempdir().unwrap(),
            name: "test",
            port: free_port(),
            disk: "1GiB",
            segment: "32MiB",
            syslog: "tls = []".to_owned(),
            others: sections(&[]),
            alert: "enabled = false".to_owned(),
            uplinks: String::new(),
            uid: None,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("raven.toml")
    }

    pub fn text(&self) -> String {
        format!(
            "schema = 1\n[site]\nname = \"{name}\"\n[collect.syslog]\nudp = [{port}]\ntcp = [{port}]\n{}\n{}[alert]\n{}\n[buffer]\ndisk = \"{}\"\nsegment = \"{}\"\n{}\n",
            self.syslog,
            self.others,
            self.alert,
            self.disk,
            self.segment,
            self.uplinks,
            name = self.name,
            port = self.port
        )
    }

    /// Writes the configuration and makes the directory.
    pub fn prepare(&self) {
        std::fs::create_dir_all(self.data()).unwrap();
        std::fs::write(self.config(), self.text()).unwrap();
    }

    /// `ravend` as it is called in production.
    pub fn ravend(&self, programs: &Path) -> Command {
        let mut ravend = Command::new(programs.join("ravend"));
        ravend.arg("--config").arg(self.config()).arg("--data").arg(self.data()).stdin(Stdio::null());
        if let Some(uid) = self.uid {
            ravend.uid(uid).gid(uid);
        }
        ravend
    }

    pub fn start(self) -> Appliance {
        self.prepare();
        self.start_again()
    }

    /// Starts with whatever is in the directory.
    pub fn start_again(self) -> Appliance {
        let programs = programs();
        let running = Running::spawn(self.ravend(&programs));
        let raven = Appliance { plan: self, programs, running };
        raven.running.wait_ready();
        raven
    }
}

/// A started `ravend` process; killed when dropped.
pub struct Running {
    child: Child,
    lines: Mutex<Receiver<String>>,
    log: Arc<Mutex<String>>,
}

impl Running {
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let log = Arc::new(Mutex::new(String::new()));
        std::thread::spawn({
            let (log, errors) = (Arc::clone(&log), BufReader::new(child.stderr.take().unwrap()));
            move || errors.lines().map_while(Result::ok).for_each(|line| *log.lock().unwrap() += &(line + "\n"))
        });
        Self { child, lines: Mutex::new(lines), log }
    }

    pub fn wait_ready(&self) {
        let line = self.lines.lock().unwrap().recv_timeout(Duration::from_mins(1));
        pause(if line.is_ok() { 0 } else { 200 });
        assert_eq!(line.as_deref(), Ok("ready"), "what ravend said:\n{}", self.log());
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    /// Waits for its end; true when it exits 0.
    pub fn wait(&mut self) -> bool {
        let mut status = None;
        eventually("ravend ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        pause(100);
        status.unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- what ravend logged:\n{}---", self.log());
        }
    }
}

/// Signals a process that we, or a `ravend` of ours, started.
pub fn send_signal(pid: u32, signal: Signal) {
    assert!(pid > 1, "no process {pid}");
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// A running appliance.
pub struct Appliance {
    pub plan: Plan,
    pub programs: PathBuf,
    pub running: Running,
}

impl Appliance {
    pub fn start() -> Self {
        Plan::new().start()
    }

    pub fn udp(&self) -> SocketAddr {
        format!("127.0.0.1:{}", self.plan.port).parse().unwrap()
    }

    pub fn udp6(&self) -> SocketAddr {
        format!("[::1]:{}", self.plan.port).parse().unwrap()
    }

    /// The operator's program.
    pub fn raven(&self, arguments: &[&str]) -> Output {
        raven(&self.programs, &self.plan.data(), arguments)
    }

    /// Says requests on one connection of the control socket, a line each, and returns the one answer.
    pub fn ask(&self, requests: &[Value]) -> Value {
        let mut socket = UnixStream::connect(self.plan.data().join("run/control")).unwrap();
        for request in requests {
            writeln!(socket, "{request}").unwrap();
        }
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    pub fn status(&self) -> Value {
        let output = self.raven(&["status", "--json"]);
        assert!(output.status.success(), "raven status: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The entry of a process.
    pub fn process(&self, role: &str) -> Value {
        find(&self.status()["processes"], "role", role)
    }

    pub fn stream(&self) -> Value {
        self.reported("streams", "syslog")
    }

    pub fn destination(&self, name: &str) -> Value {
        self.reported("destinations", name)
    }

    /// An entry that a worker reports: after its start that takes a moment.
    fn reported(&self, list: &str, name: &str) -> Value {
        let mut found = None;
        eventually(&format!("status shows `{name}` in {list}"), || {
            let entries = self.status()[list].clone();
            let ours = |entry: &&Value| entry["name"] == name && entry.get("stream").is_none_or(|s| s == "syslog");
            found = entries.as_array().and_then(|entries| entries.iter().find(ours)).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    pub fn stored(&self) -> u64 {
        number(&self.stream()["stored"])
    }

    /// Datagrams and connections that were lost and counted, of all listeners and reasons.
    pub fn dropped(&self) -> u64 {
        let status = self.status();
        let reasons = status["listeners"].as_array().unwrap().iter().filter_map(|l| l["dropped"].as_object());
        reasons.flat_map(|r| r.values()).map(number).sum()
    }

    /// Kills the process of `role` and waits until a new one runs.
    pub fn kill(&self, role: &str, signal: Signal) {
        let before = self.process(role);
        send_signal(number(&before["pid"]) as u32, signal);
        self.restarted(role, &before);
    }

    /// Waits until a process after `before` runs.
    pub fn restarted(&self, role: &str, before: &Value) {
        eventually("the process is started again", || {
            let now = self.process(role);
            number(&now["restarts"]) > number(&before["restarts"]) && now["state"] == "running"
        });
    }

    /// Waits until `n` records are stored, or until nothing more comes.
    pub fn settle(&self, n: u64) {
        let (mut last, mut quiet) = (self.stored(), 0);
        while last < n && quiet < 100 {
            pause(50);
            let now = self.stored();
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
    }

    /// All records of the ring.
    pub fn records(&self) -> Vec<RecordView> {
        let mut records = Vec::new();
        self.each_record(&[], |record| records.push(record));
        records
    }

    /// Hands each record of an export to `f`.
    pub fn each_record(&self, more: &[&str], mut f: impl FnMut(RecordView)) {
        let mut raven = command(&self.programs, &self.plan.data());
        raven.args(["export", "syslog", "--format", "ndjson"]).args(more).stdout(Stdio::piped());
        let mut child = raven.spawn().unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            f(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line}")));
        }
        assert!(child.wait().unwrap().success());
    }

    /// Waits until some record holds `text` and returns it.
    pub fn record_with(&self, text: &str) -> RecordView {
        let mut found = None;
        eventually(&format!("a record holds `{text}`"), || {
            found =
                self.records().into_iter().find(|record| record.raw.as_deref().is_some_and(|raw| raw.contains(text)));
            found.is_some()
        });
        found.unwrap()
    }

    /// `raven ring verify`: whether it succeeds, and what it says.
    pub fn verify(&self) -> (bool, String) {
        let output = self.raven(&["ring", "verify", "syslog"]);
        (output.status.success(), said(&output))
    }

    /// Stops it as systemd does and leaves the directory to the next one.
    pub fn stop(mut self) -> Plan {
        self.running.signal(Signal::TERM);
        assert!(self.running.wait(), "ravend stops with 0; it said:\n{}", self.running.log());
        self.plan
    }

    /// SIGTERM, then a new `ravend` in the same directory.
    pub fn restart(self) -> Self {
        self.stop().start_again()
    }
}

fn command(programs: &Path, data: &Path) -> Command {
    let mut raven = Command::new(programs.join("raven"));
    raven.arg("--data").arg(data).stdin(Stdio::null());
    raven
}

/// The operator's program, run to its end.
pub fn raven(programs: &Path, data: &Path, arguments: &[&str]) -> Output {
    command(programs, data).args(arguments).output().unwrap()
}

/// All that a program printed.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// The element of a list whose `key` is `value`.
pub fn find(list: &Value, key: &str, value: &str) -> Value {
    let found = list.as_array().and_then(|list| list.iter().find(|item| item[key] == value));
    found.unwrap_or_else(|| panic!("no {key} `{value}` in {list}")).clone()
}

/// A number of the status.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The text of a file under /proc.
pub fn proc_text(pid: u32, file: &str) -> String {
    let mut text = String::new();
    File::open(format!("/proc/{pid}/{file}")).unwrap().read_to_string(&mut text).unwrap();
    text
}
