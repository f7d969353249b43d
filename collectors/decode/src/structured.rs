//! STRUCTURED-DATA (RFC 5424, 6.3).

use crate::cursor::Cursor;
use std::collections::BTreeMap;

/// SD-ID to its parameters.
pub type Elements = BTreeMap<String, BTreeMap<String, String>>;

/// One element or more, with a space or the end behind the last bracket; `None` for what is malformed.
///
/// An element that comes twice is one element here. A parameter that comes twice (6.3.3 allows it, `ip` of `origin`
/// does) keeps all its values, with commas between them; one that only repeats the last is not added.
pub fn elements(c: &mut Cursor<'_>) -> Option<Elements> {
    let mut elements = Elements::new();
    element(c, &mut elements)?;
    while c.peek() == Some(b'[') {
        element(c, &mut elements)?;
    }
    matches!(c.peek(), None | Some(b' ')).then_some(elements)
}

fn element(c: &mut Cursor<'_>, elements: &mut Elements) -> Option<()> {
    c.eat(b'[')?;
    let params = elements.entry(name(c)?).or_default();
    while c.eat(b']').is_none() {
        c.eat(b' ')?;
        c.skip_spaces();
        if c.eat(b']').is_some() {
            break; // a space before the bracket: seen, harmless
        }
        let name = name(c)?;
        c.eat(b'=')?;
        let value = value(c)?;
        params.entry(name).and_modify(|values| add(values, &value)).or_insert(value);
    }
    Some(())
}

fn add(values: &mut String, value: &str) {
    let before = values.strip_suffix(value);
    if before.is_some_and(|before| before.is_empty() || before.ends_with(',')) {
        return;
    }
    values.push(',');
    values.push_str(value);
}

fn name(c: &mut Cursor<'_>) -> Option<String> {
    let name = c.take_while(usize::MAX, |byte| byte > b' ' && byte != 0x7f && !matches!(byte, b'=' | b']' | b'"'));
    crate::cursor::text(name)
}

/// A quoted value. `\"`, `\\` and `\]` stand for the second character; before any other, a backslash is itself
/// (6.3.3). A bare `]` passes, because devices do not escape it and the quotes are clear enough.
fn value(c: &mut Cursor<'_>) -> Option<String> {
    c.eat(b'"')?;
    let mut value = Vec::new();
    loop {
        value.extend_from_slice(c.take_while(usize::MAX, |byte| !matches!(byte, b'"' | b'\\')));
        match c.take(1)? {
            b"\"" => return Some(String::from_utf8_lossy(&value).into_owned()),
            _ => value.push(c.eat_if(|byte| matches!(byte, b'"' | b'\\' | b']')).unwrap_or(b'\\')),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Option<Elements> {
        elements(&mut Cursor::new(text.as_bytes()))
    }

    #[test]
    fn escapes_stand_for_one_character() {
        let elements = read(r#"[meta escape="\]\"\\\\\]\"" other="a\nb" bare="]q"]"#).unwrap();
        assert_eq!(elements["meta"]["escape"], r#"]"\\]""#);
        assert_eq!(elements["meta"]["other"], r"a\nb");
        assert_eq!(elements["meta"]["bare"], "]q");
    }

    #[test]
    fn a_parameter_that_comes_twice_keeps_both_values() {
        // RFC 5424, 6.3.3 and 7.2.1.
        let elements = read(r#"[origin ip="192.0.2.1" ip="192.0.2.129"][origin ip="x"]"#).unwrap();
        assert_eq!(elements["origin"]["ip"], "192.0.2.1,192.0.2.129,x");
        // Check Point sends some of its parameters twice, with one value.
        assert_eq!(read(r#"[a b="c" b="c" b="d" b="d"]"#).unwrap()["a"]["b"], "c,d");
    }

    #[test]
    fn what_is_malformed_is_refused_whole() {
        for text in [
            "[ ]",
            "[]]",
            "[a]]",
            "X",
            "-",
            "",
            "[",
            "[id",
            "[id k]",
            r#"[id k=""#,
            r#"[id k="v]"#,
            r#"[id k="v"j="w"]"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("[id]").unwrap()["id"].len(), 0);
    }

    #[test]
    fn hostile_nests_take_linear_time() {
        for text in ["[".repeat(65_536), "[a".repeat(32_768), "[a]".repeat(21_845), "[a b=\"\\".repeat(9_000)] {
            let _ = read(&text);
        }
    }
}
