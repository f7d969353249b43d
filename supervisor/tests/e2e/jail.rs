//! What the kernel says of each running process equals the process table.

use crate::appliance::{Appliance, Plan, number, proc_text};
use crate::sender::one_datagram;
use crate::{is_root, root_only};
use raven_model::table::{Role, table};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bits of the capabilities that the table names (linux/capability.h).
const CAPABILITIES: [(&str, u32); 12] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
];

fn bits(names: &[String]) -> u64 {
    let bit = |name: &String| {
        CAPABILITIES.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no bit for {name}")).1
    };
    names.iter().map(|name| 1 << bit(name)).sum()
}

/// `/proc/PID/status`, by key.
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = proc_text(pid, "status");
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

fn capability_sets(status: &BTreeMap<String, String>) -> [u64; 5] {
    ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"].map(|set| u64::from_str_radix(&status[set], 16).unwrap())
}

fn ids(status: &BTreeMap<String, String>, key: &str) -> Vec<u32> {
    status[key].split_whitespace().map(|id| id.parse().unwrap()).collect()
}

fn pid(process: &Value) -> u32 {
    number(&process["pid"]) as u32
}

#[test]
fn every_worker_holds_exactly_what_the_process_table_grants() {
    root_only!();
    let raven = Appliance::start();
    for role in [Role::Store, Role::Syslog, Role::Decode, Role::Uplink, Role::Net] {
        let (process, spec) = (raven.process(role.name()), table().spec(role));
        let status = status(pid(&process));
        assert_eq!(ids(&status, "Uid"), [spec.uid; 4], "{role}: real, effective, saved and file-system uid");
        assert_eq!(ids(&status, "Gid"), [spec.uid; 4], "{role}: the same of the group");
        assert_eq!(ids(&status, "Groups"), spec.groups, "{role}: supplementary groups");
        let granted = bits(&spec.capabilities);
        assert_eq!(
            capability_sets(&status),
            [granted, granted, granted, 0, 0],
            "{role}: permitted, effective, bounding, inheritable, ambient"
        );
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"), "{role}");
        assert_eq!(number(&process["uid"]) as u32, spec.uid, "{role}: as status shows it");
        assert_eq!(process["capabilities"], serde_json::json!(spec.capabilities), "{role}: as status shows it");
    }
}

#[test]
fn ravend_keeps_only_the_capabilities_of_the_process_table() {
    root_only!();
    let raven = Appliance::start();
    let process = raven.process("ravend");
    assert_eq!(pid(&process), raven.running.pid());
    let granted = bits(&table().ravend.capabilities);
    assert_eq!(capability_sets(&status(pid(&process))), [granted, granted, granted, 0, 0]);
    let shown: Vec<String> = serde_json::from_value(process["capabilities"].clone()).unwrap();
    assert_eq!(bits(&shown), granted, "as status shows it: {shown:?}");
}

#[test]
fn started_as_root_the_jail_is_complete() {
    root_only!();
    let raven = Appliance::start();
    assert_eq!(raven.status()["jail_missing"], serde_json::json!([]));
}

#[test]
fn a_collector_holds_no_descriptor_of_a_file_on_disk() {
    let raven = Appliance::start();
    let folder = format!("/proc/{}/fd", pid(&raven.process("syslog")));
    if !is_root() {
        return;
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned();
        let harmless =
            ["socket:", "anon_inode:", "/memfd:", "pipe:", "/dev/null"].iter().any(|kind| target.starts_with(kind));
        assert!(harmless, "the collector holds {target}");
    }
}

#[test]
fn without_root_it_works_and_says_what_the_jail_lacks() {
    let mut plan = Plan::new();
    if is_root() {
        plan.uid = Some(65_534);
    }
    plan.prepare();
    if is_root() {
        let chown = |path: &std::path::Path| std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
        chown(plan.dir.path());
        chown(&plan.data());
    }
    let raven = plan.start_again();
    one_datagram(raven.udp(), b"<13>without root");
    raven.record_with("without root");
    let status = raven.status();
    assert!(!status["jail_missing"].as_array().unwrap().is_empty(), "{status}");
    for process in status["processes"].as_array().unwrap().iter().filter(|p| p["role"] != "ravend") {
        let status = self::status(pid(process));
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"), "{process}");
        assert_eq!(capability_sets(&status)[..2], [0, 0], "{process}");
    }
}
