//! The console's pages and dialogs as a state machine, with a box in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::facts::{Fake, Told, quiet as facts};
use raven_console::tui::console::{Console, Dialog, IDLE, InstallStep, View};
use raven_console::tui::pages::Tab;
use raven_console::tui::plain::Lines;
use raven_console::tui::wizard::Step;
use raven_model::install::Progress;
use raven_model::report::StickStatus;
use std::time::{Duration, Instant};

/// Answers each question with a line.
fn say(console: &mut Console, fake: &mut Fake, now: Instant, lines: &[&str]) {
    for line in lines {
        let question = console.question(now).unwrap_or_else(|| panic!("nothing is asked, but `{line}` answered"));
        console.answer(&question.answer(line).unwrap(), &facts(), fake, now);
    }
}

fn notice(console: &Console) -> &str {
    console.notice.as_ref().map_or("", |row| row.text.as_str())
}

#[test]
fn a_new_box_is_set_up_without_a_login_and_asks_for_its_password_from_then_on() {
    let (mut fake, now) = (Fake::fresh(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    assert_eq!(console.invitation(), "Enter: set up this box");
    console.enter(&facts(), &mut fake, now);
    say(
        &mut console,
        &mut fake,
        now,
        &["1", "arena", "UTC", "1", "1", "", "1", "correct horse", "correct horse", "", "1"],
    );
    assert_eq!(fake.done, ["put, Some(60)"]);
    let question = console.question(now + Duration::from_secs(3)).unwrap();
    assert!(question.text.last().unwrap().ends_with("57 s"), "{question:?}");
    say(&mut console, &mut fake, now, &["1"]);
    assert_eq!(fake.done, ["put, Some(60)", "confirm", "password"]);
    assert_eq!(
        (console.view, notice(&console)),
        (View::Tab(Tab::Status), "the settings are kept and the password is set")
    );
    console.log_out(&mut fake);
    console.enter(&facts(), &mut fake, now);
    assert!(matches!(console.dialog, Some(Dialog::Login { .. })));
}

#[test]
fn settings_that_are_not_kept_are_said_to_be_gone() {
    let (mut fake, now) = (Fake::fresh(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["2", "1"]);
    console.tick(&mut fake, now + Duration::from_secs(59));
    assert!(console.dialog.is_some());
    console.tick(&mut fake, now + Duration::from_mins(1));
    assert!(console.dialog.is_none() && notice(&console).contains("from before are in force again"));
    assert_eq!(fake.done, ["put, Some(60)"]);
}

#[test]
fn settings_are_taken_back_at_once_when_asked_for_and_never_by_the_way_back() {
    let (mut fake, now) = (Fake::fresh(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["2", "1", "<"]);
    assert!(matches!(console.dialog, Some(Dialog::Keep { .. })));
    say(&mut console, &mut fake, now, &["2"]);
    assert_eq!(fake.done, ["put, Some(60)", "revert 4"]);
}

#[test]
fn a_wrong_password_is_answered_with_what_the_box_says() {
    let (mut fake, now) = (Fake::owned(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    assert_eq!(console.invitation(), "Enter: log in");
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["guess"]);
    assert!(console.question(now).unwrap().error.unwrap().contains("next attempt in 2 s"));
    assert_eq!(console.view, View::Front);
    say(&mut console, &mut fake, now, &["correct horse"]);
    assert_eq!((console.view, console.dialog.is_none()), (View::Tab(Tab::Status), true));
}

#[test]
fn who_is_idle_for_ten_minutes_is_logged_out() {
    let (mut fake, now) = (Fake::owned(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["correct horse"]);
    console.actions(&facts(), &fake);
    console.tick(&mut fake, now + IDLE / 2);
    assert!(fake.is_in);
    console.tick(&mut fake, now + IDLE);
    assert!(!fake.is_in && console.dialog.is_none() && console.view == View::Front);
}

#[test]
fn nothing_goes_down_by_enter_alone() {
    let (mut fake, now) = (Fake::owned(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["correct horse"]);
    for lines in [["5", ""], ["6", ""], ["", ""]] {
        console.actions(&facts(), &fake);
        say(&mut console, &mut fake, now, &lines[..if lines[0].is_empty() { 1 } else { 2 }]);
    }
    assert!(fake.done.is_empty(), "{:?}", fake.done);
    console.actions(&facts(), &fake);
    say(&mut console, &mut fake, now, &["5", "2"]);
    assert_eq!((fake.done.as_slice(), notice(&console)), (["Reboot".to_owned()].as_slice(), "it goes down now"));
}

#[test]
fn everything_is_discarded_only_when_the_name_of_the_box_is_typed() {
    let (mut fake, now) = (Fake::owned(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["correct horse"]);
    console.actions(&facts(), &fake);
    say(&mut console, &mut fake, now, &["8", ""]);
    assert!(console.dialog.is_none() && fake.done.is_empty());
    console.actions(&facts(), &fake);
    say(&mut console, &mut fake, now, &["8", "yes"]);
    assert!(console.question(now).unwrap().error.unwrap().contains("type its name: arena"));
    assert!(fake.done.is_empty());
    say(&mut console, &mut fake, now, &["arena"]);
    assert_eq!(fake.done, ["factory reset"]);
    assert!(console.dialog.is_none() && notice(&console).contains("it starts anew now"));
}

#[test]
fn what_a_stick_offers_is_taken_from_the_menu_and_has_to_be_kept() {
    let (mut fake, now, mut facts) = (Fake::owned(), Instant::now(), facts());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts, &mut fake, now);
    say(&mut console, &mut fake, now, &["correct horse"]);
    let has_offer =
        |console: &Console| format!("{:?}", console.question(now)).contains("configuration of the USB stick");
    console.actions(&facts, &fake);
    assert!(!has_offer(&console));
    facts.status.as_mut().unwrap().stick =
        Some(StickStatus { said: "a configuration is on it".into(), is_offered: true });
    console.actions(&facts, &fake);
    assert!(has_offer(&console));
    // Enter alone takes nothing.
    say(&mut console, &mut fake, now, &["4", ""]);
    assert!(console.dialog.is_none() && fake.done.is_empty());
    console.actions(&facts, &fake);
    say(&mut console, &mut fake, now, &["4", "2"]);
    assert!(matches!(console.dialog, Some(Dialog::Keep { .. })));
    say(&mut console, &mut fake, now, &["1"]);
    assert_eq!(fake.done, ["stick, Some(60)", "confirm"]);
}

#[test]
fn a_support_bundle_goes_onto_the_stick_and_what_came_of_it_is_told() {
    let (mut fake, now) = (Fake::owned(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["correct horse"]);
    console.actions(&facts(), &fake);
    say(&mut console, &mut fake, now, &["7"]);
    assert_eq!(fake.done, ["support"]);
    assert!(console.dialog.is_none() && notice(&console).contains("is on the stick (sda1)"));
}

#[test]
fn the_password_is_changed_when_it_was_typed_twice_the_same() {
    let (mut fake, now) = (Fake::owned(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["correct horse"]);
    console.actions(&facts(), &fake);
    say(
        &mut console,
        &mut fake,
        now,
        &["3", "short", "battery staple", "battery stable", "battery staple", "battery staple"],
    );
    assert_eq!((fake.password.as_deref(), fake.done.len()), (Some("battery staple"), 1));
}

#[test]
fn what_the_box_refuses_is_said_in_the_wizard() {
    let (mut fake, now) = (Fake { refuses_put: true, ..Fake::fresh() }, Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["2", "1"]);
    assert_eq!(console.question(now).unwrap().error.as_deref(), Some("line 9: no"));
    assert!(matches!(&console.dialog, Some(Dialog::Wizard(wizard)) if wizard.step() == Step::Review));
}

#[test]
fn a_medium_is_installed_in_eight_keys_and_the_box_starts_from_the_disk() {
    let (mut fake, now) = (Fake::medium(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["", "", "sda"]);
    assert_eq!(fake.done, ["install, sda"]);
    fake.progress = Some(Progress { disk: "sda".into(), done: 30 << 20, total: 60 << 20, ..Progress::default() });
    console.tick(&mut fake, now);
    let question = console.question(now).unwrap();
    assert_eq!(question.text, ["50 % of 60MiB written to sda"]);
    // An impatient Enter starts nothing.
    say(&mut console, &mut fake, now, &[""]);
    assert_eq!(fake.done, ["install, sda"]);
    fake.progress.as_mut().unwrap().finished = true;
    console.tick(&mut fake, now);
    assert_eq!(console.question(now).unwrap().title, "Installed");
    say(&mut console, &mut fake, now, &[""]);
    assert_eq!(fake.done, ["install, sda", "Reboot"]);
    assert!(console.dialog.is_none());
}

#[test]
fn nothing_is_installed_to_a_disk_whose_name_was_not_typed() {
    let (mut fake, now) = (Fake::medium(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["1", "1", "sdb"]);
    assert!(console.question(now).unwrap().error.unwrap().contains("type its name: sda"));
    say(&mut console, &mut fake, now, &[""]);
    assert!(fake.done.is_empty() && matches!(console.dialog, Some(Dialog::Install(InstallStep::Begin))));
    // The disk that cannot be taken is not among those to choose from.
    say(&mut console, &mut fake, now, &["1", "2"]);
    assert!(fake.done.is_empty() && matches!(console.dialog, Some(Dialog::Install(InstallStep::Begin))));
    say(&mut console, &mut fake, now, &["1", "1", "sda"]);
    fake.progress.as_mut().unwrap().failed = Some("the disk: Input/output error (os error 5)".to_owned());
    console.tick(&mut fake, now);
    let question = console.question(now).unwrap();
    assert!(question.title == "Not installed" && question.text[0].contains("Input/output error"), "{question:?}");
}

#[test]
fn a_medium_with_a_configuration_built_in_offers_to_be_installed_and_asks_for_no_set_up() {
    let (mut fake, now) = (Fake::medium(), Instant::now());
    fake.text = include_str!("../../docs/venue.toml").to_owned();
    let mut console = Console::new(&mut fake, now);
    assert_eq!(console.invitation(), "Enter: install, or log in");
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["3"]);
    assert!(console.dialog.is_none() && console.view == View::Tab(Tab::Status));
    console.log_out(&mut fake);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["1", "1", "sda"]);
    assert_eq!(fake.done, ["install, sda"]);
}

#[test]
fn a_slot_that_was_given_up_is_told_of_on_the_page_that_everybody_sees() {
    use raven_console::tui::pages::{Tone, front, health};
    use raven_model::update::{SlotView, Slots};
    let mut facts = facts();
    let why = Some("before any service started".to_owned());
    let b = SlotView { name: "B".to_owned(), given_up: why, ..SlotView::default() };
    facts.status.as_mut().unwrap().slots = Some(Slots { slots: vec![b], ..Slots::default() });
    let told = "slot B was given up: before any service started";
    assert_eq!(health(&facts), (Tone::Warn, vec![told.to_owned()]));
    assert!(front(&facts).iter().any(|row| row.text.contains(told)));
}

#[test]
fn a_test_is_chosen_made_stopped_and_made_again_and_ends_with_its_page() {
    let (mut fake, now) = (Fake::owned(), Instant::now());
    fake.text.push_str("[system]\nntp = [\"ntp.example.org\"]\n[network]\ndns = [\"192.0.2.54\"]\n");
    let ended = |fake: &Fake| fake.ended.load(std::sync::atomic::Ordering::Relaxed);
    let mut console = Console::new(&mut fake, now);
    console.enter(&facts(), &mut fake, now);
    say(&mut console, &mut fake, now, &["correct horse"]);
    console.show(Tab::Test);
    console.choose_test(&facts(), &mut fake);
    // All that is offered, as routes say, without an end.
    say(&mut console, &mut fake, now, &["1", "1", "1", "0"]);
    assert!(console.testing.is_running() && ended(&fake) == 0);
    let order = fake.done.pop().unwrap();
    for part in ["192.0.2.1", "noc.example.org", "192.0.2.53", "192.0.2.54", "127.0.0.1", "1000000", "\"each\":true"] {
        assert!(order.contains(part), "{part}: {order}");
    }
    console.testing.stop();
    assert!(!console.testing.is_running() && ended(&fake) == 1);
    console.test_again(&mut fake);
    assert_eq!((fake.done.pop().as_ref(), ended(&fake)), (Some(&order), 1));
    // Another one ends it, and so does whoever leaves.
    console.choose_test(&facts(), &mut fake);
    say(&mut console, &mut fake, now, &["8", "", ""]);
    assert!(fake.done.pop().unwrap().contains("ntp.example.org") && ended(&fake) == 2);
    console.tick(&mut fake, now + IDLE);
    assert!(!console.testing.is_running() && ended(&fake) == 3 && console.view == View::Front);
    let rows = console.testing.rows(&facts(), raven_console::tui::testing::Room::LINES);
    assert!(rows.iter().all(|row| !row.text.contains("192.0.2.1")), "{rows:?}");
}

#[test]
fn a_test_that_is_over_at_once_is_told_in_lines_all_the_same() {
    let mut fake = Fake::owned();
    fake.told = vec![Told::Failed("you may not")];
    // ntp, of a server that is typed: the last one offered.
    let (mut said, input) = (Vec::new(), "3\n1\n8\n2\n\n1\n0\n0\n");
    let mut lines = Lines { input: input.as_bytes(), output: &mut said, stops: None };
    assert_eq!(lines.run(&mut fake, &mut facts).unwrap(), 0);
    let said = String::from_utf8(said).unwrap();
    assert_eq!(said.matches("! FAIL: you may not").count(), 1, "{said}");
}

#[test]
fn what_makes_no_sense_as_a_test_is_said_before_it_is_made() {
    let (mut fake, now) = (Fake::owned(), Instant::now());
    let mut console = Console::new(&mut fake, now);
    // Without a login: ravend says who may.
    console.show_tests();
    for (lines, why) in [
        (&["5", "2", "noc"][..], "HOST:PORT"),
        (&["7", "2", "ftp://x"], "begins with http"),
        (&["2", "5", "a b"], "one at a time"),
        (&["1", "6", "a", "1", "many"], "none of 0 to 1000000"),
        (&["9", "1", "1", "1", "0"], "none of 1 to 3600"),
    ] {
        console.choose_test(&facts(), &mut fake);
        say(&mut console, &mut fake, now, lines);
        let error = console.question(now).unwrap().error.unwrap_or_default();
        assert!(error.contains(why), "{lines:?}: {error}");
        // All the way back.
        while console.dialog.is_some() {
            say(&mut console, &mut fake, now, &["<"]);
        }
    }
    assert!(fake.done.is_empty() && console.view == View::Test, "{:?}", fake.done);
}

#[test]
fn a_tunnel_is_tested_through_itself_and_this_box_by_no_interface() {
    let (mut fake, now, mut facts) = (Fake::owned(), Instant::now(), facts());
    facts.status.as_mut().unwrap().vpn[0].probe = Some([10, 8, 77, 1].into());
    let mut console = Console::new(&mut fake, now);
    console.show_tests();
    let mut choose = |lines: &[&str]| {
        console.choose_test(&facts, &mut fake);
        for line in lines {
            let question = console.question(now).unwrap();
            console.answer(&question.answer(line).unwrap(), &facts, &mut fake, now);
        }
        assert!(console.dialog.is_none(), "{:?}", console.question(now));
        fake.done.pop().unwrap()
    };
    // The gateway, the destination, the far end.
    let order = choose(&["3", "3", ""]);
    assert!(order.contains("10.8.77.1") && order.contains("\"interface\":\"vpn-noc\""), "{order}");
    let order = choose(&["3", "5"]);
    assert!(order.contains("127.0.0.1") && order.contains("\"interface\":null"), "{order}");
    let order = choose(&["4", "", "2", "3", ""]);
    assert!(order.contains("noc.example.org") && order.contains("192.0.2.53") && order.contains("CNAME"), "{order}");
}
