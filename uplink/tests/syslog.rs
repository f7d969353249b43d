//! Delivery of RFC 5424 messages over TCP and TLS to real receivers that acknowledge nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_uplink::sim::SimRing;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use support::certificates::{Authority, write};
use support::rsyslog::{ACCEPTED, Rsyslog, installed};
use support::{MemoryCursors, envelope, fleet, free_port, run, status, store_numbered, until, until_acked, uplinks};

/// rsyslog with imtcp as the documentation sets it up.
fn plain(dir: &Path, port: u16) -> Rsyslog {
    let input = format!(r#"input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="noc")"#);
    Rsyslog::with(dir, port, "", r#"module(load="imtcp")"#, &input, ACCEPTED)
}

/// How often each seq was received.
fn seen(rsyslog: &Rsyslog) -> BTreeMap<u64, u64> {
    let mut seen = BTreeMap::new();
    rsyslog.received().iter().for_each(|line| *seen.entry(envelope::open(line).seq()).or_default() += 1);
    seen
}

#[test]
fn every_message_comes_back_byte_for_byte() {
    if !installed() {
        return;
    }
    let (dir, port, ring) = (tempfile::tempdir().unwrap(), free_port(), SimRing::new());
    let mut rsyslog = plain(dir.path(), port);
    rsyslog.start();
    let long = vec![b'x'; 65_536];
    let mut messages: Vec<&[u8]> = vec![b"<34>plain", b"", b" ", b"two\nlines\n", b"\xff\0", b"12 <34>counted", &long];
    let bytes: Vec<[u8; 3]> = (0..=255).map(|byte| [b'x', byte, b'y']).collect();
    messages.extend(bytes.iter().map(|three| &three[..]));
    ring.store("syslog", &messages);
    run(async {
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        fleet.configure("arena", &uplinks(&format!("noc kind=syslog to=127.0.0.1:{port}")));
        until_acked(&mut fleet, "noc", messages.len() as u64).await;
        assert_eq!(status(&mut fleet, "noc").ack_class, "none");
        fleet.stop().await;
    });
    rsyslog.stop("TERM");
    let received: BTreeMap<u64, Vec<u8>> =
        rsyslog.received().iter().map(|line| envelope::open(line)).map(|opened| (opened.seq(), opened.raw)).collect();
    assert_eq!(received.len(), messages.len());
    for (seq, message) in (1..).zip(&messages) {
        assert_eq!(received[&seq], *message);
    }
}

/// Delivers 40,000 records while rsyslog is ended twice by `signal` in the middle.
fn survives(signal: &str) {
    const COUNT: u64 = 40_000;
    if !installed() {
        return;
    }
    let (dir, port, ring) = (tempfile::tempdir().unwrap(), free_port(), SimRing::new());
    let mut rsyslog = plain(dir.path(), port);
    rsyslog.start();
    run(async {
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        fleet.configure("arena", &uplinks(&format!("noc kind=syslog to=127.0.0.1:{port}")));
        for part in [10_000, 20_000] {
            store_numbered(&ring, 10_000);
            until("half of it has arrived", || rsyslog.lines() >= part - 5_000).await;
            rsyslog.stop(signal);
            until("the failure shows", || status(&mut fleet, "noc").state == "retrying").await;
            let words = status(&mut fleet, "noc").last_error.unwrap();
            assert!(words.contains("are sent again") || words.contains("connect to"), "{words}");
            store_numbered(&ring, 10_000);
            rsyslog.start();
        }
        until_acked(&mut fleet, "noc", COUNT).await;
        fleet.stop().await;
    });
    rsyslog.stop("TERM");
    let seen = seen(&rsyslog);
    assert_eq!((1..=COUNT).filter(|seq| !seen.contains_key(seq)).count(), 0, "missing");
}

#[test]
fn nothing_is_missing_after_rsyslog_was_stopped_and_started_again() {
    survives("TERM");
}

#[test]
fn nothing_is_missing_after_rsyslog_was_killed_and_started_again() {
    survives("KILL");
}

#[test]
fn the_cursor_stays_behind_by_the_overlap_and_an_orderly_stop_doubles_nothing() {
    if !installed() {
        return;
    }
    let (dir, port, ring) = (tempfile::tempdir().unwrap(), free_port(), SimRing::new());
    let mut rsyslog = plain(dir.path(), port);
    rsyslog.start();
    store_numbered(&ring, 1_000);
    let cursors = MemoryCursors::default();
    let noc = uplinks(&format!("noc kind=syslog to=127.0.0.1:{port}"));
    run(async {
        let mut first = fleet(&ring, &cursors, dir.path());
        let begun = Instant::now();
        first.configure("arena", &noc);
        until("all has arrived", || rsyslog.lines() >= 999).await;
        // Not sooner than a second after they were sent, which a busy machine may have spent already.
        let acked = status(&mut first, "noc").acked_seq.0;
        assert!(acked == 0 || begun.elapsed() >= Duration::from_secs(1), "{acked}");
        first.stop().await;
        assert_eq!(status_of_saved(&cursors), 1_000, "told to stop, what the far end's kernel has is enough");
        let mut second = fleet(&ring, &cursors, dir.path());
        second.configure("arena", &noc);
        store_numbered(&ring, 10);
        until_acked(&mut second, "noc", 1_010).await;
        second.stop().await;
    });
    rsyslog.stop("TERM");
    let seen = seen(&rsyslog);
    assert_eq!((seen.len(), seen.values().sum::<u64>()), (1_010, 1_010));
}

fn status_of_saved(cursors: &MemoryCursors) -> u64 {
    cursors.0.borrow().values().map(|saved| saved.progress.low().0).sum()
}

#[test]
fn a_receiver_that_is_stopped_but_connected_is_given_up_after_the_timeout() {
    if !installed() {
        return;
    }
    let (dir, port, ring) = (tempfile::tempdir().unwrap(), free_port(), SimRing::new());
    let mut rsyslog = plain(dir.path(), port);
    rsyslog.start();
    run(async {
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        fleet.configure("arena", &uplinks(&format!("noc kind=syslog timeout=1s to=127.0.0.1:{port}")));
        rsyslog.signal("STOP");
        // More than all buffers on the way hold.
        let big = vec![b'x'; 60_000];
        for _ in 0..40 {
            ring.store("syslog", &[&big[..]; 10]);
        }
        until("it is given up", || status(&mut fleet, "noc").last_error.is_some()).await;
        let words = status(&mut fleet, "noc").last_error.unwrap();
        assert!(words.contains("took nothing for 1 s"), "{words}");
        rsyslog.signal("CONT");
        until_acked(&mut fleet, "noc", 400).await;
        fleet.stop().await;
    });
    rsyslog.stop("TERM");
    assert_eq!(seen(&rsyslog).len(), 400);
}

/// By rsyslog's TLS driver, `gtls` or `ossl`.
fn over_tls(driver: &str) {
    let there = ["x86_64", "aarch64"]
        .iter()
        .any(|arch| Path::new(&format!("/usr/lib/{arch}-linux-gnu/rsyslog/lmnsd_{driver}.so")).exists());
    if !installed() || !there {
        println!(
            "SKIPPED: this test needs rsyslog's driver {driver} (Debian: apt install rsyslog-gnutls rsyslog-openssl)"
        );
        return;
    }
    let (dir, port, ring, authority) = (tempfile::tempdir().unwrap(), free_port(), SimRing::new(), Authority::new());
    let [ca, certificate, key] =
        write(dir.path(), &authority.pem, &authority.sign(&["127.0.0.1"], 2100)).map(|path| path.display().to_string());
    let global = format!(
        r#"defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}""#
    );
    let module = format!(
        r#"module(load="imtcp" streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="x509/name" permittedPeer=["raven.example"])"#
    );
    let input = format!(r#"input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="noc")"#);
    let mut rsyslog = Rsyslog::with(dir.path(), port, &global, &module, &input, ACCEPTED);
    rsyslog.start();
    store_numbered(&ring, 20_000);
    let own = authority.sign(&["raven.example"], 2100);
    run(async {
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        let noc = format!("noc kind=syslog tls=true ca=secret:a certificate=secret:c key=secret:k to=127.0.0.1:{port}");
        fleet.configure("arena", &uplinks(&noc));
        fleet.secrets(|all| {
            for (name, text) in [("ca", &authority.pem), ("certificate", &own.certificate), ("key", &own.key)] {
                all.put(format!("uplink.noc.{name}"), text.as_bytes());
            }
        });
        until_acked(&mut fleet, "noc", 20_000).await;
        fleet.stop().await;
    });
    rsyslog.stop("TERM");
    assert_eq!(seen(&rsyslog).len(), 20_000);
}

#[test]
fn rsyslog_with_gnutls_takes_messages_over_tls_with_our_certificate() {
    over_tls("gtls");
}

#[test]
fn rsyslog_with_openssl_takes_messages_over_tls_with_our_certificate() {
    over_tls("ossl");
}

/// syslog-ng, unpacked in `RAVEN_SYSLOG_NG`: Debian does not install it beside rsyslog.
struct SyslogNg(std::process::Child);

impl SyslogNg {
    fn start(root: &Path, dir: &Path, port: u16, transport: &str) -> Self {
        let d = dir.display();
        let config = format!(
            r#"@version: 3.38
source noc {{ syslog(ip("127.0.0.1") port({port}) {transport} log-msg-size(131072) flags(no-parse)); }};
destination file {{ file("{d}/received.log" template("${{MESSAGE}}\n")); }};
log {{ source(noc); destination(file); }};
"#
        );
        std::fs::write(dir.join("syslog-ng.conf"), config).unwrap();
        let libs = root.join("usr/lib");
        let folders: Vec<_> = std::fs::read_dir(&libs).unwrap().map(|entry| entry.unwrap().path()).collect();
        let mut modules = std::fs::read_dir(libs.join("syslog-ng")).unwrap().map(|entry| entry.unwrap().path());
        let modules = modules.find(|path| path.is_dir()).unwrap();
        let child = std::process::Command::new(root.join("usr/sbin/syslog-ng"))
            .args(["-F", "--no-caps", "-f"])
            .arg(dir.join("syslog-ng.conf"))
            .arg("--module-path")
            .arg(modules)
            .arg("-R")
            .arg(dir.join("persist"))
            .arg("-c")
            .arg(dir.join("control"))
            .arg("-p")
            .arg(dir.join("ng.pid"))
            .env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap())
            .stderr(std::fs::File::create(dir.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let ng = Self(child);
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let words = std::fs::read_to_string(dir.join("stderr")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(20), "syslog-ng does not listen: {words}");
            std::thread::sleep(Duration::from_millis(20));
        }
        ng
    }
}

impl Drop for SyslogNg {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn syslog_ng_takes_messages_over_tcp_and_tls() {
    let Some(root) = std::env::var_os("RAVEN_SYSLOG_NG").map(std::path::PathBuf::from) else {
        println!("SKIPPED: this test needs RAVEN_SYSLOG_NG, see docs/testing.md");
        return;
    };
    let authority = Authority::new();
    for tls in [false, true] {
        let (dir, port, ring) = (tempfile::tempdir().unwrap(), free_port(), SimRing::new());
        let files = write(dir.path(), &authority.pem, &authority.sign(&["127.0.0.1"], 2100));
        let [_, certificate, key] = files.each_ref().map(|path| path.display());
        let transport = if tls {
            format!(
                r#"transport("tls") tls(cert-file("{certificate}") key-file("{key}") peer-verify(optional-untrusted))"#
            )
        } else {
            r#"transport("tcp")"#.to_owned()
        };
        let _ng = SyslogNg::start(&root, dir.path(), port, &transport);
        store_numbered(&ring, 5_000);
        let long = vec![b'x'; 65_536];
        ring.store("syslog", &[b"two\nlines\n\0\xff", &long]);
        run(async {
            let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
            let tls = if tls { "tls=true ca=secret:a" } else { "tls=false" };
            fleet.configure("arena", &uplinks(&format!("noc kind=syslog {tls} to=127.0.0.1:{port}")));
            fleet.secrets(|all| all.put("uplink.noc.ca".to_owned(), authority.pem.as_bytes()));
            until_acked(&mut fleet, "noc", 5_002).await;
            fleet.stop().await;
        });
        let lines = || std::fs::read(dir.path().join("received.log")).unwrap_or_default();
        let begun = Instant::now();
        while lines().split(|b| *b == b'\n').count() < 5_003 && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let received: BTreeMap<u64, Vec<u8>> = lines()
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(envelope::open)
            .map(|opened| (opened.seq(), opened.raw))
            .collect();
        assert_eq!(received.len(), 5_002);
        assert_eq!((&received[&5_001][..], &received[&5_002]), (&b"two\nlines\n\0\xff"[..], &long));
        assert_eq!(received[&77], support::numbered(77).as_bytes());
    }
}
