//! Reads JSON a value at a time, forgiving: what is no UTF-8, a lone surrogate, a number of any size and an end that
//! comes too early all leave the fields before them readable.

use super::path::Path;
use super::scan_json::{DEPTH_MAX, Fault, Kind};
use std::borrow::Cow;

/// Calls `visit` with each value that is neither an object nor an array, and with `None` for null and what is empty.
pub fn walk(raw: &[u8], visit: &mut dyn FnMut(&Path, Option<&str>)) -> Result<(), Fault> {
    let mut walker = Walker { raw, at: 0, path: Path::default(), visit };
    walker.space();
    walker.value(0)?;
    walker.space();
    if walker.at < raw.len() { Err(walker.fault(Kind::Syntax)) } else { Ok(()) }
}

struct Walker<'a, 'v> {
    raw: &'a [u8],
    at: usize,
    path: Path,
    visit: &'v mut dyn FnMut(&Path, Option<&str>),
}

impl Walker<'_, '_> {
    fn peek(&self) -> Option<u8> {
        self.raw.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn fault(&self, kind: Kind) -> Fault {
        let kind = if self.at >= self.raw.len() { Kind::End } else { kind };
        Fault { at: self.at, kind }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: u32) -> Result<(), Fault> {
        match self.peek() {
            Some(b'{' | b'[') if depth == DEPTH_MAX => Err(self.fault(Kind::Depth)),
            Some(b'{') => self.members(depth + 1),
            Some(b'[') => self.items(depth + 1),
            Some(b'"') => {
                self.at += 1;
                let (text, whole) = self.string();
                (self.visit)(&self.path, Some(&text));
                if whole { Ok(()) } else { Err(self.fault(Kind::End)) }
            }
            _ => self.scalar(),
        }
    }

    fn members(&mut self, depth: u32) -> Result<(), Fault> {
        self.at += 1;
        self.space();
        if self.eat(b'}') {
            (self.visit)(&self.path, None);
            return Ok(());
        }
        loop {
            self.space();
            if !self.eat(b'"') {
                return Err(self.fault(Kind::Syntax));
            }
            let (key, whole) = self.string();
            self.space();
            if !whole || !self.eat(b':') {
                return Err(self.fault(Kind::Syntax));
            }
            self.space();
            let before = self.path.push(&key);
            let done = self.value(depth);
            self.path.pop(before);
            done?;
            self.space();
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.fault(Kind::Syntax));
            }
        }
    }

    /// The items of an array have its path.
    fn items(&mut self, depth: u32) -> Result<(), Fault> {
        self.at += 1;
        self.space();
        if self.eat(b']') {
            (self.visit)(&self.path, None);
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth)?;
            self.space();
            if self.eat(b']') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.fault(Kind::Syntax));
            }
        }
    }

    fn scalar(&mut self) -> Result<(), Fault> {
        let rest = &self.raw[self.at..];
        let is_scalar = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let scalar = &rest[..rest.iter().take_while(|byte| is_scalar(byte)).count()];
        if scalar.is_empty() {
            return Err(self.fault(Kind::Syntax));
        }
        self.at += scalar.len();
        let text = String::from_utf8_lossy(scalar);
        (self.visit)(&self.path, (text != "null").then_some(&*text));
        Ok(())
    }

    /// The string whose first byte is next, and whether it has an end.
    fn string(&mut self) -> (Cow<'static, str>, bool) {
        let mut out = Vec::new();
        loop {
            let rest = &self.raw[self.at..];
            let plain = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'\\') => {
                    let mut utf8 = [0; 4];
                    let c = self.escape();
                    out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
                }
                end => {
                    self.at += usize::from(end.is_some());
                    return (text(out).into(), end.is_some());
                }
            }
        }
    }

    /// The character that the escape at the backslash stands for.
    fn escape(&mut self) -> char {
        let Some(&byte) = self.raw.get(self.at + 1) else {
            self.at = self.raw.len();
            return char::REPLACEMENT_CHARACTER;
        };
        if byte == b'u' {
            return self.unicode();
        }
        self.at += 2;
        match byte {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            byte if byte.is_ascii() => char::from(byte),
            _ => char::REPLACEMENT_CHARACTER,
        }
    }

    /// `\u00e9`, or a pair of surrogates.
    fn unicode(&mut self) -> char {
        let Some(first) = self.unit(self.at) else {
            self.at += 2;
            return char::REPLACEMENT_CHARACTER;
        };
        self.at += 6;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        match self.unit(self.at) {
            Some(second @ 0xdc00..0xe000) => {
                self.at += 6;
                let c = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => char::REPLACEMENT_CHARACTER,
        }
    }

    /// The four digits of a `\u` at `at`.
    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.raw.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
    }
}

/// Bytes as text; what is not UTF-8 becomes U+FFFD.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &[u8]) -> (Vec<String>, Option<Kind>) {
        let mut out = Vec::new();
        let fault = walk(raw, &mut |path, value| out.push(format!("{}={}", path.name(), value.unwrap_or("-")))).err();
        (out, fault.map(|fault| fault.kind))
    }

    #[test]
    fn every_value_has_a_path() {
        let (out, fault) = read(br#" {"a":{"b":[1,"x",{"c":null}],"d.e":true},"f":{},"g":[]} "#);
        assert_eq!(out, ["a.b=1", "a.b=x", "a.b.c=-", "a.d.e=true", "f=-", "g=-"]);
        assert_eq!(fault, None);
    }

    #[test]
    fn escapes_and_what_is_no_text() {
        let (out, _) = read(br#"{"a":"\u00e9\ud83d\ude00\ud83d\"\\\/\n","b":"\q\uZZ"}"#);
        assert_eq!(out, ["a=\u{e9}\u{1f600}\u{fffd}\"\\/\n", "b=q\u{fffd}ZZ"]);
        assert_eq!(read(b"{\"a\":\"\xff\"}").0, ["a=\u{fffd}"]);
    }

    #[test]
    fn what_stands_before_a_fault_is_read() {
        assert_eq!(read(br#"{"a":1,"b":"xy"#), (vec!["a=1".to_owned(), "b=xy".to_owned()], Some(Kind::End)));
        assert_eq!(read(br#"{"a":1 "b"}"#), (vec!["a=1".to_owned()], Some(Kind::Syntax)));
        assert_eq!(read(b"{\"a\":\"x\\").1, Some(Kind::End));
        assert_eq!(read("[".repeat(99).as_bytes()).1, Some(Kind::Depth));
        assert_eq!(read(b"{}x").1, Some(Kind::Syntax));
    }
}
