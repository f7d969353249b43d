//! A real rsyslog with imrelp, in the foreground, with files of its own.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "/usr/sbin/rsyslogd";

/// The settings of `docs/formats.md` under "settings for exact bytes and durable acknowledgements".
pub const DURABLE: &str = r#"sync="on" flushOnTXEnd="on" asyncWriting="off""#;
/// The same without a flush to the disk for each message.
pub const ACCEPTED: &str = r#"flushOnTXEnd="on" asyncWriting="off""#;

/// Optional settings that the documentation gives for people who read the file.
pub const UNESCAPED: &str = r#"parser.escapeControlCharactersOnReceive="off" parser.escapeControlCharacterTab="off" parser.dropTrailingLFOnReception="off""#;

pub struct Rsyslog {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

/// Whether rsyslog is installed; says so when it is not.
pub fn installed() -> bool {
    let there = Path::new(PROGRAM).exists()
        && ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"]
            .iter()
            .any(|lib| Path::new(lib).join("rsyslog/imrelp.so").exists());
    if !there {
        println!("SKIPPED: this test needs rsyslog with imrelp (Debian: apt install rsyslog rsyslog-relp)");
        eprintln!("SKIPPED: this test needs rsyslog with imrelp (Debian: apt install rsyslog rsyslog-relp)");
    }
    there
}

impl Rsyslog {
    pub fn new(dir: &Path, port: u16, global: &str, omfile: &str) -> Self {
        let module = r#"module(load="imrelp")"#;
        let input =
            format!(r#"input(type="imrelp" address="127.0.0.1" port="{port}" maxDataSize="128k" ruleset="noc")"#);
        Self::with(dir, port, global, module, &input, omfile)
    }

    /// With an input of another kind for the ruleset `noc`.
    pub fn with(dir: &Path, port: u16, global: &str, module: &str, input: &str, omfile: &str) -> Self {
        let (d, out) = (dir.display(), dir.join("received.log"));
        let config = format!(
            r#"global(workDirectory="{d}" maxMessageSize="128k" {global})
{module}
template(name="raven" type="string" string="%rawmsg%\n")
ruleset(name="noc" queue.type="Direct") {{
    action(type="omfile" file="{}" template="raven" {omfile})
}}
{input}
"#,
            out.display()
        );
        fs::write(dir.join("rsyslog.conf"), config).unwrap();
        Self { dir: dir.to_owned(), port, child: None }
    }

    pub fn start(&mut self) {
        let _ = fs::remove_file(self.dir.join("pid"));
        let child = Command::new(PROGRAM)
            .args(["-n", "-f"])
            .arg(self.dir.join("rsyslog.conf"))
            .arg("-i")
            .arg(self.dir.join("pid"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.dir.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "rsyslog does not listen: {}",
                fs::read_to_string(self.dir.join("stderr")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").arg(format!("-{signal}")).arg(id).status().unwrap().success());
    }

    /// Ends it by a signal (`TERM`, `KILL`) and waits for it.
    pub fn stop(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
            child.wait().unwrap();
        }
    }

    /// What it wrote, message by message.
    pub fn received(&self) -> Vec<Vec<u8>> {
        let bytes = fs::read(self.dir.join("received.log")).unwrap_or_default();
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end);
        bytes[..whole].split(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
    }

    pub fn lines(&self) -> usize {
        self.received().len()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        self.stop("KILL");
    }
}
