//! A place among the words of a module, and the few moves that its grammar is made of.

use super::lexer::{Kind, Token};

/// Something else was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: u32,
    pub expected: String,
}

/// The words still to be read.
pub struct Words<'t, 'a> {
    pub tokens: &'t [Token<'a>],
    pub at: usize,
}

impl<'a> Words<'_, 'a> {
    /// Whether none is left.
    pub const fn is_done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// A word further on; nothing for text in quotes.
    pub fn peek(&self, ahead: usize) -> &'a str {
        self.tokens.get(self.at + ahead).filter(|token| token.kind != Kind::Text).map_or("", |token| token.text)
    }

    /// Where the next word stands.
    pub fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    /// That the next word is not what was expected.
    pub fn fault(&self, expected: &str) -> Fault {
        let found = self.tokens.get(self.at).map_or("the end of the file", |token| token.text);
        let found: String = found.chars().take(40).collect();
        Fault { line: self.line(), expected: format!("{expected}, found `{}`", found.escape_debug()) }
    }

    /// This word.
    pub fn eat(&mut self, text: &str) -> Result<(), Fault> {
        if self.eat_if(text) { Ok(()) } else { Err(self.fault(&format!("`{text}`"))) }
    }

    /// A word of this kind.
    pub fn eat_kind(&mut self, kind: Kind, expected: &str) -> Result<&'a str, Fault> {
        let token = self.tokens.get(self.at).filter(|token| token.kind == kind);
        let text = token.map(|token| token.text).ok_or_else(|| self.fault(expected))?;
        self.at += 1;
        Ok(text)
    }

    /// This word, if it is there.
    pub fn eat_if(&mut self, text: &str) -> bool {
        let is_there = self.peek(0) == text && !self.is_done();
        self.at += usize::from(is_there);
        is_there
    }

    /// A number that fits.
    pub fn number<T: std::str::FromStr>(&mut self) -> Result<T, Fault> {
        let number = self.eat_kind(Kind::Number, "a number")?;
        number.parse().map_err(|_| self.fault(&format!("a number in its range before this, not {number:.40}")))
    }

    /// Over what stands between brackets, the opening one read already.
    pub fn skip_brackets(&mut self, open: &str, close: &str) -> Result<(), Fault> {
        let mut depth = 1_usize;
        while depth > 0 {
            if self.is_done() {
                return Err(self.fault(&format!("`{close}`")));
            }
            depth = if self.eat_if(open) {
                depth + 1
            } else if self.eat_if(close) {
                depth - 1
            } else {
                self.at += 1;
                depth
            };
        }
        Ok(())
    }
}
