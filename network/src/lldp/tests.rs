#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream as Plain;

/// What systemd-networkd 257.13 of the image answered about link 2 of a network namespace, with four neighbours behind
/// it: lldpd 1.0.16, and three that say what they should not.
const ANSWER: &str = include_str!("answer.json");

/// A connection whose first end does not block.
fn pair() -> (OwnedFd, Plain) {
    let (ours, theirs) = Plain::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours.into(), theirs)
}

/// What is made of what the other end of a connection says to each question, in pieces.
fn asked(links: &[u32], pieces: &[&[u8]]) -> Neighbours {
    let (ours, mut theirs) = pair();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for link in links {
                let mut heard = vec![0; question(*link).len()];
                // Who asks may have had enough.
                if theirs.read_exact(&mut heard).is_err() {
                    return;
                }
                assert_eq!(heard, question(*link).as_bytes());
                let _ = pieces.iter().try_for_each(|piece| theirs.write_all(piece));
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(ask(ours, links.to_vec()))
    })
}

fn unknown(neighbour: &Neighbour) -> &str {
    match neighbour {
        Neighbour::Unknown(why) => why,
        known => panic!("{known:?}"),
    }
}

fn heard(neighbour: Neighbour) -> Heard {
    match neighbour {
        Neighbour::Heard(heard) => heard,
        other => panic!("{other:?}"),
    }
}

/// An answer about link 2 with one neighbour.
fn one(said: &str) -> Vec<u8> {
    format!(r#"{{"parameters":{{"Neighbors":[{{"InterfaceIndex":2,"Neighbors":[{said}]}}]}}}}"#).into_bytes()
}

#[test]
fn the_switch_is_shown_of_those_that_networkd_heard() {
    let pieces: [&[u8]; 3] = [&ANSWER.as_bytes()[..100], &ANSWER.as_bytes()[100..], b"\0"];
    let expected = Heard {
        system: Some("Bühne ?2".to_owned()),
        chassis: Some("192.0.2.9".to_owned()),
        port: Some("02:00:00:00:00:03".to_owned()),
        description: None,
        others: 3,
    };
    assert_eq!(asked(&[2], &pieces), [(2, Neighbour::Heard(expected))].into());
}

#[test]
fn what_networkd_escaped_is_text_again_without_controls() {
    let answer: serde_json::Value = serde_json::from_str(ANSWER).unwrap();
    let all = answer["parameters"]["Neighbors"][0]["Neighbors"].as_array().unwrap();
    let of = |chassis: &str| {
        let said = all.iter().find(|said| said["ChassisID"].as_str().unwrap().starts_with(chassis)).unwrap();
        heard(read(2, &one(&said.to_string())))
    };
    let rude = of("02:00:00:00:00:01");
    assert_eq!((rude.system, rude.port), (Some("sw?]0;owned?".to_owned()), Some("Gi1?[31m/0/7".to_owned())));
    assert_eq!(rude.description, Some("desc?[2J??\"x\" \\y".to_owned()));
    let bytes = of("loc");
    assert_eq!(
        (bytes.system, bytes.chassis, bytes.port),
        (Some("na?me".to_owned()), Some("loc??".to_owned()), Some("???".to_owned()))
    );
    let lldpd = all.iter().find(|said| said["SystemName"] == "sw-core-1").unwrap();
    let lldpd = heard(read(2, &one(&lldpd.to_string())));
    assert_eq!((lldpd.port, lldpd.description), (Some("Gi1/0/7".to_owned()), Some("to the telemetry box".to_owned())));
}

#[test]
fn each_link_is_asked_about_by_itself_and_more_than_64_are_not() {
    let links: Vec<u32> = (1..=66).collect();
    let neighbours = asked(&links, &[ANSWER.as_bytes(), b"\0"]);
    assert_eq!(neighbours.len(), 66);
    // The answer is about link 2.
    assert_eq!(neighbours[&1], Neighbour::Nobody);
    assert!(matches!(neighbours[&2], Neighbour::Heard(_)));
    assert_eq!(unknown(&neighbours[&65]), "only 64 interfaces are asked about");
}

#[test]
fn why_there_is_no_answer_is_said() {
    assert_eq!(asked(&[2], &[&one(""), b"\0"])[&2], Neighbour::Nobody);
    let why = |pieces: &[&[u8]]| unknown(&asked(&[2], pieces)[&2]).to_owned();
    let refused = why(&[b"{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"x\"}}\0"]);
    assert_eq!(refused, "systemd-networkd refuses to tell: org.varlink.service.MethodNotFound");
    assert_eq!(why(&[b"{\"parameters\""]), "systemd-networkd: the answer broke off");
    assert!(why(&[b"[]\0"]).starts_with("systemd-networkd: an answer that is none"));
    assert_eq!(why(&[&vec![b' '; 3 << 20]]), "systemd-networkd: an answer of over 2 MiB");
    // The first answer counts although the connection ends before the second.
    let (ours, mut theirs) = pair();
    theirs.write_all(ANSWER.as_bytes()).unwrap();
    theirs.write_all(b"\0").unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let neighbours = runtime.block_on(ask(ours, vec![2, 3]));
    assert!(matches!(neighbours[&2], Neighbour::Heard(_)));
    assert_eq!(unknown(&neighbours[&3]), "systemd-networkd: the answer broke off");
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (ours, _silent) = pair();
    let neighbours = runtime.block_on(ask(ours, vec![2]));
    assert_eq!(unknown(&neighbours[&2]), "systemd-networkd does not answer within 3 s");
}

#[test]
fn a_long_text_is_cut_and_an_empty_one_is_none() {
    let said = format!(r#"{{"SystemName":"{}","PortID":"","ChassisID":" "}}"#, "\\\\303\\\\274".repeat(255));
    let heard = heard(read(2, &one(&said)));
    assert_eq!(heard.system, Some(format!("{}...", "ü".repeat(97))));
    assert_eq!((heard.port, heard.chassis), (None, None));
}

#[test]
fn a_flood_of_neighbours_takes_no_memory_for_each() {
    let many = vec!["{}"; 600_000].join(",");
    assert_eq!(heard(read(2, &one(&many))).others, NEIGHBOURS_MAX - 1);
}

proptest! {
    #[test]
    fn nothing_that_is_said_ends_the_role(at in 0..ANSWER.len(), byte in any::<u8>(), cut in 0..ANSWER.len()) {
        let mut bytes = ANSWER.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = read(2, &bytes);
        let _ = read(2, &bytes[..cut]);
    }

    #[test]
    fn no_text_has_what_a_terminal_obeys(said in "(\\\\[0-9abn\\\\]{1,3}|\\PC|[\\x00-\\x{a0}]){0,80}") {
        let shown = text(&said).unwrap_or_default();
        prop_assert!(!shown.chars().any(is_unsafe) && shown.chars().count() <= TEXT_MAX, "{shown:?}");
    }
}
