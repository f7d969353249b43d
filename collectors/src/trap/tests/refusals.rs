//! What is refused, and what an operator is told to let it in.

use super::{Bench, config, seed};

#[test]
fn wrong_credentials_are_refused_counted_and_kept() {
    let mut bench = Bench::ready();
    bench.configure(|config| config.communities = vec!["public".to_owned()]);
    bench.send(&[
        seed!("trap-v2c"),
        seed!("bad-community"),
        seed!("bad-v3-forged-aes"),
        seed!("bad-v3-user"),
        seed!("trap-v3-md5"),
        seed!("bad-v3-level"),
        seed!("bad-get"),
        seed!("bad-cut"),
        b"<189>Oct 11 22:14:15 sw1 %LINK-3-UPDOWN: down",
    ]);
    assert_eq!(bench.verdicts(), [false, true, true, true, true, true, true, true, true]);
    let report = bench.report();
    let refused: Vec<_> = report.refused.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    assert_eq!(refused.iter().map(|(_, count)| count).sum::<u64>(), 8, "{refused:?}");
    for (reason, count) in [("wrong_community", 1), ("wrong_digest", 1), ("unknown_engine", 3), ("malformed", 2)] {
        assert!(refused.contains(&(reason, count)), "{reason} in {refused:?}");
    }
    assert!(bench.item("wrong_community").remedy.ends_with("is not in collect.trap.communities"));
    assert!(bench.item("unknown_engine").remedy.contains("adding it to collect.trap.engines"));
    assert!(bench.item("wrong_digest").remedy.starts_with("user `aes` of engine"));
    assert!(bench.item("not_a_notification").remedy.starts_with("an SNMP GetRequest"));
    let all = format!("{report:?}");
    assert!(!all.contains("maplesyrup") && !all.contains("pancakes"));
    assert!(!all.contains("7075626c6963"), "`public` is the right one, and is not among the bytes shown");
}

#[test]
fn what_is_no_snmp_at_all_gets_a_hint() {
    let mut bench = Bench::ready();
    bench.send(&[b"<189>Oct 11 22:14:15 sw1 %LINK-3-UPDOWN: down"]);
    let item = bench.item("malformed");
    assert!(item.remedy.starts_with("this is syslog: send it to a port of collect.syslog.udp"));
    assert!(item.first_bytes.starts_with("3c3138393e"));
    assert_eq!((item.stream.as_str(), item.source.as_str(), item.count), ("trap", "127.0.0.1", 1));
}

#[test]
fn an_engine_is_let_in_once_it_is_approved() {
    let mut bench = Bench::ready();
    let trap = seed!("trap-v3-md5");
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [true]);
    let item = bench.item("unknown_engine");
    assert!(item.remedy.contains("it knows the secret of user `md5`"), "{}", item.remedy);
    let engine = bench.report().engines[0].engine_id.clone();
    assert!(item.remedy.contains(&engine));
    bench.configure(|config| config.engines = vec![engine.clone()]);
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [false]);
    // Read anew, the users keep the approval.
    bench.desk.read_users(super::USERS);
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [false]);
    bench.configure(|config| config.engines.clear());
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [true]);
    let engine = &bench.report().engines[0];
    assert_eq!((engine.accepted, engine.refused), (2, 2));
}

#[test]
fn users_change_while_it_runs_and_a_mistake_leaves_them() {
    let mut bench = Bench::ready();
    let trap = seed!("trap-v3-aes");
    bench.desk.read_users("[[user]]\nname = \"aes\"\nauth = \"sha256\"\nauth_password = \"short\"");
    assert!(bench.item("users_file").remedy.contains("line 1: SNMP user `aes`: a password has at least 8 bytes"));
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [false]);
    bench.desk.read_users("");
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [true]);
    assert!(bench.report().inbox.iter().all(|item| item.reason != "users_file"));
    bench.desk.read_users(super::USERS);
    bench.configure(|config| config.users = None);
    bench.send(&[trap]);
    assert_eq!(bench.verdicts(), [true]);
}

#[test]
fn a_storm_is_cut_and_counted() {
    let mut bench = Bench::ready();
    bench.configure(|config| config.storm = 100);
    for _ in 0..5 {
        bench.send(&[seed!("trap-v2c"); 50]);
    }
    assert_eq!(bench.verdicts().len(), 100);
    let report = bench.report();
    assert_eq!((report.dropped["storm"], report.inbox[0].count), (150, 150));
    assert!(bench.item("storm").remedy.contains("more than 100 notifications in a second"));
    bench.pass(1);
    bench.configure(|config| config.storm = 1000);
    bench.send(&[seed!("trap-v2c"); 200]);
    assert_eq!(bench.verdicts().len(), 200);
}

#[test]
fn lists_that_are_empty_let_everybody_in() {
    let mut bench = Bench::new(config());
    bench.send(&[seed!("bad-community"), seed!("trap-v2c")]);
    assert_eq!(bench.verdicts(), [false, false]);
}
