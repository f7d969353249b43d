//! The full screen: keys to the console, the console into a buffer. Pure: no byte goes to a terminal here.

use super::appliance::Appliance;
use super::console::{Console, View};
use super::facts::Facts;
use super::keys::Key;
use super::pages::{self, INSET, Row, Tab, Tone};
use super::paint::Look;
use super::question::{Answer, Kind, Question};
use super::testing::Room;
use crate::escape;
use crate::time;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use std::time::Instant;

/// Most characters of a typed line: an SSH key of RSA has 750.
const LINE_MAX: usize = 2000;
/// Rows around the page: title, tabs and a rule above, a rule and the keys below.
const AROUND: usize = 5;

/// What is being typed or pointed at.
#[derive(Debug, Default)]
struct Editor {
    /// Title and error of the question that it belongs to.
    of: Option<Question>,
    line: String,
    selected: usize,
    error: Option<String>,
}

/// The console with what is being typed.
pub struct Screen {
    /// Behind it.
    pub console: Console,
    editor: Editor,
    /// Rows of the page that fitted when it was drawn last.
    page: usize,
}

impl Screen {
    /// Around a console.
    pub fn new(console: Console) -> Self {
        Self { console, editor: Editor::default(), page: 1 }
    }

    /// A key was pressed.
    pub fn key(&mut self, key: Key, facts: &Facts, appliance: &mut dyn Appliance, now: Instant) {
        self.console.touch(now);
        self.console.notice = None;
        match self.console.question(now) {
            Some(question) => self.asked(key, &question, facts, appliance, now),
            None => self.on_page(key, facts, appliance, now),
        }
        self.renew(now);
    }

    /// Keys are withheld because the line is noisy.
    pub fn noise(&mut self) {
        let words = "noise, or a file: no key is heard until the line was quiet for a second";
        self.console.notice = Some(Row::of(Tone::Warn, words));
    }

    /// Time goes by.
    pub fn tick(&mut self, appliance: &mut dyn Appliance, now: Instant) {
        self.console.tick(appliance, now);
        self.renew(now);
    }

    /// An editor for each question; the same question asked again, with other seconds left, keeps its own.
    fn renew(&mut self, now: Instant) {
        let question = self.console.question(now);
        let same = |a: &Question, b: &Question| a.title == b.title && a.kind == b.kind && a.error == b.error;
        let is_same = match (&self.editor.of, &question) {
            (Some(old), Some(new)) => same(old, new),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            let selected = match question.as_ref().map(|question| &question.kind) {
                Some(Kind::Choice { preferred, .. }) => *preferred,
                _ => 0,
            };
            self.editor = Editor { of: question, selected, ..Editor::default() };
        }
    }

    fn on_page(&mut self, key: Key, facts: &Facts, appliance: &mut dyn Appliance, now: Instant) {
        let step = self.page.saturating_sub(1).max(1);
        if self.console.is_testing() && self.on_tests(key, facts, appliance) {
            return;
        }
        match (key, self.console.view) {
            (Key::Up, _) => self.console.scroll = self.console.scroll.saturating_sub(1),
            (Key::Down, _) => self.console.scroll += 1,
            (Key::PageUp, _) => self.console.scroll = self.console.scroll.saturating_sub(step),
            (Key::PageDown, _) => self.console.scroll += step,
            (Key::Home, _) => self.console.scroll = 0,
            (Key::End, _) => self.console.scroll = usize::MAX / 2,
            (Key::Enter, View::Front) => self.console.enter(facts, appliance, now),
            (Key::Leave, View::Front) => self.console.is_over = true,
            (Key::Char('t'), View::Front) => self.console.show_tests(),
            (Key::Esc | Key::Leave, View::Test) | (Key::Leave, View::Tab(_)) => self.console.log_out(appliance),
            (Key::Char('0') | Key::Enter, View::Tab(_)) => self.console.actions(facts, appliance),
            (Key::Tab | Key::Right, View::Tab(_)) => self.console.turn(1),
            (Key::BackTab | Key::Left, View::Tab(_)) => self.console.turn(Tab::ALL.len() - 1),
            (Key::Char(c), View::Tab(_)) => {
                let number = c.to_digit(10).and_then(|digit| (digit as usize).checked_sub(1));
                if let Some(tab) = number.and_then(|number| Tab::ALL.get(number)) {
                    self.console.show(*tab);
                }
            }
            _ => {}
        }
    }

    /// Keys of the page of tests; whether it was one.
    fn on_tests(&mut self, key: Key, facts: &Facts, appliance: &mut dyn Appliance) -> bool {
        match key {
            Key::Enter => self.console.choose_test(facts, appliance),
            Key::Char('s') => self.console.testing.stop(),
            Key::Char('r') => self.console.test_again(appliance),
            _ => return false,
        }
        true
    }

    fn asked(&mut self, key: Key, question: &Question, facts: &Facts, appliance: &mut dyn Appliance, now: Instant) {
        self.editor.error = None;
        let answer = match (key, &question.kind) {
            (Key::Esc | Key::Leave, _) => Ok(Answer::Back),
            (Key::Enter, Kind::Choice { .. }) => Ok(Answer::Option(self.editor.selected)),
            (Key::Enter, Kind::Line { .. }) => question.answer(&self.editor.line),
            (key, Kind::Choice { options, .. }) => return self.editor.select(key, options.len()),
            (key, Kind::Line { .. }) => return self.editor.edit(key),
        };
        match answer {
            Ok(answer) => {
                self.editor.of = None;
                self.console.answer(&answer, facts, appliance, now);
            }
            Err(why) => self.editor.error = Some(why),
        }
    }
}

impl Editor {
    fn select(&mut self, key: Key, options: usize) {
        let last = options.saturating_sub(1);
        match key {
            Key::Up | Key::Left | Key::BackTab => self.selected = self.selected.checked_sub(1).unwrap_or(last),
            Key::Down | Key::Right | Key::Tab => {
                self.selected = if self.selected >= last { 0 } else { self.selected + 1 }
            }
            Key::Home | Key::PageUp => self.selected = 0,
            Key::End | Key::PageDown => self.selected = last,
            Key::Char(c) => {
                let Some(digit) = c.to_digit(10) else { return };
                // The second digit of a number of two.
                let both = (self.selected + 1) * 10 + digit as usize;
                let alone = digit as usize;
                if let Some(number) = [both, alone].into_iter().find(|number| (1..=options).contains(number)) {
                    self.selected = number - 1;
                }
            }
            _ => {}
        }
    }

    fn edit(&mut self, key: Key) {
        match key {
            Key::Char(c) if self.line.chars().count() < LINE_MAX => self.line.push(c),
            Key::Backspace => _ = self.line.pop(),
            Key::Clear => self.line.clear(),
            _ => {}
        }
    }
}

impl Screen {
    /// Draws all of it; where the cursor is, if it is seen.
    pub fn draw(&mut self, facts: &Facts, look: Look, now: Instant, buffer: &mut Buffer) -> Option<(u16, u16)> {
        let canvas = &mut Canvas { area: buffer.area, buffer, look };
        self.title(facts, canvas);
        canvas.rule(2);
        canvas.rule(usize::from(canvas.area.height).saturating_sub(2));
        let (top, height) = (3_usize, usize::from(canvas.area.height).saturating_sub(AROUND));
        let question = self.console.question(now);
        let cursor = question.as_ref().and_then(|question| self.dialog(question, top, height, canvas));
        if question.is_none() {
            self.rows(facts, top, height, canvas);
        }
        self.foot(now, canvas);
        cursor
    }

    fn title(&self, facts: &Facts, canvas: &mut Canvas) {
        let (tone, _) = pages::health(facts);
        let page = match self.console.view {
            View::Front => String::new(),
            View::Test => format!(": {}", Tab::Test.name()),
            View::Tab(tab) => format!(": {}", tab.name()),
        };
        let clock = facts.status.as_ref().map(|status| time::format(status.now_ns, 0)).unwrap_or_default();
        let left = format!(" Raven {}{page}", escape::text(facts.name()));
        let right = format!("{}  {clock} ", pages::word(tone));
        let width = usize::from(canvas.area.width);
        let room = width.saturating_sub(right.chars().count() + 1);
        let left: String = left.chars().take(room).collect();
        let bar = format!("{left:<room$} {right}");
        canvas.text(0, 0, &bar, canvas.style(tone).add_modifier(Modifier::REVERSED));
        match self.console.view {
            View::Front => _ = canvas.text(0, 1, " Telemetry appliance", Style::new()),
            View::Test => _ = canvas.text(0, 1, " Tests of the network, for operators", Style::new()),
            View::Tab(_) => self.tabs(canvas),
        }
    }

    fn tabs(&self, canvas: &mut Canvas) {
        // Without spaces, and without the menu, which the keys below name too, where there is no room for them.
        let space = if canvas.area.width < 76 { "" } else { " " };
        let mut x = 0;
        for (number, tab) in Tab::ALL.iter().enumerate() {
            let is_here = self.console.view == View::Tab(*tab);
            let style = if is_here { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
            x = canvas.text(x, 1, &format!("{}{space}{}", number + 1, tab.name()), style) + 1;
        }
        let menu = format!("0{space}Menu");
        if usize::from(canvas.area.width.saturating_sub(x)) >= menu.len() {
            canvas.text(x, 1, &menu, Style::new());
        }
    }

    fn rows(&mut self, facts: &Facts, top: usize, height: usize, canvas: &mut Canvas) {
        let width = usize::from(canvas.area.width).saturating_sub(2);
        let room = Room { width, bars: canvas.look.bars };
        let rows = self.console.rows(facts, room);
        let lines: Vec<Row> = rows.into_iter().flat_map(|row| wrapped(&row, width, INSET)).collect();
        self.page = height;
        let most = lines.len().saturating_sub(height);
        self.console.scroll = self.console.scroll.min(most);
        let below = most - self.console.scroll;
        for (at, row) in lines.iter().skip(self.console.scroll).take(height).enumerate() {
            canvas.row(1, top + at, row);
        }
        canvas.more(top + height, below);
    }

    fn dialog(&mut self, question: &Question, top: usize, height: usize, canvas: &mut Canvas) -> Option<(u16, u16)> {
        let width = usize::from(canvas.area.width).saturating_sub(2);
        let mut lines: Vec<Row> = vec![Row::of(Tone::Head, question.title.clone())];
        let error = self.editor.error.as_ref().or(question.error.as_ref());
        let said = question.text.iter().map(|text| Row::of(Tone::Plain, text.clone()));
        let wrong = error.map(|why| Row::of(Tone::Fail, format!("! {}", escape::text(why))));
        lines.extend(said.chain(wrong).flat_map(|row| wrapped(&row, width, 0)));
        lines.push(Row::of(Tone::Plain, ""));
        let (mut focus, mut column) = (lines.len(), None);
        match &question.kind {
            Kind::Choice { options, .. } => {
                focus += self.editor.selected;
                let option = |(at, words): (usize, &String)| {
                    let mark = if at == self.editor.selected { '>' } else { ' ' };
                    let line = format!("{mark} {:>2}  {}", at + 1, words);
                    Row::of(Tone::Plain, line.chars().take(width).collect::<String>())
                };
                lines.extend(options.iter().enumerate().map(option));
            }
            Kind::Line { preset, is_secret } => {
                let (line, end) = typed(&self.editor.line, preset, *is_secret, width);
                lines.push(Row::of(Tone::Plain, line));
                column = Some(end);
            }
        }
        let scroll = (focus + 1).saturating_sub(height);
        for (at, row) in lines.iter().skip(scroll).take(height).enumerate() {
            let is_selected = column.is_none() && at + scroll == focus;
            canvas.selectable(1, top + at, row, is_selected);
        }
        canvas.more(top + height, lines.len().saturating_sub(scroll + height));
        let cursor_row = u16::try_from(top + focus - scroll).unwrap_or(0);
        column.map(|column| (u16::try_from(column + 1).unwrap_or(0), cursor_row))
    }

    fn foot(&self, now: Instant, canvas: &mut Canvas) {
        let last = usize::from(canvas.area.height).saturating_sub(1);
        let keys = match (self.console.question(now).map(|question| question.kind), self.console.view) {
            (Some(Kind::Choice { .. }), _) => "number or arrows: choose   Enter: take   Esc: back",
            (Some(Kind::Line { .. }), _) => "Enter: take   Esc: back   Ctrl-U: empty the line",
            (None, View::Front) => &format!("{}   t: test the network", self.console.invitation()),
            (None, View::Test | View::Tab(Tab::Test)) => self.test_keys(),
            (None, View::Tab(_)) => "1-8, Tab: page   0: menu   arrows: scroll   Ctrl-C: log out",
        };
        match &self.console.notice {
            Some(notice) => canvas.row(1, last, notice),
            None => canvas.row(1, last, &Row::of(Tone::Plain, keys)),
        }
    }
}

impl Screen {
    fn test_keys(&self) -> &'static str {
        let is_guest = self.console.view == View::Test;
        match (self.console.testing.is_running(), self.console.testing.last().is_some()) {
            (true, _) => "s: stop   Enter: another test   arrows: scroll",
            (false, true) if is_guest => "Enter: choose a test   r: again   arrows: scroll   Esc: back",
            (false, true) => "Enter: choose a test   r: again   arrows: scroll   0: menu",
            (false, false) if is_guest => "Enter: choose a test   Esc: back",
            (false, false) => "Enter: choose a test   1-8: page   0: menu",
        }
    }
}

/// A typed line as far as it fits, its end in sight, and the column of the cursor.
fn typed(line: &str, preset: &str, is_secret: bool, width: usize) -> (String, usize) {
    let prompt = if preset.is_empty() { "> ".to_owned() } else { format!("[{}] > ", escape::text(preset)) };
    let shown = if is_secret { "*".repeat(line.chars().count()) } else { escape::text(line) };
    let whole: Vec<char> = format!("{prompt}{shown}").chars().collect();
    // The cursor needs a column too. A screen may have no width at all.
    let start = (whole.len() + 1).saturating_sub(width).min(whole.len());
    let seen: String = whole[start..].iter().collect();
    let end = ratatui::text::Span::raw(seen.as_str()).width();
    (seen, end)
}

fn wrapped(row: &Row, width: usize, inset: usize) -> Vec<Row> {
    pages::wrap(&row.text, width, inset).into_iter().map(|text| Row::of(row.tone, text)).collect()
}

/// A buffer and how it is drawn on.
struct Canvas<'a> {
    area: Rect,
    buffer: &'a mut Buffer,
    look: Look,
}

impl Canvas<'_> {
    fn style(&self, tone: Tone) -> Style {
        let color = |color| if self.look.color { Style::new().fg(color) } else { Style::new() };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Head => Style::new().add_modifier(Modifier::BOLD),
            Tone::Good => color(Color::Green),
            Tone::Warn => color(Color::Yellow),
            Tone::Fail => color(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// As much as fits; the column behind it.
    fn text(&mut self, x: u16, y: usize, text: &str, style: Style) -> u16 {
        let y = u16::try_from(y).unwrap_or(u16::MAX);
        if x >= self.area.width || y >= self.area.height {
            return x;
        }
        self.buffer.set_stringn(x, y, text, usize::from(self.area.width - x), style).0
    }

    fn row(&mut self, x: u16, y: usize, row: &Row) {
        self.text(x, y, &row.text, self.style(row.tone));
    }

    fn selectable(&mut self, x: u16, y: usize, row: &Row, is_selected: bool) {
        let style = self.style(row.tone);
        self.text(x, y, &row.text, if is_selected { style.add_modifier(Modifier::REVERSED) } else { style });
    }

    /// In the rule below: how much is not seen.
    fn more(&mut self, y: usize, below: usize) {
        if below == 0 {
            return;
        }
        let text = format!(" {below} more: Down ");
        let x = usize::from(self.area.width).saturating_sub(text.len() + 1);
        self.text(u16::try_from(x).unwrap_or(0), y, &text, Style::new());
    }

    fn rule(&mut self, y: usize) {
        let line = if self.look.unicode { "─" } else { "-" };
        self.text(0, y, &line.repeat(usize::from(self.area.width)), Style::new());
    }
}
