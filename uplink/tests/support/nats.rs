//! Real nats-servers, with JetStream in folders of their own, and a client as small as a test needs.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "/usr/sbin/nats-server";

/// Whether nats-server is installed; says so when it is not.
pub fn installed() -> bool {
    let there = Path::new(PROGRAM).exists();
    if !there {
        println!("SKIPPED: this test needs nats-server (Debian: apt install nats-server)");
        eprintln!("SKIPPED: this test needs nats-server (Debian: apt install nats-server)");
    }
    there
}

pub struct Server {
    dir: PathBuf,
    pub port: u16,
    child: Option<Child>,
}

impl Server {
    /// Not yet started. `more` is further configuration.
    pub fn new(dir: &Path, name: &str, port: u16, more: &str) -> Self {
        let dir = dir.join(name);
        fs::create_dir(&dir).unwrap();
        let config = format!(
            "server_name: {name}\nlisten: 127.0.0.1:{port}\njetstream {{ store_dir: \"{}/js\", max_mem: 64M, max_file: 512M }}\n{more}\n",
            dir.display()
        );
        fs::write(dir.join("nats.conf"), config).unwrap();
        Self { dir, port, child: None }
    }

    pub fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let child = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.dir.join("nats.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(30), "nats-server does not listen: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks JetStream's API.
pub struct Client {
    stream: BufReader<TcpStream>,
    asked: u64,
}

impl Client {
    pub fn new(port: u16, connect: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut client = Self { stream: BufReader::new(stream), asked: 0 };
        client.line();
        client.say(format!("CONNECT {connect}\r\nSUB answers.* 1\r\n").as_bytes());
        client
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// None when nothing comes.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    }

    /// The JSON that comes back; null when none does, as from a cluster without a leader.
    pub fn ask(&mut self, subject: &str, question: &serde_json::Value) -> serde_json::Value {
        let question = question.to_string();
        self.asked += 1;
        let inbox = format!("answers.{}", self.asked);
        self.say(format!("PUB {subject} {inbox} {}\r\n{question}\r\n", question.len()).as_bytes());
        loop {
            let Some(line) = self.line() else { return serde_json::Value::Null };
            if line.starts_with("PING") {
                self.say(b"PONG\r\n");
            }
            if let Some((to, length)) = line.strip_prefix("MSG ").and_then(|rest| rest.split_once(" 1 ")) {
                let mut content = vec![0; length.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut content).unwrap();
                if to == inbox {
                    return serde_json::from_slice(&content[..content.len() - 2]).unwrap();
                }
            }
            assert!(!line.starts_with("-ERR"), "{line}");
        }
    }

    /// A stream for all that Raven sends; waits until the cluster is ready for it.
    pub fn make_stream(&mut self, replicas: u32) {
        let wanted = serde_json::json!({
            "name": "RAVEN", "subjects": ["raven.>"], "storage": "file", "retention": "limits", "discard": "old",
            "num_replicas": replicas, "duplicate_window": 120_000_000_000_u64, "max_consumers": -1, "max_msgs": -1,
            "max_bytes": -1, "max_age": 0, "max_msg_size": -1,
        });
        let begun = Instant::now();
        loop {
            let answer = self.ask("$JS.API.STREAM.CREATE.RAVEN", &wanted);
            if answer["config"]["num_replicas"] == replicas {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{answer}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn stored(&mut self) -> u64 {
        self.ask("$JS.API.STREAM.INFO.RAVEN", &serde_json::json!({}))["state"]["messages"].as_u64().unwrap_or_default()
    }

    /// Header and content of a stored message; none where there is none.
    pub fn message(&mut self, number: u64) -> Option<(String, Vec<u8>)> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let answer = self.ask("$JS.API.STREAM.MSG.GET.RAVEN", &serde_json::json!({ "seq": number }));
        let part = |name: &str| STANDARD.decode(answer["message"][name].as_str().unwrap_or_default()).unwrap();
        let header = String::from_utf8(part("hdrs")).unwrap();
        (!header.is_empty()).then(|| (header, part("data")))
    }
}
