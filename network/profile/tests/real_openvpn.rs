//! Debian's openvpn takes each profile that is written anew: options, certificates and keys, up to where it would connect.
//! It is told that the servers are ports of this machine where nobody listens; where it is not installed, this is said and
//! not run.
#![allow(clippy::unwrap_used)]

mod support;

use raven_profile::openvpn::{Credentials, Identity, Proto, ProxyKind};
use raven_profile::{Host, OpenVpn, Profile, Secret, read};
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::cases;

/// For one profile, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_mins(1);
/// What it logs once everything that a profile says has been read; a one-time code is asked for over the management socket
/// or at a terminal, and there is neither.
const READY: [&str; 5] = [
    "link remote:",
    "Attempting to establish TCP connection",
    "TCP: connect to",
    "TCP/UDP: Preserving recently",
    "can't ask for 'CHALLENGE: Code, please'",
];

fn program() -> Option<PathBuf> {
    ["/usr/sbin/openvpn", "/usr/local/sbin/openvpn"].into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// The same profile with servers that are not there, and with what it would ask for.
fn at_home(mut profile: OpenVpn) -> OpenVpn {
    let home = |proto: Proto| -> IpAddr {
        if matches!(proto, Proto::Udp6 | Proto::Tcp6) { "::1".parse().unwrap() } else { "127.0.0.1".parse().unwrap() }
    };
    for remote in &mut profile.remotes {
        (remote.host, remote.port) = (Host::Address(home(remote.proto)), 9);
        if let Some(proxy) = &mut remote.proxy {
            (proxy.host, proxy.port) = (Host::Address(home(Proto::Udp4)), 9);
        }
    }
    let given =
        || Credentials::Given { user: Secret::new("bob".to_owned()), password: Some(Secret::new("raven".to_owned())) };
    if matches!(profile.credentials, Credentials::Asked | Credentials::Given { password: None, .. }) {
        profile.credentials = given();
    }
    let kinds: Vec<ProxyKind> = profile.remotes.iter().filter_map(|r| Some(r.proxy.as_ref()?.kind)).collect();
    if kinds.contains(&ProxyKind::SocksLogin) {
        // Over the management socket alone.
        profile.proxy_credentials = Credentials::Asked;
    } else if profile.proxy_credentials == Credentials::Asked && kinds.iter().any(|kind| kind.asks()) {
        profile.proxy_credentials = given();
    }
    profile
}

/// What openvpn logs until it would connect, or until it ends.
fn log_of(program: &Path, folder: &Path, profile: &OpenVpn) -> Result<String, String> {
    let (config, passphrase) = (folder.join("config"), folder.join("passphrase"));
    std::fs::write(&config, profile.to_config().expose()).unwrap();
    std::fs::write(&passphrase, "raven\n").unwrap();
    let mut command = Command::new(program);
    command.arg("--config").arg(&config).args(["--script-security", "0", "--dev", "null", "--verb", "3"]);
    command.args(["--connect-retry-max", "1", "--connect-timeout", "5", "--disable-dco"]);
    if matches!(&profile.identity, Identity::Pem { key, .. } if key.needs_passphrase()) {
        command.arg("--askpass").arg(&passphrase);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (say, hear) = mpsc::channel();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(say.send(line))));
    let (begun, mut log, mut ready) = (Instant::now(), String::new(), false);
    while let Ok(line) = hear.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
        log.extend([line.as_str(), "\n"]);
        ready = READY.iter().any(|word| line.contains(word));
        if ready {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    reader.join().unwrap();
    if ready { Ok(log) } else { Err(log) }
}

#[test]
fn debians_openvpn_takes_what_is_written_anew() {
    let Some(program) = program() else {
        println!("openvpn is not installed: not run (apt-get install openvpn)");
        return;
    };
    let folder = std::env::temp_dir().join(format!("raven-profile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (mut tried, mut wrong) = (0, Vec::new());
    for case in cases("valid") {
        let Some(Profile::OpenVpn(profile)) = read(&case.bytes, &case.options).profile else { panic!("{}", case.name) };
        tried += 1;
        match log_of(&program, &folder, &at_home(*profile)) {
            Ok(log) if log.contains("Options error") => wrong.push(format!("{}:\n{log}", case.name)),
            Ok(_) => {}
            Err(log) => wrong.push(format!("{}: ended early:\n{log}", case.name)),
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(wrong.is_empty() && tried >= 20, "{}", wrong.join("\n"));
}

/// Options of the installed openvpn that the table does not have would be refused as unknown.
#[test]
fn the_table_has_each_directive_that_openvpn_knows() {
    let Some(program) = program() else {
        println!("openvpn is not installed: not run (apt-get install openvpn)");
        return;
    };
    let help = Command::new(program).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8_lossy(&help);
    let known: Vec<&str> = raven_profile::openvpn::directives().map(|(name, ..)| name).collect();
    let options = help.lines().filter_map(|line| line.strip_prefix("--")).filter_map(|line| {
        line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().map(|name| name.trim_end_matches('-'))
    });
    // A slip of the pen in OpenVPN's own help.
    let missing: Vec<&str> = options.filter(|name| !known.contains(name) && *name != "ignore-unkown-option").collect();
    assert!(missing.is_empty() && help.lines().count() > 200, "{missing:?}");
}
