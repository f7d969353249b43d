//! What strangers wrote, made fit for a terminal: nothing of it can move the cursor, set a title, answer for the
//! operator, or turn the direction of the line.

use raven_model::text::is_unsafe;
use std::fmt::Write as _;

/// One line of text: `\n`, `\t`, `\x1b`, `\u{202e}` instead of what they stand for. A backslash stays a backslash.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push(&mut out, c);
    }
    out
}

/// As [`text`], for bytes that need not be UTF-8: what is none becomes `\xff`.
pub fn bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut out, c));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_unsafe(c) && (c as u32) < 0x80 => _ = write!(out, "\\x{:02x}", c as u32),
        c if is_unsafe(c) => _ = write!(out, "\\u{{{:x}}}", c as u32),
        c => out.push(c),
    }
}

/// A line of JSON with the same value and without the characters that JSON allows and a terminal obeys.
pub fn json(line: &[u8]) -> String {
    let mut out = String::with_capacity(line.len());
    for c in String::from_utf8_lossy(line).chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_escape_sequence_is_shown_and_not_sent() {
        assert_eq!(text("a\u{1b}]0;owned\u{7}b\n"), "a\\x1b]0;owned\\x07b\\n");
        assert_eq!(text("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(text("user\u{202e}gnp.exe"), "user\\u{202e}gnp.exe");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_one_by_one() {
        assert_eq!(bytes(b"ok \xff\xc3\x28 \xc3\xbc"), "ok \\xff\\xc3( ü");
    }

    #[test]
    fn json_keeps_its_value() {
        let line = "{\"raw\":\"a\u{9b}\u{7f}\u{202e}\u{e0041}ü\"}";
        let safe = json(line.as_bytes());
        assert!(!safe.chars().any(is_unsafe));
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&safe), value(line));
    }

    proptest! {
        #[test]
        fn nothing_unsafe_gets_through(raw in prop::collection::vec(any::<u8>(), 0..300), words in "\\PC{0,20}|[\\x00-\\x{a0}]{0,40}") {
            prop_assert!(!bytes(&raw).chars().any(is_unsafe));
            prop_assert!(!text(&words).chars().any(is_unsafe));
            prop_assert!(!json(&raw).chars().any(is_unsafe));
        }
    }
}
