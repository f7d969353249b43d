//! Destinations behind a real HTTP proxy.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_uplink::sim::SimRing;
use std::rc::Rc;
use support::certificates::Authority;
use support::legacy::has;
use support::nats::{Client, Server, installed};
use support::tinyproxy::Tinyproxy;
use support::{
    MemoryCursors, SimFleet, fleet, free_port, receiver, run, status, store_numbered, until, until_acked, uplinks,
};

fn one(dir: &std::path::Path, ring: &Rc<SimRing>, line: &str, secrets: &[(&str, &str)]) -> SimFleet {
    let mut fleet = fleet(ring, &MemoryCursors::default(), dir);
    fleet.secrets(|all| {
        for (key, content) in secrets {
            all.put(format!("uplink.noc.{key}"), content.as_bytes());
        }
    });
    fleet.configure("arena", &uplinks(line));
    fleet
}

fn through(proxy: u16) -> String {
    format!("proxy=http://127.0.0.1:{proxy} proxy_credentials=secret:p")
}

#[test]
fn http_with_and_without_tls_goes_through_a_proxy_that_knows_us() {
    if !has("tinyproxy") {
        return;
    }
    let (dir, ring, authority) = (tempfile::tempdir().unwrap(), SimRing::new(), Authority::new());
    let proxy = Tinyproxy::start(dir.path());
    store_numbered(&ring, 1000);
    run(async {
        let (plain, seen) = receiver::http(|_, _| (200, None)).await;
        let (tls, seen_tls) = receiver::https(&authority.sign(&["127.0.0.1"], 2100), None, |_, _| (200, None)).await;
        for (url, seen, more) in [(plain, seen, ""), (tls, seen_tls, " ca=secret:ca")] {
            let line = format!("noc kind=http to={url} {}{more}", through(proxy.port));
            let secrets = [("proxy_credentials", "basic raven:s3cr3t"), ("ca", authority.pem.as_str())];
            let mut fleet = one(dir.path(), &ring, &line, &secrets);
            until_acked(&mut fleet, "noc", 1000).await;
            fleet.stop().await;
            assert_eq!(seen.borrow().taken.len(), 1000);
            let authority = url.split('/').nth(2).unwrap();
            assert!(proxy.log().contains(&format!("CONNECT {authority}")), "{}", proxy.log());
        }
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_through_a_proxy() {
    if !has("tinyproxy") || !installed() {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let proxy = Tinyproxy::start(dir.path());
    let mut server = Server::new(dir.path(), "n1", free_port(), "");
    server.start();
    Client::new(server.port, r#"{"verbose":false}"#).make_stream(1);
    store_numbered(&ring, 100);
    run(async {
        let line = format!("noc kind=nats to=127.0.0.1:{} {}", server.port, through(proxy.port));
        let mut fleet = one(dir.path(), &ring, &line, &[("proxy_credentials", "basic raven:s3cr3t")]);
        until_acked(&mut fleet, "noc", 100).await;
        fleet.stop().await;
    });
    assert_eq!(Client::new(server.port, r#"{"verbose":false}"#).stored(), 100);
}

#[test]
fn a_proxy_that_does_not_know_us_needs_an_operator_and_one_that_is_away_is_tried_again() {
    if !has("tinyproxy") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let proxy = Tinyproxy::start(dir.path());
    store_numbered(&ring, 10);
    run(async {
        let (url, seen) = receiver::http(|_, _| (200, None)).await;
        let line = format!("noc kind=http to={url} {}", through(proxy.port));
        let mut fleet = one(dir.path(), &ring, &line, &[("proxy_credentials", "basic raven:hunter2")]);
        until("it is turned away", || status(&mut fleet, "noc").state == "config_error").await;
        let words = status(&mut fleet, "noc").last_error.unwrap();
        assert!(words.contains("wants other credentials") && !words.contains("hunter2"), "{words}");
        fleet.secrets(|all| all.put("uplink.noc.proxy_credentials".to_owned(), b"basic raven:s3cr3t"));
        until_acked(&mut fleet, "noc", 10).await;
        fleet.stop().await;
        assert_eq!(seen.borrow().taken.len(), 10);
        let away = format!("noc kind=http to={url} {}", through(free_port()));
        let mut fleet = one(dir.path(), &ring, &away, &[("proxy_credentials", "basic raven:s3cr3t")]);
        until("it is away", || status(&mut fleet, "noc").state == "retrying").await;
        assert!(status(&mut fleet, "noc").last_error.unwrap().contains("connect to 127.0.0.1"));
        fleet.stop().await;
    });
}
