//! Who is at the other end of a cable: the jailed role asks a stand-in for systemd-networkd, and with `RAVEN_ROOT` the one
//! of the image, to which lldpd speaks at the other end.

use crate::appliance::{Appliance, Plan, proc_text, said};
use crate::machine::{Cable, ip};
use crate::{eventually, root_only};
use raven_model::table::{Role, table};
use rustix::net::sockopt::socket_peercred;
use serde_json::{Value, json};
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Where networkd is asked, below `/run`.
const PLACE: &str = "systemd/netif/io.systemd.Network";

/// How the stand-in answers a question about a link.
type Manner = Box<dyn Fn(&Value) -> Option<Value> + Send>;

/// Speaks Varlink as systemd-networkd does, at its place.
struct Networkd {
    manner: Arc<Mutex<Manner>>,
}

impl Networkd {
    fn start(run: &Path, manner: Manner) -> Self {
        let place = run.join(PLACE);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&place).unwrap();
        std::fs::set_permissions(&place, Permissions::from_mode(0o666)).unwrap();
        let manner = Arc::new(Mutex::new(manner));
        let shared = Arc::clone(&manner);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || Self::answer(&connection.unwrap(), &shared));
            }
        });
        Self { manner }
    }

    fn answer(connection: &UnixStream, manner: &Mutex<Manner>) {
        // networkd lets root do what it wants: who asks must be nobody.
        let uid = socket_peercred(connection).unwrap().uid.as_raw();
        assert_eq!(uid, table().spec(Role::Net).uid);
        for question in BufReader::new(connection).split(0) {
            let Ok(question) = question else { return };
            let question: Value = serde_json::from_slice(&question).unwrap();
            assert_eq!(question["method"], "io.systemd.Network.GetLLDPNeighbors");
            let answer = manner.lock().unwrap()(&question["parameters"]["InterfaceIndex"]);
            if let Some(answer) = answer {
                let mut writer = connection;
                let _ = writer.write_all(format!("{answer}\0").as_bytes());
            }
        }
    }

    fn answer_with(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

fn switch(index: &Value) -> Value {
    json!({ "parameters": { "Neighbors": [{ "InterfaceIndex": index, "InterfaceName": "eth0", "Neighbors": [{
        "ChassisID": "02:00:5e:10:00:01", "RawChassisID": [4, 2, 0, 94, 16, 0, 1],
        "PortID": "Gi1/0/7", "RawPortID": [7, 71, 105, 49, 47, 48, 47, 55],
        "SystemName": "sw\\033[31m-1", "PortDescription": "B\\303\\274hne", "EnabledCapabilities": 4,
    }] }] } })
}

/// A box at the near end of the cable; the role's user can come to where networkd listens.
fn start(cable: &Cable, more: &str) -> Appliance {
    let mut plan = Plan::new();
    more.clone_into(&mut plan.uplinks);
    std::fs::set_permissions(plan.dir.path(), Permissions::from_mode(0o711)).unwrap();
    cable.start(plan)
}

fn neighbour(raven: &Appliance) -> Value {
    raven.status()["links"][0]["neighbour"].clone()
}

#[test]
fn the_switch_is_shown_and_why_it_is_not_known() {
    root_only!();
    let cable = Cable::new("lldp");
    let raven = start(&cable, "");
    let is_unknown = |why: &str| eventually(why, || neighbour(&raven)["unknown"] == why);
    is_unknown("systemd-networkd does not run");
    let role = raven.process("net");
    let rights = || {
        let status = proc_text(raven.running.pid(), "status");
        status.lines().filter(|line| line.starts_with("Cap") || line.starts_with("Uid")).map(str::to_owned).collect()
    };
    let before: Vec<String> = rights();

    let networkd = Networkd::start(&raven.plan.dir.path().join("run"), Box::new(|index| Some(switch(index))));
    eventually("the switch is heard", || neighbour(&raven)["heard"]["system"] == "sw?[31m-1");
    assert_eq!(neighbour(&raven)["heard"]["port"], "Gi1/0/7");
    let screen = said(&raven.raven(&["status"]));
    assert!(screen.contains("sw?[31m-1 Gi1/0/7 (Bühne)"), "{screen}");

    let [_, far] = &cable.names;
    ip(&format!("-n {far} link set eth0 down"));
    eventually("nobody is at a cable that is out", || neighbour(&raven) == "nobody");
    ip(&format!("-n {far} link set eth0 up"));

    let refusal = json!({ "error": "org.varlink.service.MethodNotFound", "parameters": { "method": "?" } });
    networkd.answer_with(Box::new(move |_| Some(refusal.clone())));
    is_unknown("systemd-networkd refuses to tell: org.varlink.service.MethodNotFound");
    networkd.answer_with(Box::new(|_| None));
    is_unknown("systemd-networkd does not answer within 3 s");
    networkd.answer_with(Box::new(|_| Some(json!("\u{1b}".repeat(3 << 20)))));
    is_unknown("systemd-networkd: an answer of over 2 MiB");
    networkd.answer_with(Box::new(|index| Some(switch(index))));
    eventually("the switch is heard again", || neighbour(&raven)["heard"]["port"] == "Gi1/0/7");
    // All that did not end the role, and connecting as another user took nothing from ravend.
    assert_eq!(rights(), before);
    assert!(before.iter().any(|line| line == "Uid:\t0\t0\t0\t0"), "{before:?}");
    assert_eq!(raven.process("net")["pid"], role["pid"]);
}

/// A program in one of the namespaces, with mounts of its own; ends with the test.
struct Program(Child);

impl Program {
    fn start(namespace: &str, script: &str) -> Self {
        let script = format!("set -e; mount --make-rprivate /; {script}");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "unshare", "--mount", "sh", "-c", &script]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_images_networkd_hears_lldpd_by_the_unit_that_raven_wrote() {
    root_only!();
    let Some(root) = std::env::var_os("RAVEN_ROOT").map(PathBuf::from) else {
        eprintln!("not run: RAVEN_ROOT names the folder of the image's root");
        return;
    };
    let cable = Cable::new("real");
    let raven = start(&cable, "[network.link.eth0]\naddresses = ['192.0.2.1/24']");
    let [near, far] = &cable.names;
    let mut networkd = Program::start(
        near,
        &format!(
            "cd {}; mount --rbind /dev dev; mount -t proc proc proc; mount -t sysfs -o ro sysfs sys; \
             mount -t tmpfs tmpfs var; mount --bind {} run; exec chroot . /usr/lib/systemd/systemd-networkd",
            root.display(),
            raven.plan.dir.path().join("run").display()
        ),
    );
    let place = raven.plan.dir.path().join("run").join(PLACE);
    eventually("networkd listens", || networkd.lives() && UnixStream::connect(&place).is_ok());
    let mut lldpd = Program::start(
        far,
        "mount -t tmpfs tmpfs /run; mkdir /run/lldpd; \
         printf '%s\\n' 'configure system hostname \"sw-core-1\"' \
         'configure ports eth0 lldp portidsubtype local \"Gi1/0/7\" description \"to the box\"' >/run/lldpd.conf; \
         exec lldpd -d -I eth0 -u /run/lldpd.socket -O /run/lldpd.conf",
    );
    eventually("lldpd is heard", || lldpd.lives() && neighbour(&raven)["heard"]["system"] == "sw-core-1");
    let heard = neighbour(&raven)["heard"].clone();
    assert_eq!((&heard["port"], &heard["description"]), (&json!("Gi1/0/7"), &json!("to the box")), "{heard}");
    assert_eq!(heard["others"], 0);
}
