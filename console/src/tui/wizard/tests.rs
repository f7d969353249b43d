#![allow(clippy::unwrap_used)]
use super::*;
use crate::tui::question::Kind;
use proptest::prelude::*;

const TEXT: &str = "# factory\nschema = 1\n\n[site]\nname = \"raven\"\n";

fn links() -> Vec<Link> {
    let link = |name: &str, carrier| Link {
        name: name.into(),
        mac: "52:54:00:12:34:56".into(),
        carrier: Some(carrier),
        state: if carrier { "up" } else { "no link" }.into(),
        ..Link::default()
    };
    vec![link("eth0", false), link("eth1", true)]
}

fn wizard() -> Wizard {
    Wizard::new(Surroundings { links: links(), zones: vec!["UTC".into(), "Europe/Berlin".into()], text: TEXT.into() })
}

/// Answers a line to each question; what the last led to.
fn say(wizard: &mut Wizard, lines: &[&str]) -> Progress {
    let mut progress = Progress::Asking;
    for line in lines {
        assert_eq!(progress, Progress::Asking, "`{line}` was asked for no more");
        let question = wizard.question();
        progress = match question.answer(line) {
            Ok(answer) => wizard.answer(&answer),
            Err(why) => panic!("`{line}` to `{}`: {why}", question.title),
        };
    }
    progress
}

fn applied(progress: Progress) -> (String, String) {
    match progress {
        Progress::Apply { text, password } => (text, password.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn with_dhcp_twelve_times_enter_is_more_than_enough() {
    let mut wizard = wizard();
    let mut keys = 0;
    let text = loop {
        keys += 1;
        if let Progress::Apply { text, .. } = say(&mut wizard, &[""]) {
            break text;
        }
    };
    // And one to begin, one to keep it.
    assert_eq!(keys + 2, 12, "{:?}", wizard.before);
    assert!(
        text.starts_with("# factory\nschema = 1\n") && text.contains("[network.link.eth1]\ndhcp = \"both\""),
        "{text}"
    );
    let mut short = self::wizard();
    assert!(matches!(say(&mut short, &["2", ""]), Progress::Apply { .. }));
}

#[test]
fn every_question_of_a_static_box_is_asked_and_every_answer_written() {
    let mut wizard = wizard();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvzVXJpRDzWSkZMVGrLnZYyJ8iD1rUZtWmJHcUQ4x2T me";
    let lines = [
        "1",
        "arena",
        "berlin",
        "1",
        "4",
        "10.0.0.2/24",
        "",
        "2001:db8::2/64",
        "fe80::1",
        "20",
        "10.0.0.53 2001:db8::53",
        "ntp.example.org",
        "2",
        "noc.example.org:2514",
        "correct horse",
        "correct horse",
        key,
        "1",
    ];
    let (text, password) = applied(say(&mut wizard, &lines));
    assert_eq!(password, "correct horse");
    assert!(!text.contains("correct horse"));
    assert_eq!(raven_model::config::Config::from_toml(&text, "new").err(), None);
    for part in [
        "name = \"arena\"",
        "timezone = \"Europe/Berlin\"",
        "ntp = [\"ntp.example.org\"]",
        "dns = [\"10.0.0.53\", \"2001:db8::53\"]",
        "[network.link.eth0]\ndhcp = \"none\"\n",
        "[network.link.vlan20]\nvlan = 20\nparent = \"eth0\"\ndhcp = \"none\"\naddresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]\ngateways = [\"10.0.0.1\", \"fe80::1\"]",
        "[uplink.noc]\nkind = \"relp\"\nto = \"noc.example.org:2514\"",
        &format!("ssh_keys = [\"{key}\"]"),
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn a_bad_answer_is_said_and_asked_again() {
    let mut wizard = wizard();
    say(&mut wizard, &["1", "a_b"]);
    assert_eq!(wizard.step(), Step::Name);
    assert!(wizard.question().error.unwrap().contains("`a_b` is no host name"));
    say(&mut wizard, &["arena"]);
    assert_eq!((wizard.step(), wizard.question().error), (Step::Zone, None));
}

#[test]
fn two_passwords_that_differ_are_asked_for_again() {
    let mut wizard = wizard();
    say(&mut wizard, &["1", "", "", "", "", "", "", "correct horse", "correct house"]);
    assert_eq!(wizard.step(), Step::Password);
    assert!(wizard.question().error.unwrap().contains("not the same"));
    say(&mut wizard, &["correct horse", "correct horse"]);
    assert_eq!(wizard.step(), Step::Key);
}

#[test]
fn a_single_answer_is_changed_from_the_review_and_the_review_comes_back() {
    let mut wizard = wizard();
    say(&mut wizard, &["2"]);
    let Kind::Choice { options, .. } = wizard.question().kind else { panic!("no choice") };
    assert!(options[1].contains("Name") && options[3].contains("eth1: DHCP"), "{options:?}");
    say(&mut wizard, &["2", "stadium"]);
    assert_eq!(wizard.step(), Step::Review);
    // What hangs on the interface is asked with it.
    say(&mut wizard, &["4", "1", "4", "192.0.2.7/24", "none", "none", "", "192.0.2.53"]);
    assert_eq!(wizard.step(), Step::Review);
    let (text, _) = applied(say(&mut wizard, &[""]));
    assert!(text.contains("name = \"stadium\"") && text.contains("addresses = [\"192.0.2.7/24\"]"), "{text}");
    assert!(!text.contains("gateways"), "{text}");
}

#[test]
fn back_leads_to_the_question_before_and_out_of_the_first() {
    let mut wizard = wizard();
    say(&mut wizard, &["1", "arena", "<"]);
    assert_eq!(wizard.step(), Step::Name);
    assert_eq!(wizard.question().kind, Kind::Line { preset: "arena".into(), is_secret: false });
    assert_eq!(say(&mut wizard, &["<", "<"]), Progress::Left);
}

#[test]
fn a_box_without_addresses_is_not_to_be_had_by_the_static_way() {
    let mut wizard = wizard();
    say(&mut wizard, &["1", "", "", "1", "4", "none", "none"]);
    assert_eq!(wizard.step(), Step::Address6);
    assert!(wizard.question().error.unwrap().contains("an IPv4 or an IPv6 address is needed"));
}

#[test]
fn what_ravend_refuses_is_said_at_the_review() {
    let mut wizard = wizard();
    say(&mut wizard, &["1", ""]);
    wizard.refused("line 3: no such key");
    assert_eq!((wizard.step(), wizard.question().error.as_deref()), (Step::Review, Some("line 3: no such key")));
}

#[test]
fn a_box_that_was_set_up_is_asked_with_what_it_has() {
    let text = "schema = 1\n[site]\nname = \"arena\"\n[network.link.eth1]\naddresses = [\"192.0.2.7/24\"]\ngateways = [\"192.0.2.1\"]\n";
    let mut wizard = Wizard::new(Surroundings { links: links(), zones: Vec::new(), text: text.into() });
    let (new, _) = applied(say(&mut wizard, &["2", "1"]));
    assert!(new.starts_with(text.strip_suffix('\n').unwrap()), "{new}");
    let mut wizard = Wizard::new(Surroundings { links: Vec::new(), zones: Vec::new(), text: text.into() });
    let (new, _) = applied(say(&mut wizard, &["1", "", "", "", "", "", "", ""]));
    assert!(new.contains("addresses = [\"192.0.2.7/24\"]"), "{new}");
}

proptest! {
    #[test]
    fn no_order_of_answers_panics_and_what_is_applied_is_toml(
        lines in prop::collection::vec("<|[0-9]{1,2}|192\\.0\\.2\\.[0-9]/24|none||arena|correct horse|\\PC{0,12}", 0..60),
    ) {
        let mut wizard = wizard();
        for line in lines {
            let Ok(answer) = wizard.question().answer(&line) else { continue };
            match wizard.answer(&answer) {
                Progress::Asking => {}
                Progress::Left => break,
                Progress::Apply { text, .. } => {
                    prop_assert!(text.parse::<toml_edit::DocumentMut>().is_ok());
                }
            }
        }
    }
}
