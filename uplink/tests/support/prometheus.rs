//! A real Prometheus that takes remote writes, with a folder of its own.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Prometheus {
    dir: PathBuf,
    pub port: u16,
    child: Option<Child>,
}

impl Prometheus {
    /// Not yet started.
    pub fn new(dir: &Path, port: u16) -> Self {
        let dir = dir.join("prometheus");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("prometheus.yml"), "scrape_configs: []\n").unwrap();
        Self { dir, port, child: None }
    }

    pub fn start(&mut self) {
        let mut prometheus = Command::new("prometheus");
        prometheus.arg(format!("--config.file={}/prometheus.yml", self.dir.display()));
        prometheus.arg(format!("--storage.tsdb.path={}/data", self.dir.display()));
        prometheus.arg(format!("--web.listen-address=127.0.0.1:{}", self.port));
        prometheus.arg("--web.enable-remote-write-receiver");
        let log = fs::File::create(self.dir.join("log")).unwrap();
        self.child = Some(prometheus.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() || self.query("vector(1)").is_none() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_mins(1), "prometheus is not ready: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What to write in `to`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port)
    }

    /// The series that answer a query, each with its value; none when it is not ready.
    pub fn query(&self, query: &str) -> Option<Vec<(serde_json::Value, f64)>> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let curl = Command::new("curl").args(["-sG", &url, "--data-urlencode", &format!("query={query}")]).output();
        let answer: serde_json::Value = serde_json::from_slice(&curl.unwrap().stdout).ok()?;
        let value = |one: &serde_json::Value| one["value"][1].as_str().unwrap().parse().unwrap();
        let results = answer["data"]["result"].as_array()?;
        Some(results.iter().map(|one| (one["metric"].clone(), value(one))).collect())
    }

    /// The one value that answers a query.
    pub fn value(&self, query: &str) -> f64 {
        let found = self.query(query).unwrap();
        let [(_, value)] = &found[..] else { panic!("{query}: {found:?}") };
        *value
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
