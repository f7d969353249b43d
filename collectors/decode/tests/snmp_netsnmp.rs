//! The real `snmptrap` and `snmpinform` of Debian's package `snmp`, over a loopback socket, with each pair of protocols;
//! and the MIB files of net-snmp. Skipped, and said so, where these are not installed.

#![allow(clippy::unwrap_used)]

use raven_decode::snmp::mib::{MibFile, load};
use raven_decode::snmp::{
    Access, AuthProtocol, Communities, Engine, EngineId, LocalEngine, Names, Notification, Outcome, PrivProtocol,
    Refused, Seconds, Secret, User, Users, answer, check, decode,
};
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn skip(what: &str) {
    // Not `eprintln!`: the test harness would keep that of a passing test to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// A run of net-snmp's tools with nothing of this machine's settings. It leaves its state behind in a folder of its own.
fn tool(program: &str, state: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("SNMPCONFPATH", state).env("SNMP_PERSISTENT_DIR", state).env("MIBS", "");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn state(name: &str) -> PathBuf {
    let state = std::env::temp_dir().join(format!("raven-snmp-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&state).unwrap();
    state
}

fn is_installed(state: &Path) -> bool {
    tool("snmptrap", state).arg("--version").status().is_ok_and(|status| status.success())
}

/// Receives until the tool ends; what was accepted, and why the rest was not.
struct Receiver {
    socket: UdpSocket,
    access: Access,
    started: Instant,
    accepted: Vec<(Notification, Vec<u8>)>,
    refused: Vec<Refused>,
}

impl Receiver {
    fn new(users: Vec<User>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let local = LocalEngine::new(EngineId::ours(b"raven-test"), 3, Seconds(0), 99);
        let access = Access::new(Communities::default(), Users::new(users).unwrap(), local);
        Self { socket, access, started: Instant::now(), accepted: Vec::new(), refused: Vec::new() }
    }

    /// A minute after the start, so that a sender's first guess of our clock is no good.
    fn now(&self) -> Seconds {
        Seconds(600 + self.started.elapsed().as_secs())
    }

    fn run(&mut self, mut command: Command) -> std::process::Output {
        let mut child = command.spawn().unwrap();
        let mut buffer = vec![0; 65_536];
        loop {
            let is_done = child.try_wait().unwrap().is_some();
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    if let Some(reply) = self.receive(&buffer[..length]) {
                        self.socket.send_to(&reply, from).unwrap();
                    }
                }
                Err(_) if is_done => return child.wait_with_output().unwrap(),
                Err(_) => {}
            }
        }
    }

    fn receive(&mut self, raw: &[u8]) -> Option<Vec<u8>> {
        let now = self.now();
        match check(raw, &mut self.access, now) {
            Outcome::Accepted(accepted) => {
                let notification = accepted.notification;
                self.accepted.push((notification, raw.to_vec()));
                (notification == Notification::Inform).then(|| answer(raw, &mut self.access, now).unwrap())
            }
            Outcome::Refused { reason, reply } => {
                self.refused.push(reason);
                reply
            }
        }
    }
}

#[test]
fn every_pair_of_protocols_works_with_net_snmp() {
    let state = state("pairs");
    if !is_installed(&state) {
        return skip("no snmptrap here: install Debian's package `snmp`");
    }
    let (mut done, mut missing) = (0, Vec::new());
    for auth in AuthProtocol::ALL {
        for privacy in [None].into_iter().chain(PrivProtocol::ALL.map(Some)) {
            for program in ["snmptrap", "snmpinform"] {
                let user = User {
                    name: "raven".to_owned(),
                    engine: Engine::Any,
                    auth: Some((auth, Secret::password("maplesyrup"))),
                    priv_: privacy.map(|privacy| (privacy, Secret::password("pancakes!"))),
                };
                let mut receiver = Receiver::new(vec![user]);
                let mut command = tool(program, &state);
                command.args(["-v3", "-u", "raven", "-r", "0", "-t", "3", "-a", &auth.name().replace("SHA-1", "SHA")]);
                command.args(["-A", "maplesyrup", "-l", if privacy.is_some() { "authPriv" } else { "authNoPriv" }]);
                if program == "snmptrap" {
                    command.args(["-e", "0x8000000001020304"]);
                }
                if let Some(privacy) = privacy {
                    command.args(["-x", privacy.name(), "-X", "pancakes!"]);
                }
                command.arg(receiver.socket.local_addr().unwrap().to_string());
                command.args(["4711", ".1.3.6.1.6.3.1.1.5.3", ".1.3.6.1.2.1.2.2.1.8.7", "i", "2"]);
                let output = receiver.run(command);
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                let what = format!("{program} {auth} {privacy:?}");
                if error.contains("Invalid privacy protocol") {
                    missing.push(what);
                    continue;
                }
                assert!(output.status.success(), "{what}: {error} {:?}", receiver.refused);
                let (notification, raw) =
                    receiver.accepted.last().unwrap_or_else(|| panic!("{what}: {:?}", receiver.refused));
                assert_eq!(notification.to_string(), program.trim_start_matches("snmp"));
                let reading = decode(raw, &mut receiver.access.users, &Names::standard());
                assert_eq!(reading.reject, None);
                let trap = reading.trap.unwrap();
                assert_eq!((trap.uptime, trap.trap_name.as_deref()), (Some(4711), Some("linkDown")));
                assert_eq!(trap.varbinds[2].label.as_deref(), Some("down"));
                done += 1;
            }
        }
    }
    if !missing.is_empty() {
        skip(&format!("this net-snmp lacks: {}", missing.join(", ")));
    }
    eprintln!("{done} pairs");
    assert!(done >= 2 * 6 * 3, "{done}");
    std::fs::remove_dir_all(state).unwrap();
}

#[test]
fn a_wrong_password_is_reported_to_the_sender() {
    let state = state("wrong");
    if !is_installed(&state) {
        return skip("no snmptrap here: install Debian's package `snmp`");
    }
    for (user, auth, privacy, expected, said) in [
        ("raven", "wrongwrong", "pancakes!", "wrong_digest", "Authentication failure"),
        ("other", "maplesyrup", "pancakes!", "unknown_user", "Unknown user name"),
        ("raven", "maplesyrup", "wrongwrong", "decryption_error", "Decryption error"),
    ] {
        let known = User {
            name: "raven".to_owned(),
            engine: Engine::Approved,
            auth: Some((AuthProtocol::Sha256, Secret::password("maplesyrup"))),
            priv_: Some((PrivProtocol::Aes256, Secret::password("pancakes!"))),
        };
        let mut receiver = Receiver::new(vec![known]);
        let mut command = tool("snmpinform", &state);
        command.args(["-v3", "-u", user, "-r", "0", "-t", "2", "-a", "SHA-256", "-A", auth, "-l", "authPriv"]);
        command.args(["-x", "AES-256", "-X", privacy]).arg(receiver.socket.local_addr().unwrap().to_string());
        command.args(["1", ".1.3.6.1.6.3.1.1.5.1"]);
        let output = receiver.run(command);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(said), "{expected}: {error:?}");
        assert_eq!(receiver.refused.last().unwrap().label(), expected);
        assert!(receiver.accepted.is_empty());
    }
    std::fs::remove_dir_all(state).unwrap();
}

/// `RAVEN_MIBS` names a folder; else where Debian puts MIB files.
#[test]
fn mib_files_of_this_machine_are_read() {
    let places = ["/usr/share/snmp/mibs", "/var/lib/mibs/ietf", "/var/lib/mibs/iana", "/var/lib/snmp/mibs"];
    let named = std::env::var_os("RAVEN_MIBS").map(PathBuf::from);
    let folders: Vec<PathBuf> = named.map_or_else(|| places.map(PathBuf::from).to_vec(), |named| vec![named]);
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort_unstable();
    if paths.is_empty() {
        return skip("no MIB files here: RAVEN_MIBS names a folder");
    }
    let texts: Vec<(String, String)> = paths
        .iter()
        .map(|path| (path.display().to_string(), String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()))
        .collect();
    let files: Vec<MibFile<'_>> = texts.iter().map(|(name, text)| MibFile { name, text }).collect();
    let mut names = Names::standard();
    let start = Instant::now();
    let loaded = load(&files, &mut names);
    eprintln!(
        "{} files, {} modules, {} names in {:?}",
        files.len(),
        loaded.modules.len(),
        loaded.names,
        start.elapsed()
    );
    for problem in loaded.problems.iter().chain(&loaded.unresolved) {
        eprintln!("{problem}");
    }
    assert!(loaded.modules.len() >= files.len() * 9 / 10);
    assert!(loaded.names > loaded.modules.len());
    agree_with_what_is_built_in(&files);
}

/// What is built in has the name that the modules give it. Vendors give some nodes names of their own, so that a few
/// others are no fault; they are shown.
fn agree_with_what_is_built_in(files: &[MibFile<'_>]) {
    let (standard, mut theirs) = (Names::standard(), Names::default());
    for root in ["ccitt", "iso", "joint-iso-ccitt"] {
        theirs.insert(standard.oid(root).unwrap(), root, None);
    }
    load(files, &mut theirs);
    let lines = include_str!("../src/snmp/standard.tsv").lines().filter(|line| !line.starts_with("type\t"));
    let ours = lines.filter_map(|line| standard.oid(line.split('\t').nth(1)?));
    let both = ours.map(|oid| (standard.name(oid.parts()).unwrap(), theirs.name(oid.parts()).unwrap_or_default(), oid));
    let both = both.filter(|(_, theirs, _)| !theirs.is_empty() && !theirs.contains('.'));
    let (same, other): (Vec<_>, Vec<_>) = both.partition(|(ours, theirs, _)| ours == theirs);
    for (ours, theirs, oid) in &other {
        eprintln!("{oid}: built in {ours}, in a module {theirs}");
    }
    eprintln!("{} built-in names are as in these files", same.len());
    assert!(other.len() <= same.len() / 10);
}
