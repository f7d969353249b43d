//! The console as a dialog in lines: for screen readers, terminals that can do nothing, and scripts. Everything that the
//! full screen can do, by numbers; its words stay.

use super::appliance::Appliance;
use super::console::{Console, View};
use super::facts::Facts;
use super::pages::{Tab, Tone};
use super::question::{Kind, Question};
use super::testing::Room;
use crate::escape;
use crate::failure::{Failure, OK};
use crate::silence::Silence;
use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

/// Where lines come from and go to.
pub struct Lines<R, W> {
    /// Answers, a line each.
    pub input: R,
    /// Pages and questions.
    pub output: W,
    /// Whether a line was typed, which stops a test; none where lines are not typed, but were written before.
    pub stops: Option<fn() -> bool>,
}

impl<R: BufRead, W: Write> Lines<R, W> {
    /// Talks until the input ends or somebody leaves; the exit code.
    pub fn run(&mut self, appliance: &mut dyn Appliance, gather: &mut dyn FnMut() -> Facts) -> Result<u8, Failure> {
        let mut facts = gather();
        let mut console = Console::new(appliance, Instant::now());
        while !console.is_over {
            // Before a tick, which would hear what is to be said.
            if console.testing.is_running() {
                self.watch(&mut console)?;
            }
            console.tick(appliance, Instant::now());
            if let Some(notice) = console.notice.take() {
                self.say(&format!("* {}", notice.text))?;
            }
            let Some(question) = console.question(Instant::now()) else {
                facts = gather();
                self.page(&console, &facts)?;
                let Some(line) = self.read(false)? else { break };
                choose(&mut console, line.trim(), &facts, appliance);
                continue;
            };
            self.ask(&question)?;
            let is_secret = matches!(question.kind, Kind::Line { is_secret: true, .. });
            let Some(line) = self.read(is_secret)? else { break };
            console.tick(appliance, Instant::now());
            match question.answer(&line) {
                Ok(answer) if console.dialog.is_some() => console.answer(&answer, &facts, appliance, Instant::now()),
                Ok(_) => {}
                Err(why) => self.say(&format!("! {}", escape::text(&why)))?,
            }
        }
        Ok(OK)
    }

    /// A test to its end, a line for each thing that happens.
    fn watch(&mut self, console: &mut Console) -> Result<(), Failure> {
        self.say("")?;
        if self.stops.is_some() {
            self.say("it runs; Enter stops it")?;
        }
        while console.testing.is_running() {
            for line in console.testing.wait(LOOK) {
                self.say(line.trim_end())?;
            }
            console.touch(Instant::now());
            if self.stops.is_some_and(|is_typed| is_typed()) && console.testing.is_running() {
                self.read(false)?;
                console.testing.stop();
            }
        }
        match console.testing.end() {
            Some(end) if end.tone == Tone::Fail => self.say(&format!("! {}", end.text)),
            Some(end) => self.say(&format!("* {}", end.text)),
            None => Ok(()),
        }
    }

    fn page(&mut self, console: &Console, facts: &Facts) -> Result<(), Failure> {
        let page = match console.view {
            View::Front => String::new(),
            View::Test => format!(": {}", Tab::Test.name()),
            View::Tab(tab) => format!(": {}", tab.name()),
        };
        self.say("")?;
        self.say(&format!("== Raven {}{page} ==", escape::text(facts.name())))?;
        for row in console.rows(facts, Room::LINES) {
            self.say(row.text.trim_end())?;
        }
        self.say("")?;
        match console.view {
            View::Front => {
                let enter = console.invitation();
                self.say(&format!(" 1  {enter}   2  Show again   3  Test the network   0  Leave"))?;
            }
            View::Test => self.say(" 1  Choose a test   2  The same again   0  Back")?,
            View::Tab(here) => {
                let tabs = Tab::ALL.iter().enumerate().map(|(at, tab)| format!(" {}  {}", at + 1, tab.name()));
                let tests: &[&str] =
                    if here == Tab::Test { &[" 9  Choose a test", " 10  The same again"] } else { &[] };
                let rest = tests.iter().map(|it| (*it).to_owned()).chain([" 0  Menu".to_owned()]);
                self.say(&tabs.chain(rest).collect::<Vec<_>>().join("  "))?;
            }
        }
        self.prompt("")
    }

    fn ask(&mut self, question: &Question) -> Result<(), Failure> {
        self.say("")?;
        self.say(&format!("-- {} --", question.title))?;
        for text in &question.text {
            self.say(&escape::text(text))?;
        }
        if let Some(error) = &question.error {
            self.say(&format!("! {}", escape::text(error)))?;
        }
        match &question.kind {
            Kind::Choice { options, preferred } => {
                for (at, option) in options.iter().enumerate() {
                    self.say(&format!("{:>2}  {option}", at + 1))?;
                }
                self.prompt(&(preferred + 1).to_string())
            }
            Kind::Line { preset, .. } => self.prompt(&escape::text(preset)),
        }
    }

    /// `[what Enter takes] > `.
    fn prompt(&mut self, preset: &str) -> Result<(), Failure> {
        let shown = if preset.is_empty() { "> ".to_owned() } else { format!("[{preset}] > ") };
        self.output.write_all(shown.as_bytes()).and_then(|()| self.output.flush()).map_err(Failure::Output)
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.output, "{line}").map_err(Failure::Output)
    }

    /// A line; `None` at the end. What is no text is taken as far as it is some.
    fn read(&mut self, is_secret: bool) -> Result<Option<String>, Failure> {
        let _silence = is_secret.then(Silence::begin);
        let mut line = Vec::new();
        let got = io::Read::take(&mut self.input, LINE_MAX).read_until(b'\n', &mut line);
        match got.map_err(|source| Failure::File { what: "read", path: "standard input".into(), source })? {
            0 => {
                self.say("")?;
                Ok(None)
            }
            _ => Ok(Some(String::from_utf8_lossy(&line).replace(char::is_control, ""))),
        }
    }
}

/// It is looked for typed lines this often.
const LOOK: Duration = Duration::from_millis(200);
/// Most bytes of a line.
const LINE_MAX: u64 = 8192;

/// What a number on a page does.
fn choose(console: &mut Console, typed: &str, facts: &Facts, appliance: &mut dyn Appliance) {
    console.touch(Instant::now());
    match (console.view, typed.parse::<usize>()) {
        (View::Front, _) if typed.is_empty() || typed == "1" => console.enter(facts, appliance, Instant::now()),
        (View::Front, Ok(3)) => console.show_tests(),
        (View::Front, Ok(0)) => console.is_over = true,
        (View::Test, Ok(0)) => console.log_out(appliance),
        (View::Test, Ok(1)) | (View::Tab(Tab::Test), Ok(9)) => console.choose_test(facts, appliance),
        (View::Test, Ok(2)) | (View::Tab(Tab::Test), Ok(10)) => console.test_again(appliance),
        (View::Tab(_), Ok(0)) => console.actions(facts, appliance),
        (View::Tab(_), Ok(number)) => {
            if let Some(tab) = Tab::ALL.get(number - 1) {
                console.show(*tab);
            }
        }
        _ => {}
    }
}
