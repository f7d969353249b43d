//! Event XML: elements, attributes and texts as values with paths, like those of JSON.

use super::path::{Before, Path};
use super::scan_json::{DEPTH_MAX, Fault, Kind};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Calls `visit` with each attribute, as `@Name`, and each element's own text; `None` for an empty one.
pub fn walk(raw: &[u8], visit: &mut dyn FnMut(&Path, Option<&str>)) -> Result<(), Fault> {
    let raw = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw);
    let text = String::from_utf8_lossy(raw);
    let mut reader = Reader::from_str(&text);
    let mut walker = Walker { path: Path::default(), open: Vec::new(), text: String::new(), visit };
    loop {
        let at = place(&reader);
        match reader.read_event() {
            Ok(Event::Start(start)) => walker.start(&start).ok_or(Fault { at, kind: Kind::Depth })?,
            Ok(Event::Empty(start)) => {
                walker.start(&start).ok_or(Fault { at, kind: Kind::Depth })?;
                walker.end();
            }
            Ok(Event::End(_)) => walker.end(),
            Ok(Event::Text(text)) => walker.text.push_str(&text),
            Ok(Event::CData(text)) => walker.text.push_str(&text),
            Ok(Event::GeneralRef(name)) => walker.reference(&name),
            Ok(Event::Eof) if walker.open.is_empty() => return Ok(()),
            Ok(Event::Eof) => {
                walker.leave();
                return Err(Fault { at: raw.len(), kind: Kind::End });
            }
            // Entities of a document type stay as they are written: nothing grows.
            Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_)) => {}
            Err(_) => {
                walker.leave();
                return Err(Fault { at: place(&reader).min(raw.len()), kind: Kind::Syntax });
            }
        }
    }
}

fn place(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

struct Element {
    before: Before,
    has_children: bool,
    has_attributes: bool,
}

struct Walker<'v> {
    path: Path,
    open: Vec<Element>,
    /// The text of the innermost element so far.
    text: String,
    visit: &'v mut dyn FnMut(&Path, Option<&str>),
}

impl Walker<'_> {
    fn start(&mut self, start: &BytesStart<'_>) -> Option<()> {
        if self.open.len() == DEPTH_MAX as usize {
            return None;
        }
        self.leave();
        if let Some(parent) = self.open.last_mut() {
            parent.has_children = true;
        }
        let before = self.path.push(start.local_name().as_ref());
        let has_attributes = start.attributes().with_checks(false).next().is_some();
        self.open.push(Element { before, has_children: false, has_attributes });
        for attribute in start.attributes().with_checks(false).flatten() {
            let before = self.path.push(&format!("@{}", attribute.key.as_ref()));
            (self.visit)(&self.path, Some(&unescape(&attribute.value)));
            self.path.pop(before);
        }
        Some(())
    }

    /// Gives away the text of an element that a child begins in, or that the end of the document breaks off.
    fn leave(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.trim_ascii().is_empty() {
            (self.visit)(&self.path, Some(&text));
        }
    }

    fn end(&mut self) {
        let Some(Element { before, has_children, has_attributes }) = self.open.pop() else { return };
        if has_children {
            self.leave();
        } else {
            let text = std::mem::take(&mut self.text);
            // What has attributes only says nothing by itself, but for a `Data` with a name and an empty value.
            if !text.is_empty() {
                (self.visit)(&self.path, Some(&text));
            } else if !has_attributes || self.path.folded().ends_with("eventdata.data") {
                (self.visit)(&self.path, None);
            }
        }
        self.path.pop(before);
    }

    fn reference(&mut self, name: &str) {
        if let Some(c) = entity(name) {
            self.text.push(c);
        } else {
            self.text.push('&');
            self.text.push_str(name);
            self.text.push(';');
        }
    }
}

/// The five names of XML, and numbers.
fn entity(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    })
}

/// An attribute's value as text.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        out.push_str(before);
        let found = behind.split_once(';').and_then(|(name, rest)| Some((entity(name)?, rest)));
        let (c, behind) = found.unwrap_or(('&', behind));
        out.push(c);
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> (Vec<String>, Option<Kind>) {
        let mut out = Vec::new();
        let fault =
            walk(raw.as_bytes(), &mut |path, value| out.push(format!("{}={}", path.name(), value.unwrap_or("-"))));
        (out, fault.err().map(|fault| fault.kind))
    }

    #[test]
    fn elements_attributes_and_texts() {
        let (out, fault) = read(
            "<?xml version='1.0'?><E xmlns='u'>\n <A b='&lt;1&#x41;&zz;'/><e:C> x&amp;<![CDATA[<]]> </e:C><D></D></E>",
        );
        assert_eq!(out, ["E.@xmlns=u", "E.A.@b=<1A&zz;", "E.C= x&< ", "E.D=-"]);
        assert_eq!(fault, None);
    }

    #[test]
    fn what_stands_before_a_fault_is_read() {
        assert_eq!(read("<E><A>1</A><B>2"), (vec!["E.A=1".to_owned(), "E.B=2".to_owned()], Some(Kind::End)));
        assert_eq!(read("<E><A>1</B>").1, Some(Kind::Syntax));
        assert_eq!(read(&"<E>".repeat(99)).1, Some(Kind::Depth));
    }

    #[test]
    fn entities_do_not_grow() {
        let (out, _) = read("<!DOCTYPE x [<!ENTITY a '&b;&b;'>]><E>&a;</E>");
        assert_eq!(out, ["E=&a;"]);
    }
}
