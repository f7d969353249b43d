//! The day at the venue: installed, set up at the serial line with addresses that somebody gives, plugged into a network
//! whose devices send, operated from afar, tried by everything that goes wrong on the first day, and turned off and on.

use crate::machine::{Beside, Firmware, Lab, Machine, Medium};
use crate::network::Network;
use crate::noc::{self, Noc};
use crate::scan::{self, Pace};
use crate::serial::PATIENCE;
use crate::volatile::Dice;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The venue's end of the cable, and its devices' addresses.
const VENUE: [&str; 7] =
    ["10.77.0.1/24", "10.77.0.11/24", "10.77.0.12/24", "10.77.0.13/24", "10.77.0.14/24", "fd77::1/64", "fd77::11/64"];
/// Of these, the far end of the box's cable, and a switch.
pub const GATEWAY: &str = VENUE[0];
/// One of its devices.
pub const SWITCH: &str = VENUE[1];
/// The box.
pub const BOX: [&str; 2] = ["10.77.0.2", "fd77::2"];
const PASSWORD: &str = "correct horse";

/// All of it.
pub fn day(lab: &mut Lab) -> Result<()> {
    let network = lab.plug(Network::of(&VENUE)?);
    let noc = Noc::start(&network, lab.work())?;
    let disk = lab.empty_disk(4)?;
    let mut machine = lab.start_beside(Firmware::Bios, &Medium::Cd(lab.iso()), &[Beside::Disk(disk.clone())])?;
    crate::scenarios::install_to(&mut machine)?;
    machine.power_off()?;

    let mut machine = lab.start(Firmware::Bios, &Medium::Disk(disk.clone()))?;
    let remote = Remote::new(lab)?;
    machine.expect("Telemetry appliance")?;
    set_up(&mut machine, &remote.public_key()?)?;
    machine.screenshot("set-up")?;
    let status = remote.status()?;
    grown(&status)?;

    inputs(lab, &network, &remote)?;
    arrived(&remote, &noc)?;
    only_what_is_configured_answers(&network)?;
    unconfirmed_goes(&remote)?;
    garbage(&mut machine)?;
    let before = stored(&remote.status()?);
    println!("  stored: {before:?}");
    machine.power_off()?;

    let mut machine = lab.start(Firmware::Bios, &Medium::Disk(disk))?;
    machine.expect("Telemetry appliance")?;
    machine.shows("Enter: log in")?;
    let after = stored(&remote.status()?);
    for (stream, count) in &before {
        let kept = after.iter().find(|(name, _)| name == stream).map_or(0, |(_, count)| *count);
        ensure!(kept >= *count, "{stream}: {count} records before, {kept} after the box was off and on");
    }
    arrived(&remote, &noc)?;
    machine.screenshot("after")?;
    machine.power_off()
}

/// The wizard, answer by answer, with static addresses.
pub fn set_up(machine: &mut Machine, key: &str) -> Result<()> {
    machine.shows("Enter: set up this box")?;
    let noc = format!("10.77.0.1:{}\r", noc::PORT);
    let key = format!("{key}\r");
    machine.answers(&[
        ("\r", "each question has an answer"),
        ("\r", "Letters, digits and"),
        ("\x15arena\r", "a part of it will do"),
        ("\x15Europe/Berlin\r", "Which one is to be set up?"),
        ("\r", "get its addresses?"),
        ("4\r", "IPv4 address"),
        ("10.77.0.2/24\r", "IPv4 gateway"),
        ("\r", "IPv6 address"),
        ("fd77::2/64\r", "IPv6 gateway"),
        ("\r", "tagged VLAN"),
        ("\r", "Name servers"),
        ("none\r", "Time servers"),
        ("none\r", "Where do records go?"),
        ("2\r", "relp: host:port"),
        (&noc, "At least 8 characters"),
        ("correct horse\r", "The same once more"),
        ("correct horse\r", "To log in from elsewhere"),
        (&key, "All answers"),
        ("\r", "Keep these settings?"),
        // Logged in, with the password that was set.
        ("\r", "Ctrl-C: log out"),
    ])
}

/// The box from afar: an administrator, or an operator of another role, with an SSH key.
pub struct Remote {
    role: &'static str,
    key: PathBuf,
    network: std::rc::Rc<Network>,
    address: String,
}

impl Remote {
    pub fn new(lab: &Lab) -> Result<Self> {
        Self::of(lab, "admin")
    }

    /// With a key of its own.
    pub fn of(lab: &Lab, role: &'static str) -> Result<Self> {
        let key = lab.work().join(role);
        let mut make = Command::new("ssh-keygen");
        ran(make.args(["-q", "-t", "ed25519", "-N", "", "-C", &format!("{role}@venue"), "-f"]).arg(&key))?;
        let network = lab.network().context("the box is plugged in nowhere")?;
        Ok(Self { role, key, network, address: BOX[0].to_owned() })
    }

    /// The same at another of the box's addresses.
    pub fn at(&self, address: &str) -> Self {
        let (role, key, network) = (self.role, self.key.clone(), self.network.clone());
        Self { role, key, network, address: address.to_owned() }
    }

    pub fn public_key(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.key.with_added_extension("pub"))?.trim().to_owned())
    }

    /// `ssh` that says these words.
    pub fn command(&self, words: &str) -> Command {
        let mut ssh = self.ssh();
        ssh.arg(format!("{}@{}", self.role, self.address)).arg(words);
        ssh
    }

    /// `ssh` with its key, which is told nothing yet.
    pub fn ssh(&self) -> Command {
        let mut ssh = self.network.command("ssh");
        ssh.arg("-i").arg(&self.key).args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        // A connection that was made just before the address went would be waited for until TCP gives up.
        ssh.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]);
        ssh
    }

    /// What it answers to a line, which gets `input`.
    pub fn once(&self, words: &str, input: &str) -> Result<String> {
        let mut ssh =
            self.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        ssh.stdin.take().context("no input")?.write_all(input.as_bytes())?;
        let output = ssh.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "`{words}`: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    /// The same, again until it works.
    pub fn says(&self, words: &str) -> Result<String> {
        eventually(words, || self.once(words, ""))
    }

    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.says("status --json")?)?)
    }

    /// The configuration in force, as it is written.
    pub fn config(&self) -> Result<String> {
        let history: Value = serde_json::from_str(&self.says("config history --json")?)?;
        let newest = history["versions"].as_array().into_iter().flatten().find(|version| version["current"] == true);
        let newest = newest.and_then(|version| version["number"].as_u64());
        self.says(&format!("config version {}", newest.with_context(|| format!("no version is in force: {history}"))?))
    }
}

/// Tries until it works.
pub fn eventually<T>(what: &str, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match work() {
            Ok(done) => return Ok(done),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.context(what.to_owned())),
            Err(_) => std::thread::sleep(Duration::from_secs(2)),
        }
    }
}

/// The data partition has the rest of the disk of 4 GiB.
fn grown(status: &Value) -> Result<()> {
    let quota = status["ring"]["size"].as_u64().unwrap_or(0);
    println!("  data partition: {} MiB", quota >> 20);
    ensure!(quota > 3 << 30, "the data partition has {quota} bytes: {}", status["ring"]);
    Ok(())
}

fn stored(status: &Value) -> Vec<(String, u64)> {
    let streams = status["streams"].as_array().cloned().unwrap_or_default();
    let one = |stream: &Value| Some((stream["name"].as_str()?.to_owned(), stream["stored"].as_u64()?));
    streams.iter().filter_map(one).filter(|(name, _)| name != "host").collect()
}

/// Syslog from three devices over IPv4 and one over IPv6, flows, a trap by snmptrap, a Windows event by curl.
fn inputs(lab: &Lab, network: &Network, remote: &Remote) -> Result<()> {
    let with_events = remote.config()? + "\n[collect.winevent]\nhttp = [8084]\n";
    remote.once("config put -", &with_events)?;
    let box4: IpAddr = BOX[0].parse()?;
    let box6: IpAddr = BOX[1].parse()?;
    let messages = |from: &str| -> Vec<String> {
        (0..20).map(|n| format!("<134>Nov 29 17:00:00 switch venue: port {n} of {from} is up")).collect()
    };
    for from in ["10.77.0.11", "10.77.0.12", "10.77.0.13"] {
        network.send(from, SocketAddr::new(box4, 514), &messages(from))?;
    }
    network.send("fd77::11", SocketAddr::new(box6, 514), &messages("fd77::11"))?;
    let raven = lab.built()?.program("raven")?;
    let mut flows = network.command(raven.to_str().context("path")?);
    flows.args(["gen", "netflow", "--version", "9", "--count", "240", "--rate", "240"]);
    ran(flows.args(["--i-mean-it", "--to", "10.77.0.2:2055"]))?;
    let mut trap = network.command("snmptrap");
    trap.args(["-v2c", "-c", "public", "--clientaddr=10.77.0.14", BOX[0], "", "1.3.6.1.6.3.1.1.5.3"]);
    ran(trap.args(["1.3.6.1.2.1.2.2.1.1.7", "i", "7"]))?;
    let event = json!({"EventID": 4625, "Channel": "Security", "Computer": "till-3", "RecordNumber": 1}).to_string();
    let mut curl = network.command("curl");
    curl.args(["-sf", "--interface", "10.77.0.13", "-H", "Content-Type: application/json", "-d", &event]);
    eventually("the event", || ran(curl.arg("http://10.77.0.2:8084/")))
}

/// With their true senders in the ring, and at the operations centre.
fn arrived(remote: &Remote, noc: &Noc) -> Result<()> {
    for (stream, from, count) in [
        ("syslog", "10.77.0.11", 20),
        ("syslog", "10.77.0.12", 20),
        ("syslog", "10.77.0.13", 20),
        ("syslog", "fd77::11", 20),
        ("flow", "10.77.0.1", 10),
        ("trap", "10.77.0.14", 1),
        ("winevent", "10.77.0.13", 1),
    ] {
        eventually(&format!("{stream} of {from}"), || {
            let lines = remote.once(&format!("export {stream}"), "")?;
            let own = lines.lines().filter(|line| line.contains(&format!("\"{from}\""))).count();
            ensure!(own >= count, "{own} of {count} records in the ring:\n{lines}");
            let received = noc.received();
            let own = received.lines().filter(|line| line.contains(from) && line.contains(stream)).count();
            ensure!(own >= count, "{own} of {count} records at the operations centre");
            Ok(())
        })?;
    }
    println!("  all of it is in the ring and at rsyslog, with its true senders");
    Ok(())
}

/// SSH, and the TCP ports of the inputs.
fn only_what_is_configured_answers(network: &Network) -> Result<()> {
    // An emulated box is slow; a connection that was not heard is asked for again after a second.
    let pace = Pace { rest: Duration::from_millis(4), wait: Duration::from_millis(2500) };
    let expected = BTreeSet::from([22, 601, 4739, 6514, 8084, 9201]);
    for to in BOX {
        let to: IpAddr = to.parse()?;
        let (tcp, udp) = network.inside(|| Ok((scan::tcp(to, pace)?, scan::udp(to, pace)?)))?;
        println!("  {to}: TCP {tcp:?}, UDP {udp:?} answer");
        network.inside(|| {
            let each = expected.iter().map(|port| SocketAddr::new(to, *port));
            Ok(each.map(|to| TcpStream::connect_timeout(&to, PATIENCE)).collect::<Result<Vec<_>, _>>()?)
        })?;
        ensure!(tcp.is_subset(&expected), "TCP ports of {to} that answer: {tcp:?}");
        ensure!(udp.is_empty(), "UDP ports of {to} that answer: {udp:?}");
    }
    Ok(())
}

/// An address with which the box cannot be reached any more is gone after a minute.
fn unconfirmed_goes(remote: &Remote) -> Result<()> {
    let before = remote.config()?;
    let wrong = before.replace("10.77.0.", "10.99.0.").replace("fd77::", "fd99::");
    ensure!(wrong != before, "the address is not in the configuration:\n{before}");
    // The answer cannot come back.
    let mut put = remote.command("config put --confirm 60s -").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    put.stdin.take().context("no input")?.write_all(wrong.as_bytes())?;
    let began = Instant::now();
    let is_away = || remote.once("version", "").is_err();
    while !is_away() {
        ensure!(
            began.elapsed() < Duration::from_secs(45),
            "the box can be reached with an address that it does not have"
        );
        std::thread::sleep(Duration::from_secs(1));
    }
    println!("  away after {:.0} s", began.elapsed().as_secs_f64());
    remote.says("version")?;
    println!("  back after {:.0} s", began.elapsed().as_secs_f64());
    let _ = put.kill();
    put.wait()?;
    ensure!(remote.config()? == before, "the configuration is not the one from before");
    Ok(())
}

/// A file that was sent to the serial line by mistake.
fn garbage(machine: &mut Machine) -> Result<()> {
    let mut dice = Dice(7);
    let bytes: Vec<u8> = (0..1 << 20).map(|_| dice.below(256) as u8).collect();
    machine.answers(&[("\x03", "Enter: log in")])?;
    machine.floods(&bytes)?;
    machine.shows("Enter: log in")?;
    machine.answers(&[("\r", "it is not shown"), (&format!("{PASSWORD}\r"), "Ctrl-C: log out")])
}

pub fn ran(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
