//! Windows events, as agents send them.
//!
//! [`split`](fn@split) finds the events of an HTTP body; they are stored as they lie in it. [`decode`] reads one of
//! them, anew at each view. Both take any bytes, and neither panics, recurses without bound or takes memory that the
//! input's size does not bound.
//!
//! Start at `meaning.rs`: one table says which name stands for which field. XML (`from_xml.rs`) and JSON (`json.rs`)
//! are walked to values with paths (`path.rs`), `collect.rs` puts them together, so that an event reads the same
//! whichever agent sent it. Snare's lines (`snare.rs`) and bare texts (`rendered.rs`) go their own way.
//!
//! # What a reader can rely on
//!
//! - What an event does not give is null. Levels beyond 5 are a provider's own and are null, too.
//! - `time` has the precision and offset that were given, `Z` where none was; then `assumed` says so. Where an event has
//!   several times, it is the one at which it was created.
//! - `user` is a SID where one is given, else `DOMAIN\name`. It is the account of the process that wrote the event,
//!   not one that the event tells about: those are in `data`.
//! - `data` has the event's own values by name, as text; those without a name are `param1`, `param2` and so on, as
//!   Winlogbeat has them, and a name that comes twice is followed by `_1`. Agents that do not keep them apart from the
//!   header (NXLog, flat Beats) get what is not known to be header.
//! - Bytes that are not UTF-8 become U+FFFD.

mod collect;
mod from_xml;
mod json;
mod level;
mod meaning;
mod path;
mod rendered;
mod scan_json;
mod scan_xml;
mod snare;
mod split;
mod time;

pub use split::{EVENT_MAX, EVENTS_MAX, Reason, Refusal, Shape, Split, split};

use collect::Collector;
use path::Path;
use raven_model::query::Assumed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A Windows event. What it does not give is null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WinEvent {
    /// Who wrote it: `Microsoft-Windows-Security-Auditing`.
    pub provider: Option<String>,
    /// What happened, by the provider's numbers.
    pub event_id: Option<u32>,
    /// The log that it was written to: `Security`.
    pub channel: Option<String>,
    /// 0 (always logged: audits), 1 (critical), 2 (error), 3 (warning), 4 (information), 5 (verbose).
    pub level: Option<u8>,
    /// Where it happened.
    pub computer: Option<String>,
    /// Its number in the log of that computer.
    pub record_id: Option<u64>,
    /// RFC 3339.
    pub time: Option<String>,
    /// The account that wrote it: a SID, or a name.
    pub user: Option<String>,
    /// The event's own values by name.
    pub data: BTreeMap<String, String>,
    /// The text for people, where the agent sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What of `time` the event does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<Assumed>,
}

/// What was read from an event, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// As much as could be read.
    pub event: WinEvent,
    /// Why that is not all.
    pub reject: Option<Reject>,
}

/// Why an event was not read in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// JSON or XML with a fault: what stands before it was read.
    Broken(Refusal),
    /// Well-formed, but neither provider nor event id nor channel was found.
    NoEvent,
    /// A text without a header, kept as `message`.
    TextOnly,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(refusal) => write!(f, "Windows event: {refusal}"),
            Self::NoEvent => f.write_str("no Windows event: neither provider nor event id nor channel"),
            Self::TextOnly => f.write_str("a text without the header of a Windows event"),
        }
    }
}

/// Reads one event, in whatever shape it was sent.
pub fn decode(raw: &[u8]) -> Reading {
    let whole = raw;
    let raw = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw).trim_ascii();
    let broken = |at, reason| Some(Reject::Broken(Refusal { at, reason }));
    let mut collector = Collector::default();
    let mut take = |path: &Path, value: Option<&str>| collector.take(path, value);
    let walked = match raw {
        [] => return Reading { event: WinEvent::default(), reject: broken(0, Reason::Empty) },
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            return Reading { event: WinEvent::default(), reject: broken(0, Reason::Utf16) };
        }
        [b'{' | b'[', ..] => json::walk(raw, &mut take),
        [b'<', second, ..] if !second.is_ascii_digit() => from_xml::walk(raw, &mut take),
        _ => return plain(raw),
    };
    let event = collector.finish(0);
    let reject = match walked {
        Err(mut fault) => {
            fault.at += whole.len() - whole.trim_ascii_start().len();
            Some(Reject::Broken(fault.into()))
        }
        Ok(()) if event.provider.is_none() && event.event_id.is_none() && event.channel.is_none() => {
            Some(Reject::NoEvent)
        }
        Ok(()) => None,
    };
    Reading { event, reject }
}

/// Snare's lines, and texts.
fn plain(raw: &[u8]) -> Reading {
    match snare::read(raw) {
        Some(event) => Reading { event, reject: None },
        None => Reading { event: rendered::read(raw), reject: Some(Reject::TextOnly) },
    }
}
