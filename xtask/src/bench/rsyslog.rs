//! rsyslog as the reference, with settings that suit it: large batches, one writer, buffered file, nothing synced.

use super::measure::Subject;
use super::peer::wait_until_it_listens;
use super::raven::free_port;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What it does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// imudp to a plain file.
    UdpToFile,
    /// imptcp to a plain file.
    TcpToFile,
    /// imudp to a disk queue whose destination takes nothing.
    UdpToDiskQueue,
}

/// A running rsyslogd.
pub struct Rsyslog {
    child: Child,
    port: u16,
    dir: TempDir,
    /// Takes connections and never reads: what is sent there stays in the queue.
    _stuck: TcpListener,
}

impl Rsyslog {
    /// Starts it and waits until it listens.
    pub fn start(work: Work) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rsyslog-bench-").tempdir()?;
        let port = free_port()?;
        let config = dir.path().join("rsyslog.conf");
        let stuck = TcpListener::bind("127.0.0.1:0")?;
        std::fs::write(&config, text(work, dir.path(), port, stuck.local_addr()?.port()))?;
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(&config).arg("-iNONE");
        let child = command.stdin(Stdio::null()).spawn().context("rsyslogd")?;
        let mut rsyslog = Self { child, port, dir, _stuck: stuck };
        let list = if work == Work::TcpToFile { "/proc/net/tcp" } else { "/proc/net/udp" };
        wait_until_it_listens(&mut rsyslog.child, list, port)?;
        Ok(rsyslog)
    }

    /// Bytes of its queue files, and messages in them.
    pub fn queued(&self) -> Result<(u64, u64)> {
        let message = memchr::memmem::Finder::new("<Obj:1:msg:");
        let (mut bytes, mut messages) = (0, 0);
        for entry in std::fs::read_dir(self.dir.path())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("queue.0") {
                let file = std::fs::read(entry.path())?;
                bytes += file.len() as u64;
                messages += message.find_iter(&file).count() as u64;
            }
        }
        Ok((bytes, messages))
    }
}

/// Its configuration.
fn text(work: Work, dir: &Path, port: u16, stuck: u16) -> String {
    let dir = dir.display();
    let input = match work {
        Work::TcpToFile => format!(
            r#"module(load="imptcp" threads="1" processOnPoller="off")
input(type="imptcp" address="127.0.0.1" port="{port}" supportOctetCountedFraming="on" ruleset="r")"#
        ),
        Work::UdpToFile | Work::UdpToDiskQueue => format!(
            r#"module(load="imudp" timeRequery="10" batchSize="128")
input(type="imudp" address="127.0.0.1" port="{port}" rcvbufSize="4m" ruleset="r")"#
        ),
    };
    let action = match work {
        Work::UdpToDiskQueue => {
            format!(
                r#"action(type="omfwd" target="127.0.0.1" port="{stuck}" protocol="tcp" template="raw" queue.type="Disk" queue.filename="queue" queue.maxDiskSpace="4g" queue.maxFileSize="64m" queue.dequeueBatchSize="1024" queue.checkpointInterval="1000" action.resumeRetryCount="-1")"#
            )
        }
        Work::TcpToFile | Work::UdpToFile => {
            format!(
                r#"action(type="omfile" file="{dir}/out.log" template="raw" ioBufferSize="256k" flushOnTXEnd="off" asyncWriting="off")"#
            )
        }
    };
    format!(
        r#"global(workDirectory="{dir}" net.enableDNS="off" parser.permitSlashInProgramName="on")
main_queue(queue.type="LinkedList" queue.size="500000" queue.dequeueBatchSize="1024" queue.workerThreads="1")
template(name="raw" type="string" string="%rawmsg%\n")
{input}
ruleset(name="r" queue.type="LinkedList" queue.size="500000" queue.dequeueBatchSize="1024" queue.workerThreads="1") {{ {action} }}
"#
    )
}

impl Subject for Rsyslog {
    fn port(&self) -> u16 {
        self.port
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A stop writes out what it holds, so there is nothing to wait for.
    fn settle(&mut self, _sent: u64) -> Result<()> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        self.child.wait()?;
        lines(&self.dir.path().join("out.log"))
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn lines(path: &Path) -> Result<u64> {
    let Ok(mut file) = std::fs::File::open(path) else { return Ok(0) };
    let (mut chunk, mut lines) = (vec![0; 1 << 20], 0);
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(lines);
        }
        lines += memchr::memchr_iter(b'\n', &chunk[..n]).count() as u64;
    }
}
