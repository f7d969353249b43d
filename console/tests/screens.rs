//! Every screen of the console as text, in each size and look, held against `screens/NAME.expected`. `RAVEN_ACCEPT=1`
//! writes these files anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::facts::{Fake, busy, quiet, unreachable};
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use raven_console::tui::console::Console;
use raven_console::tui::facts::Facts;
use raven_console::tui::keys::Key;
use raven_console::tui::paint::{Look, difference};
use raven_console::tui::screen::Screen;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

const FULL: Look = Look { color: true, unicode: true };

/// Sizes and looks that every screen is drawn in.
const SHAPES: [(u16, u16, Look, &str); 4] = [
    (80, 24, FULL, "80x24"),
    (60, 18, FULL, "60x18"),
    (132, 43, FULL, "132x43"),
    (80, 24, Look::PLAIN, "80x24, ASCII without colour"),
];

/// What is pressed to come to a screen.
fn keys(words: &[&str]) -> Vec<Key> {
    let keys = |word: &&str| match *word {
        "Enter" => vec![Key::Enter],
        "Down" => vec![Key::Down],
        text => text.chars().map(Key::Char).collect(),
    };
    words.iter().flat_map(keys).collect()
}

fn drawn(facts: &Facts, fake: &mut Fake, pressed: &[Key], shape: (u16, u16, Look)) -> String {
    let (columns, rows, look) = shape;
    let now = Instant::now();
    let mut screen = Screen::new(Console::new(fake, now));
    let area = Rect::new(0, 0, columns, rows);
    for key in pressed {
        screen.draw(facts, look, now, &mut Buffer::empty(area));
        screen.key(*key, facts, fake, now);
    }
    let mut buffer = Buffer::empty(area);
    let cursor = screen.draw(facts, look, now, &mut buffer);
    let bytes = difference(&Buffer::empty(area), &buffer, cursor, look);
    assert!(look.unicode || bytes.is_ascii(), "not only ASCII");
    let colours = [&b";31m"[..], b";32m", b";33m", b";36m"];
    let is_coloured = colours.iter().any(|code| bytes.windows(code.len()).any(|window| window == *code));
    assert!(look.color || !is_coloured, "a colour");
    let mut terminal = vt100::Parser::new(rows, columns, 0);
    terminal.process(&bytes);
    let shown: Vec<String> = terminal.screen().rows(0, columns).map(|row| row.trim_end().to_owned()).collect();
    shown.join("\n")
}

fn holds(name: &str, facts: &Facts, fake: impl Fn() -> Fake, words: &[&str]) {
    let mut text = String::new();
    for (columns, rows, look, title) in SHAPES {
        let shown = drawn(facts, &mut fake(), &keys(words), (columns, rows, look));
        let _ = writeln!(text, "=== {name}, {title}\n{shown}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens").join(format!("{name}.expected"));
    if std::env::var_os("RAVEN_ACCEPT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} differs; what is drawn now:\n{text}", path.display());
}

#[test]
fn the_front_page_says_what_is_wrong_and_why_before_anybody_logs_in() {
    holds("front", &busy(), Fake::owned, &[]);
    holds("front-quiet", &quiet(), Fake::owned, &[]);
    holds("front-new", &quiet(), Fake::fresh, &[]);
    holds("front-away", &unreachable(), Fake::owned, &[]);
}

#[test]
fn every_tab_is_reached_by_its_number() {
    let login = ["Enter", "correct horse", "Enter"];
    for (number, name) in ["status", "network", "inputs", "ring", "uplink", "system", "log"].into_iter().enumerate() {
        let number = (number + 1).to_string();
        holds(&format!("tab-{name}"), &busy(), Fake::owned, &[&login[..], &[&number]].concat());
    }
    holds("tab-away", &unreachable(), Fake::owned, &[&login[..], &["3"]].concat());
}

#[test]
fn every_dialog_is_drawn() {
    let login = ["Enter", "correct horse", "Enter"];
    holds("login", &quiet(), Fake::owned, &["Enter", "secret"]);
    holds("login-wrong", &quiet(), Fake::owned, &["Enter", "secret", "Enter"]);
    holds("menu", &quiet(), Fake::owned, &[&login[..], &["0", "Down"]].concat());
    holds("sure", &quiet(), Fake::owned, &[&login[..], &["0", "5", "Enter"]].concat());
    holds("password", &quiet(), Fake::owned, &[&login[..], &["0", "3", "Enter", "new words"]].concat());
    holds("reset", &quiet(), Fake::owned, &[&login[..], &["0", "8", "Enter", "arena"]].concat());
    holds("reset-wrong", &quiet(), Fake::owned, &[&login[..], &["0", "8", "Enter", "aren", "Enter"]].concat());
    holds("noticed", &quiet(), Fake::owned, &[&login[..], &["0", "6", "Enter", "2", "Enter"]].concat());
}

#[test]
fn every_step_of_an_installation_is_drawn() {
    holds("install-begin", &quiet(), Fake::medium, &["Enter"]);
    holds("install-disks", &quiet(), Fake::medium, &["Enter", "Enter"]);
    holds("install-erase", &quiet(), Fake::medium, &["Enter", "Enter", "Enter", "sd"]);
    holds("install-wrong", &quiet(), Fake::medium, &["Enter", "Enter", "Enter", "sdb", "Enter"]);
    holds("install-writing", &quiet(), Fake::medium, &["Enter", "Enter", "Enter", "sda", "Enter"]);
}

#[test]
fn every_question_of_the_wizard_is_drawn() {
    let mut pressed = vec!["Enter"];
    let questions: [(&str, &[&str]); 17] = [
        ("begin", &["1", "Enter"]),
        ("name", &["arena", "Enter"]),
        ("zone", &["UTC", "Enter"]),
        ("link", &["1", "Enter"]),
        ("method", &["4", "Enter"]),
        ("address4", &["10.0.0.2/24", "Enter"]),
        ("gateway4", &["Enter"]),
        ("address6", &["2001:db8::2/64", "Enter"]),
        ("gateway6", &["fe80::1", "Enter"]),
        ("vlan", &["20", "Enter"]),
        ("dns", &["10.0.0.53", "Enter"]),
        ("ntp", &["ntp.example.org", "Enter"]),
        ("uplink", &["2", "Enter"]),
        ("uplink-to", &["noc.example.org:2514", "Enter"]),
        ("password", &["correct horse", "Enter"]),
        ("again", &["correct horse", "Enter"]),
        ("key", &["Enter"]),
    ];
    for (name, answer) in questions {
        holds(&format!("wizard-{name}"), &quiet(), Fake::fresh, &pressed);
        pressed.extend(answer);
    }
    holds("wizard-review", &quiet(), Fake::fresh, &pressed);
    pressed.push("Enter");
    holds("wizard-keep", &quiet(), Fake::fresh, &pressed);
    holds("wizard-error", &quiet(), Fake::fresh, &["Enter", "Enter", "a_b", "Enter"]);
}

#[test]
fn a_line_is_asked_for_on_a_screen_of_one_column() {
    let (mut fake, facts, now) = (Fake::fresh(), quiet(), Instant::now());
    let mut screen = Screen::new(Console::new(&mut fake, now));
    for key in [Key::Enter, Key::Enter] {
        screen.key(key, &facts, &mut fake, now);
        screen.draw(&facts, FULL, now, &mut Buffer::empty(Rect::new(0, 0, 1, 1)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_size_and_no_order_of_keys_is_too_much(
        columns in 1_u16..140, rows in 1_u16..50, pressed in prop::collection::vec(0_usize..18, 0..60), is_new in any::<bool>(),
    ) {
        const KEYS: [Key; 15] = [
            Key::Enter, Key::Tab, Key::BackTab, Key::Esc, Key::Backspace, Key::Up, Key::Down, Key::Left, Key::Right,
            Key::Home, Key::End, Key::PageUp, Key::PageDown, Key::Clear, Key::Char('漢'),
        ];
        let facts = [busy(), unreachable()];
        let mut fake = if is_new { Fake::fresh() } else { Fake { is_in: true, ..Fake::owned() } };
        let now = Instant::now();
        let mut screen = Screen::new(Console::new(&mut fake, now));
        let area = Rect::new(0, 0, columns, rows);
        for (at, key) in pressed.into_iter().enumerate() {
            let facts = &facts[at % 2];
            let key = KEYS.get(key).copied().unwrap_or(Key::Char(char::from(b'0' + (at % 10) as u8)));
            screen.key(key, facts, &mut fake, now);
            screen.draw(facts, FULL, now, &mut Buffer::empty(area));
        }
    }
}
