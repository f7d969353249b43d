//! The operations centre: a real rsyslog and an HTTP receiver, both of which acknowledge what is on their disk.

use super::certificates::Authority;
use super::net::{NOC, enter, inside};
use crate::build::must;
use crate::noc::{Receiver, Speaks};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Port of RELP over TLS.
pub const RELP: u16 = 2514;
/// Port of HTTP.
pub const HTTP: u16 = 2580;

/// A small disk of its own, that can be filled; gone when dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// 64 MiB, mounted at `dir`.
    pub fn mount(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        must(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "raven-matrix"]).arg(dir))?;
        Ok(Self(dir.to_owned()))
    }

    /// Leaves no room.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.0.join("filler"))?;
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        Ok(())
    }

    /// Gives the room back.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(must(Command::new("umount").arg("--lazy").arg(&self.0)));
    }
}

/// rsyslog with the settings of docs/formats.md for `durable`.
pub struct Rsyslog {
    dir: PathBuf,
    /// Who signs its certificate.
    pub authority: Authority,
    child: Option<Child>,
}

impl Rsyslog {
    /// Starts it in a directory of its own, with a certificate of `authority`.
    pub fn start(dir: &Path, authority: Authority) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut this = Self { dir: dir.to_owned(), authority, child: None };
        fs::write(this.dir.join("rsyslog.conf"), this.config())?;
        this.go_on()?;
        Ok(this)
    }

    fn config(&self) -> String {
        let [certificate, key] = self.authority.receiver();
        format!(
            r#"global(workDirectory="{dir}" maxMessageSize="128k" net.enableDNS="off")
main_queue(queue.type="Direct")
module(load="imrelp" tls.tlslib="openssl")
template(name="raven" type="string" string="%rawmsg%\n")
ruleset(name="noc" queue.type="Direct") {{
  action(type="omfile" file="{file}" template="raven" sync="on" flushOnTXEnd="on" asyncWriting="off"
         queue.type="Direct" action.resumeRetryCount="-1" action.resumeInterval="1")
}}
input(type="imrelp" port="{RELP}" ruleset="noc" maxDataSize="128k"
      tls="on" tls.caCert="{ca}" tls.myCert="{certificate}" tls.myPrivKey="{key}")
"#,
            ca = self.authority.file().display(),
            certificate = certificate.display(),
            key = key.display(),
            dir = self.dir.display(),
            file = self.file().display(),
        )
    }

    /// What it writes.
    pub fn file(&self) -> PathBuf {
        self.dir.join("received.log")
    }

    /// Starts it again.
    pub fn go_on(&mut self) -> Result<()> {
        let mut command = inside(NOC, "rsyslogd");
        command.args(["-n", "-iNONE", "-f"]).arg(self.dir.join("rsyslog.conf"));
        self.child = Some(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("rsyslogd")?);
        Ok(())
    }

    /// A signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("rsyslog does not run")?;
        Ok(kill(Pid::from_raw(child.id().cast_signed()), signal)?)
    }

    /// Kills it.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if self.child.is_some() {
            drop(self.signal(Signal::SIGCONT));
            drop(self.kill());
        }
    }
}

/// The HTTP receiver of ours, within the operations centre; it syncs what it acknowledges.
pub fn http(file: &Path) -> Result<Receiver> {
    let file = file.to_owned();
    let start = move || {
        enter(NOC)?;
        Receiver::start(Speaks::Http, &format!("0.0.0.0:{HTTP}"), Some(&file))
    };
    std::thread::spawn(start).join().unwrap_or_else(|_| bail!("the HTTP receiver panicked"))
}

/// What arrived at a receiver, read from its file as it grows.
pub struct Arrived {
    file: PathBuf,
    read: u64,
    seqs: BTreeMap<String, BTreeSet<u64>>,
    /// Records that came more than once.
    pub repeated: u64,
}

impl Arrived {
    /// In this file.
    pub fn new(file: PathBuf) -> Self {
        Self { file, read: 0, seqs: BTreeMap::new(), repeated: 0 }
    }

    /// Reads what is new.
    pub fn look(&mut self) -> Result<()> {
        let Ok(mut file) = File::open(&self.file) else { return Ok(()) };
        file.seek(SeekFrom::Start(self.read))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            self.read += line.len() as u64;
            if let Some((stream, seq)) = place(&String::from_utf8_lossy(&line)) {
                self.repeated += u64::from(!self.seqs.entry(stream).or_default().insert(seq));
            }
            line.clear();
        }
        Ok(())
    }

    /// Blanks the first record that was not read yet.
    pub fn spoil(&self) -> Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(&self.file)?;
        let mut bytes = vec![0; 64 << 10];
        let count = file.read_at(&mut bytes, self.read)?;
        let end =
            bytes[..count].iter().position(|&byte| byte == b'\n').context("no record has come since the last look")?;
        Ok(file.write_all_at(&vec![b' '; end], self.read)?)
    }

    /// The newest of a stream.
    pub fn newest(&self, stream: &str) -> u64 {
        self.seqs.get(stream).and_then(BTreeSet::last).copied().unwrap_or(0)
    }

    /// Which of the records below `next` are not there; the first few of them.
    pub fn missing(&self, stream: &str, next: u64) -> (u64, Vec<u64>) {
        let empty = BTreeSet::new();
        let seqs = self.seqs.get(stream).unwrap_or(&empty);
        let missing = (1..next).filter(|seq| !seqs.contains(seq));
        (missing.clone().count() as u64, missing.take(5).collect())
    }
}

/// Stream and seq of a line in either envelope.
fn place(line: &str) -> Option<(String, u64)> {
    let between =
        |from: &str, to: char| line.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(it, _)| it);
    let (stream, seq) = match between("[raven@32473 dev=\"", ']') {
        Some(_) => (between(" stream=\"", '"')?, between(" seq=\"", '"')?),
        None => (between("\"stream\":\"", '"')?, between("\"seq\":", ',')?),
    };
    Some((stream.to_owned(), seq.parse().ok()?))
}

/// A name server that knows one name, until it is dropped.
pub struct Dns {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Dns {
    /// Answers each question of class IN and type A with `address` (RFC 1035, 4.1), others with nothing.
    pub fn start(address: [u8; 4]) -> Self {
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let stopped = std::sync::Arc::clone(&stop);
        let serve = move || -> Result<()> {
            enter(NOC)?;
            let socket = std::net::UdpSocket::bind("0.0.0.0:53")?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            let mut query = [0; 512];
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut query) else { continue };
                if let Some(answer) = answer(&query[..len], address) {
                    let _ = socket.send_to(&answer, from);
                }
            }
            Ok(())
        };
        Self { stop, thread: Some(std::thread::spawn(serve)) }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(std::thread::JoinHandle::join) {
            eprintln!("name server: {error:#}");
        }
    }
}

fn answer(query: &[u8], address: [u8; 4]) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let name = question.iter().position(|&byte| byte == 0)? + 1;
    let question = question.get(..name + 4)?;
    let is_a = question[name..] == [0, 1, 0, 1];
    let mut out = query[..2].to_vec();
    out.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    out.extend(question);
    if is_a {
        // The name by reference to the question, type A, class IN, one second, four bytes.
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        out.extend(address);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_envelopes_tell_their_place() {
        let syslog = r#"<13>1 2026-06-05T20:15:00Z 192.0.2.7 raven - - [raven@32473 dev="a" stream="flow" seq="12" rx="1" src="192.0.2.7"] x"#;
        let json = r#"{"dev":"a","stream":"trap","seq":7,"received_ns":1}"#;
        assert_eq!(place(syslog), Some(("flow".to_owned(), 12)));
        assert_eq!(place(json), Some(("trap".to_owned(), 7)));
        assert_eq!(place("something else"), None);
    }

    #[test]
    fn what_is_missing_is_counted_and_named() {
        let mut arrived = Arrived::new(PathBuf::new());
        arrived.seqs.insert("flow".to_owned(), BTreeSet::from([1, 2, 5]));
        assert_eq!(arrived.missing("flow", 6), (2, vec![3, 4]));
        assert_eq!(arrived.missing("trap", 3), (2, vec![1, 2]));
        assert_eq!(arrived.missing("trap", 1), (0, vec![]));
    }

    #[test]
    fn the_name_server_answers_addresses_only() {
        let query = |kind| [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x03noc\x00", &[0, kind, 0, 1]].concat();
        let told = answer(&query(1), [192, 0, 2, 2]).expect("a question");
        assert!(told.starts_with(&[7, 7, 0x81, 0x80]) && told.ends_with(&[0, 4, 192, 0, 2, 2]));
        assert_eq!(answer(&query(28), [192, 0, 2, 2]).expect("a question")[7], 0);
        assert_eq!(answer(&[0; 14], [0; 4]), None);
    }
}
