//! Boxes for the console's tests: facts to be shown, and one in memory that keeps what was put.

use raven_console::failure::Failure;
use raven_console::tui::appliance::{Appliance, Power, Version};
use raven_console::tui::facts::kernel::Host;
use raven_console::tui::facts::{Facts, Link};
use raven_console::tui::testing::running::{News, Running};
use raven_model::alert::{Firing, Rule, Severity};
use raven_model::diag::{Event, Test};
use raven_model::host::{DiskHealth, StartedBy};
use raven_model::install::{Disk, Progress};
use raven_model::neighbour::{Heard, Neighbour};
use raven_model::report::{
    BackfillStatus, DestinationStatus, Forecast, ListenerStatus, Process, RingStatus, Status, StreamStatus, VpnTunnel,
};
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const NOW: UnixNanos = UnixNanos(1_795_957_200_000_000_000);

/// A box in memory: keeps what was put.
#[derive(Default)]
pub struct Fake {
    pub text: String,
    /// None: open to whoever stands at it.
    pub password: Option<String>,
    pub is_in: bool,
    /// What was done.
    pub done: Vec<String>,
    pub refuses_put: bool,
    /// Of a box that runs from the medium.
    pub disks: Vec<Disk>,
    /// How far the installation is.
    pub progress: Option<Progress>,
    /// What is told of tests; those of them that were ended from here.
    pub told: Vec<Told>,
    pub ended: Arc<AtomicUsize>,
}

/// What is told of a test.
#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // a few, in tests
pub enum Told {
    Event(Event),
    Over,
    Failed(&'static str),
}

fn refused<T>(why: &str) -> Result<T, Failure> {
    Err(Failure::Refused(vec![why.to_owned()]))
}

impl Fake {
    /// As it comes from the factory.
    pub fn fresh() -> Self {
        Self { text: "schema = 1\n".into(), ..Self::default() }
    }

    /// Set up, with a password.
    pub fn owned() -> Self {
        let text = "schema = 1\n[site]\nname = \"arena\"\n".into();
        Self { text, password: Some("correct horse".into()), ..Self::default() }
    }

    /// From the medium, in a box with a disk that can be taken and one that cannot.
    pub fn medium() -> Self {
        let disk = |name: &str, bytes, holds: &[&str], refused: Option<&str>| Disk {
            name: name.to_owned(),
            model: "Example 870".to_owned(),
            bytes,
            usb: refused.is_some(),
            holds: holds.iter().map(|line| (*line).to_owned()).collect(),
            refused: refused.map(str::to_owned),
        };
        let old = ["a Raven box, with its configuration and its records", "sda7: ext4, `raven-data`, 238000 MiB"];
        let disks = vec![
            disk("sda", 250_059_350_016, &old, None),
            disk("sdb", 15_999_999_488, &[], Some("the box runs from it")),
        ];
        Self { disks, ..Self::fresh() }
    }

    fn may(&self) -> Result<(), Failure> {
        if self.is_in || self.password.is_none() { Ok(()) } else { refused("not allowed") }
    }

    fn does(&mut self, what: &str) -> Result<(), Failure> {
        self.may()?;
        self.done.push(what.to_owned());
        Ok(())
    }
}

impl Appliance for Fake {
    fn log_in(&mut self, password: &str) -> Result<(), Failure> {
        self.is_in = self.password.as_deref() == Some(password);
        if self.is_in { Ok(()) } else { refused("wrong password; the next attempt in 2 s") }
    }
    fn log_out(&mut self) {
        self.is_in = false;
    }
    fn text(&mut self) -> Result<String, Failure> {
        self.may().map(|()| self.text.clone())
    }
    fn put(&mut self, text: &str, confirm_s: Option<u64>) -> Result<Vec<String>, Failure> {
        if self.refuses_put {
            return refused("line 9: no");
        }
        self.does(&format!("put, {confirm_s:?}"))?;
        text.clone_into(&mut self.text);
        Ok(Vec::new())
    }
    fn take_stick(&mut self, confirm_s: Option<u64>) -> Result<Vec<String>, Failure> {
        self.does(&format!("stick, {confirm_s:?}"))?;
        Ok(Vec::new())
    }
    fn support(&mut self) -> Result<String, Failure> {
        self.does("support")?;
        Ok("raven-arena-20261129T130000Z.tar.zst is on the stick (sda1): 93KiB".to_owned())
    }
    fn confirm(&mut self) -> Result<(), Failure> {
        self.does("confirm")
    }
    fn history(&mut self) -> Result<Vec<Version>, Failure> {
        self.may()?;
        Ok(vec![Version { number: 4, current: true }, Version { number: 3, current: false }])
    }
    fn revert(&mut self, number: u32) -> Result<(), Failure> {
        self.does(&format!("revert {number}"))
    }
    fn set_password(&mut self, password: &str) -> Result<(), Failure> {
        self.does("password")?;
        self.password = Some(password.to_owned());
        Ok(())
    }
    fn has_power(&self) -> bool {
        true
    }
    fn is_medium(&self) -> bool {
        !self.disks.is_empty()
    }
    fn disks(&mut self) -> Result<Vec<Disk>, Failure> {
        self.may().map(|()| self.disks.clone())
    }
    fn install(&mut self, disk: &str, typed: &str) -> Result<(), Failure> {
        if typed != disk {
            return refused("to confirm that all on it is lost, type its name: sda");
        }
        self.progress = Some(Progress { disk: disk.to_owned(), ..Progress::default() });
        self.does(&format!("install, {disk}"))
    }
    fn installed(&mut self) -> Result<Option<Progress>, Failure> {
        Ok(self.progress.clone())
    }
    fn factory_reset(&mut self, typed: &str) -> Result<(), Failure> {
        if typed != "arena" {
            return refused("to confirm that all that this box keeps is lost, type its name: arena");
        }
        self.does("factory reset")
    }
    fn test(&mut self, test: &Test) -> Running {
        self.done.push(format!("test {}", serde_json::to_string(test).unwrap()));
        let (sender, news) = std::sync::mpsc::channel();
        for told in &self.told {
            let told = match told.clone() {
                Told::Event(event) => News::Event(Box::new(event)),
                Told::Over => News::Over,
                Told::Failed(why) => News::Failed(why.to_owned()),
            };
            sender.send(told).unwrap();
        }
        let ended = Arc::clone(&self.ended);
        // Whose other end lives is not over.
        Running::new(news, move || {
            drop(sender);
            ended.fetch_add(1, Ordering::Relaxed);
        })
    }
    fn power(&mut self, power: Power) -> Result<(), Failure> {
        self.does(&format!("{power:?}"))
    }
}

fn links() -> Vec<Link> {
    let up = Link {
        name: "eth0".into(),
        mac: "52:54:00:12:34:56".into(),
        carrier: Some(true),
        speed_mbps: Some(1000),
        addresses: vec![
            "192.0.2.7/24".into(),
            "2001:db8::5054:ff:fe12:3456/64".into(),
            "fe80::5054:ff:fe12:3456/64".into(),
        ],
        gateways: vec!["192.0.2.1".into()],
        dns: vec!["192.0.2.53".into()],
        neighbour: Neighbour::Heard(Heard {
            system: Some("sw-core-1".into()),
            port: Some("Gi1/0/7".into()),
            description: Some("to the telemetry box".into()),
            ..Heard::default()
        }),
        state: "up".into(),
        cause: None,
    };
    let down = Link {
        name: "eth1".into(),
        mac: "52:54:00:12:34:57".into(),
        carrier: Some(false),
        state: "no link".into(),
        cause: Some("nothing is plugged in, or the other end is off".into()),
        ..Link::default()
    };
    vec![up, down]
}

fn host() -> Host {
    Host {
        name: "arena".into(),
        kernel: "Linux 6.12.48".into(),
        product: Some("Example Box 3000".into()),
        slot: Some("A".into()),
        timezone: "Europe/Berlin".into(),
        uptime_s: 273_600,
        memory: 2 << 30,
        memory_available: 1 << 30,
        load: "0.12 0.08 0.01".into(),
    }
}

fn disk() -> DiskHealth {
    DiskHealth {
        name: "sda".into(),
        model: "Example SSD 870".into(),
        serial: "S0001".into(),
        holds_data: true,
        passed: Some(true),
        celsius: Some(31),
        life_used: Some(0.04),
        power_on_s: Some(2401 * 3600),
        ..DiskHealth::default()
    }
}

fn status() -> Status {
    let process = |role: &str| Process {
        role: role.into(),
        pid: 412,
        uid: 61001,
        state: "running".into(),
        uptime_s: 273_600,
        heartbeat_ms: 812,
        ..Process::default()
    };
    let listener = |proto: &str, stream: &str, port: u16| ListenerStatus {
        stream: stream.into(),
        proto: proto.into(),
        addr: format!("[::]:{port}"),
        received: 1_234_567,
        bytes: 250_000_000,
        rate: 1234.4,
        ..ListenerStatus::default()
    };
    let forecast = |window: &str| Forecast {
        window: window.into(),
        bytes_per_s: 4321.0,
        holds_s: Some(1_213_200),
        time_to_full_s: Some(900_000),
        ..Forecast::default()
    };
    let tunnel = |name: &str, state: &str, cause: &str| -> VpnTunnel {
        let up = state == "up";
        serde_json::from_value(serde_json::json!({
            "name": name, "state": state, "cause": cause, "since_s": 40, "carries": up, "received": 0, "sent": 0, "dns": [],
            "addresses": if up { vec!["10.8.77.2/24"] } else { Vec::new() },
            "server": up.then_some("198.51.100.7"), "probe": null, "loss": up.then_some(0), "rtt_ms": up.then_some(31.4),
            "refused": if up { vec!["route 0.0.0.0/0: it asks for all traffic"] } else { Vec::new() },
        }))
        .unwrap()
    };
    let stream = |name: &str| StreamStatus {
        name: name.into(),
        first_seq: Seq(1),
        next_seq: Seq(1_234_568),
        bytes_disk: 54_321_098,
        quota: 3 << 30,
        share: 1 << 30,
        oldest_ns: Some(UnixNanos(NOW.0 - 86_400_000_000_000)),
        time_to_full_s: Some(900_000),
        forecast: vec![forecast("hour"), forecast("day")],
        rate: 1234.4,
        ..StreamStatus::default()
    };
    Status {
        vpn: vec![tunnel("noc", "up", ""), tunnel("backup", "down", "auth refused; next attempt in 40 s")],
        version: "0.1.0".into(),
        device: "arena".into(),
        now_ns: NOW,
        uptime_s: 273_590,
        processes: ["ravend", "store", "syslog", "flow", "uplink", "decode"].map(process).to_vec(),
        listeners: vec![listener("udp", "syslog", 514), listener("tcp", "syslog", 601), listener("udp", "flow", 2055)],
        streams: vec![stream("syslog"), stream("flow"), stream("alert")],
        ring: Some(RingStatus {
            allocated: 154_321_098,
            quota: 4 << 30,
            fill: 5.6,
            forecast: ["hour", "day", "week"].map(forecast).to_vec(),
            ..RingStatus::default()
        }),
        destinations: vec![DestinationStatus {
            name: "noc".into(),
            stream: "syslog".into(),
            kind: "relp".into(),
            to: "noc.example.org:2514".into(),
            ack_class: "accepted".into(),
            acked_seq: Seq(1_234_567),
            acknowledged: 1_234_567,
            rate: 1234.4,
            state: "sending".into(),
            ..DestinationStatus::default()
        }],
        disks: vec![disk()],
        started_by: Some(StartedBy::UefiSecureBootOff),
        ..Status::default()
    }
}

/// A box that does well.
pub fn quiet() -> Facts {
    let log = vec![
        "2026-11-29T11:02:03.000Z 127.0.0.1 warning destination_down: noc cannot be reached".to_owned(),
        "2026-11-29T11:09:03.000Z 127.0.0.1 resolved destination_down: noc is reached again".to_owned(),
    ];
    Facts { status: Ok(status()), links: links(), host: host(), log: Ok(log) }
}

/// A box with troubles, some of them in words that strangers wrote.
pub fn busy() -> Facts {
    let mut facts = quiet();
    let Ok(status) = &mut facts.status else { return facts };
    status.firing = vec![Firing {
        alert: Rule::DestinationDown,
        subject: "noc".into(),
        severity: Severity::Critical,
        since_ns: NOW,
        text:
            "noc (noc.example.org:2514) cannot be reached since 12 min: connection refused; see that its receiver runs"
                .into(),
    }];
    status.alerts = vec![
        "udp:[::]:514 dropped 12 (socket_buffer)".into(),
        "syslog: in the inbox tls_hello of 192.0.2.1\u{1b}[2J: see `raven inbox`".into(),
    ];
    status.listeners[0].dropped = BTreeMap::from([("socket_buffer".to_owned(), 12)]);
    status.processes[3].state = "held".into();
    status.disks[0].pending_sectors = Some(8);
    let noc = &mut status.destinations[0];
    noc.state = "retrying".into();
    noc.lag = 567_890;
    noc.last_error = Some("connection refused".into());
    noc.backfill =
        BackfillStatus { records: 5000, state: "paused".into(), pace: "adaptive".into(), ..Default::default() };
    facts
}

/// A box without a network: nothing is configured, nothing is plugged in.
pub fn alone() -> Facts {
    let mut facts = quiet();
    for link in &mut facts.links {
        (link.addresses, link.gateways, link.dns) = (Vec::new(), Vec::new(), Vec::new());
        (link.state, link.cause) = ("no address".into(), Some("it has a link and no address".into()));
    }
    if let Ok(status) = &mut facts.status {
        (status.vpn, status.destinations) = (Vec::new(), Vec::new());
    }
    facts
}

/// A box whose ravend is away.
pub fn unreachable() -> Facts {
    let why = "cannot reach ravend at /data/run/control: No such file or directory\nis it running?".to_owned();
    Facts { status: Err(why.clone()), log: Err(why), ..quiet() }
}
