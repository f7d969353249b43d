//! What is tried with them.

use crate::collector::{Running, Seen};
use crate::programs::{Place, installed, rsyslog, s_client};
use raven_collectors::keygen::keys;
use raven_model::control::Proto;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Runs all scenarios, or those whose name holds `part`.
pub fn all(part: Option<&str>) {
    let all: [(&str, fn()); 7] = [
        ("openssl_speaks_both_versions_and_an_older_one_is_told_apart", openssl),
        ("a_certificate_that_comes_anew_serves_the_next_connection", renewal),
        ("plain_syslog_and_tls_on_each_others_ports_are_shown", crossed),
        ("rsyslog_sends_over_tls", rsyslog_tls),
        ("rsyslog_sends_over_relp_and_nothing_is_missing_when_the_collector_dies", rsyslog_relp),
        ("a_stop_keeps_what_the_sockets_hold", stop),
        ("keys_are_made_in_the_jail", keygen),
    ];
    for (name, scenario) in all.into_iter().filter(|(name, _)| part.is_none_or(|part| name.contains(part))) {
        let begun = Instant::now();
        scenario();
        println!("test {name} ... ok, {:.1} s", begun.elapsed().as_secs_f32());
    }
}

fn has(seen: &Seen, text: &str) -> bool {
    seen.raw.iter().any(|raw| raw == text.as_bytes())
}

fn openssl() {
    if !installed("openssl", &["openssl"]) {
        return;
    }
    let place = Place::new("openssl");
    let (certificate, key) = keys("raven").unwrap();
    let ca = place.write("ca.pem", &certificate);
    let mut running = Running::start(&[("certificate", &certificate), ("key", &key)]);
    for version in ["-tls1_2", "-tls1_3"] {
        let trust = ["-CAfile", &ca, "-verify_return_error", "-verify_hostname", "raven", version];
        let mut client = s_client(running.port(Proto::Tls), &trust);
        let mut input = client.0.stdin.take().unwrap();
        write!(input, "{} <13>counted {version}<13>line {version}\n<13>begun {version}", 12 + version.len()).unwrap();
        drop(input);
        running.until(version, 10, |seen| has(seen, &format!("<13>begun {version}")));
        let seen = running.seen.lock().unwrap();
        assert!(has(&seen, &format!("<13>counted {version}")) && has(&seen, &format!("<13>line {version}")));
    }
    let old = s_client(running.port(Proto::Tls), &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    running.until("TLS 1.1", 10, |seen| seen.noted("tls_old_version"));
    drop(old);
}

fn renewal() {
    if !installed("openssl", &["openssl"]) {
        return;
    }
    let place = Place::new("renewal");
    let (old, new) = (keys("raven").unwrap(), keys("raven").unwrap());
    let mut running = Running::start(&[("certificate", &old.0), ("key", &old.1)]);
    let client = |ca: &str, running: &Running| {
        s_client(running.port(Proto::Tls), &["-CAfile", ca, "-verify_return_error", "-verify_hostname", "raven"])
    };
    let mut before = client(&place.write("old.pem", &old.0), &running);
    let mut input = before.0.stdin.take().unwrap();
    writeln!(input, "<13>before").unwrap();
    running.until("the old one", 10, |seen| has(seen, "<13>before"));
    let named = |name: &str, text: &str| (format!("collect.syslog.{name}"), text.to_owned());
    running.renew(&[named("certificate", "no certificate"), named("key", &new.1)]);
    running.until("a broken one", 5, |seen| seen.noted("tls_credentials"));
    running.renew(&[named("certificate", &new.0), named("key", &new.1)]);
    running.until("it is put right", 5, |seen| !seen.noted("tls_credentials"));
    let mut after = client(&place.write("new.pem", &new.0), &running);
    writeln!(after.0.stdin.as_ref().unwrap(), "<13>after").unwrap();
    running.until("the new one", 10, |seen| has(seen, "<13>after"));
    writeln!(input, "<13>still there").unwrap();
    running.until("the old connection", 10, |seen| has(seen, "<13>still there"));
    drop(after.0.stdin.take());
}

fn crossed() {
    if !installed("openssl bsdutils", &["openssl", "logger"]) {
        return;
    }
    let (certificate, key) = keys("raven").unwrap();
    let mut running = Running::start(&[("certificate", &certificate), ("key", &key)]);
    for (proto, reason) in [(Proto::Tls, "tls_plain_text"), (Proto::Relp, "relp_plain_text")] {
        let port = running.port(proto).to_string();
        Command::new("logger").args(["-n", "127.0.0.1", "-P", &port, "-T", "hello"]).status().unwrap();
        running.until(reason, 10, |seen| seen.noted(reason) && seen.report.dropped[reason] == 1);
    }
    let client = s_client(running.port(Proto::Tcp), &[]);
    running.until("a hello on the plain port", 10, |seen| seen.noted("tls_hello_on_plain_port"));
    assert!(running.seen.lock().unwrap().raw[0].starts_with(&[0x16, 3, 1]), "it is kept");
    drop(client);
    let client = s_client(running.port(Proto::Relp), &[]);
    running.until("a hello on the RELP port", 10, |seen| seen.noted("relp_tls_hello"));
    drop(client);
}

/// Writes numbered lines to rsyslog, which may not listen yet.
fn feed(port: u16, count: usize) {
    let end = Instant::now() + Duration::from_secs(10);
    let mut socket = loop {
        match TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))) {
            Ok(socket) => break socket,
            Err(error) => assert!(Instant::now() < end, "rsyslog does not listen: {error}"),
        }
        sleep(Duration::from_millis(50));
    };
    for n in 0..count {
        writeln!(socket, "<13>Nov 25 12:00:00 host raven-test: number {n}").unwrap();
    }
}

fn numbers(seen: &Seen) -> BTreeSet<usize> {
    seen.texts().iter().filter_map(|text| text.rsplit_once("number ")?.1.trim_end().parse().ok()).collect()
}

fn rsyslog_tls() {
    if !installed("rsyslog rsyslog-gnutls", &["rsyslogd", "rsyslog/lmnsd_gtls.so"]) {
        return;
    }
    let place = Place::new("rsyslog-tls");
    let (certificate, key) = keys("raven").unwrap();
    let ca = place.write("ca.pem", &certificate);
    let mut running = Running::start(&[("certificate", &certificate), ("key", &key)]);
    let action = format!(
        r#"type="omfwd" protocol="tcp" target="127.0.0.1" port="{}" TCP_Framing="octet-counted" StreamDriver="gtls" StreamDriverMode="1" StreamDriverAuthMode="x509/name" StreamDriverPermittedPeers="raven""#,
        running.port(Proto::Tls)
    );
    let (_program, port) = rsyslog(&place, &format!(r#"defaultNetstreamDriverCAFile="{ca}""#), "", &action);
    feed(port, 2000);
    running.until("2000 messages", 30, |seen| seen.raw.len() >= 2000);
    let seen = running.seen.lock().unwrap();
    assert_eq!((numbers(&seen).len(), seen.raw.len()), (2000, 2000));
}

fn rsyslog_relp() {
    if !installed("rsyslog rsyslog-relp", &["rsyslogd", "rsyslog/omrelp.so"]) {
        return;
    }
    let place = Place::new("rsyslog-relp");
    let mut running = Running::start(&[]);
    let action = format!(r#"type="omrelp" target="127.0.0.1" port="{}""#, running.port(Proto::Relp));
    let (program, port) = rsyslog(&place, "", r#"module(load="omrelp")"#, &action);
    feed(port, 20_000);
    running.until("some messages", 30, |seen| seen.raw.len() >= 2000);
    running.kill();
    running.until("all messages", 60, |seen| seen.raw.len() >= 20_000 && numbers(seen).len() == 20_000);
    let seen = running.seen.lock().unwrap();
    assert!(seen.raw[0].starts_with(b"<13>Nov 25 12:00:00 host raven-test: number "));
    assert!(seen.raw.len() < 22_000, "{} with repeats: no more than was under way", seen.raw.len());
    drop(seen);
    // It ends its session and the collector goes along.
    let closed = running.seen.lock().unwrap().closed;
    Command::new("kill").arg(program.0.id().to_string()).status().unwrap();
    running.until("close", 20, |seen| seen.closed > closed);
}

fn stop() {
    if !installed("openssl", &["openssl"]) {
        return;
    }
    let (certificate, key) = keys("raven").unwrap();
    let mut running = Running::start(&[("certificate", &certificate), ("key", &key)]);
    let mut client = s_client(running.port(Proto::Tls), &[]);
    let mut input = client.0.stdin.take().unwrap();
    writeln!(input, "<13>first").unwrap();
    running.until("a connection", 10, |seen| has(seen, "<13>first"));
    write!(input, "<13>whole\n<13>begun").unwrap();
    sleep(Duration::from_millis(200));
    running.stop();
    running.step();
    let texts = running.seen.lock().unwrap().texts();
    assert_eq!(texts, ["<13>first", "<13>whole", "<13>begun"]);
}

fn keygen() {
    let output = Command::new(std::env::current_exe().unwrap()).arg("--keygen").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("BEGIN CERTIFICATE") && text.contains("BEGIN PRIVATE KEY"),
        "{text}"
    );
}
