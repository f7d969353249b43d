//! What is secret of tunnels: where it may be and where it is not, one-time codes, and who asks a proxy's password. Real
//! servers and proxies stand at the far end of a cable.

use crate::appliance::{Appliance, proc_text, said};
use crate::venue::{BEYOND, Program, Server, Venue, is_possible};
use crate::{eventually, pause, root_only};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use raven_model::table::{Role, table};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PASSWORD: &str = "pl4nted-password";
const WRONG: &str = "pl4nted-wrong-password";
const PASSPHRASE: &str = "pl4nted-passphrase";
const PROXY: &str = "pl4nted-proxy-password";
/// Codes with letters: digits alone stand in the times of a log too.
const CODE: &str = "pl4nted-code";
const WRONG_CODE: &str = "pl4nted-wrong-code";

/// Runs a program to its end, with this as its standard input; what it printed.
fn output(program: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// A file of the test, and its path in words.
fn write(venue: &Venue, name: &str, text: &str) -> String {
    let path = venue.pki.path(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Options of a server: it takes whom a script of these lines takes, to which user and password come as the file `$1`.
fn judged_by(venue: &Venue, script: &str) -> Vec<String> {
    let path = write(venue, "verify", &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let words = ["--script-security", "2", "--auth-user-pass-verify", &path, "via-file"];
    words.map(str::to_owned).to_vec()
}

/// A server behind a proxy, for whom this script stands.
fn server(venue: &Venue, script: &str, proto: &str, more: &[&str]) -> Server {
    let mut options = judged_by(venue, script);
    options.extend(more.iter().map(|word| (*word).to_owned()));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Server::new(venue, "tun7", proto, 1194, 77, &options)
}

/// `raven vpn connect noc --code -`, to which somebody types a code.
fn connect(raven: &Appliance, code: &str) -> Output {
    let mut command = Command::new(raven.programs.join("raven"));
    command.arg("--data").arg(raven.plan.data()).args(["vpn", "connect", "noc", "--code", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{code}\n").as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A secret in each form in which it may lie somewhere.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex = secret.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let text = std::str::from_utf8(secret).map(str::to_owned).into_iter();
    text.chain([BASE64.encode(secret), hex]).collect()
}

/// The long lines between a key's head and its end.
fn body(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| line.len() >= 32 && !line.contains(['-', '#'])).map(str::to_owned).collect()
}

/// Everything that is secret of the two profiles, in each of its forms.
struct Planted(Vec<String>);

impl Planted {
    /// Says where one of them stands.
    fn hold(&self, place: &str, text: &str) {
        let found = self.0.iter().find(|secret| text.contains(secret.as_str()));
        assert_eq!(found, None, "in {place}");
    }
}

/// All processes of the box: `ravend`, and what descends from it.
fn processes(raven: &Appliance) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    let all: Vec<u32> =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let descends = |pid: &u32| {
        let mut at = *pid;
        while at > 1 && at != raven.running.pid() {
            at = parent(at).unwrap_or(0);
        }
        at == raven.running.pid()
    };
    all.into_iter().filter(descends).collect()
}

fn owners(pids: &[u32]) -> Vec<u32> {
    pids.iter().filter_map(|pid| Some(fs::metadata(format!("/proc/{pid}")).ok()?.uid())).collect()
}

/// Neither arguments nor environment say it, and no core could.
fn processes_hold_no_secret(raven: &Appliance, planted: &Planted) {
    let pids = processes(raven);
    for role in [Role::Vpn, Role::Net, Role::Openvpn, Role::Wireguard] {
        assert!(owners(&pids).contains(&table().spec(role).uid), "{role:?} does not run");
    }
    for pid in pids {
        let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) else { continue };
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            planted.hold(&format!("{file} of {name}"), &String::from_utf8_lossy(&bytes));
        }
        assert_eq!(proc_text(pid, "coredump_filter").trim(), "00000000", "{name}");
        let limits = proc_text(pid, "limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
        let is_worker = owners(&[pid]) != [0];
        assert!(!is_worker || core.split_whitespace().rev().nth(2) == Some("0"), "{name}: {core}");
    }
}

/// Files of the data directory, but those of the `vpn` role, which alone may read them.
fn files_hold_no_secret(venue: &Venue, planted: &Planted) {
    let (data, patterns) = (venue.raven.plan.data(), write(venue, "patterns", &planted.0.join("\n")));
    let mut grep = Command::new("grep");
    grep.args(["-rlaF", "--exclude-dir=vpn", "-f", &patterns]).arg(&data);
    let found = grep.output().unwrap();
    assert_eq!((found.status.code(), said(&found)), (Some(1), String::new()));
    let mut seen = 0;
    for name in ["noc", "wg"] {
        for entry in fs::read_dir(data.join("vpn").join(name)).unwrap() {
            let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            let expected = (0o600, table().spec(Role::Vpn).uid);
            assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), expected, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen} files");
}

/// What the programs say, to whomever.
fn answers_hold_no_secret(raven: &Appliance, planted: &Planted) {
    for words in [
        &["status", "--json"][..],
        &["vpn", "list"],
        &["vpn", "list", "--json"],
        &["vpn", "show", "noc"],
        &["vpn", "show", "wg"],
        &["vpn", "events"],
        &["vpn", "status"],
        &["config", "show"],
        &["config", "history"],
    ] {
        let told = raven.raven(words);
        assert!(told.status.success(), "{words:?}: {}", said(&told));
        planted.hold(&words.join(" "), &said(&told));
    }
    let bundle = raven.raven(&["support", "-"]);
    assert!(bundle.status.success(), "{}", String::from_utf8_lossy(&bundle.stderr));
    planted.hold("a support bundle", &String::from_utf8_lossy(&zstd::decode_all(&bundle.stdout[..]).unwrap()));
    planted.hold("the log", &raven.running.log());
}

/// A profile with its secrets goes to who may change profiles.
fn only_an_admin_exports(raven: &Appliance, secrets: &[String]) {
    fs::set_permissions(raven.plan.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (user, may) in [(61_101, false), (61_102, false), (61_103, true)] {
        let mut command = Command::new(raven.programs.join("raven"));
        command.arg("--data").arg(raven.plan.data()).args(["vpn", "export", "noc"]).uid(user).gid(user);
        let told = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(told.status.success(), may, "{user}: {}", said(&told));
        for secret in secrets {
            assert_eq!(said(&told).contains(secret.as_str()), may, "{user}");
        }
    }
}

/// An HTTP proxy that asks for [`PROXY`]: the lines of a profile for it.
fn http_proxy(venue: &Venue) -> (Program, String) {
    let config = format!(
        "Port 2194\nListen 192.0.2.2\nTimeout 600\nAllow 192.0.2.0/24\nConnectPort 1194\nBasicAuth venue {PROXY}\n"
    );
    let file = write(venue, "tinyproxy.conf", &config);
    let proxy = Program::start(&venue.cable, "tinyproxy", &["-d", "-c", &file]);
    let given = format!("<http-proxy-user-pass>\nvenue\n{PROXY}\n</http-proxy-user-pass>");
    (proxy, format!("proto tcp\nremote {BEYOND} 1194\nhttp-proxy 192.0.2.2 2194 stdin basic\n{given}\nauth-user-pass"))
}

/// A far end of WireGuard, until it is dropped, and the profile for it.
struct Wireguard {
    _program: Program,
    socket: PathBuf,
    profile: String,
    keys: [String; 2],
}

impl Wireguard {
    fn new(venue: &Venue) -> Self {
        let key = |verb| output("wg", &[verb], "");
        let (server, client, shared) = (key("genkey"), key("genkey"), key("genpsk"));
        let name = &venue.cable.names[1];
        let device = format!("wgsec{}", std::process::id() % 100_000);
        let socket = Path::new("/run/wireguard").join(format!("{device}.sock"));
        let program = Program::start(&venue.cable, "wireguard-go", &["-f", &device]);
        eventually("the far end takes orders", || socket.exists());
        let public = output("wg", &["pubkey"], &client);
        let peer = format!("[Peer]\nPublicKey = {public}\nPresharedKey = {shared}\nAllowedIPs = 10.9.0.2/32\n");
        let config =
            write(venue, "far.conf", &format!("[Interface]\nPrivateKey = {server}\nListenPort = 51820\n{peer}"));
        output("wg", &["setconf", &device, &config], "");
        for line in [format!("addr add 10.9.0.1/24 dev {device}"), format!("link set {device} up")] {
            crate::machine::ip(&format!("-n {name} {line}"));
        }
        let profile = format!(
            "[Interface]\nPrivateKey = {client}\nAddress = 10.9.0.2/24\n[Peer]\nPublicKey = {}\nPresharedKey = {shared}\n\
             AllowedIPs = 10.9.0.1/32\nEndpoint = 192.0.2.2:51820\n",
            output("wg", &["pubkey"], &server)
        );
        Self { _program: program, socket, profile, keys: [client, shared] }
    }
}

impl Drop for Wireguard {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.socket));
    }
}

#[test]
fn secrets_of_tunnels_lie_in_their_files_and_nowhere_else() {
    root_only!();
    if !is_possible() || !Path::new("/usr/bin/wg").exists() {
        return;
    }
    let venue = Venue::bare("vpnsecret");
    let wanted = write(&venue, "wanted", &format!("venue7\n{PASSWORD}\n"));
    let _server = server(&venue, &format!("exec cmp -s \"$1\" {wanted}"), "tcp-server", &["--local", BEYOND]);
    let (_proxy, lines) = http_proxy(&venue);
    let path = |name: &str| venue.pki.path(name).display().to_string();
    let pass = format!("pass:{PASSPHRASE}");
    let (key, locked) = (path("client.key"), path("locked.key"));
    output("openssl", &["pkcs8", "-topk8", "-in", &key, "-out", &locked, "-passout", &pass], "");
    let keys = [("ca", "ca.crt"), ("cert", "client.crt"), ("key", "locked.key"), ("tls-crypt", "crypt.key")];
    let profile = venue.pki.profile_of(&lines, &keys).unwrap();
    let wireguard = Wireguard::new(&venue);

    let read = |name: &str| fs::read_to_string(venue.pki.path(name)).unwrap();
    let bodies: Vec<String> =
        ["client.key", "locked.key", "crypt.key"].iter().flat_map(|name| body(&read(name))).collect();
    let own = wireguard.keys.iter().map(|key| BASE64.decode(key).unwrap());
    let texts = [PASSWORD, WRONG, PASSPHRASE, PROXY].into_iter().map(|text| text.as_bytes().to_vec());
    let basic = format!("venue:{PROXY}").into_bytes();
    let secrets = texts.chain(own).chain([basic]).chain(bodies.iter().map(|line| line.as_bytes().to_vec()));
    let planted = Planted(secrets.flat_map(|secret| forms(&secret)).collect());
    assert!(bodies.len() >= 18 && planted.0.len() >= 60, "{} {}", bodies.len(), planted.0.len());

    // The password is wrong, so the other tunnel carries.
    let passphrase = write(&venue, "passphrase", &format!("{PASSPHRASE}\n"));
    let import = |password: &str| {
        let login = write(&venue, "login", &format!("venue7\n{password}\n"));
        venue.import_text("noc", &profile, &["--login", &login, "--passphrase", &passphrase].map(str::to_owned));
    };
    import(WRONG);
    venue.import_text("wg", &wireguard.profile, &[]);
    venue.enable("noc");
    venue.enable("wg");
    venue.until_cause("noc", "auth refused");
    venue.until_it("wg", "carries", |tunnel| tunnel["carries"] == true);
    answers_hold_no_secret(&venue.raven, &planted);

    // Then it is right; the other one is on for a while yet.
    import(PASSWORD);
    venue.until_it("noc", "carries", |tunnel| tunnel["carries"] == true);
    processes_hold_no_secret(&venue.raven, &planted);
    answers_hold_no_secret(&venue.raven, &planted);
    files_hold_no_secret(&venue, &planted);
    let exported = [PROXY, PASSWORD].map(str::to_owned);
    only_an_admin_exports(&venue.raven, &exported);
    // They were there to be found.
    let stored = fs::read_to_string(venue.raven.plan.data().join("vpn/noc/2")).unwrap();
    for secret in [PASSWORD, PASSPHRASE, PROXY, &body(&read("locked.key"))[0], &body(&read("crypt.key"))[0]] {
        assert!(stored.contains(secret), "{secret}");
    }
}

/// A profile that asks for a code at each connect, and a server that takes it with [`CODE`] and notes who came.
fn static_challenge(venue: &Venue) -> (Server, PathBuf) {
    let answer = format!("SCRV1:{}:{}", BASE64.encode(PASSWORD), BASE64.encode(CODE));
    let wanted = write(venue, "wanted", &format!("venue7\n{answer}\n"));
    let came = venue.pki.path("came");
    fs::write(&came, "").unwrap();
    let server = server(venue, &format!("echo x >> {}\nexec cmp -s \"$1\" {wanted}", came.display()), "udp", &[]);
    let lines = "proto udp\nremote 192.0.2.2 1194\nauth-user-pass\nstatic-challenge \"Number on the token\" 1";
    let login = write(venue, "login", &format!("venue7\n{PASSWORD}\n"));
    venue.import_text("noc", &venue.pki.profile(lines).unwrap(), &["--login".to_owned(), login]);
    venue.enable("noc");
    (server, came)
}

#[test]
fn a_code_that_a_profile_asks_for_is_used_once_and_nothing_is_tried_without() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpncode");
    let (_server, came) = static_challenge(&venue);
    let attempts = || fs::read_to_string(&came).unwrap().lines().count();
    let waits = "waits for a one-time code: raven vpn connect noc --code - (\"Number on the token\")";
    venue.until_cause("noc", waits);
    pause(3000);
    assert_eq!(attempts(), 0);
    let uid = table().spec(Role::Openvpn).uid;
    assert!(!owners(&processes(&venue.raven)).contains(&uid), "openvpn runs without a code");

    // On a command line others could read it.
    let told = venue.raven.raven(&["vpn", "connect", "noc", "--code", WRONG_CODE]);
    assert!(!told.status.success() && said(&told).contains("--code -"), "{}", said(&told));
    let told = connect(&venue.raven, WRONG_CODE);
    assert!(told.status.success(), "{}", said(&told));
    venue.until_cause("noc", &format!("auth refused; {waits}"));
    pause(5000);
    assert_eq!(attempts(), 1, "a code is tried once");

    assert!(connect(&venue.raven, CODE).status.success());
    venue.until("noc", "up");
    assert_eq!(attempts(), 2);
    let all = venue.raven.running.log() + &said(&venue.raven.raven(&["vpn", "events"]));
    for code in [WRONG_CODE, CODE, &BASE64.encode(CODE)] {
        assert!(!all.contains(code), "{code}");
    }
    // Whoever begins anew is asked anew.
    assert!(venue.raven.raven(&["vpn", "connect", "noc"]).status.success());
    venue.until_cause("noc", waits);
    assert_eq!(attempts(), 2);
}

/// Answers for a server (`management-client-auth`): by a question to who comes with the password, and by yes to who comes
/// with its answer. Says what each came with.
fn ask_and_take(socket: &Path) -> std::sync::mpsc::Receiver<String> {
    let (tell, told) = std::sync::mpsc::channel();
    let mut stream = UnixStream::connect(socket).unwrap();
    std::thread::spawn(move || {
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let (mut who, mut password) = (String::new(), String::new());
        for line in lines.map_while(Result::ok) {
            if let Some(rest) = line.strip_prefix(">CLIENT:CONNECT,").or_else(|| line.strip_prefix(">CLIENT:REAUTH,")) {
                who = rest.replace(',', " ");
            } else if let Some(rest) = line.strip_prefix(">CLIENT:ENV,password=") {
                rest.clone_into(&mut password);
            } else if line == ">CLIENT:ENV,END" && !who.is_empty() {
                let user = BASE64.encode("venue7");
                let right = format!("CRV1::n4me::{CODE}");
                let answer = match password.as_str() {
                    PASSWORD => format!("client-deny {who} \"question\" \"CRV1:R,E:n4me:{user}:Code that was sent\"\n"),
                    answer if answer == right => format!("client-auth-nt {who}\n"),
                    _ => format!("client-deny {who} \"wrong\"\n"),
                };
                stream.write_all(answer.as_bytes()).unwrap();
                drop(tell.send(std::mem::take(&mut password)));
                who.clear();
            }
        }
    });
    told
}

#[test]
fn a_server_that_asks_for_a_code_gets_it_and_is_left_alone_until_then() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpncrv");
    let socket = venue.pki.path("server.sock");
    let path = socket.display().to_string();
    let more = ["--management", &path, "unix", "--management-client-auth"];
    let _server = Server::new(&venue, "tun7", "udp", 1194, 77, &more);
    let came = ask_and_take(&socket);
    let login = write(&venue, "login", &format!("venue7\n{PASSWORD}\n"));
    let lines = "proto udp\nremote 192.0.2.2 1194\nauth-user-pass";
    venue.import_text("noc", &venue.pki.profile(lines).unwrap(), &["--login".to_owned(), login]);
    venue.enable("noc");
    let waits = "waits for a one-time code: raven vpn connect noc --code - (\"Code that was sent\")";
    venue.until_cause("noc", waits);
    pause(4000);
    assert_eq!(came.try_iter().collect::<Vec<_>>(), [PASSWORD], "asked once");
    // A wrong one: the question is put once more, and that is all.
    assert!(connect(&venue.raven, WRONG_CODE).status.success());
    for expected in [format!("CRV1::n4me::{WRONG_CODE}"), PASSWORD.to_owned()] {
        eventually("it came", || came.try_recv().is_ok_and(|it| it == expected));
    }
    pause(3000);
    venue.until_cause("noc", waits);
    assert_eq!(came.try_iter().count(), 0, "asked once more, and no more often");
    assert!(connect(&venue.raven, CODE).status.success());
    venue.until("noc", "up");
    assert_eq!(came.try_iter().collect::<Vec<_>>(), [format!("CRV1::n4me::{CODE}")]);
    let log = venue.raven.running.log();
    assert!(!log.contains("pl4nted"), "{log}");
}

#[test]
fn a_socks_proxy_gets_user_and_password_and_refuses_others() {
    root_only!();
    if !is_possible() {
        return;
    }
    let venue = Venue::bare("vpnsocks");
    let _server = Server::new(&venue, "tun7", "tcp-server", 1194, 77, &["--local", BEYOND]);
    let arguments = ["-i", "192.0.2.2", "-p", "2194", "-u", "venue", "-P", PROXY];
    let _proxy = Program::start(&venue.cable, "microsocks", &arguments);
    let lines = format!("proto tcp\nremote {BEYOND} 1194\nsocks-proxy 192.0.2.2 2194 proxy.txt");
    let import = |password: &str| {
        let file = write(&venue, "proxy.txt", &format!("venue\n{password}\n"));
        venue.import_text("noc", &venue.pki.profile(&lines).unwrap(), &["--with".to_owned(), file]);
    };
    import(WRONG);
    venue.enable("noc");
    venue.until_cause("noc", "auth refused by the proxy");
    import(PROXY);
    venue.until("noc", "up");
    let planted = Planted([WRONG, PROXY].into_iter().flat_map(|text| forms(text.as_bytes())).collect());
    planted.hold("the log", &venue.raven.running.log());
    for pid in processes(&venue.raven) {
        planted.hold("arguments", &proc_text(pid, "cmdline"));
    }
    let shown: Value = serde_json::from_slice(&venue.raven.raven(&["vpn", "show", "noc", "--json"]).stdout).unwrap();
    assert_eq!(shown["proxy_credentials"], "given", "{shown}");
    planted.hold("vpn show", &shown.to_string());
}

#[test]
fn the_public_key_of_a_wireguard_profile_is_told_wherever_the_profile_is() {
    if !Path::new("/usr/bin/wg").exists() {
        eprintln!("not run: needs wireguard-tools");
        return;
    }
    let raven = Appliance::start();
    for _ in 0..3 {
        let private = output("wg", &["genkey"], "");
        let public = output("wg", &["pubkey"], &private);
        let file = raven.plan.dir.path().join("noc.conf");
        let peer = output("wg", &["pubkey"], &output("wg", &["genkey"], ""));
        let peer = format!("[Peer]\nPublicKey = {peer}\nAllowedIPs = 10.9.0.1/32\nEndpoint = 192.0.2.2:51820\n");
        fs::write(&file, format!("[Interface]\nPrivateKey = {private}\nAddress = 10.9.0.2/24\n{peer}")).unwrap();
        let file = file.display().to_string();
        for words in
            [&["vpn", "check", &file][..], &["vpn", "import", "noc", &file], &["vpn", "show", "noc"], &["vpn", "list"]]
        {
            let told = raven.raven(words);
            assert!(told.status.success() && said(&told).contains(&public), "{words:?}: {}", said(&told));
            assert!(!said(&told).contains(&private), "{words:?}");
        }
    }
}
