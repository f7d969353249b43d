//! `raven console`: the console of the box, on its screen, on a serial line of 115200 baud and over SSH.
//!
//! [`facts`] are gathered, [`pages`] make rows of them, [`console`] is the state machine of pages and dialogs,
//! [`wizard`] the questions that set a box up. All of that knows no terminal: [`screen`] draws it into a buffer, of
//! which [`paint`] sends what has changed to a [`terminal`], and [`plain`] prints it line by line. What changes the box
//! goes through [`appliance`], and so do tests of the network, whose page is [`testing`].

pub mod appliance;
pub mod console;
pub mod facts;
pub mod keys;
pub mod pages;
pub mod paint;
pub mod plain;
pub mod question;
mod ravend;
pub mod screen;
pub mod terminal;
pub mod testing;
pub mod wizard;

use crate::client::Client;
use crate::failure::{Failure, OK};
use crate::output::Output;
use appliance::Appliance;
use clap::Args;
use console::Console;
use facts::Facts;
use paint::Look;
use plain::Lines;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ravend::Ravend;
use screen::Screen;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};
use terminal::{Input, Size, Terminal};

/// `raven console`.
#[derive(Debug, Clone, Default, Args)]
pub struct ConsoleArgs {
    /// Lines and numbers in place of the full screen: for screen readers, terminals that can do nothing, and scripts
    #[arg(long)]
    pub plain: bool,
    /// Nothing but ASCII, whatever the locale says (`NO_COLOR` in the environment: no colours)
    #[arg(long)]
    pub ascii: bool,
}

/// Facts are gathered anew this often.
const EVERY: Duration = Duration::from_secs(2);
/// Of these, the log once in so many times.
const LOG_EVERY: usize = 5;

/// Runs it.
pub fn run(args: &ConsoleArgs, client: Client, output: &Output) -> Result<u8, Failure> {
    let is_terminal = io::stdin().is_terminal() && output.terminal;
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let mut ravend = Ravend::new(client.clone());
    if args.plain || is_dumb || !is_terminal {
        let stops: Option<fn() -> bool> = if io::stdin().is_terminal() { Some(terminal::is_typed) } else { None };
        let mut lines = Lines { input: io::stdin().lock(), output: io::stdout().lock(), stops };
        return lines.run(&mut ravend, &mut || Facts::gather(&client, None));
    }
    let look = Look::detect(args.ascii, |name| std::env::var_os(name)?.into_string().ok());
    full(look, &mut ravend, &gathering(client)).map_err(Failure::Output)?;
    Ok(OK)
}

/// Facts, as they are gathered beside what is typed: an answer that takes long holds nobody up.
fn gathering(client: Client) -> Receiver<Facts> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut log = None;
        for round in 0_usize.. {
            let facts = Facts::gather(&client, log.filter(|_| round % LOG_EVERY != 0));
            log = Some(facts.log.clone());
            if sender.send(facts).is_err() {
                return;
            }
            thread::sleep(EVERY);
        }
    });
    receiver
}

fn full(look: Look, appliance: &mut dyn Appliance, news: &Receiver<Facts>) -> io::Result<()> {
    let mut facts = Facts::none();
    let mut screen = Screen::new(Console::new(appliance, Instant::now()));
    let mut terminal = Terminal::take()?;
    let mut shown = Shown::nothing();
    while !screen.console.is_over {
        facts = news.try_iter().last().unwrap_or(facts);
        let now = Instant::now();
        screen.tick(appliance, now);
        let wait = shown.frame(&mut screen, &facts, look, &mut terminal, now)?;
        let Input::Keys(keys) = terminal.read(wait)? else { break };
        if terminal.is_noisy() {
            screen.noise();
        }
        for key in keys {
            if key == keys::Key::Redraw {
                terminal.look();
                shown = Shown::nothing();
            }
            screen.key(key, &facts, appliance, Instant::now());
            if screen.console.is_over {
                break;
            }
        }
    }
    Ok(())
}

/// What the terminal shows.
struct Shown {
    buffer: Option<Buffer>,
    cursor: Option<(u16, u16)>,
    at: Option<Instant>,
}

impl Shown {
    const fn nothing() -> Self {
        Self { buffer: None, cursor: None, at: None }
    }

    /// Draws if it is time for it; how long to wait for keys.
    fn frame(
        &mut self,
        screen: &mut Screen,
        facts: &Facts,
        look: Look,
        terminal: &mut Terminal,
        now: Instant,
    ) -> io::Result<Duration> {
        const IDLE: Duration = Duration::from_millis(250);
        let since = self.at.map_or(Duration::MAX, |at| now.duration_since(at));
        if let Some(left) = terminal.frame().checked_sub(since).filter(|left| !left.is_zero()) {
            return Ok(left.min(IDLE));
        }
        let Size { columns, rows } = terminal.size();
        let area = Rect::new(0, 0, columns, rows);
        let mut buffer = Buffer::empty(area);
        let cursor = screen.draw(facts, look, now, &mut buffer);
        let before = self.buffer.take().filter(|before| before.area == area);
        let whole = before.is_none();
        let before = before.unwrap_or_else(|| Buffer::empty(area));
        if whole {
            terminal.write(paint::CLEAR)?;
        }
        if whole || before != buffer || cursor != self.cursor {
            terminal.write(&paint::difference(&before, &buffer, cursor, look))?;
            self.at = Some(now);
        }
        (self.buffer, self.cursor) = (Some(buffer), cursor);
        Ok(IDLE)
    }
}

/// Time zones that the box knows, from the list that comes with them; none where there is no list.
fn zones() -> Vec<String> {
    let list = std::fs::read_to_string("/usr/share/zoneinfo/tzdata.zi").unwrap_or_default();
    let mut zones: Vec<String> = list.lines().filter_map(zone).collect();
    zones.sort();
    zones
}

/// A line of `tzdata.zi` that names a zone (`Z NAME …`) or another name of one (`L TARGET NAME`).
fn zone(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    match words.next()? {
        "Z" => words.next().map(str::to_owned),
        "L" => words.nth(1).map(str::to_owned),
        _ => None,
    }
}
