//! Labels as Loki takes them: `{name="value", other="value"}`.

use super::Reject;
use std::collections::BTreeMap;

/// Reads them; `None` for what they are not.
pub fn read(text: &[u8], reject: &mut Option<Reject>) -> Option<BTreeMap<String, String>> {
    let mut rest = text.trim_ascii().strip_prefix(b"{")?.trim_ascii_start();
    let mut labels = BTreeMap::new();
    loop {
        if let Some(behind) = rest.strip_prefix(b"}") {
            return behind.is_empty().then_some(labels);
        }
        let equals = memchr::memchr(b'=', rest)?;
        let name = rest[..equals].trim_ascii();
        if !is_name(name) {
            return None;
        }
        let (value, behind) = quoted(rest[equals + 1..].trim_ascii_start())?;
        let name = String::from_utf8_lossy(name).into_owned();
        if labels.insert(name, super::text(&value, reject)).is_some() {
            reject.get_or_insert(Reject::LabelTwice);
        }
        rest = behind.trim_ascii_start();
        match rest.strip_prefix(b",") {
            Some(behind) => rest = behind.trim_ascii_start(),
            None if rest.starts_with(b"}") => {}
            None => return None,
        }
    }
}

fn is_name(name: &[u8]) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':' || byte == b'.';
    name.first().is_some_and(|byte| !byte.is_ascii_digit()) && name.iter().all(|&byte| fine(byte))
}

/// A text in quotes as Go writes them, and what is behind it.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    if let Some(raw) = text.strip_prefix(b"`") {
        let end = memchr::memchr(b'`', raw)?;
        return Some((raw[..end].to_vec(), &raw[end + 1..]));
    }
    let mut rest = text.strip_prefix(b"\"")?;
    let mut value = Vec::new();
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest)?;
        value.extend_from_slice(&rest[..at]);
        if rest[at] == b'"' {
            return Some((value, &rest[at + 1..]));
        }
        rest = escaped(&rest[at + 1..], &mut value)?;
    }
}

/// What stands behind a backslash; returns what is behind that.
fn escaped<'a>(text: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&kind, rest) = text.split_first()?;
    let plain = match kind {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'v' => 11,
        b'\\' | b'"' | b'\'' => kind,
        b'x' => {
            let (code, rest) = digits(rest, 2, 16)?;
            value.push(u8::try_from(code).ok()?);
            return Some(rest);
        }
        b'u' | b'U' => {
            let (code, rest) = digits(rest, if kind == b'u' { 4 } else { 8 }, 16)?;
            value.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        b'0'..=b'7' => {
            let (code, rest) = digits(text, 3, 8)?;
            value.push(u8::try_from(code).ok()?);
            return Some(rest);
        }
        _ => return None,
    };
    value.push(plain);
    Some(rest)
}

fn digits(text: &[u8], count: usize, radix: u32) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(count)?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with(['+', '-']))?;
    Some((u32::from_str_radix(digits, radix).ok()?, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn labels(text: &str) -> Option<Vec<(String, String)>> {
        read(text.as_bytes(), &mut None).map(|labels| labels.into_iter().collect())
    }

    #[test]
    fn labels_are_read_with_their_escapes() {
        let pairs = labels(r#" { job = "a\"b\\c\n", path=`C:\x`,k8s.pod="\u00e9\x41\101", } "#).unwrap();
        let expected = [("job", "a\"b\\c\n"), ("k8s.pod", "\u{e9}AA"), ("path", r"C:\x")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(labels("{}"), Some(vec![]));
    }

    #[test]
    fn what_are_no_labels_is_none() {
        for bad in [
            "",
            "{",
            "job",
            "{job}",
            "{job=}",
            "{job=x}",
            r#"{job="x""#,
            r#"{job="x"} y"#,
            r#"{="x"}"#,
            r#"{1a="x"}"#,
            r#"{a="x" b="y"}"#,
            r#"{a="\q"}"#,
            r#"{a="\xg0"}"#,
            r#"{a="\u+041"}"#,
            r#"{a="\ud800"}"#,
            "{a=`x}",
        ] {
            assert_eq!(labels(bad), None, "{bad}");
        }
        let mut reject = None;
        read(br#"{a="x",a="y"}"#, &mut reject).unwrap();
        assert_eq!(reject, Some(Reject::LabelTwice));
        read(br#"{a="\xff"}"#, &mut reject).unwrap();
    }
}
