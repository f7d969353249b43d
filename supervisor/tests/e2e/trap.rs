//! SNMP notifications, sent by net-snmp's own tools to the whole appliance.

use crate::appliance::{Appliance, Plan, find, free_port, number};
use crate::{eventually, pause};
use raven_model::query::RecordView;
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const USERS: &str = "[[user]]\nname = \"noc\"\nauth = \"sha256\"\nauth_password = \"maplesyrup\"\npriv = \"aes128\"\npriv_password = \"pancakes!\"\n";
const AUTH: [&str; 8] = ["-v3", "-u", "noc", "-a", "SHA-256", "-A", "maplesyrup", "-x"];

/// `None`, and said so, where there is no `snmptrap`.
fn plan() -> Option<(Plan, u16)> {
    if Command::new("snmptrap").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: no snmptrap here: install Debian's package `snmp`");
        return None;
    }
    let (mut plan, port) = (Plan::new(), free_port());
    plan.others = format!(
        "[collect.flow]\nudp = []\ntcp = []\n[collect.winevent]\nhttp = []\n[collect.metrics]\nhttp = []\n[collect.host]\nenabled = false\n\
         [collect.trap]\nudp = [{port}]\nusers = \"secret:snmp.toml\"\ncommunities = [\"public\"]\n"
    );
    secret(&plan, "snmp.toml", USERS);
    Some((plan, port))
}

/// Puts a secret among those of an appliance.
fn secret(plan: &Plan, name: &str, content: &str) {
    let secrets = plan.dir.path().join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join(name), content).unwrap();
    std::fs::set_permissions(secrets.join(name), PermissionsExt::from_mode(0o600)).unwrap();
}

/// Sends a linkDown; true when the tool is content, which for an inform means an answer.
fn send(state: &Path, program: &str, options: &[&str], port: u16) -> bool {
    let mut tool = Command::new(program);
    tool.env("SNMPCONFPATH", state).env("SNMP_PERSISTENT_DIR", state).env("MIBS", "");
    tool.args(options).args(["-r", "2", "-t", "3", &format!("127.0.0.1:{port}")]);
    tool.args(["4711", ".1.3.6.1.6.3.1.1.5.3", ".1.3.6.1.2.1.2.2.1.8.7", "i", "2"]);
    tool.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

fn v3<'a>(level: &'a str, password: &'a str) -> Vec<&'a str> {
    [&AUTH[..], &["AES", "-X", password, "-l", level]].concat()
}

fn trap_stored(raven: &Appliance) -> u64 {
    let streams = raven.status()["streams"].clone();
    let stream = streams.as_array().and_then(|list| list.iter().find(|stream| stream["name"] == "trap")).cloned();
    stream.map_or(0, |stream| number(&stream["stored"]))
}

fn records(raven: &Appliance) -> Vec<RecordView> {
    let output = raven.raven(&["export", "trap", "--format", "ndjson"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Informs of v3 are answered once our engine is on disk.
fn wait_for_engine(state: &Path, port: u16) {
    let inform = v3("authPriv", "pancakes!");
    eventually("an inform is acknowledged", || send(state, "snmpinform", &inform, port));
}

#[test]
fn notifications_of_every_version_are_stored_and_informs_acknowledged() {
    let Some((plan, port)) = plan() else { return };
    let raven = plan.start();
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    wait_for_engine(state, port);
    let before = trap_stored(&raven);
    assert!(send(state, "snmptrap", &["-v2c", "-c", "public"], port));
    assert!(send(state, "snmpinform", &["-v2c", "-c", "public"], port));
    assert!(send(state, "snmpinform", &v3("authPriv", "pancakes!"), port));
    eventually("they are stored", || trap_stored(&raven) >= before + 3);
    let of_trap = find(&raven.status()["streams"], "name", "trap");
    assert!(number(&of_trap["dropped"]["discovery"]) > 0, "{of_trap}");
    let listed = raven.status()["listeners"].as_array().unwrap().iter().any(|l| l["stream"] == "trap");
    assert!(listed && raven.process("trap")["state"] == "running");

    // Wrong ones are refused and kept all the same.
    let before = trap_stored(&raven);
    assert!(!send(state, "snmpinform", &v3("authPriv", "wrongwrong"), port));
    assert!(!send(state, "snmpinform", &["-v2c", "-c", "private"], port));
    assert!(!send(state, "snmpinform", &["-v3", "-u", "stranger", "-l", "noAuthNoPriv"], port));
    eventually("they are kept", || trap_stored(&raven) >= before + 3);
    assert!(records(&raven).len() as u64 >= before + 3);
}

#[test]
fn a_restart_of_the_trap_worker_costs_no_acknowledged_inform() {
    let Some((plan, port)) = plan() else { return };
    let raven = plan.start();
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    wait_for_engine(state, port);
    let (before, mut acknowledged) = (trap_stored(&raven), 0);
    for n in 0..12 {
        if n % 4 == 1 {
            raven.kill("trap", Signal::KILL);
        }
        acknowledged += u64::from(send(state, "snmpinform", &["-v2c", "-c", "public"], port));
    }
    assert!(acknowledged >= 10, "{acknowledged}");
    eventually("what was acknowledged is stored", || trap_stored(&raven) >= before + acknowledged);
    wait_for_engine(state, port);
}

#[test]
fn senders_that_knew_us_before_a_restart_find_us_again() {
    let Some((plan, port)) = plan() else { return };
    let mut raven = plan.start();
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    let mut boots = Vec::new();
    for _ in 0..3 {
        wait_for_engine(state, port);
        boots.push(told_boots(port));
        raven = raven.restart();
    }
    wait_for_engine(state, port);
    boots.push(told_boots(port));
    assert!(boots.windows(2).all(|two| two[0].0 == two[1].0), "the id stays: {boots:?}");
    assert!(boots.windows(2).all(|two| two[0].1 < two[1].1), "the boots rise: {boots:?}");
}

/// Asks for our engine as informs do (RFC 3414, 4): its id and boots.
fn told_boots(port: u16) -> (Vec<u8>, u32) {
    let ask = b"\x30\x38\x02\x01\x03\x30\x0e\x02\x01\x07\x02\x03\x00\xff\xe3\x04\x01\x04\x02\x01\x03\x04\x10\x30\x0e\x04\x00\x02\x01\x00\x02\x01\x00\x04\x00\x04\x00\x04\x00\x30\x11\x04\x00\x04\x00\xa0\x0b\x02\x01\x07\x02\x01\x00\x02\x01\x00\x30\x00";
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 1500];
    let mut answer = Vec::new();
    eventually("our engine is told", || {
        socket.send_to(ask, ("127.0.0.1", port)).unwrap();
        answer = socket.recv(&mut buffer).map(|n| buffer[..n].to_vec()).unwrap_or_default();
        pause(if answer.is_empty() { 200 } else { 0 });
        !answer.is_empty()
    });
    // The engine id (format 5, enterprise 0) is followed by INTEGER boots.
    let at = answer.windows(5).position(|w| w == [0x80, 0, 0, 0, 5]).unwrap();
    let len = usize::from(answer[at - 1]);
    let (id, rest) = (answer[at..at + len].to_vec(), &answer[at + len..]);
    assert_eq!(rest[0], 0x02);
    let boots = rest[2..2 + usize::from(rest[1])].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    (id, boots)
}

/// Debian's snmptrapd, which takes informs of version 2c and of the user `noc`.
struct Manager {
    dir: tempfile::TempDir,
    port: u16,
    running: Option<Child>,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let user = "disableAuthorization yes\ncreateUser noc SHA-256 maplesyrup AES pancakes!\n";
        std::fs::write(dir.path().join("conf"), user).unwrap();
        Self { dir, port: free_port(), running: None }
    }

    fn start(&mut self) {
        let (dir, port) = (self.dir.path(), self.port);
        let mut snmptrapd = Command::new("snmptrapd");
        snmptrapd.args(["-f", "-n", "-On", "-A", "-C", "-c"]).arg(dir.join("conf")).arg("-Lf").arg(dir.join("log"));
        snmptrapd.arg(format!("udp:127.0.0.1:{port}")).env("SNMP_PERSISTENT_DIR", dir).env("MIBS", "");
        snmptrapd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running = Some(snmptrapd.spawn().unwrap());
        let bound = format!("0100007F:{port:04X}");
        eventually("snmptrapd listens", || std::fs::read_to_string("/proc/net/udp").unwrap().contains(&bound));
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().unwrap();
            running.wait().unwrap();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.stop();
    }
}

/// From the uplink's jail, by a user and by a community; the manager is away for a while.
#[test]
fn a_manager_gets_informs_of_every_trap_that_is_stored() {
    let Some((mut plan, port)) = plan() else { return };
    if !Path::new("/usr/sbin/snmptrapd").exists() {
        eprintln!("SKIPPED: no snmptrapd here: install Debian's package `snmptrapd`");
        return;
    }
    let (mut by_user, mut by_community) = (Manager::new(), Manager::new());
    secret(&plan, "noc.toml", USERS);
    secret(&plan, "community", "n0c\n");
    let uplink = |name: &str, port, shown: &str| {
        format!("[uplink.{name}]\nkind = \"snmp\"\nto = \"127.0.0.1:{port}\"\nstreams = [\"trap\"]\n{shown}\n")
    };
    plan.uplinks = uplink("user", by_user.port, "user = \"secret:noc.toml\"")
        + &uplink("community", by_community.port, "community = \"secret:community\"");
    by_user.start();
    by_community.start();
    let raven = plan.start();
    let state = tempfile::tempdir().unwrap();
    let trap = || assert!(send(state.path(), "snmptrap", &["-v2c", "-c", "public"], port));
    // Null until the uplink has reported.
    let told = |name: &str| {
        let all = raven.status()["destinations"].clone();
        let ours = all.as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
        ours.cloned().unwrap_or_default()
    };
    let taken = |name: &str, count: u64| {
        eventually("all are acknowledged", || told(name)["acked_seq"] == count);
    };
    eventually("the trap worker listens", || raven.process("trap")["state"] == "running");
    (0..5).for_each(|_| trap());
    eventually("they are stored", || trap_stored(&raven) == 5);
    taken("user", 5);
    taken("community", 5);
    assert_eq!(told("user")["ack_class"], "accepted");
    by_user.stop();
    (0..5).for_each(|_| trap());
    taken("community", 10);
    eventually("it is told", || told("user")["state"] == "retrying");
    by_user.start();
    taken("user", 10);
    for log in [by_user.log(), by_community.log()] {
        let missing: Vec<u32> = (1..=10).filter(|seq| !log.contains(&format!("/trap/{seq}\""))).collect();
        assert!(missing.is_empty(), "{missing:?} of {log}");
        assert!(log.contains(".1.3.6.1.6.3.1.1.5.3") && log.contains(".1.3.6.1.2.1.2.2.1.8.7"), "{log}");
    }
    assert!(!raven.running.log().contains("maplesyrup"));
}
