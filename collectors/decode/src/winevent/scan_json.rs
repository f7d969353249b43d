//! Where a JSON object ends: brackets, quotes, commas and colons are checked, what stands in strings and numbers is not.
//!
//! This is the hot path of receiving. Most bytes of an event stand in strings, and those are left to `memchr`.

use memchr::memchr2;

/// Deepest nesting that is read; agents send up to eight.
pub const DEPTH_MAX: u32 = 64;

/// Words of eight bytes that are looked at one by one.
const SHORT: usize = 4;

/// What is wrong with an object, and where it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Offset in the body.
    pub at: usize,
    /// What is wrong.
    pub kind: Kind,
}

/// What is wrong with an object or an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body ends before it does.
    End,
    /// A byte that the grammar does not allow there.
    Syntax,
    /// Deeper than [`DEPTH_MAX`].
    Depth,
    /// A line ends in a string: JSON writes `\n`.
    LineEnd,
}

/// What the grammar allows next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    KeyOrEnd,
    Key,
    Colon,
    Value,
    ValueOrEnd,
    CommaOrEnd,
}

/// One byte behind the object that starts at `start` with `{`.
pub fn object(body: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start + 1;
    let mut depth: u32 = 1;
    // The innermost container is the lowest bit; an array is 1.
    let mut arrays: u64 = 0;
    let mut next = Next::KeyOrEnd;
    while let Some(&byte) = body.get(at) {
        let in_array = arrays & 1 == 1;
        match (byte, next) {
            (b'"', _) => {
                let end = string_end(body, at + 1)?;
                // What usually stands right behind it is taken along.
                let behind = body.get(end);
                (at, next) = match next {
                    Next::Key | Next::KeyOrEnd if behind == Some(&b':') => (end + 1, Next::Value),
                    Next::Key | Next::KeyOrEnd => (end, Next::Colon),
                    Next::Value | Next::ValueOrEnd if behind == Some(&b',') && !in_array => (end + 1, Next::Key),
                    Next::Value | Next::ValueOrEnd => (end, Next::CommaOrEnd),
                    Next::Colon | Next::CommaOrEnd => return Err(Fault { at, kind: Kind::Syntax }),
                };
                continue;
            }
            (b':', Next::Colon) => next = Next::Value,
            (b',', Next::CommaOrEnd) => next = if in_array { Next::Value } else { Next::Key },
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            (b'{' | b'[', Next::Value | Next::ValueOrEnd) => {
                if depth == DEPTH_MAX {
                    return Err(Fault { at, kind: Kind::Depth });
                }
                depth += 1;
                arrays = arrays << 1 | u64::from(byte == b'[');
                next = if byte == b'[' { Next::ValueOrEnd } else { Next::KeyOrEnd };
            }
            (b'}', Next::KeyOrEnd | Next::CommaOrEnd) if !in_array => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
                arrays >>= 1;
                next = Next::CommaOrEnd;
            }
            (b']', Next::ValueOrEnd | Next::CommaOrEnd) if in_array => {
                depth -= 1;
                arrays >>= 1;
                next = Next::CommaOrEnd;
            }
            (byte, Next::Value | Next::ValueOrEnd) if is_scalar(byte) => {
                at += body[at..].iter().take_while(|byte| is_scalar(**byte)).count();
                next = Next::CommaOrEnd;
                continue;
            }
            _ => return Err(Fault { at, kind: Kind::Syntax }),
        }
        at += 1;
    }
    Err(Fault { at: body.len(), kind: Kind::End })
}

/// Numbers, `true`, `false`, `null`, and what some writers make of numbers that JSON cannot say (`NaN`, `-Infinity`).
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// One byte behind the quote that ends the string whose first byte is at `at`.
fn string_end(body: &[u8], mut at: usize) -> Result<usize, Fault> {
    let start = at;
    loop {
        let Some(found) = quote_or_line_end(&body[at..]).map(|found| at + found) else {
            return Err(Fault { at: body.len(), kind: Kind::End });
        };
        if body[found] == b'\n' {
            return Err(Fault { at: found, kind: Kind::LineEnd });
        }
        at = found + 1;
        // Each run of backslashes stands before one quote, so that none is counted twice.
        let backslashes = body[start..found].iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Ok(at);
        }
    }
}

/// Most strings are short: eight bytes at a time are faster than a call until that is known not to be so.
fn quote_or_line_end(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The lowest marked byte is the first one that is zero; those above it may be marked wrongly.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, _) = bytes.as_chunks::<8>();
    for (n, word) in words.iter().take(SHORT).enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\n')));
        if found != 0 {
            return Some(n * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let from = words.len().min(SHORT) * 8;
    memchr2(b'"', b'\n', &bytes[from..]).map(|found| from + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_ends_at_its_own_brace() {
        for text in [
            "{}",
            r#"{"a":1}"#,
            "{ \"a\" : [ 1 , {} , [] , null ] ,\r\n\t\"b\" : { \"c\" : -1.5e+9 } }",
            r#"{"a":"}\"{","b":"c:\\"}"#,
            r#"{"a":NaN}"#,
        ] {
            for tail in ["", "{", "}", "\n", "x\""] {
                assert_eq!(object(format!("{text}{tail}").as_bytes(), 0), Ok(text.len()), "{text}");
            }
        }
    }

    #[test]
    fn a_fault_is_placed() {
        for (text, at, kind) in [
            (r#"{"a":1"#, 6, Kind::End),
            (r#"{"a":"x"#, 7, Kind::End),
            (r#"{"a":"x\"}"#, 10, Kind::End),
            ("{\"a\":\"x\n\"}", 7, Kind::LineEnd),
            (r#"{"a" 1}"#, 5, Kind::Syntax),
            (r#"{"a":1]"#, 6, Kind::Syntax),
            (r#"{"a":[1}"#, 7, Kind::Syntax),
            (r#"{"a":1,}"#, 7, Kind::Syntax),
            ("{\"a\":1\n{\"b\":2}", 7, Kind::Syntax),
            (r"{a:1}", 1, Kind::Syntax),
        ] {
            assert_eq!(object(text.as_bytes(), 0), Err(Fault { at, kind }), "{text}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(object(nested(63).as_bytes(), 0), Ok(63 * 2 + 6));
        assert_eq!(object(nested(64).as_bytes(), 0), Err(Fault { at: 5 + 63, kind: Kind::Depth }));
    }
}
