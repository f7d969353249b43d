//! A real rsyslog as destination, with a Direct queue and a file that is flushed after each message: what it
//! acknowledges survives its own death. With [`Rsyslog::durable`] it survives a power cut too (a sync each message, as
//! docs/formats.md says), at a few hundred to a few thousand messages a second.

use crate::appliance::free_port;
use crate::{eventually, pause};
use rustix::process::Signal;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A receiver that can be stopped, killed and started again.
pub struct Rsyslog {
    dir: TempDir,
    port: u16,
    durable: bool,
    child: Option<Child>,
}

/// Whether rsyslog with RELP is installed.
pub fn is_installed() -> bool {
    let there = ["x86_64", "aarch64"]
        .iter()
        .any(|arch| PathBuf::from(format!("/usr/lib/{arch}-linux-gnu/rsyslog/imrelp.so")).exists());
    if !there {
        eprintln!("not run: needs rsyslog and rsyslog-relp");
    }
    there
}

impl Rsyslog {
    /// Configured, and not yet started.
    pub fn new() -> Self {
        Self::with_sync(false)
    }

    /// The same; syncs each message before it acknowledges it.
    pub fn durable() -> Self {
        Self::with_sync(true)
    }

    fn with_sync(durable: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("raven-noc-").tempdir().unwrap();
        let rsyslog = Self { dir, port: free_port(), durable, child: None };
        std::fs::write(rsyslog.dir.path().join("rsyslog.conf"), rsyslog.config()).unwrap();
        rsyslog
    }

    fn config(&self) -> String {
        format!(
            r#"global(workDirectory="{dir}" maxMessageSize="128k" parser.escapeControlCharactersOnReceive="off" net.enableDNS="off")
main_queue(queue.type="Direct")
module(load="imrelp")
template(name="as-received" type="string" string="%rawmsg%\n")
ruleset(name="raven" queue.type="Direct") {{
  action(type="omfile" file="{dir}/received.log" template="as-received" flushOnTXEnd="on" asyncWriting="off" sync="{sync}" queue.type="Direct")
}}
input(type="imrelp" port="{port}" ruleset="raven" maxDataSize="128k")
"#,
            dir = self.dir.path().display(),
            port = self.port,
            sync = if self.durable { "on" } else { "off" },
        )
    }

    /// With RELP over TLS, and messages of RFC 5424 over TCP on another port, which is returned. `[ca, certificate, key]`
    /// are files.
    pub fn with_tls_and_tcp(files: &[PathBuf; 3]) -> (Self, u16) {
        let (rsyslog, tcp) = (Self::new(), free_port());
        let [ca, certificate, key] = files.each_ref().map(|path| path.display());
        let tls = format!(
            r#"maxDataSize="128k" tls="on" tls.caCert="{ca}" tls.myCert="{certificate}" tls.myPrivKey="{key}" tls.authMode="certvalid")"#
        );
        let config = rsyslog
            .config()
            .replace(r#"load="imrelp""#, r#"load="imrelp" tls.tlslib="openssl""#)
            .replace(r#"maxDataSize="128k")"#, &tls);
        let plain = format!("module(load=\"imtcp\")\ninput(type=\"imtcp\" port=\"{tcp}\" ruleset=\"raven\")\n");
        std::fs::write(rsyslog.dir.path().join("rsyslog.conf"), config + &plain).unwrap();
        (rsyslog, tcp)
    }

    /// With messages of RFC 5424 over TCP on another port, which is returned.
    pub fn with_tcp() -> (Self, u16) {
        let (rsyslog, tcp) = (Self::new(), free_port());
        let plain = format!("module(load=\"imtcp\")\ninput(type=\"imtcp\" port=\"{tcp}\" ruleset=\"raven\")\n");
        std::fs::write(rsyslog.dir.path().join("rsyslog.conf"), rsyslog.config() + &plain).unwrap();
        (rsyslog, tcp)
    }

    /// The destination in Raven's configuration.
    pub fn uplink(&self, name: &str) -> String {
        let ack = if self.durable { "durable" } else { "accepted" };
        let to = format!("127.0.0.1:{}", self.port);
        format!("[uplink.{name}]\nkind = \"relp\"\nto = \"{to}\"\nack = \"{ack}\"\ntimeout = \"5s\"\n")
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("received.log")
    }

    /// What it wrote.
    pub fn received(&self) -> String {
        std::fs::read(self.file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Starts it and waits until it listens.
    pub fn start(&mut self) {
        let config = self.dir.path().join("rsyslog.conf");
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(config).arg("-iNONE");
        self.child = Some(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        eventually("rsyslog listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Starts it in a network namespace.
    pub fn start_in(&mut self, name: &str) {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", name, "rsyslogd", "-n", "-iNONE", "-f"])
            .arg(self.dir.path().join("rsyslog.conf"));
        self.child = Some(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    /// Graceful.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// At once, in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// It goes on afterwards, or not.
    pub fn signal(&self, signal: Signal) {
        crate::appliance::send_signal(self.child.as_ref().unwrap().id(), signal);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        crate::appliance::send_signal(child.id(), signal);
        child.wait().unwrap();
        pause(50);
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
