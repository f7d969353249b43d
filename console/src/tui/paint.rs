//! What changed between two screens, as bytes that every terminal since the VT100 knows: cursor addressing, erasing,
//! bold, reverse and the eight colours. No alternate screen, no mouse.

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use std::io::Write as _;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Colours.
    pub color: bool,
    /// Lines and characters beyond ASCII.
    pub unicode: bool,
    /// Among them bars of eight heights, which the kernel's own font has not.
    pub bars: bool,
}

impl Look {
    /// What works everywhere.
    pub const PLAIN: Self = Self { color: false, unicode: false, bars: false };

    /// By `NO_COLOR`, `TERM` and the locale; `ascii` asks for ASCII whatever these say.
    pub fn detect(ascii: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_uppercase();
        let term = set("TERM").unwrap_or_default();
        let has_color = ["linux", "color", "xterm", "screen", "tmux"].iter().any(|known| term.contains(known));
        let unicode = !ascii && (locale.contains("UTF-8") || locale.contains("UTF8"));
        Self { color: has_color && set("NO_COLOR").is_none(), unicode, bars: unicode && term != "linux" }
    }
}

/// Clears the terminal, for a screen that is drawn whole.
pub const CLEAR: &[u8] = b"\x1b[0m\x1b[H\x1b[2J";

/// Makes a terminal that shows `before` show `after`, with the cursor there, or hidden.
pub fn difference(before: &Buffer, after: &Buffer, cursor: Option<(u16, u16)>, look: Look) -> Vec<u8> {
    let mut out = b"\x1b[?25l".to_vec();
    let (mut at, mut style) = (None, None);
    for (x, y, cell) in before.diff(after) {
        if at != Some((x, y)) {
            // Rows and columns count from 1.
            let _ = write!(out, "\x1b[{};{}H", y + 1, x + 1);
        }
        if style != Some(styled(cell, look)) {
            style = Some(styled(cell, look));
            sgr(cell, look, &mut out);
        }
        at = Some((x + symbol(cell, look, &mut out), y));
    }
    out.extend_from_slice(b"\x1b[0m");
    if let Some((x, y)) = cursor {
        let _ = write!(out, "\x1b[{};{}H\x1b[?25h", y + 1, x + 1);
    }
    out
}

/// Writes what a cell shows; the columns that it takes.
fn symbol(cell: &Cell, look: Look, out: &mut Vec<u8>) -> u16 {
    let shown = cell.symbol();
    let columns = u16::try_from(ratatui::text::Span::raw(shown).width()).unwrap_or(1).max(1);
    if look.unicode || shown.is_ascii() {
        out.extend_from_slice(shown.as_bytes());
    } else {
        out.extend((0..columns).map(|_| b'?'));
    }
    columns
}

fn styled(cell: &Cell, look: Look) -> (Color, Modifier) {
    (if look.color { cell.fg } else { Color::Reset }, cell.modifier)
}

fn sgr(cell: &Cell, look: Look, out: &mut Vec<u8>) {
    let (color, modifier) = styled(cell, look);
    out.extend_from_slice(b"\x1b[0");
    let said = [(Modifier::BOLD, b";1"), (Modifier::UNDERLINED, b";4"), (Modifier::REVERSED, b";7")];
    said.iter().filter(|(which, _)| modifier.contains(*which)).for_each(|(_, code)| out.extend_from_slice(*code));
    let code: &[u8] = match color {
        Color::Red => b";31",
        Color::Green => b";32",
        Color::Yellow => b";33",
        Color::Cyan => b";36",
        _ => b"",
    };
    out.extend_from_slice(code);
    out.push(b'm');
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    const AREA: Rect = Rect { x: 0, y: 0, width: 20, height: 4 };

    fn with(lines: &[(u16, &str)]) -> Buffer {
        let mut buffer = Buffer::empty(AREA);
        for (y, text) in lines {
            buffer.set_string(2, *y, text, Style::new());
        }
        buffer
    }

    #[test]
    fn a_terminal_that_got_the_difference_shows_the_screen() {
        let mut terminal = vt100::Parser::new(4, 20, 0);
        terminal.process(CLEAR);
        let screens =
            [with(&[(0, "first"), (3, "till the very end")]), with(&[(0, "fist"), (1, "new")]), with(&[(3, "x")])];
        let mut before = Buffer::empty(AREA);
        for screen in screens {
            terminal.process(&difference(&before, &screen, Some((1, 1)), Look::PLAIN));
            for y in 0..4 {
                let row: String = (0..20).map(|x| screen[(x, y)].symbol()).collect();
                let shown = terminal.screen().rows(0, 20).nth(usize::from(y)).unwrap_or_default();
                assert_eq!(shown.trim_end(), row.trim_end());
            }
            assert_eq!(terminal.screen().cursor_position(), (1, 1));
            before = screen;
        }
    }

    #[test]
    fn what_is_the_same_is_not_sent_again() {
        let screen = with(&[(0, "a line"), (1, "b")]);
        let changed = with(&[(0, "a linE"), (1, "b")]);
        let bytes = difference(&screen, &changed, None, Look::PLAIN);
        assert_eq!(String::from_utf8_lossy(&bytes), "\x1b[?25l\x1b[1;8H\x1b[0mE\x1b[0m");
        assert_eq!(difference(&screen, &screen, None, Look::PLAIN), b"\x1b[?25l\x1b[0m");
    }

    #[test]
    fn without_unicode_and_colour_nothing_but_ascii_and_no_colour_is_sent() {
        let mut buffer = Buffer::empty(AREA);
        buffer.set_string(0, 0, "─ü漢x", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        let bytes = difference(&Buffer::empty(AREA), &buffer, None, Look::PLAIN);
        assert!(bytes.is_ascii(), "{bytes:?}");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("\x1b[0;1m????x") && !text.contains(";31"), "{text:?}");
        let bytes = difference(&Buffer::empty(AREA), &buffer, None, Look { color: true, unicode: true, bars: true });
        assert!(String::from_utf8_lossy(&bytes).contains("\x1b[0;1;31m─ü漢x"));
    }

    #[test]
    fn what_a_terminal_can_is_read_from_the_environment() {
        let of = |pairs: &'static [(&str, &str)], ascii| {
            Look::detect(ascii, |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(of(&[("TERM", "vt220")], false), Look::PLAIN);
        let both = Look { color: true, unicode: true, bars: false };
        assert_eq!(of(&[("TERM", "linux"), ("LANG", "C.UTF-8")], false), both);
        assert_eq!(of(&[("TERM", "xterm"), ("LANG", "C.UTF-8")], false), Look { bars: true, ..both });
        assert_eq!(of(&[("TERM", "linux"), ("LANG", "C.UTF-8")], true), Look { unicode: false, ..both });
        assert_eq!(of(&[("TERM", "linux"), ("NO_COLOR", "1")], false), Look::PLAIN);
        assert_eq!(of(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")], false), Look::PLAIN);
    }
}
