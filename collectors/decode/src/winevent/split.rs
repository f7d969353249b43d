//! The events of a body, as byte ranges: raw bytes are what is stored, so nothing is written anew.
//!
//! # What is refused, and what is kept broken
//!
//! It is decided by what the sender can do about it. A **refused** body is answered with 400 and nothing of it is
//! stored: the sender still has all of it, and its operator sees the reason. An **accepted** body is stored in full.
//!
//! - Objects or `<Event>`s one after the other (NDJSON, bulk, concatenated): a broken one does not take its neighbours
//!   with it. It was broken when it was written, so a repetition would bring the same bytes: it becomes an event like
//!   the others, up to the next line that starts with `{` or the next `<Event`, counted in [`Split::broken`].
//! - An array or `<Events>` is one document. Where it is broken, it was cut on its way or its writer is faulty; what
//!   the rest of it would have been is unknown, and a repetition may bring it whole: refused whole.
//! - A body in which no event is whole is of no known shape: refused.

use super::finder::{Finder, skip_space};
use super::scan_json::{DEPTH_MAX, Fault, Kind};
use std::fmt;
use std::ops::Range;

/// Longest event. Windows itself stops at 64 KiB of an event's own data; texts and escapes multiply that.
pub const EVENT_MAX: usize = 1 << 20;
/// Most events of a body; their ranges take 16 bytes each.
pub const EVENTS_MAX: usize = 1 << 20;
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

pub(super) const fn refuse<T>(at: usize, reason: Reason) -> Result<T, Refusal> {
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
    Finder::new(body, found).run(start)
}

/// A byte order mark, or a NUL on one side of the first character.
fn is_utf16(body: &[u8]) -> bool {
    matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'{' | b'[' | b'<', ..] | [b'{' | b'[' | b'<', 0, ..])
}

const _: () = assert!(DEPTH_MAX == 64, "Reason::TooDeep says so");
