//! One request: taken in, looked at, stored record by record, and answered once it is durable.

use super::form::{Form, form};
use crate::http::answer::{self, Answer};
use crate::http::body::{self, Whole};
use crate::http::reason::{FIRST_BYTES, Reason, Refused};
use crate::http::shared::{Peer, Shared};
use crate::http::unpack::Encoding;
use crate::http::{Failed, admit};
use hyper::body::{Body, Incoming};
use hyper::{Method, Request};
use raven_decode::metrics::{self, Kind, Refusal};
use raven_jail::receive::{Arrived, Blind, Contexts, Inspect, Verdict};
use raven_model::record::RAW_MAX;
use std::rc::Rc;

/// What is noted although it was kept.
const LONG: (&str, &str) =
    ("record_over_limit", "kept in pieces of 64 KiB, of which only the first is decoded: send shorter lines");

/// The shortest stream in JSON has 25 bytes and takes 64 in a list that doubles; the shortest value has 8 and takes 32.
const JSON_LISTS: usize = 4;

/// Marks a record as refused.
struct Refuse;

impl Inspect for Refuse {
    fn recall(&mut self, _: &[u8]) {}

    fn begin(&mut self) {}

    fn inspect(&mut self, _: &Arrived<'_>, _: &mut Contexts) -> Verdict {
        Verdict::Refuse
    }
}

/// Serves a request of `peer`.
pub async fn serve(shared: &Rc<Shared>, peer: &Peer, request: Request<Incoming>) -> Result<Answer, Failed> {
    let (head, incoming) = request.into_parts();
    let bodiless = incoming.is_end_stream();
    if matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(answer::alive());
    }
    let early = |refused| Failed::lost(refused, bodiless);
    if head.method != Method::POST {
        let detail = format!("{} is not served: push with POST", head.method);
        return Err(early(Refused::new(Reason::Method, detail)));
    }
    admit(shared, &head.headers).map_err(early)?;
    let form = form(head.uri.path(), &head.headers).map_err(early)?;
    let sent = body::collect(shared, incoming).await.map_err(|refused| Failed::lost(refused, false))?;
    match unpack(shared, form, sent) {
        Ok(body) => store(shared, peer, form, body).await,
        Err((refused, Some(sent))) => Err(keep(shared, peer, form, true, sent, refused).await),
        Err((refused, None)) => Err(Failed::lost(refused, true)),
    }
}

/// With what was sent when that is not what its encoding says.
fn unpack(shared: &Rc<Shared>, form: Form, sent: Whole) -> Result<Whole, (Refused, Option<Whole>)> {
    let all = [form.encoding, if form.snappy { Encoding::Snappy } else { Encoding::Identity }];
    all.into_iter().try_fold(sent, |body, encoding| body::unpacked(shared, encoding, body))
}

async fn store(shared: &Rc<Shared>, peer: &Peer, form: Form, mut body: Whole) -> Result<Answer, Failed> {
    let bytes = body.bytes.clone();
    // Lists of streams and of a stream's values, while they are gone through.
    if form.kind == Kind::LokiJson && !body.room.take(bytes.len().saturating_mul(JSON_LISTS)) {
        return Err(Failed::lost(Refused::new(Reason::TooManyWaiting, "too much is waiting to be stored"), true));
    }
    let mut records = match metrics::split(form.kind, &bytes) {
        Ok(records) => records,
        // Not that the sender would say it otherwise: it has to send less.
        Err(refusal @ Refusal::Unfolds) => {
            return Err(Failed::lost(Refused::new(Reason::BodyTooLong, refusal.to_string()), true));
        }
        Err(refusal) => {
            let refused = Refused::new(Reason::NotEvents, refusal.to_string()).showing(&bytes);
            return Err(keep(shared, peer, form, false, body, refused).await);
        }
    };
    let mut appending = shared.appending(peer);
    let mut raw = Vec::new();
    while records.next(&mut raw) {
        if raw.len() > RAW_MAX {
            shared.note(LONG, 1, peer, &raw[..FIRST_BYTES.min(raw.len())]);
        }
        appending.append(&raw, &mut Blind).await.map_err(|refused| Failed::lost(refused, true))?;
    }
    // Only the answer is still needed.
    drop(records);
    drop((bytes, std::mem::take(&mut body.bytes)));
    body.room.keep(0);
    appending.durable().await.map_err(|refused| Failed::lost(refused, true))?;
    Ok(answer::nothing())
}

/// Keeps a body that is refused for good: its sender throws it away.
async fn keep(shared: &Rc<Shared>, peer: &Peer, form: Form, packed: bool, body: Whole, refused: Refused) -> Failed {
    let line = metrics::refused_line(form.kind, packed);
    let mut appending = shared.appending(peer);
    let mut raw = Vec::with_capacity(RAW_MAX.min(line.len() + body.bytes.len()));
    // Each piece says what it is: one is shown without the others.
    let pieces = body.bytes.chunks(RAW_MAX - line.len());
    for piece in pieces.chain(body.bytes.is_empty().then_some(&[][..])) {
        raw.clear();
        raw.extend_from_slice(line.as_bytes());
        raw.extend_from_slice(piece);
        if let Err(full) = appending.append(&raw, &mut Refuse).await {
            return Failed::lost(full, true);
        }
    }
    match appending.durable().await {
        Ok(()) => {
            let (reason, remedy) = (refused.reason.name(), refused.reason.remedy(peer.listener.stream));
            shared.note((reason, &remedy), 1, peer, &refused.first_bytes);
            Failed { refused, whole: true, kept: true }
        }
        Err(ends) => Failed::lost(ends, true),
    }
}
