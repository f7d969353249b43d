//! A real tinyproxy that asks for a password.

use super::free_port;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Tinyproxy {
    dir: PathBuf,
    pub port: u16,
    child: Child,
}

impl Tinyproxy {
    /// Lets in `raven` with the password `s3cr3t`.
    pub fn start(dir: &Path) -> Self {
        let port = free_port();
        let dir = dir.to_owned();
        let config = format!(
            "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nBasicAuth raven s3cr3t\nMaxClients 20\nTimeout 600\n\
             LogLevel Connect\nLogFile \"{}\"\n",
            dir.join("tinyproxy.log").display()
        );
        fs::write(dir.join("tinyproxy.conf"), config).unwrap();
        let mut tinyproxy = Command::new("tinyproxy");
        tinyproxy.arg("-d").arg("-c").arg(dir.join("tinyproxy.conf"));
        let child = tinyproxy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "tinyproxy does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { dir, port, child }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("tinyproxy.log")).unwrap_or_default()
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
