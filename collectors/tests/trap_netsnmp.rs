//! The trap collector as `ravend` runs it, against the real `snmptrap` and `snmpinform` of Debian's package `snmp`.
//! Skipped, and said so, where that is not installed.

#![allow(clippy::unwrap_used)]

use raven_collectors::receiver::Receiver;
use raven_collectors::trap::Trap;
use raven_jail::channel::Channel;
use raven_jail::memory::memfd_of;
use raven_jail::receive::{StoreMemory, create};
use raven_jail::socket;
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, Listener, PACKET_MAX, Proto, Start, ToWorker};
use raven_model::record::{Context, Frames};
use raven_model::report::CollectorReport;
use raven_model::stream::Stream;
use raven_model::table::Role;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

const ENGINE: &str = "8000000001020304";
const AUTHS: [&str; 6] = ["MD5", "SHA", "SHA-224", "SHA-256", "SHA-384", "SHA-512"];
const PRIVS: [&str; 6] = ["DES", "AES", "AES-192", "AES-256", "AES-192-C", "AES-256-C"];

fn skip(what: &str) {
    // Not `eprintln!`: the test harness would keep that of a passing test to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// What the store has.
#[derive(Default)]
struct Kept {
    records: Vec<(Vec<u8>, bool)>,
    table: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A collector in a thread, a store in another, and we are `ravend`.
struct Rig {
    channel: Channel,
    collector: Option<JoinHandle<()>>,
    store: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// The disk takes nothing.
    stuck: Arc<AtomicBool>,
    kept: Arc<Mutex<Kept>>,
    report: CollectorReport,
    port: u16,
    state: PathBuf,
}

impl Rig {
    fn start(name: &str, table: BTreeMap<Vec<u8>, Vec<u8>>, users: &str) -> Option<Self> {
        let state = std::env::temp_dir().join(format!("raven-trap-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        let (memory, words) = create("trap").unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let (stop, stuck) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let kept = Arc::new(Mutex::new(Kept { table, ..Kept::default() }));
        let store = thread::spawn({
            let memory = StoreMemory::open(&memory, &words).unwrap();
            let (stop, stuck, kept) = (Arc::clone(&stop), Arc::clone(&stuck), Arc::clone(&kept));
            move || store(&memory, &stop, &stuck, &kept)
        });
        let mut config = Config::default();
        config.collect.trap.users = Some("secret:snmp.toml".parse().unwrap());
        config.collect.trap.engines = vec![ENGINE.to_owned()];
        let start = Start {
            role: Role::Trap,
            device: "test".to_owned(),
            boot_id: "0".repeat(32),
            data: PathBuf::new(),
            config: Some(Box::new(config)),
            listeners: BTreeMap::new(),
            environment: BTreeMap::new(),
            fds: vec![
                Fd::Ring { stream: Stream::Trap },
                Fd::Words { stream: Stream::Trap },
                Fd::Wake { stream: Stream::Trap },
            ],
        };
        let wake: OwnedFd = nix::sys::eventfd::EventFd::new().unwrap().into();
        let collector = thread::spawn(move || {
            let kind = Trap::new(&start);
            let receiver = Receiver::new(&start, vec![memory, words, wake], theirs, 7, kind).unwrap();
            receiver.ready(Vec::new()).unwrap().run().unwrap();
        });
        let (socket, _) = socket::udp("[::]:0".parse().unwrap(), 1 << 20).unwrap();
        let addr = socket::local_addr(socket.as_fd()).unwrap();
        let port = addr.port();
        let mut rig = Self {
            channel: ours,
            collector: Some(collector),
            store: Some(store),
            stop,
            stuck,
            kept,
            report: CollectorReport::default(),
            port,
            state,
        };
        rig.users(users);
        let listener = Listener { id: 1, stream: Stream::Trap, proto: Proto::Udp, addr };
        rig.channel.send_json(&ToWorker::Listen(listener), &[socket.as_fd()]).unwrap();
        if rig.tool("snmptrap").arg("--version").status().is_ok_and(|status| status.success()) {
            rig.wait_for_engine();
            return Some(rig);
        }
        skip("no snmptrap here: install Debian's package `snmp`");
        None
    }

    fn users(&self, text: &str) {
        let secret = memfd_of("users", text.as_bytes()).unwrap();
        self.channel.send_json(&ToWorker::Secrets(vec!["collect.trap.users".to_owned()]), &[secret.as_fd()]).unwrap();
    }

    /// Until two heartbeats after the engine is on disk.
    fn wait_for_engine(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.kept.lock().unwrap().table.contains_key(&b"own"[..]) {
            assert!(Instant::now() < end);
            sleep(Duration::from_millis(20));
        }
        sleep(Duration::from_millis(2300));
    }

    fn boots(&self) -> u64 {
        u64::from_le_bytes(*self.kept.lock().unwrap().table[&b"own"[..]].first_chunk().unwrap())
    }

    /// A run of net-snmp's tools with nothing of this machine's settings.
    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SNMPCONFPATH", &self.state).env("SNMP_PERSISTENT_DIR", &self.state).env("MIBS", "");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Sends a linkDown; what the tool says if it fails.
    fn send(&self, program: &str, options: &[&str]) -> Result<(), String> {
        let mut command = self.tool(program);
        command.args(options).args(["-r", "1", "-t", "3"]).arg(format!("127.0.0.1:{}", self.port));
        command.args(["4711", ".1.3.6.1.6.3.1.1.5.3", ".1.3.6.1.2.1.2.2.1.8.7", "i", "2"]);
        let output = command.output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Records so far, and how many of them were refused, once there are `n`.
    fn records(&self, n: usize) -> (usize, usize) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let kept = self.kept.lock().unwrap();
            if kept.records.len() >= n {
                return (kept.records.len(), kept.records.iter().filter(|(_, refused)| *refused).count());
            }
            assert!(Instant::now() < end, "{} of {n} records", kept.records.len());
            drop(kept);
            sleep(Duration::from_millis(10));
        }
    }

    /// The newest report, of after now.
    fn report(&mut self) -> &CollectorReport {
        let (mut packet, mut left) = (vec![0; PACKET_MAX], None);
        let begun = Instant::now();
        while left.is_none_or(|left: Instant| left.elapsed() < Duration::from_millis(1200)) {
            assert!(begun.elapsed() < Duration::from_secs(20));
            match self.channel.try_recv_json::<FromWorker>(&mut packet) {
                Ok(Some((FromWorker::Heartbeat { report }, _))) => {
                    self.report = serde_json::from_str(report.get()).unwrap();
                    left.get_or_insert_with(Instant::now);
                }
                Ok(_) => {}
                Err(_) => sleep(Duration::from_millis(20)),
            }
        }
        &self.report
    }

    /// Stops it as `ravend` does; what the store has of context.
    fn finish(mut self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.channel.send_json(&ToWorker::Stop, &[]).unwrap();
        self.collector.take().unwrap().join().unwrap();
        self.stop.store(true, Ordering::Relaxed);
        self.store.take().unwrap().join().unwrap();
        let _ = std::fs::remove_dir_all(&self.state);
        self.kept.lock().unwrap().table.clone()
    }
}

/// Takes, makes durable and tells, every few ms.
fn store(memory: &StoreMemory, stop: &AtomicBool, stuck: &AtomicBool, kept: &Mutex<Kept>) {
    let (mut taken, mut buffer, mut told) = (memory.durable(), Vec::new(), None);
    while !stop.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(3));
        if stuck.load(Ordering::Relaxed) {
            continue;
        }
        let mut kept = kept.lock().unwrap();
        while memory.epoch() != 0 && taken < memory.published() {
            let batch = memory.take(taken + 1, &mut buffer).unwrap();
            for frame in Frames::new(&buffer).map(Result::unwrap) {
                if frame.received.is_record() {
                    kept.records.push((frame.raw.to_vec(), frame.received.is_refused()));
                } else {
                    let context = Context::read(frame.raw).unwrap();
                    kept.table.insert(context.key.to_vec(), context.value.to_vec());
                }
            }
            memory.taken(batch.len);
            taken += 1;
        }
        memory.set_durable(taken);
        if told.as_ref() != Some(&kept.table) {
            let mut run = Vec::new();
            kept.table.iter().for_each(|(key, value)| Context { key, value }.write_run(&mut run));
            memory.set_snapshot(&run);
            told = Some(kept.table.clone());
        }
    }
}

fn pair(auth: &str, privacy: Option<&str>) -> String {
    format!("{auth}{}", privacy.unwrap_or("none")).replace('-', "").to_ascii_lowercase()
}

fn pairs() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    AUTHS.into_iter().flat_map(|auth| [None].into_iter().chain(PRIVS.map(Some)).map(move |privacy| (auth, privacy)))
}

#[test]
fn traps_and_informs_of_every_version_and_pair_of_protocols_arrive() {
    let user = |(auth, privacy): (&str, Option<&str>)| {
        let of_privacy = privacy.map(|privacy| format!("priv = \"{privacy}\"\npriv_password = \"pancakes!\"\n"));
        let name = pair(auth, privacy);
        let of_privacy = of_privacy.unwrap_or_default();
        format!("[[user]]\nname = \"{name}\"\nauth = \"{auth}\"\nauth_password = \"maplesyrup\"\n{of_privacy}")
    };
    let users: String = pairs().map(user).chain(["[[user]]\nname = \"open\"\n".to_owned()]).collect();
    let Some(mut rig) = Rig::start("pairs", BTreeMap::new(), &users) else { return };
    let mut expected = 3;
    rig.send("snmptrap", &["-v2c", "-c", "public"]).unwrap();
    rig.send("snmpinform", &["-v2c", "-c", "public"]).unwrap();
    let mut v1 = rig.tool("snmptrap");
    v1.args(["-v1", "-c", "public", &format!("127.0.0.1:{}", rig.port), "", "", "2", "0", ""]);
    assert!(v1.status().unwrap().success());
    let mut missing = Vec::new();
    for (auth, privacy) in pairs().chain([("", None)]) {
        let name = if auth.is_empty() { "open".to_owned() } else { pair(auth, privacy) };
        let level = if auth.is_empty() {
            "noAuthNoPriv"
        } else if privacy.is_some() {
            "authPriv"
        } else {
            "authNoPriv"
        };
        let mut options = vec!["-v3", "-u", &name, "-l", level];
        if !auth.is_empty() {
            options.extend(["-a", auth, "-A", "maplesyrup"]);
        }
        if let Some(privacy) = privacy {
            options.extend(["-x", privacy, "-X", "pancakes!"]);
        }
        match rig.send("snmpinform", &options) {
            Err(error) if error.contains("Invalid privacy protocol") => {
                missing.push(name);
                continue;
            }
            sent => sent.unwrap_or_else(|error| panic!("snmpinform {name}: {error} {:?}", rig.report().clone())),
        }
        rig.send("snmptrap", &[&options[..], &["-e", &format!("0x{ENGINE}")]].concat()).unwrap();
        expected += 2;
    }
    if !missing.is_empty() {
        skip(&format!("this net-snmp lacks: {}", missing.join(", ")));
    }
    let (all, refused) = rig.records(expected);
    let report = rig.report();
    assert_eq!(all - refused, expected, "{report:?}");
    assert_eq!(refused as u64, report.refused.values().sum::<u64>());
    assert!(report.refused.keys().all(|reason| reason == "not_in_time_window"), "{report:?}");
    assert!(report.dropped["discovery"] > 0 && report.answers["responses"] as usize >= (expected - 3) / 2);
    assert_eq!(report.engines.len(), 1, "{report:?}");
    assert_eq!(report.engines[0].engine_id, ENGINE);
    rig.finish();
}

#[test]
fn an_inform_waits_for_the_disk_and_boots_rise_over_a_restart() {
    let users = "[[user]]\nname = \"noc\"\nauth = \"sha256\"\nauth_password = \"maplesyrup\"\n";
    let inform = ["-v3", "-u", "noc", "-l", "authNoPriv", "-a", "SHA-256", "-A", "maplesyrup"];
    let Some(rig) = Rig::start("disk", BTreeMap::new(), users) else { return };
    assert_eq!(rig.boots(), 1);
    rig.send("snmpinform", &inform).unwrap();
    rig.stuck.store(true, Ordering::Relaxed);
    let error = rig.send("snmpinform", &inform).unwrap_err();
    assert!(error.contains("Timeout"), "{error}");
    assert!(rig.send("snmpinform", &["-v2c", "-c", "public"]).is_err());
    rig.stuck.store(false, Ordering::Relaxed);
    rig.send("snmpinform", &inform).unwrap();
    let table = rig.finish();
    let rig = Rig::start("disk", table, users).unwrap();
    assert_eq!(rig.boots(), 2);
    // Its tool remembers our engine as it was.
    rig.send("snmpinform", &inform).unwrap();
    rig.finish();
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_told_to_the_sender_and_to_the_operator() {
    let users = "[[user]]\nname = \"noc\"\nauth = \"sha1\"\nauth_password = \"maplesyrup\"\n";
    let Some(mut rig) = Rig::start("wrong", BTreeMap::new(), users) else { return };
    let with = |user, password| ["-v3", "-u", user, "-l", "authNoPriv", "-a", "SHA", "-A", password];
    let error = rig.send("snmpinform", &with("noc", "wrongwrong")).unwrap_err();
    assert!(error.contains("Authentication failure"), "{error}");
    let error = rig.send("snmpinform", &with("other", "maplesyrup")).unwrap_err();
    assert!(error.contains("Unknown user name"), "{error}");
    let report = rig.report();
    assert!(report.refused["wrong_digest"] > 0 && report.refused["unknown_user"] > 0, "{report:?}");
    assert_eq!(report.inbox.len(), 2, "{report:?}");
    rig.users(&users.replace("maplesyrup", "wrongwrong"));
    sleep(Duration::from_millis(500));
    rig.send("snmpinform", &with("noc", "wrongwrong")).unwrap();
    rig.finish();
}

#[test]
fn a_peer_over_ipv6_is_answered() {
    let Some(rig) = Rig::start("ipv6", BTreeMap::new(), "") else { return };
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return skip("no IPv6 here");
    }
    let mut inform = rig.tool("snmpinform");
    let to = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], rig.port));
    inform.args(["-v2c", "-c", "public", "-r", "1", "-t", "3", &format!("udp6:{to}"), "", ".1.3.6.1.6.3.1.1.5.3"]);
    assert!(inform.status().unwrap().success());
    rig.finish();
}
