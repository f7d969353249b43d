//! Support bundles: what a colleague needs is in them, and nothing secret, wherever a site may have put it.

use crate::appliance::{Appliance, Plan, said, sections};
use crate::root_only;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

/// In everything that is secret here.
const PLANTED: &str = "pl4nted";

fn plan() -> Plan {
    let mut plan = Plan::new();
    let files = [
        ("users.toml", "[[user]]\nname = \"noc\"\nauth = \"SHA-256\"\nauth_password = \"pl4nted-users\"\n"),
        ("senders", "bearer pl4nted-sender\n"),
        ("noc", "basic noc:pl4nted-noc\n"),
        ("proxy", "basic proxy:pl4nted-proxy\n"),
        ("community", "pl4nted-out\n"),
        ("noc.key", "pl4nted-key\n"),
    ];
    let folder = plan.dir.path().join("secrets");
    fs::create_dir_all(&folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
        fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let (trap, winevent) = (crate::appliance::free_port(), crate::appliance::free_port());
    plan.others = sections(&[
        ("trap", format!("udp = [{trap}]\nusers = \"secret:users.toml\"\ncommunities = [\"pl4nted-community\"]")),
        ("winevent", format!("http = [{winevent}]\ncredentials = \"secret:senders\"")),
    ]);
    plan.uplinks.push_str(
        "# pl4nted-comment\n\
         [uplink.hook]\nkind = \"http\"\nto = \"http://127.0.0.1:9/pl4nted-path?token=pl4nted-query\"\n\
         credentials = \"secret:noc\"\nproxy = \"http://127.0.0.1:9\"\nproxy_credentials = \"secret:proxy\"\n\
         [uplink.nms]\nkind = \"snmp\"\nto = \"127.0.0.1:9\"\nstreams = [\"trap\"]\ncommunity = \"secret:community\"\n",
    );
    plan
}

/// The administrator's password, over the control socket.
fn set_password(raven: &Appliance) {
    let mut socket = UnixStream::connect(raven.plan.data().join("run/control")).unwrap();
    socket.write_all(b"{\"set_password\":{\"role\":\"admin\",\"password\":\"pl4nted-password\"}}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer).unwrap();
    assert_eq!(answer, "\"done\"\n");
}

/// The bundle's parts, unpacked: a tar keeps them as they are.
fn unpacked(bundle: &[u8]) -> String {
    String::from_utf8(zstd::decode_all(bundle).unwrap()).unwrap()
}

#[test]
fn a_bundle_has_what_is_needed_and_no_secret() {
    root_only!();
    let raven = plan().start();
    set_password(&raven);
    let text = raven.plan.text();
    let again = raven.raven(&["config", "apply"]);
    assert!(again.status.success(), "{}", said(&again));
    assert!(text.matches(PLANTED).count() >= 4, "they are not in the configuration");
    crate::eventually("the destinations have something to tell", || {
        !raven.destination("hook")["last_error"].as_str().unwrap_or_default().is_empty()
    });

    let bundle = raven.raven(&["support", "-"]);
    assert!(bundle.status.success(), "{}", String::from_utf8_lossy(&bundle.stderr));
    assert!(bundle.stdout.len() <= 16 << 20);
    let all = unpacked(&bundle.stdout);
    for name in [
        "status.json",
        "status.txt",
        "history.txt",
        "audit.json",
        "ring.txt",
        "net.txt",
        "net-events.txt",
        "config.toml",
        "install.json",
        "network.txt",
        "system.txt",
        "processes.txt",
        "disks.txt",
        "memory.txt",
        "routes.txt",
        "missing.txt",
    ] {
        assert!(all.contains(&format!("raven-support/{name}\0")), "{name} is not there");
    }
    for told in ["http://127.0.0.1:9/***", "communities = [\"***\"]", "credentials = \"***\"", "ravend", "MemTotal:"] {
        assert!(all.contains(told), "`{told}` is not there");
    }
    // No installed box: its slots are named as missing. So is the journal where there is none.
    assert!(all.contains("slots.txt: this is no installed box"));
    for log in ["journal.txt", "kernel.txt"] {
        assert!(all.contains(&format!("raven-support/{log}\0")) || all.contains(&format!("{log}: ")), "{log}");
    }
    let found = all.find(PLANTED).map(|at| &all[at.saturating_sub(100)..(at + 40).min(all.len())]);
    assert_eq!(found, None, "a secret");
}

#[test]
fn a_bundle_is_a_file_that_only_its_owner_can_read_and_a_terminal_gets_none() {
    let raven = Appliance::start();
    let folder = raven.plan.dir.path().join("bundles");
    fs::create_dir(&folder).unwrap();
    let made = raven.raven(&["support", folder.to_str().unwrap()]);
    assert!(made.status.success(), "{}", said(&made));
    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
    let name = file.file_name().into_string().unwrap();
    assert!(name.starts_with("raven-test-20") && name.ends_with(".tar.zst"), "{name}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(unpacked(&fs::read(file.path()).unwrap()).contains("raven-support/status.json\0"));
    // What is there is not written over.
    let path = file.path();
    let again = raven.raven(&["support", path.to_str().unwrap()]);
    assert!(!again.status.success() && said(&again).contains("cannot write"), "{}", said(&again));
}
