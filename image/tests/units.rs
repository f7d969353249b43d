//! Our units, held against what `systemd-analyze security` finds exposed: from 0, nothing, to 10, everything.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// Tenths. ravend is root for those it puts into jails (users, mount namespaces, the firewall, ports below 1024): what it
/// gives up by itself is in the process table; a systemd before 257 does not know its `PrivateTmp=disconnected` and adds 2.
/// What judges a slot sends a record through the network's listeners.
const EXPOSED_MOST: [(&str, u8); 9] = [
    // CAP_NET_RAW and packet sockets, for `raven wire`: before them it was 42.
    ("raven.service", 43),
    ("raven-console@tty1.service", 20),
    ("raven-slot-good.service", 26),
    ("raven-slot-overdue.service", 20),
    ("raven-slot-started.service", 20),
    ("raven-ssh-key.service", 20),
    ("raven-disk@sda.service", 20),
    ("raven-firmware.service", 20),
    ("raven-stick@sda1.service", 20),
];

fn overlay() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("buildroot-overlay")
}

#[test]
fn no_unit_is_exposed_more_than_it_must_be() {
    for (unit, most) in EXPOSED_MOST {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=yes", "--no-pager", &format!("--threshold={most}")]);
        let Ok(output) = analyze.arg(format!("--root={}", overlay().display())).arg(unit).output() else {
            println!("not run: systemd-analyze is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{}", said.lines().last().unwrap_or_default());
        assert!(output.status.success(), "{unit}: more than {most}\n{said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn each_service_of_ours_is_looked_at() {
    let units = std::fs::read_dir(overlay().join("usr/lib/systemd/system")).unwrap();
    let names = units.map(|unit| unit.unwrap().file_name().into_string().unwrap());
    for name in names.filter(|name| name.starts_with("raven") && name.ends_with(".service")) {
        assert!(
            EXPOSED_MOST
                .iter()
                .any(|(known, _)| known.replace("tty1", "").replace("sda1", "").replace("sda", "") == name),
            "{name}"
        );
    }
}

/// systemd keeps of root what ravend keeps of it.
#[test]
fn the_capabilities_are_those_of_the_process_table() {
    let words = |text: &str| {
        let mut words: Vec<String> = text
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|w| w.starts_with("CAP_"))
            .map(str::to_owned)
            .collect();
        words.sort();
        words
    };
    let unit = std::fs::read_to_string(overlay().join("usr/lib/systemd/system/raven.service")).unwrap();
    let kept: String = unit.lines().filter(|line| line.starts_with("CapabilityBoundingSet=")).collect();
    let sources = overlay();
    let table = sources.parent().unwrap().join("supervisor/model/src/process-table.toml");
    let table = std::fs::read_to_string(table).unwrap();
    let ravend = table.split("[ravend]").nth(1).unwrap().split(']').next().unwrap();
    assert_eq!(words(&kept.replace("CapabilityBoundingSet=", " ")), words(ravend));
}

/// raven-init and systemd mount the data partition alike.
#[test]
fn the_data_partition_is_mounted_one_way() {
    let unit = std::fs::read_to_string(overlay().join("usr/lib/systemd/system/data.mount")).unwrap();
    let options = unit.lines().find_map(|line| line.strip_prefix("Options=")).unwrap();
    assert_eq!(options, format!("noatime,nodev,nosuid,noexec,{}", raven_boot::layout::DATA_OPTIONS));
}
