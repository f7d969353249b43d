//! The page of tests: a test at a time, live, below the last ones of this session. Pure but for [`running`], which has a
//! test made: what it tells is put in by [`Testing::hear`].

pub mod around;
pub mod form;
pub mod live;
pub mod order;
pub mod phases;
pub mod running;
pub mod spark;

use super::facts::Facts;
use super::pages::{Row, Tone};
use crate::diag::meaning::Verdict;
use crate::escape;
use around::Around;
use live::Live;
use raven_model::diag::{Test, Way};
use running::{News, Running};
use std::collections::VecDeque;
use std::time::Duration;

/// Results that stand above.
const PAST: usize = 5;
/// What is looked at before it is time to draw again.
const AT_ONCE: usize = 4096;

/// What there is to draw on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Columns.
    pub width: usize,
    /// Bars of eight heights can be seen.
    pub bars: bool,
}

impl Room {
    /// Of a page in lines.
    pub const LINES: Self = Self { width: 78, bars: false };
}

/// A test, and what is known of it.
struct Current {
    number: u32,
    test: Test,
    live: Live,
    running: Option<Running>,
    /// What it came to.
    end: Option<Row>,
}

impl Current {
    fn title(&self) -> String {
        format!("{}  {}", self.number, words(&self.test))
    }

    /// It is over: by its result, or because no more comes.
    fn finish(&mut self, failed: Option<&str>) {
        self.running = None;
        let meaning = self.live.meaning();
        self.end = Some(match (failed, meaning) {
            (Some(why), _) => {
                let why = escape::text(&why.replace('\n', "; "));
                let hint = if why.contains(" may not say ") { "; log in on the front page" } else { "" };
                Row::of(Tone::Fail, format!("FAIL: {why}{hint}"))
            }
            (None, Some(meaning)) => {
                let tone = match meaning.verdict {
                    Verdict::Good => Tone::Good,
                    Verdict::Odd => Tone::Warn,
                    Verdict::Bad => Tone::Fail,
                };
                Row::of(tone, format!("{}: {}", super::pages::word(tone), meaning.words))
            }
            (None, None) => Row::of(Tone::Warn, "WARN: it ended without a result"),
        });
    }

    fn stop(&mut self) {
        self.running = None;
        let so_far = self.live.meaning().map_or_else(String::new, |meaning| format!("; so far: {}", meaning.words));
        self.end = Some(Row::of(Tone::Plain, format!("stopped{so_far}")));
    }
}

/// See the top.
#[derive(Default)]
pub struct Testing {
    current: Option<Current>,
    past: VecDeque<Row>,
    count: u32,
}

impl Testing {
    /// A test was begun; the one before ends.
    pub fn begin(&mut self, test: Test, running: Running) {
        self.stop();
        if let Some(before) = self.current.take() {
            let title = before.title();
            self.past.extend(before.end.map(|end| Row::of(end.tone, format!("{title}: {}", end.text))));
            let much = self.past.len().saturating_sub(PAST);
            self.past.drain(..much);
        }
        self.count += 1;
        let live = Live::new(&test);
        self.current = Some(Current { number: self.count, test, live, running: Some(running), end: None });
    }

    /// The test that was made last.
    pub fn last(&self) -> Option<&Test> {
        self.current.as_ref().map(|current| &current.test)
    }

    /// One is being made.
    pub fn is_running(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.running.is_some())
    }

    /// It is not wanted any more: the connection closes, and the test ends with it.
    pub fn stop(&mut self) {
        if let Some(current) = self.current.as_mut().filter(|current| current.running.is_some()) {
            current.stop();
        }
    }

    /// Nothing of it is left, for whoever comes next.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Looks at what is new, without waiting.
    pub fn tick(&mut self) {
        for _ in 0..AT_ONCE {
            let running = self.current.as_ref().and_then(|current| current.running.as_ref());
            let Some(news) = running.and_then(Running::news) else { return };
            self.hear(news);
        }
    }

    /// Waits so long for what is new; the lines that it is worth.
    pub fn wait(&mut self, limit: Duration) -> Vec<String> {
        let running = self.current.as_ref().and_then(|current| current.running.as_ref());
        running.and_then(|running| running.wait(limit)).map_or_else(Vec::new, |news| self.hear(news))
    }

    /// Something was told; the lines that it is worth.
    pub fn hear(&mut self, news: News) -> Vec<String> {
        let Some(current) = self.current.as_mut() else { return Vec::new() };
        match news {
            News::Event(event) => return current.live.hear(*event),
            News::Over => current.finish(None),
            News::Failed(why) => current.finish(Some(&why)),
        }
        Vec::new()
    }

    /// What the last one came to.
    pub fn end(&self) -> Option<&Row> {
        self.current.as_ref()?.end.as_ref()
    }

    /// The page.
    pub fn rows(&self, facts: &Facts, room: Room) -> Vec<Row> {
        let mut rows: Vec<Row> = self.past.iter().cloned().collect();
        if !rows.is_empty() {
            rows.push(Row::of(Tone::Plain, ""));
        }
        match &self.current {
            None => rows.extend(nothing(facts)),
            Some(current) => {
                let state = if current.running.is_some() { ": runs" } else { "" };
                rows.push(Row::of(Tone::Head, format!("{}{state}", current.title())));
                rows.extend(current.end.clone());
                rows.extend(current.live.rows(room));
            }
        }
        rows
    }
}

/// Before the first test.
fn nothing(facts: &Facts) -> Vec<Row> {
    let around = Around::new(facts, None);
    let mut rows: Vec<Row> = around.hint().into_iter().map(|hint| Row::of(Tone::Warn, hint)).collect();
    let words = "Tests of the network from where this box stands. Enter chooses one: ping, trace, mtu, dns, tcp, tls, http, ntp or \
                 bandwidth.";
    rows.push(Row::of(Tone::Plain, words));
    rows
}

/// A test in a line.
fn words(test: &Test) -> String {
    let (what, way): (String, &Way) = match test {
        Test::Ping(test) => {
            let more = test.targets.len().saturating_sub(2);
            let first: Vec<&str> = test.targets.iter().take(2).map(String::as_str).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (format!("ping {}{more}", first.join(" ")), &test.way)
        }
        Test::Trace(test) => (format!("trace {}", test.target), &test.way),
        Test::Mtu(test) => (format!("mtu {}", test.target), &test.way),
        Test::Bandwidth(test) => (format!("bandwidth {}", test.target), &test.way),
        Test::BandwidthServer(test) => ("bandwidth server".to_owned(), &test.way),
        Test::Dns(test) => (format!("dns {} {}", test.name, test.record.name()), &test.way),
        Test::Tcp(test) => (format!("tcp {} port {}", test.target, test.port), &test.way),
        Test::Tls(test) => (format!("tls {} port {}", test.target, test.port), &test.way),
        Test::Http(test) => (format!("http {}", test.url), &test.way),
        Test::Ntp(test) => (format!("ntp {}", test.servers.join(" ")), &test.way),
    };
    let by = way.interface.as_ref().map_or_else(String::new, |name| format!(" by {name}"));
    escape::text(&format!("{what}{by}"))
}
