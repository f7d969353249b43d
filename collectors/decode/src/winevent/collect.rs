//! Gathers an event from its values, in whatever order they come.

use super::level;
use super::meaning::{self, Field, WEAK};
use super::path::Path;
use super::time;
use super::{WinEvent, from_xml, json};
use std::collections::BTreeMap;

/// Most of an event's own data that is shown; Windows allows 99.
const DATA_MAX: usize = 1024;

/// What an attribute that names a namespace starts with.
const NAMESPACE: &str = "xmlns";

/// An event in the making.
#[derive(Debug, Default)]
pub struct Collector {
    event: WinEvent,
    /// How much the value of each field is trusted; a lower number wins.
    ranks: [Option<u8>; 11],
    domain: Option<String>,
    /// Names that came more than once.
    counts: BTreeMap<String, u32>,
    unnamed: u32,
    /// The `Name` of the `Data` whose value comes next.
    pending: Option<String>,
    /// Keeps the event's own data apart from its header.
    has_container: bool,
    /// What is data if nothing keeps them apart.
    flat: Vec<(String, String)>,
    /// An event that stands in this one as text.
    inner: Option<String>,
}

impl Collector {
    /// Takes one value; `None` is null or empty.
    pub fn take(&mut self, path: &Path, value: Option<&str>) {
        if let Some(name) = path.data() {
            self.has_container = true;
            self.take_data(path, name, value);
            return;
        }
        let unwrapped = path.unwrapped();
        self.has_container |= unwrapped.starts_with("system.") || unwrapped.starts_with("winlog.");
        let Some(value) = value.filter(|value| !value.is_empty()) else { return };
        if self.inner.is_none() && is_event(path, value) {
            self.inner = Some(value.to_owned());
        }
        let meaning = meaning::of(path, value);
        if let Some((field, rank)) = meaning {
            self.set(field, rank, value);
        }
        let may_be_data = meaning.is_none_or(|(_, rank)| rank >= WEAK) && !meaning::is_header(unwrapped);
        if may_be_data && self.flat.len() < DATA_MAX && !is_xml(value) {
            self.flat.push((path.name().to_owned(), value.to_owned()));
        }
    }

    fn set(&mut self, field: Field, rank: u8, value: &str) {
        // Both scales fill the same field.
        let slot = if field == Field::Severity { Field::Level } else { field } as usize;
        if self.ranks[slot].is_some_and(|held| held <= rank) {
            return;
        }
        let event = &mut self.event;
        let text = || Some(value.to_owned());
        let is_set = match field {
            Field::Provider => put(&mut event.provider, text()),
            Field::EventId => put(&mut event.event_id, number(value).and_then(|number| u32::try_from(number).ok())),
            Field::Channel => put(&mut event.channel, text()),
            Field::Level if rank == 2 => put(&mut event.level, level::of_entry_type(value)),
            Field::Level => put(&mut event.level, level::of(value)),
            Field::Severity => put(&mut event.level, level::of_severity(value)),
            Field::Computer => put(&mut event.computer, text()),
            Field::RecordId => put(&mut event.record_id, number(value)),
            Field::Time => match time::read(value) {
                Some(time) => {
                    event.assumed = time.assumed;
                    put(&mut event.time, Some(time.text))
                }
                None => false,
            },
            Field::User => put(&mut event.user, text().filter(|user| user != "N/A")),
            Field::Domain => put(&mut self.domain, text()),
            Field::Message => put(&mut event.message, text()),
        };
        if is_set {
            self.ranks[slot] = Some(rank);
        }
    }

    fn take_data(&mut self, path: &Path, name: &str, value: Option<&str>) {
        if name.split('.').any(|name| name.trim_start_matches('@').starts_with(NAMESPACE)) {
            return;
        }
        let mut segments: Vec<&str> =
            name.split('.').filter(|name| !matches!(*name, "#attributes" | "#text" | "$" | "_" | "")).collect();
        if path.in_user_data() && segments.len() == 1 && value.is_none() {
            return; // no field, but an empty list of them
        }
        if path.in_user_data() && segments.len() > 1 {
            segments.remove(0);
        }
        if segments == ["@Name"] {
            return; // of the template, not of a value
        }
        for segment in &mut segments {
            *segment = segment.trim_start_matches('@');
        }
        match segments[..] {
            ["Data", "Name"] => {
                self.flush();
                self.pending = Some(value.unwrap_or_default().to_owned());
            }
            // An empty list, no bytes.
            [] | ["Binary"] if value.is_none() => {}
            [] | ["Data"] => self.add_value(value),
            // Of PowerShell's list of properties; elsewhere it is a name like others.
            ["Value"] if path.unwrapped() == "properties" => self.add_value(value),
            _ => self.add(&segments.join("."), value),
        }
    }

    /// The value of a `Data`, by the name that it was given or by its number.
    fn add_value(&mut self, value: Option<&str>) {
        let name = self.pending.take().unwrap_or_else(|| {
            self.unnamed = self.unnamed.saturating_add(1);
            format!("param{}", self.unnamed)
        });
        self.add(&name, value);
    }

    /// A `Data` that had a name and no value.
    fn flush(&mut self) {
        if let Some(name) = self.pending.take() {
            self.add(&name, None);
        }
    }

    /// A name that is there already gets a number: `OU`, `OU_1`.
    fn add(&mut self, name: &str, value: Option<&str>) {
        if self.event.data.len() >= DATA_MAX {
            return;
        }
        let mut free = name.to_owned();
        while self.event.data.contains_key(&free) {
            let count = self.counts.entry(name.to_owned()).or_default();
            *count += 1;
            free = format!("{name}_{count}");
        }
        self.event.data.insert(free, value.unwrap_or_default().to_owned());
    }

    /// The event; `depth` says how many events it stands in as text.
    pub fn finish(mut self, depth: u32) -> WinEvent {
        self.flush();
        if !self.has_container {
            for (name, value) in std::mem::take(&mut self.flat) {
                self.add(&name, Some(&value));
            }
        }
        if let (Some(user), Some(domain)) = (&self.event.user, self.domain)
            && !user.starts_with("S-1-")
            && !user.contains('\\')
        {
            self.event.user = Some(format!("{domain}\\{user}"));
        }
        if let Some(inner) = self.inner.filter(|_| depth == 0) {
            fill(&mut self.event, read(&inner, depth + 1), self.has_container);
        }
        self.event
    }
}

/// Reads an event that stands in another one as text.
fn read(text: &str, depth: u32) -> WinEvent {
    let mut collector = Collector::default();
    let mut take = |path: &Path, value: Option<&str>| collector.take(path, value);
    // A fault of the inner event is none of the outer one; what stands before it counts.
    let _ =
        if is_xml(text) { from_xml::walk(text.as_bytes(), &mut take) } else { json::walk(text.as_bytes(), &mut take) };
    collector.finish(depth)
}

/// What the outer event does not give is taken from the inner one.
fn fill(event: &mut WinEvent, inner: WinEvent, keeps_data: bool) {
    let WinEvent { provider, event_id, channel, level, computer, record_id, time, user, data, message, assumed } =
        inner;
    let is_event = provider.is_some() && event_id.is_some();
    event.provider = event.provider.take().or(provider);
    event.event_id = event.event_id.or(event_id);
    event.channel = event.channel.take().or(channel);
    event.level = event.level.or(level);
    event.computer = event.computer.take().or(computer);
    event.record_id = event.record_id.or(record_id);
    if event.time.is_none() {
        event.time = time;
        event.assumed = assumed;
    }
    event.user = event.user.take().or(user);
    if message.is_some() && is_event {
        event.message = message;
    }
    if (!keeps_data || event.data.is_empty()) && is_event {
        event.data = data;
    }
}

fn put<T>(to: &mut Option<T>, value: Option<T>) -> bool {
    let found = value.is_some();
    if found {
        *to = value;
    }
    found
}

/// A whole number, as converters also write it: `4624`, `4624.0`.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let whole = text.split_once('.').filter(|(_, rest)| rest.bytes().all(|byte| byte == b'0')).map_or(text, |(w, _)| w);
    whole.parse().ok()
}

fn is_xml(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with("<Event") || (text.starts_with("<?xml") && text.contains("<Event"))
}

/// Whether a value is an event itself: XML anywhere, JSON where shippers put a line that they did not read.
fn is_event(path: &Path, value: &str) -> bool {
    let is_line = matches!(path.folded(), "message" | "log" | "event" | "event.original" | "body");
    is_xml(value) || (is_line && value.trim_start().starts_with('{'))
}
