//! The programs that take flows and traps today, with settings that suit them: large buffers, plain files, no name
//! resolution, nothing synced.

use super::measure::Subject;
use super::raven::free_port;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `nfcapd`: NetFlow and IPFIX into its own binary files.
    Nfcapd,
    /// `sfcapd`: sFlow into the same.
    Sfcapd,
    /// `snmptrapd`: a text file.
    Snmptrapd,
}

/// One at work.
pub struct Peer {
    program: Program,
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Peer {
    /// Starts it and waits until it listens.
    pub fn start(program: Program) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("peer-bench-").tempdir()?;
        let port = free_port()?;
        let mut command = match program {
            Program::Nfcapd => capd("nfcapd", dir.path(), port)?,
            Program::Sfcapd => capd("sfcapd", dir.path(), port)?,
            Program::Snmptrapd => snmptrapd(dir.path(), port)?,
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(dir.path().join("said"))?);
        let mut child = command.spawn().with_context(|| format!("{program:?}"))?;
        wait_until_it_listens(&mut child, "/proc/net/udp", port)?;
        Ok(Self { program, child, port, dir })
    }

    /// How many it took, from what it wrote.
    fn counted(&self) -> Result<u64> {
        let read = |name: &str| std::fs::read(self.dir.path().join(name)).context(name.to_owned());
        if self.program == Program::Snmptrapd {
            // Every generated trap carries its mark once.
            return Ok(memchr::memmem::find_iter(&read("traps.log")?, ".32473.1.1.0").count() as u64);
        }
        // At each change of file, and at the end: "Ident: 'none' Flows: 50000, Packets: …".
        let said = String::from_utf8_lossy(&read("said")?).into_owned();
        let counts =
            said.lines().filter_map(|line| line.split_once("Flows: ")?.1.split(',').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }
}

/// `-B`: receive buffer, as for rsyslog; `-t`: a new file every five minutes.
fn capd(program: &str, dir: &Path, port: u16) -> Result<Command> {
    let files = dir.join("files");
    std::fs::create_dir(&files)?;
    let mut command = Command::new(program);
    command.arg("-w").arg(files).args(["-p", &port.to_string(), "-b", "127.0.0.1", "-B", "4194304", "-t", "300"]);
    Ok(command)
}

/// No MIB modules: OIDs are written as numbers (`-On`), addresses too (`-n`).
fn snmptrapd(dir: &Path, port: u16) -> Result<Command> {
    let config = dir.join("snmptrapd.conf");
    std::fs::write(&config, "disableAuthorization yes\ndoNotRetainNotificationLogs yes\n")?;
    std::fs::write(dir.join("snmp.conf"), "serverRecvBuf 4194304\n")?;
    let mut command = Command::new("snmptrapd");
    command.env("SNMPCONFPATH", dir).env("SNMP_PERSISTENT_DIR", dir).env("MIBS", "");
    command.args(["-f", "-C", "-c"]).arg(config).args(["-n", "-On", "-Lf"]).arg(dir.join("traps.log"));
    command.arg(format!("udp:127.0.0.1:{port}"));
    Ok(command)
}

/// Waits until a child has a socket on a port of 127.0.0.1, as `list` (`/proc/net/udp` or `tcp`) shows it.
pub fn wait_until_it_listens(child: &mut Child, list: &str, port: u16) -> Result<()> {
    let local = format!("0100007F:{port:04X} ");
    let patience = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(list)?.contains(&local) {
        if let Some(status) = child.try_wait()? {
            bail!("the reference ended at once: {status}");
        }
        if Instant::now() > patience {
            bail!("the reference does not listen on port {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    Ok(())
}

impl Subject for Peer {
    fn port(&self) -> u16 {
        self.port
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Until it takes no CPU any more: what waits in its socket is worked off.
    fn settle(&mut self, _sent: u64) -> Result<()> {
        let mut before = super::machine::cpu_of(self.pid());
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = super::machine::cpu_of(self.pid());
            if now - before < 0.05 {
                return Ok(());
            }
            before = now;
        }
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        self.child.wait()?;
        self.counted()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
