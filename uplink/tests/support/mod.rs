//! What the tests of delivery share: cursors in memory, a fleet beside a simulated ring, and a real rsyslog.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)] // each test file uses its own part

pub mod certificates;
pub mod envelope;
pub mod legacy;
pub mod manager;
pub mod nats;
pub mod prometheus;
pub mod receiver;
pub mod rsyslog;
pub mod tinyproxy;

use raven_model::config::{Config, Destination};
use raven_model::report::DestinationStatus;
use raven_model::units::Seq;
use raven_uplink::attempt::Pace;
use raven_uplink::fleet::{Base, CursorStore, Fleet, Route, Saved};
use raven_uplink::sim::SimRing;
use raven_uplink::standing::Paused;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// Cursors that outlive a fleet, as those on disk outlive a process.
#[derive(Debug, Clone, Default)]
pub struct MemoryCursors(pub Rc<RefCell<BTreeMap<Route, Saved>>>, pub Rc<RefCell<BTreeMap<String, Paused>>>);

impl CursorStore for MemoryCursors {
    fn load(&mut self, route: &Route) -> Option<Saved> {
        self.0.borrow().get(route).cloned()
    }
    fn save(&mut self, cursors: &[(Route, Saved)]) -> Result<(), String> {
        self.0.borrow_mut().extend(cursors.iter().cloned());
        Ok(())
    }
    fn load_paused(&mut self, name: &str) -> Paused {
        self.1.borrow().get(name).copied().unwrap_or_default()
    }
    fn save_paused(&mut self, name: &str, paused: Paused) -> Result<(), String> {
        self.1.borrow_mut().insert(name.to_owned(), paused);
        Ok(())
    }
}

pub type SimFleet = Fleet<SimRing, MemoryCursors>;

/// Pauses short enough for a test, of the same shape.
pub const PACE: Pace =
    Pace { first: Duration::from_millis(20), longest: Duration::from_millis(200), config: Duration::from_millis(300) };

pub fn fleet(ring: &Rc<SimRing>, cursors: &MemoryCursors, dir: &Path) -> SimFleet {
    let base =
        Base { device: "arena".to_owned(), cursors: dir.to_owned(), pace: PACE, source: Rc::clone(ring), speak: None };
    Fleet::new(base, cursors.clone())
}

/// `[uplink.*]` tables of a configuration.
pub fn uplinks(toml: &str) -> BTreeMap<String, Destination> {
    let destinations: toml_like::Tables = toml_like::parse(toml);
    destinations
}

mod toml_like {
    use super::{BTreeMap, Destination};
    pub type Tables = BTreeMap<String, Destination>;
    /// `name key=value key=value` a line: enough for tests, without a TOML parser.
    pub fn parse(text: &str) -> Tables {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(line).collect()
    }
    fn line(line: &str) -> (String, Destination) {
        let mut words = line.split(' ');
        let name = words.next().unwrap().to_owned();
        let mut fields: serde_json::Map<String, serde_json::Value> = words
            .map(|word| {
                let (key, value) = word.split_once('=').unwrap();
                (key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()))
            })
            .collect();
        // The ring of most tests has no other.
        fields.entry("streams").or_insert_with(|| serde_json::json!(["syslog"]));
        let destination: Destination = serde_json::from_value(fields.into()).unwrap();
        (name, destination)
    }
}

/// Runs a test's future with local tasks; fails after two minutes instead of hanging.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(Duration::from_mins(2), test).await.expect("done within two minutes")
    })
}

/// Waits until `done` holds.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_mins(1), async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited 60 s until {what}"));
}

pub fn status(fleet: &mut SimFleet, name: &str) -> DestinationStatus {
    fleet.report().destinations.into_iter().find(|status| status.name == name).expect("it is configured")
}

pub async fn until_acked(fleet: &mut SimFleet, name: &str, seq: u64) {
    let acked = async {
        while status(fleet, name).acked_seq < Seq(seq) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_mins(1), acked).await.is_ok();
    assert!(in_time, "{name} did not acknowledge {seq} in 60 s: {:?}", status(fleet, name));
}

/// `count` messages of about 100 bytes, the same for every call, in blocks of 500.
pub fn store_numbered(ring: &SimRing, count: u64) {
    let from = raven_uplink::source::Source::next_seq(ring, "syslog").0;
    let texts: Vec<String> = (from..from + count).map(numbered).collect();
    for block in texts.chunks(500) {
        let messages: Vec<&[u8]> = block.iter().map(String::as_bytes).collect();
        ring.store("syslog", &messages);
    }
}

pub fn numbered(seq: u64) -> String {
    format!(
        "<34>Nov 22 00:35:53 gate-{} sshd[{seq}]: Accepted publickey for operator from 192.0.2.{} port {seq}",
        seq % 40,
        seq % 250
    )
}

/// A port of this machine that is free now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The whole configuration with these destinations.
pub fn config(uplink: BTreeMap<String, Destination>) -> Config {
    let mut config: Config = serde_json::from_str(r#"{"schema":1}"#).unwrap();
    "arena".clone_into(&mut config.site.name);
    config.uplink = uplink;
    config
}
