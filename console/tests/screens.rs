//! Every screen of the console as text, in each size and look, held against `screens/NAME.expected`. `RAVEN_ACCEPT=1`
//! writes these files anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::facts::{Fake, Told, alone, busy, quiet, unreachable};
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use raven_console::tui::console::Console;
use raven_console::tui::facts::Facts;
use raven_console::tui::keys::Key;
use raven_console::tui::paint::{Look, difference};
use raven_console::tui::screen::Screen;
use raven_model::diag::bw::{Direction, Interval, Slice, Volume};
use raven_model::diag::services::{Connection, HttpResult, Outcome};
use raven_model::diag::{Answer, Event, Hop, Method, Router, Rtt, TraceResult};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

const FULL: Look = Look { color: true, unicode: true, bars: true };

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
        screen.tick(fake, now);
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

/// Events of pings to two targets, one of which loses some.
fn pings() -> Vec<Told> {
    let mut told = Vec::new();
    let address = |target: &str, address: [u8; 4]| Event::Target { target: target.into(), address: address.into() };
    told.push(address("192.0.2.1", [192, 0, 2, 1]));
    told.push(address("noc.example.org", [198, 51, 100, 9]));
    for sequence in 0..24_u32 {
        let answer = |target: &str, rtt_us| {
            let target = target.to_owned();
            Event::Answer(Answer { target, sequence, rtt_us, ttl: Some(64), duplicate: false, reordered: false })
        };
        told.push(answer("192.0.2.1", 400 + (sequence * 37) % 90));
        told.push(match sequence {
            7 | 8 => Event::Lost { target: "noc.example.org".into(), sequence },
            19 => Event::Unreachable {
                target: "noc.example.org".into(),
                sequence,
                by: Some([192, 0, 2, 1].into()),
                why: "host unreachable\u{1b}[2J".into(),
            },
            _ => answer("noc.example.org", 21_000 + (sequence * 4_111) % 30_000),
        });
    }
    told.into_iter().map(Told::Event).collect()
}

fn hop(hop: u8, received: u32, rate_limited: bool) -> Hop {
    let rtt = Rtt { min_us: 400, p50_us: 412, max_us: 2100, jitter_us: 80, ..Rtt::default() };
    Hop {
        hop,
        routers: (received > 0)
            .then(|| Router { address: [10, 0, hop, 1].into(), name: None, flows: vec![0], said: None })
            .into_iter()
            .collect(),
        sent: 10,
        received,
        rtt: (received > 0).then_some(rtt),
        rate_limited,
    }
}

fn trace() -> Vec<Hop> {
    vec![hop(1, 10, false), hop(2, 4, true), hop(3, 0, false), hop(4, 10, false)]
}

/// What is told of a test, in a box with a password, logged in.
fn telling(told: Vec<Told>) -> impl Fn() -> Fake {
    move || Fake { told: told.clone(), ..Fake::owned() }
}

const TESTS: [&str; 4] = ["Enter", "correct horse", "Enter", "8"];

#[test]
fn the_page_of_tests_is_drawn_before_in_the_middle_and_at_the_end_of_one() {
    let to = |words: &[&'static str]| [&TESTS[..], words].concat();
    holds("test", &quiet(), Fake::owned, &to(&[]));
    holds("test-guest", &quiet(), Fake::owned, &["t"]);
    holds("test-alone", &alone(), Fake::owned, &to(&[]));
    holds("test-away", &unreachable(), Fake::owned, &to(&[]));
    holds("test-which", &quiet(), Fake::owned, &to(&["Enter"]));
    holds("test-target", &quiet(), Fake::owned, &to(&["Enter", "Enter"]));
    holds("test-target-alone", &alone(), Fake::owned, &to(&["Enter", "Enter"]));
    holds("test-way", &quiet(), Fake::owned, &to(&["Enter", "Enter", "Down", "Enter"]));
    let ping = to(&["Enter", "Enter", "6", "Enter", "192.0.2.1 noc.example.org", "Enter", "Enter", "0", "Enter"]);
    holds("test-ping", &quiet(), telling(pings()), &ping);
    holds("test-ping-stopped", &quiet(), telling(pings()), &[&ping[..], &["s"]].concat());
    let hops = trace().into_iter().map(|hop| Told::Event(Event::Hop(hop))).collect();
    let traced = to(&["Enter", "2", "Enter", "2", "Enter", "Enter", "Enter"]);
    holds("test-trace", &quiet(), telling(hops), &traced);
    let result = TraceResult {
        target: "noc.example.org".into(),
        address: [10, 0, 4, 1].into(),
        method: Method::Udp,
        reached: true,
        hops: trace(),
        paths: 1,
        path_hash: "0123456789abcdef".into(),
        changed: false,
        changes: 0,
    };
    holds("test-traced", &quiet(), telling(vec![Told::Event(Event::Trace(result)), Told::Over]), &traced);
    let refused = vec![Told::Failed("user 61100 may not say `diag`: that takes the role operator")];
    holds("test-refused", &quiet(), telling(refused), &["t", "Enter", "Enter", "2", "Enter", "Enter", "Enter"]);
    let broken =
        vec![Told::Failed("the answer broke off after 3 lines, more may be missing: the diag role went away\u{7}")];
    holds("test-broken", &quiet(), telling(broken), &[&traced[..], &["r"]].concat());
}

#[test]
fn seconds_of_a_measurement_and_phases_of_a_request_are_drawn() {
    let to = |words: &[&'static str]| [&TESTS[..], words].concat();
    let second = |at: u32| {
        let volume = Volume::new(11_000_000 + u64::from(at * 7 % 5) * 300_000, 1.0);
        let direction = Direction::Up;
        let slice = Slice {
            stream: None,
            direction,
            volume,
            retransmits: Some(u64::from(at / 6)),
            tcp: None,
            packets: None,
            udp: None,
        };
        let (from, to) = (f64::from(at), f64::from(at + 1));
        Told::Event(Event::Interval(Interval { from, to, omitted: false, streams: Vec::new(), sums: vec![slice] }))
    };
    let bandwidth = to(&["Enter", "9", "Enter", "1", "Enter", "Enter", "Enter", "Enter"]);
    holds("test-bandwidth", &quiet(), telling((0..12).map(second).collect()), &bandwidth);
    let http = HttpResult {
        url: "http://192.0.2.1/".into(),
        connections: vec![Connection {
            address: ([192, 0, 2, 1], 80).into(),
            outcome: Outcome::Connected,
            time_us: 812,
            source: None,
            why: None,
            by: None,
        }],
        resolve_us: 31,
        first_byte_us: Some(2345),
        whole_us: Some(3456),
        total_us: 4299,
        version: Some("HTTP/1.1".into()),
        status: Some(503),
        reason: Some("Service Unavailable\u{1b}]0;x\u{7}".into()),
        headers: vec![("Server".into(), "switch/1.0".into())],
        is_whole: true,
        ..HttpResult::default()
    };
    let told =
        vec![Told::Event(Event::Connection(http.connections[0].clone())), Told::Event(Event::Http(http)), Told::Over];
    holds("test-http", &quiet(), telling(told), &to(&["Enter", "7", "Enter", "1", "Enter", "Enter"]));
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
        columns in 1_u16..140, rows in 1_u16..50, pressed in prop::collection::vec(0_usize..20, 0..60), is_new in any::<bool>(),
    ) {
        const KEYS: [Key; 18] = [
            Key::Enter, Key::Tab, Key::BackTab, Key::Esc, Key::Backspace, Key::Up, Key::Down, Key::Left, Key::Right,
            Key::Home, Key::End, Key::PageUp, Key::PageDown, Key::Clear, Key::Char('漢'), Key::Char('t'),
            Key::Char('r'), Key::Char('s'),
        ];
        let facts = [busy(), unreachable()];
        let mut fake = if is_new { Fake::fresh() } else { Fake { is_in: true, ..Fake::owned() } };
        fake.told = pings();
        let now = Instant::now();
        let mut screen = Screen::new(Console::new(&mut fake, now));
        let area = Rect::new(0, 0, columns, rows);
        for (at, key) in pressed.into_iter().enumerate() {
            let facts = &facts[at % 2];
            let key = KEYS.get(key).copied().unwrap_or(Key::Char(char::from(b'0' + (at % 10) as u8)));
            screen.key(key, facts, &mut fake, now);
            screen.tick(&mut fake, now);
            screen.draw(facts, FULL, now, &mut Buffer::empty(area));
        }
    }
}
