//! Delivery to a real NATS JetStream: one server that is killed, and a cluster that loses a node.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_uplink::sim::SimRing;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use support::certificates::{Authority, write};
use support::nats::{Client, Server, installed};
use support::{
    MemoryCursors, SimFleet, fleet, free_port, numbered, run, status, store_numbered, until, until_acked, uplinks,
};

const OPEN: &str = r#"{"verbose":false}"#;

fn one(dir: &std::path::Path, ring: &Rc<SimRing>, noc: &str) -> SimFleet {
    let mut fleet = fleet(ring, &MemoryCursors::default(), dir);
    fleet.configure("arena", &uplinks(noc));
    fleet
}

/// How often each seq is stored, by its message id.
fn stored(client: &mut Client, last: u64) -> BTreeMap<u64, u64> {
    let mut seen = BTreeMap::new();
    for (header, data) in (1..=last).filter_map(|number| client.message(number)) {
        let id = header.lines().find_map(|line| line.strip_prefix("Nats-Msg-Id: arena/syslog/")).unwrap();
        let seq: u64 = id.parse().unwrap();
        assert_eq!(data, numbered(seq).as_bytes());
        *seen.entry(seq).or_default() += 1;
    }
    seen
}

#[test]
fn every_byte_and_the_envelope_are_stored() {
    if !installed() {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let mut server = Server::new(dir.path(), "n1", free_port(), "");
    server.start();
    let mut client = Client::new(server.port, OPEN);
    client.make_stream(1);
    let messages: [&[u8]; 4] = [b"<34>plain", b"", b"\r\nMSG x 1 5\r\n\0\xff", &vec![b'x'; 65_536]];
    ring.store("syslog", &messages);
    run(async {
        let mut fleet = one(dir.path(), &ring, &format!("noc kind=nats to=127.0.0.1:{}", server.port));
        until_acked(&mut fleet, "noc", 4).await;
        assert_eq!(status(&mut fleet, "noc").ack_class, "accepted");
        fleet.stop().await;
    });
    for (number, message) in (1..).zip(messages) {
        let (header, data) = client.message(number).unwrap();
        assert_eq!(data, message);
        for line in
            ["Raven-Dev: arena", "Raven-Stream: syslog", &format!("Raven-Seq: {number}"), "Raven-Src: 192.0.2.7"]
        {
            assert!(header.lines().any(|l| l == line), "{line} is not in {header}");
        }
    }
}

#[test]
fn nothing_is_missing_or_doubled_after_the_server_was_killed() {
    const COUNT: u64 = 20_000;
    if !installed() {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let mut server = Server::new(dir.path(), "n1", free_port(), "");
    server.start();
    Client::new(server.port, OPEN).make_stream(1);
    store_numbered(&ring, COUNT);
    run(async {
        let mut fleet = one(dir.path(), &ring, &format!("noc kind=nats window=512 to=127.0.0.1:{}", server.port));
        for part in [3_000, 9_000] {
            until_acked(&mut fleet, "noc", part).await;
            server.kill();
            assert!(status(&mut fleet, "noc").acked_seq.0 < COUNT, "too fast to be killed in the middle");
            until("the failure shows", || status(&mut fleet, "noc").state == "retrying").await;
            server.start();
        }
        until_acked(&mut fleet, "noc", COUNT).await;
        fleet.stop().await;
    });
    let mut client = Client::new(server.port, OPEN);
    let all = client.stored();
    let seen = stored(&mut client, all);
    assert_eq!((seen.len() as u64, all), (COUNT, COUNT), "none missing, doubles removed by message id");
}

#[test]
fn a_cluster_that_loses_a_node_misses_nothing() {
    const COUNT: u64 = 20_000;
    if !installed() {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let urls = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect::<Vec<_>>().join(", ");
    let mut servers: Vec<Server> = (1..)
        .zip(&routes)
        .map(|(n, route)| {
            let more = format!("cluster {{ name: c, listen: 127.0.0.1:{route}, routes: [{urls}] }}");
            Server::new(dir.path(), &format!("n{n}"), free_port(), &more)
        })
        .collect();
    servers.iter_mut().for_each(Server::start);
    Client::new(servers[0].port, OPEN).make_stream(3);
    store_numbered(&ring, COUNT);
    let to = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect::<Vec<_>>().join(",");
    run(async {
        let mut fleet = one(dir.path(), &ring, &format!("noc kind=nats window=512 timeout=5s to={to}"));
        until_acked(&mut fleet, "noc", 4_000).await;
        // The node that we talk to; the next of the list takes over.
        servers[0].kill();
        assert!(status(&mut fleet, "noc").acked_seq.0 < COUNT, "too fast to be killed in the middle");
        until_acked(&mut fleet, "noc", COUNT).await;
        fleet.stop().await;
    });
    servers[0].start();
    let mut client = Client::new(servers[1].port, OPEN);
    let begun = std::time::Instant::now();
    while client.stored() < COUNT && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(200));
    }
    let all = client.stored();
    let seen = stored(&mut client, all);
    assert_eq!((seen.len() as u64, all), (COUNT, COUNT), "none missing, doubles removed by message id");
}

#[test]
fn a_server_without_the_stream_is_tried_until_there_is_one() {
    if !installed() {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let mut server = Server::new(dir.path(), "n1", free_port(), "");
    server.start();
    store_numbered(&ring, 10);
    run(async {
        let mut fleet = one(dir.path(), &ring, &format!("noc kind=nats to=127.0.0.1:{}", server.port));
        until("it is said", || status(&mut fleet, "noc").last_error.is_some()).await;
        let words = status(&mut fleet, "noc").last_error.unwrap();
        assert!(words.contains("no JetStream stream takes raven.arena.syslog"), "{words}");
        Client::new(server.port, OPEN).make_stream(1);
        until_acked(&mut fleet, "noc", 10).await;
        fleet.stop().await;
    });
}

#[test]
fn a_server_with_tls_and_a_password_takes_ours_alone() {
    if !installed() {
        return;
    }
    let (dir, ring, authority) = (tempfile::tempdir().unwrap(), SimRing::new(), Authority::new());
    let [ca, certificate, key] =
        write(dir.path(), &authority.pem, &authority.sign(&["127.0.0.1"], 2100)).map(|path| path.display().to_string());
    let more = format!(
        "authorization {{ user: raven, password: s3cr3t }}\n\
         tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{ca}\" }}"
    );
    let mut server = Server::new(dir.path(), "n1", free_port(), &more);
    server.start();
    store_numbered(&ring, 100);
    run(async {
        let noc = format!("noc kind=nats to=127.0.0.1:{} tls=true ca=secret:ca credentials=secret:c", server.port);
        let mut fleet = one(dir.path(), &ring, &noc);
        let tell = |fleet: &mut SimFleet, credentials: &str| {
            fleet.secrets(|all| {
                all.put("uplink.noc.ca".to_owned(), authority.pem.as_bytes());
                all.put("uplink.noc.credentials".to_owned(), credentials.as_bytes());
            });
        };
        tell(&mut fleet, "basic raven:wrong");
        until("it is turned away", || status(&mut fleet, "noc").state == "config_error").await;
        let words = status(&mut fleet, "noc").last_error.unwrap();
        assert!(words.contains("Authorization Violation") && !words.contains("wrong"), "{words}");
        tell(&mut fleet, "basic raven:s3cr3t");
        let let_in = |fleet: &mut SimFleet| {
            status(fleet, "noc").last_error.is_some_and(|words| words.contains("no JetStream stream"))
        };
        until("it is let in", || let_in(&mut fleet)).await;
        fleet.stop().await;
    });
}
