//! The events of a body, as byte ranges: raw bytes are what is stored, so nothing is written anew.
//!
//! # What is refused, and what is kept broken
//!
//! It is decided by what the sender can do about it. A **refused** body is answered with 400 and nothing of it is
//! stored: the sender still has all of it, and its operator sees the reason. An **accepted** body is stored in full.
//!
//! - Objects or `<Event>`s one after the other (NDJSON, bulk, concatenated): a broken one does not take its neighbours
//!   with it. It was broken when it was written, so a repetition would bring the same bytes: it becomes an event like
//!   the others, up to where the next one starts, counted in [`Split::broken`].
//! - An array or `<Events>` is one document. Where it is broken, it was cut on its way or its writer is faulty; what
//!   the rest of it would have been is unknown, and a repetition may bring it whole: refused whole.
//! - A body in which no event is whole is of no known shape: refused.

use super::scan_json::{self, DEPTH_MAX, Fault, Kind};
use super::scan_xml;
use memchr::{memchr, memmem};
use std::fmt;
use std::ops::Range;

/// Longest event. Windows itself stops at 64 KiB of an event's own data; texts and escapes multiply that.
pub const EVENT_MAX: usize = 1 << 20;
/// Most events of a body; their ranges take 16 bytes each.
pub const EVENTS_MAX: usize = 1 << 20;
/// Bytes that may be looked at in vain, as a multiple of the body: broken events are scanned more than once.
const VAIN_MAX: usize = 8;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// How the events of a body were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// JSON objects: one, one per line, or one after the other.
    Objects,
    /// Arrays of JSON objects.
    Array,
    /// Pairs of action and document, as Elasticsearch's `_bulk` takes them.
    Bulk,
    /// `<Event>`s, or `<Events>` of them.
    Xml,
}

/// The events of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// How they were written.
    pub shape: Shape,
    /// Where each lies, in order; no two overlap.
    pub events: Vec<Range<usize>>,
    /// How many of them are broken.
    pub broken: usize,
    /// What is wrong with the first of those.
    pub first_fault: Option<Refusal>,
    /// Lines of `_bulk` that are not events.
    pub actions: usize,
}

impl IntoIterator for Split {
    type Item = Range<usize>;
    type IntoIter = std::vec::IntoIter<Range<usize>>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}

/// Why nothing of a body is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Where it shows, in bytes from the start of the body.
    pub at: usize,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a body or an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing, or nothing but white space.
    Empty,
    /// UTF-16, with a byte order mark or without.
    Utf16,
    /// Neither JSON objects nor `<Event>`s start here.
    UnknownShape,
    /// JSON or XML that ends too early.
    Truncated,
    /// Not JSON, or not XML.
    Malformed,
    /// A line ends in a JSON string.
    LineEndInString,
    /// More than 64 levels.
    TooDeep,
    /// An array holds something else than objects, or `<Events>` something else than `<Event>`s.
    NotAnEvent,
    /// An event longer than [`EVENT_MAX`].
    TooLong,
    /// More events than [`EVENTS_MAX`].
    TooMany,
    /// So many broken events inside each other that looking for whole ones was given up.
    TooBroken,
    /// Only bulk actions.
    NoEvent,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the body is empty",
            Self::Utf16 => "the body is UTF-16: send UTF-8",
            Self::UnknownShape => "expected JSON objects, an array of them, or Event XML",
            Self::Truncated => "ends in the middle of an event",
            Self::Malformed => "not valid JSON or XML",
            Self::LineEndInString => "a line ends inside a JSON string",
            Self::TooDeep => "nested deeper than 64 levels",
            Self::NotAnEvent => "expected an object, or an Event element",
            Self::TooLong => "an event is longer than 1 MiB",
            Self::TooMany => "more than 1048576 events in one body: send smaller batches",
            Self::TooBroken => "too many broken events",
            Self::NoEvent => "bulk actions without documents",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.reason, self.at)
    }
}

impl std::error::Error for Refusal {}

impl From<Fault> for Refusal {
    fn from(Fault { at, kind }: Fault) -> Self {
        let reason = match kind {
            Kind::End => Reason::Truncated,
            Kind::Syntax => Reason::Malformed,
            Kind::Depth => Reason::TooDeep,
            Kind::LineEnd => Reason::LineEndInString,
        };
        Self { at, reason }
    }
}

const fn refuse<T>(at: usize, reason: Reason) -> Result<T, Refusal> {
    Err(Refusal { at, reason })
}

/// Finds the events of a decompressed body.
pub fn split(body: &[u8]) -> Result<Split, Refusal> {
    if is_utf16(body) {
        return refuse(0, Reason::Utf16);
    }
    let start = skip_space(body, 0);
    let shape = match body.get(start) {
        None => return refuse(0, Reason::Empty),
        Some(b'<') => Shape::Xml,
        Some(b'[') => Shape::Array,
        Some(_) => Shape::Objects,
    };
    let found = Split { shape, events: Vec::new(), broken: 0, first_fault: None, actions: 0 };
    let mut finder = Finder { body, found, vain: 0, whole: false, awaits_document: false };
    if shape == Shape::Xml {
        finder.elements(start)?;
    } else {
        finder.objects(start)?;
    }
    match finder.found.first_fault {
        Some(fault) if !finder.whole => Err(fault),
        _ if finder.found.actions > 0 && finder.found.events.is_empty() => refuse(start, Reason::NoEvent),
        _ => Ok(finder.found),
    }
}

/// A byte order mark, or a NUL on one side of the first character.
fn is_utf16(body: &[u8]) -> bool {
    matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'{' | b'[' | b'<', ..] | [b'{' | b'[' | b'<', 0, ..])
}

/// White space and byte order marks; those also stand where files were put one behind the other.
fn skip_space(body: &[u8], mut at: usize) -> usize {
    loop {
        match body.get(at) {
            Some(b' ' | b'\t' | b'\r' | b'\n') => at += 1,
            Some(0xef) if body[at..].starts_with(BOM) => at += BOM.len(),
            _ => return at,
        }
    }
}

struct Finder<'a> {
    body: &'a [u8],
    found: Split,
    /// Bytes scanned for events that turned out broken.
    vain: usize,
    /// Something in the body is as it should be.
    whole: bool,
    /// The object before was an action of `_bulk` that has a document.
    awaits_document: bool,
}

impl Finder<'_> {
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
        if self.vain > self.body.len().saturating_mul(VAIN_MAX) {
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

const _: () = assert!(DEPTH_MAX == 64, "Reason::TooDeep says so");
