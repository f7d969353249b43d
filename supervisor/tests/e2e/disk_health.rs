//! What a disk says of itself, from what smartctl leaves behind to the operator's screen and an alert; and what started the
//! machine. In a mount namespace in which the disk, the firmware and smartctl's answers are files of the test.

use crate::appliance::{Appliance, Plan, Running, programs, sections};
use crate::{eventually, root_only};
use std::fs;
use std::path::Path;
use std::process::Command;

const WELL: &str = include_str!("../../../collectors/src/host/health/said/sata-ssd.json");
const FAILING: &str = include_str!("../../../collectors/src/host/health/said/sata-hdd-failing.json");
const ASLEEP: &str = include_str!("../../../collectors/src/host/health/said/asleep.json");
const HOSTILE: &str = include_str!("../../../collectors/src/host/health/said/hostile.json");
const SECURE_BOOT: &str = "efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Puts the folders `$1/…` in the place of those of the machine, and starts the rest.
const UNDER: &str = "mount --bind $1/block /sys/block && mount --bind $1/firmware /sys/firmware && mount -t tmpfs run /run \
                     && mkdir -p /run/raven/disks && mount --bind $1/said /run/raven/disks && shift && exec \"$@\"";

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A `ravend` on a machine with one disk, `sda`, started by UEFI.
fn start(plan: Plan) -> Appliance {
    plan.prepare();
    let machine = plan.dir.path().join("machine");
    write(&machine.join("block/sda/size"), b"488397168\n");
    write(&machine.join("firmware").join(SECURE_BOOT), b"\x06\0\0\0\x01");
    fs::create_dir_all(machine.join("said")).unwrap();
    let programs = programs();
    let ravend = plan.ravend(&programs);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", UNDER, "sh"]).arg(&machine);
    command.arg(ravend.get_program()).args(ravend.get_args());
    let running = Running::spawn(command);
    running.wait_ready();
    Appliance { plan, programs, running }
}

#[test]
fn a_disk_that_begins_to_fail_is_on_the_screen_and_an_alert_until_it_is_replaced() {
    root_only!();
    let host = sections(&[("host", "interval = \"1s\"".to_owned())]);
    let alert = "[alert.disk_health]\nclear = \"1s\"".to_owned();
    let raven = start(Plan { others: host, alert, ..Plan::new() });
    let says = |text: &str| fs::write(raven.plan.dir.path().join("machine/said/sda.json"), text).unwrap();
    let screen = || String::from_utf8(raven.raven(&["status"]).stdout).unwrap();
    let shows = |line: &str| eventually(line, || screen().lines().any(|shown| shown.starts_with(line)));
    let firing = || {
        let status = raven.status();
        let all = status["firing"].as_array().unwrap().iter();
        all.map(|firing| firing["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    shows("DISK       sda, says nothing about its health (it has not been asked)");
    shows("STARTED BY UEFI, Secure Boot on");
    says(WELL);
    shows("DISK       sda Example SSD 870 EVO 250GB, 31 C, 4 % of its life used, well");
    assert_eq!(firing(), [""; 0]);

    says(FAILING);
    eventually("it is told", || firing().len() == 4);
    assert_eq!(firing(), ["sda failing", "sda media errors", "sda pending sectors", "sda reallocated sectors"]);
    let why = "! disk sda Example HDD 2TB (H0001) says itself that it is failing";
    assert!(screen().contains(why), "{}", screen());

    // It is not woken, and what it said stands.
    says(ASLEEP);
    let disk = || raven.status()["disks"][0].clone();
    eventually("it sleeps", || disk()["asleep"] == true);
    assert_eq!((&disk()["pending_sectors"], firing().len()), (&serde_json::json!(16), 4));
    says(WELL);
    eventually("it is over", || firing().is_empty());

    says(HOSTILE);
    eventually("it is known", || disk()["model"].as_str().unwrap().starts_with("Evil?[2J? disk"));
    assert!(!screen().contains(['\u{1b}', '\u{7}']), "{}", screen());
    assert_eq!(raven.process("host")["restarts"], 0);
    let records = String::from_utf8(raven.raven(&["tail", "host", "--last", "1"]).stdout).unwrap();
    assert!(!records.contains(['\u{1b}', '\u{7}']), "{records}");
}
