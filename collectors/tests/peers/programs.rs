//! The programs that send.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A directory of its own that goes away.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("raven-peers-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a program and what it loads are; says so when one is missing.
pub fn installed(package: &str, files: &[&str]) -> bool {
    let there = |file: &&str| {
        let folders = ["/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
        folders.iter().any(|folder| Path::new(folder).join(file).exists())
    };
    let missing: Vec<_> = files.iter().filter(|file| !there(file)).collect();
    if !missing.is_empty() {
        println!("NOT RUN: {missing:?} missing, install the package {package}");
    }
    missing.is_empty()
}

/// A running program that ends with its owner.
pub struct Program(pub Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `openssl s_client`, whose standard input goes to the port.
pub fn s_client(port: u16, arguments: &[&str]) -> Program {
    let child = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-quiet", "-no_ign_eof"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Program(child.unwrap())
}

/// rsyslog that takes lines on a port of its own and sends them on by `action`; the port.
pub fn rsyslog(place: &Place, globals: &str, modules: &str, action: &str) -> (Program, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        r#"global(workDirectory="{work}" maxMessageSize="64k" {globals})
{modules}
module(load="imptcp")
input(type="imptcp" address="127.0.0.1" port="{port}" ruleset="on")
template(name="raw" type="string" string="%rawmsg%")
ruleset(name="on") {{ action({action} template="raw" action.resumeRetryCount="-1" action.resumeInterval="1" queue.type="LinkedList" queue.timeoutShutdown="5000") }}
"#,
        work = place.0.display()
    );
    let config = place.write("rsyslog.conf", &text);
    let child = Command::new("rsyslogd")
        .args(["-n", "-f", &config, "-i", &place.path("pid").display().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // It complains of what is tried here.
        .stderr(Stdio::null())
        .spawn();
    (Program(child.unwrap()), port)
}
