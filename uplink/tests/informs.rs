//! SNMP informs to managers: real snmptrapd, and some that are made up.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_decode::snmp::{
    Access, AuthProtocol, Communities, Engine, EngineId, LocalEngine, Seconds, Secret, User, Users,
};
use raven_model::delivery::Which;
use raven_uplink::sim::SimRing;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::legacy::{Collector, has, traps};
use support::manager::{Answer, SimManager, marked};
use support::{MemoryCursors, SimFleet, fleet, free_port, run, status, until, until_acked, uplinks};

/// A fleet with one destination `noc`; `secret` is `community` or `user`, and what it holds.
fn one(dir: &Path, ring: &Rc<SimRing>, port: u16, secret: (&str, &str), more: &str) -> SimFleet {
    let mut fleet = fleet(ring, &MemoryCursors::default(), dir);
    put(&mut fleet, secret);
    let line = format!(r#"noc kind=snmp to=127.0.0.1:{port} streams=["trap"] {}=secret:noc {more}"#, secret.0);
    fleet.configure("arena", &uplinks(&line));
    fleet
}

fn put(fleet: &mut SimFleet, (key, content): (&str, &str)) {
    fleet.secrets(|secrets| secrets.put(format!("uplink.noc.{key}"), content.as_bytes()));
}

const COMMUNITY: (&str, &str) = ("community", "n0c\n");

/// The file of a user with these protocols; both passwords are those of [`conf`].
fn user(auth: &str, privacy: &str) -> String {
    let mut file = "[[user]]\nname = \"raven\"\n".to_owned();
    for (key, protocol, password) in [("auth", auth, "authauthauth"), ("priv", privacy, "privprivpriv")] {
        if !protocol.is_empty() {
            file.extend([key, " = \"", protocol, "\"\n", key, "_password = \"", password, "\"\n"]);
        }
    }
    file
}

/// The same user for snmptrapd.
fn conf(auth: &str, privacy: &str) -> String {
    let words = [("authauthauth", auth), ("privprivpriv", privacy)];
    let words = words.iter().filter(|(_, protocol)| !protocol.is_empty());
    ["createUser raven"]
        .into_iter()
        .chain(words.flat_map(|(password, protocol)| [" ", protocol, " ", password]))
        .collect()
}

fn store(ring: &SimRing, traps: &[Vec<u8>]) {
    ring.store("trap", &traps.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

fn dead(fleet: &mut SimFleet) -> u64 {
    status(fleet, "noc").dead.held
}

#[test]
fn snmptrapd_gets_what_traps_of_all_versions_say() {
    if !has("snmptrapd") || !has("snmptrap") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let snmptrapd = Collector::snmptrapd(dir.path(), "");
    store(&ring, &traps("raven-mark"));
    store(&ring, &[b"no SNMP at all".to_vec()]);
    run(async {
        let mut fleet = one(dir.path(), &ring, snmptrapd.port, COMMUNITY, "");
        until_acked(&mut fleet, "noc", 4).await;
        let status = status(&mut fleet, "noc");
        assert_eq!((status.ack_class.as_str(), status.dead.held), ("accepted", 0));
        fleet.stop().await;
    });
    let log = snmptrapd.log();
    assert_eq!(log.matches("raven-mark").count(), 2, "version 3 was encrypted: {log}");
    assert_eq!(log.matches(".1.3.6.1.4.1.32473.1.0.1").count(), 2, "{log}");
    assert!(log.contains("192.0.2.99") && log.contains("no SNMP at all"), "{log}");
    for n in 1..=4 {
        assert_eq!(log.matches(&format!("\"arena/trap/{n}\"")).count(), 1, "{log}");
    }
}

#[test]
fn snmptrapd_gets_alerts() {
    if !has("snmptrapd") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let snmptrapd = Collector::snmptrapd(dir.path(), "");
    ring.store("alert", &[br#"{"alert":"drops","state":"firing"}"#]);
    run(async {
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        put(&mut fleet, COMMUNITY);
        let line = format!(r#"noc kind=snmp to=127.0.0.1:{} streams=["alert"] community=secret:noc"#, snmptrapd.port);
        fleet.configure("arena", &uplinks(&line));
        until_acked(&mut fleet, "noc", 1).await;
        fleet.stop().await;
    });
    let log = snmptrapd.log();
    assert!(
        log.contains(".1.3.6.1.4.1.32473.1.0.3") && log.contains("firing") && log.contains("arena/alert/1"),
        "{log}"
    );
}

#[test]
fn snmptrapd_gets_informs_of_version_3_by_every_protocol_that_it_has() {
    if !has("snmptrapd") {
        return;
    }
    for (auth, privacy, its) in [
        ("sha1", "aes128", ("SHA", "AES")),
        ("sha256", "aes128", ("SHA-256", "AES")),
        ("sha512", "aes128", ("SHA-512", "AES")),
        ("sha1", "", ("SHA", "")),
        ("", "", ("", "")),
    ] {
        let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
        let snmptrapd = Collector::snmptrapd(dir.path(), &conf(its.0, its.1));
        store(&ring, &marked(0, 50));
        run(async {
            let mut fleet = one(dir.path(), &ring, snmptrapd.port, ("user", &user(auth, privacy)), "");
            until_acked(&mut fleet, "noc", 50).await;
            fleet.stop().await;
        });
        let log = snmptrapd.log();
        assert!((0..50).all(|n| log.contains(&format!("mark-{n:06}."))), "{its:?}: {log}");
    }
}

/// snmptrapd is killed in the middle and comes back, as itself after a start more, and as another engine.
fn outage(secret: (&str, &str), config: &str) {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let mut snmptrapd = Collector::snmptrapd(dir.path(), config);
    run(async {
        let mut fleet = one(dir.path(), &ring, snmptrapd.port, secret, "ack_timeout=2s");
        store(&ring, &marked(0, 300));
        until_acked(&mut fleet, "noc", 300).await;
        for round in 1..=2 {
            store(&ring, &marked(round * 1000, 1000));
            until("some are through", || status(&mut fleet, "noc").acknowledged > round * 1000 - 600).await;
            snmptrapd.end();
            store(&ring, &marked(round * 1000 + 500_000, 1000));
            until("it is told", || status(&mut fleet, "noc").state == "retrying").await;
            if round == 1 {
                // Long enough for the live lane to jump.
                tokio::time::sleep(Duration::from_millis(2500)).await;
            }
            snmptrapd.again();
            let all = 300 + round * 2000;
            until("all are through", || status(&mut fleet, "noc").acknowledged == all).await;
        }
        assert_eq!(dead(&mut fleet), 0);
        fleet.stop().await;
    });
    let log = snmptrapd.log();
    let came: BTreeSet<u64> = log.split("mark-").filter_map(|rest| rest.get(..6)?.parse().ok()).collect();
    let stored = [0..300, 1000..2000, 501_000..502_000, 2000..3000, 502_000..503_000];
    assert_eq!(came, stored.into_iter().flatten().collect());
}

#[test]
fn nothing_is_missing_when_snmptrapd_comes_back() {
    if has("snmptrapd") {
        outage(COMMUNITY, "");
    }
}

#[test]
fn nothing_is_missing_when_snmptrapd_comes_back_as_another_engine() {
    if has("snmptrapd") {
        outage(("user", &user("sha1", "aes128")), &conf("SHA", "AES"));
    }
}

#[test]
fn nothing_is_missing_when_snmptrapd_comes_back_with_a_clock_that_began_anew() {
    if has("snmptrapd") {
        let engine = "engineID a-noc-of-ours\n";
        outage(("user", &user("sha1", "aes128")), &format!("{engine}{}", conf("SHA", "AES")));
    }
}

#[test]
fn a_wrong_password_is_told_and_nothing_is_given_up() {
    if !has("snmptrapd") {
        return;
    }
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let snmptrapd = Collector::snmptrapd(dir.path(), &conf("SHA", "AES"));
    store(&ring, &marked(0, 20));
    let right = user("sha1", "aes128");
    run(async {
        let mut fleet =
            one(dir.path(), &ring, snmptrapd.port, ("user", &right.replace("authauth", "wrongwro")), "ack_timeout=1s");
        let wrong = [
            (right.replace("authauth", "wrongwro"), "another authentication password"),
            (right.replace("privpriv", "wrongwro"), "privacy password or protocol"),
            (right.replace("\"raven\"", "\"crow\""), "no user `crow`"),
            (right.replace("sha1", "sha256"), "another authentication password or protocol for user `raven`"),
            (String::new(), "0 entries"),
            (format!("{right}{}", right.replace("raven", "crow")), "2 entries"),
            (right.replace("[[user]]", "[[user"), "not TOML"),
            (format!("{right}engine = \"8000000001020304\""), "and the user's entry is for engine 8000000001020304"),
        ];
        for (file, words) in wrong {
            put(&mut fleet, ("user", &file));
            until(words, || {
                let status = status(&mut fleet, "noc");
                status.state == "config_error" && status.last_error.is_some_and(|error| error.contains(words))
            })
            .await;
            let status = status(&mut fleet, "noc");
            assert_eq!((status.acknowledged, status.dead.held), (0, 0), "{words}");
            assert!(!status.last_error.unwrap().contains("wrongwro"), "no secret is told");
        }
        put(&mut fleet, ("user", &right));
        until_acked(&mut fleet, "noc", 20).await;
        assert_eq!(dead(&mut fleet), 0);
        fleet.stop().await;
    });
}

/// A manager's collector: community `n0c`, user `raven`.
fn access(engine: &[u8], boots: u32) -> Access {
    let user = User {
        name: "raven".to_owned(),
        engine: Engine::Approved,
        auth: Some((AuthProtocol::Sha256, Secret::password("authauthauth"))),
        priv_: None,
    };
    let local = LocalEngine::new(EngineId::ours(engine), boots, Seconds(6400), 1);
    Access::new(Communities::only(["n0c"]), Users::new([user]).unwrap(), local)
}

/// Twenty traps to a manager with this rule, until all are acknowledged or dead letters.
fn twenty(rule: impl FnMut(u64, u32) -> Answer + Send + 'static, letters: u64, more: &str) -> SimManager {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let manager = SimManager::start(access(b"noc", 3), rule);
    store(&ring, &marked(1, 20));
    run(async {
        let mut fleet = one(dir.path(), &ring, manager.port, COMMUNITY, more);
        until_acked(&mut fleet, "noc", 20).await;
        let status = status(&mut fleet, "noc");
        assert_eq!((status.acknowledged, status.dead.held), (20 - letters, letters), "{status:?}");
        assert_eq!(status.last_error.is_some(), letters > 0, "{status:?}");
        fleet.stop().await;
    });
    if letters > 0 {
        let letters = std::fs::read_to_string(dir.path().join("dead-letters/noc.trap.ndjson")).unwrap();
        assert!(letters.contains("\"seq\":7,") && letters.contains("refused 5 times: "), "{letters}");
    }
    manager
}

#[test]
fn they_go_out_in_order_and_once() {
    let told = twenty(|_, _| Answer::Usual, 0, "").told();
    assert_eq!(told.order, (1..=20).map(|n| format!("arena/trap/{n}")).collect::<Vec<_>>());
    assert!(told.times.values().all(|times| *times == 1));
    let told = twenty(|_, _| Answer::Twice, 0, "").told();
    assert!(told.times.values().all(|times| *times == 1));
}

#[test]
fn what_is_lost_goes_out_again() {
    let told = twenty(|_, before| if before < 2 { Answer::Lost } else { Answer::Usual }, 0, "").told();
    assert!(told.times.values().all(|times| *times == 3), "{told:?}");
}

#[test]
fn no_answer_counts_but_the_manager_s() {
    let told = twenty(|_, before| if before < 2 { Answer::Forged } else { Answer::Usual }, 0, "").told();
    assert!(told.times.values().all(|times| *times == 3), "{told:?}");
}

#[test]
fn a_record_that_is_refused_becomes_a_dead_letter() {
    let told = twenty(|seq, _| if seq == 7 { Answer::Error(1) } else { Answer::Usual }, 1, "").told();
    assert_eq!(told.times["arena/trap/7"], 5, "an answer that comes twice counts once");
}

#[test]
fn silence_about_one_record_is_its_refusal_while_others_are_answered() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let manager = SimManager::start(access(b"noc", 3), |seq, _| if seq == 7 { Answer::Lost } else { Answer::Usual });
    run(async {
        let mut fleet = one(dir.path(), &ring, manager.port, COMMUNITY, "ack_timeout=1s");
        store(&ring, &marked(1, 20));
        let mut stored = 20;
        until("the others are through", || status(&mut fleet, "noc").acknowledged == 19).await;
        while dead(&mut fleet) == 0 {
            stored += 1;
            store(&ring, &marked(stored, 1));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        until_acked(&mut fleet, "noc", stored).await;
        assert_eq!((dead(&mut fleet), status(&mut fleet, "noc").acknowledged), (1, stored - 1));
        fleet.stop().await;
    });
    let letters = std::fs::read_to_string(dir.path().join("dead-letters/noc.trap.ndjson")).unwrap();
    assert!(letters.contains("\"seq\":7,") && letters.contains("refused 5 times"), "{letters}");
}

#[test]
fn a_dead_letter_goes_out_again_as_often_as_an_operator_wants() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let takes = Arc::new(AtomicBool::new(false));
    let takes_it = Arc::clone(&takes);
    let manager = SimManager::start(access(b"noc", 3), move |seq, _| {
        if seq == 7 && !takes_it.load(Ordering::Relaxed) { Answer::Error(5) } else { Answer::Usual }
    });
    run(async {
        let mut fleet = one(dir.path(), &ring, manager.port, COMMUNITY, "");
        store(&ring, &marked(1, 20));
        let mut stored = 20;
        until_acked(&mut fleet, "noc", 20).await;
        assert_eq!((dead(&mut fleet), manager.told().times["arena/trap/7"]), (1, 5));
        assert_eq!(fleet.retry(&Which::default()).unwrap()[0].letters, 1);
        while manager.told().times["arena/trap/7"] < 10 {
            stored += 1;
            store(&ring, &marked(stored, 1));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(dead(&mut fleet), 1, "it was refused five times more");
        takes.store(true, Ordering::Relaxed);
        until("it is taken", || {
            // The answer to the tenth may still be on its way.
            fleet.retry(&Which::default()).unwrap();
            status(&mut fleet, "noc").dead.delivered == 1
        })
        .await;
        assert_eq!(dead(&mut fleet), 0);
        fleet.stop().await;
    });
}

#[test]
fn silence_about_all_is_the_manager_s() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let manager = SimManager::start(access(b"noc", 3), move |_, _| {
        if is_open.load(Ordering::Relaxed) { Answer::Usual } else { Answer::Lost }
    });
    store(&ring, &marked(1, 20));
    run(async {
        let mut fleet = one(dir.path(), &ring, manager.port, COMMUNITY, "ack_timeout=300ms");
        until("it was tried seven times", || manager.told().times.get("arena/trap/1").is_some_and(|n| *n >= 7)).await;
        let status = status(&mut fleet, "noc");
        assert_eq!((status.acknowledged, status.dead.held), (0, 0));
        let told = status.last_error.unwrap();
        assert!(told.contains("acknowledged nothing for") && told.contains("does not know our community"), "{told}");
        open.store(true, Ordering::Relaxed);
        until_acked(&mut fleet, "noc", 20).await;
        assert_eq!(dead(&mut fleet), 0);
        fleet.stop().await;
    });
}

#[test]
fn a_manager_that_was_started_anew_or_is_another_is_found_again() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let manager = SimManager::start(access(b"noc", 3), |_, _| Answer::Usual);
    run(async {
        let mut fleet = one(dir.path(), &ring, manager.port, ("user", &user("sha256", "")), "");
        let mut stored = 0;
        for next in [None, Some(access(b"noc", 4)), Some(access(b"another", 1)), Some(access(b"noc", 5))] {
            if let Some(next) = next {
                manager.becomes(next);
            }
            store(&ring, &marked(stored, 20));
            stored += 20;
            until_acked(&mut fleet, "noc", stored).await;
        }
        assert_eq!(dead(&mut fleet), 0);
        fleet.stop().await;
    });
    assert_eq!(manager.told().order.len(), 80);
}

#[test]
fn a_start_more_of_the_manager_costs_no_attempt() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let manager = SimManager::start(access(b"noc", 3), |_, _| Answer::Usual);
    run(async {
        let mut fleet = one(dir.path(), &ring, manager.port, ("user", &user("sha256", "")), "");
        store(&ring, &marked(1, 1));
        until_acked(&mut fleet, "noc", 1).await;
        manager.becomes(access(b"noc", 4));
        store(&ring, &marked(2, 1));
        until_acked(&mut fleet, "noc", 2).await;
        assert_eq!(status(&mut fleet, "noc").last_error, None, "its Report says its clock, signed");
        fleet.stop().await;
    });
}

#[test]
fn the_next_address_is_tried_where_nobody_answers() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let manager = SimManager::start(access(b"noc", 3), |_, _| Answer::Usual);
    store(&ring, &marked(1, 20));
    run(async {
        let mut fleet = fleet(&ring, &MemoryCursors::default(), dir.path());
        put(&mut fleet, COMMUNITY);
        let (nobody, port) = (free_port(), manager.port);
        let line =
            format!(r#"noc kind=snmp to=127.0.0.1:{nobody},127.0.0.1:{port} streams=["trap"] community=secret:noc"#);
        fleet.configure("arena", &uplinks(&line));
        until_acked(&mut fleet, "noc", 20).await;
        fleet.stop().await;
    });
}

#[test]
fn what_no_datagram_holds_becomes_a_dead_letter() {
    let (dir, ring) = (tempfile::tempdir().unwrap(), SimRing::new());
    let manager = SimManager::start(access(b"noc", 3), |_, _| Answer::Usual);
    store(&ring, &[vec![b'x'; 65_000], vec![b'y'; 65_500], b"next".to_vec()]);
    run(async {
        let mut fleet = one(dir.path(), &ring, manager.port, COMMUNITY, "");
        until_acked(&mut fleet, "noc", 3).await;
        assert_eq!(dead(&mut fleet), 1);
        fleet.stop().await;
    });
    assert_eq!(manager.told().order, ["arena/trap/1", "arena/trap/3"]);
    let letters = std::fs::read_to_string(dir.path().join("dead-letters/noc.trap.ndjson")).unwrap();
    assert!(letters.contains("and a datagram has 65507 at most"));
}
