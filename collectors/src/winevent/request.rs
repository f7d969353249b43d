//! One request: looked at, taken in, split, stored, and answered once it is durable.

use super::elastic::{self, Purpose};
use super::items::Items;
use crate::http::admit;
use crate::http::answer::{self, Answer};
use crate::http::body::{self, Whole};
use crate::http::reason::{FIRST_BYTES, Reason, Refused};
use crate::http::shared::{Peer, Shared};
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, StatusCode};
use raven_decode::winevent::{self, Split};
use raven_jail::receive::Blind;
use std::rc::Rc;

/// What is noted although it was kept.
const EVENT_LONG: (&str, &str) =
    ("event_over_limit", "kept in pieces; raise collect.winevent.event_limit if that is as it should be");
/// As above.
const EVENT_BROKEN: (&str, &str) = ("event_broken", "kept as it came; the sender writes broken JSON or XML");
/// As above.
const ELASTIC_SETUP: (&str, &str) = (
    "elastic_setup",
    "answered and not kept: templates and policies mean nothing here; switch setup off at the sender",
);

/// Serves a request of `peer`. A refusal says whether the body was read to its end.
pub async fn serve(shared: &Rc<Shared>, peer: &Peer, request: Request<Incoming>) -> Result<Answer, (Refused, bool)> {
    let (head, incoming) = request.into_parts();
    let (path, bodiless) = (head.uri.path(), incoming.is_end_stream());
    if matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(elastic::get(path).unwrap_or_else(answer::alive));
    }
    if !matches!(head.method, Method::POST | Method::PUT) {
        let detail = format!("{} is not served: send events with POST", head.method);
        return Err((Refused::new(Reason::Method, detail), bodiless));
    }
    admit(shared, &head.headers).map_err(|refused| (refused, bodiless))?;
    let encoding = body::encoding(&head.headers).map_err(|refused| (refused, bodiless))?;
    let purpose = elastic::purpose(path);
    let Whole { bytes, mut room } = body::receive(shared, encoding, incoming).await.map_err(|refused| {
        let whole = matches!(refused.reason, Reason::EncodingBroken);
        (refused, whole)
    })?;
    if purpose == Purpose::Setup {
        shared.note(ELASTIC_SETUP, 1, peer, &[]);
        return Ok(elastic::acknowledged());
    }
    let split = split(&bytes).map_err(|refused| (refused, true))?;
    if !room.take(split.events.capacity() * size_of::<std::ops::Range<usize>>()) {
        return Err((Refused::new(Reason::TooManyWaiting, "too much is waiting to be stored"), true));
    }
    note_oddities(shared, peer, &bytes, &split);
    let by_item = purpose == Purpose::Bulk || split.shape == winevent::Shape::Bulk;
    let items = by_item.then(|| elastic::bulk(&bytes, &split));
    let (count, left) = (split.events.len(), items.as_ref().map_or(0, Items::bytes));
    if !room.take(left) {
        return Err((Refused::new(Reason::TooManyWaiting, "too much is waiting to be stored"), true));
    }
    let mut appending = shared.appending(peer);
    for event in &split.events {
        appending.append(&bytes[event.clone()], &mut Blind).await.map_err(|refused| (refused, true))?;
    }
    // Only the answer is still needed.
    drop((bytes, split));
    room.keep(left);
    let answer = match items {
        None => answer::json(StatusCode::OK, format!("{{\"events\":{count}}}")),
        Some(mut items) => {
            items.hold(room);
            answer::long(items)
        }
    };
    appending.durable().await.map_err(|refused| (refused, true))?;
    Ok(answer)
}

fn split(body: &Bytes) -> Result<Split, Refused> {
    winevent::split(body).map_err(|refusal| {
        let reason = match refusal.reason {
            winevent::Reason::Utf16 => Reason::Charset,
            _ => Reason::NotEvents,
        };
        let around = body.get(refusal.at..).filter(|rest| !rest.is_empty()).unwrap_or(body);
        Refused { at: Some(refusal.at), ..Refused::new(reason, refusal.reason.to_string()) }.showing(around)
    })
}

/// What is kept, and yet an operator may want to know of.
fn note_oddities(shared: &Shared, peer: &Peer, body: &Bytes, split: &Split) {
    let limit = shared.settings.get().record;
    let mut long = split.events.iter().filter(|range| range.len() > limit).peekable();
    if let Some(first) = long.peek().map(|range| range.start) {
        shared.note(EVENT_LONG, long.count() as u64, peer, &body[first..first + FIRST_BYTES.min(body.len() - first)]);
    }
    if let Some(fault) = split.first_fault {
        let around = body.get(fault.at..).unwrap_or_default();
        shared.note(EVENT_BROKEN, split.broken as u64, peer, &around[..around.len().min(FIRST_BYTES)]);
    }
}
