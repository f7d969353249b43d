//! Where an XML element ends: tags are matched by name, attributes and text are not looked into.

use super::scan_json::{DEPTH_MAX, Fault, Kind};
use memchr::{memchr, memchr2, memchr3, memmem};

/// One byte behind the element whose start tag begins at `start` with `<`.
pub fn element(body: &[u8], start: usize) -> Result<usize, Fault> {
    let mut open: [&[u8]; DEPTH_MAX as usize] = [b""; DEPTH_MAX as usize];
    let mut depth = 0;
    let mut at = start;
    loop {
        let Some(tag) = memchr(b'<', &body[at..]).map(|found| at + found) else { return Err(end_of(body)) };
        let rest = &body[tag..];
        if let Some(behind) = skipped(body, tag)? {
            at = behind;
            continue;
        }
        let closing = rest.get(1) == Some(&b'/');
        let name = name(&rest[1 + usize::from(closing)..]);
        at = tag_end(body, tag)?;
        if closing {
            if depth == 0 || open[depth - 1] != name {
                return Err(Fault { at: tag, kind: Kind::Syntax });
            }
            depth -= 1;
        } else if name.is_empty() {
            return Err(Fault { at: tag, kind: Kind::Syntax });
        } else if body[at - 2] != b'/' {
            *open.get_mut(depth).ok_or(Fault { at: tag, kind: Kind::Depth })? = name;
            depth += 1;
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

/// Behind the comment, CDATA section or processing instruction that begins at `at`; `None` for a tag.
///
/// A document type is a fault: no event has one, and entities are how XML grows.
pub fn skipped(body: &[u8], at: usize) -> Result<Option<usize>, Fault> {
    const MARKUP: [(&[u8], &[u8]); 3] = [(b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")];
    let rest = &body[at..];
    for (start, end) in MARKUP {
        if rest.starts_with(start) {
            let inside = &rest[start.len()..];
            let found = memmem::find(inside, end).ok_or(end_of(body))?;
            return Ok(Some(at + start.len() + found + end.len()));
        }
    }
    if rest.starts_with(b"<!") { Err(Fault { at, kind: Kind::Syntax }) } else { Ok(None) }
}

/// The name that a tag begins with, without `<` and `</`.
pub fn name(tag: &[u8]) -> &[u8] {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | 0x80..);
    &tag[..tag.iter().take_while(|byte| is_name(byte)).count()]
}

/// One byte behind the `>` of the tag at `tag`. An attribute's value may hold `>`, but not `<`.
pub fn tag_end(body: &[u8], tag: usize) -> Result<usize, Fault> {
    let mut at = tag + 1;
    loop {
        let found = memchr3(b'>', b'"', b'\'', &body[at..]).map(|found| at + found).ok_or(end_of(body))?;
        if let Some(stray) = memchr(b'<', &body[at..found]) {
            return Err(Fault { at: at + stray, kind: Kind::Syntax });
        }
        if body[found] == b'>' {
            return Ok(found + 1);
        }
        let inside = found + 1;
        let close = memchr2(body[found], b'<', &body[inside..]).map(|close| inside + close).ok_or(end_of(body))?;
        if body[close] == b'<' {
            return Err(Fault { at: close, kind: Kind::Syntax });
        }
        at = close + 1;
    }
}

fn end_of(body: &[u8]) -> Fault {
    Fault { at: body.len(), kind: Kind::End }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_ends_at_its_own_tag() {
        for text in [
            "<Event/>",
            "<Event a='>' b=\"/>\"></Event>",
            "<Event><Event>x</Event><A/></Event>",
            "<Event><!-- </Event> --><![CDATA[</Event>]]><?p </Event>?></Event>",
            "<e:Event ><A b='1'>&lt;</A></e:Event >",
        ] {
            assert_eq!(element(format!("{text}<x>").as_bytes(), 0), Ok(text.len()), "{text}");
        }
    }

    #[test]
    fn a_fault_is_placed() {
        for (text, at, kind) in [
            ("<Event>", 7, Kind::End),
            ("<Event a='", 10, Kind::End),
            ("<Event><!-- </Event>", 20, Kind::End),
            ("<Event><A></Event>", 10, Kind::Syntax),
            ("<Event a='<Event>", 10, Kind::Syntax),
            ("<Event <Event>", 7, Kind::Syntax),
            ("<Event><!DOCTYPE x></Event>", 7, Kind::Syntax),
            ("<Event>< </Event>", 9, Kind::Syntax),
        ] {
            assert_eq!(element(text.as_bytes(), 0), Err(Fault { at, kind }), "{text}");
        }
        assert_eq!(element("<A>".repeat(65).as_bytes(), 0), Err(Fault { at: 192, kind: Kind::Depth }));
    }
}
