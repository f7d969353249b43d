//! Operators from afar, over the box's own sshd: each role by a key of its own says what it may and nothing else, all of it is on
//! record, and who is cut off leaves nothing running.

use crate::machine::{Firmware, Lab, Medium};
use crate::network::Network;
use crate::noc::{self, Noc};
use crate::venue::{self, BOX, Remote};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::{Output, Stdio};
use std::time::Duration;

/// What everybody may say.
const LOOKS: &[&str] = &[
    "status --json",
    "tail",
    "sources",
    "alerts",
    "net",
    "net events",
    "vpn status",
    "ring status",
    "config show",
    "why --passive",
    // What needs a test is not known to a viewer.
    "why",
    // Of it everybody gets what they may see.
    "support -",
    "audit report",
    "audit sessions",
    "help",
    "ping --help",
];

/// What operators may say besides.
const TESTS: &[&str] = &[
    "ping -c 2 -i 200ms 10.77.0.1",
    "trace -c 1 10.77.0.1",
    "mtu 10.77.0.1",
    "dns venue.example --server 10.77.0.1 -W 300ms",
    "tcp 10.77.0.1:PORT",
    "tls 10.77.0.1:PORT -W 500ms",
    "http http://10.77.0.1:1/",
    "ntp 10.77.0.1 -c 1 -W 300ms",
    "bw 10.77.0.1 -t 1s",
    "accept --json --no-events",
    "uplink pause noc",
    "uplink resume noc",
];

/// What only admins may say.
const CHANGES: &[&str] = &["config history", "config diff", "config version 1"];

/// What nobody may say, since it is no word of `raven`.
const NONSENSE: &[&str] =
    &["sh -i", "ls /", "cat /etc/shadow", "status; sh", "$(reboot)", "scp -t /tmp", "/usr/lib/openssh/sftp-server"];

/// Each role says what it may.
pub fn roles(lab: &mut Lab) -> Result<()> {
    let network = lab.plug(Network::of(&[venue::GATEWAY, venue::SWITCH])?);
    let _noc = Noc::start(&network, lab.work())?;
    let disk = lab.flashed_disk(4)?;
    let mut machine = lab.start(Firmware::Uefi, &Medium::Disk(disk))?;
    let [admin, operator, viewer] = ["admin", "operator", "viewer"].map(|role| Remote::of(lab, role));
    let (admin, operator, viewer) = (admin?, operator?, viewer?);
    machine.expect("Telemetry appliance")?;
    venue::set_up(&mut machine, &admin.public_key()?)?;
    admin.status()?;
    let access = |role, remote: &Remote| {
        Ok::<_, anyhow::Error>(format!("[access.{role}]\nssh_keys = [\"{}\"]\n", remote.public_key()?))
    };
    let config = admin.config()? + &access("operator", &operator)? + &access("viewer", &viewer)?;
    admin.once("config put -", &config)?;
    viewer.says("status")?;
    operator.says("status")?;

    let groups = [LOOKS, TESTS, CHANGES];
    for (remote, may) in [(&viewer, 1), (&operator, 2), (&admin, 3)] {
        for (group, words) in groups.iter().enumerate() {
            words.iter().try_for_each(|words| says(remote, words, group < may))?;
        }
        for words in NONSENSE {
            let told = told(remote, words)?;
            ensure!(told.status.code() == Some(2), "`{words}` was not refused: {told:?}");
        }
    }
    println!("  each role says what it may, and nothing else");
    no_way_beside(&admin)?;
    cut_off(&operator, &admin)?;
    on_record(&admin)?;
    machine.power_off()
}

fn told(remote: &Remote, words: &str) -> Result<Output> {
    let words = words.replace("PORT", &noc::PORT.to_string());
    Ok(remote.command(&words).stdin(Stdio::null()).output()?)
}

/// It may, whatever comes of it, or it is told that it may not.
fn says(remote: &Remote, words: &str, may: bool) -> Result<()> {
    let told = told(remote, words)?;
    let said = String::from_utf8_lossy(&told.stderr);
    let is_refused = said.contains("may not say");
    let code = told.status.code();
    ensure!(is_refused != may, "`{words}`: exit {code:?}, {said}");
    // 2 and 3: the words make no sense, or nobody could be asked.
    ensure!(matches!(code, Some(0 | 1)), "`{words}`: exit {code:?}, {said}");
    Ok(())
}

/// No port is forwarded, no file copied, no password asked for, and root does not come.
fn no_way_beside(admin: &Remote) -> Result<()> {
    let box4 = BOX[0];
    let to = format!("admin@{box4}");
    for arguments in [
        &["-o", "ExitOnForwardFailure=yes", "-R", "9999:127.0.0.1:22", &to, "status"][..],
        &["-W", "127.0.0.1:22", &to],
        &["-o", "PreferredAuthentications=password", "-o", "PubkeyAuthentication=no", &to, "status"],
        &[&format!("root@{box4}"), "status"],
        &["-s", &to, "sftp"],
    ] {
        let told = admin.ssh().args(arguments).stdin(Stdio::null()).output()?;
        ensure!(!told.status.success(), "{arguments:?} was let through: {told:?}");
    }
    println!("  no forwarding, no files, no password, no root");
    Ok(())
}

/// A test goes on while nobody writes or reads; its end comes with that of the connection.
fn cut_off(operator: &Remote, admin: &Remote) -> Result<()> {
    let words = "ping --json -c 100000 10.77.0.1";
    let mut ssh = operator.command(words).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let of = |sessions: &[Value]| sessions.iter().find(|one| one["words"] == words).cloned();
    venue::eventually("it runs", || {
        of(&sessions(admin)?).filter(|one| one["code"].is_null()).context("it is not on record")
    })?;
    std::thread::sleep(Duration::from_secs(3));
    ssh.kill()?;
    ssh.wait()?;
    let ended = venue::eventually("it has ended", || {
        of(&sessions(admin)?).filter(|one| !one["code"].is_null()).context("it runs on")
    })?;
    println!("  cut off after {} ms: exit {}", ended["ms"], ended["code"]);
    Ok(())
}

fn sessions(admin: &Remote) -> Result<Vec<Value>> {
    let told = admin.once("audit sessions --json", "")?;
    told.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
}

/// All that was said: by whom, from where, and what came of it.
fn on_record(admin: &Remote) -> Result<()> {
    let words = |words: &str| words.replace("PORT", &noc::PORT.to_string());
    let is_on_record = |all: &[Value], role: &str, said: &str| {
        let who = format!("{role}@venue");
        all.iter().any(|one| {
            one["role"] == role
                && one["who"] == who.as_str()
                && one["from"] == "10.77.0.1"
                && one["words"] == said
                && one["code"].is_u64()
        })
    };
    venue::eventually("all of it is on record", || {
        let all = sessions(admin)?;
        for role in ["viewer", "operator", "admin"] {
            for said in [LOOKS, TESTS, CHANGES, NONSENSE].concat() {
                let said = words(said);
                // The one that asks has not ended.
                ensure!(
                    is_on_record(&all, role, &said),
                    "`{said}` of {role} is not on record, among {} commands",
                    all.len()
                );
            }
        }
        println!("  {} commands are on record", all.len());
        Ok(())
    })
}
