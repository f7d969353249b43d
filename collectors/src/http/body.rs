//! A request's body in one piece.

use super::reason::{Reason, Refused};
use super::shared::{Room, Shared};
use super::unpack::{Encoding, Failure, unpack};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use std::error::Error;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A body may be as slow as this many bytes a second …
const RATE_MIN: u64 = 1024;
/// … after so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest that any body takes.
const TIME_MAX: Duration = Duration::from_mins(10);

/// First guess of a body that does not say how long it is, and most that is believed before it comes.
const FIRST: usize = 256 * 1024;

/// An unpacked body, and the memory that it counts for.
pub struct Whole {
    /// What was sent.
    pub bytes: Bytes,
    /// What it takes.
    pub room: Room,
}

/// What the head says about the body.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, Refused> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let first = values.next().map_or(Some(Encoding::Identity), |value| Encoding::of(value.as_bytes()));
    let (Some(encoding), None) = (first, values.next()) else {
        let detail = "expected one Content-Encoding of gzip, deflate, zstd, snappy, identity";
        return Err(Refused::new(Reason::EncodingUnknown, detail));
    };
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes()).to_ascii_lowercase();
    if [&b"utf-16"[..], b"utf-32", b"ucs-2", b"=unicode"].iter().any(|name| memchr::memmem::find(&kind, name).is_some())
    {
        return Err(Refused::new(Reason::Charset, "events are stored as they come: send UTF-8, not UTF-16"));
    }
    Ok(encoding)
}

/// Takes the body in and unpacks it.
pub async fn receive(shared: &Rc<Shared>, encoding: Encoding, incoming: Incoming) -> Result<Whole, Refused> {
    let whole = collect(shared, incoming).await?;
    unpacked(shared, encoding, whole).map_err(|(refused, _)| refused)
}

/// Unpacks it. A body that is not what its encoding says comes back with the refusal.
pub fn unpacked(shared: &Rc<Shared>, encoding: Encoding, mut whole: Whole) -> Result<Whole, (Refused, Option<Whole>)> {
    if encoding == Encoding::Identity {
        return Ok(whole);
    }
    let limit = shared.settings.get().body;
    let unpacked = match unpack(encoding, &whole.bytes, limit) {
        Ok(unpacked) => unpacked,
        Err(Failure::TooLong) => return Err((too_long(limit), None)),
        Err(Failure::Broken(detail)) => {
            let refused = Refused::new(Reason::EncodingBroken, detail).showing(&whole.bytes);
            return Err((refused, Some(whole)));
        }
    };
    whole.bytes = Bytes::new();
    whole.room.keep(0);
    if !whole.room.take(unpacked.capacity()) {
        return Err((too_many(), None));
    }
    whole.bytes = Bytes::from(unpacked);
    Ok(whole)
}

/// Takes the body in, as it was sent. One buffer; none at all when the body came in one piece.
pub async fn collect(shared: &Rc<Shared>, mut incoming: Incoming) -> Result<Whole, Refused> {
    let limit = shared.settings.get().body;
    let mut room = shared.room();
    let told = incoming.size_hint();
    if told.lower() > limit as u64 {
        return Err(too_long(limit));
    }
    let told = told.exact().map(|len| len as usize);
    let begun = Instant::now();
    let Some(first) = next(&mut incoming, begun, 0).await? else {
        return Ok(Whole { bytes: Bytes::new(), room });
    };
    if first.len() > limit {
        return Err(too_long(limit));
    }
    if told == Some(first.len()) || incoming.is_end_stream() {
        return if room.take(first.len()) { Ok(Whole { bytes: first, room }) } else { Err(too_many()) };
    }
    let mut buffer = BytesMut::new();
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        if bytes.len() > limit - buffer.len() {
            return Err(too_long(limit));
        }
        make_room(&mut buffer, bytes.len(), told.unwrap_or(FIRST), &mut room)?;
        buffer.extend_from_slice(&bytes);
        drop(bytes);
        piece = next(&mut incoming, begun, buffer.len()).await?;
    }
    Ok(Whole { bytes: buffer.freeze(), room })
}

/// Grows to what was told once a good part of that is here, so that a promise alone takes no memory.
fn make_room(buffer: &mut BytesMut, more: usize, told: usize, room: &mut Room) -> Result<(), Refused> {
    let needed = buffer.len() + more;
    if needed <= buffer.capacity() {
        return Ok(());
    }
    let wanted = told.min((buffer.capacity() * 2).max(FIRST)).max(needed);
    // For a moment the old one is there as well.
    if !room.take(wanted) {
        return Err(too_many());
    }
    let mut grown = BytesMut::with_capacity(wanted);
    grown.extend_from_slice(buffer);
    *buffer = grown;
    room.keep(wanted);
    Ok(())
}

/// The next bytes, `None` at the end.
async fn next(incoming: &mut Incoming, begun: Instant, got: usize) -> Result<Option<Bytes>, Refused> {
    let allowed = PATIENCE + Duration::from_secs(got as u64 / RATE_MIN);
    let end = begun + allowed.min(TIME_MAX);
    loop {
        return match timeout_at(end, incoming.frame()).await {
            Err(_) => {
                let detail = format!("{got} bytes of the body came in {} s", allowed.min(TIME_MAX).as_secs());
                Err(Refused::new(Reason::Slow, detail))
            }
            Ok(None) => Ok(None),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(Some(data)),
                // Trailers say nothing here.
                Err(_) => continue,
            },
            Ok(Some(Err(error))) => {
                let reason = if is_cut(&error) { Reason::CutOff } else { Reason::HttpMalformed };
                Err(Refused::new(reason, format!("behind {got} bytes of the body: {error}")))
            }
        };
    }
}

/// The connection ended, and the body did not.
fn is_cut(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    error.is_incomplete_message()
        || error.is_closed()
        || matches!(source, Some(BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof))
}

fn too_long(limit: usize) -> Refused {
    Refused::new(Reason::BodyTooLong, format!("a body may have {limit} bytes, packed and unpacked"))
}

fn too_many() -> Refused {
    Refused::new(Reason::TooManyWaiting, "too much is waiting to be stored")
}
