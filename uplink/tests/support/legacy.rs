//! Collectors that take datagrams: real nfcapd and snmptrapd.

use super::free_port;
use std::fs;
use std::net::UdpSocket;
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
        let mut snmptrapd = Self::snmptrapd_on(port, &dir);
        Self::start(port, dir, &mut snmptrapd)
    }

    /// Ends it; [`again`](Self::again) starts it anew, on the same port and with what it kept.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts snmptrapd again.
    pub fn again(&mut self) {
        let mut snmptrapd = Self::snmptrapd_on(self.port, &self.dir);
        *self = Self::start(self.port, self.dir.clone(), &mut snmptrapd);
    }

    fn snmptrapd_on(port: u16, dir: &Path) -> Command {
        let mut snmptrapd = Command::new("snmptrapd");
        snmptrapd.args(["-f", "-n", "-On", "-A", "-C", "-c"]).arg(dir.join("snmptrapd.conf")).arg("-Lf");
        snmptrapd.arg(dir.join("log")).arg(format!("udp:127.0.0.1:{port}"));
        snmptrapd.env("SNMP_PERSISTENT_DIR", dir).env("MIBS", "");
        snmptrapd
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

/// Datagrams that net-snmp's own tool sends: versions 1, 2c and 3, the last one encrypted. Each says `mark`.
pub fn traps(mark: &str) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let to = socket.local_addr().unwrap().to_string();
    let v1 = ["-v", "1", "-c", "public", &to, ".1.3.6.1.4.1.8072.9999", "192.0.2.99", "6", "17", "55"];
    let v2 = ["-v", "2c", "-c", "public", &to, "55", ".1.3.6.1.4.1.8072.2.3.0.1"];
    let v3 = [
        ["-v", "3", "-e", "0x8000000001020304", "-u", "raven", "-l", "authPriv"].as_slice(),
        &["-a", "SHA", "-A", "authauthauth", "-x", "AES", "-X", "privprivpriv", &to, "55", ".1.3.6.1.4.1.8072.2.3.0.1"],
    ]
    .concat();
    [&v1[..], &v2[..], &v3[..]]
        .map(|arguments| {
            let varbind = [".1.3.6.1.4.1.8072.2.3.2.1", "s", mark];
            let sent = Command::new("snmptrap").args(arguments).args(varbind).env("MIBS", "").output().unwrap();
            assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
            let mut datagram = vec![0; 2000];
            let len = socket.recv(&mut datagram).unwrap();
            datagram[..len].to_vec()
        })
        .to_vec()
}
