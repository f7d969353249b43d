//! Collectors that take datagrams: real nfcapd and snmptrapd.

use super::free_port;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whether a program is installed; says so when it is not.
pub fn has(program: &str) -> bool {
    let there = ["/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !there {
        println!("SKIPPED: this test needs {program}");
        eprintln!("SKIPPED: this test needs {program}");
    }
    there
}

/// A program that listens on a UDP port of 127.0.0.1 and writes into a folder of its own.
pub struct Collector {
    pub port: u16,
    dir: PathBuf,
    child: Child,
}

impl Collector {
    pub fn nfcapd(dir: &Path) -> Self {
        let (dir, port) = (dir.join("nfcapd"), free_port());
        fs::create_dir_all(&dir).unwrap();
        let mut nfcapd = Command::new("nfcapd");
        nfcapd.args(["-b", "127.0.0.1", "-t", "2", "-B", "4000000", "-p", &port.to_string(), "-w"]).arg(&dir);
        Self::start(port, dir, &mut nfcapd)
    }

    /// Takes what any community sends; `config` is for users of version 3.
    pub fn snmptrapd(dir: &Path, config: &str) -> Self {
        let (dir, port) = (dir.join("snmptrapd"), free_port());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("snmptrapd.conf"), format!("disableAuthorization yes\n{config}\n")).unwrap();
        let mut snmptrapd = Command::new("snmptrapd");
        snmptrapd.args(["-f", "-n", "-On", "-C", "-c"]).arg(dir.join("snmptrapd.conf")).arg("-Lf");
        snmptrapd.arg(dir.join("log")).arg(format!("udp:127.0.0.1:{port}"));
        snmptrapd.env("SNMP_PERSISTENT_DIR", &dir).env("MIBS", "");
        Self::start(port, dir, &mut snmptrapd)
    }

    fn start(port: u16, dir: PathBuf, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let bound = format!("0100007F:{port:04X}");
        let begun = Instant::now();
        while !fs::read_to_string("/proc/net/udp").unwrap().contains(&bound) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { port, dir, child }
    }

    /// The log of snmptrapd so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Flows, packets and bytes that nfdump reads from nfcapd's files, once there are as many flows as are wanted; after
    /// 20 seconds those that are there. nfcapd begins a file every two seconds: the one it ends with may be left without
    /// a name (1.7.1).
    pub fn flows(&self, wanted: u64) -> [u64; 3] {
        let begun = Instant::now();
        loop {
            let output = Command::new("nfdump").arg("-R").arg(&self.dir).arg("-I").output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            let read = ["Flows: ", "Packets: ", "Bytes: "].map(|name| value(name).unwrap_or(0));
            if read[0] >= wanted || begun.elapsed() > Duration::from_secs(20) {
                return read;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
