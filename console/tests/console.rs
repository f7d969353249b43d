//! `raven console` on a terminal, on one that knows no size, in lines, against a stand-in for ravend that keeps what was
//! put.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::pty::Pty;
use common::{Answer, FakeRavend, raven, stderr, stdout};
use raven_model::config::Config;
use raven_model::control::{RawStatus, Request, Response, Version};
use raven_model::query::{Query, Reply};
use raven_model::report::Status;
use raven_model::units::UnixNanos;
use rustix::termios::tcgetattr;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// What the stand-in holds.
#[derive(Default)]
struct Held {
    text: String,
    password: Option<String>,
    /// Of the request that is being answered.
    session: Option<String>,
    /// What was said, without secrets.
    said: Vec<String>,
}

impl Held {
    fn answer(&mut self, request: &Request) -> Response {
        if let Request::Session { token } = request {
            self.session = Some(token.clone());
            return Response::Done;
        }
        let is_admin = self.session.take().as_deref() == Some("token-1") || self.password.is_none();
        if !matches!(request, Request::Status) {
            self.said.push(request.verb().to_owned());
        }
        match request {
            Request::Status => {
                let own = Status { device: "arena".into(), version: "0.1.0".into(), ..Status::default() };
                Response::Status(Box::new(RawStatus { own, reports: BTreeMap::new() }))
            }
            Request::Login { password, .. } if Some(&password.0) == self.password.as_ref() => {
                Response::LoggedIn { token: "token-1".into() }
            }
            Request::Login { .. } => Response::Refused(vec!["wrong password: the next try is heard in 2 s".into()]),
            _ if !is_admin => Response::Refused(vec!["you may not".into()]),
            Request::Diag => Response::Query,
            Request::Text | Request::Version { .. } => Response::Text(self.text.clone()),
            Request::History => {
                let version = |number, current| Version { number, time_ns: UnixNanos(1), by: "admin".into(), current };
                Response::History(vec![version(2, true), version(1, false)])
            }
            Request::Put { text, confirm } => match Config::from_toml(text, "raven.toml") {
                Ok(_) => {
                    self.text.clone_from(text);
                    self.said.push(format!("to confirm in {confirm:?}"));
                    Response::Applied(vec!["site.name: raven → arena".into()])
                }
                Err(errors) => Response::Refused(errors.iter().map(ToString::to_string).collect()),
            },
            Request::SetPassword { password, .. } => {
                self.password = Some(password.0.clone());
                Response::Done
            }
            Request::Confirm | Request::Revert { .. } => Response::Applied(Vec::new()),
            other => Response::Refused(vec![format!("`{}` is not part of this test", other.verb())]),
        }
    }
}

const FACTORY: &str = "# factory\nschema = 1\n\n[site]\nname = \"raven\" # change me\n";

fn nothing(_: &Query) -> Answer {
    (Reply::Ok, Vec::new(), Some(Reply::Done(0)))
}

fn box_with(password: Option<&str>, text: &str) -> (FakeRavend, Arc<Mutex<Held>>) {
    let held = Held { text: text.into(), password: password.map(str::to_owned), ..Held::default() };
    let held = Arc::new(Mutex::new(held));
    let kept = Arc::clone(&held);
    (FakeRavend::start(move |request| kept.lock().unwrap().answer(request), nothing), held)
}

fn owned() -> (FakeRavend, Arc<Mutex<Held>>) {
    box_with(Some("correct horse"), "schema = 1\n[site]\nname = \"arena\"\n")
}

/// Talks to `raven console --plain`; what it wrote.
fn plain(fake: &FakeRavend, lines: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raven"));
    command.args(["--data", fake.data().to_str().unwrap(), "console", "--plain"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let typed = lines.join("\n") + "\n";
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    stdout(&output)
}

/// Answers to the wizard for a machine whose number of interfaces nobody knows: those of the network are left out when
/// there are none.
fn has_links() -> bool {
    !raven_console::tui::facts::kernel::links().is_empty()
}

#[test]
fn the_whole_wizard_is_answered_in_lines_and_the_box_keeps_what_was_put() {
    let (fake, held) = box_with(None, FACTORY);
    let network = ["1", "4", "10.0.0.2/24", "", "2001:db8::2/64", "fe80::1", "20", "10.0.0.53", "ntp.example.org"];
    let network = if has_links() { &network[..] } else { &["1"] };
    let before = ["1", "1", "arena", "UTC"];
    let after = ["2", "noc.example.org:2514", "correct horse", "correct horse", "", "", "1", "7", "0"];
    let shown = plain(&fake, &[&before[..], network, &after[..]].concat());
    let held = held.lock().unwrap();
    assert!(held.text.starts_with("# factory\nschema = 1\n\n[site]\nname = \"arena\" # change me\n"), "{}", held.text);
    assert!(held.text.contains("[uplink.noc]\nkind = \"relp\"\nto = \"noc.example.org:2514\""), "{}", held.text);
    assert!(!has_links() || held.text.contains("addresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]"), "{}", held.text);
    assert!(held.said.contains(&"to confirm in Some(60)".to_owned()) && held.said.contains(&"confirm".to_owned()));
    assert_eq!(held.password.as_deref(), Some("correct horse"));
    assert!(
        shown.contains("-- Keep these settings? --")
            && shown.contains("* the settings are kept and the password is set"),
        "{shown}"
    );
    assert!(shown.contains("== Raven arena: Log =="), "{shown}");
    assert!(!shown.contains("correct horse"), "{shown}");
}

#[test]
fn a_box_with_a_password_shows_its_front_page_and_nothing_else_without_it() {
    let (fake, held) = owned();
    let shown = plain(&fake, &["1", "guess", "<", "0"]);
    assert!(
        shown.contains("== Raven arena ==") && shown.contains("! wrong password: the next try is heard in 2 s"),
        "{shown}"
    );
    assert!(!shown.contains("Raven arena: Status"), "{shown}");
    let shown = plain(&fake, &["", "correct horse", "2", "6", "0", "4", "0"]);
    for page in ["Status", "Network", "System"] {
        assert!(shown.contains(&format!("== Raven arena: {page} ==")), "{shown}");
    }
    assert!(!held.lock().unwrap().said.contains(&"put".to_owned()));
}

#[test]
fn what_ravend_refuses_is_said_and_can_be_mended() {
    let (fake, held) = box_with(None, "schema = 1\nnonsense = 2\n");
    let shown = plain(&fake, &["1", "2", "1", "11", "0"]);
    assert!(shown.contains("nonsense"), "{shown}");
    assert_eq!(held.lock().unwrap().text, "schema = 1\nnonsense = 2\n");
}

#[test]
fn pages_are_drawn_by_their_differences_and_come_out_as_if_drawn_whole() {
    let (fake, _held) = owned();
    let mut pty = Pty::raven(&["--data", fake.data().to_str().unwrap(), "console"], (24, 80));
    let before = tcgetattr(&pty.line).unwrap();
    pty.shows("Enter: log in");
    pty.send(b"\r");
    pty.shows("The administrator's password");
    pty.send(b"correct horse");
    pty.shows("*************");
    pty.send(b"\r");
    pty.shows("0: menu");
    for (key, title) in [
        (&b"2"[..], ": Network"),
        (b"\t", ": Inputs"),
        (b"\x1b[D", ": Network"),
        (b"6", ": System"),
        (b"0", "What is to be done?"),
    ] {
        pty.send(key);
        pty.shows(title);
    }
    pty.send(b"\x1b");
    pty.shows("Kernel");
    pty.send(b"1");
    // Status holds nothing that changes from one moment to the next.
    pty.shows("PROCESS");
    let drawn = pty.settled();
    let bytes = pty.bytes().len();
    pty.send(b"\x0c");
    pty.until("a screen drawn whole", |_| {
        let new = pty.bytes().split_off(bytes);
        new.windows(4).any(|window| window == b"\x1b[2J") && String::from_utf8_lossy(&new).contains("PROCESS")
    });
    assert_eq!(pty.settled(), drawn);
    assert!(!String::from_utf8_lossy(&pty.bytes()).contains("[?1049h"), "the alternate screen");
    assert!(!String::from_utf8_lossy(&pty.bytes()).contains("correct horse"));
    pty.send(b"\x03");
    pty.shows("Enter: log in");
    pty.send(b"\x03");
    assert_eq!(pty.ended(), Some(0));
    let after = tcgetattr(&pty.line).unwrap();
    assert_eq!(
        (after.local_modes, after.input_modes, after.output_modes),
        (before.local_modes, before.input_modes, before.output_modes)
    );
}

/// To the page of tests, logged in, with a ping to whom is typed that goes on until it is stopped.
fn pinging(fake: &FakeRavend, whom: &str) -> Pty {
    let mut pty = Pty::raven(&["--data", fake.data().to_str().unwrap(), "console"], (24, 80));
    pty.shows("Enter: log in");
    pty.send(b"\r");
    pty.shows("The administrator's password");
    pty.send(b"correct horse\r");
    pty.shows("0: menu");
    for (key, shown) in [("8", "Enter: choose a test"), ("\r", "Which test?"), ("\r", "To whom?")] {
        pty.send(key.as_bytes());
        pty.shows(shown);
    }
    // The last of those that are offered; where nothing is, it is typed at once.
    if pty.shown().contains("Another one") {
        pty.send(b"\x1b[F\r");
        pty.shows("A name or an address");
    }
    pty.send(format!("{whom}\r").as_bytes());
    let shown = pty.until("the next question", |shown| shown.contains("By which way?") || shown.contains("How many"));
    if shown.contains("By which way?") {
        pty.send(b"\r");
        pty.shows("How many pings");
    }
    pty.send(b"0\r");
    pty
}

#[test]
fn a_test_is_watched_live_while_the_console_hears_every_key_and_ends_when_it_is_stopped() {
    let (fake, _held) = owned();
    let mut pty = pinging(&fake, "noc.example");
    pty.shows("ping noc.example: runs");
    pty.shows("LAST MS");
    pty.until("bars with what was lost", |shown| shown.contains("___x___x") || shown.contains("x___x"));
    // It goes on behind other pages.
    pty.send(b"2");
    pty.shows(": Network");
    assert_eq!(fake.ended(), 0);
    pty.send(b"8");
    pty.shows("ping noc.example: runs");
    pty.send(b"s");
    pty.shows("stopped; so far: ");
    ended(&fake, 1);
    pty.send(b"r");
    pty.shows("2  ping noc.example: runs");
    pty.shows("1  ping noc.example: stopped");
    // Who leaves ends it.
    pty.send(b"\x03");
    pty.shows("Enter: log in");
    ended(&fake, 2);
}

#[test]
fn a_test_of_which_nothing_is_heard_holds_nobody_up_and_can_be_stopped() {
    let (fake, _held) = owned();
    let mut pty = pinging(&fake, "silent");
    pty.shows("ping silent: runs");
    for (key, shown) in [("2", ": Network"), ("8", "ping silent: runs"), ("s", "stopped")] {
        pty.send(key.as_bytes());
        pty.shows(shown);
    }
    ended(&fake, 1);
}

fn ended(fake: &FakeRavend, tests: usize) {
    let start = std::time::Instant::now();
    while fake.ended() < tests {
        assert!(start.elapsed().as_secs() < 10, "{} of {tests} tests ended", fake.ended());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_test_in_lines_says_who_may_and_that_ravend_is_away() {
    let (fake, held) = owned();
    // Without a login it is ravend who says no: the last of those that are offered is this box itself.
    let own = |all: &str| {
        let at = all.lines().find(|line| line.contains("127.0.0.1  (this box itself)")).unwrap();
        at.split_whitespace().next().unwrap().to_owned()
    };
    let offered = plain(&fake, &["3", "1", "1"]);
    assert!(offered.contains("== Raven arena: Test ==") && offered.contains("-- Which test? --"), "{offered}");
    let shown = plain(&fake, &["3", "1", "1", &own(&offered), "2", "0", "0"]);
    assert!(shown.contains("1  ping 127.0.0.1") && shown.contains("! FAIL: you may not"), "{shown}");
    assert!(held.lock().unwrap().said.contains(&"diag".to_owned()), "{shown}");
    std::fs::remove_file(fake.data().join("run/control")).unwrap();
    let shown = plain(&fake, &["3", "1", "1", &own(&offered), "2", "0", "0"]);
    assert!(shown.contains("no test can be made") && shown.contains("! FAIL: cannot reach ravend"), "{shown}");
}

#[test]
fn a_terminal_that_knows_no_size_is_asked_for_it() {
    let (fake, _held) = owned();
    let mut pty = Pty::raven(&["--data", fake.data().to_str().unwrap(), "console"], (0, 0));
    pty.sent(b"\x1b[999;999H\x1b[6n");
    pty.until("80 columns", |shown| shown.lines().any(|line| line == "-".repeat(80)));
    pty.send(b"\x1b[30;100R");
    pty.until("100 columns", |shown| shown.lines().any(|line| line == "-".repeat(100)));
}

#[test]
fn a_megabyte_of_garbage_does_no_harm() {
    let (fake, held) = box_with(None, FACTORY);
    let mut pty = Pty::raven(&["--data", fake.data().to_str().unwrap(), "console"], (24, 80));
    pty.shows("Enter: set up this box");
    let mut state = 7_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let garbage: Vec<u8> = (0..1 << 20).map(|_| noise()).collect();
    pty.send(&garbage);
    pty.shows("no key is heard");
    // A line is quiet again after a second; then its keys are heard.
    pty.settled();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(pty.is_running());
    pty.send(b"\r");
    pty.shows("Set up this box");
    let held = held.lock().unwrap();
    assert_eq!(held.text, FACTORY);
    assert!(held.said.iter().all(|verb| verb == "text"), "{:?}", held.said);
}

#[test]
fn on_a_dumb_terminal_and_without_one_the_console_speaks_in_lines() {
    let (fake, _held) = owned();
    let output = raven(&["--data", fake.data().to_str().unwrap(), "console"]);
    assert!(stdout(&output).contains("== Raven arena ==") && !stdout(&output).contains('\x1b'), "{}", stdout(&output));
}

#[test]
fn configurations_are_put_confirmed_listed_and_brought_back() {
    let (fake, held) = box_with(None, FACTORY);
    let file = fake.data().join("new.toml");
    std::fs::write(&file, "schema = 1\n[site]\nname = \"arena\"\n").unwrap();
    let output = fake.raven(&["config", "put", file.to_str().unwrap(), "--confirm", "60s"]);
    assert_eq!(stdout(&output), "site.name: raven → arena\n");
    assert!(stderr(&output).contains("taken back in 1m unless `raven config confirm`"), "{}", stderr(&output));
    assert_eq!(held.lock().unwrap().text, "schema = 1\n[site]\nname = \"arena\"\n");
    assert_eq!(fake.raven(&["config", "confirm"]).status.code(), Some(0));
    let shown = stdout(&fake.raven(&["config", "history"]));
    assert!(shown.starts_with("VERSION  IN FORCE SINCE") && shown.contains("admin  in force"), "{shown}");
    let json: serde_json::Value = serde_json::from_slice(&fake.raven(&["--json", "config", "history"]).stdout).unwrap();
    assert_eq!(json["versions"][0]["number"], 2);
    assert_eq!(stdout(&fake.raven(&["config", "version", "1"])), "schema = 1\n[site]\nname = \"arena\"\n");
    assert_eq!(fake.raven(&["config", "revert", "1", "--confirm", "60s"]).status.code(), Some(0));
    assert_eq!(fake.raven(&["config", "put", "-"]).status.code(), Some(1), "an empty file is no configuration");
    assert_eq!(fake.raven(&["config", "put", "x", "--confirm", "1s"]).status.code(), Some(2));
    let said = held.lock().unwrap().said.clone();
    assert_eq!(said[..2], ["put", "to confirm in Some(60)"]);
    assert!(said.contains(&"revert".to_owned()));
}
