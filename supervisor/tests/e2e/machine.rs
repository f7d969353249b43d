//! What `ravend --box` does to the machine: its firewall, seen from the other end of a cable, and its files. In network
//! namespaces of its own, which go with the test.

use crate::appliance::{Appliance, Plan, Running, programs};
use crate::{eventually, root_only, scan};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Two namespaces with a cable between them.
pub struct Cable {
    pub names: [String; 2],
}

const BOX: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// What answers here, answers at once.
const PACE: scan::Pace = scan::Pace { rest: Duration::ZERO, wait: Duration::from_millis(500) };

impl Cable {
    pub fn new(test: &str) -> Self {
        let names = ["a", "b"].map(|end| format!("raven-{test}-{end}-{}", std::process::id()));
        let cable = Self { names };
        let [a, b] = &cable.names;
        for line in [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("-n {a} link add eth0 type veth peer name eth0 netns {b}"),
        ] {
            ip(&line);
        }
        for (name, n) in [(a, 1), (b, 2)] {
            for line in ["link set lo up", "link set eth0 up"] {
                ip(&format!("-n {name} {line}"));
            }
            ip(&format!("-n {name} addr add 192.0.2.{n}/24 dev eth0"));
            ip(&format!("-n {name} addr add 2001:db8::{n}/64 dev eth0 nodad"));
        }
        cable
    }

    /// Does it at the far end of the cable.
    pub fn outside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        Self::at(&self.names[1], work)
    }

    /// Does it at the near end, where the box is.
    pub fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        Self::at(&self.names[0], work)
    }

    fn at<R: Send>(name: &str, work: impl FnOnce() -> R + Send) -> R {
        let place = File::open(Path::new("/run/netns").join(name)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// A `ravend` at the near end that is told that the machine is its own.
    pub fn start(&self, plan: Plan) -> Appliance {
        plan.prepare();
        self.start_again(plan, &[])
    }

    /// The same, with whatever is in the directory, and more arguments.
    pub fn start_again(&self, plan: Plan, more: &[&str]) -> Appliance {
        let raven = self.begin(plan, more);
        raven.running.wait_ready();
        raven
    }

    /// The same, ready or not.
    fn begin(&self, plan: Plan, more: &[&str]) -> Appliance {
        let programs = programs();
        let ravend = plan.ravend(&programs);
        // A name of its own too: the box gives itself one.
        let mut command = Command::new("unshare");
        command
            .args(["--uts", "ip", "netns", "exec", &self.names[0]])
            .arg(ravend.get_program())
            .args(ravend.get_args());
        command.arg("--box").arg(plan.dir.path().join("run")).args(more);
        let running = Running::spawn(command);
        Appliance { plan, programs, running }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status().unwrap();
    assert!(status.success(), "ip {line}");
}

#[test]
fn from_outside_only_what_is_configured_answers() {
    root_only!();
    let cable = Cable::new("wall");
    let raven = cable.start(Plan::new());
    let port = raven.plan.port;
    let boxes = BOX.map(|addr| addr.parse::<IpAddr>().unwrap());
    for to in boxes {
        let (tcp, udp) = cable.outside(|| (scan::tcp(to, PACE).unwrap(), scan::udp(to, PACE).unwrap()));
        assert_eq!((tcp, udp), (BTreeSet::from([port]), BTreeSet::new()), "{to}");
        let text = format!("to {to}");
        cable.outside(|| {
            let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
            UdpSocket::bind((any, 0)).unwrap().send_to(format!("<13>{text}").as_bytes(), (to, port)).unwrap();
        });
        let record = raven.record_with(&text);
        let sender = if to.is_ipv4() { "192.0.2.2" } else { "2001:db8::2" };
        assert!(format!("{:?}", record.source).contains(sender), "{record:?}");
    }

    // A listener that goes takes its rule with it.
    let text = raven.plan.text().replace(&format!("tcp = [{port}]"), "tcp = []");
    let said = raven.ask(&[serde_json::json!({ "put": { "text": text } })]);
    assert!(said["applied"].is_array(), "{said}");
    assert_eq!(cable.outside(|| scan::tcp(boxes[0], PACE).unwrap()), BTreeSet::new());
}

#[test]
fn addresses_clock_and_keys_of_the_machine_are_files_for_its_services() {
    root_only!();
    let cable = Cable::new("files");
    let raven = cable.start(Plan::new());
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvzVXJpRDzWSkZMVGrLnZYyJ8iD1rUZtWmJHcUQ4x2T";
    let more = format!(
        "[system]\ntimezone = 'Europe/Berlin'\nntp = ['192.0.2.9']\n[network]\ndns = ['192.0.2.53']\n[network.link.eth0]\naddresses = ['192.0.2.1/24']\n[access.operator]\nssh_keys = ['{key} ann']\n"
    );
    let text = format!("{}{more}", raven.plan.text());
    let said = raven.ask(&[serde_json::json!({ "put": { "text": text } })]);
    assert!(said["applied"].is_array(), "{said}");
    let run = raven.plan.dir.path().join("run");
    let read = |file: &str| std::fs::read_to_string(run.join(file)).unwrap();
    assert!(read("systemd/network/10-raven-eth0.network").contains("\nAddress=192.0.2.1/24\n"));
    assert_eq!(read("systemd/resolved.conf.d/raven.conf"), "[Resolve]\nDNS=192.0.2.53\n");
    assert_eq!(read("systemd/timesyncd.conf.d/raven.conf"), "[Time]\nNTP=192.0.2.9\n");
    assert_eq!(read("raven/ssh/operator.keys"), format!("{key} ann\n"));
    assert_eq!(
        std::fs::read_link(run.join("raven/localtime")).unwrap(),
        Path::new("/usr/share/zoneinfo/Europe/Berlin")
    );

    let said = raven.ask(&[serde_json::json!({ "put": { "text": text.replace("Berlin", "Nowhere") } })]);
    assert_eq!(said["refused"][0], "system.timezone: there is no time zone `Europe/Nowhere`");
    assert_eq!(std::fs::read_to_string(raven.plan.config()).unwrap(), text);
}

#[test]
fn a_damaged_configuration_opens_nothing_and_what_was_in_force_before_goes_on() {
    root_only!();
    let cable = Cable::new("broken");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvzVXJpRDzWSkZMVGrLnZYyJ8iD1rUZtWmJHcUQ4x2T";
    let raven = cable.start(Plan::new());
    let text = format!("{}[access.operator]\nssh_keys = ['{key} ann']\n", raven.plan.text());
    let said = raven.ask(&[serde_json::json!({ "put": { "text": text } })]);
    assert!(said["applied"].is_array(), "{said}");
    let keys = |plan: &Plan, role: &str| {
        std::fs::read_to_string(plan.dir.path().join(format!("run/raven/ssh/{role}.keys"))).unwrap()
    };
    // Cut in its middle, with a key for a role that had none; then nothing of sense at all.
    let cut = format!("{}[access.adm", text.replace("access.operator", "access.admin"));
    let mut plan = raven.stop();
    for damaged in [cut.as_bytes(), &[0xff; 4096], b""] {
        std::fs::write(plan.config(), damaged).unwrap();
        let raven = cable.start_again(plan, &[]);
        let alerts = raven.status()["alerts"].to_string();
        assert!(alerts.contains("is damaged: version 2 of the history is in force"), "{alerts}");
        assert_eq!(
            (keys(&raven.plan, "operator"), keys(&raven.plan, "admin")),
            (format!("{key} ann\n"), String::new())
        );
        plan = raven.stop();
    }
    let raven = cable.start_again(plan, &[]);
    // An update that does not understand the file does not stay.
    let health = raven.raven(&["health"]);
    let told = String::from_utf8_lossy(&health.stdout);
    assert!(health.status.code() == Some(1) && told.contains("BAD  config: "), "{told}");
    // Written anew, all is well.
    let said = raven.ask(&[serde_json::json!({ "put": { "text": text } })]);
    assert!(said["applied"].is_array(), "{said}");
    assert!(!raven.status()["alerts"].to_string().contains("is damaged"));
    assert_eq!(std::fs::read_to_string(raven.plan.config()).unwrap(), text);

    // Nothing of the history can be read either: as the factory made it, which lets nobody in.
    let plan = raven.stop();
    let factory = plan.dir.path().join("factory.toml");
    std::fs::write(&factory, plan.text()).unwrap();
    let history = std::fs::read_dir(plan.data().join("history")).unwrap();
    for file in history.map(|file| file.unwrap().path()).chain([plan.config()]) {
        std::fs::write(file, "[").unwrap();
    }
    let raven = cable.start_again(plan, &["--factory", factory.to_str().unwrap()]);
    let alerts = raven.status()["alerts"].to_string();
    assert!(alerts.contains("that of the factory is in force"), "{alerts}");
    assert_eq!(keys(&raven.plan, "operator"), "");

    // And without that, nothing runs, and nobody is let in who was before.
    let said = raven.ask(&[serde_json::json!({ "put": { "text": text } })]);
    assert!(said["applied"].is_array() && !keys(&raven.plan, "operator").is_empty(), "{said}");
    let plan = raven.stop();
    let history = std::fs::read_dir(plan.data().join("history")).unwrap();
    for file in history.map(|file| file.unwrap().path()).chain([plan.config()]) {
        std::fs::write(file, "[").unwrap();
    }
    let mut raven = cable.begin(plan, &[]);
    assert!(!raven.running.wait(), "it ran:\n{}", raven.running.log());
    assert!(raven.running.log().contains("the configuration is not valid"), "{}", raven.running.log());
    assert_eq!(keys(&raven.plan, "operator"), "");
}

#[test]
fn links_are_watched_as_the_kernel_tells_of_them() {
    root_only!();
    let cable = Cable::new("links");
    let raven = cable.start(Plan::new());
    let [near, far] = &cable.names;
    let link = || raven.status()["links"][0].clone();
    let is = |state: &str, cause: &str| {
        eventually(&format!("eth0: {state}, {cause}"), || {
            let link = link();
            link["name"] == "eth0" && link["state"] == state && link["cause"] == cause
        });
    };
    is("up", "");
    assert!(link()["addresses"].to_string().contains("192.0.2.1/24"));
    ip(&format!("-n {far} link set eth0 down"));
    is("no_link", "no link on eth0: is the cable in, and its other end on?");
    ip(&format!("-n {far} link set eth0 up"));
    is("up", "");
    ip(&format!("-n {near} route add default via 192.0.2.9"));
    eventually("the route is seen", || link()["gateways"][0] == "192.0.2.9");
    Cable::at(near, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", "203.0.113.1:9").unwrap());
    is("trouble", "gateway 192.0.2.9 does not answer ARP");
    assert!(raven.status()["alerts"].to_string().contains("eth0: gateway 192.0.2.9 does not answer ARP"));
    ip(&format!("-n {near} addr flush dev eth0"));
    eventually("eth0 waits", || link()["state"] == "waiting");
}
