//! One request: looked at, taken in, split, stored, and answered once it is durable.

use super::answer::{self, Answer};
use super::body::{self, Whole};
use super::credentials::Door;
use super::elastic::{self, Purpose};
use super::inbox::{ELASTIC_SETUP, EVENT_BROKEN, EVENT_LONG};
use super::items::Items;
use super::reason::{FIRST_BYTES, Reason, Refused};
use super::shared::{Peer, Shared};
use super::stream::Phase;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Method, Request};
use raven_decode::winevent::{self, Split};
use std::rc::Rc;

/// Serves `request` of `peer`.
pub async fn serve(shared: &Rc<Shared>, peer: &Peer, request: Request<Incoming>) -> Answer {
    peer.pulse.enter(Phase::Request);
    let answer = match route(shared, peer, request).await {
        Ok(answer) => answer,
        Err((refused, whole)) => {
            shared.refuse(refused.reason, peer, &refused.first_bytes);
            answer::refused(&refused, whole)
        }
    };
    peer.pulse.enter(Phase::Idle);
    answer
}

/// A refusal says whether the body was read to its end.
async fn route(shared: &Rc<Shared>, peer: &Peer, request: Request<Incoming>) -> Result<Answer, (Refused, bool)> {
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
    let ticket = shared
        .append(peer, &bytes, &split.events)
        .await
        .ok_or_else(|| (Refused::new(Reason::RingFull, "there is no room: the store is behind"), true))?;
    // Only the answer is still needed.
    drop((bytes, split));
    room.keep(left);
    let answer = match items {
        None => answer::stored(count),
        Some(mut items) => {
            items.hold(room);
            answer::bulk(items)
        }
    };
    if shared.durable(ticket).await {
        Ok(answer)
    } else {
        Err((Refused::new(Reason::NotReady, "ends before the events are durable"), true))
    }
}

fn admit(shared: &Shared, headers: &HeaderMap) -> Result<(), Refused> {
    match &*shared.door.borrow() {
        Door::Open => Ok(()),
        Door::Shut => Err(Refused::new(Reason::NotReady, "credentials are configured and not here yet")),
        Door::Guarded(credentials) => {
            let shown = headers.get(AUTHORIZATION);
            if shown.is_some_and(|value| credentials.admit(value.as_bytes())) {
                return Ok(());
            }
            let detail = if shown.is_some() { "these credentials are not known" } else { "credentials are needed" };
            Err(Refused::new(Reason::Credentials, detail))
        }
    }
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
    let limit = shared.limits.get().event;
    let mut long = split.events.iter().filter(|range| range.len() > limit).peekable();
    if let Some(first) = long.peek().map(|range| range.start) {
        shared.note(EVENT_LONG, long.count() as u64, peer, &body[first..first + FIRST_BYTES.min(body.len() - first)]);
    }
    if let Some(fault) = split.first_fault {
        let around = body.get(fault.at..).unwrap_or_default();
        shared.note(EVENT_BROKEN, split.broken as u64, peer, &around[..around.len().min(FIRST_BYTES)]);
    }
}
