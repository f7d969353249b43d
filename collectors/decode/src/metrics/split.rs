//! The records of a body. All of it is looked at before the first is given, so that a body is taken whole or not at all.

use super::logs::{self, Push, Pushed, PushedStream};
use super::wire::{Fault, Fields, write_head};
use super::{Kind, Reject, labels, series};
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Longest labels of a stream of log lines: they are repeated in each of its records.
pub const HEAD_MAX: usize = 16 * 1024;

/// Most bytes of all records of a body: labels that are repeated must not make much out of little.
pub const UNFOLDED_MAX: usize = 64 << 20;

/// Why a body is taken neither whole nor in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It could not be unpacked.
    Packed,
    /// Protobuf with a fault.
    Protobuf(Fault),
    /// Not the JSON of a push.
    Json(String),
    /// Labels of a stream that are not `{name="value", …}`.
    Labels,
    /// Labels over [`HEAD_MAX`].
    LongLabels,
    /// Records over [`UNFOLDED_MAX`].
    Unfolds,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packed => f.write_str("it is not what its encoding says"),
            Self::Protobuf(fault) => fault.fmt(f),
            Self::Json(why) => write!(f, "no push of log lines: {why}"),
            Self::Labels => f.write_str("labels that are not {name=\"value\", …}"),
            Self::LongLabels => write!(f, "labels of a stream over {HEAD_MAX} bytes"),
            Self::Unfolds => write!(f, "with its labels at each line it has more than {UNFOLDED_MAX} bytes"),
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Protobuf(fault)
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

/// The records of a body, one after the other.
pub struct Records<'a> {
    place: Place<'a>,
    count: usize,
}

enum Place<'a> {
    RemoteWrite(Fields<'a>),
    /// The streams to come, what of this one stands before each entry, and its entries to come.
    LokiProtobuf(Fields<'a>, Vec<u8>, Fields<'a>),
    LokiJson(std::vec::IntoIter<PushedStream<'a>>, &'a str, std::vec::IntoIter<&'a RawValue>),
}

/// Looks at a body, which is unpacked.
pub fn split(kind: Kind, body: &[u8]) -> Result<Records<'_>, Refusal> {
    let (place, count) = match kind {
        Kind::RemoteWrite => (Place::RemoteWrite(Fields::of(body)), check_write(body)?),
        Kind::LokiProtobuf => (Place::LokiProtobuf(Fields::of(body), Vec::new(), Fields::of(&[])), check_push(body)?),
        Kind::LokiJson => {
            let push: Push<'_> = serde_json::from_slice(body)?;
            let count = check_json(&push)?;
            (Place::LokiJson(push.streams.into_iter(), "", Vec::new().into_iter()), count)
        }
    };
    Ok(Records { place, count })
}

fn check_write(body: &[u8]) -> Result<usize, Refusal> {
    let (mut fields, mut count) = (Fields::of(body), 0);
    while let Some(field) = fields.next() {
        // Before what is wrong further down: the whole is what is cut.
        whole(&fields)?;
        count += 1;
        if field.number == series::SERIES {
            series::check(field.bytes().ok_or(Fault::Kind)?)?;
        }
    }
    whole(&fields)?;
    Ok(count)
}

fn whole(fields: &Fields<'_>) -> Result<(), Fault> {
    fields.fault().map_or(Ok(()), Err)
}

fn check_push(body: &[u8]) -> Result<usize, Refusal> {
    let (mut streams, mut count, mut unfolded) = (Fields::of(body), 0, 0_usize);
    while let Some(stream) = streams.next() {
        whole(&streams)?;
        let stream = stream.bytes().filter(|_| stream.number == logs::STREAM).ok_or(Fault::Kind)?;
        let (mut fields, mut head, mut entries, mut bytes) = (Fields::of(stream), 0, 0_usize, 0_usize);
        while let Some(field) = fields.next() {
            whole(&fields)?;
            match (field.number, field.bytes()) {
                (logs::ENTRY, Some(entry)) => {
                    logs::check(entry).map_err(|reject| match reject {
                        Reject::Protobuf(fault) => Refusal::Protobuf(fault),
                        _ => Refusal::Labels,
                    })?;
                    entries += 1;
                    bytes += field.whole.len();
                }
                (logs::LABELS, Some(text)) => {
                    labels::read(text, &mut None).ok_or(Refusal::Labels)?;
                    head += field.whole.len();
                }
                (logs::ENTRY | logs::LABELS, None) => return Err(Fault::Kind.into()),
                _ => head += field.whole.len(),
            }
        }
        whole(&fields)?;
        count += entries;
        unfolded = bounded(unfolded, head, entries, bytes)?;
    }
    whole(&streams)?;
    Ok(count)
}

/// What `entries` of `bytes` in all come to, each behind `head` bytes, on top of what there is.
fn bounded(sum: usize, head: usize, entries: usize, bytes: usize) -> Result<usize, Refusal> {
    if head > HEAD_MAX {
        return Err(Refusal::LongLabels);
    }
    let sum = sum.saturating_add(head.saturating_mul(entries)).saturating_add(bytes);
    if sum > UNFOLDED_MAX { Err(Refusal::Unfolds) } else { Ok(sum) }
}

fn check_json(push: &Push<'_>) -> Result<usize, Refusal> {
    let (mut count, mut unfolded) = (0, 0);
    for PushedStream { stream, values } in &push.streams {
        let _: logs::Pairs = serde_json::from_str(stream.get())?;
        let (mut entries, mut bytes) = (0, 0);
        each_value(values, |value| {
            let entry: Pushed = serde_json::from_str(value.get())?;
            if entry.time().is_none() {
                return Err(serde_json::Error::custom("a time that is no number of nanoseconds"));
            }
            entries += 1;
            bytes += value.get().len();
            Ok(())
        })?;
        count += entries;
        unfolded = bounded(unfolded, stream.get().len(), entries, bytes)?;
    }
    Ok(count)
}

/// Gives each element of an array.
fn each_value<'a>(
    array: &'a RawValue,
    take: impl FnMut(&'a RawValue) -> Result<(), serde_json::Error>,
) -> Result<(), serde_json::Error> {
    struct Each<F>(F);
    impl<'a, F: FnMut(&'a RawValue) -> Result<(), serde_json::Error>> Visitor<'a> for Each<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of entries")
        }

        fn visit_seq<A: SeqAccess<'a>>(mut self, mut list: A) -> Result<(), A::Error> {
            while let Some(value) = list.next_element::<&RawValue>()? {
                (self.0)(value).map_err(A::Error::custom)?;
            }
            Ok(())
        }
    }
    impl<'a, F: FnMut(&'a RawValue) -> Result<(), serde_json::Error>> DeserializeSeed<'a> for Each<F> {
        type Value = ();

        fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_seq(self)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(array.get());
    Each(take).deserialize(&mut deserializer)
}

impl Records<'_> {
    /// How many there are in all.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Writes the next one in place of what is in `out`. False at the end.
    pub fn next(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        match &mut self.place {
            Place::RemoteWrite(fields) => {
                let Some(field) = fields.next() else { return false };
                begin(out, Kind::RemoteWrite);
                out.extend_from_slice(field.whole);
                true
            }
            Place::LokiProtobuf(streams, head, entries) => loop {
                if let Some(entry) = entries.find(|field| field.number == logs::ENTRY) {
                    begin(out, Kind::LokiProtobuf);
                    write_head(out, logs::STREAM, head.len() + entry.whole.len());
                    out.extend_from_slice(head);
                    out.extend_from_slice(entry.whole);
                    return true;
                }
                let Some(stream) = streams.next().and_then(|field| field.bytes()) else { return false };
                *entries = Fields::of(stream);
                head.clear();
                let others = Fields::of(stream).filter(|field| field.number != logs::ENTRY);
                others.for_each(|field| head.extend_from_slice(field.whole));
            },
            Place::LokiJson(streams, labels, values) => loop {
                if let Some(value) = values.next() {
                    begin(out, Kind::LokiJson);
                    for part in ["{\"stream\":", labels, ",\"values\":[", value.get(), "]}"] {
                        out.extend_from_slice(part.as_bytes());
                    }
                    return true;
                }
                let Some(stream) = streams.next() else { return false };
                *labels = stream.stream.get();
                let mut list = Vec::new();
                // It was read before.
                let _ = each_value(stream.values, |value| {
                    list.push(value);
                    Ok(())
                });
                *values = list.into_iter();
            },
        }
    }
}

fn begin(out: &mut Vec<u8>, kind: Kind) {
    out.extend_from_slice(kind.name().as_bytes());
    out.push(b'\n');
}
