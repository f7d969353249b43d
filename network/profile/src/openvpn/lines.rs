//! OpenVPN's grammar, as `parse_line` and `read_inline_file` of its options.c have it: words apart by space, `#` and `;`
//! where a word would begin, quotes of both kinds, backslash escapes; `<tag>` to a line that begins with `</tag>`.
//!
//! Where OpenVPN goes on and says nothing (a NUL ends a line for it), this refuses.

use crate::report::{Finding, Remedy, Report, Verdict};
use crate::{BOM, Options};
use std::collections::BTreeSet;

/// Bytes of the longest line outside of inline blocks, without its end (OPTION_LINE_SIZE).
pub(crate) const LINE_MAX: usize = 255;
/// Words of a line (MAX_PARMS).
const WORDS_MAX: usize = 16;

/// One line, taken apart.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub number: u32,
    /// The directive, without leading `--`, and what stands behind it. Never empty.
    pub words: Vec<Word>,
    /// What stands between `<tag>` and `</tag>`.
    pub block: Option<&'a str>,
    /// Line of the `<connection>` that it stands in.
    pub inside: Option<u32>,
}

/// One word of a line.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub text: String,
    /// In characters, counted from 1.
    pub column: u32,
}

/// What a profile consists of.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Line(Line<'a>),
    /// `<connection>`
    Open,
    /// `</connection>` of the one that opens at that line.
    Close(u32),
}

/// Takes a profile apart. What cannot be read becomes a finding; lines that are to be left out are.
pub(crate) fn items<'a>(bytes: &'a [u8], options: &Options, report: &mut Report) -> Vec<Item<'a>> {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let mut reader = Reader { bytes, at: 0, number: 0, before: 0, inside: None, options, report, items: Vec::new() };
    while let Some(line) = reader.next() {
        if reader.report.is_full() {
            reader.report.whole("", Verdict::Refused, "too much is wrong; the rest was not looked at");
            break;
        }
        reader.line(line);
    }
    if let Some(open) = reader.inside {
        reader.refuse(open, 1, "connection", "is not closed: </connection> is missing");
    }
    let (items, lines) = (std::mem::take(&mut reader.items), reader.number);
    unused(options, lines, report);
    items
}

struct Reader<'a, 'o> {
    bytes: &'a [u8],
    /// Bytes read so far.
    at: usize,
    /// Of the line read last.
    number: u32,
    /// Where that line begins.
    before: usize,
    /// Line of the `<connection>` that is open.
    inside: Option<u32>,
    options: &'o Options,
    report: &'o mut Report,
    items: Vec<Item<'a>>,
}

impl<'a> Reader<'a, '_> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
        self.before = self.at;
        self.at += line.len() + 1;
        self.number += 1;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn line(&mut self, raw: &'a [u8]) {
        let number = self.number;
        let left_out = self.options.without.contains(&number);
        let words = match words_of(raw) {
            Ok(words) if words.is_empty() => return,
            Ok(words) => words,
            Err(_) if left_out => return self.leave_out(number),
            Err((column, reason)) => return self.refuse(number, column, "", reason),
        };
        match tag(&words).map(str::to_owned) {
            Some(tag) if tag == "connection" => self.open(number, left_out),
            Some(tag) if tag == "/connection" && self.inside.is_some() => {
                self.items.extend(self.inside.take().map(Item::Close));
            }
            Some(_) | None if left_out && tag(&words).is_none_or(|tag| tag.starts_with('/')) => self.leave_out(number),
            Some(tag) if tag.starts_with('/') => self.refuse(number, 1, "", "closes a block that is not open"),
            Some(tag) => self.block(number, words, &tag, left_out),
            None => self.push(number, words, None),
        }
    }

    fn open(&mut self, number: u32, left_out: bool) {
        if left_out {
            self.leave_out(number);
            self.until("connection");
        } else if self.inside.is_some() {
            self.refuse(number, 1, "connection", "stands within another <connection>");
            self.until("connection");
        } else {
            self.inside = Some(number);
            self.items.push(Item::Open);
        }
    }

    fn block(&mut self, number: u32, mut words: Vec<Word>, tag: &str, left_out: bool) {
        let first = self.at;
        let closed = self.until(tag);
        if left_out {
            return self.leave_out(number);
        }
        if !closed {
            let known = super::table::find(tag).map_or("", |rule| rule.name);
            return self.refuse(number, 1, known, "the inline block is not closed: its line </...> is missing");
        }
        let content = self.bytes.get(first..self.before).map(std::str::from_utf8);
        let Some(Ok(content)) = content.filter(|content| content.is_ok_and(|text| !text.contains('\0'))) else {
            return self.refuse(number, 1, "", "the inline block holds a NUL byte or is no UTF-8 text");
        };
        if let Some(word) = words.first_mut() {
            tag.clone_into(&mut word.text);
        }
        self.push(number, words, Some(content));
    }

    /// Skips to the line that closes `tag`, and says whether there was one. Without, everything is the block.
    fn until(&mut self, tag: &str) -> bool {
        let close = format!("</{tag}>");
        while let Some(line) = self.next() {
            if line.trim_ascii_start().starts_with(close.as_bytes()) {
                return true;
            }
        }
        false
    }

    fn push(&mut self, number: u32, mut words: Vec<Word>, block: Option<&'a str>) {
        if let Some(word) = words.first_mut()
            && word.text.len() > 2
            && word.text.starts_with("--")
        {
            word.text.drain(..2);
        }
        self.items.push(Item::Line(Line { number, words, block, inside: self.inside }));
    }

    fn leave_out(&mut self, line: u32) {
        let reason = "as was asked for".to_owned();
        let verdict = Verdict::Dropped;
        self.report.add(Finding { line, column: 0, directive: String::new(), verdict, reason, remedy: None });
    }

    fn refuse(&mut self, line: u32, column: u32, directive: &str, reason: &str) {
        let remedy = Some(Remedy::LeaveOut);
        let (directive, reason) = (directive.to_owned(), reason.to_owned());
        self.report.add(Finding { line, column, directive, verdict: Verdict::Refused, reason, remedy });
    }
}

/// Says which of the lines that were to be left out were none: a slip of the finger would else leave out nothing.
fn unused(options: &Options, lines: u32, report: &mut Report) {
    let used: BTreeSet<u32> = report.findings.iter().map(|finding| finding.line).collect();
    let unused: Vec<u32> = options.without.difference(&used).copied().take(8).collect();
    for line in unused {
        let what = if line > lines { "the profile has no such line" } else { "no directive begins there" };
        let reason = format!("was to be left out, but {what}");
        let verdict = Verdict::Warning;
        report.add(Finding { line, column: 0, directive: String::new(), verdict, reason, remedy: None });
    }
}

/// `tag` of a line that is `<tag>` and nothing else.
fn tag(words: &[Word]) -> Option<&str> {
    let [word] = words else { return None };
    word.text.strip_prefix('<')?.strip_suffix('>').filter(|tag| !tag.is_empty())
}

/// Takes a line apart; the error has column and reason, and none of the text.
fn words_of(raw: &[u8]) -> Result<Vec<Word>, (u32, &'static str)> {
    if raw.len() > LINE_MAX {
        return Err((0, "the line is longer than 255 bytes, which OpenVPN does not read"));
    }
    let Ok(text) = std::str::from_utf8(raw) else {
        return Err((0, "the line is no UTF-8 text"));
    };
    if let Some(at) = text.chars().position(|c| c.is_control() && !is_space(c)) {
        return Err((at as u32 + 1, "the line holds a control character, which no profile needs"));
    }
    split(text)
}

/// As C's isspace.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Between,
    Bare,
    Double,
    Single,
}

fn split(text: &str) -> Result<Vec<Word>, (u32, &'static str)> {
    let (mut words, mut word) = (Vec::new(), Word { text: String::new(), column: 0 });
    let (mut state, mut escaped) = (State::Between, false);
    // OpenVPN takes the NUL at the end of a line for a space.
    for (column, c) in (1..).zip(text.chars().chain(std::iter::once(' '))) {
        if c == '\\' && !escaped && state != State::Single {
            escaped = true;
            continue;
        }
        if state == State::Between && matches!(c, '#' | ';') {
            break;
        }
        if escaped && !matches!(c, '\\' | '"') && !is_space(c) {
            return Err((column, "a backslash stands before what needs none; a backslash itself is written \\\\"));
        }
        let plain = escaped;
        escaped = false;
        match state {
            State::Between if is_space(c) => {}
            State::Between => {
                word.column = column;
                state = State::begun_by(c, plain);
                if state == State::Bare {
                    word.text.push(c);
                }
            }
            _ if !state.is_ended_by(c, plain) => word.text.push(c),
            _ if words.len() == WORDS_MAX => return Err((word.column, "more than 16 words on a line")),
            _ => {
                words.push(std::mem::replace(&mut word, Word { text: String::new(), column: 0 }));
                state = State::Between;
            }
        }
    }
    match state {
        State::Between => Ok(words),
        State::Bare => Err((word.column, "a backslash stands at the end of the line")),
        State::Double | State::Single => Err((word.column, "a quotation mark is not closed")),
    }
}

impl State {
    fn begun_by(c: char, plain: bool) -> Self {
        match c {
            '"' if !plain => Self::Double,
            '\'' if !plain => Self::Single,
            _ => Self::Bare,
        }
    }

    fn is_ended_by(self, c: char, plain: bool) -> bool {
        match self {
            Self::Between => false,
            Self::Bare => is_space(c) && !plain,
            Self::Double => c == '"' && !plain,
            Self::Single => c == '\'',
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        words_of(line.as_bytes()).unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_are_told_apart_as_openvpn_does() {
        assert_eq!(texts("  remote a\t1194 # comment"), ["remote", "a", "1194"]);
        assert_eq!(texts("ca \"a # b\" ;c"), ["ca", "a # b"]);
        assert_eq!(texts("ca a#b"), ["ca", "a#b"]);
        assert_eq!(texts(r#"ca a\ b 'c\d' "e\"f" "g\\h""#), ["ca", "a b", r"c\d", "e\"f", r"g\h"]);
        assert_eq!(texts(r#"a "b"c ''"#), ["a", "b", "c", ""]);
        assert_eq!(texts(";remote a"), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_read_has_its_column() {
        let column = |line: &[u8]| words_of(line).unwrap_err().0;
        assert_eq!(column(b"ca \"x"), 4);
        assert_eq!(column(br"ca C:\keys"), 7);
        assert_eq!(column(b"ca x\\"), 4);
        assert_eq!(column(b"ca x\0y"), 5);
        assert_eq!(column(b"ca \xff"), 0);
        assert_eq!(column(&[b'a'; 256]), 0);
        assert_eq!(column(b"a b c d e f g h i j k l m n o p q"), 33);
        assert!(words_of(&[b'a'; 255]).is_ok());
    }
}
