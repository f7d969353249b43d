//! Delivery over TLS to real receivers, and what is said when the two ends do not agree about certificates.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_model::report::DestinationStatus;
use raven_uplink::sim::SimRing;
use std::collections::BTreeSet;
use std::path::Path;
use support::certificates::{Authority, Pair, write};
use support::receiver::https;
use support::rsyslog::{ACCEPTED, Rsyslog, installed};
use support::{
    MemoryCursors, SimFleet, envelope, fleet, free_port, run, status, store_numbered, until, until_acked, uplinks,
};

const COUNT: u64 = 5_000;

/// Which names the receiver's certificate has, and until when it is valid.
struct Receiver<'a> {
    names: &'a [&'a str],
    last_year: i32,
    asks: bool,
}

const GOOD: Receiver<'static> = Receiver { names: &["127.0.0.1", "noc.example"], last_year: 2100, asks: false };

/// rsyslog with RELP over TLS, as the documentation sets it up; `tlslib` is rsyslog's, `openssl` or `gnutls`.
fn rsyslog(dir: &Path, port: u16, tlslib: &str, authority: &Authority, receiver: &Receiver) -> Rsyslog {
    let [ca, certificate, key] = write(dir, &authority.pem, &authority.sign(receiver.names, receiver.last_year))
        .map(|p| p.display().to_string());
    let module = format!(r#"module(load="imrelp" tls.tlslib="{tlslib}")"#);
    let asks = if receiver.asks { r#"tls.authMode="certvalid""# } else { "" };
    let input = format!(
        r#"input(type="imrelp" address="127.0.0.1" port="{port}" maxDataSize="128k" ruleset="noc" tls="on"
            tls.caCert="{ca}" tls.myCert="{certificate}" tls.myPrivKey="{key}" {asks})"#
    );
    let mut rsyslog = Rsyslog::with(dir, port, "", &module, &input, ACCEPTED);
    rsyslog.start();
    rsyslog
}

/// A fleet with one destination `noc` that has these secrets.
fn with_secrets(dir: &Path, ring: &std::rc::Rc<SimRing>, noc: &str, secrets: &[(&str, &str)]) -> SimFleet {
    let mut fleet = fleet(ring, &MemoryCursors::default(), dir);
    fleet.configure("arena", &uplinks(noc));
    fleet.secrets(|all| secrets.iter().for_each(|(key, text)| all.put(format!("uplink.noc.{key}"), text.as_bytes())));
    fleet
}

fn delivers(tlslib: &str, own: Option<&Pair>, authority: &Authority, receiver: &Receiver) {
    if !installed() {
        return;
    }
    let (dir, port, ring) = (tempfile::tempdir().unwrap(), free_port(), SimRing::new());
    let mut rsyslog = rsyslog(dir.path(), port, tlslib, authority, receiver);
    store_numbered(&ring, COUNT);
    run(async {
        let mut keys = "tls=true ca=secret:ca".to_owned();
        let mut secrets = vec![("ca", authority.pem.as_str())];
        if let Some(own) = own {
            keys += " certificate=secret:c key=secret:k";
            secrets.extend([("certificate", own.certificate.as_str()), ("key", own.key.as_str())]);
        }
        let noc = format!("noc kind=relp to=127.0.0.1:{port} {keys}");
        let mut fleet = with_secrets(dir.path(), &ring, &noc, &secrets);
        until_acked(&mut fleet, "noc", COUNT).await;
        fleet.stop().await;
    });
    rsyslog.stop("TERM");
    let seqs: BTreeSet<u64> = rsyslog.received().iter().map(|line| envelope::open(line).seq()).collect();
    assert_eq!(seqs, (1..=COUNT).collect());
}

#[test]
fn rsyslog_with_openssl_takes_relp_over_tls() {
    delivers("openssl", None, &Authority::new(), &GOOD);
}

#[test]
fn rsyslog_with_gnutls_takes_relp_over_tls() {
    // By this library it asks for a certificate whatever its settings.
    let authority = Authority::new();
    let own = authority.sign(&["raven.example"], 2100);
    delivers("gnutls", Some(&own), &authority, &Receiver { asks: true, ..GOOD });
}

#[test]
fn rsyslog_that_asks_for_a_certificate_gets_ours() {
    let authority = Authority::new();
    let own = authority.sign(&["raven.example"], 2100);
    delivers("openssl", Some(&own), &authority, &Receiver { asks: true, ..GOOD });
}

/// What the destination's status says, and its state, when nothing can be delivered.
fn says(receiver: &Receiver, noc: &str, trusts: &Authority, authority: &Authority) -> (String, String) {
    let (dir, port, ring) = (tempfile::tempdir().unwrap(), free_port(), SimRing::new());
    let _rsyslog = rsyslog(dir.path(), port, "openssl", authority, receiver);
    store_numbered(&ring, 10);
    run(async {
        let noc = format!("noc kind=relp to=127.0.0.1:{port} {noc}");
        let mut fleet = with_secrets(dir.path(), &ring, &noc, &[("ca", &trusts.pem)]);
        // A receiver that has just begun may reset a connection; the next one tells.
        let is_told = |seen: &DestinationStatus| {
            let is_reset = seen.last_error.as_ref().is_none_or(|error| error.contains("onnection re"));
            seen.state == "config_error" || seen.state == "retrying" && !is_reset
        };
        until("it fails", || is_told(&status(&mut fleet, "noc"))).await;
        let status = status(&mut fleet, "noc");
        assert_eq!(status.acked_seq.0, 0);
        fleet.stop().await;
        (status.state, status.last_error.unwrap())
    })
}

#[test]
fn a_certificate_that_is_not_right_is_a_configuration_error_that_says_why() {
    if !installed() {
        return;
    }
    let (ours, theirs) = (Authority::new(), Authority::new());
    let tls = "tls=true ca=secret:ca";
    let named = format!("{tls} server_name=noc.example");
    for (receiver, noc, trusts, expected) in [
        (Receiver { last_year: 2020, ..GOOD }, tls, &ours, "expired"),
        (Receiver { names: &["other.example"], ..GOOD }, tls, &ours, "is not for 127.0.0.1 but for"),
        (Receiver { names: &["other.example"], ..GOOD }, &named, &ours, "is not for noc.example but for"),
        (GOOD, tls, &theirs, "signed by nobody whom we trust"),
        (GOOD, "tls=true", &theirs, "signed by nobody whom we trust"),
    ] {
        let (state, words) = says(&receiver, noc, trusts, &ours);
        assert!(words.contains(expected), "{words}");
        assert_eq!(state, "config_error", "{words}");
    }
}

#[test]
fn https_takes_bodies_and_sees_our_token() {
    let (dir, ring, authority) = (tempfile::tempdir().unwrap(), SimRing::new(), Authority::new());
    store_numbered(&ring, COUNT);
    run(async {
        let (url, seen) = https(&authority.sign(&["127.0.0.1"], 2100), None, |_, _| (204, None)).await;
        let noc = format!("noc kind=http to={url} ca=secret:ca credentials=secret:t");
        let secrets = [("ca", authority.pem.as_str()), ("credentials", "bearer s3cr3t\n")];
        let mut fleet = with_secrets(dir.path(), &ring, &noc, &secrets);
        until_acked(&mut fleet, "noc", COUNT).await;
        fleet.stop().await;
        assert_eq!(seen.borrow().taken.len() as u64, COUNT);
        assert_eq!(seen.borrow().authorization.as_deref(), Some("Bearer s3cr3t"));
    });
}

#[test]
fn https_that_wants_a_certificate_says_so_until_it_gets_one() {
    let (dir, ring, authority) = (tempfile::tempdir().unwrap(), SimRing::new(), Authority::new());
    store_numbered(&ring, 10);
    let own = authority.sign(&["raven.example"], 2100);
    run(async {
        let server = authority.sign(&["127.0.0.1"], 2100);
        let (url, seen) = https(&server, Some(&authority.pem), |_, _| (200, None)).await;
        let noc = format!("noc kind=http to={url} ca=secret:ca");
        let mut fleet = with_secrets(dir.path(), &ring, &noc, &[("ca", &authority.pem)]);
        until("it is turned away", || status(&mut fleet, "noc").last_error.is_some()).await;
        let words = status(&mut fleet, "noc").last_error.unwrap();
        assert!(words.contains("wants a certificate from us"), "{words}");
        fleet.configure("arena", &uplinks(&format!("{noc} certificate=secret:c key=secret:k")));
        fleet.secrets(|all| {
            all.put("uplink.noc.certificate".to_owned(), own.certificate.as_bytes());
            all.put("uplink.noc.key".to_owned(), own.key.as_bytes());
        });
        until_acked(&mut fleet, "noc", 10).await;
        fleet.stop().await;
        assert_eq!(seen.borrow().taken.len(), 10);
    });
}
