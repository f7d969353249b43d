//! Walks a body from event to event; `split.rs` says what is refused and what is kept broken.

use super::scan_json::{self, Fault, Kind};
use super::scan_xml;
use super::split::{EVENT_MAX, EVENTS_MAX, Reason, Refusal, Shape, Split, refuse};
use memchr::{memchr, memmem};
use std::ops::Range;

/// Bytes that may be looked at in vain, as a multiple of the body: broken events are scanned more than once.
const VAIN_MAX: usize = 8;
/// As many are always allowed, so that a few broken lines do not spoil a short body.
const VAIN_MIN: usize = 1 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// White space and byte order marks; those also stand where files were put one behind the other.
pub fn skip_space(body: &[u8], mut at: usize) -> usize {
    loop {
        match body.get(at) {
            Some(b' ' | b'\t' | b'\r' | b'\n') => at += 1,
            Some(0xef) if body[at..].starts_with(BOM) => at += BOM.len(),
            _ => return at,
        }
    }
}

/// The events that were found so far, and where the search stands.
pub struct Finder<'a> {
    body: &'a [u8],
    found: Split,
    /// Bytes scanned for events that turned out broken.
    vain: usize,
    /// Something in the body is as it should be.
    whole: bool,
    /// The object before was an action of `_bulk` that has a document.
    awaits_document: bool,
}

impl<'a> Finder<'a> {
    /// Begins with nothing found.
    pub const fn new(body: &'a [u8], found: Split) -> Self {
        Self { body, found, vain: 0, whole: false, awaits_document: false }
    }

    /// Finds what lies from `start` on.
    pub fn run(mut self, start: usize) -> Result<Split, Refusal> {
        if self.found.shape == Shape::Xml {
            self.elements(start)?;
        } else {
            self.objects(start)?;
        }
        match self.found.first_fault {
            Some(fault) if !self.whole => Err(fault),
            _ if self.found.actions > 0 && self.found.events.is_empty() => refuse(start, Reason::NoEvent),
            _ => Ok(self.found),
        }
    }

    fn objects(&mut self, mut at: usize) -> Result<(), Refusal> {
        let first = at;
        while let Some(&byte) = self.body.get(at) {
            at = match byte {
                b'{' => match scan_json::object(self.body, at) {
                    Ok(end) => self.object(at..end, at == first)?,
                    Err(fault) => self.broken(at, fault.into(), b"\n{", |_| true)?,
                },
                b'[' => self.array(at)?,
                _ => self.broken(at, Refusal { at, reason: Reason::UnknownShape }, b"\n{", |_| true)?,
            };
            at = skip_space(self.body, at);
        }
        Ok(())
    }

    /// A whole object: an event, or in a body that begins with one, an action.
    fn object(&mut self, range: Range<usize>, first: bool) -> Result<usize, Refusal> {
        let end = range.end;
        let may_be_action = first || (self.found.shape == Shape::Bulk && !self.awaits_document);
        if let Some(awaits_document) = may_be_action.then(|| action(&self.body[range.clone()])).flatten() {
            self.found.shape = Shape::Bulk;
            self.found.actions += 1;
            self.awaits_document = awaits_document;
            return Ok(end);
        }
        self.awaits_document = false;
        self.whole = true;
        self.push(range)?;
        Ok(end)
    }

    fn array(&mut self, start: usize) -> Result<usize, Refusal> {
        let mut at = skip_space(self.body, start + 1);
        self.whole = true;
        if self.body.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            match self.body.get(at) {
                Some(b'{') => {}
                Some(_) => return refuse(at, Reason::NotAnEvent),
                None => return refuse(at, Reason::Truncated),
            }
            let end = scan_json::object(self.body, at)?;
            self.push(at..end)?;
            at = skip_space(self.body, end);
            match self.body.get(at) {
                Some(b',') => at = skip_space(self.body, at + 1),
                Some(b']') => return Ok(at + 1),
                Some(_) => return refuse(at, Reason::Malformed),
                None => return refuse(at, Reason::Truncated),
            }
        }
    }

    fn elements(&mut self, mut at: usize) -> Result<(), Refusal> {
        while at < self.body.len() {
            at = match self.element(at) {
                Ok(behind) => behind?,
                Err(fault) => {
                    self.broken(at, fault.into(), b"<Event", |behind| matches!(scan_xml::name(behind), b"" | b"s"))?
                }
            };
            at = skip_space(self.body, at);
        }
        Ok(())
    }

    /// What begins at `at`; the outer error is a broken event, the inner one a broken body.
    fn element(&mut self, at: usize) -> Result<Result<usize, Refusal>, Fault> {
        let rest = &self.body[at..];
        if !rest.starts_with(b"<") {
            return Err(Fault { at, kind: Kind::Syntax });
        }
        if let Some(behind) = scan_xml::skipped(self.body, at)? {
            return Ok(Ok(behind));
        }
        match local(scan_xml::name(&rest[1..])) {
            b"Event" => {
                let end = scan_xml::element(self.body, at)?;
                self.whole = true;
                Ok(self.push(at..end).map(|()| end))
            }
            b"Events" => Ok(self.wrapped(at)),
            _ => Err(Fault { at, kind: Kind::Syntax }),
        }
    }

    /// `<Events>`: one document.
    fn wrapped(&mut self, start: usize) -> Result<usize, Refusal> {
        let mut at = scan_xml::tag_end(self.body, start)?;
        self.whole = true;
        if self.body[at - 2] == b'/' {
            return Ok(at);
        }
        loop {
            at = skip_space(self.body, at);
            let rest = &self.body[at..];
            if rest.is_empty() {
                return refuse(at, Reason::Truncated);
            }
            if !rest.starts_with(b"<") {
                return refuse(at, Reason::NotAnEvent);
            }
            if let Some(behind) = scan_xml::skipped(self.body, at)? {
                at = behind;
            } else if rest.starts_with(b"</") {
                let is_own = local(scan_xml::name(&rest[2..])) == b"Events";
                return if is_own { Ok(scan_xml::tag_end(self.body, at)?) } else { refuse(at, Reason::Malformed) };
            } else if local(scan_xml::name(&rest[1..])) == b"Event" {
                let end = scan_xml::element(self.body, at)?;
                self.push(at..end)?;
                at = end;
            } else {
                return refuse(at, Reason::NotAnEvent);
            }
        }
    }

    /// Takes what begins at `at` for one broken event, up to the next `start` of which the rest `fits`.
    fn broken(
        &mut self,
        at: usize,
        fault: Refusal,
        start: &[u8],
        fits: impl Fn(&[u8]) -> bool,
    ) -> Result<usize, Refusal> {
        let behind = &self.body[at + 1..];
        let next = memmem::find_iter(behind, start).find(|found| fits(&behind[found + start.len()..]));
        let end = next.map_or(self.body.len(), |found| at + 1 + found);
        self.vain = self.vain.saturating_add(fault.at.max(end) - at);
        if self.vain > self.body.len().saturating_mul(VAIN_MAX).max(VAIN_MIN) {
            return refuse(at, Reason::TooBroken);
        }
        self.found.first_fault.get_or_insert(fault);
        self.found.broken += 1;
        self.awaits_document = false;
        // The first byte is none of these, so that something is left.
        let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let length = self.body[at..end].iter().rposition(is_text).map_or(1, |last| last + 1);
        self.push(at..at + length)?;
        Ok(end)
    }

    fn push(&mut self, range: Range<usize>) -> Result<(), Refusal> {
        if range.len() > EVENT_MAX {
            return refuse(range.start, Reason::TooLong);
        }
        if self.found.events.len() == EVENTS_MAX {
            return refuse(range.start, Reason::TooMany);
        }
        self.found.events.push(range);
        Ok(())
    }
}

/// A name without its namespace prefix.
fn local(name: &[u8]) -> &[u8] {
    memchr(b':', name).map_or(name, |colon| &name[colon + 1..])
}

/// Whether an object is an action of `_bulk`: its only member is an object by one of four names. Says whether a
/// document follows.
fn action(object: &[u8]) -> Option<bool> {
    const ACTIONS: [(&[u8], bool); 4] =
        [(b"\"index\"", true), (b"\"create\"", true), (b"\"update\"", true), (b"\"delete\"", false)];
    let key = object[1..].trim_ascii_start();
    let (name, awaits_document) = ACTIONS.into_iter().find(|(name, _)| key.starts_with(name))?;
    let value = key[name.len()..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    if !value.starts_with(b"{") {
        return None;
    }
    let end = scan_json::object(value, 0).ok()?;
    (value[end..].trim_ascii() == b"}").then_some(awaits_document)
}
